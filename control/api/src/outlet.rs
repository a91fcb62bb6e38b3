use std::collections::VecDeque;
use std::task::{Context, Poll};

use hawser_exchange::{Full, Sender};
use tokio::sync::mpsc;

/// A ring to a shard, with what waits in front of it.
///
/// Sessions put messages into the bounded inlet; the pump moves them on. When the ring is full
/// nothing more is taken from the inlet, so that the sessions wait in turn: messages are neither
/// dropped nor reordered.
#[derive(Debug)]
pub(crate) struct Outlet<T> {
    ring: Sender<T>,
    inlet: mpsc::Receiver<T>,
    /// First what the ring gave back, behind it what the pump itself had to say.
    waiting: VecDeque<T>,
    /// Something was put into the ring since the bell was rung.
    unrung: bool,
    /// The shard is gone: what comes is dropped, the sessions are told elsewhere.
    closed: bool,
}

impl<T> Outlet<T> {
    pub(crate) const fn new(ring: Sender<T>, inlet: mpsc::Receiver<T>) -> Self {
        Self { ring, inlet, waiting: VecDeque::new(), unrung: false, closed: false }
    }

    /// Sends `message` now, or behind what waits.
    pub(crate) fn push(&mut self, message: T) {
        if self.closed {
            return;
        }
        if !self.waiting.is_empty() {
            self.waiting.push_back(message);
            return;
        }
        match self.ring.try_send(message) {
            Ok(()) => self.unrung = true,
            Err(Full(message)) => self.waiting.push_back(message),
        }
    }

    /// Sends what waits, then what the sessions put in, until the ring is full. True if anything
    /// was sent.
    pub(crate) fn pull(&mut self) -> bool {
        let mut moved = false;
        while let Some(message) = self.waiting.pop_front() {
            if let Err(Full(message)) = self.ring.try_send(message) {
                self.waiting.push_front(message);
                return moved;
            }
            (moved, self.unrung) = (true, true);
        }
        while self.waiting.is_empty()
            && let Ok(message) = self.inlet.try_recv()
        {
            self.push(message);
            moved = true;
        }
        moved
    }

    /// Ready if a session put something in that the ring may have room for; it is sent.
    pub(crate) fn poll_pull(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.waiting.is_empty() {
            return Poll::Pending;
        }
        match self.inlet.poll_recv(cx) {
            Poll::Ready(Some(message)) => {
                self.push(message);
                Poll::Ready(())
            }
            // No session can come any more; the pump learns that elsewhere.
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }

    /// Something waits because the ring is or was full.
    pub(crate) fn is_clogged(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Something waits and there is room for it.
    pub(crate) fn can_flow(&self) -> bool {
        self.is_clogged() && self.ring.free_slots() > 0
    }

    /// Wakes the shard, if it was sent anything since the last time.
    pub(crate) fn ring_bell(&mut self) {
        if self.unrung {
            self.unrung = false;
            self.ring.ring();
        }
    }

    /// Drops what waits and whatever comes.
    pub(crate) fn close(&mut self) {
        self.closed = true;
        self.waiting.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use hawser_exchange::{Doorbell, ring};

    use super::*;

    #[test]
    fn a_full_ring_keeps_the_order_and_holds_the_sessions_back() {
        let bell = Arc::new(Doorbell::new());
        let (sender, mut receiver) = ring(4, Arc::clone(&bell), bell);
        let (inlet, inlet_from) = mpsc::channel(16);
        let mut outlet = Outlet::new(sender, inlet_from);
        for number in 0..10 {
            inlet.try_send(number).unwrap();
        }
        assert!(outlet.pull());
        assert!(outlet.is_clogged() && !outlet.can_flow());
        // Four in the ring, one that it gave back: the others stay where their sessions put them.
        assert_eq!(inlet.capacity(), 16 - 5);
        outlet.push(100);

        let mut taken = Vec::new();
        while taken.len() < 11 {
            taken.extend(std::iter::from_fn(|| receiver.try_recv()));
            assert!(outlet.can_flow() || !outlet.is_clogged());
            outlet.pull();
        }
        assert_eq!(taken, [0, 1, 2, 3, 4, 100, 5, 6, 7, 8, 9]);
        assert!(!outlet.is_clogged());
    }

    #[test]
    fn a_closed_outlet_takes_everything_and_keeps_nothing() {
        let bell = Arc::new(Doorbell::new());
        let (sender, mut receiver) = ring(1, Arc::clone(&bell), bell);
        let (inlet, inlet_from) = mpsc::channel(16);
        let mut outlet = Outlet::new(sender, inlet_from);
        outlet.close();
        inlet.try_send(1).unwrap();
        outlet.push(2);
        assert!(outlet.pull());
        assert_eq!(inlet.capacity(), 16);
        assert!(!outlet.is_clogged() && receiver.try_recv().is_none());
    }
}
