//! Lanes come and go: from admission to the registry to the shards, and what shards say of them.

use std::io::Write as _;
use std::sync::Arc;

use hawser_admission::{Accepted, AdmissionError, DialOptions, Handover, dial};
use hawser_exchange::ControlToShard;
use hawser_wire::{
    BatchWriter, CloseReason, FrameKind, LaneClose, LaneId, LinkEpoch, LinkSequence, NodeId,
    TrafficClass,
};

use crate::EventKind;
use crate::control::{Continuation, Control, entropy};
use crate::dialler::{DialRequest, Failed};
use crate::links::{Connection, LinkChange, Verdict};

impl Control {
    /// Starts every attempt to dial that is due.
    pub(crate) fn dial_due(&mut self) {
        if !self.is_running() {
            return;
        }
        let Some(mesh) = &self.mesh else { return };
        let local = Arc::clone(&mesh.local);
        let now = self.now();
        while let Some(request) = self.dialler.poll_dial(now, &self.links) {
            let options = DialOptions {
                lane: request.lane,
                class: request.class,
                epoch: request.epoch,
                proxy: self.config.proxy.clone(),
                expect: request.expect,
                limits: self.config.limits,
                sockets: self.config.sockets,
            };
            let (local, run) = (Arc::clone(&local), self.run);
            self.spawn(async move {
                let result = dial(&local, &request.address, &options).await;
                let done: Continuation = Box::new(move |control| {
                    if control.run == run {
                        control.handle_dialled(&request, result);
                    }
                });
                done
            });
        }
    }

    fn handle_dialled(&mut self, request: &DialRequest, result: Result<Handover, AdmissionError>) {
        let (address, lane) = (request.address.as_str(), request.lane);
        let now = self.now();
        let (error, failure) = match result {
            Ok(handover) => {
                let peer = handover.peer;
                // A refusal by this side alone means that another connection serves the lane.
                let served = self.take_lane(Box::new(handover)) || self.links.is_served(peer, lane);
                if served {
                    self.dialler.handle_dialled(now, address, lane, peer);
                    return;
                }
                (None, self.links.why_refused(peer).to_owned())
            }
            Err(error) => {
                let failure = error.to_string();
                (Some(error), failure)
            }
        };
        if let Some(AdmissionError::Refused { reason: CloseReason::Evicted, detail, evidence }) =
            &error
            && self.handle_refused_as_evicted(detail, evidence)
        {
            return;
        }
        let failed = self.dialler.handle_failed(now, request, &failure, entropy(), &self.links);
        let Some(Failed { pause, is_news }) = failed else { return };
        tracing::debug!(address, %lane, ?pause, failure, "dialling failed");
        if !is_news {
            return;
        }
        if let Some(AdmissionError::Refused { .. } | AdmissionError::Unacceptable { .. }) = error {
            let detail = format!("lane {lane} to {address}: {failure}");
            self.events.emit(EventKind::Refused, request.expect, detail);
        } else {
            tracing::warn!(address, %lane, failure, "cannot dial; trying again");
        }
    }

    /// What the acceptor let through.
    pub(crate) fn handle_accepted(&mut self, accepted: Accepted) {
        match accepted {
            Accepted::Lane(handover) if self.is_running() => {
                self.take_lane(handover);
            }
            Accepted::Lane(handover) => {
                let detail = "mesh stopped".to_owned();
                refuse(*handover, &LaneClose { reason: CloseReason::Shutdown, detail });
            }
            Accepted::Join(attempt) => self.handle_join_attempt(attempt),
            Accepted::Refused { remote, reason } => {
                self.events.emit(EventKind::Refused, None, format!("{remote}: {reason}"));
            }
        }
    }

    /// Gives a connection to the shard that owns the link, unless another one serves the lane.
    /// True if it serves now.
    fn take_lane(&mut self, handover: Box<Handover>) -> bool {
        let peer = handover.peer;
        let connection = Connection {
            peer,
            incarnation: handover.peer_incarnation,
            lane: handover.lane,
            epoch: handover.epoch,
            dialled: handover.dialled,
        };
        match self.links.offer(&connection) {
            Verdict::Serve { superseded, link_ended } => {
                self.peer_names.insert(peer, handover.peer_name.clone());
                for old in superseded {
                    let (lane, epoch) = (old.lane, old.epoch);
                    let reason = CloseReason::Superseded;
                    let close = ControlToShard::CloseLane { peer, lane, epoch, reason };
                    self.shards.send_to_link(peer, close);
                }
                if link_ended {
                    self.handle_link_down(peer, "the neighbour began a new life");
                }
                let arrived = ControlToShard::LaneArrived(handover);
                self.shards.send_to_link(peer, arrived);
                true
            }
            Verdict::Refuse => {
                let barred = self.mesh.as_ref().and_then(|mesh| mesh.local.barred.refusal(peer));
                let superseded = || LaneClose {
                    reason: CloseReason::Superseded,
                    detail: "another connection serves this lane".to_owned(),
                };
                let close = barred.map_or_else(superseded, |refusal| refusal.close);
                refuse(*handover, &close);
                false
            }
        }
    }

    /// A shard says that a lane carries frames.
    pub(crate) fn handle_lane_up(&mut self, peer: NodeId, lane: LaneId, epoch: LinkEpoch) {
        let change = self.links.handle_lane_up(peer, lane, epoch);
        if change == LinkChange::Stale {
            return;
        }
        let now = self.now();
        self.dialler.handle_lane_up(now, peer, lane);
        self.wishes.handle_lane_up(peer, lane);
        self.refused_as_evicted = None;
        let name = self.peer_name(peer);
        self.events.emit(EventKind::LaneUp, Some(peer), format!("lane {lane} to {name}"));
        if change == LinkChange::Link {
            self.events.emit(EventKind::LinkUp, Some(peer), format!("link to {name}"));
            self.handle_link_up(peer);
        }
        // Also of a lane alone: the first new one may come up before the last old one is gone.
        self.tell_drill_of_link(peer);
    }

    /// A shard says that a lane is gone.
    pub(crate) fn handle_lane_down(
        &mut self,
        peer: NodeId,
        lane: LaneId,
        epoch: LinkEpoch,
        reason: &str,
    ) {
        let change = self.links.handle_lane_down(peer, lane, epoch);
        if change == LinkChange::Stale {
            return;
        }
        let now = self.now();
        self.dialler.handle_lane_down(now, peer, lane, entropy());
        let detail = format!("lane {lane} to {}: {reason}", self.peer_name(peer));
        self.events.emit(EventKind::LaneDown, Some(peer), detail);
        if change == LinkChange::Link {
            self.handle_link_down(peer, reason);
        }
    }

    fn handle_link_down(&mut self, peer: NodeId, reason: &str) {
        let detail = format!("link to {}: {reason}", self.peer_name(peer));
        self.events.emit(EventKind::LinkDown, Some(peer), detail);
        self.end_mode_change(peer);
        self.handle_link_lost(peer);
    }

    /// Closes every lane, saying why.
    pub(crate) fn close_lanes(&mut self, reason: CloseReason) {
        for (peer, old) in self.links.take_all() {
            let (lane, epoch) = (old.lane, old.epoch);
            let close = ControlToShard::CloseLane { peer, lane, epoch, reason };
            self.shards.send_to_link(peer, close);
        }
    }

    /// A neighbour's name, or its id while that is not known.
    pub(crate) fn peer_name(&self, peer: NodeId) -> String {
        self.peer_names.get(&peer).cloned().unwrap_or_else(|| peer.to_string())
    }
}

/// Closes a connection that no shard gets, and says why as far as its socket takes it: the peer
/// may also find out by the connection's end alone.
fn refuse(mut handover: Handover, close: &LaneClose) {
    let mut body = Vec::new();
    close.encode(&mut body);
    let mut batch = Vec::new();
    let framed = BatchWriter::new(&mut batch).frame(
        FrameKind::Close,
        TrafficClass::Control,
        LinkSequence::default(),
        &[&body],
    );
    if framed.is_ok() && handover.session.send_message(&batch).is_ok() {
        handover.session.send_close();
        let unsent = handover.session.take_unsent();
        let _as_far_as_it_goes = handover.socket.write_all(&unsent);
    }
}
