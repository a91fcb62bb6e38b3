//! The machine of one node. Its work is in the files beside this one: `probing` asks who is there,
//! `claims` decides what is believed, `gossip` tells it.

mod claims;
mod gossip;
mod probing;

use std::collections::{BTreeSet, VecDeque};

use hawser_wire::{Incarnation, MonoTime, NodeId};
use thiserror::Error;

use crate::awareness::Awareness;
use crate::broadcasts::Broadcasts;
use crate::late_answers::LateAnswers;
use crate::members::{Members, Slot};
use crate::pace::Pace;
use crate::probe::Probe;
use crate::random::Random;
use crate::relays::Relays;
use crate::request_limit::RequestLimit;
use crate::running_clock::RunningClock;
use crate::{
    Claim, ClaimState, Config, Event, Liveness, MEMBERS_MAX, Message, MessageBody, RejectReason,
    Rejected, Roster, Version,
};

/// Messages that wait for [`Membership::poll_transmit`]; more than the driver lets come together.
const OUTBOX_MAX: usize = 4096;

/// Probes that one member has relayed at once, and then one each probe interval: as many probes as it
/// makes itself. More come together only where they were held up.
const RELAY_BURST: u32 = 8;
/// Comparisons of everything that one member may ask for at once, and then one each probe interval: so
/// often it does while it has not heard all. All members together have less than many times that.
const SYNC_BURST_OF_ONE: u32 = 4;

/// There is no room for another member; nothing changed.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("more than {MEMBERS_MAX} members")]
pub struct MembersFull;

/// One node's view of who is alive.
///
/// After each `handle_*` call, and after [`Membership::admit`], [`Membership::dismiss`] and
/// [`Membership::leave`], the driver drains [`Membership::poll_transmit`] and
/// [`Membership::poll_event`], and comes back at [`Membership::poll_timeout`] with
/// [`Membership::handle_timeout`].
///
/// **Whom it probes.** Members stand in a ring in the order of their ids. In round `r` every member
/// probes the one that stands `r` behind its successor, and a message carries its sender's round, to
/// which those behind catch up. So long as views agree each member is probed exactly once in each
/// round: a death is noticed after two intervals at the latest, where random targets (SWIM §3.1)
/// leave one member in a hundred unprobed for 4.6 of them. Where views differ the targets are as
/// good as random. SWIM §4.3's bound, that each member probes each other one within one pass of the
/// ring, holds here too.
///
/// Rounds that run faster than time are somebody's doing, a lie perhaps, by which one member would
/// choose for all others whom they do not probe: who sees that draws its targets for one pass of the
/// ring, as SWIM does.
#[derive(Debug)]
pub struct Membership {
    node: NodeId,
    config: Config,
    clock: RunningClock,
    random: Random,
    awareness: Awareness,
    members: Members,
    left: bool,

    round: u32,
    /// Caught up with a round since the last probe.
    round_heard: bool,
    pace: Pace,
    tick_due: MonoTime,
    probe: Option<Probe>,
    sequence: u32,
    relays: Relays,
    /// Of whom it relays probes.
    relay_limit: RequestLimit,
    late_answers: LateAnswers,
    /// Of suspicions.
    timers: BTreeSet<(MonoTime, Slot)>,
    reconnect_due: MonoTime,

    broadcasts: Broadcasts,
    gossip_due: MonoTime,
    sync_due: MonoTime,
    /// Members that changed since everything was compared with another member's.
    news_since_sync: usize,
    /// How far answers to requests to compare everything have used up their share of time; a burst
    /// may be ahead of it.
    sync_answers: MonoTime,
    /// Of whom it answers those.
    sync_limit: RequestLimit,
    /// Somebody has said all that is claimed.
    synced: bool,

    outbox: VecDeque<(NodeId, Vec<u8>)>,
    events: VecDeque<Event>,
    rejected: Rejected,
}

impl Membership {
    /// A machine for `node` in its life `incarnation`, that knows no other member yet. `seed` is
    /// drawn by the driver; equal seeds and equal inputs give equal outputs.
    #[must_use]
    pub fn new(
        now: MonoTime,
        node: NodeId,
        incarnation: Incarnation,
        config: Config,
        seed: u64,
    ) -> Self {
        Self {
            node,
            config,
            clock: RunningClock::new(now),
            random: Random::new(seed),
            awareness: Awareness::default(),
            members: Members::new(node, Version::first(incarnation)),
            left: false,
            round: 0,
            round_heard: false,
            pace: Pace::default(),
            tick_due: now,
            probe: None,
            sequence: 0,
            relays: Relays::default(),
            relay_limit: RequestLimit::new(RELAY_BURST, config.probe_interval),
            late_answers: LateAnswers::default(),
            timers: BTreeSet::new(),
            reconnect_due: now,
            broadcasts: Broadcasts::default(),
            gossip_due: now,
            sync_due: now,
            news_since_sync: 0,
            sync_answers: now,
            sync_limit: RequestLimit::new(SYNC_BURST_OF_ONE, config.probe_interval),
            synced: false,
            outbox: VecDeque::new(),
            events: VecDeque::new(),
            rejected: Rejected::default(),
        }
    }

    /// As [`new`](Self::new), with the members of `roster` admitted. If `node` is not one of them it
    /// knows nobody. They are taken for what all others know, too: it compares what it knows with
    /// another member's only when that is due in any case.
    #[must_use]
    pub fn with_roster(
        now: MonoTime,
        node: NodeId,
        incarnation: Incarnation,
        config: Config,
        seed: u64,
        roster: &Roster,
    ) -> Self {
        let mut machine = Self::new(now, node, incarnation, config, seed);
        if let Some(members) = roster.0.seen_by(node, Version::first(incarnation)) {
            machine.members = members;
            machine.start_timers(true, true);
            machine.sync_due = machine.within(machine.config.sync_interval);
            machine.synced = true;
        }
        machine
    }

    /// The mesh admits `node`, whose life is `incarnation` at least. One that is new is taken to be
    /// alive until probes say otherwise; one that is known in an earlier life is alive again. No
    /// event for the first, an event for the second; nothing for this node.
    ///
    /// # Errors
    /// [`MembersFull`].
    pub fn admit(
        &mut self,
        now: MonoTime,
        node: NodeId,
        incarnation: Incarnation,
    ) -> Result<(), MembersFull> {
        self.advance(now);
        if node == self.node {
            return Ok(());
        }
        let version = Version::first(incarnation);
        if let Some(slot) = self.members.slot(node) {
            // Everybody gets it from the same source as this node: it is not spread.
            if self.members.get(slot).is_some_and(|m| m.version.incarnation < incarnation) {
                self.become_state(slot, version, Liveness::Alive, None, false);
            }
            return Ok(());
        }
        let alone = self.members.ring().is_empty();
        self.members.insert(node, version).ok_or(MembersFull)?;
        self.start_timers(alone, self.members.dead().is_empty());
        Ok(())
    }

    /// The mesh does not admit `node` any more: it left for good, or was evicted. It is forgotten
    /// without an event, and what it says is rejected from now on.
    pub fn dismiss(&mut self, now: MonoTime, node: NodeId) {
        self.advance(now);
        let Some(member) = self.members.slot(node).and_then(|slot| {
            let member = self.members.remove(slot)?;
            self.broadcasts.remove(slot, member.broadcast);
            if let Some(suspicion) = &member.suspicion {
                self.timers.remove(&(suspicion.timer, slot));
            }
            Some(member)
        }) else {
            return;
        };
        let over = self.probe.take_if(|probe| probe.target == member.node);
        self.end_probe(over, None);
    }

    /// This node leaves: says so to some members, who pass it on, and probes nobody any more. It
    /// goes on answering until the driver drops the machine.
    pub fn leave(&mut self, now: MonoTime) {
        self.advance(now);
        if std::mem::replace(&mut self.left, true) {
            return;
        }
        let over = self.probe.take();
        self.end_probe(over, None);
        let own = self.members.own();
        self.members.set_liveness(own, Liveness::Left);
        self.broadcasts.add(&mut self.members, own);
        self.gossip();
    }

    /// Takes a message of `from`, whose id the driver has from the route.
    ///
    /// # Errors
    /// [`RejectReason`]; it is counted.
    pub fn handle_message(
        &mut self,
        now: MonoTime,
        from: NodeId,
        bytes: &[u8],
    ) -> Result<(), RejectReason> {
        self.advance(now);
        let taken = self.take_message(from, bytes);
        if let Err(reason) = &taken {
            self.rejected.count(reason);
        }
        taken
    }

    fn take_message(&mut self, from: NodeId, bytes: &[u8]) -> Result<(), RejectReason> {
        if from == self.node {
            return Err(RejectReason::FromSelf);
        }
        let slot = self.members.slot(from).ok_or(RejectReason::NotMember { node: from })?;
        let known = self.members.get(slot).map(|member| member.version).unwrap_or_default();
        let Message { sender, round, body, claims } = Message::decode(bytes)?;
        if sender.incarnation < known.incarnation {
            if matches!(body, MessageBody::Ping { .. }) {
                // A node whose disk went back in time does not know how to be heard.
                self.send(from, MessageBody::Gossip, Some(slot));
            }
            let (incarnation, known) = (sender.incarnation, known.incarnation);
            return Err(RejectReason::EarlierLife { from, incarnation, known });
        }
        if sender.is_far_ahead_of(known) {
            return Err(RejectReason::FarAhead { from });
        }
        // Serial number arithmetic (RFC 1982): there is always a next round. Whether it is one that
        // time allows is asked once, when it is probed.
        let ahead = round.wrapping_sub(self.round);
        if (1..1 << 31).contains(&ahead) {
            self.round = round;
            self.round_heard = true;
        }
        // Old news is news only to whom this node tells it, once it has heard all.
        let spread = self.synced || !matches!(body, MessageBody::Sync);
        if sender > known {
            let state = ClaimState::Alive;
            self.believe(&Claim { subject: from, version: sender, state }, spread);
        }
        let mut missed = Vec::new();
        for claim in &claims {
            missed.extend(self.believe(claim, spread));
        }
        if !missed.is_empty() {
            self.push(from, MessageBody::Gossip, missed);
        }
        match body {
            MessageBody::Ping { sequence } => {
                self.send(from, MessageBody::Ack { sequence }, Some(slot));
                Ok(())
            }
            MessageBody::Ack { sequence } => self.handle_ack(from, sequence),
            MessageBody::PingRequest { sequence, target } => {
                self.handle_ping_request(from, sequence, target)
            }
            MessageBody::Nack { sequence } => self.handle_nack(from, sequence),
            MessageBody::Gossip => Ok(()),
            MessageBody::SyncRequest => self.handle_sync_request(from),
            MessageBody::Sync => {
                self.synced = true;
                Ok(())
            }
        }
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: MonoTime) {
        self.advance(now);
        let now = self.clock.now();
        self.nack_due();
        self.probe_due();
        self.end_suspicions();
        let alone = self.members.ring().is_empty();
        if !alone && !self.left {
            if self.tick_due <= now {
                self.tick();
            }
            if self.sync_due <= now {
                self.sync();
            }
        }
        if !self.members.dead().is_empty() && !self.left && self.reconnect_due <= now {
            self.reconnect();
        }
        if !alone && !self.broadcasts.is_empty() && self.gossip_due <= now {
            self.gossip();
        }
        if !alone && !self.left {
            self.sync_after_much_news();
        }
    }

    /// When [`Membership::handle_timeout`] is to be called next; none without another member.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<MonoTime> {
        self.due().map(|due| self.clock.outer(due))
    }

    fn due(&self) -> Option<MonoTime> {
        let others = !self.members.ring().is_empty();
        let probes = others && !self.left;
        let reconnects = !self.members.dead().is_empty() && !self.left;
        [
            self.relays.poll_timeout(),
            self.probe.as_ref().map(Probe::poll_timeout),
            self.timers.first().map(|(timer, _)| *timer),
            probes.then_some(self.tick_due),
            probes.then_some(self.sync_due),
            reconnects.then_some(self.reconnect_due),
            (others && !self.broadcasts.is_empty()).then_some(self.gossip_due),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// The next message to send, and to whom. One that is lost needs no telling.
    pub fn poll_transmit(&mut self) -> Option<(NodeId, Vec<u8>)> {
        self.outbox.pop_front()
    }

    /// What changed, oldest first.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// What is known of a member, this node included; `None` if it is not admitted.
    #[must_use]
    pub fn member(&self, node: NodeId) -> Option<(Liveness, Version)> {
        let member = self.members.get(self.members.slot(node)?)?;
        Some((member.liveness, member.version))
    }

    /// Members, this node included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// False: this node is a member always.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.members.len() == 0
    }

    /// By what this node stretches the times of its probes: 1 if it does well, 8 at most.
    #[must_use]
    pub const fn awareness(&self) -> u32 {
        self.awareness.multiplier()
    }

    /// What was not taken so far.
    #[must_use]
    pub const fn rejected(&self) -> &Rejected {
        &self.rejected
    }

    /// Lets time pass. A node that did not run when it should have holds nothing against others
    /// that happened meanwhile: what they sent it may still be unread.
    fn advance(&mut self, now: MonoTime) {
        let due = self.due();
        if !self.clock.advance(now, due, self.config.ack_timeout) {
            return;
        }
        self.awareness.worsen(1);
        // The others went on.
        self.pace = self.pace.after_sleep();
        let over = self.probe.take();
        self.end_probe(over, None);
        let earliest = self.clock.now().saturating_add(self.config.ack_timeout);
        while let Some(&(timer, slot)) = self.timers.first() {
            if timer >= earliest {
                break;
            }
            self.timers.pop_first();
            self.timers.insert((earliest, slot));
            let suspicion = self.members.get_mut(slot).and_then(|m| m.suspicion.as_mut());
            if let Some(suspicion) = suspicion {
                suspicion.timer = earliest;
                suspicion.deadline = suspicion.deadline.max(earliest);
            }
        }
    }

    /// Timers begin to run with the first member that they are about: `alone` and `no_dead` say
    /// what was true before.
    fn start_timers(&mut self, alone: bool, no_dead: bool) {
        let now = self.clock.now();
        if alone && !self.members.ring().is_empty() {
            self.tick_due = self.within(self.config.probe_interval);
            self.sync_due = self.within(self.config.gossip_interval);
            self.gossip_due = self.gossip_due.max(now);
            self.pace = self.pace.after_sleep();
            self.synced = false;
        }
        if no_dead && !self.members.dead().is_empty() {
            self.reconnect_due = self.within(self.config.reconnect_interval);
        }
    }

    /// At random, from now to `span` later: nodes that start together do not stay in step.
    fn within(&mut self, span: std::time::Duration) -> MonoTime {
        let nanos = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        let after = std::time::Duration::from_nanos(self.random.below(nanos));
        self.clock.now().saturating_add(after)
    }
}
