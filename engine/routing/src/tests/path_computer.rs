use std::collections::BTreeMap;
use std::sync::Arc;

use hawser_wire::{AdjacencyIndex, HOPS_MAX, NodeId, PathId, TrafficClass};

use super::{Random, lsa, node};
use crate::{Lsdb, MeshTopology, PathComputer, Route, RouteSet, RouteSnapshot, Step, Weights};

const BULK: TrafficClass = TrafficClass::Bulk;

/// What each node says of its links: neighbour and latency. An index is the neighbour's number.
type Links = BTreeMap<u8, BTreeMap<u8, u32>>;

fn mesh(links: &Links) -> Arc<MeshTopology> {
    let mut lsdb = Lsdb::new();
    for (&origin, links) in links {
        let links: Vec<(u8, u32)> = links.iter().map(|(&to, &latency)| (to, latency)).collect();
        let _newest = lsdb.insert(lsa(origin, 1, 1, &links));
    }
    Arc::new(MeshTopology::new(&lsdb, node(1), [Weights::default(); 3]))
}

/// Links in both directions.
fn both(ways: &[(u8, u8, u32)]) -> Links {
    let mut links = Links::new();
    for &(a, b, latency) in ways {
        links.entry(a).or_default().insert(b, latency);
        links.entry(b).or_default().insert(a, latency);
    }
    links
}

fn first(computer: &mut PathComputer, links: &Links) -> RouteSnapshot {
    computer.handle_mesh(7, mesh(links), vec![(AdjacencyIndex(2), node(2))]).unwrap()
}

/// The snapshots until nothing is left to compute.
fn stages(computer: &mut PathComputer, links: &Links, at_once: usize) -> Vec<RouteSnapshot> {
    let mut stages = vec![first(computer, links)];
    loop {
        match computer.advance(at_once) {
            Step::Working => {}
            Step::Published(snapshot) => stages.push(snapshot),
            Step::Idle => return stages,
        }
    }
}

fn settled(computer: &mut PathComputer, links: &Links) -> RouteSnapshot {
    stages(computer, links, usize::MAX).pop().unwrap()
}

fn nodes(route: &Route) -> Vec<u8> {
    route.nodes.iter().map(|node| node.as_bytes()[15]).collect()
}

fn routes(snapshot: &RouteSnapshot, to: u8) -> Vec<(PathId, Vec<u8>)> {
    let routes = snapshot.routes_to(BULK, node(to)).map(RouteSet::routes).unwrap_or_default();
    routes.iter().map(|route| (route.path, nodes(route))).collect()
}

#[test]
fn an_id_stands_for_a_list_of_hops_and_is_not_used_again() {
    let mut computer = PathComputer::new(2);
    let mut links = both(&[(1, 2, 10), (2, 4, 10), (1, 3, 20), (3, 4, 20)]);
    let one = settled(&mut computer, &links);
    assert_eq!((one.lsdb_digest, one.complete), (7, true));
    let [(direct, _), (other, _)] = routes(&one, 4).try_into().unwrap();
    assert_eq!(routes(&one, 4), [(direct, vec![2, 4]), (other, vec![3, 4])]);
    assert_ne!(direct, other);
    // Costs change places; a node comes between the others.
    for (a, b, latency) in [(1, 2, 90), (4, 2, 1), (1, 9, 500)] {
        links.entry(a).or_default().insert(b, latency);
        links.entry(b).or_default().insert(a, latency);
    }
    let two = settled(&mut computer, &links);
    assert_eq!(routes(&two, 4), [(other, vec![3, 4]), (direct, vec![2, 4])]);
    assert!(two.generation > one.generation);
    links.get_mut(&3).unwrap().remove(&4);
    let three = settled(&mut computer, &links);
    assert_eq!(routes(&three, 4), [(direct, vec![2, 4])]);
    links.get_mut(&3).unwrap().insert(4, 20);
    let four = settled(&mut computer, &links);
    let again = routes(&four, 4);
    assert_eq!(again[1], (direct, vec![2, 4]));
    let had: Vec<PathId> = (1..=4).flat_map(|to| routes(&one, to)).map(|(path, _)| path).collect();
    assert!(!had.contains(&again[0].0) && again[0].1 == [3, 4], "it was away: {again:?}");
    // Without a mesh there is nothing; neighbours stay known.
    let none = computer.clear();
    assert!(none.route_to(node(4)).is_none() && none.reachable().next().is_none());
    assert_eq!(none.neighbour(AdjacencyIndex(2)), Some(node(2)));
    assert!(matches!(computer.advance(1), Step::Idle));
    let five = settled(&mut computer, &links);
    assert!(routes(&five, 4).iter().all(|(path, _)| !had.contains(path) && *path != again[0].0));
}

#[test]
fn only_paths_about_as_good_as_the_best_one_have_a_share() {
    let ways = [(1, 2, 100), (1, 3, 110), (1, 4, 125), (1, 5, 126), (2, 9, 100), (3, 9, 100)];
    let links = both(&[&ways[..], &[(4, 9, 125), (5, 9, 125), (1, 6, 10), (6, 2, 10)]].concat());
    let snapshot = settled(&mut PathComputer::new(8), &links);
    let set = snapshot.routes_to(BULK, node(9)).unwrap();
    let shares: Vec<_> = set.routes().iter().map(|r| (nodes(r), r.cost, r.weight)).collect();
    let expected = [
        (vec![6, 2, 9], 120, 1000),
        (vec![2, 9], 200, 0),
        (vec![3, 9], 210, 0),
        (vec![4, 9], 250, 0),
        (vec![5, 9], 251, 0),
    ];
    assert_eq!(shares, expected);
    let links = both(&[&ways[..], &[(4, 9, 125), (5, 9, 125)]].concat());
    let snapshot = settled(&mut PathComputer::new(8), &links);
    let set = snapshot.routes_to(BULK, node(9)).unwrap();
    let shares: Vec<_> = set.routes().iter().map(|r| (r.cost, r.weight)).collect();
    assert_eq!(shares, [(200, 1000), (210, 1000), (250, 1000), (251, 0)]);
}

#[test]
fn paths_are_the_same_while_only_their_costs_move() {
    let mut computer = PathComputer::new(2);
    let mut links = both(&[(1, 2, 10), (2, 4, 10), (1, 3, 20), (3, 4, 20)]);
    let one = settled(&mut computer, &links);
    assert!(!one.has_same_paths(&RouteSnapshot::default()));
    links.get_mut(&1).unwrap().insert(2, 11);
    let two = settled(&mut computer, &links);
    let cost =
        |snapshot: &RouteSnapshot| snapshot.routes_to(BULK, node(4)).unwrap().routes()[0].cost;
    assert_eq!((cost(&one), cost(&two)), (20, 21));
    assert!(two.has_same_paths(&one) && one.has_same_paths(&two));
    // They change places.
    links.get_mut(&1).unwrap().insert(2, 90);
    let three = settled(&mut computer, &links);
    assert!(!three.has_same_paths(&two));
    // One is gone.
    links.get_mut(&3).unwrap().remove(&4);
    let four = settled(&mut computer, &links);
    assert!(!four.has_same_paths(&three));
    // A node more, without any path.
    links.insert(7, BTreeMap::new());
    assert!(!settled(&mut computer, &links).has_same_paths(&four));
}

#[test]
fn the_more_of_a_paths_busiest_link_is_used_the_smaller_is_its_share() {
    let shares = |bias: f64, permille: [u16; 2]| {
        let links = both(&[(1, 2, 10), (2, 9, 10), (1, 3, 10), (3, 9, 10)]);
        let mut lsdb = Lsdb::new();
        for (&origin, links) in &links {
            let links: Vec<(u8, u32)> = links.iter().map(|(&to, &cost)| (to, cost)).collect();
            let mut lsa = lsa(origin, 1, 1, &links);
            // The first link of the path over 2, the second one of that over 3; the ways back do
            // not count.
            for link in &mut lsa.adjacencies {
                link.metrics.utilization_permille = match (origin, link.neighbour) {
                    (1, to) if to == node(2) => permille[0],
                    (3, to) if to == node(9) => permille[1],
                    (from, to) if from == 9 || to == node(1) => 999,
                    _ => 100,
                };
            }
            let _newest = lsdb.insert(lsa);
        }
        let weights = [Weights { utilization: bias, ..Weights::default() }; 3];
        let mesh = Arc::new(MeshTopology::new(&lsdb, node(1), weights));
        let snapshot = PathComputer::new(2).handle_mesh(7, mesh, Vec::new()).unwrap();
        let set = snapshot.routes_to(BULK, node(9)).unwrap();
        let shares: Vec<u32> = set.routes().iter().map(|route| route.weight).collect();
        assert!(set.routes().iter().all(|route| route.cost == 20), "it enters no cost: {set:?}");
        shares
    };
    assert_eq!(shares(1.0, [750, 500]), [250, 500]);
    assert_eq!(shares(1.0, [500, 750]), [500, 250]);
    assert_eq!(shares(2.0, [750, 500]), [62, 250]);
    // What is full has the smallest share, and is not without one.
    assert_eq!(shares(1.0, [1000, 0]), [1, 900]);
    assert_eq!(shares(0.0, [750, 500]), [1000, 1000]);
}

#[test]
fn each_class_has_the_paths_of_its_own_weights() {
    // By latency over 2 and 5, by hops over the direct link.
    let links = both(&[(1, 4, 90), (1, 2, 10), (2, 5, 10), (5, 4, 10)]);
    let lists = links.iter().map(|(&origin, links)| {
        lsa(origin, 1, 1, &links.iter().map(|(&to, &latency)| (to, latency)).collect::<Vec<_>>())
    });
    let mut lsdb = Lsdb::new();
    for lsa in lists {
        let _newest = lsdb.insert(lsa);
    }
    let by_hops = Weights { latency: 0.0, hop: 3.0, ..Weights::default() };
    let weights = [by_hops, Weights::default(), Weights::default()];
    let mesh = Arc::new(MeshTopology::new(&lsdb, node(1), weights));
    let snapshot =
        PathComputer::new(2).handle_mesh(7, mesh, vec![(AdjacencyIndex(2), node(2))]).unwrap();
    let of = |class| {
        let set = snapshot.routes_to(class, node(4)).unwrap();
        set.routes().iter().map(|route| (nodes(route), route.cost)).collect::<Vec<_>>()
    };
    assert_eq!(of(TrafficClass::Control), [(vec![4], 3), (vec![2, 5, 4], 9)]);
    let by_latency = [(vec![2, 5, 4], 30), (vec![4], 90)];
    assert_eq!((of(TrafficClass::Priority), of(BULK)), (by_latency.to_vec(), by_latency.to_vec()));
    assert_eq!(nodes(snapshot.route_to(node(4)).unwrap()), [4], "control takes its own");
    // And so do backups: where the first link breaks, the other way.
    let backup =
        |class, first: u8| snapshot.backup(class, node(first), node(4)).map(|hops| hops.len());
    assert_eq!((backup(TrafficClass::Control, 4), backup(BULK, 2)), (Some(3), Some(1)));
}

#[test]
fn for_a_link_that_the_mesh_has_forgotten_the_best_path_is_the_backup() {
    let mut computer = PathComputer::new(3);
    let whole = both(&[(1, 2, 1), (2, 3, 1), (1, 4, 5), (4, 3, 5)]);
    let snapshot = settled(&mut computer, &whole);
    let backup = |snapshot: &RouteSnapshot, first: u8| snapshot.backup(BULK, node(first), node(3));
    let around = backup(&snapshot, 2).expect("over 4");
    assert_eq!(walk(&whole, &around), Some(vec![1, 4, 3]));
    let broken = both(&[(2, 3, 1), (1, 4, 5), (4, 3, 5)]);
    let snapshot = settled(&mut computer, &broken);
    assert_eq!(backup(&snapshot, 2), Some(around));
    assert_eq!(backup(&snapshot, 4), None, "that link is there, and no way round it");
    assert_eq!(backup(&snapshot, 9), snapshot.route_to(node(3)).map(|route| route.hops.clone()));
}

#[test]
fn the_pair_without_a_common_link_is_known_even_if_it_is_not_among_the_best() {
    // The best two share the link from 1 to 2.
    let links = both(&[(1, 2, 1), (2, 3, 1), (3, 4, 1), (2, 4, 3), (1, 5, 90), (5, 4, 90)]);
    let snapshot = settled(&mut PathComputer::new(2), &links);
    let set = snapshot.routes_to(BULK, node(4)).unwrap();
    assert_eq!(
        set.routes().iter().map(nodes).collect::<Vec<_>>(),
        [vec![2, 3, 4], vec![2, 4], vec![5, 4]]
    );
    assert_eq!(set.disjoint().unwrap().map(nodes), [vec![2, 3, 4], vec![5, 4]]);
    assert_eq!(set.routes()[2].weight, 0);
    let links = both(&[(1, 2, 1), (2, 3, 1), (3, 4, 1), (2, 4, 3)]);
    let snapshot = settled(&mut PathComputer::new(2), &links);
    assert!(snapshot.routes_to(BULK, node(4)).unwrap().disjoint().is_none());
}

#[test]
fn where_the_best_path_is_too_long_for_a_header_the_one_with_fewest_hops_is_taken() {
    let last = u8::try_from(HOPS_MAX).unwrap() + 2;
    let line: Vec<(u8, u8, u32)> = (1..last).map(|near| (near, near + 1, 1)).collect();
    let mut computer = PathComputer::new(3);
    let snapshot = settled(&mut computer, &both(&line));
    assert_eq!(routes(&snapshot, last - 1)[0].1.len(), HOPS_MAX);
    assert_eq!(routes(&snapshot, last), []);
    let links = both(&[&line[..], &[(1, 40, 5000)]].concat());
    let snapshot = settled(&mut computer, &links);
    let far = snapshot.routes_to(BULK, node(last)).unwrap().routes();
    assert_eq!((far.len(), far[0].hops.len(), far[0].cost), (1, 27, 5026));
    assert_eq!(snapshot.reachable().count(), usize::from(last) - 1);
    // It comes back into reach.
    let links = both(&[&line[..], &[(1, 40, 2)]].concat());
    let snapshot = settled(&mut computer, &links);
    assert_eq!(snapshot.routes_to(BULK, node(last)).unwrap().routes()[0].cost, 28);
}

/// Follows indices as relays do.
fn walk(links: &Links, hops: &[AdjacencyIndex]) -> Option<Vec<u8>> {
    let mut walked = vec![1];
    for hop in hops {
        let (from, to) = (*walked.last()?, u8::try_from(hop.0).ok()?);
        let counts = links.get(&from)?.contains_key(&to) && links.get(&to)?.contains_key(&from);
        walked.push(to);
        if !counts {
            return None;
        }
    }
    Some(walked)
}

fn check(links: &Links, snapshot: &RouteSnapshot, seed: u64) {
    for &to in links.keys().filter(|&&to| to != 1) {
        let set = snapshot.routes_to(BULK, node(to)).map(RouteSet::routes).unwrap_or_default();
        for route in set {
            let walked = walk(links, &route.hops).unwrap_or_else(|| panic!("{seed}: {route:?}"));
            assert_eq!((walked[0], *walked.last().unwrap()), (1, to), "seed {seed}");
            assert_eq!(walked[1..], nodes(route), "seed {seed}");
            let mut once = walked.clone();
            once.sort_unstable();
            once.dedup();
            assert_eq!(once.len(), walked.len(), "seed {seed}: a node twice");
        }
        let ids: std::collections::BTreeSet<PathId> = set.iter().map(|route| route.path).collect();
        assert_eq!(ids.len(), set.len(), "seed {seed}");
        for &neighbour in links[&1].keys() {
            let Some(hops) = snapshot.backup(BULK, node(neighbour), node(to)) else { continue };
            let walked = walk(links, &hops).unwrap_or_else(|| panic!("{seed}: backup {hops:?}"));
            assert_eq!((walked[0], *walked.last().unwrap()), (1, to), "seed {seed}");
            assert_ne!(walked[1], neighbour, "seed {seed}: the link");
            // Where only one end announces the link the mesh is without it, and the best path may lead
            // through that node.
            let is_link = links.get(&neighbour).is_some_and(|ends| ends.contains_key(&1));
            let avoided = to == neighbour || !walked.contains(&neighbour);
            assert!(!is_link || avoided, "seed {seed}: its far node");
        }
    }
}

/// A mesh with more nodes than are computed at once. Whatever goes while paths are still to be
/// computed: no stage has a path that is gone.
#[test]
fn what_is_kept_until_all_is_computed_is_there() {
    let mut kept = 0;
    for seed in 0..3 {
        let mut random = Random(seed);
        let count = 200_u8;
        let mut any = || 1 + u8::try_from(random.below(count.into())).unwrap();
        let ways: Vec<(u8, u8, u32)> = (1..=count)
            .flat_map(|at| [(at, at % count + 1, 3), (at, any(), 4)])
            .filter(|(a, b, _)| a != b)
            .collect();
        let mut links = both(&ways);
        let mut computer = PathComputer::new(3);
        settled(&mut computer, &links);
        for _ in 0..6 {
            // A link near this node goes: the paths to many wait.
            let near: Vec<u8> = links[&1].keys().copied().collect();
            let at = near[usize::try_from(random.next() >> 1).unwrap() % near.len()];
            let gone = links.get_mut(&at).unwrap().pop_first();
            links.get_mut(&1).unwrap().entry(at).and_modify(|latency| *latency += 1);
            let snapshot = first(&mut computer, &links);
            kept += u32::from(!snapshot.complete);
            check(&links, &snapshot, seed);
            if let Some((to, latency)) = gone {
                links.get_mut(&at).unwrap().insert(to, latency);
            }
            let Step::Working = computer.advance(1) else { continue };
            // A second one, that an earlier path takes which is kept until all is computed; both
            // come back before pairs are.
            let kept_route = (1..=count).find_map(|to| {
                let routes = snapshot.routes_to(BULK, node(to))?.routes();
                let nodes = nodes(routes.get(1)?);
                (nodes.len() > 3).then(|| [nodes[1], nodes[2]])
            });
            let again = kept_route.and_then(|[a, b]| {
                let latency = links.get_mut(&a)?.remove(&b)?;
                check(&links, &first(&mut computer, &links), seed);
                Some((a, b, latency))
            });
            if let Some((a, b, latency)) = again {
                links.get_mut(&a).unwrap().insert(b, latency);
            }
            check(&links, &first(&mut computer, &links), seed);
            settles_as_from_nothing(&mut computer, &links, seed);
        }
    }
    assert!(kept > 2, "{kept} stages were not the last ones");
}

/// All that there is of paths to a node but their ids.
type Bare = (Vec<(Vec<u8>, u64, u32)>, Option<[Vec<u8>; 2]>);

fn bare(snapshot: &RouteSnapshot, to: u8) -> Bare {
    let set = snapshot.routes_to(BULK, node(to)).cloned().unwrap_or_default();
    let disjoint = set.disjoint().map(|pair| pair.map(nodes));
    (set.routes().iter().map(|r| (nodes(r), r.cost, r.weight)).collect(), disjoint)
}

fn settles_as_from_nothing(computer: &mut PathComputer, links: &Links, seed: u64) {
    let (kept, fresh) = (settled(computer, links), settled(&mut PathComputer::new(3), links));
    for &to in links.keys() {
        assert_eq!(bare(&kept, to), bare(&fresh, to), "seed {seed}, to {to}");
    }
}

/// Whatever changes in whatever order, and however far the computation came: what is published
/// works, and what is published last is what a computation from nothing gives.
#[test]
fn every_stage_works_and_the_last_is_that_from_nothing() {
    for seed in 0..120 {
        let mut random = Random(seed);
        let count = 3 + u8::try_from(random.below(10)).unwrap();
        let mut links = both(&[(1, 2, 3)]);
        let mut computer = PathComputer::new(3);
        let mut lists: BTreeMap<PathId, (NodeId, Vec<AdjacencyIndex>)> = BTreeMap::new();
        for _ in 0..40 {
            for _ in 0..=random.below(3) {
                let [a, b] =
                    [(); 2].map(|()| 1 + u8::try_from(random.below(count.into())).unwrap());
                if a == b {
                    continue;
                }
                if random.percent(30) {
                    links.entry(a).or_default().remove(&b);
                } else {
                    let latency = u32::try_from(random.below(4)).unwrap();
                    links.entry(a).or_default().insert(b, latency);
                    links.entry(b).or_default().entry(a).or_insert(latency);
                }
            }
            let at_once = 1 + usize::try_from(random.below(4)).unwrap();
            let snapshots = if random.percent(50) {
                vec![first(&mut computer, &links)]
            } else {
                stages(&mut computer, &links, at_once)
            };
            for snapshot in &snapshots {
                check(&links, snapshot, seed);
                for (to, set) in links
                    .keys()
                    .filter_map(|&to| Some((node(to), snapshot.routes_to(BULK, node(to))?)))
                {
                    for route in set.routes() {
                        let list =
                            lists.entry(route.path).or_insert_with(|| (to, route.hops.clone()));
                        assert_eq!(*list, (to, route.hops.clone()), "seed {seed}: {route:?}");
                    }
                }
            }
        }
        settles_as_from_nothing(&mut computer, &links, seed);
    }
}
