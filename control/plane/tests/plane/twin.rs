//! A node is refused as another process runs with its key.

use hawser_plane::EventKind;
use hawser_wire::{CloseReason, LaneId, TrafficClass};
use tokio::time::timeout;

use crate::node::PATIENCE;
use crate::wanted_lanes::{miss, pair, until_lanes};

/// As many lanes as a link may have, and refusals that are told at once.
const LANES: [u16; 6] = [0, 1, 2, 3, 4, 5];
const TOLD_AT_ONCE: usize = 4;

#[tokio::test]
async fn a_twin_is_told_what_is_wrong_and_not_for_each_lane_that_it_is_refused() {
    let (a, b) = pair().await;
    for lane in &LANES[3..] {
        miss(&a, b.id(), LaneId(*lane), TrafficClass::Bulk);
    }
    let lanes = until_lanes(&a, b.id(), &LANES).await;
    let mut events = a.handle.events();
    for lane in &lanes {
        let told = Some(CloseReason::DuplicateNode);
        a.lose_lane((b.id(), lane.lane), "another process", told);
    }
    let (mut down, mut told) = (0, 0);
    let waiting = async {
        while down < LANES.len() {
            let event = events.recv().await.expect("the plane runs");
            let is_told = event.detail.contains("was its data directory copied?");
            told += usize::from(event.kind == EventKind::Refused && is_told);
            down += usize::from(event.kind == EventKind::LaneDown);
        }
    };
    timeout(PATIENCE, waiting).await.expect("each lane is down");
    assert_eq!(told, TOLD_AT_ONCE);
    a.stop().await;
    b.stop().await;
}
