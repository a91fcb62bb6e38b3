//! What leaves over lanes.

use hawser_link::VirtualLink;
use hawser_wire::{MonoTime, NodeId};

use super::closing::down_of;
use super::{Links, note_wanted};
use crate::io::{LaneKey, ShardIo};
use crate::lane::Lane;

impl<I: ShardIo> Links<I> {
    /// Does what the machines ask for, encrypts what may be sent, and starts writes on every lane
    /// that can take one.
    pub(crate) fn flush(&mut self, now: MonoTime) {
        self.settle(now);
        while let Some(key) = self.next_wanting(now) {
            let Some(lane) = self.lanes.get_mut(&key) else { continue };
            lane.wanted = false;
            if lane.writing {
                continue;
            }
            let peer = lane.peer;
            if lane.closing.is_none() {
                let Some(link) = self.links.get_mut(&peer) else { continue };
                if let Err(error) = fill(now, key, lane, &mut link.machine) {
                    let why = error.to_string();
                    self.drop_lane(now, key, &why);
                    continue;
                }
            }
            if !lane.session.unsent_is_empty() {
                lane.writing = true;
                let buffer = lane.session.take_unsent();
                self.io.write(key, buffer);
            } else if let Some((why, _)) = &lane.closing
                && !lane.finished
            {
                // Closed with something unread, or to which more comes, the connection would be reset, and
                // what the peer has not got yet be lost: it ends when the peer has closed it, too. The
                // lane is over now.
                let why = why.clone();
                lane.finished = true;
                self.events.push_back(down_of(lane, why));
                self.io.finish(key);
            }
            // What one lane sent may give another the turn.
            self.note_wanting(peer);
        }
    }

    /// A lane that can be sent something. What was to go over one that is lost has gone to others.
    fn next_wanting(&mut self, now: MonoTime) -> Option<LaneKey> {
        if self.wanting.is_empty() {
            self.settle(now);
        }
        self.wanting.pop_front()
    }

    /// Lanes of a link that its machine has something for.
    pub(super) fn note_wanting(&mut self, peer: NodeId) {
        let Some(link) = self.links.get_mut(&peer) else { return };
        while let Some(key) = link.machine.poll_wanted() {
            if let Some(lane) = self.lanes.get_mut(&key) {
                note_wanted(&mut self.wanting, key, lane);
            }
        }
    }
}

/// Encrypts what the link has for the lane, up to one write's worth.
pub(super) fn fill(
    now: MonoTime,
    key: LaneKey,
    lane: &mut Lane,
    machine: &mut VirtualLink,
) -> Result<(), hawser_session::SessionError> {
    while lane.session.unsent_len() < machine.write_budget() {
        let Some(transmit) = machine.poll_transmit(now, key) else { break };
        lane.sent_frames = lane.sent_frames.saturating_add(transmit.count);
        lane.session.send_joined(transmit.frames)?;
    }
    Ok(())
}
