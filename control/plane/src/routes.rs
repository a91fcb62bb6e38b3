//! What the node knows of the ways through the mesh, for whoever asks: taken as it is, so that what
//! takes long in a large mesh is computed on the caller's thread.

use std::collections::BTreeMap;
use std::sync::Arc;

use hawser_routing::{
    Candidate, CostTerms, MeshTopology, NodeNumber, Obstacle, Route, RouteSet, RouteSnapshot,
    Verdict, explain,
};
use hawser_wire::{NodeId, PathId, TrafficClass};

use crate::control::Control;
use crate::directory::resolve_node;
use crate::{NodeRef, PlaneError};

impl Control {
    /// The mesh as paths are computed from it, what shards follow, and the ids of the nodes that the
    /// caller names.
    ///
    /// # Errors
    /// [`PlaneError::UnknownNode`], [`PlaneError::AmbiguousName`].
    pub(crate) fn routes_view(&self, named: &[String]) -> Result<RoutesView, PlaneError> {
        let lsdb = self.flooding.lsdb();
        let resolve = |name: &String| resolve_node(lsdb, self.node, &self.config.node_name, name);
        let resolved = named.iter().map(resolve).collect::<Result<_, _>>()?;
        let (mesh, lsdb_digest) = &self.mesh_known;
        let name = |&node| (node, self.node_ref(node).name);
        Ok(RoutesView {
            node: self.node,
            names: mesh.ids().iter().map(name).collect(),
            mesh: Arc::clone(mesh),
            lsdb_digest: *lsdb_digest,
            snapshot: Arc::clone(&self.routes),
            resolved,
        })
    }
}

/// The ways through the mesh as this node knows them at one moment.
#[derive(Clone, Debug)]
pub struct RoutesView {
    node: NodeId,
    pub(crate) mesh: Arc<MeshTopology>,
    lsdb_digest: u64,
    /// For a moment after a change it is that of an earlier database.
    snapshot: Arc<RouteSnapshot>,
    names: BTreeMap<NodeId, String>,
    resolved: Vec<NodeId>,
}

/// A path that this node uses.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RouteView {
    /// Where it leads.
    pub destination: NodeRef,
    /// This node's name for it.
    pub path: PathId,
    /// As the class weighs it.
    pub cost: u64,
    /// Its share of the traffic, relative to the other paths' to the destination; 0: it is taken only
    /// while none with a share is usable.
    pub weight: u32,
    /// One of the two paths of least total cost that have no link in common.
    pub is_disjoint: bool,
    /// An operator has set it: it goes before all others.
    pub is_operators: bool,
    /// From this node to the destination, both included.
    pub nodes: Vec<NodeRef>,
}

/// A path that an operator has set.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OperatorRouteView {
    /// Where it leads.
    pub destination: NodeRef,
    /// From its begin to the destination, both included.
    pub nodes: Vec<NodeRef>,
    /// Why it is not taken at present.
    pub obstacle: Option<ObstacleView>,
}

/// Why a path that an operator has set is not taken.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ObstacleView {
    /// One of its links is not there, the first such one: where it would begin and end.
    NoLink(NodeRef, NodeRef),
    /// It leads through this node, which is a stub or drained; the first such one.
    NoTransit(NodeRef),
}

/// A path that was considered.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CandidateView {
    /// The sum of its hops' costs.
    pub cost: u64,
    /// What became of it.
    pub verdict: VerdictView,
    /// Hop by hop.
    pub hops: Vec<RouteHopView>,
    /// This node's name for it and its share of the traffic, if it begins here and is in use.
    pub used: Option<(PathId, u32)>,
}

/// What became of a candidate.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum VerdictView {
    /// An operator has set it: it goes before all others.
    Operator,
    /// It would be the best path if an operator had not set another one.
    Overruled,
    /// The best path.
    Best,
    /// It costs so much more than the best path.
    Dearer(u64),
    /// It costs the same and has so many more hops.
    Longer(u64),
    /// Cost and hops are the same; its list of node ids is the greater one.
    Later,
    /// It would lead through this node, which is a stub or drained; the first such one.
    NoTransit(NodeRef),
}

/// One hop of a candidate.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RouteHopView {
    /// Where it begins.
    pub from: NodeRef,
    /// Where it ends.
    pub to: NodeRef,
    /// What its cost is made of.
    pub terms: CostTerms,
}

impl RoutesView {
    /// This node.
    #[must_use]
    pub const fn node(&self) -> NodeId {
        self.node
    }

    /// Of the snapshot that shards follow.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.snapshot.generation
    }

    /// Of the link-state database that the snapshot was computed from.
    #[must_use]
    pub fn snapshot_digest(&self) -> u64 {
        self.snapshot.lsdb_digest
    }

    /// False while paths beside the best ones are being computed.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.snapshot.complete
    }

    /// Of the link-state database in which [`Self::explain`] looks for paths.
    #[must_use]
    pub const fn lsdb_digest(&self) -> u64 {
        self.lsdb_digest
    }

    /// The nodes that the caller named, in the same order.
    #[must_use]
    pub fn resolved(&self) -> &[NodeId] {
        &self.resolved
    }

    /// The paths in use for a class, to all destinations or to one: in the order of the destinations'
    /// ids, the best one first.
    #[must_use]
    pub fn routes(&self, class: TrafficClass, only: Option<NodeId>) -> Vec<RouteView> {
        let wanted = self.mesh.ids().iter().filter(|&&node| only.is_none_or(|only| only == node));
        let sets = wanted.filter_map(|&to| Some((to, self.snapshot.routes_to(class, to)?)));
        sets.flat_map(|(to, set)| set.routes().iter().map(move |route| self.route(to, set, route)))
            .collect()
    }

    fn route(&self, to: NodeId, set: &RouteSet, route: &Route) -> RouteView {
        let in_pair = |pair: [&Route; 2]| pair.iter().any(|one| one.path == route.path);
        let nodes = std::iter::once(&self.node).chain(route.nodes.iter());
        RouteView {
            destination: self.node_ref(to),
            path: route.path,
            cost: route.cost,
            weight: route.weight,
            is_disjoint: set.disjoint().is_some_and(in_pair),
            is_operators: set.operator().is_some_and(|set| set.path == route.path),
            nodes: nodes.map(|&node| self.node_ref(node)).collect(),
        }
    }

    /// The paths that operators have set for what `from` sends, to all destinations or to one; in the
    /// order of the destinations' ids. Those of another node are as it has announced them.
    #[must_use]
    pub fn operator_routes(&self, from: NodeId, only: Option<NodeId>) -> Vec<OperatorRouteView> {
        let Some(number) = self.mesh.number(from) else { return Vec::new() };
        let all = self.mesh.operator_routes(number);
        let wanted = all.filter(|(to, _)| only.is_none_or(|only| only == *to));
        let view = |(to, via): (NodeId, &[NodeId])| {
            let nodes = std::iter::once(&from).chain(via).chain(std::iter::once(&to));
            let path = self.mesh.operator_path(number, to);
            OperatorRouteView {
                destination: self.node_ref(to),
                nodes: nodes.map(|&node| self.node_ref(node)).collect(),
                obstacle: path.and_then(Result::err).map(|obstacle| self.obstacle(obstacle)),
            }
        };
        wanted.map(view).collect()
    }

    fn obstacle(&self, obstacle: Obstacle) -> ObstacleView {
        match obstacle {
            Obstacle::NoLink { from, to } => {
                ObstacleView::NoLink(self.node_ref(from), self.node_ref(to))
            }
            Obstacle::NoTransit { node } => ObstacleView::NoTransit(self.node_ref(node)),
        }
    }

    /// The best `paths` paths from one node to another, best first; among them, where they would stand,
    /// those that only a stub or a drained node forbids. Before them the one that an operator has set,
    /// if it can be taken. Empty if none leads there, or both are one node,
    /// or nothing is known of one of them yet.
    #[must_use]
    pub fn explain(
        &self,
        class: TrafficClass,
        (from, to): (NodeId, NodeId),
        paths: usize,
    ) -> Vec<CandidateView> {
        let Some(ends) = self.mesh.number(from).zip(self.mesh.number(to)) else {
            return Vec::new();
        };
        if ends.0 == ends.1 {
            return Vec::new();
        }
        let set = self.mesh.operator_path(ends.0, to).and_then(Result::ok);
        let candidates = explain(self.mesh.topology(), class, ends, paths, set.as_deref());
        // A mesh that is too large for paths has none.
        let candidates = candidates.unwrap_or_default();
        candidates.iter().map(|found| self.candidate(class, found)).collect()
    }

    fn candidate(&self, class: TrafficClass, found: &Candidate) -> CandidateView {
        let verdict = match found.verdict {
            Verdict::Operator => VerdictView::Operator,
            Verdict::Overruled => VerdictView::Overruled,
            Verdict::Best => VerdictView::Best,
            Verdict::Dearer { by } => VerdictView::Dearer(by),
            Verdict::Longer { by } => VerdictView::Longer(by),
            Verdict::LaterInOrder => VerdictView::Later,
            Verdict::NoTransit { node } => VerdictView::NoTransit(self.numbered(node)),
        };
        let hops = found.hops.iter().map(|hop| RouteHopView {
            from: self.numbered(hop.from),
            to: self.numbered(hop.to),
            terms: hop.terms,
        });
        let used = self.used(class, found).map(|route| (route.path, route.weight));
        CandidateView { cost: found.key.cost(), verdict, hops: hops.collect(), used }
    }

    /// The route of this node that goes the candidate's way.
    fn used(&self, class: TrafficClass, found: &Candidate) -> Option<&Route> {
        let first = found.hops.first().filter(|hop| hop.from == self.mesh.source())?;
        let numbers = std::iter::once(first.from).chain(found.hops.iter().map(|hop| hop.to));
        let numbers: Vec<NodeNumber> = numbers.collect();
        let destination = self.mesh.id(*numbers.last()?)?;
        let hops = self.mesh.hops(&numbers)?;
        let set = self.snapshot.routes_to(class, destination)?;
        set.routes().iter().find(|route| route.hops == hops)
    }

    pub(crate) fn numbered(&self, number: NodeNumber) -> NodeRef {
        self.node_ref(self.mesh.id(number).unwrap_or_default())
    }

    pub(crate) fn node_ref(&self, node: NodeId) -> NodeRef {
        NodeRef { node, name: self.names.get(&node).cloned().unwrap_or_default() }
    }
}
