use std::collections::VecDeque;
use std::time::Duration;

use hawser_wire::MonoTime;

/// Least time that a sample of a link's rate spans.
pub(crate) const SPAN_MIN: Duration = Duration::from_millis(20);

/// Marks are no nearer to each other than so.
const SPACING: Duration = Duration::from_millis(5);

/// What was delivered at some time, and when that of it which was sent last had been sent.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Mark {
    pub(crate) delivered_bytes: u64,
    pub(crate) delivered_at: MonoTime,
    pub(crate) sent_at: MonoTime,
}

impl Mark {
    fn age(&self, now: MonoTime) -> Duration {
        now.saturating_since(self.delivered_at)
    }
}

/// Where samples of a link's rate begin that reach back for [`SPAN_MIN`] and little longer.
///
/// A shaper lets pass, at the speed of the wire, what its bucket has gathered while nothing came: over
/// one short round trip that looks like many times its rate.
#[derive(Debug)]
pub(crate) struct DeliveryMarks {
    /// Oldest first; all but the first are younger than the least span.
    marks: VecDeque<Mark>,
}

impl DeliveryMarks {
    pub(crate) const fn new() -> Self {
        Self { marks: VecDeque::new() }
    }

    /// Something is sent after a pause, of which no more than the least span is to count.
    pub(crate) fn restart(&mut self, now: MonoTime, delivered_bytes: u64) {
        let since = now.saturating_since(MonoTime::ZERO).saturating_sub(SPAN_MIN);
        let at = MonoTime::ZERO.saturating_add(since);
        self.marks.clear();
        self.marks.push_back(Mark { delivered_bytes, delivered_at: at, sent_at: at });
    }

    /// So much is delivered now; where the sample begins.
    pub(crate) fn handle_ack(&mut self, now: Mark) -> Mark {
        let at = now.delivered_at;
        while self.marks.get(1).is_some_and(|next| next.age(at) >= SPAN_MIN) {
            self.marks.pop_front();
        }
        if self.marks.back().is_none_or(|last| last.age(at) >= SPACING) {
            self.marks.push_back(now);
        }
        self.marks.front().copied().unwrap_or(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(ms: u64, delivered_bytes: u64) -> Mark {
        let at = MonoTime::from_nanos(ms.saturating_mul(1_000_000));
        Mark { delivered_bytes, delivered_at: at, sent_at: at }
    }

    #[test]
    fn a_sample_reaches_back_for_the_span_and_little_longer() {
        let mut marks = DeliveryMarks::new();
        let mut newest = 0;
        for ms in 1000..2000 {
            let from = marks.handle_ack(mark(ms, ms));
            if ms >= 1020 {
                assert!((20..=25).contains(&(ms - from.delivered_bytes)), "at {ms}: {from:?}");
            }
            newest = newest.max(marks.marks.len());
        }
        assert!(newest <= 6, "{newest} marks");
    }

    #[test]
    fn a_pause_counts_for_no_more_than_the_span() {
        let mut marks = DeliveryMarks::new();
        marks.handle_ack(mark(1000, 10));
        marks.restart(mark(9000, 0).delivered_at, 10);
        assert_eq!(marks.handle_ack(mark(9001, 20)), mark(8980, 10));
    }
}
