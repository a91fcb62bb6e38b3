/// Buffers to be filled again: as many as were of use since the last trim. Short ones are kept apart, so
/// that what needs little does not hold what was made for more.
#[derive(Debug, Default)]
pub(crate) struct BufferPool {
    long: Shelf,
    short: Shelf,
    /// A buffer with more room is not kept.
    keep_bytes: usize,
}

#[derive(Debug, Default)]
struct Shelf {
    spare: Vec<Vec<u8>>,
    /// Fewest that were left since the last trim.
    idle: usize,
}

/// Most that are kept of either kind.
const SPARE_MAX: usize = 256;
/// A short buffer has no more room.
pub(crate) const SHORT_BYTES_MAX: usize = 1 << 10;

impl BufferPool {
    pub(crate) fn new(keep_bytes: usize) -> Self {
        Self { keep_bytes, ..Self::default() }
    }

    /// An empty one, for as much as a batch may have.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        self.long.take().or_else(|| self.short.take()).unwrap_or_default()
    }

    /// An empty one, for little.
    pub(crate) fn take_short(&mut self) -> Vec<u8> {
        self.short.take().unwrap_or_default()
    }

    /// As [`Self::take_short`], with all the room that a short one may have if there was none.
    pub(crate) fn take_short_whole(&mut self) -> Vec<u8> {
        self.short.take().unwrap_or_else(|| Vec::with_capacity(SHORT_BYTES_MAX))
    }

    /// A short one that has no room for `bytes` more gives way to a long one, if there is one: it need
    /// not grow step by step.
    pub(crate) fn make_room(&mut self, buffer: &mut Vec<u8>, bytes: usize) {
        let (capacity, len) = (buffer.capacity(), buffer.len().saturating_add(bytes));
        if capacity > SHORT_BYTES_MAX || len <= capacity {
            return;
        }
        if let Some(mut long) = self.long.take() {
            long.extend_from_slice(buffer);
            self.give(std::mem::replace(buffer, long));
        }
    }

    pub(crate) fn give(&mut self, buffer: Vec<u8>) {
        let shelf = match buffer.capacity() {
            0 => return,
            1..=SHORT_BYTES_MAX => &mut self.short,
            _ => &mut self.long,
        };
        if shelf.spare.len() < SPARE_MAX && buffer.capacity() <= self.keep_bytes {
            shelf.spare.push(buffer);
        }
    }

    /// Frees what was of no use since the last call.
    pub(crate) fn trim(&mut self) {
        self.long.trim();
        self.short.trim();
    }
}

impl Shelf {
    fn take(&mut self) -> Option<Vec<u8>> {
        let mut buffer = self.spare.pop()?;
        self.idle = self.idle.min(self.spare.len());
        buffer.clear();
        Some(buffer)
    }

    fn trim(&mut self) {
        let keep = self.spare.len().saturating_sub(self.idle);
        self.spare.truncate(keep);
        self.idle = self.spare.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_that_were_of_no_use_are_freed() {
        let mut pool = BufferPool::new(10_000);
        for _ in 0..4 {
            pool.give(Vec::with_capacity(5000));
        }
        pool.give(Vec::with_capacity(20_000));
        pool.trim();
        assert_eq!(pool.long.spare.len(), 4, "too large a one is not kept");
        let one = pool.take();
        pool.give(one);
        pool.trim();
        assert_eq!(pool.long.spare.len(), 1);
    }

    #[test]
    fn what_needs_little_gets_a_short_one_or_none() {
        let mut pool = BufferPool::new(10_000);
        pool.give(Vec::with_capacity(5000));
        assert_eq!(pool.take_short().capacity(), 0);
        pool.give(Vec::with_capacity(100));
        assert_eq!(pool.take().capacity(), 5000);
        assert_eq!(pool.take().capacity(), 100, "better than none");
        pool.give(Vec::with_capacity(100));
        assert_eq!((pool.take_short().capacity(), pool.take().capacity()), (100, 0));
    }
}
