//! Counts what arrived against what was sent: lost, duplicated, reordered.

use std::collections::BTreeMap;

/// Gaps that are kept apart; beyond them, old gaps count as lost and their late messages as
/// duplicates. Only a peer that drops by the hundred thousand gets there.
const GAPS_MAX: usize = 100_000;

/// Account of the sequences of one publisher, which count from 1.
///
/// Invariant: `distinct` + the lengths of all gaps + `abandoned` = `next_seq` - 1.
#[derive(Debug)]
pub(crate) struct Tally {
    next_seq: u64,
    /// Sequences skipped so far and not seen since: first → one past the last.
    gaps: BTreeMap<u64, u64>,
    /// Sequences in gaps that were given up for want of room.
    abandoned: u64,
    distinct: u64,
    duplicated: u64,
    reordered: u64,
}

impl Tally {
    pub(crate) const fn new() -> Self {
        Self {
            next_seq: 1,
            gaps: BTreeMap::new(),
            abandoned: 0,
            distinct: 0,
            duplicated: 0,
            reordered: 0,
        }
    }

    /// Takes the arrival of `seq`.
    pub(crate) fn handle_arrival(&mut self, seq: u64) {
        if seq == self.next_seq {
            self.next_seq += 1;
            self.distinct += 1;
        } else {
            self.handle_out_of_turn(seq);
        }
    }

    #[cold]
    fn handle_out_of_turn(&mut self, seq: u64) {
        if seq > self.next_seq {
            if self.gaps.len() == GAPS_MAX
                && let Some((first, end)) = self.gaps.pop_first()
            {
                self.abandoned += end - first;
            }
            self.gaps.insert(self.next_seq, seq);
            self.next_seq = seq + 1;
            self.distinct += 1;
            return;
        }
        let gap = self.gaps.range(..=seq).next_back().map(|(&first, &end)| (first, end));
        let Some((first, end)) = gap.filter(|&(_, end)| seq < end) else {
            self.duplicated += 1;
            return;
        };
        self.gaps.remove(&first);
        if first < seq {
            self.gaps.insert(first, seq);
        }
        if seq + 1 < end {
            self.gaps.insert(seq + 1, end);
        }
        self.distinct += 1;
        self.reordered += 1;
    }

    /// Different messages that arrived.
    pub(crate) const fn distinct(&self) -> u64 {
        self.distinct
    }

    /// Arrivals of messages that had arrived before.
    pub(crate) const fn duplicated(&self) -> u64 {
        self.duplicated
    }

    /// Messages that arrived after a later one.
    pub(crate) const fn reordered(&self) -> u64 {
        self.reordered
    }

    /// Messages of `published` that never arrived.
    pub(crate) const fn lost(&self, published: u64) -> u64 {
        published.saturating_sub(self.distinct)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(arrivals: &[u64], published: u64, expected: (u64, u64, u64)) {
        let mut tally = Tally::new();
        for &seq in arrivals {
            tally.handle_arrival(seq);
        }
        let found = (tally.lost(published), tally.duplicated(), tally.reordered());
        assert_eq!(found, expected, "(lost, duplicated, reordered) of {arrivals:?}");
        let gaps: u64 = tally.gaps.iter().map(|(first, end)| end - first).sum();
        assert_eq!(tally.distinct + gaps + tally.abandoned, tally.next_seq - 1);
    }

    #[test]
    fn every_kind_of_disorder_is_told_apart() {
        check(&[1, 2, 3], 3, (0, 0, 0));
        check(&[1, 2, 3], 5, (2, 0, 0));
        check(&[1, 3, 4], 4, (1, 0, 0));
        check(&[1, 2, 2, 3], 3, (0, 1, 0));
        check(&[1, 3, 2], 3, (0, 0, 1));
        check(&[5, 3, 3, 1, 2, 4, 4], 5, (0, 2, 4));
        check(&[1, 10, 5, 5, 1], 10, (7, 2, 1));
    }

    #[test]
    fn more_gaps_than_are_kept_count_as_lost() {
        let mut tally = Tally::new();
        let gaps = GAPS_MAX as u64 + 10;
        for n in 1..=gaps {
            tally.handle_arrival(2 * n);
        }
        assert_eq!(tally.lost(2 * gaps), gaps);
        assert_eq!(tally.gaps.len(), GAPS_MAX);
        tally.handle_arrival(1);
        assert_eq!((tally.duplicated(), tally.lost(2 * gaps)), (1, gaps));
    }
}
