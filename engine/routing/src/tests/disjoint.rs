use super::Random;
use super::graphs::{Walked, all_paths, linked, tiny};
use crate::{
    LinkDisjointPairs, NodeDisjointPairs, NodeNumber, PathKey, ShortestPathTree, SpfWorkspace,
};

fn links(nodes: &[NodeNumber]) -> impl Iterator<Item = (NodeNumber, NodeNumber)> + '_ {
    nodes.windows(2).map(|hop| (hop[0].min(hop[1]), hop[0].max(hop[1])))
}

fn share_a_link(a: &[NodeNumber], b: &[NodeNumber]) -> bool {
    links(a).any(|link| links(b).any(|other| link == other))
}

fn share_a_node(a: &[NodeNumber], b: &[NodeNumber]) -> bool {
    let within = |path: &[NodeNumber]| path[1..path.len() - 1].to_vec();
    // The one link between both ends is shared, too.
    (a.len() == 2 && b.len() == 2) || within(a).iter().any(|node| within(b).contains(node))
}

/// Least cost and hops of two paths that do not share.
fn best(all: &[Walked], share: fn(&[NodeNumber], &[NodeNumber]) -> bool) -> Option<(u64, usize)> {
    let mut best = None;
    for (at, a) in all.iter().enumerate() {
        for b in &all[at + 1..] {
            let total = (a.0 + b.0, a.1 + b.1);
            if best.is_none_or(|best| total < best) && !share(&a.2, &b.2) {
                best = Some(total);
            }
        }
    }
    best
}

/// Both are paths that there are, and in order; their total.
fn total(keys: [PathKey; 2], pair: &[Vec<NodeNumber>; 2], all: &[Walked]) -> (u64, usize) {
    let [a, b] = [0, 1]
        .map(|at| (keys[at].cost(), usize::try_from(keys[at].hops()).unwrap(), pair[at].clone()));
    assert!(a < b && all.contains(&a) && all.contains(&b), "{a:?} {b:?}");
    (a.0 + b.0, a.1 + b.1)
}

#[test]
fn pairs_are_the_best_of_all_pairs_tried() {
    let mut workspace = SpfWorkspace::default();
    let (mut tree, mut by_link) = (ShortestPathTree::default(), LinkDisjointPairs::default());
    let mut pair = [Vec::new(), Vec::new()];
    for seed in 0..2500 {
        let graph = tiny(&mut Random(seed));
        if graph.nodes() > 6 {
            continue;
        }
        tree.compute(&graph, 0, &mut workspace);
        by_link.compute(&graph, &tree);
        let mut by_node = NodeDisjointPairs::compute(&graph, 0, &mut workspace).unwrap();
        for destination in 0..u32::try_from(graph.nodes()).unwrap() {
            let all = all_paths(&graph, 0, destination);
            let keys = by_link.pair_into(&graph, &tree, destination, &mut pair);
            let found = keys.map(|keys| total(keys, &pair, &all));
            assert_eq!(found, best(&all, share_a_link), "seed {seed}, {destination}: {graph:?}");
            assert!(found.is_none() || !share_a_link(&pair[0], &pair[1]));
            let keys = by_node.pair_into(destination, &mut pair);
            let found = keys.map(|keys| total(keys, &pair, &all));
            assert_eq!(found, best(&all, share_a_node), "seed {seed}, {destination}: {graph:?}");
            assert!(found.is_none() || !share_a_node(&pair[0], &pair[1]));
        }
    }
}

#[test]
fn pairs_in_larger_graphs_are_disjoint() {
    let mut workspace = SpfWorkspace::default();
    let mut pair = [Vec::new(), Vec::new()];
    let mut found = 0;
    for seed in 0..20 {
        let graph = linked(&mut Random(seed), 300, 4, 3);
        let mut tree = ShortestPathTree::default();
        tree.compute(&graph, 7, &mut workspace);
        let mut by_link = LinkDisjointPairs::default();
        by_link.compute(&graph, &tree);
        for destination in 0..300 {
            if by_link.pair_into(&graph, &tree, destination, &mut pair).is_some() {
                found += 1;
                assert!(!share_a_link(&pair[0], &pair[1]));
                for path in &pair {
                    assert_eq!((path[0], path[path.len() - 1]), (7, destination));
                    assert!(path.windows(2).all(|hop| graph.cost(hop[0], hop[1]).is_some()));
                }
            }
        }
    }
    assert!(found > 4000, "{found}");
}
