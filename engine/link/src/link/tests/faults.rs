//! Lanes that are cut, silenced, and all lost at once; peers that begin a new life.

use std::collections::BTreeMap;
use std::time::Duration;

use hawser_wire::{
    BatchWriter, FrameIter, FrameKind, Incarnation, LaneId, LifeNonce, LinkMode, LinkSequence,
    TrafficClass,
};

use super::pair::{Pair, Random, class_of, node};
use crate::*;
use TrafficClass::{Bulk, Control, Priority};

fn millis(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Fills every lane with frames in both directions.
fn load(pair: &mut Pair, rounds: u64) {
    for round in 0..rounds {
        for end in 0..2 {
            pair.push(end, Control, Origin::Own, 0, 60).unwrap();
            pair.push(end, Priority, Origin::Own, 0, 800).unwrap();
            let _full = pair.push(end, Bulk, Origin::Own, round % 7, 40_000);
        }
        pair.step(true);
    }
}

#[test]
fn each_lane_may_be_cut_at_any_moment_and_the_rest_goes_over_the_others() {
    for lane in 0..4 {
        for tell in [[Some(0), Some(0)], [Some(0), None], [None, Some(30)], [Some(90), Some(1)]] {
            let mut pair = Pair::with_lanes(LinkConfig::default(), 4);
            load(&mut pair, 40);
            let (key, cut_at) = (pair.key_of(lane), pair.now);
            pair.cut(key, tell);
            load(&mut pair, 40);
            pair.settle(5);
            pair.run(millis(400));
            assert!(pair.now.saturating_since(cut_at) < Duration::from_secs(2));
            assert_eq!(pair.ends[0].lanes().count(), 4, "opened again");
            assert_eq!(pair.ends[0].status().unsettled_frames, 0);
            assert_eq!(pair.violations, []);
            for end in 0..2 {
                let is_down = |event: &LinkEvent| matches!(event, LinkEvent::LaneDown { .. });
                assert!(pair.saw(end, is_down), "{lane} {tell:?} {end} {:#?}", pair.events);
            }
            assert!(pair.ends.iter().all(|end| end.departed.is_empty()), "counts are settled");
        }
    }
}

#[test]
fn control_is_promoted_to_another_lane_and_comes_home() {
    let mut pair = Pair::with_lanes(LinkConfig::default(), 3);
    let key = pair.key_of(0);
    pair.cut(key, [Some(0), Some(0)]);
    pair.push(0, Control, Origin::Own, 0, 10).unwrap();
    pair.settle(1);
    let promoted = LinkEvent::Promoted { class: Control, from: LaneId(0), to: LaneId(1) };
    assert!(pair.saw(0, |event| *event == promoted), "{:#?}", pair.events[0]);
    pair.run(millis(300));
    let home = pair.ends[0].lanes().find(|lane| lane.id.lane == LaneId(0)).unwrap();
    assert!(home.carries.contains(Control) && !home.carries.contains(Bulk));
}

#[test]
fn a_black_hole_is_hedged_after_three_ticks_and_dead_after_ten() {
    for (tick, bound) in [(100, 400), (10, 60)] {
        // Whole batches are in flight, though the rate of the link is not known yet.
        let in_flight_floor_bytes = 64 << 10;
        let config =
            LinkConfig { tick: millis(tick), in_flight_floor_bytes, ..LinkConfig::default() };
        let mut pair = Pair::with_lanes(config, 4);
        pair.run(millis(300));
        let key = pair.key_of(2);
        pair.wires.get_mut(&key).unwrap().is_silent = true;
        let silent_since = pair.now;
        let ids: Vec<u64> =
            (0..40).map(|stream| pair.push(0, Bulk, Origin::Own, stream, 1000).unwrap()).collect();
        while ids.iter().any(|id| pair.under_way[0].contains_key(id)) {
            pair.step(true);
            assert!(pair.now.saturating_since(silent_since) <= millis(bound), "{tick}");
        }
        assert!(pair.saw(0, |event| matches!(event, LinkEvent::Hedged { .. })));
        assert!(!pair.saw(0, |event| matches!(event, LinkEvent::LaneDown { .. })));
        while !pair.saw(0, |event| matches!(event, LinkEvent::LaneDown { .. })) {
            pair.step(true);
            assert!(pair.now.saturating_since(silent_since) <= millis(tick * 11), "{tick}");
        }
        pair.run(millis(1000));
        assert!(pair.ends.iter().all(|end| end.lanes().count() == 4), "opened again");
        assert!(pair.ends.iter().all(|end| end.departed.is_empty()));
    }
}

#[test]
fn a_batch_that_a_silent_lane_sends_in_pieces_goes_over_another_one_as_soon_as_that_is_quiet() {
    let mut pair = Pair::with_lanes(LinkConfig::default(), 3);
    pair.run(millis(300));
    let key = pair.key_of(2);
    pair.wires.get_mut(&key).unwrap().is_silent = true;
    let silent_since = pair.now;
    // More than may be in flight before the rate of the link is known.
    let len = 4 * usize::try_from(LinkConfig::default().in_flight_floor_bytes).unwrap();
    let id = pair.push(0, Bulk, Origin::Own, 1, len).unwrap();
    while pair.under_way[0].contains_key(&id) {
        pair.step(true);
        assert!(pair.now.saturating_since(silent_since) < millis(400));
    }
    let hedged = |event: &LinkEvent| {
        matches!(event, LinkEvent::Hedged { from: LaneId(2), to: LaneId(1), frames: 1, .. })
    };
    assert!(pair.saw(0, hedged), "{:#?}", pair.events[0]);
    assert!(!pair.saw(0, |event| matches!(event, LinkEvent::LaneDown { .. })));
}

#[test]
fn a_lane_that_was_only_quiet_comes_back_and_its_late_frames_are_dropped_as_duplicates() {
    let config = LinkConfig { in_flight_floor_bytes: 64 << 10, ..LinkConfig::default() };
    let mut pair = Pair::with_lanes(config, 3);
    pair.run(millis(300));
    let key = pair.key_of(2);
    for _ in 0..10 {
        pair.push(0, Bulk, Origin::Own, 1, 1000).unwrap();
    }
    pair.step(true);
    pair.wires.get_mut(&key).unwrap().is_silent = true;
    pair.run(millis(600));
    assert!(pair.under_way[0].is_empty(), "hedged");
    pair.wires.get_mut(&key).unwrap().is_silent = false;
    pair.run(millis(300));
    assert!(pair.saw(0, |event| matches!(event, LinkEvent::Heard { .. })));
    let lane = pair.ends[0].lanes().find(|lane| lane.key == key).unwrap();
    assert!(lane.carries.contains(Bulk) && lane.unacked_frames == 0, "{lane:?}");
    assert_eq!(pair.ends[1].lanes().find(|lane| lane.key == key).unwrap().received_frames, 10);
}

#[test]
fn missed_heartbeats_are_counted_over_all_lanes() {
    let mut pair = Pair::with_lanes(LinkConfig::default(), 3);
    pair.run(Duration::from_secs(2));
    let before = pair.ends[0].status().heartbeats;
    assert!((50..=60).contains(&before.ticks), "three lanes, ten ticks a second: {before:?}");
    assert_eq!(before.missed, 0);
    let key = pair.key_of(2);
    pair.wires.get_mut(&key).unwrap().is_silent = true;
    pair.run(millis(500));
    let after = pair.ends[0].status().heartbeats;
    assert_eq!(after.ticks - before.ticks, 15);
    assert!((3..=5).contains(&after.missed), "of one lane alone: {after:?}");
}

#[test]
fn an_own_stall_is_not_the_peers_silence() {
    let mut pair = Pair::with_lanes(LinkConfig::default(), 2);
    for wire in pair.wires.values_mut() {
        wire.is_silent = true;
    }
    for _ in 0..3000 {
        pair.step(false);
    }
    assert!(!pair.saw(0, |event| matches!(event, LinkEvent::Quiet { .. })));
}

#[test]
fn all_lanes_lost_within_the_session_resume_from_the_counts() {
    for lost_ms in [10, 3000, 9000] {
        let mut pair = Pair::with_lanes(LinkConfig::default(), 3);
        load(&mut pair, 50);
        pair.redials = false;
        for lane in 0..3 {
            let key = pair.key_of(lane);
            pair.cut(key, [Some(u64::from(lane)), Some(3)]);
        }
        pair.run(millis(lost_ms));
        assert!(!pair.ends[0].is_up());
        assert_eq!(pair.push(0, Bulk, Origin::Own, 1, 10).unwrap_err().limit, RefusedLimit::NoLane);
        for lane in [2, 0, 1] {
            pair.connect(LaneId(lane), class_of(lane), 1);
        }
        pair.settle(2);
        assert!(pair.rerouted.iter().all(|ids| ids.is_empty()));
        assert!(!pair.saw(0, |event| matches!(event, LinkEvent::SessionEnded { .. })));
    }
}

#[test]
fn ten_seconds_without_a_lane_end_the_session_and_nothing_is_forgotten() {
    let mut pair = Pair::with_lanes(LinkConfig::default(), 2);
    load(&mut pair, 50);
    pair.redials = false;
    pair.may_repeat = true;
    for lane in 0..2 {
        let key = pair.key_of(lane);
        pair.cut(key, [Some(0), Some(0)]);
    }
    pair.run(millis(10_500));
    assert!(pair.under_way.iter().all(|ids| ids.is_empty()), "all is handed out");
    assert!(pair.rerouted.iter().all(|ids| !ids.is_empty()));
    pair.connect(LaneId(0), Control, 0);
    load(&mut pair, 20);
    pair.settle(5);
    assert_eq!(pair.violations, []);
}

/// What was in flight is kept until then, and what must not pass it waits.
#[test]
fn a_peer_that_is_heard_and_never_says_a_last_count_ends_the_session() {
    let mut pair = Pair::with_lanes(LinkConfig::default(), 3);
    load(&mut pair, 50);
    pair.step(true);
    let (lost, end) = (pair.key_of(2), &mut pair.ends[0]);
    end.handle_lane_down(pair.now, lost, "lost");
    let begun = pair.now;
    let over = loop {
        let (now, _) = end.poll_timeout().unwrap();
        end.handle_timeout(now, true);
        // It answers heartbeats, and says nothing else.
        let mut beats = Vec::new();
        while let Some(key) = end.poll_wanted() {
            while let Some(Transmit { frames, .. }) = end.poll_transmit(now, key) {
                let bytes = frames.concat();
                let sent = FrameIter::new(&bytes).map(Result::unwrap);
                let pings = sent.filter(|frame| frame.header.kind == FrameKind::Ping);
                beats.extend(pings.map(|frame| (key, frame.body.to_vec())));
            }
        }
        for (key, beat) in beats {
            let mut pong = Vec::new();
            let mut writer = BatchWriter::new(&mut pong);
            writer.frame(FrameKind::Pong, Control, LinkSequence(0), &[&beat]).unwrap();
            end.handle_bytes(key);
            end.handle_frame(now, key, &FrameIter::new(&pong).next().unwrap().unwrap()).unwrap();
        }
        let mut events = std::iter::from_fn(|| end.poll_event());
        let ended = events.find_map(|event| match event {
            LinkEvent::SessionEnded { reason, .. } => Some(reason),
            _ => None,
        });
        let wanted = events.filter(|event| matches!(event, LinkEvent::WantLane { .. })).count();
        if let Some(reason) = ended {
            assert_eq!(wanted, 2, "lanes that were closed for it");
            break (reason, now.saturating_since(begun));
        }
    };
    assert!(matches!(over.0, SessionEnd::Unsettled { id } if id.lane == LaneId(2)), "{over:?}");
    assert!((millis(9_900)..millis(10_500)).contains(&over.1), "{over:?}");
    assert!(end.departed.is_empty() && std::iter::from_fn(|| end.poll_rerouted()).count() > 0);
}

#[test]
fn a_session_that_only_one_end_has_ended_leaves_nothing_in_doubt() {
    let mut pair = Pair::with_lanes(LinkConfig::default(), 1);
    load(&mut pair, 50);
    pair.redials = false;
    pair.may_repeat = true;
    let key = pair.key_of(0);
    // One end learns of it a second after the other.
    pair.cut(key, [Some(0), Some(900)]);
    pair.run(millis(10_500));
    assert!(pair.saw(0, |event| matches!(event, LinkEvent::SessionEnded { .. })));
    assert!(!pair.saw(1, |event| matches!(event, LinkEvent::SessionEnded { .. })));
    pair.connect(LaneId(0), Control, 0);
    load(&mut pair, 20);
    pair.settle(5);
    assert_eq!(pair.violations, []);
    assert!(pair.ends.iter().all(|end| end.departed.is_empty()));
}

#[test]
fn another_life_of_the_peer_ends_the_session_at_once() {
    another_life(|pair| pair.incarnations[1] = Incarnation(2));
    // As after its disk was restored from a copy.
    another_life(|pair| pair.lives[1] = Some(LifeNonce(7)));
}

fn another_life(begin: impl FnOnce(&mut Pair)) {
    let mut pair = Pair::with_lanes(LinkConfig::default(), 3);
    load(&mut pair, 50);
    pair.redials = false;
    pair.may_repeat = true;
    // The peer restarts: what it had is gone, its connections with it.
    pair.ends[1] = VirtualLink::new(LinkConfig::default(), node(2), node(1));
    begin(&mut pair);
    pair.under_way[1].clear();
    pair.wires.clear();
    pair.connect(LaneId(0), Control, 1);
    pair.step(true);
    assert!(pair.saw(0, |event| matches!(
        event,
        LinkEvent::SessionEnded { reason: SessionEnd::OtherLife { .. }, .. }
    )));
    assert!(pair.under_way[0].is_empty() && !pair.rerouted[0].is_empty());
    load(&mut pair, 20);
    pair.settle(5);
    assert_eq!(pair.violations, []);
}

#[test]
fn connections_that_cross_end_in_one_and_nothing_is_lost() {
    let mut pair = Pair::with_lanes(LinkConfig::default(), 3);
    load(&mut pair, 30);
    for dialler in [1, 0, 0, 1] {
        pair.connect(LaneId(2), Bulk, dialler);
        load(&mut pair, 5);
    }
    pair.settle(5);
    pair.run(millis(200));
    let keys = |end: usize| -> Vec<LaneKey> { pair.ends[end].lanes().map(|l| l.key).collect() };
    assert_eq!(keys(0).len(), 3);
    assert!(keys(0).iter().all(|key| keys(1).contains(key)));
}

/// Everything at once, by a seed.
fn storm(seed: u64) {
    let mut random = Random(seed);
    let lanes = 1 + random.below(4) as u16;
    let mut pair = Pair::with_lanes(LinkConfig::default(), lanes);
    pair.bytes_per_ms = [1000, 20_000, 200_000][random.below(3) as usize];
    let mut silent: Vec<(u64, LaneKey)> = Vec::new();
    for round in 0..4000_u64 {
        for end in 0..2 {
            for _ in 0..random.below(3) {
                let class = TrafficClass::ALL[random.below(3) as usize];
                let origin = [Origin::Own, Origin::Foreign][random.below(2) as usize];
                let len = [10, 300, 5000, 60_000][random.below(4) as usize];
                let _refused = pair.push(end, class, origin, random.below(20), len);
            }
        }
        let keys: Vec<LaneKey> = pair.wires.keys().copied().collect();
        if random.below(150) == 0 && !keys.is_empty() {
            let key = keys[random.below(keys.len() as u64) as usize];
            let told = |random: &mut Random| (random.below(3) > 0).then(|| random.below(200));
            match random.below(5) {
                0 | 1 => {
                    let tell = [told(&mut random), told(&mut random)];
                    pair.cut(key, tell);
                }
                2 => {
                    pair.wires.get_mut(&key).unwrap().is_silent = true;
                    silent.push((round + random.below(1500), key));
                }
                3 => {
                    let mode = [LinkMode::Separate, LinkMode::Collapsed][random.below(2) as usize];
                    pair.ends[random.below(2) as usize].propose_mode(mode);
                }
                _ => {
                    let lane = random.below(u64::from(lanes)) as u16;
                    pair.connect(LaneId(lane), class_of(lane), random.below(2) as usize);
                }
            }
        }
        for (_, key) in silent.extract_if(.., |(until, _)| *until <= round) {
            if let Some(wire) = pair.wires.get_mut(&key) {
                wire.is_silent = false;
            }
        }
        pair.step(true);
    }
    for wire in pair.wires.values_mut() {
        wire.bytes_per_ms = 200_000;
    }
    pair.bytes_per_ms = 200_000;
    pair.settle(60);
    pair.run(millis(3000));
    assert_eq!(pair.violations, []);
    assert!(pair.rerouted.iter().all(|ids| ids.is_empty()));
    for end in &pair.ends {
        assert!(end.lanes().all(|lane| lane.unacked_frames == 0 && lane.unacked_bytes == 0));
        assert_eq!(end.status().unsettled_frames, 0, "{:#?} {:?}", end.departed, pair.events);
        assert!(end.departed.is_empty());
    }
}

#[test]
#[expect(clippy::print_stdout, reason = "a failure shows its seed")]
fn nothing_is_lost_or_comes_twice_in_a_storm_of_faults() {
    for seed in 0..24 {
        println!("seed {seed}");
        storm(seed);
    }
}

#[test]
fn sessions_that_end_at_one_end_or_both_lose_no_frame_from_sight() {
    for seed in 100..106 {
        let mut random = Random(seed);
        let mut pair = Pair::with_lanes(LinkConfig::default(), 2);
        pair.redials = false;
        pair.may_repeat = true;
        for _ in 0..4 {
            load(&mut pair, 20 + random.below(30));
            for lane in pair.ends[0].lanes().map(|lane| lane.key).collect::<Vec<_>>() {
                pair.cut(lane, [Some(random.below(300)), Some(random.below(300))]);
            }
            pair.run(millis(9900 + random.below(500)));
            for lane in 0..2 {
                pair.connect(LaneId(lane), class_of(lane), random.below(2) as usize);
            }
            load(&mut pair, 20);
            pair.settle(5);
        }
        pair.run(millis(500));
        assert_eq!(pair.violations, [], "{seed}");
        assert!(pair.ends.iter().all(|end| end.departed.is_empty()), "{seed}");
        assert!(pair.ends.iter().all(|end| end.lanes().all(|lane| lane.unacked_bytes == 0)));
    }
}

#[test]
fn a_link_whose_only_lane_is_silent_puts_no_more_in_flight_than_before() {
    let mut pair = Pair::with_lanes(LinkConfig::default(), 1);
    for _ in 0..200 {
        pair.push(0, Bulk, Origin::Own, 1, 10_000).unwrap();
    }
    let key = pair.key_of(0);
    pair.wires.get_mut(&key).unwrap().is_silent = true;
    pair.run(Duration::from_millis(500));
    let end = &pair.ends[0];
    assert!(pair.saw(0, |event| matches!(event, LinkEvent::Quiet { .. })));
    let in_flight = end.lanes[0].unacked.bulk_bytes();
    assert!(in_flight > 0);
    assert!(in_flight <= end.in_flight_bound, "{in_flight} of {}", end.in_flight_bound);
    pair.wires.get_mut(&key).unwrap().is_silent = false;
    pair.settle(20);
}

#[test]
fn what_was_in_flight_over_a_lost_lane_keeps_the_order_of_each_stream() {
    for seed in 0..300 {
        let mut random = Random(seed);
        let config = LinkConfig { in_flight_floor_bytes: 1 << 20, ..LinkConfig::default() };
        let mut pair = Pair::with_lanes(config, 3);
        let mut flows = BTreeMap::new();
        let key = pair.key_of(2);
        for _ in 0..30 {
            for _ in 0..=random.below(5) {
                let flow = random.below(6);
                let origin = if flow < 2 { Origin::Own } else { Origin::Foreign };
                let len = usize::try_from(random.below(9000)).unwrap();
                flows.insert(pair.push(0, Bulk, origin, flow, len).unwrap(), flow);
            }
            while pair.ends[0].poll_transmit(pair.now, key).is_some() {}
        }
        pair.redials = false;
        pair.cut(key, [Some(0), Some(0)]);
        pair.settle(5);
        let mut last = BTreeMap::new();
        for id in &pair.order[1] {
            let before = last.insert(flows[id], id);
            assert!(before < Some(id), "{id} after {before:?}, seed {seed}");
        }
        assert_eq!(pair.order[1].len(), flows.len());
    }
}
