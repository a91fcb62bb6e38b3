//! What sources send, and whose turn it is.

use hawser_delivery::{StreamKey, TransmitBody};
use hawser_link::{Flow, FrameParts, Origin, RefusedLimit};
use hawser_wire::{FrameFlags, FrameKind, StreamId, TrafficClass};

use crate::flow::flow_of;
use crate::node::{Egress, Node};
use crate::simulation::Simulation;
use crate::traffic::flow_name;

/// What a saturating application publishes at once: a record.
const SATURATING_BYTES: u32 = 16_000;

impl Simulation {
    /// Lets each source of a node publish and do what is due.
    pub(crate) fn pump_sources(&mut self, node: usize) {
        self.handle_path_timeouts(node);
        for index in 0..self.nodes[node].sources.len() {
            if let Some(&flow) = self.nodes[node].sources.get(index) {
                self.pump_source(flow);
            }
        }
    }

    /// Sends what the sources of a node have and their first links take, as a turn of a shard does.
    /// `rests`: none of them was touched since they were asked last.
    pub(crate) fn send_in_turn(&mut self, node: usize, rests: bool) {
        self.nodes[node].rounds.begin_turn();
        let mut is_touched = !rests;
        loop {
            while let Some(stream) = self.nodes[node].windows.poll_woken() {
                if let Some(flow) = self.source_of(node, stream) {
                    self.flows[flow].source.touched = true;
                    is_touched = true;
                }
            }
            let mut sources = self.nodes[node].sources.iter().copied();
            if is_touched && let Some(flow) = sources.find(|&flow| self.flows[flow].source.touched)
            {
                self.visit(flow, None);
                continue;
            }
            let Some((egress, who)) = self.next_turn(node) else { return };
            if let Some(flow) = self.source_of(node, who.stream) {
                self.visit(flow, Some(egress));
                is_touched = true;
            }
        }
    }

    /// A node's source of that name.
    fn source_of(&self, node: usize, stream: StreamId) -> Option<usize> {
        let flow = flow_of(stream)?;
        self.nodes[node].sources.contains(&flow).then_some(flow)
    }

    /// Who waits for a link of a node and has its turn there now.
    fn next_turn(&mut self, node: usize) -> Option<(Egress, StreamKey)> {
        let Self { nodes, ends, .. } = self;
        let Node { rounds, keys, .. } = &mut nodes[node];
        rounds.next(|(end, class), stream| {
            let machine = &ends[end].machine;
            let key = stream.and_then(|stream| keys.iter().find(|key| key.stream == stream));
            machine.is_up()
                && key.map_or_else(
                    || !machine.is_full(class),
                    |&key| machine.has_room(class, flow_name(key)),
                )
        })
    }

    /// Lets a stream send what it may. One that its path's window has refused is not visited before it
    /// is woken, as in a shard.
    fn visit(&mut self, flow: usize, granted: Option<Egress>) {
        let node = self.node_of_source(flow);
        self.flows[flow].source.touched = false;
        self.nodes[node].rounds.begin_visit(granted);
        while self.send(flow) {}
        let (who, path) = (self.flows[flow].source.sender.key(), self.flows[flow].source.path);
        let Node { rounds, windows, .. } = &mut self.nodes[node];
        rounds.end_visit(who);
        windows.end_visit(path, who);
        self.flows[flow].source.touched = false;
    }

    /// Paths of a node on which nothing has moved for too long.
    fn handle_path_timeouts(&mut self, node: usize) {
        let now = self.queue.now();
        let Node { windows, sources, .. } = &mut self.nodes[node];
        while let Some(lost) = windows.handle_timeout(now) {
            for &flow in sources.iter() {
                let source = &mut self.flows[flow].source;
                if source.path == lost {
                    source.handle_path_timeout(now, windows);
                }
            }
        }
    }

    fn pump_source(&mut self, flow: usize) {
        let now = self.queue.now();
        let node = self.node_of_source(flow);
        if !self.flows[flow].source.sender.is_awake(now) {
            return;
        }
        let source = &mut self.flows[flow].source;
        source.take_acked();
        if source.sender.is_due(now) {
            source.sender.handle_timeout(now);
            source.settle(now, &mut self.nodes[node].windows);
        }
        if self.fills(flow) {
            let (least, most) = self.flows[flow].shape.message_bytes;
            let bytes = least.midpoint(most);
            let count = SATURATING_BYTES.checked_div(bytes).unwrap_or(1).max(1);
            while self.publish(flow, count, bytes) > 0 {}
        }
        self.flows[flow].source.sender.leave();
    }

    /// Sends one record, or something about the stream; true if there was anything to send.
    fn send(&mut self, flow: usize) -> bool {
        let now = self.queue.now();
        let (who, node) = (self.flows[flow].source.sender.key(), self.node_of_source(flow));
        let name = flow_name(who);
        let mut body = std::mem::take(&mut self.body);
        let state = &mut self.flows[flow];
        let Node { windows, rounds, .. } = &mut self.nodes[node];
        let egress = (state.first_end, state.shape.class);
        let end = &mut self.ends[state.first_end];
        let machine = &end.machine;
        let has_room = machine.is_up() && machine.has_room(state.shape.class, name);
        let path = state.source.path;
        let transmit = state.source.sender.poll_transmit(now, |offer| {
            if !windows.may_send(now, path, who, offer.len_bytes) {
                return false;
            }
            let may = rounds.may_send(who, egress, has_room);
            if !may {
                windows.handle_no_room(path, who);
            }
            may
        });
        let sent = transmit.is_some();
        if let Some(transmit) = transmit {
            let header = state.forward.as_slice();
            let flags = transmit.flags;
            let striped = if state.shape.striped { flags.with(FrameFlags::STRIPED) } else { flags };
            match transmit.body {
                TransmitBody::Sync(sync) => {
                    body.clear();
                    sync.encode(&mut body);
                    let kind = (FrameKind::StreamSync, TrafficClass::Control);
                    let parts = [header, &body];
                    // One that is refused is repeated in its time.
                    let _ = end.push(
                        now,
                        kind,
                        Origin::Own,
                        (Flow::default(), flags),
                        FrameParts::of(&parts),
                    );
                }
                TransmitBody::Record(record) => {
                    let kind = (FrameKind::Record, state.shape.class);
                    state.source.note_sent(&record);
                    rounds.note_sent(who, egress, record.charge_bytes());
                    state.source.settle(now, windows);
                    let sent = record.with_parts(|parts, payload| {
                        let mut all: [&[u8]; 4] = [header, &[], &[], &[]];
                        for (slot, part) in all.iter_mut().skip(1).zip(parts) {
                            *slot = part;
                        }
                        let body = FrameParts { parts: &all, end: Some(payload) };
                        end.push(now, kind, Origin::Own, (name, striped), body)
                    });
                    if let Err(refusal) = sent {
                        let congested = refusal.limit != RefusedLimit::NoLane;
                        state.source.handle_dropped(now, congested, windows);
                    }
                }
            }
        }
        self.body = body;
        sent
    }
}
