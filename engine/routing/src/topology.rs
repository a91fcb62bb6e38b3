//! Nodes and links with their metrics, and what a link costs each traffic class.
#![expect(
    clippy::as_conversions,
    clippy::indexing_slicing,
    reason = "classes index arrays of three; node numbers are checked on the way in"
)]

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use hawser_wire::TrafficClass;

use crate::arc_map::{ArcMap, Difference, Piece};
use crate::graph::{COST_MAX, Graph, GraphArc, GraphError, HalfArc, NodeNumber, PathKey};
use crate::piece_table::PieceTable;

/// What a node does not do for others.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct NodeFlags {
    /// Never transit: it has no wish to carry other nodes' traffic.
    pub stub: bool,
    /// Not transit at present: it is overloaded, or drained.
    pub overload: bool,
    /// It is no member of the mesh any more, and known for a while yet.
    pub left: bool,
}

impl NodeFlags {
    /// Whether the node carries what neither begins nor ends there.
    #[must_use]
    pub const fn transits(self) -> bool {
        !(self.stub || self.overload || self.left)
    }
}

/// One direction of a link, as measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LinkMetrics {
    /// One-way latency in microseconds.
    pub latency_us: u32,
    /// What it carries, in megabits a second, above zero; none if that is without limit.
    pub bandwidth_mbps: Option<f64>,
    /// Share of what is lost, from 0 up to but not including 1.
    pub loss: f64,
    /// Share of the bandwidth in use, 0 to 1. Enters no cost.
    pub utilization: f64,
    /// What the operator adds, in hops.
    pub admin: u32,
}

impl Default for LinkMetrics {
    fn default() -> Self {
        Self { latency_us: 0, bandwidth_mbps: None, loss: 0.0, utilization: 0.0, admin: 0 }
    }
}

impl Hash for LinkMetrics {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let Self { latency_us, bandwidth_mbps, loss, utilization, admin } = self;
        state.write_u32(*latency_us);
        state.write_u64(bandwidth_mbps.map_or(0, f64::to_bits));
        state.write_u64(loss.to_bits());
        state.write_u64(utilization.to_bits());
        state.write_u32(*admin);
    }
}

/// How much of a cost each metric makes in one class. None is negative, all are finite.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Weights {
    /// Cost of a microsecond.
    pub latency: f64,
    /// Cost of [`REFERENCE_MBPS`] divided by the bandwidth.
    pub bandwidth: f64,
    /// Cost of a millionth of −ln(1 − loss).
    pub loss: f64,
    /// For the shares of several paths only: a cost that followed the load would make it oscillate.
    pub utilization: f64,
    /// Cost of a hop, and of each that the operator adds.
    pub hop: f64,
}

/// A link of so many megabits a second has an inverse bandwidth of 1: a terabit.
pub const REFERENCE_MBPS: f64 = 1e6;

impl Default for Weights {
    fn default() -> Self {
        Self { latency: 1.0, bandwidth: 0.0, loss: 0.0, utilization: 0.0, hop: 0.0 }
    }
}

/// What each metric adds to the cost of an arc. Each term is rounded, so that they add up.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct CostTerms {
    /// From the latency.
    pub latency: u32,
    /// From the inverse bandwidth.
    pub bandwidth: u32,
    /// From the loss.
    pub loss: u32,
    /// From the hop itself and what the operator adds.
    pub hop: u32,
}

impl CostTerms {
    /// The terms of an arc with `metrics` in a class with `weights`; one too large for its type is the
    /// largest (see [`cost_beyond`]).
    #[must_use]
    pub fn new(metrics: &LinkMetrics, weights: &Weights) -> Self {
        // A conversion from float to integer saturates.
        let [latency, bandwidth, loss, hop] = exact_terms(metrics, weights).map(|term| term as u32);
        Self { latency, bandwidth, loss, hop }
    }

    /// Cost of the arc: the sum, at most [`COST_MAX`].
    #[must_use]
    pub const fn total(&self) -> u32 {
        self.latency
            .saturating_add(self.bandwidth)
            .saturating_add(self.loss)
            .saturating_add(self.hop)
    }
}

/// What an arc with `metrics` would cost in a class with `weights` if there were no bound; none if
/// that is at most [`COST_MAX`], so that the arc does cost it.
#[must_use]
pub fn cost_beyond(metrics: &LinkMetrics, weights: &Weights) -> Option<f64> {
    let exact: f64 = exact_terms(metrics, weights).iter().sum();
    (exact > f64::from(COST_MAX)).then_some(exact)
}

/// The terms from latency, bandwidth, loss and hops, each rounded; none is negative.
fn exact_terms(metrics: &LinkMetrics, weights: &Weights) -> [f64; 4] {
    // Most weigh nothing, and a logarithm takes longer than all the rest.
    fn term(weight: f64, amount: impl FnOnce() -> f64) -> f64 {
        if weight == 0.0 { 0.0 } else { (weight * amount()).round() }
    }
    [
        term(weights.latency, || f64::from(metrics.latency_us)),
        term(weights.bandwidth, || {
            metrics.bandwidth_mbps.map_or(0.0, |mbps| REFERENCE_MBPS / mbps)
        }),
        term(weights.loss, || -(-metrics.loss).ln_1p() * 1e6),
        term(weights.hop, || 1.0 + f64::from(metrics.admin)),
    ]
}

/// Nodes, links and weights: what paths are computed from.
///
/// A link is there in both directions or not at all. Nodes have numbers in the bytewise order of
/// their ids; the ids stay with the caller. A clone shares what neither has changed since.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Topology {
    nodes: Arc<Vec<NodeFlags>>,
    arcs: ArcMap<LinkMetrics>,
    weights: [Weights; TrafficClass::ALL.len()],
}

impl Topology {
    /// A topology without links. `weights` are those of the classes in the order of
    /// [`TrafficClass::ALL`].
    #[must_use]
    pub fn new(nodes: Vec<NodeFlags>, weights: [Weights; TrafficClass::ALL.len()]) -> Self {
        Self { arcs: ArcMap::new(nodes.len(), Vec::new()), nodes: Arc::new(nodes), weights }
    }

    /// Adds a link with the metrics of the way from `a` to `b` and of the way back.
    ///
    /// # Errors
    /// [`GraphError::BadArc`] or [`GraphError::Twice`]; nothing has changed.
    pub fn add_link(
        &mut self,
        (a, b): (NodeNumber, NodeNumber),
        ab: LinkMetrics,
        ba: LinkMetrics,
    ) -> Result<(), GraphError> {
        let nodes = self.nodes.len();
        if a == b || a as usize >= nodes || b as usize >= nodes {
            return Err(GraphError::BadArc { from: a, to: b, nodes });
        }
        if self.arcs.get(a, b).is_some() {
            return Err(GraphError::Twice { from: a, to: b });
        }
        self.set_link((a, b), Some((ab, ba)));
        Ok(())
    }

    /// The arcs, all at once: both directions of each link, between different nodes that there are.
    pub(crate) fn set_arcs(&mut self, arcs: Vec<((NodeNumber, NodeNumber), LinkMetrics)>) {
        self.arcs = ArcMap::new(self.nodes.len(), arcs);
    }

    /// Gives a link between different nodes that there are the metrics of both directions, or takes
    /// it away; answers whether there was one.
    pub(crate) fn set_link(
        &mut self,
        (a, b): (NodeNumber, NodeNumber),
        metrics: Option<(LinkMetrics, LinkMetrics)>,
    ) -> bool {
        let (ab, ba) = metrics.unzip();
        self.arcs.set((b, a), ba);
        self.arcs.set((a, b), ab).is_some()
    }

    /// Changes what a node that there is does not do.
    pub(crate) fn set_flags(&mut self, node: NodeNumber, flags: NodeFlags) {
        if self.nodes.get(node as usize).is_some_and(|known| *known != flags)
            && let Some(known) = Arc::make_mut(&mut self.nodes).get_mut(node as usize)
        {
            *known = flags;
        }
    }

    /// Has what it is made of in common with whatever else was shared with `table`.
    pub(crate) fn share(&mut self, table: &mut PieceTable<Piece<LinkMetrics>>) {
        self.arcs.share(table);
    }

    /// The arcs that differ from here to `other`, which has as many nodes.
    pub(crate) fn differences<'a>(
        &'a self,
        other: &'a Self,
    ) -> impl Iterator<Item = Difference<'a, LinkMetrics>> {
        self.arcs.differences(&other.arcs)
    }

    /// Takes a link away; answers whether there was one.
    pub fn cut(&mut self, a: NodeNumber, b: NodeNumber) -> bool {
        self.set_link((a, b), None)
    }

    /// Takes a node out of transit; answers whether there is such a node.
    pub fn drain(&mut self, node: NodeNumber) -> bool {
        let flags = Arc::make_mut(&mut self.nodes).get_mut(node as usize);
        flags.map(|flags| flags.overload = true).is_some()
    }

    /// Count of nodes.
    #[must_use]
    pub fn nodes(&self) -> usize {
        self.nodes.len()
    }

    /// What the nodes do not do, by number.
    #[must_use]
    pub fn flags(&self) -> &[NodeFlags] {
        &self.nodes
    }

    /// The arcs and their metrics, in order of their ends.
    pub fn arcs(&self) -> impl Iterator<Item = ((NodeNumber, NodeNumber), &LinkMetrics)> {
        self.arcs.iter()
    }

    /// Metrics of an arc.
    #[must_use]
    pub fn metrics(&self, from: NodeNumber, to: NodeNumber) -> Option<&LinkMetrics> {
        self.arcs.get(from, to)
    }

    /// Cost and hops of a path in `class`, given as the list of its nodes; `None` if it takes a link
    /// that there is not.
    #[must_use]
    pub fn path_key(&self, class: TrafficClass, nodes: &[NodeNumber]) -> Option<PathKey> {
        let arcs = nodes.iter().zip(nodes.iter().skip(1));
        let keys = arcs.map(|(&from, &to)| {
            let terms = CostTerms::new(self.metrics(from, to)?, self.weights(class));
            Some(HalfArc { node: to, cost: terms.total() }.key())
        });
        keys.sum::<Option<u64>>().map(PathKey)
    }

    /// Whether a node carries what neither begins nor ends there.
    #[must_use]
    pub fn transits(&self, node: NodeNumber) -> bool {
        self.nodes.get(node as usize).is_some_and(|flags| flags.transits())
    }

    /// Weights of a class.
    #[must_use]
    pub const fn weights(&self, class: TrafficClass) -> &Weights {
        &self.weights[class.to_wire() as usize]
    }

    /// Changes the metrics of an arc that there is; answers the old ones.
    pub fn set_metrics(
        &mut self,
        from: NodeNumber,
        to: NodeNumber,
        metrics: LinkMetrics,
    ) -> Option<LinkMetrics> {
        self.arcs.get(from, to)?;
        self.arcs.set((from, to), Some(metrics))
    }

    /// The topology as `class` sees it.
    ///
    /// # Errors
    /// [`GraphError::TooManyNodes`].
    pub fn graph(&self, class: TrafficClass) -> Result<Graph, GraphError> {
        let weights = self.weights(class);
        let transit = self.nodes.iter().map(|node| node.transits()).collect();
        let arcs: Vec<GraphArc> = self
            .arcs
            .iter()
            .map(|((from, to), metrics)| GraphArc {
                from,
                to,
                cost: CostTerms::new(metrics, weights).total(),
            })
            .collect();
        Graph::new(transit, &arcs)
    }
}
