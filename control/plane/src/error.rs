use hawser_identity::IdentityError;
use hawser_store::StoreError;
use hawser_wire::{CloseReason, LinkMode, NodeId, StreamId};
use thiserror::Error;

/// Why the control plane cannot do what it was asked. Unless a variant says otherwise nothing was
/// changed, and the same call may be made again.
#[derive(Debug, Error)]
pub enum PlaneError {
    /// The caller needs a mesh first.
    #[error(
        "this node is in no mesh: seed one (`hawser mesh seed`) or join one (`hawser mesh join`)"
    )]
    NoMesh,
    /// A node is in one mesh at a time.
    #[error("this node is in the mesh {name:?} already: leave it first (`hawser mesh leave`)")]
    AlreadyInMesh {
        /// The mesh it is in.
        name: String,
    },
    /// The mesh was stopped at this node by an operator.
    #[error("the mesh is stopped at this node: start it first (`hawser mesh start`)")]
    MeshStopped,
    /// This node has said farewell to the mesh.
    #[error("this node is leaving the mesh")]
    Leaving,
    /// Only the node that holds the certificate authority can do this.
    #[error(
        "this node does not hold the certificate authority of mesh {mesh:?}: ask the node that \
         seeded it"
    )]
    NoAuthority {
        /// The mesh.
        mesh: String,
    },
    /// The mesh has evicted this node.
    #[error(
        "this node was evicted from the mesh {mesh:?}: leave it (`hawser mesh leave`); with this \
         key it cannot come back"
    )]
    Evicted {
        /// The mesh.
        mesh: String,
    },
    /// This node cannot be evicted.
    #[error("{node:?} cannot be evicted: {why}")]
    EvictionRefused {
        /// As the caller wrote it.
        node: String,
        /// Why not.
        why: &'static str,
    },
    /// Neither a node's name nor its id.
    #[error("no node {name:?} is known in this mesh{}", did_you_mean(nearest.as_deref()))]
    UnknownNode {
        /// As the caller wrote it.
        name: String,
        /// The most similar name that exists.
        nearest: Option<String>,
    },
    /// Several nodes have this name.
    #[error("the name {name:?} is shared by the nodes {}: use an id", list(candidates))]
    AmbiguousName {
        /// As the caller wrote it.
        name: String,
        /// Who has it.
        candidates: Vec<NodeId>,
    },
    /// Neither a stream's name nor its id at this node.
    #[error("no stream {stream:?} is known at this node{}", did_you_mean(nearest.as_deref()))]
    UnknownStream {
        /// As the caller wrote it.
        stream: String,
        /// The most similar name that exists.
        nearest: Option<String>,
    },
    /// Several streams have this name.
    #[error("the name {name:?} is shared by the streams {}: use an id", list(candidates))]
    AmbiguousStream {
        /// As the caller wrote it.
        name: String,
        /// Who has it.
        candidates: Vec<StreamId>,
    },
    /// A stream of this name and tenant exists and is another one.
    #[error("the stream {name:?} exists already with other {what}: close it or take another name")]
    StreamDiffers {
        /// The name.
        name: String,
        /// What differs.
        what: &'static str,
    },
    /// The stream was closed and still delivers what it holds.
    #[error(
        "the stream {name:?} is closed and still delivers what it holds; its name is free after that"
    )]
    StreamClosing {
        /// The name.
        name: String,
    },
    /// Only a stream's source can do this.
    #[error("the stream {stream} begins at another node, {source_node}: ask that one")]
    NotSource {
        /// The stream.
        stream: StreamId,
        /// Where it begins.
        source_node: NodeId,
    },
    /// Nothing with that sequence was published yet.
    #[error("the stream {stream} has no message {seq} yet: {}", last_published(*last_seq))]
    NoMessage {
        /// The stream.
        stream: StreamId,
        /// As the caller wrote it.
        seq: u64,
        /// The last one; 0 before the first.
        last_seq: u64,
    },
    /// The message was sent longer ago than is remembered.
    #[error("which way message {seq} of the stream {stream} went is forgotten; {}", remembered(*known_from))]
    MessageForgotten {
        /// The stream.
        stream: StreamId,
        /// As the caller wrote it.
        seq: u64,
        /// The first one of which more is known.
        known_from: Option<u64>,
    },
    /// A node steers its own traffic alone.
    #[error("this node steers what it sends itself: what {node} sends is steered there")]
    RouteOfOther {
        /// Where the path was to begin.
        node: String,
    },
    /// There is an operator's path to that node already.
    #[error("a route to {to} is set already, {path}: drop it first (`hawser route drop {to}`)")]
    RouteExists {
        /// Where it leads.
        to: String,
        /// What it is.
        path: String,
    },
    /// No operator has set a path to that node.
    #[error("no route to {to} is set at this node{}", those_set(others))]
    NoRoute {
        /// As the caller wrote it.
        to: String,
        /// Where those lead that are set.
        others: Vec<String>,
    },
    /// A path takes a link that is not there.
    #[error(
        "there is no link {from} - {to} now; {from} has links to {}",
        if neighbours.is_empty() { "none".to_owned() } else { neighbours.join(", ") }
    )]
    NoLink {
        /// Where it would begin.
        from: String,
        /// Where it would end.
        to: String,
        /// The nodes that there is a link to from there.
        neighbours: Vec<String>,
    },
    /// Only a link's ends can cut it.
    #[error("the link {a} - {b} can be cut at its ends alone: ask {a} or {b}")]
    NotLinkEnd {
        /// One end.
        a: String,
        /// The other.
        b: String,
    },
    /// The link is not cut.
    #[error("the link {a} - {b} is not cut: {why}")]
    DrillRefused {
        /// One end.
        a: String,
        /// The other.
        b: String,
        /// Why.
        why: String,
    },
    /// The link's lanes are used like that already.
    #[error("the link to {peer} has {} already", lanes_of(*mode))]
    LinkModeSame {
        /// The neighbour.
        peer: String,
        /// As the caller wants them.
        mode: LinkMode,
    },
    /// Another change of the link is under way.
    #[error("a change of the link to {peer} is under way: wait until it is answered")]
    LinkModeBusy {
        /// The neighbour.
        peer: String,
    },
    /// The far end of a link has not answered a change, which is taken back.
    #[error("the link to {peer} stays as it is: {why}")]
    LinkModeNotAgreed {
        /// The neighbour.
        peer: String,
        /// What has happened instead.
        why: &'static str,
    },
    /// A name or a number that breaks its rule.
    #[error("{what} {value:?} is not allowed: {rule}")]
    NameInvalid {
        /// What was named.
        what: &'static str,
        /// As the caller wrote it.
        value: String,
        /// The rule.
        rule: &'static str,
    },
    /// The text is no join token, or it is expired or for another node.
    #[error("the join token cannot be used: {detail}")]
    TokenInvalid {
        /// What is wrong with it.
        detail: String,
    },
    /// This node has no address that a joining node could dial.
    #[error("no address for joining nodes: name one, or configure `listen` or `advertise`")]
    NoAddress,
    /// Lanes cannot be accepted.
    #[error(
        "cannot accept lanes at {address}: {detail}; free the port or configure another `listen`"
    )]
    Listen {
        /// As configured.
        address: String,
        /// What the system said.
        detail: String,
    },
    /// The data directory belongs to a node with another name, which its certificate carries.
    #[error(
        "the data directory belongs to node {stored:?} in mesh {mesh:?}, the configuration says \
         {configured:?}: correct the name, or take another data directory"
    )]
    NameFixed {
        /// In the data directory.
        stored: String,
        /// In the configuration.
        configured: String,
        /// The mesh.
        mesh: String,
    },
    /// The other node refused.
    #[error("refused by {address}: {}: {detail}", reason.text())]
    Refused {
        /// Who.
        address: String,
        /// Why.
        reason: CloseReason,
        /// In its words.
        detail: String,
    },
    /// The other node could not be reached, or broke off.
    #[error("cannot reach {address}: {detail}")]
    Unreachable {
        /// Who.
        address: String,
        /// What happened.
        detail: String,
    },
    /// Not in this version.
    #[error("{what} is not supported yet")]
    Unsupported {
        /// What.
        what: &'static str,
    },
    /// As many as there may be.
    #[error("this node has {max} {what} already, which is the most it takes")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// The bound.
        max: usize,
    },
    /// The store failed. What was to be written may or may not be there.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A key or a certificate is not what it should be.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The system has no thread left.
    #[error("cannot start the thread that computes paths: {0}")]
    Thread(#[source] std::io::Error),
    /// The node stops.
    #[error("the node is stopping")]
    Stopping,
}

fn did_you_mean(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |name| format!("; did you mean {name:?}?"))
}

const fn lanes_of(mode: LinkMode) -> &'static str {
    match mode {
        LinkMode::Separate => "separate lanes",
        LinkMode::Collapsed => "one lane for all traffic",
    }
}

fn last_published(last_seq: u64) -> String {
    match last_seq {
        0 => "nothing was published on it".to_owned(),
        last_seq => format!("the last one is {last_seq}"),
    }
}

fn remembered(known_from: Option<u64>) -> String {
    known_from.map_or_else(
        || "nothing of the stream is remembered".to_owned(),
        |seq| format!("remembered are those from {seq} on"),
    )
}

fn those_set(others: &[String]) -> String {
    if others.is_empty() {
        String::new()
    } else {
        format!("; routes lead to {}", others.join(", "))
    }
}

fn list<T: std::fmt::Display>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
