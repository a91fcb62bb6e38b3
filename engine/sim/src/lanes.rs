use std::time::Duration;

use hawser_link::{LaneOffer, SessionEnd};
use hawser_wire::{CloseReason, Incarnation, LaneId, LinkEpoch, LinkMode, TrafficClass};

use crate::event::Event;
use crate::link_end::LinkEnd;
use crate::mutation::Mutation;
use crate::network::{ConnectionId, End, PathShape, Side};
use crate::node::NodeState;
use crate::simulation::Simulation;
use crate::violation::Property;

/// A lost lane is dialled again after a time between these.
const REDIAL: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(300));
/// A link that can be dialled has a lane after this time.
const DIALS_WITHIN: Duration = Duration::from_secs(5);
/// How often, of a thousand, the acceptor of a lost lane dials too, so that connections cross.
const CROSSING_PER_MILLE: u64 = 300;
/// A node that misses a lane and cannot dial it asks its neighbour to after this time.
const ASK_AFTER: Duration = Duration::from_millis(500);

/// A connection and what it serves as.
#[derive(Debug)]
pub(crate) struct Lane {
    lane: LaneId,
    epoch: LinkEpoch,
    dialler: Hold,
    acceptor: Hold,
    /// One end has closed it, once nothing was in flight over it.
    pub(crate) is_retired: bool,
}

/// One end's part in a lane.
#[derive(Clone, Copy, Debug)]
struct Hold {
    link_end: usize,
    /// The node's life for which the connection was made.
    life: u64,
    /// Ledger of what this end sends.
    ledger: usize,
    up: bool,
}

impl Lane {
    const fn hold(&self, side: Side) -> &Hold {
        match side {
            Side::Dialler => &self.dialler,
            Side::Acceptor => &self.acceptor,
        }
    }

    const fn hold_mut(&mut self, side: Side) -> &mut Hold {
        match side {
            Side::Dialler => &mut self.dialler,
            Side::Acceptor => &mut self.acceptor,
        }
    }
}

impl Lane {
    /// Which lane of its link the connection serves.
    pub(crate) const fn lane(&self) -> LaneId {
        self.lane
    }

    /// The end's node has lost its memory.
    pub(crate) const fn forget(&mut self, side: Side) {
        self.hold_mut(side).up = false;
    }
}

/// The class that a lane is made for.
const fn class_of(lane: LaneId) -> TrafficClass {
    match lane.0 {
        0 => TrafficClass::Control,
        1 => TrafficClass::Priority,
        _ => TrafficClass::Bulk,
    }
}

/// Number of a connection among lanes.
pub(crate) fn number(id: ConnectionId) -> usize {
    usize::try_from(id.0).unwrap_or(usize::MAX)
}

impl Simulation {
    /// The link end that owns an end of a connection.
    pub(crate) fn end_of(&self, end: End) -> usize {
        self.lanes[number(end.connection)].hold(end.side).link_end
    }

    /// The machine at this end has the lane.
    pub(crate) fn is_up(&self, end: End) -> bool {
        self.lanes[number(end.connection)].hold(end.side).up
    }

    /// The number of the ledger of what this end sends.
    pub(crate) fn ledger_of(&self, end: End) -> usize {
        self.lanes[number(end.connection)].hold(end.side).ledger
    }

    /// The lanes that a link is to have.
    fn wanted_lanes(&self, link: usize) -> impl Iterator<Item = LaneId> + use<> {
        let bulk_lanes = self.links[link].shape.bulk_lanes;
        let lanes = if bulk_lanes == 0 { 1 } else { bulk_lanes.saturating_add(2) };
        (0..lanes).map(LaneId)
    }

    /// A link that carries all classes over one lane wants no other one.
    fn needs_lanes(&self, end: usize) -> bool {
        let end = &self.ends[end];
        end.machine.mode() == LinkMode::Separate || !end.machine.is_up()
    }

    /// Both nodes' control planes see to every lane of the link.
    pub(crate) fn dial_all(&mut self, link: usize) {
        for lane in self.wanted_lanes(link) {
            self.redial(link.saturating_mul(2), lane);
        }
    }

    /// A lane is missing: whoever dials it tries soon, and now and then the other one, too.
    fn redial(&mut self, link_end: usize, lane: LaneId) {
        let first = link_end & !1;
        let both = self.random.chance(CROSSING_PER_MILLE);
        for end in [first, first | 1] {
            if end == first || both {
                self.dial_later(end, lane);
            }
        }
    }

    /// A machine misses a lane: its node dials it, or asks the other one to.
    pub(crate) fn handle_want_lane(&mut self, link_end: usize, lane: LaneId) {
        if self.mutate_from_now(Mutation::IgnoreWishes) {
            return;
        }
        let first = link_end & !1;
        let can_dial = link_end == first || self.random.chance(CROSSING_PER_MILLE);
        let (end, wait) = if can_dial { (link_end, Duration::ZERO) } else { (first, ASK_AFTER) };
        let at = self.queue.now().saturating_add(wait);
        self.queue.schedule(at, Event::Dial { end, lane });
    }

    /// A lane that the link should have, and that this end has not. One that carries all classes over one
    /// lane should have any.
    pub(crate) fn missing_lane(&self, end: usize) -> Option<LaneId> {
        let LinkEnd { link, ref open, ref machine, .. } = self.ends[end];
        let has = |lane: LaneId| {
            open.iter().any(|end| self.lanes[number(end.connection)].lane == lane)
                || machine.mode() == LinkMode::Collapsed && !open.is_empty()
        };
        self.wanted_lanes(link).find(|&lane| !has(lane))
    }

    /// Not before this end can have heard that the lane is gone, if the other one has let go of it.
    fn dial_later(&mut self, end: usize, lane: LaneId) {
        let (least, most) = REDIAL;
        let PathShape { delay, jitter, .. } = self.links[self.ends[end].link].shape.path;
        let heard = self.queue.now().saturating_add(delay).saturating_add(jitter);
        let at = heard.saturating_add(self.random.duration(least, most));
        self.queue.schedule(at, Event::Dial { end, lane });
    }

    pub(crate) fn handle_dial(&mut self, end: usize, lane: LaneId) {
        let (link, node) = (self.ends[end].link, self.ends[end].node);
        let has = |simulation: &Self| {
            let open = simulation.ends[end].open.iter();
            let mut open = open.map(|end| simulation.lanes[number(end.connection)].lane);
            open.any(|open| open == lane)
        };
        if self.nodes[node].state == NodeState::Down
            || !self.needs_lanes(end)
            || self.ends[end].dialling.contains(&lane)
            || !self.wanted_lanes(link).any(|wanted| wanted == lane)
            || has(self)
        {
            return;
        }
        if self.links[link].blocked.is_some() {
            return self.dial_later(end, lane);
        }
        self.note(node, Event::Dial { end, lane });
        self.ends[end].dialling.push(lane);
        let (node, peer) = (self.ends[end].node, self.ends[end].peer);
        let lives = [self.nodes[node].life, self.nodes[peer].life];
        let dials = &mut self.nodes[node].dials;
        *dials = dials.saturating_add(1);
        let epoch = LinkEpoch(*dials);
        // Three times forth and back: TCP, TLS, and the upgrade with its greeting.
        let shape = self.links[link].shape.path;
        let wait = shape.delay.saturating_mul(6).saturating_add(shape.jitter);
        let at = self.queue.now().saturating_add(wait);
        self.queue.schedule(at, Event::Dialled { end, lane, epoch, lives });
    }

    pub(crate) fn handle_dialled(
        &mut self,
        end: usize,
        lane: LaneId,
        epoch: LinkEpoch,
        lives: [u64; 2],
    ) {
        let (link, node, peer) = (self.ends[end].link, self.ends[end].node, self.ends[end].peer);
        let [life, peer_life] = lives;
        if self.nodes[node].life != life || self.nodes[node].state == NodeState::Down {
            return;
        }
        self.ends[end].dialling.retain(|&other| other != lane);
        if self.links[link].blocked.is_some()
            || self.nodes[peer].life != peer_life
            || self.nodes[peer].state == NodeState::Down
        {
            return self.dial_later(end, lane);
        }
        let now = self.queue.now();
        let state = &self.links[link];
        let wire = state.wires.get(usize::from(lane.0)).or_else(|| state.wires.first());
        let Some(&[forth, back]) = wire else { return };
        let wires = if end & 1 == 0 { [forth, back] } else { [back, forth] };
        let path = state.shape.path;
        let connection = self.network.open(now, path, wires);
        let hold = |link_end: usize, life: u64| Hold { link_end, life, ledger: 0, up: false };
        let (dialler, acceptor) = (hold(end, life), hold(end ^ 1, peer_life));
        let is_retired = false;
        self.lanes.add(Lane { lane, epoch, dialler, acceptor, is_retired });
        self.note(node, Event::Dialled { end, lane, epoch, lives });
        let up = |side| Event::LaneUp { end: End { connection, side } };
        self.queue.schedule(now, up(Side::Acceptor));
        self.queue.schedule(now.saturating_add(path.delay), up(Side::Dialler));
    }

    pub(crate) fn handle_lane_up(&mut self, end: End) {
        let lane = &self.lanes[number(end.connection)];
        let (hold, other) = (*lane.hold(end.side), *lane.hold(end.side.other()));
        let offer = LaneOffer {
            lane: lane.lane,
            class: class_of(lane.lane),
            epoch: lane.epoch,
            dialled: end.side == Side::Dialler,
            peer_incarnation: Incarnation(other.life),
            peer_life: None,
            peer_stripes: true,
            peer_takes_priority: true,
        };
        let node = self.ends[hold.link_end].node;
        match self.nodes[node].state {
            NodeState::Stalled => return self.nodes[node].handed.push(end),
            NodeState::Down => return self.network.close(&mut self.queue, end),
            NodeState::Running if self.nodes[node].life != hold.life => {
                return self.network.close(&mut self.queue, end);
            }
            NodeState::Running => {}
        }
        self.note(node, Event::LaneUp { end });
        let now = self.queue.now();
        let link_end = &mut self.ends[hold.link_end];
        if let Err(violation) = link_end.machine.handle_lane_up(now, end.key(), offer) {
            self.check_close(hold.link_end, violation.close_reason());
            self.network.close(&mut self.queue, end);
        } else {
            link_end.open.push(end);
            self.lanes[number(end.connection)].hold_mut(end.side).up = true;
        }
        self.take_link_events(hold.link_end);
        let ledger = self.ends[hold.link_end].life();
        self.lanes[number(end.connection)].hold_mut(end.side).ledger = ledger;
        self.read(end);
        self.pump(node);
    }

    /// An end of a lane is gone: its machine is told, the connection closed. The lane is dialled again if
    /// the machine asks for it, or if its node dials it anyway.
    pub(crate) fn lose_lane(&mut self, link_end: usize, end: End, why: &'static str) {
        let connection = number(end.connection);
        let lane = self.lanes[connection].lane;
        if !std::mem::take(&mut self.lanes[connection].hold_mut(end.side).up) {
            return;
        }
        let node = self.ends[link_end].node;
        self.note_as(node, why, [u64::from(end.connection.0), u64::from(lane.0)]);
        self.ends[link_end].open.retain(|&open| open != end);
        self.ends[link_end].machine.handle_lane_down(self.queue.now(), end.key(), why);
        self.note_usable(link_end);
        self.network.close(&mut self.queue, end);
        let retired = &mut self.ends[link_end].retired;
        let was_retired = retired.contains(&lane);
        retired.retain(|&other| other != lane);
        if was_retired || self.world.faults.dials_always {
            self.redial(link_end, lane);
        }
    }

    /// The session of a link that has no lane ends, but not while lanes could be opened.
    pub(crate) fn check_session_end(&mut self, link_end: usize, reason: SessionEnd) {
        let LinkEnd { link, node, peer, .. } = self.ends[link_end];
        let is_open = self.links[link].blocked.is_none()
            && [node, peer].iter().all(|&node| self.is_running(node));
        let open_for = self.queue.now().saturating_since(self.links[link].open_since);
        if is_open && open_for >= DIALS_WITHIN && matches!(reason, SessionEnd::NoLane { .. }) {
            let text =
                format!("link {node} to {peer} has no lane, though none is kept from opening");
            self.violate(Property::NoDeadlock, text);
        }
    }

    /// A machine closes a lane: it may, but not by accusing its like of breaking the protocol.
    pub(crate) fn check_close(&mut self, link_end: usize, reason: CloseReason) {
        let innocent = match reason {
            CloseReason::Superseded | CloseReason::NotNeeded | CloseReason::Shutdown => true,
            CloseReason::Silent => self.world.faults.kinds.iter().any(|(kind, _)| kind.is_silent()),
            _ => false,
        };
        if !innocent {
            let node = self.ends[link_end].node;
            let text = format!("node {node} closed a lane: {}", reason.text());
            self.violate(Property::NoFalseAccusation, text);
        }
    }
}
