//! One simulated node: the machines that its daemon's control thread would drive, and what it has
//! seen of its links.

use std::time::Duration;

use hawser_membership::Membership;
use hawser_routing::{Adjacency, CertificateHash, Flooding, Lsa, LsaFlags, NodeFlags};
use hawser_wire::{AdjacencyIndex, Incarnation, MonoTime, NodeId};

use crate::mesh::reality::Reality;
use crate::mesh::routes::NodeRoutes;

/// Changes of links within this time are told together, as the daemon does.
pub(crate) const GATHER: Duration = Duration::from_millis(10);

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
    /// When it speaks of itself again.
    pub(crate) originate_at: Option<MonoTime>,
    /// The wake that is scheduled.
    pub(crate) armed: Option<MonoTime>,
    /// Members that it takes for dead, and for suspect.
    pub(crate) dead: usize,
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
            originate_at: None,
            armed: None,
            dead: 0,
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
        self.originate_at.get_or_insert_with(|| now.saturating_add(GATHER));
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

    /// The node's own adjacencies, up or down.
    pub(crate) fn adjacencies(&self, ids: &[NodeId]) -> Vec<(AdjacencyIndex, NodeId)> {
        let named = |end: &End| Some((end.index, *ids.get(usize::try_from(end.neighbour).ok()?)?));
        self.ends.iter().filter_map(named).collect()
    }

    pub(crate) fn poll_timeout(&self) -> Option<MonoTime> {
        [self.flooding.poll_timeout(), self.membership.poll_timeout(), self.originate_at]
            .into_iter()
            .flatten()
            .min()
    }
}
