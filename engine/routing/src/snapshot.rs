use std::collections::HashMap;
use std::sync::Arc;

use hawser_wire::{AdjacencyIndex, NodeId, PathId, TrafficClass};

use crate::shared_vec::SharedVec;
use crate::{Backups, MeshTopology, ShortestPathTree};

/// One path to a destination, as a source writes it into a route header.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Route {
    /// This node's name for the path.
    pub path: PathId,
    /// Adjacency index at each node on the way, this one first.
    pub hops: Vec<AdjacencyIndex>,
    /// The nodes that the hops lead to: as many as hops, the destination last.
    pub nodes: Arc<[NodeId]>,
    /// Sum of the metrics, as the class weighs them.
    pub cost: u64,
    /// Its share of the traffic to the destination, relative to the others'; 0 for a path that is
    /// taken only if all with a share are down.
    pub weight: u32,
}

/// The paths to one destination.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct RouteSet {
    /// An operator's, then the best first; the last one or two may be there for the pair's sake alone.
    pub(crate) routes: Vec<Route>,
    /// So many of them, the first ones, are not there for a pair's sake: all their links were in the
    /// mesh before this one.
    pub(crate) named: usize,
    /// There are earlier ones among them, as the list is not whole, or a pair that cannot be taken is
    /// not.
    pub(crate) is_unsettled: bool,
    pub(crate) disjoint: Option<[usize; 2]>,
    /// The first one is an operator's.
    pub(crate) is_set: bool,
}

impl RouteSet {
    /// All paths: the one that an operator has set, if there is one that can be taken, then the best
    /// one first.
    #[must_use]
    pub fn routes(&self) -> &[Route] {
        &self.routes
    }

    /// The path that an operator has set, which goes before all others.
    #[must_use]
    pub fn operator(&self) -> Option<&Route> {
        self.routes.first().filter(|_| self.is_set)
    }

    /// Whether the paths are those of `other`, in the same order.
    fn has_same_paths(&self, other: &Self) -> bool {
        // An id stands for its list of hops for good.
        let (paths, others) = (self.routes.iter(), other.routes.iter());
        self.is_set == other.is_set && paths.map(|one| one.path).eq(others.map(|one| one.path))
    }

    /// The path with this id.
    #[must_use]
    pub fn get(&self, path: PathId) -> Option<&Route> {
        self.routes.iter().find(|route| route.path == path)
    }

    /// The two paths of least total cost that share no link, if they are known.
    #[must_use]
    pub fn disjoint(&self) -> Option<[&Route; 2]> {
        let [one, other] = self.disjoint?;
        Some([self.routes.get(one)?, self.routes.get(other)?])
    }
}

/// Where frames go whose next link is down: the trees of the path computation, read out path by path.
#[derive(Clone, Debug)]
pub(crate) struct Protection {
    pub(crate) mesh: Arc<MeshTopology>,
    pub(crate) tree: Arc<ShortestPathTree>,
    pub(crate) backups: Arc<Backups>,
}

impl Protection {
    /// Paths were computed with the link to `neighbour` in the mesh.
    fn knows_link(&self, neighbour: NodeId) -> bool {
        self.mesh.number(neighbour).is_some_and(|number| self.backups.knows_link(number))
    }

    fn backup(&self, neighbour: NodeId, destination: NodeId) -> Option<Vec<AdjacencyIndex>> {
        let (neighbour, destination) =
            (self.mesh.number(neighbour)?, self.mesh.number(destination)?);
        let mut nodes = Vec::new();
        self.backups.path_into(&self.tree, neighbour, destination, &mut nodes)?;
        self.mesh.hops(&nodes)
    }
}

/// What one class uses.
#[derive(Clone, Debug, Default)]
pub(crate) struct ClassTable {
    /// In the order of the snapshot's nodes.
    pub(crate) sets: SharedVec<Arc<RouteSet>>,
    pub(crate) protection: Option<Protection>,
}

/// What shards need to send, to forward and to repair: immutable, published as a whole. Cheap to
/// make from the one before it: what did not change is shared.
#[derive(Clone, Debug, Default)]
pub struct RouteSnapshot {
    /// Counts the snapshots of this process, from 1; 0 is the empty one before the first.
    pub generation: u64,
    /// Digest of the link-state database that it was computed from.
    pub lsdb_digest: u64,
    /// All paths are there; until then destinations whose paths are being computed have the best
    /// one, and those of their earlier ones that still exist.
    pub complete: bool,
    /// In ascending order.
    pub(crate) nodes: Arc<[NodeId]>,
    pub(crate) classes: [Arc<ClassTable>; TrafficClass::ALL.len()],
    pub(crate) adjacencies: HashMap<AdjacencyIndex, NodeId>,
}

impl RouteSnapshot {
    /// A snapshot with these paths, the same for all classes, without backups, and this node's own
    /// adjacencies (index and neighbour).
    #[must_use]
    pub fn new(
        generation: u64,
        lsdb_digest: u64,
        routes: impl IntoIterator<Item = (NodeId, Vec<Route>)>,
        adjacencies: impl IntoIterator<Item = (AdjacencyIndex, NodeId)>,
    ) -> Self {
        let mut routes: Vec<(NodeId, Vec<Route>)> = routes.into_iter().collect();
        routes.sort_by_key(|(destination, _)| *destination);
        let nodes = routes.iter().map(|(destination, _)| *destination).collect();
        let sets = routes.into_iter().map(|(_, routes)| RouteSet { routes, ..RouteSet::default() });
        let sets = sets.map(Arc::new).collect();
        let table = Arc::new(ClassTable { sets, protection: None });
        Self {
            generation,
            lsdb_digest,
            complete: true,
            nodes,
            classes: [(); TrafficClass::ALL.len()].map(|()| Arc::clone(&table)),
            adjacencies: adjacencies.into_iter().collect(),
        }
    }

    fn table(&self, class: TrafficClass) -> Option<&ClassTable> {
        self.classes.get(usize::from(class.to_wire())).map(Arc::as_ref)
    }

    /// The paths to `destination` for `class`, if there are any. To this node itself there are none.
    #[must_use]
    pub fn routes_to(&self, class: TrafficClass, destination: NodeId) -> Option<&RouteSet> {
        let at = self.nodes.binary_search(&destination).ok()?;
        let set = self.table(class)?.sets.get(at)?;
        (!set.routes.is_empty()).then_some(set)
    }

    /// The best path for control frames to `destination`, if there is one.
    #[must_use]
    pub fn route_to(&self, destination: NodeId) -> Option<&Route> {
        self.routes_to(TrafficClass::Control, destination)?.routes.first()
    }

    /// The nodes that control frames reach, without this one, and over how many hops.
    pub fn reachable(&self) -> impl Iterator<Item = (NodeId, usize)> + '_ {
        let sets =
            self.table(TrafficClass::Control).into_iter().flat_map(|table| table.sets.iter());
        let sets = self.nodes.iter().zip(sets);
        sets.filter_map(|(&node, set)| Some((node, set.routes.first()?.hops.len())))
    }

    /// Whether the same nodes have the same paths in the same order as in `other`, in each class;
    /// what paths cost, and their shares, may differ.
    #[must_use]
    pub fn has_same_paths(&self, other: &Self) -> bool {
        let same = |(table, other): (&Arc<ClassTable>, &Arc<ClassTable>)| {
            let (sets, others) = (&table.sets, &other.sets);
            let same =
                |at| sets.get(at).zip(others.get(at)).is_some_and(|(a, b)| a.has_same_paths(b));
            sets.len() == others.len() && sets.unshared(others).all(same)
        };
        self.nodes == other.nodes && self.classes.iter().zip(&other.classes).all(same)
    }

    /// The list for a frame of `class` to `destination` whose next link, that to `neighbour`, is
    /// down: the best path that avoids that link and the neighbour, or, if the neighbour is the
    /// destination, the link alone. If the mesh of this snapshot is without that link already, no path
    /// takes it, and the best one is it: frames may come for the link, or be in flight over it, for
    /// longer than the mesh knows it. None if there is no such path.
    ///
    /// Walks the path: for once a destination, not for each frame.
    #[must_use]
    pub fn backup(
        &self,
        class: TrafficClass,
        neighbour: NodeId,
        destination: NodeId,
    ) -> Option<Vec<AdjacencyIndex>> {
        let protection = self.table(class)?.protection.as_ref()?;
        if protection.knows_link(neighbour) {
            return protection.backup(neighbour, destination);
        }
        Some(self.routes_to(class, destination)?.routes.first()?.hops.clone())
    }

    /// The neighbour that `index` names at this node. Indices are never reused, so a neighbour
    /// stays known while its link is down.
    #[must_use]
    pub fn neighbour(&self, index: AdjacencyIndex) -> Option<NodeId> {
        self.adjacencies.get(&index).copied()
    }
}
