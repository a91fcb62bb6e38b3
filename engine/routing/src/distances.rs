//! How far everything is from one node: keys of shortest paths without the paths (Dijkstra 1959).
#![expect(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing,
    reason = "node numbers are below the graph's own node count, keys below PathKey::NONE"
)]

use std::cmp::Reverse;

use crate::graph::{Graph, NodeNumber, PathKey};
use crate::spf::Queue;

/// Keys of the best paths from one node to all, as far as they are asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Distances {
    key: Vec<u64>,
    /// Paths with greater keys were not looked for.
    limit: u64,
}

impl Distances {
    /// Computes the keys, up to `limit`, of the paths from `source` that come through none of
    /// `avoid`.
    pub(crate) fn compute(
        &mut self,
        graph: &Graph,
        source: NodeNumber,
        avoid: [NodeNumber; 2],
        limit: u64,
        queue: &mut Queue,
    ) {
        self.limit = limit;
        self.key.clear();
        self.key.resize(graph.nodes(), PathKey::NONE);
        self.key[source as usize] = 0;
        queue.clear();
        queue.push(Reverse((0, source)));
        while let Some(Reverse((key, node))) = queue.pop() {
            if key > limit {
                return;
            }
            let passes = node == source || (graph.transits(node) && !avoid.contains(&node));
            if key != self.key[node as usize] || !passes {
                continue;
            }
            for arc in graph.out(node) {
                let (new, known) = (key + arc.key(), &mut self.key[arc.node as usize]);
                if new < *known {
                    *known = new;
                    queue.push(Reverse((new, arc.node)));
                }
            }
        }
    }

    /// No path to `node` has a smaller key; [`PathKey::NONE`] if there is none.
    pub(crate) fn least(&self, node: NodeNumber) -> u64 {
        match self.key[node as usize] {
            PathKey::NONE if self.limit == PathKey::NONE => PathKey::NONE,
            key => key.min(self.limit),
        }
    }
}
