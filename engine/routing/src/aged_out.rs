//! What a database has forgotten as its life had ended.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use hawser_wire::{MonoTime, NodeId};

use crate::life::Life;
use crate::{LsaVersion, ORIGINS_MAX};

/// A node whose disk was restored from a copy, so that it counts an earlier life again, is heard again
/// after so long at the latest, as those that replay what it had said before are.
const REMEMBERED: Duration = Duration::from_secs(24 * 3600);

/// The versions of advertisements that have ended, so that one that is replayed is not taken for new.
/// A live origin says something newer at half of the lifetime and loses nothing by it.
///
/// **Invariant:** at most [`ORIGINS_MAX`]; of more those that ended first are forgotten. Each counts for
/// [`REMEMBERED`].
#[derive(Clone, Debug, Default)]
pub(crate) struct AgedOut {
    origins: BTreeMap<NodeId, Ended>,
    /// When each ended, soonest first.
    ends: BTreeSet<(MonoTime, NodeId)>,
}

/// An advertisement that was stored until its life ended.
#[derive(Clone, Copy, Debug)]
struct Ended {
    version: LsaVersion,
    life: Life,
    at: MonoTime,
}

impl AgedOut {
    /// The advertisement with this version has ended at its time, as its `life` said.
    pub(crate) fn insert(&mut self, origin: NodeId, version: LsaVersion, life: Life) {
        self.remove(origin);
        let at = life.end().unwrap_or(MonoTime::MAX);
        self.origins.insert(origin, Ended { version, life, at });
        self.ends.insert((at, origin));
        while self.origins.len() > ORIGINS_MAX
            && let Some((_, first)) = self.ends.pop_first()
        {
            self.origins.remove(&first);
        }
    }

    /// Nothing of the origin is remembered any more.
    pub(crate) fn remove(&mut self, origin: NodeId) {
        if let Some(ended) = self.origins.remove(&origin) {
            self.ends.remove(&(ended.at, origin));
        }
    }

    /// The life of what has ended, if it is of this very version.
    pub(crate) fn life(&self, origin: NodeId, version: LsaVersion) -> Option<Life> {
        let ended = self.origins.get(&origin)?;
        (ended.version == version).then_some(ended.life)
    }

    /// Whether a copy with this version is of something that has ended for good: of an older one, or of
    /// the last one once [`LIFETIME_MAX`](crate::life::LIFETIME_MAX) is over since it was first seen.
    /// Before that a copy may have more time left than the one that has ended, which a neighbour may
    /// have passed on with too little. Nothing is over for more than a day.
    pub(crate) fn is_over(&self, now: MonoTime, origin: NodeId, version: LsaVersion) -> bool {
        self.origins.get(&origin).is_some_and(|ended| {
            let is_over =
                version < ended.version || (version == ended.version && ended.life.is_over(now));
            is_over && now < ended.at.saturating_add(REMEMBERED)
        })
    }
}

#[cfg(test)]
mod tests {
    use hawser_wire::Incarnation;

    use super::*;

    #[test]
    fn what_has_ended_is_known_for_a_day() {
        let origin = NodeId::from_bytes([1; 16]);
        let of = |incarnation| LsaVersion {
            incarnation: Incarnation(incarnation),
            sequence: 1,
            hash: 0,
        };
        let hours = |hours: u64| MonoTime::ZERO.saturating_add(Duration::from_secs(hours * 3600));
        let mut aged_out = AgedOut::default();
        aged_out.insert(origin, of(5), Life::new(MonoTime::ZERO, Duration::from_secs(1800)));
        let is_over = |hour| [4, 5, 6].map(|life| aged_out.is_over(hours(hour), origin, of(life)));
        assert_eq!([is_over(0), is_over(1)], [[true, false, false], [true, true, false]]);
        assert_eq!([is_over(24), is_over(25)], [[true, true, false], [false; 3]]);
    }

    #[test]
    fn those_that_ended_first_make_room() {
        let id = |number: u128| NodeId::from_bytes(number.to_be_bytes());
        let version = LsaVersion { incarnation: Incarnation(1), sequence: 1, hash: 0 };
        let mut aged_out = AgedOut::default();
        for number in 0..40_000 {
            let life = Life::new(MonoTime::ZERO, Duration::from_millis(number));
            aged_out.insert(id(number.into()), version, life);
        }
        assert_eq!((aged_out.origins.len(), aged_out.ends.len()), (ORIGINS_MAX, ORIGINS_MAX));
        assert!(aged_out.life(id(39_999), version).is_some());
        assert!(aged_out.life(id(0), version).is_none());
        aged_out.remove(id(39_999));
        assert_eq!(aged_out.ends.len(), ORIGINS_MAX - 1);
    }
}
