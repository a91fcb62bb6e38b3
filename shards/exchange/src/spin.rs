use std::time::{Duration, Instant};

/// How a thread looks for work before it sleeps.
///
/// Waking a thread that sleeps takes 30 µs and more where the core has to be woken too; one that
/// still looks finds a message in under 1 µs.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Spin {
    /// How long to look after the last message of an application; zero: sleep at once.
    pub budget: Duration,
    /// Other threads of this node that move data run on the same core: a shard, fresh from its sleep,
    /// that has handed something to an API thread lets them go first.
    pub shares_core: bool,
}

/// Whether looking is worth it on a core that others want, too.
///
/// Whoever waits for the core goes first at each look. Threads of nodes are back from that within some
/// hundred microseconds; one that computes keeps the core for its whole time slice, some milliseconds,
/// and a message waits for its end. A thread that sleeps is put before it when it is woken. So who has been
/// away for so long sleeps instead of looking, for a while, and for twice as long each time.
#[derive(Debug, Default)]
pub struct Lookout {
    not_before: Option<Instant>,
    /// How long it was left out last; zero if the last look was short.
    pause: Duration,
}

/// No thread of a node keeps a core for so long at once.
const AWAY: Duration = Duration::from_millis(1);
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_millis(1600);

impl Lookout {
    /// Whether to look for work at `now`, rather than to sleep.
    #[must_use]
    pub fn may_look(&self, now: Instant) -> bool {
        self.not_before.is_none_or(|at| now >= at)
    }

    /// To be called after a look that found nothing: whoever waits for this core goes first, be it of
    /// this node or not.
    pub fn relax(&mut self) {
        let from = Instant::now();
        std::thread::yield_now();
        self.note(from, Instant::now());
    }

    /// Others had the core from `from` to `back`.
    fn note(&mut self, from: Instant, back: Instant) {
        if back.saturating_duration_since(from) < AWAY {
            self.pause = Duration::ZERO;
            return;
        }
        self.pause = self.pause.saturating_mul(2).clamp(PAUSE_MIN, PAUSE_MAX);
        self.not_before = back.checked_add(self.pause);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_micros(300);
    const LONG: Duration = Duration::from_millis(3);

    #[test]
    fn who_was_away_for_long_sleeps_for_a_while_and_longer_each_time() {
        let (mut lookout, mut now) = (Lookout::default(), Instant::now());
        assert!(lookout.may_look(now));
        for pause in [50, 100, 200, 400, 800, 1600, 1600].map(Duration::from_millis) {
            let back = now + LONG;
            lookout.note(now, back);
            assert!(!lookout.may_look(back));
            assert!(!lookout.may_look(back + pause - Duration::from_nanos(1)));
            now = back + pause;
            assert!(lookout.may_look(now), "after {pause:?}");
        }
        lookout.note(now, now + SHORT);
        assert!(lookout.may_look(now + SHORT));
        lookout.note(now, now + LONG);
        assert!(lookout.may_look(now + LONG + PAUSE_MIN), "the core was free meanwhile");
    }

    #[test]
    fn short_absences_cost_nothing() {
        let (mut lookout, now) = (Lookout::default(), Instant::now());
        for n in 0..100 {
            lookout.note(now + n * SHORT, now + (n + 1) * SHORT);
            assert!(lookout.may_look(now + (n + 1) * SHORT));
        }
    }
}
