//! What is known of each arc, by its ends.

use std::hash::Hash;
use std::sync::Arc;

use crate::graph::NodeNumber;
use crate::piece_table::PieceTable;

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
#[derive(Clone, Debug, Default)]
pub(crate) struct ArcMap<T> {
    /// The arcs of node `n` are in piece `n / PIECE_NODES`.
    pieces: Vec<Arc<Piece<T>>>,
}

/// The arcs of [`PIECE_NODES`] nodes.
#[derive(Clone, Debug, Hash, PartialEq)]
pub(crate) struct Piece<T> {
    /// Where each node's arcs begin; the last one's end there.
    starts: [usize; PIECE_NODES + 1],
    /// Where each ends and its value, those of a node in order of their ends.
    arcs: Vec<(NodeNumber, T)>,
}

impl<T: Clone + PartialEq> ArcMap<T> {
    /// These arcs, each once; those that begin at none of so many nodes are left out.
    pub(crate) fn new(nodes: usize, mut arcs: Vec<(Ends, T)>) -> Self {
        arcs.sort_unstable_by_key(|(ends, _)| *ends);
        let mut pieces: Vec<Piece<T>> = vec![Piece::default(); nodes.div_ceil(PIECE_NODES)];
        for ((from, to), value) in arcs {
            let (piece, row) = place(from);
            if let Some(piece) = pieces.get_mut(piece) {
                piece.arcs.push((to, value));
                piece.shift(row, |start| *start = start.saturating_add(1));
            }
        }
        Self { pieces: pieces.into_iter().map(Arc::new).collect() }
    }

    pub(crate) fn get(&self, from: NodeNumber, to: NodeNumber) -> Option<&T> {
        let (piece, row) = place(from);
        let arcs = self.pieces.get(piece)?.row(row);
        let at = arcs.binary_search_by_key(&to, |(known, _)| *known).ok()?;
        arcs.get(at).map(|(_, value)| value)
    }

    /// Gives the arc this value, or takes it away; the value that it had.
    pub(crate) fn set(&mut self, (from, to): Ends, value: Option<T>) -> Option<T> {
        let (piece, row) = place(from);
        let piece = self.pieces.get_mut(piece)?;
        let start = *piece.starts.get(row)?;
        let found = piece.row(row).binary_search_by_key(&to, |(known, _)| *known);
        let at = start.saturating_add(found.unwrap_or_else(|at| at));
        match (found.is_ok(), value) {
            (true, Some(value)) => {
                if piece.arcs.get(at).is_some_and(|(_, known)| *known == value) {
                    return Some(value);
                }
                let (_, known) = Arc::make_mut(piece).arcs.get_mut(at)?;
                Some(std::mem::replace(known, value))
            }
            (true, None) => {
                let piece = Arc::make_mut(piece);
                piece.shift(row, |start| *start = start.saturating_sub(1));
                Some(piece.arcs.remove(at).1)
            }
            (false, Some(value)) => {
                let piece = Arc::make_mut(piece);
                piece.shift(row, |start| *start = start.saturating_add(1));
                // Many maps have few arcs more than others: none keeps room for further ones.
                piece.arcs.reserve_exact(1);
                piece.arcs.insert(at, (to, value));
                None
            }
            (false, None) => None,
        }
    }

    /// Has pieces in common with whatever else was shared with `table`, as far as there are equal ones.
    pub(crate) fn share(&mut self, table: &mut PieceTable<Piece<T>>)
    where
        T: Hash,
    {
        self.pieces.iter_mut().for_each(|piece| table.share(piece));
    }

    /// All arcs, in order of their ends.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Ends, &T)> + '_ {
        (0..)
            .zip(self.rows())
            .flat_map(|(from, row)| row.iter().map(move |(to, value)| ((from, *to), value)))
    }

    /// What differs from here to `other`, which has as many nodes, in order of the ends.
    pub(crate) fn differences<'a>(
        &'a self,
        other: &'a Self,
    ) -> impl Iterator<Item = Difference<'a, T>> {
        let pieces = (0..).step_by(PIECE_NODES).zip(self.pieces.iter().zip(&other.pieces));
        let own = pieces.filter(|(_, (one, other))| !Arc::ptr_eq(one, other));
        own.flat_map(|(first, (one, other))| {
            let rows = (first..).zip(one.rows().zip(other.rows()));
            rows.flat_map(|(from, (one, other))| differences_of(from, one, other))
        })
    }

    fn rows(&self) -> impl Iterator<Item = &[(NodeNumber, T)]> + '_ {
        self.pieces.iter().flat_map(|piece| piece.rows())
    }
}

/// What differs between the arcs of one node in two maps.
fn differences_of<'a, T: PartialEq>(
    from: NodeNumber,
    one: &'a [(NodeNumber, T)],
    other: &'a [(NodeNumber, T)],
) -> impl Iterator<Item = Difference<'a, T>> {
    let (mut one, mut other) = (one.iter().peekable(), other.iter().peekable());
    let both = std::iter::from_fn(move || {
        let to = match (one.peek(), other.peek()) {
            (Some((one, _)), Some((other, _))) => *one.min(other),
            (Some((to, _)), None) | (None, Some((to, _))) => *to,
            (None, None) => return None,
        };
        let was = one.next_if(|(known, _)| *known == to).map(|(_, value)| value);
        let is = other.next_if(|(known, _)| *known == to).map(|(_, value)| value);
        Some(((from, to), was, is))
    });
    both.filter(|(_, was, is)| was != is)
}

impl<T: PartialEq> PartialEq for ArcMap<T> {
    fn eq(&self, other: &Self) -> bool {
        let same = |(one, other): (&Arc<_>, &Arc<_>)| Arc::ptr_eq(one, other) || one == other;
        self.pieces.len() == other.pieces.len() && self.pieces.iter().zip(&other.pieces).all(same)
    }
}

impl<T> Default for Piece<T> {
    fn default() -> Self {
        Self { starts: [0; PIECE_NODES + 1], arcs: Vec::new() }
    }
}

impl<T> Piece<T> {
    fn row(&self, row: usize) -> &[(NodeNumber, T)] {
        let bounds = self.starts.get(row).zip(self.starts.get(row.saturating_add(1)));
        bounds.and_then(|(&start, &end)| self.arcs.get(start..end)).unwrap_or_default()
    }

    fn rows(&self) -> impl Iterator<Item = &[(NodeNumber, T)]> + '_ {
        (0..PIECE_NODES).map(|row| self.row(row))
    }

    /// Moves the begins of what is behind a node's arcs.
    fn shift(&mut self, row: usize, by: impl FnMut(&mut usize)) {
        self.starts.iter_mut().skip(row.saturating_add(1)).for_each(by);
    }
}

/// The piece that a node is in, and which of its rows.
fn place(node: NodeNumber) -> (usize, usize) {
    let node = usize::try_from(node).unwrap_or(usize::MAX);
    (node / PIECE_NODES, node % PIECE_NODES)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NODES: u16 = 40;

    fn ends() -> impl Strategy<Value = Ends> {
        (0..NODES, 0..NODES).prop_map(|(from, to)| (from.into(), to.into()))
    }

    fn step() -> impl Strategy<Value = (Ends, Option<u8>)> {
        (ends(), prop::option::of(0..3_u8))
    }

    proptest! {
        /// It is what a map of the standard library is, and so is a clone that was left alone; what
        /// differs between the two is what differs between the maps of the library.
        #[test]
        fn it_is_a_map_and_knows_what_differs(
            begin in prop::collection::btree_map(ends(), 0..3_u8, 0..200),
            steps in prop::collection::vec(step(), 0..60),
        ) {
            let all = begin.iter().map(|(ends, value)| (*ends, *value)).rev().collect();
            let old = ArcMap::new(NODES.into(), all);
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
                let mut all = (0..NODES.into()).flat_map(|a| (0..NODES.into()).map(move |b| (a, b)));
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

    #[test]
    fn maps_that_have_come_to_the_same_share_it_and_stay_their_own() {
        let mut table = PieceTable::default();
        let arcs = vec![((3, 1), 'a'), ((20, 2), 'b'), ((39, 0), 'c')];
        let mut one = ArcMap::new(40, arcs);
        let mut other = ArcMap::new(40, vec![((39, 0), 'c'), ((20, 7), 'd'), ((3, 1), 'a')]);
        let shared = |one: &ArcMap<char>, other: &ArcMap<char>| {
            let pieces = one.pieces.iter().zip(&other.pieces);
            pieces.map(|(a, b)| Arc::ptr_eq(a, b)).collect::<Vec<_>>()
        };
        one.share(&mut table);
        other.share(&mut table);
        assert_eq!(shared(&one, &other), [true, false, true]);
        other.set((20, 7), None);
        other.set((20, 2), Some('b'));
        other.share(&mut table);
        assert_eq!(shared(&one, &other), [true; 3]);
        // What is changed then is changed in one of them.
        other.set((20, 2), Some('x'));
        other.share(&mut table);
        assert_eq!((one.get(20, 2), other.get(20, 2)), (Some(&'b'), Some(&'x')));
        one.set((20, 2), Some('x'));
        one.share(&mut table);
        assert_eq!(shared(&one, &other), [true; 3]);
    }
}
