//! Whom members probe while one of them says rounds as it likes.

use std::collections::BTreeMap;

use super::mesh::Mesh;
use super::{node, version};
use crate::{Liveness, Message, MessageBody};

/// Who lies, and who is not to be probed.
const LIAR: u16 = 2;
const VICTIM: u16 = 11;

/// Says a round to a member.
fn say(mesh: &mut Mesh, to: u16, round: u32) {
    let (sender, body) = (version(1, 0), MessageBody::Gossip);
    let message = Message { sender, round, body, claims: Vec::new() };
    mesh.fly(LIAR, to, message.encode());
}

/// The round, up to a pass of the ring, in which `prober` probes the victim.
fn round_of(count: u16, prober: u16) -> u32 {
    let before = |of: u16| (0..count).filter(|other| node(*other) < node(of)).count();
    let (own, victim) = (before(prober), before(VICTIM));
    let place = victim - usize::from(victim > own);
    let others = usize::from(count) - 1;
    u32::try_from((place + others - own) % others).unwrap()
}

fn honest(count: u16) -> impl Iterator<Item = u16> {
    (0..count).filter(|number| *number != LIAR)
}

/// A mesh that runs, in which nothing is lost, and what is sent first comes first.
fn mesh(seed: u64, count: u16) -> Mesh {
    let mut mesh = Mesh::new(seed, count, 0);
    mesh.delay_us_max = 1;
    // It says nothing of the victim either.
    let now = mesh.now;
    mesh.machines.get_mut(&LIAR).unwrap().dismiss(now, node(VICTIM));
    mesh.run_for(2_000);
    mesh.pings.clear();
    mesh
}

/// How often others than the liar have probed the victim.
fn probes(mesh: &Mesh) -> usize {
    let probes = mesh.pings.iter().filter(|(_, from, to)| (*from != LIAR, *to) == (true, VICTIM));
    probes.count()
}

fn rounds_ahead(mesh: &Mesh) -> u64 {
    honest(u16::try_from(mesh.machines.len()).unwrap())
        .map(|number| mesh.machines[&number].rejected().rounds_ahead)
        .sum()
}

/// Rounds a pass ahead, ever again, in which the liar alone would probe the victim.
fn race(mesh: &mut Mesh, count: u16, ms: u64) {
    let others = u32::from(count) - 1;
    for lie in 0..u32::try_from(ms / 50).unwrap() {
        let round = round_of(count, LIAR) + others * (1000 + lie);
        honest(count).for_each(|to| say(mesh, to, round));
        mesh.run_for(50);
    }
}

/// Once around all rounds, back to the same one.
fn hold(mesh: &mut Mesh, count: u16, ms: u64) {
    let round = round_of(count, LIAR) + (u32::from(count) - 1) * 1000;
    for _ in 0..ms / 50 {
        for to in honest(count) {
            for ahead in [(1 << 31) - 1, u32::MAX - 1, 0] {
                say(mesh, to, round.wrapping_add(ahead));
            }
        }
        mesh.run_for(50);
    }
}

/// Only to whom it is about to probe the victim, and only past that round.
fn skip(mesh: &mut Mesh, count: u16, ms: u64) {
    mesh.tape = Some(Vec::new());
    let mut rounds = BTreeMap::new();
    for _ in 0..ms / 5 {
        for (from, _, bytes) in mesh.tape.replace(Vec::new()).unwrap_or_default() {
            let round = Message::decode(&bytes).unwrap().round;
            let newest = rounds.entry(from).or_insert(round);
            *newest = round.max(*newest);
        }
        for to in honest(count) {
            let Some(&round) = rounds.get(&to) else { continue };
            if (round + 1) % (u32::from(count) - 1) == round_of(count, to) {
                say(mesh, to, round + 2);
                rounds.insert(to, round + 2);
            }
        }
        mesh.run_for(5);
    }
}

type Attack = fn(&mut Mesh, u16, u64);
const ATTACKS: [(&str, Attack); 3] = [("race", race), ("hold", hold), ("skip", skip)];

#[test]
fn a_member_that_lies_about_rounds_does_not_choose_who_is_not_probed() {
    for (name, attack) in ATTACKS {
        for count in [20, 100] {
            let mut mesh = mesh(1, count);
            attack(&mut mesh, count, 1_000);
            mesh.pings.clear();
            attack(&mut mesh, count, 6_000);
            let probes = probes(&mesh);
            assert!(probes > 25, "{name}, {count}: {probes} probes in 60 intervals");
            assert!(rounds_ahead(&mesh) > 0, "{name}, {count}");
        }
    }
}

#[test]
fn a_death_is_noticed_while_a_member_lies_about_rounds() {
    for (name, attack) in ATTACKS {
        for seed in 0..4 {
            let mut mesh = mesh(seed, 20);
            attack(&mut mesh, 20, 1_000);
            mesh.kill(VICTIM);
            attack(&mut mesh, 20, 3_000);
            assert!(
                honest(20)
                    .filter(|at| *at != VICTIM)
                    .all(|at| mesh.liveness(at, VICTIM) == Liveness::Dead),
                "{name}, seed {seed}"
            );
            let wrongly = mesh.deaths().iter().any(|(_, dead)| *dead != node(VICTIM));
            assert!(!wrongly, "{name}, seed {seed}");
        }
    }
}

/// Nobody lies: rounds are followed, but for who was out of step.
#[test]
fn honest_rounds_are_in_pace() {
    for seed in 0..6 {
        let mut mesh = Mesh::new(seed, 40, 5);
        mesh.run_for(10_000);
        mesh.kill(17);
        mesh.run_for(3_000);
        mesh.start(17, 2);
        mesh.run_for(5_000);
        let ahead: u64 =
            mesh.machines.values().map(|machine| machine.rejected().rounds_ahead).sum();
        assert!(ahead <= 4, "seed {seed}: {ahead} times in 180 rounds of 40");
    }
}
