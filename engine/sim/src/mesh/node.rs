//! One simulated node: the machines that its daemon's control thread would drive, and what it has
//! seen of its links.

use std::collections::BTreeSet;
use std::time::Duration;

use hawser_membership::Membership;
use hawser_routing::{Adjacency, CertificateHash, Flooding, Lsa, LsaFlags, NodeFlags, TokenBucket};
use hawser_wire::{AdjacencyIndex, Incarnation, MonoTime, NodeId};

use crate::mesh::reality::Reality;
use crate::mesh::routes::NodeRoutes;

/// Changes of links within this time are told together, as the daemon does.
pub(crate) const GATHER: Duration = Duration::from_millis(10);
/// How often a node speaks of itself because links went, and because anything else changed: as the
/// daemon does.
const DOWNS: TokenBucket = TokenBucket::new(16, Duration::from_millis(250));
const CHANGES: TokenBucket = TokenBucket::new(16, Duration::from_millis(500));
/// It speaks again after so long even without a change, as the daemon does.
const REFRESH: Duration = Duration::from_secs(30 * 60);

/// A node's end of a link.
#[derive(Clone, Copy, Debug)]
pub(crate) struct End {
    pub(crate) neighbour: u32,
    pub(crate) link: u32,
    /// The node's name for the neighbour; never another's.
    pub(crate) index: AdjacencyIndex,
    /// The node takes the link for up.
    pub(crate) up: bool,
    /// Nothing was heard of it for three ticks: nothing new is sent over it.
    pub(crate) quiet: bool,
}

impl End {
    pub(crate) const fn is_usable(&self) -> bool {
        self.up && !self.quiet
    }
}

/// A node that runs.
#[derive(Debug)]
pub(crate) struct MeshNode {
    pub(crate) id: NodeId,
    pub(crate) incarnation: Incarnation,
    pub(crate) flags: NodeFlags,
    pub(crate) flooding: Flooding,
    pub(crate) membership: Membership,
    /// By neighbour.
    pub(crate) ends: Vec<End>,
    pub(crate) routes: NodeRoutes,
    /// Origins that have said something new since members were admitted.
    pub(crate) heard_of: Vec<NodeId>,
    /// When it speaks of itself again: since links went, since something else changed, in any case.
    down_due: Option<MonoTime>,
    change_due: Option<MonoTime>,
    refresh_due: Option<MonoTime>,
    downs: TokenBucket,
    changes: TokenBucket,
    /// The wake that is scheduled.
    pub(crate) armed: Option<MonoTime>,
    /// Members that it takes for dead, and how many for suspect.
    pub(crate) dead: BTreeSet<u32>,
    pub(crate) suspects: usize,
}

impl MeshNode {
    /// A node with all its links down, whose machine of membership knows nobody.
    pub(crate) fn new(
        number: u32,
        (id, incarnation): (NodeId, Incarnation),
        flags: NodeFlags,
        reality: &Reality,
        routes: NodeRoutes,
        membership: Membership,
    ) -> Self {
        let neighbours = usize::try_from(number).ok().and_then(|at| reality.adjacent.get(at));
        let ends = neighbours.into_iter().flatten().zip(1..).map(|(&(neighbour, link), index)| {
            let index = AdjacencyIndex(index);
            End { neighbour, link, index, up: false, quiet: false }
        });
        Self {
            id,
            incarnation,
            flags,
            flooding: Flooding::new(id),
            membership,
            ends: ends.collect(),
            routes,
            heard_of: Vec::new(),
            down_due: None,
            change_due: None,
            refresh_due: None,
            downs: DOWNS,
            changes: CHANGES,
            armed: None,
            dead: BTreeSet::new(),
            suspects: 0,
        }
    }

    pub(crate) fn end_to_mut(&mut self, neighbour: u32) -> Option<&mut End> {
        let at = self.ends.binary_search_by_key(&neighbour, |end| end.neighbour).ok()?;
        self.ends.get_mut(at)
    }

    /// The end that `index` names.
    pub(crate) fn end_of(&self, index: AdjacencyIndex) -> Option<&End> {
        let at = usize::try_from(index.0).ok()?.checked_sub(1)?;
        self.ends.get(at)
    }

    /// The node is to speak of itself anew soon.
    pub(crate) fn gather(&mut self, now: MonoTime) {
        self.change_due.get_or_insert_with(|| now.saturating_add(GATHER));
    }

    /// The same, since a link went.
    pub(crate) fn gather_down(&mut self, now: MonoTime) {
        self.down_due.get_or_insert_with(|| now.saturating_add(GATHER));
    }

    /// When it speaks of itself again.
    fn originate_at(&self) -> Option<MonoTime> {
        let down = self.down_due.map(|due| due.max(self.downs.ready_at()));
        let change = self.change_due.map(|due| due.max(self.changes.ready_at()));
        [down, change, self.refresh_due].into_iter().flatten().min()
    }

    /// True, once, when it is time to speak.
    pub(crate) fn take_originate(&mut self, now: MonoTime) -> bool {
        let is_due = |due: Option<MonoTime>| due.is_some_and(|due| due <= now);
        let taken = (is_due(self.down_due) && self.downs.take(now))
            || (is_due(self.change_due) && self.changes.take(now))
            || is_due(self.refresh_due);
        if taken {
            (self.down_due, self.change_due) = (None, None);
            self.refresh_due = Some(now.saturating_add(REFRESH));
        }
        taken
    }

    /// What it would say of itself, not signed.
    pub(crate) fn advertisement(
        &self,
        number: u32,
        public_key: [u8; 32],
        reality: &Reality,
        ids: &[NodeId],
    ) -> Lsa {
        let (incarnation, sequence) = self.flooding.next_version(self.incarnation);
        let adjacency = |end: &End| {
            let neighbour = *ids.get(usize::try_from(end.neighbour).ok()?)?;
            Some(Adjacency {
                neighbour,
                index: end.index,
                metrics: reality.metrics(number, end.link),
            })
        };
        let flag = |set: bool, flag| if set { flag } else { LsaFlags::default() };
        Lsa {
            origin: self.id,
            incarnation,
            sequence,
            public_key,
            certificate: CertificateHash::default(),
            flags: flag(self.flags.stub, LsaFlags::STUB)
                .with(flag(self.flags.overload, LsaFlags::OVERLOADED)),
            name: number.to_string(),
            address: String::new(),
            adjacencies: self.ends.iter().filter(|end| end.up).filter_map(adjacency).collect(),
            routes: Vec::new(),
            signature: [0; 64],
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<MonoTime> {
        [self.flooding.poll_timeout(), self.membership.poll_timeout(), self.originate_at()]
            .into_iter()
            .flatten()
            .min()
    }
}

/// A node's own adjacencies, up or down.
pub(crate) fn adjacencies(ends: &[End], ids: &[NodeId]) -> Vec<(AdjacencyIndex, NodeId)> {
    let named = |end: &End| Some((end.index, *ids.get(usize::try_from(end.neighbour).ok()?)?));
    ends.iter().filter_map(named).collect()
}
