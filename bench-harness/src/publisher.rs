//! Our publisher: batches over the node's unix socket.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use hawser_proto::v1::{PublishBatch, PublishResult};
use serde::{Deserialize, Serialize};

use crate::batch::{Assembler, publish_batch_head};
use crate::diagnosis;
use crate::filler::{Filler, Timetable};
use crate::http2::{Call, Outgoing, Wait};
use crate::machine::now_ns;
use crate::worker::{Event, Order, orders, report};

/// The method, by its path.
pub(crate) const PUBLISH: &str = "/hawser.v1.MeshService/PublishClientDataBatches";

/// A batch is closed at this payload or this many messages, as a record is.
const BATCH_BYTES: usize = 64 << 10;
const BATCH_MESSAGES: usize = 1024;

/// Payload written at once, about, in as many batches as that takes. The peer's client writes as
/// much.
const WRITE_BYTES: usize = 256 << 10;

/// How long after the end the last acknowledgement may come.
const ACK_PATIENCE: Duration = Duration::from_secs(20);

/// How soon a publication that waits notices its end, in nanoseconds.
const STOP_LATENCY_NS: u64 = 20_000_000;

/// What the publisher has to know.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Spec {
    pub(crate) socket: PathBuf,
    pub(crate) stream_id: String,
    pub(crate) payload_bytes: usize,
    /// Messages per second; none: as fast as the node takes them.
    pub(crate) rate_per_s: Option<f64>,
}

pub(crate) fn run(spec: &Spec) -> Result<()> {
    let orders = orders();
    let mut publisher = Publisher::open(spec)?;
    report(&Event::Ready)?;
    if orders.recv().context("orders")? != Order::Start {
        bail!("an order to start was due");
    }
    match spec.rate_per_s {
        None => publisher.run_at_full_speed(&orders)?,
        Some(per_s) => publisher.run_at_rate(per_s, &orders)?,
    }
    let messages = publisher.finish()?;
    report(&Event::Published { messages })
}

/// An open publication.
struct Publisher {
    spec: Spec,
    call: Call,
    batches: Batches,
    results: Assembler,
    acked: u64,
}

impl Publisher {
    fn open(spec: &Spec) -> Result<Self> {
        Ok(Self {
            spec: spec.clone(),
            call: Call::open(&spec.socket, PUBLISH)?,
            batches: Batches::new(&spec.stream_id, spec.payload_bytes),
            results: Assembler::default(),
            acked: 0,
        })
    }

    /// Publishes until the next order, as fast as the node grants.
    fn run_at_full_speed(&mut self, orders: &Receiver<Order>) -> Result<()> {
        while continues(orders) {
            let now = now_ns();
            // Less than a whole write, rather than to wait for the room: the node may be waiting
            // for bytes.
            let messages = self.batches.messages_within(self.call.window());
            if messages == 0 {
                self.receive(Wait::UntilNs(now + STOP_LATENCY_NS))?;
                continue;
            }
            self.batches.send(&mut self.call, messages, |_| now)?;
            self.receive(Wait::No)?;
        }
        Ok(())
    }

    /// Publishes until the next order, each message when it is due or as soon after as the node
    /// takes it.
    fn run_at_rate(&mut self, per_s: f64, orders: &Receiver<Order>) -> Result<()> {
        // Otherwise the kernel may add 50 µs to each wait.
        rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1)).context("prctl")?;
        let timetable = Timetable::new(now_ns(), per_s);
        while continues(orders) {
            let now = now_ns();
            let next_seq = self.batches.next_seq();
            let due = usize::try_from(timetable.due(next_seq, now)).unwrap_or(usize::MAX);
            let messages = due.min(self.batches.messages_within(self.call.window()));
            if messages > 0 {
                self.batches.send(&mut self.call, messages, |seq| timetable.due_ns(seq))?;
                self.receive(Wait::No)?;
            } else {
                let due_ns = if due == 0 { timetable.due_ns(next_seq) } else { u64::MAX };
                self.receive(Wait::UntilNs(due_ns.min(now + STOP_LATENCY_NS)))?;
            }
        }
        Ok(())
    }

    /// Takes what the node says about the publication.
    fn receive(&mut self, wait: Wait) -> Result<()> {
        let (results, acked) = (&mut self.results, &mut self.acked);
        self.call.receive(wait, |data| {
            results.feed(data, |result: PublishResult| {
                *acked = result.acked_seq;
                Ok(())
            })
        })?;
        if self.call.is_ended() {
            let (socket, stream_id) = (&self.spec.socket, &self.spec.stream_id);
            let error = diagnosis::publication(socket, stream_id, self.spec.payload_bytes);
            return Err(error.context(format!("{} messages were acknowledged", self.acked)));
        }
        Ok(())
    }

    /// Waits until every message is acknowledged; returns how many there are.
    fn finish(&mut self) -> Result<u64> {
        let published = self.batches.next_seq() - 1;
        let deadline = Instant::now() + ACK_PATIENCE;
        while self.acked < published {
            self.receive(Wait::UntilNs(now_ns() + STOP_LATENCY_NS))?;
            if Instant::now() > deadline {
                bail!("published {published} messages, but only {} were acknowledged", self.acked);
            }
        }
        self.call.finish()?;
        Ok(published)
    }
}

/// True while there is no order.
fn continues(orders: &Receiver<Order>) -> bool {
    matches!(orders.try_recv(), Err(TryRecvError::Empty))
}

/// Makes batches.
struct Batches {
    filler: Filler,
    payload_bytes: usize,
    batch_messages: usize,
    /// Everything but lengths and payload; the stream's name goes with the first batch alone.
    batch: PublishBatch,
    /// Heads of the batches of one write.
    heads: Vec<Vec<u8>>,
}

impl Batches {
    fn new(stream_id: &str, payload_bytes: usize) -> Self {
        let batch_messages = (BATCH_BYTES / payload_bytes).clamp(1, BATCH_MESSAGES);
        let batches = (WRITE_BYTES / (batch_messages * payload_bytes)).max(1);
        Self {
            filler: Filler::new(b"", payload_bytes, b"", batches * batch_messages),
            payload_bytes,
            batch_messages,
            batch: PublishBatch { stream_id: stream_id.to_owned(), ..PublishBatch::default() },
            heads: vec![Vec::new(); batches],
        }
    }

    const fn next_seq(&self) -> u64 {
        self.filler.next_seq()
    }

    /// How many messages one write may hold if `window` bytes are granted. A head is smaller than
    /// 256 bytes and five for each message.
    fn messages_within(&self, window: usize) -> usize {
        let batch_bytes = 256 + self.batch_messages * (self.payload_bytes + 5);
        (window / batch_bytes).min(self.heads.len()) * self.batch_messages
    }

    /// Sends the next `messages` messages.
    fn send(&mut self, call: &mut Call, messages: usize, at_ns: impl Fn(u64) -> u64) -> Result<()> {
        let mut first_seq = self.filler.next_seq();
        let payload = self.filler.fill(messages, at_ns);
        let payloads = payload.chunks(self.batch_messages * self.payload_bytes);
        let mut outgoing = Vec::with_capacity(self.heads.len());
        for (payload, head) in payloads.zip(&mut self.heads) {
            let messages = payload.len() / self.payload_bytes;
            self.batch.first_seq = first_seq;
            self.batch.lengths.resize(messages, u32::try_from(self.payload_bytes)?);
            publish_batch_head(&self.batch, payload.len(), head);
            self.batch.stream_id.clear();
            first_seq += messages as u64;
            outgoing.push(Outgoing { head, body: payload });
        }
        call.send(&outgoing)
    }
}
