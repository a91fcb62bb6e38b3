//! The best path that leaves out some nodes and last hops: what Yen's algorithm asks for again and
//! again, searched from the end with the shortest-path tree as exact lower bound (A*).
//!
//! Paths are found from the far end, so what is held fixed is the end of a path, its *suffix*. A
//! label's bound is what its suffix costs plus the best path from the source to where the suffix
//! begins. As soon as that best path avoids the forbidden nodes it is the answer, so that the search
//! only ever opens nodes below a forbidden one.
#![expect(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing,
    reason = "node numbers are below the graph's own node count, keys below PathKey::NONE"
)]

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::graph::{Graph, NodeNumber, PathKey};
use crate::spf::{NO_NODE, ShortestPathTree};

/// What a search found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Found {
    /// The best path: its key, and the node from where on it leaves the shortest-path tree.
    Path { key: u64, leaves: NodeNumber },
    /// No path has a key up to the limit; the best has at least this one.
    Beyond(u64),
    /// No path.
    Nothing,
}

#[derive(Clone, Copy, Debug, Default)]
struct Label {
    search: u32,
    /// Key of the suffix that begins here.
    suffix: u64,
    /// The node after this one.
    next: NodeNumber,
}

/// Searches on one graph; reused, so that none allocates.
#[derive(Clone, Debug, Default)]
pub(crate) struct Deviations {
    search: u32,
    labels: Vec<Label>,
    /// (bound, key of the suffix, node): of equal bounds the shorter suffix is opened first, so that
    /// a node's label is final when it is opened even where arcs lie on best paths and add nothing
    /// to the bound.
    queue: BinaryHeap<Reverse<(u64, u64, NodeNumber)>>,
    blocked: Vec<u32>,
    blocking: u32,
    /// Blocked nodes which together have every node below a blocked one below them, as intervals.
    tops: Vec<(u32, u32)>,
}

impl Deviations {
    /// Forgets everything and gets ready for a graph of so many nodes.
    pub(crate) fn reset(&mut self, nodes: usize) {
        self.search = 0;
        self.blocking = 0;
        self.labels.clear();
        self.labels.resize(nodes, Label::default());
        self.blocked.clear();
        self.blocked.resize(nodes, 0);
    }

    /// Forbids the nodes of `suffix` and no others. It ends with the node that its searches begin
    /// at.
    pub(crate) fn block(&mut self, tree: &ShortestPathTree, suffix: &[NodeNumber]) {
        if self.blocking == u32::MAX {
            self.blocked.fill(0);
            self.blocking = 0;
        }
        self.blocking += 1;
        self.tops.clear();
        for &node in suffix.iter().rev() {
            self.blocked[node as usize] = self.blocking;
            let (first, last) = tree.interval(node);
            if !self.tops.iter().any(|top| top.0 <= first && first <= top.1) {
                self.tops.push((first, last));
            }
        }
    }

    pub(crate) fn is_blocked(&self, node: NodeNumber) -> bool {
        self.blocked[node as usize] == self.blocking
    }

    /// Whether the best path to `node` avoids the forbidden nodes.
    pub(crate) fn is_clear(&self, tree: &ShortestPathTree, node: NodeNumber) -> bool {
        let number = tree.interval(node).0;
        !self.tops.iter().any(|top| top.0 <= number && number <= top.1)
    }

    /// Searches the best path whose end is the suffix from `spur` on, with key `suffix_key`, that
    /// comes to `spur` from none of `banned` and avoids the forbidden nodes.
    pub(crate) fn search(
        &mut self,
        graph: &Graph,
        tree: &ShortestPathTree,
        spur: NodeNumber,
        suffix_key: u64,
        banned: &[NodeNumber],
        limit: u64,
    ) -> Found {
        if self.search == u32::MAX {
            self.labels.fill(Label::default());
            self.search = 0;
        }
        self.search += 1;
        self.queue.clear();
        self.open(graph, tree, spur, suffix_key, banned);
        let mut best: Option<(u64, NodeNumber)> = None;
        while let Some(Reverse((bound, suffix, node))) = self.queue.pop() {
            if let Some((key, _)) = best {
                if bound > key {
                    break;
                }
            } else if bound > limit {
                return Found::Beyond(bound);
            }
            if self.labels[node as usize].suffix != suffix {
                continue;
            }
            if !self.is_clear(tree, node) {
                self.open(graph, tree, node, suffix, &[]);
            } else if best.is_none_or(|(_, other)| self.is_smaller(tree, node, other)) {
                best = Some((bound, node));
            }
        }
        best.map_or(Found::Nothing, |(key, leaves)| Found::Path { key, leaves })
    }

    /// The nodes that the search found between `leaves` and `spur`, in the order from `spur` to
    /// `leaves`, without `spur` and with `leaves`.
    pub(crate) fn chain_into(
        &self,
        spur: NodeNumber,
        mut leaves: NodeNumber,
        chain: &mut Vec<NodeNumber>,
    ) {
        let start = chain.len();
        while leaves != spur {
            chain.push(leaves);
            leaves = self.labels[leaves as usize].next;
        }
        chain[start..].reverse();
    }

    fn open(
        &mut self,
        graph: &Graph,
        tree: &ShortestPathTree,
        node: NodeNumber,
        suffix_key: u64,
        banned: &[NodeNumber],
    ) {
        for arc in graph.incoming(node) {
            let before = arc.node;
            let front = front_key(graph, tree, before);
            if front == PathKey::NONE || self.is_blocked(before) || banned.contains(&before) {
                continue;
            }
            let suffix = suffix_key + arc.key();
            let label = &mut self.labels[before as usize];
            if label.search == self.search && (suffix, node) >= (label.suffix, label.next) {
                continue;
            }
            let queued = label.search == self.search && suffix == label.suffix;
            *label = Label { search: self.search, suffix, next: node };
            if !queued {
                self.queue.push(Reverse((suffix + front, suffix, before)));
            }
        }
    }

    /// Whether the path that leaves the tree at `a` has the smaller list of nodes than the one, with
    /// equal key, that leaves it at another node `b`. Both leave from outside the forbidden
    /// subtrees into them, so that neither runs along the other's part outside the tree.
    fn is_smaller(&self, tree: &ShortestPathTree, a: NodeNumber, b: NodeNumber) -> bool {
        let hops = |node| tree.raw_key(node) & 0xffff;
        if hops(a) < hops(b) {
            return !self.is_smaller(tree, b, a);
        }
        // `a` is not the higher one: climb to the height of `b`.
        let (mut at, mut below) = (a, NO_NODE);
        while hops(at) > hops(b) {
            (below, at) = (at, tree.raw_parent(at));
        }
        if at == b {
            below < self.labels[b as usize].next
        } else {
            tree.interval(at).0 < tree.interval(b).0
        }
    }
}

/// Key of the best path to `node` if a path may go on from there.
pub(crate) fn front_key(graph: &Graph, tree: &ShortestPathTree, node: NodeNumber) -> u64 {
    if graph.transits(node) || node == tree.source() { tree.raw_key(node) } else { PathKey::NONE }
}
