//! Several machines over a network that delays, loses, repeats and is cut.

use std::collections::{BTreeMap, BTreeSet};

use hawser_wire::{Incarnation, MonoTime, NodeId};

use super::{node, number};
use crate::random::Random;
use crate::{Config, Event, Liveness, Membership, Message, MessageBody, RejectReason};

/// A message on its way: from whom, to whom, what.
pub(super) type Flight = (u16, u16, Vec<u8>);

/// Process numbers are node numbers, but for a twin, which runs beside its original.
pub(super) struct Mesh {
    pub(super) seed: u64,
    pub(super) now: MonoTime,
    pub(super) machines: BTreeMap<u16, Membership>,
    pub(super) config: Config,
    pub(super) loss_percent: u64,
    pub(super) repeat_percent: u64,
    pub(super) delay_us_max: u64,
    /// Ordered pairs that hear nothing from each other.
    pub(super) cut: BTreeSet<(u16, u16)>,
    /// Machines whose driver stands still: what reaches them waits.
    pub(super) stopped: BTreeSet<u16>,
    /// What happened, where and when.
    pub(super) events: Vec<(MonoTime, u16, Event)>,
    pub(super) rejections: Vec<(u16, RejectReason)>,
    /// Every message that was sent.
    pub(super) sent: u64,
    /// Pings that were sent, to whom and when.
    pub(super) pings: Vec<(MonoTime, u16, u16)>,
    /// What was heard, if it is kept.
    pub(super) tape: Option<Vec<Flight>>,
    /// When each process wants to be woken.
    armed: BTreeMap<u16, MonoTime>,
    timers: BTreeSet<(MonoTime, u16)>,
    flights: BTreeMap<(MonoTime, u64), Flight>,
    waiting: BTreeMap<u16, Vec<Flight>>,
    random: Random,
    counter: u64,
}

impl Mesh {
    /// `count` nodes, numbered from 0, that know each other.
    pub(super) fn new(seed: u64, count: u16, loss_percent: u64) -> Self {
        let mut mesh = Self {
            seed,
            now: MonoTime::from_nanos(7_000_000_000),
            machines: BTreeMap::new(),
            config: Config::every(std::time::Duration::from_millis(100)),
            loss_percent,
            repeat_percent: 0,
            delay_us_max: 8_000,
            cut: BTreeSet::new(),
            stopped: BTreeSet::new(),
            events: Vec::new(),
            rejections: Vec::new(),
            sent: 0,
            pings: Vec::new(),
            tape: None,
            armed: BTreeMap::new(),
            timers: BTreeSet::new(),
            flights: BTreeMap::new(),
            waiting: BTreeMap::new(),
            random: Random::new(seed ^ 0x5eed),
            counter: 0,
        };
        for number in 0..count {
            mesh.start(number, 1);
        }
        mesh
    }

    /// A life of a node begins; it knows everybody, and everybody is told of its certificate but
    /// not of its life.
    pub(super) fn start(&mut self, number: u16, incarnation: u64) {
        let seed = self.random.below(u64::MAX);
        let incarnation = Incarnation(incarnation);
        let mut machine = Membership::new(self.now, node(number), incarnation, self.config, seed);
        for (&other, known) in &mut self.machines {
            if other != number {
                machine.admit(self.now, node(other), Incarnation(1)).unwrap();
                known.admit(self.now, node(number), Incarnation(1)).unwrap();
            }
        }
        self.machines.insert(number, machine);
        self.waiting.remove(&number);
    }

    /// It ends without a word.
    pub(super) fn kill(&mut self, number: u16) {
        self.machines.remove(&number);
    }

    /// Nothing passes between `a` and `b`.
    pub(super) fn cut(&mut self, a: u16, b: u16) {
        self.cut.insert((a, b));
        self.cut.insert((b, a));
    }

    /// What is between the halves, those below `number` and the others.
    pub(super) fn partition(&mut self, number: u16) {
        let count = *self.machines.keys().max().unwrap() + 1;
        for a in 0..number {
            for b in number..count {
                self.cut(a, b);
            }
        }
    }

    pub(super) fn random_below(&mut self, bound: u64) -> u64 {
        self.random.below(bound)
    }

    /// Drains a machine.
    fn collect(&mut self, process: u16) {
        if let Some(armed) = self.armed.remove(&process) {
            self.timers.remove(&(armed, process));
        }
        let Some(machine) = self.machines.get_mut(&process) else { return };
        if let Some(due) = machine.poll_timeout().filter(|_| !self.stopped.contains(&process)) {
            self.armed.insert(process, due);
            self.timers.insert((due, process));
        }
        while let Some(event) = machine.poll_event() {
            self.events.push((self.now, process, event));
        }
        let mut out = Vec::new();
        while let Some((to, bytes)) = machine.poll_transmit() {
            out.push((number(to), bytes));
        }
        for (to, bytes) in out {
            self.sent += 1;
            if let Ok(Message { body: MessageBody::Ping { .. }, .. }) = Message::decode(&bytes) {
                self.pings.push((self.now, process, to));
            }
            if self.random.below(100) < self.loss_percent {
                continue;
            }
            let copies = 1 + u64::from(self.random.below(100) < self.repeat_percent);
            for _ in 0..copies {
                self.fly(process, to, bytes.clone());
            }
        }
    }

    pub(super) fn fly(&mut self, from: u16, to: u16, bytes: Vec<u8>) {
        let delay_us = 200 + self.random.below(self.delay_us_max);
        let at = self.now.saturating_add(std::time::Duration::from_micros(delay_us));
        self.counter += 1;
        self.flights.insert((at, self.counter), (from, to, bytes));
    }

    /// Hands a message over as if `from` had sent it.
    pub(super) fn deliver(&mut self, from: u16, to: u16, bytes: &[u8]) {
        let Some(machine) = self.machines.get_mut(&to) else { return };
        if let Err(reason) = machine.handle_message(self.now, node(from), bytes) {
            self.rejections.push((to, reason));
        }
        self.collect(to);
    }

    pub(super) fn run_for(&mut self, ms: u64) {
        let end = self.now.saturating_add(std::time::Duration::from_millis(ms));
        // Some may have been changed, stopped or removed from outside.
        let mut processes: Vec<u16> = self.armed.keys().copied().collect();
        processes.extend(self.machines.keys());
        for process in processes {
            self.collect(process);
        }
        loop {
            let arrival = self.flights.first_key_value().map(|((at, _), _)| *at);
            let timeout = self.timers.first().copied();
            let next = arrival.into_iter().chain(timeout.map(|(at, _)| at)).min();
            let Some(next) = next.filter(|next| *next <= end) else { break };
            self.now = self.now.max(next);
            if arrival == Some(next) {
                let Some((_, (from, to, bytes))) = self.flights.pop_first() else { break };
                if self.cut.contains(&(from, to)) {
                    continue;
                }
                if let Some(tape) = &mut self.tape {
                    tape.push((from, to, bytes.clone()));
                }
                if self.stopped.contains(&to) {
                    self.waiting.entry(to).or_default().push((from, to, bytes));
                } else {
                    self.deliver(from, to, &bytes);
                }
            } else if let Some((_, process)) = timeout {
                self.machines.get_mut(&process).unwrap().handle_timeout(self.now);
                self.collect(process);
            }
        }
        self.now = end;
    }

    /// A machine whose driver stood still goes on. As in the daemon, timers come first, then what
    /// is in the ring.
    pub(super) fn resume(&mut self, process: u16) {
        self.stopped.remove(&process);
        if let Some(machine) = self.machines.get_mut(&process) {
            machine.handle_timeout(self.now);
        }
        self.collect(process);
        for (from, to, bytes) in self.waiting.remove(&process).unwrap_or_default() {
            self.deliver(from, to, &bytes);
        }
    }

    /// How `of` stands with `at`.
    pub(super) fn liveness(&self, at: u16, of: u16) -> Liveness {
        self.machines[&at].member(node(of)).unwrap().0
    }

    pub(super) fn everyone_says(&self, of: u16, liveness: Liveness) -> bool {
        self.machines.keys().all(|&at| at == of || self.liveness(at, of) == liveness)
    }

    /// Runs until all say so; how long it took, in milliseconds, in steps of 5.
    pub(super) fn run_until(&mut self, of: u16, liveness: Liveness, ms_max: u64) -> u64 {
        for ms in (0..=ms_max).step_by(5) {
            if self.everyone_says(of, liveness) {
                return ms;
            }
            self.run_for(5);
        }
        panic!("seed {}: not all say that {of} is {liveness:?} after {ms_max} ms", self.seed);
    }

    /// Who was declared dead, by whom.
    pub(super) fn deaths(&self) -> Vec<(u16, NodeId)> {
        let dead = self.events.iter().filter(|(_, _, event)| event.liveness == Liveness::Dead);
        dead.map(|(_, at, event)| (*at, event.node)).collect()
    }

    pub(super) fn all_alive(&self) -> bool {
        self.machines.keys().all(|&of| self.everyone_says(of, Liveness::Alive))
    }
}
