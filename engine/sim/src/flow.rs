use bytes::Bytes;
use hawser_delivery::{
    ConsumerStart, DeliveryLimits, PathKey, PathWindows, StreamKey, StreamReceiver, StreamSender,
    WindowBudget,
};
use hawser_wire::{
    BootEpoch, FrameFlags, MonoTime, NodeId, PathId, ProducerId, Record, StreamId, StreamOffset,
    StreamSync, TenantId, TrafficClass, VARINT_U32_BYTES_MAX, put_varint,
};

use crate::violation::Property;
use crate::watched::{Timed, Watched};

const PRODUCER: ProducerId = ProducerId(1);
const CONSUMER: &str = "sim";
/// Every stream's path has this name at its source.
pub(crate) const PATH: PathId = PathId(1);

/// The id of the flow's stream.
pub(crate) fn stream_id(flow: usize) -> StreamId {
    let mut bytes = [0x5f; 16];
    if let Some(tail) = bytes.last_chunk_mut::<8>() {
        *tail = u64::try_from(flow).unwrap_or(u64::MAX).to_be_bytes();
    }
    StreamId::from_bytes(bytes)
}

/// The flow whose stream has this id, if it is one that [`stream_id`] makes.
pub(crate) fn flow_of(stream: StreamId) -> Option<usize> {
    let tail = stream.as_bytes().last_chunk::<8>()?;
    let flow = usize::try_from(u64::from_be_bytes(*tail)).ok()?;
    (stream_id(flow) == stream).then_some(flow)
}

/// The id of the flow's stream, and of the tenant of that number.
pub(crate) fn stream_key(flow: usize, tenant: u8) -> StreamKey {
    let mut bytes = [0; 16];
    let [.., last] = &mut bytes;
    *last = tenant;
    StreamKey { tenant: TenantId::from_bytes(bytes), stream: stream_id(flow) }
}

impl Timed for StreamSender {
    fn due(&self) -> Option<MonoTime> {
        self.poll_timeout()
    }
}

impl Timed for StreamReceiver {
    fn due(&self) -> Option<MonoTime> {
        self.poll_timeout()
    }
}

/// The source's end of a stream and the application that publishes there.
///
/// Messages carry their sequence, so that a consumer can tell what is missing. The application
/// remembers what was acknowledged; what its node lost of the rest, it publishes again.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) sender: Watched<StreamSender>,
    destination: NodeId,
    /// The path, as its window is named.
    pub(crate) path: PathKey,
    /// Something has happened since it was last asked what it would send.
    pub(crate) touched: bool,
    key: StreamKey,
    limits: DeliveryLimits,
    /// Behind the last record that was sent.
    sent_end: StreamOffset,
    /// Of records that were sent again.
    pub(crate) resent_bytes: u64,
    next_seq: u64,
    acked_seq: u64,
    /// The node lost its memory and has not learned yet where the stream goes on.
    resuming: bool,
    /// First offset that this life gave out.
    born_at: StreamOffset,
}

impl Source {
    pub(crate) fn new(
        key: StreamKey,
        epoch: BootEpoch,
        destination: NodeId,
        class: TrafficClass,
        limits: DeliveryLimits,
    ) -> Self {
        let StreamKey { tenant, stream } = key;
        let mut sender = StreamSender::new(tenant, stream, epoch, &[destination], true, limits);
        sender.handle_path(destination, true);
        Self {
            sender: Watched::new(sender),
            destination,
            path: PathKey { destination, path: PATH, class },
            touched: true,
            key,
            limits,
            sent_end: StreamOffset(0),
            resent_bytes: 0,
            next_seq: 1,
            acked_seq: 0,
            resuming: false,
            born_at: StreamOffset(0),
        }
    }

    /// The node lost its memory and begins the life `epoch`.
    pub(crate) fn restart(&mut self, epoch: BootEpoch) {
        let destinations = [self.destination];
        let (StreamKey { tenant, stream }, limits) = (self.key, self.limits);
        let sender = StreamSender::new(tenant, stream, epoch, &destinations, false, limits);
        self.sender.replace(sender);
        self.sender.handle_path(self.destination, true);
        self.next_seq = self.acked_seq.saturating_add(1);
        self.sent_end = StreamOffset(0);
        self.resuming = true;
        self.touched = true;
    }

    /// Something has happened to the sender: tells the path's window.
    pub(crate) fn settle(&mut self, now: MonoTime, windows: &mut PathWindows) {
        windows.settle(now, self.path, &mut self.sender);
        self.touched = true;
    }

    /// A record on its way was dropped; for want of room, if `congested`.
    pub(crate) fn handle_dropped(
        &mut self,
        now: MonoTime,
        congested: bool,
        windows: &mut PathWindows,
    ) {
        self.sender.handle_dropped(now, self.destination);
        if congested {
            windows.handle_loss(now, self.path);
        }
        self.settle(now, windows);
    }

    /// Nothing has moved on the path for too long.
    pub(crate) fn handle_path_timeout(&mut self, now: MonoTime, windows: &mut PathWindows) {
        self.sender.handle_path_timeout(now, self.destination);
        self.settle(now, windows);
    }

    /// A record goes out.
    pub(crate) fn note_sent(&mut self, record: &Record) {
        let end = record.header.stream_end();
        if end <= self.sent_end {
            self.resent_bytes = self.resent_bytes.saturating_add(record.charge_bytes());
        }
        self.sent_end = self.sent_end.max(end);
    }

    /// Publishes `count` messages of `bytes` each, if there is room for them; how many it took.
    ///
    /// # Errors
    /// The property that the sender's answer breaks.
    pub(crate) fn publish(
        &mut self,
        now: MonoTime,
        count: u32,
        bytes: u32,
    ) -> Result<u32, (Property, String)> {
        let bytes = bytes.max(16);
        let len = u64::from(count).saturating_mul(u64::from(bytes));
        if !self.sender.is_ready() || self.sender.room_bytes() < len {
            return Ok(0);
        }
        let broken = |error| (Property::NothingLost, format!("a publish was refused: {error}"));
        if std::mem::take(&mut self.resuming) {
            self.born_at = self.sender.end();
        }
        let (next_seq, acked_seq) = self.sender.open_producer(PRODUCER).map_err(broken)?;
        if next_seq < self.acked_seq.saturating_add(1) || acked_seq >= next_seq {
            let acked = self.acked_seq;
            let text = format!("{acked} was acknowledged, {next_seq} is wanted next");
            return Err((Property::NothingLost, text));
        }
        let (lengths, payload) = messages(now, self.next_seq, count, bytes);
        let outcome = self
            .sender
            .handle_publish(PRODUCER, self.next_seq, count, lengths, payload)
            .map_err(broken)?;
        // What was published again is acknowledged again.
        self.acked_seq = self.acked_seq.max(outcome.acked_seq);
        self.touched = true;
        self.next_seq = self.next_seq.saturating_add(u64::from(count));
        Ok(count)
    }

    /// Notes what the sender reports as acknowledged.
    pub(crate) fn take_acked(&mut self) {
        while let Some((_, acked_seq)) = self.sender.poll_acked() {
            self.acked_seq = self.acked_seq.max(acked_seq);
        }
    }

    /// Would nothing that was acknowledged be lost, and nothing come twice, if this end lost its memory
    /// now? The other end must have it, for without a journal a message survives the loss of one host
    /// only; and if that one was lost before, it must have learned again who published what its consumer
    /// has.
    pub(crate) fn may_restart(&self, sink: &Sink) -> bool {
        let frontier = sink.receiver.frontier();
        !self.resuming && frontier >= self.sender.acked() && frontier >= sink.confirmed
    }

    /// As [`Self::may_restart`], for the other end.
    pub(crate) fn sink_may_restart(&self, sink: &Sink) -> bool {
        !self.resuming && sink.confirmed >= self.born_at
    }

    /// Everything that was published was acknowledged.
    pub(crate) const fn is_settled(&self) -> bool {
        self.acked_seq.saturating_add(1) >= self.next_seq
    }

    /// The last message published, and the last acknowledged.
    pub(crate) const fn progress(&self) -> (u64, u64) {
        (self.next_seq.saturating_sub(1), self.acked_seq)
    }
}

/// Messages from `first` on: each its sequence, the time, and zeros. Their lengths, and they, are parts
/// of one buffer.
fn messages(now: MonoTime, first: u64, count: u32, bytes: u32) -> (Bytes, Bytes) {
    let (count, len) = (usize::try_from(count).unwrap_or(0), usize::try_from(bytes).unwrap_or(0));
    let lengths_max = count.saturating_mul(VARINT_U32_BYTES_MAX);
    let mut all = Vec::with_capacity(count.saturating_mul(len).saturating_add(lengths_max));
    (0..count).for_each(|_| put_varint(&mut all, bytes));
    let lengths_len = all.len();
    for seq in (first..).take(count) {
        let end = all.len().saturating_add(len);
        all.extend_from_slice(&seq.to_le_bytes());
        all.extend_from_slice(&now.as_nanos().to_le_bytes());
        all.resize(end, 0);
    }
    let mut lengths = Bytes::from(all);
    let payload = lengths.split_off(lengths_len);
    (lengths, payload)
}

/// The destination's end of a stream, its application, and the checker of what that gets.
#[derive(Debug)]
pub(crate) struct Sink {
    pub(crate) receiver: Watched<StreamReceiver>,
    key: StreamKey,
    limits: DeliveryLimits,
    /// What the application has written down durably.
    confirmed: StreamOffset,
    last_seq: u64,
    messages: u64,
    bytes: u64,
    /// Records that came marked.
    pub(crate) marked: u64,
    /// From each message's publication to its consumption, in microseconds.
    pub(crate) ages_us: Vec<u32>,
}

impl Sink {
    pub(crate) fn new(key: StreamKey, epoch: BootEpoch, limits: DeliveryLimits) -> Self {
        let StreamKey { tenant, stream } = key;
        let mut receiver = StreamReceiver::new(tenant, stream, epoch, false, [], limits);
        let _begins_at_zero = receiver.attach(CONSUMER, ConsumerStart::Resume);
        let confirmed = StreamOffset(0);
        Self {
            receiver: Watched::new(receiver),
            key,
            limits,
            confirmed,
            last_seq: 0,
            messages: 0,
            bytes: 0,
            marked: 0,
            ages_us: Vec::new(),
        }
    }

    /// The node lost its memory, but for what the consumer confirmed, and begins the life `epoch`.
    pub(crate) fn restart(&mut self, epoch: BootEpoch) {
        let consumers = [(CONSUMER, self.confirmed)];
        let StreamKey { tenant, stream } = self.key;
        let receiver = StreamReceiver::new(tenant, stream, epoch, true, consumers, self.limits);
        self.receiver.replace(receiver);
        let _resumes = self.receiver.attach(CONSUMER, ConsumerStart::Resume);
    }

    /// Takes at most `records_max` records from the stream and confirms them; how many it took.
    ///
    /// # Errors
    /// The property that they break.
    pub(crate) fn consume(
        &mut self,
        now: MonoTime,
        records_max: usize,
    ) -> Result<usize, (Property, String)> {
        for taken in 0..records_max {
            let Some(record) = self.receiver.poll_deliver(CONSUMER) else { return Ok(taken) };
            self.check(now, &record)?;
            self.confirmed = record.header.stream_end();
            if let Err(error) = self.receiver.handle_commit(now, CONSUMER, self.confirmed) {
                return Err((Property::NothingLost, format!("a commit was refused: {error}")));
            }
        }
        Ok(records_max)
    }

    fn check(&mut self, now: MonoTime, record: &Record) -> Result<(), (Property, String)> {
        let mut rest: &[u8] = &record.payload;
        for len in record.message_lengths() {
            let Some((message, tail)) = rest.split_at_checked(usize::try_from(len).unwrap_or(0))
            else {
                return Err((Property::Content, "a message is cut off".to_owned()));
            };
            rest = tail;
            let seq = message.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
            let wanted = self.last_seq.saturating_add(1);
            if seq != wanted {
                let offset = record.header.stream_base.0;
                let text = format!("message {seq} came in place of {wanted}, offset {offset}");
                let property =
                    if seq < wanted { Property::NothingDuplicated } else { Property::StreamOrder };
                return Err((property, text));
            }
            self.last_seq = seq;
            let published = message.get(8..).and_then(<[u8]>::first_chunk);
            let published = published.map_or(0, |bytes| u64::from_le_bytes(*bytes));
            let age_us = now.as_nanos().saturating_sub(published).checked_div(1000).unwrap_or(0);
            self.ages_us.push(u32::try_from(age_us).unwrap_or(u32::MAX));
            self.messages = self.messages.saturating_add(1);
            self.bytes = self.bytes.saturating_add(u64::from(len));
        }
        Ok(())
    }

    /// Something waits for the application.
    pub(crate) fn has_record(&self) -> bool {
        self.receiver.frontier() > self.confirmed
    }

    /// For a mutation: what comes next is taken for consumed.
    pub(crate) fn skip_record(&mut self) {
        let _skipped = self.receiver.poll_deliver(CONSUMER);
    }

    /// For a mutation: another stream comes here, is granted a window of `budget`, and is forgotten.
    pub(crate) fn leak_window(&self, now: MonoTime, budget: &mut WindowBudget) {
        let StreamKey { tenant, stream } = self.key;
        let (fence_epoch, base) = (BootEpoch(1), Some(StreamOffset(0)));
        let sync = StreamSync { stream, fence_epoch, base, end: None, producers: Vec::new() };
        let mut other = StreamReceiver::new(tenant, stream, BootEpoch(1), false, [], self.limits);
        other.handle_sync(&sync, FrameFlags::default());
        let _granted = other.poll_ack(now, budget);
    }

    /// For a mutation: the last message is taken for not consumed.
    pub(crate) const fn forget_record(&mut self) {
        self.last_seq = self.last_seq.saturating_sub(1);
    }

    /// Messages consumed so far.
    pub(crate) const fn messages(&self) -> u64 {
        self.messages
    }

    /// The last message that the application has.
    pub(crate) const fn last_seq(&self) -> u64 {
        self.last_seq
    }

    /// Payload bytes consumed so far.
    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }
}
