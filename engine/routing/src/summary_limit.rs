//! How many summaries of a neighbour are compared with the database.

use std::time::Duration;

use hawser_wire::{MonoTime, NodeId};

use crate::{ORIGINS_MAX, TokenBucket};

/// Passes over the whole database that a neighbour may have compared. One begins a pass when it has
/// heard a digest that differs, and once a second at most: sixteen are as many as a slow way can hold
/// up and bring at once.
const PASSES: TokenBucket = TokenBucket::new(16, Duration::from_secs(1));

/// A message of a pass costs as much as so many entries, however few it lists.
const MESSAGE_COST: usize = 64;
/// Most that one pass may cost: twice a full database in the messages in which nodes send it.
const PASS_COST_MAX: usize = 2 * ORIGINS_MAX;

/// Sees that a neighbour's summaries cost little.
///
/// To compare one is to look through the database from its first to its last origin, which a message
/// of some thirty bytes may say are all. Honest ones come in passes, each message of which begins
/// behind the one before, so that a pass costs one look through the database however many messages it
/// takes. A pass costs a token; what goes on with it costs none.
///
/// **Invariant:** between two tokens each origin of the database is looked at once at most.
#[derive(Debug)]
pub(crate) struct SummaryLimit {
    passes: TokenBucket,
    /// The last origin that the pass has come to.
    end: Option<NodeId>,
    /// What the pass may cost yet.
    cost_left: usize,
}

impl SummaryLimit {
    pub(crate) const fn new() -> Self {
        Self { passes: PASSES, end: None, cost_left: 0 }
    }

    /// A summary of the origins from `first` to `last` came, with so many entries: whether it is to be
    /// compared. If not, nothing changed.
    pub(crate) fn take(
        &mut self,
        now: MonoTime,
        (first, last): (NodeId, NodeId),
        entries: usize,
    ) -> bool {
        let cost = MESSAGE_COST.saturating_add(entries);
        let goes_on = self.end.is_some_and(|end| end < first) && cost <= self.cost_left;
        if !goes_on {
            if !self.passes.take(now) {
                return false;
            }
            self.cost_left = PASS_COST_MAX;
        }
        self.cost_left = self.cost_left.saturating_sub(cost);
        self.end = Some(last);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::ENTRIES_SENT_MAX;

    fn id(number: u128) -> NodeId {
        NodeId::from_bytes(number.to_be_bytes())
    }

    #[test]
    fn a_full_database_in_small_messages_is_one_pass() {
        let mut limit = SummaryLimit::new();
        for pass in 0..16 {
            for message in 0..ORIGINS_MAX.div_ceil(ENTRIES_SENT_MAX) {
                let first = u128::try_from(message).unwrap() * 100;
                let range = (id(first), id(first + 99));
                assert!(limit.take(MonoTime::ZERO, range, ENTRIES_SENT_MAX), "{pass}, {message}");
            }
        }
        assert!(!limit.take(MonoTime::ZERO, (id(0), id(99)), 0), "the seventeenth at once");
        assert!(limit.take(MonoTime::ZERO, (id(9000), id(9001)), 0), "the last one goes on");
        let later = MonoTime::ZERO.saturating_add(Duration::from_secs(1));
        assert!(limit.take(later, (id(0), id(99)), 0));
        assert!(!limit.take(later, (id(99), id(200)), 0), "not behind the one before");
    }

    #[test]
    fn a_pass_of_very_many_messages_is_several() {
        let mut limit = SummaryLimit::new();
        let messages =
            (0_u128..100_000).map(|first| limit.take(MonoTime::ZERO, (id(first), id(first)), 0));
        assert_eq!(messages.filter(|taken| *taken).count(), 16 * PASS_COST_MAX / MESSAGE_COST);
    }
}
