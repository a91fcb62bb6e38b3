use std::net::SocketAddr;
use std::time::Duration;

use hawser_wire::{LaneId, LinkEpoch, NodeId, ShardId, StreamId, StreamOffset, TrafficClass};

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
