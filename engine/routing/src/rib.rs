//! The routing information base: for each class the tree, the backups and the K paths of this node,
//! kept up to date and published in stages.
#![expect(
    clippy::as_conversions,
    clippy::indexing_slicing,
    reason = "node numbers are below the node count of the graphs, classes index arrays of three"
)]

use std::sync::Arc;

use hawser_wire::TrafficClass;

use crate::backup::Backups;
use crate::disjoint::LinkDisjointPairs;
use crate::graph::{Graph, GraphError, NodeNumber};
use crate::k_paths::PathLimits;
use crate::path_list::PathList;
use crate::rib_table::{Table, Workspace};
use crate::shared_vec::SharedVec;
use crate::spf::ShortestPathTree;
use crate::topology::{LinkMetrics, Topology, Weights};

/// The routes of one class. Cheap to clone: what did not change is shared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClassRoutes {
    /// Best path to each node.
    pub tree: Arc<ShortestPathTree>,
    /// What to send where when a link of this node breaks.
    pub backups: Arc<Backups>,
    /// By destination: the best paths, best first. While paths are still to be computed a
    /// destination that waits has its best one alone.
    ///
    /// Only paths with as many hops as a route header takes: of the best K the longer ones are left
    /// out, and a destination whose very best path is too long has that with the fewest hops alone.
    pub paths: SharedVec<Arc<PathList>>,
    /// By destination: the two paths of least total cost that share no link, or none; as of the last
    /// [`Rib::compute_pairs`], none before the first.
    pub pairs: SharedVec<Arc<PathList>>,
}

/// All routes of this node: immutable, published as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Routes {
    /// Counts what was published, from 1.
    pub generation: u64,
    /// Whether the K paths to all destinations are there; tree and backups always are.
    pub complete: bool,
    classes: [Arc<ClassRoutes>; TrafficClass::ALL.len()],
}

impl Routes {
    /// The routes of a class. Classes with equal weights share theirs.
    #[must_use]
    pub fn class(&self, class: TrafficClass) -> &Arc<ClassRoutes> {
        &self.classes[class.to_wire() as usize]
    }
}

/// Computes [`Routes`].
///
/// After each change the tree and the backups are up to date at once and can be published; the K
/// paths of the destinations that the change may have touched follow with
/// [`compute_paths`](Self::compute_paths). However changes and computations follow each other, the
/// end is what a computation from nothing gives.
#[derive(Debug)]
pub struct Rib {
    limits: PathLimits,
    generation: u64,
    tables: Vec<Table>,
    /// Which table a class uses: classes with equal weights share one.
    table_of: [usize; TrafficClass::ALL.len()],
    workspace: Workspace,
    disjoint: LinkDisjointPairs,
}

impl Rib {
    /// Computes trees and backups of `source`; all paths are to be computed.
    ///
    /// # Errors
    /// [`GraphError`] if the topology has too many nodes, or not this one.
    pub fn new(topology: &Topology, source: NodeNumber, k: usize) -> Result<Self, GraphError> {
        let mut rib = Self {
            limits: PathLimits::routable(k),
            generation: 0,
            tables: Vec::new(),
            table_of: [0; TrafficClass::ALL.len()],
            workspace: Workspace::default(),
            disjoint: LinkDisjointPairs::default(),
        };
        rib.replace(topology, source)?;
        Ok(rib)
    }

    /// Begins anew with another topology, as when a node came, went or changed its flags. The
    /// generations go on.
    ///
    /// # Errors
    /// As [`new`](Self::new); nothing has changed.
    pub fn replace(&mut self, topology: &Topology, source: NodeNumber) -> Result<(), GraphError> {
        let nodes = topology.nodes();
        if source as usize >= nodes {
            return Err(GraphError::BadArc { from: source, to: source, nodes });
        }
        let mut graphs: Vec<(Weights, Graph)> = Vec::new();
        let mut table_of = self.table_of;
        for class in TrafficClass::ALL {
            let weights = *topology.weights(class);
            let known = graphs.iter().position(|(other, _)| *other == weights);
            table_of[class.to_wire() as usize] = known.unwrap_or(graphs.len());
            if known.is_none() {
                graphs.push((weights, topology.graph(class)?));
            }
        }
        self.table_of = table_of;
        self.tables.clear();
        for (weights, graph) in graphs {
            self.tables.push(Table::new(weights, graph, source, &mut self.workspace));
        }
        Ok(())
    }

    /// Takes in that an arc has other metrics now, came (both ends list it now) or went (`None`).
    /// Trees and backups are up to date after it.
    ///
    /// # Errors
    /// [`GraphError::BadArc`]; nothing has changed.
    pub fn handle_arc(
        &mut self,
        from: NodeNumber,
        to: NodeNumber,
        metrics: Option<&LinkMetrics>,
    ) -> Result<(), GraphError> {
        for table in &mut self.tables {
            table.handle_arc((from, to), metrics, self.limits, &mut self.workspace)?;
        }
        Ok(())
    }

    /// Computes the paths to at most so many destinations that wait; answers whether none waits any
    /// more.
    pub fn compute_paths(&mut self, destinations_max: usize) -> bool {
        let mut left = destinations_max;
        for table in &mut self.tables {
            left = table.compute_waiting(left, self.limits, &mut self.workspace);
        }
        self.is_complete()
    }

    /// Computes the pairs of paths without a common link to all destinations, where anything has
    /// changed; false if nothing has.
    pub fn compute_pairs(&mut self) -> bool {
        let mut computed = false;
        for table in &mut self.tables {
            computed |= table.compute_pairs(self.limits, &mut self.disjoint, &mut self.workspace);
        }
        computed
    }

    /// Whether no destination waits for its paths.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.tables.iter().all(Table::is_complete)
    }

    /// The routes as they are, with the next generation.
    pub fn publish(&mut self) -> Routes {
        self.generation = self.generation.saturating_add(1);
        let tables: Vec<Arc<ClassRoutes>> =
            self.tables.iter().map(|table| Arc::new(table.routes().clone())).collect();
        Routes {
            generation: self.generation,
            complete: self.is_complete(),
            classes: self.table_of.map(|table| Arc::clone(&tables[table])),
        }
    }
}
