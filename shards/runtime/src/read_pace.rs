use std::time::Duration;

use hawser_wire::MonoTime;

/// Bytes are counted for so long at least, and what they say holds for as long again.
const SPAN: Duration = Duration::from_millis(100);
/// A lane that brings less in a span is not waited for: it costs little to be woken for each packet of it,
/// and that something comes shows that it lives.
const SPAN_BYTES_MIN: usize = 64 << 10;
/// Less than two packets wake their reader but once more.
const AWAITED_BYTES_MIN: usize = 1448;
/// What a lane of that pace brings in an eighth of a span.
const AWAITED_BYTES_MAX: usize = 8 << 10;

/// How fast a lane brings bytes, for how many of them its reader may sleep on.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ReadPace {
    since: MonoTime,
    bytes: usize,
    is_fast: bool,
    /// More than whatever comes.
    awaits: bool,
}

impl ReadPace {
    /// So many bytes have come.
    pub(crate) fn handle_read(&mut self, now: MonoTime, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes);
        let passed = now.saturating_since(self.since);
        if passed >= SPAN {
            self.is_fast = self.bytes >= SPAN_BYTES_MIN && passed < SPAN.saturating_mul(2);
            (self.since, self.bytes) = (now, 0);
        }
    }

    /// For how many bytes to wait if nothing can be done before there are `missing` more; 1 for any.
    pub(crate) fn awaited_bytes(&mut self, missing: usize) -> usize {
        self.awaits = self.is_fast && missing > AWAITED_BYTES_MIN;
        if self.awaits { missing.min(AWAITED_BYTES_MAX) } else { 1 }
    }

    /// The lane is silent by the ticks of its link, which count whether any byte has come. True if its reader
    /// was to be woken for more than that, which is over.
    pub(crate) const fn handle_silence(&mut self) -> bool {
        std::mem::replace(&mut self.awaits, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A lane that brings so many bytes every ten milliseconds, for a second.
    fn after(bytes: usize) -> ReadPace {
        let mut pace = ReadPace::default();
        for turn in 0..100 {
            pace.handle_read(MonoTime::from_nanos(turn * 10_000_000), bytes);
        }
        pace
    }

    #[test]
    fn a_fast_lane_is_waited_for_and_a_slow_one_is_not() {
        assert_eq!(after(7000).awaited_bytes(4000), 4000);
        assert_eq!(after(7000).awaited_bytes(16_000), 8192);
        assert_eq!(after(7000).awaited_bytes(1448), 1);
        assert_eq!(after(7000).awaited_bytes(0), 1);
        assert_eq!(after(6000).awaited_bytes(4000), 1);
        assert_eq!(ReadPace::default().awaited_bytes(4000), 1);
    }

    #[test]
    fn of_a_silent_lane_nothing_is_awaited_any_more() {
        let mut pace = after(7000);
        assert!(!pace.handle_silence(), "nothing is");
        assert_eq!(pace.awaited_bytes(4000), 4000);
        assert!(pace.handle_silence());
        assert!(!pace.handle_silence(), "once");
        assert_eq!(pace.awaited_bytes(4000), 4000);
        assert_eq!(pace.awaited_bytes(0), 1);
        assert!(!pace.handle_silence());
    }

    #[test]
    fn a_lane_that_was_silent_is_not_fast_any_more() {
        let mut pace = after(7000);
        pace.handle_read(MonoTime::from_nanos(5_000_000_000), 100_000);
        assert_eq!(pace.awaited_bytes(4000), 1);
    }
}
