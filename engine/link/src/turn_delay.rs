use std::time::Duration;

/// How long an end of a link waits for its core, on average over the times at which it might have
/// something to do.
///
/// The ticks of the link are such times: nobody chooses them, so how late they are handled is how late
/// whatever comes then is handled. The average is one of the last [`TICKS`], without the latest
/// [`OUTLIERS`] of them: a host that once stands still for 10 ms would otherwise have, for a second,
/// five more of them stand in the queue of a slow link, before control.
#[derive(Debug, Default)]
pub(crate) struct TurnDelay {
    /// How late the last ticks were, the newest one last.
    ticks: [Duration; TICKS],
    own: Duration,
    /// As it said last.
    peer: Duration,
    /// It has not said so since the last tick.
    peer_is_old: bool,
    /// What the peer was told last is something.
    is_told: bool,
}

const TICKS: usize = 16;

/// So many of them may be an end that stood still: who waits for its core does so more often.
const OUTLIERS: usize = 1;

/// An end that is late by more does not wait for its core: its host stood still.
const SAMPLE_MAX: Duration = Duration::from_millis(50);

/// A tick that is late by no more is not late: timers, and the way to a thread that sleeps, are as exact
/// as that. On average no more is not worth telling the peer.
const TOLERANCE: Duration = Duration::from_micros(250);

impl TurnDelay {
    /// A tick is handled so late. What the peer is to be told, if anything.
    pub(crate) fn handle_tick(&mut self, late: Duration) -> Option<Duration> {
        self.ticks.rotate_left(1);
        let [.., newest] = &mut self.ticks;
        *newest = if late <= TOLERANCE { Duration::ZERO } else { late.min(SAMPLE_MAX) };
        self.own = typical(self.ticks);
        if std::mem::replace(&mut self.peer_is_old, true) {
            // It has none to speak of any more, or its word was lost with a lane.
            self.peer = fade(self.peer);
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

/// The mean of `ticks` without the outliers.
fn typical(mut ticks: [Duration; TICKS]) -> Duration {
    ticks.sort_unstable();
    let counted = TICKS.saturating_sub(OUTLIERS);
    let sum: Duration = ticks.iter().take(counted).sum();
    let parts = u32::try_from(counted).unwrap_or(u32::MAX);
    sum.checked_div(parts).unwrap_or_default()
}

fn fade(delay: Duration) -> Duration {
    delay.checked_div(8).map_or(delay, |eighth| delay.saturating_sub(eighth))
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
    fn a_host_that_stands_still_now_and_then_does_not_wait_for_its_core() {
        let mut delay = TurnDelay::default();
        for n in 0..100 {
            let late = if n % TICKS == 0 { Duration::from_secs(5) } else { ms(0) };
            assert_eq!(delay.handle_tick(late), None);
            assert_eq!(delay.both(), Duration::ZERO, "tick {n}");
        }
    }

    #[test]
    fn who_waits_a_fifth_of_the_time_waits_for_its_core() {
        let mut delay = TurnDelay::default();
        for n in 0..100 {
            delay.handle_tick(if n % 5 == 0 { ms(15) } else { ms(0) });
        }
        assert!((ms(2)..=ms(4)).contains(&delay.both()), "{:?}", delay.both());
        delay.handle_tick(Duration::from_secs(5));
        assert!(delay.both() <= ms(4), "the longest is left out: {:?}", delay.both());
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
