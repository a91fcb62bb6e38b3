use hawser_wire::TrafficClass;

use super::Random;
use crate::{LinkMetrics, NodeFlags, Rib, Topology, Weights};

/// A mesh with many ties, whose classes weigh differently.
fn topology(random: &mut Random, nodes: u32, latencies: u64) -> Topology {
    let flags = |random: &mut Random| NodeFlags {
        stub: random.percent(4),
        overload: random.percent(4),
        left: false,
    };
    let by_hop = Weights { latency: 0.0, hop: 1.0, ..Weights::default() };
    let weights = [by_hop, Weights::default(), Weights::default()];
    let mut topology = Topology::new((0..nodes).map(|_| flags(random)).collect(), weights);
    for a in 0..nodes {
        for _ in 0..2 {
            let b = u32::try_from(random.below(u64::from(nodes))).unwrap();
            // What is there already, or leads to itself, is left out.
            let _refused =
                topology.add_link((a, b), metrics(random, latencies), metrics(random, latencies));
        }
    }
    topology
}

fn metrics(random: &mut Random, latencies: u64) -> LinkMetrics {
    LinkMetrics {
        latency_us: u32::try_from(random.below(latencies)).unwrap(),
        admin: u32::try_from(random.below(3) / 2).unwrap(),
        ..LinkMetrics::default()
    }
}

/// A link gets other metrics in one direction, goes, or comes; answers the arcs that changed.
fn change(random: &mut Random, topology: &mut Topology, latencies: u64) -> Vec<(u32, u32)> {
    let nodes = u64::try_from(topology.nodes()).unwrap();
    let arcs: Vec<(u32, u32)> = topology.arcs().map(|(ends, _)| ends).collect();
    if arcs.is_empty() || random.percent(20) {
        let [a, b] = [(); 2].map(|()| u32::try_from(random.below(nodes)).unwrap());
        let (ab, ba) = (metrics(random, latencies), metrics(random, latencies));
        return topology.add_link((a, b), ab, ba).map_or(vec![], |()| vec![(a, b), (b, a)]);
    }
    let (a, b) = arcs[usize::try_from(random.below(u64::try_from(arcs.len()).unwrap())).unwrap()];
    if random.percent(25) {
        topology.cut(a, b);
        return vec![(a, b), (b, a)];
    }
    topology.set_metrics(a, b, metrics(random, latencies));
    vec![(a, b)]
}

#[test]
fn routes_kept_up_to_date_are_those_computed_from_nothing() {
    for seed in 0..200 {
        let mut random = Random(seed);
        // Ties everywhere, or hardly any.
        let latencies = if seed < 150 { 1 + random.below(4) } else { 1000 };
        let nodes = 2 + u32::try_from(random.below(40)).unwrap();
        let mut topology = topology(&mut random, nodes, latencies);
        let k = 1 + usize::try_from(random.below(5)).unwrap();
        let mut rib = Rib::new(&topology, 0, k).unwrap();
        rib.compute_paths(usize::MAX);
        for step in 0..40 {
            for (from, to) in change(&mut random, &mut topology, latencies) {
                rib.handle_arc(from, to, topology.metrics(from, to)).unwrap();
            }
            let mut fresh = Rib::new(&topology, 0, k).unwrap();
            let (first, fresh_first) = (rib.publish(), fresh.publish());
            for class in TrafficClass::ALL {
                let (first, fresh_first) = (first.class(class), fresh_first.class(class));
                assert_eq!(first.tree, fresh_first.tree, "seed {seed}, step {step}");
                assert_eq!(first.backups, fresh_first.backups, "seed {seed}, step {step}");
                for (list, best) in first.paths.iter().zip(fresh_first.paths.iter()) {
                    assert!(list.key(0) == best.key(0) && list.nodes(0).eq(best.nodes(0)));
                }
            }
            // Sometimes the next change comes before all paths are there.
            let some = usize::try_from(random.below(2 * u64::from(nodes))).unwrap();
            if rib.compute_paths(some) {
                fresh.compute_paths(usize::MAX);
                let (kept, fresh) = (rib.publish(), fresh.publish());
                assert!(kept.complete && fresh.complete);
                for class in TrafficClass::ALL {
                    let (kept, fresh) = (kept.class(class), fresh.class(class));
                    assert_eq!(kept, fresh, "seed {seed}, step {step}, {class:?}");
                }
            }
        }
    }
}

#[test]
fn published_routes_stay_as_they_were() {
    let mut topology = Topology::new(vec![NodeFlags::default(); 4], [Weights::default(); 3]);
    for (a, b, latency_us) in [(0, 1, 1), (1, 2, 1), (0, 2, 9), (0, 3, 20), (3, 2, 20)] {
        let metrics = LinkMetrics { latency_us, ..LinkMetrics::default() };
        topology.add_link((a, b), metrics, metrics).unwrap();
    }
    let mut rib = Rib::new(&topology, 0, 2).unwrap();
    let first = rib.publish();
    assert_eq!((first.generation, first.complete), (1, false));
    assert_eq!(first.class(TrafficClass::Bulk).paths[2].len(), 1);
    assert!(rib.compute_paths(usize::MAX));
    let second = rib.publish();
    rib.handle_arc(0, 1, None).unwrap();
    rib.handle_arc(1, 0, None).unwrap();
    let third = rib.publish();
    assert!(rib.compute_paths(usize::MAX));
    let fourth = rib.publish();
    let costs = |routes: &crate::Routes| -> Vec<u64> {
        let list = &routes.class(TrafficClass::Bulk).paths[2];
        (0..list.len()).map(|path| list.key(path).unwrap().cost()).collect()
    };
    assert_eq!((second.generation, second.complete, costs(&second)), (2, true, vec![2, 9]));
    assert_eq!((third.generation, third.complete, costs(&third)), (3, false, vec![9]));
    assert_eq!((fourth.generation, fourth.complete, costs(&fourth)), (4, true, vec![9, 40]));
}

/// A list of paths that a change cannot have made another one is not computed again: it is whole in
/// the first stage already.
#[test]
fn what_cannot_have_changed_does_not_wait() {
    let mut topology = Topology::new(vec![NodeFlags::default(); 4], [Weights::default(); 3]);
    let metrics = |latency_us| LinkMetrics { latency_us, ..LinkMetrics::default() };
    let links = [(0, 1, 1), (1, 2, 1), (0, 2, 9), (0, 3, 20), (3, 2, 20)];
    for (a, b, latency_us) in links {
        topology.add_link((a, b), metrics(latency_us), metrics(latency_us)).unwrap();
    }
    // To 2 over 1, straight, and over 3, with costs of 2, 9 and 40.
    let mut rib = Rib::new(&topology, 0, 2).unwrap();
    rib.compute_paths(usize::MAX);
    let mut costs_after = |from, to, after: Option<u32>| {
        rib.handle_arc(from, to, after.map(metrics).as_ref()).unwrap();
        let first = rib.publish();
        rib.compute_paths(usize::MAX);
        let costs = |routes: &crate::Routes| -> Vec<u64> {
            let list = &routes.class(TrafficClass::Bulk).paths[2];
            (0..list.len()).map(|path| list.key(path).unwrap().cost()).collect()
        };
        let last = rib.publish();
        (costs(&first), costs(&last))
    };
    let whole = |costs: [u64; 2]| (costs.to_vec(), costs.to_vec());
    // Worse, but still before all others.
    assert_eq!(costs_after(0, 1, Some(5)), whole([6, 9]));
    // Worse, and the other of the two is the better one now.
    assert_eq!(costs_after(0, 1, Some(9)), whole([9, 10]));
    // So bad that a third one may be better, and is.
    assert_eq!(costs_after(0, 1, Some(70)), (vec![9], vec![9, 40]));
    // Better, too little to matter.
    assert_eq!(costs_after(0, 1, Some(60)), whole([9, 40]));
    // Better than one of them; what is gone is not known to be the best of the others.
    assert_eq!(costs_after(0, 1, Some(3)), (vec![4], vec![4, 9]));
    assert_eq!(costs_after(0, 1, None), (vec![9], vec![9, 40]));
}

/// What only a walk that comes back to where it was would gain by changes nothing.
#[test]
fn an_arc_back_to_where_its_begin_is_reached_from_makes_nothing_wait() {
    let mut topology = Topology::new(vec![NodeFlags::default(); 4], [Weights::default(); 3]);
    let metrics = |latency_us| LinkMetrics { latency_us, ..LinkMetrics::default() };
    for (a, b, there, back) in
        [(0, 1, 1, 1), (1, 2, 1, 10), (1, 3, 1, 1), (0, 3, 50, 50), (0, 2, 50, 50)]
    {
        topology.add_link((a, b), metrics(there), metrics(back)).unwrap();
    }
    let mut rib = Rib::new(&topology, 0, 2).unwrap();
    rib.compute_paths(usize::MAX);
    // To 3 over 1, and straight: from 2 over 1 it would be dearer, since 2 is not reached over 1 then.
    rib.handle_arc(2, 1, Some(&metrics(5))).unwrap();
    assert!(rib.is_complete());
    // But straight to 2, and back over the arc, is a way to 1 and to 3 as soon as it is cheap enough.
    rib.handle_arc(0, 2, Some(&metrics(20))).unwrap();
    assert!(!rib.is_complete());
}
