//! Two paths to every destination that share no link, of least total cost, all in one pass over the
//! shortest-path tree (Suurballe and Tarjan 1984); and two that share no node.
//!
//! Each node gets a second label: how much more than twice its best path the pair costs. A node's
//! label comes over an arc outside the tree from the node labelled first on the tree's way between
//! the arc's ends. Labelling a node cuts the tree there; the arcs that the cut makes usable are found
//! by walking all pieces but the largest.
#![expect(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing,
    reason = "node numbers are below the graph's own node count, keys below PathKey::NONE"
)]

use std::cmp::Reverse;

use crate::graph::{Graph, GraphArc, GraphError, NodeNumber, PathKey};
use crate::spf::{NO_NODE, Queue, ShortestPathTree, SpfWorkspace};

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Label {
    /// What the pair costs more than twice the best path; [`PathKey::NONE`] without a pair.
    extra: u64,
    /// Where the label's arc begins.
    arc_from: NodeNumber,
    /// The labelled node that the label comes from.
    via: NodeNumber,
    labelled: bool,
    /// Which piece of the tree the node is in until it is labelled.
    piece: u32,
}

/// A piece that a cut left, walked in preorder.
#[derive(Clone, Debug, Default)]
struct Piece {
    next: usize,
    end: usize,
    nodes: Vec<NodeNumber>,
}

/// The two paths of least total cost to every destination that share no link in either direction.
/// Of equal totals the one with fewer hops in all is taken.
#[derive(Clone, Debug, Default)]
pub struct LinkDisjointPairs {
    labels: Vec<Label>,
    queue: Queue,
    pieces: Vec<Piece>,
    piece_last: u32,
    marked: Vec<bool>,
}

impl LinkDisjointPairs {
    /// Computes the pairs from the source of `tree`, which is the tree of `graph`.
    pub fn compute(&mut self, graph: &Graph, tree: &ShortestPathTree) {
        let none = Label {
            extra: PathKey::NONE,
            arc_from: NO_NODE,
            via: NO_NODE,
            labelled: false,
            piece: 0,
        };
        self.labels.clear();
        self.labels.resize(graph.nodes(), none);
        self.marked.clear();
        self.marked.resize(graph.nodes(), false);
        self.piece_last = 0;
        self.queue.clear();
        self.labels[tree.source() as usize].extra = 0;
        self.queue.push(Reverse((0, tree.source())));
        while let Some(Reverse((extra, node))) = self.queue.pop() {
            let label = &mut self.labels[node as usize];
            if label.labelled || label.extra != extra {
                continue;
            }
            label.labelled = true;
            let small = self.cut(tree, node);
            self.scan_out(graph, tree, node, node);
            for piece in 0..small {
                let nodes = std::mem::take(&mut self.pieces[piece].nodes);
                for &at in &nodes {
                    self.scan_out(graph, tree, at, node);
                    self.scan_in(graph, tree, at, node);
                }
                self.pieces[piece].nodes = nodes;
            }
        }
    }

    /// Puts the two paths to `destination` into `pair`, the source first in each, the better path
    /// first; answers what they cost. None if there are no such two. `tree` is the one of the
    /// computation.
    pub fn pair_into(
        &mut self,
        graph: &Graph,
        tree: &ShortestPathTree,
        destination: NodeNumber,
        pair: &mut [Vec<NodeNumber>; 2],
    ) -> Option<[PathKey; 2]> {
        for path in pair.iter_mut() {
            path.clear();
        }
        let source = tree.source();
        if destination == source || self.labels[destination as usize].extra == PathKey::NONE {
            return None;
        }
        let mut node = destination;
        while node != source {
            self.marked[node as usize] = true;
            node = self.labels[node as usize].via;
        }
        let mut keys = [PathKey(0); 2];
        for (path, key) in pair.iter_mut().zip(&mut keys) {
            let mut node = destination;
            path.push(node);
            while node != source {
                let before = if std::mem::take(&mut self.marked[node as usize]) {
                    self.labels[node as usize].arc_from
                } else {
                    tree.raw_parent(node)
                };
                key.0 += arc_key(graph, before, node);
                node = before;
                path.push(node);
            }
            path.reverse();
        }
        let [first, second] = pair;
        if (keys[1], &*second) < (keys[0], &*first) {
            keys.swap(0, 1);
            std::mem::swap(first, second);
        }
        Some(keys)
    }

    /// Cuts the tree at `node`, names the pieces but the largest, and answers how many they are: the
    /// first ones in `pieces`.
    fn cut(&mut self, tree: &ShortestPathTree, node: NodeNumber) -> usize {
        let mut count = 0;
        let mut top = node;
        while tree.raw_parent(top) != NO_NODE && !self.is_labelled(tree.raw_parent(top)) {
            top = tree.raw_parent(top);
        }
        if top != node {
            self.add_piece(&mut count, tree.interval(top));
        }
        let (first, last) = tree.interval(node);
        let mut next = first + 1;
        while next <= last {
            let child = tree.at(next as usize);
            let interval = tree.interval(child);
            if !self.is_labelled(child) {
                self.add_piece(&mut count, interval);
            }
            next = interval.1 + 1;
        }
        // All pieces are walked at the same pace, until one is left: the largest.
        let mut walking = count;
        while walking > 1 {
            let mut at = 0;
            while at < walking && walking > 1 {
                if self.step(tree, at) {
                    at += 1;
                } else {
                    walking -= 1;
                    self.pieces.swap(at, walking);
                }
            }
        }
        // The largest is the first now; it keeps its name.
        if count > 0 {
            self.pieces.swap(0, count - 1);
        }
        let small = usize::saturating_sub(count, 1);
        for piece in &self.pieces[..small] {
            self.piece_last += 1;
            for &node in &piece.nodes {
                self.labels[node as usize].piece = self.piece_last;
            }
        }
        small
    }

    fn add_piece(&mut self, count: &mut usize, (first, last): (u32, u32)) {
        if *count == self.pieces.len() {
            self.pieces.push(Piece::default());
        }
        let piece = &mut self.pieces[*count];
        piece.next = first as usize;
        piece.end = last as usize + 1;
        piece.nodes.clear();
        *count += 1;
    }

    /// Walks one node on; answers whether there was one.
    fn step(&mut self, tree: &ShortestPathTree, piece: usize) -> bool {
        let piece = &mut self.pieces[piece];
        while piece.next < piece.end {
            let node = tree.at(piece.next);
            if self.labels[node as usize].labelled {
                // What is below a labelled node belongs to other pieces.
                piece.next = tree.interval(node).1 as usize + 1;
            } else {
                piece.next += 1;
                piece.nodes.push(node);
                return true;
            }
        }
        false
    }

    fn is_labelled(&self, node: NodeNumber) -> bool {
        self.labels[node as usize].labelled
    }

    /// Offers, now that `via` is labelled, labels over the arcs from `from`.
    fn scan_out(
        &mut self,
        graph: &Graph,
        tree: &ShortestPathTree,
        from: NodeNumber,
        via: NodeNumber,
    ) {
        if graph.transits(from) || from == tree.source() {
            for arc in graph.out(from) {
                self.offer(tree, from, arc.node, arc.key(), via);
            }
        }
    }

    /// Offers, now that `via` is labelled, labels over the arcs to `to`.
    fn scan_in(&mut self, graph: &Graph, tree: &ShortestPathTree, to: NodeNumber, via: NodeNumber) {
        for arc in graph.incoming(to) {
            let from = arc.node;
            if (graph.transits(from) || from == tree.source())
                && tree.raw_key(from) != PathKey::NONE
            {
                self.offer(tree, from, to, arc.key(), via);
            }
        }
    }

    fn offer(
        &mut self,
        tree: &ShortestPathTree,
        from: NodeNumber,
        to: NodeNumber,
        arc_key: u64,
        via: NodeNumber,
    ) {
        let (start, end) = (self.labels[from as usize], self.labels[to as usize]);
        if end.labelled
            || tree.raw_parent(to) == from
            || (!start.labelled && start.piece == end.piece)
        {
            return;
        }
        let detour = tree.raw_key(from) + arc_key - tree.raw_key(to);
        let extra = self.labels[via as usize].extra + detour;
        if extra < end.extra {
            self.labels[to as usize] = Label { extra, arc_from: from, via, ..end };
            self.queue.push(Reverse((extra, to)));
        }
    }
}

fn arc_key(graph: &Graph, from: NodeNumber, to: NodeNumber) -> u64 {
    let cost = graph.cost(from, to).unwrap_or(crate::graph::COST_MAX);
    crate::graph::HalfArc { node: to, cost }.key()
}

/// The two paths of least total cost to every destination that share no node but their ends.
///
/// Each node is split into one where arcs end and one where they begin, so that sharing a node is
/// sharing an arc.
#[derive(Clone, Debug)]
pub struct NodeDisjointPairs {
    split: Graph,
    tree: ShortestPathTree,
    pairs: LinkDisjointPairs,
}

impl NodeDisjointPairs {
    /// Computes the pairs from `source`.
    ///
    /// # Errors
    /// [`GraphError::TooManyNodes`] if the graph has more than half of what a graph can have.
    pub fn compute(
        graph: &Graph,
        source: NodeNumber,
        workspace: &mut SpfWorkspace,
    ) -> Result<Self, GraphError> {
        let nodes = graph.nodes();
        let mut arcs = Vec::with_capacity(nodes + graph.arcs());
        for node in 0..nodes as u32 {
            if graph.transits(node) && node != source {
                arcs.push(GraphArc { from: 2 * node, to: 2 * node + 1, cost: 0 });
            }
            for arc in graph.out(node) {
                arcs.push(GraphArc { from: 2 * node + 1, to: 2 * arc.node, cost: arc.cost });
            }
        }
        let split = Graph::new(vec![true; 2 * nodes], &arcs)?;
        let mut tree = ShortestPathTree::default();
        tree.compute(&split, 2 * source + 1, workspace);
        let mut pairs = LinkDisjointPairs::default();
        pairs.compute(&split, &tree);
        Ok(Self { split, tree, pairs })
    }

    /// As [`LinkDisjointPairs::pair_into`].
    pub fn pair_into(
        &mut self,
        destination: NodeNumber,
        pair: &mut [Vec<NodeNumber>; 2],
    ) -> Option<[PathKey; 2]> {
        if 2 * destination + 1 == self.tree.source() {
            return None;
        }
        let keys = self.pairs.pair_into(&self.split, &self.tree, 2 * destination, pair)?;
        for path in pair.iter_mut() {
            // The source is there once, each other node with where its arcs begin after it.
            path.retain(|&half| half % 2 == 0 || half == self.tree.source());
            for half in path {
                *half /= 2;
            }
        }
        // A path of h arcs has h - 1 nodes within it.
        Some(keys.map(|key| PathKey((key.cost() << 16) | key.hops().div_ceil(2))))
    }
}
