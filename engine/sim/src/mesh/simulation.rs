//! The event loop: what happens, to whom, and what that node wants then.

use std::collections::HashMap;
use std::time::Duration;

use hawser_membership::{Config, Liveness, Membership};
use hawser_routing::{Lsa, TokenBucket};
use hawser_wire::{Incarnation, MonoTime, NodeId, TrafficClass};

use crate::event_queue::EventQueue;
use crate::mesh::faults::MeshFaults;
use crate::mesh::forwarding::Fate;
use crate::mesh::graph::MeshGraph;
use crate::mesh::keys::{Judge, MeshKeys};
use crate::mesh::node::MeshNode;
use crate::mesh::phase::Phase;
use crate::mesh::reality::Reality;
use crate::mesh::routes::{KnownMeshes, NodeRoutes, Trees};
use crate::mesh::summary::Tally;
use crate::mesh::wires::Notice;
use crate::random::Random;
use crate::trace::{Trace, TraceEvent};
use crate::violation::{Property, Violation};

/// Larger meshes are there when the simulation begins: links up, databases full, everybody a member.
const EMPTY_START_NODES_MAX: usize = 200;
/// In larger meshes there are trees and backups, and not K paths to each node.
const K_PATHS_NODES_MAX: usize = 1_000;
/// From one probe to the next: the daemon's default.
pub(crate) const PROBE_INTERVAL: Duration = Duration::from_secs(1);
/// A node may compute its paths so many times at once, and once more whenever a token comes. A daemon
/// goes on at once; here all nodes share one core.
pub(crate) const ROUTES: TokenBucket = TokenBucket::new(4, Duration::from_millis(50));
/// What the computation of paths takes, for each node of the mesh: reading the database included,
/// what a core of 2023 takes at 10,000.
const COMPUTE_PER_NODE: Duration = Duration::from_micros(5);

/// What is left out for the size of a mesh.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Scale {
    /// Everything is there when the simulation begins.
    pub(crate) full_start: bool,
    /// Nodes compute trees and backups, and not the K paths to each other.
    pub(crate) trees: bool,
}

impl Scale {
    const fn of(nodes: usize) -> Self {
        Self { full_start: nodes > EMPTY_START_NODES_MAX, trees: nodes > K_PATHS_NODES_MAX }
    }
}

/// Breaks one thing on purpose once the mesh has started, to show that a checker sees it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum MeshMutation {
    /// The first node gets no link-state messages.
    DeafToLinkState,
    /// What members say to the first node, and it to them, is lost.
    DeafToMembers,
    /// The first node publishes no paths any more.
    StalePaths,
    /// The first node keeps to itself who is dead.
    NoVerdicts,
    /// A link that is to come back stays away.
    NeverHeal,
    /// A relay sends a frame back to where it came from.
    Loop,
    /// Frames of data vanish though every node on the way believes in its links.
    Swallow,
    /// The first node's paths are said to cost more than they do.
    Overprice,
    /// Link-state messages to the first node lose their last byte.
    Truncate,
    /// Membership messages to the first node lose their last byte.
    TruncateMembers,
    /// The first node holds the wrong ones for dead, and as many of them as there are.
    Confuse,
    /// The first node forgets a member.
    Forget,
}

/// What can happen.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum MeshEvent {
    /// A machine of the node asked to be woken.
    Wake { node: u32 },
    /// A link-state message comes over a link in its session.
    LinkState { to: u32, from: u32, link: u32, session: u32, bytes: Vec<u8> },
    /// A membership message comes, to the life that it was sent to.
    Datagram { to: u32, from: u32, life: Incarnation, bytes: Vec<u8> },
    /// A node notices something about its link to a neighbour.
    Notice { node: u32, neighbour: u32, session: u32, what: Notice },
    /// The paths are computed.
    Publish { node: u32, life: Incarnation },
    /// The node begins to compute, if that is to be.
    Compute { node: u32, life: Incarnation },
}

impl MeshEvent {
    fn trace(&self) -> (u32, &'static str, [u64; 2]) {
        let len = |bytes: &Vec<u8>| u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        match self {
            Self::Wake { node } => (*node, "wake", [0; 2]),
            Self::LinkState { to, from, bytes, .. } => {
                (*to, "link state", [u64::from(*from), len(bytes)])
            }
            Self::Datagram { to, from, bytes, .. } => {
                (*to, "membership", [u64::from(*from), len(bytes)])
            }
            Self::Notice { node, neighbour, session, what } => {
                (*node, what.name(), [u64::from(*neighbour), u64::from(*session)])
            }
            Self::Publish { node, life } => (*node, "paths published", [life.0, 0]),
            Self::Compute { node, life } => (*node, "paths computed", [life.0, 0]),
        }
    }
}

/// One history of a mesh.
#[derive(Debug)]
pub struct MeshSimulation {
    pub(crate) graph_name: &'static str,
    pub(crate) seed: u64,
    pub(crate) faults: MeshFaults,
    pub(crate) scale: Scale,
    pub(crate) mutation: Option<MeshMutation>,
    /// The mutation acts from now on.
    pub(crate) mutated: bool,
    pub(crate) queue: EventQueue<MeshEvent>,
    pub(crate) trace: Trace,
    pub(crate) reality: Reality,
    pub(crate) nodes: Vec<MeshNode>,
    /// In ascending order: the number is the place.
    pub(crate) ids: Vec<NodeId>,
    numbers: HashMap<NodeId, u32>,
    /// The key of each node.
    key_of: Vec<usize>,
    pub(crate) judge: Judge,
    pub(crate) meshes: KnownMeshes,
    pub(crate) trees: Trees,
    pub(crate) config: Config,
    /// For what is lost and for times.
    pub(crate) random: Random,
    /// For faults and samples alone.
    pub(crate) fault_random: Random,
    pub(crate) phase: Option<Phase>,
    /// Whether frames may go other ways than at the last look.
    pub(crate) ways_changed: bool,
    pub(crate) tally: Tally,
    /// Paths are computed when they are published, also if nobody uses them.
    #[cfg(test)]
    pub(crate) always_compute: bool,
    pub(crate) violation: Option<Violation>,
}

impl MeshSimulation {
    /// The history of `graph` with `faults` that `seed` names.
    ///
    /// # Panics
    /// If two nodes have the same key.
    #[must_use]
    pub fn new(graph: &MeshGraph, faults: MeshFaults, seed: u64, keys: Box<dyn MeshKeys>) -> Self {
        Self::at_scale(graph, faults, seed, keys, Scale::of(graph.nodes()))
    }

    pub(crate) fn at_scale(
        graph: &MeshGraph,
        faults: MeshFaults,
        seed: u64,
        keys: Box<dyn MeshKeys>,
        scale: Scale,
    ) -> Self {
        let count = graph.nodes();
        let mut named: Vec<(NodeId, usize)> =
            (0..count).map(|key| (keys.node_id(&keys.public_key(key)), key)).collect();
        named.sort_unstable();
        assert!(named.is_sorted_by(|(a, _), (b, _)| a < b), "each node has a key of its own");
        let (ids, key_of): (Vec<NodeId>, Vec<usize>) = named.into_iter().unzip();
        let random = Random::new(seed);
        let trees = scale.trees;
        let now = MonoTime::from_nanos(1_000_000);
        let config = Config::every(PROBE_INTERVAL);
        let (reality, mut seeds) = (Reality::new(graph), random.fork(14));
        let node = |((number, &id), &flags)| {
            let (routes, life) = (NodeRoutes::new(trees), Incarnation(1));
            let membership = Membership::new(now, id, life, config, seeds.next_u64());
            MeshNode::new(number, (id, life), flags, &reality, routes, membership)
        };
        let nodes = (0..).zip(&ids).zip(&graph.nodes).map(node).collect();
        let numbers = ids.iter().copied().zip(0..).collect();
        Self {
            graph_name: graph.name,
            seed,
            faults,
            scale,
            mutation: None,
            mutated: false,
            queue: EventQueue::new(now),
            trace: Trace::new(seed),
            reality,
            nodes,
            ids,
            numbers,
            key_of,
            judge: Judge::new(keys),
            meshes: KnownMeshes::new(graph.weights),
            trees: Trees::default(),
            config,
            random: random.fork(12),
            fault_random: random.fork(13),
            phase: None,
            ways_changed: true,
            tally: Tally::default(),
            #[cfg(test)]
            always_compute: false,
            violation: None,
        }
    }

    /// The same with one thing broken on purpose.
    #[must_use]
    pub const fn with_mutation(mut self, mutation: MeshMutation) -> Self {
        self.mutation = Some(mutation);
        self
    }

    pub(crate) const fn now(&self) -> MonoTime {
        self.queue.now()
    }

    pub(crate) fn id(&self, node: u32) -> NodeId {
        at(&self.ids, node)
    }

    pub(crate) fn number(&self, id: NodeId) -> Option<u32> {
        self.numbers.get(&id).copied()
    }

    #[expect(clippy::indexing_slicing, reason = "numbers come from the graph")]
    #[expect(clippy::as_conversions, reason = "at most 10,000 nodes")]
    pub(crate) fn node(&self, node: u32) -> &MeshNode {
        &self.nodes[node as usize]
    }

    #[expect(clippy::indexing_slicing, reason = "numbers come from the graph")]
    #[expect(clippy::as_conversions, reason = "at most 10,000 nodes")]
    pub(crate) fn node_mut(&mut self, node: u32) -> &mut MeshNode {
        &mut self.nodes[node as usize]
    }

    pub(crate) fn is_alive(&self, node: u32) -> bool {
        usize::try_from(node).is_ok_and(|at| self.reality.alive.get(at) == Some(&true))
    }

    /// Numbers of all nodes.
    pub(crate) fn all(&self) -> impl Iterator<Item = u32> + use<> {
        (0..).take(self.nodes.len())
    }

    /// The first property that does not hold counts.
    pub(crate) fn violate(&mut self, property: Property, detail: String) {
        let at = self.now();
        self.violation.get_or_insert(Violation { property, at, detail });
    }

    /// Whether the mutation is this one, and acts.
    pub(crate) fn breaks(&self, mutation: MeshMutation) -> bool {
        self.mutated && self.mutation == Some(mutation)
    }

    /// Lets the mesh go on until `end`, or until something is violated.
    pub(crate) fn run_until(&mut self, end: MonoTime) {
        while self.violation.is_none()
            && let Some(event) = self.queue.pop_before(end)
        {
            self.handle(event);
        }
    }

    fn handle(&mut self, event: MeshEvent) {
        let (node, what, numbers) = event.trace();
        let (at, short) = (self.now(), u16::try_from(node).unwrap_or(u16::MAX));
        match &event {
            // A wake that is not due any more, and what comes to a node that is gone, is none.
            MeshEvent::Wake { .. } if self.node(node).armed != Some(at) => return,
            _ if !self.is_alive(node) => return,
            _ => {}
        }
        self.trace.record(TraceEvent { at, node: short, what, numbers });
        match event {
            MeshEvent::Wake { node } => self.handle_wake(node),
            MeshEvent::LinkState { to, from, link, session, bytes } => {
                self.handle_link_state(to, from, (link, session), &bytes);
            }
            MeshEvent::Datagram { to, from, life, bytes } => {
                let from = self.id(from);
                let node = self.node_mut(to);
                if node.incarnation == life
                    && let Err(reason) = node.membership.handle_message(at, from, &bytes)
                    && accuses(&reason)
                {
                    let detail = format!("node {to}: {reason}");
                    self.violate(Property::NoFalseAccusation, detail);
                }
            }
            MeshEvent::Notice { node, neighbour, session, what } => {
                self.handle_notice(node, neighbour, session, what);
            }
            MeshEvent::Publish { node, life } => self.handle_publish(node, life),
            MeshEvent::Compute { node, life } => {
                if self.node(node).incarnation == life {
                    self.compute(node);
                }
            }
        }
        self.settle(node);
    }

    fn handle_wake(&mut self, number: u32) {
        let now = self.now();
        let node = self.node_mut(number);
        node.armed = None;
        let due = |at: Option<MonoTime>| at.is_some_and(|at| at <= now);
        if due(node.flooding.poll_timeout()) && node.flooding.handle_timeout(now) {
            self.lsdb_changed(number);
        }
        let node = self.node_mut(number);
        if due(node.membership.poll_timeout()) {
            node.membership.handle_timeout(now);
        }
        if node.take_originate(now) {
            self.originate(number);
        }
    }

    fn originate(&mut self, number: u32) {
        let now = self.now();
        let Some(lsa) = self.advertise(number) else { return };
        let node = self.node_mut(number);
        if node.flooding.originate(now, lsa).is_ok() {
            self.lsdb_changed(number);
        }
    }

    /// What a node says of itself now, signed.
    pub(crate) fn advertise(&self, number: u32) -> Option<Lsa> {
        let &key = self.key_of.get(usize::try_from(number).ok()?)?;
        let public_key = self.judge.keys.public_key(key);
        let mut lsa = self.node(number).advertisement(number, public_key, &self.reality, &self.ids);
        lsa.signature = self.judge.keys.sign(key, &lsa.signed_bytes());
        Some(lsa)
    }

    /// Whatever the node's machines want after something has happened to it.
    pub(crate) fn settle(&mut self, number: u32) {
        self.check_link_state(number);
        self.send_link_state(number);
        self.send_membership(number);
        self.hear_of_members(number);
        let now = self.now();
        let node = self.node_mut(number);
        if let Some(due) = node.poll_timeout().map(|due| due.max(now))
            && node.armed.is_none_or(|armed| armed != due)
        {
            node.armed = Some(due);
            self.queue.schedule(due, MeshEvent::Wake { node: number });
        }
    }

    /// The database is another one: paths are to be computed.
    pub(crate) fn lsdb_changed(&mut self, number: u32) {
        let routes = &mut self.node_mut(number).routes;
        if !std::mem::replace(&mut routes.waiting, true) && routes.computing.is_none() {
            self.compute_soon(number);
        }
    }

    fn compute_soon(&mut self, number: u32) {
        let node = self.node(number);
        let (at, life) = (node.routes.bucket.ready_at(), node.incarnation);
        self.queue.schedule(at, MeshEvent::Compute { node: number, life });
    }

    /// Takes the mesh as the database has it, and admits its members.
    fn compute(&mut self, number: u32) {
        let now = self.now();
        let (id, life) = (self.id(number), self.node(number).incarnation);
        let Some(node) = usize::try_from(number).ok().and_then(|at| self.nodes.get_mut(at)) else {
            return;
        };
        if node.routes.computing.is_some() || !std::mem::take(&mut node.routes.waiting) {
            return;
        }
        node.routes.bucket.take(now);
        let lsdb = node.flooding.lsdb();
        for origin in std::mem::take(&mut node.heard_of) {
            if let Some(lsa) = lsdb.get(origin) {
                // There is room for as many members as nodes.
                let _ = node.membership.admit(now, origin, lsa.incarnation);
            }
        }
        let known = lsdb.len();
        node.routes.computing = Some(self.meshes.of(&mut node.flooding, id));
        let nodes = u32::try_from(known).unwrap_or(u32::MAX);
        let takes = COMPUTE_PER_NODE.saturating_mul(nodes.max(20));
        self.queue.schedule(now.saturating_add(takes), MeshEvent::Publish { node: number, life });
    }

    fn handle_publish(&mut self, number: u32, life: Incarnation) {
        if self.node(number).incarnation != life {
            return;
        }
        let stale = number == 0 && self.breaks(MeshMutation::StalePaths);
        let routes = &mut self.node_mut(number).routes;
        if stale {
            routes.computing = None;
        } else {
            routes.publish();
        }
        #[cfg(test)]
        if self.always_compute {
            self.with_paths(number);
        }
        self.ways_changed = true;
        self.note_published(number);
        if self.node(number).routes.waiting {
            self.compute_soon(number);
        }
    }

    /// The node with all paths that it has published.
    pub(crate) fn with_paths(&mut self, number: u32) -> &MeshNode {
        let at = usize::try_from(number).unwrap_or(usize::MAX);
        if let Some(node) = self.nodes.get_mut(at) {
            let (ends, ids) = (&node.ends, &self.ids);
            let adjacencies = || super::node::adjacencies(ends, ids);
            node.routes.compute_lists(node.id, adjacencies, &mut self.trees);
        }
        self.node(number)
    }

    /// Membership messages go over routed paths.
    fn send_membership(&mut self, number: u32) {
        while let Some((to, mut bytes)) = self.node_mut(number).membership.poll_transmit() {
            let Some(to) = self.number(to) else { continue };
            self.tally.datagrams = self.tally.datagrams.saturating_add(1);
            let deaf = self.breaks(MeshMutation::DeafToMembers) && (number == 0 || to == 0);
            if deaf || self.loses() {
                continue;
            }
            let Fate::Arrives(after) = self.follow(TrafficClass::Control, number, to) else {
                continue;
            };
            if to == 0 && self.breaks(MeshMutation::TruncateMembers) {
                bytes.pop();
            }
            let (at, life) = (self.now().saturating_add(after), self.node(to).incarnation);
            self.queue.schedule(at, MeshEvent::Datagram { to, from: number, life, bytes });
        }
    }

    /// Whether a message is lost by chance.
    pub(crate) fn loses(&mut self) -> bool {
        let loss = u64::from(self.faults.loss_ppm);
        loss > 0 && self.random.below(1_000_000) < loss
    }

    fn hear_of_members(&mut self, number: u32) {
        let mute = number == 0 && self.breaks(MeshMutation::NoVerdicts);
        while let Some(event) = self.node_mut(number).membership.poll_event() {
            if mute {
                continue;
            }
            let node = self.node_mut(number);
            let suspects = |liveness| usize::from(liveness == Liveness::Suspect);
            node.suspects = node.suspects.saturating_add(suspects(event.liveness));
            node.suspects = node.suspects.saturating_sub(suspects(event.before));
            let Some(of) = self.number(event.node) else { continue };
            if event.liveness == Liveness::Dead {
                self.node_mut(number).dead.insert(of);
                self.note_verdict(number, of);
            } else {
                self.node_mut(number).dead.remove(&of);
            }
        }
    }
}

/// What nobody says who runs the same machine. Others come late, are of members that are not admitted
/// yet, or are too many.
const fn accuses(reason: &hawser_membership::RejectReason) -> bool {
    use hawser_membership::RejectReason;
    matches!(
        reason,
        RejectReason::FromSelf | RejectReason::Malformed(_) | RejectReason::FarAhead { .. }
    )
}

#[expect(clippy::indexing_slicing, reason = "numbers come from the graph")]
#[expect(clippy::as_conversions, reason = "at most 10,000 nodes")]
fn at<T: Copy>(list: &[T], number: u32) -> T {
    list[number as usize]
}
