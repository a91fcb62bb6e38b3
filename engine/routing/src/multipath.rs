//! Whose turn it is among several paths.

use hawser_wire::PathId;

/// Smooth weighted round robin (as in nginx since 1.3.1): each path has its share of the turns, and
/// those of one path are spread evenly over those of the others.
///
/// **Invariant:** with shares that stay as they are, after any number of turns each path has had its
/// part of them to less than one.
#[derive(Clone, Debug, Default)]
pub struct SmoothRoundRobin {
    /// What each path is ahead of its share, negative, or behind it.
    credits: Vec<(PathId, i64)>,
}

impl SmoothRoundRobin {
    /// The path whose turn it is, of those with their shares; one without a share has none. A path
    /// that is not named any more is forgotten, a new one begins with nothing.
    pub fn next(&mut self, shares: &[(PathId, u32)]) -> Option<PathId> {
        let named = |path: PathId| shares.iter().any(|&(other, share)| other == path && share > 0);
        self.credits.retain(|&(path, _)| named(path));
        let mut total = 0_i64;
        for &(path, share) in shares.iter().filter(|(_, share)| *share > 0) {
            total = total.saturating_add(i64::from(share));
            match self.credits.iter_mut().find(|(other, _)| *other == path) {
                Some((_, credit)) => *credit = credit.saturating_add(i64::from(share)),
                None => self.credits.push((path, i64::from(share))),
            }
        }
        // Of equals the one that was named first.
        let most = self.credits.iter().map(|&(_, credit)| credit).max()?;
        let (path, credit) = self.credits.iter_mut().find(|(_, credit)| *credit == most)?;
        *credit = credit.saturating_sub(total);
        Some(*path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turns(shares: &[(u32, u32)], count: usize) -> Vec<u32> {
        let shares: Vec<_> = shares.iter().map(|&(path, share)| (PathId(path), share)).collect();
        let mut turns = SmoothRoundRobin::default();
        std::iter::from_fn(|| turns.next(&shares).map(|path| path.0)).take(count).collect()
    }

    #[test]
    fn turns_are_spread_and_follow_the_shares() {
        assert_eq!(turns(&[(7, 5), (8, 1), (9, 1)], 7), [7, 7, 8, 7, 9, 7, 7]);
        assert_eq!(turns(&[(1, 1000), (2, 1000)], 4), [1, 2, 1, 2]);
        assert_eq!(turns(&[(1, 3), (2, 0)], 3), [1, 1, 1]);
        assert_eq!(turns(&[(1, 0)], 3), [0_u32; 0]);
        assert_eq!(turns(&[], 3), [0_u32; 0]);
    }

    #[test]
    fn no_path_is_ever_a_whole_turn_away_from_its_share() {
        let shares = [(1, 8), (2, 5), (3, 1), (4, 17)];
        let total: u32 = shares.iter().map(|(_, share)| share).sum();
        let turns = turns(&shares, 500);
        for (path, share) in shares {
            let mut had = 0_u32;
            for (count, turn) in (1_u32..).zip(&turns) {
                had += u32::from(*turn == path);
                // In parts of a turn, of which a whole one has as many as there are shares.
                let away = (had * total).abs_diff(count * share);
                assert!(away < total, "{path}: {had} of {count}");
            }
        }
    }

    #[test]
    fn a_path_that_comes_back_has_no_turns_in_store() {
        let mut turns = SmoothRoundRobin::default();
        let both = [(PathId(1), 1), (PathId(2), 1)];
        turns.next(&both);
        for _ in 0..100 {
            assert_eq!(turns.next(&both[..1]), Some(PathId(1)));
        }
        let after: Vec<_> = (0..4).filter_map(|_| turns.next(&both)).map(|path| path.0).collect();
        assert_eq!(after.iter().filter(|&&path| path == 2).count(), 2, "{after:?}");
    }
}
