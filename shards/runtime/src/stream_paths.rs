use std::collections::BTreeMap;
use std::ops::Bound;

use hawser_delivery::{PathKey, PathWindows, StreamSender};
use hawser_wire::{NodeId, PathId, TrafficClass};

use crate::path_choice::CHUNK_BYTES;

/// The path of a node to itself, which has no window.
pub(crate) const LOCAL_PATH: PathId = PathId(0);

/// A path in use.
#[derive(Clone, Copy, Debug, Default)]
struct Taken {
    path: Option<PathId>,
    /// Record bytes sent on it.
    sent_bytes: u64,
}

/// Present path to each other node of a stream.
#[derive(Debug)]
pub(crate) struct Paths {
    /// Of the stream's records.
    pub(crate) class: TrafficClass,
    taken: BTreeMap<NodeId, Taken>,
}

impl Paths {
    pub(crate) const fn new() -> Self {
        Self { class: TrafficClass::Bulk, taken: BTreeMap::new() }
    }

    /// True if it is another one.
    fn replace(&mut self, node: NodeId, path: Option<PathId>) -> bool {
        let known = self.taken.get(&node).is_some_and(|taken| taken.path == path);
        if !known {
            self.taken.insert(node, Taken { path, sent_bytes: 0 });
        }
        !known
    }

    /// Makes `path` the one that records to `node` take; true if it is another one.
    pub(crate) fn take(
        &mut self,
        sender: &mut StreamSender,
        windows: &mut PathWindows,
        node: NodeId,
        path: Option<PathId>,
    ) -> bool {
        let before = self.window_to(node);
        if !self.replace(node, path) {
            return false;
        }
        if let Some(before) = before {
            windows.leave(before, sender);
        }
        if let Some(key) = self.window_to(node) {
            windows.join(key);
        }
        true
    }

    /// The path to `node`.
    pub(crate) fn path_to(&self, node: NodeId) -> Option<PathId> {
        self.taken.get(&node)?.path
    }

    /// The path to `node`, if there is one and it leaves this node.
    pub(crate) fn window_to(&self, node: NodeId) -> Option<PathKey> {
        let path = self.path_to(node).filter(|&path| path != LOCAL_PATH)?;
        Some(PathKey { destination: node, path, class: self.class })
    }

    pub(crate) fn windows(&self) -> impl Iterator<Item = PathKey> + '_ {
        self.taken.keys().filter_map(|&node| self.window_to(node))
    }

    /// A record was sent.
    pub(crate) fn note_sent(&mut self, node: NodeId, bytes: u64) {
        if let Some(taken) = self.taken.get_mut(&node) {
            taken.sent_bytes = taken.sent_bytes.saturating_add(bytes);
        }
    }

    /// The next node whose path has carried its chunk.
    pub(crate) fn next_spent(&self, after: Option<NodeId>) -> Option<PathKey> {
        let behind = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut behind = self.taken.range((behind, Bound::Unbounded));
        behind.find_map(|(&node, taken)| {
            self.window_to(node).filter(|_| taken.sent_bytes >= CHUNK_BYTES)
        })
    }

    /// The path goes on with another chunk.
    pub(crate) fn begin_chunk(&mut self, node: NodeId) {
        if let Some(taken) = self.taken.get_mut(&node) {
            taken.sent_bytes = 0;
        }
    }
}
