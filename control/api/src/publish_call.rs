use std::collections::VecDeque;

use hawser_exchange::{ApiData, PublishedBatch};
use hawser_identity::producer_id;
use hawser_plane::PlaneHandle;
use hawser_proto::v1::{PublishBatch, PublishResult};
use tokio::sync::mpsc;
use tokio_stream::{Stream, StreamExt};
use tonic::Status;

use crate::failure::stopping;
use crate::hub::{Hub, PublishSession};
use crate::plane_status::plane_status;
use crate::publish_batch::pieces;
use crate::request_check::{check_label, or_default};
use crate::session::PublishProgress;

/// Messages that one call may have under way. Credit bounds their bytes, not their number.
const UNACKED_MESSAGES_MAX: u64 = 262_144;

/// Serves one `PublishClientDataBatches` call until its client or its stream has enough of it.
///
/// A client that goes away ends it at once: what has gone to the shard is published all the same.
pub(crate) async fn run_publish_call(
    hub: Hub,
    plane: PlaneHandle,
    mut batches: impl Stream<Item = Result<PublishBatch, Status>> + Unpin,
    results: mpsc::Sender<Result<PublishResult, Status>>,
) {
    tokio::select! {
        biased;
        () = results.closed() => {}
        outcome = serve_call(&hub, &plane, &mut batches, &results) => {
            if let Err(status) = outcome {
                // The client may have gone in the meantime.
                let _sent = results.send(Err(status)).await;
            }
        }
    }
}

async fn serve_call(
    hub: &Hub,
    plane: &PlaneHandle,
    batches: &mut (impl Stream<Item = Result<PublishBatch, Status>> + Unpin),
    results: &mpsc::Sender<Result<PublishResult, Status>>,
) -> Result<(), Status> {
    let Some(first) = batches.try_next().await? else { return Ok(()) };
    let mut call = PublishCall::open(hub, plane, first).await?;
    call.look_at_progress()?;
    call.next_seq = call.progress.opened_next_seq.unwrap_or(1);
    call.result_due = true;
    let data = call.session.data.clone();
    loop {
        if call.is_done() {
            return call.finish(results).await;
        }
        let (may_send, may_read) = (call.may_send(), call.may_read());
        tokio::select! {
            biased;
            changed = call.session.progress.changed() => {
                changed.map_err(|_pump_gone| stopping())?;
                call.look_at_progress()?;
            }
            permit = results.reserve(), if call.result_due => {
                let permit = permit.map_err(|_client_gone| stopping())?;
                permit.send(Ok(call.result()));
                call.result_due = false;
            }
            permit = data.reserve(), if may_send => {
                let permit = permit.map_err(|_pump_gone| stopping())?;
                if let Some(piece) = call.waiting.pop_front() {
                    permit.send(call.publish(piece));
                }
            }
            batch = batches.try_next(), if may_read => match batch? {
                Some(batch) => call.take(&batch)?,
                None => call.half_close().await?,
            },
        }
    }
}

/// One producer's call: what came from the client, what went to the shard, what came back.
struct PublishCall {
    session: PublishSession,
    /// As the client wrote them in the first batch; later ones repeat them or leave them empty.
    stream_text: String,
    tenant: String,
    producer: String,
    /// Pieces that were read and not sent yet.
    waiting: VecDeque<PublishedBatch>,
    /// Payload bytes sent to the shard.
    sent_bytes: u64,
    /// What the producer is to use next.
    next_seq: u64,
    /// Messages of this call that had been published before. The session has the producer to
    /// itself, so that it knows without asking the shard.
    duplicates: u64,
    /// Behind the last message read; 0 before the first.
    read_end_seq: u64,
    /// The newest that the shard said.
    progress: PublishProgress,
    /// The client does not know it yet.
    result_due: bool,
    half_closed: bool,
}

impl PublishCall {
    async fn open(hub: &Hub, plane: &PlaneHandle, first: PublishBatch) -> Result<Self, Status> {
        let view =
            plane.resolve_stream(&first.stream_id).await.map_err(|error| plane_status(&error))?;
        let producer = or_default(&first.producer).to_owned();
        check_label("producer", &producer)?;
        check_tenant(&first.tenant_id, &view.tenant)?;
        let session = hub
            .open_publish(view.stream, producer_id(&producer))
            .await
            .map_err(|failure| failure.status(view.stream))?;
        let mut call = Self {
            session,
            stream_text: first.stream_id.clone(),
            tenant: view.tenant,
            producer,
            waiting: VecDeque::new(),
            sent_bytes: 0,
            next_seq: 1,
            duplicates: 0,
            read_end_seq: 0,
            progress: PublishProgress::default(),
            result_due: false,
            half_closed: false,
        };
        if first.first_seq > 0 || !first.lengths.is_empty() || !first.payload.is_empty() {
            call.take(&first)?;
        }
        Ok(call)
    }

    fn take(&mut self, batch: &PublishBatch) -> Result<(), Status> {
        check_same("stream_id", &batch.stream_id, &self.stream_text)?;
        check_same("producer", &batch.producer, &self.producer)?;
        check_tenant(&batch.tenant_id, &self.tenant)?;
        let cut = pieces(batch.first_seq, batch.checksum, &batch.lengths, &batch.payload)?;
        if let Some(last) = cut.last() {
            self.read_end_seq = end_seq(last);
        }
        self.waiting.extend(cut);
        Ok(())
    }

    fn look_at_progress(&mut self) -> Result<(), Status> {
        let progress = self.session.progress.borrow_and_update().clone();
        if let Some(failure) = &progress.failure {
            return Err(failure.status(self.session.handle.shared.stream));
        }
        self.result_due |= progress.acked_seq != self.progress.acked_seq;
        self.progress = progress;
        Ok(())
    }

    fn may_send(&self) -> bool {
        self.waiting.front().is_some_and(|piece| {
            self.sent_bytes + len_u64(piece.payload.len()) <= self.progress.granted_bytes
        })
    }

    fn may_read(&self) -> bool {
        !self.half_closed
            && self.waiting.is_empty()
            && self.sent_bytes < self.progress.granted_bytes
            && self.read_end_seq.saturating_sub(self.progress.acked_seq) < UNACKED_MESSAGES_MAX
    }

    fn publish(&mut self, batch: PublishedBatch) -> ApiData {
        let end_seq = end_seq(&batch);
        let known = self.next_seq.min(end_seq).saturating_sub(batch.first_seq);
        self.duplicates += known;
        self.result_due |= known > 0;
        self.next_seq = self.next_seq.max(end_seq);
        self.sent_bytes += len_u64(batch.payload.len());
        let shared = &self.session.handle.shared;
        ApiData::Publish { session: shared.id, stream: shared.stream, batch: Box::new(batch) }
    }

    /// The client sends no more. All it sent has gone to the shard: reading waits for that.
    async fn half_close(&mut self) -> Result<(), Status> {
        self.half_closed = true;
        let shared = &self.session.handle.shared;
        let end =
            ApiData::EndPublish { session: shared.id, stream: shared.stream, abandoned: false };
        self.session.data.send(end).await.map_err(|_pump_gone| stopping())
    }

    fn is_done(&self) -> bool {
        self.half_closed && self.progress.acked_seq.saturating_add(1) >= self.read_end_seq
    }

    async fn finish(
        self,
        results: &mpsc::Sender<Result<PublishResult, Status>>,
    ) -> Result<(), Status> {
        self.session.handle.finish();
        if self.result_due {
            let _client_gone = results.send(Ok(self.result())).await;
        }
        Ok(())
    }

    fn result(&self) -> PublishResult {
        PublishResult {
            stream_id: self.session.handle.shared.stream.to_string(),
            acked_seq: self.progress.acked_seq,
            duplicates: self.duplicates,
            next_seq: self.next_seq,
        }
    }
}

/// A tenant that the client names must be the stream's; it need not name one.
pub(crate) fn check_tenant(named: &str, tenant: &str) -> Result<(), Status> {
    if named.is_empty() || named == tenant {
        return Ok(());
    }
    Err(Status::permission_denied(format!(
        "the stream belongs to another tenant than {named:?}: name its own, or none"
    )))
}

fn check_same(field: &str, named: &str, first: &str) -> Result<(), Status> {
    if named.is_empty() || named == first {
        return Ok(());
    }
    Err(Status::invalid_argument(format!(
        "{field} {named:?} differs from {first:?}, which the first batch of this call named: open \
         a call for each"
    )))
}

/// Behind the last message of `piece`.
fn end_seq(piece: &PublishedBatch) -> u64 {
    piece.first_seq.saturating_add(u64::from(piece.count))
}

pub(crate) fn len_u64(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}
