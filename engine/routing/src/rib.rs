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
use crate::graph::{COST_MAX, Graph, GraphError, HalfArc, NodeNumber, PathKey};
use crate::incremental_spf::{ArcChange, RegrowWorkspace};
use crate::k_paths::{KPaths, PathLimits, PathList};
use crate::spf::{ShortestPathTree, SpfWorkspace};
use crate::topology::{CostTerms, LinkMetrics, Topology, Weights};

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
    pub paths: Vec<Arc<PathList>>,
    /// By destination: the two paths of least total cost that share no link, or none; as of the last
    /// [`Rib::compute_pairs`], none before the first.
    pub pairs: Vec<Arc<PathList>>,
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
    source: NodeNumber,
    limits: PathLimits,
    generation: u64,
    tables: Vec<Table>,
    /// Which table a class uses: classes with equal weights share one.
    table_of: [usize; TrafficClass::ALL.len()],
    workspace: SpfWorkspace,
    regrow: RegrowWorkspace,
    /// Tree of the far end of an arc that became better.
    far_tree: ShortestPathTree,
    k_paths: KPaths,
    scratch: PathList,
    disjoint: LinkDisjointPairs,
}

#[derive(Debug)]
struct Table {
    weights: Weights,
    graph: Graph,
    routes: ClassRoutes,
    /// Destinations whose paths are to be computed, and the same by number.
    pending: Vec<NodeNumber>,
    is_pending: Vec<bool>,
    /// Destinations whose best path has more hops than a route header takes, and the paths with the
    /// fewest hops if there are any.
    far: Vec<NodeNumber>,
    short: ShortestPathTree,
    /// Something has changed since the pairs were computed.
    pairs_due: bool,
}

impl Rib {
    /// Computes trees and backups of `source`; all paths are to be computed.
    ///
    /// # Errors
    /// [`GraphError`] if the topology has too many nodes, or not this one.
    pub fn new(topology: &Topology, source: NodeNumber, k: usize) -> Result<Self, GraphError> {
        let mut rib = Self {
            source,
            limits: PathLimits::routable(k),
            generation: 0,
            tables: Vec::new(),
            table_of: [0; TrafficClass::ALL.len()],
            workspace: SpfWorkspace::default(),
            regrow: RegrowWorkspace::default(),
            far_tree: ShortestPathTree::default(),
            k_paths: KPaths::default(),
            scratch: PathList::default(),
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
        self.source = source;
        self.table_of = table_of;
        self.tables.clear();
        for (weights, graph) in graphs {
            self.add_table(weights, graph);
        }
        Ok(())
    }

    fn add_table(&mut self, weights: Weights, graph: Graph) {
        let mut tree = ShortestPathTree::default();
        tree.compute(&graph, self.source, &mut self.workspace);
        let mut backups = Backups::default();
        backups.compute(&graph, &tree, &mut self.workspace);
        let mut table = Table {
            weights,
            routes: ClassRoutes {
                tree: Arc::new(tree),
                backups: Arc::new(backups),
                paths: vec![Arc::default(); graph.nodes()],
                pairs: Vec::new(),
            },
            pending: Vec::new(),
            is_pending: vec![false; graph.nodes()],
            far: Vec::new(),
            short: ShortestPathTree::default(),
            pairs_due: true,
            graph,
        };
        table.find_far(&mut self.workspace);
        self.k_paths.reset(&table.graph);
        for (destination, _) in (0..).zip(0..table.graph.nodes()) {
            table.wait(destination, &mut self.k_paths, &mut self.scratch);
        }
        self.tables.push(table);
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
            let after = metrics.map(|metrics| CostTerms::new(metrics, &table.weights).total());
            let before = table.graph.set_cost(from, to, after)?;
            let change = ArcChange { from, to, before, after };
            if before == after {
                continue;
            }
            let tree = Arc::make_mut(&mut table.routes.tree);
            let moved = tree.update(&table.graph, change, &mut self.regrow, &mut self.workspace);
            let backups = Arc::make_mut(&mut table.routes.backups);
            if moved || from == self.source {
                backups.compute(&table.graph, tree, &mut self.workspace);
            } else {
                backups.update(&table.graph, tree, to, &mut self.workspace);
            }
            self.k_paths.reset(&table.graph);
            table.pairs_due = true;
            let mut far = std::mem::take(&mut table.far);
            table.find_far(&mut self.workspace);
            far.extend_from_slice(&table.far);
            for destination in far {
                table.wait(destination, &mut self.k_paths, &mut self.scratch);
            }
            let Some(cost) = after.filter(|_| change.improves()) else {
                // A look through all paths: an index by arc would have to be kept at every change,
                // and takes as long to keep as this takes.
                for (destination, _) in (0..).zip(0..table.graph.nodes()) {
                    if table.routes.paths[destination as usize].takes(from, to) {
                        table.wait(destination, &mut self.k_paths, &mut self.scratch);
                    }
                }
                continue;
            };
            let front = crate::deviation::front_key(&table.graph, &table.routes.tree, from);
            if front == PathKey::NONE || to == self.source {
                continue;
            }
            // No path over the arc is better than the best ones to its begin and from its end.
            let front = front.saturating_add(HalfArc { node: to, cost }.key());
            self.far_tree.compute(&table.graph, to, &mut self.workspace);
            let passes = table.graph.transits(to);
            for (destination, _) in (0..).zip(0..table.graph.nodes()) {
                let rest = self.far_tree.raw_key(destination);
                if rest == PathKey::NONE || !(passes || destination == to) {
                    continue;
                }
                let list = &table.routes.paths[destination as usize];
                let last = self.limits.k.checked_sub(1).and_then(|last| list.key(last));
                if last.is_none_or(|last| front.saturating_add(rest) <= last.0) {
                    table.wait(destination, &mut self.k_paths, &mut self.scratch);
                }
            }
        }
        Ok(())
    }

    /// Computes the paths to at most so many destinations that wait; answers whether none waits any
    /// more.
    pub fn compute_paths(&mut self, destinations_max: usize) -> bool {
        let mut left = destinations_max;
        for table in &mut self.tables {
            // The detours of one table are no use to another.
            if !table.pending.is_empty() && left > 0 {
                self.k_paths.reset(&table.graph);
            }
            while let Some(destination) = (left > 0).then(|| table.pending.pop()).flatten() {
                left = left.saturating_sub(1);
                table.is_pending[destination as usize] = false;
                table.compute(destination, self.limits, &mut self.k_paths, &mut self.scratch);
            }
        }
        self.is_complete()
    }

    /// Computes the pairs of paths without a common link to all destinations, where anything has
    /// changed; false if nothing has.
    pub fn compute_pairs(&mut self) -> bool {
        let mut computed = false;
        for table in self.tables.iter_mut().filter(|table| table.pairs_due) {
            table.pairs_due = false;
            computed = true;
            let Table { graph, routes, .. } = table;
            self.disjoint.compute(graph, &routes.tree);
            routes.pairs.resize(graph.nodes(), Arc::default());
            let mut pair = [Vec::new(), Vec::new()];
            for (destination, list) in (0..).zip(&mut routes.pairs) {
                self.scratch.clear();
                let keys = self.disjoint.pair_into(graph, &routes.tree, destination, &mut pair);
                for (key, nodes) in keys.into_iter().flatten().zip(&mut pair) {
                    if key.hops() <= self.limits.hops_max {
                        nodes.reverse();
                        self.scratch.push(key.0, nodes);
                    }
                }
                // One alone is no pair.
                if self.scratch.len() < 2 {
                    self.scratch.clear();
                }
                if **list != self.scratch {
                    *list = Arc::new(self.scratch.clone());
                }
            }
        }
        computed
    }

    /// Whether no destination waits for its paths.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.tables.iter().all(|table| table.pending.is_empty())
    }

    /// The routes as they are, with the next generation.
    pub fn publish(&mut self) -> Routes {
        self.generation = self.generation.saturating_add(1);
        let tables: Vec<Arc<ClassRoutes>> =
            self.tables.iter().map(|table| Arc::new(table.routes.clone())).collect();
        Routes {
            generation: self.generation,
            complete: self.is_complete(),
            classes: self.table_of.map(|table| Arc::clone(&tables[table])),
        }
    }
}

impl Table {
    /// Has the paths to `destination` computed later; until then its best one is there.
    fn wait(&mut self, destination: NodeNumber, k_paths: &mut KPaths, scratch: &mut PathList) {
        if !std::mem::replace(&mut self.is_pending[destination as usize], true) {
            self.pending.push(destination);
        }
        self.compute(destination, PathLimits::routable(1), k_paths, scratch);
    }

    /// Sees which destinations are too far by their best paths.
    fn find_far(&mut self, workspace: &mut SpfWorkspace) {
        let Self { graph, routes, far, short, .. } = self;
        let is_far = |&node: &NodeNumber| is_far(&routes.tree, node);
        far.extend((0..).zip(0..graph.nodes()).map(|(node, _)| node).filter(is_far));
        if !far.is_empty() {
            short.compute(&graph.without_costs(), routes.tree.source(), workspace);
        }
    }

    fn compute(
        &mut self,
        destination: NodeNumber,
        limits: PathLimits,
        k_paths: &mut KPaths,
        scratch: &mut PathList,
    ) {
        if is_far(&self.routes.tree, destination) {
            self.shortest_into(destination, scratch);
        } else {
            k_paths.compute(&self.graph, &self.routes.tree, destination, limits, scratch);
        }
        let list = &mut self.routes.paths[destination as usize];
        if **list != *scratch {
            *list = Arc::new(scratch.clone());
        }
    }

    /// The path with the fewest hops, if a route header takes it.
    fn shortest_into(&self, destination: NodeNumber, list: &mut PathList) {
        list.clear();
        if is_far(&self.short, destination) {
            return;
        }
        let mut backward = Vec::new();
        self.short.climb_into(destination, &mut backward);
        let arcs = backward.windows(2).map(|hop| {
            let cost = self.graph.cost(hop[1], hop[0]).unwrap_or(COST_MAX);
            HalfArc { node: hop[0], cost }.key()
        });
        list.push(arcs.sum(), &backward);
    }
}

/// Whether the path to `node` has more hops than a route header takes.
fn is_far(tree: &ShortestPathTree, node: NodeNumber) -> bool {
    let hops_max = PathLimits::routable(1).hops_max;
    tree.key(node).is_some_and(|key| key.hops() > hops_max)
}
