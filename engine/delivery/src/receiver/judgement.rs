//! Whether a source keeps to what it was granted.

use hawser_wire::{RECORD_MESSAGES_MAX, Record, RecordView};

use super::{RecordOutcome, StreamReceiver};
use crate::StreamViolation;

impl StreamReceiver {
    /// What becomes of a record that is not taken; `None` if it is new and may be.
    pub(super) fn judge(&mut self, view: &RecordView<'_>) -> Option<RecordOutcome> {
        let header = &view.header;
        if let Some(end) = self.end.filter(|&end| header.stream_end() > end) {
            let record_end = header.stream_end();
            return Some(self.refuse(StreamViolation::BeyondEnd { record_end, end }));
        }
        if header.stream_end() <= self.frontier || self.early.contains(header.stream_base) {
            return Some(RecordOutcome::Duplicate);
        }
        if let Some(violation) = self.beyond_credit(view) {
            if self.inherits {
                return Some(RecordOutcome::Refused);
            }
            return Some(self.refuse(violation));
        }
        let stranger = !self.producers.contains_key(&header.producer)
            && self.producers.len() >= self.limits.producers_max;
        stranger.then_some(RecordOutcome::Refused)
    }

    /// A record may begin below the credit and end above it. Where one that came early begins is not
    /// known, only what must lie before it: what is here, or what the missing messages take at least.
    fn beyond_credit(&self, view: &RecordView<'_>) -> Option<StreamViolation> {
        let (base, granted) = (view.header.stream_base, self.granted_bytes);
        let missing = base.0.saturating_sub(self.frontier.0);
        let begins = self.taken_bytes.saturating_add(least_bytes(missing));
        if begins >= granted {
            return Some(if missing == 0 {
                StreamViolation::CreditOverrun { begins, granted }
            } else {
                let frontier = self.frontier;
                StreamViolation::SequenceJump { base, frontier, begins, granted }
            });
        }
        if missing == 0 {
            return None;
        }
        // Of all that came early only the last may end above the credit.
        let bytes = view.charge_bytes();
        let early = self.early.bytes().saturating_add(bytes);
        let last = self.early.last().filter(|&(other, _)| other > base);
        let before_last = early.saturating_sub(last.map_or(bytes, |(_, bytes)| bytes));
        let granted = granted.saturating_sub(self.taken_bytes);
        let is_beyond = before_last >= granted;
        is_beyond.then_some(StreamViolation::ReorderOverrun { early, granted })
    }

    /// Nothing more is taken from the source in its present life. What came in order stays.
    fn refuse(&mut self, violation: StreamViolation) -> RecordOutcome {
        self.refused = Some(violation);
        self.violation = Some(violation);
        self.early.clear();
        self.seen = self.frontier;
        RecordOutcome::Refused
    }

    /// What the source has done, once.
    pub fn poll_violation(&mut self) -> Option<StreamViolation> {
        self.violation.take()
    }
}

/// What so many messages count for at the least.
fn least_bytes(messages: u64) -> u64 {
    let most = u64::try_from(RECORD_MESSAGES_MAX).unwrap_or(u64::MAX);
    let records = messages.div_ceil(most);
    messages.saturating_add(records.saturating_mul(Record::charge_of(&[], &[])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_that_are_missing_take_a_byte_each_and_the_records_that_they_need() {
        let record = Record::charge_of(&[], &[]);
        assert_eq!(least_bytes(0), 0);
        assert_eq!(least_bytes(1), 1 + record);
        assert_eq!(least_bytes(1025), 1025 + 2 * record);
        assert_eq!(least_bytes(u64::MAX), u64::MAX);
    }
}
