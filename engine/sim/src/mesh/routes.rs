//! The paths of one node: computed by the engine's path computer, and in a large mesh by its tree
//! and backups alone.

use std::collections::VecDeque;
use std::sync::Arc;

use hawser_routing::{
    Backups, Graph, Lsdb, MeshTopology, NodeNumber, PathComputer, RouteSnapshot, ShortestPathTree,
    SpfWorkspace, Step, TokenBucket, Weights,
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
    /// For trees alone: what all classes see, which are taken to weigh alike.
    graph: Option<Arc<Graph>>,
}

/// The latest meshes that nodes have known.
#[derive(Debug)]
pub(crate) struct KnownMeshes {
    weights: [Weights; TrafficClass::ALL.len()],
    trees: bool,
    latest: VecDeque<Arc<KnownMesh>>,
}

impl KnownMeshes {
    pub(crate) const fn new(weights: [Weights; TrafficClass::ALL.len()], trees: bool) -> Self {
        Self { weights, trees, latest: VecDeque::new() }
    }

    /// What `lsdb` says.
    pub(crate) fn of(&mut self, lsdb: &Lsdb, node: NodeId) -> Arc<KnownMesh> {
        let digest = lsdb.digest();
        let known = self.latest.iter().find(|known| known.digest == digest);
        // A node that has said nothing yet is in its own mesh alone.
        if let Some(known) = known.filter(|known| known.mesh.number(node).is_some()) {
            return Arc::clone(known);
        }
        // Most of it is as the last one to ask knew it.
        let last = self.latest.back().and_then(|known| known.mesh.seen_from(node));
        let mesh = last
            .map_or_else(|| MeshTopology::new(lsdb, node, self.weights), |last| last.update(lsdb));
        // Another word of a node about a link that is gone already changes no graph.
        let same = self.latest.iter().rev().find(|known| known.mesh.is_same_map(&mesh));
        let graph = match same {
            _ if !self.trees => None,
            Some(known) => known.graph.clone(),
            None => mesh.topology().graph(TrafficClass::Bulk).ok().map(Arc::new),
        };
        let mesh = same.map_or_else(|| Arc::new(mesh), |known| Arc::clone(&known.mesh));
        let known = Arc::new(KnownMesh { digest, mesh, graph });
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
/// published and replaced without sending anything is never computed.
#[derive(Debug)]
pub(crate) struct NodeRoutes {
    /// The mesh that is being computed.
    pub(crate) computing: Option<Arc<KnownMesh>>,
    /// Another one is to follow.
    pub(crate) waiting: bool,
    /// How often it may compute.
    pub(crate) bucket: TokenBucket,
    published: Option<Published>,
    /// For which mesh `paths` are, and whether all of them.
    computed: Option<Published>,
    paths: Paths,
}

#[derive(Clone, Debug)]
struct Published {
    known: Arc<KnownMesh>,
    /// No newer one was there yet: what follows the first stage was computed, too.
    whole: bool,
}

#[derive(Debug)]
enum Paths {
    Best { computer: Box<PathComputer>, snapshot: Box<RouteSnapshot> },
    Tree { parents: Box<[NodeNumber]>, backups: Option<Box<(ShortestPathTree, Backups)>> },
}

/// No node.
const NONE: NodeNumber = NodeNumber::MAX;

impl NodeRoutes {
    pub(crate) fn new(trees: bool) -> Self {
        let paths = if trees {
            Paths::Tree { parents: Box::default(), backups: None }
        } else {
            let computer = Box::new(PathComputer::new(K));
            Paths::Best { computer, snapshot: Box::default() }
        };
        let (computing, published, computed) = (None, None, None);
        Self { computing, waiting: false, bucket: ROUTES, published, computed, paths }
    }

    /// The mesh that the published paths were computed for.
    pub(crate) fn mesh(&self) -> Option<&MeshTopology> {
        Some(&self.published.as_ref()?.known.mesh)
    }

    /// Digest of the database that they were computed from.
    pub(crate) fn digest(&self) -> Option<u64> {
        self.published.as_ref().map(|published| published.known.digest)
    }

    /// The published paths, where there are more than trees. They are [computed](Self::compute).
    pub(crate) fn snapshot(&self) -> Option<&RouteSnapshot> {
        match &self.paths {
            Paths::Best { snapshot, .. } => Some(snapshot),
            Paths::Tree { .. } => None,
        }
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

    /// Has the published paths computed, as they are to be looked at now. `adjacencies` are the
    /// node's own.
    pub(crate) fn compute(
        &mut self,
        node: NodeId,
        adjacencies: impl FnOnce() -> Vec<(AdjacencyIndex, NodeId)>,
        workspace: &mut SpfWorkspace,
    ) {
        let Some(Published { known, whole }) = &self.published else { return };
        let is_same = |done: &Published| Arc::ptr_eq(&done.known, known);
        let same = self.computed.as_ref().filter(|done| is_same(done));
        if same.is_some_and(|done| done.whole || !whole) {
            return;
        }
        match &mut self.paths {
            Paths::Best { computer, snapshot } => {
                if same.is_none() {
                    let Some(mesh) = known.mesh.seen_from(node) else { return };
                    let first = computer.handle_mesh(known.digest, Arc::new(mesh), adjacencies());
                    let Ok(first) = first else { return };
                    **snapshot = first;
                }
                if *whole {
                    complete(computer, snapshot, known.mesh.ids().len());
                }
            }
            Paths::Tree { parents, backups } => {
                let before = self.computed.as_ref().map(|done| &done.known.mesh);
                if !before.is_some_and(|before| Arc::ptr_eq(before, &known.mesh)) {
                    *backups = None;
                    let Some((tree, _)) = tree_of(known, node, workspace) else { return };
                    let nodes = known.mesh.ids().len();
                    let parent = |(node, _)| tree.parent(node).unwrap_or(NONE);
                    *parents = (0..).zip(0..nodes).map(parent).collect();
                }
            }
        }
        self.computed.clone_from(&self.published);
    }

    /// The path that a frame to `destination` takes: the best one whose first link is usable, or
    /// the best one. The paths are [computed](Self::compute).
    pub(crate) fn path_to(
        &self,
        node: NodeId,
        class: TrafficClass,
        destination: NodeId,
        usable: impl Fn(AdjacencyIndex) -> bool,
    ) -> Option<(PathId, Vec<AdjacencyIndex>)> {
        match &self.paths {
            Paths::Best { snapshot, .. } => {
                let routes = snapshot.routes_to(class, destination)?.routes();
                let first = |route: &&hawser_routing::Route| {
                    route.hops.first().is_some_and(|&hop| usable(hop))
                };
                let route = routes.iter().find(first).or_else(|| routes.first())?;
                Some((route.path, route.hops.clone()))
            }
            Paths::Tree { parents, .. } => {
                let mesh = self.mesh()?;
                let (source, mut at) = (mesh.number(node)?, mesh.number(destination)?);
                let mut nodes = vec![at];
                while at != source {
                    at = *parents.get(usize::try_from(at).ok()?).filter(|&&at| at != NONE)?;
                    nodes.push(at);
                }
                nodes.reverse();
                Some((PathId(1), mesh.hops(&nodes)?))
            }
        }
    }

    /// The way around the link to `neighbour`. The paths are [computed](Self::compute).
    pub(crate) fn backup(
        &mut self,
        node: NodeId,
        class: TrafficClass,
        neighbour: NodeId,
        destination: NodeId,
        workspace: &mut SpfWorkspace,
    ) -> Option<Vec<AdjacencyIndex>> {
        match &mut self.paths {
            Paths::Best { snapshot, .. } => snapshot.backup(class, neighbour, destination),
            Paths::Tree { backups, .. } => {
                let known = &self.published.as_ref()?.known;
                if backups.is_none() {
                    let (tree, graph) = tree_of(known, node, workspace)?;
                    let mut all = Backups::default();
                    all.compute(graph, &tree, workspace);
                    *backups = Some(Box::new((tree, all)));
                }
                let (tree, all) = backups.as_deref()?;
                let numbers = (known.mesh.number(neighbour)?, known.mesh.number(destination)?);
                let mut nodes = Vec::new();
                all.path_into(tree, numbers.0, numbers.1, &mut nodes)?;
                known.mesh.hops(&nodes)
            }
        }
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

fn tree_of<'a>(
    known: &'a KnownMesh,
    node: NodeId,
    workspace: &mut SpfWorkspace,
) -> Option<(ShortestPathTree, &'a Graph)> {
    let graph = known.graph.as_deref()?;
    let mut tree = ShortestPathTree::default();
    tree.compute(graph, known.mesh.number(node)?, workspace);
    Some((tree, graph))
}
