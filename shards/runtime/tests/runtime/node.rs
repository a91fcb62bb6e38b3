use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use hawser_exchange::{
    ApiPorts, ControlPorts, ControlToShard, LanePolicyMode, LaneSerial, ShardPorts, ShardReport,
    ShardToControl, exchange,
};
use hawser_link::LinkConfig;
use hawser_routing::{
    Adjacency, AdjacencyMetrics, CertificateHash, Lsa, LsaFlags, Lsdb, MeshTopology, PathComputer,
    Route, RouteSnapshot, Step, Weights,
};
use hawser_runtime::{IoDriver, ShardConfig, ShardThread, spawn_shard};
use hawser_session::LaneSession;
use hawser_wire::{
    AdjacencyIndex, Incarnation, LaneId, LinkEpoch, NodeId, PathId, ShardId, StreamId,
};

use crate::wait::wait;

/// A node's shards, and the control thread's place.
pub(crate) struct Node {
    pub(crate) local: NodeId,
    pub(crate) control: ControlPorts<LaneSession>,
    pub(crate) apis: Vec<ApiPorts>,
    pub(crate) threads: Vec<ShardThread>,
    /// What shards said and no test has asked for yet.
    heard: VecDeque<ShardToControl>,
    /// Likewise, about what becomes of links.
    notes: VecDeque<ShardToControl>,
    generation: u64,
    computer: PathComputer,
}

/// What led to an event of a link, by name.
pub(crate) type Inputs = Vec<(&'static str, String)>;

/// An event or a wish of a link, of which there may be any number.
const fn is_note(message: &ShardToControl) -> bool {
    use ShardToControl::{LinkEvent, LinkMode, WantLane};
    matches!(message, LinkEvent(_) | LinkMode { .. } | WantLane { .. })
}

/// The number of an input.
pub(crate) fn number_of(inputs: &Inputs, name: &str) -> u64 {
    let input = inputs.iter().find(|(input, _)| *input == name);
    input.and_then(|(_, value)| value.parse().ok()).unwrap_or_else(|| panic!("{name}: {inputs:?}"))
}

/// A node whose id puts its link at shard `shard`, however many there are.
pub(crate) fn node_id(tag: u8, shard: u16) -> NodeId {
    NodeId::from_bytes(id(tag, shard))
}

/// What every node of a computed mesh calls its link to `neighbour`.
pub(crate) fn index_of(neighbour: NodeId) -> AdjacencyIndex {
    AdjacencyIndex(u32::from(neighbour.as_bytes()[0]))
}

/// A stream that shard `shard` hosts.
pub(crate) fn stream_id(tag: u8, shard: u16) -> StreamId {
    StreamId::from_bytes(id(tag, shard))
}

fn id(tag: u8, shard: u16) -> [u8; 16] {
    let mut id = [tag; 16];
    id[14..].copy_from_slice(&shard.to_be_bytes());
    id
}

/// Of the hand-over of a lane, unless a test says otherwise: none opens two connections with one epoch
/// for one lane of a neighbour.
pub(crate) const fn serial_of(epoch: LinkEpoch) -> LaneSerial {
    LaneSerial(epoch.0)
}

/// Ticks as in use, but the patience of a test that may share its cores with many others.
pub(crate) fn patient() -> LinkConfig {
    LinkConfig { dead_after_ticks: 600, ..LinkConfig::default() }
}

impl Node {
    pub(crate) fn start(local: NodeId, shards: u16) -> Self {
        Self::start_with(local, shards, |_| {})
    }

    pub(crate) fn start_with(
        local: NodeId,
        shards: u16,
        change: impl Fn(&mut ShardConfig),
    ) -> Self {
        Self::start_first(local, shards, shards, change).0
    }

    /// Starts the first `running` of so many shards; the others stand still, in the test's hands.
    pub(crate) fn start_first(
        local: NodeId,
        running: u16,
        shards: u16,
        change: impl Fn(&mut ShardConfig),
    ) -> (Self, Vec<ShardPorts<LaneSession>>) {
        let mut wired = exchange::<LaneSession>(shards, 1);
        let still = wired.shards.split_off(usize::from(running));
        let threads = wired
            .shards
            .into_iter()
            .map(|ports| {
                let mut config = ShardConfig::new(local);
                config.link = patient();
                // Lanes are those that a test opens.
                config.lane_rule.policy = LanePolicyMode::Off;
                config.driver = IoDriver::Auto;
                change(&mut config);
                spawn_shard(ports, config).expect("starts")
            })
            .collect();
        let node = Self {
            local,
            control: wired.control,
            apis: wired.apis,
            threads,
            heard: VecDeque::new(),
            notes: VecDeque::new(),
            generation: 0,
            computer: PathComputer::new(4),
        };
        (node, still)
    }

    fn count(&self) -> u16 {
        self.control.shards.len() as u16
    }

    pub(crate) fn tell(&mut self, shard: ShardId, message: ControlToShard<LaneSession>) {
        let port = &mut self.control.shards[usize::from(shard.0)];
        port.to.try_send(message).expect("room");
        port.to.ring();
    }

    pub(crate) fn tell_link(&mut self, peer: NodeId, message: ControlToShard<LaneSession>) {
        self.tell(ShardId::of_peer(peer, self.count()), message);
    }

    pub(crate) fn tell_host(&mut self, stream: StreamId, message: ControlToShard<LaneSession>) {
        self.tell(ShardId::of_stream(stream, self.count()), message);
    }

    /// The first thing that a shard says, or has said, that `pick` makes something of. The rest is
    /// kept.
    pub(crate) fn hear<T>(
        &mut self,
        what: &str,
        mut pick: impl FnMut(&ShardToControl) -> Option<T>,
    ) -> T {
        for kept in [&mut self.heard, &mut self.notes] {
            if let Some(at) = kept.iter().position(|message| pick(message).is_some())
                && let Some(message) = kept.remove(at)
            {
                return pick(&message).expect("found");
            }
        }
        let Self { control: ControlPorts { bell, shards, .. }, heard, notes, .. } = self;
        let found = wait(bell, || {
            for port in &mut *shards {
                while let Some(message) = port.from.try_recv() {
                    match pick(&message) {
                        Some(found) => return Some(found),
                        None if is_note(&message) => notes.push_back(message),
                        None => heard.push_back(message),
                    }
                }
            }
            None
        });
        found.unwrap_or_else(|| panic!("never heard: {what}; heard {heard:?} {notes:?}"))
    }

    /// The inputs of the next event with this name of the link to `peer`.
    pub(crate) fn hear_event(&mut self, peer: NodeId, name: &str) -> Inputs {
        self.hear(name, |message| match message {
            ShardToControl::LinkEvent(event) if event.peer == peer && event.name == name => {
                Some(event.inputs.clone())
            }
            _ => None,
        })
    }

    /// The inputs of the events with this name of the link to `peer` that were heard so far.
    pub(crate) fn events(&self, peer: NodeId, name: &str) -> Vec<Inputs> {
        let of = |message: &ShardToControl| match message {
            ShardToControl::LinkEvent(event) if event.peer == peer && event.name == name => {
                Some(event.inputs.clone())
            }
            _ => None,
        };
        self.notes.iter().filter_map(of).collect()
    }

    /// A lane was missed, as far as was heard.
    pub(crate) fn misses_lane(&self) -> bool {
        self.notes.iter().any(|note| matches!(note, ShardToControl::WantLane { .. }))
    }

    /// What was heard, and is not asked for; events and wishes of links aside.
    pub(crate) fn unasked(&self) -> &VecDeque<ShardToControl> {
        &self.heard
    }

    pub(crate) fn hear_up(&mut self, peer: NodeId, lane: LaneId) -> LaneSerial {
        self.hear(&format!("lane {} up", lane.0), |message| match message {
            ShardToControl::LaneUp { peer: p, lane: l, serial } if (*p, *l) == (peer, lane) => {
                Some(*serial)
            }
            _ => None,
        })
    }

    /// Why the lane with this epoch went down.
    pub(crate) fn hear_down(&mut self, peer: NodeId, lane: LaneId, epoch: LinkEpoch) -> String {
        self.hear(&format!("lane {} down", lane.0), |message| match message {
            ShardToControl::LaneDown { peer: p, lane: l, serial, reason, .. }
                if (*p, *l, *serial) == (peer, lane, serial_of(epoch)) =>
            {
                Some(reason.to_string())
            }
            _ => None,
        })
    }

    pub(crate) fn report(&mut self, shard: ShardId) -> ShardReport {
        self.tell(shard, ControlToShard::Report);
        self.hear("report", |message| match message {
            ShardToControl::Report(report) if report.shard == shard => Some((**report).clone()),
            _ => None,
        })
    }

    /// Publishes routes: each destination, its hops, and this node's neighbours by index.
    pub(crate) fn route(&mut self, routes: &[(NodeId, &[u32])], neighbours: &[(u32, NodeId)]) {
        self.generation += 1;
        let routes: Vec<_> = routes
            .iter()
            .map(|&(to, hops)| {
                let hops: Vec<_> = hops.iter().copied().map(AdjacencyIndex).collect();
                let (path, cost) = (PathId(self.generation as u32), hops.len() as u64);
                (to, vec![Route { path, cost, hops, nodes: [].into(), weight: 1 }])
            })
            .collect();
        let neighbours = neighbours.iter().map(|&(index, node)| (AdjacencyIndex(index), node));
        let snapshot = RouteSnapshot::new(self.generation, 0, routes, neighbours);
        self.publish(snapshot);
    }

    fn publish(&self, snapshot: RouteSnapshot) {
        self.control.routes.publish(Arc::new(snapshot));
        for port in &self.control.shards {
            port.to.ring();
        }
    }

    /// Computes all routes in a mesh of these links, with their latencies, and publishes them.
    pub(crate) fn know_mesh(&mut self, links: &[(NodeId, NodeId, u32)]) {
        let mut lsas: BTreeMap<NodeId, Lsa> = BTreeMap::new();
        for &(a, b, latency_us) in links {
            for (origin, neighbour) in [(a, b), (b, a)] {
                let metrics = AdjacencyMetrics { latency_us, ..AdjacencyMetrics::default() };
                let link = Adjacency { neighbour, index: index_of(neighbour), metrics };
                let lsa = lsas.entry(origin).or_insert_with(|| Lsa {
                    origin,
                    incarnation: Incarnation(1),
                    sequence: 1,
                    name: String::new(),
                    address: String::new(),
                    public_key: [0; 32],
                    certificate: CertificateHash::default(),
                    flags: LsaFlags::default(),
                    adjacencies: Vec::new(),
                    routes: Vec::new(),
                    signature: [0; 64],
                });
                lsa.adjacencies.push(link);
            }
        }
        let neighbours = lsas[&self.local].adjacencies.iter();
        let own = neighbours.map(|link| (link.index, link.neighbour)).collect();
        let mut lsdb = Lsdb::new();
        for lsa in lsas.into_values() {
            let _newest = lsdb.insert(lsa);
        }
        let mesh = Arc::new(MeshTopology::new(&lsdb, self.local, [Weights::default(); 3]));
        let first = self.computer.handle_mesh(lsdb.digest(), mesh, own).expect("small");
        self.publish(first);
        loop {
            match self.computer.advance(usize::MAX) {
                Step::Working => {}
                Step::Published(snapshot) => self.publish(snapshot),
                Step::Idle => return,
            }
        }
    }

    /// Tells every shard to stop and waits until all have.
    pub(crate) fn stop(mut self) {
        for shard in 0..self.count() {
            self.tell(ShardId(shard), ControlToShard::Shutdown);
        }
        for _ in 0..self.count() {
            self.hear("stopped", |message| {
                matches!(message, ShardToControl::Stopped).then_some(())
            });
        }
        self.join();
    }

    /// Waits until every shard's thread has ended.
    pub(crate) fn join(self) {
        for shard in self.threads {
            shard.thread.join().expect("no panic");
        }
    }
}
