//! Which nodes a source reaches, and which it still reaches when any one link breaks.
#![expect(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing,
    reason = "node numbers are below the graph's own node count"
)]

use crate::graph::{Graph, NodeNumber};
use crate::spf::NO_NODE;

/// How well a node is reached.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Reach {
    /// Not at all.
    No,
    /// By paths that all share a link.
    Unprotected,
    /// By two paths that share no link.
    Protected,
}

/// Finds bridges by depth-first search (Tarjan 1974) among the nodes that transit; reused.
#[derive(Clone, Debug, Default)]
pub(crate) struct Protection {
    /// Number in the order of discovery, from 1; 0 for a node not found.
    discovered: Vec<u32>,
    /// The earliest discovered node that the subtree has a link to.
    low: Vec<u32>,
    /// The highest node on the way to which every path to the node takes the same link.
    bridge: Vec<NodeNumber>,
    /// Node, its parent, how many of its neighbours were looked at.
    stack: Vec<(NodeNumber, NodeNumber, usize)>,
    order: Vec<(NodeNumber, NodeNumber)>,
}

impl Protection {
    /// How well `source` reaches each node. Links of `graph` are there in both directions.
    pub(crate) fn survey(&mut self, graph: &Graph, source: NodeNumber, reach: &mut Vec<Reach>) {
        self.search(graph, source);
        reach.clear();
        reach.extend((0..graph.nodes() as u32).map(|node| self.reach(graph, source, node)));
    }

    fn search(&mut self, graph: &Graph, source: NodeNumber) {
        for (array, fill) in
            [(&mut self.discovered, 0), (&mut self.low, 0), (&mut self.bridge, NO_NODE)]
        {
            array.clear();
            array.resize(graph.nodes(), fill);
        }
        self.order.clear();
        self.stack.clear();
        self.discover(source, NO_NODE);
        while let Some((node, parent, next)) = self.stack.last_mut() {
            let (node, parent) = (*node, *parent);
            if let Some(arc) = graph.out(node).get(*next) {
                *next += 1;
                let other = arc.node;
                if other == parent || !(graph.transits(other) || other == source) {
                    continue;
                }
                if self.discovered[other as usize] == 0 {
                    self.discover(other, node);
                } else {
                    let seen = self.discovered[other as usize];
                    self.low[node as usize] = self.low[node as usize].min(seen);
                }
            } else {
                self.stack.pop();
                if parent != NO_NODE {
                    let low = self.low[node as usize];
                    self.low[parent as usize] = self.low[parent as usize].min(low);
                }
            }
        }
        for &(node, parent) in &self.order {
            if parent == NO_NODE {
                continue;
            }
            let above = self.bridge[parent as usize];
            let is_bridge = self.low[node as usize] > self.discovered[parent as usize];
            self.bridge[node as usize] = if above == NO_NODE && is_bridge { node } else { above };
        }
    }

    fn discover(&mut self, node: NodeNumber, parent: NodeNumber) {
        self.order.push((node, parent));
        let number = self.order.len() as u32;
        self.discovered[node as usize] = number;
        self.low[node as usize] = number;
        self.stack.push((node, parent, 0));
    }

    fn reach(&self, graph: &Graph, source: NodeNumber, node: NodeNumber) -> Reach {
        let found = |node: NodeNumber| self.discovered[node as usize] != 0;
        if graph.transits(node) || node == source {
            return match (found(node), self.bridge[node as usize]) {
                (false, _) => Reach::No,
                (true, NO_NODE) => Reach::Protected,
                (true, _) => Reach::Unprotected,
            };
        }
        // A node without transit is the end of each of its links: two of them are needed that do
        // not all hang on one bridge.
        let mut links = graph.neighbours(node).filter(|&other| found(other));
        let Some(first) = links.next() else { return Reach::No };
        let first = self.bridge[first as usize];
        let apart = |other| first == NO_NODE || self.bridge[other as usize] != first;
        if links.any(apart) { Reach::Protected } else { Reach::Unprotected }
    }
}
