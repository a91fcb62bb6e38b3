//! What the node knows of the mesh as a whole, for whoever asks: what goes on when a link breaks, and
//! what paths are computed from.

use hawser_routing::{Coverage, CoverageSurvey, LinkMetrics, NodeNumber, Weights};
use hawser_wire::{NodeId, TrafficClass};

use crate::NodeRef;
use crate::routes::RoutesView;

/// How much of what one node sends goes on when a link of that node breaks.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CoverageView {
    /// The node.
    pub source: NodeRef,
    /// Nodes that it has a path to.
    pub reachable: usize,
    /// Of these the ones with a backup.
    pub protected: usize,
    /// Those without one, each with the far end of the first link of its path. If that is the
    /// destination there is no path but that link, else none round this node.
    pub unprotected: Vec<(NodeRef, NodeRef)>,
    /// Nodes that it has no path to.
    pub unreachable: Vec<NodeRef>,
}

/// The mesh that paths are computed from.
#[derive(Clone, Debug, PartialEq)]
pub struct TopologyView {
    /// In the order of their ids.
    pub nodes: Vec<TopologyNodeView>,
    /// Each link once: the places of its ends in `nodes`, the metrics of the way from the first to the
    /// second, and of the way back.
    pub links: Vec<(usize, usize, LinkMetrics, LinkMetrics)>,
    /// Of each class.
    pub weights: Vec<(TrafficClass, Weights)>,
}

/// One node of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TopologyNodeView {
    /// Who it is.
    pub node: NodeRef,
    /// Never transit.
    pub stub: bool,
    /// Not transit at present: drained.
    pub overload: bool,
}

impl RoutesView {
    /// How many nodes there are.
    #[must_use]
    pub fn nodes(&self) -> usize {
        self.mesh.members().count()
    }

    /// The coverage of what `only` sends, or of what each node sends, in the order of their ids. Takes
    /// about as long as computing the best paths of each. Empty if nothing is known of the node, or it
    /// has left.
    #[must_use]
    pub fn coverage(&self, class: TrafficClass, only: Option<NodeId>) -> Vec<CoverageView> {
        // A mesh that is too large for paths has none.
        let Ok(mut survey) = CoverageSurvey::new(&self.mesh, class) else { return Vec::new() };
        let wanted = self.mesh.members().filter(|&(_, node)| only.is_none_or(|only| only == node));
        wanted.map(|(number, node)| self.coverage_view(node, &survey.coverage(number))).collect()
    }

    fn coverage_view(&self, source: NodeId, found: &Coverage) -> CoverageView {
        let named = |number: NodeNumber| self.numbered(number);
        CoverageView {
            source: self.node_ref(source),
            reachable: found.reachable,
            protected: found.protected(),
            unprotected: found.unprotected.iter().map(|&(a, b)| (named(a), named(b))).collect(),
            unreachable: found.unreachable.iter().map(|&node| named(node)).collect(),
        }
    }

    /// What paths are computed from, without the nodes that have left.
    #[must_use]
    pub fn topology(&self) -> TopologyView {
        let topology = self.mesh.topology();
        let members: Vec<(NodeNumber, NodeId)> = self.mesh.members().collect();
        let place = |number| members.binary_search_by_key(&number, |&(number, _)| number).ok();
        let flags = topology.flags().iter().filter(|flags| !flags.left);
        let nodes = members.iter().zip(flags).map(|(&(_, node), flags)| {
            let node = self.node_ref(node);
            TopologyNodeView { node, stub: flags.stub, overload: flags.overload }
        });
        let links = topology.arcs().filter(|((a, b), _)| a < b).filter_map(|((a, b), there)| {
            let back = topology.metrics(b, a)?;
            Some((place(a)?, place(b)?, *there, *back))
        });
        let weights = TrafficClass::ALL.map(|class| (class, *topology.weights(class)));
        TopologyView { nodes: nodes.collect(), links: links.collect(), weights: weights.into() }
    }
}
