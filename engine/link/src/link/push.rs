//! What is taken to be sent, and what is refused.

use std::time::Duration;

use hawser_wire::{
    BATCH_BYTES_MAX, FRAME_BODY_BYTES_MAX, FrameFlags, FrameHeader, FrameKind,
    LANE_CREDIT_BYTES_INITIAL, LINK_CONTROL_BYTES_MAX, LaneId, RECORD_BYTES_TARGET, TrafficClass,
};

use super::VirtualLink;
use super::moves::Place;
use super::transmit::PIECE_OVERHEAD_BYTES;
use crate::batch::NewFrame;
use crate::data_queue::DataQueue;
use crate::event::{Refusal, RefusedLimit};
use crate::fair_queue::{Flow, Overfull};
use crate::frame_parts::FrameParts;
use crate::lane::Lane;
use crate::origin::Origin;
use crate::width::wide;

#[expect(clippy::as_conversions, reason = "u64::try_from is not const")]
const LARGEST_BATCH: u64 = BATCH_BYTES_MAX as u64;
const _: () = assert!(
    LANE_CREDIT_BYTES_INITIAL > 2 * LARGEST_BATCH,
    "a largest batch never waits for a grant that it prevents"
);

/// A smaller message is not worth its headers, however slow the link.
const PIECE_BYTES_MIN: usize = 512;
/// So many pieces of a distant peer may be in flight. A piece is acknowledged when it is there as a whole,
/// and a bound that is no multiple of it leaves up to one of it empty: with a quarter both take more than
/// the half of a round trip by which the bound is above what the path holds, and a rate that is too low
/// stays so.
const PIECES: u64 = 8;
/// So many of a near one, whose bound is more than twice what the path holds; over each lane of striped
/// streams; and of all, where more would be less than a packet each, since a slow path has the time of a
/// packet as slack.
const PIECES_MIN: u64 = 4;
const PACKET_BYTES: usize = 1500;
/// Own streams may always give a lane so much, so that the next record is there when one is gone.
const SEND_AHEAD_BYTES_MIN: usize = 32 << 10;

impl VirtualLink {
    /// A lane carries frames.
    #[must_use]
    pub const fn is_up(&self) -> bool {
        self.carries
    }

    /// Own streams may give the link more of `class`. What others have put there is no concern of
    /// theirs.
    #[must_use]
    pub fn has_room(&self, class: TrafficClass, flow: Flow) -> bool {
        let class = self.class_here(FrameKind::Record, class);
        match class {
            _ if self.lacks_sequence(class) => false,
            TrafficClass::Control => {
                self.is_up() && self.control.bytes_of(Origin::Own) < self.config.send_ahead_bytes
            }
            TrafficClass::Priority => self.has_priority_room(),
            TrafficClass::Bulk => match self.striping.queued_of(flow, Origin::Own) {
                Some(waits) => waits < self.striped_ahead_bytes() && self.takes_own_bulk(),
                None => self.has_bulk_room(flow),
            },
        }
    }

    /// No own stream may give the link more of `class`, but for one that is to change its lane; else some
    /// may, see [`Self::has_room`].
    #[must_use]
    pub fn is_full(&self, class: TrafficClass) -> bool {
        let class = self.class_here(FrameKind::Record, class);
        if class != TrafficClass::Bulk || self.lacks_sequence(class) {
            return !self.has_room(class, Flow::default());
        }
        // Streams that move or are striped have queues of their own. Who is told that the link is not full
        // asks for each stream that waits, in each turn: of those that are striped it is told only if one
        // has room. Streams move for a round trip at most.
        let striped = self.striping.least_queued(Origin::Own);
        let has_unbound_room = self.flows.is_moving()
            || striped.is_some_and(|waits| waits < self.striped_ahead_bytes());
        let mut carrying =
            self.lanes.iter().filter(|lane| lane.carries.contains(TrafficClass::Bulk));
        let send_ahead = self.send_ahead_bytes();
        let has_room = has_unbound_room || carrying.any(|lane| has_room(lane, send_ahead));
        !has_room || !self.takes_own_bulk()
    }

    /// Bytes of `class` that wait where frames of `origin` do; what is to be sent again waits before
    /// both kinds of bulk, and counts for both.
    #[must_use]
    pub fn queued_bytes(&self, class: TrafficClass, origin: Origin) -> usize {
        let over_lanes = |bytes: fn(&Lane) -> usize| {
            let lanes = self.lanes.iter();
            lanes.fold(0, |sum: usize, lane| {
                sum.saturating_add(bytes(lane)).saturating_add(lane.resend_bytes())
            })
        };
        let pinned_bytes = match (class, origin) {
            (TrafficClass::Control, origin) => return self.control.bytes_of(origin),
            (TrafficClass::Priority, origin) => return self.priority_bytes(origin),
            (TrafficClass::Bulk, Origin::Own) => over_lanes(|lane| lane.bulk.bytes_of(Origin::Own)),
            (TrafficClass::Bulk, Origin::Foreign) => {
                over_lanes(|lane| lane.bulk.bytes_of(Origin::Foreign))
            }
        };
        let moving_bytes = self.flows.bytes_of(origin);
        let unbound_bytes = self.striping.queued_bytes(origin).saturating_add(moving_bytes);
        pinned_bytes.saturating_add(unbound_bytes)
    }

    /// Appends a frame, in one copy, but for a long end of its body: that is held as it is.
    ///
    /// Routed frames get a link sequence and survive their lane; what only neighbours say to each
    /// other gets none. A record of priority goes as bulk to a peer that does not take it. A bulk frame
    /// keeps to the lane of its flow, but for a record with
    /// [`FrameFlags::STRIPED`], if the peer knows of that. Foreign priority and bulk
    /// are marked with [`FrameFlags::CONGESTION_EXPERIENCED`] while more than the configured threshold of
    /// the class waits and more of their stream than that one's share.
    ///
    /// # Errors
    /// [`Refusal`] if a bound says no; nothing is taken.
    pub fn push(
        &mut self,
        kind: FrameKind,
        class: TrafficClass,
        origin: Origin,
        flow: Flow,
        flags: FrameFlags,
        body: FrameParts<'_>,
    ) -> Result<(), Refusal> {
        let len = body.len().saturating_add(FrameHeader::LEN);
        let class = self.class_here(kind, class);
        self.check_size(kind, class, flow, body.len())?;
        if !self.is_up() {
            return Err(self.refusal(class, None, RefusedLimit::NoLane, 0, 0));
        }
        let is_counted = kind.is_routed();
        if is_counted && !self.has_sequence(class, origin) {
            let (lane, queued) = (self.lane_of(class, flow), self.queued_bytes_total());
            return Err(self.refusal(class, lane, RefusedLimit::SequenceWindow, queued, 0));
        }
        let sequence = if is_counted { self.next_sequence } else { 0 };
        let frame = NewFrame { kind, class, flags, sequence, stamp: None, body, len };
        self.queue(origin, flow, &frame)?;
        if is_counted {
            // Whether there is one for the next, who has that is to know before giving it.
            self.has_sequence(class, origin);
        }
        Ok(())
    }

    /// Appends a frame to what waits of its class.
    fn queue(&mut self, origin: Origin, flow: Flow, frame: &NewFrame<'_>) -> Result<(), Refusal> {
        if frame.class != TrafficClass::Bulk {
            return self.push_unbound(origin, flow, frame);
        }
        let striped = self.push_striped(origin, flow, frame);
        striped.unwrap_or_else(|| self.push_bulk(origin, flow, frame))
    }

    /// Puts a frame behind those of its origin, of a class that waits for whichever lane carries it.
    fn push_unbound(
        &mut self,
        origin: Origin,
        flow: Flow,
        frame: &NewFrame<'_>,
    ) -> Result<(), Refusal> {
        let class = frame.class;
        let is_control = class == TrafficClass::Control;
        let max =
            if is_control { self.config.control_bytes_max } else { self.config.data_bytes_max };
        let queued = self.queued_bytes(class, origin);
        let overhead = match origin {
            Origin::Own => 0,
            Origin::Foreign if is_control => self.control.overhead_bytes(),
            Origin::Foreign => self.priority.overhead_bytes(),
        };
        let held = queued.saturating_add(overhead);
        if held > 0 && held.saturating_add(frame.len) > max {
            let lane = self.lane_of(class, flow);
            return Err(self.refusal(class, lane, RefusedLimit::Class, held, max));
        }
        let flags = match class {
            TrafficClass::Control => frame.flags,
            _ => self.mark(origin, queued, frame.flags, |link| {
                link.priority.exceeds_share(flow, link.config.mark_bytes)
            }),
        };
        let frame = NewFrame { flags, ..*frame };
        let batch_bytes = match origin {
            Origin::Own if is_control => self.config.batch_bytes,
            Origin::Foreign if is_control && !self.wants_data() => self.config.quantum_bytes,
            _ => self.batch_bytes(),
        };
        let free = max.saturating_sub(held);
        let Self { control, priority, pool, .. } = self;
        let waiting = if is_control { control } else { priority };
        if let Err(over) = waiting.push(origin, flow, &frame, free, batch_bytes, pool) {
            let (limit, queued, max) = match over {
                Overfull::Queue => (RefusedLimit::Class, held, max),
                Overfull::Tenant { bytes } => (RefusedLimit::Tenant, bytes, free),
                Overfull::Stream { bytes } => (RefusedLimit::Stream, bytes, free),
            };
            return Err(self.refusal(class, self.lane_of(class, flow), limit, queued, max));
        }
        self.next_sequence = self.next_sequence.saturating_add(u64::from(frame.sequence != 0));
        self.want_unbound();
        Ok(())
    }

    /// Puts bulk onto the lane of its flow.
    pub(super) fn push_bulk(
        &mut self,
        origin: Origin,
        flow: Flow,
        frame: &NewFrame<'_>,
    ) -> Result<(), Refusal> {
        let (class, max) = (frame.class, self.config.data_bytes_max);
        let Some(place) = self.place_next(flow.stream) else {
            return Err(self.refusal(class, None, RefusedLimit::NoLane, 0, 0));
        };
        let queued = self.queued_bytes(class, origin);
        let batch_bytes = self.batch_bytes();
        let flags = self.mark(origin, queued, frame.flags, |link| link.exceeds_share(place, flow));
        let frame = NewFrame { flags, ..*frame };
        let queued = queued.saturating_add(self.bulk_overhead_bytes(origin));
        if queued > 0 && queued.saturating_add(frame.len) > max {
            let lane = self.lane_at(place);
            return Err(self.refusal(class, lane, RefusedLimit::Class, queued, max));
        }
        let free = max.saturating_sub(queued);
        // A tenant has one quota, whichever lanes its streams wait for, striped or not.
        let elsewhere = self.tenant_bytes_elsewhere(place, origin, flow.tenant);
        let tenant_free = free.saturating_sub(elsewhere);
        if elsewhere > 0 && frame.len > tenant_free {
            let lane = self.lane_at(place);
            return Err(self.refusal(class, lane, RefusedLimit::Tenant, elsewhere, free));
        }
        let Self { lanes, flows, pool, .. } = self;
        let bulk = match place {
            Place::Lane(at) => lanes.get_mut(at).map(|lane| &mut lane.bulk),
            Place::Move(at) => flows.bulk_mut(at),
            Place::Leaves { .. } => None,
        };
        let pushed =
            bulk.map(|bulk| bulk.push(origin, flow, &frame, tenant_free, batch_bytes, pool));
        let Some(pushed) = pushed else {
            return Err(self.refusal(class, None, RefusedLimit::NoLane, 0, 0));
        };
        if let Err(over) = pushed {
            let (limit, queued, max) = match over {
                Overfull::Queue => (RefusedLimit::Class, queued, max),
                Overfull::Tenant { bytes } => {
                    (RefusedLimit::Tenant, bytes.saturating_add(elsewhere), free)
                }
                Overfull::Stream { bytes } => (RefusedLimit::Stream, bytes, free),
            };
            return Err(self.refusal(class, self.lane_at(place), limit, queued, max));
        }
        self.note_placed(place, flow.stream, frame.sequence);
        self.next_sequence = self.next_sequence.saturating_add(u64::from(frame.sequence != 0));
        Ok(())
    }

    /// What the queues of others' bulk take beside the frames in them: many of those that are short would
    /// hold far more memory than they are long.
    pub(super) fn bulk_overhead_bytes(&self, origin: Origin) -> usize {
        if origin == Origin::Own {
            return 0;
        }
        self.plain_bulk().map(|(_, bulk)| bulk.overhead_bytes()).fold(0, usize::saturating_add)
    }

    /// Where bulk waits that is not striped.
    fn plain_bulk(&self) -> impl Iterator<Item = (Place, &DataQueue)> {
        let lanes = self.lanes.iter().enumerate().map(|(at, lane)| (Place::Lane(at), &lane.bulk));
        lanes.chain(self.flows.bulk().enumerate().map(|(at, bulk)| (Place::Move(at), bulk)))
    }

    /// What others' streams of a tenant have waiting, of bulk, queues included, but for that place.
    fn tenant_bytes_elsewhere(&self, place: Place, origin: Origin, tenant: u64) -> usize {
        if origin == Origin::Own {
            return 0;
        }
        let others = self.plain_bulk().filter(|&(other, _)| other != place);
        let bytes = others.map(|(_, bulk)| bulk.tenant_bytes(tenant));
        bytes.fold(self.striping.tenant_bytes(tenant), usize::saturating_add)
    }

    /// What others' streams of a tenant have waiting, of bulk, queues included.
    pub(super) fn tenant_bytes(&self, tenant: u64) -> usize {
        let bytes = self.plain_bulk().map(|(_, bulk)| bulk.tenant_bytes(tenant));
        bytes.fold(self.striping.tenant_bytes(tenant), usize::saturating_add)
    }

    /// The flags of a frame of priority or bulk, before which `queued` bytes wait.
    pub(super) fn mark(
        &self,
        origin: Origin,
        queued: usize,
        flags: FrameFlags,
        exceeds_share: impl FnOnce(&Self) -> bool,
    ) -> FrameFlags {
        if origin == Origin::Foreign && queued > self.config.mark_bytes && exceeds_share(self) {
            return flags.with(FrameFlags::CONGESTION_EXPERIENCED);
        }
        flags
    }

    /// More of the stream waits for its lane than its share of the threshold for marks: that is divided
    /// between lanes where foreign bulk waits, then tenants, then streams. So who sends more than its
    /// share of the link is marked, and nobody else, however much each has under way.
    fn exceeds_share(&self, place: Place, flow: Flow) -> bool {
        let waits = |lane: &&Lane| lane.bulk.bytes_of(Origin::Foreign) > 0;
        let lanes = self.lanes.iter().filter(waits).count();
        // It may be that all of it waits for streams' next lanes.
        let share = self.config.mark_bytes.checked_div(lanes.max(1)).unwrap_or(0);
        self.bulk_at(place).is_some_and(|bulk| bulk.exceeds_share(flow, share))
    }

    /// What waits longer than it must only makes round trips longer, and windows with them.
    fn has_bulk_room(&self, flow: Flow) -> bool {
        let has_room = match self.place_of(flow.stream) {
            Some(Place::Lane(at)) => {
                let send_ahead = self.send_ahead_bytes();
                self.lanes.get(at).is_some_and(|lane| has_room(lane, send_ahead))
            }
            Some(place) => {
                let waits = self.bulk_at(place).map_or(0, |bulk| bulk.bytes_of(Origin::Own));
                waits < self.send_ahead_bytes()
            }
            None => false,
        };
        has_room && self.takes_own_bulk()
    }

    /// The queue of own bulk takes one more record.
    fn takes_own_bulk(&self) -> bool {
        let queued = self.queued_bytes(TrafficClass::Bulk, Origin::Own);
        queued == 0 || queued.saturating_add(RECORD_BYTES_TARGET) <= self.config.data_bytes_max
    }

    /// Bytes waiting for one lane at which own streams stop filling its queue: the send buffer is full.
    #[must_use]
    pub fn send_ahead_bytes(&self) -> usize {
        let most = self.config.send_ahead_bytes;
        let slow = usize::try_from(self.in_flight_bound.saturating_mul(4)).unwrap_or(usize::MAX);
        slow.max(SEND_AHEAD_BYTES_MIN).min(most)
    }

    /// As [`Self::send_ahead_bytes`], of a striped stream: what each of its lanes may have.
    fn striped_ahead_bytes(&self) -> usize {
        self.send_ahead_bytes().saturating_mul(self.bulk_lanes())
    }

    /// Batches close at a quantum while something urgent waits or the link is slow: whatever comes
    /// next waits behind a whole one.
    pub(super) fn batch_bytes(&self) -> usize {
        let most = self.piece_bytes();
        if self.control.bytes() > 0 || self.has_priority() {
            return most.min(self.config.quantum_bytes);
        }
        most
    }

    /// What priority and bulk may put on the wire at once, four or eight times over, or over each lane four
    /// times while streams are striped: a larger batch goes in pieces, what stands around each included.
    pub(super) fn piece_bytes(&self) -> usize {
        let lanes = if self.striping.channels() > 0 { wide(self.bulk_lanes()) } else { 1 };
        let fewest = lanes.saturating_mul(PIECES_MIN);
        let pieces = if self.is_near { fewest } else { fewest.max(PIECES) };
        let large = self.in_flight_share(pieces, self.config.batch_bytes);
        let small = self.in_flight_share(fewest, PACKET_BYTES);
        large.max(small).saturating_sub(PIECE_OVERHEAD_BYTES)
    }

    /// A part of what may be in flight, between the least that is worth a message and `max_bytes`.
    pub(super) fn in_flight_share(&self, parts: u64, max_bytes: usize) -> usize {
        let part = self.in_flight_bound.checked_div(parts).unwrap_or(0);
        usize::try_from(part).unwrap_or(usize::MAX).min(max_bytes).max(PIECE_BYTES_MIN)
    }

    fn check_size(
        &self,
        kind: FrameKind,
        class: TrafficClass,
        flow: Flow,
        body: usize,
    ) -> Result<(), Refusal> {
        let max = match (kind, class) {
            (FrameKind::LinkControl, _) => LINK_CONTROL_BYTES_MAX,
            (_, TrafficClass::Control) => self.config.control_frame_bytes_max,
            _ => FRAME_BODY_BYTES_MAX,
        };
        if body <= max {
            return Ok(());
        }
        let lane = self.lane_of(class, flow);
        Err(Refusal {
            retry_after: Duration::MAX,
            ..self.refusal(class, lane, RefusedLimit::FrameSize, body, max)
        })
    }

    /// Bytes that wait in all.
    pub(super) fn queued_bytes_total(&self) -> usize {
        let lanes =
            self.lanes.iter().map(|lane| lane.bulk.bytes().saturating_add(lane.resend_bytes()));
        let origins = [Origin::Own, Origin::Foreign];
        let striped = origins.map(|origin| self.striping.queued_bytes(origin));
        let moving = origins.map(|origin| self.flows.bytes_of(origin));
        let queues =
            [self.control.bytes(), self.priority.bytes()].into_iter().chain(striped).chain(moving);
        lanes.chain(queues).fold(0, usize::saturating_add)
    }

    /// The lane that a flow's next frame of `class` would take, as things are now: for refusals.
    pub(super) fn lane_of(&self, class: TrafficClass, flow: Flow) -> Option<LaneId> {
        if class != TrafficClass::Bulk {
            let lane = self.lanes.iter().find(|lane| lane.carries.contains(class));
            return lane.map(|lane| lane.id.lane);
        }
        let has_channel = |origin| self.striping.queued_of(flow, origin).is_some();
        if [Origin::Own, Origin::Foreign].into_iter().any(has_channel) {
            return self.striped_lane();
        }
        self.place_of(flow.stream).and_then(|place| self.lane_at(place))
    }

    /// The lane of such a place; the one that streams leave, if they wait for their next.
    fn lane_at(&self, place: Place) -> Option<LaneId> {
        match place {
            Place::Lane(at) | Place::Leaves { from: at, .. } => {
                self.lanes.get(at).map(|lane| lane.id.lane)
            }
            Place::Move(at) => self.flows.get(at).map(|found| found.from_lane),
        }
    }

    pub(super) fn refusal(
        &self,
        class: TrafficClass,
        lane: Option<LaneId>,
        limit: RefusedLimit,
        queued_bytes: usize,
        max_bytes: usize,
    ) -> Refusal {
        let nanos = u128::from(wide(queued_bytes))
            .saturating_mul(500_000_000)
            .checked_div(u128::from(self.rate.rate()))
            .unwrap_or(100_000_000);
        // Half of what waits is gone by then.
        let retry_after = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
            .clamp(Duration::from_millis(1), Duration::from_secs(1));
        Refusal { class, lane, limit, queued_bytes, max_bytes, retry_after }
    }
}

/// Own streams that keep to a lane may give it more, if less than `send_ahead_bytes` wait for it.
fn has_room(lane: &Lane, send_ahead_bytes: usize) -> bool {
    lane.bulk.bytes_of(Origin::Own).saturating_add(lane.resend_bytes()) < send_ahead_bytes
}
