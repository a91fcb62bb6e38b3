//! Meshes as they are built: nodes and links by number, drawn from a seed or given.
#![expect(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing,
    reason = "numbers of nodes are below the count of nodes, which is at most NODES_MAX"
)]

use std::collections::BTreeMap;

use hawser_routing::{AdjacencyMetrics, LinkMetrics, NodeFlags, Topology, Weights};
use hawser_wire::TrafficClass;

use crate::random::Random;

/// Most nodes of a simulated mesh: room is left for each of them to be known in the database and in
/// the table of members.
pub const NODES_MAX: usize = 10_000;

/// The families of meshes that can be drawn.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum GraphKind {
    /// Random points, near ones linked rather than far ones (Waxman 1988), about 5 links a node.
    Waxman,
    /// Each new node links to 2 old ones, many-linked ones rather than others (Barabási and Albert
    /// 1999).
    BarabasiAlbert,
    /// A ring, and a chord to anywhere at each node.
    Ring,
    /// Core, aggregation and edge switches as nodes, and hosts with one link each (Al-Fares 2008).
    FatTree,
}

impl GraphKind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Waxman, Self::BarabasiAlbert, Self::Ring, Self::FatTree];

    /// Lower-case name for people and programs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Waxman => "waxman",
            Self::BarabasiAlbert => "ba",
            Self::Ring => "ring",
            Self::FatTree => "fat-tree",
        }
    }
}

/// Two neighbours.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GraphLink {
    /// The one with the smaller number first.
    pub(crate) ends: [u32; 2],
    /// From the first to the second, and back.
    pub(crate) metrics: [AdjacencyMetrics; 2],
}

/// A mesh: who is there, and who has a link to whom.
#[derive(Clone, Debug)]
pub struct MeshGraph {
    pub(crate) name: &'static str,
    pub(crate) nodes: Vec<NodeFlags>,
    pub(crate) links: Vec<GraphLink>,
    pub(crate) weights: [Weights; TrafficClass::ALL.len()],
}

impl MeshGraph {
    /// A mesh of `nodes` nodes, 2 to [`NODES_MAX`], in which each can be reached from each other.
    /// The same seed draws the same one.
    #[must_use]
    pub fn draw(kind: GraphKind, nodes: usize, seed: u64) -> Self {
        let nodes = nodes.clamp(2, NODES_MAX);
        let count = nodes as u32;
        let mut random = Random::new(seed).fork(10);
        let mut plan = Plan::new(count, &mut random);
        match kind {
            GraphKind::Waxman => plan.waxman(&mut random),
            GraphKind::BarabasiAlbert => plan.barabasi_albert(&mut random),
            GraphKind::Ring => plan.ring(&mut random),
            GraphKind::FatTree => plan.fat_tree(&mut random),
        }
        plan.connect();
        let link = |(&(a, b), &latency_us): (&(u32, u32), &u32)| {
            let metrics = AdjacencyMetrics { latency_us, ..AdjacencyMetrics::default() };
            GraphLink { ends: [a, b], metrics: [metrics; 2] }
        };
        Self {
            name: kind.name(),
            nodes: vec![NodeFlags::default(); nodes],
            links: plan.links.iter().map(link).collect(),
            weights: [Weights::default(); TrafficClass::ALL.len()],
        }
    }

    /// The mesh that an operator has described. Of its nodes there must be 2 to [`NODES_MAX`]; a
    /// mesh of several pieces is simulated as such. Loss and utilisation of its links are metrics
    /// alone: nothing is lost by them.
    #[must_use]
    pub fn of_topology(topology: &Topology) -> Self {
        let back = |ends: (u32, u32)| topology.metrics(ends.1, ends.0).copied().unwrap_or_default();
        let both = topology.arcs().filter(|((a, b), _)| a < b);
        let links = both.map(|(ends, metrics)| GraphLink {
            ends: [ends.0, ends.1],
            metrics: [advertised(metrics), advertised(&back(ends))],
        });
        Self {
            name: "file",
            nodes: topology.flags().to_vec(),
            links: links.collect(),
            weights: TrafficClass::ALL.map(|class| *topology.weights(class)),
        }
    }

    /// Nodes.
    #[must_use]
    pub fn nodes(&self) -> usize {
        self.nodes.len()
    }

    /// Links.
    #[must_use]
    pub fn links(&self) -> usize {
        self.links.len()
    }
}

/// Metrics as a node would announce them.
fn advertised(metrics: &LinkMetrics) -> AdjacencyMetrics {
    // A conversion from float to integer saturates.
    AdjacencyMetrics {
        latency_us: metrics.latency_us,
        bandwidth_kbps: metrics.bandwidth_mbps.map_or(0, |mbps| ((mbps * 1e3) as u32).max(1)),
        loss_ppm: ((metrics.loss * 1e6) as u32).min(AdjacencyMetrics::LOSS_PPM_END - 1),
        utilization_permille: (metrics.utilization * 1e3) as u16,
        admin: metrics.admin.try_into().unwrap_or(u16::MAX),
    }
}

/// Links with their latency in microseconds, and where the nodes stand.
struct Plan {
    points: Vec<(f64, f64)>,
    links: BTreeMap<(u32, u32), u32>,
}

/// Across the square in which the points lie.
const SQUARE_US: f64 = 40_000.0;

impl Plan {
    fn new(nodes: u32, random: &mut Random) -> Self {
        let points = (0..nodes).map(|_| (unit(random), unit(random))).collect();
        Self { points, links: BTreeMap::new() }
    }

    fn nodes(&self) -> u32 {
        self.points.len() as u32
    }

    fn distance(&self, a: u32, b: u32) -> f64 {
        let ((ax, ay), (bx, by)) = (self.points[a as usize], self.points[b as usize]);
        (ax - bx).hypot(ay - by)
    }

    fn add(&mut self, a: u32, b: u32, latency_us: u32) {
        if a != b {
            self.links.entry((a.min(b), a.max(b))).or_insert(latency_us);
        }
    }

    /// A link as long as its ends are apart.
    fn add_far(&mut self, a: u32, b: u32) {
        self.add(a, b, 50 + (self.distance(a, b) * SQUARE_US) as u32);
    }

    fn waxman(&mut self, random: &mut Random) {
        let nodes = self.nodes();
        let wanted = (nodes as usize * 5 / 2).min(nodes as usize * (nodes as usize - 1) / 2);
        // Of a handful of nodes not every pair is ever drawn.
        for _ in 0..wanted.saturating_mul(1000) {
            if self.links.len() >= wanted {
                break;
            }
            let (a, b) = (below(random, nodes), below(random, nodes));
            if unit(random) < (-self.distance(a, b) / 0.2).exp() {
                self.add_far(a, b);
            }
        }
    }

    fn barabasi_albert(&mut self, random: &mut Random) {
        // A node stands here once for each of its links.
        let mut ends = vec![0, 1];
        self.add_far(0, 1);
        for node in 2..self.nodes() {
            for _ in 0..2 {
                let other = ends[below(random, ends.len() as u32) as usize];
                self.add_far(node, other);
                ends.extend([node, other]);
            }
        }
    }

    fn ring(&mut self, random: &mut Random) {
        let nodes = self.nodes();
        for node in 0..nodes {
            self.add(node, (node + 1) % nodes, 500 + below(random, 1_000));
            self.add(node, below(random, nodes), 500 + below(random, 10_000));
        }
    }

    /// The smallest even number of ports with which there is room for all nodes: first the switches,
    /// `k²/4` in the core and `k` pods of `k/2` and `k/2`, then hosts by turns at the edge switches.
    fn fat_tree(&mut self, random: &mut Random) {
        let nodes = self.nodes();
        let room = |k: u32| 5 * k * k / 4 + k * k * k / 4;
        let k = (1..).map(|half| 2 * half).find(|&k| room(k) >= nodes).unwrap_or(2);
        let half = k / 2;
        let (cores, aggregations) = (half * half, half * half + k * half);
        let switches = aggregations + k * half;
        let latency = |random: &mut Random| 20 + below(random, 20);
        let exists = |node: u32| node < nodes;
        for pod in 0..k {
            for at in 0..half {
                let aggregation = cores + pod * half + at;
                for port in 0..half {
                    let (core, edge) = (at * half + port, aggregations + pod * half + port);
                    for other in [core, edge].into_iter().filter(|&node| exists(node)) {
                        if exists(aggregation) {
                            self.add(aggregation, other, latency(random));
                        }
                    }
                }
            }
        }
        for host in switches..nodes {
            let edge = aggregations + (host - switches) % (k * half);
            self.add(host, edge, latency(random));
        }
    }

    /// What hangs on nothing is tied to its nearest neighbour among the first thousand nodes.
    fn connect(&mut self) {
        let nodes = self.nodes();
        let mut group: Vec<u32> = (0..nodes).collect();
        for &(a, b) in self.links.keys() {
            let (a, b) = (root(&mut group, a), root(&mut group, b));
            group[a as usize] = b;
        }
        for node in 1..nodes {
            let (own, first) = (root(&mut group, node), root(&mut group, 0));
            if own == first {
                continue;
            }
            let near: Vec<u32> = (0..nodes.min(1000)).collect();
            let near = near.into_iter().filter(|&other| root(&mut group, other) == first);
            let nearest =
                near.min_by(|&a, &b| self.distance(node, a).total_cmp(&self.distance(node, b)));
            self.add_far(node, nearest.unwrap_or(0));
            group[own as usize] = first;
        }
    }
}

fn root(group: &mut [u32], mut node: u32) -> u32 {
    while group[node as usize] != node {
        group[node as usize] = group[group[node as usize] as usize];
        node = group[node as usize];
    }
    node
}

fn below(random: &mut Random, bound: u32) -> u32 {
    random.below(bound.into()) as u32
}

/// From 0 to 1.
fn unit(random: &mut Random) -> f64 {
    (random.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(graph: &MeshGraph) -> usize {
        let mut group: Vec<u32> = (0..graph.nodes() as u32).collect();
        for link in &graph.links {
            let [a, b] = link.ends.map(|end| root(&mut group, end));
            group[a as usize] = b;
        }
        (0..graph.nodes() as u32).filter(|&node| root(&mut group, node) == node).count()
    }

    #[test]
    fn every_family_is_one_piece_of_the_size_that_was_asked_for() {
        for kind in GraphKind::ALL {
            for nodes in [2, 3, 7, 50, 99, 100, 1000] {
                let graph = MeshGraph::draw(kind, nodes, 3);
                assert_eq!((graph.nodes(), pieces(&graph)), (nodes, 1), "{kind:?} {nodes}");
                assert!(graph.links.iter().all(|link| link.ends[0] < link.ends[1]));
            }
        }
    }

    #[test]
    fn a_fat_tree_has_its_ports() {
        // Six ports: 9 core, 18 aggregation, 18 edge switches, 54 hosts.
        let graph = MeshGraph::draw(GraphKind::FatTree, 99, 1);
        let mut ports = vec![0; 99];
        for end in graph.links.iter().flat_map(|link| link.ends) {
            ports[end as usize] += 1;
        }
        assert!(ports[..45].iter().all(|&count| count == 6), "{ports:?}");
        assert!(ports[45..].iter().all(|&count| count == 1), "{ports:?}");
    }

    #[test]
    fn a_seed_draws_a_mesh() {
        for kind in GraphKind::ALL {
            let links = |seed| format!("{:?}", MeshGraph::draw(kind, 60, seed).links);
            assert_eq!(links(5), links(5));
            assert_ne!(links(5), links(6), "{kind:?}");
        }
    }
}
