//! What a topology would carry: paths, and what is lost when links are cut and nodes drained.

use std::collections::BTreeMap;

use hawser_wire::TrafficClass;

use crate::disjoint::{LinkDisjointPairs, NodeDisjointPairs};
use crate::explain::{best_paths, check_ends};
use crate::graph::{Graph, GraphError, NodeNumber, PathKey};
use crate::protection::{Protection, Reach};
use crate::spf::{ShortestPathTree, SpfWorkspace};
use crate::topology::Topology;

/// Two nodes: of a pair the smaller number first, of an arc where it begins.
pub type NodePair = (NodeNumber, NodeNumber);

/// A path, from its source to its destination.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PlannedPath {
    /// Its nodes, both ends among them.
    pub nodes: Vec<NodeNumber>,
    /// Sum of the arcs' costs.
    pub cost: u64,
}

/// Paths from one node to another.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PlannedPaths {
    /// The best ones, best first.
    pub paths: Vec<PlannedPath>,
    /// Two that share no link, of least total cost, the better one first; none if there are no two.
    pub disjoint: Option<[PlannedPath; 2]>,
}

/// The best `k` paths, and two that share no link.
///
/// # Errors
/// [`GraphError`] if the topology is too large, or one of the nodes is not in it.
pub fn plan_paths(
    topology: &Topology,
    class: TrafficClass,
    (source, destination): NodePair,
    k: usize,
) -> Result<PlannedPaths, GraphError> {
    let graph = topology.graph(class)?;
    let list = best_paths(&graph, source, destination, k)?;
    let paths = (0..list.len())
        .map(|at| planned(list.nodes(at).collect(), list.key(at).unwrap_or_default()))
        .collect();
    let mut workspace = SpfWorkspace::default();
    let mut tree = ShortestPathTree::default();
    tree.compute(&graph, source, &mut workspace);
    let mut by_link = LinkDisjointPairs::default();
    by_link.compute(&graph, &tree);
    let mut nodes = [Vec::new(), Vec::new()];
    let keys = by_link.pair_into(&graph, &tree, destination, &mut nodes);
    Ok(PlannedPaths { paths, disjoint: planned_pair(keys, nodes) })
}

/// Two paths that share no node but their ends, nor a link, of least total cost, the better one first;
/// none if there are no two, or if the topology has more than half of the nodes that a graph may have.
///
/// # Errors
/// [`GraphError`] if the topology is too large, or one of the nodes is not in it.
pub fn plan_node_disjoint(
    topology: &Topology,
    class: TrafficClass,
    (source, destination): NodePair,
) -> Result<Option<[PlannedPath; 2]>, GraphError> {
    let graph = topology.graph(class)?;
    check_ends(&graph, source, destination)?;
    // An error means that there is no room for two of each node.
    let pairs = NodeDisjointPairs::compute(&graph, source, &mut SpfWorkspace::default()).ok();
    let mut nodes = [Vec::new(), Vec::new()];
    let keys = pairs.and_then(|mut pairs| pairs.pair_into(destination, &mut nodes));
    Ok(planned_pair(keys, nodes))
}

const fn planned(nodes: Vec<NodeNumber>, key: PathKey) -> PlannedPath {
    PlannedPath { nodes, cost: key.cost() }
}

fn planned_pair(
    keys: Option<[PathKey; 2]>,
    nodes: [Vec<NodeNumber>; 2],
) -> Option<[PlannedPath; 2]> {
    let ([a, b], [first, second]) = (keys?, nodes);
    Some([planned(first, a), planned(second, b)])
}

/// Traffic from one node to another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Demand {
    /// Where it begins.
    pub from: NodeNumber,
    /// Where it ends.
    pub to: NodeNumber,
    /// How much, in megabits a second.
    pub mbps: f64,
}

/// What a change takes away.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Impact {
    /// Pairs that had a path and have none.
    pub unreachable: Vec<NodePair>,
    /// Pairs that had two paths without a common link, and have a path but not two such.
    pub unprotected: Vec<NodePair>,
    /// Arcs that the demands, each on its best path, fill beyond their bandwidth, and did not before or
    /// with less; none if there are no demands to tell by.
    pub overloaded: Option<Vec<NodePair>>,
}

impl Impact {
    /// Whether nothing is taken away.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.unreachable.is_empty()
            && self.unprotected.is_empty()
            && self.overloaded.as_ref().is_none_or(Vec::is_empty)
    }
}

/// Compares two topologies of the same nodes. Demands travel in `class`.
///
/// # Errors
/// [`GraphError`] if the topology is too large, or a demand names a node that is not in it.
pub fn plan_impact(
    before: &Topology,
    after: &Topology,
    class: TrafficClass,
    demands: Option<&[Demand]>,
) -> Result<Impact, GraphError> {
    let (old, new) = (before.graph(class)?, after.graph(class)?);
    let mut impact = Impact::default();
    let mut protection = Protection::default();
    let (mut had, mut has) = (Vec::new(), Vec::new());
    for (a, _) in (0..).zip(0..old.nodes()) {
        protection.survey(&old, a, &mut had);
        protection.survey(&new, a, &mut has);
        let pairs = (0..).zip(had.iter().zip(&has)).filter(|(b, _)| *b > a);
        for (b, (had, has)) in pairs {
            match (had, has) {
                (Reach::Unprotected | Reach::Protected, Reach::No) => {
                    impact.unreachable.push((a, b));
                }
                (Reach::Protected, Reach::Unprotected) => impact.unprotected.push((a, b)),
                _ => {}
            }
        }
    }
    if let Some(demands) = demands {
        let had = overloaded(before, &old, demands)?;
        let has = overloaded(after, &new, demands)?;
        // Equal loads may be sums of other demands, and differ by what rounding leaves.
        let is_more = |mbps: f64, had: f64| mbps > had * (1.0 + 1e-9);
        let worse = has
            .into_iter()
            .filter(|&(arc, mbps)| had.get(&arc).is_none_or(|&had| is_more(mbps, had)));
        impact.overloaded = Some(worse.map(|(arc, _)| arc).collect());
    }
    Ok(impact)
}

/// The arcs that carry more than they can, with how much that is in megabits a second.
fn overloaded(
    topology: &Topology,
    graph: &Graph,
    demands: &[Demand],
) -> Result<BTreeMap<NodePair, f64>, GraphError> {
    let mut loads: BTreeMap<NodePair, f64> = BTreeMap::new();
    for demand in demands {
        let list = best_paths(graph, demand.from, demand.to, 1)?;
        for (from, to) in list.nodes(0).zip(list.nodes(0).skip(1)) {
            *loads.entry((from, to)).or_default() += demand.mbps;
        }
    }
    loads.retain(|&(from, to), mbps| {
        let limit = topology.metrics(from, to).and_then(|metrics| metrics.bandwidth_mbps);
        limit.is_some_and(|limit| *mbps > limit)
    });
    Ok(loads)
}
