//! Connections that crossed.

use std::time::Duration;

use hawser_wire::{LaneId, TrafficClass};

use super::pair::{Pair, class_of};
use crate::*;
use TrafficClass::Bulk;

const CROSSED: (LaneId, TrafficClass) = (LaneId(5), Bulk);

fn sessions_ended(pair: &Pair, end: usize) -> usize {
    let ended = |event: &&LinkEvent| matches!(event, LinkEvent::SessionEnded { .. });
    pair.events[end].iter().filter(ended).count()
}

fn push(pair: &mut Pair) {
    for stream in 10..13 {
        pair.push_striped(0, Origin::Own, stream, 3000).unwrap();
    }
}

/// End 1 has ended a session alone, and end 0 knows.
fn after_a_session() -> Pair {
    let config = LinkConfig { in_flight_floor_bytes: 1 << 20, ..LinkConfig::default() };
    let mut pair = Pair::with_lanes(config, 6);
    (pair.redials, pair.may_repeat) = (false, true);
    pair.run(Duration::from_millis(300));
    let keys: Vec<LaneKey> = pair.wires.keys().copied().collect();
    for key in keys {
        pair.cut(key, [Some(500), Some(0)]);
    }
    push(&mut pair);
    while sessions_ended(&pair, 1) == 0 {
        pair.step(true);
    }
    for lane in 0..6 {
        pair.connect(LaneId(lane), class_of(lane), 0);
    }
    pair.run(Duration::from_secs(20));
    assert_eq!(sessions_ended(&pair, 0), 1);
    pair.settle(1);
    pair.may_repeat = false;
    pair
}

/// What one end has served and the other one, which prefers its twin, has not: nothing came over it, and
/// that is known for sure, whatever sessions have ended before.
#[test]
fn what_one_end_alone_has_served_is_no_sign_of_a_sessions_end() {
    let mut pair = after_a_session();
    let lost = pair.key_of(CROSSED.0.0);
    pair.cut(lost, [Some(0), Some(0)]);
    pair.step(true);
    let refused = pair.dial();
    pair.offer(0, refused, CROSSED, 1);
    for _ in 0..5 {
        push(&mut pair);
        pair.step(true);
    }
    let in_flight = pair.ends[0].lanes().find(|lane| lane.key == refused).unwrap().unacked_frames;
    assert!(in_flight > 0, "{in_flight} frames are in flight over what end 1 will not serve");
    let served = pair.dial();
    pair.offer(1, served, CROSSED, 0);
    pair.offer(1, refused, CROSSED, 1);
    pair.offer(0, served, CROSSED, 0);
    for _ in 0..100 {
        push(&mut pair);
        pair.step(true);
    }
    pair.settle(1);
    let requeued =
        |event: &LinkEvent| matches!(event, LinkEvent::Requeued { frames, .. } if *frames > 0);
    assert!(pair.saw(0, requeued));
    assert_eq!(sessions_ended(&pair, 0), 1, "the session goes on");
    assert_eq!(pair.ends[0].status().striped_streams, 3);
    assert_eq!(pair.violations, []);
}

/// What is received and not acknowledged when a lane comes up that the peer never serves: it is told over
/// that one, and over one that the peer hears.
#[test]
fn what_is_said_over_a_lane_that_nobody_serves_is_said_again() {
    let mut pair = Pair::with_lanes(LinkConfig::default(), 4);
    pair.redials = false;
    // What a young connection brings is acknowledged at once.
    for _ in 0..40 {
        pair.push(0, Bulk, Origin::Own, 1, 60_000).unwrap();
    }
    pair.settle(10);
    for _ in 0..50 {
        pair.push(0, Bulk, Origin::Own, 1, 100).unwrap();
        pair.run(Duration::from_millis(2));
        while pair.ends[1].ack_due.is_none() {
            assert!(!pair.under_way[0].is_empty(), "it is acknowledged");
            pair.step(true);
        }
        let nowhere = pair.dial();
        pair.offer(1, nowhere, CROSSED, 1);
        pair.cut(nowhere, [None, None]);
        pair.run(Duration::from_millis(8));
        let unacked: u64 = pair.ends[0].lanes().map(|lane| lane.unacked_frames).sum();
        assert_eq!(unacked, 0, "in flight on healthy lanes");
        pair.ends[1].handle_lane_down(pair.now, nowhere, "reset");
        pair.settle(1);
    }
    assert_eq!(pair.violations, []);
}
