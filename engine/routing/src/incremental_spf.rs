//! A shortest-path tree kept up to date: one arc changes, and only the nodes whose best paths it
//! touches are settled again (after Ramalingam and Reps 1996).
#![expect(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing,
    reason = "node numbers are below the graph's own node count, keys below PathKey::NONE"
)]

use std::cmp::{Ordering, Reverse};

use crate::graph::{Graph, NodeNumber, PathKey};
use crate::spf::{NO_NODE, Queue, ShortestPathTree, SpfWorkspace, precedes};

/// What happened to an arc.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ArcChange {
    /// Where the arc begins.
    pub from: NodeNumber,
    /// Where it ends.
    pub to: NodeNumber,
    /// Its cost until now; none if there was no such arc.
    pub before: Option<u32>,
    /// Its cost from now on; none if there is no such arc any more.
    pub after: Option<u32>,
}

impl ArcChange {
    /// Whether paths that take the arc got worse.
    #[must_use]
    pub fn worsens(&self) -> bool {
        self.before.is_some_and(|before| self.after.is_none_or(|after| after > before))
    }

    /// Whether paths that take the arc got better, or became possible.
    #[must_use]
    pub fn improves(&self) -> bool {
        self.after.is_some_and(|after| self.before.is_none_or(|before| after < before))
    }
}

/// What a regrown part of a tree does without.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Without {
    /// Nothing: it is that of the graph.
    Nothing,
    /// No path leads through the node, and none to it takes the arc from the source.
    Node(NodeNumber),
    /// No path takes the arc.
    Arc {
        /// Where it begins.
        from: NodeNumber,
        /// Where it ends.
        to: NodeNumber,
    },
}

/// The labels that the nodes below one node have if the rest of a tree stays as it is.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Regrown {
    /// The node that the regrown ones are below.
    pub(crate) top: NodeNumber,
    /// Key and parent, in the tree's own (old) order of the nodes below `top`.
    pub(crate) labels: Vec<(u64, NodeNumber)>,
}

impl ShortestPathTree {
    /// Brings the tree from the graph before `change` to `graph`, the one after it; answers whether
    /// any best path may have changed.
    pub fn update(
        &mut self,
        graph: &Graph,
        change: ArcChange,
        regrown: &mut RegrowWorkspace,
        workspace: &mut SpfWorkspace,
    ) -> bool {
        let changed = if change.worsens() {
            self.worsen(graph, change, regrown, workspace)
        } else if change.improves() {
            self.improve(graph, change, workspace)
        } else {
            false
        };
        if changed {
            self.number(workspace);
        }
        changed
    }

    fn worsen(
        &mut self,
        graph: &Graph,
        change: ArcChange,
        RegrowWorkspace(regrown): &mut RegrowWorkspace,
        workspace: &mut SpfWorkspace,
    ) -> bool {
        if self.raw_parent(change.to) != change.from {
            return false;
        }
        regrown.compute(graph, self, change.to, Without::Nothing, &mut workspace.queue);
        for (offset, &(key, parent)) in regrown.labels.iter().enumerate() {
            let node = self.below(change.to)[offset];
            self.set_label(node, key, parent);
        }
        true
    }

    fn improve(&mut self, graph: &Graph, change: ArcChange, workspace: &mut SpfWorkspace) -> bool {
        let ArcChange { from, to, .. } = change;
        let queue = &mut workspace.queue;
        queue.clear();
        self.offer(graph, from, to, queue);
        let changed = !queue.is_empty();
        let mut last = None;
        while let Some(Reverse((key, node))) = queue.pop() {
            // What was pushed twice comes twice in a row, since every arc's key is above zero.
            if last.replace((key, node)) == Some((key, node)) || key != self.raw_key(node) {
                continue;
            }
            for arc in graph.out(node) {
                self.offer(graph, node, arc.node, queue);
            }
        }
        changed
    }

    /// Gives `to` its path through `from` if that is better than its own, and queues it then; also
    /// if it is its own, since the list of nodes may have become smaller.
    fn offer(&mut self, graph: &Graph, from: NodeNumber, to: NodeNumber, queue: &mut Queue) {
        let Some(cost) = graph.cost(from, to) else { return };
        if self.raw_key(from) == PathKey::NONE || !(graph.transits(from) || from == self.source()) {
            return;
        }
        let key = self.raw_key(from) + crate::graph::HalfArc { node: to, cost }.key();
        let parent = self.raw_parent(to);
        let better = match key.cmp(&self.raw_key(to)) {
            Ordering::Less => true,
            Ordering::Equal => parent == from || self.precedes(from, parent),
            Ordering::Greater => false,
        };
        if better {
            self.set_label(to, key, from);
            queue.push(Reverse((key, to)));
        }
    }
}

/// What [`ShortestPathTree::update`] needs meanwhile; reused.
#[derive(Clone, Debug, Default)]
pub struct RegrowWorkspace(Regrown);

impl Regrown {
    /// Computes the labels of the nodes that `tree` has below `top`, in `graph`, from the labels of
    /// all others.
    pub(crate) fn compute(
        &mut self,
        graph: &Graph,
        tree: &ShortestPathTree,
        top: NodeNumber,
        without: Without,
        queue: &mut Queue,
    ) {
        self.top = top;
        self.labels.clear();
        self.labels.resize(tree.below(top).len(), (PathKey::NONE, NO_NODE));
        queue.clear();
        let forbidden = |from: NodeNumber, to: NodeNumber| {
            let left_out = match without {
                Without::Nothing => false,
                Without::Node(node) => from == node || (to == node && from == tree.source()),
                Without::Arc { from: begin, to: end } => (from, to) == (begin, end),
            };
            left_out || !(graph.transits(from) || from == tree.source())
        };
        for &node in tree.below(top) {
            for arc in graph.incoming(node) {
                let key = tree.raw_key(arc.node);
                if key != PathKey::NONE
                    && !tree.is_below(arc.node, top)
                    && !forbidden(arc.node, node)
                {
                    self.offer(tree, arc.node, key + arc.key(), node);
                }
            }
            let (key, _) = self.labels[self.offset(tree, node)];
            if key != PathKey::NONE {
                queue.push(Reverse((key, node)));
            }
        }
        while let Some(Reverse((key, node))) = queue.pop() {
            if self.labels[self.offset(tree, node)].0 != key {
                continue;
            }
            for arc in graph.out(node) {
                if tree.is_below(arc.node, top)
                    && !forbidden(node, arc.node)
                    && self.offer(tree, node, key + arc.key(), arc.node)
                {
                    queue.push(Reverse((key + arc.key(), arc.node)));
                }
            }
        }
    }

    /// Key and parent of a node below `top`.
    pub(crate) fn label(&self, tree: &ShortestPathTree, node: NodeNumber) -> (u64, NodeNumber) {
        self.labels[self.offset(tree, node)]
    }

    /// The node before `node`, be it regrown or not.
    pub(crate) fn parent(&self, tree: &ShortestPathTree, node: NodeNumber) -> NodeNumber {
        if tree.is_below(node, self.top) {
            self.labels[self.offset(tree, node)].1
        } else {
            tree.raw_parent(node)
        }
    }

    fn offset(&self, tree: &ShortestPathTree, node: NodeNumber) -> usize {
        (tree.interval(node).0 - tree.interval(self.top).0) as usize
    }

    /// Gives `to` the path through `from` if it is better; answers whether its key fell.
    fn offer(
        &mut self,
        tree: &ShortestPathTree,
        from: NodeNumber,
        key: u64,
        to: NodeNumber,
    ) -> bool {
        let offset = self.offset(tree, to);
        let (old, parent) = self.labels[offset];
        let better = match key.cmp(&old) {
            Ordering::Less => true,
            Ordering::Equal => precedes(from, parent, |node| self.parent(tree, node)),
            Ordering::Greater => false,
        };
        if better {
            self.labels[offset] = (key, from);
        }
        better && key < old
    }
}
