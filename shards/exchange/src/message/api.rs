use bytes::Bytes;
use hawser_wire::{NodeId, ProducerId, Record, StreamId, StreamOffset, StreamRefusal};

/// One call of a client on one API thread; never reused there.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SessionId(pub u64);

/// Where a consumer wants to begin.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ConsumerStart {
    /// Behind what it confirmed; a new one at the first message that is still there.
    Resume,
    /// At this offset.
    At(StreamOffset),
}

/// A subscription.
#[derive(Debug)]
pub struct SubscribeRequest {
    /// The call.
    pub session: SessionId,
    /// The stream.
    pub stream: StreamId,
    /// The consumer; an earlier subscription of the same one is ended.
    pub consumer: Box<str>,
    /// Where to begin.
    pub start: ConsumerStart,
    /// Only [`ApiToShard::Commit`] confirms; otherwise [`ApiToShard::HandedOut`] does.
    pub manual_commit: bool,
    /// Payload bytes that may be delivered at first.
    pub granted_bytes: u64,
}

/// From an API thread to a shard: the control ring, drained first.
///
/// Ring full: the API thread keeps the message in order in its own queue and goes on when the
/// shard rings; the client's call waits.
#[derive(Debug)]
pub enum ApiToShard {
    /// A client wants to publish. Answered by `PublishOpened` or `Refused`.
    OpenPublish {
        /// The call.
        session: SessionId,
        /// The stream.
        stream: StreamId,
        /// The producer.
        producer: ProducerId,
    },
    /// A client wants to subscribe. Answered by `SubscribeOpened` or `Refused`.
    OpenSubscribe(Box<SubscribeRequest>),
    /// Payload bytes that may have been delivered to the subscription in all; absolute.
    SubscribeCredit {
        /// The call.
        session: SessionId,
        /// Its stream.
        stream: StreamId,
        /// Absolute.
        granted_bytes: u64,
    },
    /// Every message below was handed to the client.
    HandedOut {
        /// The call.
        session: SessionId,
        /// Its stream.
        stream: StreamId,
        /// First offset not handed out.
        next: StreamOffset,
    },
    /// A consumer confirms. Answered by `CommitDone` or `Refused`.
    Commit {
        /// The call.
        session: SessionId,
        /// The stream.
        stream: StreamId,
        /// The consumer.
        consumer: Box<str>,
        /// First offset not confirmed.
        next: StreamOffset,
    },
    /// The client went away, or the API thread is done with a subscription that has ended.
    EndSubscribe {
        /// The call.
        session: SessionId,
        /// Its stream.
        stream: StreamId,
    },
}

/// Consecutive messages of one producer as published.
#[derive(Debug)]
pub struct PublishedBatch {
    /// The producer's sequence of the first message, from 1.
    pub first_seq: u64,
    /// Messages; at least 1.
    pub count: u32,
    /// One varint a message; checked by the API thread to agree with count and payload.
    pub lengths: Bytes,
    /// The messages.
    pub payload: Bytes,
}

/// From an API thread to a shard: the data ring. Only credited data enters.
///
/// Ring full: the API thread keeps the message and reads nothing more from its client.
#[derive(Debug)]
pub enum ApiData {
    /// Publish.
    Publish {
        /// The call, opened before.
        session: SessionId,
        /// Its stream.
        stream: StreamId,
        /// The messages.
        batch: Box<PublishedBatch>,
    },
    /// The client has published all it wants; acknowledgements may still be due.
    EndPublish {
        /// The call.
        session: SessionId,
        /// Its stream.
        stream: StreamId,
        /// True: nobody waits for acknowledgements any more.
        abandoned: bool,
    },
}

/// Why a call is refused.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Refusal {
    /// This node hosts no such stream in the role that the call needs.
    UnknownStream,
    /// The stream was closed.
    StreamClosed,
    /// Sequences must follow each other.
    SequenceGap {
        /// What should have come.
        expected_seq: u64,
        /// What came.
        got_seq: u64,
    },
    /// Messages below are gone.
    OutOfRange {
        /// First offset that is still here.
        floor: StreamOffset,
    },
    /// A consumer confirmed what it was never given.
    CommitAhead {
        /// Behind the last message given out.
        end: StreamOffset,
    },
    /// The stream has as many producers or consumers as it may have.
    TooMany {
        /// "producers" or "consumers".
        what: &'static str,
        /// The bound.
        max: usize,
    },
    /// An end of the stream broke its rules: nothing is published to the node before it, or this one,
    /// has begun a new life.
    StreamRefused {
        /// The node at the other end.
        node: NodeId,
        /// Why.
        reason: StreamRefusal,
    },
    /// A newer call of the same producer took over.
    TakenOver,
    /// The node stops.
    ShuttingDown,
}

/// Why a subscription ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SubscribeEnd {
    /// The stream is closed and all of it was delivered.
    StreamEnded,
    /// A newer subscription of the same consumer took over.
    TakenOver,
    /// This node has the stream no more: it was taken back, or the node left the mesh.
    StreamDropped,
    /// The node stops.
    ShuttingDown,
}

/// From a shard to an API thread: the control ring.
///
/// Ring full: the shard keeps every message, in order, and tries again on a later turn. Nothing is
/// coalesced: what waits is bounded by the calls, and by the credit and the messages that each has
/// under way, as every grant and every progress answers something published.
#[derive(Debug)]
pub enum ShardToApi {
    /// The session may publish.
    PublishOpened {
        /// The call.
        session: SessionId,
        /// What the producer is to use next.
        next_seq: u64,
        /// Payload bytes that may be published in all; absolute.
        granted_bytes: u64,
    },
    /// More may be published.
    PublishCredit {
        /// The call.
        session: SessionId,
        /// Absolute.
        granted_bytes: u64,
    },
    /// Progress of the producer.
    Published {
        /// The call.
        session: SessionId,
        /// Every sequence up to and with this one is at every destination.
        acked_seq: u64,
        /// Messages of this call that were known already; absolute.
        duplicates: u64,
    },
    /// The call fails; it is over.
    Refused {
        /// The call.
        session: SessionId,
        /// Why.
        refusal: Box<Refusal>,
    },
    /// The session is subscribed.
    SubscribeOpened {
        /// The call.
        session: SessionId,
        /// First offset that will come.
        next: StreamOffset,
    },
    /// The commit is taken.
    CommitDone {
        /// The call.
        session: SessionId,
    },
}

/// From a shard to an API thread: the data ring. Only credited data enters.
///
/// Ring full: the shard keeps the record; the subscription's credit bounds what waits.
#[derive(Debug)]
pub enum ShardToApiData {
    /// Messages of a subscription, in order.
    Deliver {
        /// The call.
        session: SessionId,
        /// The messages.
        record: Box<Record>,
    },
    /// Stands behind the last record of a subscription that ends. One that the stream's end has
    /// ended may still confirm what it handed out, until [`ApiToShard::EndSubscribe`].
    End {
        /// The call.
        session: SessionId,
        /// Why.
        end: SubscribeEnd,
    },
}

const _: () = assert!(size_of::<ApiToShard>() <= 64);
const _: () = assert!(size_of::<ApiData>() <= 64);
const _: () = assert!(size_of::<ShardToApi>() <= 64);
const _: () = assert!(size_of::<ShardToApiData>() <= 64);
