use std::collections::BTreeMap;

use hawser_wire::{AdjacencyIndex, NodeId, TrafficClass};

use super::{Random, lsa, node};
use crate::{LsaFlags, Lsdb, MeshTopology, NodeNumber, Rib, Weights, shortest_paths};

const WEIGHTS: [Weights; 3] =
    [Weights { latency: 1.0, bandwidth: 0.0, loss: 0.0, utilization: 0.0, hop: 0.0 }; 3];

/// A node, what it says of itself, and its links with their latencies.
type Node<'a> = (u8, LsaFlags, &'a [(u8, u32)]);

fn lsdb(nodes: &[Node<'_>]) -> Lsdb {
    let mut lsdb = Lsdb::new();
    for &(origin, flags, links) in nodes {
        let mut lsa = lsa(origin, 1, 1, links);
        lsa.flags = flags;
        let _newest = lsdb.insert(lsa);
    }
    lsdb
}

const NONE: LsaFlags = LsaFlags(0);

#[test]
fn only_links_that_both_ends_list_count_with_the_metrics_and_index_of_each_end() {
    let lsdb = lsdb(&[
        (2, NONE, &[(5, 70), (9, 30), (7, 1)]),
        (5, NONE, &[(2, 90)]),
        (9, NONE, &[(5, 10)]),
    ]);
    let mesh = MeshTopology::new(&lsdb, node(5), WEIGHTS);
    assert_eq!(mesh.ids(), [node(2), node(5), node(9)], "7 has said nothing and is none");
    assert_eq!((mesh.source(), mesh.id(2), mesh.id(3)), (1, Some(node(9)), None));
    assert_eq!((mesh.number(node(9)), mesh.number(node(7))), (Some(2), None));
    let arcs: Vec<_> =
        mesh.topology().arcs().map(|(ends, metrics)| (ends, metrics.latency_us)).collect();
    assert_eq!(arcs, [((0, 1), 70), ((1, 0), 90)]);
    assert_eq!(mesh.index(0, 1), Some(AdjacencyIndex(5)));
    assert_eq!(mesh.hops(&[1, 0]), Some(vec![AdjacencyIndex(2)]));
    assert_eq!(mesh.hops(&[1, 0, 2]), None);
}

#[test]
fn a_mesh_that_is_looked_at_from_elsewhere_is_what_that_node_reads_itself() {
    let lsdb = lsdb(&[(1, NONE, &[(2, 1)]), (2, NONE, &[(1, 2), (3, 3)]), (3, NONE, &[(2, 4)])]);
    let mesh = MeshTopology::new(&lsdb, node(1), WEIGHTS);
    for source in [1, 2, 3] {
        let own = MeshTopology::new(&lsdb, node(source), WEIGHTS);
        assert_eq!(mesh.seen_from(node(source)), Some(own));
    }
    assert_eq!(mesh.seen_from(node(4)), None);
}

#[test]
fn a_node_that_has_said_nothing_yet_is_a_node_of_its_own_mesh() {
    let mesh = MeshTopology::new(&Lsdb::new(), node(5), WEIGHTS);
    assert_eq!((mesh.ids(), mesh.source()), (&[node(5)][..], 0));
    assert!(Rib::new(mesh.topology(), mesh.source(), 4).is_ok());
}

#[test]
fn who_is_overloaded_a_stub_or_gone_carries_nothing_for_others() {
    for flags in [NONE, LsaFlags::OVERLOADED, LsaFlags::STUB, LsaFlags::LEFT, LsaFlags(0x80)] {
        let lsdb =
            lsdb(&[(1, NONE, &[(2, 1)]), (2, flags, &[(1, 1), (3, 1)]), (3, NONE, &[(2, 1)])]);
        let mesh = MeshTopology::new(&lsdb, node(1), WEIGHTS);
        let graph = mesh.topology().graph(TrafficClass::Bulk).unwrap();
        let transits = flags == NONE || flags == LsaFlags(0x80);
        assert_eq!(graph.transits(1), transits, "{flags:?}");
        let rib = Rib::new(mesh.topology(), mesh.source(), 2).unwrap().publish();
        let reached = rib.class(TrafficClass::Bulk).tree.key(2).is_some();
        assert_eq!(reached, transits, "{flags:?}");
        assert!(rib.class(TrafficClass::Bulk).tree.key(1).is_some(), "it can be reached itself");
    }
}

/// The two ways from a database to best paths agree, ties included.
#[test]
fn best_paths_are_those_of_the_database() {
    for seed in 0..300 {
        let mut random = Random(seed);
        let count = 2 + u8::try_from(random.below(14)).unwrap();
        let mut links: BTreeMap<u8, Vec<(u8, u32)>> = (1..=count).map(|id| (id, vec![])).collect();
        for a in 1..=count {
            for b in 1..=count {
                if a != b && random.percent(35) {
                    links.get_mut(&a).unwrap().push((b, u32::try_from(random.below(4)).unwrap()));
                }
            }
        }
        let mut lsdb = Lsdb::new();
        for (origin, links) in &links {
            let mut lsa = lsa(*origin, 1, 1, links);
            lsa.flags = LsaFlags(u8::from(random.percent(20)) * LsaFlags::OVERLOADED.0);
            let _newest = lsdb.insert(lsa);
        }
        let mesh = MeshTopology::new(&lsdb, node(1), WEIGHTS);
        let mut rib = Rib::new(mesh.topology(), mesh.source(), 1).unwrap();
        let routes = rib.publish();
        let class = routes.class(TrafficClass::Bulk);
        let expected = shortest_paths(&lsdb, node(1));
        for (paths, &id) in class.paths.iter().zip(mesh.ids()) {
            let mut path: Vec<NodeNumber> = Vec::new();
            path.extend(paths.nodes(0));
            let path = Some(path).filter(|path| !path.is_empty());
            let found: Option<Vec<NodeId>> = path.as_ref().map(|path| {
                path.iter()
                    .filter_map(|&number| mesh.id(number))
                    .filter(|&id| id != node(1))
                    .collect()
            });
            let hops = path.map(|path| mesh.hops(&path).unwrap());
            let expected = expected.get(&id);
            if id != node(1) {
                assert_eq!(found, expected.map(|path| path.nodes.clone()), "seed {seed}, {id}");
                assert_eq!(hops, expected.map(|path| path.hops.clone()), "seed {seed}, {id}");
            }
        }
    }
}

#[test]
fn links_that_one_end_alone_says_it_has_are_counted() {
    let mut lsdb = Lsdb::new();
    for said in [lsa(1, 1, 1, &[(2, 1)]), lsa(2, 1, 1, &[(1, 1), (3, 1)]), lsa(4, 1, 1, &[(1, 1)])]
    {
        let _newest = lsdb.insert(said);
    }
    assert_eq!(lsdb.one_sided_links(), 2, "node 3 is unknown, node 1 does not list node 4");
    let _newest = lsdb.insert(lsa(1, 1, 2, &[(2, 1), (4, 1)]));
    assert_eq!(lsdb.one_sided_links(), 1);
}
