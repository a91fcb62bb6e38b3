//! Our round trip: one message over a stream there, one over a stream back, one at a time.

use std::convert::Infallible;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use hawser_proto::client;
use hawser_proto::v1::{ClientDataBatch, PublishBatch};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::intake::{Quantiles, histogram_ns};
use crate::machine::now_ns;
use crate::subscriber::subscribe;
use crate::worker::{Event, Order, next_order, orders, report};

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
    out_stream_id: String,
    out: mpsc::Sender<PublishBatch>,
    next_seq: u64,
    /// The call that `out` feeds; ends only by failing.
    publication: JoinHandle<Result<Infallible>>,
    inbound: Streaming<ClientDataBatch>,
}

impl Application {
    async fn open(spec: &Spec) -> Result<Self> {
        let inbound = subscribe(&spec.socket, &spec.in_stream_id).await?;
        let mut mesh = client::mesh(client::connect_unix(&spec.socket).await?);
        let (out, batches) = mpsc::channel(64);
        // The node may answer the call only once it has got a batch.
        let publication = tokio::spawn(async move {
            let batches = ReceiverStream::new(batches);
            let mut results = mesh.publish_client_data_batches(batches).await?.into_inner();
            while results.message().await?.is_some() {}
            bail!("the node ended the publication");
        });
        let out_stream_id = spec.out_stream_id.clone();
        Ok(Self { out_stream_id, out, next_seq: 1, publication, inbound })
    }

    /// Publishes messages that lie one behind the other.
    async fn publish(&mut self, lengths: Vec<u32>, payload: Bytes) -> Result<()> {
        let first_seq = self.next_seq;
        self.next_seq += lengths.len() as u64;
        let batch = PublishBatch {
            stream_id: self.out_stream_id.clone(),
            first_seq,
            lengths,
            payload,
            ..PublishBatch::default()
        };
        self.out.send(batch).await.context("the node ended the publication")
    }

    /// The next messages to arrive.
    async fn receive(&mut self) -> Result<ClientDataBatch> {
        tokio::select! {
            batch = self.inbound.message() => batch?.context("the node ended the subscription"),
            failed = &mut self.publication => match failed.context("publication")? {
                Err(error) => Err(error),
            },
        }
    }
}

/// Sends every message back.
pub(crate) async fn run_echo(spec: Spec) -> Result<()> {
    let _orders = orders();
    let mut application = Application::open(&spec).await?;
    report(&Event::Ready)?;
    loop {
        let batch = application.receive().await?;
        application.publish(batch.lengths, batch.payload).await?;
    }
}

/// Measures round trips, one in flight.
pub(crate) async fn run_pinger(spec: Spec) -> Result<()> {
    let mut orders = orders();
    let mut application = Application::open(&spec).await?;
    report(&Event::Ready)?;
    if next_order(&mut orders).await != Order::Start {
        bail!("an order to start was due");
    }
    let mut histogram = histogram_ns()?;
    let open_ns = now_ns() + (spec.warmup_s * 1e9) as u64;
    let close_ns = open_ns + (spec.window_s * 1e9) as u64;
    let mut began = now_ns();
    while began < close_ns {
        timeout(ANSWER_PATIENCE, round(&mut application, spec.payload_bytes))
            .await
            .with_context(|| format!("no answer for {} s", ANSWER_PATIENCE.as_secs()))??;
        let ended = now_ns();
        if began >= open_ns {
            histogram.saturating_record(ended - began);
        }
        began = ended;
    }
    report(&Event::RoundTrips { rounds: histogram.len(), round_trip: Quantiles::of_ns(&histogram) })
}

/// One message there and back.
async fn round(application: &mut Application, payload_bytes: usize) -> Result<()> {
    let mut ping = vec![0x5A; payload_bytes];
    let number = application.next_seq.to_le_bytes();
    ping.get_mut(..8).context("payload")?.copy_from_slice(&number);
    application.publish(vec![u32::try_from(payload_bytes)?], ping.into()).await?;
    let answer = application.receive().await?;
    if answer.lengths.len() != 1 || !answer.payload.starts_with(&number) {
        bail!("{} messages came back for one, or another one", answer.lengths.len());
    }
    Ok(())
}
