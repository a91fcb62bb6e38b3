use std::sync::Arc;

use crossbeam_utils::CachePadded;
use thiserror::Error;

use crate::Doorbell;
use crate::queue::{Consumer, Producer, queue};
use crate::sync::{AtomicBool, Ordering, fence};

/// The ring is full; the message comes back and stays first in its sender's own queue.
///
/// The sender is noted as waiting: its bell rings when there is room.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("the ring is full")]
pub struct Full<T>(pub T);

/// A bounded queue from one thread to one other.
///
/// Nobody blocks and nothing is dropped: a full ring hands the message back. Messages come out in
/// the order in which they went in. `slots` of at least 1; `receiver_bell` is rung by
/// [`Sender::ring`], `sender_bell` when a ring that was full has room again, and either when the
/// other end is dropped.
#[must_use]
pub fn ring<T>(
    slots: usize,
    receiver_bell: Arc<Doorbell>,
    sender_bell: Arc<Doorbell>,
) -> (Sender<T>, Receiver<T>) {
    let slots = slots.max(1);
    let (producer, consumer) = queue(slots);
    let waiting = Arc::new(WaitsForRoom::default());
    let sender = Sender {
        producer,
        waiting: Arc::clone(&waiting),
        refused: false,
        receiver_bell: RingWhenDropped(receiver_bell),
    };
    let receiver = Receiver {
        consumer,
        waiting,
        taken: 0,
        notice_after: (slots / 4).max(1),
        sender_bell: RingWhenDropped(sender_bell),
    };
    (sender, receiver)
}

/// Whether the sender met a full ring and has put nothing into it since.
///
/// The same protocol as the [`Doorbell`]'s: the sender sets the flag, fences (on its way to sleep),
/// looks for room; the receiver makes room, fences, looks at the flag. Only the sender writes it:
/// were the receiver to take it, a late take could clear what was set for the next full ring.
#[derive(Debug, Default)]
struct WaitsForRoom(CachePadded<AtomicBool>);

/// Declared as the last field, so that the other side finds the ring abandoned when it looks.
#[derive(Debug)]
struct RingWhenDropped(Arc<Doorbell>);

impl Drop for RingWhenDropped {
    fn drop(&mut self) {
        self.0.ring();
    }
}

/// The sending end of a ring. Dropping it tells the receiver.
#[derive(Debug)]
pub struct Sender<T> {
    producer: Producer<T>,
    waiting: Arc<WaitsForRoom>,
    /// What this side wrote into `waiting` last.
    refused: bool,
    receiver_bell: RingWhenDropped,
}

impl<T> Sender<T> {
    /// Puts a message into the ring. The receiver is not woken: [`Sender::ring`] does, once per
    /// batch.
    ///
    /// # Errors
    /// [`Full`] with the message. From then on until a message goes in, the sender's own bell rings
    /// whenever a quarter of the ring was taken, and when all of it was. It may ring before the
    /// sender sleeps, so the sender's `has_work` (see [`Doorbell::poll_sleep`]) must hold when the
    /// ring has [`Sender::free_slots`].
    pub fn try_send(&mut self, message: T) -> Result<(), Full<T>> {
        match self.producer.push(message) {
            Ok(()) => {
                self.set_waiting(false);
                Ok(())
            }
            Err(rtrb::PushError::Full(message)) => {
                self.set_waiting(true);
                Err(Full(message))
            }
        }
    }

    fn set_waiting(&mut self, waits: bool) {
        if self.refused != waits {
            self.refused = waits;
            self.waiting.0.store(waits, Ordering::Relaxed);
        }
    }

    /// Messages that fit now; the receiver may make it more at any time, nobody makes it fewer.
    /// A look asks for no wake-up; a refused [`Sender::try_send`] does.
    #[must_use]
    pub fn free_slots(&self) -> usize {
        self.producer.slots()
    }

    /// Wakes the receiver if it sleeps. Call it once behind a batch; of several rings to the same
    /// thread one is enough.
    pub fn ring(&self) {
        self.receiver_bell.0.ring();
    }

    /// The receiver is gone: nobody will take what is sent.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        self.producer.is_abandoned()
    }
}

/// The receiving end of a ring. Dropping it tells the sender.
#[derive(Debug)]
pub struct Receiver<T> {
    consumer: Consumer<T>,
    waiting: Arc<WaitsForRoom>,
    /// Messages taken since the sender's flag was last looked at.
    taken: usize,
    /// Looks at the flag after so many, so that a steady flow pays for the fence rarely and a
    /// sender that waits can fill many slots at once.
    notice_after: usize,
    sender_bell: RingWhenDropped,
}

impl<T> Receiver<T> {
    /// The next message. `None` if there is none now; see [`Receiver::is_abandoned`].
    ///
    /// Wakes a sender that waits for room once a quarter of the ring was taken, and when the ring
    /// is found empty.
    pub fn try_recv(&mut self) -> Option<T> {
        let Ok(message) = self.consumer.pop() else {
            if self.taken > 0 {
                self.notice_room();
            }
            return None;
        };
        self.taken += 1;
        if self.taken >= self.notice_after {
            self.notice_room();
        }
        Some(message)
    }

    fn notice_room(&mut self) {
        self.taken = 0;
        fence(Ordering::SeqCst);
        if self.waiting.0.load(Ordering::Relaxed) {
            self.sender_bell.0.ring();
        }
    }

    /// Nothing to take now.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.consumer.is_empty()
    }

    /// The sender is gone; what it sent before can still be taken.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        self.consumer.is_abandoned()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::task::{Context, Poll, Wake, Waker};

    use super::*;

    #[derive(Default)]
    struct CountsWakes(AtomicUsize);

    impl Wake for CountsWakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// A thread that sleeps at its bell, and a count of how often it was woken.
    fn asleep(bell: &Doorbell) -> Arc<CountsWakes> {
        let wakes = Arc::<CountsWakes>::default();
        let waker = Waker::from(Arc::clone(&wakes));
        assert_eq!(bell.poll_sleep(&mut Context::from_waker(&waker), || false), Poll::Pending);
        wakes
    }

    fn wakes(counter: &CountsWakes) -> usize {
        counter.0.load(Ordering::SeqCst)
    }

    fn bells() -> (Arc<Doorbell>, Arc<Doorbell>) {
        (Arc::default(), Arc::default())
    }

    #[test]
    fn messages_come_out_in_order_and_a_full_ring_hands_back() {
        let (to, from) = bells();
        let (mut sender, mut receiver) = ring(2, to, from);
        assert_eq!(sender.try_send("a"), Ok(()));
        assert_eq!(sender.try_send("b"), Ok(()));
        assert_eq!((sender.free_slots(), sender.try_send("c")), (0, Err(Full("c"))));
        assert_eq!(receiver.try_recv(), Some("a"));
        assert_eq!((sender.free_slots(), sender.try_send("c")), (1, Ok(())));
        assert_eq!((receiver.try_recv(), receiver.try_recv()), (Some("b"), Some("c")));
        assert_eq!((receiver.try_recv(), receiver.is_empty()), (None, true));
    }

    #[test]
    fn a_ring_has_a_slot_at_least() {
        let (to, from) = bells();
        let (mut sender, _receiver) = ring(0, to, from);
        assert_eq!((sender.try_send(1), sender.try_send(2)), (Ok(()), Err(Full(2))));
    }

    #[test]
    fn a_sleeper_is_woken_once_for_a_batch_and_not_while_awake() {
        let (to, from) = bells();
        let (mut sender, _receiver) = ring(8, Arc::clone(&to), from);
        let sleeper = asleep(&to);
        for message in 0..3 {
            sender.try_send(message).unwrap();
        }
        assert_eq!(wakes(&sleeper), 0, "sending alone wakes nobody");
        sender.ring();
        sender.ring();
        assert_eq!(wakes(&sleeper), 1);
    }

    #[test]
    fn a_refused_sender_is_woken_when_a_quarter_was_taken() {
        let (to, from) = bells();
        let (mut sender, mut receiver) = ring(8, to, Arc::clone(&from));
        for message in 0..8 {
            sender.try_send(message).unwrap();
        }
        assert_eq!(sender.try_send(8), Err(Full(8)));
        let sleeper = asleep(&from);
        receiver.try_recv();
        assert_eq!(wakes(&sleeper), 0);
        receiver.try_recv();
        assert_eq!(wakes(&sleeper), 1);
    }

    #[test]
    fn a_refused_sender_is_woken_when_the_ring_is_found_empty() {
        let (to, from) = bells();
        let (mut sender, mut receiver) = ring(9, to, Arc::clone(&from));
        for message in 0..9 {
            sender.try_send(message).unwrap();
        }
        assert_eq!(sender.try_send(9), Err(Full(9)));
        for _ in 0..9 {
            receiver.try_recv();
        }
        let sleeper = asleep(&from);
        assert_eq!((receiver.try_recv(), wakes(&sleeper)), (None, 1), "one was left to notice");
    }

    #[test]
    fn a_sender_that_was_never_refused_is_left_alone() {
        let (to, from) = bells();
        let (mut sender, mut receiver) = ring(4, to, Arc::clone(&from));
        let sleeper = asleep(&from);
        for message in 0..100 {
            sender.try_send(message).unwrap();
            assert_eq!((receiver.try_recv(), receiver.try_recv()), (Some(message), None));
        }
        assert_eq!(wakes(&sleeper), 0);
    }

    #[test]
    fn either_end_learns_that_the_other_went() {
        let (to, from) = bells();
        let (mut sender, mut receiver) = ring(4, Arc::clone(&to), from);
        sender.try_send(1).unwrap();
        let sleeper = asleep(&to);
        drop(sender);
        assert_eq!((wakes(&sleeper), receiver.is_abandoned()), (1, true));
        assert_eq!((receiver.try_recv(), receiver.try_recv()), (Some(1), None));

        let (to, from) = bells();
        let (sender, receiver) = ring::<u8>(4, to, Arc::clone(&from));
        assert!(!sender.is_abandoned());
        let sleeper = asleep(&from);
        drop(receiver);
        assert_eq!((wakes(&sleeper), sender.is_abandoned()), (1, true));
    }

    #[test]
    fn what_nobody_took_is_dropped_with_the_ring() {
        let (to, from) = bells();
        let (mut sender, receiver) = ring(4, to, from);
        let message = Arc::new(());
        sender.try_send(Arc::clone(&message)).unwrap();
        drop((sender, receiver));
        assert_eq!(Arc::strong_count(&message), 1);
    }
}
