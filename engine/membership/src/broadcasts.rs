//! News that is to be spread, each as often as it takes, new before old (SWIM §4.1).

use std::collections::BTreeSet;

use crate::members::{Members, Slot};
use crate::{CLAIMS_MAX, Claim};

/// Members about whom there is news. At most one piece of news for each: what is known of it now.
#[derive(Clone, Debug, Default)]
pub(crate) struct Broadcasts {
    /// How often it was sent, then the newest first.
    queue: BTreeSet<(u32, u64, Slot)>,
    added: u64,
}

impl Broadcasts {
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// There is something new about this member.
    pub(crate) fn add(&mut self, members: &mut Members, slot: Slot) {
        let Some(member) = members.get_mut(slot) else { return };
        if let Some((sent, age)) = member.broadcast {
            self.queue.remove(&(sent, age, slot));
        }
        self.added = self.added.saturating_add(1);
        let age = u64::MAX.saturating_sub(self.added);
        member.broadcast = Some((0, age));
        self.queue.insert((0, age, slot));
    }

    /// Its member is no more.
    pub(crate) fn remove(&mut self, slot: Slot, place: Option<(u32, u64)>) {
        if let Some((sent, age)) = place {
            self.queue.remove(&(sent, age, slot));
        }
    }

    /// Appends what was sent least, to at most `bytes` bytes, and counts it as sent. What was sent
    /// `transmissions` times is dropped. What `claims` holds already is not repeated.
    pub(crate) fn fill(
        &mut self,
        members: &mut Members,
        transmissions: u32,
        bytes: usize,
        claims: &mut Vec<Claim>,
    ) {
        let given = claims.len();
        let mut room = bytes;
        let mut taken = Vec::new();
        for &(sent, age, slot) in &self.queue {
            if room < Claim::LEN_MIN || claims.len() >= CLAIMS_MAX {
                break;
            }
            let Some(claim) = members.get(slot).map(crate::members::Member::claim) else {
                continue;
            };
            let Some(rest) = room.checked_sub(claim.encoded_len()) else { continue };
            if claims.iter().take(given).any(|other| other.subject == claim.subject) {
                continue;
            }
            room = rest;
            claims.push(claim);
            taken.push((sent, age, slot));
        }
        for (sent, age, slot) in taken {
            self.queue.remove(&(sent, age, slot));
            let sent = sent.saturating_add(1);
            let place = (sent < transmissions).then_some((sent, age));
            if place.is_some() {
                self.queue.insert((sent, age, slot));
            }
            if let Some(member) = members.get_mut(slot) {
                member.broadcast = place;
            }
        }
    }
}
