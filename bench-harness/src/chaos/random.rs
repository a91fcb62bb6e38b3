//! What is drawn by a seed: the same seed gives the same faults in the same order.

use std::time::Duration;

/// splitmix64 (Steele, Lea and Flood, 2014).
#[derive(Debug)]
pub(crate) struct Random {
    state: u64,
}

impl Random {
    pub(crate) const fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    const fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A whole number of milliseconds from `min` up to and without `max`.
    pub(crate) fn millis(&mut self, min: u64, max: u64) -> Duration {
        Duration::from_millis(min + self.next_u64() % max.saturating_sub(min).max(1))
    }

    pub(crate) const fn coin(&mut self) -> bool {
        self.next_u64() >> 63 == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_sequence_within_its_bounds() {
        let draw = |seed| {
            let mut random = Random::new(seed);
            (0..100).map(|_| (random.millis(5, 9), random.coin())).collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
        let (low, high) = (Duration::from_millis(5), Duration::from_millis(9));
        assert!(draw(7).iter().all(|(pause, _)| (low..high).contains(pause)));
        assert!(draw(7).iter().any(|(_, coin)| *coin) && draw(7).iter().any(|(_, coin)| !coin));
    }
}
