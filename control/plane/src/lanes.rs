//! Lanes come and go: from admission to the registry to the shards, and what shards say of them.

use std::sync::Arc;
use std::time::Duration;

use hawser_admission::{Accepted, AdmissionError, DialOptions, Handover, dial, refuse};
use hawser_exchange::{ControlToShard, LaneSerial};
use hawser_routing::TokenBucket;
use hawser_wire::{CloseReason, LaneClose, LaneId, NodeId};

use crate::EventKind;
use crate::control::{Continuation, Control, entropy};
use crate::dialler::{DialRequest, Failed, Failure, LaneEnd};
use crate::links::{Connection, LinkChange, Verdict};
use crate::refusal::Refusal;

/// How often it is said that another process runs as this node.
pub(crate) const DUPLICATE_TOLD: TokenBucket = TokenBucket::new(4, Duration::from_secs(30));

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
                match self.take_lane(Box::new(handover)) {
                    Err(why) if !self.links.is_served(peer, lane) => (None, why),
                    _ => return self.dialler.handle_dialled(now, address, lane, peer),
                }
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
        let is_refused = error.as_ref().is_some_and(AdmissionError::is_refused_connect);
        let why = Failure { why: &failure, is_refused };
        let failed = self.dialler.handle_failed(now, request, why, entropy(), &self.links);
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
                // Whoever dialled is told.
                let _refused = self.take_lane(handover);
            }
            Accepted::Lane(handover) => {
                let detail = "mesh stopped".to_owned();
                self.refuse(handover, LaneClose { reason: CloseReason::Shutdown, detail });
            }
            Accepted::Join(attempt) => self.handle_join_attempt(attempt),
            Accepted::Refused { remote, peer, lane, reason } => {
                self.tell_refused_at_door(remote, peer, lane, &reason);
            }
        }
    }

    /// Gives a connection to the shard that owns the link, unless it is refused.
    ///
    /// # Errors
    /// Why it is; the peer is told.
    fn take_lane(&mut self, handover: Box<Handover>) -> Result<(), String> {
        let peer = handover.peer;
        let serial = self.lane_serial.next();
        self.lane_serial = serial;
        let connection = Connection {
            peer,
            incarnation: handover.peer_incarnation,
            life: handover.peer_life,
            lane: handover.lane,
            class: handover.class,
            epoch: handover.epoch,
            dialled: handover.dialled,
            serial,
        };
        match self.links.offer(&connection) {
            Verdict::Serve { superseded, link_ended } => {
                self.peer_names.insert(peer, handover.peer_name.clone());
                if handover.peer_takes_several {
                    self.takes_several.insert(peer);
                } else {
                    self.takes_several.remove(&peer);
                }
                for old in superseded {
                    let (lane, serial) = (old.lane, old.serial);
                    let reason = CloseReason::Superseded;
                    let close = ControlToShard::CloseLane { peer, lane, serial, reason };
                    self.shards.send_to_link(peer, close);
                }
                if link_ended {
                    self.handle_link_down(peer, "the neighbour began a new life");
                }
                self.tell_lane_rule(peer);
                let arrived = ControlToShard::LaneArrived { serial, handover };
                self.shards.send_to_link(peer, arrived);
                Ok(())
            }
            Verdict::Refuse(refusal) => {
                let detail = refusal.detail(&connection);
                self.tell_lane_refused(&connection, refusal, &handover);
                let own = || LaneClose { reason: refusal.close_reason(), detail: detail.clone() };
                let barred = self.mesh.as_ref().and_then(|mesh| mesh.local.barred.refusal(peer));
                let close = barred.map_or_else(own, |refusal| refusal.close);
                self.refuse(handover, close);
                Err(detail)
            }
        }
    }

    /// Says of a refused connection what an operator must know. It may come again and again: as often
    /// as that is said of one neighbour.
    fn tell_lane_refused(&mut self, offered: &Connection, refusal: Refusal, handover: &Handover) {
        let Some(name) = refusal.counted_as() else { return };
        let count = self.lanes_refused.entry(name).or_default();
        *count = count.saturating_add(1);
        let Connection { peer, lane, class, epoch, .. } = *offered;
        let (reason, remote) = (refusal.close_reason().text(), handover.remote.ip());
        let why = format!("{reason}: {}", refusal.detail(offered));
        let shown = format!("{}, from {remote}: {why}", handover.peer_name);
        if self.tell_refused(peer, shown) {
            let inputs = vec![
                ("lane", lane.to_string()),
                ("class", class.name().to_owned()),
                ("epoch", epoch.to_string()),
                ("remote", handover.remote.to_string()),
                ("why", why),
            ];
            self.note_lane_event(peer, "lane-refused", inputs);
        }
    }

    /// Closes a connection that no shard gets, beside the loop, and says why unless it has to be told to
    /// too many.
    fn refuse(&mut self, handover: Box<Handover>, close: LaneClose) {
        let peer = handover.peer;
        if !self.farewells.begin(peer) {
            tracing::debug!(%peer, reason = close.reason.text(), "closed without a good-bye");
            return;
        }
        self.spawn(async move {
            refuse(*handover, &close).await;
            let done: Continuation = Box::new(move |control| control.farewells.end(peer));
            done
        });
    }

    /// A shard says that a lane carries frames.
    pub(crate) fn handle_lane_up(&mut self, peer: NodeId, lane: LaneId, serial: LaneSerial) {
        let change = self.links.handle_lane_up(peer, lane, serial);
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
        (peer, lane, serial): (NodeId, LaneId, LaneSerial),
        reason: &str,
        told: Option<CloseReason>,
        closed: Option<CloseReason>,
    ) {
        let change = self.links.handle_lane_down(peer, lane, serial);
        if change == LinkChange::Stale {
            return;
        }
        if told == Some(CloseReason::DuplicateNode) {
            self.tell_duplicate(peer, reason);
        }
        let now = self.now();
        let is_lost = |why: Option<CloseReason>| {
            matches!(why, None | Some(CloseReason::Shutdown | CloseReason::Silent))
        };
        let end = if is_lost(told) && is_lost(closed) { LaneEnd::Lost } else { LaneEnd::Closed };
        self.dialler.handle_lane_down(now, peer, lane, end, entropy());
        if change == LinkChange::Link {
            self.dialler.handle_link_down(now, peer, entropy());
        }
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

    /// A neighbour refuses this node, as another process runs with its key. Each does so at each lane that
    /// is dialled: that is said a few times, then twice a minute.
    fn tell_duplicate(&mut self, peer: NodeId, reason: &str) {
        let by = self.peer_name(peer);
        if !self.duplicate_told.take(self.now()) {
            tracing::debug!(by, reason, "refused as another process runs as this node");
            return;
        }
        tracing::error!(
            by,
            reason,
            "another process runs as this node, on a copy of its data directory: stop one of the two; \
             for a further node remove the copy and join with a token of its own"
        );
        let detail = format!("{by} refuses this node, was its data directory copied? {reason}");
        self.events.emit(EventKind::Refused, Some(self.node), detail);
    }

    /// Closes every lane, saying why.
    pub(crate) fn close_lanes(&mut self, reason: CloseReason) {
        for (peer, old) in self.links.take_all() {
            let (lane, serial) = (old.lane, old.serial);
            let close = ControlToShard::CloseLane { peer, lane, serial, reason };
            self.shards.send_to_link(peer, close);
        }
    }

    /// A neighbour's name, or its id while that is not known.
    pub(crate) fn peer_name(&self, peer: NodeId) -> String {
        self.peer_names.get(&peer).cloned().unwrap_or_else(|| peer.to_string())
    }
}
