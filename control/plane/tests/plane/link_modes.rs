//! Operators change how a link uses its lanes.

use std::pin::pin;

use hawser_exchange::ShardToControl;
use hawser_plane::{NodeRef, PlaneError};
use hawser_wire::{LinkMode, NodeId};
use tokio::time::timeout;

use crate::node::{Node, PATIENCE, Setup, start};
use crate::shard::Told;
use crate::wanted_lanes::{pair, until_lanes};

fn say_mode(node: &Node, peer: NodeId, mode: LinkMode) {
    node.say_of_link(peer, ShardToControl::LinkMode { peer, mode });
}

/// What the plane has its shard propose next.
async fn proposed(node: &mut Node) -> (NodeId, LinkMode) {
    loop {
        if let Told::Mode(peer, mode) = node.told().await {
            return (peer, mode);
        }
    }
}

async fn mode_of(node: &Node, peer: NodeId) -> Option<LinkMode> {
    let links = node.handle.links().await.expect("links");
    links.iter().find(|link| link.b.node == peer).expect("the link").mode
}

/// Asks for `mode`, which the far end agrees to.
async fn change(node: &mut Node, peer: &Node, mode: LinkMode) {
    let handle = node.handle.clone();
    let change = tokio::spawn(async move { handle.set_link_mode("b".into(), mode).await });
    assert_eq!(proposed(node).await, (peer.id(), mode));
    say_mode(node, peer.id(), mode);
    let changed = timeout(PATIENCE, change).await.expect("in time").expect("no panic");
    let there = NodeRef { node: peer.id(), name: "b".into() };
    assert_eq!(changed.expect("agreed"), there);
}

#[tokio::test]
async fn a_change_is_answered_when_both_ends_have_agreed() {
    let (mut a, b) = pair().await;
    assert_eq!(mode_of(&a, b.id()).await, Some(LinkMode::Separate));
    change(&mut a, &b, LinkMode::Collapsed).await;
    assert_eq!(mode_of(&a, b.id()).await, Some(LinkMode::Collapsed));
    let events = a.handle.lane_events(None).await.expect("events");
    assert!(events.kept.iter().any(|event| event.name == "mode-asked"), "{events:?}");
    let again = a.handle.set_link_mode("b".into(), LinkMode::Collapsed).await;
    let Err(PlaneError::LinkModeSame { peer, .. }) = &again else { panic!("{again:?}") };
    assert_eq!(peer, "b");
    change(&mut a, &b, LinkMode::Separate).await;
    a.stop().await;
    b.stop().await;
}

#[tokio::test]
async fn a_link_that_began_with_one_lane_gets_those_of_all_classes() {
    let b = start(Setup::listens("b")).await;
    b.handle.seed_mesh("test", "").await.expect("seeds");
    let mut a = start(Setup { collapsed: true, ..Setup::dials_only("a") }).await;
    b.admit(&a).await;
    say_mode(&a, b.id(), LinkMode::Collapsed);
    until_lanes(&a, b.id(), &[0]).await;
    change(&mut a, &b, LinkMode::Separate).await;
    until_lanes(&a, b.id(), &[0, 1, 2]).await;
    a.stop().await;
    b.stop().await;
}

#[tokio::test]
async fn a_far_end_that_does_not_agree_changes_nothing() {
    let (mut a, b) = pair().await;
    let handle = a.handle.clone();
    let mut change = pin!(handle.set_link_mode("b".into(), LinkMode::Collapsed));
    let second = tokio::select! {
        biased;
        ended = &mut change => panic!("{ended:?}"),
        second = handle.set_link_mode("b".into(), LinkMode::Collapsed) => second,
    };
    assert!(matches!(second, Err(PlaneError::LinkModeBusy { .. })), "{second:?}");
    assert_eq!(proposed(&mut a).await, (b.id(), LinkMode::Collapsed));
    let ended = timeout(PATIENCE, change).await.expect("in time");
    let Err(PlaneError::LinkModeNotAgreed { why, .. }) = ended else { panic!("{ended:?}") };
    assert!(why.contains("5 s"), "{why}");
    assert_eq!(proposed(&mut a).await, (b.id(), LinkMode::Separate), "it is taken back");

    // Nor one that goes.
    let mut change = pin!(handle.set_link_mode("b".into(), LinkMode::Collapsed));
    tokio::select! {
        biased;
        ended = &mut change => panic!("{ended:?}"),
        _ = proposed(&mut a) => {}
    }
    b.stop().await;
    let ended = timeout(PATIENCE, change).await.expect("in time");
    let Err(PlaneError::LinkModeNotAgreed { why, .. }) = ended else { panic!("{ended:?}") };
    assert!(why.contains("down"), "{why}");
    let down = a.handle.set_link_mode("b".into(), LinkMode::Collapsed).await;
    assert!(matches!(down, Err(PlaneError::NoLink { .. })), "{down:?}");
    a.stop().await;
}

#[tokio::test]
async fn what_has_no_link_here_is_refused() {
    let alone = start(Setup::listens("alone")).await;
    let set = async |name: &str| {
        alone.handle.set_link_mode(name.into(), LinkMode::Collapsed).await.expect_err("refused")
    };
    assert!(matches!(set("b").await, PlaneError::NoMesh));
    alone.handle.seed_mesh("test", "").await.expect("seeds");
    assert!(matches!(set("b").await, PlaneError::UnknownNode { .. }));
    assert!(matches!(set("alone").await, PlaneError::NoLink { .. }));
    alone.handle.stop_mesh().await.expect("stops");
    assert!(matches!(set("alone").await, PlaneError::MeshStopped));
    alone.stop().await;
}
