//! Frames that leave a link which carries nothing, and those that stay.

use std::collections::BTreeMap;
use std::time::Duration;

use hawser_wire::{
    FrameIter, FrameKind, FrameRef, Incarnation, LaneId, STRIPE_CHANNELS, TrafficClass,
};

use super::pair::{Pair, Random, class_of, node};
use crate::fragment::SplitBatch;
use crate::*;
use TrafficClass::{Bulk, Control, Priority};

fn millis(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn load(pair: &mut Pair, rounds: u64) {
    for round in 0..rounds {
        for end in 0..2 {
            pair.push(end, Control, Origin::Own, 0, 60).unwrap();
            pair.push(end, Priority, Origin::Own, 0, 800).unwrap();
            let origin = if round % 2 == 0 { Origin::Own } else { Origin::Foreign };
            let _full = pair.push(end, Bulk, origin, round % 7, 40_000);
        }
        pair.step(true);
    }
}

fn id_of(frame: &FrameRef<'_>) -> u64 {
    u64::from_le_bytes(*frame.body.first_chunk().unwrap())
}

/// Two of three have another way, of each class: an end pushes one of each in turn.
fn leaves(id: u64) -> bool {
    !id.div_ceil(3).is_multiple_of(3)
}

#[test]
fn what_has_left_a_silent_lane_is_not_said_to_go_over_another_one() {
    for leaves in [true, false] {
        let mut pair = Pair::with_lanes(LinkConfig::default(), 3);
        pair.run(millis(300));
        for wire in pair.wires.values_mut() {
            wire.is_silent = true;
        }
        pair.push(0, Bulk, Origin::Own, 1, 20_000).unwrap();
        while !pair.ends[0].is_stalled() {
            pair.step(true);
        }
        pair.ends[0].evacuate(|_| leaves);
        let key = pair.key_of(1);
        pair.wires.get_mut(&key).unwrap().is_silent = false;
        pair.run(millis(150));
        assert!(pair.saw(0, |event| matches!(event, LinkEvent::Heard { .. })));
        let is_hedged = |event: &LinkEvent| matches!(event, LinkEvent::Hedged { .. });
        assert_eq!(pair.saw(0, is_hedged), !leaves, "{:#?}", pair.events[0]);
    }
}

/// What has left never comes over the link, what stays comes once, whether all lanes are lost or all
/// are silent, and whether they come back or die.
#[test]
fn what_has_left_is_not_sent_again_and_the_rest_arrives_once() {
    for (silent, back_ms) in [(false, 10), (false, 5000), (true, 0), (true, 2000)] {
        let mut pair = Pair::with_lanes(LinkConfig::default(), 4);
        pair.run(millis(300));
        for wire in pair.wires.values_mut() {
            wire.bytes_per_ms = 1_000;
        }
        load(&mut pair, 30);
        pair.redials = false;
        let keys: Vec<LaneKey> = (0..4).map(|lane| pair.key_of(lane)).collect();
        for &key in &keys {
            if silent {
                pair.wires.get_mut(&key).unwrap().is_silent = true;
            } else {
                pair.cut(key, [Some(0), Some(1)]);
            }
        }
        if silent {
            load(&mut pair, 20);
        }
        while pair.ends[0].is_usable() {
            pair.step(true);
        }
        assert_eq!(pair.ends[0].is_stalled(), silent);
        let (before, arrived) = (pair.under_way[0].clone(), pair.arrived[1].clone());
        pair.ends[0].evacuate(|frame| leaves(id_of(frame)));
        // Once is enough.
        pair.step(true);
        let count = |pair: &Pair| pair.rerouted[0].len();
        let once = count(&pair);
        pair.ends[0].evacuate(|frame| leaves(id_of(frame)));
        pair.step(true);
        assert_eq!(count(&pair), once);
        assert!(pair.saw(0, |event| matches!(event, LinkEvent::Rerouted { .. })));
        assert!(pair.rerouted[0].iter().all(|&id| leaves(id)));
        let all_left = before.keys().filter(|&&id| leaves(id));
        assert!(
            all_left.clone().count() > 10
                && all_left.clone().all(|id| pair.rerouted[0].contains(id))
        );

        pair.run(millis(back_ms));
        if silent && back_ms == 0 {
            // Heard again before the lanes are dead. What is in flight arrives, left or not.
            for key in &keys {
                pair.wires.get_mut(key).unwrap().is_silent = false;
            }
            pair.settle(5);
            pair.run(millis(300));
            assert!(pair.ends.iter().all(VirtualLink::is_usable));
        } else {
            assert!(!pair.ends[0].is_up(), "{:?}", pair.events[0].last());
            pair.wires.clear();
            for lane in [2, 0, 1, 3] {
                pair.connect(LaneId(lane), class_of(lane), 1);
            }
            pair.settle(5);
            let came: Vec<u64> = pair.arrived[1].difference(&arrived).copied().collect();
            assert!(came.iter().all(|id| !pair.rerouted[0].contains(id)), "{silent} {back_ms}");
            assert!(before.keys().all(|&id| leaves(id) || pair.arrived[1].contains(&id)));
        }
        // The link goes on as if nothing had been.
        load(&mut pair, 20);
        pair.settle(5);
        assert_eq!(pair.violations, []);
        assert!(pair.ends.iter().all(|end| end.departed.is_empty()));
        assert!(!pair.saw(0, |event| matches!(event, LinkEvent::SessionEnded { .. })));
    }
}

#[test]
fn a_link_stalls_with_its_last_lane_and_not_before() {
    let mut pair = Pair::with_lanes(LinkConfig::default(), 3);
    pair.run(millis(300));
    for lane in [0, 2] {
        let key = pair.key_of(lane);
        pair.wires.get_mut(&key).unwrap().is_silent = true;
    }
    pair.run(millis(600));
    assert!(pair.ends.iter().all(VirtualLink::is_usable));
    let key = pair.key_of(1);
    pair.wires.get_mut(&key).unwrap().is_silent = true;
    let since = pair.now;
    while pair.ends[0].is_usable() {
        pair.step(true);
    }
    let took = pair.now.saturating_since(since);
    assert!((millis(200)..=millis(400)).contains(&took), "{took:?}");
    // Own stalls are not the peer's silence.
    let mut pair = Pair::with_lanes(LinkConfig::default(), 3);
    for _ in 0..2000 {
        pair.step(false);
    }
    assert!(pair.ends.iter().all(VirtualLink::is_usable));
}

#[test]
fn the_end_of_the_session_hands_out_what_has_not_left_before() {
    let mut pair = Pair::with_lanes(LinkConfig::default(), 2);
    load(&mut pair, 30);
    pair.redials = false;
    for lane in 0..2 {
        let key = pair.key_of(lane);
        pair.cut(key, [Some(0), Some(0)]);
    }
    pair.run(millis(10));
    pair.ends[0].evacuate(|frame| leaves(id_of(frame)));
    pair.step(true);
    let left = std::mem::take(&mut pair.rerouted[0]);
    assert!(!left.is_empty());
    pair.run(millis(10_500));
    let rest = &pair.rerouted[0];
    assert!(!rest.is_empty() && rest.is_disjoint(&left), "{rest:?}");
    assert!(pair.under_way[0].is_empty());
}

/// The same while lanes are up: of a batch that goes in pieces some frames have left.
#[test]
fn a_session_that_ends_under_silent_lanes_hands_out_what_has_not_left_before() {
    let mut pair = Pair::with_lanes(LinkConfig::default(), 3);
    pair.run(millis(300));
    for wire in pair.wires.values_mut() {
        wire.bytes_per_ms = 100;
    }
    load(&mut pair, 60);
    pair.redials = false;
    for wire in pair.wires.values_mut() {
        wire.is_silent = true;
    }
    while pair.ends[0].is_usable() {
        pair.step(true);
    }
    pair.ends[0].evacuate(|frame| leaves(id_of(frame)));
    pair.step(true);
    let left = std::mem::take(&mut pair.rerouted[0]);
    let in_pieces = pair.ends[0].lanes.iter().filter_map(|lane| lane.split(Bulk));
    let leaves_in_pieces = |split: &SplitBatch| {
        let frames = split.batch().frames();
        FrameIter::new(&frames).map(Result::unwrap).any(|frame| leaves(id_of(&frame)))
    };
    assert!(in_pieces.into_iter().any(leaves_in_pieces), "none goes in pieces");
    // The peer restarts.
    pair.may_repeat = true;
    pair.ends[1] = VirtualLink::new(LinkConfig::default(), node(2), node(1));
    pair.incarnations[1] = Incarnation(2);
    pair.wires.clear();
    pair.connect(LaneId(0), Control, 1);
    pair.step(true);
    let rest = &pair.rerouted[0];
    assert!(!rest.is_empty() && rest.is_disjoint(&left), "{:?}", rest.intersection(&left));
    assert!(pair.under_way[0].is_empty());
}

/// All that a link without a lane has goes another way, or is handed out at the end of its session.
fn leave(pair: &mut Pair, ends_session: bool) {
    if ends_session {
        pair.run(millis(10_500));
    } else {
        pair.ends[0].evacuate(|_| true);
        pair.step(true);
    }
}

/// A frame that left behind a later one of its class and stream.
fn out_of_order(pair: &Pair, flows: &BTreeMap<u64, (TrafficClass, u64)>) -> Option<u64> {
    let mut last = BTreeMap::new();
    pair.left[0].iter().copied().find(|id| last.insert(flows[id], *id) > Some(*id))
}

/// Small batches share a buffer in flight, whatever streams they are of.
#[test]
fn what_leaves_keeps_the_order_of_each_stream() {
    for (seed, ends_session) in (0..100).flat_map(|seed| [(seed, false), (seed, true)]) {
        let mut random = Random(seed);
        let config = LinkConfig { in_flight_floor_bytes: 1 << 20, ..LinkConfig::default() };
        let mut pair = Pair::with_lanes(config, 3);
        pair.redials = false;
        let mut flows = BTreeMap::new();
        for class in [Bulk, Priority] {
            let key = pair.key_of(if class == Bulk { 2 } else { 1 });
            for _ in 0..30 {
                for _ in 0..=random.below(5) {
                    let flow = random.below(6);
                    let origin = if flow < 2 { Origin::Own } else { Origin::Foreign };
                    let len = usize::try_from(random.below(9000)).unwrap();
                    let id = pair.push(0, class, origin, flow, len).unwrap();
                    flows.insert(id, (class, flow));
                }
                while pair.ends[0].poll_transmit(pair.now, key).is_some() {}
            }
        }
        for key in pair.wires.keys().copied().collect::<Vec<_>>() {
            pair.cut(key, [Some(0), Some(0)]);
        }
        pair.step(true);
        leave(&mut pair, ends_session);
        assert_eq!(out_of_order(&pair, &flows), None, "seed {seed}");
        assert_eq!(pair.left[0].len(), flows.len());
    }
}

/// Of a stream that lanes have failed under there may be frames in flight over several.
#[test]
fn what_leaves_lanes_that_fail_one_after_the_other_keeps_the_order_of_each_stream() {
    for (seed, ends_session) in (0..100).flat_map(|seed| [(seed, false), (seed, true)]) {
        let mut random = Random(seed);
        let config = LinkConfig { in_flight_floor_bytes: 1 << 20, ..LinkConfig::default() };
        let mut pair = Pair::with_lanes(config, 5);
        pair.redials = false;
        for wire in pair.wires.values_mut() {
            (wire.bytes_per_ms, wire.delay) = (2000, millis(5 + random.below(40)));
        }
        let mut flows = BTreeMap::new();
        for lane in [2, 3, 4, 1, 0] {
            for _ in 0..random.below(60) {
                for class in [Bulk, Bulk, Priority] {
                    let flow = random.below(8);
                    let origin = if flow < 2 { Origin::Own } else { Origin::Foreign };
                    let len = usize::try_from(random.below(6000)).unwrap();
                    if let Ok(id) = pair.push(0, class, origin, flow, len) {
                        flows.insert(id, (class, flow));
                    }
                }
                pair.step(true);
            }
            let key = pair.key_of(lane);
            pair.cut(key, [Some(random.below(2)), Some(random.below(50))]);
            pair.step(true);
        }
        while pair.ends[0].is_up() {
            pair.step(true);
        }
        leave(&mut pair, ends_session);
        assert_eq!(out_of_order(&pair, &flows), None, "seed {seed}");
        assert!(!pair.left[0].is_empty(), "seed {seed}");
    }
}

/// Of striped streams one leaves as a whole, one in part, and one has no other way.
const ALL: u64 = 7;
const SOME: u64 = 8;
const NONE: u64 = 9;

fn stream_of(frame: &FrameRef<'_>) -> u64 {
    u64::from_le_bytes(*frame.body[8..].first_chunk().unwrap())
}

fn leaves_striped(frame: &FrameRef<'_>, from: u64) -> bool {
    assert_eq!(frame.header.kind, FrameKind::Record, "without its stamp");
    match stream_of(frame) {
        ALL => true,
        SOME => id_of(frame) >= from || id_of(frame).is_multiple_of(4),
        _ => false,
    }
}

fn load_striped(pair: &mut Pair, rounds: u64) {
    for round in 0..rounds {
        for stream in [ALL, SOME, NONE] {
            let origin = if stream == SOME { Origin::Foreign } else { Origin::Own };
            let _full = pair.push_striped(0, origin, stream, 3000 + 100 * round as usize % 900);
        }
        pair.step(true);
    }
}

/// Whichever way the lanes go and come back: what stays of striped streams arrives, once and soon, what
/// has left does not come, and the streams are striped again.
#[test]
fn nothing_of_a_striped_stream_waits_for_what_has_left() {
    let ways = [(false, 10), (false, 5000), (true, 0), (true, 2000)];
    for ((silent, back_ms), rounds) in
        ways.into_iter().flat_map(|way| (60..66).map(move |r| (way, r)))
    {
        let mut pair = Pair::with_lanes(LinkConfig::default(), 6);
        pair.run(millis(300));
        for wire in pair.wires.values_mut() {
            wire.bytes_per_ms = 2000;
        }
        pair.redials = false;
        load_striped(&mut pair, rounds);
        // What one lane held goes to others, and is behind what they have in flight.
        let key = pair.key_of(5);
        pair.cut(key, [Some(0), Some(0)]);
        assert_eq!(pair.ends[0].status().striped_streams, 3);
        let until = pair.now.saturating_add(millis(50));
        while pair.ends[1].status().reorder_bytes == 0 {
            assert!(pair.now < until, "nothing waits for what was lost");
            load_striped(&mut pair, 1);
        }
        let keys: Vec<LaneKey> = (0..5).map(|lane| pair.key_of(lane)).collect();
        for &key in &keys {
            if silent {
                pair.wires.get_mut(&key).unwrap().is_silent = true;
            } else {
                pair.cut(key, [Some(0), Some(1)]);
            }
        }
        while pair.ends[0].is_usable() {
            pair.step(true);
        }
        pair.may_reorder = true;
        // Of what waits of the second some stays, or only what was in flight.
        let front = pair.ends[0].striping.front().map(|batch| batch.lowest());
        let from = if rounds % 2 == 0 { u64::MAX } else { front.unwrap_or(u64::MAX) };
        pair.ends[0].evacuate(|frame| leaves_striped(frame, from));
        pair.step(true);
        assert!(pair.rerouted[0].len() > 20);
        let before: Vec<u64> = pair.under_way[0].keys().copied().collect();

        pair.run(millis(back_ms));
        if silent && back_ms == 0 {
            for key in &keys {
                pair.wires.get_mut(key).unwrap().is_silent = false;
            }
            pair.connect(LaneId(5), Bulk, 0);
        } else {
            assert!(!pair.ends[0].is_up());
            pair.wires.clear();
            let arrived = pair.arrived[1].clone();
            // All that was in flight goes over the one that has begun the channels anew.
            pair.connect(LaneId(2), Bulk, 1);
            pair.run(millis(50));
            for lane in [0, 1, 3, 5, 4] {
                pair.connect(LaneId(lane), class_of(lane), 1);
            }
            pair.settle(5);
            let mut came = pair.arrived[1].difference(&arrived);
            assert!(came.all(|id| !pair.rerouted[0].contains(id)), "{silent} {back_ms} {rounds}");
        }
        pair.settle(5);
        pair.run(millis(300));
        assert!(
            before.iter().all(|id| pair.arrived[1].contains(id)),
            "{silent} {back_ms} {rounds}"
        );
        assert_eq!(pair.ends[1].status().reorder_bytes, 0, "{silent} {back_ms} {rounds}");

        pair.may_reorder = false;
        let frames = |pair: &Pair| {
            let bulk = pair.ends[0].lanes().filter(|lane| lane.class == Bulk);
            bulk.map(|lane| lane.sent_frames).collect::<Vec<u64>>()
        };
        let sent = frames(&pair);
        load_striped(&mut pair, 200);
        let status = pair.ends[0].status();
        assert!((3..=STRIPE_CHANNELS).contains(&status.striped_streams), "{status:?}");
        let grown = frames(&pair).into_iter().zip(sent).all(|(now, then)| now > then + 10);
        assert!(grown, "over all lanes");
        pair.settle(5);
        assert_eq!(pair.violations, [], "{silent} {back_ms} {rounds}");
        let is_bad = |event: &LinkEvent| {
            matches!(event, LinkEvent::SessionEnded { .. } | LinkEvent::StripeGap { .. })
        };
        assert!(!(0..2).any(|end| pair.saw(end, is_bad)));
    }
}

/// All that is in flight over the lanes that are up is lost, and so are they.
fn lose_all(pair: &mut Pair) {
    for key in pair.wires.keys().copied().collect::<Vec<_>>() {
        pair.cut(key, [Some(0), Some(0)]);
    }
    pair.step(true);
    assert!(pair.ends.iter().all(|end| !end.is_up()));
}

/// Brings up all lanes of a link that has none; nothing is wrong with what comes over them.
fn reconnect(pair: &mut Pair) {
    for lane in 0..6 {
        pair.connect(LaneId(lane), class_of(lane), 1);
    }
    pair.settle(5);
    pair.run(millis(300));
    assert_eq!(pair.violations, []);
    assert_eq!(pair.ends[1].status().reorder_bytes, 0);
}

/// A striped stream begins anew on a link without a lane: the first frame of its channel, without a
/// record, waits for one.
fn begun_anew() -> Pair {
    let mut pair = Pair::with_lanes(LinkConfig::default(), 6);
    pair.redials = false;
    pair.may_reorder = true;
    load_striped(&mut pair, 5);
    lose_all(&mut pair);
    pair.ends[0].evacuate(|frame| leaves_striped(frame, 0));
    pair.step(true);
    assert!(!pair.rerouted[0].is_empty());
    pair
}

#[test]
fn a_channel_that_begins_anew_twice_leaves_no_frame_without_a_record() {
    let mut pair = begun_anew();
    pair.connect(LaneId(2), Bulk, 0);
    load_striped(&mut pair, 1);
    lose_all(&mut pair);
    pair.ends[0].evacuate(|frame| leaves_striped(frame, 0));
    pair.step(true);
    reconnect(&mut pair);
    load_striped(&mut pair, 20);
    pair.settle(5);
    assert_eq!(pair.violations, []);
}

#[test]
fn a_session_that_ends_after_a_channel_began_anew_hands_out_records_alone() {
    let mut pair = begun_anew();
    let (before, left) = (pair.under_way[0].len(), pair.left[0].len());
    assert!(before > 0, "what has no other way");
    while pair.ends[0].alone_since.is_some() {
        pair.step(true);
    }
    let frames = pair.events[0].iter().find_map(|event| match event {
        LinkEvent::SessionEnded { frames, .. } => Some(*frames),
        _ => None,
    });
    assert_eq!(frames, Some(u64::try_from(before).unwrap()));
    assert_eq!(pair.left[0].len(), left + before);
}

#[test]
fn a_channel_that_begins_anew_twice_on_silent_lanes_leaves_no_frame_without_a_record() {
    let mut pair = Pair::with_lanes(LinkConfig::default(), 6);
    pair.run(millis(300));
    pair.redials = false;
    pair.may_reorder = true;
    load_striped(&mut pair, 5);
    for wire in pair.wires.values_mut() {
        wire.is_silent = true;
    }
    while pair.ends[0].is_usable() {
        pair.step(true);
    }
    for other in [ALL, SOME] {
        // There are other routes, a second time.
        load_striped(&mut pair, 2);
        let takes = |frame: &FrameRef<'_>| leaves_striped(frame, 0) && stream_of(frame) == other;
        pair.ends[0].evacuate(takes);
    }
    load_striped(&mut pair, 2);
    pair.ends[0].evacuate(|frame| leaves_striped(frame, 0));
    for wire in pair.wires.values_mut() {
        wire.is_silent = false;
    }
    pair.settle(5);
    pair.run(millis(300));
    assert_eq!(pair.violations, []);
}
