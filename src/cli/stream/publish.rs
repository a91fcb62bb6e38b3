//! `hawser stream pub`.

use std::collections::VecDeque;
use std::path::PathBuf;

use clap::Args;
use hawser_proto::v1::{PublishBatch, PublishResult};
use serde::Serialize;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::input::{self, Batch, Batches, Directory};
use crate::cli::client::{Mesh, Target};
use crate::cli::failure::Failure;
use crate::cli::output::{Output, bytes_text, counted, say};

/// Batches that wait for the connection.
const REQUESTS_WAITING: usize = 4;

#[derive(Args, Debug)]
pub(crate) struct PublishArgs {
    /// The stream, by name or id. It must begin at this node.
    stream: String,
    /// Publish this directory tree. Symbolic links and special files are left out with a warning.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["raw", "count"])]
    dir: Option<PathBuf>,
    /// Publish the bytes of standard input as they come, without regard to lines.
    #[arg(long)]
    raw: bool,
    /// Stop after this many messages.
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Name of the producer. Its sequence goes on where it ended; two that publish at the same
    /// time need different names.
    #[arg(long, value_name = "NAME", default_value = "default")]
    producer: String,
    /// Sequence of the first message, from 1. Messages that this producer has published before
    /// are removed: the same input can be repeated from its beginning.
    #[arg(long, value_name = "SEQ", value_parser = clap::value_parser!(u64).range(1..))]
    from_seq: Option<u64>,
}

/// What a publisher has achieved.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Published {
    /// Messages handed to the node.
    pub(crate) published: u64,
    /// Of them, those that had been published before.
    pub(crate) duplicates: u64,
    pub(crate) bytes: u64,
    /// The producer's sequence up to which every destination node has everything.
    pub(crate) acked_seq: u64,
}

#[derive(Serialize)]
struct PublishedRow<'a> {
    stream: &'a str,
    producer: &'a str,
    #[serde(flatten)]
    published: Published,
    #[serde(skip_serializing_if = "Option::is_none")]
    files: Option<u64>,
}

/// # Errors
/// Whatever the node answers and the input does. What was acknowledged before stays published.
pub(crate) async fn run(args: PublishArgs, target: Target, out: Output) -> Result<(), Failure> {
    let mut files = None;
    let (total, batches) = match (&args.dir, args.raw) {
        (Some(root), _) => {
            let directory = Directory::list(root)?;
            for warning in &directory.warnings {
                say(&format!("warning: {warning}"));
            }
            files = Some(directory.entries.iter().filter(|entry| entry.size.is_some()).count());
            (Some(directory.bytes()), directory.batches()?)
        }
        (None, true) => (None, input::raw(std::io::stdin(), args.count)?),
        (None, false) => (None, input::lines(std::io::stdin(), args.count)?),
    };
    let mut mesh = target.mesh().await?;
    let progress = out.progress(total, "published");
    let publisher = Publisher {
        stream: args.stream.clone(),
        producer: args.producer.clone(),
        // The stream's own bounds are enough.
        under_way_bytes_max: u64::MAX,
    };
    let handed_over = |batch: &Batch| progress.inc(len_u64(batch.payload.len()));
    let published = publisher.run(&mut mesh, batches, args.from_seq, handed_over).await;
    progress.finish_and_clear();
    let published = published?;
    let files = files.and_then(|files| u64::try_from(files).ok());
    let row = PublishedRow { stream: &args.stream, producer: &args.producer, published, files };
    out.value(&row, || {
        let published = &row.published;
        let mut text =
            files.map_or_else(String::new, |files| format!("{}, ", counted(files, "file")));
        text.push_str(&counted(published.published, "message"));
        text.push_str(&format!(", {}, at every destination\n", bytes_text(published.bytes)));
        if published.duplicates > 0 {
            text.push_str(&format!("{} had been published before\n", published.duplicates));
        }
        text
    })
}

/// One batched publication.
#[derive(Debug)]
pub(crate) struct Publisher {
    pub(crate) stream: String,
    pub(crate) producer: String,
    /// Payload bytes that may be unacknowledged before the input has to wait.
    pub(crate) under_way_bytes_max: u64,
}

impl Publisher {
    /// Publishes everything in `batches` and waits until it is acknowledged. Memory stays bounded:
    /// the node takes a batch when the stream has room for it, and the input waits. `handed_over`
    /// sees each batch when it is about to go to the connection.
    ///
    /// # Errors
    /// Whatever the node answers, and a failure out of `batches` once what came before it is
    /// acknowledged.
    pub(crate) async fn run(
        &self,
        mesh: &mut Mesh,
        mut batches: Batches,
        from_seq: Option<u64>,
        mut handed_over: impl FnMut(&Batch),
    ) -> Result<Published, Failure> {
        let (requests, receiver) = mpsc::channel(REQUESTS_WAITING);
        // A batch without messages opens the call: its answer says where the sequence goes on.
        let opening = PublishBatch {
            stream_id: self.stream.clone(),
            producer: self.producer.clone(),
            ..PublishBatch::default()
        };
        let _room = requests.send(opening).await;
        let call = mesh.publish_client_data_batches(ReceiverStream::new(receiver));
        let mut results = call.await?.into_inner();
        let Some(opened) = results.message().await? else {
            return Err(Failure::plain("the node ended the publication at once"));
        };
        let mut next_seq = from_seq.unwrap_or(opened.next_seq).max(1);
        let mut done = Published { acked_seq: opened.acked_seq, ..Published::default() };
        let mut failed = None;
        let mut requests = Some(requests);
        let mut waiting = None;
        let mut under_way = UnderWay::default();
        loop {
            let may_read = under_way.bytes < self.under_way_bytes_max;
            let turn = tokio::select! {
                biased;
                result = results.message() => Turn::Result(result),
                sent = send(requests.as_ref(), &mut waiting), if waiting.is_some() => Turn::Sent(sent),
                batch = batches.recv(), if may_read && requests.is_some() && waiting.is_none() => {
                    Turn::Input(batch)
                }
            };
            match turn {
                Turn::Result(Ok(Some(result))) => {
                    done.acked_seq = done.acked_seq.max(result.acked_seq);
                    done.duplicates = result.duplicates;
                    under_way.acknowledge(done.acked_seq);
                }
                Turn::Result(Ok(None)) => break,
                Turn::Result(Err(status)) => return Err(broken(status, &done)),
                Turn::Sent(true) => {}
                Turn::Input(Some(Ok(batch))) => {
                    let first_seq = next_seq;
                    let count = len_u64(batch.lengths.len());
                    next_seq = next_seq.saturating_add(count);
                    done.published += count;
                    done.bytes += len_u64(batch.payload.len());
                    under_way.add(next_seq - 1, len_u64(batch.payload.len()));
                    handed_over(&batch);
                    waiting = Some(PublishBatch {
                        first_seq,
                        lengths: batch.lengths,
                        payload: batch.payload,
                        ..PublishBatch::default()
                    });
                }
                Turn::Input(Some(Err(failure))) => {
                    failed = Some(failure);
                    requests = None;
                }
                // The input has ended, or the node has ended the call: its last result says why.
                Turn::Sent(false) | Turn::Input(None) => {
                    waiting = None;
                    requests = None;
                }
            }
        }
        if let Some(failure) = failed {
            return Err(failure);
        }
        if done.acked_seq.saturating_add(1) < next_seq && done.published > 0 {
            return Err(Failure::plain(format!(
                "the node ended the publication: published up to {}, acknowledged up to {}",
                next_seq - 1,
                done.acked_seq
            )));
        }
        Ok(done)
    }
}

/// Batches that are not acknowledged.
#[derive(Default)]
struct UnderWay {
    /// Last sequence and payload bytes of each.
    batches: VecDeque<(u64, u64)>,
    bytes: u64,
}

impl UnderWay {
    fn add(&mut self, last_seq: u64, bytes: u64) {
        self.batches.push_back((last_seq, bytes));
        self.bytes += bytes;
    }

    fn acknowledge(&mut self, acked_seq: u64) {
        while let Some((_, bytes)) = self.batches.pop_front_if(|batch| batch.0 <= acked_seq) {
            self.bytes -= bytes;
        }
    }
}

/// What happened first.
enum Turn {
    Result(Result<Option<PublishResult>, Status>),
    /// False: the node takes no more.
    Sent(bool),
    /// None: the input has ended.
    Input(Option<Result<Batch, Failure>>),
}

/// Hands over what waits once there is room. Cancelled, it has taken nothing.
async fn send(
    requests: Option<&mpsc::Sender<PublishBatch>>,
    waiting: &mut Option<PublishBatch>,
) -> bool {
    let Some(requests) = requests else { return false };
    let (Ok(permit), Some(batch)) = (requests.reserve().await, waiting.take()) else {
        return false;
    };
    permit.send(batch);
    true
}

fn broken(status: Status, done: &Published) -> Failure {
    let mut failure = Failure::from(status);
    if done.published > 0 {
        failure.message.push_str(&format!(
            "\nhanded over: {}; acknowledged up to sequence {}: repeat what follows it with \
             --from-seq",
            counted(done.published, "message"),
            done.acked_seq
        ));
    }
    failure
}

fn len_u64(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}
