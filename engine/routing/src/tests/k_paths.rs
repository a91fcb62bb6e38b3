use super::Random;
use super::graphs::{Walked, all_paths, linked, tiny};
use crate::{Graph, GraphArc, KPaths, PathLimits, PathList, ShortestPathTree, SpfWorkspace};

fn walked(list: &PathList) -> Vec<Walked> {
    (0..list.len())
        .map(|path| {
            let key = list.key(path).unwrap();
            let nodes = list.nodes(path).collect();
            (key.cost(), usize::try_from(key.hops()).unwrap(), nodes)
        })
        .collect()
}

/// The best `k` paths from `source` to every node.
fn table(graph: &Graph, source: u32, k: usize) -> Vec<Vec<Walked>> {
    table_within(graph, source, PathLimits::paths(k))
}

fn table_within(graph: &Graph, source: u32, limits: PathLimits) -> Vec<Vec<Walked>> {
    let mut tree = ShortestPathTree::default();
    tree.compute(graph, source, &mut SpfWorkspace::default());
    let mut paths = KPaths::default();
    paths.reset(graph);
    let mut list = PathList::default();
    (0..u32::try_from(graph.nodes()).unwrap())
        .map(|destination| {
            paths.compute(graph, &tree, destination, limits, &mut list);
            walked(&list)
        })
        .collect()
}

#[test]
fn ties_that_other_implementations_get_wrong() {
    let rows: [&[(u32, u32)]; 5] = [
        &[(1, 3), (3, 1)],
        &[(0, 3), (2, 3), (4, 2)],
        &[(3, 2), (4, 3)],
        &[(1, 3), (2, 1), (4, 2)],
        &[],
    ];
    let arcs: Vec<GraphArc> = (0..)
        .zip(rows)
        .flat_map(|(from, row)| row.iter().map(move |&(to, cost)| GraphArc { from, to, cost }))
        .collect();
    let graph = Graph::new(vec![true; 5], &arcs).unwrap();
    let expected = [
        (3, 2, vec![0, 3, 4]),
        (5, 2, vec![0, 1, 4]),
        (5, 3, vec![0, 3, 2, 4]),
        (6, 3, vec![0, 3, 1, 4]),
    ];
    assert_eq!(table(&graph, 0, 4)[4], expected);
}

#[test]
fn small_graphs_agree_with_all_paths_tried() {
    for seed in 0..6000 {
        let mut random = Random(seed);
        let graph = tiny(&mut random);
        let k = 1 + usize::try_from(random.below(9)).unwrap();
        let found = table(&graph, 0, k);
        for (destination, found) in (0..).zip(found) {
            let mut expected = all_paths(&graph, 0, destination);
            expected.truncate(k);
            assert_eq!(found, expected, "seed {seed}, k {k}, to {destination}: {graph:?}");
        }
    }
}

#[test]
fn grids_full_of_ties_agree_with_all_paths_tried() {
    for seed in 0..400 {
        let mut random = Random(seed);
        let (width, height) = [(4, 4), (3, 5), (2, 7), (5, 3)][usize::try_from(seed % 4).unwrap()];
        // The order of the nodes has nothing to do with where they are.
        let mut order: Vec<u32> = (0..width * height).collect();
        for at in (1..order.len()).rev() {
            let other = random.below(u64::try_from(at).unwrap() + 1);
            order.swap(at, usize::try_from(other).unwrap());
        }
        let number = |x: u32, y: u32| order[usize::try_from(y * width + x).unwrap()];
        let dear = if random.percent(50) { 0 } else { 10 };
        let mut arcs = Vec::new();
        for (x, y) in (0..height).flat_map(|y| (0..width).map(move |x| (x, y))) {
            for (x2, y2) in [(x + 1, y), (x, y + 1)] {
                if x2 < width && y2 < height {
                    let (a, b) = (number(x, y), number(x2, y2));
                    let cost = 1 + u32::from(random.percent(dear));
                    arcs.push(GraphArc { from: a, to: b, cost });
                    arcs.push(GraphArc { from: b, to: a, cost });
                }
            }
        }
        let graph = Graph::new(vec![true; order.len()], &arcs).unwrap();
        let k = 2 + usize::try_from(random.below(7)).unwrap();
        for (destination, found) in (0..).zip(table(&graph, 0, k)) {
            let mut expected = all_paths(&graph, 0, destination);
            expected.truncate(k);
            assert_eq!(found, expected, "seed {seed}, k {k}, to {destination}: {graph:?}");
        }
    }
}

#[test]
fn larger_k_finds_the_same_paths_and_more() {
    for seed in 0..20 {
        let graph = linked(&mut Random(seed), 120, 4, 3);
        let (few, many) = (table(&graph, 5, 4), table(&graph, 5, 12));
        for (few, many) in few.iter().zip(&many) {
            assert_eq!(few[..], many[..few.len()], "seed {seed}");
            assert!(few.len() == 4 || few.len() == many.len());
            assert!(many.is_sorted());
        }
    }
}

#[test]
fn of_the_best_paths_those_with_too_many_hops_are_left_out() {
    for seed in 0..300 {
        let mut random = Random(seed);
        let graph = tiny(&mut random);
        for hops_max in 1..4 {
            let limits = PathLimits { k: 5, hops_max };
            let short = |(_, hops, _): &Walked| u64::try_from(*hops).unwrap() <= hops_max;
            let all = table(&graph, 0, 5).into_iter().map(|mut list| {
                // Where the very best is too long, none of the others is looked for.
                let none = list.first().is_some_and(|best| !short(best));
                list.retain(|walked| !none && short(walked));
                list
            });
            let expected: Vec<Vec<Walked>> = all.collect();
            assert_eq!(table_within(&graph, 0, limits), expected, "seed {seed}");
        }
    }
}
