//! Which links frames arrive over, and what leaves those over which they do not.

use hawser_wire::{FrameRef, NodeId};

use super::Links;
use crate::io::ShardIo;

impl<I: ShardIo> Links<I> {
    /// A link that has become usable, or is not any more.
    pub(crate) fn poll_turned(&mut self) -> Option<(NodeId, bool)> {
        self.turned.pop_front()
    }

    /// Something is to be done about links before the shard may sleep.
    pub(crate) fn has_turned(&self) -> bool {
        !self.turned.is_empty() || !self.rerouted.is_empty()
    }

    /// The link takes frames and they arrive, as far as is known.
    pub(crate) fn is_usable(&self, peer: NodeId) -> bool {
        self.links.get(&peer).is_some_and(|link| link.usable)
    }

    /// The links of this shard that are, or are not.
    pub(crate) fn with_usable(&self, usable: bool) -> impl Iterator<Item = NodeId> + '_ {
        let links = self.links.iter().filter(move |(_, link)| link.usable == usable);
        links.map(|(&peer, _)| peer)
    }

    /// Bytes that wait for the link to `peer`, and those of bulk that may be in flight over it.
    pub(crate) fn load(&self, peer: NodeId) -> Option<(u64, u64)> {
        let status = self.links.get(&peer)?.machine.status();
        let queued = u64::try_from(status.queued_bytes).unwrap_or(u64::MAX);
        Some((queued, status.in_flight_bound_bytes))
    }

    /// Lets frames that `takes` wants leave a link that is not usable.
    pub(crate) fn evacuate(&mut self, peer: NodeId, takes: impl FnMut(&FrameRef<'_>) -> bool) {
        if let Some(link) = self.links.get_mut(&peer) {
            link.machine.evacuate(takes);
        }
        self.touch(peer);
    }
}
