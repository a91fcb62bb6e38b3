//! Who is there.

use hawser_wire::NodeId;

use super::Membership;
use crate::late_answers::Answer;
use crate::probe::Probe;
use crate::relays::Relay;
use crate::{Liveness, MessageBody, RejectReason, Suspecters};

impl Membership {
    /// The next probe.
    pub(super) fn tick(&mut self) {
        let now = self.clock.now();
        let stretch = self.awareness.multiplier();
        let interval = self.config.probe_interval.saturating_mul(stretch);
        let next = self.tick_due.saturating_add(interval);
        self.tick_due = if next > now { next } else { now.saturating_add(interval) };
        if !std::mem::take(&mut self.round_heard) {
            self.round = self.round.wrapping_add(1);
        }
        let others = self.members.ring().len();
        if !self.pace.follow(self.round, stretch, others) {
            self.rejected.rounds_ahead = self.rejected.rounds_ahead.saturating_add(1);
        }
        let target = if self.pace.draws() {
            let drawn = self.random.position(others);
            self.members.ring().get(drawn).copied()
        } else {
            self.members.behind_own(self.round)
        };
        let Some(slot) = target else { return };
        let Some(target) = self.members.get(slot).map(|member| member.node) else { return };
        let sequence = self.next_sequence();
        self.send(target, MessageBody::Ping { sequence }, Some(slot));
        let over = self.probe.replace(Probe {
            target,
            sequence,
            relay_due: Some(now.saturating_add(self.config.ack_timeout.saturating_mul(stretch))),
            end: now.saturating_add(self.config.probe_timeout.saturating_mul(stretch)),
            relays: Vec::new(),
        });
        self.end_probe(over, None);
    }

    /// A probe is over, answered `by` a member or by nobody: the others may still answer.
    pub(super) fn end_probe(&mut self, over: Option<Probe>, by: Option<NodeId>) {
        let Some(Probe { target, sequence, relays, .. }) = over else { return };
        let asked = relays.iter().map(|(relay, _)| *relay);
        for node in asked.chain([target]).filter(|node| Some(*node) != by) {
            self.late_answers.expect(sequence, node, Answer::Ack);
        }
        for (relay, _) in relays.into_iter().filter(|(_, nacked)| !nacked) {
            self.late_answers.expect(sequence, relay, Answer::Nack);
        }
    }

    /// From 1: an ack to 0 is not waited for.
    fn next_sequence(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(1).max(1);
        self.sequence
    }

    /// What the probe that is under way is waiting for did not come.
    pub(super) fn probe_due(&mut self) {
        let now = self.clock.now();
        let Some(probe) = &mut self.probe else { return };
        if probe.end <= now {
            let (target, asked) = (probe.target, probe.relays.len());
            let silent = probe.silent_relays();
            let over = self.probe.take();
            self.end_probe(over, None);
            // Relays that say nothing either point at this node; so does nobody to ask.
            let own_fault = if asked == 0 { 1 } else { u32::try_from(silent).unwrap_or(u32::MAX) };
            self.awareness.worsen(own_fault);
            self.accuse(target);
        } else if probe.relay_due.take_if(|due| *due <= now).is_some() {
            let (target, sequence) = (probe.target, probe.sequence);
            let relays = self.draw(self.config.indirect_probes, Some(target));
            for &relay in &relays {
                self.send(relay, MessageBody::PingRequest { sequence, target }, None);
            }
            if let Some(probe) = &mut self.probe {
                probe.relays = relays.into_iter().map(|relay| (relay, false)).collect();
            }
        }
    }

    /// This node got no answer from a member.
    fn accuse(&mut self, target: NodeId) {
        let Some(slot) = self.members.slot(target) else { return };
        let Some(member) = self.members.get(slot).filter(|m| m.is_in_ring()) else { return };
        let (version, before) = (member.version, member.liveness);
        let mut by = Suspecters::default();
        by.add(self.node);
        self.suspect(slot, version, &by, true);
        if before == Liveness::Alive {
            self.send(target, MessageBody::Gossip, Some(slot));
        }
    }

    pub(super) fn handle_ack(&mut self, from: NodeId, sequence: u32) -> Result<(), RejectReason> {
        let answers = |probe: &mut Probe| probe.sequence == sequence && probe.may_answer(from);
        if let Some(over) = self.probe.take_if(answers) {
            self.awareness.improve();
            self.end_probe(Some(over), Some(from));
            return Ok(());
        }
        if let Some(relay) = self.relays.take(sequence, from) {
            self.send(relay.requester, MessageBody::Ack { sequence: relay.request }, None);
            return Ok(());
        }
        if sequence == 0 { Ok(()) } else { self.handle_late(from, sequence, Answer::Ack) }
    }

    /// An answer that nothing waits for: too late, or to what was never asked.
    fn handle_late(
        &mut self,
        from: NodeId,
        sequence: u32,
        answer: Answer,
    ) -> Result<(), RejectReason> {
        if !self.late_answers.take(sequence, from, answer) {
            return Err(RejectReason::Unasked { from });
        }
        self.rejected.answers_late = self.rejected.answers_late.saturating_add(1);
        Ok(())
    }

    pub(super) fn handle_nack(&mut self, from: NodeId, sequence: u32) -> Result<(), RejectReason> {
        let probe = self.probe.as_mut().filter(|probe| probe.sequence == sequence);
        let relay =
            probe.and_then(|probe| probe.relays.iter_mut().find(|(relay, _)| *relay == from));
        match relay {
            Some((_, nacked)) => *nacked = true,
            None => return self.handle_late(from, sequence, Answer::Nack),
        }
        Ok(())
    }

    pub(super) fn handle_ping_request(
        &mut self,
        from: NodeId,
        request: u32,
        target: NodeId,
    ) -> Result<(), RejectReason> {
        if target == self.node {
            self.send(from, MessageBody::Ack { sequence: request }, self.members.slot(from));
            return Ok(());
        }
        let slot = self.members.slot(target).ok_or(RejectReason::NotMember { node: target })?;
        let now = self.clock.now();
        if !self.relay_limit.take(now, from) {
            return Err(RejectReason::TooMuch { from });
        }
        let sequence = self.next_sequence();
        let end = self.config.probe_timeout.saturating_sub(self.config.ack_timeout);
        let nack = end.checked_div(2).unwrap_or(end);
        let relay = Relay {
            sequence,
            target,
            requester: from,
            request,
            nack_due: now.saturating_add(nack),
            end: now.saturating_add(end),
        };
        if !self.relays.push(relay) {
            return Err(RejectReason::TooMuch { from });
        }
        self.send(target, MessageBody::Ping { sequence }, Some(slot));
        Ok(())
    }

    /// Tells those who asked that there is no ack yet.
    pub(super) fn nack_due(&mut self) {
        while let Some(relay) = self.relays.take_over(self.clock.now()) {
            self.late_answers.expect(relay.sequence, relay.target, Answer::Ack);
        }
        while let Some(relay) = self.relays.take_nack(self.clock.now()) {
            self.send(relay.requester, MessageBody::Nack { sequence: relay.request }, None);
        }
    }

    /// Asks one of the dead. It hears that it is believed to be dead, and its ack says that it is
    /// not; so two sides of a partition find each other.
    pub(super) fn reconnect(&mut self) {
        self.reconnect_due = self.clock.now().saturating_add(self.config.reconnect_interval);
        let dead = self.members.dead();
        let Some(&slot) = dead.get(self.random.position(dead.len())) else { return };
        let Some(target) = self.members.get(slot).map(|member| member.node) else { return };
        self.send(target, MessageBody::Ping { sequence: 0 }, Some(slot));
    }
}
