use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::Instant;

use anyhow::{Context, Result};
use hawser_routing::{
    Adjacency, AdjacencyMetrics, Backups, CertificateHash, Graph, KPaths, LinkDisjointPairs,
    LinkMetrics, Lsa, LsaFlags, Lsdb, MeshTopology, NODES_MAX, NodeDisjointPairs, NodeFlags,
    PathComputer, PathLimits, PathList, Rib, ShortestPathTree, SpfWorkspace, Step, Topology,
    Weights,
};
use hawser_wire::{AdjacencyIndex, Incarnation, NodeId, TrafficClass};
use petgraph::graph::{DiGraph, NodeIndex};

use crate::row::{Case, Rows};

/// Paths to each destination.
const K: usize = 4;

/// The tables of one source on five families of graphs, beside petgraph's Dijkstra on the same
/// graph in the same run; all of them, or those that are named.
pub(crate) fn measure(rows: &mut Rows, nodes: Option<u32>, family: Option<Family>) -> Result<()> {
    for nodes in nodes.map_or_else(|| vec![1_000, 10_000], |nodes| vec![nodes]) {
        for family in Family::ALL.into_iter().filter(|&known| family.is_none_or(|f| f == known)) {
            let mesh = Mesh::new(family, nodes, SEED)?;
            rows.alternate("routing", &mut mesh.cases())?;
        }
    }
    Ok(())
}

/// A graph that [`measure`] takes, as `hawser plan` reads it: ids are the numbers, with leading
/// zeros, so that their order is that of the numbers.
pub(crate) fn topology_file(family: Family, nodes: u32) -> serde_json::Value {
    let id = |node: u32| format!("{node:05}");
    let ids: Vec<_> = (0..nodes).map(|node| serde_json::json!({ "id": id(node) })).collect();
    let link = |(&(a, b), &latency_us): (&(u32, u32), &u32)| serde_json::json!({ "a": id(a), "b": id(b), "latency_us": latency_us });
    let links = family.links(nodes, &mut Random(SEED));
    serde_json::json!({ "nodes": ids, "links": links.iter().map(link).collect::<Vec<_>>() })
}

/// Draws the graphs.
const SEED: u64 = 1;

#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub(crate) enum Family {
    /// Random points, near ones linked rather than far ones (Waxman 1988), about 5 links a node.
    Waxman,
    /// Each new node links to 2 old ones, many-linked ones rather than others.
    BarabasiAlbert,
    /// A ring, and a chord to anywhere at each node.
    RingWithChords,
    /// Random points, all near ones linked, about 6 links a node: the longest paths.
    Geometric,
    /// A ring with chords whose latencies are all the same: ties everywhere.
    EqualRing,
}

impl Family {
    const ALL: [Self; 5] = [
        Self::Waxman,
        Self::BarabasiAlbert,
        Self::RingWithChords,
        Self::Geometric,
        Self::EqualRing,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Waxman => "Waxman",
            Self::BarabasiAlbert => "Barabasi-Albert",
            Self::RingWithChords => "ring with chords",
            Self::Geometric => "geometric",
            Self::EqualRing => "ring, all equal",
        }
    }

    /// Links with their latency in microseconds; every node can be reached from every other.
    fn links(self, nodes: u32, random: &mut Random) -> BTreeMap<(u32, u32), u32> {
        let mut links = Links { links: BTreeMap::new() };
        let points: Vec<(f64, f64)> = (0..nodes).map(|_| (random.unit(), random.unit())).collect();
        let distance = |a: u32, b: u32| {
            let ((ax, ay), (bx, by)) = (points[a as usize], points[b as usize]);
            (ax - bx).hypot(ay - by)
        };
        let latency = |a, b| 50 + (distance(a, b) * 40_000.0) as u32;
        match self {
            Self::Waxman => {
                while links.links.len() < nodes as usize * 5 / 2 {
                    let (a, b) = (random.below(nodes), random.below(nodes));
                    if random.unit() < (-distance(a, b) / 0.2).exp() {
                        links.add(a, b, latency(a, b));
                    }
                }
            }
            Self::BarabasiAlbert => {
                // A node stands here once for each of its links.
                let mut ends = vec![0, 1];
                links.add(0, 1, latency(0, 1));
                for node in 2..nodes {
                    for _ in 0..2 {
                        let other = ends[random.below(ends.len() as u32) as usize];
                        links.add(node, other, latency(node, other));
                        ends.extend([node, other]);
                    }
                }
            }
            Self::RingWithChords | Self::EqualRing => {
                let spread = if self == Self::EqualRing { 1 } else { 10_000 };
                for node in 0..nodes {
                    links.add(node, (node + 1) % nodes, 500 + random.below(spread / 10));
                    links.add(node, random.below(nodes), 500 + random.below(spread));
                }
            }
            Self::Geometric => {
                let radius = (6.0 / (std::f64::consts::PI * f64::from(nodes))).sqrt();
                for a in 0..nodes {
                    for b in 0..a {
                        if distance(a, b) < radius {
                            links.add(a, b, latency(a, b));
                        }
                    }
                }
            }
        }
        // What hangs on nothing is tied to its nearest neighbour among the first thousand nodes.
        let mut group: Vec<u32> = (0..nodes).collect();
        for &(a, b) in links.links.keys() {
            let (a, b) = (root(&mut group, a), root(&mut group, b));
            group[a as usize] = b;
        }
        for node in 1..nodes {
            let (a, b) = (root(&mut group, node), root(&mut group, 0));
            if a != b {
                let mut nearest = None;
                for other in 0..nodes.min(1000) {
                    let near = root(&mut group, other) == b;
                    if near && nearest.is_none_or(|old| distance(node, other) < distance(node, old))
                    {
                        nearest = Some(other);
                    }
                }
                let other = nearest.unwrap_or(0);
                links.add(node, other, latency(node, other));
                group[a as usize] = b;
            }
        }
        links.links
    }
}

fn root(group: &mut [u32], mut node: u32) -> u32 {
    while group[node as usize] != node {
        group[node as usize] = group[group[node as usize] as usize];
        node = group[node as usize];
    }
    node
}

struct Links {
    links: BTreeMap<(u32, u32), u32>,
}

impl Links {
    fn add(&mut self, a: u32, b: u32, latency_us: u32) {
        if a != b {
            self.links.entry((a.min(b), a.max(b))).or_insert(latency_us);
        }
    }
}

/// One graph, here and as petgraph has it.
struct Mesh {
    name: String,
    topology: Topology,
    graph: Graph,
    petgraph: DiGraph<(), u64>,
}

impl Mesh {
    fn new(family: Family, nodes: u32, seed: u64) -> Result<Self> {
        let mut topology =
            Topology::new(vec![NodeFlags::default(); nodes as usize], [Weights::default(); 3]);
        let mut petgraph = DiGraph::new();
        for _ in 0..nodes {
            petgraph.add_node(());
        }
        for ((a, b), latency_us) in family.links(nodes, &mut Random(seed)) {
            let metrics = LinkMetrics { latency_us, ..LinkMetrics::default() };
            topology.add_link((a, b), metrics, metrics)?;
            let (a, b) = (NodeIndex::new(a as usize), NodeIndex::new(b as usize));
            petgraph.add_edge(a, b, u64::from(latency_us));
            petgraph.add_edge(b, a, u64::from(latency_us));
        }
        let graph = topology.graph(TrafficClass::Bulk)?;
        let name = format!("{}, {nodes}", family.name());
        Ok(Self { name, topology, graph, petgraph })
    }

    fn cases(&self) -> Vec<Case<'_>> {
        let mut cases = vec![self.table(), self.disjoint(), self.change(), self.snapshot()];
        // Larger ones it does not take.
        if self.graph.nodes() <= NODES_MAX / 2 {
            cases.insert(2, self.node_disjoint());
        }
        #[cfg(feature = "pathfinding")]
        let cases = cases.into_iter().chain([self.pathfinding()]).collect();
        cases
    }

    /// What pathfinding takes: its Dijkstra to all, and its Yen to a few destinations, of which
    /// ours are computed, too. Where it does not find the K best, that is counted and no failure.
    #[cfg(feature = "pathfinding")]
    fn pathfinding(&self) -> Case<'_> {
        const UNITS: &[&str] =
            &["ms Dijkstra to all", "ms Yen a destination", "times ours", "wrong, of 8"];
        const DESTINATIONS: usize = 8;
        let successors: Vec<Vec<(u32, u64)>> = (0..self.graph.nodes() as u32)
            .map(|node| {
                let cost = |to| u64::from(self.graph.cost(node, to).unwrap_or_default());
                self.graph.neighbours(node).map(|to| (to, cost(to))).collect()
            })
            .collect();
        let (mut tree, mut workspace) = (ShortestPathTree::default(), SpfWorkspace::default());
        tree.compute(&self.graph, 0, &mut workspace);
        self.case("pathfinding", UNITS, move || {
            let of = |&node: &u32| successors[node as usize].iter().copied();
            let begin = Instant::now();
            let all = pathfinding::directed::dijkstra::dijkstra_all(&0_u32, of);
            let all_ms = millis(begin);
            anyhow::ensure!(all.len() == successors.len() - 1);
            let (mut yen_ms, mut own_ms, mut wrong) = (0.0, 0.0, 0);
            let (mut paths, mut list) = (KPaths::default(), PathList::default());
            for part in 1..=DESTINATIONS {
                let to = (successors.len() - 1) * part / DESTINATIONS;
                let begin = Instant::now();
                let found =
                    pathfinding::directed::yen::yen(&0_u32, of, |node| *node as usize == to, K);
                yen_ms += millis(begin);
                let begin = Instant::now();
                paths.reset(&self.graph);
                paths.compute(&self.graph, &tree, to as u32, PathLimits::paths(K), &mut list);
                own_ms += millis(begin);
                let costs = (0..list.len()).filter_map(|path| Some(list.key(path)?.cost()));
                wrong += u32::from(!costs.eq(found.iter().map(|(_, cost)| *cost)));
            }
            let each = DESTINATIONS as f64;
            Ok(vec![all_ms, yen_ms / each, yen_ms / own_ms, f64::from(wrong)])
        })
    }

    /// The tree, the backups and the best paths to all, from nothing.
    fn table(&self) -> Case<'_> {
        const UNITS: &[&str] =
            &["ms table", "ms tree", "ms tree+backup", "ms petgraph", "petgraphs"];
        let (mut tree, mut workspace) = (ShortestPathTree::default(), SpfWorkspace::default());
        let (mut backups, mut paths) = (Backups::default(), KPaths::default());
        let mut table = vec![PathList::default(); self.graph.nodes()];
        self.case("table", UNITS, move || {
            let begin = Instant::now();
            tree.compute(&self.graph, 0, &mut workspace);
            let tree_ms = millis(begin);
            backups.compute(&self.graph, &tree, &mut workspace);
            let backups_ms = millis(begin);
            let begin = Instant::now();
            paths.reset(&self.graph);
            for (destination, list) in (0..).zip(&mut table) {
                paths.compute(&self.graph, &tree, destination, PathLimits::routable(K), list);
            }
            let table_ms = tree_ms + millis(begin);
            let begin = Instant::now();
            let costs = petgraph::algo::dijkstra(&self.petgraph, NodeIndex::new(0), None, |edge| {
                *edge.weight()
            });
            let petgraph_ms = millis(begin);
            for (node, list) in (0..).zip(&table).skip(1) {
                let best = tree.key(node).context("no path")?;
                // A path that no route header takes is in no table.
                let far = best.hops() > PathLimits::routable(K).hops_max;
                anyhow::ensure!(far == list.is_empty());
                let node = NodeIndex::new(node as usize);
                anyhow::ensure!(costs.get(&node) == Some(&best.cost()));
            }
            black_box((&table, &backups));
            Ok(vec![table_ms, tree_ms, backups_ms, petgraph_ms, table_ms / petgraph_ms])
        })
    }

    /// Two paths without a common link to all, with the tree.
    fn disjoint(&self) -> Case<'_> {
        let (mut tree, mut workspace) = (ShortestPathTree::default(), SpfWorkspace::default());
        let mut pairs = LinkDisjointPairs::default();
        self.case("disjoint", &["ms"], move || {
            let begin = Instant::now();
            tree.compute(&self.graph, 0, &mut workspace);
            pairs.compute(&self.graph, &tree);
            black_box(&pairs);
            Ok(vec![millis(begin)])
        })
    }

    /// Two paths without a common node to all, with the graph of split nodes and its tree.
    fn node_disjoint(&self) -> Case<'_> {
        let mut workspace = SpfWorkspace::default();
        self.case("node-disjoint", &["ms"], move || {
            let begin = Instant::now();
            let pairs = NodeDisjointPairs::compute(&self.graph, 0, &mut workspace)?;
            let elapsed = millis(begin);
            black_box(&pairs);
            Ok(vec![elapsed])
        })
    }

    /// One arc after the other gets a latency up to a half more or less; from there to what is
    /// published, first without all paths and then with them.
    fn change(&self) -> Case<'_> {
        const UNITS: &[&str] = &["ms p50", "ms p99", "ms max", "ms p99 tree+backup"];
        let arcs: Vec<_> = self.topology.arcs().map(|(ends, metrics)| (ends, *metrics)).collect();
        let (mut rib, mut random) = (None, Random(2));
        self.case("change", UNITS, move || {
            if rib.is_none() {
                let mut new = Rib::new(&self.topology, 0, K)?;
                new.compute_paths(usize::MAX);
                rib = Some(new);
            }
            let rib: &mut Rib = rib.as_mut().context("no table")?;
            let mut published = rib.publish();
            let (mut first, mut all) = (Vec::new(), Vec::new());
            for _ in 0..CHANGES {
                let ((from, to), mut metrics) = arcs[random.below(arcs.len() as u32) as usize];
                metrics.latency_us = metrics.latency_us / 2 + random.below(metrics.latency_us);
                let begin = Instant::now();
                rib.handle_arc(from, to, Some(&metrics))?;
                published = rib.publish();
                first.push(millis(begin));
                rib.compute_paths(usize::MAX);
                published = rib.publish();
                all.push(millis(begin));
            }
            black_box(&published);
            for times in [&mut first, &mut all] {
                times.sort_by(f64::total_cmp);
            }
            let at = |times: &[f64], percent: usize| times[(times.len() - 1) * percent / 100];
            Ok(vec![at(&all, 50), at(&all, 99), at(&all, 100), at(&first, 99)])
        })
    }

    /// One advertisement after the other tells another latency of one link; from when it is stored to
    /// the snapshots that shards read: the map, the first snapshot (best paths and backups) and the
    /// one with all paths.
    fn snapshot(&self) -> Case<'_> {
        const UNITS: &[&str] = &["ms p50", "ms p99", "ms p99 map", "ms p99 first"];
        let (mut computer, mut lsdb, mut random) = (PathComputer::new(K), self.lsdb(), Random(3));
        let weights = [Weights::default(); TrafficClass::ALL.len()];
        let mut mesh = MeshTopology::new(&lsdb, node_id(0), weights);
        self.case("snapshot", UNITS, move || {
            let (mut map, mut first, mut all) = (Vec::new(), Vec::new(), Vec::new());
            for _ in 0..CHANGES {
                let origin = node_id(random.below(self.topology.nodes() as u32));
                let mut lsa = lsdb.get(origin).context("no such node")?.clone();
                let at = random.below(lsa.adjacencies.len() as u32) as usize;
                let latency_us = &mut lsa.adjacencies[at].metrics.latency_us;
                *latency_us = *latency_us / 2 + random.below((*latency_us).max(100));
                lsa.sequence += 1;
                let begin = Instant::now();
                let _newest = lsdb.insert(lsa);
                mesh = mesh.update(&lsdb);
                map.push(millis(begin));
                let new = std::sync::Arc::new(mesh.clone());
                let mut snapshot = computer.handle_mesh(lsdb.digest(), new, Vec::new())?;
                first.push(millis(begin));
                while !snapshot.complete {
                    if let Step::Published(next) = computer.advance(usize::MAX) {
                        snapshot = next;
                    }
                }
                all.push(millis(begin));
                // The disjoint pairs, which have a figure of their own.
                while !matches!(computer.advance(usize::MAX), Step::Idle) {}
            }
            for times in [&mut map, &mut first, &mut all] {
                times.sort_by(f64::total_cmp);
            }
            let at = |times: &[f64], percent: usize| times[(times.len() - 1) * percent / 100];
            Ok(vec![at(&all, 50), at(&all, 99), at(&map, 99), at(&first, 99)])
        })
    }

    /// The graph as link-state advertisements; a node's number is in its id.
    fn lsdb(&self) -> Lsdb {
        let mut links: BTreeMap<u32, Vec<Adjacency>> = BTreeMap::new();
        for ((from, to), metrics) in self.topology.arcs() {
            let metrics =
                AdjacencyMetrics { latency_us: metrics.latency_us, ..AdjacencyMetrics::default() };
            let index = AdjacencyIndex(to);
            let link = Adjacency { neighbour: node_id(to), index, metrics };
            links.entry(from).or_default().push(link);
        }
        let mut lsdb = Lsdb::new();
        for (node, adjacencies) in links {
            let _newest = lsdb.insert(Lsa {
                origin: node_id(node),
                incarnation: Incarnation(1),
                sequence: 1,
                name: String::new(),
                address: String::new(),
                public_key: [0; 32],
                certificate: CertificateHash::default(),
                flags: LsaFlags::default(),
                adjacencies,
                routes: Vec::new(),
                signature: [0; 64],
            });
        }
        lsdb
    }

    fn case<'a>(
        &self,
        what: &str,
        units: &'static [&'static str],
        run: impl FnMut() -> Result<Vec<f64>> + 'a,
    ) -> Case<'a> {
        Case::new(format!("{what}, {}", self.name), 0, units, run)
    }
}

fn node_id(number: u32) -> NodeId {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    NodeId::from_bytes(bytes)
}

/// Changes in a run.
const CHANGES: usize = 300;

fn millis(begin: Instant) -> f64 {
    begin.elapsed().as_secs_f64() * 1e3
}

/// `SplitMix64`: seeded, the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u32) -> u32 {
        (self.next() % u64::from(bound.max(1))) as u32
    }

    /// From 0 to 1.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each run compares the costs with petgraph's.
    #[test]
    fn what_is_timed_is_right() {
        for family in Family::ALL {
            let mesh = Mesh::new(family, 300, 7).unwrap();
            for case in &mut mesh.cases() {
                let figures = (case.run)().unwrap();
                assert_eq!(figures.len(), case.units.len(), "{}", case.name);
            }
        }
    }
}
