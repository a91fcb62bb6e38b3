use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hawser_exchange::{
    ApiData, ApiPorts, ApiToShard, ConsumerStart, Refusal, SessionId, SubscribeRequest,
};
use hawser_wire::{ProducerId, Record, ShardId, StreamId, StreamOffset};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::time::sleep;

use crate::failure::CallFailure;
use crate::outlet::Outlet;
use crate::pump::{Pump, PumpRequest, ShardPort};
use crate::session::{PublishProgress, Role, Session, SessionHandle, SessionShared, SubscribeSink};

/// Sessions that one API thread takes.
pub(crate) const SESSIONS_MAX: usize = 16_384;

/// Payload bytes that a subscription may have under way between its shard and HTTP/2.
pub(crate) const SUBSCRIBE_WINDOW_BYTES: u64 = 2 << 20;

/// Records that wait for one subscriber. Its window bounds their bytes, not their number.
pub(crate) const RECORDS_WAITING_MAX: usize = 262_144;

/// Messages that wait in front of a ring.
const INLET_MESSAGES: usize = 256;

/// The catalogue may know a stream a moment before its shard does, which hears of it on a ring of
/// its own: a refusal is believed after these waits.
const UNKNOWN_RETRIES: [Duration; 3] =
    [Duration::from_millis(5), Duration::from_millis(20), Duration::from_millis(80)];

/// Sessions that wait to be made known to the pump.
const REQUESTS_WAITING: usize = 256;

/// The way from the calls' handlers to the pump. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Hub {
    inner: Arc<HubInner>,
}

#[derive(Debug)]
struct HubInner {
    requests: mpsc::Sender<PumpRequest>,
    notes: mpsc::Sender<SessionId>,
    shards: Vec<Inlets>,
    shard_count: u16,
    sessions_opened: AtomicU64,
    places: Arc<Semaphore>,
}

#[derive(Debug)]
struct Inlets {
    control: mpsc::Sender<ApiToShard>,
    data: mpsc::Sender<ApiData>,
}

/// A producer's open session.
#[derive(Debug)]
pub(crate) struct PublishSession {
    pub(crate) handle: SessionHandle,
    pub(crate) progress: watch::Receiver<PublishProgress>,
    /// To the shard's data ring.
    pub(crate) data: mpsc::Sender<ApiData>,
}

/// Makes the hub and the pump over an API thread's rings.
pub(crate) fn hub_and_pump(ports: ApiPorts) -> (Hub, Pump) {
    let (requests, requests_from) = mpsc::channel(REQUESTS_WAITING);
    // Room for one note of each session, and for those that ended since the pump last looked.
    let (notes, notes_from) = mpsc::channel(SESSIONS_MAX + REQUESTS_WAITING);
    let mut inlets = Vec::new();
    let mut shards = Vec::new();
    for port in ports.shards {
        let (control, control_from) = mpsc::channel(INLET_MESSAGES);
        let (data, data_from) = mpsc::channel(INLET_MESSAGES);
        inlets.push(Inlets { control, data });
        shards.push(ShardPort {
            control_to: Outlet::new(port.control_to, control_from),
            data_to: Outlet::new(port.data_to, data_from),
            control_from: port.control_from,
            data_from: port.data_from,
            gone: false,
        });
    }
    let shard_count = u16::try_from(inlets.len()).unwrap_or(u16::MAX);
    let inner = HubInner {
        requests,
        notes,
        shards: inlets,
        shard_count,
        sessions_opened: AtomicU64::new(0),
        places: Arc::new(Semaphore::new(SESSIONS_MAX)),
    };
    let pump = Pump::new(ports.bell, shards, requests_from, notes_from);
    (Hub { inner: Arc::new(inner) }, pump)
}

impl Hub {
    /// Ends every session and refuses new ones.
    pub(crate) async fn stop(&self) {
        // A pump that is gone has ended them all.
        let _sent = self.inner.requests.send(PumpRequest::Stop).await;
    }

    /// Opens a session for `producer`; returns when the shard has answered.
    pub(crate) async fn open_publish(
        &self,
        stream: StreamId,
        producer: ProducerId,
    ) -> Result<PublishSession, CallFailure> {
        for wait in UNKNOWN_RETRIES {
            match self.try_open_publish(stream, producer).await {
                Err(CallFailure::Refused(Refusal::UnknownStream)) => sleep(wait).await,
                answer => return answer,
            }
        }
        self.try_open_publish(stream, producer).await
    }

    async fn try_open_publish(
        &self,
        stream: StreamId,
        producer: ProducerId,
    ) -> Result<PublishSession, CallFailure> {
        let (sender, mut progress) = watch::channel(PublishProgress::default());
        let handle = self.register(stream, Role::Publish(sender)).await?;
        let session = handle.shared.id;
        self.say(&handle, ApiToShard::OpenPublish { session, stream, producer }).await?;
        let opened = progress
            .wait_for(|progress| progress.opened_next_seq.is_some() || progress.failure.is_some())
            .await
            .map_err(|_pump_gone| CallFailure::Stopping)?
            .failure
            .clone();
        if let Some(failure) = opened {
            return Err(failure);
        }
        let data = self.inlets(&handle)?.data.clone();
        Ok(PublishSession { handle, progress, data })
    }

    /// Subscribes; returns when the shard has answered. Records may stand in the queue by then.
    pub(crate) async fn open_subscribe(
        &self,
        stream: StreamId,
        consumer: &str,
        start: ConsumerStart,
        manual_commit: bool,
    ) -> Result<(SessionHandle, mpsc::Receiver<Box<Record>>), CallFailure> {
        for wait in UNKNOWN_RETRIES {
            match self.try_open_subscribe(stream, consumer, start, manual_commit).await {
                Err(CallFailure::Refused(Refusal::UnknownStream)) => sleep(wait).await,
                answer => return answer,
            }
        }
        self.try_open_subscribe(stream, consumer, start, manual_commit).await
    }

    async fn try_open_subscribe(
        &self,
        stream: StreamId,
        consumer: &str,
        start: ConsumerStart,
        manual_commit: bool,
    ) -> Result<(SessionHandle, mpsc::Receiver<Box<Record>>), CallFailure> {
        let (records, records_from) = mpsc::channel(RECORDS_WAITING_MAX);
        let (opened, opened_from) = oneshot::channel();
        let sink = SubscribeSink {
            opened: Some(opened),
            records: Some(records),
            told_next: 0,
            told_bytes: 0,
        };
        let handle = self.register(stream, Role::Subscribe(sink)).await?;
        let request = SubscribeRequest {
            session: handle.shared.id,
            stream,
            consumer: consumer.into(),
            start,
            manual_commit,
            granted_bytes: SUBSCRIBE_WINDOW_BYTES,
        };
        self.say(&handle, ApiToShard::OpenSubscribe(Box::new(request))).await?;
        opened_from.await.map_err(|_pump_gone| CallFailure::Stopping)??;
        Ok((handle, records_from))
    }

    /// Confirms everything below `next` for `consumer`.
    pub(crate) async fn commit(
        &self,
        stream: StreamId,
        consumer: &str,
        next: StreamOffset,
    ) -> Result<(), CallFailure> {
        let (answer, answer_from) = oneshot::channel();
        let handle = self.register(stream, Role::Commit(Some(answer))).await?;
        let (session, consumer) = (handle.shared.id, consumer.into());
        self.say(&handle, ApiToShard::Commit { session, stream, consumer, next }).await?;
        answer_from.await.map_err(|_pump_gone| CallFailure::Stopping)?
    }

    /// Makes a session known to the pump, before the shard hears of it.
    async fn register(&self, stream: StreamId, role: Role) -> Result<SessionHandle, CallFailure> {
        let inner = &self.inner;
        let place = Arc::clone(&inner.places)
            .try_acquire_owned()
            .map_err(|_none_free| CallFailure::TooManyCalls { max: SESSIONS_MAX })?;
        let id = SessionId(inner.sessions_opened.fetch_add(1, Ordering::Relaxed));
        let shard = usize::from(ShardId::of_stream(stream, inner.shard_count).0);
        let shared = Arc::new(SessionShared::new(id, stream, shard, place));
        let session = Session { shared: Arc::clone(&shared), role };
        inner
            .requests
            .send(PumpRequest::Register(Box::new(session)))
            .await
            .map_err(|_pump_gone| CallFailure::Stopping)?;
        Ok(SessionHandle::new(shared, inner.notes.clone()))
    }

    async fn say(&self, handle: &SessionHandle, message: ApiToShard) -> Result<(), CallFailure> {
        let control = &self.inlets(handle)?.control;
        control.send(message).await.map_err(|_pump_gone| CallFailure::Stopping)
    }

    fn inlets(&self, handle: &SessionHandle) -> Result<&Inlets, CallFailure> {
        self.inner.shards.get(handle.shared.shard).ok_or(CallFailure::ShardGone)
    }
}
