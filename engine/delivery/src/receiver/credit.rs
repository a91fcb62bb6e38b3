//! What a source is granted.

use std::time::Duration;

use hawser_wire::MonoTime;

use super::StreamReceiver;
use crate::WindowBudget;

/// A stream that has carried nothing for this long counts in the budget only with what it holds.
const RESTS_AFTER: Duration = Duration::from_secs(10);

impl StreamReceiver {
    /// What the source may send beyond what has come in order, as it is to know once all is said: the
    /// window, but for what is held.
    #[must_use]
    pub fn credit_left(&self) -> u64 {
        self.credit_with(self.window_bytes).saturating_sub(self.taken_bytes)
    }

    /// The window that the stream would have, in bytes, of as much memory as there may be.
    #[must_use]
    pub const fn window_wanted(&self) -> u64 {
        self.window.bytes()
    }

    /// Sees whether every consumer was handed everything. If so, and the source has spent what it was
    /// granted, they may wait for more before they confirm any of it: it is granted at once.
    pub(super) fn note_handed_out(&mut self) {
        let Some(last) = self.buffer.back() else { return };
        let end = last.header.stream_end();
        if self.consumers.handed_out().is_none_or(|handed| handed < end) {
            return;
        }
        self.handed_bytes = self.buffered_bytes;
        if self.told && self.taken_bytes >= self.granted_bytes {
            self.window.handle_handed_out(self.taken_bytes, self.granted_bytes);
            self.ack_urgent |= self.credit_with(self.window_bytes) > self.granted_bytes;
        }
    }

    /// Sees whether nobody is subscribed. If so, and the source has spent what it was granted, it says
    /// nothing more: it is granted at once.
    pub(super) fn note_nobody_reads(&mut self) {
        if self.consumers.is_any_attached() || !self.told || self.taken_bytes < self.granted_bytes {
            return;
        }
        let before = self.window.bytes();
        self.window.handle_handed_out(self.taken_bytes, self.granted_bytes);
        self.ack_urgent |= self.window.bytes() > before;
    }

    /// Absolute credit: what was consumed, and a window, of which `ahead_bytes` may be what consumers
    /// were not handed. What came early has its place in that already. Never lower than before.
    pub(super) fn credit_with(&self, ahead_bytes: u64) -> u64 {
        let window = self.window.bytes().min(ahead_bytes.saturating_add(self.handed_bytes));
        let through = self.taken_bytes.saturating_add(window);
        self.granted_bytes.max(through.saturating_sub(self.buffered_bytes))
    }

    /// What the source may be told now, as far as the budget goes. Nothing before it has said where the
    /// stream goes on.
    pub(super) fn grant(&mut self, budget: &mut WindowBudget) -> u64 {
        if !self.told {
            return 0;
        }
        let spent = self.taken_bytes.saturating_sub(self.buffered_bytes);
        let outstanding = self.granted_bytes.saturating_sub(spent);
        let wanted = self.window.bytes();
        self.window_bytes =
            budget.allot(self.tenant, &mut self.allotted_bytes, wanted, outstanding);
        if self.record_at.is_none() {
            self.rest(budget);
        }
        self.credit_with(self.window_bytes)
    }

    /// Only what it holds counts from now on, and the least window.
    pub(super) fn rest(&mut self, budget: &mut WindowBudget) {
        let held = self.buffered_bytes();
        budget.rest(self.tenant, &mut self.allotted_bytes, held);
    }

    /// When it rests, if nothing more comes.
    pub(super) fn rests_at(&self) -> Option<MonoTime> {
        self.record_at.map(|at| at.saturating_add(RESTS_AFTER))
    }

    /// The stream ends, or is forgotten: others may have what it has of the budget.
    pub fn leave_budget(&mut self, budget: &mut WindowBudget) {
        budget.release(self.tenant, &mut self.allotted_bytes);
    }
}
