//! Links that are cut, nodes that restart, clocks that jump, drivers that stand still.

use std::time::Duration;

use hawser_wire::{Incarnation, MonoTime};

use super::mesh::Mesh;
use super::{node, version};
use crate::{Event, Liveness};

#[test]
fn one_broken_path_is_not_a_dead_node() {
    for seed in 0..20 {
        let mut mesh = Mesh::new(seed, 3, 2);
        mesh.run_for(1_000);
        mesh.cut(0, 1);
        mesh.run_for(20_000);
        assert_eq!(mesh.deaths(), [], "seed {seed}");
        mesh.cut.clear();
        mesh.run_for(2_000);
        assert!(mesh.all_alive(), "seed {seed}");
    }
}

#[test]
fn a_partition_heals() {
    for seed in 0..10 {
        let mut mesh = Mesh::new(seed, 24, 5);
        mesh.run_for(1_000);
        mesh.partition(9);
        mesh.run_for(6_000);
        for (at, of) in [(0, 23), (23, 0), (8, 9), (9, 8)] {
            assert_eq!(mesh.liveness(at, of), Liveness::Dead, "seed {seed}: {at} of {of}");
        }
        assert_eq!(mesh.liveness(0, 8), Liveness::Alive, "seed {seed}");
        mesh.cut.clear();
        mesh.run_for(4_000);
        assert!(mesh.all_alive(), "seed {seed}");
        let events = mesh.events.len();
        mesh.run_for(5_000);
        let late = mesh.events[events..].iter().any(|(_, _, e)| e.liveness == Liveness::Dead);
        assert!(!late && mesh.all_alive(), "seed {seed}: it does not rest");
    }
}

#[test]
fn a_dead_node_that_restarts_is_alive_in_its_new_life() {
    for seed in 0..20 {
        let mut mesh = Mesh::new(seed, 20, 5);
        mesh.run_for(1_000);
        mesh.kill(6);
        mesh.run_until(6, Liveness::Dead, 2_000);
        mesh.run_for(500);
        mesh.events.clear();
        mesh.start(6, 2);
        let ms = mesh.run_until(6, Liveness::Alive, 2_000);
        assert!(ms <= 500, "seed {seed}: {ms} ms");
        mesh.run_for(1_000);
        for (at, machine) in &mesh.machines {
            let known = machine.member(node(6)).unwrap().1;
            assert_eq!(known.incarnation, Incarnation(2), "seed {seed}: {at}");
        }
        let told = |(_, at, event): &&(MonoTime, u16, Event)| *at == 3 && event.node == node(6);
        let own: Vec<_> = mesh.events.iter().filter(told).collect();
        assert_eq!(own.len(), 1, "seed {seed}: {own:?}");
        assert_eq!((own[0].2.before, own[0].2.liveness), (Liveness::Dead, Liveness::Alive));
    }
}

#[test]
fn a_restart_that_nobody_missed_is_told() {
    for seed in 0..10 {
        let mut mesh = Mesh::new(seed, 20, 0);
        mesh.run_for(1_000);
        mesh.kill(6);
        mesh.run_for(20);
        mesh.start(6, 2);
        mesh.run_for(1_500);
        assert_eq!(mesh.deaths(), [], "seed {seed}");
        for at in (0..20).filter(|at| *at != 6) {
            let last = mesh.events.iter().rev().find(|(_, other, _)| *other == at).unwrap();
            assert_eq!(last.2.version.incarnation, Incarnation(2), "seed {seed}: {at}");
            assert_eq!(last.2.liveness, Liveness::Alive, "seed {seed}: {at}");
        }
    }
}

#[test]
fn a_disk_that_went_back_in_time_does_not_silence_a_node() {
    for seed in 0..10 {
        let mut mesh = Mesh::new(seed, 10, 0);
        mesh.run_for(500);
        mesh.kill(6);
        mesh.start(6, 9);
        mesh.run_for(1_000);
        mesh.kill(6);
        mesh.run_until(6, Liveness::Dead, 2_000);
        mesh.start(6, 4);
        mesh.run_until(6, Liveness::Alive, 3_000);
        assert!(mesh.machines[&2].member(node(6)).unwrap().1 > version(9, 0), "seed {seed}");
    }
}

#[test]
fn the_mesh_may_tell_of_a_restart_first() {
    let mut mesh = Mesh::new(1, 4, 0);
    mesh.run_for(500);
    mesh.kill(3);
    mesh.run_until(3, Liveness::Dead, 2_000);
    let now = mesh.now;
    mesh.machines.get_mut(&0).unwrap().admit(now, node(3), Incarnation(2)).unwrap();
    assert_eq!(mesh.liveness(0, 3), Liveness::Alive);
    mesh.machines.get_mut(&0).unwrap().admit(now, node(3), Incarnation(1)).unwrap();
    assert_eq!(mesh.machines[&0].member(node(3)).unwrap().1, version(2, 0));
}

#[test]
fn who_stood_still_accuses_nobody() {
    for seed in 0..20 {
        let mut mesh = Mesh::new(seed, 20, 0);
        mesh.run_for(1_000 + seed * 13);
        mesh.stopped.insert(5);
        mesh.run_for(10_000);
        assert_eq!(mesh.liveness(0, 5), Liveness::Dead, "seed {seed}");
        mesh.events.clear();
        mesh.resume(5);
        mesh.run_for(3_000);
        let accused: Vec<_> = mesh.events.iter().filter(|(_, at, _)| *at == 5).collect();
        assert_eq!(accused, Vec::<&(MonoTime, u16, Event)>::new(), "seed {seed}");
        assert!(mesh.all_alive(), "seed {seed}");
        assert_eq!(mesh.machines[&5].awareness(), 1, "seed {seed}: it has recovered");
    }
}

#[test]
fn a_clock_that_jumps_accuses_nobody() {
    for seed in 0..10 {
        for hours in [-2_i64, -1, 1, 24] {
            let mut mesh = Mesh::new(seed, 6, 0);
            mesh.run_for(1_000);
            // Time as node 2's driver reads it, from here on.
            let Some(mut machine) = mesh.machines.remove(&2) else { panic!() };
            let (mut sent, mut clock) = (0, mesh.now);
            clock = if hours < 0 {
                MonoTime::from_nanos(clock.as_nanos() / 4)
            } else {
                clock.saturating_add(Duration::from_secs(3600 * hours.unsigned_abs()))
            };
            machine.handle_timeout(clock);
            while machine.poll_transmit().is_some() {
                sent += 1;
            }
            assert_eq!(machine.poll_event(), None, "seed {seed}, {hours} h, {sent} sent");
            let due = machine.poll_timeout().unwrap();
            assert!(
                due.saturating_since(clock) <= Duration::from_millis(200),
                "seed {seed}, {hours} h: time stands still"
            );
        }
    }
}

#[test]
fn a_slow_node_knows_that_it_is_slow() {
    for seed in 0..10 {
        let mut mesh = Mesh::new(seed, 30, 0);
        mesh.run_for(1_000);
        // Node 4 hears nothing but is heard.
        for other in 0..30 {
            if other != 4 {
                mesh.cut.insert((other, 4));
            }
        }
        mesh.run_for(700);
        let awareness = mesh.machines[&4].awareness();
        assert!((4..=8).contains(&awareness), "seed {seed}: {awareness}");
        mesh.cut.clear();
        mesh.run_for(15_000);
        assert_eq!(mesh.machines[&4].awareness(), 1, "seed {seed}");
        assert!(mesh.all_alive(), "seed {seed}");
        let wrongly = mesh.deaths().iter().filter(|(_, dead)| *dead != node(4)).count();
        assert_eq!(wrongly, 0, "seed {seed}: the deaf one had others declared dead");
    }
}
