use hawser_plane::EventKind;
use hawser_wire::{Incarnation, capability};

use crate::capabilities::Neighbour;
use crate::link_state::Member;
use crate::node::{Setup, chain, event, start, try_start};

#[tokio::test]
async fn a_relay_that_was_killed_comes_back() {
    let (a, b, c) = chain().await;
    let index = |status: &hawser_plane::StatusView, b| {
        status.links.iter().find(|link| link.b.node == b).and_then(|link| link.adjacency_index)
    };
    let before = a.handle.status().await.expect("status");
    let relay = b.id();
    let named = index(&before, relay);
    assert!(named.is_some());
    let mut events = a.handle.events();
    let (setup, directory) = b.kill().await;
    event(&mut events, EventKind::LinkDown).await;
    a.until_reaches(0).await;
    c.until_reaches(0).await;

    let b = try_start(setup, directory).await.expect("starts");
    assert_eq!((b.id(), b.boot), (relay, 2));
    let after = a.until_reaches(2).await;
    c.until_reaches(2).await;
    assert!(after.route_generation > before.route_generation);
    assert_eq!(index(&after, relay), named, "an index is durable");
    let incarnation = |status: &hawser_plane::StatusView| {
        status.nodes.iter().find(|node| node.node == relay).map(|node| node.incarnation.0)
    };
    assert_eq!((incarnation(&before), incarnation(&after)), (Some(1), Some(2)));
    for node in [a, b, c] {
        node.stop().await;
    }
}

#[tokio::test]
async fn everybody_restarts_and_the_mesh_is_there_again() {
    let (a, b, c) = chain().await;
    let mut left = Vec::new();
    for node in [a, b, c] {
        left.push(node.stop().await);
    }
    let mut nodes = Vec::new();
    for (setup, directory) in left {
        nodes.push(try_start(setup, directory).await.expect("starts"));
    }
    for node in &nodes {
        node.until_reaches(2).await;
        assert!(node.handle.mesh_credentials().borrow().is_some());
    }
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test]
async fn a_neighbour_whose_lives_count_connections_alike_is_known_in_the_newer() {
    let node = start(Setup::listens("a")).await;
    node.handle.seed_mesh("test", "").await.expect("seeds");
    let member = Member::admit(&node, "m").await;
    let mut events = node.handle.events();
    let capabilities = capability::STRICT_SOURCE_ROUTES | capability::LANE_ACKS;
    let dial = |incarnation| Neighbour::dial_in(&node, &member, incarnation, 7, capabilities);
    let _older = dial(Incarnation(5)).await;
    event(&mut events, EventKind::LinkUp).await;
    let mut newer = dial(Incarnation(6)).await;
    event(&mut events, EventKind::LinkUp).await;
    node.handle.evict("m".to_owned(), String::new()).await.expect("evicted");
    newer.until_closed().await;
    node.stop().await;
}
