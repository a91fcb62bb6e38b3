/// How well this node itself does (Lifeguard §IV-A, the local health multiplier): one that hears
/// little probes more slowly and waits longer before it accuses others.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Awareness {
    score: u32,
}

impl Awareness {
    /// Highest multiplier (the paper's S).
    pub(crate) const MULTIPLIER_MAX: u32 = 8;

    /// Its own fault is likely.
    pub(crate) fn worsen(&mut self, by: u32) {
        let max = const { Self::MULTIPLIER_MAX.saturating_sub(1) };
        self.score = self.score.saturating_add(by).min(max);
    }

    /// A probe was answered.
    pub(crate) const fn improve(&mut self) {
        self.score = self.score.saturating_sub(1);
    }

    /// By what intervals and timeouts of probes are longer, 1 to 8.
    pub(crate) const fn multiplier(self) -> u32 {
        self.score.saturating_add(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_up_to_eight_and_back_to_one() {
        let mut awareness = Awareness::default();
        for expected in [1, 3, 5, 7, 8, 8] {
            assert_eq!(awareness.multiplier(), expected);
            awareness.worsen(2);
        }
        for expected in [8, 7, 6, 5, 4, 3, 2, 1, 1] {
            assert_eq!(awareness.multiplier(), expected);
            awareness.improve();
        }
    }
}
