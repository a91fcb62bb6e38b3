//! A sorted map whose clones share what none of them has changed.

use std::hash::Hash;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use crate::piece_table::PieceTable;

/// Most entries that are shared and copied together.
const PIECE_MAX: usize = 32;

/// Entries in the order of their keys.
///
/// A clone costs a count a piece; the first change within a piece copies that piece, unless it is
/// nobody else's. Entries are few words: what is large in them belongs behind an [`Arc`].
///
/// **Invariant:** no piece is empty or longer than [`PIECE_MAX`].
#[derive(Clone, Debug)]
pub(crate) struct SharedMap<K, V> {
    pieces: Vec<Arc<Vec<(K, V)>>>,
    /// The last key of each piece: to find one touches no other.
    lasts: Vec<K>,
    len: usize,
}

impl<K, V> Default for SharedMap<K, V> {
    fn default() -> Self {
        Self { pieces: Vec::new(), lasts: Vec::new(), len: 0 }
    }
}

/// An entry that may differ between two maps: its key, what the one has there, what the other has.
pub(crate) type Difference<'a, K, V> = (K, Option<&'a V>, Option<&'a V>);

impl<K: Copy + Ord, V: Clone> SharedMap<K, V> {
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// The first piece that ends with `key` or behind it: the one that `key` is in, if it is in any.
    fn piece_of(&self, key: &K) -> usize {
        self.lasts.partition_point(|last| last < key)
    }

    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        let piece = self.pieces.get(self.piece_of(key))?;
        let at = piece.binary_search_by_key(key, |(known, _)| *known).ok()?;
        piece.get(at).map(|(_, value)| value)
    }

    pub(crate) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let at = self.piece_of(key);
        let piece = self.pieces.get_mut(at)?;
        let within = piece.binary_search_by_key(key, |(known, _)| *known).ok()?;
        Arc::make_mut(piece).get_mut(within).map(|(_, value)| value)
    }

    /// Puts an entry in the place of the one with its key, if there is one; that one.
    pub(crate) fn insert(&mut self, key: K, value: V) -> Option<V> {
        let at = self.piece_of(&key).min(self.pieces.len().saturating_sub(1));
        let Some(piece) = self.pieces.get_mut(at) else {
            self.pieces.push(Arc::new(vec![(key, value)]));
            self.lasts.push(key);
            self.len = 1;
            return None;
        };
        let piece = Arc::make_mut(piece);
        match piece.binary_search_by_key(&key, |(known, _)| *known) {
            Ok(within) => {
                let (_, old) = piece.get_mut(within)?;
                return Some(std::mem::replace(old, value));
            }
            Err(within) => piece.insert(within, (key, value)),
        }
        self.len = self.len.saturating_add(1);
        let rest =
            if piece.len() > PIECE_MAX { piece.split_off(PIECE_MAX / 2) } else { Vec::new() };
        self.note_last(at);
        if let Some((last, _)) = rest.last() {
            let behind = at.saturating_add(1);
            self.lasts.insert(behind, *last);
            self.pieces.insert(behind, Arc::new(rest));
        }
        None
    }

    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        let at = self.piece_of(key);
        let piece = self.pieces.get_mut(at)?;
        let within = piece.binary_search_by_key(key, |(known, _)| *known).ok()?;
        let piece = Arc::make_mut(piece);
        let (_, old) = piece.remove(within);
        if piece.is_empty() {
            self.pieces.remove(at);
            self.lasts.remove(at);
        } else {
            self.note_last(at);
        }
        self.len = self.len.saturating_sub(1);
        Some(old)
    }

    /// A piece may end with another key.
    fn note_last(&mut self, at: usize) {
        let last = self.pieces.get(at).and_then(|piece| piece.last()).map(|(last, _)| *last);
        if let (Some(noted), Some(last)) = (self.lasts.get_mut(at), last) {
            *noted = last;
        }
    }

    pub(crate) fn range(&self, range: impl RangeBounds<K>) -> impl Iterator<Item = (&K, &V)> + '_ {
        let first = match range.start_bound() {
            Bound::Included(key) | Bound::Excluded(key) => self.piece_of(key),
            Bound::Unbounded => 0,
        };
        let (start, end) = (range.start_bound().cloned(), range.end_bound().cloned());
        let is_before = move |key: &K| match start {
            Bound::Included(start) => *key < start,
            Bound::Excluded(start) => *key <= start,
            Bound::Unbounded => false,
        };
        let is_within = move |key: &K| match end {
            Bound::Included(end) => *key <= end,
            Bound::Excluded(end) => *key < end,
            Bound::Unbounded => true,
        };
        self.pieces
            .iter()
            .skip(first)
            .flat_map(|piece| piece.iter())
            .map(|(key, value)| (key, value))
            .skip_while(move |(key, _)| is_before(key))
            .take_while(move |(key, _)| is_within(key))
    }

    /// The entries of this map and of `other` without those of pieces that both share, which are
    /// equal; in order of the keys.
    pub(crate) fn differences<'a>(
        &'a self,
        other: &'a Self,
    ) -> impl Iterator<Item = Difference<'a, K, V>> {
        let (mut one, mut two) = (Place::default(), Place::default());
        std::iter::from_fn(move || {
            while let (Some(left), Some(right)) = (one.begins(self), two.begins(other))
                && Arc::ptr_eq(left, right)
            {
                one.piece = one.piece.saturating_add(1);
                two.piece = two.piece.saturating_add(1);
            }
            let (left, right) = (one.entry(self), two.entry(other));
            let key = match (left, right) {
                (Some((left, _)), Some((right, _))) => *left.min(right),
                (Some((key, _)), None) | (None, Some((key, _))) => *key,
                (None, None) => return None,
            };
            let left = left.filter(|(known, _)| *known == key).map(|(_, value)| value);
            let right = right.filter(|(known, _)| *known == key).map(|(_, value)| value);
            for (place, map, passed) in
                [(&mut one, self, left.is_some()), (&mut two, other, right.is_some())]
            {
                if passed {
                    place.pass(map);
                }
            }
            Some((key, left, right))
        })
    }

    /// Has pieces in common with whatever else was shared with `table`, as far as there are equal ones.
    pub(crate) fn share(&mut self, table: &mut PieceTable<Vec<(K, V)>>)
    where
        K: Hash,
        V: Hash + PartialEq,
    {
        self.pieces.iter_mut().for_each(|piece| table.share(piece));
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &V> + '_ {
        self.pieces.iter().flat_map(|piece| piece.iter()).map(|(_, value)| value)
    }
}

/// Where a walk through a map has come to.
#[derive(Clone, Copy, Default)]
struct Place {
    piece: usize,
    within: usize,
}

impl Place {
    /// The piece that begins here.
    fn begins<K, V>(self, map: &SharedMap<K, V>) -> Option<&Arc<Vec<(K, V)>>> {
        map.pieces.get(self.piece).filter(|_| self.within == 0)
    }

    fn entry<K, V>(self, map: &SharedMap<K, V>) -> Option<&(K, V)> {
        map.pieces.get(self.piece)?.get(self.within)
    }

    fn pass<K, V>(&mut self, map: &SharedMap<K, V>) {
        self.within = self.within.saturating_add(1);
        if map.pieces.get(self.piece).is_some_and(|piece| self.within >= piece.len()) {
            *self = Self { piece: self.piece.saturating_add(1), within: 0 };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// It is what a map of the standard library is, and so is a clone that was left alone.
        #[test]
        fn it_is_a_map_and_clones_are_their_own(
            steps in prop::collection::vec((0..200_u16, any::<bool>()), 0..600),
            fork in 0..600_usize,
            (low, high) in (0..200_u16, 0..200_u16),
        ) {
            let (mut map, mut model) = (SharedMap::default(), BTreeMap::new());
            let mut forked = None;
            for (step, (key, insert)) in steps.into_iter().enumerate() {
                if step == fork {
                    forked = Some((map.clone(), model.clone()));
                }
                if insert {
                    prop_assert_eq!(map.insert(key, step), model.insert(key, step));
                } else {
                    prop_assert_eq!(map.remove(&key), model.remove(&key));
                }
                prop_assert_eq!(map.len(), model.len());
            }
            let (old, was) = forked.get_or_insert_with(|| (map.clone(), model.clone()));
            let differ: Vec<_> = old
                .differences(&map)
                .filter(|(_, one, other)| one != other)
                .collect();
            let keys: std::collections::BTreeSet<_> = was.keys().chain(model.keys()).collect();
            let expected: Vec<_> = keys
                .into_iter()
                .map(|key| (*key, was.get(key), model.get(key)))
                .filter(|(_, one, other)| one != other)
                .collect();
            prop_assert_eq!(differ, expected);
            for (map, model) in [(map, model)].into_iter().chain(forked) {
                prop_assert!(map.values().eq(model.values()));
                prop_assert!(map.range(low..).eq(model.range(low..)));
                if low <= high {
                    prop_assert!(map.range(low..=high).eq(model.range(low..=high)));
                }
                prop_assert!((0..200).all(|key| map.get(&key) == model.get(&key)));
                let within = |piece: &Arc<Vec<_>>| (1..=PIECE_MAX).contains(&piece.len());
                prop_assert!(map.pieces.iter().all(within));
            }
        }
    }

    #[test]
    fn a_change_copies_its_piece_alone() {
        let mut one = SharedMap::default();
        for key in 0..1000_u32 {
            assert_eq!(one.insert(key, key), None);
        }
        let mut other = one.clone();
        *other.get_mut(&500).unwrap() = 7;
        other.insert(2000, 2000);
        let shared = one.pieces.iter().zip(&other.pieces).filter(|(a, b)| Arc::ptr_eq(a, b));
        assert_eq!(shared.count(), one.pieces.len() - 2);
        assert_eq!((one.get(&500), other.get(&500)), (Some(&500), Some(&7)));
        assert!(one.differences(&other).count() <= 2 * PIECE_MAX + 2, "no look at what is shared");
    }

    #[test]
    fn maps_that_have_come_to_the_same_share_it_and_stay_their_own() {
        let mut begin = SharedMap::default();
        for key in 0..1000_u32 {
            begin.insert(key, 0);
        }
        let (mut table, mut one, mut other) = (PieceTable::default(), begin.clone(), begin.clone());
        // The same in another order.
        for key in [10, 500, 990] {
            one.insert(key, 1);
        }
        for key in [990, 10, 500] {
            other.insert(key, 1);
        }
        one.share(&mut table);
        other.share(&mut table);
        assert!(one.pieces.iter().zip(&other.pieces).all(|(a, b)| Arc::ptr_eq(a, b)));
        other.insert(500, 2);
        other.share(&mut table);
        assert_eq!((one.get(&500), other.get(&500)), (Some(&1), Some(&2)));
    }
}
