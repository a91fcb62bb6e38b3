//! Operators change how a link uses its lanes: its shard proposes it to the far end, and who asked is
//! answered when both have agreed.

use std::collections::BTreeMap;
use std::time::Duration;

use hawser_exchange::ControlToShard;
use hawser_wire::{LinkMode, MonoTime, NodeId};

use crate::control::Control;
use crate::directory::resolve_node;
use crate::handle::Answer;
use crate::{LanePlan, NodeRef, PlaneError};

/// The far end is given so long to agree. Then the proposal is taken back.
const PATIENCE: Duration = Duration::from_secs(5);

/// Changes that far ends have not agreed to yet, at most one a link.
#[derive(Debug, Default)]
pub(crate) struct LinkModes {
    waiting: BTreeMap<NodeId, Change>,
}

#[derive(Debug)]
struct Change {
    mode: LinkMode,
    due: MonoTime,
    answer: Answer<NodeRef>,
}

impl LinkModes {
    /// When somebody has waited for too long.
    pub(crate) fn poll_timeout(&self) -> Option<MonoTime> {
        self.waiting.values().map(|change| change.due).min()
    }

    /// Who has waited for too long.
    fn poll_overdue(&mut self, now: MonoTime) -> Option<(NodeId, Change)> {
        let due = self.waiting.iter().find(|(_, change)| change.due <= now);
        let peer = due.map(|(&peer, _)| peer)?;
        self.waiting.remove_entry(&peer)
    }
}

impl Control {
    /// Begins to change the mode of the link to a neighbour.
    pub(crate) fn set_link_mode(&mut self, name: &str, mode: LinkMode, answer: Answer<NodeRef>) {
        match self.check_mode_change(name, mode) {
            Ok(peer) => {
                self.note_lane_event(peer, "mode-asked", vec![("mode", mode.name().to_owned())]);
                self.shards.send_to_link(peer, ControlToShard::ProposeMode { peer, mode });
                let due = self.now().saturating_add(PATIENCE);
                self.link_modes.waiting.insert(peer, Change { mode, due, answer });
            }
            Err(error) => drop(answer.send(Err(error))),
        }
    }

    /// The neighbour of this name, if there is a link to it.
    pub(crate) fn linked_peer(&self, name: &str) -> Result<NodeId, PlaneError> {
        let mesh = self.mesh.as_ref().ok_or(PlaneError::NoMesh)?;
        if mesh.record.stopped {
            return Err(PlaneError::MeshStopped);
        }
        if self.leaving.is_some() {
            return Err(PlaneError::Leaving);
        }
        let lsdb = self.flooding.lsdb();
        let peer = resolve_node(lsdb, self.node, &self.config.node_name, name)?;
        if !self.links.is_link_up(peer) {
            let up = self.adjacencies.neighbours().map(|(peer, _)| peer);
            let up = up.filter(|&peer| self.links.is_link_up(peer));
            return Err(PlaneError::NoLink {
                from: self.called(self.node),
                to: self.called(peer),
                neighbours: up.map(|peer| self.called(peer)).collect(),
            });
        }
        Ok(peer)
    }

    /// The far end of the link, if its mode can be changed.
    fn check_mode_change(&self, name: &str, mode: LinkMode) -> Result<NodeId, PlaneError> {
        let peer = self.linked_peer(name)?;
        let peer_name = self.called(peer);
        if self.link_modes.waiting.contains_key(&peer) {
            return Err(PlaneError::LinkModeBusy { peer: peer_name });
        }
        if self.links.mode(peer) == mode {
            return Err(PlaneError::LinkModeSame { peer: peer_name, mode });
        }
        Ok(peer)
    }

    /// A shard says how a link's lanes are used from here on.
    pub(crate) fn handle_link_mode(&mut self, peer: NodeId, mode: LinkMode) {
        let was = self.links.mode(peer);
        self.links.handle_mode(peer, mode);
        if !self.links.is_link_up(peer) {
            // A session that has ended took its mode with it.
            return;
        }
        if was == LinkMode::Collapsed && mode == LinkMode::Separate {
            // Its shard misses those that it has seen; one that began with a single lane has not.
            for &(lane, class) in LanePlan::separate() {
                if !self.links.is_served(peer, lane) {
                    self.handle_want_lane(peer, lane, class);
                }
            }
        }
        let agreed = |change: &Change| change.mode == mode;
        if self.link_modes.waiting.get(&peer).is_some_and(agreed)
            && let Some(change) = self.link_modes.waiting.remove(&peer)
        {
            let _caller_gone = change.answer.send(Ok(self.node_ref(peer)));
        }
    }

    /// Answers who has waited for too long for a far end.
    pub(crate) fn advance_link_modes(&mut self) {
        let now = self.now();
        while let Some((peer, change)) = self.link_modes.poll_overdue(now) {
            self.give_up_mode(peer, change, "it has not agreed within 5 s");
        }
    }

    /// The link to `peer` is down.
    pub(crate) fn end_mode_change(&mut self, peer: NodeId) {
        if let Some(change) = self.link_modes.waiting.remove(&peer) {
            self.give_up_mode(peer, change, "the link went down");
        }
    }

    /// What was answered as failed is not to happen later; should the far end agree to it all the same,
    /// it is undone.
    fn give_up_mode(&mut self, peer: NodeId, change: Change, why: &'static str) {
        let mode = match change.mode {
            LinkMode::Separate => LinkMode::Collapsed,
            LinkMode::Collapsed => LinkMode::Separate,
        };
        self.shards.send_to_link(peer, ControlToShard::ProposeMode { peer, mode });
        let peer = self.called(peer);
        let _caller_gone = change.answer.send(Err(PlaneError::LinkModeNotAgreed { peer, why }));
    }
}
