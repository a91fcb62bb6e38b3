//! The mesh as the link-state database has it: what the [`Topology`] of the path computation is, and
//! how its numbers become ids and adjacency indices again.

use std::collections::BTreeMap;
use std::sync::Arc;

use hawser_wire::{AdjacencyIndex, NodeId, TrafficClass};

use crate::arc_map::{ArcMap, Piece};
use crate::lsdb::LsdbState;
use crate::piece_table::PieceTable;
use crate::{
    Adjacency, LinkMetrics, Lsa, LsaFlags, Lsdb, NodeFlags, NodeNumber, Obstacle, Topology, Weights,
};

/// A [`Topology`] with the names of its nodes and links.
///
/// Every origin of the database is a node, whether it can be reached or not, and so is this node
/// itself: a link that goes or a neighbour that dies renumbers nothing. An adjacency counts only if
/// its far end lists it too (RFC 2328 §16.1 step 2b). Who has left, is overloaded or a stub is no
/// transit. Cheap to clone.
#[derive(Clone, Debug, PartialEq)]
pub struct MeshTopology {
    map: Arc<Map>,
    source: NodeNumber,
}

/// What is the same whoever looks. A clone shares what neither has changed since.
#[derive(Clone, Debug)]
struct Map {
    /// In ascending order; the position is the number.
    ids: Arc<[NodeId]>,
    /// What each node calls its links.
    indices: ArcMap<AdjacencyIndex>,
    topology: Topology,
    /// Of the paths that operators have set the nodes between, by both ends.
    operator_routes: Arc<BTreeMap<(NodeNumber, NodeId), Vec<NodeId>>>,
    /// What all of it was read from, if that is kept.
    state: Option<LsdbState>,
}

/// Pieces of the meshes that many nodes of one process know at about the same time: those that are
/// equal are there once, however the nodes have come to know them.
#[derive(Debug, Default)]
pub struct MeshPieces {
    indices: PieceTable<Piece<AdjacencyIndex>>,
    arcs: PieceTable<Piece<LinkMetrics>>,
}

/// Whatever it was read from.
impl PartialEq for Map {
    fn eq(&self, other: &Self) -> bool {
        self.ids == other.ids
            && self.indices == other.indices
            && self.topology == other.topology
            && self.operator_routes == other.operator_routes
    }
}

impl MeshTopology {
    /// The mesh in `lsdb` as `source` computes paths in it, with the weights of the classes in the
    /// order of [`TrafficClass::ALL`].
    #[must_use]
    pub fn new(lsdb: &Lsdb, source: NodeId, weights: [Weights; TrafficClass::ALL.len()]) -> Self {
        // By number, as the ids; none for this node if it has said nothing yet.
        let mut said: Vec<Option<&Lsa>> = lsdb.iter().map(Some).collect();
        let mut ids: Vec<NodeId> = lsdb.iter().map(|lsa| lsa.origin).collect();
        if let Err(at) = ids.binary_search(&source) {
            ids.insert(at, source);
            said.insert(at, None);
        }
        let mut topology =
            Topology::new(said.iter().map(|lsa| node_flags(*lsa)).collect(), weights);
        let (mut arcs, mut indices) = (Vec::new(), Vec::new());
        let mut operator_routes = BTreeMap::new();
        for (a, lsa) in (0..).zip(&said).filter_map(|(a, lsa)| Some((a, (*lsa)?))) {
            let routes = lsa.routes.iter().map(|route| ((a, route.to), route.via.clone()));
            operator_routes.extend(routes);
            // Each link once, from its smaller end.
            for near in lsa.adjacencies.iter().filter(|near| lsa.origin < near.neighbour) {
                let Ok(at) = ids.binary_search(&near.neighbour) else { continue };
                let far = said.get(at).copied().flatten();
                let Some(back) = far.and_then(|far| far.adjacency(lsa.origin)) else { continue };
                let Ok(b) = NodeNumber::try_from(at) else { continue };
                arcs.push(((a, b), near.metrics.into()));
                arcs.push(((b, a), back.metrics.into()));
                indices.push(((a, b), near.index));
                indices.push(((b, a), back.index));
            }
        }
        topology.set_arcs(arcs);
        let indices = ArcMap::new(ids.len(), indices);
        let source = ids.binary_search(&source).ok().and_then(|at| at.try_into().ok());
        let source = source.unwrap_or_default();
        let (ids, operator_routes) = (ids.into(), Arc::new(operator_routes));
        let map = Map { ids, indices, topology, operator_routes, state: Some(lsdb.state()) };
        Self { map: Arc::new(map), source }
    }

    /// The mesh in `lsdb`, as [`new`](Self::new) makes it for the same node with the same weights. As
    /// long as the nodes are the same ones only the links of those are looked at that have said
    /// something else since this mesh was made.
    #[must_use]
    pub fn update(&self, lsdb: &Lsdb) -> Self {
        let map = self.map.updated(lsdb, self.source);
        map.map_or_else(
            || {
                let weights = TrafficClass::ALL.map(|class| *self.topology().weights(class));
                Self::new(lsdb, self.id(self.source).unwrap_or_default(), weights)
            },
            |map| Self { map: Arc::new(map), source: self.source },
        )
    }

    /// The nodes between the ends of the path that an operator has set from `from` to `to`, in order,
    /// be it taken or not.
    #[must_use]
    pub fn operator_via(&self, from: NodeNumber, to: NodeId) -> Option<&[NodeId]> {
        self.map.operator_routes.get(&(from, to)).map(Vec::as_slice)
    }

    /// The paths that an operator has set from `from`: where each leads, and the nodes between.
    pub fn operator_routes(
        &self,
        from: NodeNumber,
    ) -> impl Iterator<Item = (NodeId, &[NodeId])> + '_ {
        let all = (from, NodeId::from_bytes([0; 16]))..=(from, NodeId::from_bytes([0xff; 16]));
        self.map.operator_routes.range(all).map(|(&(_, to), via)| (to, via.as_slice()))
    }

    /// The path that an operator has set from `from` to `to`, as the list of its nodes with both ends;
    /// `None` if none is set.
    ///
    /// # Errors
    /// [`Obstacle`], while it cannot be taken.
    pub fn operator_path(
        &self,
        from: NodeNumber,
        to: NodeId,
    ) -> Option<Result<Vec<NodeNumber>, Obstacle>> {
        self.operator_via(from, to).map(|via| self.walk(from, via, to))
    }

    /// The list of nodes from `from` over `via` to `to`.
    ///
    /// # Errors
    /// [`Obstacle`], if nothing can go that way.
    fn walk(
        &self,
        from: NodeNumber,
        via: &[NodeId],
        to: NodeId,
    ) -> Result<Vec<NodeNumber>, Obstacle> {
        let mut nodes = vec![from];
        let mut at = (from, self.id(from).unwrap_or_default());
        for &next in via.iter().chain([&to]) {
            let number = self.number(next).filter(|&number| self.index(at.0, number).is_some());
            let number = number.ok_or(Obstacle::NoLink { from: at.1, to: next })?;
            nodes.push(number);
            at = (number, next);
        }
        let within = nodes.get(1..nodes.len().saturating_sub(1)).unwrap_or_default();
        match within.iter().zip(via).find(|(number, _)| !self.map.topology.transits(**number)) {
            Some((_, &node)) => Err(Obstacle::NoTransit { node }),
            None => Ok(nodes),
        }
    }

    /// The same mesh as `source` computes paths in it, if that is one of its nodes: what
    /// [`new`](Self::new) makes of an equal database, without reading it again.
    #[must_use]
    pub fn seen_from(&self, source: NodeId) -> Option<Self> {
        Some(Self { map: Arc::clone(&self.map), source: self.number(source)? })
    }

    /// The same mesh without what it was read from: it keeps no database's memory, and an
    /// [`update`](Self::update) of it reads the whole database.
    #[must_use]
    pub fn detached(&self) -> Self {
        let map = Map { state: None, ..Map::clone(&self.map) };
        Self { map: Arc::new(map), source: self.source }
    }

    /// The same mesh, of pieces that other meshes are made of, too, as far as there are equal ones.
    #[must_use]
    pub fn sharing(mut self, pieces: &mut MeshPieces) -> Self {
        let map = Arc::make_mut(&mut self.map);
        map.indices.share(&mut pieces.indices);
        map.topology.share(&mut pieces.arcs);
        self
    }

    /// Whether all is as in `other`, but for who looks.
    #[must_use]
    pub fn is_same_map(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.map, &other.map) || self.map == other.map
    }

    /// What paths are computed from.
    #[must_use]
    pub fn topology(&self) -> &Topology {
        &self.map.topology
    }

    /// This node.
    #[must_use]
    pub const fn source(&self) -> NodeNumber {
        self.source
    }

    /// The nodes in the order of their numbers, which is that of their ids.
    #[must_use]
    pub fn ids(&self) -> &[NodeId] {
        &self.map.ids
    }

    /// The nodes that have not left, in the order of their numbers.
    pub fn members(&self) -> impl Iterator<Item = (NodeNumber, NodeId)> + '_ {
        let nodes = (0..).zip(self.ids()).zip(self.topology().flags());
        nodes.filter(|(_, flags)| !flags.left).map(|((number, &id), _)| (number, id))
    }

    /// The number of a node.
    #[must_use]
    pub fn number(&self, id: NodeId) -> Option<NodeNumber> {
        self.map.number(id)
    }

    /// The node with this number.
    #[must_use]
    pub fn id(&self, number: NodeNumber) -> Option<NodeId> {
        self.map.ids.get(usize::try_from(number).ok()?).copied()
    }

    /// What `from` calls its link to `to`, if that counts.
    #[must_use]
    pub fn index(&self, from: NodeNumber, to: NodeNumber) -> Option<AdjacencyIndex> {
        self.map.indices.get(from, to).copied()
    }

    /// Whether a link that is in both meshes, which have the same nodes, has another index in `other`.
    pub(crate) fn renames(&self, other: &Self) -> bool {
        let mut differ = self.map.indices.differences(&other.map.indices);
        differ.any(|(_, was, is)| was.is_some() && is.is_some())
    }

    /// The hops of a path, given as the list of its nodes with both ends, as a route header has
    /// them: what each node but the last calls its link to the next one. `None` if it takes a link
    /// that does not count.
    #[must_use]
    pub fn hops(&self, nodes: &[NodeNumber]) -> Option<Vec<AdjacencyIndex>> {
        let pairs = nodes.iter().zip(nodes.iter().skip(1));
        pairs.map(|(&from, &to)| self.index(from, to)).collect()
    }
}

impl Map {
    /// The map of `lsdb`, by what has changed; `None` if the nodes are others, or if what this one was
    /// read from is not kept. `source` is one of them
    /// whatever it has said.
    fn updated(&self, lsdb: &Lsdb, source: NodeNumber) -> Option<Self> {
        let old = self.state.as_ref()?;
        let source = self.ids.get(usize::try_from(source).ok()?)?;
        let silent = usize::from(lsdb.get(*source).is_none());
        // Each origin of old is a node, and each new one is seen to be one: as many are the same ones.
        if self.ids.len() != lsdb.len().saturating_add(silent) {
            return None;
        }
        let mut map = self.clone();
        for (origin, was, is) in lsdb.changes_since(old) {
            let node = self.number(origin)?;
            map.topology.set_flags(node, node_flags(is));
            map.set_operator_routes(node, was, is);
            let unchanged = |near: &Adjacency, in_other: Option<&Lsa>| {
                in_other.and_then(|lsa| lsa.adjacency(near.neighbour)) == Some(near)
            };
            let said = was.into_iter().flat_map(|lsa| &lsa.adjacencies);
            let says = is.into_iter().flat_map(|lsa| &lsa.adjacencies);
            let gone = said.filter(|near| !unchanged(near, is));
            for near in gone.chain(says.filter(|near| !unchanged(near, was))) {
                map.set_link(lsdb, (node, is, origin), near.neighbour);
            }
        }
        map.state = Some(lsdb.state());
        Some(map)
    }

    /// Reads anew whether both ends list a link, and what they say of it; the near one says `near`.
    fn set_link(
        &mut self,
        lsdb: &Lsdb,
        (a, near, origin): (NodeNumber, Option<&Lsa>, NodeId),
        neighbour: NodeId,
    ) {
        let Some(b) = self.number(neighbour) else { return };
        let near = near.and_then(|near| near.adjacency(neighbour));
        let back = lsdb.get(neighbour).and_then(|far| far.adjacency(origin));
        let link = near.zip(back);
        let metrics = link.map(|(near, back)| (near.metrics.into(), back.metrics.into()));
        self.topology.set_link((a, b), metrics);
        self.indices.set((a, b), link.map(|(near, _)| near.index));
        self.indices.set((b, a), link.map(|(_, back)| back.index));
    }

    fn set_operator_routes(&mut self, from: NodeNumber, was: Option<&Lsa>, is: Option<&Lsa>) {
        let was = was.map_or(&[][..], |lsa| &lsa.routes);
        let is = is.map_or(&[][..], |lsa| &lsa.routes);
        if was == is {
            return;
        }
        let known = Arc::make_mut(&mut self.operator_routes);
        for route in was {
            known.remove(&(from, route.to));
        }
        known.extend(is.iter().map(|route| ((from, route.to), route.via.clone())));
    }

    fn number(&self, id: NodeId) -> Option<NodeNumber> {
        self.ids.binary_search(&id).ok()?.try_into().ok()
    }
}

/// Of a node that has said nothing, those that say nothing.
fn node_flags(lsa: Option<&Lsa>) -> NodeFlags {
    lsa.map_or_else(NodeFlags::default, |lsa| NodeFlags {
        stub: lsa.flags.contains(LsaFlags::STUB),
        overload: lsa.flags.contains(LsaFlags::OVERLOADED),
        left: lsa.flags.contains(LsaFlags::LEFT),
    })
}
