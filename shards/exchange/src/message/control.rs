use std::net::{SocketAddr, TcpStream};

use bytes::Bytes;
use hawser_wire::{
    BootEpoch, CloseReason, Incarnation, LaneId, LifeNonce, LinkEpoch, LinkMode, NodeId, StreamId,
    StreamOffset, TenantId, TrafficClass,
};

use super::{LinkEventReport, MessageReport, ShardReport, StreamRefusedReport};
use crate::LaneRule;

/// A hand-over of a lane, as the control thread counts them.
///
/// **Invariant:** no two of one process have the same. The epoch is the dialler's count, which begins anew
/// in each of its lives, and says nothing of whether this node dialled.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct LaneSerial(pub u64);

impl LaneSerial {
    /// Of the next hand-over.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// A lane whose handshake is done, on its way to the shard that owns the link.
#[derive(Debug)]
pub struct LaneHandover<C> {
    /// The neighbour, from its certificate.
    pub peer: NodeId,
    /// Its human name, from its certificate.
    pub peer_name: String,
    /// Its life.
    pub peer_incarnation: Incarnation,
    /// What tells it from another one with this incarnation, if the peer says it.
    pub peer_life: Option<LifeNonce>,
    /// It puts striped records back in order.
    pub peer_stripes: bool,
    /// It takes records of class priority.
    pub peer_takes_priority: bool,
    /// It takes several link-state advertisements in one flooding message.
    pub peer_takes_several: bool,
    /// Which lane of the link.
    pub lane: LaneId,
    /// The lane's class.
    pub class: TrafficClass,
    /// Which connection for that lane.
    pub epoch: LinkEpoch,
    /// True if this node dialled.
    pub dialled: bool,
    /// Largest frame body that the peer takes, in bytes.
    pub frame_body_max: u32,
    /// The peer's address, for people.
    pub remote: SocketAddr,
    /// Connected, non-blocking.
    pub socket: TcpStream,
    /// TLS and WebSocket state with all bytes that were read or not yet sent.
    pub session: C,
}

/// A stream's part at this node.
#[derive(Clone, Debug)]
pub struct StreamSpec {
    /// The stream.
    pub stream: StreamId,
    /// Its tenant.
    pub tenant: TenantId,
    /// This node's boot counter.
    pub epoch: BootEpoch,
    /// If this node is the stream's source.
    pub source: Option<SourceSpec>,
    /// If this node is one of its destinations.
    pub destination: Option<DestinationSpec>,
}

/// What a source needs to know.
#[derive(Clone, Debug)]
pub struct SourceSpec {
    /// Where the messages go; this node itself may be among them.
    pub destinations: Vec<NodeId>,
    /// The stream was made in this life: it begins at offset 0. Otherwise the destinations are
    /// asked where to go on.
    pub fresh: bool,
    /// The stream was closed by its application.
    pub closing: bool,
    /// Its records take all bulk lanes of each link on their way.
    pub striped: bool,
    /// Of its records.
    pub class: TrafficClass,
}

/// What a destination needs to know.
#[derive(Clone, Debug)]
pub struct DestinationSpec {
    /// The stream's source node.
    pub source: NodeId,
    /// Consumers that are kept, with the first offset that each has not confirmed.
    pub consumers: Vec<(String, StreamOffset)>,
    /// The stream was opened in an earlier life of this node.
    pub restored: bool,
}

/// From the control thread to a shard.
///
/// Ring full: the control thread keeps the message in its own queue and tries again when the shard
/// rings; lanes and streams then come up later, nothing is lost.
#[derive(Debug)]
pub enum ControlToShard<C> {
    /// The shard owns this lane from now on.
    LaneArrived {
        /// What the shard calls the connection from now on.
        serial: LaneSerial,
        /// The lane.
        handover: Box<LaneHandover<C>>,
    },
    /// Close the connection, if it is still there.
    CloseLane {
        /// The neighbour.
        peer: NodeId,
        /// The lane.
        lane: LaneId,
        /// The connection.
        serial: LaneSerial,
        /// Said to the peer.
        reason: CloseReason,
    },
    /// An operator wants the link's lanes used so from now on: proposed to the neighbour. Answered with
    /// [`ShardToControl::LinkMode`] once it is in force. The mode in force takes back a proposal that
    /// was not agreed to.
    ProposeMode {
        /// The neighbour.
        peer: NodeId,
        /// One lane for all traffic, or one per class.
        mode: LinkMode,
    },
    /// The bulk lanes of the link follow this rule from now on, and those of a later link to the
    /// neighbour.
    SetLaneRule {
        /// The neighbour.
        peer: NodeId,
        /// None: as it is configured.
        rule: Option<LaneRule>,
    },
    /// Send to the neighbour's control thread.
    LinkControl {
        /// The neighbour.
        peer: NodeId,
        /// Opaque here.
        body: Bytes,
    },
    /// Send to the control thread of any node, over the routed path. Best effort.
    Datagram {
        /// The node.
        to: NodeId,
        /// Opaque here.
        body: Bytes,
    },
    /// Host this stream, or take its changed specification.
    OpenStream(Box<StreamSpec>),
    /// A destination of a stream that begins here has confirmed that its shard hosts it: what it is to
    /// know first is said again now. An earlier word came before the stream was announced there.
    StreamHostedAt {
        /// The stream.
        stream: StreamId,
        /// The destination.
        node: NodeId,
    },
    /// The application closed the stream at its source: take no more, deliver what there is.
    CloseStream(StreamId),
    /// Forget the stream in both roles, with whatever it still holds. Its calls end. Follows
    /// [`ShardToControl::StreamEnded`] once no other node asks about the stream any more, or a
    /// stream that was taken back, or a mesh that was left.
    DropStream(StreamId),
    /// Answer with [`ShardToControl::Report`].
    Report,
    /// Answer with [`ShardToControl::MessageReport`].
    ExplainMessage {
        /// Repeated in the answer.
        ticket: u64,
        /// The stream.
        stream: StreamId,
        /// The message.
        offset: StreamOffset,
    },
    /// Close every lane and end the thread. A control thread that is gone means the same.
    Shutdown,
}

/// From a shard to the control thread.
///
/// Ring full: the shard keeps the message and tries again on a later turn. Link control frames and
/// datagrams are dropped instead when the neighbour that brought them has too many on their way, by
/// number or by bytes: their protocols repeat them. Their bodies count for as long as anybody holds
/// them. Of events of one neighbour's link more than a rate are counted, and the count is an event.
#[derive(Debug)]
pub enum ShardToControl {
    /// The lane carries frames now.
    LaneUp {
        /// The neighbour.
        peer: NodeId,
        /// The lane.
        lane: LaneId,
        /// The connection.
        serial: LaneSerial,
    },
    /// The lane is gone.
    LaneDown {
        /// The neighbour.
        peer: NodeId,
        /// The lane.
        lane: LaneId,
        /// The connection.
        serial: LaneSerial,
        /// For people.
        reason: Box<str>,
        /// Why the peer has closed it, if it said so.
        told: Option<CloseReason>,
        /// Why this node has closed it, if it did.
        closed: Option<CloseReason>,
    },
    /// A lane of the link is missing and should be dialled. Said once for each lane that is lost or
    /// newly wanted; a lane that was closed on purpose is not asked for.
    WantLane {
        /// The neighbour.
        peer: NodeId,
        /// The lane.
        lane: LaneId,
        /// Its class.
        class: TrafficClass,
    },
    /// How the link's lanes are used from here on: as its ends agreed, or separately again because
    /// its session ended. Lanes that the mode does not need are not dialled.
    LinkMode {
        /// The neighbour.
        peer: NodeId,
        /// One lane for all traffic, or one per class.
        mode: LinkMode,
    },
    /// Something happened on a link that its operator may want to know.
    LinkEvent(Box<LinkEventReport>),
    /// From the neighbour's control thread.
    LinkControl {
        /// The neighbour.
        from: NodeId,
        /// Opaque here.
        body: Bytes,
    },
    /// From another node's control thread.
    Datagram {
        /// The node, as its route header says.
        from: NodeId,
        /// The neighbour that brought it: that is known.
        via: NodeId,
        /// Opaque here.
        body: Bytes,
    },
    /// A destination answered that it does not know the stream: announce it again.
    StreamUnknownAt {
        /// The stream.
        stream: StreamId,
        /// The destination.
        node: NodeId,
    },
    /// One end of a stream that is hosted here broke its rules. Once for each life of that end, and once
    /// a second for a stream at most.
    StreamRefused(Box<StreamRefusedReport>),
    /// The stream was closed and everything is consumed. The shard goes on answering for it until
    /// it is told to forget it with [`ControlToShard::DropStream`].
    StreamEnded {
        /// The stream.
        stream: StreamId,
        /// Behind its last message.
        end: StreamOffset,
    },
    /// A consumer confirmed; to be kept durably. Coalesced by the receiver.
    Committed {
        /// The stream.
        stream: StreamId,
        /// The consumer.
        consumer: Box<str>,
        /// First offset that it has not confirmed.
        next: StreamOffset,
    },
    /// The answer to [`ControlToShard::Report`].
    Report(Box<ShardReport>),
    /// The answer to [`ControlToShard::ExplainMessage`].
    MessageReport(Box<MessageReport>),
    /// Every lane is closed; the last message.
    Stopped,
}

impl ShardToControl {
    /// The neighbour whose link this is about, or that brought it. What one neighbour's link has to say
    /// is to be handled in its order.
    #[must_use]
    pub fn neighbour(&self) -> Option<NodeId> {
        match self {
            Self::LaneUp { peer, .. }
            | Self::LaneDown { peer, .. }
            | Self::WantLane { peer, .. }
            | Self::LinkMode { peer, .. }
            | Self::LinkControl { from: peer, .. }
            | Self::Datagram { via: peer, .. } => Some(*peer),
            Self::LinkEvent(report) => Some(report.peer),
            Self::StreamUnknownAt { .. }
            | Self::StreamRefused(_)
            | Self::StreamEnded { .. }
            | Self::Committed { .. }
            | Self::Report(_)
            | Self::MessageReport(_)
            | Self::Stopped => None,
        }
    }
}

const _: () = assert!(size_of::<ControlToShard<()>>() <= 64);
const _: () = assert!(size_of::<ShardToControl>() <= 72);
