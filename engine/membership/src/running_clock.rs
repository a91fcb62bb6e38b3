//! Time as this node has lived it.

use std::time::Duration;

use hawser_wire::MonoTime;

/// Runs with the driver's clock, but not through times at which this node did not: whoever slept
/// heard no acks, and must not hold that against others. Never runs backwards.
///
/// Lifeguard (§III) found that most false accusations come from members that are slow themselves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RunningClock {
    outer_base: MonoTime,
    outer_last: MonoTime,
    base: MonoTime,
    last: MonoTime,
}

impl RunningClock {
    /// Reads `now` at `now`.
    pub(crate) const fn new(now: MonoTime) -> Self {
        Self { outer_base: now, outer_last: now, base: now, last: now }
    }

    /// It is `now`; something was due at `due`, in the time of this clock. True if the driver comes
    /// more than `late_max` too late: then this clock stood still from `due` on.
    pub(crate) fn advance(
        &mut self,
        now: MonoTime,
        due: Option<MonoTime>,
        late_max: Duration,
    ) -> bool {
        if now < self.outer_last {
            // A clock that was set back goes on from here.
            (self.outer_base, self.base) = (now, self.last);
        }
        self.outer_last = now;
        let time = self.base.saturating_add(now.saturating_since(self.outer_base)).max(self.last);
        let slept = due.filter(|due| time.saturating_since(*due) > late_max);
        if let Some(due) = slept {
            self.last = due.max(self.last);
            (self.outer_base, self.base) = (now, self.last);
        } else {
            self.last = time;
        }
        slept.is_some()
    }

    /// The time at the last [`Self::advance`].
    pub(crate) const fn now(&self) -> MonoTime {
        self.last
    }

    /// When the driver's clock will read what is `time` on this one.
    pub(crate) fn outer(&self, time: MonoTime) -> MonoTime {
        self.outer_base.saturating_add(time.saturating_since(self.base))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATE: Duration = Duration::from_millis(50);

    fn ms(ms: u64) -> MonoTime {
        MonoTime::ZERO.saturating_add(Duration::from_millis(ms))
    }

    #[test]
    fn sleep_does_not_count() {
        let mut clock = RunningClock::new(ms(1000));
        assert!(!clock.advance(ms(1100), Some(ms(1090)), LATE));
        assert_eq!(clock.now(), ms(1100));
        assert!(clock.advance(ms(9000), Some(ms(1200)), LATE));
        assert_eq!(clock.now(), ms(1200));
        assert_eq!(clock.outer(ms(1300)), ms(9100));
        assert!(!clock.advance(ms(9100), Some(ms(1300)), LATE));
        assert_eq!(clock.now(), ms(1300));
    }

    #[test]
    fn a_clock_set_back_goes_on() {
        let mut clock = RunningClock::new(ms(1000));
        clock.advance(ms(1500), None, LATE);
        clock.advance(ms(200), None, LATE);
        assert_eq!(clock.now(), ms(1500));
        clock.advance(ms(300), None, LATE);
        assert_eq!(clock.now(), ms(1600));
        assert_eq!(clock.outer(ms(1700)), ms(400));
    }
}
