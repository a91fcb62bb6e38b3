//! Rings and doorbells between real threads and real runtimes. A lost wake-up would hang: each
//! sleep has a deadline that no healthy run comes near.
#![cfg(not(loom))]

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use hawser_exchange::{Doorbell, Full, Receiver, Sender, ring, route_cell};
use hawser_routing::RouteSnapshot;

const DEADLINE: Duration = Duration::from_secs(30);

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// The smallest runtime there is: parks the thread while the future is pending.
fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut cx = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
            return output;
        }
        let asleep = Instant::now();
        thread::park_timeout(DEADLINE);
        assert!(asleep.elapsed() < DEADLINE, "lost wake-up");
    }
}

async fn send<T>(sender: &mut Sender<T>, bell: &Doorbell, mut message: T) {
    while let Err(Full(back)) = sender.try_send(message) {
        message = back;
        sender.ring();
        bell.sleep(|| sender.free_slots() > 0 || sender.is_abandoned()).await;
        assert!(!sender.is_abandoned(), "the receiver went");
    }
}

async fn receive<T>(receiver: &mut Receiver<T>, bell: &Doorbell) -> Option<T> {
    loop {
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

/// Sends `count` messages in batches of `batch` through a ring of `slots`, both sides sleeping
/// whenever they can.
#[track_caller]
fn check_flow(slots: usize, batch: u64, count: u64) {
    let (to_bell, from_bell) = (Arc::<Doorbell>::default(), Arc::<Doorbell>::default());
    let (mut sender, mut receiver) = ring(slots, Arc::clone(&to_bell), Arc::clone(&from_bell));
    let received = thread::scope(|scope| {
        scope.spawn(move || {
            block_on(async {
                for message in 0..count {
                    send(&mut sender, &from_bell, message).await;
                    if (message + 1) % batch == 0 {
                        sender.ring();
                    }
                }
            });
        });
        block_on(async {
            let mut expected = 0;
            while let Some(message) = receive(&mut receiver, &to_bell).await {
                assert_eq!(message, expected, "{slots} slots, batches of {batch}");
                expected += 1;
            }
            expected
        })
    });
    assert_eq!(received, count);
}

#[test]
fn a_ring_of_one_slot_passes_everything_in_order() {
    check_flow(1, 1, 30_000);
}

#[test]
fn small_rings_and_odd_batches_pass_everything_in_order() {
    check_flow(3, 2, 60_000);
    check_flow(64, 7, 300_000);
}

#[test]
fn a_large_ring_passes_everything_in_order() {
    check_flow(1024, 256, 1_000_000);
}

#[test]
fn one_receiver_serves_many_senders_at_one_bell() {
    const SENDERS: usize = 4;
    const EACH: u64 = 50_000;
    let bell = Arc::<Doorbell>::default();
    let (mut receivers, mut threads) = (Vec::new(), Vec::new());
    for _ in 0..SENDERS {
        let from_bell = Arc::<Doorbell>::default();
        let (mut sender, receiver) = ring(16, Arc::clone(&bell), Arc::clone(&from_bell));
        receivers.push((receiver, 0));
        threads.push(thread::spawn(move || {
            block_on(async {
                for message in 0..EACH {
                    send(&mut sender, &from_bell, message).await;
                    sender.ring();
                }
            });
        }));
    }
    block_on(async {
        while receivers.iter().any(|(_, next)| *next < EACH) {
            bell.sleep(|| receivers.iter().any(|(receiver, _)| !receiver.is_empty())).await;
            for (receiver, next) in &mut receivers {
                while let Some(message) = receiver.try_recv() {
                    assert_eq!(message, *next);
                    *next += 1;
                }
            }
        }
    });
    for thread in threads {
        thread.join().unwrap();
    }
}

#[test]
fn two_threads_that_fill_each_others_rings_do_not_deadlock() {
    const COUNT: u64 = 50_000;
    let (left_bell, right_bell) = (Arc::<Doorbell>::default(), Arc::<Doorbell>::default());
    let (to_right, from_left) = ring(4, Arc::clone(&right_bell), Arc::clone(&left_bell));
    let (to_left, from_right) = ring(4, Arc::clone(&left_bell), Arc::clone(&right_bell));
    let side = |mut to: Sender<u64>, mut from: Receiver<u64>, bell: Arc<Doorbell>| {
        block_on(async {
            let (mut sent, mut received) = (0, 0);
            while sent < COUNT || received < COUNT {
                while sent < COUNT && to.try_send(sent).is_ok() {
                    sent += 1;
                }
                to.ring();
                while let Some(message) = from.try_recv() {
                    assert_eq!(message, received);
                    received += 1;
                }
                let (want_send, want_receive) = (sent < COUNT, received < COUNT);
                if want_send || want_receive {
                    bell.sleep(|| (want_send && to.free_slots() > 0) || !from.is_empty()).await;
                }
            }
        });
        // The other side may still look at both ends.
        (to, from)
    };
    let left = thread::spawn(move || side(to_right, from_right, left_bell));
    let _right = side(to_left, from_left, right_bell);
    left.join().unwrap();
}

#[test]
fn a_published_route_snapshot_wakes_a_sleeping_reader() {
    const GENERATIONS: u64 = 2_000;
    let bell = Arc::<Doorbell>::default();
    let (publisher, mut reader) = route_cell();
    let rings = Arc::clone(&bell);
    let publishing = thread::spawn(move || {
        for generation in 1..=GENERATIONS {
            publisher.publish(Arc::new(RouteSnapshot::new(generation, 0, [], [])));
            rings.ring();
        }
    });
    block_on(async {
        let mut seen = 0;
        while seen < GENERATIONS {
            bell.sleep(|| reader.is_outdated()).await;
            assert!(reader.refresh());
            let generation = reader.current().generation;
            assert!(generation > seen, "{generation} after {seen}");
            seen = generation;
        }
    });
    publishing.join().unwrap();
}

/// A round trip at a time, so that both sides sleep each time.
async fn serve(mut from: Receiver<u32>, mut to: Sender<u32>, bell: Arc<Doorbell>) {
    while let Some(message) = receive(&mut from, &bell).await {
        send(&mut to, &bell, message + 1).await;
        to.ring();
    }
}

async fn call(mut to: Sender<u32>, mut from: Receiver<u32>, bell: Arc<Doorbell>) {
    for message in 0..500 {
        send(&mut to, &bell, message).await;
        to.ring();
        assert_eq!(receive(&mut from, &bell).await, Some(message + 1));
    }
}

#[test]
fn tokio_and_monoio_wake_each_other() {
    let (shard_bell, api_bell) = (Arc::<Doorbell>::default(), Arc::<Doorbell>::default());
    let (to_shard, from_api) = ring(8, Arc::clone(&shard_bell), Arc::clone(&api_bell));
    let (to_api, from_shard) = ring(8, Arc::clone(&api_bell), Arc::clone(&shard_bell));
    let shard = thread::spawn(move || {
        let mut runtime =
            monoio::RuntimeBuilder::<monoio::FusionDriver>::new().build().expect("a shard runtime");
        runtime.block_on(serve(from_api, to_api, shard_bell));
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let calls = call(to_shard, from_shard, api_bell);
        tokio::time::timeout(DEADLINE, calls).await.expect("lost wake-up");
    });
    shard.join().unwrap();
}
