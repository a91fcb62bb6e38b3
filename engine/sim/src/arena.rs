use std::ops::{Index, IndexMut};

/// Things that are made when the world begins, or added as it goes on, and never removed; named by
/// their number.
#[derive(Debug)]
pub(crate) struct Arena<T>(Vec<T>);

impl<T> Arena<T> {
    pub(crate) const fn new() -> Self {
        Self(Vec::new())
    }

    /// Adds one; its number.
    pub(crate) fn add(&mut self, item: T) -> usize {
        self.0.push(item);
        self.0.len().saturating_sub(1)
    }

    pub(crate) const fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn iter(&self) -> std::slice::Iter<'_, T> {
        self.0.iter()
    }
}

#[expect(clippy::indexing_slicing, reason = "numbers come from `add`; another one is our own bug")]
impl<T> Index<usize> for Arena<T> {
    type Output = T;

    fn index(&self, number: usize) -> &T {
        &self.0[number]
    }
}

#[expect(clippy::indexing_slicing, reason = "numbers come from `add`; another one is our own bug")]
impl<T> IndexMut<usize> for Arena<T> {
    fn index_mut(&mut self, number: usize) -> &mut T {
        &mut self.0[number]
    }
}
