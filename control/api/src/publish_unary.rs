use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use hawser_exchange::{ApiData, PublishedBatch};
use hawser_identity::producer_id;
use hawser_plane::PlaneHandle;
use hawser_proto::v1::{Chunk, PublishResult};
use hawser_wire::{
    MESSAGE_BYTES_MAX, ProducerId, RECORD_BYTES_TARGET, RECORD_MESSAGES_MAX, StreamId, put_varint,
};
use tokio::sync::{mpsc, oneshot};
use tonic::Status;

use crate::failure::{gap, stopping};
use crate::hub::{Hub, PublishSession};
use crate::plane_status::plane_status;
use crate::publish_batch::{BatchError, check_crc};
use crate::publish_call::{check_tenant, len_u64};
use crate::request_check::{check_label, not_yet, or_default};
use crate::session::PublishProgress;

/// Calls of one producer that wait to be looked at.
const CALLS_WAITING: usize = 1024;

/// Calls of one producer that wait for their acknowledgement.
const CALLS_UNACKED_MAX: usize = 16_384;

/// A producer's session is kept for so long, at least, without a call.
const IDLE: Duration = Duration::from_secs(30);

type Producers = Arc<Mutex<HashMap<(StreamId, ProducerId), mpsc::Sender<UnaryCall>>>>;

/// Serves `PublishClientData`, one message a call.
///
/// All calls of one producer share a session, which is kept open between them, and calls that
/// arrive together share a record: a flood of single messages costs little more than batches.
#[derive(Clone, Debug)]
pub(crate) struct UnaryPublishers {
    hub: Hub,
    plane: PlaneHandle,
    producers: Producers,
}

#[derive(Debug)]
struct UnaryCall {
    seq: u64,
    tenant: String,
    payload: Bytes,
    answer: oneshot::Sender<Result<PublishResult, Status>>,
}

impl UnaryPublishers {
    pub(crate) fn new(hub: Hub, plane: PlaneHandle) -> Self {
        Self { hub, plane, producers: Arc::default() }
    }

    /// Publishes one message and returns when every destination node has it.
    pub(crate) async fn publish(&self, chunk: Chunk) -> Result<PublishResult, Status> {
        if chunk.chunk_seq != 0 {
            return not_yet("a message in several chunks (chunk_seq above 0)", "reassembly");
        }
        if chunk.seq == 0 {
            return Err(BatchError::SequenceZero.into());
        }
        let bytes = chunk.payload.len();
        if bytes > MESSAGE_BYTES_MAX {
            return Err(BatchError::MessageTooLarge { seq: chunk.seq, bytes }.into());
        }
        check_crc(chunk.checksum, &chunk.payload)?;
        let producer = or_default(&chunk.producer);
        check_label("producer", producer)?;
        let stream = match chunk.stream_id.parse::<StreamId>() {
            Ok(stream) => stream,
            Err(_no_id) => {
                let view = self.plane.resolve_stream(&chunk.stream_id).await;
                view.map_err(|error| plane_status(&error))?.stream
            }
        };
        let (answer, answer_from) = oneshot::channel();
        let Chunk { seq, tenant_id: tenant, payload, .. } = chunk;
        let mut call = UnaryCall { seq, tenant, payload, answer };
        let key = (stream, producer_id(producer));
        // A producer that ends at this very moment hands the call back: the next one takes it.
        while let Err(mpsc::error::SendError(back)) = self.producer(key).send(call).await {
            call = back;
        }
        answer_from.await.map_err(|_task_gone| stopping())?
    }

    /// The way to the task of this producer, which is started if there is none.
    fn producer(&self, key: (StreamId, ProducerId)) -> mpsc::Sender<UnaryCall> {
        let mut producers = self.producers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = producers.get(&key).filter(|sender| !sender.is_closed()) {
            return open.clone();
        }
        let (sender, calls) = mpsc::channel(CALLS_WAITING);
        producers.insert(key, sender.clone());
        drop(producers);
        tokio::spawn(run_producer(self.clone(), key, calls));
        sender
    }

    /// Later calls start a new task for this producer.
    fn forget(&self, key: (StreamId, ProducerId), calls: &mut mpsc::Receiver<UnaryCall>) {
        let mut producers = self.producers.lock().unwrap_or_else(PoisonError::into_inner);
        calls.close();
        // If the entry is another task's, that one is open.
        if producers.get(&key).is_some_and(mpsc::Sender::is_closed) {
            producers.remove(&key);
        }
    }
}

/// Serves all unary calls of one producer until none comes any more, or its session fails.
async fn run_producer(
    publishers: UnaryPublishers,
    key: (StreamId, ProducerId),
    mut calls: mpsc::Receiver<UnaryCall>,
) {
    let mut waiting = Unacked::default();
    let outcome = match UnaryProducer::open(&publishers, key).await {
        Ok(mut producer) => producer.run(&publishers, &mut calls, &mut waiting).await,
        Err(status) => Err(status),
    };
    publishers.forget(key, &mut calls);
    if let Err(status) = outcome {
        waiting.fail(&status);
        while let Some(call) = calls.recv().await {
            let _client_gone = call.answer.send(Err(status.clone()));
        }
    }
}

struct UnaryProducer {
    key: (StreamId, ProducerId),
    session: PublishSession,
    tenant: String,
    /// What comes next; below it are duplicates.
    next_seq: u64,
    sent_bytes: u64,
    progress: PublishProgress,
    /// A call that finds no credit.
    held: Option<UnaryCall>,
}

impl UnaryProducer {
    async fn open(
        publishers: &UnaryPublishers,
        key: (StreamId, ProducerId),
    ) -> Result<Self, Status> {
        let (stream, producer) = key;
        let resolved = publishers.plane.resolve_stream(&stream.to_string()).await;
        let tenant = resolved.map_err(|error| plane_status(&error))?.tenant;
        let mut session = publishers
            .hub
            .open_publish(stream, producer)
            .await
            .map_err(|failure| failure.status(stream))?;
        let progress = session.progress.borrow_and_update().clone();
        let next_seq = progress.opened_next_seq.unwrap_or(1);
        Ok(Self { key, session, tenant, next_seq, sent_bytes: 0, progress, held: None })
    }

    async fn run(
        &mut self,
        publishers: &UnaryPublishers,
        calls: &mut mpsc::Receiver<UnaryCall>,
        waiting: &mut Unacked,
    ) -> Result<(), Status> {
        let mut idle = tokio::time::interval(IDLE);
        let (mut used, mut closed) = (true, false);
        loop {
            if let Some(failure) = &self.progress.failure {
                let status = failure.status(self.key.0);
                if let Some(call) = self.held.take() {
                    let _client_gone = call.answer.send(Err(status.clone()));
                }
                return Err(status);
            }
            waiting.answer(self.key.0, &self.progress, self.next_seq);
            if closed && waiting.is_empty() && self.held.is_none() {
                return Ok(());
            }
            let may_take = !closed && waiting.len() < CALLS_UNACKED_MAX;
            tokio::select! {
                biased;
                changed = self.session.progress.changed() => {
                    changed.map_err(|_pump_gone| stopping())?;
                    self.progress = self.session.progress.borrow_and_update().clone();
                    if let Some(call) = self.held.take() {
                        self.publish(call, calls, waiting).await?;
                    }
                }
                call = calls.recv(), if may_take && self.held.is_none() => match call {
                    Some(call) => {
                        used = true;
                        self.publish(call, calls, waiting).await?;
                    }
                    None => closed = true,
                },
                _ = idle.tick() => {
                    if !used && waiting.is_empty() {
                        // What stands in the queue is still served.
                        publishers.forget(self.key, calls);
                    }
                    used = false;
                }
            }
        }
    }

    /// Publishes `first` and what else has come, as far as credit allows and one record holds.
    async fn publish(
        &mut self,
        first: UnaryCall,
        calls: &mut mpsc::Receiver<UnaryCall>,
        waiting: &mut Unacked,
    ) -> Result<(), Status> {
        let mut run = Run::default();
        let mut next = Some(first);
        while let Some(call) = next.take() {
            let bytes = len_u64(call.payload.len());
            if let Err(status) = check_tenant(&call.tenant, &self.tenant) {
                let _client_gone = call.answer.send(Err(status));
            } else if call.seq > self.next_seq {
                let status = Status::failed_precondition(format!(
                    "stream {}: {}",
                    self.key.0,
                    gap(self.next_seq, call.seq)
                ));
                let _client_gone = call.answer.send(Err(status));
            } else if self.sent_bytes + bytes > self.progress.granted_bytes {
                self.held = Some(call);
                break;
            } else {
                if !run.takes(call.seq, call.payload.len()) {
                    self.send(std::mem::take(&mut run)).await?;
                }
                self.sent_bytes += bytes;
                let duplicate = call.seq < self.next_seq;
                self.next_seq = self.next_seq.max(call.seq.saturating_add(1));
                run.push(call.seq, call.payload);
                waiting.push(call.seq, duplicate, call.answer);
            }
            if waiting.len() < CALLS_UNACKED_MAX && !run.is_full() {
                next = calls.try_recv().ok();
            }
        }
        self.send(run).await
    }

    async fn send(&self, run: Run) -> Result<(), Status> {
        let Some(batch) = run.into_batch() else { return Ok(()) };
        let session = self.session.handle.shared.id;
        let message = ApiData::Publish { session, stream: self.key.0, batch: Box::new(batch) };
        self.session.data.send(message).await.map_err(|_pump_gone| stopping())
    }
}

/// Consecutive messages that go to the shard together.
#[derive(Default)]
struct Run {
    first_seq: u64,
    payloads: Vec<Bytes>,
    bytes: usize,
}

impl Run {
    /// The message follows the last one, and there is room for it.
    fn takes(&self, seq: u64, bytes: usize) -> bool {
        self.payloads.is_empty()
            || (seq == self.first_seq.saturating_add(len_u64(self.payloads.len()))
                && self.bytes + bytes <= RECORD_BYTES_TARGET)
    }

    fn is_full(&self) -> bool {
        self.bytes >= RECORD_BYTES_TARGET || self.payloads.len() >= RECORD_MESSAGES_MAX
    }

    fn push(&mut self, seq: u64, payload: Bytes) {
        if self.payloads.is_empty() {
            self.first_seq = seq;
        }
        self.bytes += payload.len();
        self.payloads.push(payload);
    }

    /// A lone message is not copied.
    fn into_batch(mut self) -> Option<PublishedBatch> {
        let count = u32::try_from(self.payloads.len()).ok().filter(|&count| count > 0)?;
        let mut lengths = Vec::with_capacity(self.payloads.len().saturating_mul(2));
        for payload in &self.payloads {
            put_varint(&mut lengths, u32::try_from(payload.len()).ok()?);
        }
        let payload = match self.payloads.pop() {
            Some(lone) if self.payloads.is_empty() => lone,
            last => {
                let mut joined = Vec::with_capacity(self.bytes);
                for payload in self.payloads.iter().chain(&last) {
                    joined.extend_from_slice(payload);
                }
                Bytes::from(joined)
            }
        };
        Some(PublishedBatch {
            first_seq: self.first_seq,
            count,
            lengths: Bytes::from(lengths),
            payload,
        })
    }
}

/// Calls that were published and wait until every destination has their message.
#[derive(Default)]
struct Unacked {
    /// By sequence, then by arrival: a message may be published twice.
    calls: BTreeMap<(u64, u64), Waiter>,
    arrivals: u64,
}

struct Waiter {
    duplicate: bool,
    answer: oneshot::Sender<Result<PublishResult, Status>>,
}

impl Unacked {
    fn push(
        &mut self,
        seq: u64,
        duplicate: bool,
        answer: oneshot::Sender<Result<PublishResult, Status>>,
    ) {
        self.arrivals += 1;
        self.calls.insert((seq, self.arrivals), Waiter { duplicate, answer });
    }

    fn len(&self) -> usize {
        self.calls.len()
    }

    fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    fn answer(&mut self, stream: StreamId, progress: &PublishProgress, next_seq: u64) {
        while let Some(first) = self.calls.first_entry() {
            if first.key().0 > progress.acked_seq {
                return;
            }
            let waiter = first.remove();
            // The client may have given up; its message is published all the same.
            let _client_gone = waiter.answer.send(Ok(PublishResult {
                stream_id: stream.to_string(),
                acked_seq: progress.acked_seq,
                duplicates: u64::from(waiter.duplicate),
                next_seq,
            }));
        }
    }

    fn fail(&mut self, status: &Status) {
        for waiter in std::mem::take(&mut self.calls).into_values() {
            let _client_gone = waiter.answer.send(Err(status.clone()));
        }
    }
}
