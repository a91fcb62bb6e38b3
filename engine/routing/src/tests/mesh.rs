//! Several flooding machines over links that lose, repeat, reorder and break.

use std::collections::{BTreeMap, BTreeSet};

use hawser_wire::{Incarnation, MonoTime, NodeId};

use super::{Random, decoded, hear, holds, lsa, millis, node};
use crate::message::Message;
use crate::{Flooding, Lsa, shortest_paths};

struct Flight {
    at: MonoTime,
    from: u8,
    to: u8,
    bytes: Vec<u8>,
}

struct Mesh {
    seed: u64,
    random: Random,
    now: MonoTime,
    nodes: BTreeMap<u8, Flooding>,
    incarnations: BTreeMap<u8, u64>,
    links: BTreeSet<(u8, u8)>,
    flights: Vec<Flight>,
    loss_percent: u64,
    advertisements_sent: u64,
}

fn number(id: NodeId) -> u8 {
    id.as_bytes()[15]
}

impl Mesh {
    fn new(seed: u64, nodes: u8, loss_percent: u64) -> Self {
        let mut mesh = Self {
            seed,
            random: Random(seed),
            now: MonoTime::ZERO,
            nodes: BTreeMap::new(),
            incarnations: BTreeMap::new(),
            links: BTreeSet::new(),
            flights: Vec::new(),
            loss_percent,
            advertisements_sent: 0,
        };
        for number in 1..=nodes {
            mesh.start(number, 1);
        }
        mesh
    }

    fn start(&mut self, number: u8, incarnation: u64) {
        self.nodes.insert(number, Flooding::new(node(number)));
        self.incarnations.insert(number, incarnation);
        self.originate(number);
    }

    fn own_lsa(&self, number: u8) -> Lsa {
        let incarnation = Incarnation(self.incarnations[&number]);
        let (incarnation, sequence) = self.nodes[&number].next_version(incarnation);
        let far_end = |(a, b): &(u8, u8)| {
            if *a == number { Some(*b) } else { (*b == number).then_some(*a) }
        };
        let links: Vec<_> =
            self.links.iter().filter_map(far_end).map(|far| (far, u32::from(far) * 10)).collect();
        lsa(number, incarnation.0, sequence, &links)
    }

    fn originate(&mut self, number: u8) {
        let lsa = self.own_lsa(number);
        let now = self.now;
        self.nodes.get_mut(&number).unwrap().originate(now, lsa).unwrap();
    }

    fn link_up(&mut self, a: u8, b: u8) {
        self.links.insert((a.min(b), a.max(b)));
        for (near, far) in [(a, b), (b, a)] {
            self.nodes.get_mut(&near).unwrap().handle_neighbour_up(self.now, node(far), true);
            self.originate(near);
        }
    }

    fn link_down(&mut self, a: u8, b: u8) {
        self.links.remove(&(a.min(b), a.max(b)));
        self.flights.retain(|flight| (flight.from, flight.to) != (a, b));
        self.flights.retain(|flight| (flight.from, flight.to) != (b, a));
        for (near, far) in [(a, b), (b, a)] {
            self.nodes.get_mut(&near).unwrap().handle_neighbour_down(self.now, node(far));
            self.originate(near);
        }
    }

    fn collect(&mut self) {
        for (from, flooding) in &mut self.nodes {
            while let Some((to, bytes)) = flooding.poll_transmit() {
                let advertises = |message: &Message| {
                    matches!(message, Message::Lsa { .. } | Message::Delta { .. })
                };
                let count = decoded(&bytes).iter().filter(|message| advertises(message)).count();
                self.advertisements_sent += u64::try_from(count).unwrap();
                if self.random.percent(self.loss_percent) {
                    continue;
                }
                let copies = 1 + u64::from(self.random.percent(5));
                for _ in 0..copies {
                    let delay_ms = 1 + self.random.below(80);
                    let at = millis(self.now.as_nanos() / 1_000_000 + delay_ms);
                    let (from, to, bytes) = (*from, number(to), bytes.clone());
                    self.flights.push(Flight { at, from, to, bytes });
                }
            }
        }
    }

    fn run_until(&mut self, end: MonoTime) {
        loop {
            self.collect();
            let arrival = self.flights.iter().map(|flight| flight.at).min();
            let timeout = self.nodes.values().filter_map(Flooding::poll_timeout).min();
            let next = arrival.into_iter().chain(timeout).min().unwrap_or(end);
            if next > end {
                self.now = end;
                return;
            }
            self.now = self.now.max(next);
            if let Some(at) = self.flights.iter().position(|flight| flight.at <= self.now) {
                let flight = self.flights.remove(at);
                self.deliver(&flight);
            }
            for flooding in self.nodes.values_mut() {
                if flooding.poll_timeout().is_some_and(|at| at <= self.now) {
                    flooding.handle_timeout(self.now);
                }
            }
        }
    }

    fn deliver(&mut self, flight: &Flight) {
        let receiver = self.nodes.get_mut(&flight.to).unwrap();
        hear(receiver, self.now, node(flight.from), &flight.bytes, &mut holds)
            .unwrap_or_else(|error| panic!("seed {}: {error}", self.seed));
        if receiver.must_originate() {
            self.originate(flight.to);
        }
    }

    fn run_for(&mut self, seconds: u64) {
        self.run_until(millis(self.now.as_nanos() / 1_000_000 + seconds * 1000));
    }

    fn digests(&self) -> BTreeSet<u64> {
        self.nodes.values().map(|flooding| flooding.lsdb().digest()).collect()
    }

    fn check_converged(&self, what: &str) {
        let seed = self.seed;
        assert_eq!(self.digests().len(), 1, "seed {seed}: digests differ {what}");
        for (number, flooding) in &self.nodes {
            assert_eq!(flooding.lsdb().len(), self.nodes.len(), "seed {seed}, {number}: {what}");
            for (origin, other) in &self.nodes {
                let (seen, own) = (flooding.lsdb().get(node(*origin)), other.lsdb());
                assert_eq!(seen, own.get(node(*origin)), "seed {seed}, {number}: {what}");
            }
        }
    }

    /// A ring with chords, so that there is always a second way.
    fn connect_all(&mut self) {
        let count = u8::try_from(self.nodes.len()).unwrap();
        for number in 1..=count {
            self.link_up(number, number % count + 1);
        }
        for _ in 0..count {
            let (a, b) = (self.random.below(count.into()) + 1, self.random.below(count.into()) + 1);
            if a != b {
                self.link_up(u8::try_from(a).unwrap(), u8::try_from(b).unwrap());
            }
        }
    }
}

#[test]
fn all_nodes_agree_in_spite_of_loss_and_reordering() {
    for seed in 0..20 {
        let mut mesh = Mesh::new(seed, 12, 20);
        mesh.connect_all();
        for _ in 0..30 {
            mesh.run_until(millis(mesh.now.as_nanos() / 1_000_000 + 50));
            let number = u8::try_from(mesh.random.below(12)).unwrap() + 1;
            mesh.originate(number);
        }
        mesh.run_for(20);
        mesh.check_converged("under loss");
        let paths = shortest_paths(mesh.nodes[&1].lsdb(), node(1));
        assert_eq!(paths.len(), 11, "seed {seed}");
    }
}

#[test]
fn a_settled_mesh_exchanges_digests_alone() {
    let mut mesh = Mesh::new(7, 8, 0);
    mesh.connect_all();
    mesh.run_for(20);
    mesh.check_converged("at rest");
    let before = mesh.advertisements_sent;
    mesh.run_for(60);
    assert_eq!(mesh.advertisements_sent, before);
}

#[test]
fn a_newcomer_that_is_settled_knows_what_its_neighbour_knows() {
    for seed in 0..20 {
        let mut mesh = Mesh::new(seed, 12, 20);
        mesh.connect_all();
        mesh.run_for(20);
        mesh.start(13, 1);
        let settled = |mesh: &Mesh| mesh.nodes[&13].settled().collect::<Vec<_>>();
        mesh.run_for(1);
        assert_eq!(settled(&mesh), [], "seed {seed}: without a neighbour");
        mesh.link_up(13, 1);
        assert_eq!(settled(&mesh), [], "seed {seed}: before a word");
        let mut ms = mesh.now.as_nanos() / 1_000_000;
        while settled(&mesh) != [node(1)] {
            ms += 1;
            mesh.run_until(millis(ms));
            assert!(ms < 60_000, "seed {seed}: never settled");
        }
        let (newcomer, neighbour) = (mesh.nodes[&13].lsdb(), mesh.nodes[&1].lsdb());
        for number in 1..=12 {
            assert!(newcomer.get(node(number)).is_some(), "seed {seed}: {number} is not known");
        }
        assert_eq!(neighbour.get(node(13)), newcomer.get(node(13)), "seed {seed}");
        assert_eq!(shortest_paths(newcomer, node(13)).len(), 12, "seed {seed}");
        mesh.link_down(13, 1);
        assert_eq!(settled(&mesh), [], "seed {seed}: without a link");
    }
}

#[test]
fn both_sides_of_a_partition_catch_up() {
    for seed in 0..20 {
        let mut mesh = Mesh::new(seed, 10, 10);
        mesh.connect_all();
        mesh.run_for(20);
        mesh.check_converged("before the partition");
        let cut: Vec<_> =
            mesh.links.iter().copied().filter(|(a, b)| (*a <= 5) != (*b <= 5)).collect();
        for (a, b) in &cut {
            mesh.link_down(*a, *b);
        }
        for number in 1..=10 {
            mesh.originate(number);
        }
        mesh.run_for(20);
        assert_eq!(mesh.digests().len(), 2, "seed {seed}: each side agrees with itself alone");
        let paths = shortest_paths(mesh.nodes[&1].lsdb(), node(1));
        assert!(paths.keys().all(|id| number(*id) <= 5), "seed {seed}: {paths:?}");
        mesh.link_up(cut[0].0, cut[0].1);
        mesh.run_for(25);
        mesh.check_converged("after healing");
        assert_eq!(shortest_paths(mesh.nodes[&1].lsdb(), node(1)).len(), 9, "seed {seed}");
    }
}

#[test]
fn a_restarted_node_is_believed_even_with_an_old_incarnation() {
    for (seed, incarnation) in (0..20).flat_map(|seed| [(seed, 1), (seed, 4), (seed, 9)]) {
        let mut mesh = Mesh::new(seed, 5, 10);
        mesh.start(3, 4);
        mesh.connect_all();
        for _ in 0..10 {
            mesh.originate(3);
        }
        mesh.run_for(20);
        mesh.check_converged("in the first life");
        let links: Vec<_> =
            mesh.links.iter().copied().filter(|(a, b)| *a == 3 || *b == 3).collect();
        for (a, b) in &links {
            mesh.link_down(*a, *b);
        }
        mesh.run_for(5);
        mesh.start(3, incarnation);
        for (a, b) in &links {
            mesh.link_up(*a, *b);
        }
        mesh.run_for(25);
        mesh.check_converged("in the next life");
        let expected = mesh.own_lsa(3).adjacencies;
        assert_eq!(mesh.nodes[&1].lsdb().get(node(3)).unwrap().adjacencies, expected);
    }
}
