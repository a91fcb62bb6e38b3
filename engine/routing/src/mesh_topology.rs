//! The mesh as the link-state database has it: what the [`Topology`] of the path computation is, and
//! how its numbers become ids and adjacency indices again.

use std::collections::BTreeMap;
use std::sync::Arc;

use hawser_wire::{AdjacencyIndex, NodeId, TrafficClass};

use crate::{Lsa, LsaFlags, Lsdb, NodeFlags, NodeNumber, Obstacle, Topology, Weights};

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

/// What is the same whoever looks.
#[derive(Debug, PartialEq)]
struct Map {
    /// In ascending order; the position is the number.
    ids: Vec<NodeId>,
    indices: Indices,
    topology: Topology,
    /// Of the paths that operators have set the nodes between, by both ends.
    operator_routes: BTreeMap<(NodeNumber, NodeId), Vec<NodeId>>,
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
        let flags = said.iter().map(|lsa| lsa.map_or_else(NodeFlags::default, node_flags));
        let mut topology = Topology::new(flags.collect(), weights);
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
        let indices = Indices::new(ids.len(), indices);
        let source = ids.binary_search(&source).ok().and_then(|at| at.try_into().ok());
        let source = source.unwrap_or_default();
        Self { map: Arc::new(Map { ids, indices, topology, operator_routes }), source }
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

    /// The number of a node.
    #[must_use]
    pub fn number(&self, id: NodeId) -> Option<NodeNumber> {
        self.map.ids.binary_search(&id).ok()?.try_into().ok()
    }

    /// The node with this number.
    #[must_use]
    pub fn id(&self, number: NodeNumber) -> Option<NodeId> {
        self.map.ids.get(usize::try_from(number).ok()?).copied()
    }

    /// What `from` calls its link to `to`, if that counts.
    #[must_use]
    pub fn index(&self, from: NodeNumber, to: NodeNumber) -> Option<AdjacencyIndex> {
        self.map.indices.get(from, to)
    }

    /// What every link that counts is called at each of its ends.
    pub(crate) fn indices(
        &self,
    ) -> impl Iterator<Item = ((NodeNumber, NodeNumber), AdjacencyIndex)> + '_ {
        self.map.indices.iter()
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

/// What each node calls its links, by both ends: a row for each node, in which few are searched.
#[derive(Debug, PartialEq)]
struct Indices {
    /// Where each node's row begins; the last one ends there.
    rows: Vec<usize>,
    links: Vec<(NodeNumber, AdjacencyIndex)>,
}

impl Indices {
    fn new(nodes: usize, mut links: Vec<((NodeNumber, NodeNumber), AdjacencyIndex)>) -> Self {
        links.sort_unstable_by_key(|(ends, _)| *ends);
        let mut rows = Vec::with_capacity(nodes.saturating_add(1));
        for (node, _) in (0..).zip(0..=nodes) {
            let begin = rows.last().copied().unwrap_or(0);
            let before = links.get(begin..).unwrap_or_default();
            let before = before.iter().take_while(|((from, _), _)| *from < node).count();
            rows.push(begin.saturating_add(before));
        }
        Self { rows, links: links.into_iter().map(|((_, to), index)| (to, index)).collect() }
    }

    fn row(&self, node: usize) -> &[(NodeNumber, AdjacencyIndex)] {
        let bounds = self.rows.get(node).zip(self.rows.get(node.saturating_add(1)));
        bounds.and_then(|(&begin, &end)| self.links.get(begin..end)).unwrap_or_default()
    }

    fn get(&self, from: NodeNumber, to: NodeNumber) -> Option<AdjacencyIndex> {
        let row = self.row(usize::try_from(from).ok()?);
        let at = row.binary_search_by_key(&to, |(far, _)| *far).ok()?;
        row.get(at).map(|(_, index)| *index)
    }

    fn iter(&self) -> impl Iterator<Item = ((NodeNumber, NodeNumber), AdjacencyIndex)> + '_ {
        let numbered = (0..).zip(0..self.rows.len());
        numbered
            .flat_map(|(from, at)| self.row(at).iter().map(move |&(to, index)| ((from, to), index)))
    }
}

fn node_flags(lsa: &Lsa) -> NodeFlags {
    NodeFlags {
        stub: lsa.flags.contains(LsaFlags::STUB),
        overload: lsa.flags.contains(LsaFlags::OVERLOADED) || lsa.flags.contains(LsaFlags::LEFT),
    }
}
