//! Meshes of each family under each fault, and each checker against something broken on purpose.

#![expect(
    clippy::arithmetic_side_effects,
    reason = "a test that overflows or misses fails, as it should"
)]

mod checkers;

use super::simulation::Scale;
use super::*;
use crate::violation::{Failure, Property};

/// Stands in for Ed25519: as good against mistakes, and quick. The command has real keys.
#[derive(Debug)]
struct TestKeys(u64);

fn mix(bytes: impl IntoIterator<Item = u8>) -> [u8; 32] {
    let mut words = [1_u64, 2, 3, 4];
    for byte in bytes {
        for word in &mut words {
            let mixed = (*word ^ u64::from(byte)).wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            *word = mixed ^ (mixed >> 27);
        }
    }
    let mut out = [0; 32];
    for (to, word) in out.chunks_mut(8).zip(words) {
        to.copy_from_slice(&(word ^ (word >> 29)).to_le_bytes());
    }
    out
}

impl MeshKeys for TestKeys {
    fn public_key(&self, node: usize) -> [u8; 32] {
        mix(self.0.to_le_bytes().into_iter().chain(node.to_le_bytes()).chain([7; 64]))
    }

    fn node_id(&self, public_key: &[u8; 32]) -> hawser_wire::NodeId {
        hawser_wire::NodeId::from_bytes(public_key[..16].try_into().unwrap())
    }

    fn sign(&self, node: usize, message: &[u8]) -> [u8; 64] {
        let mut signature = [0; 64];
        let key = self.public_key(node);
        signature[..32].copy_from_slice(&mix(key.into_iter().chain(message.iter().copied())));
        signature
    }

    fn verify(&self, public_key: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> bool {
        signature[..32] == mix(public_key.iter().chain(message).copied())
    }
}

fn mesh(kind: GraphKind, nodes: usize, faults: MeshFaults, seed: u64) -> MeshSimulation {
    let graph = MeshGraph::draw(kind, nodes, seed);
    MeshSimulation::new(&graph, faults, seed, Box::new(TestKeys(seed)))
}

fn run(simulation: MeshSimulation) -> MeshSummary {
    match simulation.run(&mut |_| {}) {
        Ok(summary) => summary,
        Err(failure) => {
            let events: Vec<String> = failure.recent.iter().map(ToString::to_string).collect();
            panic!("{failure}\n{}", events.join("\n"));
        }
    }
}

const CUT: MeshFaults = MeshFaults { link_cuts: 1, node_kills: 0, partitions: 0, loss_ppm: 0 };
const KILL: MeshFaults = MeshFaults { link_cuts: 0, node_kills: 1, ..CUT };
const PART: MeshFaults = MeshFaults { link_cuts: 0, partitions: 1, ..CUT };
const LOSS: MeshFaults = MeshFaults { link_cuts: 0, loss_ppm: 100_000, ..CUT };

/// A link cut and a death among fifty nodes, a partition and loss among fewer.
fn check_family(kind: GraphKind, seed: u64) {
    let lossy = MeshFaults { node_kills: 1, ..LOSS };
    for (nodes, faults) in [(50, MeshFaults { node_kills: 1, ..CUT }), (16, PART), (16, lossy)] {
        let summary = run(mesh(kind, nodes, faults, seed));
        let events = 2 * (faults.link_cuts + faults.node_kills + faults.partitions);
        assert_eq!(summary.events, u64::from(events), "{summary:?}");
        assert_eq!(summary.false_positives, 0, "{summary:?}");
        let known = summary.death_known_ms_max.or(summary.parted_known_ms_max);
        assert!(known.is_some_and(|ms| ms > 1000), "{summary:?}");
        assert!(summary.pairs > 0 && summary.convergence_ms_p99 > 1.0, "{summary:?}");
    }
}

/// As large meshes are simulated.
#[test]
fn a_mesh_of_trees_that_is_there_already_bears_every_fault() {
    let faults = MeshFaults { node_kills: 1, partitions: 1, ..CUT };
    for trees in [true, false] {
        let graph = MeshGraph::draw(GraphKind::Ring, 30, 9);
        let (keys, scale) = (Box::new(TestKeys(9)), Scale { full_start: true, trees });
        let summary = run(MeshSimulation::at_scale(&graph, faults, 9, keys, scale));
        assert_eq!((summary.events, summary.start_ms), (6, None), "{summary:?}");
        assert!(summary.signatures < 200, "those of the start are not checked: {summary:?}");
    }
}

#[test]
fn a_waxman_graph_bears_every_fault() {
    check_family(GraphKind::Waxman, 1);
}

#[test]
fn a_barabasi_albert_graph_bears_every_fault() {
    check_family(GraphKind::BarabasiAlbert, 2);
}

#[test]
fn a_ring_bears_every_fault() {
    check_family(GraphKind::Ring, 3);
}

#[test]
fn a_fat_tree_bears_every_fault() {
    check_family(GraphKind::FatTree, 4);
}

#[test]
fn a_seed_is_a_history() {
    let faults = MeshFaults { link_cuts: 1, node_kills: 1, partitions: 0, loss_ppm: 20_000 };
    let history = |seed| run(mesh(GraphKind::Ring, 12, faults, seed));
    assert_eq!(history(7), history(7));
    assert_ne!(history(7).trace_hash, history(8).trace_hash);
}

#[test]
fn each_signature_is_checked_once() {
    let summary = run(mesh(GraphKind::Waxman, 20, MeshFaults::default(), 3));
    // Each node has said something a few times at the start: as links came up.
    assert!((20..=200).contains(&summary.signatures), "{summary:?}");
}

/// Breaks one thing; a checker must see it, and name nothing else.
fn check(mutation: MeshMutation, faults: MeshFaults, expected: &[Property]) {
    let simulation = mesh(GraphKind::Ring, 16, faults, 5).with_mutation(mutation);
    let failure: Failure = *simulation.run(&mut |_| {}).expect_err("it is noticed");
    assert!(expected.contains(&failure.violation.property), "{mutation:?}: {failure}");
    assert!(!failure.recent.is_empty());
    assert_eq!(failure.loops(), u64::from(mutation == MeshMutation::Loop));
}

#[test]
fn a_node_that_hears_no_link_state_is_noticed() {
    check(MeshMutation::DeafToLinkState, CUT, &[Property::Convergence]);
}

#[test]
fn a_node_that_keeps_its_old_paths_is_noticed() {
    check(MeshMutation::StalePaths, KILL, &[Property::Convergence]);
}

#[test]
fn a_false_verdict_is_noticed() {
    check(MeshMutation::DeafToMembers, LOSS, &[Property::NoFalseVerdict]);
    check(MeshMutation::DeafToMembers, MeshFaults::default(), &[Property::NoFalseVerdict]);
}

#[test]
fn a_death_that_nobody_hears_of_is_noticed() {
    check(MeshMutation::NoVerdicts, KILL, &[Property::Membership]);
}

#[test]
fn a_link_that_stays_away_is_noticed() {
    check(MeshMutation::NeverHeal, CUT, &[Property::Convergence]);
}

#[test]
fn a_frame_that_comes_back_is_noticed() {
    check(MeshMutation::Loop, MeshFaults::default(), &[Property::NoLoop]);
}

#[test]
fn frames_that_vanish_are_noticed() {
    check(MeshMutation::Swallow, CUT, &[Property::NoBlackHole]);
}

#[test]
fn a_wrong_cost_is_noticed() {
    check(MeshMutation::Overprice, CUT, &[Property::Paths]);
}

#[test]
fn a_message_that_arrives_damaged_is_noticed() {
    check(MeshMutation::Truncate, CUT, &[Property::NoFalseAccusation]);
    check(MeshMutation::TruncateMembers, MeshFaults::default(), &[Property::NoFalseAccusation]);
}

#[test]
fn a_verdict_on_the_wrong_node_is_noticed() {
    check(MeshMutation::Confuse, KILL, &[Property::Membership]);
}

#[test]
fn a_member_that_is_forgotten_is_noticed() {
    check(MeshMutation::Forget, CUT, &[Property::Membership]);
}

#[test]
#[should_panic(expected = "each node has a key of its own")]
fn keys_that_are_not_different_are_noticed() {
    #[derive(Debug)]
    struct SameKeys(TestKeys);
    impl MeshKeys for SameKeys {
        fn public_key(&self, _: usize) -> [u8; 32] {
            self.0.public_key(0)
        }
        fn node_id(&self, public_key: &[u8; 32]) -> hawser_wire::NodeId {
            self.0.node_id(public_key)
        }
        fn sign(&self, node: usize, message: &[u8]) -> [u8; 64] {
            self.0.sign(node, message)
        }
        fn verify(&self, public_key: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> bool {
            self.0.verify(public_key, message, signature)
        }
    }
    let graph = MeshGraph::draw(GraphKind::Ring, 5, 1);
    let _ = MeshSimulation::new(&graph, CUT, 1, Box::new(SameKeys(TestKeys(1))));
}

/// Advertisements end after an hour unless their origins renew them.
#[test]
fn a_mesh_lives_longer_than_what_its_nodes_have_said() {
    let mut simulation = mesh(GraphKind::Ring, 4, MeshFaults::default(), 2);
    simulation.start();
    let end = simulation.now().saturating_add(std::time::Duration::from_secs(2 * 3600 + 60));
    simulation.run_until(end);
    assert_eq!(simulation.disagreement(), None);
    simulation.check_paths();
    assert_eq!(simulation.violation, None);
}

#[test]
fn paths_are_computed_for_who_uses_them_and_are_the_same() {
    // Two nodes that use their paths all the time, and never until the end.
    let faults = MeshFaults { partitions: 1, ..CUT };
    let history = |always: bool| {
        let mut simulation = mesh(GraphKind::Waxman, 20, faults, 4);
        simulation.always_compute = always;
        run(simulation)
    };
    assert_eq!(history(true), history(false));
}

/// A mesh as a topology file gives it: links between numbers, and those that carry nothing for others.
fn given(nodes: u32, links: &[(u32, u32)], stubs: &[u32], faults: MeshFaults) -> MeshSummary {
    use hawser_routing::{LinkMetrics, NodeFlags, Topology, Weights};
    let flags = |node| NodeFlags { stub: stubs.contains(&node), ..NodeFlags::default() };
    let mut topology = Topology::new((0..nodes).map(flags).collect(), [Weights::default(); 3]);
    for &ends in links {
        let metrics = LinkMetrics { latency_us: 700, ..LinkMetrics::default() };
        topology.add_link(ends, metrics, metrics).unwrap();
    }
    let graph = MeshGraph::of_topology(&topology);
    run(MeshSimulation::new(&graph, faults, 1, Box::new(TestKeys(1))))
}

#[test]
fn given_meshes_may_be_small_in_pieces_and_have_nodes_that_carry_nothing() {
    let faults = MeshFaults { node_kills: 1, ..CUT };
    assert_eq!(given(2, &[(0, 1)], &[], faults).events, 4);
    let pieces = given(6, &[(0, 1), (1, 2), (0, 2), (3, 4), (4, 5)], &[], faults);
    assert_eq!((pieces.events, pieces.false_positives), (4, 0));
    // The death of one is no partition, though the mesh was in pieces before.
    let square = [(0, 1), (1, 2), (2, 3), (3, 0), (0, 2), (1, 3)];
    let dead = given(5, &square, &[], KILL);
    assert!(dead.death_known_ms_max.is_some() && dead.parted_known_ms_max.is_none(), "{dead:?}");
    // A partition parts something, wherever it is drawn; where there is nothing to part it is none.
    let parted = given(9, &square, &[], PART);
    assert_eq!((parted.events, parted.parted_known_ms_max.is_some()), (2, true), "{parted:?}");
    assert_eq!(given(3, &[], &[], PART).events, 0);
    // 1 stands between 0 and 2, and is a stub: they have no path to each other.
    assert_eq!(given(4, &[(0, 1), (1, 2), (2, 3)], &[1], CUT).events, 2);
    assert_eq!(given(3, &[], &[], MeshFaults::default()).events, 0);
}
