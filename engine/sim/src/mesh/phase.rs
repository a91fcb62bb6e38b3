//! From a fault, or its end, until every node has taken it in.

use std::time::Duration;

use hawser_wire::{MonoTime, TrafficClass};

use crate::mesh::forwarding::Fate;
use crate::mesh::simulation::{MeshMutation, MeshSimulation};
use crate::violation::Property;

/// How often pairs are looked at, and whether all is settled.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// The same while only verdicts on members are waited for.
const LOOK_AT_MEMBERS_EVERY: Duration = Duration::from_millis(50);
/// Until databases agree and paths follow: what is silent is noticed, and each message lost by
/// chance costs a second, or ten if it was the last one.
const SETTLED_WITHIN: Duration = Duration::from_secs(5);
const SETTLED_UNDER_LOSS_WITHIN: Duration = Duration::from_secs(45);
/// Pieces with a smaller share of the nodes are not asked who is dead: the few have not the time
/// to probe the many.
pub(crate) const PIECE_SHARE: usize = 8;
/// A node that gets no answers probes so many times more slowly (Lifeguard).
const SLOWEST: u32 = 8;
/// Pairs that are looked at in a phase.
const PAIRS: usize = 24;
/// Draws, to find pairs whose way leads over what has failed.
const DRAWS: usize = 300;

/// Who may be declared dead though it is alive and connected.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Excuse {
    /// Nobody.
    Nobody,
    /// This node: it was dead until now.
    Node(u32),
    /// Everybody: verdicts of a time in which the mesh was in pieces go round.
    Everybody,
}

/// Whose deaths are to be known.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Verdicts {
    /// One node's.
    OnNode,
    /// Those of all who are in other pieces of the mesh now.
    OnParts,
}

/// Two nodes, and how long frames from one to the other have not arrived.
#[derive(Clone, Copy, Debug)]
struct Pair {
    from: u32,
    to: u32,
    arrives: bool,
    missing: Duration,
}

/// What is waited for.
#[derive(Debug)]
pub(crate) struct Phase {
    pub(crate) began: MonoTime,
    /// Links that came or went.
    links: Vec<u32>,
    /// By node: it has not published paths yet that know of it.
    waiting: Vec<bool>,
    waiting_count: usize,
    /// When the last one had.
    last: MonoTime,
    pairs: Vec<Pair>,
    excuse: Excuse,
}

impl MeshSimulation {
    /// Something has happened to `links`, as reality has it already; whatever is to be waited for
    /// counts from `began` on.
    pub(crate) fn begin_phase(
        &mut self,
        began: MonoTime,
        links: Vec<u32>,
        excuse: Excuse,
        look: bool,
    ) {
        self.ways_changed = true;
        let pairs = if look { self.draw_pairs(&links) } else { Vec::new() };
        let mut phase = Phase {
            began,
            links,
            waiting: vec![false; self.nodes.len()],
            waiting_count: 0,
            last: began,
            pairs,
            excuse,
        };
        for (node, waits) in self.all().zip(&mut phase.waiting) {
            *waits = self.is_alive(node) && !self.knows_links(node, &phase.links);
            phase.waiting_count = phase.waiting_count.saturating_add(usize::from(*waits));
        }
        self.phase = Some(phase);
    }

    /// Whether a node's published paths are those of a mesh in which these links are as they are;
    /// those that are out of its reach do not count.
    fn knows_links(&self, node: u32, links: &[u32]) -> bool {
        let mesh = self.node(node).routes.mesh();
        let knows = |&link: &u32| {
            let at = usize::try_from(link).unwrap_or(usize::MAX);
            let Some(real) = self.reality.links.get(at) else { return true };
            if !real.ends.iter().any(|&end| self.reality.connected(node, end)) {
                return true;
            }
            let [a, b] = real.ends.map(|end| mesh.and_then(|mesh| mesh.number(self.id(end))));
            let believed = match (mesh, a, b) {
                (Some(mesh), Some(a), Some(b)) => mesh.index(a, b).is_some(),
                _ => false,
            };
            believed == self.reality.carries(link)
        };
        links.iter().all(knows)
    }

    /// A node has published paths.
    pub(crate) fn note_published(&mut self, node: u32) {
        let Some(mut phase) = self.phase.take() else { return };
        let now = self.now();
        let knows = self.knows_links(node, &phase.links);
        if let Some(waits) =
            usize::try_from(node).ok().and_then(|at| phase.waiting.get_mut(at)).filter(|w| **w)
            && knows
        {
            *waits = false;
            phase.waiting_count = phase.waiting_count.saturating_sub(1);
            phase.last = now;
        }
        self.phase = Some(phase);
    }

    /// A node declares another one dead.
    pub(crate) fn note_verdict(&mut self, by: u32, of: u32) {
        let connected = self.reality.connected(by, of) && !self.reality.out_of_reach;
        if !self.is_alive(of) || !connected {
            return;
        }
        match self.phase.as_ref().map_or(Excuse::Nobody, |phase| phase.excuse) {
            Excuse::Node(node) if node == of => {}
            Excuse::Everybody => {
                self.tally.late_verdicts = self.tally.late_verdicts.saturating_add(1);
            }
            Excuse::Nobody | Excuse::Node(_) => {
                self.tally.false_positives = self.tally.false_positives.saturating_add(1);
                if self.faults.loss_ppm <= super::faults::HARMLESS_LOSS_PPM {
                    let detail =
                        format!("node {by} takes node {of} for dead, which runs and is connected");
                    self.violate(Property::NoFalseVerdict, detail);
                }
            }
        }
    }

    /// Waits until all have taken the phase in, and looks at pairs meanwhile. True unless something
    /// was violated. Afterwards there is no phase.
    pub(crate) fn await_phase(&mut self, verdicts: Option<Verdicts>) -> bool {
        let began = self.phase.as_ref().map_or_else(|| self.now(), |phase| phase.began);
        let settled_by = began.saturating_add(if self.faults.loss_ppm > 0 {
            SETTLED_UNDER_LOSS_WITHIN
        } else {
            SETTLED_WITHIN
        });
        let members_by = began.saturating_add(self.members_within(verdicts.is_some()));
        let messages = self.tally.link_state;
        let (mut settled, mut agreed) = (false, false);
        while !(settled && agreed) {
            let step = if settled { LOOK_AT_MEMBERS_EVERY } else { LOOK_EVERY };
            self.run_until(self.now().saturating_add(step));
            if self.violation.is_some() {
                return false;
            }
            let now = self.now();
            if !settled {
                self.look_at_pairs(step);
                let waiting = self.phase.as_ref().map_or(0, |phase| phase.waiting_count);
                settled = waiting == 0 && self.disagreement().is_none() && self.behind().is_none();
                if settled {
                    let sent = self.tally.link_state.saturating_sub(messages);
                    self.tally.event_messages = self.tally.event_messages.saturating_add(sent);
                } else if now > settled_by {
                    self.violate(Property::Convergence, self.unsettled());
                }
            }
            if !agreed {
                self.break_members();
                agreed = self.wrong_about_members().is_none();
                if agreed {
                    let took = now.saturating_since(began).as_millis();
                    let took = u64::try_from(took).unwrap_or(u64::MAX);
                    match verdicts {
                        Some(Verdicts::OnNode) => self.tally.deaths_ms.push(took),
                        Some(Verdicts::OnParts) => self.tally.parted_ms.push(took),
                        None => {}
                    }
                } else if !agreed && now > members_by {
                    let detail = self.wrong_about_members().unwrap_or_default();
                    self.violate(Property::Membership, detail);
                }
            }
        }
        self.end_phase();
        self.violation.is_none()
    }

    /// For mutations of what a node thinks of members.
    fn break_members(&mut self) {
        let (confuse, forget) =
            (self.breaks(MeshMutation::Confuse), self.breaks(MeshMutation::Forget));
        let (now, last) = (self.now(), self.ids.last().copied());
        let first = self.node_mut(0);
        if confuse && let Some(dead) = first.dead.pop_first() {
            // The one before it, and not the first node itself.
            first.dead.insert(if dead > 1 {
                dead.saturating_sub(1)
            } else {
                dead.saturating_add(1)
            });
        }
        if forget && let Some(last) = last {
            first.membership.dismiss(now, last);
        }
    }

    fn end_phase(&mut self) {
        self.check_paths();
        let Some(phase) = self.phase.take() else { return };
        let took = phase.last.saturating_since(phase.began).as_micros();
        self.tally.convergence_us.push(u64::try_from(took).unwrap_or(u64::MAX));
        self.tally.events = self.tally.events.saturating_add(1);
        for pair in &phase.pairs {
            let missing = pair.missing.as_micros();
            self.tally.blackholes_us.push(u64::try_from(missing).unwrap_or(u64::MAX));
        }
        for &Pair { from, to, .. } in &phase.pairs {
            let fate = self.follow(TrafficClass::Bulk, from, to);
            if !matches!(fate, Fate::Arrives(_)) && self.is_routable(from, to) {
                let detail = format!("from node {from} to node {to} nothing arrives: {fate:?}");
                self.violate(Property::NoBlackHole, detail);
            }
        }
    }

    /// How long members may be wrong about each other.
    pub(super) fn members_within(&self, deaths: bool) -> Duration {
        let nodes = self.nodes.len().max(2);
        let logs = f64::from(u32::try_from(nodes).unwrap_or(u32::MAX));
        let interval = self.config.probe_interval;
        let loss = if self.faults.loss_ppm > 0 { 3 } else { 1 };
        let within = if deaths {
            let large = |count: &&usize| count.saturating_mul(PIECE_SHARE) >= nodes;
            let smallest = self.reality.piece_nodes.iter().filter(large).min();
            // Whom nobody of a small piece has probed yet is found as the last coupon of a collector.
            let share = nodes.div_ceil(smallest.copied().unwrap_or(nodes).max(1));
            let rounds = f64::from(u32::try_from(share).unwrap_or(u32::MAX)) * (logs.ln() + 3.0);
            let suspicion = interval.mul_f64(logs.log10().max(1.0)).saturating_mul(
                self.config.suspicion_min.saturating_mul(self.config.suspicion_max),
            );
            interval.saturating_mul(SLOWEST).mul_f64(rounds).saturating_add(suspicion)
        } else {
            self.config.reconnect_interval.mul_f64(logs.ln() + 6.0)
        };
        within.saturating_mul(loss).saturating_add(interval.saturating_mul(10))
    }

    /// Pairs that links connect: at first those whose way leads over what has failed, then any.
    fn draw_pairs(&mut self, links: &[u32]) -> Vec<Pair> {
        let count = u64::try_from(self.nodes.len()).unwrap_or(0);
        let pair = |from, to| Pair { from, to, arrives: true, missing: Duration::ZERO };
        let (mut over, mut any) = (Vec::new(), Vec::new());
        for &link in links {
            let real = usize::try_from(link).ok().and_then(|at| self.reality.links.get(at));
            if let Some(&[a, b]) = real.map(|real| &real.ends) {
                over.extend([pair(a, b), pair(b, a)]);
            }
        }
        over.retain(|pair| self.is_routable(pair.from, pair.to));
        over.truncate(PAIRS / 3);
        for _ in 0..DRAWS {
            let [from, to] =
                [(); 2].map(|()| u32::try_from(self.fault_random.below(count)).unwrap_or(0));
            if from == to || !self.is_routable(from, to) || over.len() >= PAIRS {
                continue;
            }
            let leads_over = self.links_to(from, to).iter().any(|link| links.contains(link));
            if leads_over { &mut over } else { &mut any }.push(pair(from, to));
        }
        let rest = PAIRS.saturating_sub(over.len());
        over.extend(any.into_iter().take(rest));
        over
    }

    /// The links of the way that `from` would send on.
    fn links_to(&mut self, from: u32, to: u32) -> Vec<u32> {
        let (destination, mut at) = (self.id(to), from);
        let path = self.path_of(TrafficClass::Bulk, from, destination, |_| true);
        let mut links = Vec::new();
        for hop in path.map(|(_, hops)| hops).unwrap_or_default() {
            let Some(end) = self.node(at).end_of(hop) else { break };
            links.push(end.link);
            at = end.neighbour;
        }
        links
    }

    fn look_at_pairs(&mut self, step: Duration) {
        let Some(mut phase) = self.phase.take() else { return };
        if std::mem::take(&mut self.ways_changed) {
            for pair in &mut phase.pairs {
                let fate = self.follow(TrafficClass::Bulk, pair.from, pair.to);
                pair.arrives = matches!(fate, Fate::Arrives(_));
            }
        }
        for pair in phase.pairs.iter_mut().filter(|pair| !pair.arrives) {
            pair.missing = pair.missing.saturating_add(step);
        }
        self.phase = Some(phase);
    }

    /// What is still waited for.
    fn unsettled(&self) -> String {
        if let Some((a, b)) = self.disagreement() {
            return format!("the databases of nodes {a} and {b}, which are connected, differ");
        }
        if let Some(node) = self.behind() {
            return format!("the paths of node {node} are not those of its database");
        }
        let waiting = self.phase.as_ref().map(|phase| {
            let nodes = self.all().zip(&phase.waiting);
            nodes.filter(|(_, waits)| **waits).map(|(node, _)| node).take(10).collect::<Vec<_>>()
        });
        format!("nodes {:?} have no paths that know of it", waiting.unwrap_or_default())
    }
}
