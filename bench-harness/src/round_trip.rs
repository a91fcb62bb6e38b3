//! Our round trip: one message over a stream there, one over a stream back, one at a time.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use hawser_proto::v1::{ClientDataBatch, PublishBatch};
use serde::{Deserialize, Serialize};

use crate::batch::{Assembler, publish_batch_head};
use crate::diagnosis;
use crate::http2::{Call, Outgoing, Wait};
use crate::intake::{Quantiles, histogram_ns};
use crate::machine::now_ns;
use crate::publisher::PUBLISH;
use crate::subscriber::{selector, subscribe};
use crate::worker::{Event, Order, orders, report};

/// An answer that takes longer is none.
const ANSWER_PATIENCE: Duration = Duration::from_secs(10);

/// What pinger and echo have to know.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Spec {
    /// Of the node that this application talks to.
    pub(crate) socket: PathBuf,
    /// Stream that this application publishes to.
    pub(crate) out_stream_id: String,
    /// Stream that it subscribes to.
    pub(crate) in_stream_id: String,
    pub(crate) payload_bytes: usize,
    pub(crate) warmup_s: f64,
    pub(crate) window_s: f64,
}

/// One application: publishes and subscribes at one node.
struct Application {
    spec: Spec,
    publication: Call,
    subscription: Call,
    assembler: Assembler,
    batch: PublishBatch,
    head: Vec<u8>,
}

impl Application {
    fn open(spec: &Spec) -> Result<Self> {
        let subscription = subscribe(&spec.socket, &spec.in_stream_id)?;
        subscription.set_patience(ANSWER_PATIENCE)?;
        Ok(Self {
            spec: spec.clone(),
            subscription,
            publication: Call::open(&spec.socket, PUBLISH)?,
            assembler: Assembler::default(),
            batch: PublishBatch {
                stream_id: spec.out_stream_id.clone(),
                first_seq: 1,
                ..PublishBatch::default()
            },
            head: Vec::new(),
        })
    }

    /// Publishes messages that lie one behind the other.
    fn publish(&mut self, lengths: Vec<u32>, payload: &[u8]) -> Result<()> {
        // Acknowledgements are read when the next message goes, so that none wakes this process
        // between a message and its answer.
        while self.publication.receive(Wait::No, |_| Ok(()))? {}
        if self.publication.is_ended() {
            let stream_id = &self.spec.out_stream_id;
            let payload_bytes = self.spec.payload_bytes;
            return Err(diagnosis::publication(&self.spec.socket, stream_id, payload_bytes));
        }
        let messages = lengths.len() as u64;
        self.batch.lengths = lengths;
        publish_batch_head(&self.batch, payload.len(), &mut self.head);
        self.batch.first_seq += messages;
        self.publication.send(&[Outgoing { head: &self.head, body: payload }])
    }

    /// Waits for the next messages. None: nothing came for as long as an answer may take.
    fn receive(&mut self) -> Result<Option<ClientDataBatch>> {
        let (mut received, assembler) = (None::<ClientDataBatch>, &mut self.assembler);
        while received.is_none() {
            let heard = self.subscription.receive(Wait::Patience, |data| {
                assembler.feed(data, |batch: ClientDataBatch| {
                    match &mut received {
                        None => received = Some(batch),
                        Some(received) => {
                            received.lengths.extend_from_slice(&batch.lengths);
                            received.payload =
                                [&received.payload[..], &batch.payload[..]].concat().into();
                        }
                    }
                    Ok(())
                })
            })?;
            if self.subscription.is_ended() {
                let selector = selector(&self.spec.in_stream_id);
                return Err(diagnosis::subscription(&self.spec.socket, selector));
            }
            if !heard {
                break;
            }
        }
        Ok(received)
    }
}

/// Sends every message back.
pub(crate) fn run_echo(spec: &Spec) -> Result<()> {
    let _orders = orders();
    let mut application = Application::open(spec)?;
    report(&Event::Ready)?;
    loop {
        if let Some(batch) = application.receive()? {
            application.publish(batch.lengths, &batch.payload)?;
        }
    }
}

/// Measures round trips, one in flight.
pub(crate) fn run_pinger(spec: &Spec) -> Result<()> {
    let orders = orders();
    let mut application = Application::open(spec)?;
    report(&Event::Ready)?;
    let _start: Order = orders.recv().context("orders")?;
    let mut histogram = histogram_ns()?;
    let mut ping = vec![0x5A; spec.payload_bytes];
    let open_ns = now_ns() + (spec.warmup_s * 1e9) as u64;
    let close_ns = open_ns + (spec.window_s * 1e9) as u64;
    let mut began = now_ns();
    while began < close_ns {
        round(&mut application, &mut ping)?;
        let ended = now_ns();
        if began >= open_ns {
            histogram.saturating_record(ended - began);
        }
        began = ended;
    }
    report(&Event::RoundTrips { rounds: histogram.len(), round_trip: Quantiles::of_ns(&histogram) })
}

/// One message there and back.
fn round(application: &mut Application, ping: &mut [u8]) -> Result<()> {
    let number = application.batch.first_seq.to_le_bytes();
    ping.get_mut(..8).context("payload")?.copy_from_slice(&number);
    application.publish(vec![u32::try_from(ping.len())?], ping)?;
    let answer = application
        .receive()?
        .with_context(|| format!("no answer for {} s", ANSWER_PATIENCE.as_secs()))?;
    if answer.lengths.len() != 1 || !answer.payload.starts_with(&number) {
        bail!("{} messages came back for one, or another one", answer.lengths.len());
    }
    Ok(())
}
