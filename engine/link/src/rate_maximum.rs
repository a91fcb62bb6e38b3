use std::time::Duration;

use hawser_wire::MonoTime;

use crate::proportion::proportion;

const HALF_WINDOW_MIN: Duration = Duration::from_millis(500);

/// The largest of the rates that were measured of late, in bytes per second.
///
/// It is the largest of this half of a window and of the one before (BBR's max filter, with two parts in
/// place of three); while nothing is measured it stays.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RateMaximum {
    current: u64,
    previous: u64,
    half_since: MonoTime,
}

impl RateMaximum {
    pub(crate) const fn new() -> Self {
        Self { current: 0, previous: 0, half_since: MonoTime::ZERO }
    }

    pub(crate) fn handle_sample(&mut self, now: MonoTime, rate: u64, half_window: Duration) {
        if now.saturating_since(self.half_since) >= half_window {
            (self.current, self.previous, self.half_since) = (rate, self.current, now);
        } else {
            self.current = self.current.max(rate);
        }
    }

    /// Bytes per second; 0 while unknown.
    pub(crate) fn get(&self) -> u64 {
        self.current.max(self.previous)
    }
}

/// Half of the window, by the round trip.
pub(crate) fn half_window(rtt: Duration) -> Duration {
    HALF_WINDOW_MIN.max(rtt.saturating_mul(5))
}

/// So many bytes in so long, in bytes per second.
pub(crate) fn rate_of(bytes: u64, span: Duration) -> u64 {
    let nanos = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
    proportion(bytes, 1_000_000_000, nanos).unwrap_or(0)
}
