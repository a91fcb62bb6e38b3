//! What a caller may rely on when a join has been answered, and right after a restart.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use hawser_plane::{MeshState, OpenStream, PlaneError};
use hawser_wire::TrafficClass;
use tokio::net::{TcpListener, TcpStream};

use crate::node::{Node, PATIENCE, Setup, chain, free_port, start, try_start};

fn to(names: &[&str]) -> OpenStream {
    OpenStream {
        tenant: String::new(),
        name: format!("to-{}", names.join("-")),
        destinations: names.iter().map(|&name| name.to_owned()).collect(),
        qos: 0,
        striped: false,
        class: TrafficClass::Bulk,
    }
}

async fn reachable(node: &Node) -> usize {
    let status = node.handle.status().await.expect("status");
    status.nodes.iter().filter(|node| node.reachable).count()
}

#[tokio::test]
async fn a_node_that_has_joined_knows_the_mesh() {
    let b = start(Setup::listens("b")).await;
    b.handle.seed_mesh("test", "").await.expect("seeds");
    let mut nodes = Vec::new();
    for (round, name) in ["c", "d", "e", "f"].into_iter().enumerate() {
        let newcomer = start(Setup::dials_only(name)).await;
        b.admit(&newcomer).await;
        // At once, without waiting for anything.
        let reached = reachable(&newcomer).await;
        assert_eq!(reached, round + 2, "{name}");
        let others: Vec<_> = ["c", "d", "e", "f"][..round].iter().copied().chain(["b"]).collect();
        let opened = newcomer.handle.open_stream(to(&others)).await.expect("all are known");
        assert_eq!(opened.pending, [], "{name}");
        // And the neighbour knows the newcomer.
        b.handle.open_stream(to(&[name])).await.expect("it is known");
        nodes.push(newcomer);
    }
    for node in nodes.into_iter().chain([b]) {
        node.stop().await;
    }
}

/// Passes one connection on to `target`, then is gone.
async fn pass_one(target: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        let (mut inner, _) = listener.accept().await.expect("accepts");
        drop(listener);
        let mut outer = TcpStream::connect(target).await.expect("connects");
        let _ends_somehow = tokio::io::copy_bidirectional(&mut inner, &mut outer).await;
    });
    address
}

#[tokio::test]
async fn a_join_without_a_lane_is_answered_in_the_end() {
    let b = start(Setup::listens("b")).await;
    b.handle.seed_mesh("test", "").await.expect("seeds");
    let (token, _) = b.handle.issue_token(Duration::ZERO, None, None).await.expect("token");
    let through = pass_one(b.listening().await).await.to_string();
    let a = start(Setup::dials_only("a")).await;
    let begun = Instant::now();
    let joining = a.handle.join_mesh(token, Some(through));
    tokio::time::timeout(PATIENCE, joining).await.expect("in time").expect("joined all the same");
    assert!(begun.elapsed() >= Duration::from_secs(5), "{:?}", begun.elapsed());
    assert_eq!(a.handle.status().await.expect("status").state, MeshState::Running);
    assert_eq!(reachable(&a).await, 1, "itself");
    // The waiting is over: an unknown node is unknown.
    let opened = a.handle.open_stream(to(&["b"])).await;
    assert!(
        matches!(&opened, Err(PlaneError::UnknownNode { name, .. }) if name == "b"),
        "{opened:?}"
    );
    a.stop().await;
    b.stop().await;
}

#[tokio::test]
async fn leaving_answers_a_join_that_waits() {
    let b = start(Setup::listens("b")).await;
    b.handle.seed_mesh("test", "").await.expect("seeds");
    let (token, _) = b.handle.issue_token(Duration::ZERO, None, None).await.expect("token");
    let through = pass_one(b.listening().await).await.to_string();
    let a = start(Setup::dials_only("a")).await;
    let begun = Instant::now();
    let leave = async {
        a.until("in the mesh", |status| status.state == MeshState::Running).await;
        a.handle.leave_mesh().await
    };
    let (joined, left) = tokio::join!(a.handle.join_mesh(token, Some(through)), leave);
    joined.expect("joined");
    left.expect("left");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    a.stop().await;
    b.stop().await;
}

#[tokio::test]
async fn names_are_waited_for_after_a_restart() {
    let (a, b, c) = chain().await;
    let (setup, directory) = a.stop().await;
    let a = try_start(setup, directory).await.expect("starts");
    // At once, without waiting for anything.
    let opened = a.handle.open_stream(to(&["b", "c"])).await.expect("both are known in the end");
    assert_eq!(opened.pending, []);
    let opened = a.handle.open_stream(to(&["nobody"])).await;
    assert!(matches!(opened, Err(PlaneError::UnknownNode { .. })), "{opened:?}");
    for node in [a, b, c] {
        node.stop().await;
    }
}

#[tokio::test]
async fn a_restarted_node_that_nobody_answers_gives_up_waiting() {
    let address = free_port().to_string();
    let b = start(Setup { listen: Some(address), ..Setup::listens("b") }).await;
    b.handle.seed_mesh("test", "").await.expect("seeds");
    let a = start(Setup::dials_only("a")).await;
    b.admit(&a).await;
    b.stop().await;
    let (setup, directory) = a.stop().await;
    let begun = Instant::now();
    let a = try_start(setup, directory).await.expect("starts");
    let opening = a.handle.open_stream(to(&["b"]));
    let opened = tokio::time::timeout(PATIENCE, opening).await.expect("in time");
    assert!(
        matches!(&opened, Err(PlaneError::UnknownNode { name, .. }) if name == "b"),
        "{opened:?}"
    );
    assert!(begun.elapsed() >= Duration::from_secs(5), "{:?}", begun.elapsed());
    a.stop().await;
}
