//! Records of priority beside bulk: pieces of both, what may be in flight, older peers.

use std::time::Duration;

use hawser_wire::{BatchWriter, FrameKind, LaneFragment, LaneId, LinkSequence, TrafficClass};

use super::pair::{Pair, STEP, class_of};
use crate::*;
use TrafficClass::{Bulk, Control, Priority};

/// One lane of 10 Mbit/s for all classes, whose rate is known.
fn slow_lane() -> Pair {
    let mut pair = Pair::new(LinkConfig::default());
    pair.bytes_per_ms = 1250;
    pair.connect(LaneId(0), Control, 0);
    pair.run(Duration::from_millis(200));
    pair
}

fn own(stream: u64) -> Flow {
    Flow { tenant: stream % 3, stream }
}

/// Gives an end whatever it takes of its own streams.
fn fill(pair: &mut Pair, class: TrafficClass, stream: u64, len: usize) {
    while pair.ends[0].has_room(class, own(stream)) {
        pair.push(0, class, Origin::Own, stream, len).unwrap();
    }
}

#[test]
fn pieces_of_priority_pass_between_those_of_bulk_and_each_batch_is_whole() {
    let mut pair = slow_lane();
    let mut worst = Duration::ZERO;
    for round in 0..5000 {
        fill(&mut pair, Bulk, 1, 60_000);
        if round % 250 == 0 {
            let sent = pair.now;
            let id = pair.push(0, Priority, Origin::Own, 2, 20_000).unwrap();
            while pair.under_way[0].contains_key(&id) {
                fill(&mut pair, Bulk, 1, 60_000);
                pair.step(true);
            }
            worst = worst.max(pair.now.saturating_since(sent));
        }
        pair.step(true);
    }
    // By itself it takes 16 ms; a whole record of bulk takes 48.
    assert!(worst < Duration::from_millis(60), "{worst:?}");
    assert!(pair.assembled > 50, "{}", pair.assembled);
    pair.settle(10);
    assert_eq!(pair.violations, []);
}

#[test]
fn a_lane_that_is_lost_amid_pieces_of_both_classes_loses_none_of_them() {
    for ms in 0..120 {
        let mut pair = Pair::new(LinkConfig::default());
        pair.bytes_per_ms = 1250;
        pair.connect(LaneId(0), Control, 0);
        pair.connect(LaneId(2), Bulk, 0);
        pair.run(Duration::from_millis(300));
        for stream in 0..3 {
            pair.push(0, Bulk, Origin::Own, stream, 60_000).unwrap();
            pair.push(0, Priority, Origin::Own, 10 + stream, 40_000).unwrap();
        }
        pair.run(STEP * ms);
        let in_pieces = [Priority, Bulk].map(|class| {
            pair.ends[0].lanes.iter().filter(|lane| lane.split(class).is_some()).count()
        });
        let key = pair.key_of(2);
        pair.cut(key, [Some(u64::from(ms % 7)), Some(u64::from(ms % 3))]);
        pair.settle(10);
        assert_eq!(pair.violations, [], "{in_pieces:?} after {ms} ms");
    }
}

#[test]
fn of_a_link_that_priority_fills_bulk_keeps_a_part() {
    for lanes in [1, 3] {
        let mut pair = Pair::new(LinkConfig::default());
        pair.bytes_per_ms = 1250;
        for lane in 0..lanes {
            pair.connect(LaneId(lane), class_of(lane), 0);
        }
        pair.run(Duration::from_millis(200));
        for _ in 0..10_000 {
            fill(&mut pair, Bulk, 1, 10_000);
            fill(&mut pair, Priority, 2, 10_000);
            pair.step(true);
        }
        let all = pair.order[1].len();
        let is_priority = |id: &&u64| pair.priority[0].contains_key(id);
        let priority = pair.order[1].iter().filter(is_priority).count();
        let bulk = all - priority;
        if lanes == 1 {
            assert!(priority * 100 > all * 60 && bulk * 100 > all * 10, "{priority} {bulk}");
        } else {
            // Their lanes share no bottleneck here: neither takes from the other.
            assert!(bulk * 100 > all * 10, "{priority} {bulk}");
        }
        pair.settle(20);
    }
}

#[test]
fn priority_that_has_no_credit_leaves_the_link_to_bulk() {
    let carried = |has_credit: bool| {
        let mut pair = Pair::new(LinkConfig::default());
        pair.bytes_per_ms = 1250;
        for lane in 0..3 {
            pair.connect(LaneId(lane), class_of(lane), 0);
        }
        pair.run(Duration::from_millis(200));
        if !has_credit {
            let lane = pair.ends[0].lanes.iter_mut().find(|lane| lane.class == Priority).unwrap();
            lane.credit.spend(lane.credit.left_bytes());
            for stream in 2..6 {
                pair.push(0, Priority, Origin::Own, stream, 60_000).unwrap();
            }
        }
        let before = pair.order[1].len();
        for _ in 0..2_000 {
            fill(&mut pair, Bulk, 1, 5_000);
            pair.step(true);
        }
        assert_eq!(pair.ends[0].has_priority(), !has_credit);
        pair.order[1].len() - before
    };
    let (alone, beside) = (carried(true), carried(false));
    assert!(beside * 100 > alone * 95, "{beside} beside priority that waits, {alone} alone");
}

#[test]
fn an_older_peer_gets_records_of_priority_as_bulk() {
    let mut pair = Pair::new(LinkConfig::default());
    pair.takes_priority = false;
    for lane in [0, 1, 2] {
        pair.connect(LaneId(lane), class_of(lane), 0);
    }
    pair.run(Duration::from_millis(50));
    let before: Vec<u64> = pair.ends[0].lanes().map(|lane| lane.sent_frames).collect();
    pair.push(0, Priority, Origin::Own, 5, 1000).unwrap();
    pair.settle(1);
    let after: Vec<u64> = pair.ends[0].lanes().map(|lane| lane.sent_frames).collect();
    let sent: Vec<u64> = after.iter().zip(&before).map(|(after, before)| after - before).collect();
    assert!(sent[0] + sent[1] == 0 && sent[2] > 0, "{sent:?}");
    assert!(pair.ends[0].has_room(Priority, own(5)));
}

#[test]
fn foreign_priority_is_fair_marked_and_refused_as_bulk_is() {
    let config =
        LinkConfig { data_bytes_max: 1 << 20, mark_bytes: 100_000, ..LinkConfig::default() };
    let mut pair = Pair::with_lanes(config, 3);
    let refusal = loop {
        if let Err(refusal) = pair.push(0, Priority, Origin::Foreign, 4, 9972) {
            break refusal;
        }
    };
    assert_eq!((refusal.limit, refusal.class), (RefusedLimit::Stream, Priority));
    assert!(refusal.queued_bytes >= (1 << 20) / 3 - 20_000, "{refusal}");
    let queued = pair.ends[0].queued_bytes(Priority, Origin::Foreign);
    // Another one has its place and its turn, and bulk its own bound.
    let other = pair.push(0, Priority, Origin::Foreign, 5, 100).unwrap();
    pair.push(0, Bulk, Origin::Foreign, 4, 9972).unwrap();
    assert_eq!(pair.ends[0].queued_bytes(Bulk, Origin::Foreign), 10_000);
    pair.settle(5);
    let place = pair.order[1].iter().position(|&id| id == other).unwrap();
    assert!(place < pair.order[1].len() / 2, "{place} of {}", pair.order[1].len());
    let unmarked = u64::try_from(100_000 / 10_000 + 1).unwrap();
    assert_eq!(pair.marked, u64::try_from(queued / 10_000).unwrap() - unmarked);
}

#[test]
fn priority_and_no_control_comes_in_pieces() {
    let mut pair = slow_lane();
    let key = pair.key_of(0);
    let piece = |class| {
        let fragment = LaneFragment { first: true, last: false, piece: b"beginning" };
        let (mut body, mut out) = (Vec::new(), Vec::new());
        fragment.encode(&mut body);
        let kind = FrameKind::LaneFragment;
        BatchWriter::new(&mut out).frame(kind, class, LinkSequence(0), &[&body]).unwrap();
        out
    };
    pair.handle_message(1, key, &piece(Priority));
    assert_eq!(pair.violations, []);
    pair.handle_message(1, key, &piece(Control));
    let refused = LinkViolation::FrameClass { lane: LaneId(0), class: Control };
    assert_eq!(pair.violations, [refused]);
}
