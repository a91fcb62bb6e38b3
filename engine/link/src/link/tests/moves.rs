//! Plain streams that change their lane.

use std::time::Duration;

use hawser_wire::{ClassSet, CloseReason, LaneId, LinkMode, TrafficClass};

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
    for end in 0..2 {
        // A slow lane with much to send may fall silent; nobody waits for what is under way over it.
        let fell_silent = pair.saw(1 - end, |event| matches!(event, LinkEvent::Quiet { .. }));
        assert!(fell_silent || pair.reordered[end] == 0, "seed {seed}: {:?}", pair.reordered);
    }
    assert_eq!(pair.violations, [], "seed {seed}");
    assert!(pair.ends.iter().all(|end| !end.flows.is_moving()), "seed {seed}");
    changes
}

#[test]
fn streams_keep_their_order_while_lanes_come_and_go_and_none_fails() {
    let changes: u64 = (0..36).map(run).sum();
    assert!(changes > 900, "{changes}");
}

/// Both ends close lanes crosswise until none is left that nobody wants to close.
#[test]
fn a_lane_over_which_nothing_more_was_to_come_is_the_last_to_be_used() {
    let mut pair = Pair::new(LinkConfig::default());
    pair.redials = false;
    pair.delay = Duration::from_millis(20);
    let keys = [0, 1, 2].map(|lane| pair.connect(LaneId(lane), class_of(lane), 0));
    pair.run(Duration::from_millis(300));
    let close = |pair: &mut Pair, end: usize, lane: usize| {
        let now = pair.now;
        pair.ends[end].close_lane(now, keys[lane], CloseReason::NotNeeded);
    };
    // The answer is there after 40 ms, and the other end knows after 60 that the lane is closed.
    close(&mut pair, 0, 1);
    pair.run(Duration::from_millis(30));
    close(&mut pair, 0, 0);
    close(&mut pair, 1, 2);
    pair.run(Duration::from_millis(20));
    for stream in 1..60 {
        pair.push(1, Bulk, Origin::Own, stream, 100).unwrap();
        pair.step(true);
    }
    pair.settle(5);
    assert_eq!(pair.reordered, [0, 0]);
    for end in 0..2 {
        assert!(!pair.saw(end, lost_something), "{:?}", pair.events);
    }
}

const fn lost_something(event: &LinkEvent) -> bool {
    matches!(event, LinkEvent::Requeued { .. })
}

#[test]
fn a_lane_to_be_closed_is_open_for_as_long_as_the_other_end_sends_what_waits_for_it() {
    let config =
        LinkConfig { session_timeout: Duration::from_millis(500), ..LinkConfig::default() };
    let mut pair = Pair::new(config);
    (pair.redials, pair.bytes_per_ms) = (false, 1000);
    for lane in [0, 2, 3] {
        pair.connect(LaneId(lane), class_of(lane), 0);
    }
    pair.run(Duration::from_millis(300));
    let lane = pair.lane_of(1, 1).unwrap();
    let key = pair.ends[1].lanes().nth(lane).unwrap().key;
    for _ in 0..1500 {
        pair.push(1, Bulk, Origin::Foreign, 1, 1000).unwrap();
    }
    let now = pair.now;
    pair.ends[0].close_lane(now, key, CloseReason::NotNeeded);
    for _ in 0..2000 {
        pair.push(1, Bulk, Origin::Foreign, 1, 100).unwrap();
        pair.step(true);
    }
    let is_down =
        |event: &LinkEvent| matches!(event, LinkEvent::LaneDown { key: down, .. } if *down == key);
    for end in 0..2 {
        assert!(!pair.saw(end, lost_something), "end {end}");
        assert!(pair.saw(end, is_down), "end {end} has closed it once all had come");
    }
    pair.settle(5);
    assert_eq!(pair.reordered, [0, 0]);
}

/// Who has wanted a bulk lane closed, and over what else none is.
#[test]
fn a_lane_that_the_peer_lets_go_of_is_counted_at_the_other_end() {
    let mut pair = Pair::with_lanes(LinkConfig::default(), 5);
    pair.redials = false;
    let counts = |pair: &Pair| [0, 1].map(|end| pair.ends[end].status().lanes_let_go);
    let closing = |pair: &Pair, end: usize| pair.ends[end].lanes().filter(|l| l.is_closing).count();
    let key_of = |pair: &Pair, lane| {
        pair.ends[0].lanes().find(|l| l.id.lane == LaneId(lane)).map(|l| l.key).unwrap()
    };
    let (key, now) = (key_of(&pair, 4), pair.now);
    pair.ends[1].close_lane(now, key, CloseReason::NotNeeded);
    pair.run(Duration::from_millis(4));
    assert_eq!((counts(&pair), closing(&pair, 0), closing(&pair, 1)), ([1, 0], 1, 1));
    pair.run(Duration::from_millis(300));
    assert_eq!((counts(&pair), closing(&pair, 0)), ([1, 0], 0));
    // Both at once: each has wanted it.
    let (key, now) = (key_of(&pair, 3), pair.now);
    for end in &mut pair.ends {
        end.close_lane(now, key, CloseReason::NotNeeded);
    }
    pair.run(Duration::from_millis(300));
    assert_eq!((counts(&pair), pair.ends[0].lanes().count()), ([1, 0], 3));
    pair.ends[0].propose_mode(LinkMode::Collapsed);
    pair.run(Duration::from_millis(500));
    assert_eq!((counts(&pair), pair.ends[0].lanes().count()), ([1, 0], 1));
}

/// A link that changes to one lane for all and back, `ms` after one end knows of the first, while streams
/// send both ways over lanes that are not equally long.
fn change_and_back(seed: u64, ms: u64) -> Pair {
    let mut random = Random(seed);
    let mut pair = Pair::new(LinkConfig::default());
    for lane in 0..4 {
        pair.delay = Duration::from_millis(1 + random.below(20));
        pair.connect(LaneId(lane), class_of(lane), 0);
    }
    pair.run(Duration::from_millis(300 + random.below(100)));
    let ends = [0, 1].map(|_| usize::try_from(random.below(2)).unwrap());
    pair.ends[ends[0]].propose_mode(LinkMode::Collapsed);
    let mut since = None;
    for now in 0..1_500 {
        for end in 0..2 {
            let stream = 1 + random.below(12);
            if pair.ends[end].has_room(Bulk, flow(stream)) {
                let _full = pair.push(end, Bulk, Origin::Own, stream, 1000);
            }
        }
        if since.is_none() && pair.ends[ends[1]].mode() == LinkMode::Collapsed {
            since = Some(now);
        }
        if since.is_some_and(|since| now == since + ms) {
            pair.ends[ends[1]].propose_mode(LinkMode::Separate);
        }
        pair.step(true);
    }
    pair
}

#[test]
fn a_mode_that_changes_back_while_lanes_close_has_lanes_for_all_classes_soon() {
    for ms in (0..240).step_by(3) {
        let mut pair = change_and_back(ms, ms);
        for (number, end) in pair.ends.iter().enumerate() {
            assert_eq!(end.mode(), LinkMode::Separate, "end {number} after {ms} ms");
            for lane in 0..4 {
                let carries = end.lanes().find(|status| status.id.lane == LaneId(lane));
                let carries = carries.map(|status| status.carries);
                let wanted = Some(ClassSet::of(class_of(lane)));
                assert_eq!(carries, wanted, "lane {lane} of end {number} after {ms} ms");
            }
        }
        pair.settle(60);
        assert_eq!(pair.reordered, [0, 0], "{ms} ms");
        assert_eq!(pair.violations, [], "{ms} ms");
    }
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

/// `count` streams of one tenant that lane 3 takes over from lane 2 when it comes, and one that stays.
fn taken_over(count: usize) -> (Vec<u64>, u64) {
    let probe = Pair::with_lanes(LinkConfig::default(), 4);
    let added = probe.ends[0].position(probe.key_of(3));
    let moves = |stream: &u64| probe.lane_of(0, *stream) == added;
    let ours = || (1..).map(|number| number * 3);
    let mut buckets = std::collections::BTreeSet::new();
    let is_alone = |stream: &u64| buckets.insert(flow_table::Bucket::of(*stream).hash());
    let streams = ours().filter(moves).filter(is_alone).take(count).collect();
    (streams, ours().find(|stream| !moves(stream)).unwrap())
}

/// A link with bulk in flight over one lane, of each of so many streams that the next lane takes over, and
/// that lane up: what those send from here on waits for it.
fn leaving(config: LinkConfig, count: usize) -> (Pair, Vec<u64>, u64) {
    let mut pair = Pair::with_lanes(config, 3);
    let (streams, stays) = taken_over(count);
    for &stream in &streams {
        pair.push(0, Bulk, Origin::Foreign, stream, 1000).unwrap();
    }
    pair.step(true);
    pair.connect(LaneId(3), class_of(3), 0);
    (pair, streams, stays)
}

#[test]
fn foreign_streams_wait_for_their_own_frames_only() {
    let mut pair = Pair::new(LinkConfig::default());
    pair.bytes_per_ms = 1000;
    for lane in 0..3 {
        pair.connect(LaneId(lane), class_of(lane), 0);
    }
    pair.run(Duration::from_millis(20));
    let (streams, stays) = taken_over(2);
    for _ in 0..400 {
        pair.push(0, Bulk, Origin::Foreign, stays, 1000).unwrap();
    }
    for &stream in &streams {
        pair.push(0, Bulk, Origin::Foreign, stream, 1000).unwrap();
    }
    pair.connect(LaneId(3), class_of(3), 0);
    for &stream in &streams {
        pair.push(0, Bulk, Origin::Foreign, stream, 1000).unwrap();
    }
    assert!(pair.ends[0].flows.is_moving());
    pair.run(Duration::from_millis(200));
    assert!(!pair.ends[0].flows.is_moving(), "their turn came");
    let left = pair.ends[0].queued_bytes(Bulk, Origin::Foreign);
    assert!(left > 100_000, "what came before them and stays takes 400 ms: {left}");
    pair.settle(5);
    assert_eq!(pair.reordered, [0, 0]);
}

#[test]
fn streams_that_all_change_their_lane_are_marked_above_their_share_only() {
    let config = LinkConfig { mark_bytes: 100_000, ..LinkConfig::default() };
    let (mut pair, streams, _) = leaving(config, 2);
    let [many, few] = *streams else { panic!("two streams") };
    while pair.ends[0].queued_bytes(Bulk, Origin::Foreign) <= 100_000 {
        pair.push(0, Bulk, Origin::Foreign, many, 1000).unwrap();
    }
    for _ in 0..10 {
        pair.push(0, Bulk, Origin::Foreign, few, 1000).unwrap();
    }
    for _ in 0..3 {
        pair.push(0, Bulk, Origin::Foreign, many, 1000).unwrap();
    }
    assert!(pair.ends[0].flows.is_moving());
    pair.settle(5);
    let marked = pair.marked;
    assert!((1..=3).contains(&marked), "who has more than all of the threshold: {marked}");
}

#[test]
fn a_tenant_has_one_quota_however_many_of_its_streams_change_their_lane() {
    let config = LinkConfig { data_bytes_max: 1 << 20, ..LinkConfig::default() };
    let (mut pair, streams, stays) = leaving(config, 20);
    let mut refused = 0;
    for stream in streams.into_iter().chain([stays]) {
        while pair.push(0, Bulk, Origin::Foreign, stream, 1000).is_ok() {}
        let refusal = pair.push(0, Bulk, Origin::Foreign, stream, 1000).unwrap_err();
        refused += u64::from(refusal.limit == RefusedLimit::Tenant);
    }
    assert!(refused > 10, "{refused}");
    let queued = pair.ends[0].queued_bytes(Bulk, Origin::Foreign);
    let held = queued + 21 * fair_queue::STREAM_QUEUE_BYTES;
    assert!((500_000..530_000).contains(&held), "half of the queue, and not {held}");
    for _ in 0..100 {
        pair.push(0, Bulk, Origin::Foreign, 1, 1000).unwrap();
    }
    pair.settle(5);
    assert_eq!(pair.reordered, [0, 0]);
}

/// The first frame of a channel is the one that others wait for at the far end: there is none while it
/// would wait here.
#[test]
fn a_stream_that_changes_its_lane_is_striped_once_it_has() {
    let mut pair = Pair::new(LinkConfig::default());
    pair.delay = Duration::from_millis(200);
    for lane in 0..3 {
        pair.connect(LaneId(lane), class_of(lane), 0);
    }
    pair.run(Duration::from_secs(2));
    let (streams, stays) = taken_over(1);
    let leaves = streams[0];
    pair.push(0, Bulk, Origin::Own, leaves, 1000).unwrap();
    pair.step(true);
    pair.connect(LaneId(3), class_of(3), 0);
    // The other end has said what it puts on its lanes now.
    pair.run(Duration::from_millis(250));
    pair.push(0, Bulk, Origin::Own, leaves, 1000).unwrap();
    pair.run(Duration::from_millis(50));
    // The lane has sent this one as well, before it has brought on what it had of the other.
    pair.push(0, Bulk, Origin::Own, stays, 1000).unwrap();
    pair.run(Duration::from_millis(260));
    assert!(pair.ends[0].moved_before.is_none(), "all that was taken before has arrived");
    assert!(pair.ends[0].flows.is_moving());
    for _ in 0..3 {
        pair.push_striped(0, Origin::Own, leaves, 1000).unwrap();
        assert_eq!(pair.ends[0].status().striped_streams, 0, "others would wait for it");
    }
    pair.run(Duration::from_millis(700));
    assert!(!pair.ends[0].flows.is_moving());
    pair.push_striped(0, Origin::Own, leaves, 1000).unwrap();
    assert_eq!(pair.ends[0].status().striped_streams, 1);
    pair.settle(5);
    assert_eq!(pair.reordered, [0, 0]);
}
