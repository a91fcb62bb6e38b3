//! Control and priority: a queue each for the link. Priority goes over one lane at a time.

use hawser_wire::{FrameKind, TrafficClass};

use super::VirtualLink;
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

    /// The lanes of control and of priority may send what waits for them.
    pub(super) fn want_unbound(&mut self) {
        let waiting = [
            (TrafficClass::Control, self.control.bytes()),
            (TrafficClass::Priority, self.priority.bytes()),
        ];
        for (class, bytes) in waiting {
            if bytes > 0
                && let Some(lane) = self.carrier(class)
            {
                lane.wanted = true;
            }
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
