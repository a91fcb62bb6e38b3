//! The best paths to one destination.
#![expect(
    clippy::indexing_slicing,
    reason = "a path's nodes end where the list says, and paths are below its length"
)]

use crate::graph::{NodeNumber, PathKey};

/// The best paths to one destination, best first.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct PathList {
    /// Nodes of all paths one after the other, each from the destination back to the source.
    nodes: Vec<NodeNumber>,
    /// Key of each path, and where its nodes end.
    ends: Vec<(u64, usize)>,
    /// Paths were left out for their hops.
    pub(crate) is_cut: bool,
}

impl PathList {
    /// Count of paths.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is no path.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Cost and hops of a path, the best being number 0.
    #[must_use]
    pub fn key(&self, path: usize) -> Option<PathKey> {
        self.ends.get(path).map(|end| PathKey(end.0))
    }

    /// Nodes of a path from the source to the destination.
    pub fn nodes(&self, path: usize) -> impl DoubleEndedIterator<Item = NodeNumber> + Clone + '_ {
        let found = path < self.ends.len();
        (if found { self.backward(path) } else { &[] }).iter().rev().copied()
    }

    /// Whether a path takes the arc, or may have: those that were left out are not known.
    pub(crate) fn takes(&self, from: NodeNumber, to: NodeNumber) -> bool {
        // Where two paths meet in the array it looks like an arc into the source, which no path
        // takes: a wrong yes there costs a computation and no more.
        self.is_cut || self.nodes.windows(2).any(|pair| pair[0] == to && pair[1] == from)
    }

    /// Whether this path takes the arc.
    pub(crate) fn path_takes(&self, path: usize, from: NodeNumber, to: NodeNumber) -> bool {
        self.backward(path).windows(2).any(|pair| pair[0] == to && pair[1] == from)
    }

    /// Key of a path that there is.
    pub(crate) fn raw_key(&self, path: usize) -> u64 {
        self.ends[path].0
    }

    /// Nodes of a path from the destination back to the source.
    pub(crate) fn backward(&self, path: usize) -> &[NodeNumber] {
        let start = path.checked_sub(1).map_or(0, |before| self.ends[before].1);
        &self.nodes[start..self.ends[path].1]
    }

    pub(crate) fn clear(&mut self) {
        self.nodes.clear();
        self.ends.clear();
        self.is_cut = false;
    }

    pub(crate) fn push(&mut self, key: u64, backward: &[NodeNumber]) {
        self.nodes.extend_from_slice(backward);
        self.ends.push((key, self.nodes.len()));
    }

    /// Leaves out the paths with more hops.
    pub(crate) fn cut(&mut self, hops_max: u64) {
        if self.ends.iter().all(|&(key, _)| PathKey(key).hops() <= hops_max) {
            return;
        }
        let all = std::mem::take(self);
        for path in 0..all.len() {
            let (key, _) = all.ends[path];
            if PathKey(key).hops() <= hops_max {
                self.push(key, all.backward(path));
            }
        }
        self.is_cut = true;
    }
}
