//! A shard thread in small: it owns real ports, hosts streams from this node to itself, and keeps
//! the rules of dedup, credit and order that the API relies on. Acknowledgements can be held back.

use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use hawser_exchange::{
    ApiData, ApiToShard, ConsumerStart, ControlToShard, Doorbell, Full, LinkEventReport,
    PublishedBatch, Receiver, Refusal, Sender, SessionId, ShardPorts, ShardReport, ShardToApi,
    ShardToApiData, ShardToControl, SubscribeEnd,
};
use hawser_wire::{
    BootEpoch, NodeId, ProducerId, Record, RecordBuilder, ShardId, StreamId, StreamOffset, TenantId,
};
use tokio::sync::{mpsc, watch};

/// Payload bytes of one producer that the shard keeps unacknowledged.
pub(crate) const PUBLISH_WINDOW_BYTES: u64 = 2 << 20;

/// What tests tell the shard.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Order {
    /// Acknowledge nothing until [`Order::ReleaseAcks`].
    HoldAcks,
    ReleaseAcks,
    /// Messages below are gone.
    Trim(StreamOffset),
    /// Host none of the streams any more.
    Forget,
    /// End every subscription, as a stream that was closed does.
    EndSubscriptions,
    /// Tell of an event of the link to this node.
    TellLinkEvent(NodeId),
    /// End the thread.
    Die,
}

/// What tests see of the shard.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) streams: usize,
    pub(crate) publish_opened: usize,
    pub(crate) batches: usize,
    /// Payload bytes published.
    pub(crate) published_bytes: u64,
    /// Payload bytes delivered to subscriptions.
    pub(crate) delivered_bytes: u64,
    /// The newest grant of a subscription.
    pub(crate) granted_bytes: u64,
    pub(crate) handed_out: u64,
    pub(crate) ended_publish: Vec<bool>,
    pub(crate) ended_subscribe: usize,
    pub(crate) committed: Option<u64>,
    /// Rules that the API broke.
    pub(crate) violations: Vec<String>,
}

pub(crate) struct ShardThread {
    pub(crate) orders: mpsc::UnboundedSender<Order>,
    pub(crate) seen: watch::Receiver<Seen>,
}

impl ShardThread {
    pub(crate) fn start<C: Send + 'static>(ports: ShardPorts<C>) -> Self {
        let (orders, orders_from) = mpsc::unbounded_channel();
        let (seen_to, seen) = watch::channel(Seen::default());
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(TestShard::new(ports, orders_from, seen_to).run());
        });
        Self { orders, seen }
    }

    pub(crate) fn order(&self, order: Order) {
        self.orders.send(order).unwrap();
    }

    /// Waits until the shard has seen what `wanted` looks for.
    pub(crate) async fn wait(&mut self, wanted: impl FnMut(&Seen) -> bool) -> Seen {
        let seen = self.seen.wait_for(wanted);
        let seen = tokio::time::timeout(crate::PATIENCE, seen).await;
        seen.expect("the shard saw it in time").expect("the shard lives").clone()
    }
}

/// Messages to one ring, with a queue for the time that it is full.
struct Out<T> {
    ring: Sender<T>,
    waiting: VecDeque<T>,
}

impl<T> Out<T> {
    fn new(ring: Sender<T>) -> Self {
        Self { ring, waiting: VecDeque::new() }
    }

    fn push(&mut self, message: T) {
        self.waiting.push_back(message);
    }

    fn flush(&mut self) {
        while let Some(message) = self.waiting.pop_front() {
            if let Err(Full(message)) = self.ring.try_send(message) {
                self.waiting.push_front(message);
                break;
            }
        }
        self.ring.ring();
    }

    fn can_flow(&self) -> bool {
        !self.waiting.is_empty() && self.ring.free_slots() > 0
    }
}

#[derive(Default)]
struct Producer {
    session: Option<SessionId>,
    next_seq: u64,
    duplicates: u64,
    /// Of the session.
    received_bytes: u64,
    acked_bytes: u64,
    /// Sequence and duplicates, as the session was told.
    told: Option<(u64, u64)>,
}

struct Subscriber {
    session: SessionId,
    consumer: Box<str>,
    next: u64,
    delivered_bytes: u64,
    granted_bytes: u64,
    ended: bool,
}

#[derive(Default)]
struct Hosted {
    log: Vec<Record>,
    floor: u64,
    end: u64,
    producers: BTreeMap<u64, Producer>,
    subscribers: Vec<Subscriber>,
}

struct TestShard<C> {
    bell: Arc<Doorbell>,
    control_from: Receiver<ControlToShard<C>>,
    api_control_from: Receiver<ApiToShard>,
    api_data_from: Receiver<ApiData>,
    control: Out<ShardToControl>,
    to_api: Out<ShardToApi>,
    data_to_api: Out<ShardToApiData>,
    orders: mpsc::UnboundedReceiver<Order>,
    seen: watch::Sender<Seen>,
    streams: BTreeMap<StreamId, Hosted>,
    hold_acks: bool,
    dead: bool,
}

impl<C> TestShard<C> {
    fn new(
        mut ports: ShardPorts<C>,
        orders: mpsc::UnboundedReceiver<Order>,
        seen: watch::Sender<Seen>,
    ) -> Self {
        let api = ports.apis.pop().unwrap();
        Self {
            bell: ports.bell,
            control_from: ports.control.from,
            api_control_from: api.control_from,
            api_data_from: api.data_from,
            control: Out::new(ports.control.to),
            to_api: Out::new(api.control_to),
            data_to_api: Out::new(api.data_to),
            orders,
            seen,
            streams: BTreeMap::new(),
            hold_acks: false,
            dead: false,
        }
    }

    async fn run(mut self) {
        while !self.dead {
            self.turn();
            poll_fn(|cx| {
                if let Poll::Ready(Some(order)) = self.orders.poll_recv(cx) {
                    self.obey(order);
                    return Poll::Ready(());
                }
                self.bell.poll_sleep(cx, || {
                    !self.control_from.is_empty()
                        || !self.api_control_from.is_empty()
                        || !self.api_data_from.is_empty()
                        || self.control.can_flow()
                        || self.to_api.can_flow()
                        || self.data_to_api.can_flow()
                })
            })
            .await;
        }
    }

    fn turn(&mut self) {
        while let Some(message) = self.control_from.try_recv() {
            self.take_control(message);
        }
        while let Some(message) = self.api_control_from.try_recv() {
            self.take_request(message);
        }
        while let Some(message) = self.api_data_from.try_recv() {
            self.take_data(message);
        }
        self.acknowledge();
        self.deliver();
        self.control.flush();
        self.to_api.flush();
        self.data_to_api.flush();
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::HoldAcks => self.hold_acks = true,
            Order::ReleaseAcks => self.hold_acks = false,
            Order::Trim(floor) => {
                for hosted in self.streams.values_mut() {
                    hosted.floor = floor.0;
                }
            }
            Order::EndSubscriptions => {
                for subscriber in
                    self.streams.values_mut().flat_map(|hosted| &mut hosted.subscribers)
                {
                    subscriber.ended = true;
                    let (session, end) = (subscriber.session, SubscribeEnd::StreamEnded);
                    self.data_to_api.push(ShardToApiData::End { session, end });
                }
            }
            Order::Forget => self.streams.clear(),
            Order::TellLinkEvent(peer) => {
                let inputs = vec![("from_lane", "2".to_owned()), ("silent_ticks", "3".to_owned())];
                let report = LinkEventReport { peer, name: "hedged", inputs };
                self.control.push(ShardToControl::LinkEvent(Box::new(report)));
                self.control.flush();
            }
            Order::Die => self.dead = true,
        }
    }

    fn take_control(&mut self, message: ControlToShard<C>) {
        match message {
            ControlToShard::OpenStream(spec) => {
                self.streams.entry(spec.stream).or_default();
                let streams = self.streams.len();
                self.seen.send_modify(|seen| seen.streams = streams);
            }
            ControlToShard::Report => {
                let report = ShardReport {
                    shard: ShardId(0),
                    links: Vec::new(),
                    lanes: Vec::new(),
                    streams: Vec::new(),
                };
                self.control.push(ShardToControl::Report(Box::new(report)));
            }
            ControlToShard::Shutdown => {
                self.control.push(ShardToControl::Stopped);
                self.dead = true;
            }
            _ => {}
        }
    }

    fn refuse(&mut self, session: SessionId, refusal: Refusal) {
        self.to_api.push(ShardToApi::Refused { session, refusal: Box::new(refusal) });
    }

    fn take_request(&mut self, message: ApiToShard) {
        match message {
            ApiToShard::OpenPublish { session, stream, producer } => {
                self.open_publish(session, stream, producer);
            }
            ApiToShard::OpenSubscribe(request) => {
                let Some(hosted) = self.streams.get_mut(&request.stream) else {
                    return self.refuse(request.session, Refusal::UnknownStream);
                };
                let next = match request.start {
                    ConsumerStart::Resume => hosted.floor,
                    ConsumerStart::At(offset) => offset.0,
                };
                if next < hosted.floor {
                    let floor = StreamOffset(hosted.floor);
                    return self.refuse(request.session, Refusal::OutOfRange { floor });
                }
                if let Some(at) =
                    hosted.subscribers.iter().position(|old| old.consumer == request.consumer)
                {
                    let old = hosted.subscribers.remove(at);
                    let end = SubscribeEnd::TakenOver;
                    self.data_to_api.push(ShardToApiData::End { session: old.session, end });
                }
                let (session, granted_bytes) = (request.session, request.granted_bytes);
                hosted.subscribers.push(Subscriber {
                    session,
                    consumer: request.consumer,
                    next,
                    delivered_bytes: 0,
                    granted_bytes,
                    ended: false,
                });
                self.seen.send_modify(|seen| seen.granted_bytes = granted_bytes);
                let next = StreamOffset(next);
                self.to_api.push(ShardToApi::SubscribeOpened { session, next });
            }
            ApiToShard::SubscribeCredit { session, stream, granted_bytes } => {
                if let Some(subscriber) = self.subscriber(stream, session) {
                    subscriber.granted_bytes = granted_bytes;
                    self.seen.send_modify(|seen| seen.granted_bytes = granted_bytes);
                }
            }
            ApiToShard::HandedOut { session, stream, next } => {
                if let Some(subscriber) = self.subscriber(stream, session) {
                    let ahead = next.0 > subscriber.next;
                    self.seen.send_modify(|seen| {
                        if ahead || next.0 <= seen.handed_out {
                            seen.violations.push(format!("handed out {next}"));
                        }
                        seen.handed_out = next.0;
                    });
                }
            }
            ApiToShard::Commit { session, stream, next, .. } => {
                let end = self.streams.get(&stream).map_or(0, |hosted| hosted.end);
                if next.0 > end {
                    return self.refuse(session, Refusal::CommitAhead { end: StreamOffset(end) });
                }
                self.seen.send_modify(|seen| seen.committed = Some(next.0));
                self.to_api.push(ShardToApi::CommitDone { session });
            }
            ApiToShard::EndSubscribe { session, stream } => {
                if let Some(hosted) = self.streams.get_mut(&stream) {
                    hosted.subscribers.retain(|subscriber| subscriber.session != session);
                }
                self.seen.send_modify(|seen| seen.ended_subscribe += 1);
            }
        }
    }

    fn subscriber(&mut self, stream: StreamId, session: SessionId) -> Option<&mut Subscriber> {
        let hosted = self.streams.get_mut(&stream)?;
        hosted.subscribers.iter_mut().find(|subscriber| subscriber.session == session)
    }

    fn open_publish(&mut self, session: SessionId, stream: StreamId, producer: ProducerId) {
        let Some(hosted) = self.streams.get_mut(&stream) else {
            return self.refuse(session, Refusal::UnknownStream);
        };
        let producer = hosted.producers.entry(producer.0).or_default();
        producer.next_seq = producer.next_seq.max(1);
        *producer = Producer {
            next_seq: producer.next_seq,
            session: producer.session,
            ..Producer::default()
        };
        let next_seq = producer.next_seq;
        if let Some(old) = producer.session.replace(session) {
            self.refuse(old, Refusal::TakenOver);
        }
        self.seen.send_modify(|seen| seen.publish_opened += 1);
        let granted_bytes = PUBLISH_WINDOW_BYTES;
        self.to_api.push(ShardToApi::PublishOpened { session, next_seq, granted_bytes });
    }

    fn take_data(&mut self, message: ApiData) {
        match message {
            ApiData::Publish { session, stream, batch } => self.publish(session, stream, &batch),
            ApiData::EndPublish { abandoned, .. } => {
                self.seen.send_modify(|seen| seen.ended_publish.push(abandoned));
            }
        }
    }

    fn publish(&mut self, session: SessionId, stream: StreamId, batch: &PublishedBatch) {
        let Some(hosted) = self.streams.get_mut(&stream) else { return };
        let Some((&id, producer)) =
            hosted.producers.iter_mut().find(|(_, producer)| producer.session == Some(session))
        else {
            return;
        };
        if batch.first_seq > producer.next_seq {
            let (expected_seq, got_seq) = (producer.next_seq, batch.first_seq);
            producer.session = None;
            return self.refuse(session, Refusal::SequenceGap { expected_seq, got_seq });
        }
        producer.received_bytes += batch.payload.len() as u64;
        let overdrawn = producer.received_bytes > producer.acked_bytes + PUBLISH_WINDOW_BYTES;
        self.seen.send_modify(|seen| {
            seen.batches += 1;
            seen.published_bytes += batch.payload.len() as u64;
            if overdrawn {
                seen.violations.push("published beyond the credit".to_owned());
            }
        });
        let known = (producer.next_seq - batch.first_seq).min(u64::from(batch.count));
        producer.duplicates += known;
        let builder = RecordBuilder::new(TenantId::default(), stream, BootEpoch(1));
        let whole = builder.record(
            ProducerId(id),
            batch.first_seq,
            StreamOffset(hosted.end.saturating_sub(known)),
            batch.count,
            batch.lengths.clone(),
            batch.payload.clone(),
        );
        let Some(fresh) = whole.without_first(u32::try_from(known).unwrap()) else { return };
        producer.next_seq += u64::from(fresh.header.count);
        for record in cut(&builder, fresh) {
            hosted.end = record.header.stream_end().0;
            hosted.log.push(record);
        }
    }

    fn acknowledge(&mut self) {
        if self.hold_acks {
            return;
        }
        for producer in self.streams.values_mut().flat_map(|hosted| hosted.producers.values_mut()) {
            let Some(session) = producer.session else { continue };
            producer.acked_bytes = producer.received_bytes;
            let (acked_seq, duplicates) = (producer.next_seq - 1, producer.duplicates);
            if producer.told.replace((acked_seq, duplicates)) == Some((acked_seq, duplicates)) {
                continue;
            }
            self.to_api.push(ShardToApi::Published { session, acked_seq, duplicates });
            let granted_bytes = producer.acked_bytes + PUBLISH_WINDOW_BYTES;
            self.to_api.push(ShardToApi::PublishCredit { session, granted_bytes });
        }
    }

    fn deliver(&mut self) {
        for hosted in self.streams.values_mut() {
            for subscriber in hosted.subscribers.iter_mut().filter(|one| !one.ended) {
                for record in &hosted.log {
                    if record.header.stream_end().0 <= subscriber.next {
                        continue;
                    }
                    let skip = subscriber.next.saturating_sub(record.header.stream_base.0);
                    let record = record.without_first(u32::try_from(skip).unwrap()).unwrap();
                    let bytes = record.payload.len() as u64;
                    if subscriber.delivered_bytes >= subscriber.granted_bytes {
                        break;
                    }
                    subscriber.delivered_bytes += bytes.max(1);
                    subscriber.next = record.header.stream_end().0;
                    let (session, record) = (subscriber.session, Box::new(record));
                    self.data_to_api.push(ShardToApiData::Deliver { session, record });
                    self.seen.send_modify(|seen| seen.delivered_bytes += bytes);
                }
            }
        }
    }
}

/// A published batch as records within their bounds.
fn cut(builder: &RecordBuilder, whole: Record) -> Vec<Record> {
    let (mut lengths, mut payload): (Bytes, Bytes) = (whole.lengths, whole.payload);
    let (mut seq, mut offset) = (whole.header.producer_base, whole.header.stream_base.0);
    let mut records = Vec::new();
    while let Some((count, length_bytes, bytes)) = RecordBuilder::cut(&lengths, payload.len()) {
        records.push(builder.record(
            whole.header.producer,
            seq,
            StreamOffset(offset),
            count,
            lengths.split_to(length_bytes),
            payload.split_to(bytes),
        ));
        seq += u64::from(count);
        offset += u64::from(count);
    }
    records
}
