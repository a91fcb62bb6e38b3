//! The queue under a ring: rtrb, or a stand-in that loom can see into.
//!
//! The stand-in has rtrb's contract and its orderings: positions are released by the side that
//! moves them and acquired by the other, and a look at "full" or "empty" reads the other side's
//! position anew.

#[cfg(not(loom))]
pub(crate) use rtrb::{Consumer, Producer};

#[cfg(not(loom))]
pub(crate) fn queue<T>(slots: usize) -> (Producer<T>, Consumer<T>) {
    rtrb::RingBuffer::new(slots)
}

#[cfg(loom)]
pub(crate) use stand_in::{Consumer, Producer, queue};

#[cfg(loom)]
mod stand_in {
    use std::sync::{Arc, PoisonError};

    use loom::sync::Mutex;
    use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use rtrb::{PopError, PushError};

    #[derive(Debug)]
    struct Shared<T> {
        /// Taken so far; never wraps here.
        head: AtomicUsize,
        /// Put so far.
        tail: AtomicUsize,
        abandoned: AtomicBool,
        /// Locked only by the side that owns the slot at that moment, so that the lock orders
        /// nothing that the positions do not order already.
        slots: Vec<Mutex<Option<T>>>,
    }

    pub(crate) fn queue<T>(slots: usize) -> (Producer<T>, Consumer<T>) {
        let shared = Arc::new(Shared {
            head: AtomicUsize::new(0),
            tail: AtomicUsize::new(0),
            abandoned: AtomicBool::new(false),
            slots: (0..slots).map(|_| Mutex::new(None)).collect(),
        });
        (Producer { shared: Arc::clone(&shared) }, Consumer { shared })
    }

    #[derive(Debug)]
    pub(crate) struct Producer<T> {
        shared: Arc<Shared<T>>,
    }

    impl<T> Producer<T> {
        pub(crate) fn slots(&self) -> usize {
            let tail = self.shared.tail.load(Ordering::Relaxed);
            self.shared.slots.len() - (tail - self.shared.head.load(Ordering::Acquire))
        }

        pub(crate) fn push(&mut self, value: T) -> Result<(), PushError<T>> {
            if self.slots() == 0 {
                return Err(PushError::Full(value));
            }
            let tail = self.shared.tail.load(Ordering::Relaxed);
            let slot = &self.shared.slots[tail % self.shared.slots.len()];
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
            self.shared.tail.store(tail + 1, Ordering::Release);
            Ok(())
        }

        pub(crate) fn is_abandoned(&self) -> bool {
            self.shared.abandoned.load(Ordering::Acquire)
        }
    }

    impl<T> Drop for Producer<T> {
        fn drop(&mut self) {
            self.shared.abandoned.store(true, Ordering::Release);
        }
    }

    #[derive(Debug)]
    pub(crate) struct Consumer<T> {
        shared: Arc<Shared<T>>,
    }

    impl<T> Consumer<T> {
        pub(crate) fn is_empty(&self) -> bool {
            let head = self.shared.head.load(Ordering::Relaxed);
            head == self.shared.tail.load(Ordering::Acquire)
        }

        pub(crate) fn pop(&mut self) -> Result<T, PopError> {
            if self.is_empty() {
                return Err(PopError::Empty);
            }
            let head = self.shared.head.load(Ordering::Relaxed);
            let slot = &self.shared.slots[head % self.shared.slots.len()];
            let value = slot
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take()
                .ok_or(PopError::Empty)?;
            self.shared.head.store(head + 1, Ordering::Release);
            Ok(value)
        }

        pub(crate) fn is_abandoned(&self) -> bool {
            self.shared.abandoned.load(Ordering::Acquire)
        }
    }

    impl<T> Drop for Consumer<T> {
        fn drop(&mut self) {
            self.shared.abandoned.store(true, Ordering::Release);
        }
    }
}
