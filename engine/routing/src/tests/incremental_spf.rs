use super::Random;
use super::graphs::{all_paths, linked, tiny};
use crate::{ArcChange, Backups, Graph, GraphArc, RegrowWorkspace, ShortestPathTree, SpfWorkspace};

/// A cost, one more, one less, gone, or come: for an arc that may be there or not.
pub(super) fn random_change(random: &mut Random, graph: &mut Graph, costs: u64) -> ArcChange {
    let nodes = u64::try_from(graph.nodes()).unwrap();
    let from = u32::try_from(random.below(nodes)).unwrap();
    let near: Vec<u32> = graph.neighbours(from).collect();
    let to = if near.is_empty() || random.percent(15) {
        u32::try_from((u64::from(from) + 1 + random.below(nodes - 1)) % nodes).unwrap()
    } else {
        near[usize::try_from(random.below(u64::try_from(near.len()).unwrap())).unwrap()]
    };
    let after = (!random.percent(25)).then(|| u32::try_from(random.below(costs)).unwrap());
    let before = graph.set_cost(from, to, after).unwrap();
    ArcChange { from, to, before, after }
}

#[test]
fn an_updated_tree_is_the_computed_one() {
    for seed in 0..600 {
        let mut random = Random(seed);
        let nodes = 2 + u32::try_from(random.below(60)).unwrap();
        let costs = 1 + random.below(4);
        let mut graph = linked(&mut random, nodes, 4, costs);
        let (mut workspace, mut regrow) = (SpfWorkspace::default(), RegrowWorkspace::default());
        let mut tree = ShortestPathTree::default();
        tree.compute(&graph, 1, &mut workspace);
        for step in 0..60 {
            let change = random_change(&mut random, &mut graph, costs);
            let old = tree.clone();
            let changed = tree.update(&graph, change, &mut regrow, &mut workspace);
            let mut fresh = ShortestPathTree::default();
            fresh.compute(&graph, 1, &mut workspace);
            assert_eq!(tree, fresh, "seed {seed}, step {step}, {change:?}");
            assert!(changed || old == tree);
        }
    }
}

#[test]
fn backups_are_the_best_paths_without_link_and_far_node() {
    let mut nodes = Vec::new();
    for seed in 0..1500 {
        let graph = tiny(&mut Random(seed));
        let mut workspace = SpfWorkspace::default();
        let mut tree = ShortestPathTree::default();
        tree.compute(&graph, 0, &mut workspace);
        let mut backups = Backups::default();
        backups.compute(&graph, &tree, &mut workspace);
        for neighbour in graph.neighbours(0) {
            for destination in 1..u32::try_from(graph.nodes()).unwrap() {
                let expected =
                    all_paths(&graph, 0, destination).into_iter().find(|(_, _, path)| {
                        if destination == neighbour {
                            path[1] != neighbour
                        } else {
                            !path.contains(&neighbour)
                        }
                    });
                let key = backups.path_into(&tree, neighbour, destination, &mut nodes);
                let found = key
                    .map(|key| (key.cost(), usize::try_from(key.hops()).unwrap(), nodes.clone()));
                assert_eq!(found, expected, "seed {seed}: {neighbour}, {destination}, {graph:?}");
            }
        }
    }
}

#[test]
fn coverage_counts_what_has_a_backup() {
    // 0 - 1 - 2 - 0 is a triangle, 3 hangs on 1.
    let arcs: Vec<GraphArc> = [(0, 1), (1, 2), (2, 0), (1, 3)]
        .into_iter()
        .flat_map(|(a, b)| [(a, b), (b, a)])
        .map(|(from, to)| GraphArc { from, to, cost: 1 })
        .collect();
    let graph = Graph::new(vec![true; 4], &arcs).unwrap();
    let mut workspace = SpfWorkspace::default();
    let mut tree = ShortestPathTree::default();
    tree.compute(&graph, 0, &mut workspace);
    let mut backups = Backups::default();
    backups.compute(&graph, &tree, &mut workspace);
    assert_eq!(backups.coverage(&tree, 1), (1, 2));
    assert_eq!(backups.coverage(&tree, 2), (1, 1));
    assert_eq!(backups.coverage(&tree, 3), (0, 0));
}
