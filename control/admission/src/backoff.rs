use std::time::Duration;

const CEILING_FIRST: Duration = Duration::from_millis(100);
const CEILING_LAST: Duration = Duration::from_secs(30);

/// How long to wait before the next attempt to dial: a random part ("full jitter") of a ceiling
/// that grows from 100 ms to 30 s, so that nodes which lost the same relay do not return at the
/// same instant.
///
/// It doubles after an attempt that cost something, a handshake or a timeout. After one that the
/// system refused at once it grows by a quarter: whoever comes back within seconds is found a fifth
/// of the time later for which it was away, at the cost of some thirty packets until the last ceiling.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Backoff {
    ceiling: Duration,
}

impl Backoff {
    /// At its shortest.
    #[must_use]
    pub const fn new() -> Self {
        Self { ceiling: CEILING_FIRST }
    }

    /// The wait before the next attempt; the one after it is up to twice as long. `entropy` is
    /// random and evenly spread.
    pub fn next(&mut self, entropy: u64) -> Duration {
        let twice = self.ceiling.saturating_mul(2);
        self.wait_and_grow(entropy, twice)
    }

    /// As [`Self::next`] after an attempt that was refused at once, as nobody listens there: the one
    /// after it is up to a quarter longer.
    pub fn next_refused(&mut self, entropy: u64) -> Duration {
        let quarter_more = self.ceiling.saturating_mul(5) / 4;
        self.wait_and_grow(entropy, quarter_more)
    }

    fn wait_and_grow(&mut self, entropy: u64, grown: Duration) -> Duration {
        let ceiling_nanos = self.ceiling.as_nanos();
        self.ceiling = grown.min(CEILING_LAST);
        // The ceiling is below 2^35 ns: the product fits, its upper half is evenly spread.
        let nanos = (ceiling_nanos * u128::from(entropy)) >> 64;
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// After a success: at its shortest again.
    pub const fn reset(&mut self) {
        self.ceiling = CEILING_FIRST;
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SplitMix64: entropy that is the same on every run.
    fn draw(state: &mut u64) -> u64 {
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = *state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn ceiling(attempt: u32) -> Duration {
        Duration::from_millis(100 << attempt.min(9)).min(Duration::from_secs(30))
    }

    #[test]
    fn never_above_the_ceiling_whatever_the_entropy() {
        for seed in 0..200 {
            let (mut backoff, mut state) = (Backoff::new(), seed);
            for attempt in 0..40 {
                let wait = backoff.next(draw(&mut state));
                assert!(wait < ceiling(attempt), "seed {seed}, attempt {attempt}: {wait:?}");
            }
        }
    }

    #[test]
    fn ends_of_the_range_are_reached() {
        let (mut low, mut high) = (Backoff::new(), Backoff::new());
        for attempt in 0..40 {
            assert_eq!(low.next(0), Duration::ZERO);
            let short_of = ceiling(attempt) - high.next(u64::MAX);
            assert!(short_of <= Duration::from_nanos(1), "attempt {attempt}: {short_of:?}");
        }
    }

    #[test]
    fn who_is_refused_at_once_tries_more_often() {
        let mut backoff = Backoff::new();
        let ceilings = [100, 125, 156, 195].map(Duration::from_millis);
        for ceiling in ceilings {
            assert!(backoff.next_refused(u64::MAX).abs_diff(ceiling) <= Duration::from_millis(1));
        }
        let attempts = (5..).find(|_| backoff.next_refused(u64::MAX) > Duration::from_secs(29));
        assert_eq!(attempts, Some(27));
        assert!(backoff.next_refused(u64::MAX) <= CEILING_LAST);
    }

    /// How much later than it comes back a relay is found that was away for so long, on average.
    fn found_after(away: Duration) -> Duration {
        const SEEDS: u32 = 500;
        let found = |seed| {
            let (mut backoff, mut state) = (Backoff::new(), seed);
            let mut now = Duration::ZERO;
            while now < away {
                now += backoff.next_refused(draw(&mut state));
            }
            now - away
        };
        (0..SEEDS).map(|seed| found(u64::from(seed))).sum::<Duration>() / SEEDS
    }

    #[test]
    fn who_comes_back_is_found_after_a_fifth_of_the_time_for_which_it_was_away() {
        // In the beginning the first pauses count more.
        for (away_ms, most_ms) in [(100, 60), (1_000, 200), (10_000, 2_000), (60_000, 12_000)] {
            let later = found_after(Duration::from_millis(away_ms));
            assert!(later < Duration::from_millis(most_ms), "{away_ms}: {later:?}");
        }
    }

    #[test]
    fn waits_are_evenly_spread() {
        let mut state = 7;
        let mut quarters = [0_u32; 4];
        for _ in 0..10_000 {
            let mut backoff = Backoff::new();
            let wait = backoff.next(draw(&mut state));
            quarters[usize::try_from(wait.as_millis() / 25).unwrap()] += 1;
        }
        assert!(quarters.iter().all(|count| (2_300..2_700).contains(count)), "{quarters:?}");
    }

    #[test]
    fn success_starts_over() {
        let mut backoff = Backoff::new();
        for _ in 0..100 {
            backoff.next(u64::MAX);
        }
        assert!(backoff.next(u64::MAX) > Duration::from_secs(29));
        backoff.reset();
        assert_eq!(backoff, Backoff::new());
        assert!(backoff.next(u64::MAX) < Duration::from_millis(100));
    }
}
