//! What neighbours say to this node's control thread.

use bytes::Bytes;
use hawser_wire::{MonoTime, NodeId};

use super::Links;
use crate::io::ShardIo;

impl<I: ShardIo> Links<I> {
    /// The body of a frame that `peer` has sent, or brought, for the control thread; `None`, and it is
    /// counted, if too much of that neighbour's is on its way there.
    pub(crate) fn take_control(&mut self, peer: NodeId, body: &[u8]) -> Option<Bytes> {
        let taken = self.links.get_mut(&peer)?.control.take(body);
        if taken.is_none() {
            self.control_dropped.insert(peer);
        }
        taken
    }

    /// A neighbour whose frames for the control thread were dropped, and how many since that was told
    /// last, if it is time to tell.
    pub(crate) fn poll_control_dropped(&mut self, now: MonoTime) -> Option<(NodeId, u64)> {
        let links = &mut self.links;
        let (peer, frames) = self.control_dropped.iter().find_map(|&peer| {
            let frames = links.get_mut(&peer)?.control.poll_dropped(now)?;
            Some((peer, frames))
        })?;
        self.control_dropped.remove(&peer);
        Some((peer, frames))
    }
}
