//! Our publisher: batches over the node's unix socket, as the interface is meant to be used.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bytes::BytesMut;
use hawser_proto::client;
use hawser_proto::v1::PublishBatch;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;
use tokio_stream::Stream;

use crate::alarm::Alarm;
use crate::filler::{Filler, Timetable};
use crate::machine::now_ns;
use crate::worker::{Event, Order, next_order, orders, report};

/// A batch is closed at this payload or this many messages, as a record is.
const BATCH_BYTES: usize = 64 << 10;
const BATCH_MESSAGES: usize = 1024;

/// How long after the end the last acknowledgement may come.
const ACK_PATIENCE: Duration = Duration::from_secs(20);

/// What the publisher has to know.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Spec {
    pub(crate) socket: PathBuf,
    pub(crate) stream_id: String,
    pub(crate) payload_bytes: usize,
    /// Messages per second; none: as fast as the node takes them.
    pub(crate) rate_per_s: Option<f64>,
}

pub(crate) async fn run(spec: Spec) -> Result<()> {
    let mut orders = orders();
    let channel = client::connect_unix(&spec.socket).await?;
    let mut mesh = client::mesh(channel);
    report(&Event::Ready)?;
    if next_order(&mut orders).await != Order::Start {
        bail!("an order to start was due");
    }
    let stop = Arc::new(AtomicBool::new(false));
    let batches = Batches::new(&spec, Arc::clone(&stop))?;
    let published = Arc::clone(&batches.published);
    let mut acked = 0;
    let mut results = mesh.publish_client_data_batches(batches).await?.into_inner();
    loop {
        tokio::select! {
            result = results.message() => match result? {
                Some(result) => acked = result.acked_seq,
                None => bail!("the node ended the publication"),
            },
            _stop = next_order(&mut orders) => break,
        }
    }
    stop.store(true, Ordering::Relaxed);
    while let Some(result) = timeout(ACK_PATIENCE, results.message())
        .await
        .with_context(|| format!("acknowledged up to {acked}, then nothing more"))??
    {
        acked = result.acked_seq;
    }
    let messages = published.load(Ordering::Relaxed);
    if acked != messages {
        bail!("published {messages} messages, of which only {acked} were acknowledged");
    }
    report(&Event::Published { messages })
}

/// The batches of one publication, made when the connection can take them.
struct Batches {
    stream_id: String,
    payload_bytes: usize,
    batch_messages: usize,
    filler: Filler,
    /// None: at full speed.
    pace: Option<(Timetable, Alarm)>,
    stop: Arc<AtomicBool>,
    published: Arc<std::sync::atomic::AtomicU64>,
}

/// How soon a slow publication notices its end.
const STOP_LATENCY_NS: u64 = 50_000_000;

impl Batches {
    fn new(spec: &Spec, stop: Arc<AtomicBool>) -> Result<Self> {
        let batch_messages = (BATCH_BYTES / spec.payload_bytes).clamp(1, BATCH_MESSAGES);
        let pace = match spec.rate_per_s {
            Some(per_s) => Some((Timetable::new(now_ns(), per_s), Alarm::new()?)),
            None => None,
        };
        Ok(Self {
            stream_id: spec.stream_id.clone(),
            payload_bytes: spec.payload_bytes,
            batch_messages,
            filler: Filler::new(b"", spec.payload_bytes, b"", batch_messages),
            pace,
            stop,
            published: Arc::default(),
        })
    }

    fn batch(&mut self, messages: usize, at_ns: impl Fn(u64) -> u64) -> PublishBatch {
        let first_seq = self.filler.next_seq();
        let mut payload = BytesMut::with_capacity(messages * self.payload_bytes);
        let messages = self.filler.fill(&mut payload, messages, at_ns);
        self.published.store(self.filler.next_seq() - 1, Ordering::Relaxed);
        PublishBatch {
            stream_id: if first_seq == 1 { self.stream_id.clone() } else { String::new() },
            first_seq,
            lengths: vec![u32::try_from(self.payload_bytes).unwrap_or(u32::MAX); messages],
            payload: payload.freeze(),
            ..PublishBatch::default()
        }
    }
}

impl Stream for Batches {
    type Item = PublishBatch;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<PublishBatch>> {
        let this = &mut *self;
        loop {
            if this.stop.load(Ordering::Relaxed) {
                return Poll::Ready(None);
            }
            let now = now_ns();
            let Some((timetable, alarm)) = &mut this.pace else {
                return Poll::Ready(Some(this.batch(this.batch_messages, |_| now)));
            };
            let timetable = *timetable;
            let next_seq = this.filler.next_seq();
            let due = usize::try_from(timetable.due(next_seq, now)).unwrap_or(usize::MAX);
            if due > 0 {
                let messages = due.min(this.batch_messages);
                return Poll::Ready(Some(this.batch(messages, |seq| timetable.due_ns(seq))));
            }
            alarm.set(timetable.due_ns(next_seq).min(now + STOP_LATENCY_NS));
            ready!(alarm.poll_rung(cx));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    fn spec(payload_bytes: usize, rate_per_s: Option<f64>) -> Spec {
        Spec { socket: PathBuf::new(), stream_id: "s".to_owned(), payload_bytes, rate_per_s }
    }

    async fn next(batches: &mut Batches) -> Option<PublishBatch> {
        poll_fn(|cx| Pin::new(&mut *batches).poll_next(cx)).await
    }

    #[tokio::test]
    async fn batches_are_full_and_follow_each_other() {
        for (payload, messages) in [(64, 1024), (1024, 64), (65_536, 1), (1 << 20, 1)] {
            let stop = Arc::new(AtomicBool::new(false));
            let mut batches = Batches::new(&spec(payload, None), Arc::clone(&stop)).unwrap();
            for n in 0..3_usize {
                let batch = next(&mut batches).await.unwrap();
                assert_eq!(batch.first_seq, (n * messages + 1) as u64);
                assert_eq!(batch.lengths, vec![payload as u32; messages]);
                assert_eq!(batch.payload.len(), payload * messages);
                assert_eq!(batch.stream_id.is_empty(), n > 0);
            }
            stop.store(true, Ordering::Relaxed);
            assert_eq!(next(&mut batches).await, None);
            assert_eq!(batches.published.load(Ordering::Relaxed), 3 * messages as u64);
        }
    }

    #[tokio::test]
    async fn at_a_rate_no_message_is_early_and_each_has_its_own_time() {
        let stop = Arc::new(AtomicBool::new(false));
        let mut batches = Batches::new(&spec(64, Some(5_000.0)), stop).unwrap();
        let start = now_ns();
        let mut times = Vec::new();
        while times.len() < 100 {
            let batch = next(&mut batches).await.unwrap();
            let now = now_ns();
            for message in batch.payload.chunks(64) {
                let stamp = crate::stamp::Stamp::decode(message).unwrap();
                assert!(stamp.at_ns <= now, "published before it was due");
                times.push(stamp.at_ns);
            }
        }
        assert!(times.windows(2).all(|pair| pair[1] - pair[0] == 200_000));
        assert!(times[0] <= start);
    }
}
