use std::ops::{Index, IndexMut};

/// Things that are made when the world begins, or added as it goes on, and never removed; named by
/// their number.
#[derive(Debug)]
pub(crate) struct Arena<T> {
    things: Vec<T>,
    changes: u64,
}

impl<T> Arena<T> {
    pub(crate) const fn new() -> Self {
        Self { things: Vec::new(), changes: 0 }
    }

    /// Adds one; its number.
    pub(crate) fn add(&mut self, item: T) -> usize {
        self.things.push(item);
        self.things.len().saturating_sub(1)
    }

    pub(crate) const fn len(&self) -> usize {
        self.things.len()
    }

    /// How often one of them was lent to be changed: who finds the same number again finds all as it was.
    pub(crate) const fn changes(&self) -> u64 {
        self.changes
    }

    pub(crate) fn iter(&self) -> std::slice::Iter<'_, T> {
        self.things.iter()
    }
}

#[expect(clippy::indexing_slicing, reason = "numbers come from `add`; another one is our own bug")]
impl<T> Index<usize> for Arena<T> {
    type Output = T;

    fn index(&self, number: usize) -> &T {
        &self.things[number]
    }
}

#[expect(clippy::indexing_slicing, reason = "numbers come from `add`; another one is our own bug")]
impl<T> IndexMut<usize> for Arena<T> {
    fn index_mut(&mut self, number: usize) -> &mut T {
        self.changes = self.changes.wrapping_add(1);
        &mut self.things[number]
    }
}
