//! Paths that operators have set: what is taken of them, and when.

use hawser_wire::{AdjacencyIndex, NodeId, TrafficClass};

use super::{Random, lsa, node, seal};
use crate::{
    Lsa, LsaFlags, Lsdb, MeshTopology, Obstacle, OperatorRoute, PathComputer, Route, RouteSnapshot,
    Step, Verdict, Weights, explain,
};

const BULK: TrafficClass = TrafficClass::Bulk;
/// The best path from 1 to 4 is over 2, the next over 3, then the direct link.
const LINKS: [(u8, u8, u32); 6] =
    [(1, 2, 10), (2, 4, 10), (1, 3, 30), (3, 4, 30), (1, 4, 90), (2, 3, 500)];

fn route(from: u8, via: &[u8], to: u8) -> OperatorRoute {
    let via = via.iter().map(|&id| node(id)).collect();
    OperatorRoute { from: node(from), to: node(to), via }
}

fn database(links: &[(u8, u8, u32)], routes: &[OperatorRoute], drained: &[u8]) -> Lsdb {
    let mut lsdb = Lsdb::new();
    let ends = links.iter().flat_map(|&(a, b, latency)| [(a, b, latency), (b, a, latency)]);
    let ends: Vec<(u8, u8, u32)> = ends.collect();
    let last = links.iter().map(|&(a, b, _)| a.max(b)).fold(5, u8::max);
    for origin in 1..=last {
        let own = ends.iter().filter(|(near, ..)| *near == origin);
        let own: Vec<(u8, u32)> = own.map(|&(_, far, latency)| (far, latency)).collect();
        let mut lsa = lsa(origin, 1, 1, &own);
        lsa.routes = routes.iter().filter(|r| r.from == node(origin)).cloned().collect();
        if drained.contains(&origin) {
            lsa.flags = LsaFlags::OVERLOADED;
        }
        let _newest = lsdb.insert(seal(lsa));
    }
    lsdb
}

fn mesh(links: &[(u8, u8, u32)], routes: &[OperatorRoute], drained: &[u8]) -> MeshTopology {
    MeshTopology::new(&database(links, routes, drained), node(1), [Weights::default(); 3])
}

fn settled(computer: &mut PathComputer, mesh: MeshTopology) -> RouteSnapshot {
    let neighbours = (2..=5).map(|id| (AdjacencyIndex(id.into()), node(id))).collect();
    let mut last = computer.handle_mesh(7, mesh.into(), neighbours).unwrap();
    loop {
        match computer.advance(usize::MAX) {
            Step::Working => {}
            Step::Published(snapshot) => last = snapshot,
            Step::Idle => return last,
        }
    }
}

fn nodes(route: &Route) -> Vec<u8> {
    route.nodes.iter().map(|node| node.as_bytes()[15]).collect()
}

/// Nodes, cost and share of the paths from 1 to 4, and whether the first is an operator's.
fn paths(snapshot: &RouteSnapshot) -> (Vec<(Vec<u8>, u64, u32)>, bool) {
    let set = snapshot.routes_to(BULK, node(4)).unwrap();
    let routes = set.routes().iter().map(|r| (nodes(r), r.cost, r.weight)).collect();
    (routes, set.operator().is_some())
}

#[test]
fn a_path_that_is_set_takes_all_while_it_can_be_taken() {
    let mut computer = PathComputer::new(2);
    let computed = vec![(vec![2, 4], 20, 1000), (vec![3, 4], 60, 0)];
    let plain = settled(&mut computer, mesh(&LINKS, &[], &[]));
    assert_eq!(paths(&plain), (computed.clone(), false));
    let set = [route(1, &[3], 4)];
    let steered = settled(&mut computer, mesh(&LINKS, &set, &[]));
    let operated = vec![(vec![3, 4], 60, 1000), (vec![2, 4], 20, 0)];
    assert_eq!(paths(&steered), (operated.clone(), true));
    // It is the same path under the same name, and control goes the same way.
    let id = |snapshot: &RouteSnapshot, at: usize| {
        snapshot.routes_to(BULK, node(4)).unwrap().routes()[at].path
    };
    assert_eq!(id(&steered, 0), id(&plain, 1));
    assert_eq!(nodes(steered.route_to(node(4)).unwrap()), [3, 4]);
    // Without one of its links, or with a node that carries nothing for others, it is as if none
    // were set.
    let cut: Vec<_> = LINKS.into_iter().filter(|&(a, b, _)| (a, b) != (3, 4)).collect();
    let fallen = settled(&mut computer, mesh(&cut, &set, &[]));
    let without = vec![(vec![2, 4], 20, 1000), (vec![4], 90, 0)];
    assert_eq!(paths(&fallen), (without, false));
    let back = settled(&mut computer, mesh(&LINKS, &set, &[]));
    assert_eq!(paths(&back), (operated, true));
    let drained = settled(&mut computer, mesh(&LINKS, &set, &[3]));
    assert_eq!(paths(&drained).0[0], (vec![2, 4], 20, 1000));
    assert!(!paths(&drained).1);
    let dropped = settled(&mut computer, mesh(&LINKS, &[], &[]));
    assert_eq!(paths(&dropped), (computed, false));
}

#[test]
fn what_is_kept_of_earlier_paths_meanwhile_has_no_share_beside_one_that_is_set() {
    // With so many nodes the K paths come in a later stage than the best ones.
    let links: Vec<_> = LINKS.into_iter().chain((6..=200).map(|leaf| (2, leaf, 10))).collect();
    let mut computer = PathComputer::new(4);
    settled(&mut computer, mesh(&links, &[], &[]));
    let neighbours = (2..=4).map(|id| (AdjacencyIndex(id.into()), node(id))).collect();
    // What was the best path is only one that is kept, and a drained node begins all anew.
    let longer: Vec<_> =
        links.into_iter().map(|(a, b, c)| (a, b, c.max(u32::from(b == 2) * 80))).collect();
    let changed = mesh(&longer, &[route(1, &[], 4)], &[5]);
    let first = computer.handle_mesh(8, changed.into(), neighbours).unwrap();
    assert!(!first.complete);
    let (routes, is_set) = paths(&first);
    assert!(is_set && routes.len() > 1, "{routes:?}");
    assert_eq!(routes.iter().map(|(.., weight)| *weight).sum::<u32>(), 1000, "{routes:?}");
}

#[test]
fn one_that_is_not_among_the_best_is_taken_too_and_other_destinations_are_not_touched() {
    let mut computer = PathComputer::new(2);
    let direct = settled(&mut computer, mesh(&LINKS, &[route(1, &[], 4)], &[]));
    let set = direct.routes_to(BULK, node(4)).unwrap();
    assert_eq!(
        set.routes().iter().map(nodes).collect::<Vec<_>>(),
        [vec![4], vec![2, 4], vec![3, 4]]
    );
    assert_eq!(set.operator().map(|route| route.weight), Some(1000));
    let to_three = direct.routes_to(BULK, node(3)).unwrap();
    assert_eq!((nodes(&to_three.routes()[0]), to_three.operator()), (vec![3], None));
    // What another node has set is that node's.
    let others = settled(&mut computer, mesh(&LINKS, &[route(2, &[3], 4)], &[]));
    assert!(others.routes_to(BULK, node(4)).unwrap().operator().is_none());
}

#[test]
fn what_stands_in_the_way_is_said() {
    let found = |via: &[u8], drained: &[u8]| {
        let mesh = mesh(&LINKS, &[route(1, via, 4)], drained);
        mesh.operator_path(mesh.source(), node(4)).unwrap()
    };
    assert_eq!(found(&[3], &[]), Ok(vec![0, 2, 3]));
    assert_eq!(found(&[3, 2], &[4]), Ok(vec![0, 2, 1, 3]), "who is at the end need not be transit");
    assert_eq!(found(&[3], &[3]), Err(Obstacle::NoTransit { node: node(3) }));
    assert_eq!(found(&[5], &[]), Err(Obstacle::NoLink { from: node(1), to: node(5) }));
    assert_eq!(found(&[2, 9], &[]), Err(Obstacle::NoLink { from: node(2), to: node(9) }));
    let mesh = mesh(&LINKS, &[route(1, &[2], 4)], &[]);
    assert!(mesh.operator_path(mesh.source(), node(3)).is_none());
    let all: Vec<(NodeId, &[NodeId])> = mesh.operator_routes(mesh.source()).collect();
    assert_eq!(all, [(node(4), &[node(2)][..])]);
}

#[test]
fn it_is_explained_as_the_operators_and_the_best_as_overruled() {
    let mesh = mesh(&LINKS, &[], &[]);
    let told = |operator: Option<&[u32]>| {
        let found = explain(mesh.topology(), BULK, (0, 3), 2, operator).unwrap();
        let told = found.into_iter().map(|found| {
            let nodes: Vec<u32> = found.hops.iter().map(|hop| hop.to + 1).collect();
            (nodes, found.key.cost(), found.verdict)
        });
        told.collect::<Vec<_>>()
    };
    let (best, next) = ((vec![2, 4], 20), (vec![3, 4], 60));
    let plain =
        [(best.0.clone(), 20, Verdict::Best), (next.0.clone(), 60, Verdict::Dearer { by: 40 })];
    assert_eq!(told(None), plain);
    let second =
        [(next.0.clone(), 60, Verdict::Operator), (best.0.clone(), 20, Verdict::Overruled)];
    assert_eq!(told(Some(&[0, 2, 3])), second);
    let first =
        [(best.0.clone(), 20, Verdict::Operator), (next.0.clone(), 60, Verdict::Dearer { by: 40 })];
    assert_eq!(told(Some(&[0, 1, 3])), first);
    let other = told(Some(&[0, 3]));
    assert_eq!(other[0], (vec![4], 90, Verdict::Operator));
    assert_eq!(
        other[1..],
        [(best.0, 20, Verdict::Overruled), (next.0, 60, Verdict::Dearer { by: 40 })]
    );
}

#[test]
fn a_node_steers_its_own_traffic_alone_along_what_may_be_a_path() {
    let sound = |routes: Vec<OperatorRoute>| {
        let lsa = Lsa { routes: OperatorRoute::ordered(&routes), ..lsa(1, 1, 1, &[]) };
        lsa.steers_soundly()
    };
    assert!(sound(vec![]) && sound(vec![route(1, &[2, 3], 4), route(1, &[], 3)]));
    for (routes, what) in [
        (vec![route(2, &[3], 4)], "of another node"),
        (vec![route(1, &[2], 1)], "to itself"),
        (vec![route(1, &[2, 3, 2], 4)], "a node twice"),
        (vec![route(1, &[1], 4)], "through its begin"),
        (vec![route(1, &[2, 4], 4)], "through its end"),
        (vec![route(1, &[2], 4), route(1, &[3], 4)], "two to one node"),
    ] {
        assert!(!sound(routes), "{what}");
    }
}

/// Whatever is set, dropped, cut and mended: what is published last is what a computation from
/// nothing gives, and a path that is set is taken exactly while it is there.
#[test]
fn the_last_state_is_that_from_nothing() {
    for seed in 0..60 {
        let mut random = Random(seed);
        let mut computer = PathComputer::new(2);
        for _ in 0..30 {
            let links: Vec<_> = LINKS.into_iter().filter(|_| random.percent(80)).collect();
            let vias: [&[u8]; 5] = [&[], &[2], &[3], &[2, 3], &[3, 2]];
            let via = vias[usize::try_from(random.below(5)).unwrap()];
            let set = if random.percent(70) { vec![route(1, via, 4)] } else { Vec::new() };
            let drained: &[u8] = if random.percent(20) { &[3] } else { &[] };
            let mesh = mesh(&links, &set, drained);
            let path = mesh.operator_path(0, node(4)).and_then(Result::ok);
            let fresh = settled(&mut PathComputer::new(2), mesh.clone());
            let kept = settled(&mut computer, mesh);
            let bare = |snapshot: &RouteSnapshot| {
                let set = snapshot.routes_to(BULK, node(4)).cloned().unwrap_or_default();
                let first = set.operator().map(nodes);
                let routes = set.routes().iter().map(|r| (nodes(r), r.cost, r.weight));
                (routes.collect::<Vec<_>>(), first)
            };
            assert_eq!(bare(&kept), bare(&fresh), "seed {seed}");
            let expected = path
                .map(|path| path[1..].iter().map(|&at| u8::try_from(at).unwrap() + 1).collect());
            assert_eq!(bare(&kept).1, expected, "seed {seed}");
        }
    }
}
