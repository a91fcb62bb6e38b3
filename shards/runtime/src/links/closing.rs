//! Lanes that end: with a good-bye, or at once.

use hawser_exchange::LaneSerial;
use hawser_wire::{CloseReason, LaneId, MonoTime, NodeId};

use super::sending::fill;
use super::{LaneEvent, Links, note_wanted};
use crate::io::{LaneKey, ShardIo};
use crate::lane::{Lane, closing_text};

impl<I: ShardIo> Links<I> {
    /// Closes a lane with a reason that the peer is told.
    pub(crate) fn start_close(
        &mut self,
        now: MonoTime,
        key: LaneKey,
        reason: CloseReason,
        detail: &str,
    ) {
        let Some(lane) = self.lanes.get_mut(&key) else { return };
        let peer = lane.peer;
        if let Some(link) = self.links.get_mut(&peer) {
            if reason == CloseReason::Shutdown && lane.closing.is_none() {
                // What was to be said before the end is said; if that cannot be, nor can the
                // good-bye.
                let _cannot = fill(now, key, lane, &mut link.machine);
            }
            link.machine.handle_lane_down(now, key, &closing_text(reason, detail));
        }
        let until = lane.start_close(now, reason, detail);
        note_wanted(&mut self.wanting, key, lane);
        self.due = Some(self.due.map_or(until, |due| due.min(until)));
        self.touch(peer);
    }

    pub(crate) fn start_close_all(&mut self, now: MonoTime, reason: CloseReason) {
        let keys: Vec<LaneKey> = self.lanes.keys().copied().collect();
        for key in keys {
            self.start_close(now, key, reason, "");
        }
    }

    /// The connection of `peer` that was handed over for the lane under this serial.
    pub(crate) fn find(&self, peer: NodeId, lane: LaneId, serial: LaneSerial) -> Option<LaneKey> {
        self.lanes
            .iter()
            .find(|(_, l)| l.peer == peer && l.lane == lane && l.serial == serial)
            .map(|(&key, _)| key)
    }

    /// The peer lets go of a lane that nobody needs.
    pub(crate) fn retire_lane(&mut self, now: MonoTime, key: LaneKey, why: &str) {
        if let Some(lane) = self.lanes.get(&key)
            && let Some(link) = self.links.get_mut(&lane.peer)
        {
            // A lane that was to be closed is not missed.
            link.machine.close_lane(now, key, CloseReason::NotNeeded);
        }
        self.drop_lane(now, key, why);
    }

    /// Ends a lane now. What was under way over it goes over another, or over the next one that
    /// comes up while the link session lasts.
    pub(crate) fn drop_lane(&mut self, now: MonoTime, key: LaneKey, why: &str) {
        let Some(lane) = self.lanes.remove(&key) else { return };
        self.io.close(key);
        let closing = lane.closing.as_ref();
        let reason = closing.map_or_else(|| why.to_owned(), |(why, _)| why.clone());
        if let Some(link) = self.links.get_mut(&lane.peer) {
            link.machine.handle_lane_down(now, key, &reason);
            link.unmeasured.remove(key);
            link.sent_bytes = link.sent_bytes.saturating_add(lane.sent_bytes);
            link.received_bytes = link.received_bytes.saturating_add(lane.received_bytes);
        }
        self.touch(lane.peer);
        if !lane.finished {
            self.events.push_back(down_of(&lane, reason));
        }
    }
}

/// What the control thread is told of a lane that is over.
pub(super) fn down_of(lane: &Lane, reason: String) -> LaneEvent {
    let &Lane { peer, lane, serial, told, closed, .. } = lane;
    LaneEvent::Down { peer, lane, serial, reason, told, closed }
}
