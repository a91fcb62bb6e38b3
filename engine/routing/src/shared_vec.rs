//! A sequence whose clones share what none of them has changed.

use std::ops::Index;
use std::sync::Arc;

/// Most elements that are shared and copied together.
const PIECE_LEN: usize = 64;

/// Elements by number.
///
/// A clone costs a count a piece; the first change within a piece copies that piece, unless it is
/// nobody else's. Elements are few words: what is large in them belongs behind an [`Arc`].
///
/// **Invariant:** each piece but the last has 64 elements, and none has none.
#[derive(Clone, Debug)]
pub struct SharedVec<T> {
    pieces: Vec<Arc<[T]>>,
}

impl<T> Default for SharedVec<T> {
    fn default() -> Self {
        Self { pieces: Vec::new() }
    }
}

impl<T: Clone> SharedVec<T> {
    /// So many times the same.
    pub(crate) fn repeat(value: &T, len: usize) -> Self {
        std::iter::repeat_n(value, len).cloned().collect()
    }

    /// Count of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        let [whole @ .., last] = self.pieces.as_slice() else { return 0 };
        whole.len().saturating_mul(PIECE_LEN).saturating_add(last.len())
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// The element with this number.
    #[must_use]
    pub fn get(&self, at: usize) -> Option<&T> {
        self.pieces.get(at / PIECE_LEN)?.get(at % PIECE_LEN)
    }

    /// All elements, in order.
    pub fn iter(&self) -> impl Iterator<Item = &T> + '_ {
        self.pieces.iter().flat_map(|piece| piece.iter())
    }

    /// Puts `value` in the place of an element that there is.
    pub(crate) fn set(&mut self, at: usize, value: T) {
        let piece = self.pieces.get_mut(at / PIECE_LEN);
        if let Some(known) = piece.and_then(|piece| Arc::make_mut(piece).get_mut(at % PIECE_LEN)) {
            *known = value;
        }
    }

    /// The numbers of the elements here that are not shared with `other`: the rest are equal.
    pub(crate) fn unshared<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = usize> + 'a {
        let shares = |at: usize, piece: &Arc<[T]>| {
            other.pieces.get(at).is_some_and(|other| Arc::ptr_eq(piece, other))
        };
        let own = self.pieces.iter().enumerate().filter(move |&(at, piece)| !shares(at, piece));
        own.flat_map(|(at, piece)| {
            let first = at.saturating_mul(PIECE_LEN);
            first..first.saturating_add(piece.len())
        })
    }
}

impl<T: Clone> FromIterator<T> for SharedVec<T> {
    fn from_iter<I: IntoIterator<Item = T>>(elements: I) -> Self {
        let (mut elements, mut pieces) = (elements.into_iter(), Vec::new());
        loop {
            let piece: Arc<[T]> = elements.by_ref().take(PIECE_LEN).collect();
            if piece.is_empty() {
                return Self { pieces };
            }
            pieces.push(piece);
        }
    }
}

impl<T> Index<usize> for SharedVec<T> {
    type Output = T;

    #[expect(clippy::indexing_slicing, reason = "as of any sequence")]
    fn index(&self, at: usize) -> &T {
        &self.pieces[at / PIECE_LEN][at % PIECE_LEN]
    }
}

impl<T: PartialEq> PartialEq for SharedVec<T> {
    fn eq(&self, other: &Self) -> bool {
        let same = |(one, other): (&Arc<_>, &Arc<_>)| Arc::ptr_eq(one, other) || one == other;
        self.pieces.len() == other.pieces.len() && self.pieces.iter().zip(&other.pieces).all(same)
    }
}

impl<T: Eq> Eq for SharedVec<T> {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// It is what a vector is, and so is a clone that was left alone; what may differ between the
        /// two is known.
        #[test]
        fn it_is_a_vector_and_clones_are_their_own(
            begin in prop::collection::vec(0..3_u8, 0..300),
            steps in prop::collection::vec((0..310_usize, 0..3_u8), 0..8),
        ) {
            let old: SharedVec<u8> = begin.iter().copied().collect();
            let (mut new, mut model) = (old.clone(), begin.clone());
            for (at, value) in steps {
                new.set(at, value);
                if let Some(known) = model.get_mut(at) {
                    *known = value;
                }
            }
            for (shared, model) in [(&old, &begin), (&new, &model)] {
                prop_assert!(shared.iter().eq(model));
                prop_assert_eq!((shared.len(), shared.is_empty()), (model.len(), model.is_empty()));
                prop_assert!((0..310).all(|at| shared.get(at) == model.get(at)));
                prop_assert!(model.iter().enumerate().all(|(at, value)| shared[at] == *value));
            }
            let unshared: Vec<usize> = new.unshared(&old).collect();
            prop_assert!((0..begin.len()).all(|at| old.get(at) == new.get(at) || unshared.contains(&at)));
            prop_assert_eq!(old == new, begin == model);
        }
    }

    #[test]
    fn a_change_copies_its_piece_alone() {
        let one = SharedVec::repeat(&'a', 2 * PIECE_LEN + 3);
        let mut other = one.clone();
        other.set(PIECE_LEN, 'b');
        let numbers: Vec<usize> = (PIECE_LEN..2 * PIECE_LEN).collect();
        assert_eq!(other.unshared(&one).collect::<Vec<_>>(), numbers);
        // Where the other is shorter the rest is nobody else's.
        let rest = 2 * PIECE_LEN..2 * PIECE_LEN + 3;
        let short = SharedVec { pieces: one.pieces.iter().take(2).cloned().collect() };
        assert_eq!(one.unshared(&short).collect::<Vec<_>>(), rest.collect::<Vec<_>>());
        assert_eq!(one.unshared(&SharedVec::default()).count(), one.len());
    }
}
