//! A table whose clones share what none of them has changed.

use std::sync::Arc;

/// Entries that are shared and copied together.
const PIECE: usize = 16;

/// Numbered places, each filled once and changed in place.
///
/// A clone costs a count a piece; the first change within a piece copies that piece, unless it is
/// nobody else's.
#[derive(Clone, Debug)]
pub(crate) struct SharedSlots<T> {
    /// All but the last are full.
    pieces: Vec<Arc<Vec<T>>>,
}

impl<T> Default for SharedSlots<T> {
    fn default() -> Self {
        Self { pieces: Vec::new() }
    }
}

impl<T: Clone> SharedSlots<T> {
    pub(crate) fn len(&self) -> usize {
        let full = self.pieces.len().saturating_sub(1).saturating_mul(PIECE);
        self.pieces.last().map_or(0, |last| full.saturating_add(last.len()))
    }

    pub(crate) fn get(&self, at: usize) -> Option<&T> {
        self.pieces.get(at.checked_div(PIECE)?)?.get(at.checked_rem(PIECE)?)
    }

    pub(crate) fn get_mut(&mut self, at: usize) -> Option<&mut T> {
        let piece = self.pieces.get_mut(at.checked_div(PIECE)?)?;
        let within = at.checked_rem(PIECE)?;
        // Nothing is copied for a place that is not there.
        (within < piece.len()).then(|| Arc::make_mut(piece).get_mut(within)).flatten()
    }

    pub(crate) fn push(&mut self, item: T) {
        match self.pieces.last_mut() {
            Some(last) if last.len() < PIECE => Arc::make_mut(last).push(item),
            _ => self.pieces.push(Arc::new(vec![item])),
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> + '_ {
        self.pieces.iter().flat_map(|piece| piece.iter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_share_what_they_do_not_change() {
        let mut one = SharedSlots::default();
        for number in 0..100_u32 {
            assert_eq!(one.len(), usize::try_from(number).unwrap());
            one.push(number);
        }
        let mut other = one.clone();
        *other.get_mut(40).unwrap() = 7;
        other.push(100);
        assert_eq!((one.get(40), other.get(40)), (Some(&40), Some(&7)));
        assert_eq!((one.get(100), other.get(100)), (None, Some(&100)));
        assert_eq!((one.get_mut(100), other.get_mut(101)), (None, None));
        assert!(one.iter().copied().eq(0..100));
        let shared = one.pieces.iter().zip(&other.pieces).filter(|(a, b)| Arc::ptr_eq(a, b));
        assert_eq!(shared.count(), 5, "of seven pieces two have changed");
    }
}
