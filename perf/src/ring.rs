use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use hawser_exchange::{Doorbell, Receiver, Sender, ring};

use crate::cores;
use crate::row::{Case, Rows};

const SLOTS: usize = 1024;

/// Messages from one busy thread to another, and round trips between two that wait.
pub(crate) fn measure(rows: &mut Rows, sample: Duration) -> Result<()> {
    const RATE: &[&str] = &["M msg/s"];
    let mut cases = [
        Case::new("busy, a bell per message", 8, RATE, || rate(sample, 1, 0_u64)),
        Case::new("busy, a bell per 64 messages", 8, RATE, || rate(sample, 64, 0_u64)),
        Case::new("busy, a bell per message", 64, RATE, || rate(sample, 1, [0_u64; 8])),
        Case::new("busy, a bell per 64 messages", 64, RATE, || rate(sample, 64, [0_u64; 8])),
    ];
    rows.alternate("ring", &mut cases)?;
    const TRIP: &[&str] = &["us/round trip"];
    let mut cases = [
        Case::new("round trip, both spin", 8, TRIP, || round_trip(sample, Wait::Spin)),
        Case::new("round trip, both sleep", 8, TRIP, || round_trip(sample, Wait::Sleep)),
    ];
    rows.alternate("ring", &mut cases)
}

/// Runs `left` and `right` on a core each; the time that `right` took.
fn on_two_cores(
    left: impl FnOnce() + Send,
    right: impl FnOnce() -> Duration + Send,
) -> Result<Duration> {
    let (first, second) = cores::pair()?;
    thread::scope(|scope| {
        let left = scope.spawn(move || {
            cores::pin(first)?;
            left();
            Ok::<_, anyhow::Error>(())
        });
        let right = scope.spawn(move || {
            cores::pin(second)?;
            Ok::<_, anyhow::Error>(right())
        });
        let died = || anyhow!("a thread died");
        left.join().map_err(|_no_detail| died())??;
        right.join().map_err(|_no_detail| died())?
    })
}

/// Millions of messages a second, the receiver polling.
fn rate<T: Copy + Send>(sample: Duration, batch: u64, message: T) -> Result<Vec<f64>> {
    // About as many as pass within the sample.
    let count = u64::try_from(sample.as_micros())? * 20;
    let (to_bell, from_bell) = (Arc::<Doorbell>::default(), Arc::default());
    let (mut sender, mut receiver) = ring(SLOTS, to_bell, from_bell);
    let send = move || {
        for number in 1..=count {
            while sender.try_send(message).is_err() {
                std::hint::spin_loop();
            }
            if number % batch == 0 {
                sender.ring();
            }
        }
        // Held until the other side has taken everything.
        while sender.free_slots() < SLOTS {
            std::hint::spin_loop();
        }
    };
    let receive = move || {
        let (begin, mut received) = (Instant::now(), 0);
        while received < count {
            let before = received;
            while received < count && receiver.try_recv().is_some() {
                received += 1;
            }
            if received == before {
                std::hint::spin_loop();
            }
        }
        begin.elapsed()
    };
    let elapsed = on_two_cores(send, receive)?;
    Ok(vec![count as f64 / elapsed.as_secs_f64() / 1e6])
}

#[derive(Clone, Copy)]
enum Wait {
    Spin,
    Sleep,
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// A message back and forth, one at a time.
fn round_trip(sample: Duration, wait: Wait) -> Result<Vec<f64>> {
    let per_trip_us = match wait {
        Wait::Spin => 1,
        Wait::Sleep => 50,
    };
    let count = u64::try_from(sample.as_micros())? / per_trip_us + 1;
    let (near, far) = (Arc::<Doorbell>::default(), Arc::<Doorbell>::default());
    let (mut to_far, mut at_far) = ring(SLOTS, Arc::clone(&far), Arc::clone(&near));
    let (mut to_near, mut at_near) = ring(SLOTS, Arc::clone(&near), Arc::clone(&far));
    let answer = move || {
        for _ in 0..count {
            let message = next(&mut at_far, &far, wait);
            put(&mut to_near, message);
        }
        // Held until the other side has taken the last answer.
        while to_near.free_slots() < SLOTS {
            thread::yield_now();
        }
    };
    let ask = move || {
        let begin = Instant::now();
        for number in 0..count {
            put(&mut to_far, number);
            next(&mut at_near, &near, wait);
        }
        begin.elapsed()
    };
    let elapsed = on_two_cores(answer, ask)?;
    Ok(vec![elapsed.as_secs_f64() * 1e6 / count as f64])
}

/// At most one message is under way, so that the ring has room.
fn put(sender: &mut Sender<u64>, message: u64) {
    while sender.try_send(message).is_err() {
        std::hint::spin_loop();
    }
    sender.ring();
}

fn next(receiver: &mut Receiver<u64>, bell: &Doorbell, wait: Wait) -> u64 {
    loop {
        if let Some(message) = receiver.try_recv() {
            return message;
        }
        match wait {
            Wait::Spin => std::hint::spin_loop(),
            Wait::Sleep => park_on(bell.sleep(|| !receiver.is_empty())),
        }
    }
}

/// Parks the thread while the future is pending.
fn park_on(future: impl Future<Output = ()>) {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    while future.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
        thread::park();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_ends_with_a_figure() {
        let sample = Duration::from_millis(2);
        assert!(rate(sample, 64, 0_u64).unwrap()[0] > 0.0);
        assert!(round_trip(sample, Wait::Spin).unwrap()[0] > 0.0);
        assert!(round_trip(sample, Wait::Sleep).unwrap()[0] > 0.0);
    }
}
