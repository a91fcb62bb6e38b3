use std::time::Duration;

use hawser_wire::MonoTime;

/// Watches one lane: how long it was silent, its round trip, and how often the peer asks for echoes.
///
/// Any received byte is life. A tick counts only if this side ran and read what its sockets had: after
/// a stall of its own it has no right to call the peer silent.
#[derive(Debug)]
pub(crate) struct LaneWatch {
    silent_ticks: u32,
    /// Since the last echo, once there was one.
    unanswered_ticks: u32,
    srtt: Duration,
    min_rtt: Duration,
    /// Heartbeats that may come now, in nanoseconds' worth of their rate.
    allowance: Duration,
    allowed_at: MonoTime,
}

/// Seconds' worth of heartbeats that may come at once.
const BURST: Duration = Duration::from_secs(10);

impl LaneWatch {
    pub(crate) const fn new(now: MonoTime) -> Self {
        Self {
            silent_ticks: 0,
            unanswered_ticks: 0,
            srtt: Duration::ZERO,
            min_rtt: Duration::ZERO,
            allowance: BURST,
            allowed_at: now,
        }
    }

    /// Bytes arrived.
    pub(crate) const fn handle_bytes(&mut self) {
        self.silent_ticks = 0;
    }

    /// A tick passed in which this side ran.
    pub(crate) const fn handle_tick(&mut self) {
        self.silent_ticks = self.silent_ticks.saturating_add(1);
        if !self.srtt.is_zero() {
            self.unanswered_ticks = self.unanswered_ticks.saturating_add(1);
        }
    }

    /// Ticks since the last byte.
    pub(crate) const fn silent_ticks(&self) -> u32 {
        self.silent_ticks
    }

    /// Ticks since the last byte or, if that is longer, since the first heartbeat that should have
    /// been answered and was not: a lane that is heard need not be heard at its other end.
    pub(crate) fn missed_ticks(&self, tick: Duration) -> u32 {
        // Asked for with each message that comes: what an echo may take is divided out only if one is late.
        if self.unanswered_ticks <= 1 {
            return self.silent_ticks;
        }
        let trip = self.srtt.as_nanos().checked_div(tick.as_nanos()).unwrap_or(0);
        let trip = u32::try_from(trip).unwrap_or(u32::MAX).saturating_add(1);
        self.silent_ticks.max(self.unanswered_ticks.saturating_sub(trip))
    }

    /// The peer asks for an echo; false if it asks far too often.
    pub(crate) fn handle_ping(&mut self, now: MonoTime, per_second: u32) -> bool {
        let gained = now.saturating_since(self.allowed_at);
        self.allowed_at = now;
        self.allowance = self.allowance.saturating_add(gained).min(BURST);
        let cost = Duration::from_secs(1).checked_div(per_second).unwrap_or(Duration::MAX);
        let Some(left) = self.allowance.checked_sub(cost) else { return false };
        self.allowance = left;
        true
    }

    /// An echo arrived; smoothed as in RFC 6298 §2.
    pub(crate) fn handle_round_trip(&mut self, sample: Duration) {
        self.unanswered_ticks = 0;
        self.min_rtt = if self.srtt.is_zero() { sample } else { self.min_rtt.min(sample) };
        self.srtt = if self.srtt.is_zero() {
            sample
        } else {
            self.srtt.saturating_mul(7).saturating_add(sample).checked_div(8).unwrap_or(sample)
        };
    }

    /// Least round trip of the connection; zero before the first echo.
    pub(crate) const fn min_rtt(&self) -> Duration {
        self.min_rtt
    }

    /// Smoothed round trip; zero before the first echo.
    pub(crate) const fn srtt(&self) -> Duration {
        self.srtt
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heartbeats_in_any_sensible_rhythm_pass_and_a_storm_does_not() {
        let at = |ms: u64| MonoTime::from_nanos(ms * 1_000_000);
        let mut watch = LaneWatch::new(at(0));
        for tick in 0..10_000 {
            assert!(watch.handle_ping(at(tick * 10), 500));
        }
        let now = at(200_000);
        let taken = (0..10_000).take_while(|_| watch.handle_ping(now, 500)).count();
        assert_eq!(taken, 5000);
    }

    #[test]
    fn a_byte_ends_silence() {
        let mut watch = LaneWatch::new(MonoTime::ZERO);
        watch.handle_bytes();
        watch.handle_tick();
        watch.handle_tick();
        assert_eq!(watch.silent_ticks(), 2);
        watch.handle_bytes();
        assert_eq!(watch.silent_ticks(), 0);
    }

    #[test]
    fn bytes_without_echoes_are_no_proof_of_being_heard() {
        let tick = Duration::from_millis(100);
        let mut watch = LaneWatch::new(MonoTime::ZERO);
        let run = |watch: &mut LaneWatch, ticks: u32| {
            for _ in 0..ticks {
                watch.handle_tick();
                watch.handle_bytes();
            }
            watch.missed_ticks(tick)
        };
        assert_eq!(run(&mut watch, 10), 0, "no echo yet: nothing is missed");
        watch.handle_round_trip(Duration::from_millis(250));
        assert_eq!(run(&mut watch, 3), 0, "an echo takes that long");
        assert_eq!(run(&mut watch, 2), 2);
        watch.handle_round_trip(Duration::from_millis(250));
        assert_eq!(watch.missed_ticks(tick), 0);
    }
}
