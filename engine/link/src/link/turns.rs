//! Whose turn it is: between classes, and between lanes that carry bulk.

use hawser_wire::TrafficClass;

use super::VirtualLink;
use crate::batch::Batch;
use crate::lane::Lane;
use crate::width::wide;

/// So much control of others may at least be in flight over a lane while the link has nothing of priority
/// and bulk.
const FOREIGN_CONTROL_BYTES: u64 = 128 << 10;

/// What a class makes of its turn on a lane.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Turn {
    /// What it takes it has put where the caller wants it.
    Takes,
    /// Nothing of it waits for the lane, or what does leaves the lane to others.
    Leaves,
    /// It waits for window or credit, which nobody less urgent takes from it.
    Waits,
}

impl VirtualLink {
    /// Why a batch, or `piece` bytes of it, may not go over a lane now; `None` if window, credit, order and
    /// what may be in flight allow it.
    pub(super) fn turn(&self, at: usize, batch: &Batch, piece: Option<usize>) -> Option<Turn> {
        let Some(lane) = self.lanes.get(at) else { return Some(Turn::Waits) };
        let (class, len) = (batch.class(), wide(piece.unwrap_or(batch.len())));
        let (frames, bytes) =
            if piece.is_some() { (1, len) } else { (batch.counted(), batch.counted_bytes()) };
        if !self.has_means(lane, class, batch.backing_bytes(), (frames, bytes)) {
            return Some(Turn::Waits);
        }
        let goes = self.fits(class, len)
            && match class {
                TrafficClass::Control => true,
                TrafficClass::Priority => !self.is_priority_elsewhere(at),
                TrafficClass::Bulk => !self.owes_turn(at, self.in_flight(), frames, len),
            };
        (!goes).then_some(Turn::Leaves)
    }

    /// Window and credit of a lane allow so many counted frames and their bytes, which keep `backing_bytes`
    /// of memory.
    fn has_means(
        &self,
        lane: &Lane,
        class: TrafficClass,
        backing_bytes: usize,
        (frames, bytes): (u64, u64),
    ) -> bool {
        let reserved = match class {
            TrafficClass::Control => 0,
            TrafficClass::Priority | TrafficClass::Bulk => self.config.window_control_bytes,
        };
        let window = self.config.window_bytes.saturating_sub(reserved);
        let held = lane.unacked.backing_bytes();
        (held == 0 || held.saturating_add(backing_bytes) <= window)
            && lane.credit.allows(lane.unacked.sent(), frames, bytes)
    }

    /// The next of what a lane is to send again of a class, or else anything new, has window and credit.
    pub(super) fn may_begin(&self, lane: &Lane, class: TrafficClass) -> bool {
        let (split, resend) = (lane.split(class), lane.resend_front(class));
        let (backing_bytes, needs) = match (split, resend) {
            (Some(split), _) => {
                let piece = wide(self.piece_len(split.left_bytes()));
                (split.batch().backing_bytes(), (1, piece))
            }
            (None, Some(front)) if self.splits(front) => {
                (front.backing_bytes(), (1, wide(self.piece_len(front.len()))))
            }
            (None, Some(front)) => {
                (front.backing_bytes(), (front.counted(), front.counted_bytes()))
            }
            (None, None) => (1, (1, 1)),
        };
        self.has_means(lane, class, backing_bytes, needs)
    }

    /// Bulk waits or is in flight.
    fn wants_bulk(&self) -> bool {
        self.in_flight_of(TrafficClass::Bulk) > 0
            || self.lanes.iter().any(Lane::has_bulk)
            || self.striping.front().is_some()
    }

    /// So many bytes more of `class` are within what may be in flight.
    ///
    /// Priority goes before bulk, which leaves room for what waits of it. A message of each class goes
    /// always, and a quarter of the bound is for bulk that waits: so it keeps a part of a link that
    /// priority fills. While the round trip is measured it is one message of all.
    pub(super) fn fits(&self, class: TrafficClass, len: u64) -> bool {
        let (own, bound) = (self.in_flight_of(class), self.in_flight_bound);
        let for_bulk = bound >> 2;
        let with_it = own.saturating_add(len);
        let (before, others) = match class {
            TrafficClass::Control => return true,
            TrafficClass::Priority => {
                let kept = if self.wants_bulk() { for_bulk } else { 0 };
                (kept, self.in_flight_of(TrafficClass::Bulk))
            }
            // What waits of priority may not have what is for bulk.
            TrafficClass::Bulk if with_it <= for_bulk => {
                (self.in_flight_of(TrafficClass::Priority), self.priority_ahead())
            }
            TrafficClass::Bulk => {
                let ahead = self.priority_ahead();
                (ahead, ahead)
            }
        };
        let is_first = own == 0 && !(self.rate.is_measuring() && others > 0);
        is_first || with_it.saturating_add(before) <= bound
    }

    /// A lane may have more control from elsewhere in flight: while priority or bulk waits or is in flight, as
    /// much as the link may have of those, so that whoever sends it, others keep half of the link. Else it may
    /// have what needs no rate to be known, so that own control waits behind little, or a quarter of
    /// the bound if that is more: with a half, its own queue would in time pass for distance.
    pub(super) fn takes_foreign_control(&self, at: usize) -> bool {
        let in_flight = self.lanes.get(at).map_or(0, |lane| lane.unacked.foreign_control_bytes());
        let bound = match self.in_flight_bound {
            bound if self.wants_data() => bound,
            bound => FOREIGN_CONTROL_BYTES.max(bound >> 2),
        };
        in_flight == 0 || in_flight < bound
    }

    /// Priority or bulk waits or is in flight.
    pub(super) fn wants_data(&self) -> bool {
        self.wants_bulk() || self.has_priority() || self.in_flight_of(TrafficClass::Priority) > 0
    }

    /// Lanes may share one bottleneck, and what may be in flight is the link's: while it is scarce, a
    /// lane leaves the next turn to another one with bulk waiting that has less of it, or as much and
    /// has been served less (start-time fair queueing, Goyal et al., 1996). A lane whose own way is
    /// slower has more in flight, and nobody waits for it. While striped bulk waits, any lane could take
    /// the turn: it is that of the one that delivers first.
    fn owes_turn(&self, at: usize, in_flight: u64, frames: u64, len: u64) -> bool {
        if !self.is_scarce(in_flight) {
            return false;
        }
        if self.striping.front().is_some() {
            return !self.delivers_first(at, frames, len);
        }
        let Some(own) = self.lanes.get(at) else { return false };
        let own_bytes = own.unacked.bulk_bytes();
        let is_next = |lane: &Lane| {
            let bytes = lane.unacked.bulk_bytes();
            let has_less = bytes.saturating_add(len) <= own_bytes
                || (bytes <= own_bytes && self.turn_of(lane) < self.turn_of(own));
            !lane.quiet && lane.has_bulk() && has_less && self.has_space(lane, len)
        };
        self.lanes.iter().enumerate().any(|(other, lane)| other != at && is_next(lane))
    }

    /// No other lane that can send would have delivered the bulk in flight over it sooner, and what it
    /// is sent next. One that bulk leaves is among them as long as some waits for it: nobody else can send
    /// that.
    ///
    /// Each lane goes by its own rate: lanes of any speed are kept busy for equally long, whether they
    /// share a bottleneck or not, and records come nearly in the order in which they were sent.
    pub(super) fn delivers_first(&self, at: usize, frames: u64, len: u64) -> bool {
        let own_nanos = self.lanes.get(at).map_or(0, Lane::drain_nanos);
        let is_sooner = |lane: &Lane| {
            let sends = lane.carries.contains(TrafficClass::Bulk) || lane.has_bulk();
            let is_sooner = !lane.quiet && sends && lane.drain_nanos() < own_nanos;
            is_sooner && self.may_follow(lane, frames, len)
        };
        !self.lanes.iter().any(is_sooner)
    }

    /// A lane has window and credit for what it is to send again or in pieces, else for a new batch.
    fn may_follow(&self, lane: &Lane, frames: u64, len: u64) -> bool {
        let (frames, len) =
            match (lane.split(TrafficClass::Bulk), lane.resend_front(TrafficClass::Bulk)) {
                (Some(split), _) => (1, wide(self.piece_len(split.left_bytes()))),
                (None, Some(front)) => (front.counted(), front.counted_bytes()),
                (None, None) => (frames, len),
            };
        self.has_space(lane, len) && lane.credit.allows(lane.unacked.sent(), frames, len)
    }

    /// Window and credit of a lane do not keep it from its turn.
    fn has_space(&self, lane: &Lane, len: u64) -> bool {
        let window = self.config.window_bytes.saturating_sub(self.config.window_control_bytes);
        lane.credit.left_bytes() > len && lane.unacked.backing_bytes() < window >> 1
    }

    const fn is_scarce(&self, in_flight: u64) -> bool {
        in_flight >= self.in_flight_bound >> 1
    }

    /// A lane that had nothing to send has missed its turns.
    fn turn_of(&self, lane: &Lane) -> u64 {
        lane.bulk_served.max(self.bulk_turn)
    }

    /// A lane sends so much bulk. Others that left it the turn may have theirs now.
    pub(super) fn take_turn(&mut self, at: usize, in_flight: u64, len: u64) {
        let Some(turn) = self.lanes.get(at).map(|lane| self.turn_of(lane)) else { return };
        self.bulk_turn = turn;
        let is_scarce = self.is_scarce(in_flight);
        let striped = self.striping.front().is_some();
        for (other, lane) in self.lanes.iter_mut().enumerate() {
            if other == at {
                lane.bulk_served = turn.saturating_add(len);
            } else {
                let waits = striped && lane.carries.contains(TrafficClass::Bulk);
                lane.wanted |= waits || (is_scarce && lane.has_bulk());
            }
        }
    }
}
