//! What is known of each arc, by its ends.

use std::sync::Arc;

use crate::graph::NodeNumber;

/// Nodes whose arcs are shared and copied together.
const PIECE_NODES: usize = 16;

/// Both ends of an arc.
type Ends = (NodeNumber, NodeNumber);

/// An arc that differs between two maps: its ends, what the one has of it, what the other has.
pub(crate) type Difference<'a, T> = (Ends, Option<&'a T>, Option<&'a T>);

/// Values by arc, for arcs that begin at the nodes below a count that stays.
///
/// A clone costs a count a piece; the first change within a piece copies that piece, unless it is
/// nobody else's. What differs between two that were one is found without a look at what they share.
///
/// **Invariant:** the arcs of node `n` are in piece `n / PIECE_NODES`, in order of their ends.
#[derive(Clone, Debug, Default)]
pub(crate) struct ArcMap<T> {
    pieces: Vec<Arc<Vec<(Ends, T)>>>,
}

impl<T: Clone + PartialEq> ArcMap<T> {
    /// These arcs, each once; those that begin at none of so many nodes are left out.
    pub(crate) fn new(nodes: usize, mut arcs: Vec<(Ends, T)>) -> Self {
        arcs.sort_unstable_by_key(|(ends, _)| *ends);
        let mut pieces = vec![Vec::new(); nodes.div_ceil(PIECE_NODES)];
        for (ends, value) in arcs {
            if let Some(piece) = pieces.get_mut(piece_of(ends)) {
                piece.push((ends, value));
            }
        }
        Self { pieces: pieces.into_iter().map(Arc::new).collect() }
    }

    pub(crate) fn get(&self, from: NodeNumber, to: NodeNumber) -> Option<&T> {
        let piece = self.pieces.get(piece_of((from, to)))?;
        let at = piece.binary_search_by_key(&(from, to), |(ends, _)| *ends).ok()?;
        piece.get(at).map(|(_, value)| value)
    }

    /// Gives the arc this value, or takes it away; the value that it had.
    pub(crate) fn set(&mut self, ends: Ends, value: Option<T>) -> Option<T> {
        let piece = self.pieces.get_mut(piece_of(ends))?;
        let at = piece.binary_search_by_key(&ends, |(known, _)| *known);
        match (at, value) {
            (Ok(at), Some(value)) => {
                if piece.get(at).is_some_and(|(_, known)| *known == value) {
                    return Some(value);
                }
                let (_, known) = Arc::make_mut(piece).get_mut(at)?;
                Some(std::mem::replace(known, value))
            }
            (Ok(at), None) => Some(Arc::make_mut(piece).remove(at).1),
            (Err(at), Some(value)) => {
                Arc::make_mut(piece).insert(at, (ends, value));
                None
            }
            (Err(_), None) => None,
        }
    }

    /// All arcs, in order of their ends.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Ends, &T)> + '_ {
        self.pieces.iter().flat_map(|piece| piece.iter()).map(|(ends, value)| (*ends, value))
    }

    /// What differs from here to `other`, which has as many nodes, in order of the ends.
    pub(crate) fn differences<'a>(
        &'a self,
        other: &'a Self,
    ) -> impl Iterator<Item = Difference<'a, T>> {
        let pieces = self.pieces.iter().zip(&other.pieces);
        let own = pieces.filter(|(one, other)| !Arc::ptr_eq(one, other));
        own.flat_map(|(one, other)| {
            let (mut one, mut other) = (one.iter().peekable(), other.iter().peekable());
            std::iter::from_fn(move || {
                let ends = match (one.peek(), other.peek()) {
                    (Some((one, _)), Some((other, _))) => *one.min(other),
                    (Some((ends, _)), None) | (None, Some((ends, _))) => *ends,
                    (None, None) => return None,
                };
                let was = one.next_if(|(known, _)| *known == ends).map(|(_, value)| value);
                let is = other.next_if(|(known, _)| *known == ends).map(|(_, value)| value);
                Some((ends, was, is))
            })
        })
        .filter(|(_, was, is)| was != is)
    }
}

impl<T: PartialEq> PartialEq for ArcMap<T> {
    fn eq(&self, other: &Self) -> bool {
        let same = |(one, other): (&Arc<_>, &Arc<_>)| Arc::ptr_eq(one, other) || one == other;
        self.pieces.len() == other.pieces.len() && self.pieces.iter().zip(&other.pieces).all(same)
    }
}

fn piece_of((from, _): Ends) -> usize {
    usize::try_from(from).unwrap_or(usize::MAX) / PIECE_NODES
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NODES: u32 = 40;

    fn step() -> impl Strategy<Value = (Ends, Option<u8>)> {
        ((0..NODES, 0..NODES), prop::option::of(0..3_u8))
    }

    proptest! {
        /// It is what a map of the standard library is, and so is a clone that was left alone; what
        /// differs between the two is what differs between the maps of the library.
        #[test]
        fn it_is_a_map_and_knows_what_differs(
            begin in prop::collection::btree_map((0..NODES, 0..NODES), 0..3_u8, 0..200),
            steps in prop::collection::vec(step(), 0..60),
        ) {
            let all = begin.iter().map(|(ends, value)| (*ends, *value)).rev().collect();
            let old = ArcMap::new(NODES as usize, all);
            let (mut map, mut model) = (old.clone(), begin.clone());
            for (ends, value) in steps {
                let before = match value {
                    Some(value) => model.insert(ends, value),
                    None => model.remove(&ends),
                };
                prop_assert_eq!(map.set(ends, value), before);
            }
            for (map, model) in [(&old, &begin), (&map, &model)] {
                prop_assert!(map.iter().eq(model.iter().map(|(ends, value)| (*ends, value))));
                let mut all = (0..NODES).flat_map(|a| (0..NODES).map(move |b| (a, b)));
                prop_assert!(all.all(|(a, b)| map.get(a, b) == model.get(&(a, b))));
            }
            let keys: std::collections::BTreeSet<_> = begin.keys().chain(model.keys()).collect();
            let expected: Vec<Difference<'_, u8>> = keys
                .into_iter()
                .map(|ends| (*ends, begin.get(ends), model.get(ends)))
                .filter(|(_, was, is)| was != is)
                .collect();
            prop_assert_eq!(old.differences(&map).collect::<Vec<_>>(), expected);
            prop_assert_eq!(old == map, begin == model);
        }
    }

    #[test]
    fn what_stays_as_it_is_is_not_copied() {
        let old = ArcMap::new(40, vec![((3, 1), 'a'), ((20, 2), 'b'), ((39, 0), 'c')]);
        let mut new = old.clone();
        assert_eq!(new.set((3, 1), Some('a')), Some('a'));
        assert_eq!(new.set((3, 9), None), None);
        assert_eq!(new.set((39, 0), Some('d')), Some('c'));
        let shared = old.pieces.iter().zip(&new.pieces).map(|(a, b)| Arc::ptr_eq(a, b));
        assert_eq!(shared.collect::<Vec<_>>(), [true, true, false]);
        // Beyond the nodes there is nothing.
        assert_eq!((new.set((48, 0), Some('x')), new.get(48, 0)), (None, None));
    }
}
