use std::time::Duration;

use hawser_wire::MonoTime;

/// What a peer may still have this side do that costs more to handle than to send: time that is spent
/// by each demand and gained by waiting, up to a burst (a token bucket).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Allowance {
    left: Duration,
    burst: Duration,
    at: MonoTime,
}

impl Allowance {
    /// A full one.
    pub(crate) const fn new(now: MonoTime, burst: Duration) -> Self {
        Self { left: burst, burst, at: now }
    }

    /// Spends `cost`; false, with nothing spent, if so much is not left.
    pub(crate) fn spend(&mut self, now: MonoTime, cost: Duration) -> bool {
        let gained = now.saturating_since(self.at);
        self.at = self.at.max(now);
        self.left = self.left.saturating_add(gained).min(self.burst);
        let Some(left) = self.left.checked_sub(cost) else { return false };
        self.left = left;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_burst_may_be_spent_at_once_and_comes_back_with_time() {
        let at = |seconds: u64| MonoTime::from_nanos(seconds * 1_000_000_000);
        let mut allowance = Allowance::new(at(5), 3 * SECOND);
        let spend = |allowance: &mut Allowance, now| {
            (0..10).take_while(|_| allowance.spend(now, SECOND)).count()
        };
        assert_eq!(spend(&mut allowance, at(5)), 3);
        assert_eq!(spend(&mut allowance, at(4)), 0, "a clock that goes back gives nothing");
        assert_eq!(spend(&mut allowance, at(7)), 2);
        assert_eq!(spend(&mut allowance, at(1000)), 3, "no more than the burst");
        assert!(!allowance.spend(at(1002), 3 * SECOND));
        assert!(allowance.spend(at(1002), 2 * SECOND), "what is refused spends nothing");
    }
}
