//! Pieces of maps that are not clones of each other and have much in common.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Weak};

/// Fewest pieces that are looked through for those that nobody has any more.
const SWEEP_MIN: usize = 4096;

/// Pieces by what is in them. It keeps none: what nobody has any more is gone.
#[derive(Debug)]
pub(crate) struct PieceTable<P> {
    /// By a hash of what is in them. Of two different ones with one hash the first is known.
    known: BTreeMap<u64, Weak<P>>,
    /// So many are looked through.
    sweep_at: usize,
}

impl<P> Default for PieceTable<P> {
    fn default() -> Self {
        Self { known: BTreeMap::new(), sweep_at: SWEEP_MIN }
    }
}

impl<P: Hash + PartialEq> PieceTable<P> {
    /// Puts a known piece in the place of its equal, or knows this one from now on. One that is known
    /// already is not looked at: nobody else has weak references, and what is changed has none.
    pub(crate) fn share(&mut self, piece: &mut Arc<P>) {
        if Arc::weak_count(piece) > 0 {
            return;
        }
        let mut hasher = WordHasher::default();
        piece.hash(&mut hasher);
        let entry = self.known.entry(hasher.finish()).or_default();
        match entry.upgrade() {
            Some(known) if known == *piece => *piece = known,
            Some(_) => {}
            None => *entry = Arc::downgrade(piece),
        }
        if self.known.len() >= self.sweep_at {
            self.known.retain(|_, piece| piece.strong_count() > 0);
            self.sweep_at = self.known.len().saturating_mul(2).max(SWEEP_MIN);
        }
    }
}

/// Quick, and the same in each process. Nobody else decides what is hashed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct WordHasher(u64);

impl Hasher for WordHasher {
    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            for (to, from) in word.iter_mut().zip(chunk) {
                *to = *from;
            }
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u32(&mut self, word: u32) {
        self.write_u64(word.into());
    }

    fn write_u64(&mut self, word: u64) {
        let mixed = (self.0 ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ (mixed >> 29);
    }

    fn write_usize(&mut self, word: usize) {
        self.write_u64(u64::try_from(word).unwrap_or(u64::MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_pieces_become_one_and_others_do_not() {
        let mut table = PieceTable::default();
        let [mut one, mut other, mut third] =
            [vec![1_u64, 2], vec![1, 2], vec![2, 1]].map(Arc::new);
        for piece in [&mut one, &mut other, &mut third] {
            table.share(piece);
        }
        assert!(Arc::ptr_eq(&one, &other));
        assert_eq!((&*one, &*third), (&vec![1, 2], &vec![2, 1]));
    }

    #[test]
    fn pieces_that_nobody_has_make_nothing_grow() {
        let mut table = PieceTable::default();
        let mut kept: Vec<Arc<u64>> = (0..10).map(Arc::new).collect();
        for piece in &mut kept {
            table.share(piece);
        }
        for number in 0..100_000 {
            table.share(&mut Arc::new(number));
        }
        assert!(table.known.len() < SWEEP_MIN, "{}", table.known.len());
        // What is kept is known.
        let mut again = Arc::new(7);
        table.share(&mut again);
        assert!(kept.get(7).is_some_and(|known| Arc::ptr_eq(&again, known)));
    }
}
