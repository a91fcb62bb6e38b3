mod arrivals;

use hawser_exchange::{
    ApiData, ApiToShard, ControlToShard, Receiver, ShardPorts, ShardToControl, ShardToShard,
};
use hawser_link::{Flow, FrameParts, LinkEvent, Origin};
use hawser_routing::FLOODING_MESSAGE_BYTES_MAX;
use hawser_session::{Inbox, LaneSession};
use hawser_wire::{
    BootEpoch, CloseReason, FrameFlags, FrameIter, FrameKind, LINK_CONTROL_BYTES_MAX, MonoTime,
    NodeId, TrafficClass,
};
use tracing::debug;

use crate::breach::Breach;
use crate::config::ShardConfig;
use crate::decision_event::decision_of;
use crate::dispatch::Forwarder;
use crate::io::{Completion, LaneKey, ShardIo};
use crate::link_events::{control_dropped, report_of};
use crate::links::{LaneEvent, Links, Outgoing};
use crate::outlet::Outlet;
use crate::outward::{ApiOutlets, Outward};
use crate::peer_outlets::PeerOutlets;
use crate::report::shard_report;
use crate::streams::Streams;

/// Messages taken from one ring before the next has its turn.
const RING_BATCH_MAX: usize = 256;

const _: () = assert!(FLOODING_MESSAGE_BYTES_MAX <= LINK_CONTROL_BYTES_MAX);

/// Receiving ends of the rings.
struct Inward {
    control: Receiver<ControlToShard<LaneSession>>,
    apis: Vec<(Receiver<ApiToShard>, Receiver<ApiData>)>,
    peers: Vec<PeerInlets>,
}

/// Rings from another shard.
struct PeerInlets {
    control: Receiver<ShardToShard>,
    priority: Receiver<ShardToShard>,
    data: Receiver<ShardToShard>,
}

impl PeerInlets {
    fn has_message(&self) -> bool {
        [&self.control, &self.priority, &self.data].into_iter().any(|ring| !ring.is_empty())
    }
}

/// Everything that one shard owns.
pub(crate) struct Shard<I> {
    inward: Inward,
    pub(crate) outward: Outward,
    pub(crate) forwarder: Forwarder<I>,
    pub(crate) streams: Streams,
    /// This node's life, learned with the first stream.
    epoch: BootEpoch,
    /// Other shards' links have become usable, or are not any more.
    peer_links_turned: bool,
    /// An API thread may run on the same core.
    shares_core: bool,
    /// The shard has slept since its last turn: there is little to do.
    rested: bool,
    /// Applications' messages came by, or what is said about them.
    moved: bool,
    stopping: bool,
    stopped: bool,
}

impl<I: ShardIo> Shard<I> {
    pub(crate) fn new(ports: ShardPorts<LaneSession>, config: &ShardConfig, io: I) -> Self {
        let mut apis_in = Vec::new();
        let mut apis_out = Vec::new();
        for api in ports.apis {
            apis_in.push((api.control_from, api.data_from));
            apis_out.push(ApiOutlets {
                control: Outlet::new(api.control_to),
                data: Outlet::new(api.data_to),
            });
        }
        let mut peers_in = Vec::new();
        let mut peers_out = Vec::new();
        for peer in ports.peers {
            peers_out.push(peer.map(|peer| {
                let (control, priority) = (peer.control_from, peer.priority_from);
                peers_in.push(PeerInlets { control, priority, data: peer.data_from });
                PeerOutlets::new(peer.control_to, peer.priority_to, peer.data_to)
            }));
        }
        let links = Links::new(io, config);
        let count = ports.shard_count;
        Self {
            inward: Inward { control: ports.control.from, apis: apis_in, peers: peers_in },
            outward: Outward::new(Outlet::new(ports.control.to), apis_out),
            forwarder: Forwarder::new(
                config.local,
                ports.shard,
                count,
                links,
                ports.routes,
                peers_out,
            ),
            streams: Streams::new(config.delivery, config.stream_memory_bytes),
            epoch: BootEpoch(0),
            peer_links_turned: false,
            shares_core: config.spin.shares_core,
            rested: false,
            moved: false,
            stopping: false,
            stopped: false,
        }
    }

    /// Every lane is closed and the control thread knows it.
    pub(crate) const fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// One turn: takes what is there, lets the machines run, hands out what they made. True if
    /// there was anything to do.
    pub(crate) fn turn(&mut self, now: MonoTime) -> bool {
        let mut worked = false;
        self.forwarder.now = now;
        let mut ways_changed = self.forwarder.refresh_routes();
        if ways_changed {
            self.forwarder.evacuate_all();
        }
        worked |= self.drain_control(now);
        worked |= self.drain_peers(now);
        worked |= self.drain_completions(now);
        let asked = self.drain_apis(now);
        self.moved |= asked;
        worked |= asked;
        self.forwarder.links.handle_timeout(now);
        // What a broken link held goes first, then what streams send instead.
        ways_changed |= self.forwarder.turn_links(now);
        ways_changed |= std::mem::take(&mut self.peer_links_turned);
        while let Some(notice) = self.forwarder.poll_notice() {
            self.streams.handle_notice(now, &notice, &mut self.forwarder);
        }
        if ways_changed {
            self.streams.handle_routes(&self.forwarder);
            worked = true;
        }
        worked |= self.streams.run(now, &mut self.forwarder, &mut self.outward);
        self.wake_apis();
        self.forwarder.links.flush(now);
        worked |= self.deliver_restored(now);
        worked |= self.forwarder.links.has_turned();
        self.report_lane_events();
        worked |= self.flush_rings();
        if self.stopping && !self.stopped && !self.forwarder.links.has_lanes() {
            self.stopped = true;
            self.outward.control.push(ShardToControl::Stopped);
            self.outward.control.flush();
        }
        worked
    }

    /// Whether messages of applications, or what is said about them, came by since this was asked last:
    /// more of them may be near. Heartbeats, probes and routes are no sign of that.
    pub(crate) fn take_moved(&mut self) -> bool {
        std::mem::take(&mut self.moved)
    }

    /// The next time that something is due.
    pub(crate) fn poll_timeout(&self) -> Option<MonoTime> {
        let links = self.forwarder.links.poll_timeout();
        [links, self.streams.poll_timeout()].into_iter().flatten().min()
    }

    /// A ring holds something, or took none of what waits and has room now. Looked at before the
    /// shard goes to sleep.
    pub(crate) fn has_work(&self) -> bool {
        !self.inward.control.is_empty()
            || self.is_orphaned()
            || self
                .inward
                .apis
                .iter()
                .any(|(control, data)| !control.is_empty() || !data.is_empty())
            || self.inward.peers.iter().any(PeerInlets::has_message)
            || self.forwarder.routes.is_outdated()
            || self.outward.can_flow()
            || self.forwarder.peers.iter().flatten().any(PeerOutlets::can_flow)
    }

    /// The shard comes from its sleep.
    pub(crate) const fn handle_rest(&mut self) {
        self.rested = true;
    }

    /// Hands what was delivered to the API threads. Where little is to be done, one that has to share
    /// this core goes first: a lone message need not wait until its acknowledgement is encrypted and
    /// written.
    fn wake_apis(&mut self) {
        let mut delivered = false;
        for api in &mut self.outward.apis {
            api.control.flush();
            delivered |= api.data.flush();
        }
        if std::mem::take(&mut self.rested) && delivered && self.shares_core {
            std::thread::yield_now();
        }
    }

    /// True if streams find room in a ring where they found none.
    fn flush_rings(&mut self) -> bool {
        self.outward.control.flush();
        for api in &mut self.outward.apis {
            api.control.flush();
            api.data.flush();
        }
        let mut has_room = false;
        for peer in self.forwarder.peers.iter_mut().flatten() {
            has_room |= peer.flush();
        }
        has_room
    }

    fn drain_control(&mut self, now: MonoTime) -> bool {
        let mut worked = false;
        for _ in 0..RING_BATCH_MAX {
            let Some(message) = self.inward.control.try_recv() else { break };
            worked = true;
            self.handle_control(now, message);
        }
        if self.is_orphaned() && self.inward.control.is_empty() {
            worked = true;
            self.shut_down(now);
        }
        worked
    }

    /// The control thread is gone without having said that this shard is to stop.
    fn is_orphaned(&self) -> bool {
        !self.stopping && self.inward.control.is_abandoned()
    }

    fn handle_control(&mut self, now: MonoTime, message: ControlToShard<LaneSession>) {
        match message {
            ControlToShard::LaneArrived { serial, handover } => {
                let key = self.forwarder.links.add(now, serial, *handover);
                if self.stopping {
                    self.forwarder.links.start_close(now, key, CloseReason::Shutdown, "");
                }
                // Frames may have come in behind the Hello. What is in them for the control thread is
                // to follow the word that the lane is there.
                self.report_lane_events();
                self.handle_ciphertext(now, key);
            }
            ControlToShard::CloseLane { peer, lane, serial, reason } => {
                if let Some(key) = self.forwarder.links.find(peer, lane, serial) {
                    self.forwarder.links.start_close(now, key, reason, "");
                }
            }
            ControlToShard::ProposeMode { peer, mode } => {
                self.forwarder.links.propose_mode(peer, mode);
            }
            ControlToShard::SetLaneRule { peer, rule } => {
                self.forwarder.links.set_lane_rule(peer, rule);
            }
            ControlToShard::LinkControl { peer, body } => {
                let class = TrafficClass::Control;
                // Flooding repeats what is not acknowledged; without a lane it begins anew.
                let (kind, origin) = (FrameKind::LinkControl, Origin::Own);
                let (flow, flags) = (Flow::default(), FrameFlags::default());
                let frame = Outgoing { kind, class, origin, flow, flags, via: None };
                let _dropped = self.forwarder.links.push(peer, frame, FrameParts::of(&[&body]));
            }
            ControlToShard::Datagram { to, body } => {
                let class = TrafficClass::Control;
                let kind = FrameKind::Datagram;
                let _best_effort = self.forwarder.send(to, None, kind, class, &[&body]);
            }
            ControlToShard::OpenStream(spec) => {
                self.epoch = spec.epoch;
                self.streams.handle_spec(&spec, &self.forwarder);
            }
            ControlToShard::StreamHostedAt { stream, node } => {
                self.streams.handle_hosted(stream, node);
            }
            ControlToShard::CloseStream(stream) => self.streams.handle_close(stream),
            ControlToShard::DropStream(stream) => {
                self.streams.handle_drop(stream, &mut self.outward);
            }
            ControlToShard::Report => {
                let report = shard_report(self);
                self.outward.control.push(ShardToControl::Report(report));
            }
            ControlToShard::ExplainMessage { ticket, stream, offset } => {
                let (streams, local) = (&self.streams, self.forwarder.local);
                let report = streams.explain_message(now, local, ticket, (stream, offset));
                self.outward.control.push(ShardToControl::MessageReport(Box::new(report)));
            }
            ControlToShard::Shutdown => self.shut_down(now),
        }
    }

    /// Ends every call and closes every lane; the shard stops once they are gone.
    fn shut_down(&mut self, now: MonoTime) {
        self.stopping = true;
        self.streams.handle_shutdown(&mut self.outward);
        self.forwarder.links.start_close_all(now, CloseReason::Shutdown);
    }

    fn drain_apis(&mut self, now: MonoTime) -> bool {
        let mut worked = false;
        for api in 0..self.inward.apis.len() {
            for _ in 0..RING_BATCH_MAX {
                let Some((control, _)) = self.inward.apis.get_mut(api) else { break };
                let Some(message) = control.try_recv() else { break };
                // A stream that the control thread opened before the client asked for it is there
                // before the client is answered.
                self.drain_control(now);
                self.streams.handle_api(now, api, message, &mut self.outward);
                worked = true;
            }
            let Some((_, data)) = self.inward.apis.get_mut(api) else { break };
            for _ in 0..RING_BATCH_MAX {
                let Some(message) = data.try_recv() else { break };
                worked = true;
                self.streams.handle_api_data(api, message, &mut self.outward);
            }
        }
        worked
    }

    /// Takes what other shards have sent, the more urgent of all of them first.
    fn collect_peers(&mut self) -> Vec<ShardToShard> {
        let mut messages = Vec::new();
        let mut collect = |ring: &mut Receiver<ShardToShard>| {
            messages.extend(std::iter::from_fn(|| ring.try_recv()).take(RING_BATCH_MAX));
        };
        let peers = &mut self.inward.peers;
        peers.iter_mut().for_each(|peer| collect(&mut peer.control));
        peers.iter_mut().for_each(|peer| collect(&mut peer.priority));
        peers.iter_mut().for_each(|peer| collect(&mut peer.data));
        messages
    }

    fn drain_peers(&mut self, now: MonoTime) -> bool {
        let messages = self.collect_peers();
        let worked = !messages.is_empty();
        for message in messages {
            match message {
                ShardToShard::Egress { peer, frame } => {
                    self.moved |= frame.kind != FrameKind::Datagram;
                    self.forwarder.egress(peer, &frame);
                }
                ShardToShard::Link { peer, usable } => {
                    self.forwarder.handle_link(peer, usable);
                    self.peer_links_turned = true;
                }
                ShardToShard::Ingress { frame } => {
                    self.moved = true;
                    self.handle_routed(
                        now,
                        frame.via,
                        frame.kind,
                        frame.class,
                        frame.flags,
                        frame.body.as_ref().into(),
                    );
                }
            }
        }
        worked
    }

    fn drain_completions(&mut self, now: MonoTime) -> bool {
        let mut worked = false;
        while let Some(completion) = self.forwarder.links.io.poll_completion() {
            worked = true;
            match completion {
                Completion::Read { key, buffer, result } => {
                    self.handle_read(now, key, buffer, result);
                }
                Completion::Written { key, buffer, result: Ok(()) } => {
                    self.forwarder.links.handle_written(key, buffer);
                }
                Completion::Written { key, result: Err(error), .. } => {
                    self.forwarder.links.drop_lane(now, key, &format!("write failed: {error}"));
                }
            }
        }
        worked
    }

    fn handle_read(
        &mut self,
        now: MonoTime,
        key: LaneKey,
        mut buffer: Vec<u8>,
        result: std::io::Result<usize>,
    ) {
        let bytes = match result {
            Ok(0) => {
                self.forwarder.links.drop_lane(now, key, "closed by the peer");
                return;
            }
            Ok(bytes) => bytes,
            Err(error) => {
                let why = format!("read failed: {error}");
                self.forwarder.links.drop_lane(now, key, &why);
                return;
            }
        };
        if self.forwarder.links.discard(key, &mut buffer) {
            return;
        }
        if self.forwarder.links.handle_read(now, key, buffer, bytes) {
            self.handle_ciphertext(now, key);
        }
    }

    /// Decrypts what the lane has read, handles it, and reads on.
    fn handle_ciphertext(&mut self, now: MonoTime, key: LaneKey) {
        let Some(lane) = self.forwarder.links.lane_mut(key) else { return };
        match lane.session.process() {
            Ok(progress) => {
                self.handle_plaintext(now, key);
                if progress.peer_closed {
                    self.forwarder.links.drop_lane(now, key, "closed by the peer");
                } else {
                    self.forwarder.links.read_more(key);
                }
            }
            Err(error) => {
                self.refuse(now, key, &Breach::of(&error));
                self.forwarder.links.read_more(key);
            }
        }
    }

    /// Handles every whole message that the lane holds.
    fn handle_plaintext(&mut self, now: MonoTime, key: LaneKey) {
        let Some(lane) = self.forwarder.links.lane_mut(key) else { return };
        if lane.closing.is_some() {
            lane.session.inbox().discard();
            return;
        }
        let (peer, role) = (lane.peer, lane.session.role());
        let mut inbox = lane.session.take_inbox();
        let broken = self.handle_messages(now, key, peer, &mut inbox, role);
        let closed = inbox.is_closed();
        if let Some(lane) = self.forwarder.links.lane_mut(key)
            && let Err(error) = lane.session.put_inbox(inbox)
        {
            self.refuse(now, key, &Breach::of(&error));
            return;
        }
        if let Some(breach) = broken {
            self.refuse(now, key, &breach);
        } else if closed {
            self.forwarder.links.drop_lane(now, key, "closed by the peer");
        }
        self.forwarder.links.want_write(key);
    }

    /// Why the lane cannot go on, if it cannot.
    fn handle_messages(
        &mut self,
        now: MonoTime,
        key: LaneKey,
        peer: NodeId,
        inbox: &mut Inbox,
        role: hawser_session::Role,
    ) -> Option<Breach> {
        let mut frames = 0;
        let broken = loop {
            let message = match inbox.next_message(role) {
                Ok(Some(message)) => message,
                Ok(None) => break None,
                Err(violation) => break Some(Breach::of(&violation)),
            };
            let mut broken = None;
            let shared = message.shared();
            for frame in shared.map_or_else(|| FrameIter::new(&message), FrameIter::shared) {
                match frame {
                    Ok(frame) => {
                        frames += 1;
                        broken = self.handle_frame(now, key, peer, frame);
                    }
                    Err(error) => broken = Some(Breach::of(&error)),
                }
                if broken.is_some() {
                    break;
                }
            }
            inbox.recycle(message);
            if broken.is_some() {
                break broken;
            }
        };
        if let Some(lane) = self.forwarder.links.lane_mut(key) {
            lane.received_frames = lane.received_frames.saturating_add(frames);
        }
        broken
    }

    /// Closes a lane whose peer broke the protocol, and says so on both sides.
    fn refuse(&mut self, now: MonoTime, key: LaneKey, breach: &Breach) {
        let Breach { reason, why } = breach;
        if let Some(lane) = self.forwarder.links.lane_mut(key) {
            let reason = reason.text();
            debug!(peer = %lane.peer, lane = lane.lane.0, reason, why, "lane closed: broken protocol");
        }
        self.forwarder.links.start_close(now, key, *reason, why);
    }

    fn report_lane_events(&mut self) {
        while let Some(event) = self.forwarder.links.poll_event() {
            let message = match event {
                LaneEvent::Up { peer, lane, serial } => {
                    ShardToControl::LaneUp { peer, lane, serial }
                }
                LaneEvent::Down { peer, lane, serial, reason, told, closed } => {
                    let reason = reason.into_boxed_str();
                    ShardToControl::LaneDown { peer, lane, serial, reason, told, closed }
                }
            };
            self.outward.control.push(message);
        }
        let now = self.forwarder.now;
        while let Some((peer, event)) = self.forwarder.links.poll_note() {
            // The end of a session takes the link back to the mode that links begin in.
            if matches!(event, LinkEvent::ModeChanged { .. } | LinkEvent::SessionEnded { .. }) {
                let mode = self.forwarder.links.mode(peer);
                self.outward.control.push(ShardToControl::LinkMode { peer, mode });
            }
            if let LinkEvent::WantLane { lane, class } = event {
                self.outward.control.push(ShardToControl::WantLane { peer, lane, class });
            } else {
                self.outward.push_link_event(now, peer, || report_of(peer, &event));
            }
        }
        while let Some((peer, decision, lanes)) = self.forwarder.links.poll_decision() {
            self.outward.push_rare_link_event(decision_of(peer, &decision, &lanes));
        }
        while let Some((peer, frames)) = self.forwarder.links.poll_control_dropped(now) {
            self.outward.push_rare_link_event(control_dropped(peer, frames));
        }
        self.outward.tell_untold_events(now);
    }
}

#[cfg(test)]
mod tests;
