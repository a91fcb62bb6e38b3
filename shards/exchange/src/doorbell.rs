use std::future::poll_fn;
use std::task::{Context, Poll};

use crossbeam_utils::CachePadded;

use crate::sync::{AtomicBool, AtomicWaker, Ordering, fence};

/// Wakes one thread that sleeps; costs next to nothing while it is awake.
///
/// Each thread that receives has one, shared by everything that may give it work: rings, the route
/// cell, a shutdown flag. It works from any async runtime, since all it needs is a waker that may
/// be called on another thread.
///
/// **Invariant:** work that was made visible before [`Doorbell::ring`] is either seen by the
/// sleeper's last look before it sleeps, or wakes it. Both sides write first (the work; `sleeping`),
/// then pass a sequentially consistent fence, then read what the other wrote: at least one of them
/// sees the other (the store buffering litmus test). `tests/loom.rs` checks it.
#[derive(Debug, Default)]
pub struct Doorbell {
    /// Set by the sleeper, taken by whoever rings: one wake for one sleep. On a cache line of its
    /// own, because every batch of every sender reads it. Written by swaps alone, so that each
    /// write happens after the one before it, whichever thread made that.
    sleeping: CachePadded<AtomicBool>,
    waker: AtomicWaker,
}

impl Doorbell {
    /// The bell of a thread that is awake.
    #[must_use]
    pub fn new() -> Self {
        Self { sleeping: CachePadded::new(AtomicBool::new(false)), waker: AtomicWaker::new() }
    }

    /// Wakes the thread if it sleeps. Call it behind the work, once for a whole batch.
    pub fn ring(&self) {
        fence(Ordering::SeqCst);
        // The plain load keeps the line shared while the thread is awake. The swap acquires what
        // the sleeper released with the flag, its waker above all.
        if self.sleeping.load(Ordering::Relaxed) && self.sleeping.swap(false, Ordering::AcqRel) {
            self.waker.wake();
        }
    }

    /// Ready if `has_work` says so; else the thread counts as asleep and the context's waker is
    /// called at the next [`Doorbell::ring`]. It may also be woken for nothing.
    ///
    /// `has_work` looks at everything that rings this bell, and takes nothing: it is called twice.
    /// For a thread that sends, that includes a ring that refused a message and has room again:
    /// `message_waits && sender.free_slots() > 0`.
    ///
    /// One task at a time: the last one that was pending is the one that is woken.
    pub fn poll_sleep(&self, cx: &mut Context<'_>, mut has_work: impl FnMut() -> bool) -> Poll<()> {
        if has_work() {
            // Something else than the bell may have woken the thread: spare the senders a wake.
            if self.sleeping.load(Ordering::Relaxed) {
                self.sleeping.swap(false, Ordering::AcqRel);
            }
            return Poll::Ready(());
        }
        self.waker.register(cx.waker());
        self.sleeping.swap(true, Ordering::AcqRel);
        fence(Ordering::SeqCst);
        if has_work() {
            self.sleeping.swap(false, Ordering::AcqRel);
            return Poll::Ready(());
        }
        Poll::Pending
    }

    /// [`Doorbell::poll_sleep`] as a future. Dropping it costs one needless wake at most.
    pub async fn sleep(&self, mut has_work: impl FnMut() -> bool) {
        poll_fn(|cx| self.poll_sleep(cx, &mut has_work)).await;
    }
}
