use std::time::Duration;

use hawser_delivery::{PathWindows, SendRounds, WindowBudget};
use hawser_wire::{BootEpoch, CloseReason, LinkMode, MonoTime};

use crate::event::{Event, Heal};
use crate::lanes::number;
use crate::mutation::Mutation;
use crate::network::{ConnectionId, End, Side};
use crate::node::NodeState;
use crate::simulation::{CALM_BEFORE_END, Simulation};
use crate::world::FaultKind;

const fn millis(low: u64, high: u64) -> (Duration, Duration) {
    (Duration::from_millis(low), Duration::from_millis(high))
}

/// The next attempt after one that could not be.
const FAULT_AGAIN: Duration = Duration::from_secs(1);

/// After so long only what breaks something is drawn, so that each minute has its fault.
const CALM_MAX: Duration = Duration::from_secs(30);

/// How long things last that go wrong.
const LANE_SILENCE: (Duration, Duration) = millis(100, 4000);
const LINK_SILENCE: (Duration, Duration) = millis(100, 6000);
const NODE_STALL: (Duration, Duration) = millis(20, 3000);
/// Nobody is taken for silent.
const NODE_PAUSE: (Duration, Duration) = millis(50, 180);
/// As long as a scheduler lets a process wait for its turn on a busy core.
const NODE_PREEMPTED: (Duration, Duration) = millis(5, 30);
/// Below, about and above the session time.
const OUTAGES: [(Duration, Duration); 3] =
    [millis(1000, 9000), millis(9800, 10_300), millis(10_500, 13_000)];
const REBOOTS: [(Duration, Duration); 2] = [millis(100, 5000), millis(10_500, 13_000)];

impl Simulation {
    pub(crate) fn handle_fault(&mut self) {
        let now = self.queue.now();
        if now.saturating_add(CALM_BEFORE_END) >= self.load_end {
            return;
        }
        let every = self.world.faults.every;
        let wait = self.fault_random.duration(Duration::ZERO, every.saturating_mul(2));
        let is_calm = now.saturating_since(self.failed_at) >= CALM_MAX;
        let kinds = self.world.faults.kinds.iter();
        let kinds = kinds.filter(|(kind, _)| !is_calm || kind.is_failure());
        let total =
            kinds.clone().fold(0_u64, |sum, &(_, weight)| sum.saturating_add(weight.into()));
        let mut drawn = self.fault_random.below(total);
        let mut drawn_kind = None;
        for &(kind, weight) in kinds {
            if drawn < u64::from(weight) {
                drawn_kind = Some(kind);
                break;
            }
            drawn = drawn.saturating_sub(u64::from(weight));
        }
        let injected = drawn_kind.and_then(|kind| self.inject(kind).zip(Some(kind)));
        // What cannot happen now gives way to something else soon.
        let wait = if injected.is_some() { wait } else { wait.min(FAULT_AGAIN) };
        self.queue.schedule(now.saturating_add(wait), Event::Fault);
        if let Some(((node, numbers), kind)) = injected {
            let count = if kind.is_failure() {
                self.failed_at = now;
                &mut self.faults
            } else {
                &mut self.disturbances
            };
            *count = count.saturating_add(1);
            self.note_as(node, kind.name(), numbers);
        }
    }

    fn index(&mut self, count: usize) -> usize {
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        usize::try_from(self.fault_random.below(count)).unwrap_or(0)
    }

    fn heal_after(&mut self, (least, most): (Duration, Duration), heal: Heal) {
        let wait = self.fault_random.duration(least, most);
        // Nothing stays broken for ever: what is left is healed when the load ends.
        let at = self.queue.now().saturating_add(wait).min(self.load_end);
        self.queue.schedule(at, Event::Heal(heal));
    }

    /// Lets something go wrong; the node that it happens to, and numbers for the trace. `None` if it
    /// cannot happen now.
    fn inject(&mut self, kind: FaultKind) -> Option<(usize, [u64; 2])> {
        let link_end = self.index(self.ends.len());
        let node = self.ends[link_end].node;
        let link = self.ends[link_end].link;
        match kind {
            FaultKind::LaneReset
            | FaultKind::LaneFinish
            | FaultKind::LaneSilence
            | FaultKind::LaneHalfSilence => {
                let lane = self.index(self.ends[link_end].open.len());
                let id = self.ends[link_end].open.get(lane)?.connection;
                match kind {
                    FaultKind::LaneReset => self.network.reset(&mut self.queue, id),
                    FaultKind::LaneFinish => self.network.finish(&mut self.queue, id),
                    _ => self.silence(id, kind == FaultKind::LaneSilence),
                }
                return Some((node, [u64::from(id.0), 0]));
            }
            FaultKind::LinkReset => self.reset_link(link),
            FaultKind::LinkSilence => {
                let since = self.block(link)?;
                for id in self.connections_of(link) {
                    self.hold_both(id);
                }
                self.heal_after(LINK_SILENCE, Heal::Link { link, since });
            }
            FaultKind::LinkOutage => {
                let since = self.block(link)?;
                self.reset_link(link);
                let lasts = *self.fault_random.pick(&OUTAGES)?;
                self.heal_after(lasts, Heal::Link { link, since });
            }
            FaultKind::NodeStall | FaultKind::NodePause | FaultKind::NodePreempted => {
                if !self.is_running(node) {
                    return None;
                }
                self.nodes[node].state = NodeState::Stalled;
                let lasts = match kind {
                    FaultKind::NodeStall => NODE_STALL,
                    FaultKind::NodePause => NODE_PAUSE,
                    _ => NODE_PREEMPTED,
                };
                self.heal_after(lasts, Heal::Stall(node));
            }
            FaultKind::NodeRestart => {
                if !self.is_running(node) || !self.may_restart(node) {
                    return None;
                }
                self.shut_down(node);
            }
            FaultKind::ModeSwitch => self.switch_mode(link_end)?,
            FaultKind::LaneRetire => self.retire_lane(link_end)?,
        }
        let link = u64::try_from(link).unwrap_or(u64::MAX);
        Some((node, [link, 0]))
    }

    fn block(&mut self, link: usize) -> Option<MonoTime> {
        if self.links[link].blocked.is_some() {
            return None;
        }
        let since = self.queue.now();
        self.links[link].blocked = Some(since);
        Some(since)
    }

    /// Connections of a link that at least one end has open.
    fn connections_of(&self, link: usize) -> Vec<ConnectionId> {
        let first = link.saturating_mul(2);
        let mut ids: Vec<ConnectionId> = [first, first | 1]
            .iter()
            .flat_map(|&end| self.ends[end].open.iter().map(|end| end.connection))
            .collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    fn reset_link(&mut self, link: usize) {
        for id in self.connections_of(link) {
            self.network.reset(&mut self.queue, id);
        }
    }

    fn hold_both(&mut self, connection: ConnectionId) {
        for side in [Side::Dialler, Side::Acceptor] {
            self.network.hold(End { connection, side });
        }
    }

    /// A connection falls silent in both directions or in one.
    fn silence(&mut self, connection: ConnectionId, both: bool) {
        if both {
            self.hold_both(connection);
        } else {
            let to_acceptor = self.fault_random.chance(500);
            let side = if to_acceptor { Side::Acceptor } else { Side::Dialler };
            self.network.hold(End { connection, side });
        }
        self.heal_after(LANE_SILENCE, Heal::Connection(connection));
    }

    fn switch_mode(&mut self, link_end: usize) -> Option<()> {
        let machine = &mut self.ends[link_end].machine;
        if !machine.is_up() {
            return None;
        }
        let mode = match machine.mode() {
            LinkMode::Separate => LinkMode::Collapsed,
            LinkMode::Collapsed => LinkMode::Separate,
        };
        machine.propose_mode(mode);
        self.pump(self.ends[link_end].node);
        Some(())
    }

    /// A node closes one of its lanes, if it has some.
    fn retire_lane(&mut self, link_end: usize) -> Option<()> {
        let lane = self.index(self.ends[link_end].open.len());
        let end = self.ends[link_end].open.get(lane).copied()?;
        if self.ends[link_end].open.len() < 3 {
            return None;
        }
        let now = self.queue.now();
        let retired = self.lanes[number(end.connection)].lane();
        self.ends[link_end].retired.push(retired);
        self.ends[link_end].machine.close_lane(now, end.key(), CloseReason::NotNeeded);
        self.pump(self.ends[link_end].node);
        Some(())
    }

    /// Would nothing that was acknowledged be lost for good, if the node lost its memory?
    fn may_restart(&self, node: usize) -> bool {
        let safe = |flow: &usize, of_source: bool| {
            let flow = &self.flows[*flow];
            let ends = [flow.first_end, flow.last_end];
            let down = |end: usize| self.nodes[self.ends[end].node].state == NodeState::Down;
            if ends.into_iter().any(down) {
                false
            } else if of_source {
                flow.source.may_restart(&flow.sink)
            } else {
                flow.source.sink_may_restart(&flow.sink)
            }
        };
        let node = &self.nodes[node];
        node.sources.iter().all(|flow| safe(flow, true))
            && node.sinks.iter().all(|flow| safe(flow, false))
    }

    /// The node stops without a word, or its connections are reset.
    fn shut_down(&mut self, node: usize) {
        let silent = self.fault_random.chance(300);
        self.nodes[node].state = NodeState::Down;
        let ends = self.nodes[node].ends.clone();
        for end in ends {
            for id in self.connections_of(self.ends[end].link) {
                if silent {
                    self.hold_both(id);
                } else {
                    self.network.reset(&mut self.queue, id);
                }
            }
            self.lose_held(end);
            self.forget_lanes(end);
        }
        let [soon, late] = REBOOTS;
        let lasts = if self.fault_random.chance(700) { soon } else { late };
        self.heal_after(lasts, Heal::Reboot(node));
    }

    /// What the link had taken and holds before its turn goes with the node's memory: its peer may know
    /// that it came, and hand it back to nobody.
    fn lose_held(&mut self, link_end: usize) {
        let now = self.queue.now();
        let machine = &mut self.ends[link_end].machine;
        let keys: Vec<_> = machine.lanes().map(|lane| lane.key).collect();
        for key in keys {
            // Without a lane it holds nothing any more.
            machine.handle_lane_down(now, key, "its node is gone");
        }
        while let Some(frame) = self.ends[link_end].machine.poll_reassembled() {
            self.check_delivered(link_end, &frame.as_frame());
        }
    }

    pub(crate) fn handle_heal(&mut self, heal: Heal) {
        match heal {
            Heal::Connection(connection) => {
                let node = self.ends[self.end_of(End { connection, side: Side::Dialler })].node;
                self.note(node, Event::Heal(heal));
                self.release(connection);
            }
            Heal::Link { link, since } => {
                if self.links[link].blocked != Some(since) || self.mutate(Mutation::NeverHeal) {
                    return;
                }
                self.links[link].blocked = None;
                self.links[link].open_since = self.queue.now();
                self.note(self.ends[link.saturating_mul(2)].node, Event::Heal(heal));
                for id in self.connections_of(link) {
                    self.release(id);
                }
            }
            Heal::Stall(node) => {
                if self.nodes[node].state == NodeState::Stalled {
                    self.note(node, Event::Heal(heal));
                    self.resume(node);
                }
            }
            Heal::Reboot(node) => {
                self.note(node, Event::Heal(heal));
                self.reboot(node);
            }
        }
    }

    fn release(&mut self, connection: ConnectionId) {
        for side in [Side::Dialler, Side::Acceptor] {
            self.network.release(&mut self.queue, End { connection, side });
        }
    }

    /// A node that stood still goes on: sometimes its timers run before it reads.
    fn resume(&mut self, node: usize) {
        let now = self.queue.now();
        self.nodes[node].state = NodeState::Running;
        self.note_runs(node);
        let timers_first = self.fault_random.chance(500);
        let ends = self.nodes[node].ends.clone();
        for &end in &ends {
            if timers_first {
                self.ends[end].machine.handle_timeout(now, false);
                self.note_usable(end);
            }
        }
        for &end in &ends {
            for lane in self.ends[end].open.clone() {
                self.read(lane);
            }
        }
        for lane in std::mem::take(&mut self.nodes[node].handed) {
            self.handle_lane_up(lane);
        }
        for end in ends {
            for lane in self.ends[end].open.clone() {
                self.flush(end, lane);
            }
        }
        self.pump(node);
    }

    /// From now on lanes of the node can be opened.
    fn note_runs(&mut self, node: usize) {
        let now = self.queue.now();
        for index in 0..self.nodes[node].ends.len() {
            if let Some(&end) = self.nodes[node].ends.get(index) {
                let link = self.ends[end].link;
                self.links[link].open_since = now;
            }
        }
    }

    fn reboot(&mut self, node: usize) {
        self.note_runs(node);
        let life = self.nodes[node].life.saturating_add(1);
        let state = &mut self.nodes[node];
        state.life = life;
        state.state = NodeState::Running;
        state.dials = 0;
        state.handed.clear();
        state.windows = PathWindows::new(self.world.path_window);
        state.rounds = SendRounds::default();
        state.budget = WindowBudget::new(self.world.memory_bytes);
        let (ends, sources, sinks) =
            (state.ends.clone(), state.sources.clone(), state.sinks.clone());
        for flow in sources {
            self.flows[flow].source.restart(BootEpoch(life));
            self.nodes[node].windows.join(self.flows[flow].source.path);
        }
        for flow in sinks {
            self.flows[flow].sink.restart(BootEpoch(life));
        }
        for &end in &ends {
            let link = self.ends[end].link;
            // Its kernel knows none of the old connections any more.
            self.reset_link(link);
            self.ends[end].restart();
        }
        for end in ends {
            self.dial_all(self.ends[end].link);
        }
        self.pump(node);
    }

    /// The node's lanes are no more, and its machine will not be asked about them.
    fn forget_lanes(&mut self, link_end: usize) {
        for end in std::mem::take(&mut self.ends[link_end].open) {
            self.lanes[number(end.connection)].forget(end.side);
        }
    }
}
