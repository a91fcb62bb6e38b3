//! Plain streams that change their lane.

use std::time::Duration;

use hawser_wire::{CloseReason, LaneId, LinkMode, TrafficClass};

use super::pair::{Pair, Random, class_of};
use crate::*;
use TrafficClass::Bulk;

const fn flow(stream: u64) -> Flow {
    Flow { tenant: stream % 3, stream }
}

/// A lane as slow and as far as chance has it.
fn connect(pair: &mut Pair, random: &mut Random, lane: u16) {
    pair.delay = Duration::from_millis(1 + random.below(20));
    pair.bytes_per_ms = [500, 5000, 100_000][usize::try_from(random.below(3)).unwrap()];
    pair.connect(LaneId(lane), class_of(lane), 0);
}

/// Something with lanes that is no fault; whether anything was done.
fn change_lanes(pair: &mut Pair, random: &mut Random, ends: &[u64]) -> bool {
    let lane = u16::try_from(random.below(6)).unwrap();
    let end = usize::try_from(ends[usize::try_from(random.below(2)).unwrap()]).unwrap();
    let open = pair.ends[end].lanes().find(|status| status.id.lane == LaneId(lane));
    let carrying = pair.ends[end].lanes().filter(|lane| !lane.carries.is_empty()).count();
    let is_free = !pair.ends.iter().any(|end| end.lanes().any(|l| l.id.lane == LaneId(lane)));
    match (open.map(|status| status.key), random.below(3)) {
        (None, 0 | 1) if is_free => connect(pair, random, lane),
        (Some(key), 0 | 1) if carrying > 1 => {
            let now = pair.now;
            pair.ends[end].close_lane(now, key, CloseReason::NotNeeded);
        }
        (_, 2) => {
            let mode = if random.below(3) == 0 { LinkMode::Collapsed } else { LinkMode::Separate };
            pair.ends[end].propose_mode(mode);
        }
        _ => return false,
    }
    true
}

/// Lanes come and are closed, and modes change, while own and foreign streams send both ways.
fn run(seed: u64) -> u64 {
    let mut random = Random(seed);
    let mut pair = Pair::new(LinkConfig::default());
    pair.redials = false;
    connect(&mut pair, &mut random, 0);
    let mut changes = 0;
    for _ in 0..4000 {
        for _ in 0..random.below(3) {
            let (stream, len) = (1 + random.below(12), 100 + random.below(1500));
            let (end, len) = (usize::from(random.below(3) == 0), usize::try_from(len).unwrap());
            let origin = if stream > 6 { Origin::Foreign } else { Origin::Own };
            if origin == Origin::Foreign || pair.ends[end].has_room(Bulk, flow(stream)) {
                let _full = pair.push(end, Bulk, origin, stream, len);
            }
        }
        if random.below(60) == 0 && change_lanes(&mut pair, &mut random, &[0, 1]) {
            changes += 1;
        }
        pair.step(true);
    }
    pair.settle(120);
    assert_eq!(pair.reordered, [0, 0], "seed {seed}");
    assert_eq!(pair.violations, [], "seed {seed}");
    assert!(pair.ends.iter().all(|end| !end.flows.is_moving()), "seed {seed}");
    changes
}

#[test]
fn streams_keep_their_order_while_lanes_come_and_go_and_none_fails() {
    let changes: u64 = (0..16).map(run).sum();
    assert!(changes > 400, "{changes}");
}

/// Bytes' worth of frames that came to the far end in each of `ms` milliseconds, from a stream that always
/// has more.
fn saturate(pair: &mut Pair, stream: u64, ms: usize) -> Vec<usize> {
    let mut came = Vec::new();
    for _ in 0..ms {
        while pair.ends[0].has_room(Bulk, flow(stream)) {
            pair.push(0, Bulk, Origin::Own, stream, 1000).unwrap();
        }
        let before = pair.arrived[1].len();
        pair.step(true);
        came.push(pair.arrived[1].len() - before);
    }
    came
}

#[test]
fn a_stream_without_pauses_moves_within_two_round_trips() {
    let mut pair = Pair::new(LinkConfig::default());
    (pair.delay, pair.bytes_per_ms) = (Duration::from_millis(10), 5000);
    for lane in 0..3 {
        pair.connect(LaneId(lane), class_of(lane), 0);
    }
    // The stream that the next lane will take over.
    let probe = Pair::with_lanes(LinkConfig::default(), 4);
    let added = probe.ends[0].position(probe.key_of(3));
    let stream = (0..).find(|&stream| probe.lane_of(0, stream) == added).unwrap();
    let before: usize = saturate(&mut pair, stream, 2000)[1000..].iter().sum();
    let lane = pair.connect(LaneId(3), class_of(3), 0);
    let came = saturate(&mut pair, stream, 1000);
    let sent = pair.ends[0].lanes().find(|status| status.key == lane).unwrap().sent_frames;
    assert!(sent > 1000, "the stream moved: {sent}");
    let pauses = came.split(|&frames| frames > 0).map(<[usize]>::len);
    let pause_ms = pauses.max().unwrap();
    assert!((15..=40).contains(&pause_ms), "a round trip is 20 ms, the pause was {pause_ms}");
    let after: usize = came.iter().sum();
    assert!(after * 100 >= before * 94, "{after} frames in the second, {before} before");
    assert_eq!(pair.reordered, [0, 0]);
}
