use std::sync::Arc;
use std::time::Duration;

use hawser_wire::{LinkMode, NodeId, StreamId};
use rustls::ServerConfig;
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use crate::routes::RoutesView;
use crate::{
    DrillView, EventView, LaneEventsView, LaneRuleChange, LaneRuleView, LaneView, LinkView,
    MessageView, NodeRef, OpenStream, OpenedStream, PlaneError, StatusView, StreamStatusView,
    StreamView,
};

/// Where a command's answer goes.
pub(crate) type Answer<T> = oneshot::Sender<Result<T, PlaneError>>;

/// What a [`PlaneHandle`] asks of the control thread.
#[derive(Debug)]
pub(crate) enum Command {
    SeedMesh {
        name: String,
        description: String,
        answer: Answer<()>,
    },
    JoinMesh {
        token: String,
        address: Option<String>,
        answer: Answer<()>,
    },
    StartMesh {
        answer: Answer<()>,
    },
    StopMesh {
        answer: Answer<()>,
    },
    LeaveMesh {
        answer: Answer<()>,
    },
    Drain {
        drained: bool,
        answer: Answer<()>,
    },
    Evict {
        node: String,
        reason: String,
        answer: Answer<()>,
    },
    IssueToken {
        ttl: Duration,
        node: Option<NodeId>,
        address: Option<String>,
        answer: Answer<(String, u64)>,
    },
    Status {
        answer: Answer<StatusView>,
    },
    Links {
        answer: Answer<Vec<LinkView>>,
    },
    Lanes {
        answer: Answer<Vec<LaneView>>,
    },
    LaneEvents {
        peer: Option<String>,
        answer: Answer<LaneEventsView>,
    },
    Streams {
        answer: Answer<Vec<StreamStatusView>>,
    },
    Routes {
        named: Vec<String>,
        answer: Answer<RoutesView>,
    },
    ExplainMessage {
        stream: String,
        seq: u64,
        answer: Answer<MessageView>,
    },
    AddRoute {
        from: Option<String>,
        to: String,
        via: Vec<String>,
        answer: Answer<u64>,
    },
    DropRoute {
        from: Option<String>,
        to: String,
        answer: Answer<u64>,
    },
    Drill {
        ends: [String; 2],
        cut_for: Duration,
        force: bool,
        answer: Answer<DrillView>,
    },
    SetLinkMode {
        peer: String,
        mode: LinkMode,
        answer: Answer<NodeRef>,
    },
    SetLaneRule {
        peer: String,
        change: LaneRuleChange,
        answer: Answer<LaneRuleView>,
    },
    OpenStream {
        request: OpenStream,
        answer: Answer<OpenedStream>,
    },
    CloseStream {
        stream: StreamId,
        answer: Answer<()>,
    },
    ResolveStream {
        stream: String,
        answer: Answer<StreamView>,
    },
}

/// How other threads speak with the control plane. Cheap to clone.
///
/// Every call waits for the control thread's answer; one whose future is dropped is carried out
/// all the same. All of them answer [`PlaneError::Stopping`] once the plane is gone.
#[derive(Clone, Debug)]
pub struct PlaneHandle {
    node: NodeId,
    name: Arc<str>,
    commands: mpsc::Sender<Command>,
    events: broadcast::Sender<EventView>,
    credentials: watch::Receiver<Option<Arc<ServerConfig>>>,
}

impl PlaneHandle {
    pub(crate) const fn new(
        node: NodeId,
        name: Arc<str>,
        commands: mpsc::Sender<Command>,
        events: broadcast::Sender<EventView>,
        credentials: watch::Receiver<Option<Arc<ServerConfig>>>,
    ) -> Self {
        Self { node, name, commands, events, credentials }
    }

    /// This node.
    #[must_use]
    pub const fn node(&self) -> NodeId {
        self.node
    }

    /// Its human name.
    #[must_use]
    pub fn node_name(&self) -> &str {
        &self.name
    }

    async fn ask<T>(&self, command: impl FnOnce(Answer<T>) -> Command) -> Result<T, PlaneError> {
        let (answer, reply) = oneshot::channel();
        self.commands.send(command(answer)).await.map_err(|_closed| PlaneError::Stopping)?;
        reply.await.map_err(|_dropped| PlaneError::Stopping)?
    }

    /// Makes this node the first of a new mesh and the holder of its certificate authority. When
    /// it answers, lanes are accepted if `listen` is configured.
    ///
    /// # Errors
    /// [`PlaneError::AlreadyInMesh`], [`PlaneError::NameInvalid`] (1 to 63 characters of
    /// `[a-z0-9-]`), [`PlaneError::Listen`], [`PlaneError::Store`].
    pub async fn seed_mesh(
        &self,
        name: impl Into<String>,
        description: impl Into<String>,
    ) -> Result<(), PlaneError> {
        let (name, description) = (name.into(), description.into());
        self.ask(|answer| Command::SeedMesh { name, description, answer }).await
    }

    /// Joins the mesh that `token` names, by way of `address` (host:port) or else the token's own,
    /// and keeps dialling that address from then on.
    ///
    /// Answers when the neighbour's link-state database has been taken over: the nodes of the mesh
    /// are known and can be named. If that takes more than 5 s this node has joined all the same,
    /// and its status shows nothing that can be reached yet.
    ///
    /// # Errors
    /// [`PlaneError::AlreadyInMesh`], [`PlaneError::TokenInvalid`], [`PlaneError::Refused`],
    /// [`PlaneError::Unreachable`], [`PlaneError::Store`]. A token that was granted but whose
    /// answer was lost is used up.
    pub async fn join_mesh(
        &self,
        token: impl Into<String>,
        address: Option<String>,
    ) -> Result<(), PlaneError> {
        let token = token.into();
        self.ask(|answer| Command::JoinMesh { token, address, answer }).await
    }

    /// Takes part again after [`Self::stop_mesh`]; nothing happens if it does already.
    ///
    /// # Errors
    /// [`PlaneError::NoMesh`], [`PlaneError::Listen`], [`PlaneError::Store`].
    pub async fn start_mesh(&self) -> Result<(), PlaneError> {
        self.ask(|answer| Command::StartMesh { answer }).await
    }

    /// Closes every lane and neither dials nor accepts until [`Self::start_mesh`], restarts of the
    /// process included. Membership and streams are kept.
    ///
    /// # Errors
    /// [`PlaneError::NoMesh`], [`PlaneError::Store`].
    pub async fn stop_mesh(&self) -> Result<(), PlaneError> {
        self.ask(|answer| Command::StopMesh { answer }).await
    }

    /// Closes every lane and forgets certificate, members, tokens, peers and streams.
    ///
    /// # Errors
    /// [`PlaneError::NoMesh`], [`PlaneError::Store`].
    pub async fn leave_mesh(&self) -> Result<(), PlaneError> {
        self.ask(|answer| Command::LeaveMesh { answer }).await
    }

    /// Takes this node out of transit, or lets it carry other nodes' traffic again: paths through it
    /// move elsewhere where there is another way. It holds over restarts until it is undone, in
    /// whatever mesh. What begins or ends here is not affected.
    ///
    /// # Errors
    /// [`PlaneError::Store`]; nothing changed.
    pub async fn drain(&self, drained: bool) -> Result<(), PlaneError> {
        self.ask(|answer| Command::Drain { drained, answer }).await
    }

    /// Evicts a node from the mesh, for good: every node closes its lanes to it and lets none come up
    /// again. `node` is its name or id; `reason`, at most 255 bytes, is told to all. Nothing happens
    /// if it is out already; a name that has become free is that of its new node.
    ///
    /// # Errors
    /// [`PlaneError::NoMesh`], also if the mesh is left meanwhile; [`PlaneError::NoAuthority`], [`PlaneError::UnknownNode`],
    /// [`PlaneError::AmbiguousName`], [`PlaneError::EvictionRefused`] for the node that holds the
    /// authority, [`PlaneError::NameInvalid`] for a long reason, [`PlaneError::Store`]: it may be
    /// evicted then.
    pub async fn evict(&self, node: String, reason: String) -> Result<(), PlaneError> {
        self.ask(|answer| Command::Evict { node, reason, answer }).await
    }

    /// A single-use token for one node to join with, and when it expires (Unix time in seconds).
    ///
    /// `ttl` zero means one hour. `node` binds the token to that node's key. `address` (host:port)
    /// is what the joining node dials; by default what this node advertises.
    ///
    /// # Errors
    /// [`PlaneError::NoMesh`], [`PlaneError::NoAuthority`], [`PlaneError::NoAddress`],
    /// [`PlaneError::Store`].
    pub async fn issue_token(
        &self,
        ttl: Duration,
        node: Option<NodeId>,
        address: Option<String>,
    ) -> Result<(String, u64), PlaneError> {
        self.ask(|answer| Command::IssueToken { ttl, node, address, answer }).await
    }

    /// The whole state at a glance.
    ///
    /// # Errors
    /// [`PlaneError::Stopping`].
    pub async fn status(&self) -> Result<StatusView, PlaneError> {
        self.ask(|answer| Command::Status { answer }).await
    }

    /// This node's links, those included that are down but have been up in this life; in the
    /// order of their peers' ids.
    ///
    /// # Errors
    /// [`PlaneError::Stopping`].
    pub async fn links(&self) -> Result<Vec<LinkView>, PlaneError> {
        self.ask(|answer| Command::Links { answer }).await
    }

    /// This node's lanes that are up, in the order of their peers' ids.
    ///
    /// # Errors
    /// [`PlaneError::Stopping`].
    pub async fn lanes(&self) -> Result<Vec<LaneView>, PlaneError> {
        self.ask(|answer| Command::Lanes { answer }).await
    }

    /// What happened on links: the latest 4,096 events, and all that follow. `peer` is the name or
    /// the id of a node; without it events of all links.
    ///
    /// # Errors
    /// [`PlaneError::UnknownNode`], [`PlaneError::AmbiguousName`].
    pub async fn lane_events(&self, peer: Option<String>) -> Result<LaneEventsView, PlaneError> {
        self.ask(|answer| Command::LaneEvents { peer, answer }).await
    }

    /// The streams that begin or end here, in the order of their names.
    ///
    /// # Errors
    /// [`PlaneError::Stopping`].
    pub async fn streams(&self) -> Result<Vec<StreamStatusView>, PlaneError> {
        self.ask(|answer| Command::Streams { answer }).await
    }

    /// The mesh as this node knows it and the paths that it uses. `named` are names or ids of nodes,
    /// which are among the answer.
    ///
    /// # Errors
    /// [`PlaneError::UnknownNode`], [`PlaneError::AmbiguousName`].
    pub async fn routes(&self, named: Vec<String>) -> Result<RoutesView, PlaneError> {
        self.ask(|answer| Command::Routes { named, answer }).await
    }

    /// Which way the message `seq` (from 1) of a stream that begins here went, by id or name. What is
    /// remembered are runs of messages that followed each other on one path within a second: the last
    /// 1,024 of each stream, fewer if many streams have more than 32,768 together; nothing from before a
    /// restart.
    ///
    /// # Errors
    /// [`PlaneError::UnknownStream`], [`PlaneError::AmbiguousStream`], [`PlaneError::NotSource`],
    /// [`PlaneError::NameInvalid`] if `seq` is 0, [`PlaneError::NoMessage`],
    /// [`PlaneError::MessageForgotten`].
    pub async fn explain_message(
        &self,
        stream: String,
        seq: u64,
    ) -> Result<MessageView, PlaneError> {
        self.ask(|answer| Command::ExplainMessage { stream, seq, answer }).await
    }

    /// Sets the path that this node's traffic to `to` takes from now on, over restarts, whenever it
    /// can be taken: over the nodes `via`, in order, or over the link to `to` if there are none between.
    /// Answers with the generation of the routes in force, which the path is part of unless that takes
    /// more than 5 s.
    ///
    /// # Errors
    /// [`PlaneError::NoMesh`], [`PlaneError::MeshStopped`], [`PlaneError::Leaving`],
    /// [`PlaneError::UnknownNode`], [`PlaneError::AmbiguousName`], [`PlaneError::RouteOfOther`] unless
    /// `from` is this node or none, [`PlaneError::NameInvalid`] if it leads to this node or names one
    /// twice, [`PlaneError::NoLink`], [`PlaneError::RouteExists`], [`PlaneError::TooMany`],
    /// [`PlaneError::Store`].
    pub async fn add_route(
        &self,
        from: Option<String>,
        to: String,
        via: Vec<String>,
    ) -> Result<u64, PlaneError> {
        self.ask(|answer| Command::AddRoute { from, to, via, answer }).await
    }

    /// Drops the path that [`Self::add_route`] has set to `to`; answers as it does.
    ///
    /// # Errors
    /// [`PlaneError::NoMesh`], [`PlaneError::UnknownNode`], [`PlaneError::AmbiguousName`],
    /// [`PlaneError::RouteOfOther`], [`PlaneError::NoRoute`], [`PlaneError::Store`].
    pub async fn drop_route(&self, from: Option<String>, to: String) -> Result<u64, PlaneError> {
        self.ask(|answer| Command::DropRoute { from, to, answer }).await
    }

    /// Cuts the link between two nodes, of which this is one, for `cut_for` (60 s at most), measures
    /// what becomes of traffic to the other one, and restores the link, whatever becomes of the call.
    /// Answers some seconds after that. Without `force` only if all that this node sends over the link
    /// has a backup. That is looked at again in the moment of the cut.
    ///
    /// # Errors
    /// [`PlaneError::NoMesh`], [`PlaneError::MeshStopped`] (the link is restored, too, if the mesh is
    /// stopped meanwhile), [`PlaneError::Leaving`], [`PlaneError::UnknownNode`],
    /// [`PlaneError::AmbiguousName`], [`PlaneError::NameInvalid`], [`PlaneError::NotLinkEnd`],
    /// [`PlaneError::NoLink`], [`PlaneError::DrillRefused`].
    pub async fn drill(
        &self,
        ends: [String; 2],
        cut_for: Duration,
        force: bool,
    ) -> Result<DrillView, PlaneError> {
        self.ask(|answer| Command::Drill { ends, cut_for, force, answer }).await
    }

    /// Has the ends of the link to `peer` use separate lanes, or one for all traffic, from now on, until
    /// the link's session ends: no lane for ten seconds, or either end starts again. Answers with the
    /// neighbour when both ends have agreed; lanes come and go after that.
    ///
    /// # Errors
    /// [`PlaneError::NoMesh`], [`PlaneError::MeshStopped`], [`PlaneError::Leaving`],
    /// [`PlaneError::UnknownNode`], [`PlaneError::AmbiguousName`], [`PlaneError::NoLink`],
    /// [`PlaneError::LinkModeSame`], [`PlaneError::LinkModeBusy`], [`PlaneError::LinkModeNotAgreed`].
    pub async fn set_link_mode(&self, peer: String, mode: LinkMode) -> Result<NodeRef, PlaneError> {
        self.ask(|answer| Command::SetLinkMode { peer, mode, answer }).await
    }

    /// Changes the rule for the bulk lanes of the link to `peer`, durably, until this node leaves its
    /// mesh. Answers with the one in force; lanes come and go after that. Lanes that the peer opens it
    /// may have beyond. What was chosen before can be changed without a link, too.
    ///
    /// # Errors
    /// [`PlaneError::NoMesh`], [`PlaneError::MeshStopped`], [`PlaneError::Leaving`],
    /// [`PlaneError::UnknownNode`], [`PlaneError::AmbiguousName`], [`PlaneError::NoLink`],
    /// [`PlaneError::NameInvalid`].
    pub async fn set_lane_rule(
        &self,
        peer: String,
        change: LaneRuleChange,
    ) -> Result<LaneRuleView, PlaneError> {
        self.ask(|answer| Command::SetLaneRule { peer, change, answer }).await
    }

    /// Opens a stream from this node, durably, and tells its destinations: waits up to 5 s for
    /// their confirmations. The same name and tenant again returns the same stream. In the first
    /// moments after a start or a join a destination that is not known yet is waited for, up to 5 s
    /// more.
    ///
    /// # Errors
    /// [`PlaneError::NoMesh`], [`PlaneError::MeshStopped`], [`PlaneError::NameInvalid`],
    /// [`PlaneError::UnknownNode`], [`PlaneError::AmbiguousName`], [`PlaneError::StreamDiffers`], [`PlaneError::StreamClosing`],
    /// [`PlaneError::Unsupported`], [`PlaneError::TooMany`], [`PlaneError::Store`]. Also
    /// [`PlaneError::Refused`] if a destination will not have it; the stream is removed then.
    pub async fn open_stream(&self, request: OpenStream) -> Result<OpenedStream, PlaneError> {
        self.ask(|answer| Command::OpenStream { request, answer }).await
    }

    /// Ends a stream at its source: takes no more, still delivers what there is. Closing it again
    /// changes nothing.
    ///
    /// # Errors
    /// [`PlaneError::UnknownStream`], [`PlaneError::NotSource`], [`PlaneError::Store`].
    pub async fn close_stream(&self, stream: StreamId) -> Result<(), PlaneError> {
        self.ask(|answer| Command::CloseStream { stream, answer }).await
    }

    /// The stream with this id, or with this name where that is unambiguous at this node.
    ///
    /// # Errors
    /// [`PlaneError::UnknownStream`], [`PlaneError::AmbiguousStream`].
    pub async fn resolve_stream(&self, stream: &str) -> Result<StreamView, PlaneError> {
        let stream = stream.to_owned();
        self.ask(|answer| Command::ResolveStream { stream, answer }).await
    }

    /// Every event from now on. A watcher that lags more than 1,024 events behind loses the oldest.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<EventView> {
        self.events.subscribe()
    }

    /// TLS for the API's TCP listener: certificates of the mesh's members only. `None` while the
    /// node is in no mesh.
    #[must_use]
    pub fn mesh_credentials(&self) -> watch::Receiver<Option<Arc<ServerConfig>>> {
        self.credentials.clone()
    }
}
