use std::time::Duration;

use hawser_wire::MonoTime;

/// The wait doubles with each expiry up to so many times the first.
const BACKOFF_SHIFT_MAX: u32 = 4;

/// Says when what is under way on a path has to be taken for lost: without progress for
/// max(1 s, 4 × smoothed round trip), doubled with each expiry until a round trip is measured again
/// (RFC 6298 §5).
#[derive(Debug)]
pub struct ResendTimer {
    wait_min: Duration,
    srtt: Duration,
    expires_at: Option<MonoTime>,
    /// Expiries since a round trip was measured.
    expiries: u32,
    /// It has expired and nothing has moved since.
    is_stalled: bool,
}

impl ResendTimer {
    /// A timer that is not running and waits for `wait_min` at least.
    #[must_use]
    pub const fn new(wait_min: Duration) -> Self {
        Self { wait_min, srtt: Duration::ZERO, expires_at: None, expiries: 0, is_stalled: false }
    }

    /// Smoothed round trip (RFC 6298 §2); zero before the first sample.
    #[must_use]
    pub const fn srtt(&self) -> Duration {
        self.srtt
    }

    /// How long it waits for progress.
    #[must_use]
    pub fn wait(&self) -> Duration {
        let wait = self.wait_min.max(self.srtt.saturating_mul(4));
        wait.saturating_mul(1_u32 << self.expiries.min(BACKOFF_SHIFT_MAX))
    }

    /// It expired, and nothing has moved since.
    #[must_use]
    pub const fn is_backed_off(&self) -> bool {
        self.is_stalled
    }

    /// A round trip was measured, of something that was sent once only: the wait may be too long, but
    /// is not too short (RFC 6298 §5, the second note).
    pub fn handle_rtt(&mut self, sample: Duration) {
        self.expiries = 0;
        self.srtt = if self.srtt.is_zero() {
            sample
        } else {
            self.srtt.saturating_mul(7).saturating_add(sample).checked_div(8).unwrap_or(sample)
        };
    }

    /// Something was sent. Runs from the first on.
    pub fn handle_sent(&mut self, now: MonoTime) {
        if self.expires_at.is_none() {
            self.expires_at = Some(now.saturating_add(self.wait()));
        }
    }

    /// Something arrived; begins to wait anew if more is under way.
    pub fn handle_progress(&mut self, now: MonoTime, more: bool) {
        self.is_stalled = false;
        self.expires_at = more.then(|| now.saturating_add(self.wait()));
    }

    /// Nothing is under way any more. What was learned stays.
    pub const fn stop(&mut self) {
        self.expires_at = None;
    }

    /// True if it has expired; then it stops, until something is sent.
    pub fn handle_timeout(&mut self, now: MonoTime) -> bool {
        let expired = self.expires_at.is_some_and(|at| at <= now);
        if expired {
            self.expires_at = None;
            self.is_stalled = true;
            self.expiries = self.expiries.saturating_add(1);
        }
        expired
    }

    /// When it expires.
    #[must_use]
    pub const fn poll_timeout(&self) -> Option<MonoTime> {
        self.expires_at
    }
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "a test that overflows fails, as it should")]
mod tests {
    use super::*;

    fn at(millis: u64) -> MonoTime {
        MonoTime::from_nanos(millis * 1_000_000)
    }

    #[test]
    fn it_runs_from_the_first_sending_and_anew_from_each_progress() {
        let mut timer = ResendTimer::new(Duration::from_secs(1));
        assert_eq!(timer.poll_timeout(), None);
        timer.handle_sent(at(100));
        timer.handle_sent(at(600));
        assert_eq!(timer.poll_timeout(), Some(at(1100)));
        timer.handle_progress(at(900), true);
        assert_eq!(timer.poll_timeout(), Some(at(1900)));
        assert!(!timer.handle_timeout(at(1899)));
        timer.handle_progress(at(1899), false);
        assert_eq!(timer.poll_timeout(), None);
        assert!(!timer.handle_timeout(at(9999)));
    }

    #[test]
    fn it_waits_four_round_trips_if_that_is_longer() {
        let mut timer = ResendTimer::new(Duration::from_secs(1));
        timer.handle_rtt(Duration::from_millis(200));
        assert_eq!(timer.wait(), Duration::from_secs(1));
        timer.handle_rtt(Duration::from_millis(1800));
        assert_eq!(timer.srtt(), Duration::from_millis(400));
        assert_eq!(timer.wait(), Duration::from_millis(1600));
    }

    #[test]
    fn it_waits_longer_after_each_expiry_until_a_round_trip_is_measured() {
        let mut timer = ResendTimer::new(Duration::from_secs(1));
        let mut now = at(0);
        for expected in [1, 2, 4, 8, 16, 16] {
            assert_eq!(timer.wait(), Duration::from_secs(expected));
            timer.handle_sent(now);
            now = timer.poll_timeout().unwrap();
            assert!(timer.handle_timeout(now));
            assert!(timer.is_backed_off());
            assert!(!timer.handle_timeout(now));
        }
        timer.handle_progress(now, true);
        assert!(!timer.is_backed_off());
        // What moved may be what was sent first, after longer than the first wait.
        assert_eq!(timer.wait(), Duration::from_secs(16));
        timer.handle_rtt(Duration::from_millis(900));
        assert_eq!(timer.wait(), Duration::from_millis(3600));
    }
}
