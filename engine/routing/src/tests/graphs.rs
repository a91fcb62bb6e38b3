//! Random graphs and the plainest way to find paths.

use super::Random;
use crate::{Graph, GraphArc, NodeNumber};

/// Few nodes, few different costs, zero among them, some nodes without transit, some arcs one-sided:
/// ties wherever one looks.
pub(super) fn tiny(random: &mut Random) -> Graph {
    let nodes = 2 + u32::try_from(random.below(6)).unwrap();
    let (costs, density) = (1 + random.below(4), 30 + random.below(70));
    let mut arcs = Vec::new();
    for from in 0..nodes {
        for to in 0..nodes {
            if from != to && random.percent(density) {
                let cost = u32::try_from(random.below(costs)).unwrap();
                arcs.push(GraphArc { from, to, cost });
            }
        }
    }
    let transit = (0..nodes).map(|_| !random.percent(12)).collect();
    Graph::new(transit, &arcs).unwrap()
}

/// Every node has links to about `degree` others, near ones by number or any; costs below `costs`.
pub(super) fn linked(random: &mut Random, nodes: u32, degree: u64, costs: u64) -> Graph {
    let near = random.percent(50);
    let mut arcs = std::collections::BTreeMap::new();
    for a in 0..nodes {
        for _ in 0..degree.div_ceil(2) {
            let span = if near { 12 } else { u64::from(nodes) };
            let b = (u64::from(a) + random.below(span)) % u64::from(nodes);
            let b = u32::try_from(b).unwrap();
            if a != b {
                let cost = u32::try_from(random.below(costs)).unwrap();
                arcs.insert((a, b), cost);
                arcs.insert((b, a), if random.percent(80) { cost } else { cost + 1 });
            }
        }
    }
    let arcs: Vec<GraphArc> =
        arcs.into_iter().map(|((from, to), cost)| GraphArc { from, to, cost }).collect();
    let transit = (0..nodes).map(|_| !random.percent(3)).collect();
    Graph::new(transit, &arcs).unwrap()
}

/// A path: cost, hops, nodes. Compares as paths do.
pub(super) type Walked = (u64, usize, Vec<NodeNumber>);

/// Every loopless path from `source` to `destination`, best first.
pub(super) fn all_paths(graph: &Graph, source: u32, destination: u32) -> Vec<Walked> {
    fn walk(
        graph: &Graph,
        destination: u32,
        nodes: &mut Vec<u32>,
        cost: u64,
        out: &mut Vec<Walked>,
    ) {
        let at = nodes[nodes.len() - 1];
        if at == destination {
            out.push((cost, nodes.len() - 1, nodes.clone()));
            return;
        }
        if nodes.len() > 1 && !graph.transits(at) {
            return;
        }
        for next in graph.neighbours(at) {
            if !nodes.contains(&next) {
                nodes.push(next);
                let more = u64::from(graph.cost(at, next).unwrap());
                walk(graph, destination, nodes, cost + more, out);
                nodes.pop();
            }
        }
    }
    let mut out = Vec::new();
    if source != destination {
        walk(graph, destination, &mut vec![source], 0, &mut out);
    }
    out.sort();
    out
}
