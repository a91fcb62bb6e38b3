//! The demo's two applications, and the hand that kills the relay between them.

use std::cell::RefCell;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use hawser_proto::v1::{ClientDataBatch, OpenClientDataStreamReq, StreamSelector};
use indicatif::ProgressBar;
use tokio::sync::oneshot;
use tonic::Streaming;

use super::chain::{Chain, node_name};
use super::compare::compare;
use super::files::Selection;
use super::ledger::{Ledger, NUMBER_BYTES};
use super::node::DemoNode;
use super::receiver::{Receiver, Taken};
use super::{CONSUMER, STREAM, VICTIM, poll_until};
use crate::cli::failure::Failure;
use crate::cli::output::Output;
use crate::cli::stream::input::{self, Batch, Batches};
use crate::cli::stream::open;
use crate::cli::stream::publish::Publisher;
use crate::cli::{Mesh, MeshData, Target};
use crate::tree::{TreeSink, TreeSource};

/// Unacknowledged bytes at which the publisher waits: with more, latency would measure its own
/// queue.
const UNDER_WAY_BYTES_MAX: u64 = 1 << 20;
/// How long the far end may take to know the stream.
const SUBSCRIBE_PATIENCE: Duration = Duration::from_secs(5);
/// What is on its way out of a dead relay has arrived when nothing did for so long.
const QUIET: Duration = Duration::from_millis(5);

/// What the demo found out.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) ledger: Ledger,
    pub(super) files: u64,
    pub(super) bytes: u64,
    /// Files that are not the same at both ends.
    pub(super) differences: Vec<String>,
    /// From SIGKILL to the first delivery through the new relay.
    pub(super) outage: Option<Duration>,
}

/// A transfer whose stream is open and subscribed to.
pub(super) struct Transfer {
    selection: Selection,
    received: PathBuf,
    stream_id: String,
    batches: Streaming<ClientDataBatch>,
    data: MeshData,
    progress: ProgressBar,
}

impl Transfer {
    /// Opens the stream at the first node and subscribes to it at the last.
    ///
    /// # Errors
    /// Whatever the nodes answer.
    pub(super) async fn prepare(
        chain: &mut Chain,
        selection: Selection,
        out: Output,
    ) -> Result<Self, Failure> {
        let (first, last) = (chain.node(0)?.target(), chain.last());
        let request = OpenClientDataStreamReq {
            name: STREAM.to_owned(),
            dst_nodes: vec![node_name(last)],
            ..OpenClientDataStreamReq::default()
        };
        let opened = open(&mut first.mesh().await?, request).await?;
        let data = chain.node(last)?.target().mesh_data().await?;
        let selector = StreamSelector {
            stream_id: opened.stream_id.clone(),
            consumer: CONSUMER.to_owned(),
            from_seq: 0,
            manual_commit: true,
        };
        let subscribed = poll_until(SUBSCRIBE_PATIENCE, || {
            let (mut data, selector) = (data.clone(), selector.clone());
            async move { Ok(Some(data.subscribe_client_data_batches(selector).await?)) }
        });
        let batches = subscribed.await?.into_inner();
        Ok(Self {
            received: chain.parent()?.join("received"),
            progress: out.progress(Some(selection.bytes()), "delivered"),
            stream_id: opened.stream_id,
            selection,
            batches,
            data,
        })
    }

    /// Publishes, receives, kills the relay in the middle, and compares.
    ///
    /// # Errors
    /// If an application is refused, or the relay does not come back.
    pub(super) async fn run(self, chain: &mut Chain) -> Result<Outcome, Failure> {
        let (first, last) = (chain.node(0)?.target(), chain.last());
        let far_end = chain.node(last)?.target();
        let Self { selection, received, stream_id, batches, data, progress } = self;
        let ledger = RefCell::new(
            Ledger::new().map_err(|error| Failure::plain(format!("no histogram: {error}")))?,
        );
        let (release, gate) = mpsc::channel();
        let held_at = Arc::new(AtomicUsize::new(usize::MAX));
        let input = held_input(&selection, gate, Arc::clone(&held_at))?;
        let (half_reached, half) = oneshot::channel();
        let (give_up, given_up) = oneshot::channel();

        let receiver = Receiver {
            ledger: &ledger,
            sink: TreeSink::open(&received, CONSUMER)?,
            data,
            stream_id: stream_id.clone(),
            half_bytes: selection.bytes() / 2,
            held_at,
            half_reached: Some(half_reached),
            give_up: Some(give_up),
            progress,
            taken: Taken::default(),
        };
        let ((), mut differences, killed) = tokio::try_join!(
            publish(first, &stream_id, input, &ledger, given_up),
            receiver.run(batches),
            kill_at_half(chain.node(VICTIM)?, far_end, &stream_id, half, release),
        )?;
        differences.extend(compare(&selection.root, &received, &selection.entries)?);
        let ledger = ledger.into_inner();
        let outage = killed.and_then(|Killed { at, through_old_seq }| {
            ledger.first_behind(through_old_seq).map(|first| first.saturating_duration_since(at))
        });
        Ok(Outcome {
            files: selection.file_count(),
            bytes: selection.bytes(),
            ledger,
            differences,
            outage,
        })
    }
}

/// The files as numbered messages. Before the last quarter the reader waits at `gate`, so that
/// traffic goes through the relay after it was killed; `held_at` then says how many are before it.
fn held_input(
    selection: &Selection,
    gate: mpsc::Receiver<()>,
    held_at: Arc<AtomicUsize>,
) -> Result<Batches, Failure> {
    let hold_bytes = selection.bytes() / 4 * 3;
    let mut source = TreeSource::new(selection.root.clone(), selection.entries.clone());
    input::spawn(None, move |sink| {
        let (mut number, mut bytes, mut gate) = (0_usize, 0_u64, Some(gate));
        while let Some(record) = source.next_message() {
            bytes += u64::try_from(record.len()).unwrap_or(u64::MAX);
            if number > 0
                && bytes > hold_bytes
                && let Some(gate) = gate.take()
            {
                sink.flush()?;
                held_at.store(number, Ordering::Release);
                // The other side goes away only when the demo is over.
                let _over = gate.recv();
            }
            let mut message = Vec::with_capacity(NUMBER_BYTES + record.len());
            message.extend_from_slice(&u64::try_from(number).unwrap_or(u64::MAX).to_le_bytes());
            message.extend_from_slice(&record);
            sink.message(&message)?;
            number += 1;
        }
        if !source.failures.is_empty() {
            sink.fail(Failure::plain(source.failures.join("\n")));
        }
        Ok(())
    })
}

/// The publishing application.
async fn publish(
    node: Target,
    stream_id: &str,
    input: Batches,
    ledger: &RefCell<Ledger>,
    given_up: oneshot::Receiver<()>,
) -> Result<(), Failure> {
    let mut mesh = node.mesh().await?;
    let publisher = Publisher {
        stream: stream_id.to_owned(),
        producer: CONSUMER.to_owned(),
        under_way_bytes_max: UNDER_WAY_BYTES_MAX,
    };
    let handed_over =
        |batch: &Batch| ledger.borrow_mut().publish(batch.lengths.len(), Instant::now());
    tokio::select! {
        published = publisher.run(&mut mesh, input, None, handed_over) => {
            published.map_err(|failure| failure.at("publisher"))?;
        }
        Ok(()) = given_up => {}
    }
    Ok(())
}

/// When the relay was killed, and what had arrived behind it by then.
struct Killed {
    at: Instant,
    through_old_seq: u64,
}

/// Kills the relay when half of the bytes are delivered, and starts it again at once.
async fn kill_at_half(
    relay: &mut DemoNode,
    far_end: Target,
    stream_id: &str,
    half: oneshot::Receiver<()>,
    release: mpsc::Sender<()>,
) -> Result<Option<Killed>, Failure> {
    if half.await.is_err() {
        return Ok(None);
    }
    let mut mesh = far_end.mesh().await?;
    let at = Instant::now();
    relay.kill()?;
    relay.restart(relay.plan.clone())?;
    let through_old_seq = settled_seq(&mut mesh, stream_id).await?;
    let _reader_has_ended = release.send(());
    relay.ready().await?;
    Ok(Some(Killed { at, through_old_seq }))
}

/// The last sequence that the destination has, once what was in its sockets has come out of them. A
/// new relay takes longer than that to be there.
async fn settled_seq(mesh: &mut Mesh, stream_id: &str) -> Result<u64, Failure> {
    let (mut last_seq, mut since) = (0, Instant::now());
    loop {
        let streams = mesh.list_streams(()).await?.into_inner().streams;
        let here = streams.iter().find(|s| s.stream_id == stream_id && s.role == "destination");
        let seq = here.map_or(0, |stream| stream.last_seq);
        if seq != last_seq {
            (last_seq, since) = (seq, Instant::now());
        } else if since.elapsed() >= QUIET {
            return Ok(last_seq);
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
