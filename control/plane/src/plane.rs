//! The loop of the control thread.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hawser_admission::{Accepted, check_address};
use hawser_exchange::{ControlPorts, ShardToControl};
use hawser_identity::{NodeKey, check_node_name, peer_identity, random_u64};
use hawser_session::LaneSession;
use hawser_store::{
    LaneRuleRecord, MeshRecord, NodeRecord, Store, StoreError, StoreHandle, StreamRecord,
    StreamState,
};
use hawser_wire::{AdjacencyIndex, Eviction, LifeNonce, MonoTime, NodeId, ShardId, StreamOffset};
use rustls::pki_types::CertificateDer;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep_until, timeout};
use zeroize::Zeroizing;

use crate::adjacency::Adjacencies;
use crate::control::{Continuation, Control, Parts};
use crate::events::Events;
use crate::evicting::kept_evictions;
use crate::handle::Command;
use crate::lane_rules::LaneRules;
use crate::lifecycle::plane_error;
use crate::liveness::LivenessWatch;
use crate::operator_routes::OperatorRoutes;
use crate::path_worker::PathWorker;
use crate::reports::ReportUse;
use crate::settling::Settling;
use crate::shards::Shards;
use crate::store_queue::StoreQueue;
use crate::{PlaneConfig, PlaneError, PlaneHandle};

/// Calls that wait for the loop's attention before their callers do.
const COMMANDS_MAX: usize = 256;
/// Connections that wait for it before the acceptor does.
const ACCEPTED_MAX: usize = 64;
/// Continuations that are run in one turn.
const CONTINUATIONS_PER_TURN: usize = 64;
/// Shards are given so long to close their lanes at the end.
const STOP_PATIENCE: Duration = Duration::from_secs(2);
/// The store is given so long to write the last of it.
const STORE_PATIENCE: Duration = Duration::from_secs(5);

/// The control plane of one node.
pub struct Plane {
    control: Control,
    commands: mpsc::Receiver<Command>,
    accepted: mpsc::Receiver<Accepted>,
    continuations: mpsc::UnboundedReceiver<Continuation>,
}

/// What the store knows at start.
struct Kept {
    key: NodeKey,
    boot: u64,
    mesh: Option<MeshRecord>,
    peers: Vec<String>,
    adjacencies: Vec<(AdjacencyIndex, NodeId)>,
    drained: bool,
    operator_routes: Vec<(NodeId, Vec<NodeId>)>,
    lane_rules: Vec<(NodeId, LaneRuleRecord)>,
    evictions: Vec<Eviction>,
    streams: Vec<(StreamRecord, Vec<(String, StreamOffset)>)>,
}

impl Plane {
    /// Restores the node from its store, raising its boot counter, or makes its identity if this is
    /// its first start. Streams are on their way to the shards when it returns; lanes are accepted
    /// from then on if the node is in a mesh, and dialled once [`Plane::run`] runs.
    ///
    /// Must be called within the tokio runtime that runs the plane.
    ///
    /// # Errors
    /// Whatever the error, the shards are told to stop.
    /// [`PlaneError::Listen`] if `listen` is configured and cannot be used, in a mesh or not;
    /// [`PlaneError::NameInvalid`] if `advertise` is no address;
    /// [`PlaneError::NameFixed`] if the store belongs to a member with another name;
    /// [`PlaneError::Identity`] if the name is not allowed or what the store keeps does not belong
    /// together; [`PlaneError::Store`].
    pub async fn new(
        config: PlaneConfig,
        store: StoreHandle,
        ports: ControlPorts<LaneSession>,
    ) -> Result<(Self, PlaneHandle), PlaneError> {
        // From here on every way out tells the shards to stop.
        let shards = Shards::new(ports);
        check_node_name(&config.node_name)?;
        if let Some(address) = &config.advertise {
            check_address(address).map_err(|error| plane_error(address, error))?;
        }
        let kept = load(&store, config.node_name.clone()).await?;
        let name: Arc<str> = config.node_name.as_str().into();
        let (continuation_sender, continuations) = mpsc::unbounded_channel();
        let (accepted_sender, accepted) = mpsc::channel(ACCEPTED_MAX);
        let (command_sender, commands) = mpsc::channel(COMMANDS_MAX);
        let (credentials_sender, credentials) = watch::channel(None);
        let events = Events::new();
        let event_sender = events.sender();
        let snapshots = continuation_sender.clone();
        let paths = PathWorker::start(config.paths, move |snapshot| {
            let routes = Arc::new(snapshot);
            let publish: Continuation = Box::new(move |control| control.handle_routes(routes));
            // The loop is gone at the very end.
            let _loop_gone = snapshots.send(publish);
        })
        .map_err(PlaneError::Thread)?;
        let mut control = Control::new(Parts {
            config,
            key: kept.key,
            boot: kept.boot,
            shards,
            store: StoreQueue::start(store, continuation_sender.clone()),
            events,
            paths,
            adjacencies: Adjacencies::new(kept.adjacencies),
            drained: kept.drained,
            operator_routes: OperatorRoutes::new(kept.operator_routes),
            lane_rules: LaneRules::new(&kept.lane_rules),
            evictions: kept.evictions,
            peers: kept.peers,
            life: LifeNonce(random_u64()?),
            api_credentials: credentials_sender,
            continuations: continuation_sender,
            accepted: accepted_sender,
        });
        control.restore(kept.mesh, kept.streams)?;
        control.shards.flush();
        let handle =
            PlaneHandle::new(control.node, name, command_sender, event_sender, credentials);
        Ok((Self { control, commands, accepted, continuations }, handle))
    }

    /// This node.
    #[must_use]
    pub const fn node(&self) -> NodeId {
        self.control.node
    }

    /// How often this node has been started, from 1: its incarnation and its boot epoch.
    #[must_use]
    pub const fn boot(&self) -> u64 {
        self.control.boot
    }

    /// Where lanes are accepted now, if they are.
    #[must_use]
    pub fn listening(&self) -> Option<std::net::SocketAddr> {
        self.control.listening.as_ref().map(|listening| listening.address)
    }

    /// Serves until `shutdown` is ready; then closes every lane, stops the shards (2 s at most) and
    /// writes what is not durable yet.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let Self { mut control, mut commands, mut accepted, mut continuations } = self;
        tokio::pin!(shutdown);
        let mut served = false;
        loop {
            control.advance();
            if std::mem::take(&mut served) {
                // Whoever keeps shards talking keeps nobody from dialling or being let in.
                tokio::task::yield_now().await;
            }
            let wake = control.poll_timeout().map(|time| control.instant(time));
            tokio::select! {
                () = &mut shutdown => break,
                Some(command) = commands.recv() => control.handle_command(command),
                Some(accepted) = accepted.recv() => control.handle_accepted(accepted),
                Some(continuation) = continuations.recv() => {
                    continuation(&mut control);
                    for _ in 1..CONTINUATIONS_PER_TURN {
                        let Ok(continuation) = continuations.try_recv() else { break };
                        continuation(&mut control);
                    }
                }
                () = poll_fn(|cx| control.poll_shards(cx)) => {
                    control.take_from_shards();
                    served = true;
                }
                () = sleep_maybe(wake), if wake.is_some() => {}
            }
        }
        drop((commands, accepted));
        stop(control, continuations).await;
    }
}

async fn sleep_maybe(wake: Option<std::time::Instant>) {
    if let Some(wake) = wake {
        sleep_until(wake.into()).await;
    }
}

/// Stops the shards, then writes what is not durable yet.
async fn stop(mut control: Control, mut continuations: mpsc::UnboundedReceiver<Continuation>) {
    control.listening = None;
    control.abort_attempts();
    control.shards.shut_down();
    let stopped = timeout(STOP_PATIENCE, async {
        loop {
            control.shards.flush();
            control.forget_abandoned();
            if control.unstopped.is_empty() && control.neighbour_turns.is_empty() {
                return;
            }
            tokio::select! {
                () = poll_fn(|cx| control.poll_shards(cx)) => control.take_from_shards(),
                Some(continuation) = continuations.recv() => continuation(&mut control),
            }
            // Patience ends whoever goes on talking.
            tokio::task::yield_now().await;
        }
    });
    if stopped.await.is_err() {
        tracing::warn!(shards = ?control.unstopped, "shards did not stop in time");
    }
    let commits = control.commits.drain();
    if !commits.is_empty() {
        control.store.run(move |store| store.put_consumers(&commits), |_, _| ());
    }
    // Continuations hold answers that nobody waits for any more.
    drop(continuations);
    if timeout(STORE_PATIENCE, control.store.finish()).await.is_err() {
        tracing::error!("the store did not finish in time");
    }
}

impl Control {
    fn restore(
        &mut self,
        mesh: Option<MeshRecord>,
        streams: Vec<(StreamRecord, Vec<(String, StreamOffset)>)>,
    ) -> Result<(), PlaneError> {
        let Some(record) = mesh else {
            return self.check_listen();
        };
        let leaf = CertificateDer::from(record.certificate.as_slice());
        let stored = peer_identity(&[leaf])?.name;
        if stored != self.config.node_name {
            let configured = self.config.node_name.clone();
            return Err(PlaneError::NameFixed { stored, configured, mesh: record.name });
        }
        for (record, consumers) in streams {
            self.host(&record, false, consumers);
            if record.source == self.node {
                self.announce(&record);
            } else if record.state == StreamState::Closed {
                self.announcements.add(self.now(), record.stream, record.source);
            }
            self.catalogue.insert(record);
        }
        let mesh = self.mesh_of(record)?;
        let out = mesh.record.stopped || self.is_evicted();
        let acceptor = if out { None } else { self.bind(&mesh)? };
        self.take_part(mesh, acceptor);
        self.settle(None);
        Ok(())
    }

    /// Does all that is due, in the order of cause and effect, and wakes the shards.
    fn advance(&mut self) {
        self.leave_due();
        self.ask_due();
        self.dial_due();
        self.advance_topology();
        self.advance_evictions();
        self.advance_liveness();
        self.advance_drill();
        self.advance_link_modes();
        self.settle_due();
        self.answer_route_changes();
        self.announce_due();
        self.answer_overdue_opens();
        self.write_commits();
        self.tell_untold_strangers();
        self.advance_reports();
        self.shards.flush();
    }

    /// When something is due next.
    fn poll_timeout(&self) -> Option<MonoTime> {
        let running = self.is_running();
        [
            self.leaving.as_ref().map(|leaving| leaving.due),
            self.dialler.poll_timeout(&self.links).filter(|_| running),
            self.wishes.poll_timeout(),
            self.adjacencies.poll_timeout().filter(|_| running),
            self.flooding_timeout().filter(|_| running),
            self.evictions_timeout().filter(|_| running),
            self.refresh.poll_timeout().filter(|_| running),
            self.metrics_due.filter(|_| running),
            self.routes_due().filter(|_| running),
            self.liveness.as_ref().and_then(LivenessWatch::poll_timeout).filter(|_| running),
            self.settling.as_ref().map(Settling::poll_timeout),
            self.operator_routes.poll_timeout(),
            self.drills.poll_timeout(),
            self.link_modes.poll_timeout(),
            self.announcements.poll_timeout(),
            self.opens.poll_timeout(),
            self.commits.poll_timeout(),
            self.refused_strangers.poll_timeout(),
            self.reports.poll_timeout(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn handle_command(&mut self, command: Command) {
        match command {
            Command::SeedMesh { name, description, answer } => {
                self.seed_mesh(name, description, answer);
            }
            Command::JoinMesh { token, address, answer } => {
                self.join_mesh(&token, address, answer);
            }
            Command::StartMesh { answer } => self.start_mesh(answer),
            Command::StopMesh { answer } => self.stop_mesh(answer),
            Command::LeaveMesh { answer } => self.leave_mesh(answer),
            Command::Drain { drained, answer } => self.drain(drained, answer),
            Command::Evict { node, reason, answer } => self.evict_node(&node, &reason, answer),
            Command::IssueToken { ttl, node, address, answer } => {
                self.issue_token(ttl, node, address, answer);
            }
            Command::Status { answer } => self.reports.ask(ReportUse::Status(answer)),
            Command::Links { answer } => self.reports.ask(ReportUse::Links(answer)),
            Command::Lanes { answer } => self.reports.ask(ReportUse::Lanes(answer)),
            Command::LaneEvents { peer, answer } => {
                let _caller_gone = answer.send(self.lane_events(peer.as_deref()));
            }
            Command::Streams { answer } => self.reports.ask(ReportUse::Streams(answer)),
            Command::Routes { named, answer } => {
                let _caller_gone = answer.send(self.routes_view(&named));
            }
            Command::ExplainMessage { stream, seq, answer } => {
                self.explain_message(&stream, seq, answer);
            }
            Command::AddRoute { from, to, via, answer } => {
                self.add_route(from.as_deref(), &to, &via, answer);
            }
            Command::DropRoute { from, to, answer } => {
                self.drop_route(from.as_deref(), &to, answer);
            }
            Command::Drill { ends: [a, b], cut_for, force, answer } => {
                self.start_drill([&a, &b], cut_for, force, answer);
            }
            Command::SetLaneRule { peer, change, answer } => {
                self.set_lane_rule(&peer, change, answer);
            }
            Command::SetLinkMode { peer, mode, answer } => self.set_link_mode(&peer, mode, answer),
            Command::OpenStream { request, answer } => self.open_stream(request, answer),
            Command::CloseStream { stream, answer } => self.close_stream(stream, answer),
            Command::ResolveStream { stream, answer } => {
                let _caller_gone = answer.send(self.resolve_stream(&stream));
            }
        }
    }

    /// Ready when shards have said something that is to be handled, or take what waits for them.
    fn poll_shards(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.neighbour_turns.is_empty() { self.shards.poll_work(cx) } else { Poll::Ready(()) }
    }

    /// Takes what the shards have said, all of it, so that nothing waits in the rings behind a
    /// neighbour's flood; of what is about links, so much is handled as belongs into one turn.
    fn take_from_shards(&mut self) {
        for (shard, message) in self.shards.take() {
            match message.neighbour() {
                Some(neighbour) => self.neighbour_turns.push(neighbour, (shard, message)),
                None => self.handle_shard(shard, message),
            }
        }
        self.neighbour_turns.begin();
        while let Some((shard, message)) = self.neighbour_turns.poll() {
            self.handle_shard(shard, message);
        }
    }

    fn handle_shard(&mut self, shard: ShardId, message: ShardToControl) {
        match message {
            ShardToControl::LaneUp { peer, lane, serial } => {
                self.handle_lane_up(peer, lane, serial);
            }
            ShardToControl::LaneDown { peer, lane, serial, reason, told, closed } => {
                self.handle_lane_down((peer, lane, serial), &reason, told, closed);
            }
            ShardToControl::WantLane { peer, lane, class } => {
                self.handle_want_lane(peer, lane, class);
            }
            ShardToControl::LinkMode { peer, mode } => self.handle_link_mode(peer, mode),
            ShardToControl::LinkEvent(report) => self.handle_link_event(*report),
            ShardToControl::LinkControl { from, body } => self.handle_link_control(from, &body),
            ShardToControl::Datagram { from, via, body } => {
                self.handle_datagram((from, via), &body);
            }
            ShardToControl::StreamUnknownAt { stream, node } => {
                self.handle_stream_unknown(stream, node);
            }
            ShardToControl::StreamRefused(report) => self.handle_stream_refused(&report),
            ShardToControl::StreamEnded { stream, end } => self.handle_stream_ended(stream, end),
            ShardToControl::Committed { stream, consumer, next } => {
                if self.catalogue.get(stream).is_some() {
                    let now = self.now();
                    self.commits.add(now, stream, consumer, next);
                }
            }
            ShardToControl::Report(report) => self.reports.handle_report(*report),
            ShardToControl::MessageReport(report) => self.handle_message_report(*report),
            ShardToControl::Stopped => drop(self.unstopped.remove(&shard)),
        }
    }

    /// A shard whose thread is gone says nothing any more.
    fn forget_abandoned(&mut self) {
        let abandoned: Vec<_> = self.shards.abandoned().collect();
        for shard in abandoned {
            self.unstopped.remove(&shard);
        }
    }
}

/// Reads everything that is kept, and makes the node's identity if there is none.
async fn load(store: &StoreHandle, name: String) -> Result<Kept, PlaneError> {
    let fresh = NodeKey::generate()?;
    let fresh_pkcs8 = Zeroizing::new(fresh.pkcs8().to_vec());
    let (pkcs8, kept) = store
        .run(move |store| {
            let mesh = store.mesh()?;
            let pkcs8 = node_key(store, &name, fresh_pkcs8, mesh.is_none())?;
            let mut streams = Vec::new();
            for record in store.streams()? {
                let consumers = store.consumers(record.stream)?;
                streams.push((record, consumers));
            }
            let boot = store.next_boot()?;
            let evictions = match &mesh {
                Some(mesh) => kept_evictions(store, mesh.mesh)?,
                None => Vec::new(),
            };
            let own = (store.adjacencies()?, store.drained()?, evictions);
            let set = (store.operator_routes()?, store.lane_rules()?);
            Ok((pkcs8, (boot, mesh, store.peers()?, own, set, streams)))
        })
        .await?;
    let (boot, mesh, peers, own, set, streams) = kept;
    let (adjacencies, drained, evictions) = own;
    let (operator_routes, lane_rules) = set;
    let key = NodeKey::from_pkcs8(&pkcs8)?;
    Ok(Kept {
        key,
        boot,
        mesh,
        peers,
        adjacencies,
        drained,
        operator_routes,
        lane_rules,
        evictions,
        streams,
    })
}

/// The node's key as kept, else `fresh`, kept from now on. A node in no mesh takes the name of its
/// configuration.
fn node_key(
    store: &Store,
    name: &str,
    fresh: Zeroizing<Vec<u8>>,
    may_rename: bool,
) -> Result<Zeroizing<Vec<u8>>, StoreError> {
    match store.node()? {
        Some(kept) if kept.name == name || !may_rename => Ok(kept.key_pkcs8),
        Some(kept) => {
            let renamed = NodeRecord { key_pkcs8: kept.key_pkcs8, name: name.to_owned() };
            store.set_node(&renamed)?;
            Ok(renamed.key_pkcs8)
        }
        None => {
            let record = NodeRecord { key_pkcs8: fresh, name: name.to_owned() };
            store.set_node(&record)?;
            Ok(record.key_pkcs8)
        }
    }
}
