//! Frames of striped streams that had to wait for others.

use hawser_link::ReassembledFrame;
use hawser_wire::NodeId;

use super::Links;
use crate::io::ShardIo;

impl<I: ShardIo> Links<I> {
    /// Frames of striped streams that came before their turn, and their session ended or what is
    /// missing was given up.
    pub(crate) fn poll_restored(&mut self) -> Option<(NodeId, ReassembledFrame)> {
        self.restored.pop_front()
    }

    /// The next frame of a striped stream of `peer` whose turn has come.
    pub(crate) fn poll_reassembled(&mut self, peer: NodeId) -> Option<ReassembledFrame> {
        self.links.get_mut(&peer)?.machine.poll_reassembled()
    }

    /// Such a frame was handled: gives its memory back.
    pub(crate) fn give_reassembled(&mut self, peer: NodeId, frame: ReassembledFrame) {
        if let Some(link) = self.links.get_mut(&peer) {
            link.machine.give_reassembled(frame);
        }
    }
}
