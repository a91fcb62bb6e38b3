//! Drills: what is looked at before a link is cut.

use std::pin::pin;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hawser_exchange::ShardToControl;
use hawser_plane::PlaneError;
use hawser_wire::{LaneId, TrafficClass};
use tokio::time::timeout;

use crate::node::{Node, PATIENCE, Setup, start};

const CUT: Duration = Duration::from_millis(50);

/// A has links to the hub B and to C, which has one to B.
async fn triangle() -> (Node, Node, Node) {
    let b = start(Setup::listens("b")).await;
    b.handle.seed_mesh("test", "").await.expect("seeds");
    let a = start(Setup::dials_only("a")).await;
    let c = start(Setup::listens("c")).await;
    b.admit(&a).await;
    b.admit(&c).await;
    a.until_reaches(2).await;
    let (peer, lane, class) = (c.id(), LaneId(0), TrafficClass::Control);
    a.say_of_link(peer, ShardToControl::WantLane { peer, lane, class });
    a.until("one of three links", |status| status.links.iter().filter(|link| link.up).count() == 3)
        .await;
    // So that what is measured does not say by which way A reaches B.
    a.handle.add_route(None, "b".to_owned(), Vec::new()).await.expect("a route");
    until_covered(&a).await;
    (a, b, c)
}

/// Waits until all that `node` sends has a backup.
async fn until_covered(node: &Node) {
    let mut events = node.handle.events();
    let waiting = async {
        loop {
            let view = node.handle.routes(Vec::new()).await.expect("routes");
            let covered = |class| {
                let of_node = view.coverage(class, Some(node.id()));
                of_node.iter().all(|view| view.protected == 2 && view.reachable == 2)
            };
            let present = view.snapshot_digest() == view.lsdb_digest();
            if present && [TrafficClass::Control, TrafficClass::Bulk].into_iter().all(covered) {
                return;
            }
            let _lagged = events.recv().await;
        }
    };
    timeout(PATIENCE, waiting).await.expect("backups");
}

fn ends(a: &str, b: &str) -> [String; 2] {
    [a.to_owned(), b.to_owned()]
}

#[tokio::test]
async fn a_link_whose_backup_has_gone_since_the_request_is_not_cut() {
    let (a, b, c) = triangle().await;
    // Probes are not answered until the way over C is gone, and so nothing is cut before.
    b.faults.deaf.store(true, Ordering::Relaxed);
    let handle = a.handle.clone();
    let mut drill = pin!(handle.drill(ends("a", "b"), CUT, false));
    let second = tokio::select! {
        biased;
        ended = &mut drill => panic!("{ended:?}"),
        second = a.handle.drill(ends("a", "c"), CUT, true) => second,
    };
    let why = second.expect_err("one runs").to_string();
    assert!(why.contains("a drill of the link to b runs"), "{why}");
    c.handle.leave_mesh().await.expect("leaves");
    a.until("two", |status| status.nodes.len() == 2).await;
    b.faults.deaf.store(false, Ordering::Relaxed);
    let refused = timeout(PATIENCE, drill).await.expect("ends");
    let Err(PlaneError::DrillRefused { why, .. }) = &refused else { panic!("{refused:?}") };
    assert!(why.contains("to b has no backup"), "{why}");
    let events = a.handle.lane_events(None).await.expect("events");
    assert!(events.kept.iter().all(|event| event.name != "drill-cut"), "{events:?}");
    for node in [a, b, c] {
        node.stop().await;
    }
}

#[tokio::test]
async fn a_link_is_back_with_its_first_new_lane_though_an_old_one_is_not_gone() {
    let (a, b, c) = triangle().await;
    a.until("lanes", |status| {
        status.links.iter().any(|link| link.b.node == b.id() && link.lanes == 3)
    })
    .await;
    a.faults.lingers.store(true, Ordering::Relaxed);
    let found = timeout(PATIENCE, a.handle.drill(ends("a", "b"), CUT, true)).await;
    let found = found.expect("in time").expect("cut");
    assert!(found.measured.back_after.is_some(), "{found:?}");
    for node in [a, b, c] {
        node.stop().await;
    }
}

#[tokio::test]
async fn who_leaves_sets_no_route_and_cuts_no_link() {
    let (a, b, c) = triangle().await;
    let handle = &a.handle;
    let (left, set, cut) = tokio::join!(
        handle.leave_mesh(),
        handle.add_route(None, "c".to_owned(), Vec::new()),
        handle.drill(ends("a", "b"), CUT, true),
    );
    left.expect("leaves");
    // On a machine that stood still meanwhile it has left.
    let refused = |error: &PlaneError| matches!(error, PlaneError::Leaving | PlaneError::NoMesh);
    assert!(set.as_ref().is_err_and(refused), "{set:?}");
    assert!(cut.as_ref().is_err_and(refused), "{cut:?}");
    for node in [a, b, c] {
        node.stop().await;
    }
}
