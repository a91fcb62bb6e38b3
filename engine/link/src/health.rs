use std::time::Duration;

use hawser_wire::MonoTime;

/// How a lane is watched.
#[derive(Clone, Copy, Debug)]
pub struct HealthLimits {
    /// A heartbeat is sent this often.
    pub tick: Duration,
    /// After this many own ticks without a byte from the peer the lane is dead.
    pub dead_after_ticks: u32,
}

impl Default for HealthLimits {
    fn default() -> Self {
        Self { tick: Duration::from_millis(100), dead_after_ticks: 10 }
    }
}

/// What a tick asks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum HealthAction {
    /// Send a heartbeat.
    Heartbeat,
    /// Nothing was heard for too long: close the lane.
    Dead,
}

/// Watches one lane. Any received byte is life.
///
/// A tick counts only if this side ran: after a stall of its own it has no right to call the peer
/// silent, so the missed ticks count as one.
#[derive(Debug)]
pub struct LaneHealth {
    limits: HealthLimits,
    next_tick: MonoTime,
    silent_ticks: u32,
    srtt: Duration,
}

impl LaneHealth {
    /// A lane that has just come up.
    #[must_use]
    pub const fn new(now: MonoTime, limits: HealthLimits) -> Self {
        Self { limits, next_tick: now, silent_ticks: 0, srtt: Duration::ZERO }
    }

    /// Bytes arrived.
    pub const fn handle_bytes(&mut self) {
        self.silent_ticks = 0;
    }

    /// The echo of a heartbeat arrived.
    pub fn handle_echo(&mut self, now: MonoTime, sent: MonoTime) {
        let sample = now.saturating_since(sent);
        self.srtt = if self.srtt.is_zero() {
            sample
        } else {
            self.srtt.saturating_mul(7).saturating_add(sample).checked_div(8).unwrap_or(sample)
        };
    }

    /// Smoothed round trip (RFC 6298 §2); zero before the first echo.
    #[must_use]
    pub const fn srtt(&self) -> Duration {
        self.srtt
    }

    /// What is due, if anything is.
    pub fn handle_timeout(&mut self, now: MonoTime) -> Option<HealthAction> {
        if now < self.next_tick {
            return None;
        }
        self.next_tick = now.saturating_add(self.limits.tick);
        self.silent_ticks = self.silent_ticks.saturating_add(1);
        if self.silent_ticks > self.limits.dead_after_ticks {
            return Some(HealthAction::Dead);
        }
        Some(HealthAction::Heartbeat)
    }

    /// When the next tick is due.
    #[must_use]
    pub const fn poll_timeout(&self) -> MonoTime {
        self.next_tick
    }
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "a test may panic")]
mod tests {
    use super::*;

    fn at(millis: u64) -> MonoTime {
        MonoTime::from_nanos(millis * 1_000_000)
    }

    #[test]
    fn ten_silent_ticks_are_death_and_a_byte_is_life() {
        let mut health = LaneHealth::new(at(0), HealthLimits::default());
        for tick in 0..10 {
            assert_eq!(health.handle_timeout(at(tick * 100)), Some(HealthAction::Heartbeat));
            assert_eq!(health.handle_timeout(at(tick * 100 + 50)), None);
        }
        health.handle_bytes();
        for tick in 10..20 {
            assert_eq!(health.handle_timeout(at(tick * 100)), Some(HealthAction::Heartbeat));
        }
        assert_eq!(health.handle_timeout(at(2000)), Some(HealthAction::Dead));
    }

    #[test]
    fn an_own_stall_counts_as_one_tick() {
        let mut health = LaneHealth::new(at(0), HealthLimits::default());
        assert_eq!(health.handle_timeout(at(0)), Some(HealthAction::Heartbeat));
        assert_eq!(health.handle_timeout(at(60_000)), Some(HealthAction::Heartbeat));
        assert_eq!(health.poll_timeout(), at(60_100));
    }

    #[test]
    fn round_trips_are_smoothed() {
        let mut health = LaneHealth::new(at(0), HealthLimits::default());
        health.handle_echo(at(8), at(0));
        assert_eq!(health.srtt(), Duration::from_millis(8));
        health.handle_echo(at(116), at(100));
        assert_eq!(health.srtt(), Duration::from_millis(9));
    }
}
