use std::time::Duration;

/// How long an end of a link waits for its core, on average over the times at which it might have
/// something to do.
///
/// The ticks of the link are such times: nobody chooses them, so how late they are handled is how late
/// whatever comes then is handled. Smoothed as a round trip (RFC 6298 §2).
#[derive(Debug, Default)]
pub(crate) struct TurnDelay {
    own: Duration,
    /// As it said last.
    peer: Duration,
    /// It has not said so since the last tick.
    peer_is_old: bool,
    /// What the peer was told last is something.
    is_told: bool,
}

/// An end that is late by more does not wait for its core: its host stood still.
const SAMPLE_MAX: Duration = Duration::from_millis(50);

/// What is no more is no waiting: timers, and the way to a thread that sleeps, are as exact as that.
const TOLERANCE: Duration = Duration::from_micros(250);

impl TurnDelay {
    /// A tick is handled so late. What the peer is to be told, if anything.
    pub(crate) fn handle_tick(&mut self, late: Duration) -> Option<Duration> {
        let sample = if late <= TOLERANCE { Duration::ZERO } else { late.min(SAMPLE_MAX) };
        self.own = smooth(self.own, sample);
        if std::mem::replace(&mut self.peer_is_old, true) {
            // It has none to speak of any more, or its word was lost with a lane.
            self.peer = smooth(self.peer, Duration::ZERO);
        }
        let is_some = self.own >= TOLERANCE;
        (std::mem::replace(&mut self.is_told, is_some) || is_some).then_some(self.own)
    }

    /// The peer says how long it waits.
    pub(crate) fn handle_peer(&mut self, delay: Duration) {
        (self.peer, self.peer_is_old) = (delay.min(SAMPLE_MAX), false);
    }

    /// Of both ends.
    pub(crate) fn both(&self) -> Duration {
        self.own.saturating_add(self.peer)
    }
}

fn smooth(mean: Duration, sample: Duration) -> Duration {
    mean.saturating_mul(7).saturating_add(sample).checked_div(8).unwrap_or(sample)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn who_waits_for_its_core_says_so_and_says_when_it_is_over() {
        let mut delay = TurnDelay::default();
        for _ in 0..100 {
            assert_eq!(delay.handle_tick(Duration::from_micros(250)), None);
        }
        let told: Vec<_> = (0..40).filter_map(|_| delay.handle_tick(ms(10))).collect();
        assert!(told.is_sorted() && told.last().is_some_and(|&last| last > ms(9)), "{told:?}");
        let told: Vec<_> = (0..100).filter_map(|_| delay.handle_tick(ms(0))).collect();
        assert!(told.len() < 40 && told.last().is_some_and(|&last| last < TOLERANCE), "{told:?}");
        assert_eq!(delay.handle_tick(ms(0)), None);
    }

    #[test]
    fn a_host_that_stood_still_once_counts_for_little() {
        let mut delay = TurnDelay::default();
        delay.handle_tick(Duration::from_secs(5));
        assert!(delay.both() <= ms(7), "{:?}", delay.both());
    }

    #[test]
    fn the_peers_word_fades_unless_it_is_repeated() {
        let mut delay = TurnDelay::default();
        for _ in 0..20 {
            delay.handle_peer(ms(8));
            delay.handle_tick(ms(0));
        }
        assert_eq!(delay.both(), ms(8));
        for _ in 0..20 {
            delay.handle_tick(ms(0));
        }
        assert!(delay.both() < ms(1), "{:?}", delay.both());
        delay.handle_peer(Duration::from_secs(3600));
        assert_eq!(delay.both(), SAMPLE_MAX, "no peer has more in flight for its word");
    }
}
