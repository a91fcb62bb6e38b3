//! Names the paths of this node and makes the snapshots that shards read.

use std::collections::BTreeMap;

use hawser_wire::{AdjacencyIndex, NodeId, PathId};

use crate::{Path, Route, RouteSnapshot};

/// The paths in use and their ids.
///
/// A [`PathId`] is new whenever the list of hops to a destination changes, or comes back after the
/// destination could not be reached: so a shard sees by the id alone that what it sent may be lost.
#[derive(Debug, Default)]
pub struct RouteTable {
    generation: u64,
    path_last: u32,
    routes: BTreeMap<NodeId, Route>,
    adjacencies: BTreeMap<AdjacencyIndex, NodeId>,
}

impl RouteTable {
    /// An empty table.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes over `paths`, computed from the database with `lsdb_digest`, and makes the next
    /// snapshot.
    ///
    /// `adjacencies` are this node's own, up or down; one that was named before and is missing now
    /// stays known, since indices are never reused.
    pub fn update(
        &mut self,
        lsdb_digest: u64,
        paths: BTreeMap<NodeId, Path>,
        adjacencies: impl IntoIterator<Item = (AdjacencyIndex, NodeId)>,
    ) -> RouteSnapshot {
        self.generation = self.generation.saturating_add(1);
        self.adjacencies.extend(adjacencies);
        let mut old = std::mem::take(&mut self.routes);
        for (destination, Path { hops, cost, .. }) in paths {
            let path = match old.remove(&destination) {
                Some(route) if route.hops == hops => route.path,
                _ => self.next_path(),
            };
            self.routes.insert(destination, Route { path, hops, cost });
        }
        RouteSnapshot::new(
            self.generation,
            lsdb_digest,
            self.routes.iter().map(|(destination, route)| (*destination, route.clone())),
            self.adjacencies.iter().map(|(index, neighbour)| (*index, *neighbour)),
        )
    }

    /// Ids start at 1, so that 0 can stand for none.
    fn next_path(&mut self) -> PathId {
        self.path_last = self.path_last.checked_add(1).unwrap_or(1);
        PathId(self.path_last)
    }
}
