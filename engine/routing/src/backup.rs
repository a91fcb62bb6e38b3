//! Where to send what a broken link carried: for each link of this node and each destination the
//! path that will be the shortest one once all know that the link and the node behind it are gone
//! (post-convergence backup, as TI-LFA has it).

use crate::graph::{Graph, NodeNumber, PathKey};
use crate::incremental_spf::{Regrown, Without};
use crate::spf::{NO_NODE, Queue, ShortestPathTree, SpfWorkspace};

/// Backups of every link of the source of a [`ShortestPathTree`].
///
/// A backup avoids the link's far node, unless that is the destination: then the link alone. Paths
/// that lead neither over the link nor through the far node are their own backups; the others, those
/// below the far node in the tree, are kept here.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Backups {
    /// In ascending order of the far nodes.
    links: Vec<Regrown>,
}

impl Backups {
    /// Computes all backups of `tree`, which is the tree of `graph`.
    pub fn compute(
        &mut self,
        graph: &Graph,
        tree: &ShortestPathTree,
        workspace: &mut SpfWorkspace,
    ) {
        let queue: &mut Queue = &mut workspace.queue;
        let mut count = 0_usize;
        for neighbour in graph.neighbours(tree.source()) {
            if count == self.links.len() {
                self.links.push(Regrown::default());
            }
            if let Some(link) = self.links.get_mut(count) {
                link.compute(graph, tree, neighbour, Without::Node(neighbour), queue);
            }
            count = count.saturating_add(1);
        }
        self.links.truncate(count);
    }

    /// Brings the backups up to date after an arc to `to` changed and the tree did not: only the
    /// links whose far node `to` is below have backups over that arc. Not for arcs of the source,
    /// which make the links.
    pub(crate) fn update(
        &mut self,
        graph: &Graph,
        tree: &ShortestPathTree,
        to: NodeNumber,
        workspace: &mut SpfWorkspace,
    ) {
        for link in &mut self.links {
            if tree.is_below(to, link.top) {
                let without = Without::Node(link.top);
                link.compute(graph, tree, link.top, without, &mut workspace.queue);
            }
        }
    }

    /// There is a link to `neighbour`.
    #[must_use]
    pub fn knows_link(&self, neighbour: NodeNumber) -> bool {
        self.link(neighbour).is_some()
    }

    /// Puts the nodes of the backup into `nodes`, the source first; empty if there is none, or no
    /// link to `neighbour`. `tree` is the one that the backups were computed for.
    pub fn path_into(
        &self,
        tree: &ShortestPathTree,
        neighbour: NodeNumber,
        destination: NodeNumber,
        nodes: &mut Vec<NodeNumber>,
    ) -> Option<PathKey> {
        nodes.clear();
        let link = self.link(neighbour)?;
        let (key, parent) = if tree.is_below(destination, neighbour) {
            link.label(tree, destination)
        } else {
            (tree.raw_key(destination), tree.raw_parent(destination))
        };
        if key == PathKey::NONE {
            return None;
        }
        nodes.push(destination);
        let mut node = parent;
        while node != NO_NODE {
            nodes.push(node);
            node = link.parent(tree, node);
        }
        nodes.reverse();
        Some(PathKey(key))
    }

    /// For how many destinations whose best path begins with the link to `neighbour` there is a
    /// backup, and how many such destinations there are.
    #[must_use]
    pub fn coverage(&self, tree: &ShortestPathTree, neighbour: NodeNumber) -> (usize, usize) {
        match self.link(neighbour) {
            Some(link) if tree.raw_parent(neighbour) == tree.source() => {
                let covered = link.labels.iter().filter(|(key, _)| *key != PathKey::NONE).count();
                (covered, link.labels.len())
            }
            _ => (0, 0),
        }
    }

    fn link(&self, neighbour: NodeNumber) -> Option<&Regrown> {
        let at = self.links.binary_search_by_key(&neighbour, |link| link.top).ok()?;
        self.links.get(at)
    }
}
