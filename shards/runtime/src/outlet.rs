use std::collections::VecDeque;

use hawser_exchange::Sender;

/// The sending end of a ring with a queue behind it for what did not fit.
///
/// What enters is bounded, so that the queue is, too: by credit; by the share that a neighbour's frames
/// have; by what it is (one report for one request); or by a rate, as what peers can make happen is
/// (events of links, refusals of streams, lanes that come and go). What repeats itself is left out while
/// the ring is full.
#[derive(Debug)]
pub(crate) struct Outlet<T> {
    sender: Sender<T>,
    waiting: VecDeque<T>,
    /// Something was sent since the bell was last rung.
    unrung: bool,
}

impl<T> Outlet<T> {
    pub(crate) const fn new(sender: Sender<T>) -> Self {
        Self { sender, waiting: VecDeque::new(), unrung: false }
    }

    pub(crate) fn push(&mut self, message: T) {
        self.waiting.push_back(message);
        self.fill();
    }

    /// Something waits and the ring has room for it.
    pub(crate) fn can_flow(&self) -> bool {
        !self.waiting.is_empty() && self.sender.free_slots() > 0
    }

    /// A message waits for room in the ring.
    pub(crate) fn is_full(&self) -> bool {
        !self.waiting.is_empty()
    }

    fn fill(&mut self) {
        while let Some(message) = self.waiting.pop_front() {
            if let Err(full) = self.sender.try_send(message) {
                self.waiting.push_front(full.0);
                return;
            }
            self.unrung = true;
        }
    }

    /// Moves what fits into the ring and wakes the receiver, once for all that was sent. True if there
    /// was anything.
    pub(crate) fn flush(&mut self) -> bool {
        self.fill();
        let unrung = std::mem::take(&mut self.unrung);
        if unrung {
            self.sender.ring();
        }
        unrung
    }
}
