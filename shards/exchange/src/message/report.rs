use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hawser_wire::{
    LaneId, LinkEpoch, NodeId, PathId, ShardId, StreamId, StreamOffset, StreamRefusal, TrafficClass,
};

/// What a shard owns, for `link ls`, `lane ls`, `stream ls`.
#[derive(Clone, Debug)]
pub struct ShardReport {
    /// Which shard.
    pub shard: ShardId,
    /// Its links.
    pub links: Vec<LinkReport>,
    /// Their lanes.
    pub lanes: Vec<LaneReport>,
    /// The streams that it hosts.
    pub streams: Vec<StreamReport>,
}

/// One link.
#[derive(Clone, Debug)]
pub struct LinkReport {
    /// The neighbour.
    pub peer: NodeId,
    /// Lanes that are up.
    pub lanes: u32,
    /// Smoothed round trip of heartbeats; zero before the first.
    pub rtt: Duration,
    /// Bytes of frames sent, over all lanes, ever.
    pub sent_bytes: u64,
    /// Bytes of frames received.
    pub received_bytes: u64,
    /// Bytes that wait to be sent.
    pub queued_bytes: u64,
    /// Frames dropped because the queue was full.
    pub dropped_frames: u64,
    /// Control frames from the neighbour that found no place on their way to the control thread, as too
    /// many of its own were under way.
    pub control_dropped_frames: u64,
    /// What the link was seen to carry at most, in bytes a second; 0 while it was never filled.
    pub bandwidth: u64,
    /// Ticks of all its lanes in which heartbeats were to be heard, in this session.
    pub heartbeat_ticks: u64,
    /// Those in which none was.
    pub heartbeats_missed: u64,
}

/// One lane.
#[derive(Clone, Debug)]
pub struct LaneReport {
    /// The neighbour.
    pub peer: NodeId,
    /// The lane.
    pub lane: LaneId,
    /// Its class.
    pub class: TrafficClass,
    /// Which connection.
    pub epoch: LinkEpoch,
    /// True if this node dialled.
    pub dialled: bool,
    /// The peer's address.
    pub remote: SocketAddr,
    /// Bytes of frames sent.
    pub sent_bytes: u64,
    /// Bytes of frames received.
    pub received_bytes: u64,
    /// Frames sent.
    pub sent_frames: u64,
    /// Frames received.
    pub received_frames: u64,
    /// Smoothed round trip of heartbeats; zero before the first.
    pub rtt: Duration,
}

/// One role of one stream.
#[derive(Clone, Debug)]
pub struct StreamReport {
    /// The stream.
    pub stream: StreamId,
    /// True for the source's side.
    pub source: bool,
    /// Source: offset behind the last published. Destination: behind the last received without gap.
    pub end: StreamOffset,
    /// Source: every destination has what is below. Destination: every consumer has.
    pub acked: StreamOffset,
    /// Payload bytes held in memory.
    pub buffered_bytes: u64,
}

/// An event of one link with what led to it, for `lane events`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LinkEventReport {
    /// The neighbour.
    pub peer: NodeId,
    /// What happened, as one word in kebab case.
    pub name: &'static str,
    /// The inputs by name: numbers with their unit in the name, or words.
    pub inputs: Vec<(&'static str, String)>,
}

/// One end of a stream broke its rules, and the other one has nothing more of it in the present life of
/// that end.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StreamRefusedReport {
    /// The stream.
    pub stream: StreamId,
    /// The node at its other end.
    pub peer: NodeId,
    /// Why.
    pub reason: StreamRefusal,
    /// With numbers, for people; none if the other end has refused this one, which knows no more.
    pub detail: Option<String>,
    /// How often, since the last such report about the stream.
    pub times: u64,
}

/// The ways that one message took, for `route explain --message`.
#[derive(Clone, Debug)]
pub struct MessageReport {
    /// As the question had it.
    pub ticket: u64,
    /// Offset behind the last message of the stream; none if it does not begin here.
    pub end: Option<StreamOffset>,
    /// How it went to each destination; none if there is no such message yet.
    pub destinations: Vec<MessageDestination>,
}

/// A message and one of its destinations.
#[derive(Clone, Debug)]
pub struct MessageDestination {
    /// The destination.
    pub node: NodeId,
    /// It has the message.
    pub received: bool,
    /// What is known of the way.
    pub way: MessageWay,
}

/// What is known of the way of a message to a destination.
#[derive(Clone, Debug)]
pub enum MessageWay {
    /// The destination is the node where it was published.
    Here,
    /// It waits to be sent.
    NotSent,
    /// It was sent, longer ago than is remembered; the first message of which more is known.
    Forgotten {
        /// None if nothing is known of any.
        known_from: Option<StreamOffset>,
    },
    /// Each time that it was sent, the oldest first; the first ones may be forgotten.
    Sent(Vec<MessageSending>),
}

/// One time that a message was sent.
#[derive(Clone, Debug)]
pub struct MessageSending {
    /// So long ago at most,
    pub first_ago: Duration,
    /// and at least.
    pub last_ago: Duration,
    /// Not for the first time.
    pub again: bool,
    /// The path.
    pub path: PathId,
    /// Of the route snapshot in force then.
    pub generation: u64,
    /// Of the link-state database that it was computed from.
    pub lsdb_digest: u64,
    /// Where its hops lead: the destination last.
    pub nodes: Arc<[NodeId]>,
    /// A node that sent it another way, as far as can be known, and how long ago that was heard of.
    pub detour: Option<(NodeId, Duration)>,
}
