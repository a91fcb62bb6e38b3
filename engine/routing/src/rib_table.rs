//! The routes of one class, kept up to date while its arcs change one by one.
#![expect(
    clippy::as_conversions,
    clippy::indexing_slicing,
    reason = "node numbers are below the node count of the graph, which the tables have the length of"
)]

use std::sync::Arc;

use crate::backup::Backups;
use crate::disjoint::LinkDisjointPairs;
use crate::distances::Distances;
use crate::graph::{COST_MAX, Graph, GraphError, HalfArc, NodeNumber, PathKey};
use crate::incremental_spf::{ArcChange, RegrowWorkspace, Regrown, Without};
use crate::k_paths::{KPaths, PathLimits};
use crate::list_change::{ListChange, OtherPaths, Standing};
use crate::path_list::PathList;
use crate::rib::ClassRoutes;
use crate::shared_vec::SharedVec;
use crate::spf::{ShortestPathTree, SpfWorkspace};
use crate::topology::{CostTerms, LinkMetrics, Weights};

/// What computations need meanwhile; reused.
#[derive(Debug, Default)]
pub(crate) struct Workspace {
    spf: SpfWorkspace,
    regrow: RegrowWorkspace,
    /// From the far end of an arc that became better.
    rest: Distances,
    /// What is below an arc, without it or its end.
    around: Regrown,
    /// Destinations whose lists may stay as they are or not.
    doubtful: Vec<NodeNumber>,
    /// The paths of a list with their keys.
    order: Vec<(usize, u64)>,
    k_paths: KPaths,
    list: PathList,
}

#[derive(Debug)]
pub(crate) struct Table {
    weights: Weights,
    graph: Graph,
    routes: ClassRoutes,
    /// Destinations whose paths are to be computed, and the same by number.
    pending: Vec<NodeNumber>,
    is_pending: Vec<bool>,
    /// By destination that does not wait: no path that is not in its list has a smaller key.
    beyond: Vec<u64>,
    /// Destinations whose best path has more hops than a route header takes, and the paths with the
    /// fewest hops if there are any.
    far: Vec<NodeNumber>,
    short: ShortestPathTree,
    /// The latter are those of the arcs that there are now.
    short_is_known: bool,
    /// Something has changed since the pairs were computed.
    pairs_due: bool,
}

impl Table {
    /// The tree and the backups of `source` in `graph`; all destinations wait for their paths.
    pub(crate) fn new(
        weights: Weights,
        graph: Graph,
        source: NodeNumber,
        workspace: &mut Workspace,
    ) -> Self {
        let mut tree = ShortestPathTree::default();
        tree.compute(&graph, source, &mut workspace.spf);
        let mut backups = Backups::default();
        backups.compute(&graph, &tree, &mut workspace.spf);
        let mut table = Self {
            weights,
            routes: ClassRoutes {
                tree: Arc::new(tree),
                backups: Arc::new(backups),
                paths: SharedVec::repeat(&Arc::default(), graph.nodes()),
                pairs: SharedVec::default(),
            },
            pending: Vec::new(),
            is_pending: vec![false; graph.nodes()],
            beyond: vec![0; graph.nodes()],
            far: Vec::new(),
            short: ShortestPathTree::default(),
            short_is_known: false,
            pairs_due: true,
            graph,
        };
        table.find_far(&mut workspace.spf);
        workspace.k_paths.reset(&table.graph);
        for destination in 0..table.graph.nodes() as NodeNumber {
            table.wait(destination, workspace);
        }
        table
    }

    pub(crate) const fn routes(&self) -> &ClassRoutes {
        &self.routes
    }

    /// Whether no destination waits for its paths.
    pub(crate) const fn is_complete(&self) -> bool {
        self.pending.is_empty()
    }

    /// Takes in that an arc has other metrics now, came, or went.
    ///
    /// # Errors
    /// [`GraphError::BadArc`]; nothing has changed.
    pub(crate) fn handle_arc(
        &mut self,
        (from, to): (NodeNumber, NodeNumber),
        metrics: Option<&LinkMetrics>,
        limits: PathLimits,
        workspace: &mut Workspace,
    ) -> Result<(), GraphError> {
        let after = metrics.map(|metrics| CostTerms::new(metrics, &self.weights).total());
        let before = self.graph.set_cost(from, to, after)?;
        if before != after {
            self.handle_change(ArcChange { from, to, before, after }, limits, workspace);
        }
        Ok(())
    }

    /// Computes the paths to at most so many destinations that wait; answers how many more could
    /// have been computed.
    pub(crate) fn compute_waiting(
        &mut self,
        destinations_max: usize,
        limits: PathLimits,
        workspace: &mut Workspace,
    ) -> usize {
        let mut left = destinations_max;
        // The detours of another table are no use to this one.
        if !self.pending.is_empty() && left > 0 {
            workspace.k_paths.reset(&self.graph);
        }
        while let Some(destination) = (left > 0).then(|| self.pending.pop()).flatten() {
            left = left.saturating_sub(1);
            self.is_pending[destination as usize] = false;
            self.compute(destination, limits, workspace);
        }
        left
    }

    /// Computes the pairs of paths without a common link, if anything has changed; false if nothing
    /// has.
    pub(crate) fn compute_pairs(
        &mut self,
        limits: PathLimits,
        disjoint: &mut LinkDisjointPairs,
        workspace: &mut Workspace,
    ) -> bool {
        if !std::mem::take(&mut self.pairs_due) {
            return false;
        }
        let Self { graph, routes, .. } = self;
        disjoint.compute(graph, &routes.tree);
        if routes.pairs.is_empty() {
            routes.pairs = SharedVec::repeat(&Arc::default(), graph.nodes());
        }
        let mut pair = [Vec::new(), Vec::new()];
        let found = &mut workspace.list;
        for destination in 0..graph.nodes() as NodeNumber {
            found.clear();
            let keys = disjoint.pair_into(graph, &routes.tree, destination, &mut pair);
            for (key, nodes) in keys.into_iter().flatten().zip(&mut pair) {
                if key.hops() <= limits.hops_max {
                    nodes.reverse();
                    found.push(key.0, nodes);
                }
            }
            // One alone is no pair.
            if found.len() < 2 {
                found.clear();
            }
            let at = destination as usize;
            if *routes.pairs[at] != *found {
                routes.pairs.set(at, Arc::new(found.clone()));
            }
        }
        true
    }

    /// Brings tree and backups from the graph before `change` to the one after it, and the lists of
    /// paths where that is known to be all there is to them; the other destinations wait.
    fn handle_change(&mut self, change: ArcChange, limits: PathLimits, workspace: &mut Workspace) {
        let Self { graph, routes, .. } = self;
        let source = routes.tree.source();
        let tree = Arc::make_mut(&mut routes.tree);
        let moved = tree.update(graph, change, &mut workspace.regrow, &mut workspace.spf);
        let backups = Arc::make_mut(&mut routes.backups);
        if moved || change.from == source {
            backups.compute(graph, tree, &mut workspace.spf);
        } else {
            backups.update(graph, tree, change.to, &mut workspace.spf);
        }
        self.pairs_due = true;
        workspace.k_paths.reset(graph);
        self.handle_far(change, workspace);
        let lists = ListChange::new(change, limits.k);
        if change.improves() {
            self.improve(change, lists, limits, workspace);
        } else {
            self.worsen(change, lists, workspace);
        }
    }

    /// Paths over an arc became worse or are gone.
    fn worsen(&mut self, change: ArcChange, lists: ListChange, workspace: &mut Workspace) {
        let ArcChange { from, to, after, .. } = change;
        workspace.doubtful.clear();
        // A look through all paths: an index by arc would have to be kept at every change, and takes
        // as long to keep as this takes.
        for destination in 0..self.graph.nodes() as NodeNumber {
            let at = destination as usize;
            if !self.routes.paths[at].takes(from, to) || is_far(&self.routes.tree, destination) {
                continue;
            }
            let others = OtherPaths { beyond: self.beyond[at], over: 0, around: 0 };
            if self.is_pending[at] {
                self.wait(destination, workspace);
            } else if !self.stand(destination, lists, others, workspace) {
                workspace.doubtful.push(destination);
            }
        }
        if workspace.doubtful.is_empty() {
            return;
        }
        // What the best path is that does not take the arc says more than what there was.
        let Self { graph, routes, .. } = self;
        let (tree, without) = (Arc::clone(&routes.tree), Without::Arc { from, to });
        let is_in_tree = after.is_some() && tree.raw_parent(to) == from;
        if is_in_tree {
            workspace.around.compute(graph, &tree, to, without, &mut workspace.spf.queue);
        }
        let doubtful = std::mem::take(&mut workspace.doubtful);
        for &destination in &doubtful {
            let around = if is_in_tree && tree.is_below(destination, to) {
                workspace.around.label(&tree, destination).0
            } else {
                tree.raw_key(destination)
            };
            let beyond = self.beyond[destination as usize];
            let others = OtherPaths { beyond, over: 0, around };
            if !self.stand(destination, lists, others, workspace) {
                self.wait(destination, workspace);
            }
        }
        workspace.doubtful = doubtful;
    }

    /// Paths over an arc became better, or possible.
    fn improve(
        &mut self,
        change: ArcChange,
        lists: ListChange,
        limits: PathLimits,
        workspace: &mut Workspace,
    ) {
        let ArcChange { from, to, before, after } = change;
        let Self { graph, routes, .. } = &*self;
        let source = routes.tree.source();
        // No path over the arc is better than the best ones to its begin and from its end, that
        // from the source without the end, that to the destination without source and begin.
        let front = if routes.tree.is_below(from, to) {
            let without = Without::Node(to);
            workspace.around.compute(graph, &routes.tree, to, without, &mut workspace.spf.queue);
            workspace.around.label(&routes.tree, from).0
        } else {
            routes.tree.raw_key(from)
        };
        let may_pass = to != source && (graph.transits(from) || from == source);
        let Some(cost) = after.filter(|_| front != PathKey::NONE && may_pass) else { return };
        let front = front.saturating_add(HalfArc { node: to, cost }.key());
        // Where all have paths enough, what is behind the worst of them is not looked for.
        let last = |list: &Arc<PathList>| match list.len().checked_sub(1) {
            Some(last) if list.len() >= limits.k => list.raw_key(last),
            _ => 0,
        };
        let worst = routes.paths.iter().map(last).max().filter(|_| before.is_some());
        let limit =
            worst.map_or(PathKey::NONE, |worst| worst.saturating_sub(front).saturating_add(1));
        workspace.rest.compute(graph, to, [source, from], limit, &mut workspace.spf.queue);
        let passes = graph.transits(to);
        for destination in 0..self.graph.nodes() as NodeNumber {
            let at = destination as usize;
            if is_far(&self.routes.tree, destination) {
                continue;
            }
            if self.is_pending[at] {
                self.wait(destination, workspace);
                continue;
            }
            let rest = workspace.rest.least(destination);
            let is_end = destination == source || destination == from;
            if rest == PathKey::NONE || is_end || !(passes || destination == to) {
                continue;
            }
            let over = front.saturating_add(rest);
            let others = OtherPaths { beyond: self.beyond[at], over, around: 0 };
            if !self.stand(destination, lists, others, workspace) {
                self.wait(destination, workspace);
            }
        }
    }

    /// Whether the paths to `destination` are the best ones after a change, too: they are brought
    /// up to date then.
    fn stand(
        &mut self,
        destination: NodeNumber,
        lists: ListChange,
        others: OtherPaths,
        workspace: &mut Workspace,
    ) -> bool {
        let list = &self.routes.paths[destination as usize];
        let beyond = match lists.standing(list, others) {
            Standing::Same(beyond) => beyond,
            Standing::Moved(beyond) => {
                lists.apply(list, &mut workspace.order, &mut workspace.list);
                let list = Arc::new(workspace.list.clone());
                self.routes.paths.set(destination as usize, list);
                beyond
            }
            Standing::Unknown => return false,
        };
        self.beyond[destination as usize] = beyond;
        true
    }

    /// Has the paths to `destination` computed later; until then its best one is there.
    fn wait(&mut self, destination: NodeNumber, workspace: &mut Workspace) {
        if !std::mem::replace(&mut self.is_pending[destination as usize], true) {
            self.pending.push(destination);
        }
        self.compute(destination, PathLimits::routable(1), workspace);
    }

    /// Brings the lists up to date of the destinations that are too far after `change`: those with
    /// the fewest hops are others only if arcs came or went, and cost another sum only if they take
    /// the arc. Who was too far and is no more waits.
    fn handle_far(&mut self, change: ArcChange, workspace: &mut Workspace) {
        let ArcChange { from, to, before, after } = change;
        let comes_or_goes = before.is_none() || after.is_none();
        self.short_is_known &= !comes_or_goes;
        let was_far = std::mem::take(&mut self.far);
        self.find_far(&mut workspace.spf);
        for &destination in &was_far {
            if !is_far(&self.routes.tree, destination) {
                self.wait(destination, workspace);
            }
        }
        for at in 0..self.far.len() {
            let destination = self.far[at];
            let takes = self.short.raw_parent(to) == from && self.short.is_below(destination, to);
            if comes_or_goes || takes || was_far.binary_search(&destination).is_err() {
                self.compute(destination, PathLimits::routable(1), workspace);
            }
        }
    }

    /// Sees which destinations are too far by their best paths.
    fn find_far(&mut self, workspace: &mut SpfWorkspace) {
        let Self { graph, routes, far, short, short_is_known, .. } = self;
        let is_far = |&node: &NodeNumber| is_far(&routes.tree, node);
        far.extend((0..).zip(0..graph.nodes()).map(|(node, _)| node).filter(is_far));
        if !far.is_empty() && !*short_is_known {
            short.compute(&graph.without_costs(), routes.tree.source(), workspace);
            *short_is_known = true;
        }
    }

    fn compute(&mut self, destination: NodeNumber, limits: PathLimits, workspace: &mut Workspace) {
        let Workspace { k_paths, list: found, .. } = workspace;
        let beyond = &mut self.beyond[destination as usize];
        if is_far(&self.routes.tree, destination) {
            *beyond = 0;
            self.shortest_into(destination, found);
        } else {
            k_paths.compute(&self.graph, &self.routes.tree, destination, limits, found);
            *beyond = k_paths.beyond();
        }
        if *self.routes.paths[destination as usize] != *found {
            self.routes.paths.set(destination as usize, Arc::new(found.clone()));
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
