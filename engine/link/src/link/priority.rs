//! Records of priority: one queue for the link, which goes over one lane at a time.

use hawser_wire::{FrameKind, TrafficClass};

use super::VirtualLink;
use crate::batch::NewFrame;
use crate::event::{Refusal, RefusedLimit};
use crate::fair_queue::{Flow, Overfull};
use crate::lane::Lane;
use crate::origin::Origin;
use crate::width::wide;

impl VirtualLink {
    /// The class in which a frame goes to this peer: an older one takes no records of priority.
    pub(super) const fn class_here(&self, kind: FrameKind, class: TrafficClass) -> TrafficClass {
        match (kind, class) {
            (FrameKind::Record, TrafficClass::Priority) if !self.peer_takes_priority => {
                TrafficClass::Bulk
            }
            _ => class,
        }
    }

    /// Puts a frame behind those of priority of its origin.
    pub(super) fn push_priority(
        &mut self,
        origin: Origin,
        flow: Flow,
        frame: &NewFrame<'_>,
    ) -> Result<(), Refusal> {
        let (class, max) = (TrafficClass::Priority, self.config.data_bytes_max);
        let queued = self.priority_bytes(origin);
        let overhead = if origin == Origin::Foreign { self.priority.overhead_bytes() } else { 0 };
        let held = queued.saturating_add(overhead);
        if held > 0 && held.saturating_add(frame.len) > max {
            let lane = self.lane_of(class, flow);
            return Err(self.refusal(class, lane, RefusedLimit::Class, held, max));
        }
        let mark_bytes = self.config.mark_bytes;
        let flags = self.mark(origin, queued, frame.flags, |link| {
            link.priority.exceeds_share(flow, mark_bytes)
        });
        let (frame, batch_bytes) = (NewFrame { flags, ..*frame }, self.batch_bytes());
        let free = max.saturating_sub(held);
        let Self { priority, pool, .. } = self;
        if let Err(over) = priority.push(origin, flow, &frame, free, batch_bytes, pool) {
            let (limit, queued, max) = match over {
                Overfull::Queue => (RefusedLimit::Class, held, max),
                Overfull::Tenant { bytes } => (RefusedLimit::Tenant, bytes, free),
                Overfull::Stream { bytes } => (RefusedLimit::Stream, bytes, free),
            };
            return Err(self.refusal(class, self.lane_of(class, flow), limit, queued, max));
        }
        self.next_sequence = self.next_sequence.saturating_add(u64::from(frame.sequence != 0));
        self.want_priority();
        Ok(())
    }

    /// The lane of priority may send what waits in its queue.
    pub(super) fn want_priority(&mut self) {
        if self.priority.bytes() > 0
            && let Some(lane) = self.carrier(TrafficClass::Priority)
        {
            lane.wanted = true;
        }
    }

    /// Own streams may give the link more of priority.
    pub(super) fn has_priority_room(&self) -> bool {
        self.is_up() && self.priority_bytes(Origin::Own) < self.send_ahead_bytes()
    }

    /// Bytes of priority that wait where those of `origin` do, and before both.
    pub(super) fn priority_bytes(&self, origin: Origin) -> usize {
        let resend = self.lanes.iter().map(|lane| lane.resend_bytes_of(TrafficClass::Priority));
        resend.fold(self.priority.bytes_of(origin), usize::saturating_add)
    }

    /// Priority waits for its turn.
    pub(super) fn has_priority(&self) -> bool {
        let waits = |lane: &Lane| lane.resend_bytes_of(TrafficClass::Priority) > 0;
        self.priority.bytes() > 0 || self.lanes.iter().any(waits)
    }

    /// Bytes of priority in flight, and of what waits if it could go now: bulk leaves room for those, and
    /// none for what has to wait for order, window or credit of its lane.
    pub(super) fn priority_ahead(&self) -> u64 {
        let class = TrafficClass::Priority;
        let in_flight = self.in_flight_of(class);
        let carries = |lane: &Lane| lane.carries.contains(class);
        let Some(at) = self.lanes.iter().position(carries).filter(|_| self.has_priority()) else {
            return in_flight;
        };
        let Some(lane) = self.lanes.get(at) else { return in_flight };
        if self.is_priority_elsewhere(at) || !self.may_begin(lane, class) {
            return in_flight;
        }
        let resend = lane.resend_bytes_of(class);
        in_flight.saturating_add(wide(self.priority.bytes().saturating_add(resend)))
    }

    /// Priority is in flight over another lane: its order holds only if newer frames wait until that has
    /// arrived.
    pub(super) fn is_priority_elsewhere(&self, at: usize) -> bool {
        let class = TrafficClass::Priority;
        let others = self.lanes.iter().enumerate().filter(|&(other, _)| other != at);
        others.map(|(_, lane)| &lane.unacked).any(|unacked| unacked.owes(class))
            || self.departed.iter().any(|departed| departed.unacked().owes(class))
    }
}
