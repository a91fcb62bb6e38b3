//! Two links, joined by connections that a test can slow down, silence and cut.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use hawser_wire::{
    FrameFlags, FrameIter, FrameKind, FrameRef, Incarnation, LINK_SEQUENCE_WINDOW, LaneId,
    LifeNonce, LinkEpoch, MonoTime, NodeId, TrafficClass,
};

use crate::*;

pub(super) const STEP: Duration = Duration::from_millis(1);
/// Bytes that a connection takes before its writer has to wait.
const SOCKET_BYTES: usize = 1 << 20;

/// What the end of a frame consists of.
fn filling(id: u64) -> u8 {
    id.to_le_bytes()[0] ^ 0x5a
}

/// splitmix64.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut hash = self.0;
        hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (hash ^ (hash >> 31)) % below
    }
}

/// One direction of a connection.
#[derive(Default)]
pub(super) struct Pipe {
    messages: VecDeque<(MonoTime, Vec<u8>)>,
    bytes: usize,
    free_at: MonoTime,
}

/// A connection.
pub(super) struct Wire {
    /// Ends that still use it.
    open: [bool; 2],
    /// When an end learns that the connection is gone.
    told_at: [Option<MonoTime>; 2],
    pipes: [Pipe; 2],
    pub(super) delay: Duration,
    pub(super) bytes_per_ms: u64,
    pub(super) is_silent: bool,
    /// Nothing arrives any more.
    is_cut: bool,
}

pub(super) struct Pair {
    pub(super) now: MonoTime,
    pub(super) ends: [VirtualLink; 2],
    pub(super) wires: BTreeMap<LaneKey, Wire>,
    pub(super) incarnations: [Incarnation; 2],
    pub(super) lives: [Option<LifeNonce>; 2],
    pub(super) delay: Duration,
    pub(super) bytes_per_ms: u64,
    /// Lanes that are dialled again when they are wanted, and when.
    pub(super) redials: bool,
    dials: Vec<(MonoTime, LaneId, TrafficClass)>,
    /// Connections of each end whose writer has to wait.
    blocked: [BTreeSet<LaneKey>; 2],
    next_key: u64,
    next_id: u64,
    /// Frames taken by each end and not yet at the other, by id.
    pub(super) under_way: [BTreeMap<u64, TrafficClass>; 2],
    pub(super) arrived: [BTreeSet<u64>; 2],
    /// The same, as they came.
    pub(super) order: [Vec<u64>; 2],
    /// The stream and origin of each frame of priority that each end was given.
    pub(super) priority: [BTreeMap<u64, (u64, bool)>; 2],
    /// The last id of each of those that came to each end.
    last_priority: [BTreeMap<(u64, bool), u64>; 2],
    pub(super) rerouted: [BTreeSet<u64>; 2],
    /// The same, as they were handed out.
    pub(super) left: [Vec<u64>; 2],
    pub(super) marked: u64,
    /// Batches that came in pieces.
    pub(super) assembled: u64,
    pub(super) events: [Vec<LinkEvent>; 2],
    /// Both know of striping.
    pub(super) stripes: bool,
    /// Both take records of priority.
    pub(super) takes_priority: bool,
    /// The last id of each striped stream that came to each end.
    last_striped: [BTreeMap<u64, u64>; 2],
    /// An end whose link is not usable waits for nothing any more: what was on its way then, before this
    /// id, comes in any order.
    given_up_to: [u64; 2],
    /// The stream of each plain frame of bulk that each end was given.
    plain: [BTreeMap<u64, u64>; 2],
    /// The last id of each plain stream that came to each end.
    last_plain: [BTreeMap<u64, u64>; 2],
    /// Plain frames of bulk that came to each end behind later ones of their stream.
    pub(super) reordered: [u64; 2],
    /// After a lost session a frame may come twice.
    pub(super) may_repeat: bool,
    /// What is left of a striped stream when some of it has left the link may come in any order.
    pub(super) may_reorder: bool,
    pub(super) violations: Vec<LinkViolation>,
}

pub(super) const fn node(tag: u8) -> NodeId {
    NodeId::from_bytes([tag; 16])
}

impl Pair {
    pub(super) fn new(config: LinkConfig) -> Self {
        Self {
            now: MonoTime::from_nanos(1),
            ends: [
                VirtualLink::new(config, node(1), node(2)),
                VirtualLink::new(config, node(2), node(1)),
            ],
            wires: BTreeMap::new(),
            incarnations: [Incarnation(1); 2],
            lives: [None; 2],
            delay: Duration::from_millis(2),
            bytes_per_ms: 100_000,
            redials: true,
            dials: Vec::new(),
            blocked: Default::default(),
            next_key: 1,
            next_id: 1,
            under_way: Default::default(),
            arrived: Default::default(),
            order: Default::default(),
            priority: Default::default(),
            last_priority: Default::default(),
            rerouted: Default::default(),
            left: Default::default(),
            marked: 0,
            assembled: 0,
            events: Default::default(),
            stripes: true,
            takes_priority: true,
            last_striped: Default::default(),
            given_up_to: [0; 2],
            plain: Default::default(),
            last_plain: Default::default(),
            reordered: [0; 2],
            may_repeat: false,
            may_reorder: false,
            violations: Vec::new(),
        }
    }

    /// With a control, a priority and two bulk lanes.
    pub(super) fn with_lanes(config: LinkConfig, lanes: u16) -> Self {
        let mut pair = Self::new(config);
        for lane in 0..lanes {
            pair.connect(LaneId(lane), class_of(lane), 0);
        }
        pair.run(Duration::from_millis(20));
        pair
    }

    /// Where among its lanes an end has the one that a stream keeps to.
    pub(super) fn lane_of(&self, end: usize, stream: u64) -> Option<usize> {
        self.ends[end].pinned(flow_table::Bucket::of(stream).hash())
    }

    /// `dialler` opens a connection; both ends are told at once.
    pub(super) fn connect(&mut self, lane: LaneId, class: TrafficClass, dialler: usize) -> LaneKey {
        let key = self.dial();
        for end in [1 - dialler, dialler] {
            self.offer(end, key, (lane, class), dialler);
        }
        key
    }

    /// A connection of which no end was told yet.
    pub(super) fn dial(&mut self) -> LaneKey {
        let key = LaneKey(self.next_key);
        self.next_key += 1;
        let wire = Wire {
            open: [true; 2],
            told_at: [None; 2],
            pipes: Default::default(),
            delay: self.delay,
            bytes_per_ms: self.bytes_per_ms,
            is_silent: false,
            is_cut: false,
        };
        self.wires.insert(key, wire);
        key
    }

    /// An end is told of a connection.
    pub(super) fn offer(
        &mut self,
        end: usize,
        key: LaneKey,
        (lane, class): (LaneId, TrafficClass),
        dialler: usize,
    ) {
        let offer = LaneOffer {
            lane,
            class,
            epoch: LinkEpoch(key.0),
            dialled: end == dialler,
            peer_incarnation: self.incarnations[1 - end],
            peer_life: self.lives[1 - end],
            peer_stripes: self.stripes,
            peer_takes_priority: self.takes_priority,
        };
        if self.ends[end].handle_lane_up(self.now, key, offer).is_err() {
            self.close(end, key);
        }
    }

    /// One end stops to use a connection; the other learns it later.
    pub(super) fn close(&mut self, end: usize, key: LaneKey) {
        let Some(wire) = self.wires.get_mut(&key) else { return };
        wire.open[end] = false;
        let at = self.now.saturating_add(wire.delay);
        wire.told_at[1 - end].get_or_insert(at);
    }

    /// The connection breaks: what is under way is lost, the ends learn it after a while or never.
    pub(super) fn cut(&mut self, key: LaneKey, tell: [Option<u64>; 2]) {
        let Some(wire) = self.wires.get_mut(&key) else { return };
        wire.pipes = Default::default();
        wire.is_cut = true;
        for (told, tell) in wire.told_at.iter_mut().zip(tell) {
            *told = tell.map(|ms| self.now.saturating_add(Duration::from_millis(ms)));
        }
    }

    /// Gives a frame to an end; its id, unless it was refused.
    pub(super) fn push(
        &mut self,
        end: usize,
        class: TrafficClass,
        origin: Origin,
        flow: u64,
        len: usize,
    ) -> Result<u64, Refusal> {
        self.push_flagged(end, class, origin, flow, FrameFlags::default(), len)
    }

    /// As [`Self::push`], of a striped stream.
    pub(super) fn push_striped(
        &mut self,
        end: usize,
        origin: Origin,
        flow: u64,
        len: usize,
    ) -> Result<u64, Refusal> {
        let (class, flags) = (TrafficClass::Bulk, FrameFlags::STRIPED);
        self.push_flagged(end, class, origin, flow, flags, len)
    }

    pub(super) fn push_flagged(
        &mut self,
        end: usize,
        class: TrafficClass,
        origin: Origin,
        flow: u64,
        flags: FrameFlags,
        len: usize,
    ) -> Result<u64, Refusal> {
        let id = self.next_id;
        let kind = match class {
            TrafficClass::Control => FrameKind::StreamAck,
            TrafficClass::Priority | TrafficClass::Bulk => FrameKind::Record,
        };
        let flow = Flow { tenant: flow % 3, stream: flow };
        let stream = flow.stream.to_le_bytes();
        let (id_bytes, rest) = (id.to_le_bytes(), Bytes::from(vec![filling(id); len]));
        let is_striped = flags.contains(FrameFlags::STRIPED);
        let parts = [&id_bytes[..], if is_striped { &stream } else { &[] }];
        let body = FrameParts { parts: &parts, end: Some(&rest) };
        self.ends[end].push(kind, class, origin, flow, flags, body)?;
        self.next_id += 1;
        self.under_way[end].insert(id, class);
        if class == TrafficClass::Priority {
            self.priority[end].insert(id, (flow.stream, origin == Origin::Own));
        }
        if class == TrafficClass::Bulk && !is_striped {
            self.plain[end].insert(id, flow.stream);
        }
        Ok(id)
    }

    pub(super) fn run(&mut self, time: Duration) {
        let until = self.now.saturating_add(time);
        while self.now < until {
            self.step(true);
        }
    }

    /// Until nothing is under way, at most `seconds`.
    pub(super) fn settle(&mut self, seconds: u64) {
        for _ in 0..seconds * 1000 {
            if self.under_way.iter().all(BTreeMap::is_empty) {
                return;
            }
            self.step(true);
        }
        let ends = self.ends.iter().zip(&self.events);
        let state: Vec<String> = ends
            .map(|(end, events)| {
                let lanes: Vec<LaneStatus> = end.lanes().collect();
                format!("{lanes:?} {:?} {:?} {events:?}", end.status(), end.departed)
            })
            .collect();
        panic!("still under way: {:?}, {state:#?}", self.under_way);
    }

    pub(super) fn step(&mut self, drained: bool) {
        self.now = self.now.saturating_add(STEP);
        self.redial();
        for end in 0..2 {
            self.tell(end);
            self.deliver(end);
            if self.ends[end].poll_timeout().is_some_and(|(due, _)| due <= self.now) {
                self.ends[end].handle_timeout(self.now, drained);
            }
            self.obey(end);
            self.flush(end);
            let link = &self.ends[end];
            assert_eq!(
                link.is_up(),
                !link.lanes.is_empty(),
                "a lane is there, and carries nothing"
            );
        }
    }

    fn redial(&mut self) {
        let (due, later) = self.dials.drain(..).partition(|&(at, ..)| at <= self.now);
        self.dials = later;
        let due: Vec<(MonoTime, LaneId, TrafficClass)> = due;
        for (_, lane, class) in due {
            let served = |end: &VirtualLink| end.lanes().any(|status| status.id.lane == lane);
            if !self.ends.iter().any(served) {
                self.connect(lane, class, usize::from(lane.0 % 2));
            } else if !self.ends.iter().all(served) {
                self.dials.push((self.now.saturating_add(STEP * 50), lane, class));
            }
        }
    }

    fn tell(&mut self, end: usize) {
        for (&key, wire) in &mut self.wires {
            if wire.told_at[end].is_some_and(|at| at <= self.now) && wire.open[end] {
                // What arrived before the end of the connection counts.
                let arrived = |(at, _): &(MonoTime, Vec<u8>)| *at <= self.now;
                if !wire.is_cut
                    && !wire.is_silent
                    && wire.pipes[end].messages.front().is_some_and(arrived)
                {
                    continue;
                }
                wire.open[end] = false;
                self.ends[end].handle_lane_down(self.now, key, "reset");
            }
        }
        self.wires.retain(|_, wire| wire.open.contains(&true));
    }

    /// What has arrived at `end`.
    fn deliver(&mut self, end: usize) {
        let keys: Vec<LaneKey> = self.wires.keys().copied().collect();
        for key in keys {
            while let Some(wire) = self.wires.get_mut(&key) {
                let pipe = &mut wire.pipes[end];
                if wire.is_silent
                    || wire.is_cut
                    || !wire.open[end]
                    || pipe.messages.front().is_none_or(|(at, _)| *at > self.now)
                {
                    break;
                }
                let (_, message) = pipe.messages.pop_front().unwrap();
                pipe.bytes -= message.len();
                self.ends[end].handle_bytes(key);
                self.handle_message(end, key, &message);
            }
        }
    }

    /// Whoever keeps to a smaller window than the peer has keeps to it.
    fn check_sequence(&self, end: usize, frame: &FrameRef<'_>) {
        let window = self.ends[1 - end].config.sequence_window;
        let sequence = frame.header.link_sequence.0;
        if let Some(highest) = self.ends[end].duplicates.highest()
            && window < LINK_SEQUENCE_WINDOW
        {
            assert!(sequence <= highest + window, "{sequence} is a jump from {highest}");
        }
    }

    pub(super) fn handle_message(&mut self, end: usize, key: LaneKey, message: &[u8]) {
        for frame in FrameIter::new(message) {
            let frame = frame.unwrap();
            self.check_sequence(end, &frame);
            match self.ends[end].handle_frame(self.now, key, &frame) {
                Ok(Handled::Deliver | Handled::Striped) => self.take(end, &frame),
                Ok(Handled::Assembled) => {
                    self.assembled += 1;
                    let whole = self.ends[end].take_assembled(key);
                    for frame in FrameIter::new(&whole).map(Result::unwrap) {
                        self.check_sequence(end, &frame);
                        let handled = self.ends[end].handle_assembled(self.now, key, &frame);
                        if matches!(handled.unwrap(), Handled::Deliver | Handled::Striped) {
                            self.take(end, &frame);
                        }
                        self.take_reassembled(end);
                    }
                    self.ends[end].give_assembled(self.now, key, whole);
                }
                Ok(_) => {}
                Err(violation) => {
                    self.violations.push(violation);
                    self.ends[end].handle_lane_down(self.now, key, "violation");
                    self.close(end, key);
                    return;
                }
            }
            self.take_reassembled(end);
        }
    }

    fn take_reassembled(&mut self, end: usize) {
        while let Some(frame) = self.ends[end].poll_reassembled() {
            self.take(end, &frame.as_frame());
            self.ends[end].give_reassembled(frame);
        }
    }

    fn take(&mut self, end: usize, frame: &FrameRef<'_>) {
        let frame = frame.unstamped().unwrap();
        let (id, rest) = frame.body.split_first_chunk::<8>().unwrap();
        let id = u64::from_le_bytes(*id);
        // Others are made up by tests.
        let is_ours = id < self.next_id;
        if let Some(&end) = rest.get(8..).and_then(<[u8]>::last).filter(|_| is_ours) {
            assert_eq!(end, filling(id), "the end of another frame");
        }
        self.arrive(end, id, frame.header.class);
        if frame.header.flags.contains(FrameFlags::STRIPED) {
            let stream = u64::from_le_bytes(*rest.first_chunk::<8>().unwrap());
            let last = self.last_striped[end].insert(stream, id);
            let is_next = last.is_none_or(|last| last < id);
            assert!(
                is_next || self.may_repeat || self.may_reorder || id < self.given_up_to[end],
                "{id} of {stream} came after {last:?}"
            );
        }
        let ce = FrameFlags::CONGESTION_EXPERIENCED;
        self.marked += u64::from(frame.header.flags.contains(ce));
    }

    fn arrive(&mut self, end: usize, id: u64, class: TrafficClass) {
        let fresh = self.arrived[end].insert(id);
        self.order[end].push(id);
        assert!(fresh || self.may_repeat, "{id} came twice");
        self.under_way[1 - end].remove(&id);
        if let Some(stream) = self.plain[1 - end].remove(&id) {
            let last = self.last_plain[end].entry(stream).or_default();
            self.reordered[end] += u64::from(id < *last);
            *last = id.max(*last);
        }
        if class == TrafficClass::Priority && !self.may_repeat {
            let stream = self.priority[1 - end][&id];
            let last = self.last_priority[end].insert(stream, id).unwrap_or_default();
            assert!(id > last, "priority {id} of {stream:?} came after {last}");
        }
    }

    fn obey(&mut self, end: usize) {
        if !self.ends[end].is_usable() {
            self.given_up_to[end] = self.next_id;
        }
        while let Some(event) = self.ends[end].poll_event() {
            match &event {
                LinkEvent::CloseLane { key, .. } => self.close(end, *key),
                LinkEvent::WantLane { lane, class } if self.redials => {
                    let at = self.now.saturating_add(Duration::from_millis(100));
                    self.dials.push((at, *lane, *class));
                }
                _ => {}
            }
            self.events[end].push(event);
        }
        self.take_reassembled(end);
        while let Some(batch) = self.ends[end].poll_rerouted() {
            for frame in FrameIter::new(&batch.frames()).map(Result::unwrap) {
                if frame.header.link_sequence.0 != 0 {
                    let frame = frame.unstamped().unwrap();
                    let (id, _) = frame.body.split_first_chunk::<8>().unwrap();
                    let id = u64::from_le_bytes(*id);
                    self.under_way[end].remove(&id);
                    self.rerouted[end].insert(id);
                    self.left[end].push(id);
                }
            }
        }
    }

    /// As a driver does: writes for lanes that want it, and for those whose write is over.
    fn flush(&mut self, end: usize) {
        for key in std::mem::take(&mut self.blocked[end]) {
            self.write(end, key);
        }
        while let Some(key) = self.ends[end].poll_wanted() {
            self.write(end, key);
        }
    }

    fn write(&mut self, end: usize, key: LaneKey) {
        let Some(wire) = self.wires.get_mut(&key) else { return };
        let pipe = &mut wire.pipes[1 - end];
        while pipe.bytes < SOCKET_BYTES {
            let Some(transmit) = self.ends[end].poll_transmit(self.now, key) else { return };
            let message = transmit.frames.concat();
            let nanos = message.len() as u64 * 1_000_000 / wire.bytes_per_ms;
            pipe.free_at = pipe.free_at.max(self.now).saturating_add(Duration::from_nanos(nanos));
            pipe.bytes += message.len();
            pipe.messages.push_back((pipe.free_at.saturating_add(wire.delay), message));
        }
        self.blocked[end].insert(key);
    }

    pub(super) fn key_of(&self, lane: u16) -> LaneKey {
        self.ends[0].lanes().find(|status| status.id.lane == LaneId(lane)).unwrap().key
    }

    pub(super) fn saw(&self, end: usize, wanted: impl Fn(&LinkEvent) -> bool) -> bool {
        self.events[end].iter().any(wanted)
    }
}

pub(super) const fn class_of(lane: u16) -> TrafficClass {
    match lane {
        0 => TrafficClass::Control,
        1 => TrafficClass::Priority,
        _ => TrafficClass::Bulk,
    }
}
