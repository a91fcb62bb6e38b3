//! Without faults: classes, modes, acknowledgements, what may be in flight.

use std::time::Duration;

use hawser_wire::{FrameFlags, LaneId, LinkMode, TrafficClass};

use super::pair::{Pair, STEP, class_of};
use crate::*;
use TrafficClass::{Bulk, Control, Priority};

#[test]
fn every_class_arrives_over_any_number_of_lanes_and_all_is_acknowledged() {
    for lanes in 1..=4 {
        let mut pair = Pair::with_lanes(LinkConfig::default(), lanes);
        for round in 0..200 {
            for end in 0..2 {
                pair.push(end, Control, Origin::Own, 0, 50).unwrap();
                pair.push(end, Priority, Origin::Own, 0, 500).unwrap();
                pair.push(end, Bulk, Origin::Own, round, 20_000).unwrap();
                pair.push(end, Bulk, Origin::Foreign, round, 3000).unwrap();
            }
            pair.step(true);
        }
        pair.settle(10);
        pair.run(Duration::from_millis(50));
        for end in &pair.ends {
            for lane in end.lanes() {
                assert_eq!((lane.unacked_frames, lane.unacked_bytes), (0, 0), "{lane:?}");
            }
            assert_eq!(end.status().in_flight_bytes, 0);
            assert_eq!(end.status().queued_bytes, 0);
        }
        assert_eq!(pair.violations, []);
    }
}

#[test]
fn each_class_keeps_to_its_lanes_and_a_stream_to_one() {
    let mut pair = Pair::with_lanes(LinkConfig::default(), 5);
    for stream in 0..30 {
        pair.push(0, Bulk, Origin::Own, stream, 100).unwrap();
    }
    pair.push(0, Control, Origin::Own, 0, 10).unwrap();
    pair.push(0, Priority, Origin::Own, 0, 10).unwrap();
    pair.settle(1);
    let sent: Vec<u64> = pair.ends[0].lanes().map(|lane| lane.sent_frames).collect();
    assert_eq!((sent[0], sent[1], sent[2..].iter().sum()), (1, 1, 30_u64), "{sent:?}");
    assert!(sent[2..].iter().all(|&frames| frames > 3), "{sent:?}");
    for _ in 0..30 {
        pair.push(0, Bulk, Origin::Own, 7, 100).unwrap();
    }
    pair.settle(1);
    let again: Vec<u64> = pair.ends[0].lanes().map(|lane| lane.sent_frames).collect();
    assert_eq!(again.iter().zip(&sent).filter(|(now, before)| now != before).count(), 1);
}

#[test]
fn a_link_is_full_when_no_stream_has_room_whichever_lane_it_keeps_to() {
    for lanes in [1, 2, 5] {
        let mut pair = Pair::with_lanes(LinkConfig::default(), lanes);
        let has_room =
            |pair: &Pair, stream| pair.ends[0].has_room(Bulk, Flow { tenant: 1, stream });
        assert!(!pair.ends[0].is_full(Bulk));
        for stream in 0..64 {
            while has_room(&pair, stream) {
                pair.push(0, Bulk, Origin::Own, stream, 20_000).unwrap();
            }
            let is_full = (0..64).all(|stream| !has_room(&pair, stream));
            assert_eq!(pair.ends[0].is_full(Bulk), is_full, "{lanes} lanes");
        }
        assert!(pair.ends[0].is_full(Bulk));
        assert!(!pair.ends[0].is_full(Priority) && !pair.ends[0].is_full(Control));
        while pair.ends[0].has_room(Priority, Flow::default()) {
            pair.push(0, Priority, Origin::Own, 0, 20_000).unwrap();
        }
        assert!(pair.ends[0].is_full(Priority));
    }
    assert!(Pair::with_lanes(LinkConfig::default(), 0).ends[0].is_full(Bulk), "it is down");
}

#[test]
fn a_lone_message_waits_for_no_acknowledgement_and_is_acknowledged_soon() {
    let mut pair = Pair::with_lanes(LinkConfig::default(), 1);
    for _ in 0..20 {
        pair.push(0, Bulk, Origin::Own, 1, 100).unwrap();
        // There within the delay of the connection.
        pair.run(pair.delay + STEP * 2);
        assert!(pair.under_way[0].is_empty());
        pair.run(pair.delay + STEP * 3);
        assert_eq!(pair.ends[0].lanes().map(|lane| lane.unacked_frames).sum::<u64>(), 0);
    }
}

/// What short messages have left of a link's windows costs a long one some round trips, and no wait
/// for a timer of the peer's.
#[test]
fn a_long_message_after_short_ones_waits_for_round_trips_alone() {
    let config = LinkConfig { ack_delay: Duration::from_millis(50), ..LinkConfig::default() };
    let mut pair = Pair::with_lanes(config, 1);
    for _ in 0..300 {
        pair.push(0, Bulk, Origin::Own, 1, 1000).unwrap();
        pair.run(Duration::from_millis(100));
    }
    let sent = pair.now;
    pair.push(0, Bulk, Origin::Own, 1, 60_000).unwrap();
    while !pair.under_way[0].is_empty() {
        pair.step(true);
    }
    let round_trip = pair.delay * 2 + STEP * 2;
    let took = pair.now.saturating_since(sent);
    assert!(took <= round_trip * 8, "{took:?}, round trips of {round_trip:?}");
    pair.settle(1);
}

#[test]
fn acknowledgements_are_few_at_speed() {
    let mut pair = Pair::with_lanes(LinkConfig::default(), 3);
    let before = pair.ends[1].ack_sequence;
    let start = pair.now;
    for _ in 0..1000 {
        while pair.ends[0].has_room(Bulk, Flow { tenant: 1, stream: 1 }) {
            pair.push(0, Bulk, Origin::Own, 1, 60_000).unwrap();
        }
        pair.step(true);
    }
    let elapsed = pair.now.saturating_since(start);
    let acks = pair.ends[1].ack_sequence - before;
    let bytes: u64 = pair.ends[0].lanes().map(|lane| lane.sent_frames * 60_000).sum();
    assert!(bytes > 80_000_000, "{bytes} of 100,000,000");
    let most = bytes / (256 << 10) + u64::try_from(elapsed.as_millis()).unwrap() + 2;
    assert!(acks <= most, "{acks} acknowledgements, at most {most}");
    pair.settle(5);
}

#[test]
fn control_overtakes_bulk_that_fills_one_slow_connection() {
    let mut pair = Pair::new(LinkConfig::default());
    pair.bytes_per_ms = 1250; // 10 Mbit/s
    pair.connect(LaneId(0), Control, 0);
    pair.run(Duration::from_millis(200));
    let mut worst = Duration::ZERO;
    for round in 0..10_000 {
        while pair.ends[0].has_room(Bulk, Flow { tenant: 1, stream: 1 }) {
            pair.push(0, Bulk, Origin::Own, 1, 4000).unwrap();
        }
        // Once the rate is known.
        if round >= 3000 && round % 100 == 0 {
            let sent = pair.now;
            let id = pair.push(0, Control, Origin::Own, 0, 100).unwrap();
            while pair.under_way[0].contains_key(&id) {
                pair.step(true);
            }
            worst = worst.max(pair.now.saturating_since(sent));
        }
        pair.step(true);
    }
    assert!(worst <= Duration::from_millis(2 + 30), "{worst:?}");
    let sent: u64 = pair.ends[0].lanes().map(|lane| lane.sent_frames * 4028).sum();
    let seconds = pair.now.as_nanos() / 1_000_000_000;
    assert!(sent >= seconds * 1_250_000 * 9 / 10, "{sent} bytes in {seconds} s");
}

#[test]
fn foreign_bulk_is_marked_then_refused_with_the_numbers() {
    let config =
        LinkConfig { data_bytes_max: 1 << 20, mark_bytes: 100_000, ..LinkConfig::default() };
    let mut pair = Pair::with_lanes(config, 1);
    let refusal = loop {
        if let Err(refusal) = pair.push(0, Bulk, Origin::Foreign, 4, 9972) {
            break refusal;
        }
    };
    assert_eq!(refusal.limit, RefusedLimit::Stream);
    assert_eq!(refusal.lane, Some(LaneId(0)));
    assert!(refusal.queued_bytes >= (1 << 20) / 3 - 20_000, "{refusal}");
    assert!(refusal.retry_after >= Duration::from_millis(1));
    pair.push(0, Bulk, Origin::Own, 5, 100).unwrap();
    let queued = pair.ends[0].queued_bytes(Bulk, Origin::Foreign);
    // One that has no more than its share of the threshold is not marked.
    pair.push(0, Bulk, Origin::Foreign, 5, 100).unwrap();
    pair.settle(5);
    let unmarked = u64::try_from(100_000 / 10_000 + 1).unwrap();
    assert_eq!(pair.marked, u64::try_from(queued / 10_000).unwrap() - unmarked);
}

#[test]
fn a_refusal_names_the_lane_that_the_frame_would_have_taken() {
    let config =
        LinkConfig { control_bytes_max: 10_000, data_bytes_max: 100_000, ..LinkConfig::default() };
    let mut pair = Pair::with_lanes(config, 6);
    let lanes: Vec<(LaneId, LaneKey)> =
        pair.ends[0].lanes().map(|lane| (lane.id.lane, lane.key)).collect();
    let (plain, striped) = (1, 2);
    // The first frame of a striped stream goes with the plain ones, and what follows over another lane.
    pair.push_striped(0, Origin::Foreign, striped, 100).unwrap();
    let first = lanes[pair.lane_of(0, striped).unwrap()];
    assert!(pair.ends[0].poll_transmit(pair.now, first.1).is_some());
    let next = lanes.iter().find(|&&(lane, _)| lane >= LaneId(2) && lane != first.0).unwrap();
    let pinned = lanes[pair.lane_of(0, plain).unwrap()];

    let mut refused = |class, stream, len| loop {
        let flags = if stream == striped { FrameFlags::STRIPED } else { FrameFlags::default() };
        let pushed = pair.push_flagged(0, class, Origin::Foreign, stream, flags, len);
        if let Err(refusal) = pushed {
            break (refusal.limit, refusal.lane.unwrap());
        }
    };
    assert_eq!(refused(Control, plain, 80_000), (RefusedLimit::FrameSize, LaneId(0)));
    assert_eq!(refused(Control, plain, 2000), (RefusedLimit::Tenant, LaneId(0)));
    assert_eq!(refused(Priority, plain, 2000), (RefusedLimit::Stream, LaneId(1)));
    assert_eq!(refused(Bulk, plain, 2 << 20), (RefusedLimit::FrameSize, pinned.0));
    assert_eq!(refused(Bulk, plain, 2000), (RefusedLimit::Stream, pinned.0));
    assert_eq!(refused(Bulk, striped, 2000), (RefusedLimit::Stream, next.0));
}

#[test]
fn oversize_control_and_a_link_without_a_lane_are_refused() {
    let mut pair = Pair::new(LinkConfig::default());
    let refused = pair.push(0, Control, Origin::Own, 0, 10).unwrap_err();
    assert_eq!((refused.limit, refused.lane), (RefusedLimit::NoLane, None));
    pair.connect(LaneId(0), Control, 0);
    let refused = pair.push(0, Control, Origin::Own, 0, 80_000).unwrap_err();
    assert_eq!((refused.limit, refused.retry_after), (RefusedLimit::FrameSize, Duration::MAX));
    pair.push(0, Control, Origin::Own, 0, 60_000).unwrap();
    pair.settle(1);
}

#[test]
fn modes_change_under_load_without_loss_and_unneeded_lanes_are_closed() {
    let mut pair = Pair::with_lanes(LinkConfig::default(), 4);
    for round in 0..3000_u64 {
        for end in 0..2 {
            pair.push(end, Control, Origin::Own, 0, 50).unwrap();
            pair.push(end, Priority, Origin::Own, 0, 50).unwrap();
            let _full = pair.push(end, Bulk, Origin::Foreign, round % 9, 9000);
        }
        match round {
            500 => pair.ends[1].propose_mode(LinkMode::Collapsed),
            1500 => {
                assert_eq!(pair.ends[0].mode(), LinkMode::Collapsed);
                assert_eq!(pair.ends[0].lanes().count(), 1);
                assert_eq!(pair.ends[1].lanes().count(), 1);
                pair.ends[0].propose_mode(LinkMode::Separate);
            }
            _ => {}
        }
        pair.step(true);
    }
    pair.settle(10);
    for end in &pair.ends {
        assert_eq!(end.mode(), LinkMode::Separate);
        let lanes: Vec<u16> = end.lanes().map(|lane| lane.id.lane.0).collect();
        assert_eq!(lanes.len(), 4, "opened again: {lanes:?}");
        for lane in end.lanes() {
            assert!(lane.carries.contains(class_of(lane.id.lane.0)), "{lane:?}");
        }
    }
    assert_eq!(pair.violations, []);
}

#[test]
fn a_lane_that_is_closed_on_purpose_loses_nothing_and_is_not_wanted_back() {
    let mut pair = Pair::with_lanes(LinkConfig::default(), 4);
    pair.redials = false;
    for stream in 0..40 {
        pair.push(0, Bulk, Origin::Own, stream, 50_000).unwrap();
        pair.push(1, Bulk, Origin::Own, stream, 50_000).unwrap();
    }
    pair.step(true);
    let key = pair.key_of(3);
    pair.ends[0].close_lane(pair.now, key, hawser_wire::CloseReason::Shutdown);
    pair.settle(10);
    pair.run(Duration::from_millis(100));
    assert_eq!(pair.ends.each_ref().map(|end| end.lanes().count()), [3, 3]);
    for end in [0, 1] {
        assert!(!pair.saw(end, |event| matches!(event, LinkEvent::WantLane { .. })));
        assert!(!pair.saw(end, |event| matches!(event, LinkEvent::Requeued { .. })));
    }
    assert_eq!(pair.ends[0].status().unsettled_frames, 0);
}

#[test]
fn each_end_hears_how_long_the_other_waits_for_its_core() {
    let mut pair = Pair::with_lanes(LinkConfig::default(), 3);
    pair.run(Duration::from_secs(1));
    let few = pair.ends[0].turn_delay.both();
    assert!(few < Duration::from_micros(50), "{few:?}");
    let tick = LinkConfig::default().tick;
    for _ in 0..30 {
        // Both tick in the step in which they run again.
        pair.now = pair.now.saturating_add(tick + Duration::from_millis(9));
        pair.step(true);
        pair.step(true);
    }
    for end in &pair.ends {
        // What each waits by itself is ten at most.
        assert!(end.turn_delay.both() > Duration::from_millis(15), "{:?}", end.turn_delay);
    }
    pair.run(Duration::from_secs(10));
    for end in &pair.ends {
        assert!(end.turn_delay.both() < Duration::from_millis(1), "{:?}", end.turn_delay);
    }
    assert_eq!(pair.violations, []);
}

#[test]
fn a_full_link_measures_its_round_trip_again_and_does_not_stop_for_it() {
    for (bytes_per_ms, delay_ms) in [(1250, 10), (12_500, 10), (12_500, 40)] {
        let mut pair = Pair::with_lanes(LinkConfig::default(), 1);
        assert_eq!(pair.ends[0].rate.min_rtt(), Some(Duration::from_millis(6)));
        // The path has become longer since.
        for wire in pair.wires.values_mut() {
            (wire.bytes_per_ms, wire.delay) = (bytes_per_ms, Duration::from_millis(delay_ms));
        }
        let mut stopped_ms = 0;
        for ms in 0..30_000 {
            while pair.ends[0].has_room(Bulk, Flow { tenant: 1, stream: 1 }) {
                pair.push(0, Bulk, Origin::Own, 1, 60_000).unwrap();
            }
            pair.step(true);
            let in_flight = pair.ends[0].status().in_flight_bytes;
            stopped_ms += u64::from(ms > 5000 && in_flight == 0);
        }
        assert_eq!(stopped_ms, 0, "at {bytes_per_ms} and {delay_ms}");
        let least = pair.ends[0].rate.min_rtt().unwrap();
        assert!(least.as_millis().abs_diff(u128::from(2 * delay_ms + 2)) <= 3, "{least:?}");
        let carried: u64 = pair.ends[0].lanes().map(|lane| lane.acked_bytes).sum();
        assert!(carried >= bytes_per_ms * 30_000 * 85 / 100, "{carried} at {bytes_per_ms}");
    }
}

/// What may be in flight is half a round trip more than the path holds. Messages that fit into it four
/// times leave a fifth of it empty, and each is acknowledged when it is there as a whole.
#[test]
fn a_link_is_filled_whatever_the_size_of_its_messages() {
    for (bytes_per_ms, delay_ms) in [(100, 30), (1250, 3), (1250, 10), (12_500, 10), (12_500, 20)] {
        for size in [1000, 7000, 14_000, 56_000, 120_000] {
            let mut pair = Pair::with_lanes(LinkConfig::default(), 1);
            for wire in pair.wires.values_mut() {
                (wire.bytes_per_ms, wire.delay) = (bytes_per_ms, Duration::from_millis(delay_ms));
            }
            let carried =
                |pair: &Pair| -> u64 { pair.ends[0].lanes().map(|lane| lane.acked_bytes).sum() };
            let mut before = 0;
            for ms in 0..16_000 {
                while pair.ends[0].has_room(Bulk, Flow { tenant: 1, stream: 1 }) {
                    pair.push(0, Bulk, Origin::Own, 1, size).unwrap();
                }
                pair.step(true);
                // That the path is longer than it was at first is known after ten seconds.
                if ms == 11_999 {
                    before = carried(&pair);
                }
            }
            let (carried, whole) = (carried(&pair) - before, bytes_per_ms * 4000);
            let path = format!("{size} bytes over {bytes_per_ms} bytes/ms and {delay_ms} ms");
            assert!(carried >= whole * 95 / 100, "{carried} of {whole}: {path}");
        }
    }
}

/// A lane that was silent for a moment, while nothing else was under way.
#[test]
fn what_a_silent_lane_still_brings_is_not_taken_for_speed() {
    let config = LinkConfig { in_flight_floor_bytes: 16 << 10, ..LinkConfig::default() };
    let mut pair = Pair::with_lanes(config, 4);
    pair.redials = false;
    for wire in pair.wires.values_mut() {
        wire.bytes_per_ms = 200;
    }
    let stream_of = |pair: &Pair, lane| (0..).find(|&stream| pair.lane_of(0, stream) == Some(lane));
    let streams = [2, 3].map(|lane| stream_of(&pair, lane).unwrap());
    for _ in 0..3000 {
        while pair.ends[0].has_room(Bulk, Flow { tenant: 1, stream: streams[0] }) {
            pair.push(0, Bulk, Origin::Own, streams[0], 2000).unwrap();
        }
        pair.step(true);
    }
    let known = pair.ends[0].rate.rate();
    assert!((180_000..220_000).contains(&known), "{known}");
    let silent = pair.ends[0].lanes().nth(2).unwrap().key;
    pair.wires.get_mut(&silent).unwrap().is_silent = true;
    while !pair.saw(0, |event| matches!(event, LinkEvent::Quiet { .. })) {
        pair.step(true);
    }
    let unacked = pair.ends[0].lanes().find(|lane| lane.key == silent).unwrap().unacked_bytes;
    assert!(unacked > 10_000, "{unacked} bytes are in flight over the silent lane");
    pair.push(0, Bulk, Origin::Own, streams[1], 100).unwrap();
    pair.step(true);
    pair.wires.get_mut(&silent).unwrap().is_silent = false;
    for _ in 0..500 {
        pair.step(true);
        let rate = pair.ends[0].rate.rate();
        assert!(rate <= known * 3 / 2, "{rate} in place of {known}");
    }
    assert_eq!(pair.violations, []);
}
