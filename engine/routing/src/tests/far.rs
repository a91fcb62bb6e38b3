//! Destinations whose best path has more hops than a route header takes: they have the path with the
//! fewest hops alone, and keep being right while arcs change.

use hawser_wire::{HOPS_MAX, TrafficClass};

use crate::{LinkMetrics, NodeFlags, NodeNumber, Rib, Topology, Weights};

/// The last node of the chain: over it the best path there has six hops too many.
const END: NodeNumber = 70;
const _: () = assert!(HOPS_MAX == 64, "as the chain is made");

fn metrics(latency_us: u32) -> LinkMetrics {
    LinkMetrics { latency_us, ..LinkMetrics::default() }
}

/// A chain from 0 to 70 that costs 1 a hop, a link from one end to the other, and a way round by 71
/// that costs 4,000.
struct Chain {
    topology: Topology,
    rib: Rib,
}

impl Chain {
    fn new(straight: u32) -> Self {
        let flags = vec![NodeFlags::default(); 72];
        let mut topology = Topology::new(flags, [Weights::default(); 3]);
        let chain = (0..END).map(|node| (node, node + 1, 1));
        for (a, b, latency_us) in
            chain.chain([(0, END, straight), (0, 71, 2_000), (71, END, 2_000)])
        {
            topology.add_link((a, b), metrics(latency_us), metrics(latency_us)).unwrap();
        }
        let mut rib = Rib::new(&topology, 0, 2).unwrap();
        rib.compute_paths(usize::MAX);
        Self { topology, rib }
    }

    /// What each arc is now, the first stage and the last; both are what a computation from nothing
    /// gives.
    fn change(&mut self, arcs: &[(NodeNumber, NodeNumber)]) {
        for &(from, to) in arcs {
            self.rib.handle_arc(from, to, self.topology.metrics(from, to)).unwrap();
        }
        let mut fresh = Rib::new(&self.topology, 0, 2).unwrap();
        let best = |rib: &mut Rib| {
            let routes = rib.publish();
            let lists = routes.class(TrafficClass::Bulk).paths.iter();
            lists.map(|list| (list.key(0), list.nodes(0).collect())).collect::<Vec<(_, Vec<_>)>>()
        };
        assert_eq!(best(&mut self.rib), best(&mut fresh), "the first stage");
        self.rib.compute_paths(usize::MAX);
        fresh.compute_paths(usize::MAX);
        let (kept, fresh) = (self.rib.publish(), fresh.publish());
        assert_eq!(kept.class(TrafficClass::Bulk), fresh.class(TrafficClass::Bulk));
    }

    fn set(&mut self, from: NodeNumber, to: NodeNumber, latency_us: u32) {
        self.topology.set_metrics(from, to, metrics(latency_us));
        self.change(&[(from, to)]);
    }

    fn cut(&mut self, a: NodeNumber, b: NodeNumber) {
        self.topology.cut(a, b);
        self.change(&[(a, b), (b, a)]);
    }

    fn link(&mut self, a: NodeNumber, b: NodeNumber, latency_us: u32) {
        self.topology.add_link((a, b), metrics(latency_us), metrics(latency_us)).unwrap();
        self.change(&[(a, b), (b, a)]);
    }

    /// Costs and hops of the paths to a node.
    fn paths(&mut self, to: NodeNumber) -> Vec<(u64, u64)> {
        let routes = self.rib.publish();
        let list = &routes.class(TrafficClass::Bulk).paths[usize::try_from(to).unwrap()];
        (0..list.len()).filter_map(|path| list.key(path)).map(|k| (k.cost(), k.hops())).collect()
    }
}

#[test]
fn who_is_too_far_has_the_path_with_the_fewest_hops_alone() {
    let mut chain = Chain::new(1_000);
    assert_eq!(chain.paths(64).first(), Some(&(64, 64)));
    assert_eq!(chain.paths(65), [(1_005, 6)]);
    assert_eq!(chain.paths(END), [(1_000, 1)]);
}

#[test]
fn an_arc_that_goes_or_comes_makes_other_paths_the_shortest() {
    let mut chain = Chain::new(1_000);
    chain.cut(0, END);
    assert_eq!((chain.paths(END), chain.paths(69)), (vec![(4_000, 2)], vec![(4_001, 3)]));
    chain.cut(0, 71);
    // No way is short enough.
    assert_eq!((chain.paths(END), chain.paths(65)), (vec![], vec![]));
    assert_eq!(chain.paths(64), [(64, 64)]);
    chain.link(0, 69, 3_000);
    assert_eq!((chain.paths(69), chain.paths(END)), (vec![(3_000, 1)], vec![(3_001, 2)]));
}

#[test]
fn an_arc_that_costs_another_sum_is_told_by_the_paths_that_take_it() {
    let mut chain = Chain::new(1_000);
    // Dearer, cheaper, and not the first arc of the path.
    chain.set(0, END, 1_500);
    assert_eq!((chain.paths(END), chain.paths(69)), (vec![(1_500, 1)], vec![(1_501, 2)]));
    chain.set(0, END, 900);
    assert_eq!((chain.paths(END), chain.paths(69)), (vec![(900, 1)], vec![(901, 2)]));
    chain.set(END, 69, 30);
    assert_eq!((chain.paths(END), chain.paths(69)), (vec![(900, 1)], vec![(930, 2)]));
    assert_eq!(chain.paths(68), [(931, 3)]);
    // One that none of them takes.
    chain.set(10, 11, 2);
    assert_eq!((chain.paths(END), chain.paths(69)), (vec![(900, 1)], vec![(930, 2)]));
}

#[test]
fn who_is_too_far_no_more_has_all_its_paths() {
    // The best path becomes a short one, as it gets better, and as the long one gets worse.
    let mut chain = Chain::new(1_000);
    chain.set(0, END, 5);
    assert_eq!(chain.paths(END), [(5, 1)], "the second one is too long");
    let mut chain = Chain::new(1_000);
    chain.set(10, 11, 9_000);
    assert_eq!(chain.paths(END), [(1_000, 1), (4_000, 2)]);
    let mut chain = Chain::new(1_000);
    chain.cut(10, 11);
    assert_eq!(chain.paths(END), [(1_000, 1), (4_000, 2)]);
}

#[test]
fn who_becomes_too_far_keeps_the_path_with_the_fewest_hops() {
    // As the short way gets worse, and as the long one gets better.
    let mut chain = Chain::new(5);
    assert_eq!(chain.paths(69).len(), 1, "the chain is too long to be the second one");
    chain.set(0, END, 1_000);
    assert_eq!((chain.paths(END), chain.paths(69)), (vec![(1_000, 1)], vec![(1_001, 2)]));
    let mut chain = Chain::new(1_000);
    chain.set(10, 11, 9_000);
    assert_eq!(chain.paths(END).len(), 2);
    chain.set(10, 11, 1);
    assert_eq!(chain.paths(END), [(1_000, 1)]);
    // Some that were too far all along, and one more.
    chain.set(64, 65, 1);
    let mut chain = Chain::new(67);
    assert_eq!(chain.paths(END).first(), Some(&(67, 1)));
    chain.set(0, END, 69);
    assert_eq!(chain.paths(69), [(70, 2)], "by the chain it is 69 hops away, and cheaper");
    chain.set(0, END, 71);
    assert_eq!(chain.paths(END), [(71, 1)]);
}
