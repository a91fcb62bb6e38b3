use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use hawser_link::FrameParts;

/// What a frame on its way costs beside its bytes.
const FRAME_OVERHEAD_BYTES: usize = 128;

/// Frames that are on their way to another thread: behind its ring, in it, and in its hands until it
/// lets go of them. Bounded by their bytes, and by their number if that is said.
#[derive(Debug)]
pub(crate) struct Budget {
    used: Arc<Used>,
    max_bytes: usize,
    max_frames: usize,
}

#[derive(Debug, Default)]
struct Used {
    bytes: AtomicUsize,
    frames: AtomicUsize,
}

/// Gives its place back to the budget when the last who holds it lets go.
struct Charged {
    bytes: Vec<u8>,
    used: Arc<Used>,
}

const fn charge(len: usize) -> usize {
    len.saturating_add(FRAME_OVERHEAD_BYTES)
}

impl AsRef<[u8]> for Charged {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Charged {
    fn drop(&mut self) {
        self.used.bytes.fetch_sub(charge(self.bytes.len()), Ordering::Relaxed);
        self.used.frames.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Budget {
    pub(crate) fn new(max_bytes: usize) -> Self {
        Self { used: Arc::default(), max_bytes, max_frames: usize::MAX }
    }

    /// For so many frames at most.
    pub(crate) fn with_frames(self, max_frames: usize) -> Self {
        Self { max_frames, ..self }
    }

    /// The body in one piece; `None`, and nothing is taken, if too much is on its way already.
    ///
    /// Only the owner takes, so that what it finds free stays free.
    pub(crate) fn take(&self, body: FrameParts<'_>) -> Option<Bytes> {
        let len = body.len();
        let used_bytes = self.used.bytes.load(Ordering::Relaxed);
        if used_bytes.saturating_add(charge(len)) > self.max_bytes
            || self.used.frames.load(Ordering::Relaxed) >= self.max_frames
        {
            return None;
        }
        self.used.bytes.fetch_add(charge(len), Ordering::Relaxed);
        self.used.frames.fetch_add(1, Ordering::Relaxed);
        let bytes = body.concat();
        Some(Bytes::from_owner(Charged { bytes, used: Arc::clone(&self.used) }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_counts_until_the_last_holder_lets_go() {
        let budget = Budget::new(2 * charge(100));
        let first = budget.take(FrameParts::of(&[&[1; 60], &[2; 40]])).unwrap();
        assert_eq!(first, [vec![1; 60], vec![2; 40]].concat());
        let second = budget.take(FrameParts::of(&[&[0; 100]])).unwrap();
        assert_eq!(budget.take(FrameParts::of(&[b""])), None);
        let slice = first.slice(..1);
        drop(first);
        assert_eq!(budget.take(FrameParts::of(&[b""])), None, "a slice holds all of it");
        std::thread::spawn(move || drop(slice)).join().unwrap();
        assert!(budget.take(FrameParts::of(&[&[0; 101]])).is_none());
        assert!(budget.take(FrameParts::of(&[&[0; 100]])).is_some());
        drop(second);
    }

    #[test]
    fn what_is_above_the_bound_never_passes() {
        assert_eq!(Budget::new(charge(9)).take(FrameParts::of(&[&[0; 10]])), None);
    }

    #[test]
    fn so_many_frames_pass_however_small() {
        let budget = Budget::new(usize::MAX).with_frames(2);
        let take = || budget.take(FrameParts::of(&[b""]));
        let (first, _second) = (take().unwrap(), take().unwrap());
        assert_eq!(take(), None);
        drop(first);
        assert!(take().is_some());
    }
}
