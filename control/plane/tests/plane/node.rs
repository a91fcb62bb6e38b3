//! A node under test: one plane with its store and its stood-in shards.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hawser_admission::{AdmissionLimits, SocketOptions};
use hawser_exchange::{ControlToShard, LanePolicyMode, ShardToControl, exchange};
use hawser_plane::{
    EventKind, EventView, LanePlan, LaneRuleChoice, PeerSelector, Plane, PlaneConfig, PlaneError,
    PlaneHandle, StatusView,
};
use hawser_routing::Weights;
use hawser_session::LaneSession;
use hawser_store::{Store, StoreThread};
use hawser_wire::{CloseReason, LaneId, NodeId, ShardId, StreamId};
use tempfile::TempDir;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::shard::{Faults, Say, Shards, Told};

/// Nothing in these tests takes so long unless it never happens.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
const SHARDS: u16 = 2;

/// How a node is configured.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) name: &'static str,
    pub(crate) listen: Option<String>,
    /// Where others are to dial it instead.
    pub(crate) advertise: Option<String>,
    pub(crate) dial: Vec<String>,
    /// Its links begin with one lane.
    pub(crate) collapsed: bool,
    pub(crate) stub: bool,
    /// What its configuration says of single links.
    pub(crate) lane_rules: Vec<(PeerSelector, LaneRuleChoice)>,
    /// What it adds to the cost of single links, in hops.
    pub(crate) admin: Vec<(PeerSelector, u16)>,
    /// What a hop costs beside its latency, for all classes.
    pub(crate) hop_weight: f64,
}

impl Setup {
    pub(crate) fn dials_only(name: &'static str) -> Self {
        Self {
            name,
            listen: None,
            advertise: None,
            dial: Vec::new(),
            collapsed: false,
            stub: false,
            lane_rules: Vec::new(),
            admin: Vec::new(),
            hop_weight: 0.0,
        }
    }

    pub(crate) fn listens(name: &'static str) -> Self {
        Self { listen: Some("127.0.0.1:0".into()), ..Self::dials_only(name) }
    }
}

pub(crate) struct Node {
    pub(crate) handle: PlaneHandle,
    pub(crate) setup: Setup,
    pub(crate) boot: u64,
    pub(crate) directory: Arc<TempDir>,
    pub(crate) told: mpsc::UnboundedReceiver<Told>,
    pub(crate) faults: Arc<Faults>,
    say: mpsc::UnboundedSender<Say>,
    shutdown: oneshot::Sender<()>,
    plane: JoinHandle<()>,
    shards: JoinHandle<()>,
    store: StoreThread,
}

/// Starts a node in a directory, new or used.
pub(crate) async fn try_start(setup: Setup, directory: Arc<TempDir>) -> Result<Node, PlaneError> {
    let (store, store_handle) = open_store(directory.path());
    let exchange = exchange::<LaneSession>(SHARDS, 0);
    let config = PlaneConfig {
        node_name: setup.name.to_owned(),
        listen: setup.listen.clone(),
        advertise: setup.advertise.clone(),
        dial: setup.dial.clone(),
        proxy: None,
        probe_interval: Duration::from_secs(1),
        lanes: LanePlan { collapsed: setup.collapsed, ..LanePlan::default() },
        lane_policy: LanePolicyMode::On,
        peer_lane_rules: setup.lane_rules.clone(),
        link_admin: setup.admin.clone(),
        paths: 4,
        stub: setup.stub,
        weights: [Weights { hop: setup.hop_weight, ..Weights::default() }; 3],
        limits: AdmissionLimits::default(),
        sockets: SocketOptions::default(),
        io_driver: "stand-in".into(),
        version: "test".into(),
    };
    let (plane, handle) = match Plane::new(config, store_handle, exchange.control).await {
        Ok(started) => started,
        Err(error) => {
            for mut shard in exchange.shards {
                let told = shard.control.from.try_recv();
                assert!(matches!(told, Some(ControlToShard::Shutdown)), "{told:?}");
            }
            join(store).await;
            return Err(error);
        }
    };
    let boot = plane.boot();
    let (told_sender, told) = mpsc::unbounded_channel();
    let (say, said) = mpsc::unbounded_channel();
    let (shutdown, shutdown_asked) = oneshot::channel::<()>();
    let node = plane.node();
    let faults = Arc::new(Faults::default());
    let shards =
        tokio::spawn(Shards::run(node, Arc::clone(&faults), exchange.shards, told_sender, said));
    let plane = tokio::spawn(plane.run(async {
        let _asked_or_dropped = shutdown_asked.await;
    }));
    Ok(Node { handle, setup, boot, directory, told, faults, say, shutdown, plane, shards, store })
}

fn open_store(directory: &Path) -> (StoreThread, hawser_store::StoreHandle) {
    StoreThread::start(Store::open(directory).expect("store")).expect("store thread")
}

/// Waits until the store is closed.
async fn join(store: StoreThread) {
    tokio::task::spawn_blocking(|| store.join()).await.expect("joined").expect("no panic");
}

pub(crate) async fn start(setup: Setup) -> Node {
    let directory = Arc::new(tempfile::tempdir().expect("temporary directory"));
    try_start(setup, directory).await.expect("the node starts")
}

impl Node {
    pub(crate) fn id(&self) -> NodeId {
        self.handle.node()
    }

    /// Stops as a daemon does that is asked to. The directory and the setup are what is left.
    pub(crate) async fn stop(self) -> (Setup, Arc<TempDir>) {
        let _ended_already = self.shutdown.send(());
        timeout(PATIENCE, self.plane).await.expect("stops in time").expect("no panic");
        timeout(PATIENCE, self.shards).await.expect("stops in time").expect("no panic");
        drop(self.handle);
        join(self.store).await;
        (self.setup, self.directory)
    }

    /// Ends as after SIGKILL: nothing is said to anybody.
    pub(crate) async fn kill(self) -> (Setup, Arc<TempDir>) {
        self.plane.abort();
        self.shards.abort();
        let _aborted = (self.plane.await, self.shards.await);
        drop(self.handle);
        join(self.store).await;
        (self.setup, self.directory)
    }

    /// Waits until the node's status is as wanted. Most changes of it come with an event, metrics and
    /// flags of other nodes do not.
    pub(crate) async fn until(
        &self,
        what: &str,
        wanted: impl Fn(&StatusView) -> bool,
    ) -> StatusView {
        let mut events = self.handle.events();
        let waiting = async {
            loop {
                let status = self.handle.status().await.expect("status");
                if wanted(&status) {
                    return status;
                }
                let _lagged_or_none = timeout(Duration::from_millis(50), events.recv()).await;
            }
        };
        match timeout(PATIENCE, waiting).await {
            Ok(status) => status,
            Err(_elapsed) => {
                let status = self.handle.status().await;
                panic!("{}: not {what}: {status:#?}", self.setup.name)
            }
        }
    }

    /// Waits until there are paths to so many other nodes.
    pub(crate) async fn until_reaches(&self, others: usize) -> StatusView {
        self.until(&format!("reaching {others} nodes"), |status| {
            status.nodes.iter().filter(|node| node.reachable).count() == others + 1
        })
        .await
    }

    /// The next thing that the plane tells a shard.
    pub(crate) async fn told(&mut self) -> Told {
        timeout(PATIENCE, self.told.recv()).await.expect("told in time").expect("running")
    }

    /// Makes the shard that hosts `stream` say something.
    pub(crate) fn say(&self, stream: StreamId, message: ShardToControl) {
        let shard = ShardId::of_stream(stream, SHARDS);
        self.say.send(Say::Message(shard, message)).expect("running");
    }

    /// Makes the shard that owns the link to `peer` say something.
    pub(crate) fn say_of_link(&self, peer: NodeId, message: ShardToControl) {
        let shard = ShardId::of_peer(peer, SHARDS);
        self.say.send(Say::Message(shard, message)).expect("running");
    }

    /// Makes it lose a lane, closed by the peer if it `told` so, and say it.
    pub(crate) fn lose_lane(
        &self,
        (peer, lane): (NodeId, LaneId),
        reason: &'static str,
        told: Option<CloseReason>,
    ) {
        self.say.send(Say::LaneDown { peer, lane, reason, told }).expect("running");
    }

    /// Lets `other` join the mesh of this node.
    pub(crate) async fn admit(&self, other: &Self) {
        let (token, _) = self.handle.issue_token(Duration::ZERO, None, None).await.expect("token");
        other.handle.join_mesh(token, None).await.expect("joins");
    }

    pub(crate) async fn listening(&self) -> SocketAddr {
        let status = self.handle.status().await.expect("status");
        status.listening.expect("listening")
    }
}

/// Waits for an event of this kind.
pub(crate) async fn event(
    events: &mut tokio::sync::broadcast::Receiver<EventView>,
    kind: EventKind,
) -> EventView {
    timeout(PATIENCE, async {
        loop {
            let event = events.recv().await.expect("the plane runs");
            if event.kind == kind {
                return event;
            }
        }
    })
    .await
    .unwrap_or_else(|_elapsed| panic!("no event {}", kind.name()))
}

/// A port that was free a moment ago, for nodes that must keep it over a restart.
pub(crate) fn free_port() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").expect("bind").local_addr().expect("bound")
}

/// A and C dial B, and have no link with each other.
pub(crate) async fn chain() -> (Node, Node, Node) {
    let address = free_port().to_string();
    let b = start(Setup { listen: Some(address), ..Setup::listens("b") }).await;
    b.handle.seed_mesh("test", "three in a row").await.expect("seeds");
    let (a, c) = chain_around(&b).await;
    (a, b, c)
}

/// A and C of such a chain, for a B that is in a mesh.
pub(crate) async fn chain_around(b: &Node) -> (Node, Node) {
    let a = start(Setup::dials_only("a")).await;
    let c = start(Setup::dials_only("c")).await;
    b.admit(&a).await;
    b.admit(&c).await;
    a.until_reaches(2).await;
    c.until_reaches(2).await;
    b.until_reaches(2).await;
    (a, c)
}
