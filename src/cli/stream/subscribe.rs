//! `hawser stream sub`.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use hawser_proto::v1::{ClientDataBatch, ConsumerCommit, StreamSelector};
use tokio::time::{Instant, sleep_until};

use super::receive::{Next, Receiver, TreeReceiver};
use crate::cli::client::{MeshData, Target};
use crate::cli::failure::{Exit, Failure};
use crate::cli::output::Output;

/// Bytes that are taken before they are confirmed. What is unconfirmed the source keeps.
const CONFIRM_BYTES: usize = 1 << 20;
/// Time after which they are confirmed however few they are.
const CONFIRM_AFTER: Duration = Duration::from_millis(100);

#[derive(Args, Debug)]
pub(crate) struct SubscribeArgs {
    /// The stream, by name or id. It must end at this node.
    stream: String,
    /// Receive a directory tree into this directory and stop at its end.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["raw", "count"])]
    dir: Option<PathBuf>,
    /// Write messages one behind the other, with nothing between.
    #[arg(long)]
    raw: bool,
    /// Stop after this many messages.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Begin with this sequence, from 1, in place of the first that was not confirmed.
    #[arg(long, value_name = "SEQ", value_parser = clap::value_parser!(u64).range(1..))]
    from_seq: Option<u64>,
    /// Name of the consumer, whose progress the node keeps.
    #[arg(long, value_name = "NAME", default_value = "default", value_parser = parse_consumer)]
    consumer: String,
}

fn parse_consumer(text: &str) -> Result<String, String> {
    let fits = (1..=128).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
    if fits {
        Ok(text.to_owned())
    } else {
        Err("1 to 128 characters of A-Z a-z 0-9 . _ -".to_owned())
    }
}

/// # Errors
/// Whatever the node answers and the output does. What is not confirmed comes again.
pub(crate) async fn run(args: SubscribeArgs, target: Target, out: Output) -> Result<(), Failure> {
    if args.raw && out.is_json() {
        return Err(Failure::usage("--raw writes bytes, not JSON: leave out one of the two"));
    }
    let mut receiver = match &args.dir {
        Some(root) => Receiver::Tree(Box::new(TreeReceiver::open(root, &args.consumer, out)?)),
        None if args.raw => Receiver::Raw,
        None if out.is_json() => Receiver::Json,
        None => Receiver::Lines,
    };
    let data = target.mesh_data().await?;
    let progress = out.progress(None, "received");
    let mut subscriber = Subscriber {
        data,
        stream: args.stream,
        consumer: args.consumer,
        left: args.count,
        written: Vec::new(),
        unconfirmed_bytes: 0,
        taken_seq: 0,
        confirmed_seq: 0,
    };
    // The bar would write between the lines of the terminal that shows them.
    let shown = matches!(receiver, Receiver::Tree(_));
    let received = subscriber
        .run(args.from_seq.unwrap_or(0), &mut receiver, |bytes| {
            if shown {
                progress.inc(bytes);
            }
        })
        .await;
    progress.finish_and_clear();
    received?;
    match receiver {
        Receiver::Tree(tree) => tree.finish(),
        _ => Ok(()),
    }
}

struct Subscriber {
    data: MeshData,
    stream: String,
    consumer: String,
    /// Messages that are still wanted; none: all.
    left: Option<u64>,
    /// For standard output.
    written: Vec<u8>,
    unconfirmed_bytes: usize,
    /// Last sequence taken, and last confirmed.
    taken_seq: u64,
    confirmed_seq: u64,
}

impl Subscriber {
    async fn run(
        &mut self,
        from_seq: u64,
        receiver: &mut Receiver,
        mut received: impl FnMut(u64),
    ) -> Result<(), Failure> {
        let selector = StreamSelector {
            stream_id: self.stream.clone(),
            consumer: self.consumer.clone(),
            from_seq,
            manual_commit: true,
        };
        let mut batches = self.data.subscribe_client_data_batches(selector).await?.into_inner();
        let interrupted = tokio::signal::ctrl_c();
        tokio::pin!(interrupted);
        let mut due = Instant::now() + CONFIRM_AFTER;
        loop {
            let unconfirmed = self.taken_seq > self.confirmed_seq;
            tokio::select! {
                biased;
                _interrupt = &mut interrupted => return self.confirm(receiver).await,
                () = sleep_until(due), if unconfirmed => self.confirm(receiver).await?,
                batch = batches.message() => match batch {
                    Ok(Some(batch)) => {
                        if !unconfirmed {
                            due = Instant::now() + CONFIRM_AFTER;
                        }
                        received(u64::try_from(batch.payload.len()).unwrap_or(u64::MAX));
                        let ended = self.take(batch, receiver).await? == Next::End;
                        // What is on standard output is there for its reader at once.
                        if ended || self.unconfirmed_bytes >= CONFIRM_BYTES {
                            self.confirm(receiver).await?;
                        } else if !matches!(receiver, Receiver::Tree(_)) {
                            receiver.settle(&mut self.written)?;
                        }
                        if ended {
                            return Ok(());
                        }
                    }
                    Ok(None) => return self.confirm(receiver).await,
                    Err(status) => {
                        // What is here already stays here: the node may still be told.
                        let _lost = self.confirm(receiver).await;
                        return Err(Failure::from(status));
                    }
                },
            }
        }
    }

    async fn take(
        &mut self,
        batch: ClientDataBatch,
        receiver: &mut Receiver,
    ) -> Result<Next, Failure> {
        let mut payload: Bytes = batch.payload;
        for (seq, length) in (batch.first_seq..).zip(batch.lengths) {
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            if length > payload.len() {
                return Err(Failure::plain("the node sent a batch whose lengths are wrong"));
            }
            if self.taken_seq != 0 && seq != self.taken_seq + 1 {
                return Err(Failure::new(
                    Exit::Loss,
                    format!("sequence {seq} came behind {}", self.taken_seq),
                ));
            }
            let message = payload.split_to(length);
            let next = receiver.take(seq, &message, &mut self.written)?;
            self.taken_seq = seq;
            self.unconfirmed_bytes += length;
            if let Some(left) = &mut self.left {
                *left -= 1;
                if *left == 0 {
                    return Ok(Next::End);
                }
            }
            match next {
                Next::More => {}
                Next::Confirm => self.confirm(receiver).await?,
                Next::End => return Ok(Next::End),
            }
        }
        Ok(Next::More)
    }

    /// Settles what was taken and tells the node.
    async fn confirm(&mut self, receiver: &mut Receiver) -> Result<(), Failure> {
        receiver.settle(&mut self.written)?;
        if self.taken_seq > self.confirmed_seq {
            let commit = ConsumerCommit {
                stream_id: self.stream.clone(),
                consumer: self.consumer.clone(),
                through_seq: self.taken_seq,
            };
            self.data.commit_consumer(commit).await?;
            self.confirmed_seq = self.taken_seq;
        }
        self.unconfirmed_bytes = 0;
        receiver.confirmed();
        Ok(())
    }
}
