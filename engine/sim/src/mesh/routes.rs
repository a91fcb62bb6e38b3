//! The paths of one node: computed by the engine's path computer, and in a large mesh by its tree
//! and backups alone.

use std::collections::VecDeque;
use std::sync::Arc;

use hawser_routing::{
    Backups, Flooding, Graph, LsdbPieces, MeshPieces, MeshTopology, NodeNumber, PathComputer,
    RouteSnapshot, ShortestPathTree, SpfWorkspace, Step, TokenBucket, Weights,
};
use hawser_wire::{AdjacencyIndex, NodeId, PathId, TrafficClass};

use crate::mesh::simulation::ROUTES;

/// In larger meshes the pairs without a common link are left out.
const PAIRS_NODES_MAX: usize = 200;
/// Paths to each destination, the daemon's default.
const K: usize = 4;
/// States of the mesh that are kept to be shared by the nodes that know them.
const MESHES_KEPT: usize = 32;

/// The mesh as a database with this digest has it. Nodes with equal databases share it.
#[derive(Debug)]
pub(crate) struct KnownMesh {
    digest: u64,
    pub(crate) mesh: Arc<MeshTopology>,
}

/// Graphs kept, to be shared by the nodes that compute in one mesh at about the same time. One of 10,000
/// nodes has a megabyte: the nodes keep none.
const GRAPHS_KEPT: usize = 32;

/// What trees are computed with.
#[derive(Debug, Default)]
pub(crate) struct Trees {
    spf: SpfWorkspace,
    /// Of the latest meshes; none where not all classes weigh alike.
    graphs: VecDeque<(Arc<MeshTopology>, Option<Arc<Graph>>)>,
}

impl Trees {
    /// What all classes see of a mesh, if they weigh alike.
    fn graph(&mut self, mesh: &Arc<MeshTopology>) -> Option<Arc<Graph>> {
        let known = self.graphs.iter().rev().find(|(of, _)| Arc::ptr_eq(of, mesh));
        if let Some((_, graph)) = known {
            return graph.clone();
        }
        let topology = mesh.topology();
        let [first, rest @ ..] = TrafficClass::ALL.map(|class| topology.weights(class));
        let alike = rest.iter().all(|weights| *weights == first);
        let graph = alike.then(|| topology.graph(TrafficClass::Bulk).ok()).flatten().map(Arc::new);
        if self.graphs.len() >= GRAPHS_KEPT {
            self.graphs.pop_front();
        }
        self.graphs.push_back((Arc::clone(mesh), graph.clone()));
        graph
    }

    /// The tree of a node, and the graph that it is of.
    fn of(
        &mut self,
        mesh: &Arc<MeshTopology>,
        node: NodeId,
    ) -> Option<(ShortestPathTree, Arc<Graph>)> {
        let graph = self.graph(mesh)?;
        let mut tree = ShortestPathTree::default();
        tree.compute(&graph, mesh.number(node)?, &mut self.spf);
        Some((tree, graph))
    }
}

/// The latest meshes that nodes have known.
#[derive(Debug)]
pub(crate) struct KnownMeshes {
    weights: [Weights; TrafficClass::ALL.len()],
    latest: VecDeque<Arc<KnownMesh>>,
    /// The last of them, with what it was read from: what each node knows would keep its database's
    /// memory for long.
    last: Option<MeshTopology>,
    /// While a mesh falls apart each node knows another one, in an order of its own.
    pieces: MeshPieces,
    /// The same of the databases.
    databases: LsdbPieces,
}

impl KnownMeshes {
    pub(crate) fn new(weights: [Weights; TrafficClass::ALL.len()]) -> Self {
        let (pieces, databases) = (MeshPieces::default(), LsdbPieces::default());
        Self { weights, latest: VecDeque::new(), last: None, pieces, databases }
    }

    /// What a node's database says. It shares what others have of it from now on.
    pub(crate) fn of(&mut self, flooding: &mut Flooding, node: NodeId) -> Arc<KnownMesh> {
        flooding.share(&mut self.databases);
        let lsdb = flooding.lsdb();
        let digest = lsdb.digest();
        let known = self.latest.iter().find(|known| known.digest == digest);
        // A node that has said nothing yet is in its own mesh alone.
        if let Some(known) = known.filter(|known| known.mesh.number(node).is_some()) {
            return Arc::clone(known);
        }
        // Most of it is as the last one to ask knew it.
        let last = self.last.as_ref().and_then(|last| last.seen_from(node));
        let mesh = last
            .map_or_else(|| MeshTopology::new(lsdb, node, self.weights), |last| last.update(lsdb));
        let mesh = mesh.sharing(&mut self.pieces);
        // Another word of a node about a link that is gone already changes no tree.
        let same = self.latest.iter().rev().find(|known| known.mesh.is_same_map(&mesh));
        let kept = same.map_or_else(|| Arc::new(mesh.detached()), |known| Arc::clone(&known.mesh));
        self.last = Some(mesh);
        let known = Arc::new(KnownMesh { digest, mesh: kept });
        if self.latest.len() >= MESHES_KEPT {
            self.latest.pop_front();
        }
        self.latest.push_back(Arc::clone(&known));
        known
    }
}

/// What a node computes its paths with, and those that it uses.
///
/// Paths are computed when the first of them is asked for after they were published: what a node has
/// published and replaced without sending anything is never computed. Of the K paths to a destination
/// the first is the tree's, and nearly always the one that is taken: the others are computed when one
/// of them is asked for.
#[derive(Debug)]
pub(crate) struct NodeRoutes {
    /// The mesh that is being computed.
    pub(crate) computing: Option<Arc<KnownMesh>>,
    /// Another one is to follow.
    pub(crate) waiting: bool,
    /// How often it may compute.
    pub(crate) bucket: TokenBucket,
    published: Option<Published>,
    tree: Tree,
    /// None where there are trees alone.
    lists: Option<Box<Lists>>,
}

#[derive(Clone, Debug)]
struct Published {
    known: Arc<KnownMesh>,
    /// No newer one was there yet: what follows the first stage was computed, too.
    whole: bool,
}

impl Published {
    /// Nothing of `next` is missing once this is computed.
    fn covers(&self, next: &Self) -> bool {
        Arc::ptr_eq(&self.known, &next.known) && (self.whole || !next.whole)
    }
}

/// The best paths and the backups, as all classes have them if they weigh alike.
#[derive(Debug, Default)]
struct Tree {
    /// In which mesh.
    of: Option<Arc<MeshTopology>>,
    parents: Box<[NodeNumber]>,
    backups: Option<Box<(ShortestPathTree, Backups)>>,
}

/// The K paths.
#[derive(Debug)]
struct Lists {
    computer: PathComputer,
    snapshot: RouteSnapshot,
    /// The last one that was to be computed.
    last: Option<Published>,
    /// Those that were to be computed and are not. As long as not all paths are there, earlier ones
    /// stay: none of these can be left out but what is before a whole one.
    owed: Vec<Published>,
}

/// No node.
const NONE: NodeNumber = NodeNumber::MAX;

impl NodeRoutes {
    pub(crate) fn new(trees: bool) -> Self {
        let lists = || Lists {
            computer: PathComputer::new(K),
            snapshot: RouteSnapshot::default(),
            last: None,
            owed: Vec::new(),
        };
        Self {
            computing: None,
            waiting: false,
            bucket: ROUTES,
            published: None,
            tree: Tree::default(),
            lists: (!trees).then(|| Box::new(lists())),
        }
    }

    /// The mesh that the published paths were computed for.
    pub(crate) fn mesh(&self) -> Option<&MeshTopology> {
        Some(&self.published.as_ref()?.known.mesh)
    }

    /// Digest of the database that they were computed from.
    pub(crate) fn digest(&self) -> Option<u64> {
        self.published.as_ref().map(|published| published.known.digest)
    }

    /// The published paths, where there are more than trees. They are
    /// [computed](Self::compute_lists).
    pub(crate) fn snapshot(&self) -> Option<&RouteSnapshot> {
        self.lists.as_ref().map(|lists| &lists.snapshot)
    }

    /// Whether the last paths to a destination may be there for the sake of a pair without a common
    /// link: these are in no order with the others.
    pub(crate) fn has_pairs(&self) -> bool {
        self.mesh().is_some_and(|mesh| mesh.ids().len() <= PAIRS_NODES_MAX)
    }

    /// Publishes the paths of the mesh that was being computed.
    pub(crate) fn publish(&mut self) {
        if let Some(known) = self.computing.take() {
            self.published = Some(Published { known, whole: !self.waiting });
        }
    }

    /// Has the tree of the published paths computed, as it is to be looked at now.
    pub(crate) fn compute(&mut self, node: NodeId, trees: &mut Trees) {
        let Some(published) = &self.published else { return };
        if let Some(lists) = &mut self.lists
            && !lists.last.as_ref().is_some_and(|last| last.covers(published))
        {
            if published.whole {
                lists.owed.clear();
            }
            lists.owed.push(published.clone());
            lists.last = Some(published.clone());
        }
        let mesh = &published.known.mesh;
        if !self.tree.of.as_ref().is_some_and(|of| Arc::ptr_eq(of, mesh))
            && let Some((tree, _)) = trees.of(mesh, node)
        {
            let parent = |(node, _)| tree.parent(node).unwrap_or(NONE);
            let parents = (0..).zip(0..mesh.ids().len()).map(parent).collect();
            self.tree = Tree { of: Some(Arc::clone(mesh)), parents, backups: None };
        }
    }

    /// Has all published paths computed. `adjacencies` are the node's own.
    pub(crate) fn compute_lists(
        &mut self,
        node: NodeId,
        adjacencies: impl Fn() -> Vec<(AdjacencyIndex, NodeId)>,
        trees: &mut Trees,
    ) {
        self.compute(node, trees);
        let Some(lists) = &mut self.lists else { return };
        let Lists { computer, snapshot, owed, .. } = &mut **lists;
        for Published { known, whole } in owed.drain(..) {
            let Some(mesh) = known.mesh.seen_from(node) else { continue };
            let first = computer.handle_mesh(known.digest, Arc::new(mesh), adjacencies());
            let Ok(first) = first else { continue };
            *snapshot = first;
            if whole {
                complete(computer, snapshot, known.mesh.ids().len());
            }
        }
    }

    /// Whether the tree says what the best paths and the backups are. It is
    /// [computed](Self::compute).
    pub(crate) fn knows_tree(&self) -> bool {
        let published = self.published.as_ref();
        let of = self.tree.of.as_ref();
        of.zip(published).is_some_and(|(of, published)| Arc::ptr_eq(of, &published.known.mesh))
    }

    /// The tree's path to `destination`.
    pub(crate) fn best_path(
        &self,
        node: NodeId,
        destination: NodeId,
    ) -> Option<Vec<AdjacencyIndex>> {
        let mesh = self.mesh()?;
        let (source, mut at) = (mesh.number(node)?, mesh.number(destination)?);
        let mut nodes = vec![at];
        while at != source {
            at = *self.tree.parents.get(usize::try_from(at).ok()?).filter(|&&at| at != NONE)?;
            nodes.push(at);
        }
        nodes.reverse();
        mesh.hops(&nodes)
    }

    /// The path that a frame to `destination` takes: the best one whose first link is usable, or
    /// the best one. The paths are [computed](Self::compute_lists).
    pub(crate) fn path_to(
        &self,
        class: TrafficClass,
        destination: NodeId,
        usable: impl Fn(AdjacencyIndex) -> bool,
    ) -> Option<(PathId, Vec<AdjacencyIndex>)> {
        let routes = self.snapshot()?.routes_to(class, destination)?.routes();
        let first =
            |route: &&hawser_routing::Route| route.hops.first().is_some_and(|&hop| usable(hop));
        let route = routes.iter().find(first).or_else(|| routes.first())?;
        Some((route.path, route.hops.clone()))
    }

    /// The way around the link to `neighbour`, by the tree; the outer `None` if the mesh is without
    /// that link. The tree [says](Self::knows_tree) what it is.
    pub(crate) fn backup(
        &mut self,
        node: NodeId,
        neighbour: NodeId,
        destination: NodeId,
        trees: &mut Trees,
    ) -> Option<Option<Vec<AdjacencyIndex>>> {
        let known = &self.published.as_ref()?.known;
        if self.tree.backups.is_none() {
            let (tree, graph) = trees.of(&known.mesh, node)?;
            let mut all = Backups::default();
            all.compute(&graph, &tree, &mut trees.spf);
            self.tree.backups = Some(Box::new((tree, all)));
        }
        let (tree, all) = self.tree.backups.as_deref()?;
        let (neighbour, destination) =
            (known.mesh.number(neighbour)?, known.mesh.number(destination)?);
        if !all.knows_link(neighbour) {
            return None;
        }
        let mut nodes = Vec::new();
        let found = all.path_into(tree, neighbour, destination, &mut nodes);
        Some(found.and_then(|_| known.mesh.hops(&nodes)))
    }
}

/// The K paths, and in a small mesh the pairs, too.
fn complete(computer: &mut PathComputer, snapshot: &mut RouteSnapshot, nodes: usize) {
    loop {
        match computer.advance(usize::MAX) {
            Step::Working => {}
            Step::Published(next) => {
                *snapshot = next;
                if snapshot.complete && nodes > PAIRS_NODES_MAX {
                    return;
                }
            }
            Step::Idle => return,
        }
    }
}
