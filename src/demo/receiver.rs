//! The receiving application.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hawser_proto::v1::{ClientDataBatch, ConsumerCommit};
use indicatif::ProgressBar;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tonic::Streaming;

use super::CONSUMER;
use super::ledger::{Ledger, NUMBER_BYTES};
use crate::cli::MeshData;
use crate::cli::failure::Failure;
use crate::tree::{Arrived, TreeSink};

/// Bytes that are confirmed at once.
const CONFIRM_BYTES: usize = 1 << 20;
/// How often an idle receiver looks around.
const TICK: Duration = Duration::from_millis(50);
/// Without a delivery for so long, nothing comes any more.
const STALL: Duration = Duration::from_secs(15);
/// A duplicate may come behind the end; so long is waited for one.
const AFTERMATH: Duration = Duration::from_millis(200);

/// The receiving application.
pub(super) struct Receiver<'a> {
    pub(super) ledger: &'a RefCell<Ledger>,
    pub(super) sink: TreeSink,
    pub(super) data: MeshData,
    pub(super) stream_id: String,
    /// Half of what will come, in bytes.
    pub(super) half_bytes: u64,
    /// Messages after which the publisher waits for the relay's death; `usize::MAX` before it does.
    pub(super) held_at: Arc<AtomicUsize>,
    /// Told once, when half has come, or all that may come before the relay's death.
    pub(super) half_reached: Option<oneshot::Sender<()>>,
    /// Told when nothing comes any more.
    pub(super) give_up: Option<oneshot::Sender<()>>,
    pub(super) progress: ProgressBar,
    pub(super) taken: Taken,
}

/// What has come so far.
#[derive(Default)]
pub(super) struct Taken {
    bytes: u64,
    seq: u64,
    unconfirmed_bytes: usize,
    differences: Vec<String>,
}

impl Receiver<'_> {
    /// Receives until the end of the tree, or until nothing comes any more; says what is wrong with
    /// the files.
    ///
    /// # Errors
    /// If the node or the disk refuses.
    pub(super) async fn run(
        mut self,
        mut batches: Streaming<ClientDataBatch>,
    ) -> Result<Vec<String>, Failure> {
        let mut last = Instant::now();
        loop {
            match timeout(TICK, batches.message()).await {
                Ok(batch) => {
                    let batch = batch.map_err(|status| Failure::from(status).at("subscriber"))?;
                    let Some(batch) = batch else {
                        self.taken
                            .differences
                            .push("the subscription ended before the files".to_owned());
                        break;
                    };
                    last = Instant::now();
                    if self.take(batch).await? {
                        break;
                    }
                }
                Err(_idle) => {
                    self.confirm().await?;
                    if last.elapsed() > STALL {
                        let _publisher_gone = self.give_up.take().map(|give_up| give_up.send(()));
                        self.taken
                            .differences
                            .push(format!("nothing came for {} s", STALL.as_secs()));
                        break;
                    }
                }
            }
            self.look_at_half();
        }
        self.confirm().await?;
        self.progress.finish_and_clear();
        while let Ok(Ok(Some(batch))) = timeout(AFTERMATH, batches.message()).await {
            self.take(batch).await?;
        }
        Ok(self.taken.differences)
    }

    fn look_at_half(&mut self) {
        let all_that_may_come =
            self.ledger.borrow().delivered() >= self.held_at.load(Ordering::Acquire);
        if (self.taken.bytes >= self.half_bytes || all_that_may_come)
            && let Some(half_reached) = self.half_reached.take()
        {
            let _nobody_waits = half_reached.send(());
        }
    }

    /// True at the end of the tree.
    async fn take(&mut self, batch: ClientDataBatch) -> Result<bool, Failure> {
        let now = Instant::now();
        let count = u64::try_from(batch.lengths.len()).unwrap_or(u64::MAX);
        self.taken.seq = batch.first_seq.saturating_add(count).saturating_sub(1);
        self.ledger.borrow_mut().batch(self.taken.seq, now);
        let mut payload = batch.payload;
        let mut ended = false;
        for length in batch.lengths {
            let length = usize::try_from(length).unwrap_or(usize::MAX).min(payload.len());
            let message = payload.split_to(length);
            let delivered = self.ledger.borrow_mut().deliver(&message, now).map(<[u8]>::len);
            let Some(record) = delivered.and_then(|_new| message.get(NUMBER_BYTES..)) else {
                continue;
            };
            let bytes = u64::try_from(record.len()).unwrap_or(u64::MAX);
            self.taken.bytes = self.taken.bytes.saturating_add(bytes);
            self.taken.unconfirmed_bytes += record.len();
            self.progress.inc(bytes);
            match self.sink.accept(record)? {
                Arrived::Nothing | Arrived::File { .. } => {}
                Arrived::EndOfTree { .. } => ended = true,
                Arrived::Refused { path, why }
                | Arrived::Damaged { path, why }
                | Arrived::Abandoned { path, why } => {
                    self.taken.differences.push(format!("{path}: {why}"));
                }
            }
        }
        if self.taken.unconfirmed_bytes >= CONFIRM_BYTES || self.sink.wants_confirmation() {
            self.confirm().await?;
        }
        Ok(ended)
    }

    async fn confirm(&mut self) -> Result<(), Failure> {
        if self.taken.unconfirmed_bytes == 0 {
            return Ok(());
        }
        self.sink.sync()?;
        let commit = ConsumerCommit {
            stream_id: self.stream_id.clone(),
            consumer: CONSUMER.to_owned(),
            through_seq: self.taken.seq,
        };
        self.data.commit_consumer(commit).await?;
        self.taken.unconfirmed_bytes = 0;
        self.sink.confirmed();
        Ok(())
    }
}
