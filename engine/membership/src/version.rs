use hawser_wire::Incarnation;

/// How new a claim about a node is: the node's life, then how often it contradicted within that
/// life. Ordered in this order, so that a restart is newer than all of the life before it.
///
/// SWIM (§4.2) has one number, which a node raises to refute a suspicion. Here that number starts
/// from zero in each life, below the incarnation, which is the node's durable boot counter: a node
/// that restarts needs no memory of its refutations.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Version {
    /// The life.
    pub incarnation: Incarnation,
    /// Contradictions within it, from 0. Only the node itself raises it.
    pub refutation: u64,
}

impl Version {
    /// A claim may be ahead of what is known by no more lives or refutations than this. Both count
    /// events that take a round trip at least; what is further ahead is made up, and believed it
    /// would bring the node near the end of its numbers.
    pub const AHEAD_MAX: u64 = 1 << 32;

    /// The beginning of a life.
    #[must_use]
    pub const fn first(incarnation: Incarnation) -> Self {
        Self { incarnation, refutation: 0 }
    }

    /// The least version that contradicts a claim about this one.
    #[must_use]
    pub const fn next(self) -> Self {
        match self.refutation.checked_add(1) {
            Some(refutation) => Self { incarnation: self.incarnation, refutation },
            None => Self::first(Incarnation(self.incarnation.0.saturating_add(1))),
        }
    }

    /// No node gets from `known` to here.
    #[must_use]
    pub const fn is_far_ahead_of(self, known: Self) -> bool {
        let lives = self.incarnation.0.saturating_sub(known.incarnation.0);
        let base = if lives == 0 { known.refutation } else { 0 };
        lives > Self::AHEAD_MAX || self.refutation.saturating_sub(base) > Self::AHEAD_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(incarnation: u64, refutation: u64) -> Version {
        Version { incarnation: Incarnation(incarnation), refutation }
    }

    #[test]
    fn a_life_is_newer_than_every_refutation_of_the_one_before() {
        assert!(version(2, 0) > version(1, u64::MAX));
        assert_eq!(version(1, 4).next(), version(1, 5));
        assert_eq!(version(1, u64::MAX).next(), version(2, 0));
    }

    #[test]
    fn far_ahead_is_what_no_node_reaches() {
        let far = Version::AHEAD_MAX + 1;
        assert!(!version(5, 9).is_far_ahead_of(version(5, 9)));
        assert!(!version(1, 0).is_far_ahead_of(version(5, 9)));
        assert!(!version(6, 3).is_far_ahead_of(version(5, u64::MAX)));
        assert!(version(5 + far, 0).is_far_ahead_of(version(5, 9)));
        assert!(version(5, 9 + far).is_far_ahead_of(version(5, 9)));
        assert!(version(6, far).is_far_ahead_of(version(5, u64::MAX)));
        assert!(version(u64::MAX, u64::MAX).is_far_ahead_of(version(0, 0)));
    }
}
