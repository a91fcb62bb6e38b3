//! Striped streams do not wait at the far end for what the link will not bring.

use std::time::Duration;

use hawser_wire::{LaneId, TrafficClass};

use super::pair::{Pair, class_of};
use crate::*;
use TrafficClass::Bulk;

const fn millis(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// With room for much in flight from the first on.
fn config() -> LinkConfig {
    LinkConfig { in_flight_floor_bytes: 1 << 20, ..LinkConfig::default() }
}

fn keys(pair: &Pair) -> Vec<LaneKey> {
    pair.wires.keys().copied().collect()
}

/// Gives end 0 so many records of each of the first striped streams, the last one first, or what it takes.
fn push(pair: &mut Pair, streams: u64, records: usize) {
    for stream in (0..streams).rev() {
        for _ in 0..records {
            let _full = pair.push_striped(0, Origin::Own, 10 + stream, 3000);
        }
    }
}

/// The far end holds nothing from a moment on.
fn check_soon(pair: &mut Pair, why: &str) {
    pair.run(millis(20));
    for ms in 20..500 {
        pair.step(true);
        assert_eq!(pair.ends[1].status().reorder_bytes, 0, "{why}, after {ms} ms");
    }
    assert_eq!(pair.violations, []);
}

/// Channels that began when nothing arrived any more, in a session that the far end alone has ended: what
/// goes out before that is known here must not wait for what is given back to its sources.
#[test]
fn nothing_waits_for_what_the_end_of_a_session_has_taken_along() {
    for streams in [1, 3] {
        for go_on in [0, 1, streams] {
            let mut pair = Pair::with_lanes(config(), 6);
            (pair.redials, pair.may_repeat) = (false, true);
            pair.run(millis(300));
            for key in keys(&pair) {
                pair.cut(key, [Some(500), Some(0)]);
            }
            for _ in 0..100 {
                push(&mut pair, streams, 1);
                pair.step(true);
            }
            assert!(pair.ends[0].status().striped_streams > 0);
            while !pair.saw(1, |event| matches!(event, LinkEvent::SessionEnded { .. })) {
                pair.step(true);
            }
            let is_forgotten = |event: &LinkEvent| {
                let reason = |reason: &SessionEnd| matches!(reason, SessionEnd::Forgotten { .. });
                matches!(event, LinkEvent::SessionEnded { reason: end, .. } if reason(end))
            };
            for lane in 0..6 {
                pair.connect(LaneId(lane), class_of(lane), 0);
            }
            push(&mut pair, streams, 20);
            while !pair.saw(0, is_forgotten) {
                pair.step(true);
            }
            push(&mut pair, go_on, 20);
            check_soon(&mut pair, &format!("{go_on} of {streams} go on"));
            pair.settle(1);
        }
    }
}

/// It would take the lane that it is put on many round trips, before all that others have for it.
#[test]
fn what_waits_at_the_end_of_a_session_goes_back_to_its_sources() {
    let config = LinkConfig { in_flight_floor_bytes: 32 << 10, ..LinkConfig::default() };
    let mut pair = Pair::with_lanes(config, 6);
    (pair.redials, pair.may_repeat) = (false, true);
    pair.run(millis(300));
    for key in keys(&pair) {
        pair.cut(key, [Some(500), Some(0)]);
    }
    push(&mut pair, 1, 1);
    while !pair.saw(1, |event| matches!(event, LinkEvent::SessionEnded { .. })) {
        pair.step(true);
    }
    (pair.delay, pair.bytes_per_ms) = (millis(50), 1);
    for lane in 0..6 {
        pair.connect(LaneId(lane), class_of(lane), 0);
    }
    while pair.ends[0].status().striped_streams == 0 {
        push(&mut pair, 1, 1);
        pair.step(true);
    }
    push(&mut pair, 1, 100);
    let waiting = pair.ends[0].status().queued_bytes;
    assert!(waiting > 200 << 10, "{waiting} bytes wait");
    while !pair.saw(0, |event| matches!(event, LinkEvent::SessionEnded { .. })) {
        pair.step(true);
    }
    pair.step(true);
    let left = pair.ends[0].status().queued_bytes;
    assert!(left < waiting / 4, "{left} of {waiting} bytes wait on");
    assert!(pair.rerouted[0].len() > 50, "{} went back", pair.rerouted[0].len());
    assert_eq!(pair.violations, []);
}

/// Records that have left the link while it had no link sequence more: their channel cannot begin anew
/// before something is acknowledged.
#[test]
fn nothing_waits_for_what_has_left_a_link_whose_sequences_were_used_up() {
    for is_full in [false, true] {
        let config = LinkConfig { sequence_window: 1 << 10, ..config() };
        let mut pair = Pair::with_lanes(config, 6);
        (pair.redials, pair.may_reorder) = (false, true);
        pair.run(millis(300));
        for wire in pair.wires.values_mut() {
            wire.bytes_per_ms = 2000;
        }
        for _ in 0..30 {
            push(&mut pair, 3, 2);
            pair.step(true);
        }
        let lost = pair.key_of(5);
        pair.cut(lost, [Some(0), Some(0)]);
        for key in keys(&pair) {
            pair.wires.get_mut(&key).unwrap().is_silent = key != lost;
        }
        while pair.ends[0].is_usable() {
            pair.step(true);
        }
        while is_full && pair.push(0, Bulk, Origin::Own, 1, 10).is_ok() {}
        pair.ends[0].evacuate(|frame| frame.body.len() > 1000);
        pair.step(true);
        assert!(pair.rerouted[0].len() > 20);
        for wire in pair.wires.values_mut() {
            wire.is_silent = false;
        }
        pair.run(millis(100));
        check_soon(&mut pair, &format!("full: {is_full}"));
        pair.settle(1);
        // The streams are striped again, in order.
        pair.may_reorder = false;
        for _ in 0..200 {
            push(&mut pair, 3, 1);
            pair.step(true);
        }
        assert_eq!(pair.ends[0].status().striped_streams, 3);
        pair.settle(1);
        assert_eq!(pair.violations, []);
    }
}
