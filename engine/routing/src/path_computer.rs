//! From one state of the mesh to the next: what changed goes into the [`Rib`], and out come snapshots,
//! stage by stage.

use std::sync::Arc;

use hawser_wire::{AdjacencyIndex, NodeId, TrafficClass};

use crate::graph::{GraphError, NodeNumber};
use crate::route_table::Relabelled;
use crate::{LinkMetrics, MeshTopology, Rib, RouteSnapshot, RouteTable};

/// Paths to so many destinations are computed before the first snapshot of a state is made: a small
/// mesh has one stage.
const FIRST_DESTINATIONS: usize = 128;

/// Where more arcs changed all is computed anew.
const ARCS_MAX: usize = 64;

/// Computes the paths of this node whenever the mesh changes.
///
/// The first snapshot of a state has the best path to each node and the backups, a later one the K
/// paths, the last one the disjoint pairs. Whatever the order of changes and stages, the last one is
/// the same as if it had been computed from nothing, but for the ids of the paths.
#[derive(Debug)]
pub struct PathComputer {
    k: usize,
    lsdb_digest: u64,
    mesh: Option<Arc<MeshTopology>>,
    rib: Option<Rib>,
    table: RouteTable,
    adjacencies: Vec<(AdjacencyIndex, NodeId)>,
}

/// What came of a step.
#[derive(Debug)]
pub enum Step {
    /// There is more to compute.
    Working,
    /// Another stage is done.
    Published(RouteSnapshot),
    /// Nothing is left to compute.
    Idle,
}

impl PathComputer {
    /// Computes `k` paths to each destination, at least one.
    #[must_use]
    pub fn new(k: usize) -> Self {
        let (mesh, rib) = (None, None);
        let (table, adjacencies) = (RouteTable::new(), Vec::new());
        Self { k: k.max(1), lsdb_digest: 0, mesh, rib, table, adjacencies }
    }

    /// Forgets the mesh. The snapshot has no paths.
    pub fn clear(&mut self) -> RouteSnapshot {
        (self.mesh, self.rib) = (None, None);
        self.table.clear()
    }

    /// Takes the mesh as it is now, from the database with `lsdb_digest`; the first snapshot of it.
    /// `adjacencies` are this node's own, up or down.
    ///
    /// # Errors
    /// [`GraphError`] if the mesh is too large; nothing has changed.
    pub fn handle_mesh(
        &mut self,
        lsdb_digest: u64,
        mesh: Arc<MeshTopology>,
        adjacencies: Vec<(AdjacencyIndex, NodeId)>,
    ) -> Result<RouteSnapshot, GraphError> {
        let mut relabelled = Relabelled { all: true, ..Relabelled::default() };
        match (&mut self.rib, &self.mesh) {
            (Some(rib), Some(old)) => match changes(old, &mesh) {
                Some(changes) => {
                    relabelled = changes.relabelled;
                    for ((from, to), metrics) in changes.arcs {
                        rib.handle_arc(from, to, metrics.as_ref())?;
                    }
                }
                None => rib.replace(mesh.topology(), mesh.source())?,
            },
            (rib, _) => *rib = Some(Rib::new(mesh.topology(), mesh.source(), self.k)?),
        }
        self.mesh = Some(mesh);
        self.lsdb_digest = lsdb_digest;
        self.adjacencies = adjacencies;
        if let Some(rib) = &mut self.rib
            && rib.compute_paths(FIRST_DESTINATIONS)
            && self.mesh.as_ref().is_some_and(|mesh| mesh.ids().len() <= FIRST_DESTINATIONS)
        {
            rib.compute_pairs();
        }
        Ok(self.publish(&relabelled))
    }

    /// Computes on, to at most so many destinations.
    pub fn advance(&mut self, destinations_max: usize) -> Step {
        let Some(rib) = &mut self.rib else { return Step::Idle };
        let was_complete = rib.is_complete();
        if !rib.compute_paths(destinations_max) {
            return Step::Working;
        }
        if was_complete && !rib.compute_pairs() {
            return Step::Idle;
        }
        Step::Published(self.publish(&Relabelled::default()))
    }

    fn publish(&mut self, relabelled: &Relabelled) -> RouteSnapshot {
        let (Some(rib), Some(mesh)) = (&mut self.rib, &self.mesh) else {
            return self.table.clear();
        };
        let routes = rib.publish();
        let adjacencies = self.adjacencies.iter().copied();
        self.table.update(self.lsdb_digest, mesh, &routes, self.k, relabelled, adjacencies)
    }
}

/// How one state of a mesh differs from another.
#[derive(Debug, Default)]
struct Changes {
    /// Metrics now, none for an arc that is gone.
    arcs: Vec<((NodeNumber, NodeNumber), Option<LinkMetrics>)>,
    relabelled: Relabelled,
}

/// What differs between two states of a mesh; `None` if nodes or weights differ, or too many arcs.
fn changes(old: &MeshTopology, new: &MeshTopology) -> Option<Changes> {
    let (before, now) = (old.topology(), new.topology());
    let same_weights = TrafficClass::ALL.iter().all(|&c| before.weights(c) == now.weights(c));
    let same_nodes = old.ids() == new.ids() && old.source() == new.source();
    if !same_nodes || !same_weights || before.flags() != now.flags() {
        return None;
    }
    let relabelled = Relabelled { all: old.renames(new), ..Relabelled::default() };
    let mut changes = Changes { arcs: Vec::new(), relabelled };
    for (ends, was, is) in before.differences(now) {
        if changes.arcs.len() == ARCS_MAX {
            return None;
        }
        changes.arcs.push((ends, is.copied()));
        match (was, is) {
            (Some(_), None) => changes.relabelled.gone.push(ends),
            (Some(was), Some(is)) if was.utilization.to_bits() != is.utilization.to_bits() => {
                changes.relabelled.used.push(ends);
            }
            _ => {}
        }
    }
    Some(changes)
}
