//! What goes wrong, in what order, and what becomes of it.

use std::time::Duration;

use hawser_membership::{Membership, Roster};
use hawser_routing::{Flooding, Lsdb};
use hawser_wire::{Incarnation, MonoTime, NodeId};

use crate::mesh::node::MeshNode;
use crate::mesh::phase::{Excuse, Verdicts};
use crate::mesh::routes::NodeRoutes;
use crate::mesh::simulation::{MeshMutation, MeshSimulation};
use crate::mesh::summary::{MeshProgress, MeshSummary, quantile};
use crate::violation::{Failure, Property};

/// Most of it that members bear without a false verdict, in millionths.
pub(crate) const HARMLESS_LOSS_PPM: u32 = 150_000;
/// Most loss that can be asked for, in millionths.
pub const LOSS_PPM_MAX: u32 = 300_000;
/// Until all databases and paths are there.
const START_WITHIN: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// Members compare all they know once after their start.
const CALM_AFTER_START: Duration = Duration::from_secs(3);
/// Until the paths of a mesh that is there already are computed.
const COMPUTED_WITHIN: Duration = Duration::from_millis(200);
/// Between an event that is settled and the next one.
const CALM: (Duration, Duration) = (Duration::from_millis(1_000), Duration::from_millis(3_000));
/// At the end nothing fails any more; longer, if nothing has failed at all.
const REST: Duration = Duration::from_secs(20);
const REST_WITHOUT_FAULT: Duration = Duration::from_secs(60);
/// Nodes of the smaller side of a partition, at most, in meshes with trees alone.
const LARGE_PART_MAX: u64 = 100;

/// What goes wrong in a run.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct MeshFaults {
    /// Links that are cut, one after the other, and come back.
    pub link_cuts: u32,
    /// Nodes that are killed, one after the other, and begin a new life.
    pub node_kills: u32,
    /// Times that the mesh falls into two parts and becomes one again.
    pub partitions: u32,
    /// Of all messages between neighbours, and of all between members, so many millionths are lost,
    /// all the time; at most [`LOSS_PPM_MAX`].
    pub loss_ppm: u32,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Fault {
    LinkCut,
    NodeKill,
    Partition,
}

impl MeshSimulation {
    /// Lets the mesh start, has everything go wrong in turn, and listens to it at rest. `progress`
    /// is told when something else begins.
    ///
    /// # Errors
    /// [`Failure`] with the first property that did not hold.
    pub fn run(
        mut self,
        progress: &mut dyn FnMut(MeshProgress),
    ) -> Result<MeshSummary, Box<Failure>> {
        let mut faults = Vec::new();
        for (fault, count) in [
            (Fault::LinkCut, self.faults.link_cuts),
            (Fault::NodeKill, self.faults.node_kills),
            (Fault::Partition, self.faults.partitions),
        ] {
            faults.extend((0..count).map(|_| fault));
        }
        let in_all = u64::try_from(faults.len()).unwrap_or(0).saturating_mul(2);
        let mut tell = |simulation: &Self, what| {
            progress(MeshProgress {
                what,
                events: simulation.tally.events,
                events_in_all: in_all,
                simulated: simulation.now().saturating_since(MonoTime::ZERO),
            });
        };
        tell(&self, "start");
        self.start();
        self.mutated = true;
        while self.violation.is_none() && !faults.is_empty() {
            let drawn = self.fault_random.below(u64::try_from(faults.len()).unwrap_or(1));
            let fault = faults.swap_remove(usize::try_from(drawn).unwrap_or(0));
            let what = match fault {
                Fault::LinkCut => "link cut",
                Fault::NodeKill => "node kill",
                Fault::Partition => "partition",
            };
            tell(&self, what);
            match fault {
                Fault::LinkCut => self.cut_link(),
                Fault::NodeKill => self.kill_node(),
                Fault::Partition => self.part(),
            }
            let calm = self.fault_random.duration(CALM.0, CALM.1);
            self.run_until(self.now().saturating_add(calm));
        }
        tell(&self, "rest");
        let rest = if in_all == 0 { REST_WITHOUT_FAULT } else { REST };
        self.run_until(self.now().saturating_add(rest));
        self.check_end();
        match self.violation.take() {
            None => Ok(self.summary()),
            Some(violation) => {
                let (seed, world) = (self.seed, self.graph_name);
                let (recent, trace_hash) = (self.trace.recent(), self.trace.hash());
                Err(Box::new(Failure { seed, world, violation, recent, trace_hash }))
            }
        }
    }

    /// All nodes begin at about the same time, and know nobody; in a large mesh all know everybody.
    pub(super) fn start(&mut self) {
        if self.scale.full_start {
            self.start_full();
            self.check_paths();
            return;
        }
        let began = self.now();
        for node in self.all() {
            self.node_mut(node).gather(began);
            self.settle(node);
        }
        for (link, _) in (0..).zip(self.reality.links.clone()) {
            self.begin_session(link, (Duration::ZERO, Duration::from_millis(100)));
        }
        loop {
            self.run_until(self.now().saturating_add(LOOK_EVERY));
            if self.violation.is_some() {
                return;
            }
            let took = self.now().saturating_since(began);
            if self.disagreement().is_none() && self.behind().is_none() {
                self.tally.start_ms = u64::try_from(took.as_millis()).ok();
                break;
            }
            if took > START_WITHIN {
                let detail =
                    format!("{:?} do not agree {took:?} after the start", self.disagreement());
                return self.violate(Property::Convergence, detail);
            }
        }
        self.run_until(self.now().saturating_add(CALM_AFTER_START));
        self.check_paths();
    }

    fn start_full(&mut self) {
        let mut lsdb = Lsdb::new();
        for node in self.all() {
            for end in &mut self.node_mut(node).ends {
                end.up = true;
            }
            if let Some(lsa) = self.advertise(node) {
                let _newest = lsdb.insert(lsa);
            }
        }
        let now = self.now();
        let lives = self.ids.iter().map(|&id| (id, Incarnation(1)));
        let roster = Roster::new(lives).ok();
        for number in self.all() {
            let (id, seed) = (self.id(number), self.random.next_u64());
            let (config, life) = (self.config, Incarnation(1));
            let neighbours: Vec<NodeId> =
                self.node(number).ends.iter().map(|end| self.id(end.neighbour)).collect();
            let node = self.node_mut(number);
            node.flooding = Flooding::with_lsdb(id, lsdb.clone());
            for neighbour in neighbours {
                node.flooding.handle_neighbour_up(now, neighbour, true);
            }
            if let Some(roster) = &roster {
                node.membership = Membership::with_roster(now, id, life, config, seed, roster);
            }
            self.lsdb_changed(number);
        }
        // Paths first, so that the first messages have a way.
        let computed = self.now().saturating_add(COMPUTED_WITHIN);
        self.run_until(computed);
        for number in self.all() {
            self.settle(number);
        }
        self.run_until(self.now().saturating_add(CALM_AFTER_START));
    }

    /// A link that carries, if there is one.
    fn cut_link(&mut self) {
        let carrying: Vec<u32> = (0..)
            .zip(&self.reality.links)
            .map(|(link, _)| link)
            .filter(|&link| self.reality.carries(link))
            .collect();
        let Some(&link) = self.fault_random.pick(&carrying) else { return };
        self.cut_links(vec![link]);
    }

    /// These are cut together, and come back once all have taken it in.
    fn cut_links(&mut self, links: Vec<u32>) {
        let pieces = self.reality.piece_nodes.len();
        let silent = self.fault_random.chance(500);
        for &link in &links {
            self.set_cut(link, true);
            self.end_session(link, silent);
        }
        self.reality.find_pieces();
        let parted = self.reality.piece_nodes.len() > pieces;
        self.begin_phase(self.now(), links.clone(), Excuse::Nobody, true);
        if !self.await_phase(parted.then_some(Verdicts::OnParts)) {
            return;
        }
        let mut up = self.now();
        for (count, &link) in links.iter().enumerate() {
            if count == 0 && self.breaks(MeshMutation::NeverHeal) {
                self.set_cut(link, false);
                continue;
            }
            up = up.max(self.dial(link));
        }
        self.reality.find_pieces();
        let excuse = if parted { Excuse::Everybody } else { Excuse::Nobody };
        self.begin_phase(up, links, excuse, false);
        self.await_phase(None);
    }

    fn set_cut(&mut self, link: u32, cut: bool) {
        if let Some(real) = usize::try_from(link).ok().and_then(|at| self.reality.links.get_mut(at))
        {
            real.cut = cut;
        }
    }

    /// A node ends without a word, and begins anew with nothing but its identity and a higher
    /// incarnation.
    fn kill_node(&mut self) {
        let count = u64::try_from(self.nodes.len()).unwrap_or(1);
        let victim = u32::try_from(self.fault_random.below(count)).unwrap_or(0);
        let Some(links) =
            usize::try_from(victim).ok().and_then(|at| self.reality.adjacent.get(at)).cloned()
        else {
            return;
        };
        let links: Vec<u32> = links.into_iter().map(|(_, link)| link).collect();
        let pieces = self.reality.piece_nodes.len();
        let silent = self.fault_random.chance(500);
        for &link in &links {
            self.end_session(link, silent);
        }
        self.set_alive(victim, false);
        let parted = self.reality.piece_nodes.len() > pieces;
        self.begin_phase(self.now(), links.clone(), Excuse::Node(victim), true);
        let verdicts = if parted { Verdicts::OnParts } else { Verdicts::OnNode };
        if !self.await_phase(Some(verdicts)) {
            return;
        }
        let (now, seed) = (self.now(), self.fault_random.next_u64());
        let (id, flags) = (self.id(victim), self.node(victim).flags);
        let life = Incarnation(self.node(victim).incarnation.0.saturating_add(1));
        let routes = NodeRoutes::new(self.scale.trees);
        let membership = Membership::new(now, id, life, self.config, seed);
        let reborn = MeshNode::new(victim, (id, life), flags, &self.reality, routes, membership);
        *self.node_mut(victim) = reborn;
        self.set_alive(victim, true);
        self.node_mut(victim).gather(now);
        self.settle(victim);
        let up = links.iter().map(|&link| self.dial(link)).max().unwrap_or(now);
        let excuse = if parted { Excuse::Everybody } else { Excuse::Node(victim) };
        self.begin_phase(up, links, excuse, false);
        self.await_phase(None);
    }

    fn set_alive(&mut self, node: u32, alive: bool) {
        if let Some(is) = usize::try_from(node).ok().and_then(|at| self.reality.alive.get_mut(at)) {
            *is = alive;
        }
        self.reality.find_pieces();
    }

    /// A region falls off: every link out of it is cut at once.
    fn part(&mut self) {
        let count = u64::try_from(self.nodes.len()).unwrap_or(1);
        let mut most = count.checked_div(2).unwrap_or(1);
        if self.scale.trees {
            most = most.min(LARGE_PART_MAX);
        }
        let least = count.div_ceil(6).clamp(1, most.max(1));
        let size = self.fault_random.between(least, most.max(1));
        // A mesh that was given in pieces has such that no link leads out of, and may have no other.
        let linked: Vec<u32> = self.all().filter(|&node| self.has_link(node)).collect();
        let Some(&first) = self.fault_random.pick(&linked) else { return };
        // Not a whole piece.
        let size =
            size.min(u64::try_from(self.reality.piece_of(first)).unwrap_or(1).saturating_sub(1));
        let region = self.reality.region(first, usize::try_from(size).unwrap_or(1));
        let inside =
            |node: u32| usize::try_from(node).is_ok_and(|at| region.get(at) == Some(&true));
        let leads_out = |&link: &u32| {
            let at = usize::try_from(link).unwrap_or(usize::MAX);
            let ends = self.reality.links.get(at).map(|link| link.ends);
            ends.is_some_and(|[a, b]| inside(a) != inside(b)) && self.reality.carries(link)
        };
        let links = (0..).zip(&self.reality.links).map(|(link, _)| link).filter(leads_out);
        self.cut_links(links.collect());
    }

    /// Whether a node that runs has a link that carries.
    fn has_link(&self, node: u32) -> bool {
        let links = usize::try_from(node).ok().and_then(|at| self.reality.adjacent.get(at));
        links.is_some_and(|links| links.iter().any(|(_, link)| self.reality.carries(*link)))
    }

    fn check_end(&mut self) {
        if self.violation.is_none()
            && let Some((a, b)) = self.disagreement()
        {
            let detail = format!("the databases of nodes {a} and {b} differ at rest");
            self.violate(Property::Convergence, detail);
        }
        if self.violation.is_none() && self.faults.loss_ppm <= HARMLESS_LOSS_PPM {
            self.check_members();
        }
        if self.violation.is_none() {
            self.check_paths();
        }
    }

    fn summary(mut self) -> MeshSummary {
        let tally = &mut self.tally;
        tally.convergence_us.sort_unstable();
        let ms = |us: u64| f64::from(u32::try_from(us).unwrap_or(u32::MAX)) / 1e3;
        let wide = |count: u64| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
        let nodes = self.nodes.len();
        let each = f64::from(u32::try_from(nodes).unwrap_or(u32::MAX));
        let simulated = self.queue.now().saturating_since(MonoTime::ZERO);
        let per_event = wide(tally.event_messages) / each / wide(tally.events.max(1));
        let holes = &tally.blackholes_us;
        let pairs = u64::try_from(holes.len()).unwrap_or(u64::MAX);
        let all_us = holes.iter().copied().fold(0, u64::saturating_add);
        MeshSummary {
            nodes,
            links: self.reality.links.len(),
            seed: self.seed,
            events: tally.events,
            start_ms: tally.start_ms,
            convergence_ms_p50: ms(quantile(&tally.convergence_us, 50)),
            convergence_ms_p99: ms(quantile(&tally.convergence_us, 99)),
            messages_per_event_per_node: per_event,
            membership_messages_per_node_per_s: wide(tally.datagrams)
                / each
                / simulated.as_secs_f64().max(1e-3),
            death_known_ms_max: tally.deaths_ms.iter().copied().max(),
            parted_known_ms_max: tally.parted_ms.iter().copied().max(),
            false_positives: tally.false_positives,
            late_verdicts: tally.late_verdicts,
            blackhole_ms: holes.iter().copied().max().unwrap_or(0).div_ceil(1000),
            blackhole_ms_mean: wide(all_us) / 1e3 / wide(pairs.max(1)),
            pairs,
            signatures: self.judge.verified,
            rejected: tally.rejected,
            simulated,
            happenings: self.trace.events(),
            trace_hash: self.trace.hash(),
        }
    }
}
