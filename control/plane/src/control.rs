//! Everything that the control thread owns, and the ways by which it acts.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hawser_admission::{Accepted, LocalNode};
use hawser_exchange::LaneSerial;
use hawser_identity::{Credentials, NodeKey, random_u64};
use hawser_routing::{Flooding, Lsdb, LsdbState, MeshTopology, RouteSnapshot, TokenBucket};
use hawser_store::MeshRecord;
use hawser_wire::{
    BootEpoch, Eviction, Incarnation, LifeNonce, MonoTime, NodeId, ShardId, StreamId,
};
use rustls::ServerConfig;
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};

use crate::adjacency::Adjacencies;
use crate::announcements::Announcements;
use crate::catalogue::Catalogue;
use crate::certificates::Certificates;
use crate::commits::Commits;
use crate::config::PlaneConfig;
use crate::dial_back_guard::DialBackGuard;
use crate::dialler::Dialler;
use crate::drills::Drills;
use crate::events::Events;
use crate::evictions::Evictions;
use crate::farewells::Farewells;
use crate::lane_events::LaneEvents;
use crate::lane_rules::LaneRules;
use crate::lanes::DUPLICATE_TOLD;
use crate::lifecycle::Leaving;
use crate::link_modes::LinkModes;
use crate::link_state::ChecksLeft;
use crate::links::Links;
use crate::liveness::LivenessWatch;
use crate::message_ways::MessageQuestions;
use crate::neighbour_turns::NeighbourTurns;
use crate::opens::Opens;
use crate::operator_routes::OperatorRoutes;
use crate::path_worker::PathWorker;
use crate::refresh::Refresh;
use crate::refused::{Refused, RefusedStrangers};
use crate::reports::Reports;
use crate::settling::Settling;
use crate::shards::Shards;
use crate::store_queue::StoreQueue;
use crate::wishes::Wishes;

/// What is to happen on the loop when something outside it is done.
pub(crate) type Continuation = Box<dyn FnOnce(&mut Control) + Send>;

/// The mesh that this node is in.
pub(crate) struct Mesh {
    pub(crate) record: MeshRecord,
    pub(crate) credentials: Credentials,
    pub(crate) local: Arc<LocalNode>,
}

/// Lanes are accepted as long as this lives.
pub(crate) struct Listening {
    pub(crate) address: SocketAddr,
    pub(crate) task: AbortHandle,
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The state of the control plane. Its parts are pure or narrow; the files beside this one move
/// what they say between them: `lanes`, `wanted_lanes`, `lane_events`, `link_state`, `topology`, `streams`,
/// `arrivals`, `liveness`, `lifecycle`, `joins`, `settling`, `status`.
pub(crate) struct Control {
    pub(crate) config: PlaneConfig,
    pub(crate) key: Arc<NodeKey>,
    pub(crate) node: NodeId,
    pub(crate) boot: u64,
    /// Tells this process from another one that was started with this key and counter.
    pub(crate) life: LifeNonce,
    clock: Instant,

    pub(crate) shards: Shards,
    /// What shards have said of links and is not handled yet.
    pub(crate) neighbour_turns: NeighbourTurns,
    pub(crate) store: StoreQueue,
    pub(crate) events: Events,
    pub(crate) api_credentials: watch::Sender<Option<Arc<ServerConfig>>>,
    continuations: mpsc::UnboundedSender<Continuation>,
    pub(crate) accepted: mpsc::Sender<Accepted>,

    pub(crate) mesh: Option<Mesh>,
    /// Addresses to dial that the store keeps.
    pub(crate) peers: Vec<String>,
    /// A seed or a join is on its way.
    pub(crate) entering: bool,
    pub(crate) leaving: Option<Leaving>,
    /// Counts the times that lanes were taken up or given up; what began in an earlier one and
    /// ends in a later one is dropped.
    pub(crate) run: u64,
    pub(crate) listening: Option<Listening>,
    /// Attempts to dial or to join, ended with the plane.
    attempts: JoinSet<()>,

    pub(crate) links: Links,
    /// Of the last lane that came.
    pub(crate) lane_serial: LaneSerial,
    pub(crate) dialler: Dialler,
    /// Lanes that are missing.
    pub(crate) wishes: Wishes,
    /// Requests to be dialled that this node has made in this life.
    pub(crate) dial_backs_sent: u64,
    pub(crate) dial_back_guard: DialBackGuard,
    pub(crate) lane_events: LaneEvents,
    pub(crate) drills: Drills,
    pub(crate) link_modes: LinkModes,
    pub(crate) lane_rules: LaneRules,
    /// Human names of neighbours, from their certificates.
    pub(crate) peer_names: BTreeMap<NodeId, String>,
    /// Of these, who takes several advertisements in one message, as its newest lane says.
    pub(crate) takes_several: BTreeSet<NodeId>,
    pub(crate) adjacencies: Adjacencies,
    pub(crate) flooding: Flooding,
    /// Advertisements or certificates may wait to be checked.
    pub(crate) checks_wait: bool,
    /// What is checked in this turn yet.
    pub(crate) checks_left: ChecksLeft,
    pub(crate) certificates: Certificates,
    /// Nodes that the mesh has evicted.
    pub(crate) evictions: Evictions,
    /// What a neighbour said that refused this node as evicted, until a lane is up.
    pub(crate) refused_as_evicted: Option<String>,
    /// The operator has drained this node: it is no transit.
    pub(crate) drained: bool,
    /// Paths that operators have set for what this node sends.
    pub(crate) operator_routes: OperatorRoutes,
    pub(crate) lsdb_changed: bool,
    /// How often this node was overtaken when that was told last.
    pub(crate) overtaken_told: u64,
    /// When paths were computed last.
    pub(crate) routes_computed: MonoTime,
    pub(crate) refresh: Refresh,
    pub(crate) metrics_due: Option<MonoTime>,
    pub(crate) paths: PathWorker,
    /// The mesh that paths were last computed from, or are being, and the digest of the database.
    pub(crate) mesh_known: (Arc<MeshTopology>, u64),
    pub(crate) routes: Arc<RouteSnapshot>,
    /// Links on the path to each node that can be reached.
    pub(crate) hops: BTreeMap<NodeId, usize>,
    /// Nodes that were announced as joined, with their names.
    pub(crate) known: BTreeMap<NodeId, String>,
    /// The database that this was read from.
    pub(crate) told: LsdbState,
    /// While this node takes part.
    pub(crate) liveness: Option<LivenessWatch>,
    /// The map of the mesh is awaited.
    pub(crate) settling: Option<Settling>,
    /// What of each neighbour was refused.
    pub(crate) refused: BTreeMap<NodeId, Refused>,
    /// And of the datagrams that each has brought.
    pub(crate) refused_via: BTreeMap<NodeId, Refused>,
    /// And of strangers.
    pub(crate) refused_strangers: RefusedStrangers,
    /// How often datagrams were refused, by reason.
    pub(crate) datagrams_refused: BTreeMap<&'static str, u64>,
    /// Who is being told that it gets no lane.
    pub(crate) farewells: Farewells,
    /// When it may be said again that another process runs as this node.
    pub(crate) duplicate_told: TokenBucket,
    /// How often lanes were refused to who does not keep the rules, by reason.
    pub(crate) lanes_refused: BTreeMap<&'static str, u64>,
    /// Streams of which one end broke the rules, likewise.
    pub(crate) streams_refused: BTreeMap<&'static str, u64>,

    pub(crate) catalogue: Catalogue,
    pub(crate) announcements: Announcements,
    pub(crate) opens: Opens,
    /// Streams that are on their way to the store for the first time.
    pub(crate) storing: BTreeSet<StreamId>,
    pub(crate) commits: Commits,
    pub(crate) reports: Reports,
    pub(crate) message_questions: MessageQuestions,
    /// Shards that have not said their last word.
    pub(crate) unstopped: BTreeSet<ShardId>,
}

/// What a [`Control`] is made of.
pub(crate) struct Parts {
    pub(crate) config: PlaneConfig,
    pub(crate) key: NodeKey,
    pub(crate) boot: u64,
    pub(crate) shards: Shards,
    pub(crate) store: StoreQueue,
    pub(crate) events: Events,
    pub(crate) paths: PathWorker,
    pub(crate) adjacencies: Adjacencies,
    pub(crate) drained: bool,
    pub(crate) operator_routes: OperatorRoutes,
    pub(crate) lane_rules: LaneRules,
    pub(crate) evictions: Vec<Eviction>,
    pub(crate) peers: Vec<String>,
    pub(crate) life: LifeNonce,
    pub(crate) api_credentials: watch::Sender<Option<Arc<ServerConfig>>>,
    pub(crate) continuations: mpsc::UnboundedSender<Continuation>,
    pub(crate) accepted: mpsc::Sender<Accepted>,
}

impl Control {
    pub(crate) fn new(parts: Parts) -> Self {
        let node = parts.key.node_id();
        let (plan, weights) = (parts.config.lanes, parts.config.weights);
        Self {
            config: parts.config,
            key: Arc::new(parts.key),
            node,
            boot: parts.boot,
            life: parts.life,
            clock: Instant::now(),
            unstopped: (0..parts.shards.count()).map(ShardId).collect(),
            shards: parts.shards,
            neighbour_turns: NeighbourTurns::default(),
            store: parts.store,
            events: parts.events,
            api_credentials: parts.api_credentials,
            continuations: parts.continuations,
            accepted: parts.accepted,
            mesh: None,
            peers: parts.peers,
            entering: false,
            leaving: None,
            run: 0,
            listening: None,
            attempts: JoinSet::new(),
            links: Links::new(node),
            lane_serial: LaneSerial::default(),
            dialler: Dialler::new(node, plan),
            wishes: Wishes::default(),
            dial_backs_sent: 0,
            dial_back_guard: DialBackGuard::default(),
            lane_events: LaneEvents::new(),
            drills: Drills::default(),
            link_modes: LinkModes::default(),
            lane_rules: parts.lane_rules,
            peer_names: BTreeMap::new(),
            takes_several: BTreeSet::new(),
            adjacencies: parts.adjacencies,
            flooding: Flooding::new(node),
            checks_wait: false,
            checks_left: ChecksLeft::default(),
            certificates: Certificates::default(),
            evictions: Evictions::new(parts.evictions),
            refused_as_evicted: None,
            drained: parts.drained,
            operator_routes: parts.operator_routes,
            lsdb_changed: false,
            overtaken_told: 0,
            routes_computed: MonoTime::ZERO,
            refresh: Refresh::default(),
            metrics_due: None,
            paths: parts.paths,
            mesh_known: (Arc::new(MeshTopology::new(&Lsdb::new(), node, weights)), 0),
            routes: Arc::default(),
            hops: BTreeMap::new(),
            known: BTreeMap::new(),
            told: LsdbState::default(),
            liveness: None,
            settling: None,
            refused: BTreeMap::new(),
            refused_via: BTreeMap::new(),
            refused_strangers: RefusedStrangers::default(),
            datagrams_refused: BTreeMap::new(),
            farewells: Farewells::default(),
            duplicate_told: DUPLICATE_TOLD,
            lanes_refused: BTreeMap::new(),
            streams_refused: BTreeMap::new(),
            catalogue: Catalogue::new(node),
            announcements: Announcements::default(),
            opens: Opens::default(),
            storing: BTreeSet::new(),
            commits: Commits::default(),
            reports: Reports::default(),
            message_questions: MessageQuestions::default(),
        }
    }

    /// Time since this life began.
    pub(crate) fn now(&self) -> MonoTime {
        MonoTime::ZERO.saturating_add(self.clock.elapsed())
    }

    /// The instant that the loop sleeps until.
    pub(crate) fn instant(&self, time: MonoTime) -> Instant {
        self.clock + time.saturating_since(MonoTime::ZERO)
    }

    pub(crate) const fn incarnation(&self) -> Incarnation {
        Incarnation(self.boot)
    }

    pub(crate) const fn boot_epoch(&self) -> BootEpoch {
        BootEpoch(self.boot)
    }

    /// Dials and accepts.
    pub(crate) fn is_running(&self) -> bool {
        self.mesh.as_ref().is_some_and(|mesh| !mesh.record.stopped) && !self.is_evicted()
    }

    /// Runs `work` beside the loop and its result's continuation on the loop.
    pub(crate) fn spawn<F>(&mut self, work: F)
    where
        F: Future<Output = Continuation> + Send + 'static,
    {
        // Ended ones are only kept until somebody looks.
        while self.attempts.try_join_next().is_some() {}
        let continuations = self.continuations.clone();
        self.attempts.spawn(async move {
            let continuation = work.await;
            // The loop is gone at the very end.
            let _loop_gone = continuations.send(continuation);
        });
    }

    /// Ends every attempt to dial or to join, and good-byes with them.
    pub(crate) fn abort_attempts(&mut self) {
        self.attempts.abort_all();
        self.farewells = Farewells::default();
    }
}

/// Wall clock, for certificates, tokens and records alone.
pub(crate) fn unix_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()
}

/// Random, for jitter. A system without randomness gives none.
pub(crate) fn entropy() -> u64 {
    random_u64().unwrap_or(u64::MAX / 2)
}
