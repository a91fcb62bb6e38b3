//! Every member that the mesh admits, this node included, and what is known of each.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use hawser_wire::{Incarnation, NodeId};

use crate::shared_slots::SharedSlots;
use crate::suspicion::Suspicion;
use crate::{Claim, ClaimState, Liveness, Version};

/// Most members, this node included.
pub const MEMBERS_MAX: usize = 16_384;

/// A place in the table. Given to another member once its own is removed.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Slot(u32);

/// One member.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) node: NodeId,
    pub(crate) version: Version,
    pub(crate) liveness: Liveness,
    /// While it is suspect. Most are not, and the table is large.
    pub(crate) suspicion: Option<Box<Suspicion>>,
    /// Its place in [`crate::broadcasts::Broadcasts`], while it is in there.
    pub(crate) broadcast: Option<(u32, u64)>,
}

impl Member {
    fn new(node: NodeId, version: Version) -> Self {
        Self { node, version, liveness: Liveness::Alive, suspicion: None, broadcast: None }
    }

    /// What is known of it, as a claim.
    pub(crate) fn claim(&self) -> Claim {
        let state = match (self.liveness, &self.suspicion) {
            (Liveness::Suspect, Some(suspicion)) => ClaimState::Suspect(suspicion.by),
            (Liveness::Dead, _) => ClaimState::Dead,
            (Liveness::Left, _) => ClaimState::Left,
            (Liveness::Alive | Liveness::Suspect, _) => ClaimState::Alive,
        };
        Claim { subject: self.node, version: self.version, state }
    }

    pub(crate) const fn is_in_ring(&self) -> bool {
        matches!(self.liveness, Liveness::Alive | Liveness::Suspect)
    }
}

/// Node ids are hashes of keys, spread evenly; and only so many members are admitted that chains of
/// those which somebody made collide stay short.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct NodeIdHasher(u64);

impl Hasher for NodeIdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            for (to, from) in word.iter_mut().zip(chunk) {
                *to = *from;
            }
            let word = u64::from_le_bytes(word);
            self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
        }
    }

    fn write_usize(&mut self, _len: usize) {}
}

/// Members by id and by place. Lists are in the order of ids, so that nothing depends on a hash.
#[derive(Clone, Debug)]
pub(crate) struct Members {
    /// This node's place.
    own: Slot,
    index: Arc<HashMap<NodeId, Slot, BuildHasherDefault<NodeIdHasher>>>,
    slots: SharedSlots<Option<Member>>,
    free: Vec<Slot>,
    /// Alive and suspect ones, without this node.
    ring: Vec<Slot>,
    /// Dead ones, not those that left.
    dead: Vec<Slot>,
}

impl Members {
    pub(crate) fn new(own: NodeId, version: Version) -> Self {
        let mut index = HashMap::default();
        index.insert(own, Slot(0));
        let mut slots = SharedSlots::default();
        slots.push(Some(Member::new(own, version)));
        let index = Arc::new(index);
        Self { own: Slot(0), index, slots, free: Vec::new(), ring: Vec::new(), dead: Vec::new() }
    }

    /// All of a roster, in which nobody is this node yet; `None` if there is no room.
    pub(crate) fn of_roster(
        members: impl IntoIterator<Item = (NodeId, Incarnation)>,
    ) -> Option<Self> {
        let mut members: Vec<(NodeId, Incarnation)> = members.into_iter().collect();
        members.sort_by_key(|(node, _)| *node);
        members.dedup_by_key(|(node, _)| *node);
        if members.len() > MEMBERS_MAX {
            return None;
        }
        let (mut index, mut slots) = (HashMap::default(), SharedSlots::default());
        let mut ring = Vec::with_capacity(members.len());
        for ((node, incarnation), number) in members.into_iter().zip(0..) {
            index.insert(node, Slot(number));
            slots.push(Some(Member::new(node, Version::first(incarnation))));
            ring.push(Slot(number));
        }
        let index = Arc::new(index);
        Some(Self { own: Slot(0), index, slots, free: Vec::new(), ring, dead: Vec::new() })
    }

    /// The same members as `node` sees them, whose version is `version`; `None` if it is none of
    /// them.
    pub(crate) fn seen_by(&self, node: NodeId, version: Version) -> Option<Self> {
        let own = self.slot(node)?;
        let mut members = Self { own, ..self.clone() };
        members.ring.retain(|slot| *slot != own);
        members.get_mut(own)?.version = version;
        Some(members)
    }

    /// This node's place.
    pub(crate) const fn own(&self) -> Slot {
        self.own
    }

    pub(crate) fn len(&self) -> usize {
        self.index.len()
    }

    pub(crate) fn slot(&self, node: NodeId) -> Option<Slot> {
        self.index.get(&node).copied()
    }

    pub(crate) fn get(&self, slot: Slot) -> Option<&Member> {
        self.slots.get(position(slot))?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, slot: Slot) -> Option<&mut Member> {
        self.slots.get_mut(position(slot))?.as_mut()
    }

    /// Adds a member that is not there; `None` if there is no room.
    pub(crate) fn insert(&mut self, node: NodeId, version: Version) -> Option<Slot> {
        if self.index.len() >= MEMBERS_MAX {
            return None;
        }
        let member = Some(Member::new(node, version));
        let slot = if let Some(slot) = self.free.pop() {
            *self.slots.get_mut(position(slot))? = member;
            slot
        } else {
            let slot = Slot(u32::try_from(self.slots.len()).ok()?);
            self.slots.push(member);
            slot
        };
        Arc::make_mut(&mut self.index).insert(node, slot);
        self.list(slot);
        Some(slot)
    }

    /// Removes a member, but not this node.
    pub(crate) fn remove(&mut self, slot: Slot) -> Option<Member> {
        if slot == self.own {
            return None;
        }
        self.unlist(slot);
        let member = self.slots.get_mut(position(slot))?.take()?;
        Arc::make_mut(&mut self.index).remove(&member.node);
        self.free.push(slot);
        Some(member)
    }

    /// Changes the liveness of a member, and the list that it stands in. This node stands in none.
    pub(crate) fn set_liveness(&mut self, slot: Slot, liveness: Liveness) {
        if slot != self.own {
            self.unlist(slot);
        }
        if let Some(member) = self.get_mut(slot) {
            member.liveness = liveness;
        }
        if slot != self.own {
            self.list(slot);
        }
    }

    /// The list that a member belongs into, and its place there.
    fn place(&mut self, slot: Slot) -> Option<(&mut Vec<Slot>, usize)> {
        let member = self.slots.get(position(slot))?.as_ref()?;
        let list = match member.liveness {
            Liveness::Alive | Liveness::Suspect => &mut self.ring,
            Liveness::Dead => &mut self.dead,
            Liveness::Left => return None,
        };
        let at = rank(list, &self.slots, member.node);
        Some((list, at))
    }

    fn list(&mut self, slot: Slot) {
        if let Some((list, at)) = self.place(slot) {
            list.insert(at, slot);
        }
    }

    fn unlist(&mut self, slot: Slot) {
        if let Some((list, at)) = self.place(slot)
            && list.get(at) == Some(&slot)
        {
            list.remove(at);
        }
    }

    /// Alive and suspect members, without this node.
    pub(crate) fn ring(&self) -> &[Slot] {
        &self.ring
    }

    /// Dead members, without those that left.
    pub(crate) fn dead(&self) -> &[Slot] {
        &self.dead
    }

    /// The member in the ring that stands `offset` behind the one which follows this node.
    pub(crate) fn behind_own(&self, offset: u32) -> Option<Slot> {
        let own = self.get(self.own)?.node;
        let first = rank(&self.ring, &self.slots, own);
        let offset = usize::try_from(offset).unwrap_or(0).checked_rem(self.ring.len())?;
        let at = first.checked_add(offset)?.checked_rem(self.ring.len())?;
        self.ring.get(at).copied()
    }

    /// Every member, this node included, in an order that follows from the history of the table.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Member> + '_ {
        self.slots.iter().flatten()
    }
}

fn position(slot: Slot) -> usize {
    usize::try_from(slot.0).unwrap_or(usize::MAX)
}

/// How many of `list` stand before `node`.
fn rank(list: &[Slot], slots: &SharedSlots<Option<Member>>, node: NodeId) -> usize {
    list.partition_point(|slot| {
        let member = slots.get(position(*slot)).and_then(Option::as_ref);
        member.is_some_and(|member| member.node < node)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nothing is kept of who is removed: there is no list of them that could fill up.
    #[test]
    fn those_who_come_and_go_make_nothing_grow() {
        let version = Version::first(Incarnation(1));
        let mut members = Members::new(NodeId::from_bytes([0; 16]), version);
        for number in 1..50_000_u128 {
            let node = NodeId::from_bytes(number.to_be_bytes());
            let slot = members.insert(node, version).unwrap();
            members.set_liveness(slot, Liveness::Dead);
            assert!(members.remove(slot).is_some());
            assert_eq!(members.slot(node), None);
        }
        assert_eq!((members.len(), members.slots.len(), members.free.len()), (1, 2, 1));
        assert!(members.ring.is_empty() && members.dead.is_empty());
    }
}
