/// Buffers to be filled again: as many as were of use since the last trim.
#[derive(Debug, Default)]
pub(crate) struct BufferPool {
    spare: Vec<Vec<u8>>,
    /// Fewest that were left since the last trim.
    idle: usize,
    /// A buffer with more room is not kept.
    keep_bytes: usize,
}

/// Most that are kept.
const SPARE_MAX: usize = 256;

impl BufferPool {
    pub(crate) fn new(keep_bytes: usize) -> Self {
        Self { spare: Vec::new(), idle: 0, keep_bytes }
    }

    pub(crate) fn take(&mut self) -> Vec<u8> {
        let mut buffer = self.spare.pop().unwrap_or_default();
        self.idle = self.idle.min(self.spare.len());
        buffer.clear();
        buffer
    }

    pub(crate) fn give(&mut self, buffer: Vec<u8>) {
        if self.spare.len() < SPARE_MAX && buffer.capacity() <= self.keep_bytes {
            self.spare.push(buffer);
        }
    }

    /// Frees what was of no use since the last call.
    pub(crate) fn trim(&mut self) {
        let keep = self.spare.len().saturating_sub(self.idle);
        self.spare.truncate(keep);
        self.idle = self.spare.len();
    }
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn buffers_that_were_of_no_use_are_freed() {
        let mut pool = BufferPool::new(1000);
        for _ in 0..4 {
            pool.give(Vec::with_capacity(100));
        }
        pool.give(Vec::with_capacity(2000));
        pool.trim();
        assert_eq!(pool.spare.len(), 4, "too large a one is not kept");
        let one = pool.take();
        pool.give(one);
        pool.trim();
        assert_eq!(pool.spare.len(), 1);
    }
}
