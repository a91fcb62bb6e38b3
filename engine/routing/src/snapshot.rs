use std::collections::HashMap;

use hawser_wire::{AdjacencyIndex, NodeId, PathId};

/// One path to a destination, as a source writes it into a route header.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Route {
    /// This node's name for the path.
    pub path: PathId,
    /// Adjacency index at each node on the way, this one first.
    pub hops: Vec<AdjacencyIndex>,
    /// Sum of the metrics.
    pub cost: u64,
}

/// What shards need to send and to forward: immutable, published as a whole.
#[derive(Clone, Debug, Default)]
pub struct RouteSnapshot {
    /// Counts the snapshots of this process, from 1; 0 is the empty one before the first.
    pub generation: u64,
    /// Digest of the link-state database that it was computed from.
    pub lsdb_digest: u64,
    routes: HashMap<NodeId, Route>,
    adjacencies: HashMap<AdjacencyIndex, NodeId>,
}

impl RouteSnapshot {
    /// A snapshot with these routes and this node's own adjacencies (index and neighbour).
    #[must_use]
    pub fn new(
        generation: u64,
        lsdb_digest: u64,
        routes: impl IntoIterator<Item = (NodeId, Route)>,
        adjacencies: impl IntoIterator<Item = (AdjacencyIndex, NodeId)>,
    ) -> Self {
        Self {
            generation,
            lsdb_digest,
            routes: routes.into_iter().collect(),
            adjacencies: adjacencies.into_iter().collect(),
        }
    }

    /// The path to `destination`, if there is one. This node itself has none.
    #[must_use]
    pub fn route_to(&self, destination: NodeId) -> Option<&Route> {
        self.routes.get(&destination)
    }

    /// The neighbour that `index` names at this node. Indices are never reused, so a neighbour
    /// stays known while its link is down.
    #[must_use]
    pub fn neighbour(&self, index: AdjacencyIndex) -> Option<NodeId> {
        self.adjacencies.get(&index).copied()
    }
}
