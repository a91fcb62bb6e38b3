use crate::awareness::Awareness;

/// Whether rounds keep pace with time.
///
/// All members probe by the round that the one ahead of them says, so that whoever says rounds as it
/// likes would choose whom everybody probes, and whom nobody does. While rounds follow each other one
/// by one a node probes every other one within a pass of the ring, whoever says them. Where they do not
/// it draws whom it probes, for as many probes as a pass has.
///
/// **Invariant:** of the rounds between two probes there are as many as intervals, so far as they were
/// not missed before; or the node draws.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pace {
    /// Of the last probe; none before the first, and after times at which this node did not run.
    last: Option<u32>,
    /// Rounds that may have passed when the next probe is due.
    allowed: u32,
    /// Probes whose targets are drawn yet.
    drawn: u32,
}

/// A node that probes more slowly than others may not hear at once how far they are, and so falls
/// behind for a while: by so many rounds at most.
const MISSED_MAX: u32 = Awareness::MULTIPLIER_MAX;

/// Most probes whose targets are drawn: in a mesh of more members the rounds are of little use to one
/// that wants to mislead, and honest ones that came out of step shall not be so for hours.
const DRAWN_MAX: u32 = 1024;

impl Pace {
    /// As after a sleep, in which rounds went on unheard.
    pub(crate) const fn after_sleep(self) -> Self {
        Self { last: None, ..self }
    }

    /// A probe is due in `round`, the next one `stretch` intervals later, among so many `others`.
    /// False if time does not allow that round.
    pub(crate) fn follow(&mut self, round: u32, stretch: u32, others: usize) -> bool {
        let passed = self.last.replace(round).map(|last| round.wrapping_sub(last));
        let in_pace = passed.is_none_or(|passed| (1..=self.allowed).contains(&passed));
        let missed = match passed {
            Some(passed) if in_pace => self.allowed.saturating_sub(passed).min(MISSED_MAX),
            _ => 0,
        };
        self.allowed = missed.saturating_add(stretch);
        self.drawn = if in_pace {
            self.drawn.saturating_sub(1)
        } else {
            u32::try_from(others).unwrap_or(DRAWN_MAX).min(DRAWN_MAX)
        };
        in_pace
    }

    /// Whether the target of the probe that is due is drawn.
    pub(crate) const fn draws(&self) -> bool {
        self.drawn > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of the probes in these rounds, each an interval after the one before, are drawn.
    fn drawn(pace: &mut Pace, rounds: impl IntoIterator<Item = u32>, others: usize) -> usize {
        let draws = |round| {
            pace.follow(round, 1, others);
            pace.draws()
        };
        rounds.into_iter().map(draws).filter(|draws| *draws).count()
    }

    #[test]
    fn rounds_that_follow_each_other_are_followed() {
        let mut pace = Pace::default();
        assert_eq!(drawn(&mut pace, 77..500, 20), 0, "whatever the first is");
        let mut pace = Pace::default();
        let around = (0..100).map(|passed: u32| (u32::MAX - 50).wrapping_add(passed));
        assert_eq!(drawn(&mut pace, around, 20), 0);
    }

    #[test]
    fn a_jump_a_standstill_and_a_step_back_are_not() {
        for other in [7, 5, 4, 5 + 19, 5 + (1 << 31)] {
            let mut pace = Pace::default();
            assert_eq!(drawn(&mut pace, 1..=5, 20), 0);
            assert_eq!(drawn(&mut pace, other..other + 100, 20), 20, "{other} behind 5");
        }
        let mut pace = Pace::default();
        assert_eq!(drawn(&mut pace, (1..2000).map(|round| round * 2), 20), 1998, "ever again");
        assert_eq!(drawn(&mut pace, 5000..9000, 16_000), 1024);
    }

    #[test]
    fn who_probes_more_slowly_may_miss_rounds_and_make_up_for_them() {
        let mut pace = Pace::default();
        for (round, stretch) in [(1, 3), (4, 2), (5, 1), (7, 1), (8, 1)] {
            assert!(pace.follow(round, stretch, 20), "round {round}");
        }
        assert!(!pace.follow(10, 1, 20), "it has made up for all");
        // Not for more than the slowest misses in one interval of its own.
        for round in 11..100 {
            assert!(pace.follow(round, 8, 20), "round {round}");
        }
        assert!(!pace.follow(99 + 17, 1, 20));
        assert!(pace.follow(99 + 18, 1, 20));
    }

    #[test]
    fn after_a_sleep_any_round_is_the_first() {
        let mut pace = Pace::default();
        assert_eq!(drawn(&mut pace, 1..=5, 20), 0);
        pace = pace.after_sleep();
        assert_eq!(drawn(&mut pace, 3000..3100, 20), 0);
    }
}
