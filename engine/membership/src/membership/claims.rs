//! What is believed.

use super::Membership;
use crate::members::{Member, Slot};
use crate::suspicion::{Suspicion, timeout};
use crate::{Claim, ClaimState, Event, Liveness, MessageBody, Suspecters, Version};

impl Membership {
    /// Takes a claim in. What it changes is told to others if `spread`. What whoever made it has
    /// missed is answered.
    pub(super) fn believe(&mut self, claim: &Claim, spread: bool) -> Option<Claim> {
        if claim.subject == self.node {
            self.contradict(claim);
            return None;
        }
        let Some(slot) = self.members.slot(claim.subject) else {
            self.rejected.claims_of_strangers = self.rejected.claims_of_strangers.saturating_add(1);
            return None;
        };
        let member = self.members.get(slot)?;
        if claim.version.is_far_ahead_of(member.version) {
            self.rejected.claims_far_ahead = self.rejected.claims_far_ahead.saturating_add(1);
            return None;
        }
        let known = (member.version, member.liveness);
        match claim.state {
            ClaimState::Suspect(by) => {
                let by = self.admitted(claim, &by);
                if by.as_slice().is_empty() {
                    let count = &mut self.rejected.claims_by_strangers;
                    *count = count.saturating_add(1);
                } else if (claim.version, Liveness::Suspect) >= known {
                    self.suspect(slot, claim.version, &by, spread);
                } else {
                    return self.correct(slot, claim);
                }
            }
            state if (claim.version, state.liveness()) > known => {
                self.become_state(slot, claim.version, state.liveness(), None, spread);
            }
            _ => return self.correct(slot, claim),
        }
        None
    }

    /// Something newer is known. Whoever still says that a member is suspect or dead long after it
    /// contradicted has missed that, and so has who suspects one that has been dead for long; while
    /// the news goes round, it needs no telling.
    fn correct(&mut self, slot: Slot, claim: &Claim) -> Option<Claim> {
        self.count_old();
        let said = claim.state.liveness();
        let accuses = matches!(said, Liveness::Suspect | Liveness::Dead);
        let old = |m: &Member| (claim.version, said) < (m.version, m.liveness);
        let missed = |m: &&Member| accuses && m.broadcast.is_none() && old(m);
        self.members.get(slot).filter(missed).map(Member::claim)
    }

    const fn count_old(&mut self) {
        self.rejected.claims_old = self.rejected.claims_old.saturating_add(1);
    }

    /// Those who may suspect: members, and not the suspect itself.
    fn admitted(&self, claim: &Claim, by: &Suspecters) -> Suspecters {
        let mut admitted = Suspecters::default();
        for &node in by.as_slice() {
            if node != claim.subject && self.members.slot(node).is_some() {
                admitted.add(node);
            }
        }
        admitted
    }

    /// Somebody claims something about this node.
    fn contradict(&mut self, claim: &Claim) {
        let Some(own) = self.members.get(self.members.own()).map(|own| own.version) else { return };
        if claim.version.is_far_ahead_of(own) {
            self.rejected.claims_far_ahead = self.rejected.claims_far_ahead.saturating_add(1);
            return;
        }
        let liveness = claim.state.liveness();
        let version = match liveness {
            // Of an earlier life whose number was higher, as after a disk was restored from a copy;
            // or of a second node with this id. Two that take over each other's version are at rest.
            Liveness::Alive if claim.version > own => claim.version,
            Liveness::Suspect | Liveness::Dead | Liveness::Left
                if claim.version >= own && !(self.left && liveness >= Liveness::Dead) =>
            {
                claim.version.next()
            }
            _ => return self.count_old(),
        };
        if let Some(own) = self.members.get_mut(self.members.own()) {
            own.version = version;
        }
        if liveness != Liveness::Alive {
            // It answers too slowly (Lifeguard §IV-A).
            self.awareness.worsen(1);
            self.spread(self.members.own());
        }
    }

    /// These got no answer from a member: it is suspect, or more of it are.
    pub(super) fn suspect(&mut self, slot: Slot, version: Version, by: &Suspecters, spread: bool) {
        let now = self.clock.now();
        let members = self.members.ring().len().saturating_add(1);
        let Some(member) = self.members.get(slot) else { return };
        let running = member.suspicion.as_deref().filter(|_| member.version == version);
        let mut suspicion = running.copied().unwrap_or_else(|| Suspicion::new(now));
        let mut confirmed = false;
        for &node in by.as_slice() {
            confirmed |= suspicion.by.add(node);
        }
        if !confirmed {
            return self.count_old();
        }
        let lasts = timeout(&self.config, members, suspicion.by.as_slice().len());
        suspicion.set(now, lasts, &self.config);
        self.become_state(slot, version, Liveness::Suspect, Some(suspicion), spread);
    }

    /// Those that did not contradict in time are dead. Shortly before, this node asks once more: in
    /// vain if they are, but if it is only this node to which the contradiction was lost, the
    /// suspect or any of those asked sets it right.
    pub(super) fn end_suspicions(&mut self) {
        let now = self.clock.now();
        while let Some(&(timer, slot)) = self.timers.first() {
            if timer > now {
                break;
            }
            self.timers.pop_first();
            let Some(member) = self.members.get_mut(slot) else { continue };
            let (node, version) = (member.node, member.version);
            let Some(suspicion) = &mut member.suspicion else { continue };
            if suspicion.deadline <= now {
                self.become_state(slot, version, Liveness::Dead, None, true);
                continue;
            }
            suspicion.asked = true;
            suspicion.timer = suspicion.deadline;
            self.timers.insert((suspicion.timer, slot));
            self.send(node, MessageBody::Ping { sequence: 0 }, Some(slot));
            for other in self.draw(self.config.indirect_probes, Some(node)) {
                self.send(other, MessageBody::Gossip, Some(slot));
            }
        }
    }

    /// A member is as said from now on.
    pub(super) fn become_state(
        &mut self,
        slot: Slot,
        version: Version,
        liveness: Liveness,
        suspicion: Option<Suspicion>,
        spread: bool,
    ) {
        let Some(member) = self.members.get_mut(slot) else { return };
        let timer = |suspicion: &Suspicion| (suspicion.timer, slot);
        if let Some(ended) = &member.suspicion {
            self.timers.remove(&timer(ended));
        }
        if let Some(begun) = &suspicion {
            self.timers.insert(timer(begun));
        }
        member.suspicion = suspicion.map(Box::new);
        let (node, before) = (member.node, member.liveness);
        let reborn = version.incarnation > member.version.incarnation;
        member.version = version;
        if before != liveness {
            let alone = self.members.ring().is_empty();
            let no_dead = self.members.dead().is_empty();
            self.members.set_liveness(slot, liveness);
            self.start_timers(alone, no_dead);
        }
        if before != liveness || reborn {
            self.news_since_sync = self.news_since_sync.saturating_add(1);
            self.events.push_back(Event { node, liveness, before, version });
        }
        if spread {
            self.spread(slot);
        } else if let Some(member) = self.members.get_mut(slot) {
            // What was to be told of it before is old.
            let place = member.broadcast.take();
            self.broadcasts.remove(slot, place);
        }
    }
}
