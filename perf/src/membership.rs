//! Membership of many simulated nodes, beside foca with the same network: how soon a death is known
//! everywhere, who is declared dead for nothing, what rest costs.

#[cfg(feature = "foca")]
mod foca_node;
mod simulation;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use hawser_membership::{Config, Liveness, Membership};
use hawser_wire::{Incarnation, MonoTime, NodeId};

use crate::row::{Case, Rows};
use simulation::{Node, Random, Simulation};

/// One probe so often, by each node.
pub(crate) const PROBE_INTERVAL: Duration = Duration::from_millis(100);

/// Members where a death is to be known, and where rest is measured.
const MANY: u16 = 1000;
/// Members under loss.
const SOME: u16 = 300;
/// How long loss lasts.
const LOSS_LASTS: Duration = Duration::from_secs(60);

pub(crate) fn measure(rows: &mut Rows) -> Result<()> {
    // Time is virtual, and what foca needs of the real one is long: nothing is gained by turns.
    rows.alternate("membership", &mut cases_of("hawser", 100, Hawser::new))?;
    #[cfg(feature = "foca")]
    {
        use foca_node::{FocaNode, lan, quick};
        let as_quick = |number, count, seed| FocaNode::new(number, count, seed, quick(count));
        rows.alternate("membership", &mut cases_of("foca", 10, as_quick))?;
        let as_lan = |number, count, seed| FocaNode::new(number, count, seed, lan(count));
        rows.alternate("membership", &mut cases_of("foca as LAN", 10, as_lan))?;
    }
    Ok(())
}

/// A death each for `deaths` seeds, a minute of loss, and rest.
fn cases_of<N: Node + 'static>(
    name: &str,
    deaths: u64,
    new: impl Fn(u16, u16, u64) -> N + Copy + 'static,
) -> Vec<Case<'static>> {
    const DEATH: &[&str] = &["ms p50", "ms p99", "ms max", "wrongly dead", "never heard"];
    const LOSS: &[&str] = &["wrongly dead", "verdicts", "messages/s", "bytes/s"];
    const REST: &[&str] = &["messages/s", "bytes/s", "ns a message"];
    let mut run = 0;
    let death = move || {
        run += 1;
        let mut times = Vec::new();
        let (mut wrongly, mut deaf) = (0, 0);
        for seed in 0..deaths {
            let (ms, others, unheard) = death(new, run * 1000 + seed);
            times.push(ms);
            (wrongly, deaf) = (wrongly + others, deaf + unheard);
        }
        times.sort_by(f64::total_cmp);
        let at = |percent: usize| times[(times.len() * percent).div_ceil(100).max(1) - 1];
        Ok(vec![at(50), at(99), at(100), wrongly as f64, deaf as f64])
    };
    let mut seed = 0;
    let loss = move || {
        seed += 1;
        let mut simulation = Simulation::new(SOME, 15, seed, new);
        simulation.run_for(LOSS_LASTS);
        let wrongly: BTreeSet<u16> = simulation.verdicts.iter().map(|&(_, dead)| dead).collect();
        let totals = simulation.totals;
        let each = |figure: u64| figure as f64 / f64::from(SOME) / LOSS_LASTS.as_secs_f64();
        let verdicts = simulation.verdicts.len() as f64;
        let (messages, bytes) = (each(totals.messages), each(totals.bytes));
        Ok(vec![wrongly.len() as f64, verdicts, messages, bytes])
    };
    let rest = move || {
        let mut simulation = Simulation::new(MANY, 0, 1, new);
        simulation.run_for(Duration::from_secs(3));
        let before = simulation.totals;
        let lasts = Duration::from_secs(5);
        simulation.run_for(lasts);
        let totals = simulation.totals;
        ensure!(simulation.verdicts.is_empty(), "somebody is dead at rest");
        let each = |figure: u64| figure as f64 / f64::from(MANY) / lasts.as_secs_f64();
        let handled = (totals.handled - before.handled) as f64;
        Ok(vec![
            each(totals.messages - before.messages),
            each(totals.bytes - before.bytes),
            (totals.handling - before.handling).as_nanos() as f64 / handled,
        ])
    };
    vec![
        Case::new(format!("{name}: death, {MANY}, 5 % loss"), 0, DEATH, death),
        Case::new(format!("{name}: {SOME}, 15 % loss, 60 s"), 0, LOSS, loss),
        Case::new(format!("{name}: rest, {MANY}"), 0, REST, rest),
    ]
}

/// From a death until all say so, in milliseconds; verdicts on others; and who has not heard of it
/// within five seconds.
fn death<N: Node>(new: impl Fn(u16, u16, u64) -> N, seed: u64) -> (f64, usize, usize) {
    let mut simulation = Simulation::new(MANY, 5, seed, new);
    let mut random = Random::new(seed ^ 0xdead);
    let settle = 1_500_000 + random.below(1_000_000);
    simulation.run_for(Duration::from_micros(settle));
    let victim = u16::try_from(random.below(u64::from(MANY))).unwrap_or(0);
    let begin = simulation.now;
    simulation.kill(victim);
    let mut heard = BTreeSet::new();
    let mut seen = simulation.verdicts.len();
    let mut wrongly = seen;
    let mut ms = f64::INFINITY;
    for _ in 0..5_000 {
        simulation.run_for(Duration::from_millis(1));
        for &(at, dead) in &simulation.verdicts[seen..] {
            if dead == victim {
                heard.insert(at);
            } else {
                wrongly += 1;
            }
        }
        seen = simulation.verdicts.len();
        if heard.len() == usize::from(MANY) - 1 {
            ms = simulation.now.saturating_since(begin).as_secs_f64() * 1e3;
            break;
        }
    }
    (ms, wrongly, usize::from(MANY) - 1 - heard.len())
}

/// A machine of `hawser-membership`.
struct Hawser(Membership);

/// Ids are spread like real ones.
fn node_id(number: u16) -> NodeId {
    let spread = u64::from(number).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&spread.to_be_bytes());
    bytes[14..].copy_from_slice(&number.to_be_bytes());
    NodeId::from_bytes(bytes)
}

fn number(id: NodeId) -> u16 {
    u16::from_be_bytes([id.as_bytes()[14], id.as_bytes()[15]])
}

impl Hawser {
    fn new(number: u16, count: u16, seed: u64) -> Self {
        let (now, life) = (MonoTime::ZERO, Incarnation(1));
        let mut machine =
            Membership::new(now, node_id(number), life, Config::every(PROBE_INTERVAL), seed);
        for other in (0..count).filter(|other| *other != number) {
            // There is room.
            let _ = machine.admit(now, node_id(other), life);
        }
        Self(machine)
    }
}

impl Node for Hawser {
    fn handle_message(&mut self, now: MonoTime, from: u16, bytes: &[u8]) {
        let _ = self.0.handle_message(now, node_id(from), bytes);
    }

    fn handle_timeout(&mut self, now: MonoTime) {
        self.0.handle_timeout(now);
    }

    fn poll_timeout(&self) -> Option<MonoTime> {
        self.0.poll_timeout()
    }

    fn poll_transmit(&mut self) -> Option<(u16, Vec<u8>)> {
        self.0.poll_transmit().map(|(to, bytes)| (number(to), bytes))
    }

    fn poll_verdict(&mut self) -> Option<u16> {
        loop {
            let event = self.0.poll_event()?;
            if event.liveness == Liveness::Dead {
                return Some(number(event.node));
            }
        }
    }
}

/// How long `work` takes.
fn timed(work: impl FnOnce()) -> Duration {
    let begin = Instant::now();
    work();
    begin.elapsed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_death_is_heard_of_and_nobody_else_dies() {
        let mut simulation = Simulation::new(50, 5, 1, Hawser::new);
        simulation.run_for(Duration::from_secs(2));
        simulation.kill(3);
        simulation.run_for(Duration::from_secs(2));
        let heard: BTreeSet<u16> = simulation.verdicts.iter().map(|&(at, _)| at).collect();
        assert_eq!(heard.len(), 49);
        assert!(simulation.verdicts.iter().all(|&(_, dead)| dead == 3));
    }
}
