use std::time::Duration;

use hawser_wire::MonoTime;

/// What is counted is told again no sooner than this.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// A count that is told at a bounded rate: the first at once, what follows once a second at most, with
/// how many there were.
#[derive(Debug, Default)]
pub(crate) struct Untold {
    count: u64,
    told_at: Option<MonoTime>,
}

impl Untold {
    pub(crate) const fn add(&mut self) {
        self.count = self.count.saturating_add(1);
    }

    /// What was counted since it was told last, if there is any and it is time.
    pub(crate) fn poll(&mut self, now: MonoTime) -> Option<u64> {
        let is_soon = self.told_at.is_some_and(|at| now.saturating_since(at) < TELL_EVERY);
        if self.count == 0 || is_soon {
            return None;
        }
        self.told_at = Some(now);
        Some(std::mem::take(&mut self.count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_at_once_and_all_others_once_a_second() {
        let mut untold = Untold::default();
        let told: Vec<(u64, u64)> = (0..4_000)
            .filter_map(|ms| {
                if ms < 2_500 {
                    untold.add();
                }
                let told = untold.poll(MonoTime::from_nanos(ms * 1_000_000));
                told.map(|count| (ms, count))
            })
            .collect();
        // What came last is told, too.
        assert_eq!(told, [(0, 1), (1_000, 1_000), (2_000, 1_000), (3_000, 499)]);
    }
}
