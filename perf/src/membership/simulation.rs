use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use hawser_wire::MonoTime;

use super::timed;

/// A machine that finds out who is alive.
pub(super) trait Node {
    fn handle_message(&mut self, now: MonoTime, from: u16, bytes: &[u8]);
    fn handle_timeout(&mut self, now: MonoTime);
    fn poll_timeout(&self) -> Option<MonoTime>;
    fn poll_transmit(&mut self) -> Option<(u16, Vec<u8>)>;
    /// The next one that it declared dead.
    fn poll_verdict(&mut self) -> Option<u16>;
}

/// What all nodes did.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Totals {
    /// Sent, lost ones included.
    pub(super) messages: u64,
    pub(super) bytes: u64,
    /// Taken in, with what they caused to be sent.
    pub(super) handled: u64,
    pub(super) handling: Duration,
}

#[derive(Eq, Ord, PartialEq, PartialOrd)]
enum Happening {
    Arrival { from: u16, to: u16, bytes: Vec<u8> },
    Timeout { node: u16 },
}

/// Nodes over a network that loses some messages and delays the others by 1 to 10 ms each way.
pub(super) struct Simulation<N> {
    pub(super) now: MonoTime,
    /// Who declared whom dead, in the order of time.
    pub(super) verdicts: Vec<(u16, u16)>,
    pub(super) totals: Totals,
    nodes: Vec<Option<N>>,
    armed: Vec<Option<MonoTime>>,
    queue: BinaryHeap<Reverse<(MonoTime, u64, Happening)>>,
    count: u64,
    loss_percent: u64,
    random: Random,
}

impl<N: Node> Simulation<N> {
    /// `count` nodes that know each other; `new` makes one of its number, their count, and a seed.
    pub(super) fn new(
        count: u16,
        loss_percent: u64,
        seed: u64,
        new: impl Fn(u16, u16, u64) -> N,
    ) -> Self {
        let mut random = Random::new(seed);
        let nodes = (0..count).map(|number| Some(new(number, count, random.next()))).collect();
        let mut simulation = Self {
            now: MonoTime::ZERO,
            verdicts: Vec::new(),
            totals: Totals::default(),
            nodes,
            armed: vec![None; usize::from(count)],
            queue: BinaryHeap::new(),
            count: 0,
            loss_percent,
            random,
        };
        for number in 0..count {
            simulation.collect(number);
        }
        simulation
    }

    pub(super) fn kill(&mut self, node: u16) {
        self.nodes[usize::from(node)] = None;
    }

    fn push(&mut self, at: MonoTime, happening: Happening) {
        self.count += 1;
        self.queue.push(Reverse((at, self.count, happening)));
    }

    /// What a node wants to be sent, when it wants to be woken, and whom it declared dead.
    fn collect(&mut self, number: u16) {
        let at = usize::from(number);
        let Some(mut node) = self.nodes[at].take() else { return };
        while let Some((to, bytes)) = node.poll_transmit() {
            self.totals.messages += 1;
            self.totals.bytes += bytes.len() as u64;
            if self.random.below(100) >= self.loss_percent {
                let delay = Duration::from_micros(1_000 + self.random.below(9_000));
                let arrives = self.now.saturating_add(delay);
                self.push(arrives, Happening::Arrival { from: number, to, bytes });
            }
        }
        while let Some(dead) = node.poll_verdict() {
            self.verdicts.push((number, dead));
        }
        let due = node.poll_timeout();
        if due != self.armed[at] {
            self.armed[at] = due;
            if let Some(due) = due {
                self.push(due.max(self.now), Happening::Timeout { node: number });
            }
        }
        self.nodes[at] = Some(node);
    }

    pub(super) fn run_for(&mut self, lasts: Duration) {
        let end = self.now.saturating_add(lasts);
        while let Some(Reverse((at, ..))) = self.queue.peek() {
            if *at > end {
                break;
            }
            let Some(Reverse((at, _, happening))) = self.queue.pop() else { break };
            self.now = at;
            match happening {
                Happening::Arrival { from, to, bytes } => {
                    let Some(node) = &mut self.nodes[usize::from(to)] else { continue };
                    let now = self.now;
                    self.totals.handling += timed(|| node.handle_message(now, from, &bytes));
                    self.totals.handled += 1;
                    self.collect(to);
                }
                Happening::Timeout { node: number } => {
                    // One that was put off was armed anew.
                    let armed = &mut self.armed[usize::from(number)];
                    if armed.is_none_or(|due| due > at) {
                        continue;
                    }
                    *armed = None;
                    if let Some(node) = &mut self.nodes[usize::from(number)] {
                        node.handle_timeout(at);
                    }
                    self.collect(number);
                }
            }
        }
        self.now = end;
    }
}

/// `SplitMix64`: seeded, the same everywhere.
pub(super) struct Random(u64);

impl Random {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }
}
