//! Shortest paths from one node to every other (Dijkstra), straight from the database: what the tests
//! compare the path computation with.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use hawser_wire::{AdjacencyIndex, HOPS_MAX, NodeId};

use crate::{Lsa, Lsdb};

/// A path to a destination.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Path {
    /// Adjacency index at each node on the way, the source's first.
    pub hops: Vec<AdjacencyIndex>,
    /// The nodes that the hops lead to: as many as hops, the destination last, the source not in it.
    pub nodes: Vec<NodeId>,
    /// Sum of the metrics.
    pub cost: u64,
}

/// What is known of the best path to a node so far.
#[derive(Clone, Copy)]
struct Label {
    cost: u64,
    hops: usize,
    /// The node before it, and that node's index for it.
    before: Option<(NodeId, AdjacencyIndex)>,
}

/// The shortest path from `source` to each node that can be reached; `source` itself has none.
///
/// An adjacency counts only if the far end lists the near one too, so that a node that died
/// without a word carries nothing; nor does one that [says](Lsa::is_transit) that it does not. Of paths with equal cost the one with fewer hops is taken, of
/// those the one whose list of node ids is the smallest. No path takes more than [`HOPS_MAX`] hops:
/// a node that the cheapest way reaches later than that is tried by dearer ways with fewer hops.
#[must_use]
pub(crate) fn shortest_paths(lsdb: &Lsdb, source: NodeId) -> BTreeMap<NodeId, Path> {
    let mut labels = BTreeMap::from([(source, Label { cost: 0, hops: 0, before: None })]);
    let mut queue = BinaryHeap::from([Reverse((0_u64, 0_usize, source))]);
    while let Some(Reverse((cost, hops, node))) = queue.pop() {
        let stale = labels.get(&node).is_none_or(|label| (label.cost, label.hops) != (cost, hops));
        let ends_here = node != source && !lsdb.get(node).is_some_and(Lsa::is_transit);
        if stale || ends_here || hops >= HOPS_MAX {
            continue;
        }
        for link in lsdb.get(node).into_iter().flat_map(|lsa| &lsa.adjacencies) {
            let next = link.neighbour;
            if next == source || !lists(lsdb, next, node) {
                continue;
            }
            let new = Label {
                cost: cost.saturating_add(u64::from(link.metrics.latency_us)),
                hops: hops.saturating_add(1),
                before: Some((node, link.index)),
            };
            let order = labels.get(&next).map_or(std::cmp::Ordering::Less, |old| {
                (new.cost, new.hops).cmp(&(old.cost, old.hops)).then_with(|| {
                    old.before.map_or(std::cmp::Ordering::Less, |(other, _)| {
                        compare_paths(&labels, node, other)
                    })
                })
            });
            if order.is_lt() {
                // Only a better (cost, hops) needs another turn: a tie changes the parent alone,
                // and the node itself is not settled yet, since a hop costs at least its count.
                let again = labels
                    .insert(next, new)
                    .is_none_or(|old| (old.cost, old.hops) != (new.cost, new.hops));
                if again {
                    queue.push(Reverse((new.cost, new.hops, next)));
                }
            }
        }
    }
    labels.remove(&source);
    labels.iter().map(|(node, label)| (*node, unwind(&labels, *node, label.cost))).collect()
}

/// Whether `node` lists `neighbour`.
fn lists(lsdb: &Lsdb, node: NodeId, neighbour: NodeId) -> bool {
    lsdb.get(node).is_some_and(|lsa| lsa.adjacency(neighbour).is_some())
}

/// Compares the node lists of the paths to `a` and `b`, which have equally many hops: the first
/// difference decides, and climbing both at once it is the last that is met.
fn compare_paths(
    labels: &BTreeMap<NodeId, Label>,
    mut a: NodeId,
    mut b: NodeId,
) -> std::cmp::Ordering {
    let before = |node| labels.get(&node).and_then(|label| label.before).map(|(before, _)| before);
    let mut order = std::cmp::Ordering::Equal;
    while a != b {
        order = a.cmp(&b);
        let (Some(before_a), Some(before_b)) = (before(a), before(b)) else { break };
        (a, b) = (before_a, before_b);
    }
    order
}

/// The path to `node`, read back from its labels.
fn unwind(labels: &BTreeMap<NodeId, Label>, mut node: NodeId, cost: u64) -> Path {
    let mut path = Path { hops: Vec::new(), nodes: Vec::new(), cost };
    while let Some((before, index)) = labels.get(&node).and_then(|label| label.before) {
        path.hops.push(index);
        path.nodes.push(node);
        node = before;
    }
    path.hops.reverse();
    path.nodes.reverse();
    path
}
