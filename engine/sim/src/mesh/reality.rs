//! The mesh as it really is: who runs, which links carry, who can be reached, at what cost. What
//! checkers compare the nodes' beliefs with; nodes know nothing of it.
#![expect(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing,
    reason = "numbers of nodes and links come from the graph; costs are sums of at most 10,000 u32"
)]

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use hawser_routing::{AdjacencyMetrics, CostTerms, Weights};
use hawser_wire::{HOPS_MAX, TrafficClass};

use crate::mesh::MeshGraph;

/// In no piece: it does not run.
pub(crate) const NO_PIECE: u32 = u32::MAX;

/// A link.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RealLink {
    pub(crate) ends: [u32; 2],
    pub(crate) metrics: [AdjacencyMetrics; 2],
    /// It carries nothing.
    pub(crate) cut: bool,
    /// Counts its sessions: what was on its way when one ended does not arrive in the next.
    pub(crate) session: u32,
}

/// Nodes and links.
#[derive(Debug)]
pub(crate) struct Reality {
    pub(crate) links: Vec<RealLink>,
    /// By node: neighbour and link, by neighbour.
    pub(crate) adjacent: Vec<Vec<(u32, u32)>>,
    pub(crate) alive: Vec<bool>,
    transit: Vec<bool>,
    weights: [Weights; TrafficClass::ALL.len()],
    /// By node; nodes with links that lead to each other have the same number.
    pub(crate) piece: Vec<u32>,
    /// Nodes of each piece.
    pub(crate) piece_nodes: Vec<usize>,
    /// Links lead from some node to another over so many hops, or over such nodes only, that no frame
    /// can be sent there. Members can hear of each other by relays then, or not.
    pub(crate) out_of_reach: bool,
    /// Whether that can be: not in meshes that were drawn.
    given: bool,
}

/// Nodes from which it is looked whether all of their piece can be reached.
const LOOKS: usize = 256;

impl Reality {
    pub(crate) fn new(graph: &MeshGraph) -> Self {
        let mut adjacent = vec![Vec::new(); graph.nodes.len()];
        let mut links = Vec::with_capacity(graph.links.len());
        for (number, link) in (0..).zip(&graph.links) {
            let [a, b] = link.ends;
            adjacent[a as usize].push((b, number));
            adjacent[b as usize].push((a, number));
            let (ends, metrics) = (link.ends, link.metrics);
            links.push(RealLink { ends, metrics, cut: false, session: 1 });
        }
        adjacent.iter_mut().for_each(|links| links.sort_unstable());
        let mut reality = Self {
            links,
            adjacent,
            alive: vec![true; graph.nodes.len()],
            transit: graph.nodes.iter().map(|flags| !(flags.stub || flags.overload)).collect(),
            weights: graph.weights,
            piece: Vec::new(),
            piece_nodes: Vec::new(),
            out_of_reach: false,
            given: graph.name == "file",
        };
        reality.find_pieces();
        reality
    }

    pub(crate) fn nodes(&self) -> usize {
        self.alive.len()
    }

    /// Whether anything passes a link.
    pub(crate) fn carries(&self, link: u32) -> bool {
        let link = &self.links[link as usize];
        !link.cut && link.ends.iter().all(|&end| self.alive[end as usize])
    }

    /// The link between two nodes, if they are neighbours.
    pub(crate) fn link_between(&self, from: u32, to: u32) -> Option<u32> {
        let links = &self.adjacent[from as usize];
        let at = links.binary_search_by_key(&to, |&(neighbour, _)| neighbour).ok()?;
        Some(links[at].1)
    }

    pub(crate) fn metrics(&self, from: u32, link: u32) -> AdjacencyMetrics {
        let link = &self.links[link as usize];
        link.metrics[usize::from(link.ends[0] != from)]
    }

    /// How long a message takes over a link; time passes on every one.
    pub(crate) fn delay(&self, from: u32, link: u32) -> Duration {
        Duration::from_micros(u64::from(self.metrics(from, link).latency_us.max(1)))
    }

    /// What the link costs a class.
    pub(crate) fn cost(&self, class: TrafficClass, from: u32, link: u32) -> u64 {
        let metrics = self.metrics(from, link).into();
        CostTerms::new(&metrics, self.weights(class)).total().into()
    }

    /// What a class weighs.
    pub(crate) const fn weights(&self, class: TrafficClass) -> &Weights {
        &self.weights[class.to_wire() as usize]
    }

    /// By node, whether it is among the `size` nodes that are the fewest hops away from `first`.
    pub(crate) fn region(&self, first: u32, size: usize) -> Vec<bool> {
        let mut inside = vec![false; self.nodes()];
        let mut queue = VecDeque::from([first]);
        let mut left = size.min(self.nodes());
        while let Some(node) = queue.pop_front() {
            if left == 0 {
                break;
            }
            if std::mem::replace(&mut inside[node as usize], true) {
                continue;
            }
            left -= 1;
            let near = self.adjacent[node as usize].iter();
            queue.extend(near.filter(|(_, link)| self.carries(*link)).map(|(other, _)| other));
        }
        inside
    }

    pub(crate) fn transits(&self, node: u32) -> bool {
        self.transit[node as usize]
    }

    /// Who can be reached from whom, after something has changed. Whether nodes carry others'
    /// traffic does not count here: neighbours hear each other all the same.
    pub(crate) fn find_pieces(&mut self) {
        let mut piece = vec![NO_PIECE; self.nodes()];
        self.piece_nodes.clear();
        for first in 0..self.nodes() {
            if !self.alive[first] || piece[first] != NO_PIECE {
                continue;
            }
            let number = self.piece_nodes.len() as u32;
            let (mut stack, mut count) = (vec![first as u32], 0);
            piece[first] = number;
            while let Some(node) = stack.pop() {
                count += 1;
                for &(other, link) in &self.adjacent[node as usize] {
                    if self.carries(link) && piece[other as usize] == NO_PIECE {
                        piece[other as usize] = number;
                        stack.push(other);
                    }
                }
            }
            self.piece_nodes.push(count);
        }
        self.piece = piece;
        let every = self.nodes().div_ceil(LOOKS).max(1);
        self.out_of_reach = self.given
            && (0..self.nodes()).step_by(every).filter(|&node| self.alive[node]).any(|node| {
                let reached = self.costs(TrafficClass::Control, node as u32);
                let within = |(_, hops): &(u64, u32)| *hops as usize <= HOPS_MAX;
                reached.iter().flatten().filter(|best| within(best)).count()
                    < self.piece_of(node as u32)
            });
    }

    /// Both run, and links lead from one to the other.
    pub(crate) fn connected(&self, a: u32, b: u32) -> bool {
        let piece = self.piece[a as usize];
        piece != NO_PIECE && piece == self.piece[b as usize]
    }

    /// Nodes of the piece of a node that runs.
    pub(crate) fn piece_of(&self, node: u32) -> usize {
        self.piece_nodes.get(self.piece[node as usize] as usize).copied().unwrap_or(0)
    }

    /// Cost of the best path from `source` to each node, with its hops, over links that carry and
    /// nodes that are transit (Dijkstra 1959).
    pub(crate) fn costs(&self, class: TrafficClass, source: u32) -> Vec<Option<(u64, u32)>> {
        let mut best = vec![None; self.nodes()];
        let mut queue = BinaryHeap::from([Reverse((0_u64, 0_u32, source))]);
        while let Some(Reverse((cost, hops, node))) = queue.pop() {
            if best[node as usize].is_some() {
                continue;
            }
            best[node as usize] = Some((cost, hops));
            if node != source && !self.transits(node) {
                continue;
            }
            for &(other, link) in &self.adjacent[node as usize] {
                if self.carries(link) && best[other as usize].is_none() {
                    let cost = cost + self.cost(class, node, link);
                    queue.push(Reverse((cost, hops + 1, other)));
                }
            }
        }
        best
    }
}
