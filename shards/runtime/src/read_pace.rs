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
    read_at: MonoTime,
    /// More than whatever comes.
    awaits: bool,
}

impl ReadPace {
    /// So many bytes have come.
    pub(crate) fn handle_read(&mut self, now: MonoTime, bytes: usize) {
        self.read_at = now;
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

    /// What was awaited has not come for a tick of the link. It counts its peer's bytes by ticks: from now on
    /// the reader is to be woken for any.
    pub(crate) fn stops_awaiting(&mut self, now: MonoTime, tick: Duration) -> bool {
        let stops = self.awaits && now.saturating_since(self.read_at) >= tick;
        self.awaits &= !stops;
        stops
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
    fn what_does_not_come_within_a_tick_is_not_awaited_any_more() {
        let (mut pace, tick) = (after(7000), Duration::from_millis(100));
        let at = |ms: u64| MonoTime::from_nanos((990 + ms) * 1_000_000);
        assert!(!pace.stops_awaiting(at(1000), tick), "nothing is");
        assert_eq!(pace.awaited_bytes(4000), 4000);
        assert!(!pace.stops_awaiting(at(99), tick));
        assert!(pace.stops_awaiting(at(100), tick));
        assert!(!pace.stops_awaiting(at(200), tick), "once");
        assert_eq!(pace.awaited_bytes(0), 1);
        assert!(!pace.stops_awaiting(at(300), tick));
    }

    #[test]
    fn a_lane_that_was_silent_is_not_fast_any_more() {
        let mut pace = after(7000);
        pace.handle_read(MonoTime::from_nanos(5_000_000_000), 100_000);
        assert_eq!(pace.awaited_bytes(4000), 1);
    }
}
