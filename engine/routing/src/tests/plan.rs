use hawser_wire::TrafficClass;

use super::Random;
use crate::protection::{Protection, Reach};
use crate::{
    COST_MAX, CostTerms, Demand, Graph, GraphArc, LinkDisjointPairs, LinkMetrics, NodeFlags,
    PlannedPath, ShortestPathTree, SpfWorkspace, Topology, Verdict, Weights, cost_beyond, explain,
    plan_impact, plan_node_disjoint, plan_paths,
};

const BULK: TrafficClass = TrafficClass::Bulk;

/// Links in both directions, of one latency each.
fn topology(nodes: usize, links: &[(u32, u32, u32)]) -> Topology {
    let mut topology = Topology::new(vec![NodeFlags::default(); nodes], [Weights::default(); 3]);
    for &(a, b, latency_us) in links {
        let metrics =
            LinkMetrics { latency_us, bandwidth_mbps: Some(10.0), ..LinkMetrics::default() };
        topology.add_link((a, b), metrics, metrics).unwrap();
    }
    topology
}

/// 0 - 1 - 2 - 3 - 0, and 4 hangs on 3.
fn ring_with_tail() -> Topology {
    topology(5, &[(0, 1, 1), (1, 2, 1), (2, 3, 1), (3, 0, 1), (3, 4, 1)])
}

#[test]
fn protection_is_having_a_disjoint_pair() {
    let (mut protection, mut reach) = (Protection::default(), Vec::new());
    for seed in 0..1500 {
        let mut random = Random(seed);
        let nodes = 2 + u32::try_from(random.below(9)).unwrap();
        let density = 10 + random.below(40);
        let mut arcs = Vec::new();
        for a in 0..nodes {
            for b in 0..a {
                if random.percent(density) {
                    arcs.push(GraphArc { from: a, to: b, cost: 1 });
                    arcs.push(GraphArc { from: b, to: a, cost: 1 });
                }
            }
        }
        let transit = (0..nodes).map(|_| !random.percent(25)).collect();
        let graph = Graph::new(transit, &arcs).unwrap();
        protection.survey(&graph, 0, &mut reach);
        let mut tree = ShortestPathTree::default();
        tree.compute(&graph, 0, &mut SpfWorkspace::default());
        let mut pairs = LinkDisjointPairs::default();
        pairs.compute(&graph, &tree);
        for (node, reach) in (0..nodes).zip(&reach).skip(1) {
            let pair = pairs.pair_into(&graph, &tree, node, &mut [Vec::new(), Vec::new()]);
            let expected = match (tree.key(node), pair) {
                (None, _) => Reach::No,
                (Some(_), None) => Reach::Unprotected,
                (Some(_), Some(_)) => Reach::Protected,
            };
            assert_eq!(*reach, expected, "seed {seed}, {node}: {graph:?}");
        }
    }
}

#[test]
fn a_cut_leaves_pairs_unreachable_and_unprotected() {
    let before = ring_with_tail();
    let mut after = before.clone();
    assert!(after.cut(3, 4) && !after.cut(3, 4) && !after.cut(0, 2));
    let impact = plan_impact(&before, &after, BULK, None).unwrap();
    assert_eq!(impact.unreachable, [(0, 4), (1, 4), (2, 4), (3, 4)]);
    assert!(impact.unprotected.is_empty() && impact.overloaded.is_none());
    let mut after = before.clone();
    after.cut(0, 1);
    let impact = plan_impact(&before, &after, BULK, None).unwrap();
    assert!(impact.unreachable.is_empty() && !impact.is_none());
    assert_eq!(impact.unprotected, [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]);
    assert!(plan_impact(&before, &before, BULK, Some(&[])).unwrap().is_none());
}

#[test]
fn a_drained_node_is_still_reached_and_carries_nothing() {
    let before = ring_with_tail();
    let mut after = before.clone();
    assert!(after.drain(3) && !after.drain(5));
    let impact = plan_impact(&before, &after, BULK, None).unwrap();
    assert_eq!(impact.unreachable, [(0, 4), (1, 4), (2, 4)]);
    assert_eq!(impact.unprotected, [(0, 1), (0, 2), (1, 2)]);
}

#[test]
fn demands_overload_what_is_left() {
    let before = ring_with_tail();
    let mut after = before.clone();
    after.cut(0, 1);
    let demands = [Demand { from: 0, to: 1, mbps: 6.0 }, Demand { from: 3, to: 2, mbps: 6.0 }];
    let impact = plan_impact(&before, &after, BULK, Some(&demands)).unwrap();
    assert_eq!(impact.overloaded, Some(vec![(3, 2)]));
    let heavy = [Demand { from: 3, to: 2, mbps: 11.0 }];
    let impact = plan_impact(&before, &after, BULK, Some(&heavy)).unwrap();
    assert_eq!(impact.overloaded, Some(vec![]), "it was too much before");
    let worse = [heavy[0], demands[0]];
    let impact = plan_impact(&before, &after, BULK, Some(&worse)).unwrap();
    let overloaded = impact.overloaded.as_deref().unwrap_or_default();
    assert!(overloaded.contains(&(3, 2)), "it is more than before: {overloaded:?}");
    let nobody = [Demand { from: 0, to: 9, mbps: 1.0 }];
    plan_impact(&before, &after, BULK, Some(&nobody)).unwrap_err();
}

#[test]
fn paths_and_a_disjoint_pair() {
    let plan = plan_paths(&ring_with_tail(), BULK, (0, 2), 4).unwrap();
    let paths: Vec<_> = plan.paths.iter().map(|path| (path.cost, path.nodes.clone())).collect();
    assert_eq!(paths, [(2, vec![0, 1, 2]), (2, vec![0, 3, 2])]);
    assert_eq!(plan.disjoint.unwrap().map(|path| path.nodes), [vec![0, 1, 2], vec![0, 3, 2]]);
    let plan = plan_paths(&ring_with_tail(), BULK, (4, 2), 1).unwrap();
    assert_eq!((plan.paths.len(), plan.disjoint), (1, None));
    plan_paths(&ring_with_tail(), BULK, (0, 5), 1).unwrap_err();
}

#[test]
fn two_paths_that_share_no_node_may_cost_more_than_two_that_share_no_link() {
    // From 0 to 4 both cheap ways lead through 2; 5 and 6 are a long way round it.
    let links = [(0, 1, 1), (1, 2, 1), (0, 2, 3), (2, 3, 1), (3, 4, 1), (2, 4, 3)];
    let round = [(0, 5, 20), (5, 6, 20), (6, 4, 20)];
    let both = topology(7, &[&links[..], &round].concat());
    let plan = plan_paths(&both, BULK, (0, 4), 1).unwrap();
    let told = |pair: Option<[PlannedPath; 2]>| pair.map(|pair| pair.map(|p| (p.cost, p.nodes)));
    let by_link = [(4, vec![0, 1, 2, 3, 4]), (6, vec![0, 2, 4])];
    assert_eq!(told(plan.disjoint), Some(by_link));
    let by_node = [(4, vec![0, 1, 2, 3, 4]), (60, vec![0, 5, 6, 4])];
    assert_eq!(told(plan_node_disjoint(&both, BULK, (0, 4)).unwrap()), Some(by_node));
    plan_node_disjoint(&both, BULK, (0, 7)).unwrap_err();
    let cheap = topology(7, &links);
    assert!(plan_paths(&cheap, BULK, (0, 4), 1).unwrap().disjoint.is_some());
    assert_eq!(plan_node_disjoint(&cheap, BULK, (0, 4)), Ok(None));
}

#[test]
fn dear_links_cost_what_they_cost() {
    let links = [(0, 1, 3_000_000_000), (0, 2, 1_200_000_000), (2, 1, 1)];
    let plan = plan_paths(&topology(3, &links), BULK, (0, 1), 2).unwrap();
    let paths: Vec<_> = plan.paths.iter().map(|path| (path.cost, path.nodes.clone())).collect();
    assert_eq!(paths, [(1_200_000_001, vec![0, 2, 1]), (3_000_000_000, vec![0, 1])]);
    // And sums of the dearest ones do not end where one ends.
    let chain: Vec<(u32, u32, u32)> = (0..300).map(|a| (a, a + 1, u32::MAX)).collect();
    let plan = plan_paths(&topology(301, &chain), BULK, (0, 300), 1).unwrap();
    assert_eq!(plan.paths[0].cost, 300 * u64::from(u32::MAX));
}

#[test]
fn each_candidate_is_told_why_it_lost() {
    let mut topology =
        topology(5, &[(0, 1, 1), (1, 4, 1), (0, 2, 1), (2, 4, 1), (0, 3, 2), (3, 4, 1), (0, 4, 5)]);
    topology.drain(1);
    topology.add_link((2, 3), LinkMetrics::default(), LinkMetrics::default()).unwrap();
    let candidates = explain(&topology, BULK, (0, 4), 5, None).unwrap();
    let told: Vec<_> = candidates
        .iter()
        .map(|candidate| {
            let sum: u64 = candidate.hops.iter().map(|hop| u64::from(hop.terms.total())).sum();
            assert_eq!(candidate.key.cost(), sum);
            let nodes: Vec<u32> = candidate.hops.iter().map(|hop| hop.to).collect();
            (candidate.key.cost(), nodes, candidate.verdict)
        })
        .collect();
    let expected = [
        (2, vec![2, 4], Verdict::Best),
        (2, vec![1, 4], Verdict::NoTransit { node: 1 }),
        (2, vec![2, 3, 4], Verdict::Longer { by: 1 }),
        (3, vec![3, 4], Verdict::Dearer { by: 1 }),
        (3, vec![3, 2, 4], Verdict::Dearer { by: 1 }),
        (5, vec![4], Verdict::Dearer { by: 3 }),
    ];
    assert_eq!(told, expected);
}

#[test]
fn costs_are_the_sum_of_their_terms() {
    let metrics = LinkMetrics {
        latency_us: 250,
        bandwidth_mbps: Some(1000.0),
        loss: 0.01,
        utilization: 0.9,
        admin: 2,
    };
    let terms = |weights| CostTerms::new(&metrics, &weights);
    assert_eq!(terms(Weights::default()).total(), 250);
    let all =
        terms(Weights { latency: 2.0, bandwidth: 1.0, loss: 0.5, utilization: 9.0, hop: 10.0 });
    // −ln(0.99) is 0.010050336.
    assert_eq!(all, CostTerms { latency: 500, bandwidth: 1000, loss: 5025, hop: 30 });
    assert_eq!(all.total(), 6555);
    let dear = Weights { latency: 1e30, ..Weights::default() };
    assert_eq!(terms(dear).total(), COST_MAX);
    // Whose cost is not what its terms say is known.
    assert_eq!(cost_beyond(&metrics, &dear), Some(250.0 * 1e30));
    let (at_most, beyond) = (f64::from(COST_MAX), f64::from(COST_MAX) + 1.0);
    let of_hops = |hop| Weights { latency: 0.0, hop, ..Weights::default() };
    let plain = LinkMetrics::default();
    assert_eq!(cost_beyond(&plain, &of_hops(at_most)), None);
    assert_eq!(CostTerms::new(&plain, &of_hops(at_most)).total(), COST_MAX);
    assert_eq!(cost_beyond(&plain, &of_hops(beyond)), Some(beyond));
    let both = Weights { latency: 1.0, ..of_hops(at_most) };
    assert_eq!(cost_beyond(&LinkMetrics { latency_us: 1, ..plain }, &both), Some(beyond));
}
