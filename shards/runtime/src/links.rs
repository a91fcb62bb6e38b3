mod closing;
mod control;
mod reassembled;
mod reports;
mod sending;
mod usability;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::num::NonZeroU64;

use hawser_exchange::{LaneHandover, LaneRule, LaneSerial};
use hawser_link::{
    Batch, Flow, FrameParts, Handled, LaneDecision, LaneOffer, LinkConfig, LinkEvent,
    LinkViolation, Origin, ReassembledFrame, Refusal, RefusedLimit, VirtualLink,
};
use hawser_session::LaneSession;
use hawser_wire::{
    CloseReason, FrameFlags, FrameKind, FrameRef, LaneId, LinkMode, MonoTime, NodeId, TrafficClass,
};

use crate::config::ShardConfig;
use crate::congestion_control::{UnmeasuredLanes, least_round_trip};
use crate::control_share::ControlShare;
use crate::io::{LaneKey, ShardIo};
use crate::lane::Lane;
use crate::lane_supervisor::{LaneSupervisor, SampledLane, Supervision};

/// What a neighbour's lanes share.
#[derive(Debug)]
struct Link {
    machine: VirtualLink,
    /// Frames that it takes arrive, as far as was known when it was last looked at.
    usable: bool,
    supervisor: Option<LaneSupervisor>,
    unmeasured: UnmeasuredLanes,
    /// It may have something to write, to tell, or another deadline.
    touched: bool,
    dropped_frames: u64,
    /// What the neighbour has under way to the control thread.
    control: ControlShare,
    /// Of lanes that are gone.
    sent_bytes: u64,
    received_bytes: u64,
}

/// A lane that came or went, for the control thread.
#[derive(Debug)]
pub(crate) enum LaneEvent {
    Up {
        peer: NodeId,
        lane: LaneId,
        serial: LaneSerial,
    },
    Down {
        peer: NodeId,
        lane: LaneId,
        serial: LaneSerial,
        reason: String,
        told: Option<CloseReason>,
        closed: Option<CloseReason>,
    },
}

/// A frame for a link.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outgoing {
    pub(crate) kind: FrameKind,
    pub(crate) class: TrafficClass,
    pub(crate) origin: Origin,
    pub(crate) flow: Flow,
    pub(crate) flags: FrameFlags,
    /// A number of the neighbour that has brought it; none if it is of this node.
    pub(crate) via: Option<NonZeroU64>,
}

/// The links of this shard and their lanes: carries bytes between each link's machine and the
/// sessions and sockets of its lanes, and decides nothing.
#[derive(Debug)]
pub(crate) struct Links<I> {
    pub(crate) io: I,
    local: NodeId,
    config: LinkConfig,
    /// As configured.
    lane_rule: LaneRule,
    /// What operators have chosen instead.
    lane_rules: BTreeMap<NodeId, LaneRule>,
    collapsed: bool,
    /// Congestion control of lanes that lead far, if it is not what sockets come with.
    far_control: Option<String>,
    links: BTreeMap<NodeId, Link>,
    lanes: BTreeMap<LaneKey, Lane>,
    next_key: u64,
    /// Links whose `touched` is set, each once.
    touched: VecDeque<NodeId>,
    /// Lanes that may have something to write, each once: those whose `wanted` is set.
    wanting: VecDeque<LaneKey>,
    /// No link's machine is due before.
    due: Option<MonoTime>,
    events: VecDeque<LaneEvent>,
    /// What the machines of links have to say that is not the driver's business.
    notes: VecDeque<(NodeId, LinkEvent)>,
    /// What was decided about the numbers of lanes.
    decisions: VecDeque<(NodeId, LaneDecision, Vec<SampledLane>)>,
    /// What links let go of, and which.
    rerouted: VecDeque<(NodeId, Batch)>,
    /// Links that have become usable, or are not any more.
    turned: VecDeque<(NodeId, bool)>,
    /// Striped frames that wait no more for those before them.
    restored: VecDeque<(NodeId, ReassembledFrame)>,
    /// Neighbours whose frames for the control thread were dropped since that was told.
    control_dropped: BTreeSet<NodeId>,
}

impl<I: ShardIo> Links<I> {
    pub(crate) fn new(io: I, config: &ShardConfig) -> Self {
        Self {
            io,
            local: config.local,
            config: config.link,
            lane_rule: config.lane_rule,
            lane_rules: BTreeMap::new(),
            collapsed: config.collapsed,
            far_control: config.far_control.clone(),
            links: BTreeMap::new(),
            lanes: BTreeMap::new(),
            next_key: 1,
            touched: VecDeque::new(),
            wanting: VecDeque::new(),
            due: None,
            events: VecDeque::new(),
            notes: VecDeque::new(),
            decisions: VecDeque::new(),
            rerouted: VecDeque::new(),
            turned: VecDeque::new(),
            restored: VecDeque::new(),
            control_dropped: BTreeSet::new(),
        }
    }

    pub(crate) fn poll_event(&mut self) -> Option<LaneEvent> {
        self.events.pop_front()
    }

    /// For the operator, and wishes for lanes.
    pub(crate) fn poll_note(&mut self) -> Option<(NodeId, LinkEvent)> {
        self.notes.pop_front()
    }

    /// For the operator.
    pub(crate) fn poll_decision(&mut self) -> Option<(NodeId, LaneDecision, Vec<SampledLane>)> {
        self.decisions.pop_front()
    }

    /// Frames that a link let go of before they were acknowledged, and where it leads.
    pub(crate) fn poll_rerouted(&mut self) -> Option<(NodeId, Batch)> {
        self.rerouted.pop_front()
    }

    pub(crate) fn lane_mut(&mut self, key: LaneKey) -> Option<&mut Lane> {
        self.lanes.get_mut(&key)
    }

    pub(crate) fn has_lanes(&self) -> bool {
        !self.lanes.is_empty()
    }

    /// Takes a lane whose handshakes are done. One that its link does not take is told why and
    /// closed.
    pub(crate) fn add(
        &mut self,
        now: MonoTime,
        serial: LaneSerial,
        mut handover: LaneHandover<LaneSession>,
    ) -> LaneKey {
        let key = LaneKey(self.next_key);
        self.next_key += 1;
        let (peer, lane) = (handover.peer, handover.lane);
        // The socket goes to the driver; the lane keeps a closed stand-in out of its reach.
        let opened = handover.socket.try_clone().and_then(|socket| self.io.open(key, socket));
        if let Err(error) = opened {
            let reason = format!("socket lost at hand-over: {error}");
            let (told, closed) = (None, None);
            self.events.push_back(LaneEvent::Down { peer, lane, serial, reason, told, closed });
            return key;
        }
        handover.peer_name.clear();
        let offer = LaneOffer {
            lane,
            class: handover.class,
            epoch: handover.epoch,
            dialled: handover.dialled,
            peer_incarnation: handover.peer_incarnation,
            peer_life: handover.peer_life,
            peer_stripes: handover.peer_stripes,
            peer_takes_priority: handover.peer_takes_priority,
        };
        self.lanes.insert(key, Lane::new(serial, handover));
        let (local, config, rule) = (self.local, self.config, self.lane_rule_of(peer));
        let link = self.links.entry(peer).or_insert_with(|| Link {
            machine: VirtualLink::new(config, local, peer),
            usable: false,
            supervisor: LaneSupervisor::new(rule),
            unmeasured: UnmeasuredLanes::default(),
            touched: false,
            dropped_frames: 0,
            control: ControlShare::new(),
            sent_bytes: 0,
            received_bytes: 0,
        });
        let taken = link.machine.handle_lane_up(now, key, offer);
        if self.far_control.is_some() {
            link.unmeasured.add(now, key);
        }
        // What an operator has chosen since, at either end, holds until the session ends.
        if self.collapsed && link.machine.is_mode_untouched() {
            link.machine.propose_mode(LinkMode::Collapsed);
        }
        self.events.push_back(LaneEvent::Up { peer, lane, serial });
        if let Err(violation) = taken {
            self.start_close(now, key, violation.close_reason(), &violation.to_string());
        }
        self.touch(peer);
        self.settle(now);
        key
    }

    /// The link has to be looked at before the turn ends.
    fn touch(&mut self, peer: NodeId) {
        if let Some(link) = self.links.get_mut(&peer)
            && !std::mem::replace(&mut link.touched, true)
        {
            self.touched.push_back(peer);
        }
    }

    /// How many bulk lanes the link to `peer` has.
    fn lane_rule_of(&self, peer: NodeId) -> LaneRule {
        self.lane_rules.get(&peer).copied().unwrap_or(self.lane_rule)
    }

    /// The bulk lanes of the link to `peer` follow this rule from now on, or the configured one.
    pub(crate) fn set_lane_rule(&mut self, peer: NodeId, rule: Option<LaneRule>) {
        match rule {
            Some(rule) => drop(self.lane_rules.insert(peer, rule)),
            None => drop(self.lane_rules.remove(&peer)),
        }
        let rule = self.lane_rule_of(peer);
        if let Some(link) = self.links.get_mut(&peer) {
            link.supervisor = LaneSupervisor::under(link.supervisor.take(), rule);
        }
    }

    /// Proposes a mode to the far end of a link, if there is one.
    pub(crate) fn propose_mode(&mut self, peer: NodeId, mode: LinkMode) {
        if let Some(link) = self.links.get_mut(&peer) {
            link.machine.propose_mode(mode);
            self.touch(peer);
        }
    }

    /// Whether the link puts all classes on one lane.
    pub(crate) fn mode(&self, peer: NodeId) -> LinkMode {
        self.links.get(&peer).map_or(LinkMode::Separate, |link| link.machine.mode())
    }

    /// Own streams may give the link to `peer` more of `class`. What others have put there is no
    /// concern of theirs.
    pub(crate) fn has_room(&self, peer: NodeId, class: TrafficClass, flow: Flow) -> bool {
        self.links.get(&peer).is_some_and(|link| link.machine.has_room(class, flow))
    }

    /// Whether no own stream has room for anything of `class`.
    pub(crate) fn is_full(&self, peer: NodeId, class: TrafficClass) -> bool {
        self.links.get(&peer).is_none_or(|link| link.machine.is_full(class))
    }

    /// Queues a frame for `peer`, though the link may be silent.
    pub(crate) fn push(
        &mut self,
        peer: NodeId,
        frame: Outgoing,
        body: FrameParts<'_>,
    ) -> Result<(), Refusal> {
        self.push_if(peer, frame, body, |_| true)
    }

    /// Queues a frame for `peer` unless the link is not usable: it may have another way.
    pub(crate) fn push_usable(
        &mut self,
        peer: NodeId,
        frame: Outgoing,
        body: FrameParts<'_>,
    ) -> Result<(), Refusal> {
        self.push_if(peer, frame, body, |link| link.usable)
    }

    fn push_if(
        &mut self,
        peer: NodeId,
        frame: Outgoing,
        body: FrameParts<'_>,
        takes: impl FnOnce(&Link) -> bool,
    ) -> Result<(), Refusal> {
        let Outgoing { kind, class, origin, flow, flags, .. } = frame;
        let link = self.links.get_mut(&peer).filter(|link| takes(link));
        let Some(link) = link else {
            return Err(Refusal {
                class,
                lane: None,
                limit: RefusedLimit::NoLane,
                queued_bytes: 0,
                max_bytes: 0,
                retry_after: std::time::Duration::from_secs(1),
            });
        };
        let pushed = link.machine.push(kind, class, origin, flow, flags, body);
        if pushed.is_err_and(|refusal| refusal.limit != RefusedLimit::NoLane) {
            link.dropped_frames += 1;
        }
        self.touch(peer);
        pushed
    }

    /// A frame for a link that is down had no other way.
    pub(crate) fn note_dropped(&mut self, peer: NodeId) {
        if let Some(link) = self.links.get_mut(&peer) {
            link.dropped_frames += 1;
        }
    }

    /// A frame came over a lane: what the link makes of it.
    pub(crate) fn handle_frame(
        &mut self,
        now: MonoTime,
        key: LaneKey,
        peer: NodeId,
        frame: &FrameRef<'_>,
    ) -> Result<Handled, LinkViolation> {
        let Some(link) = self.links.get_mut(&peer) else { return Ok(Handled::Duplicate) };
        link.machine.handle_frame(now, key, frame)
    }

    /// The batch whose last piece came over a lane.
    pub(crate) fn take_assembled(&mut self, key: LaneKey, peer: NodeId) -> Vec<u8> {
        self.links.get_mut(&peer).map_or_else(Vec::new, |link| link.machine.take_assembled(key))
    }

    /// A frame of such a batch.
    pub(crate) fn handle_assembled(
        &mut self,
        now: MonoTime,
        key: LaneKey,
        peer: NodeId,
        frame: &FrameRef<'_>,
    ) -> Result<Handled, LinkViolation> {
        let Some(link) = self.links.get_mut(&peer) else { return Ok(Handled::Duplicate) };
        link.machine.handle_assembled(now, key, frame)
    }

    /// Such a batch was handled: gives its memory back.
    pub(crate) fn give_assembled(
        &mut self,
        now: MonoTime,
        key: LaneKey,
        peer: NodeId,
        batch: Vec<u8>,
    ) {
        if let Some(link) = self.links.get_mut(&peer) {
            link.machine.give_assembled(now, key, batch);
        }
    }

    /// Lends the lane's read buffer to the next read.
    pub(crate) fn read_more(&mut self, key: LaneKey) {
        if let Some(lane) = self.lanes.get_mut(&key) {
            let awaited = lane.awaited_bytes();
            let buffer = lane.lend_read_buffer();
            self.io.read(key, buffer, awaited);
        }
    }

    /// A read came back with what a lane that is closing does not look at; false if it is none.
    pub(crate) fn discard(&mut self, key: LaneKey, buffer: &mut Vec<u8>) -> bool {
        if self.lanes.get(&key).is_none_or(|lane| lane.closing.is_none()) {
            return false;
        }
        let mut buffer = std::mem::take(buffer);
        buffer.clear();
        self.io.read(key, buffer, 1);
        true
    }

    /// A read came back with bytes; false if the lane is gone.
    pub(crate) fn handle_read(
        &mut self,
        now: MonoTime,
        key: LaneKey,
        buffer: Vec<u8>,
        bytes: usize,
    ) -> bool {
        let Some(lane) = self.lanes.get_mut(&key) else { return false };
        lane.return_read_buffer(now, buffer, bytes);
        let peer = lane.peer;
        if let Some(link) = self.links.get_mut(&peer) {
            link.machine.handle_bytes(key);
        }
        // Its frames may be acknowledged or answered.
        self.touch(peer);
        true
    }

    /// A write came back.
    pub(crate) fn handle_written(&mut self, key: LaneKey, buffer: Vec<u8>) {
        if let Some(lane) = self.lanes.get_mut(&key) {
            lane.writing = false;
            lane.sent_bytes =
                lane.sent_bytes.saturating_add(u64::try_from(buffer.len()).unwrap_or(u64::MAX));
            lane.session.recycle(buffer);
            note_wanted(&mut self.wanting, key, lane);
        }
    }

    /// Marks the lane as having something to write.
    pub(crate) fn want_write(&mut self, key: LaneKey) {
        if let Some(lane) = self.lanes.get_mut(&key) {
            note_wanted(&mut self.wanting, key, lane);
        }
    }

    /// Takes from every touched link what its machine has to say.
    pub(crate) fn settle(&mut self, now: MonoTime) {
        while let Some(peer) = self.touched.pop_front() {
            let Some(link) = self.links.get_mut(&peer) else { continue };
            link.touched = false;
            self.note_wanting(peer);
            let Some(link) = self.links.get_mut(&peer) else { continue };
            while let Some(batch) = link.machine.poll_rerouted() {
                self.rerouted.push_back((peer, batch));
            }
            let usable = link.machine.is_usable();
            if std::mem::replace(&mut link.usable, usable) != usable {
                self.turned.push_back((peer, usable));
            }
            while let Some(frame) = link.machine.poll_reassembled() {
                self.restored.push_back((peer, frame));
            }
            if let Some((at, _)) = link.machine.poll_timeout() {
                let at = due_at(now, at);
                self.due = Some(self.due.map_or(at, |due| due.min(at)));
            }
            let mut closes = Vec::new();
            while let Some(event) = link.machine.poll_event() {
                if matches!(event, LinkEvent::SessionEnded { .. })
                    && let Some(supervisor) = &mut link.supervisor
                {
                    supervisor.handle_session_ended();
                }
                if let LinkEvent::CloseLane { key, reason, detail } = event {
                    closes.push((key, reason, detail));
                } else {
                    self.notes.push_back((peer, event));
                }
            }
            for (key, reason, detail) in closes {
                self.start_close(now, key, reason, &detail);
            }
        }
    }

    /// Lets the machines act that are due, and ends lanes that are too slow to say good-bye.
    pub(crate) fn handle_timeout(&mut self, now: MonoTime) {
        let Some(due) = self.due.filter(|&due| due <= now) else { return };
        // A shard that comes this late stood still itself: its sockets hold what the peer has said
        // meanwhile. One that had nothing to do until now did not.
        let drained = now.saturating_since(due) <= self.config.tick;
        let over: Vec<(LaneKey, String)> = self
            .lanes
            .iter()
            .filter_map(|(&key, lane)| lane.closing.as_ref().map(|closing| (key, closing)))
            .filter(|(_, (_, until))| *until <= now)
            .map(|(key, (why, _))| (key, why.clone()))
            .collect();
        for (key, why) in over {
            self.drop_lane(now, key, &why);
        }
        let mut touched = Vec::new();
        for (&peer, link) in &mut self.links {
            if link.machine.poll_timeout().is_some_and(|(at, _)| at <= now) {
                link.machine.handle_timeout(now, drained);
                for key in link.machine.silent_lanes() {
                    if self.lanes.get_mut(&key).is_some_and(Lane::handle_silence) {
                        self.io.wake_for_any(key);
                    }
                }
                let far = link.unmeasured.take_far(now, || least_round_trip(&link.machine));
                for key in far {
                    if let Some(name) = &self.far_control {
                        self.io.set_congestion_control(key, name);
                    }
                }
                let supervised =
                    link.supervisor.as_mut().and_then(|s| s.handle_timeout(now, &mut link.machine));
                if let Some(Supervision { decision, lanes, wanted }) = supervised {
                    self.decisions.push_back((peer, decision, lanes));
                    if let Some(lane) = wanted {
                        let class = TrafficClass::Bulk;
                        self.notes.push_back((peer, LinkEvent::WantLane { lane, class }));
                    }
                }
                touched.push(peer);
            }
        }
        for peer in touched {
            self.touch(peer);
        }
        let closing = self.lanes.values().filter_map(|lane| lane.closing.as_ref());
        let closing = closing.map(|(_, until)| *until);
        let machines = self.links.values().filter_map(|link| link.machine.poll_timeout());
        self.due = machines.map(|(at, _)| due_at(now, at)).chain(closing).min();
    }

    pub(crate) const fn poll_timeout(&self) -> Option<MonoTime> {
        self.due
    }
}

/// Zero is at once. It is not that this shard has stood still since then.
fn due_at(now: MonoTime, at: MonoTime) -> MonoTime {
    if at == MonoTime::ZERO { now } else { at }
}

/// Puts a lane into the queue of those that want to write, unless it stands there already.
fn note_wanted(wanting: &mut VecDeque<LaneKey>, key: LaneKey, lane: &mut Lane) {
    if !std::mem::replace(&mut lane.wanted, true) {
        wanting.push_back(key);
    }
}
