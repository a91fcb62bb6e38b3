use std::collections::BTreeMap;

use hawser_wire::{AdjacencyIndex, HOPS_MAX, NodeId};

use super::{Random, lsa, node};
use crate::{Inserted, Lsdb, Path, shortest_paths};

/// A database of directed links: from, to, latency.
fn database(nodes: u8, links: &[(u8, u8, u32)]) -> Lsdb {
    let mut lsdb = Lsdb::new();
    for origin in 1..=nodes {
        let own: Vec<(u8, u32)> = links
            .iter()
            .filter(|(from, ..)| *from == origin)
            .map(|(_, to, latency_us)| (*to, *latency_us))
            .collect();
        assert_eq!(lsdb.insert(lsa(origin, 1, 1, &own)), Inserted::Newest);
    }
    lsdb
}

/// Every loopless path, the best of each destination by cost, hops, node ids.
fn oracle(lsdb: &Lsdb, source: NodeId) -> BTreeMap<NodeId, Path> {
    fn walk(
        lsdb: &Lsdb,
        at: NodeId,
        path: &Path,
        best: &mut BTreeMap<NodeId, Path>,
        source: NodeId,
    ) {
        for link in lsdb.get(at).map(|lsa| lsa.adjacencies.clone()).unwrap_or_default() {
            let next = link.neighbour;
            let back = |far: &crate::Lsa| far.adjacencies.iter().any(|back| back.neighbour == at);
            if next == source || path.nodes.contains(&next) || !lsdb.get(next).is_some_and(back) {
                continue;
            }
            let mut longer = path.clone();
            longer.hops.push(link.index);
            longer.nodes.push(next);
            longer.cost += u64::from(link.metrics.latency_us);
            let key = |path: &Path| (path.cost, path.hops.len(), path.nodes.clone());
            if best.get(&next).is_none_or(|old| key(&longer) < key(old)) {
                best.insert(next, longer.clone());
            }
            walk(lsdb, next, &longer, best, source);
        }
    }
    let mut best = BTreeMap::new();
    let start = Path { hops: Vec::new(), nodes: Vec::new(), cost: 0 };
    walk(lsdb, source, &start, &mut best, source);
    best
}

#[test]
fn random_graphs_agree_with_all_paths_tried() {
    for seed in 0..3000 {
        let mut random = Random(seed);
        let nodes = 2 + u8::try_from(random.below(5)).unwrap();
        // Few different latencies, zero among them: many ties.
        let latencies = 1 + random.below(4);
        let density = 20 + random.below(80);
        let mut links = Vec::new();
        for from in 1..=nodes {
            for to in 1..=nodes {
                if from != to && random.percent(density) {
                    links.push((from, to, u32::try_from(random.below(latencies)).unwrap()));
                }
            }
        }
        let lsdb = database(nodes, &links);
        for source in 1..=nodes {
            let (found, expected) =
                (shortest_paths(&lsdb, node(source)), oracle(&lsdb, node(source)));
            assert_eq!(found, expected, "seed {seed}, source {source}, links {links:?}");
        }
    }
}

#[test]
fn a_link_counts_only_if_both_ends_list_it() {
    let lsdb = database(3, &[(1, 2, 5), (2, 1, 7), (2, 3, 5)]);
    let paths = shortest_paths(&lsdb, node(1));
    assert_eq!(paths.keys().copied().collect::<Vec<_>>(), [node(2)]);
    assert_eq!(paths[&node(2)].cost, 5, "the near end's metric");
    assert_eq!(shortest_paths(&lsdb, node(9)), BTreeMap::new());
    assert_eq!(shortest_paths(&Lsdb::new(), node(1)), BTreeMap::new());
}

#[test]
fn ties_go_to_fewer_hops_then_to_smaller_ids() {
    let both = |a, b, latency_us| [(a, b, latency_us), (b, a, latency_us)];
    // 1-4 directly for 20, or over 2 or 3 for 10 + 10.
    let links = [both(1, 4, 20), both(1, 3, 10), both(3, 4, 10), both(1, 2, 10), both(2, 4, 10)];
    let mut links = links.concat();
    assert_eq!(shortest_paths(&database(4, &links), node(1))[&node(4)].nodes, [node(4)]);
    links.retain(|(from, to, _)| from + to != 5 || from * to != 4);
    let path = &shortest_paths(&database(4, &links), node(1))[&node(4)];
    assert_eq!(path.nodes, [node(2), node(4)]);
    assert_eq!(path.hops, [AdjacencyIndex(2), AdjacencyIndex(4)]);
    assert_eq!(path.cost, 20);
}

#[test]
fn a_path_takes_no_more_hops_than_a_route_header_holds() {
    let last = u8::try_from(HOPS_MAX).unwrap() + 2;
    let mut links = Vec::new();
    for number in 1..last {
        links.extend([(number, number + 1, 1), (number + 1, number, 1)]);
    }
    let paths = shortest_paths(&database(last, &links), node(1));
    assert_eq!(paths.len(), HOPS_MAX);
    assert_eq!(paths[&node(last - 1)].hops.len(), HOPS_MAX);
    // A dearer way with fewer hops is taken where the cheapest is too long.
    links.extend([(1, 10, 1000), (10, 1, 1000)]);
    let paths = shortest_paths(&database(last, &links), node(1));
    assert_eq!(paths.get(&node(last)), None, "its neighbour is reached the cheap way");
    links.extend([(1, last, 5000), (last, 1, 5000)]);
    let paths = shortest_paths(&database(last, &links), node(1));
    assert_eq!((paths[&node(last)].cost, paths[&node(last)].hops.len()), (5000, 1));
}
