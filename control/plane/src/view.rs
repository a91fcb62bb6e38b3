//! What the control plane shows of itself: plain values, copied out, for the API to convert.

use std::net::SocketAddr;
use std::time::Duration;

use hawser_membership::Liveness;
use hawser_routing::AdjacencyMetrics;
use hawser_store::StreamState;
use hawser_wire::{
    AdjacencyIndex, Incarnation, LaneId, LinkEpoch, LinkMode, MeshId, NodeId, ShardId, StreamId,
    TrafficClass,
};
use tokio::sync::broadcast;

/// What this node does in a mesh.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum MeshState {
    /// In no mesh.
    None,
    /// Dials, accepts, forwards.
    Running,
    /// Still a member, but an operator stopped it.
    Stopped,
    /// The mesh has evicted this node.
    Evicted,
}

impl MeshState {
    /// Lower-case word for people and for the API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Running => "running",
            Self::Stopped => "stopped",
            Self::Evicted => "evicted",
        }
    }
}

/// The mesh that this node is in.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MeshView {
    /// Its id.
    pub mesh: MeshId,
    /// Its human name.
    pub name: String,
    /// As given when it was seeded; empty at nodes that joined.
    pub description: String,
    /// This node holds the certificate authority.
    pub authority: bool,
}

/// A node that the mesh has evicted.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct EvictionView {
    /// Who is out, with the name that it had.
    pub node: NodeRef,
    /// Who has decided it.
    pub by: NodeRef,
    /// When, in Unix seconds.
    pub evicted_unix_s: u64,
    /// Why, for people.
    pub reason: String,
}

/// The whole state at a glance.
#[derive(Clone, Debug)]
pub struct StatusView {
    /// This node.
    pub node: NodeId,
    /// Its human name.
    pub node_name: String,
    /// Its life.
    pub incarnation: Incarnation,
    /// Running, stopped or none.
    pub state: MeshState,
    /// The mesh, if it is in one.
    pub mesh: Option<MeshView>,
    /// Where lanes are accepted now, if they are.
    pub listening: Option<SocketAddr>,
    /// Every node in the link-state database, this one included; in the order of their ids.
    pub nodes: Vec<NodeView>,
    /// Every link in the link-state database, seen from its smaller id; this node's own links
    /// carry counters.
    pub links: Vec<LinkView>,
    /// Generation of the route snapshot in force.
    pub route_generation: u64,
    /// Digest of the link-state database; equal at all nodes once it has settled.
    pub lsdb_digest: u64,
    /// Link-state advertisements held, for a while also those of nodes that have left.
    pub lsdb_size: usize,
    /// How often link state or lanes of neighbours were rejected, or what they have sent or brought for the
    /// control thread was dropped, by reason, in the order of the reasons.
    pub link_state_rejects: Vec<(&'static str, u64)>,
    /// The same of what members say about who is alive.
    pub membership_rejects: Vec<(&'static str, u64)>,
    /// How often streams were refused because one of their ends broke the rules, by reason.
    pub stream_rejects: Vec<(&'static str, u64)>,
    /// How often what other nodes' control planes say of streams here and there was refused, by reason, or
    /// was refused there.
    pub datagram_rejects: Vec<(&'static str, u64)>,
    /// Links that one end says it has and the other one does not; they count for no path.
    pub one_sided_links: usize,
    /// Nodes that the mesh has evicted, in the order of their ids; this one among them if it is out.
    pub evictions: Vec<EvictionView>,
    /// What a neighbour said that refused this node as evicted, if this node itself has not heard of
    /// its eviction otherwise.
    pub refused_as_evicted: Option<String>,
    /// Of this program.
    pub version: String,
    /// "io_uring" or "epoll".
    pub io_driver: String,
    /// Shard threads.
    pub shards: u16,
}

/// One node of the mesh.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NodeView {
    /// Its id.
    pub node: NodeId,
    /// Its human name.
    pub name: String,
    /// It is this node, or there is a path to it.
    pub reachable: bool,
    /// Whether it answers probes; `None` while this node takes no part in the mesh.
    pub liveness: Option<Liveness>,
    /// Its life, as it last said.
    pub incarnation: Incarnation,
    /// Links on the path; 0 for this node and for one without a path.
    pub hops: u32,
    /// Lane address that can be dialled; empty if it accepts none.
    pub address: String,
    /// It is no transit at present: its operator has drained it.
    pub drained: bool,
    /// It is never transit.
    pub stub: bool,
}

/// A node as others name it.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct NodeRef {
    /// Its id.
    pub node: NodeId,
    /// Its human name; empty if it is not known.
    pub name: String,
}

/// One link between two nodes.
#[derive(Clone, Debug)]
pub struct LinkView {
    /// One end; this node in [`crate::PlaneHandle::links`].
    pub a: NodeRef,
    /// The other.
    pub b: NodeRef,
    /// At least one lane is up; for other nodes' links: both ends say so.
    pub up: bool,
    /// How the ends use the link's lanes; `None` while it is down, and for other nodes' links.
    pub mode: Option<LinkMode>,
    /// Lanes that are up; 0 for other nodes' links, whose lanes are not known here.
    pub lanes: u32,
    /// Smoothed round trip; zero if it is not known yet.
    pub rtt: Duration,
    /// Bytes of frames sent by this node, ever.
    pub sent_bytes: u64,
    /// Bytes of frames received.
    pub received_bytes: u64,
    /// Bytes that wait to be sent.
    pub queued_bytes: u64,
    /// Frames dropped because the queue was full.
    pub dropped_frames: u64,
    /// What `b` has sent or brought for this node's control thread, and was dropped as that had too much
    /// of it waiting; in frames.
    pub control_dropped_frames: u64,
    /// What `b` is called in route headers at `a`.
    pub adjacency_index: Option<AdjacencyIndex>,
    /// The other end's link-state database was this node's when they compared last; `None` if they
    /// have not yet, and for other nodes' links.
    pub digest_agrees: Option<bool>,
    /// What `a` tells the mesh about the way to `b`.
    pub metrics: AdjacencyMetrics,
}

/// One lane of this node.
#[derive(Clone, Debug)]
pub struct LaneView {
    /// The neighbour.
    pub peer: NodeRef,
    /// The lane.
    pub lane: LaneId,
    /// Its class.
    pub class: TrafficClass,
    /// Which connection.
    pub epoch: LinkEpoch,
    /// This node dialled it.
    pub dialled: bool,
    /// The peer's address.
    pub remote: SocketAddr,
    /// Who owns it.
    pub shard: ShardId,
    /// Bytes of frames sent.
    pub sent_bytes: u64,
    /// Bytes of frames received.
    pub received_bytes: u64,
    /// Frames sent.
    pub sent_frames: u64,
    /// Frames received.
    pub received_frames: u64,
    /// Smoothed round trip; zero if it is not known yet.
    pub rtt: Duration,
}

/// What this node does for a stream.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum StreamRole {
    /// Applications publish here.
    Source,
    /// Applications subscribe here.
    Destination,
}

impl StreamRole {
    /// Lower-case word for people and for the API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Destination => "destination",
        }
    }
}

/// One stream as the catalogue has it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StreamView {
    /// Its id.
    pub stream: StreamId,
    /// Its tenant's name.
    pub tenant: String,
    /// Its human name.
    pub name: String,
    /// Where it begins.
    pub source: NodeId,
    /// Where it ends.
    pub destinations: Vec<NodeId>,
    /// Quality of service, as the API numbers it.
    pub qos: u8,
    /// It begins at this node.
    pub is_source: bool,
    /// It ends at this node.
    pub is_destination: bool,
    /// Open, closing, closed.
    pub state: StreamState,
}

/// One role of one stream, with its progress.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StreamStatusView {
    /// Its id.
    pub stream: StreamId,
    /// Its tenant's name.
    pub tenant: String,
    /// Its human name.
    pub name: String,
    /// Where it begins.
    pub source: NodeRef,
    /// Where it ends.
    pub destinations: Vec<NodeRef>,
    /// Quality of service, as the API numbers it.
    pub qos: u8,
    /// Its records take all bulk lanes of a link.
    pub striped: bool,
    /// Of its records.
    pub class: TrafficClass,
    /// Open, closing, closed.
    pub state: StreamState,
    /// Which role the figures below are about. A stream from this node to itself has two rows.
    pub role: StreamRole,
    /// Messages so far, which is the last one's sequence, counted from 1. Source: published.
    /// Destination: received without a gap.
    pub last_seq: u64,
    /// Source: every destination has them. Destination: every consumer has them.
    pub acked_seq: u64,
    /// Payload bytes held in memory.
    pub buffered_bytes: u64,
    /// Source: destinations that have not confirmed the stream yet.
    pub pending: Vec<NodeId>,
}

/// What an application wants to open.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OpenStream {
    /// Tenant; empty means "default".
    pub tenant: String,
    /// Human name, unique per tenant and source.
    pub name: String,
    /// Names or ids of nodes; at least one.
    pub destinations: Vec<String>,
    /// Quality of service, as the API numbers it: 0 local.
    pub qos: u8,
    /// Its records take all bulk lanes of each link on their way, in place of one.
    pub striped: bool,
    /// Of its records: priority, which is not striped, or bulk.
    pub class: TrafficClass,
}

/// The answer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OpenedStream {
    /// Its id.
    pub stream: StreamId,
    /// Destinations that have not confirmed it yet; they are told when they can be reached.
    pub pending: Vec<NodeId>,
}

/// What happened, for whoever watches.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum EventKind {
    /// A node appeared in the link-state database.
    NodeJoined,
    /// A node left it.
    NodeLeft,
    /// The mesh has evicted a node, perhaps this one.
    NodeEvicted,
    /// A node does not answer probes, as some say; it has time to contradict.
    NodeSuspected,
    /// It did not contradict in time.
    NodeFailed,
    /// A node that was suspected or had failed answers, or it has begun another life.
    NodeAlive,
    /// The first lane of a link is up.
    LinkUp,
    /// The last lane of a link is gone.
    LinkDown,
    /// A lane is up.
    LaneUp,
    /// A lane is gone.
    LaneDown,
    /// A new route snapshot is in force, with other paths; not if only their costs or shares moved.
    RoutesChanged,
    /// A stream was opened, here or towards here.
    StreamOpened,
    /// A stream was closed.
    StreamClosed,
    /// One end of a stream broke its rules, and the other one has nothing more of it.
    StreamRefused,
    /// Something happened on a link, with what led to it.
    LinkEvent,
    /// Somebody or something was refused.
    Refused,
}

impl EventKind {
    /// Every kind.
    pub const ALL: [Self; 16] = [
        Self::NodeJoined,
        Self::NodeLeft,
        Self::NodeEvicted,
        Self::NodeSuspected,
        Self::NodeFailed,
        Self::NodeAlive,
        Self::LinkUp,
        Self::LinkDown,
        Self::LaneUp,
        Self::LaneDown,
        Self::RoutesChanged,
        Self::StreamOpened,
        Self::StreamClosed,
        Self::StreamRefused,
        Self::LinkEvent,
        Self::Refused,
    ];

    /// Lower-case word for people and for the API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NodeJoined => "node_joined",
            Self::NodeLeft => "node_left",
            Self::NodeEvicted => "node_evicted",
            Self::NodeSuspected => "node_suspected",
            Self::NodeFailed => "node_failed",
            Self::NodeAlive => "node_alive",
            Self::LinkUp => "link_up",
            Self::LinkDown => "link_down",
            Self::LaneUp => "lane_up",
            Self::LaneDown => "lane_down",
            Self::RoutesChanged => "routes_changed",
            Self::StreamOpened => "stream_opened",
            Self::StreamClosed => "stream_closed",
            Self::StreamRefused => "stream_refused",
            Self::LinkEvent => "link_event",
            Self::Refused => "refused",
        }
    }
}

/// One event.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct EventView {
    /// Counts from 1 since this node started; a gap means that the watcher was too slow.
    pub seq: u64,
    /// What happened.
    pub kind: EventKind,
    /// To whom, where there is one.
    pub node: Option<NodeId>,
    /// For people.
    pub detail: String,
    /// Wall clock, microseconds since 1970.
    pub unix_us: u64,
}

/// Something that happened on a link, with what led to it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LaneEventView {
    /// Counts from 1 since this node started; a gap means that events were too many to be kept.
    pub seq: u64,
    /// The neighbour, or the node that was to become one.
    pub peer: NodeRef,
    /// What happened, as one word in kebab case.
    pub name: &'static str,
    /// The inputs by name: numbers with their unit in the name, or words; printable.
    pub inputs: Vec<(&'static str, String)>,
    /// Wall clock, microseconds since 1970.
    pub unix_us: u64,
}

/// Events of links: past ones, and all that follow them without a gap.
#[derive(Debug)]
pub struct LaneEventsView {
    /// The latest ones, the oldest first; of the wanted peer alone.
    pub kept: Vec<LaneEventView>,
    /// Whatever happens from then on, of any peer. A watcher that lags more than 1,024 events behind
    /// loses the oldest.
    pub live: broadcast::Receiver<LaneEventView>,
    /// The wanted peer; `None`: all.
    pub peer: Option<NodeId>,
}
