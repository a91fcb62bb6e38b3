//! Coverage against what it means: the best path is walked, its first link and the node behind it are
//! taken away, and what is left is searched.

use hawser_wire::TrafficClass;

use super::{Random, lsa, node, seal};
use crate::{
    CoverageSurvey, LsaFlags, Lsdb, MeshTopology, NodeNumber, OperatorRoute, Weights, best_paths,
};

const BULK: TrafficClass = TrafficClass::Bulk;

type Link = (u8, u8, u32);

/// A mesh with links in both directions, seen from its first node.
fn mesh(nodes: u8, links: &[Link], routes: &[(u8, &[u8], u8)]) -> MeshTopology {
    let mut lsdb = Lsdb::new();
    for origin in 1..=nodes {
        let ends = links.iter().filter_map(|&(a, b, latency)| match origin {
            origin if origin == a => Some((b, latency)),
            origin if origin == b => Some((a, latency)),
            _ => None,
        });
        let mut lsa = lsa(origin, 1, 1, &ends.collect::<Vec<_>>());
        let own = routes.iter().filter(|(from, ..)| *from == origin);
        lsa.routes = own
            .map(|&(from, via, to)| OperatorRoute {
                from: node(from),
                to: node(to),
                via: via.iter().map(|&id| node(id)).collect(),
            })
            .collect();
        let _newest = lsdb.insert(seal(lsa));
    }
    MeshTopology::new(&lsdb, node(1), [Weights::default(); 3])
}

#[test]
fn who_has_left_is_no_destination() {
    // 1 - 2 - 3; 3 says farewell, 4 is only out of reach.
    let mut lsdb = Lsdb::new();
    for (origin, links) in [(1, vec![(2, 1)]), (2, vec![(1, 1), (3, 1)]), (4, vec![])] {
        let _newest = lsdb.insert(lsa(origin, 1, 1, &links));
    }
    let mut farewell = lsa(3, 1, 1, &[]);
    farewell.flags = LsaFlags::LEFT;
    let _newest = lsdb.insert(seal(farewell));
    let mesh = MeshTopology::new(&lsdb, node(1), [Weights::default(); 3]);
    assert_eq!(mesh.members().map(|(_, id)| id).collect::<Vec<_>>(), [node(1), node(2), node(4)]);
    let coverage = CoverageSurvey::new(&mesh, BULK).unwrap().coverage(0);
    assert_eq!((coverage.reachable, coverage.unreachable), (1, vec![3]));
}

#[test]
fn a_tail_has_no_backup_and_a_ring_has() {
    // 1, 2, 3, 4 stand in a ring, 5 hangs on 4; 6 stands alone.
    let links = [(1, 2, 1), (2, 3, 1), (3, 4, 1), (4, 1, 1), (4, 5, 1)];
    let mesh = mesh(6, &links, &[]);
    let mut survey = CoverageSurvey::new(&mesh, BULK).unwrap();
    let of_one = survey.coverage(0);
    assert_eq!((of_one.reachable, of_one.protected()), (4, 3));
    // All there is to 5 leads through 4, which is the node behind the link.
    assert_eq!((of_one.unprotected, of_one.unreachable), (vec![(4, 3)], vec![5]));
    let of_five = survey.coverage(4);
    assert_eq!((of_five.reachable, of_five.protected()), (4, 0));
    let of_six = survey.coverage(5);
    assert_eq!((of_six.reachable, of_six.unreachable.len()), (0, 5));
}

#[test]
fn the_operators_path_is_the_one_that_is_to_be_covered() {
    // From 1 to 4 by 2, 3 or the dear link; behind 3 there is nothing else.
    let links = [(1, 2, 1), (2, 4, 1), (1, 3, 1), (3, 4, 1), (3, 5, 1), (2, 5, 9)];
    let plain = mesh(5, &links, &[]);
    let mut survey = CoverageSurvey::new(&plain, BULK).unwrap();
    assert_eq!(survey.coverage(0).unprotected, []);
    // Without the link from 2 to 5, the operator's path has the backup that the best one has not.
    let links = &links[..5];
    let plain = mesh(5, links, &[]);
    let mut survey = CoverageSurvey::new(&plain, BULK).unwrap();
    assert_eq!(survey.coverage(0).unprotected, [(4, 2)]);
    let steered = mesh(5, links, &[(1, &[2, 4, 3], 5)]);
    let mut survey = CoverageSurvey::new(&steered, BULK).unwrap();
    assert_eq!(survey.coverage(0).unprotected, []);
}

#[test]
fn what_is_covered_has_another_way_and_nothing_else_has() {
    for seed in 0..200 {
        let mut random = Random(seed);
        let nodes = 2 + u8::try_from(random.below(9)).unwrap();
        let mut links: Vec<Link> = Vec::new();
        for a in 1..=nodes {
            for b in a + 1..=nodes {
                if random.percent(35) {
                    links.push((a, b, u32::try_from(random.below(4)).unwrap()));
                }
            }
        }
        let whole = mesh(nodes, &links, &[]);
        let graph = whole.topology().graph(BULK).unwrap();
        let mut survey = CoverageSurvey::new(&whole, BULK).unwrap();
        for source in 0..NodeNumber::from(nodes) {
            let coverage = survey.coverage(source);
            let mut expected = (0, Vec::new(), Vec::new());
            for to in (0..NodeNumber::from(nodes)).filter(|&to| to != source) {
                let best = best_paths(&graph, source, to, 1).unwrap();
                let Some(first) = best.nodes(0).nth(1) else {
                    expected.2.push(to);
                    continue;
                };
                expected.0 += 1;
                let mut left = whole.topology().clone();
                left.cut(source, first);
                if first != to {
                    left.drain(first);
                }
                let left = left.graph(BULK).unwrap();
                if best_paths(&left, source, to, 1).unwrap().is_empty() {
                    expected.1.push((to, first));
                }
            }
            let found = (coverage.reachable, coverage.unprotected, coverage.unreachable);
            assert_eq!(found, expected, "seed {seed}, from {source}");
        }
    }
}
