//! Names the paths of this node and makes the snapshots that shards read.
#![expect(
    clippy::as_conversions,
    clippy::indexing_slicing,
    reason = "node numbers are below the count of nodes, which the tables have the length of"
)]

use std::collections::BTreeMap;
use std::sync::Arc;

use hawser_wire::{AdjacencyIndex, NodeId, PathId, TrafficClass};

use crate::graph::NodeNumber;
use crate::shared_vec::SharedVec;
use crate::snapshot::{ClassTable, Protection};
use crate::{ClassRoutes, MeshTopology, PathList, Route, RouteSet, RouteSnapshot, Routes};

/// A path may cost so much more than the best one, as a part of that one's cost, and still have a
/// share: a quarter.
const STRETCH_DIVISOR: u64 = 4;
/// Nor may it take more hops than the best one and these.
const STRETCH_HOPS: usize = 1;
/// Share of a path none of whose links is in use.
const WEIGHT_FULL: f64 = 1000.0;

/// The paths in use and their ids.
///
/// A [`PathId`] stands for a list of hops to a destination: it stays while that list is among the
/// destination's paths, and is not used again when the list is gone.
#[derive(Debug, Default)]
pub struct RouteTable {
    generation: u64,
    path_last: u32,
    nodes: Arc<[NodeId]>,
    /// In the order in which the classes first use them.
    tables: Vec<Named>,
    adjacencies: BTreeMap<AdjacencyIndex, NodeId>,
}

/// What was named last of a table, by destination.
#[derive(Debug, Default)]
struct Named {
    lists: SharedVec<Arc<PathList>>,
    pairs: SharedVec<Arc<PathList>>,
    sets: SharedVec<Arc<RouteSet>>,
    /// Where a path is in no list, an operator's or an earlier one, or a pair cannot be taken: to be
    /// named anew at every change, with which these may go or come.
    anew: Vec<usize>,
}

/// Why equal lists of paths may make other routes than before.
#[derive(Debug, Default)]
pub(crate) struct Relabelled {
    /// A link that is there as before has another index, or nothing is known of before.
    pub(crate) all: bool,
    /// Arcs that are there as before with another utilisation.
    pub(crate) used: Vec<(NodeNumber, NodeNumber)>,
    /// Arcs that are gone: pairs are computed last and may still take them.
    pub(crate) gone: Vec<(NodeNumber, NodeNumber)>,
}

/// What routes are made of.
struct Computed<'a> {
    mesh: &'a MeshTopology,
    /// The indices are those of the mesh before.
    indices_stay: bool,
    class: TrafficClass,
    to: NodeId,
    list: &'a PathList,
    pair: &'a PathList,
    /// The list is not whole: earlier paths that still exist stay.
    keep: usize,
}

impl RouteTable {
    /// An empty table.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A snapshot without paths. The paths that were there have new ids when they come back.
    pub fn clear(&mut self) -> RouteSnapshot {
        self.generation = self.generation.saturating_add(1);
        self.nodes = Arc::default();
        self.tables.clear();
        RouteSnapshot {
            generation: self.generation,
            adjacencies: self.adjacencies.clone().into_iter().collect(),
            ..RouteSnapshot::default()
        }
    }

    /// Takes over `routes`, computed for `mesh` from the database with `lsdb_digest`, and makes the
    /// next snapshot. `k` is how many paths a destination has.
    ///
    /// `adjacencies` are this node's own, up or down; one that was named before and is missing now
    /// stays known, since indices are never reused.
    pub(crate) fn update(
        &mut self,
        lsdb_digest: u64,
        mesh: &Arc<MeshTopology>,
        routes: &Routes,
        k: usize,
        relabelled: &Relabelled,
        adjacencies: impl IntoIterator<Item = (AdjacencyIndex, NodeId)>,
    ) -> RouteSnapshot {
        self.generation = self.generation.saturating_add(1);
        self.adjacencies.extend(adjacencies);
        self.renumber(mesh.ids());
        let mut done: Vec<(&Arc<ClassRoutes>, Arc<ClassTable>)> = Vec::new();
        let classes = TrafficClass::ALL.map(|class| {
            let of = routes.class(class);
            if let Some((_, table)) = done.iter().find(|(other, _)| Arc::ptr_eq(other, of)) {
                return Arc::clone(table);
            }
            let keep = if routes.complete { 0 } else { k };
            let table = self.name(done.len(), mesh, class, of, keep, relabelled);
            done.push((of, Arc::clone(&table)));
            table
        });
        RouteSnapshot {
            generation: self.generation,
            lsdb_digest,
            complete: routes.complete,
            nodes: Arc::clone(&self.nodes),
            classes,
            adjacencies: self.adjacencies.iter().map(|(&index, &node)| (index, node)).collect(),
        }
    }

    /// Gives what is named the places that the nodes have now.
    fn renumber(&mut self, ids: &[NodeId]) {
        if *self.nodes == *ids {
            return;
        }
        for table in &mut self.tables {
            let old = std::mem::take(&mut table.sets);
            let set = |id| self.nodes.binary_search(id).ok().and_then(|at| old.get(at)).cloned();
            table.sets = ids.iter().map(|id| set(id).unwrap_or_default()).collect();
            // Their numbers are those of other nodes now.
            table.lists = SharedVec::default();
            table.pairs = SharedVec::default();
        }
        self.nodes = ids.into();
    }

    /// Names the paths of one table.
    fn name(
        &mut self,
        table: usize,
        mesh: &Arc<MeshTopology>,
        class: TrafficClass,
        routes: &ClassRoutes,
        keep: usize,
        relabelled: &Relabelled,
    ) -> Arc<ClassTable> {
        if table == self.tables.len() {
            self.tables.push(Named::default());
        }
        let mut named = std::mem::take(&mut self.tables[table]);
        let count = routes.paths.len();
        if named.sets.len() != count {
            named.sets = SharedVec::repeat(&Arc::default(), count);
        }
        // Whether an operator's path can be taken may change with any link.
        let operated = mesh.operator_routes(mesh.source()).filter_map(|(to, _)| mesh.number(to));
        named.anew.extend(operated.map(|number| number as usize));
        if mesh.topology().weights(class).utilization > 0.0 {
            named.anew.extend(takers(&routes.paths, &relabelled.used));
        }
        named.anew.extend(takers(&named.pairs, &relabelled.gone));
        let mut numbers: Vec<usize> = if relabelled.all {
            (0..count).collect()
        } else {
            let paths = routes.paths.unshared(&named.lists);
            paths
                .chain(routes.pairs.unshared(&named.pairs))
                .chain(named.anew.iter().copied())
                .collect()
        };
        numbers.sort_unstable();
        numbers.dedup();
        let mut anyway = std::mem::take(&mut named.anew);
        anyway.sort_unstable();
        let none = Arc::default();
        for number in numbers {
            let (Some(list), Some(old)) = (routes.paths.get(number), named.sets.get(number)) else {
                continue;
            };
            let pair = routes.pairs.get(number).unwrap_or(&none);
            let same = |old: &SharedVec<Arc<PathList>>, new: &Arc<PathList>| {
                old.get(number).is_some_and(|old| Arc::ptr_eq(old, new))
            };
            let pair_is_same =
                same(&named.pairs, pair) || (named.pairs.is_empty() && pair.is_empty());
            let same = same(&named.lists, list) && pair_is_same;
            if same && !relabelled.all && anyway.binary_search(&number).is_err() {
                continue;
            }
            let to = self.nodes[number];
            let indices_stay = !relabelled.all;
            let computed = Computed { mesh, indices_stay, class, to, list, pair, keep };
            let set = self.name_set(&computed, old);
            if set.is_set || set.is_unsettled {
                named.anew.push(number);
            }
            if **old != set {
                named.sets.set(number, Arc::new(set));
            }
        }
        named.lists.clone_from(&routes.paths);
        named.pairs.clone_from(&routes.pairs);
        let (tree, backups) = (Arc::clone(&routes.tree), Arc::clone(&routes.backups));
        let protection = Some(Protection { mesh: Arc::clone(mesh), tree, backups });
        let made = Arc::new(ClassTable { sets: named.sets.clone(), protection });
        self.tables[table] = named;
        made
    }

    /// Names the paths to one destination.
    fn name_set(&mut self, computed: &Computed<'_>, old: &RouteSet) -> RouteSet {
        let &Computed { mesh, indices_stay, class, to, list, pair, keep } = computed;
        let mut set = RouteSet::default();
        set.routes.reserve_exact(old.routes.len().max(list.len()));
        if let Some(Ok(nodes)) = mesh.operator_path(mesh.source(), to)
            && let Some(key) = mesh.topology().path_key(class, &nodes)
        {
            set.is_set = self.add(&mut set, old, mesh, nodes.iter().copied(), key.cost()).is_some();
        }
        let sound = old.routes.get(..old.named).filter(|_| indices_stay).unwrap_or_default();
        for (path, key) in (0..list.len()).filter_map(|path| Some((path, list.key(path)?))) {
            let nodes = list.nodes(path);
            let is_it = |route: &&Route| route.nodes.iter().copied().eq(ids(mesh, nodes.clone()));
            match sound.iter().find(is_it) {
                // All its links were there, and are: no need to look them up.
                Some(known) => add_known(&mut set, known, key.cost()),
                None => self.add(&mut set, old, mesh, nodes, key.cost()),
            };
        }
        let listed = set.routes.len();
        for route in &old.routes {
            let known = set.routes.iter().any(|other| other.hops == route.hops);
            if set.routes.len() < keep && !known && exists(mesh, route) {
                set.routes.push(route.clone());
            }
        }
        set.is_unsettled = set.routes.len() > listed;
        set.named = set.routes.len();
        share(mesh, class, &mut set);
        let mut at = [0, 1].map(|path| {
            let cost = pair.key(path)?.cost();
            self.add(&mut set, old, mesh, pair.nodes(path), cost)
        });
        at.sort_unstable();
        set.disjoint = match at {
            [Some(one), Some(other)] => Some([one, other]),
            _ => None,
        };
        set.is_unsettled |= set.disjoint.is_none() && !pair.is_empty();
        set
    }

    /// Adds the path over `nodes`, with the id that it had; where it stands. None if there is no such
    /// path.
    fn add(
        &mut self,
        set: &mut RouteSet,
        old: &RouteSet,
        mesh: &MeshTopology,
        nodes: impl Iterator<Item = NodeNumber> + Clone,
        cost: u64,
    ) -> Option<usize> {
        // A pair may be older than the mesh.
        let hops = nodes.clone().zip(nodes.clone().skip(1));
        let hops: Option<Vec<_>> = hops.map(|(from, to)| mesh.index(from, to)).collect();
        let hops = hops?;
        if let Some(at) = set.routes.iter().position(|route| route.hops == hops) {
            return Some(at);
        }
        let known = old.routes.iter().find(|route| route.hops == hops).map(|route| route.path);
        let path = known.unwrap_or_else(|| self.next_path());
        let nodes = ids(mesh, nodes).collect();
        set.routes.push(Route { path, hops, nodes, cost, weight: 0 });
        Some(set.routes.len().saturating_sub(1))
    }

    /// Ids start at 1, so that 0 can stand for none.
    fn next_path(&mut self) -> PathId {
        self.path_last = self.path_last.checked_add(1).unwrap_or(1);
        PathId(self.path_last)
    }
}

/// The numbers of the lists with a path over one of `arcs`.
fn takers(
    lists: &SharedVec<Arc<PathList>>,
    arcs: &[(NodeNumber, NodeNumber)],
) -> impl Iterator<Item = usize> {
    let lists = lists.iter().take(if arcs.is_empty() { 0 } else { usize::MAX }).enumerate();
    let takes = |list: &PathList| arcs.iter().any(|&(from, to)| list.takes(from, to));
    lists.filter(move |(_, list)| takes(list)).map(|(number, _)| number)
}

/// Adds a path that was named before and is as it was; where it stands.
fn add_known(set: &mut RouteSet, known: &Route, cost: u64) -> Option<usize> {
    if let Some(at) = set.routes.iter().position(|route| route.hops == known.hops) {
        return Some(at);
    }
    set.routes.push(Route { cost, weight: 0, ..known.clone() });
    Some(set.routes.len().saturating_sub(1))
}

/// The nodes that a path leads to.
fn ids(
    mesh: &MeshTopology,
    nodes: impl Iterator<Item = NodeNumber>,
) -> impl Iterator<Item = NodeId> {
    nodes.skip(1).filter_map(|number| mesh.id(number))
}

/// All links of the path are there, under the same indices.
fn exists(mesh: &MeshTopology, route: &Route) -> bool {
    let mut at = Some(mesh.source());
    route.nodes.iter().zip(&route.hops).all(|(&node, &hop)| {
        let Some((from, to)) = at.zip(mesh.number(node)) else { return false };
        at = Some(to);
        mesh.index(from, to) == Some(hop)
    })
}

/// Gives the paths that are about as good as the best one their shares; all of it to an operator's.
fn share(mesh: &MeshTopology, class: TrafficClass, set: &mut RouteSet) {
    let is_set = set.is_set;
    for route in set.routes.iter_mut().filter(|_| is_set) {
        route.weight = 0;
    }
    let Some(best) = set.routes.first_mut() else { return };
    if is_set {
        best.weight = WEIGHT_FULL as u32;
        return;
    }
    let cost_max = best.cost.saturating_add(best.cost.checked_div(STRETCH_DIVISOR).unwrap_or(0));
    let hops_max = best.hops.len().saturating_add(STRETCH_HOPS);
    for route in &mut set.routes {
        let near = route.cost <= cost_max && route.hops.len() <= hops_max;
        route.weight = if near { weight(mesh, class, route) } else { 0 };
    }
}

/// The share of a path by how much of its busiest link is free; at least 1.
fn weight(mesh: &MeshTopology, class: TrafficClass, route: &Route) -> u32 {
    let topology = mesh.topology();
    let bias = topology.weights(class).utilization;
    if bias <= 0.0 {
        return WEIGHT_FULL as u32;
    }
    let mut at = mesh.source();
    let mut used = 0.0_f64;
    for &node in route.nodes.iter() {
        let Some(to) = mesh.number(node) else { break };
        used = used.max(topology.metrics(at, to).map_or(0.0, |metrics| metrics.utilization));
        at = to;
    }
    let free = (1.0 - used).clamp(0.0, 1.0);
    ((WEIGHT_FULL * free.powf(bias)) as u32).max(1)
}
