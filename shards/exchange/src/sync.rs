//! The primitives that the sleep protocol is made of; loom's own where loom checks it.

#[cfg(not(loom))]
pub(crate) use {
    atomic_waker::AtomicWaker,
    std::sync::atomic::{AtomicBool, Ordering, fence},
};

#[cfg(loom)]
pub(crate) use {
    loom::sync::atomic::{AtomicBool, Ordering, fence},
    stand_in::AtomicWaker,
};

#[cfg(loom)]
mod stand_in {
    use std::task::Waker;

    /// loom's waker cell with the real one's interface.
    #[derive(Debug, Default)]
    pub(crate) struct AtomicWaker(loom::future::AtomicWaker);

    impl AtomicWaker {
        pub(crate) fn new() -> Self {
            Self::default()
        }

        pub(crate) fn register(&self, waker: &Waker) {
            self.0.register_by_ref(waker);
        }

        pub(crate) fn wake(&self) {
            self.0.wake();
        }
    }
}
