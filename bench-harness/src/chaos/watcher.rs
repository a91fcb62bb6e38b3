//! The subscriber of a chaos run: accounts for every message, and notes when the first one came
//! after a fault.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

use crate::batch::BatchReader;
use crate::diagnosis;
use crate::http2::{Call, Wait};
use crate::machine::now_ns;
use crate::stamp::Stamp;
use crate::subscriber::{selector, subscribe};
use crate::tally::Tally;

/// How often a subscriber without traffic looks whether it is over.
const TICK: Duration = Duration::from_millis(20);

/// What never came for so long after the publisher's end never comes.
const DRAIN_PATIENCE: Duration = Duration::from_secs(20);

/// What comes a second time may come so long after all came once.
const SETTLE: Duration = Duration::from_millis(200);

/// A slow subscriber pauses for so long whenever it has taken something: it takes half a megabyte at
/// once, so about one a second.
const SLOW_PAUSE: Duration = Duration::from_millis(500);

/// No end was told yet; or, of an armed time, nothing is waited for.
const NONE: u64 = u64::MAX;

/// What came of one stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) published: u64,
    pub(crate) lost: u64,
    pub(crate) duplicated: u64,
    pub(crate) reordered: u64,
}

impl Account {
    pub(crate) const fn and(self, other: Self) -> Self {
        Self {
            published: self.published + other.published,
            lost: self.lost + other.lost,
            duplicated: self.duplicated + other.duplicated,
            reordered: self.reordered + other.reordered,
        }
    }
}

/// What the thread and the harness share.
#[derive(Debug)]
struct Shared {
    /// Messages sent from this time on are waited for.
    sent_from_ns: AtomicU64,
    /// When the first of them came; 0: not yet.
    arrived_ns: AtomicU64,
    /// The longest time between two arrivals since that was last asked for.
    longest_pause_ns: AtomicU64,
    received: AtomicU64,
    /// How many there are in all, once that is known.
    published: AtomicU64,
    /// Whoever began it wants it no more.
    dropped: AtomicBool,
    /// It takes messages far more slowly than they come.
    slow: AtomicBool,
}

/// A running subscription.
#[derive(Debug)]
pub(crate) struct Watcher {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Result<Account>>>,
}

impl Watcher {
    /// Subscribes to a stream at the node behind `socket`.
    pub(crate) fn start(socket: &Path, stream_id: &str, payload_bytes: usize) -> Result<Self> {
        let call = subscribe(socket, stream_id)?;
        call.set_patience(TICK)?;
        let shared = Arc::new(Shared {
            sent_from_ns: AtomicU64::new(NONE),
            arrived_ns: AtomicU64::new(0),
            longest_pause_ns: AtomicU64::new(0),
            received: AtomicU64::new(0),
            published: AtomicU64::new(NONE),
            dropped: AtomicBool::new(false),
            slow: AtomicBool::new(false),
        });
        let (socket, stream_id) = (socket.to_owned(), stream_id.to_owned());
        let watched = Arc::clone(&shared);
        let thread =
            std::thread::Builder::new().name("subscriber".to_owned()).spawn(move || {
                watch(call, &watched, payload_bytes)?.with_context(|| {
                    let error = diagnosis::subscription(&socket, selector(&stream_id));
                    format!("{error:#}")
                })
            })?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Waits from now on for the first message that was sent at `sent_from_ns` or later; 0: for
    /// any.
    pub(crate) fn arm(&self, sent_from_ns: u64) {
        self.shared.arrived_ns.store(0, Ordering::Release);
        self.shared.longest_pause_ns.store(0, Ordering::Release);
        self.shared.sent_from_ns.store(sent_from_ns, Ordering::Release);
    }

    /// As [`Self::arm`], but what has paused since that was called counts.
    pub(crate) fn wait_from(&self, sent_from_ns: u64) {
        self.shared.arrived_ns.store(0, Ordering::Release);
        self.shared.sent_from_ns.store(sent_from_ns, Ordering::Release);
    }

    /// When that message came.
    pub(crate) fn arrived_ns(&self) -> Option<u64> {
        Some(self.shared.arrived_ns.load(Ordering::Acquire)).filter(|&at| at > 0)
    }

    /// True: it takes messages slowly from now on.
    pub(crate) fn slow_down(&self, slow: bool) {
        self.shared.slow.store(slow, Ordering::Release);
    }

    /// The longest time between two arrivals since then, of which the later one has come.
    pub(crate) fn longest_pause_ns(&self) -> u64 {
        self.shared.longest_pause_ns.load(Ordering::Acquire)
    }

    /// Different messages so far.
    pub(crate) fn received(&self) -> u64 {
        self.shared.received.load(Ordering::Acquire)
    }

    /// # Errors
    /// If the subscription has ended, with the reason.
    pub(crate) fn ensure_running(&mut self) -> Result<()> {
        match self.thread.take_if(|thread| thread.is_finished()) {
            None => Ok(()),
            Some(thread) => match join(thread) {
                Ok(_account) => bail!("the subscriber ended early"),
                Err(error) => Err(error),
            },
        }
    }

    /// Waits until all of `published` messages came, or none does any more.
    pub(crate) async fn finish(mut self, published: u64) -> Result<Account> {
        self.shared.published.store(published, Ordering::Release);
        let thread = self.thread.take().context("the subscriber has ended")?;
        tokio::task::spawn_blocking(move || join(thread)).await?
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.shared.dropped.store(true, Ordering::Release);
    }
}

fn join(thread: JoinHandle<Result<Account>>) -> Result<Account> {
    thread.join().map_err(|_panic| anyhow!("the subscriber panicked"))?
}

/// The time between arrivals.
#[derive(Debug, Default)]
struct Pause {
    last_ns: Option<u64>,
}

impl Pause {
    /// Something came: how long after what came before. Before the first arrival nothing was interrupted.
    fn handle_arrival(&mut self, now_ns: u64) -> u64 {
        self.last_ns.replace(now_ns).map_or(0, |last_ns| now_ns.saturating_sub(last_ns))
    }
}

/// The account, or none if the node ended the subscription.
fn watch(mut call: Call, shared: &Shared, payload_bytes: usize) -> Result<Option<Account>> {
    let mut reader = BatchReader::new();
    let mut tally = Tally::new();
    let mut heard = Instant::now();
    let mut published = NONE;
    let mut pause = Pause::default();
    while !shared.dropped.load(Ordering::Acquire) || published != NONE {
        let (mut now, mut newest_ns) = (0, 0);
        call.receive(Wait::Patience, |data| {
            if now == 0 {
                now = now_ns();
            }
            reader.feed(data, |length, stamp: Stamp| {
                if length != payload_bytes {
                    bail!("a message of {length} bytes, not {payload_bytes}");
                }
                tally.handle_arrival(stamp.seq);
                newest_ns = stamp.at_ns.max(newest_ns);
                Ok(())
            })
        })?;
        if newest_ns > 0 {
            heard = Instant::now();
            shared.longest_pause_ns.fetch_max(pause.handle_arrival(now), Ordering::AcqRel);
            shared.received.store(tally.distinct(), Ordering::Release);
            if newest_ns >= shared.sent_from_ns.load(Ordering::Acquire) {
                shared.sent_from_ns.store(NONE, Ordering::Release);
                shared.arrived_ns.store(now, Ordering::Release);
            }
        }
        if published == NONE {
            published = shared.published.load(Ordering::Acquire);
            heard = Instant::now();
        }
        if newest_ns > 0 && shared.slow.load(Ordering::Acquire) {
            std::thread::sleep(SLOW_PAUSE);
        }
        let patience = if tally.distinct() >= published { SETTLE } else { DRAIN_PATIENCE };
        if published != NONE && heard.elapsed() >= patience {
            return Ok(Some(Account {
                published,
                lost: tally.lost(published),
                duplicated: tally.duplicated(),
                reordered: tally.reordered(),
            }));
        }
        if call.is_ended() {
            return Ok(None);
        }
    }
    Ok(Some(Account::default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_lies_between_two_arrivals() {
        let mut pause = Pause::default();
        assert_eq!([300, 320, 321].map(|at_ns| pause.handle_arrival(at_ns)), [0, 20, 1]);
    }

    #[test]
    fn accounts_add_up() {
        let one = Account { published: 1, lost: 2, duplicated: 3, reordered: 4 };
        let two = Account { published: 10, lost: 20, duplicated: 30, reordered: 40 };
        let both = Account { published: 11, lost: 22, duplicated: 33, reordered: 44 };
        assert_eq!(one.and(two), both);
    }
}
