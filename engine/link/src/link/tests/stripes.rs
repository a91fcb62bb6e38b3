//! Streams over all bulk lanes: order, faults, what a peer may do.

use std::time::Duration;

use hawser_wire::{
    BatchWriter, FrameFlags, FrameIter, FrameKind, LaneId, LinkMode, LinkSequence, StripeStamp,
    TrafficClass,
};

use super::pair::{Pair, Random, class_of};
use crate::*;
use TrafficClass::{Bulk, Control, Priority};

/// A stream that is striped.
pub(super) const STREAM: u64 = 7;
const FLOW: Flow = Flow { tenant: 1, stream: STREAM };

/// Frames that were sent over each bulk lane of an end.
fn sent(pair: &Pair, end: usize) -> Vec<u64> {
    let bulk = pair.ends[end].lanes().filter(|lane| lane.class == Bulk);
    bulk.map(|lane| lane.sent_frames).collect()
}

/// Keeps a striped stream busy.
pub(super) fn saturate(pair: &mut Pair, len: usize, steps: usize) {
    for _ in 0..steps {
        while pair.ends[0].has_room(Bulk, FLOW) {
            pair.push_striped(0, Origin::Own, STREAM, len).unwrap();
        }
        pair.step(true);
    }
}

#[test]
fn a_striped_stream_takes_all_bulk_lanes_and_keeps_its_order() {
    for origin in [Origin::Own, Origin::Foreign] {
        let mut pair = Pair::with_lanes(LinkConfig::default(), 6);
        for round in 0..400 {
            pair.push_striped(0, origin, STREAM, 20_000).unwrap();
            pair.push(0, Bulk, origin, round % 5, 500).unwrap();
            if round % 3 == 0 {
                pair.step(true);
            }
        }
        pair.settle(10);
        let sent = sent(&pair, 0);
        assert!(sent.len() == 4 && sent.iter().all(|&frames| frames > 20), "{sent:?}");
        assert_eq!(pair.ends[0].status().striped_streams, 1);
        pair.run(Duration::from_secs(2));
        assert_eq!(pair.ends[0].status().striped_streams, 0, "an idle stream holds nothing");
        assert_eq!(pair.ends[0].status().queued_bytes, 0);
        assert_eq!(pair.violations, []);
    }
}

/// Frames that go round a broken link may come past their source again, and over its link with others'.
#[test]
fn a_stream_has_a_channel_of_its_own_where_its_source_is() {
    let mut pair = Pair::with_lanes(LinkConfig::default(), 6);
    // Which of both comes first is not said.
    pair.may_reorder = true;
    let mut ids = [Vec::new(), Vec::new()];
    for (at, origin) in [Origin::Own, Origin::Foreign].into_iter().enumerate() {
        let plain = if origin == Origin::Own { 20 } else { 0 };
        ids[at].extend((0..plain).map(|_| pair.push(0, Bulk, origin, STREAM, 20_000).unwrap()));
    }
    for _ in 0..40 {
        for (at, origin) in [Origin::Foreign, Origin::Own].into_iter().enumerate() {
            ids[1 - at].push(pair.push_striped(0, origin, STREAM, 5000).unwrap());
        }
        pair.step(true);
    }
    pair.settle(5);
    for ids in ids {
        let came = pair.order[1].iter().filter(|id| ids.contains(id));
        assert!(came.eq(&ids), "{:?}", pair.order[1]);
    }
    assert_eq!(pair.ends[0].status().striped_streams, 2);
}

#[test]
fn a_link_is_full_once_its_own_striped_streams_have_no_room_either() {
    for origin in [Origin::Own, Origin::Foreign] {
        let mut pair = Pair::with_lanes(LinkConfig::default(), 6);
        pair.push_striped(0, origin, STREAM, 100).unwrap();
        for stream in (0..64).filter(|&stream| stream != STREAM) {
            while pair.ends[0].has_room(Bulk, Flow { tenant: 1, stream }) {
                pair.push(0, Bulk, Origin::Own, stream, 20_000).unwrap();
            }
        }
        // What waits of others' streams is no room for own ones.
        assert_eq!(pair.ends[0].is_full(Bulk), origin == Origin::Foreign);
        while pair.ends[0].has_room(Bulk, FLOW) {
            pair.push_striped(0, origin, STREAM, 20_000).unwrap();
        }
        assert!(pair.ends[0].is_full(Bulk));
    }
}

#[test]
fn control_and_priority_are_never_striped() {
    let mut pair = Pair::with_lanes(LinkConfig::default(), 6);
    for _ in 0..50 {
        for class in [Control, Priority] {
            pair.push_flagged(0, class, Origin::Own, STREAM, FrameFlags::STRIPED, 200).unwrap();
        }
        pair.step(true);
    }
    pair.settle(1);
    assert_eq!((sent(&pair, 0), pair.ends[0].status().striped_streams), (vec![0; 4], 0));
    let sent: Vec<u64> = pair.ends[0].lanes().map(|lane| lane.sent_frames).collect();
    assert_eq!(sent, [50, 50, 0, 0, 0, 0]);
}

#[test]
fn with_a_peer_that_does_not_know_of_it_a_stream_keeps_to_one_lane() {
    let mut pair = Pair::new(LinkConfig::default());
    pair.stripes = false;
    for lane in 0..6 {
        pair.connect(LaneId(lane), class_of(lane), 0);
    }
    for _ in 0..100 {
        pair.push_striped(0, Origin::Own, STREAM, 20_000).unwrap();
        pair.step(true);
    }
    pair.settle(5);
    let sent = sent(&pair, 0);
    assert_eq!(sent.iter().filter(|&&frames| frames > 0).count(), 1, "{sent:?}");
}

/// Limits each bulk lane; what was acknowledged over each in a second of full load, in bytes per
/// millisecond.
fn carried(pair: &mut Pair, lanes: &[(u16, u64)]) -> Vec<u64> {
    for &(lane, bytes_per_ms) in lanes {
        let key = pair.key_of(lane);
        pair.wires.get_mut(&key).unwrap().bytes_per_ms = bytes_per_ms;
    }
    saturate(pair, 16_000, 1500);
    let before: Vec<u64> = pair.ends[0].lanes().map(|lane| lane.acked_bytes).collect();
    for _ in 0..1000 {
        saturate(pair, 16_000, 1);
        let status = pair.ends[0].status();
        assert!(status.in_flight_bytes <= status.in_flight_bound_bytes, "{status:?}");
    }
    let lanes = pair.ends[0].lanes().zip(before).skip(2);
    lanes.map(|(lane, before)| (lane.acked_bytes - before) / 1000).collect()
}

/// Ends run once a millisecond, at which their ticks are handled late, as all else: a tick that is none
/// of whole milliseconds shows it.
fn in_turns() -> LinkConfig {
    LinkConfig { tick: Duration::from_micros(100_500), ..LinkConfig::default() }
}

#[test]
fn lanes_of_any_speed_are_filled_and_the_link_keeps_its_bound() {
    for bytes_per_ms in [[4000, 2000, 2000, 1000], [250; 4], [2500; 4], [20_000; 4]] {
        let mut pair = Pair::with_lanes(in_turns(), 6);
        let lanes: Vec<(u16, u64)> = (2..).zip(bytes_per_ms).collect();
        let carried = carried(&mut pair, &lanes);
        for (rate, most) in carried.iter().zip(bytes_per_ms) {
            assert!(*rate * 100 >= most * 95, "{carried:?} of {bytes_per_ms:?}");
        }
        // What came before its turn: some batches, not what a lane could fall behind.
        let held = pair.ends[1].status().reorder_bytes;
        assert!(held <= 1 << 20, "{held} of {bytes_per_ms:?}");
        pair.settle(20);
        assert_eq!(pair.violations, []);
    }
}

#[test]
fn a_lane_that_comes_later_is_filled_too() {
    let mut pair = Pair::with_lanes(in_turns(), 5);
    let before = carried(&mut pair, &[(2, 2000), (3, 2000), (4, 2000)]);
    assert!(before.iter().all(|&rate| rate >= 1900), "{before:?}");
    pair.connect(LaneId(5), Bulk, 0);
    let after = carried(&mut pair, &[(5, 2000)]);
    assert!(after.len() == 4 && after.iter().all(|&rate| rate >= 1900), "{after:?}");
    // One that gets slower carries a batch in a round trip at least, and holds up nobody.
    let slower = carried(&mut pair, &[(3, 200)]);
    let least = [1900, 150, 1900, 1900];
    assert!(slower.iter().zip(least).all(|(&rate, least)| rate >= least), "{slower:?}");
    pair.settle(20);
}

#[test]
fn what_one_lane_sends_gives_the_others_the_turn() {
    let mut pair = Pair::with_lanes(LinkConfig::default(), 6);
    for _ in 0..20 {
        pair.push_striped(0, Origin::Own, STREAM, 300).unwrap();
    }
    let bulk: Vec<LaneKey> = (2..6).map(|lane| pair.key_of(lane)).collect();
    let (now, end) = (pair.now, &mut pair.ends[0]);
    while end.poll_wanted().is_some() {}
    assert!(end.poll_transmit(now, bulk[0]).is_some());
    let mut wanted: Vec<LaneKey> = std::iter::from_fn(|| end.poll_wanted()).collect();
    wanted.sort();
    assert_eq!(wanted, bulk[1..]);
}

#[test]
fn a_stream_of_one_lane_has_half_of_it_beside_one_that_takes_all() {
    for bytes_per_ms in [500, 2500] {
        let mut pair = Pair::with_lanes(in_turns(), 6);
        for lane in 2..6 {
            let key = pair.key_of(lane);
            pair.wires.get_mut(&key).unwrap().bytes_per_ms = bytes_per_ms;
        }
        let plain = Flow { tenant: 2, stream: 8 };
        let mut taken = [0, 0];
        for step in 0..4000 {
            while pair.ends[0].has_room(Bulk, plain) {
                pair.push(0, Bulk, Origin::Own, plain.stream, 4000).unwrap();
                taken[0] += if step < 2000 { 0 } else { 4000 };
            }
            while pair.ends[0].has_room(Bulk, FLOW) {
                pair.push_striped(0, Origin::Own, STREAM, 4000).unwrap();
                taken[1] += if step < 2000 { 0 } else { 4000 };
            }
            pair.step(true);
        }
        let [plain, striped] = taken.map(|bytes| bytes as f64 / (2000 * bytes_per_ms) as f64);
        assert!((0.4..0.6).contains(&plain), "{plain} and {striped} lanes");
        assert!(plain + striped > 3.8, "{plain} and {striped} lanes");
        pair.settle(20);
        assert_eq!(pair.violations, []);
    }
}

#[test]
fn what_runs_ahead_stays_within_the_window_while_a_lane_stands_still() {
    let config = LinkConfig { stripe_bytes: 200_000, ..LinkConfig::default() };
    let mut pair = Pair::with_lanes(config, 6);
    saturate(&mut pair, 5000, 200);
    let key = pair.key_of(3);
    pair.wires.get_mut(&key).unwrap().is_silent = true;
    for _ in 0..150 {
        saturate(&mut pair, 5000, 1);
        let held = pair.ends[1].status().reorder_bytes;
        assert!(held <= 200_000, "{held}");
    }
    saturate(&mut pair, 5000, 2000);
    pair.settle(10);
    assert!(pair.saw(0, |event| matches!(event, LinkEvent::Hedged { .. })));
}

#[test]
fn more_streams_than_channels_take_turns_and_all_keep_their_order() {
    let mut pair = Pair::with_lanes(LinkConfig::default(), 5);
    let mut random = Random(3);
    for _ in 0..3000 {
        let stream = random.below(30);
        for _ in 0..random.below(4) {
            // Streams begin plain and stay in order when they get a channel.
            let striped = random.below(10) > 0;
            let flags = if striped { FrameFlags::STRIPED } else { FrameFlags::default() };
            let len = 100 + random.below(3000) as usize;
            pair.push_flagged(0, Bulk, Origin::Own, stream, flags, len).unwrap();
        }
        if random.below(3) == 0 {
            pair.step(true);
        }
        assert!(pair.ends[0].status().striped_streams <= hawser_wire::STRIPE_CHANNELS);
    }
    pair.settle(5);
    assert_eq!(pair.violations, []);
}

/// Lanes that are lost, silent, joined into one and separated again under striped streams, in both
/// directions.
fn run_with_faults(seed: u64) {
    let mut random = Random(seed);
    let mut pair = Pair::with_lanes(LinkConfig::default(), 6);
    pair.bytes_per_ms = 20_000;
    for step in 0..3000 {
        for end in 0..2 {
            let (stream, len) = (random.below(4), random.below(30_000) as usize);
            let flow = Flow { tenant: stream % 3, stream };
            if pair.ends[end].has_room(Bulk, flow) {
                let _refused = pair.push_striped(end, Origin::Own, stream, len);
            }
            if random.below(4) == 0 {
                let _refused = pair.push_striped(end, Origin::Foreign, 10 + stream, len);
            }
            let _refused = pair.push(end, Bulk, Origin::Own, 20, 300);
            let _refused = pair.push(end, Priority, Origin::Own, 20, 50);
        }
        if step % 150 == 149 && step < 2500 {
            let keys: Vec<LaneKey> = pair.wires.keys().copied().collect();
            let Some(&key) = keys.get(random.below(keys.len().max(1) as u64) as usize) else {
                continue;
            };
            match random.below(4) {
                0 => pair.wires.get_mut(&key).unwrap().is_silent = true,
                1 => pair.cut(key, [Some(random.below(50)), Some(random.below(50))]),
                2 => pair.cut(key, [None, Some(random.below(5))]),
                _ => {
                    let modes = [LinkMode::Collapsed, LinkMode::Separate];
                    pair.ends[0].propose_mode(modes[random.below(2) as usize]);
                }
            }
        }
        pair.step(true);
    }
    pair.settle(60);
    assert_eq!(pair.violations, [], "seed {seed}");
    pair.run(Duration::from_secs(2));
    for end in &pair.ends {
        let status = end.status();
        assert_eq!((status.reorder_bytes, status.striped_streams), (0, 0), "seed {seed}");
    }
}

#[test]
fn striped_streams_keep_their_order_whatever_happens_to_lanes() {
    for seed in 0..10 {
        run_with_faults(seed);
    }
}

#[test]
fn a_session_that_only_one_end_has_ended_accuses_nobody() {
    for forgetful in 0..2 {
        let mut pair = Pair::with_lanes(LinkConfig::default(), 6);
        pair.may_repeat = true;
        pair.redials = false;
        saturate(&mut pair, 3000, 100);
        let keys: Vec<LaneKey> = pair.wires.keys().copied().collect();
        // One end learns of the loss ten seconds before the other one does.
        for key in keys {
            let mut tell = [Some(9000), Some(9000)];
            tell[forgetful] = Some(0);
            pair.cut(key, tell);
        }
        pair.run(Duration::from_secs(9));
        while !pair.saw(forgetful, |event| matches!(event, LinkEvent::SessionEnded { .. })) {
            pair.step(true);
        }
        for lane in 0..6 {
            pair.connect(LaneId(lane), class_of(lane), 0);
        }
        saturate(&mut pair, 3000, 500);
        pair.settle(5);
        assert_eq!(pair.violations, [], "{forgetful}");
        assert_eq!(pair.ends[1].status().reorder_bytes, 0);
    }
}

/// What an end makes of a striped frame of a misbehaving peer.
pub(super) fn put(
    pair: &mut Pair,
    lane: u16,
    link_sequence: u64,
    stamp: StripeStamp,
    len: usize,
) -> Result<Handled, LinkViolation> {
    let (mut bytes, stamp, body) = (Vec::new(), stamp.encode(), vec![1; len]);
    let (kind, sequence) = (FrameKind::StripedRecord, LinkSequence(link_sequence));
    BatchWriter::new(&mut bytes).frame(kind, Bulk, sequence, &[&stamp, &body]).unwrap();
    let frame = FrameIter::new(&bytes).next().unwrap().unwrap();
    let key = pair.ends[1].lanes().find(|status| status.id.lane == LaneId(lane)).unwrap().key;
    pair.ends[1].handle_frame(pair.now, key, &frame)
}

#[test]
fn a_peer_that_breaks_the_rules_of_striping_is_told_which() {
    use hawser_wire::CloseReason::{
        ClassChange, ProtocolViolation, ReorderOverrun, StripeSequence,
    };
    let stamp = |channel, epoch, sequence| StripeStamp { channel, epoch, sequence };
    let mut pair = Pair::with_lanes(LinkConfig::default(), 4);
    let refused = |handled: Result<Handled, LinkViolation>| handled.unwrap_err().close_reason();
    for sequence in [4096, 1 << 40, u64::MAX] {
        let jump = put(&mut pair, 2, 1, stamp(0, 1, sequence), 10);
        assert_eq!(refused(jump), ReorderOverrun);
    }
    assert_eq!(put(&mut pair, 2, 2, stamp(0, 1, 0), 10), Ok(Handled::Striped));
    assert_eq!(refused(put(&mut pair, 3, 3, stamp(0, 1, 0), 10)), StripeSequence);
    let mut flood = 4;
    let over = loop {
        // Each lane within its credit.
        let lane = 2 + (flood % 2) as u16;
        match put(&mut pair, lane, flood, stamp(0, 1, flood), 1 << 20) {
            Ok(handled) => assert_eq!(handled, Handled::Consumed),
            Err(violation) => break violation,
        }
        flood += 1;
    };
    assert_eq!((flood, over.close_reason()), (12, ReorderOverrun));
    assert_eq!(pair.ends[1].status().reorder_bytes, 8 << 20);
    assert_eq!(put(&mut pair, 2, 13, stamp(0, 2, 0), 10), Ok(Handled::Striped));
    assert_eq!(pair.ends[1].status().reorder_bytes, 0, "what is over holds nothing");
    assert_eq!(refused(put(&mut pair, 2, 14, stamp(0, 1, 5), 10)), StripeSequence);
    assert_eq!(put(&mut pair, 3, 15, stamp(0, 1, 5), 10), Ok(Handled::Striped));
    assert_eq!(refused(put(&mut pair, 2, 16, stamp(8, 3, 0), 10)), ProtocolViolation);
    assert_eq!(refused(put(&mut pair, 2, 0, stamp(0, 2, 1), 10)), ProtocolViolation);
    assert_eq!(refused(put(&mut pair, 0, 17, stamp(0, 2, 1), 10)), ClassChange);
}

/// Each makes room for thousands, and gives up that of the one before.
#[test]
fn channels_that_begin_over_and_over_with_their_last_frame() {
    let mut pair = Pair::with_lanes(LinkConfig::default(), 4);
    let begun = (1..20_000_u32).find_map(|n| {
        let stamp = StripeStamp { channel: 0, epoch: n, sequence: 4095 };
        put(&mut pair, 2, n.into(), stamp, 10).err().map(|violation| (n, violation.close_reason()))
    });
    let (times, reason) = begun.unwrap();
    assert_eq!(reason, hawser_wire::CloseReason::HeartbeatStorm);
    assert!((100..2000).contains(&times), "{times}");
}

#[test]
fn what_a_peer_never_sends_holds_up_nothing_for_ever() {
    let mut pair = Pair::with_lanes(LinkConfig::default(), 4);
    let stamp = StripeStamp { channel: 0, epoch: 1, sequence: 1 };
    // As a record of a stream would be: an id and a stream.
    let handled = put(&mut pair, 2, 1, stamp, 16);
    assert_eq!(handled, Ok(Handled::Consumed));
    let due = pair.now.saturating_add(LinkConfig::default().stripe_gap_max);
    let end = &mut pair.ends[1];
    // Ticks on which this node did not run, so that nobody is missed.
    while end.poll_timeout().is_some_and(|(at, _)| at < due) {
        assert_eq!((end.status().reorder_bytes, end.poll_reassembled()), (16, None));
        let (at, _) = end.poll_timeout().unwrap();
        end.handle_timeout(at, false);
        while end.poll_wanted().is_some_and(|key| end.poll_transmit(at, key).is_some()) {}
    }
    end.handle_timeout(due.saturating_add(Duration::from_millis(100)), false);
    assert_eq!(end.status().reorder_bytes, 0);
    assert!(end.poll_reassembled().is_some_and(|frame| frame.body.len() == 16));
    let is_gap = |event| matches!(event, LinkEvent::StripeGap { sequence: 0, .. });
    assert!(std::iter::from_fn(|| end.poll_event()).any(is_gap));
}
