//! A stream over a link in memory: lanes that are FIFO each and deliver in any order among each
//! other, die and are requeued, by a seed. A failure prints the seed.

#![expect(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing,
    reason = "a test that overflows or misses fails, as it should"
)]

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use hawser_wire::{FrameFlags, MonoTime};

use super::*;
use crate::{Reassembly, ReassemblyLimits, StripeOutcome};

const WINDOW: StripeWindow = StripeWindow { bytes: 4000, frames: 16 };

/// Frames that a lane takes before it has no room.
const LANE_FRAMES: usize = 12;

/// A small generator of its own, so that a seed means the same for ever (Vigna, splitmix64).
struct Seeded(u64);

impl Seeded {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

#[derive(Clone)]
struct Packet {
    link_sequence: LinkSequence,
    stamp: Option<StripeStamp>,
    body: Vec<u8>,
}

/// One link in one direction with a single stream on it.
struct World {
    sender: StripeSender,
    lanes: StripeLanes,
    reassembly: Reassembly,
    wires: BTreeMap<LaneId, VecDeque<Packet>>,
    /// Link sequences sent and not acknowledged.
    unacked: BTreeSet<LinkSequence>,
    /// Link sequences received and not acknowledged yet.
    arrived: Vec<LinkSequence>,
    next_link_sequence: u64,
    sent: u64,
    delivered: Vec<u64>,
    stamped: u64,
}

impl World {
    fn new(lanes: u16, channels_max: usize) -> Self {
        let limits = ReassemblyLimits { window: WINDOW, channels_max, ..Default::default() };
        let mut world = Self {
            sender: StripeSender::new(LaneId(2), WINDOW),
            lanes: StripeLanes::new(channels_max),
            reassembly: Reassembly::new(limits),
            wires: BTreeMap::new(),
            unacked: BTreeSet::new(),
            arrived: Vec::new(),
            next_link_sequence: 1,
            sent: 0,
            delivered: Vec::new(),
            stamped: 0,
        };
        for lane in 2..2 + lanes {
            world.lane_up(LaneId(lane));
        }
        world
    }

    fn lane_up(&mut self, lane: LaneId) {
        self.wires.entry(lane).or_default();
        self.lanes.handle_lane_up(lane);
    }

    fn send(&mut self, len: usize) -> Result<StripePlacement, StripeBlocked> {
        let link_sequence = LinkSequence(self.next_link_sequence);
        let wires = &self.wires;
        let placement = self.sender.place(&mut self.lanes, len as u32, link_sequence, |lane| {
            wires.get(&lane).is_some_and(|wire| wire.len() < LANE_FRAMES)
        })?;
        let mut body = self.sent.to_le_bytes().to_vec();
        body.resize(len.max(8), 0);
        self.sent += 1;
        self.stamped += u64::from(placement.stamp.is_some());
        self.put(placement, link_sequence, body);
        Ok(placement)
    }

    fn put(&mut self, placement: StripePlacement, link_sequence: LinkSequence, body: Vec<u8>) {
        self.next_link_sequence += 1;
        self.unacked.insert(link_sequence);
        let packet = Packet { link_sequence, stamp: placement.stamp, body };
        self.wires.get_mut(&placement.lane).expect("a lane that is up").push_back(packet);
    }

    fn poll_last(&mut self) -> bool {
        let link_sequence = LinkSequence(self.next_link_sequence);
        let placement = self.sender.poll_last(&mut self.lanes, link_sequence);
        if let Some(placement) = placement {
            self.put(placement, link_sequence, Vec::new());
        }
        placement.is_some()
    }

    /// One frame of a lane arrives.
    fn arrive(&mut self, lane: LaneId) {
        let Some(packet) = self.wires.get_mut(&lane).and_then(VecDeque::pop_front) else { return };
        self.arrived.push(packet.link_sequence);
        let now = MonoTime::ZERO;
        let Some(stamp) = packet.stamp else { return self.deliver(&packet.body) };
        let outcome =
            self.reassembly.handle_frame(now, stamp, FrameFlags::default(), &packet.body, None);
        if outcome == Ok(StripeOutcome::Held) {
            return;
        }
        assert_eq!(outcome, Ok(StripeOutcome::Deliver), "{stamp:?}");
        self.deliver(&packet.body);
        while let Some(frame) = self.reassembly.poll_deliver(now, stamp.channel) {
            self.deliver(&frame.body);
        }
    }

    fn deliver(&mut self, body: &[u8]) {
        if let Some(number) = body.first_chunk() {
            self.delivered.push(u64::from_le_bytes(*number));
        }
    }

    /// What has arrived is acknowledged.
    fn acknowledge(&mut self) {
        for sequence in self.arrived.drain(..) {
            self.unacked.remove(&sequence);
        }
        let next = LinkSequence(self.next_link_sequence);
        self.lanes.handle_acked(self.unacked.first().copied().unwrap_or(next));
    }

    /// A lane dies with what is on it; another takes that over, before anything new.
    fn kill(&mut self, lane: LaneId, heir: LaneId) {
        self.lanes.handle_lane_down(lane);
        let rest = self.wires.remove(&lane).unwrap_or_default();
        self.wires.get_mut(&heir).expect("a lane that is up").extend(rest);
        self.sender.handle_requeued(lane, heir);
    }

    /// As [`Self::kill`], but what the lane held is spread over all others.
    fn kill_and_scatter(&mut self, lane: LaneId, heir: LaneId, random: &mut Seeded) {
        let rest = self.wires.remove(&lane).unwrap_or_default();
        let live: Vec<LaneId> = self.wires.keys().copied().collect();
        for packet in rest {
            let to = live[random.below(live.len() as u64) as usize];
            self.wires.get_mut(&to).expect("a lane that is up").push_front(packet);
        }
        self.lanes.handle_lane_down(lane);
        self.sender.handle_requeued(lane, heir);
    }

    /// Everything arrives and is acknowledged.
    fn settle(&mut self) {
        for _ in 0..200 {
            for lane in self.wires.keys().copied().collect::<Vec<_>>() {
                self.arrive(lane);
            }
            self.acknowledge();
        }
    }

    fn assert_in_order(&self) {
        assert_eq!(self.delivered, (0..self.sent).collect::<Vec<_>>());
    }
}

/// Sends, moves, kills and revives at random; every frame arrives once and in order, and in the end
/// the receiver holds nothing. If a dead lane's frames are scattered, order alone is lost.
fn run(seed: u64, scatters: bool) {
    let mut random = Seeded(seed);
    let mut world = World::new(4, 1 + random.below(3) as usize);
    for _ in 0..3000 {
        let live: Vec<LaneId> = world.wires.keys().copied().collect();
        let any = live[random.below(live.len() as u64) as usize];
        match random.below(100) {
            0..=44 => {
                let _blocked = world.send(8 + random.below(600) as usize);
            }
            45..=84 => world.arrive(any),
            85..=92 => world.acknowledge(),
            93 | 94 => world.sender.set_target(StripeTarget::AllLanes),
            95 | 96 => world.sender.set_target(StripeTarget::Lane(any)),
            97 if live.len() > 1 => {
                let heir = live.iter().copied().find(|&lane| lane != any).unwrap();
                if scatters {
                    world.kill_and_scatter(any, heir, &mut random);
                } else {
                    world.kill(any, heir);
                }
            }
            97 => {
                world.poll_last();
            }
            98 => world.lane_up(LaneId(2 + random.below(4) as u16)),
            _ => world.lanes.handle_goodput(any, random.below(1 << 30)),
        }
        assert!(world.reassembly.memory_bytes() <= 4 * 4000);
    }
    world.settle();
    if scatters {
        world.delivered.sort_unstable();
    }
    world.assert_in_order();
    assert!(world.sent > 300, "{} sent", world.sent);
    let lane = *world.wires.keys().next().unwrap();
    world.sender.set_target(StripeTarget::Lane(lane));
    world.poll_last();
    world.settle();
    assert_eq!(world.sender.pinned(), Some(lane));
    assert_eq!((world.lanes.open_channels(), world.reassembly.open_channels()), (0, 0));
    assert_eq!(world.reassembly.memory_bytes(), 0);
}

#[test]
fn a_stream_stays_in_order_whatever_its_lanes_do() {
    for seed in 0..400 {
        let failed = std::panic::catch_unwind(|| run(seed, false)).is_err();
        assert!(!failed, "seed {seed}");
    }
}

#[test]
fn frames_scattered_by_a_dead_lane_lose_their_order_alone() {
    for seed in 0..400 {
        let failed = std::panic::catch_unwind(|| run(seed, true)).is_err();
        assert!(!failed, "seed {seed}");
    }
}

#[test]
fn a_stream_on_one_lane_carries_no_stamps() {
    let mut world = World::new(2, 1);
    for _ in 0..10 {
        let placed = world.send(100).unwrap();
        assert_eq!(placed, StripePlacement { lane: LaneId(2), stamp: None });
    }
    world.settle();
    world.assert_in_order();
}

#[test]
fn a_move_goes_over_the_old_lane_once_and_waits_for_nothing() {
    let mut world = World::new(2, 1);
    world.send(100).unwrap();
    world.sender.set_target(StripeTarget::Lane(LaneId(3)));
    let stamp = |sequence, last| Some(StripeStamp { channel: StripeChannel(0), sequence, last });
    let check = |world: &mut World, lane, stamp| {
        assert_eq!(world.send(100), Ok(StripePlacement { lane: LaneId(lane), stamp }));
    };
    check(&mut world, 2, stamp(0, false));
    check(&mut world, 3, stamp(1, false));
    // The new lane is faster: what comes over it waits for the barrier on the old one.
    world.arrive(LaneId(3));
    assert_eq!(world.delivered, []);
    world.arrive(LaneId(2));
    assert_eq!(world.delivered, [0]);
    world.arrive(LaneId(2));
    assert_eq!(world.delivered, [0, 1, 2]);
    check(&mut world, 3, stamp(2, false));
    world.acknowledge();
    check(&mut world, 3, stamp(3, true));
    check(&mut world, 3, None);
    world.settle();
    world.assert_in_order();
    assert_eq!(world.stamped, 4);
}

#[test]
fn an_idle_stream_moves_without_a_stamp() {
    let mut world = World::new(2, 1);
    world.send(100).unwrap();
    world.settle();
    world.sender.set_target(StripeTarget::Lane(LaneId(3)));
    assert_eq!(world.send(100), Ok(StripePlacement { lane: LaneId(3), stamp: None }));
    assert_eq!(world.lanes.open_channels(), 0);
}

#[test]
fn without_a_channel_the_stream_stays_where_it_is() {
    let mut world = World::new(2, 1);
    let taken = world.lanes.open_channel();
    assert!(taken.is_some());
    world.send(100).unwrap();
    world.sender.set_target(StripeTarget::AllLanes);
    assert_eq!(world.send(100), Ok(StripePlacement { lane: LaneId(2), stamp: None }));
    world.lanes.release_unused();
    assert!(world.send(100).unwrap().stamp.is_some());
}

#[test]
fn the_window_bounds_what_waits_behind_a_silent_lane() {
    let mut world = World::new(3, 1);
    world.sender.set_target(StripeTarget::AllLanes);
    let mut blocked = None;
    for _ in 0..200 {
        blocked = world.send(200).err();
        world.arrive(LaneId(3));
        world.arrive(LaneId(4));
        world.acknowledge();
    }
    // Nothing arrives on lane 2, where the barrier is.
    assert_eq!(blocked, Some(StripeBlocked::Window));
    assert_eq!(world.delivered, []);
    assert!(world.sent as usize <= WINDOW.frames, "{}", world.sent);
    world.settle();
    world.assert_in_order();
    // A frame larger than the window goes alone.
    world.send(WINDOW.bytes as usize + 1).unwrap();
    assert_eq!(world.send(8), Err(StripeBlocked::Window));
    world.settle();
    world.send(8).unwrap();
}

#[test]
fn frames_are_spread_over_all_lanes() {
    let mut world = World::new(4, 1);
    world.sender.set_target(StripeTarget::AllLanes);
    let mut by_lane = BTreeMap::<LaneId, u64>::new();
    for _ in 0..400 {
        let placed = world.send(200).unwrap();
        *by_lane.entry(placed.lane).or_default() += 1;
        world.arrive(placed.lane);
        world.acknowledge();
    }
    let spread: Vec<u64> = by_lane.values().copied().collect();
    assert!(spread.len() == 4 && spread.iter().all(|count| count.abs_diff(100) <= 2), "{spread:?}");
}

#[test]
fn a_channel_that_carried_nothing_is_given_back() {
    let mut world = World::new(2, 1);
    world.send(100).unwrap();
    world.sender.set_target(StripeTarget::AllLanes);
    for _ in 0..LANE_FRAMES {
        let packet = Packet { link_sequence: LinkSequence(0), stamp: None, body: Vec::new() };
        world.wires.get_mut(&LaneId(2)).unwrap().push_back(packet);
    }
    assert_eq!(world.send(100), Err(StripeBlocked::Lane));
    assert_eq!(world.lanes.open_channels(), 1);
    world.sender.set_target(StripeTarget::Lane(LaneId(2)));
    assert!(!world.poll_last());
    assert_eq!((world.lanes.open_channels(), world.sender.pinned()), (0, Some(LaneId(2))));
}

#[test]
fn a_new_link_session_begins_with_plain_frames() {
    let mut world = World::new(3, 1);
    world.sender.set_target(StripeTarget::AllLanes);
    for _ in 0..5 {
        world.send(100).unwrap();
    }
    world.sender.handle_session_end(LaneId(3));
    world.lanes.handle_session_end();
    assert_eq!(world.lanes.open_channels(), 0);
    assert_eq!(world.send(100), Ok(StripePlacement { lane: LaneId(3), stamp: None }));
}
