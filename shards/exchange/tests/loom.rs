//! Every interleaving of the sleep protocol, by loom:
//!
//! ```text
//! RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR=target/loom cargo test --release -p hawser-exchange --test loom
//! ```
//!
//! (A target directory of its own, since the flag rebuilds every dependency.) loom cannot see into
//! rtrb: under `cfg(loom)` the rings stand on a queue with rtrb's contract and orderings, and all
//! the rest is the real code. A lost wake-up shows as a deadlock, which loom reports.
#![cfg(loom)]

use std::sync::Arc;

use hawser_exchange::{Doorbell, Full, Receiver, Sender, ring};
use loom::future::block_on;
use loom::thread;

/// Explores with at most so many forced thread switches: enough for every known bug of this kind,
/// and done in seconds.
const PREEMPTIONS_MAX: usize = 3;

fn check(model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(PREEMPTIONS_MAX);
    builder.check(model);
}

/// Sends as a thread with nothing else to do would: sleeps while the ring is full.
async fn send(sender: &mut Sender<u32>, bell: &Doorbell, mut message: u32) {
    while let Err(Full(back)) = sender.try_send(message) {
        message = back;
        sender.ring();
        bell.sleep(|| sender.free_slots() > 0).await;
    }
}

/// The next message; sleeps while there is none. `None` when the sender is gone.
async fn receive(receiver: &mut Receiver<u32>, bell: &Doorbell) -> Option<u32> {
    loop {
        // Looked at first: what was sent before the sender went is there afterwards.
        let abandoned = receiver.is_abandoned();
        if let Some(message) = receiver.try_recv() {
            return Some(message);
        }
        if abandoned {
            return None;
        }
        bell.sleep(|| !receiver.is_empty() || receiver.is_abandoned()).await;
    }
}

#[test]
fn a_message_wakes_a_receiver_that_falls_asleep() {
    check(|| {
        let (to_bell, from_bell) = (Arc::<Doorbell>::default(), Arc::default());
        let (mut sender, mut receiver) = ring(2, Arc::clone(&to_bell), from_bell);
        let sending = thread::spawn(move || {
            for message in 0..2 {
                sender.try_send(message).unwrap();
                sender.ring();
            }
            sender
        });
        block_on(async {
            for expected in 0..2 {
                assert_eq!(receive(&mut receiver, &to_bell).await, Some(expected));
            }
        });
        drop(sending.join().unwrap());
    });
}

#[test]
fn one_ring_is_enough_for_a_batch() {
    check(|| {
        let (to_bell, from_bell) = (Arc::<Doorbell>::default(), Arc::default());
        let (mut sender, mut receiver) = ring(2, Arc::clone(&to_bell), from_bell);
        let sending = thread::spawn(move || {
            sender.try_send(0).unwrap();
            sender.try_send(1).unwrap();
            sender.ring();
            sender
        });
        block_on(async {
            for expected in 0..2 {
                assert_eq!(receive(&mut receiver, &to_bell).await, Some(expected));
            }
        });
        drop(sending.join().unwrap());
    });
}

#[test]
fn room_in_a_full_ring_wakes_its_sender() {
    check(|| {
        let (to_bell, from_bell) = (Arc::<Doorbell>::default(), Arc::<Doorbell>::default());
        let (mut sender, mut receiver) = ring(1, Arc::clone(&to_bell), Arc::clone(&from_bell));
        let sending = thread::spawn(move || {
            block_on(async {
                for message in 0..3 {
                    send(&mut sender, &from_bell, message).await;
                    sender.ring();
                }
            });
            sender
        });
        block_on(async {
            for expected in 0..3 {
                assert_eq!(receive(&mut receiver, &to_bell).await, Some(expected));
            }
        });
        drop(sending.join().unwrap());
    });
}

#[test]
fn two_senders_share_a_bell() {
    check(|| {
        let (bell, from_bell) = (Arc::<Doorbell>::default(), Arc::<Doorbell>::default());
        let (mut senders, mut receivers) = (Vec::new(), Vec::new());
        for message in 0..2 {
            let (mut sender, receiver) = ring(1, Arc::clone(&bell), Arc::clone(&from_bell));
            receivers.push(receiver);
            senders.push(thread::spawn(move || {
                sender.try_send(message).unwrap();
                sender.ring();
                sender
            }));
        }
        block_on(async {
            let mut received = 0;
            while received < 2 {
                received += receivers.iter_mut().filter_map(Receiver::try_recv).count();
                if received < 2 {
                    bell.sleep(|| receivers.iter().any(|receiver| !receiver.is_empty())).await;
                }
            }
        });
        for sender in senders {
            drop(sender.join().unwrap());
        }
    });
}

#[test]
fn a_sender_that_goes_wakes_its_receiver() {
    check(|| {
        let (to_bell, from_bell) = (Arc::<Doorbell>::default(), Arc::default());
        let (mut sender, mut receiver) = ring(2, Arc::clone(&to_bell), from_bell);
        let sending = thread::spawn(move || sender.try_send(7).unwrap());
        block_on(async {
            assert_eq!(receive(&mut receiver, &to_bell).await, Some(7));
            assert_eq!(receive(&mut receiver, &to_bell).await, None);
        });
        sending.join().unwrap();
    });
}

#[test]
fn a_receiver_that_goes_wakes_its_sender() {
    check(|| {
        let (to_bell, from_bell) = (Arc::<Doorbell>::default(), Arc::<Doorbell>::default());
        let (mut sender, receiver) = ring(1, to_bell, Arc::clone(&from_bell));
        sender.try_send(0).unwrap();
        let receiving = thread::spawn(move || drop(receiver));
        assert_eq!(sender.try_send(1), Err(Full(1)));
        block_on(from_bell.sleep(|| sender.is_abandoned()));
        receiving.join().unwrap();
    });
}
