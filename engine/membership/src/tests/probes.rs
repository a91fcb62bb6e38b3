//! Probing, death, leaving, and that nobody is accused without reason.

use std::collections::BTreeMap;

use super::mesh::Mesh;
use super::{node, number};
use crate::{Liveness, MEMBERSHIP_MESSAGE_BYTES_MAX};

#[test]
fn each_member_is_probed_once_in_each_round() {
    let mut mesh = Mesh::new(1, 40, 0);
    mesh.run_for(2_000);
    mesh.pings.clear();
    let (begin, sent) = (mesh.now, mesh.sent);
    mesh.run_for(4_000);
    assert_eq!(mesh.sent - sent, 2 * 40 * 40, "a ping and an ack each, and nothing else");
    let mut last = BTreeMap::new();
    for &(at, from, to) in &mesh.pings {
        assert_ne!(from, to);
        let before = last.insert(to, at).unwrap_or(begin);
        let gap = at.saturating_since(before).as_millis();
        assert!(gap <= 200, "{to} was not probed for {gap} ms");
    }
    assert_eq!(last.len(), 40);
    assert_eq!(mesh.pings.len(), 40 * 40);
    // And each one probes each other one within one pass of the ring.
    let mut pairs: Vec<_> = mesh.pings.iter().map(|(_, from, to)| (*from, *to)).collect();
    pairs.sort_unstable();
    pairs.dedup();
    assert_eq!(pairs.len(), 40 * 39);
    assert_eq!(mesh.events, []);
    assert_eq!(mesh.rejections, []);
}

#[test]
fn equal_seeds_give_equal_histories() {
    let history = |seed| {
        let mut mesh = Mesh::new(seed, 20, 10);
        mesh.run_for(1_000);
        mesh.kill(3);
        mesh.run_for(3_000);
        (mesh.events, mesh.pings, mesh.sent)
    };
    assert_eq!(history(5), history(5));
    assert_ne!(history(5).2, history(6).2);
}

#[test]
fn all_hear_of_a_death_soon() {
    for seed in 0..12 {
        let mut mesh = Mesh::new(seed, 50, 5);
        mesh.run_for(1_500 + seed * 7);
        mesh.kill(17);
        let ms = mesh.run_until(17, Liveness::Dead, 2_000);
        assert!(ms <= 1_000, "seed {seed}: {ms} ms");
        mesh.run_for(2_000);
        assert!(mesh.deaths().iter().all(|(_, dead)| *dead == node(17)), "seed {seed}");
        assert_eq!(mesh.deaths().len(), 49, "seed {seed}: each says it once");
        let suspected = |(_, at, event): &&(_, u16, crate::Event)| {
            event.liveness == Liveness::Suspect && event.node == node(17) && *at == 4
        };
        assert_eq!(mesh.events.iter().filter(suspected).count(), 1, "seed {seed}");
    }
}

#[test]
fn two_and_three_nodes_are_a_mesh() {
    for count in [2, 3] {
        for seed in 0..10 {
            let mut mesh = Mesh::new(seed, count, 0);
            mesh.run_for(1_000);
            assert_eq!(mesh.events, [], "{count}, seed {seed}");
            mesh.kill(1);
            let ms = mesh.run_until(1, Liveness::Dead, 2_000);
            assert!((100..=600).contains(&ms), "{count}, seed {seed}: {ms} ms");
        }
    }
}

#[test]
fn a_node_alone_wants_nothing() {
    let mut mesh = Mesh::new(1, 1, 0);
    assert_eq!(mesh.machines[&0].poll_timeout(), None);
    mesh.start(1, 1);
    assert!(mesh.machines[&0].poll_timeout().is_some());
    let now = mesh.now;
    mesh.machines.get_mut(&0).unwrap().dismiss(now, node(1));
    assert_eq!(mesh.machines[&0].poll_timeout(), None);
}

#[test]
fn nobody_is_declared_dead_under_heavy_loss() {
    for seed in 0..3 {
        let mut mesh = Mesh::new(seed, 40, 15);
        mesh.run_for(6_000);
        assert_eq!(mesh.deaths(), [], "seed {seed}");
        let suspected = mesh.events.iter().any(|(_, _, e)| e.liveness == Liveness::Suspect);
        assert!(suspected, "seed {seed}: the loss does nothing");
    }
}

#[test]
fn one_that_leaves_is_not_accused() {
    for seed in 0..20 {
        let mut mesh = Mesh::new(seed, 30, 5);
        mesh.run_for(1_000);
        mesh.events.clear();
        let now = mesh.now;
        mesh.machines.get_mut(&8).unwrap().leave(now);
        mesh.run_for(100);
        mesh.kill(8);
        mesh.run_until(8, Liveness::Left, 500);
        mesh.run_for(3_000);
        assert!(mesh.everyone_says(8, Liveness::Left), "seed {seed}");
        assert_eq!(mesh.deaths(), [], "seed {seed}");
    }
}

#[test]
fn a_newcomer_hears_of_the_dead_from_one_member() {
    for seed in 0..20 {
        let mut mesh = Mesh::new(seed, 30, 5);
        for dead in 20..25 {
            mesh.kill(dead);
        }
        mesh.run_for(4_000);
        mesh.start(30, 1);
        // The dead are admitted, and not known to be dead.
        let now = mesh.now;
        let newcomer = mesh.machines.get_mut(&30).unwrap();
        for dead in 20..25 {
            newcomer.admit(now, node(dead), hawser_wire::Incarnation(1)).unwrap();
        }
        mesh.events.clear();
        mesh.run_for(400);
        for dead in 20..25 {
            assert_eq!(mesh.liveness(30, dead), Liveness::Dead, "seed {seed}: {dead}");
        }
        let wrongly = mesh.deaths().iter().any(|(_, dead)| !(20..25).contains(&number(*dead)));
        assert!(!wrongly, "seed {seed}");
    }
}

#[test]
fn messages_fit_into_the_largest_that_may_be_sent() {
    let mut mesh = Mesh::new(3, 520, 0);
    mesh.tape = Some(Vec::new());
    mesh.run_for(30);
    let tape = mesh.tape.take().unwrap();
    let longest = tape.iter().map(|(_, _, bytes)| bytes.len()).max();
    assert!(longest.is_some_and(|len| (16_000..MEMBERSHIP_MESSAGE_BYTES_MAX).contains(&len)));
    assert_eq!(mesh.rejections.iter().filter(|(_, r)| !is_too_much(r)).count(), 0);
}

fn is_too_much(reason: &crate::RejectReason) -> bool {
    matches!(reason, crate::RejectReason::TooMuch { .. })
}
