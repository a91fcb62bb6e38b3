use hawser_wire::TrafficClass;

use super::Random;
use crate::{LinkMetrics, NodeFlags, Rib, Topology, Weights};

/// A mesh with many ties, whose classes weigh differently.
fn topology(random: &mut Random, nodes: u32, latencies: u64) -> Topology {
    let flags =
        |random: &mut Random| NodeFlags { stub: random.percent(4), overload: random.percent(4) };
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
    for seed in 0..150 {
        let mut random = Random(seed);
        let (nodes, latencies) =
            (2 + u32::try_from(random.below(40)).unwrap(), 1 + random.below(4));
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
                for (list, best) in first.paths.iter().zip(&fresh_first.paths) {
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
    let mut topology = Topology::new(vec![NodeFlags::default(); 3], [Weights::default(); 3]);
    let slow = LinkMetrics { latency_us: 9, ..LinkMetrics::default() };
    let fast = LinkMetrics { latency_us: 1, ..LinkMetrics::default() };
    for (a, b, metrics) in [(0, 1, fast), (1, 2, fast), (0, 2, slow)] {
        topology.add_link((a, b), metrics, metrics).unwrap();
    }
    let mut rib = Rib::new(&topology, 0, 4).unwrap();
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
    assert_eq!((fourth.generation, fourth.complete, costs(&fourth)), (4, true, vec![9]));
}
