//! The mesh as one traffic class sees it: who can send to whom, and at what cost.
#![expect(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing,
    reason = "node numbers are below the graph's own node count, sums below 2 * NODES_MAX * COST_MAX"
)]

/// A node by its number: from 0, in the bytewise order of the ids, so that comparing numbers is
/// comparing ids.
pub type NodeNumber = u32;

/// Most nodes of a [`Graph`]: two for each origin that the database takes.
pub const NODES_MAX: usize = 2 * crate::ORIGINS_MAX;

/// Dearest arc; as microseconds 71 minutes.
pub const COST_MAX: u32 = u32::MAX;

// The keys of a pair of the longest and dearest paths and of one more arc can be added, and their
// hops stay apart from their cost.
const _: () = {
    let arcs = 2 * (NODES_MAX as u64 - 1) + 1;
    assert!(arcs < 1 << 16 && arcs * (COST_MAX as u64) < 1 << (64 - 16));
};

/// What a path is ordered by before its nodes are compared: cost, then hops.
///
/// The cost is in the upper 48 bits, the hops are in the lower 16: the key of a path is the sum of
/// the keys of its arcs, and every arc has one above zero, also where it costs nothing.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct PathKey(pub(crate) u64);

impl PathKey {
    /// No path.
    pub(crate) const NONE: u64 = u64::MAX;

    /// Sum of the arcs' costs.
    #[must_use]
    pub const fn cost(self) -> u64 {
        self.0 >> 16
    }

    /// Count of arcs.
    #[must_use]
    pub const fn hops(self) -> u64 {
        self.0 & 0xffff
    }
}

/// One direction of a link.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct GraphArc {
    /// Where it begins.
    pub from: NodeNumber,
    /// Where it ends.
    pub to: NodeNumber,
    /// What it adds to the cost of a path.
    pub cost: u32,
}

/// An arc seen from one of its ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct HalfArc {
    /// The other end.
    pub(crate) node: NodeNumber,
    pub(crate) cost: u32,
}

impl HalfArc {
    /// What the arc adds to a [`PathKey`].
    pub(crate) const fn key(self) -> u64 {
        ((self.cost as u64) << 16) | 1
    }
}

/// Compact adjacency (compressed sparse rows) in both directions; at most one arc from a node to
/// another, none from a node to itself. The neighbours of a node are in ascending order.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Graph {
    out: Rows,
    incoming: Rows,
    /// Whether a node carries what neither begins nor ends at it.
    transit: Vec<bool>,
}

/// Why a [`Graph`] cannot be.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum GraphError {
    /// More nodes than [`NODES_MAX`].
    #[error("{nodes} nodes, {NODES_MAX} are allowed")]
    TooManyNodes {
        /// How many.
        nodes: usize,
    },
    /// An arc that names a node which does not exist, or the same node twice.
    #[error("arc {from} -> {to} among {nodes} nodes")]
    BadArc {
        /// Where it begins.
        from: NodeNumber,
        /// Where it ends.
        to: NodeNumber,
        /// Nodes of the graph.
        nodes: usize,
    },
    /// Two arcs from one node to the same other.
    #[error("arc {from} -> {to} twice")]
    Twice {
        /// Where both begin.
        from: NodeNumber,
        /// Where both end.
        to: NodeNumber,
    },
}

impl Graph {
    /// A graph of the nodes `0..transit.len()`. A node whose `transit` is false may begin or end a
    /// path and is never within one.
    ///
    /// # Errors
    /// [`GraphError`].
    pub fn new(transit: Vec<bool>, arcs: &[GraphArc]) -> Result<Self, GraphError> {
        let nodes = transit.len();
        if nodes > NODES_MAX {
            return Err(GraphError::TooManyNodes { nodes });
        }
        for &GraphArc { from, to, .. } in arcs {
            if from == to || from as usize >= nodes || to as usize >= nodes {
                return Err(GraphError::BadArc { from, to, nodes });
            }
        }
        let out = Rows::new(nodes, arcs.iter().map(|arc| (arc.from, arc.to, arc.cost)));
        for from in 0..nodes {
            for pair in out.of(from as u32).windows(2) {
                if pair[0].node == pair[1].node {
                    return Err(GraphError::Twice { from: from as u32, to: pair[0].node });
                }
            }
        }
        let incoming = Rows::new(nodes, arcs.iter().map(|arc| (arc.to, arc.from, arc.cost)));
        Ok(Self { out, incoming, transit })
    }

    /// Count of nodes.
    #[must_use]
    pub fn nodes(&self) -> usize {
        self.transit.len()
    }

    /// Count of arcs.
    #[must_use]
    pub fn arcs(&self) -> usize {
        self.out.arcs.len()
    }

    /// Whether `node` carries what neither begins nor ends at it.
    #[must_use]
    pub fn transits(&self, node: NodeNumber) -> bool {
        self.transit[node as usize]
    }

    /// The nodes that `node` has an arc to, ascending.
    pub fn neighbours(&self, node: NodeNumber) -> impl Iterator<Item = NodeNumber> + '_ {
        self.out.of(node).iter().map(|arc| arc.node)
    }

    /// Cost of the arc, if there is one.
    #[must_use]
    pub fn cost(&self, from: NodeNumber, to: NodeNumber) -> Option<u32> {
        self.out.position(from, to).ok().map(|at| self.out.arcs[at].cost)
    }

    /// Every arc, in order of its ends.
    pub fn all_arcs(&self) -> impl Iterator<Item = GraphArc> + '_ {
        (0..self.nodes() as u32).flat_map(|from| {
            self.out(from).iter().map(move |arc| GraphArc { from, to: arc.node, cost: arc.cost })
        })
    }

    /// Makes the arc cost so much, or takes it away; answers what it cost before.
    ///
    /// # Errors
    /// [`GraphError::BadArc`]; nothing has changed.
    pub fn set_cost(
        &mut self,
        from: NodeNumber,
        to: NodeNumber,
        cost: Option<u32>,
    ) -> Result<Option<u32>, GraphError> {
        let nodes = self.nodes();
        if from == to || from as usize >= nodes || to as usize >= nodes {
            return Err(GraphError::BadArc { from, to, nodes });
        }
        self.incoming.set(to, from, cost);
        Ok(self.out.set(from, to, cost))
    }

    /// The same graph with arcs that cost nothing: its best paths are those with the fewest hops.
    pub(crate) fn without_costs(&self) -> Self {
        let mut graph = self.clone();
        for arc in graph.out.arcs.iter_mut().chain(&mut graph.incoming.arcs) {
            arc.cost = 0;
        }
        graph
    }

    pub(crate) fn out(&self, node: NodeNumber) -> &[HalfArc] {
        self.out.of(node)
    }

    pub(crate) fn incoming(&self, node: NodeNumber) -> &[HalfArc] {
        self.incoming.of(node)
    }
}

/// The arcs of every node in one array.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct Rows {
    /// Where the arcs of a node begin; one more entry than nodes.
    starts: Vec<u32>,
    arcs: Vec<HalfArc>,
}

impl Rows {
    fn new(
        nodes: usize,
        arcs: impl Iterator<Item = (NodeNumber, NodeNumber, u32)> + Clone,
    ) -> Self {
        let mut starts = vec![0_u32; nodes + 1];
        for (near, ..) in arcs.clone() {
            starts[near as usize + 1] += 1;
        }
        for node in 0..nodes {
            starts[node + 1] += starts[node];
        }
        let mut next = starts.clone();
        let mut rows = vec![HalfArc { node: 0, cost: 0 }; starts[nodes] as usize];
        for (near, node, cost) in arcs {
            rows[next[near as usize] as usize] = HalfArc { node, cost };
            next[near as usize] += 1;
        }
        for node in 0..nodes {
            rows[starts[node] as usize..starts[node + 1] as usize].sort_by_key(|arc| arc.node);
        }
        Self { starts, arcs: rows }
    }

    fn of(&self, node: NodeNumber) -> &[HalfArc] {
        let node = node as usize;
        &self.arcs[self.starts[node] as usize..self.starts[node + 1] as usize]
    }

    /// Where the arc is, or where it would be.
    fn position(&self, near: NodeNumber, far: NodeNumber) -> Result<usize, usize> {
        let start = self.starts[near as usize] as usize;
        match self.of(near).binary_search_by_key(&far, |arc| arc.node) {
            Ok(at) => Ok(start + at),
            Err(at) => Err(start + at),
        }
    }

    fn set(&mut self, near: NodeNumber, far: NodeNumber, cost: Option<u32>) -> Option<u32> {
        match (self.position(near, far), cost) {
            (Ok(at), Some(cost)) => Some(std::mem::replace(&mut self.arcs[at].cost, cost)),
            (Ok(at), None) => {
                for start in &mut self.starts[near as usize + 1..] {
                    *start -= 1;
                }
                Some(self.arcs.remove(at).cost)
            }
            (Err(at), Some(cost)) => {
                for start in &mut self.starts[near as usize + 1..] {
                    *start += 1;
                }
                self.arcs.insert(at, HalfArc { node: far, cost });
                None
            }
            (Err(_), None) => None,
        }
    }
}
