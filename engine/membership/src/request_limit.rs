//! How often members may ask for something.

use std::collections::BTreeMap;
use std::time::Duration;

use hawser_wire::{MonoTime, NodeId};

/// A token bucket for each member: so many requests at once, and then one in each interval.
///
/// **Invariant:** who has asked for nothing of late is not in here, but for as many as are: there is
/// no more than members have buckets that are not full, twice.
#[derive(Clone, Debug)]
pub(crate) struct RequestLimit {
    at_once: u32,
    every: Duration,
    /// When the bucket of each member is full again.
    full_at: BTreeMap<NodeId, MonoTime>,
    /// With more members than this it is looked for full buckets.
    sweep_at: usize,
}

/// Fewer than this are not worth a look.
const SWEEP_MIN: usize = 64;

impl RequestLimit {
    /// Both arguments must be above zero.
    pub(crate) const fn new(at_once: u32, every: Duration) -> Self {
        Self { at_once, every, full_at: BTreeMap::new(), sweep_at: SWEEP_MIN }
    }

    /// A member asks. False if it does so too often; then nothing changed.
    pub(crate) fn take(&mut self, now: MonoTime, from: NodeId) -> bool {
        let full_at = self.full_at.get(&from).copied().unwrap_or(now).max(now);
        let burst = self.every.saturating_mul(self.at_once.saturating_sub(1));
        if full_at > now.saturating_add(burst) {
            return false;
        }
        self.full_at.insert(from, full_at.saturating_add(self.every));
        if self.full_at.len() > self.sweep_at {
            self.full_at.retain(|_, full_at| *full_at > now);
            self.sweep_at = self.full_at.len().saturating_mul(2).max(SWEEP_MIN);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_may_ask_so_often_and_who_does_not_is_forgotten() {
        let node = |number: u16| NodeId::from_bytes(u128::from(number).to_be_bytes());
        let ms = |ms| MonoTime::ZERO.saturating_add(Duration::from_millis(ms));
        let mut limit = RequestLimit::new(4, Duration::from_millis(100));
        let mut taken = |at, number| (0..10).filter(|_| limit.take(ms(at), node(number))).count();
        assert_eq!([taken(1000, 1), taken(1000, 2), taken(1099, 1), taken(1100, 1)], [4, 4, 0, 1]);
        assert_eq!([taken(1350, 1), taken(9000, 1)], [2, 4]);
        for number in 0..5000 {
            assert!(limit.take(ms(20_000 + u64::from(number)), node(number)));
        }
        assert!(limit.full_at.len() <= 202, "{}", limit.full_at.len());
    }
}
