//! Shortest-path tree of one source (Dijkstra 1959), the same at every computation.
#![expect(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing,
    reason = "node numbers are below the graph's own node count, keys below PathKey::NONE"
)]

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use crate::graph::{Graph, NodeNumber, PathKey};

/// No node.
pub(crate) const NO_NODE: NodeNumber = NodeNumber::MAX;

/// Nodes to be settled, by key; reused, so that a computation allocates nothing.
pub(crate) type Queue = BinaryHeap<Reverse<(u64, NodeNumber)>>;

/// The best path from `source` to every node that can be reached.
///
/// Of paths with equal cost the one with fewer hops is best, of those the one whose list of nodes is
/// the smallest. A best path begins with the best paths of the nodes on it, hence a tree.
///
/// **Invariant:** of two nodes at the same depth the one with the smaller preorder number has the
/// smaller list of nodes; what is below a node has the numbers `first..=last` of that node.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ShortestPathTree {
    source: NodeNumber,
    /// [`PathKey`] of the best path; [`PathKey::NONE`] if there is none.
    key: Vec<u64>,
    /// The node before; [`NO_NODE`] for the source and what cannot be reached.
    parent: Vec<NodeNumber>,
    /// Preorder numbers of a node and of the last one below it; (1, 0) if it cannot be reached.
    interval: Vec<(u32, u32)>,
    /// The nodes that can be reached, by preorder number.
    order: Vec<NodeNumber>,
}

/// What computing and changing a [`ShortestPathTree`] needs meanwhile.
#[derive(Clone, Debug, Default)]
pub struct SpfWorkspace {
    pub(crate) queue: Queue,
    first_child: Vec<NodeNumber>,
    next_sibling: Vec<NodeNumber>,
}

impl ShortestPathTree {
    /// Where all paths begin.
    #[must_use]
    pub const fn source(&self) -> NodeNumber {
        self.source
    }

    /// Cost and hops of the best path to `node`; zero for the source.
    #[must_use]
    pub fn key(&self, node: NodeNumber) -> Option<PathKey> {
        let key = self.key[node as usize];
        (key != PathKey::NONE).then_some(PathKey(key))
    }

    /// The node before `node` on its best path.
    #[must_use]
    pub fn parent(&self, node: NodeNumber) -> Option<NodeNumber> {
        let parent = self.parent[node as usize];
        (parent != NO_NODE).then_some(parent)
    }

    /// Puts the best path to `node` into `nodes`, the source first; empty if there is none.
    pub fn path_into(&self, node: NodeNumber, nodes: &mut Vec<NodeNumber>) {
        nodes.clear();
        if self.raw_key(node) != PathKey::NONE {
            self.climb_into(node, nodes);
            nodes.reverse();
        }
    }

    /// Computes the whole tree anew.
    pub fn compute(&mut self, graph: &Graph, source: NodeNumber, workspace: &mut SpfWorkspace) {
        let nodes = graph.nodes();
        self.source = source;
        self.key.clear();
        self.key.resize(nodes, PathKey::NONE);
        self.parent.clear();
        self.parent.resize(nodes, NO_NODE);
        self.key[source as usize] = 0;
        let queue = &mut workspace.queue;
        queue.clear();
        queue.push(Reverse((0, source)));
        while let Some(Reverse((key, node))) = queue.pop() {
            if key != self.key[node as usize] || !(graph.transits(node) || node == source) {
                continue;
            }
            for arc in graph.out(node) {
                let (new, to) = (key + arc.key(), arc.node as usize);
                match new.cmp(&self.key[to]) {
                    Ordering::Less => {
                        self.key[to] = new;
                        self.parent[to] = node;
                        queue.push(Reverse((new, arc.node)));
                    }
                    // Both parents are settled, since every arc's key is above zero.
                    Ordering::Equal if self.precedes(node, self.parent[to]) => {
                        self.parent[to] = node;
                    }
                    _ => {}
                }
            }
        }
        self.number(workspace);
    }

    /// Whether the path to `a` has the smaller list of nodes, where both have equally many: the
    /// first difference decides, and climbing both at once it is the last that is met.
    pub(crate) fn precedes(&self, a: NodeNumber, b: NodeNumber) -> bool {
        precedes(a, b, |node| self.parent[node as usize])
    }

    /// Numbers the nodes in preorder, children ascending.
    pub(crate) fn number(&mut self, workspace: &mut SpfWorkspace) {
        let nodes = self.key.len();
        let SpfWorkspace { first_child, next_sibling, .. } = workspace;
        first_child.clear();
        first_child.resize(nodes, NO_NODE);
        next_sibling.clear();
        next_sibling.resize(nodes, NO_NODE);
        for node in (0..nodes).rev() {
            let parent = self.parent[node];
            if parent != NO_NODE {
                next_sibling[node] = first_child[parent as usize];
                first_child[parent as usize] = node as u32;
            }
        }
        self.interval.clear();
        self.interval.resize(nodes, (1, 0));
        self.order.clear();
        let mut node = self.source;
        loop {
            self.interval[node as usize].0 = self.order.len() as u32;
            self.order.push(node);
            if first_child[node as usize] != NO_NODE {
                node = first_child[node as usize];
                continue;
            }
            // The subtree ends here, and with it those of which it is the last one.
            loop {
                self.interval[node as usize].1 = self.order.len() as u32 - 1;
                if node == self.source {
                    return;
                }
                if next_sibling[node as usize] != NO_NODE {
                    node = next_sibling[node as usize];
                    break;
                }
                node = self.parent[node as usize];
            }
        }
    }

    pub(crate) fn raw_key(&self, node: NodeNumber) -> u64 {
        self.key[node as usize]
    }

    pub(crate) fn raw_parent(&self, node: NodeNumber) -> NodeNumber {
        self.parent[node as usize]
    }

    pub(crate) fn set_label(&mut self, node: NodeNumber, key: u64, parent: NodeNumber) {
        self.key[node as usize] = key;
        self.parent[node as usize] = parent;
    }

    /// Numbers of a node and of the last node below it.
    pub(crate) fn interval(&self, node: NodeNumber) -> (u32, u32) {
        self.interval[node as usize]
    }

    /// The node with this preorder number.
    pub(crate) fn at(&self, number: usize) -> NodeNumber {
        self.order[number]
    }

    /// The nodes whose paths lead through `top`, which is the first of them; none if it cannot be
    /// reached.
    pub(crate) fn below(&self, top: NodeNumber) -> &[NodeNumber] {
        let (first, last) = self.interval[top as usize];
        self.order.get(first as usize..last as usize + 1).unwrap_or_default()
    }

    /// Whether the path to `node` leads through `top`, or ends there.
    pub(crate) fn is_below(&self, node: NodeNumber, top: NodeNumber) -> bool {
        let (first, last) = self.interval[top as usize];
        let number = self.interval[node as usize].0;
        first <= number && number <= last && self.key[node as usize] != PathKey::NONE
    }

    /// Appends `node` and what is before it, the source last.
    pub(crate) fn climb_into(&self, mut node: NodeNumber, nodes: &mut Vec<NodeNumber>) {
        while node != NO_NODE {
            nodes.push(node);
            node = self.parent[node as usize];
        }
    }
}

/// Whether the list of nodes that ends at `a` is smaller than the equally long one that ends at `b`.
pub(crate) fn precedes(
    mut a: NodeNumber,
    mut b: NodeNumber,
    parent: impl Fn(NodeNumber) -> NodeNumber,
) -> bool {
    let mut smaller = false;
    while a != b {
        smaller = a < b;
        (a, b) = (parent(a), parent(b));
        if a == NO_NODE || b == NO_NODE {
            break;
        }
    }
    smaller
}
