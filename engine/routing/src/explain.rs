//! Why the traffic to a destination goes the way it goes.

use hawser_wire::TrafficClass;

use crate::graph::{Graph, GraphError, NodeNumber, PathKey};
use crate::k_paths::{KPaths, PathLimits};
use crate::path_list::PathList;
use crate::spf::{ShortestPathTree, SpfWorkspace};
use crate::topology::{CostTerms, Topology};

/// What became of a candidate.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// An operator has set it: it goes before all others.
    Operator,
    /// It would be the best path if an operator had not set another one.
    Overruled,
    /// The best path.
    Best,
    /// It costs so much more than the best path.
    Dearer {
        /// The difference.
        by: u64,
    },
    /// It costs the same and has so many more hops.
    Longer {
        /// The difference.
        by: u64,
    },
    /// Cost and hops are the same; its list of nodes is the greater one.
    LaterInOrder,
    /// It would lead through a stub or an overloaded node.
    NoTransit {
        /// The first such node.
        node: NodeNumber,
    },
}

/// One hop of a candidate.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ExplainedHop {
    /// Where it begins.
    pub from: NodeNumber,
    /// Where it ends.
    pub to: NodeNumber,
    /// What its cost is made of.
    pub terms: CostTerms,
}

/// A path that was considered.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Candidate {
    /// Cost and hops.
    pub key: PathKey,
    /// Hop by hop.
    pub hops: Vec<ExplainedHop>,
    /// What became of it.
    pub verdict: Verdict,
}

/// The best `k` paths from `source` to `destination` in `class`, best first; among them, where they
/// would stand, those that only a node's flags forbid. Before them `operator`, the list of nodes of
/// the path that an operator has set and that can be taken, if there is one.
///
/// # Errors
/// [`GraphError`] if the topology is too large, or one of the nodes is not in it.
pub fn explain(
    topology: &Topology,
    class: TrafficClass,
    (source, destination): (NodeNumber, NodeNumber),
    k: usize,
    operator: Option<&[NodeNumber]>,
) -> Result<Vec<Candidate>, GraphError> {
    let graph = topology.graph(class)?;
    let allowed = best_paths(&graph, source, destination, k)?;
    let arcs: Vec<_> = graph.all_arcs().collect();
    let all = best_paths(&Graph::new(vec![true; graph.nodes()], &arcs)?, source, destination, k)?;
    let forbidden = (0..all.len()).filter_map(|path| {
        let mut within = all.nodes(path).filter(|&node| node != source && node != destination);
        within.find(|&node| !graph.transits(node)).map(|node| (path, node))
    });
    let best = allowed.key(0).unwrap_or_default();
    let verdict = |at: usize, key: PathKey| match () {
        () if at == 0 && operator.is_some() => Verdict::Overruled,
        () if at == 0 => Verdict::Best,
        () if key.cost() > best.cost() => {
            Verdict::Dearer { by: key.cost().saturating_sub(best.cost()) }
        }
        () if key.hops() > best.hops() => {
            Verdict::Longer { by: key.hops().saturating_sub(best.hops()) }
        }
        () => Verdict::LaterInOrder,
    };
    let candidate = |key: PathKey, nodes: &[NodeNumber], verdict: Verdict| {
        let hops = nodes.iter().zip(nodes.iter().skip(1)).map(|(&from, &to)| {
            let metrics = topology.metrics(from, to).copied().unwrap_or_default();
            let terms = CostTerms::new(&metrics, topology.weights(class));
            ExplainedHop { from, to, terms }
        });
        Candidate { key, hops: hops.collect(), verdict }
    };
    let of_list = |list: &PathList, path: usize, verdict: &dyn Fn(PathKey) -> Verdict| {
        let (key, nodes) = (list.key(path).unwrap_or_default(), list.nodes(path));
        candidate(key, &nodes.collect::<Vec<_>>(), verdict(key))
    };
    let is_operators =
        |path: &usize| operator.is_some_and(|nodes| allowed.nodes(*path).eq(nodes.iter().copied()));
    let mut candidates: Vec<Candidate> = (0..allowed.len())
        .filter(|path| !is_operators(path))
        .map(|at| of_list(&allowed, at, &|key| verdict(at, key)))
        .collect();
    for (path, node) in forbidden {
        candidates.push(of_list(&all, path, &|_| Verdict::NoTransit { node }));
    }
    // Stable: of equal ones the allowed stands first.
    candidates.sort_by_key(|candidate| candidate.key);
    if let Some(nodes) = operator
        && let Some(key) = topology.path_key(class, nodes)
    {
        candidates.insert(0, candidate(key, nodes, Verdict::Operator));
    }
    Ok(candidates)
}

/// Both nodes are in the graph.
///
/// # Errors
/// [`GraphError::BadArc`] if one of them is not.
pub(crate) fn check_ends(
    graph: &Graph,
    source: NodeNumber,
    destination: NodeNumber,
) -> Result<(), GraphError> {
    let nodes = graph.nodes();
    let is_there = |node| usize::try_from(node).is_ok_and(|node| node < nodes);
    if !is_there(source) || !is_there(destination) {
        return Err(GraphError::BadArc { from: source, to: destination, nodes });
    }
    Ok(())
}

/// The best paths from one node to another.
///
/// # Errors
/// [`GraphError::BadArc`] if there is no such node.
pub fn best_paths(
    graph: &Graph,
    source: NodeNumber,
    destination: NodeNumber,
    k: usize,
) -> Result<PathList, GraphError> {
    check_ends(graph, source, destination)?;
    let mut tree = ShortestPathTree::default();
    tree.compute(graph, source, &mut SpfWorkspace::default());
    let mut k_paths = KPaths::default();
    k_paths.reset(graph);
    let mut list = PathList::default();
    k_paths.compute(graph, &tree, destination, PathLimits::paths(k), &mut list);
    Ok(list)
}
