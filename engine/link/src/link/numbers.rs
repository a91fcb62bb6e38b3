//! Which link sequences may be given out.

use hawser_wire::TrafficClass;

use super::VirtualLink;
use crate::lane::Lane;
use crate::origin::Origin;

/// While a window is acknowledged, the lowest sequence is looked for so often (as a power of two).
const LOOKS_LOG2: u32 = 6;

impl VirtualLink {
    /// Link sequences in flight stay within the window in which the peer can tell duplicates, and are no
    /// jump to it, whichever comes first. The last eighth of it is for this node's control, and the one before
    /// for control and priority: many small records that wait, or a few that wait for long, refuse none of what
    /// keeps the mesh together.
    pub(super) fn has_sequence(&mut self, class: TrafficClass, origin: Origin) -> bool {
        let kept = self.kept_sequences(class, origin);
        if self.is_within_window(self.lowest_sequence, kept) {
            return true;
        }
        let is_empty = self.is_empty();
        // Who asks again before anything has gone is answered at once: to find the lowest takes long.
        if !is_empty && self.is_lowest_exact {
            let lowest = || self.find_lowest_sequence();
            let has_gone = self.acked_unseen > 0;
            debug_assert!(has_gone || !self.is_within_window(lowest(), kept), "something has gone");
            return false;
        }
        let lowest = self.find_lowest_sequence();
        if is_empty && lowest == self.next_sequence {
            // The others had left the link before they were sent, or were lost: the peer will not see
            // them, and nothing that it might acknowledge makes the next one less far ahead.
            self.next_sequence = self.peer_sequences.sent().saturating_add(1);
            self.lowest_sequence = self.next_sequence;
            self.moved_before = None;
            self.flows.handle_renumbered();
            return true;
        }
        if lowest < self.next_sequence {
            (self.lowest_sequence, self.is_lowest_exact) = (lowest, true);
        }
        self.is_within_window(lowest, kept)
    }

    /// Link sequences that frames of a class leave to others.
    const fn kept_sequences(&self, class: TrafficClass, origin: Origin) -> u64 {
        let eighth = self.config.sequence_window >> 3;
        match (class, origin) {
            (TrafficClass::Control, Origin::Own) => 0,
            (TrafficClass::Control, Origin::Foreign) | (TrafficClass::Priority, _) => eighth,
            (TrafficClass::Bulk, _) => eighth.saturating_mul(2),
        }
    }

    /// Something may have gone, and whatever is here is where it belongs: who waits for a sequence is told
    /// whether there is one now.
    pub(super) fn note_gone(&mut self) {
        self.acked_unseen = 0;
        if self.lacks_sequence(TrafficClass::Bulk) && !self.is_empty() {
            self.lowest_sequence = self.find_lowest_sequence();
        } else {
            self.is_lowest_exact = false;
        }
    }

    /// So many frames were acknowledged. While bulk lacks sequences it is not looked at all that waits for
    /// each of them, which is as the peer likes, but for parts of the window, and at ticks.
    pub(super) fn note_acked(&mut self, frames: u64) {
        if frames == 0 {
            return;
        }
        self.acked_unseen = self.acked_unseen.saturating_add(frames);
        let is_due = self.acked_unseen >= self.config.sequence_window >> LOOKS_LOG2;
        if is_due || !self.lacks_sequence(TrafficClass::Bulk) || self.is_empty() {
            self.note_gone();
        }
    }

    /// There is none for a frame of `class` until something goes.
    pub(super) fn lacks_sequence(&self, class: TrafficClass) -> bool {
        self.is_lowest_exact
            && !self.is_within_window(self.lowest_sequence, self.kept_sequences(class, Origin::Own))
    }

    /// The next link sequence may be given out, if `lowest` is the lowest of a frame that is here and so many
    /// of the window are kept for others.
    pub(super) fn is_within_window(&self, lowest: u64, kept: u64) -> bool {
        let span = self.next_sequence.saturating_sub(lowest).saturating_add(1);
        let ahead = self.next_sequence.saturating_sub(self.peer_sequences.at_least());
        span.max(ahead).saturating_add(kept) < self.config.sequence_window
    }

    /// Nothing waits, and of nothing that was sent it is open whether the peer has it.
    fn is_empty(&self) -> bool {
        self.lanes.iter().all(|lane| lane.unacked.is_settled())
            && self.departed.iter().all(|departed| departed.unacked().is_settled())
            && self.queued_bytes_total() == 0
    }

    pub(super) fn find_lowest_sequence(&self) -> u64 {
        let lanes = self.lanes.iter().map(Lane::lowest);
        let departed = self.departed.iter().map(|departed| departed.unacked().lowest());
        let orphans = self.orphans.iter().map(|(_, batch)| batch.lowest());
        let classes = [self.control.lowest(), self.priority.lowest()];
        let unbound = [self.flows.lowest(), self.striping.lowest(), self.next_sequence];
        let queues = classes.into_iter().chain(unbound);
        lanes.chain(departed).chain(orphans).chain(queues).min().unwrap_or(self.next_sequence)
    }
}
