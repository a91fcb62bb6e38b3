use std::time::Duration;

use hawser_delivery::StreamKey;
use hawser_link::{Flow, FrameParts, Handled, Origin, Refusal, RefusedLimit};
use hawser_wire::{
    FrameBody, FrameFlags, FrameHeader, FrameIter, FrameKind, FrameRef, Hop, LinkSequence, Notice,
    NoticeReason, RecordView, RouteHeader, StreamAck, StreamHeader, StreamId, StreamSync,
    TrafficClass,
};

use crate::event::Event;
use crate::flow::{PATH, flow_of};
use crate::ledger::FrameDigest;
use crate::mutation::Mutation;
use crate::simulation::Simulation;
use crate::violation::Property;
use crate::world::Pace;

/// Flows that fill links are looked at this often, beside the turns of their nodes.
const SATURATING_EVERY: Duration = Duration::from_millis(50);
/// Control frames of known age are sent this often.
const PROBE_EVERY: Duration = Duration::from_millis(100);

/// How the link tells one stream from another.
pub(crate) fn flow_name(who: StreamKey) -> Flow {
    let number = |id: &[u8; 16]| {
        let tail = id.last_chunk::<8>().map_or(0, |tail| u64::from_be_bytes(*tail));
        tail.saturating_add(1)
    };
    Flow { tenant: number(who.tenant.as_bytes()), stream: number(who.stream.as_bytes()) }
}

/// The stream of a record.
fn stream_of(kind: FrameKind, behind_route: &[u8]) -> Option<StreamKey> {
    let (header, _) =
        StreamHeader::decode(behind_route).ok().filter(|_| kind == FrameKind::Record)?;
    Some(StreamKey { tenant: header.tenant, stream: header.stream })
}

/// Whose a frame is that has come over `link_end`, and its flags.
pub(crate) fn about_frame(
    link_end: usize,
    header: &FrameHeader,
    behind_route: &[u8],
) -> (Flow, FrameFlags) {
    let who = stream_of(header.kind, behind_route);
    let control = || Flow { tenant: link_end.try_into().unwrap_or(u64::MAX), stream: 0 };
    (who.map_or_else(control, flow_name), header.flags)
}

/// Why a frame that a link refused is dropped.
fn reason_of(refusal: &Refusal) -> NoticeReason {
    match refusal.limit {
        RefusedLimit::NoLane => NoticeReason::NoAdjacency,
        _ => NoticeReason::Congested,
    }
}

impl Simulation {
    pub(crate) fn handle_publish(&mut self, flow: usize) {
        let source = self.node_of_source(flow);
        if self.draining {
            return;
        }
        self.note(source, Event::Publish { flow });
        let again = match self.flows[flow].shape.pace {
            // Filled up in each turn of its node; this is for the first one.
            Pace::Saturating => {
                self.flows[flow].source.sender.touch();
                self.saturates_again()
            }
            Pace::PerSecond(rate) => {
                if self.is_running(source) {
                    let (least, most) = self.flows[flow].shape.message_bytes;
                    let bytes = self.random.between(u64::from(least), u64::from(most));
                    let count = u32::try_from(self.random.between(1, 3)).unwrap_or(1);
                    self.publish(flow, count, u32::try_from(bytes).unwrap_or(least));
                }
                let mean = Duration::from_secs(1).checked_div(rate).unwrap_or_default();
                self.random.duration(Duration::ZERO, mean.saturating_mul(2))
            }
        };
        let at = self.queue.now().saturating_add(again);
        self.queue.schedule(at, Event::Publish { flow });
        self.pump(source);
    }

    /// From now to when flows that fill links are to be looked at again.
    fn saturates_again(&self) -> Duration {
        let (now, rests) = (self.queue.now(), self.world.rests);
        if rests.is_full(now) { SATURATING_EVERY } else { rests.left(now) }
    }

    pub(crate) fn publish(&mut self, flow: usize, count: u32, bytes: u32) -> u32 {
        match self.flows[flow].source.publish(self.queue.now(), count, bytes) {
            Ok(taken) => taken,
            Err((property, text)) => {
                self.violate(property, format!("flow {flow}: {text}"));
                0
            }
        }
    }

    pub(crate) fn node_of_source(&self, flow: usize) -> usize {
        self.ends[self.flows[flow].first_end].node
    }

    pub(crate) fn node_of_sink(&self, flow: usize) -> usize {
        self.ends[self.flows[flow].last_end].node
    }

    /// Lets a consumer take what is there, and acknowledges it.
    pub(crate) fn pump_sink(&mut self, flow: usize) {
        let now = self.queue.now();
        if !self.flows[flow].sink.receiver.is_awake(now) {
            return;
        }
        let every = self.flows[flow].shape.consume_every;
        if every.is_zero() || self.draining {
            self.consume(flow, usize::MAX);
        } else if !std::mem::replace(&mut self.flows[flow].consumes, true) {
            self.queue.schedule(now.saturating_add(every), Event::Consume { flow });
        }
        let mut body = std::mem::take(&mut self.body);
        let node = self.node_of_sink(flow);
        if self.mutate(Mutation::LeakWindow) {
            self.flows[flow].sink.leak_window(now, &mut self.nodes[node].budget);
        }
        let state = &mut self.flows[flow];
        if let Some(ack) = state.sink.receiver.poll_ack(now, &mut self.nodes[node].budget) {
            body.clear();
            ack.encode(&mut body);
            let kind = (FrameKind::StreamAck, TrafficClass::Control);
            let about = (Flow::default(), FrameFlags::default());
            let parts = [state.backward.as_slice(), &body];
            // One that is refused is made up for by the next, or asked for.
            let _ = self.ends[state.last_end].push(
                now,
                kind,
                Origin::Own,
                about,
                FrameParts::of(&parts),
            );
        }
        state.sink.receiver.leave();
        self.body = body;
    }

    pub(crate) fn handle_consume(&mut self, flow: usize) {
        let node = self.node_of_sink(flow);
        self.flows[flow].consumes = false;
        self.flows[flow].sink.receiver.touch();
        self.note(node, Event::Consume { flow });
        if self.is_running(node) {
            self.consume(flow, 1);
        }
        self.pump(node);
    }

    fn consume(&mut self, flow: usize, records_max: usize) {
        let now = self.queue.now();
        if self.flows[flow].sink.has_record() && self.mutate(Mutation::SkipRecord) {
            self.flows[flow].sink.skip_record();
        }
        if self.flows[flow].sink.last_seq() > 0 && self.mutate(Mutation::RepeatRecord) {
            self.flows[flow].sink.forget_record();
        }
        let before = self.flows[flow].sink.bytes();
        if let Err((property, text)) = self.flows[flow].sink.consume(now, records_max) {
            self.violate(property, format!("flow {flow}: {text}"));
        }
        if self.world.rests.is_full(now) {
            let flow = &mut self.flows[flow];
            let consumed = flow.sink.bytes().saturating_sub(before);
            flow.filled_bytes = flow.filled_bytes.saturating_add(consumed);
        }
    }

    pub(crate) fn handle_probe(&mut self, link_end: usize) {
        if self.draining {
            return;
        }
        let now = self.queue.now();
        let node = self.ends[link_end].node;
        self.note(node, Event::Probe { end: link_end });
        let kind = (FrameKind::LinkControl, TrafficClass::Control);
        let about = (Flow::default(), FrameFlags::default());
        let sent = now.as_nanos().to_le_bytes();
        // It is about links that are full.
        if !self.world.rests.is_full(now) {
            let at = now.saturating_add(self.world.rests.left(now)).saturating_add(PROBE_EVERY);
            self.queue.schedule(at, Event::Probe { end: link_end });
            return;
        }
        self.sample_in_flight(link_end);
        if self.ends[link_end].machine.is_up() {
            let _ =
                self.ends[link_end].push(now, kind, Origin::Own, about, FrameParts::of(&[&sent]));
        }
        self.queue.schedule(now.saturating_add(PROBE_EVERY), Event::Probe { end: link_end });
        self.pump(node);
    }

    /// A machine has looked at a frame that arrived.
    pub(crate) fn handle_handled(
        &mut self,
        link_end: usize,
        frame: &FrameRef<'_>,
        handled: Handled,
    ) {
        if matches!(handled, Handled::Deliver | Handled::Striped) {
            match frame.unstamped() {
                Ok(frame) => {
                    self.handle_frame(link_end, &frame, handled == Handled::Striped);
                }
                Err(error) => {
                    self.violate(Property::Content, format!("unreadable stamp: {error}"));
                }
            }
        }
        self.take_reassembled(link_end);
    }

    /// A frame that a machine delivers is checked, and goes on. `striped`: it came with a stamp.
    pub(crate) fn handle_frame(&mut self, link_end: usize, frame: &FrameRef<'_>, striped: bool) {
        if self.mutate(Mutation::LoseFrame) {
            return;
        }
        let is_record = frame.header.kind == FrameKind::Record;
        if is_record && self.mutate(Mutation::DelayRecord) {
            let mut delayed = frame.header.encode().to_vec();
            delayed.extend_from_slice(frame.body.bytes());
            self.delayed = Some((link_end, striped, delayed));
            return;
        }
        self.check_delivered(link_end, frame);
        if self.mutate(Mutation::RepeatFrame) {
            self.check_delivered(link_end, frame);
        }
        if frame.header.kind.is_routed() {
            self.handle_routed(link_end, frame, striped);
        } else if let Some(sent) = frame.body.first_chunk() {
            let took = self.queue.now().as_nanos().saturating_sub(u64::from_le_bytes(*sent));
            self.probes_us.push(took.checked_div(1000).unwrap_or(0));
        }
        if is_record
            && let Some((_, striped, late)) = self.delayed.take_if(|(end, ..)| *end == link_end)
        {
            for frame in FrameIter::new(&late).filter_map(Result::ok) {
                self.handle_frame(link_end, &frame, striped);
            }
        }
    }

    pub(crate) fn check_delivered(&mut self, link_end: usize, frame: &FrameRef<'_>) {
        let sequence = frame.header.link_sequence;
        if sequence == LinkSequence(0) {
            return;
        }
        let altered;
        let body = if self.mutate(Mutation::AlterFrame) {
            altered = frame.body.iter().map(|byte| !byte).collect::<Vec<u8>>();
            &altered
        } else {
            frame.body.bytes()
        };
        let ledger = self.ends[link_end].heard_ledger;
        let Some(ledger) = self.ends[link_end ^ 1].ledgers.get_mut(ledger) else { return };
        let digest = FrameDigest::of(frame.header.kind, std::iter::once(body));
        if let Err((property, text)) = ledger.handle_delivered(sequence, digest) {
            let (from, to) = (self.ends[link_end].peer, self.ends[link_end].node);
            self.violate(property, format!("link {from} to {to}: {text}"));
        }
    }

    fn handle_routed(&mut self, link_end: usize, frame: &FrameRef<'_>, striped: bool) {
        let Ok((route, rest)) = RouteHeader::decode(frame.body.bytes()) else {
            return self.violate(Property::Content, "unreadable route header".to_owned());
        };
        self.check_order(link_end, (frame, striped), (&route, rest));
        match route.next_hop() {
            Hop::Last => {
                let FrameHeader { kind, flags, .. } = frame.header;
                self.handle_local(link_end, kind, flags, frame.body.with(rest));
            }
            Hop::Via(index) => {
                let next = usize::try_from(index.0).unwrap_or(usize::MAX);
                self.relay(link_end, next, frame, rest);
            }
        }
    }

    /// Sends a frame on. What the next link does not take is dropped, and its source is told.
    fn relay(&mut self, link_end: usize, next: usize, frame: &FrameRef<'_>, behind_route: &[u8]) {
        let now = self.queue.now();
        let Ok((fixed, rest)) = RouteHeader::split_advanced(frame.body.bytes()) else {
            return self.violate(Property::Content, "a route's TTL is used up".to_owned());
        };
        let FrameHeader { kind, class, .. } = frame.header;
        let about = about_frame(link_end, &frame.header, behind_route);
        let pushed = self.relay_around(next, frame, behind_route).unwrap_or_else(|| {
            let parts: [&[u8]; 2] = [&fixed, rest];
            let body = FrameParts::of(&parts);
            self.ends[next].push(now, (kind, class), Origin::Foreign, about, body)
        });
        if let Err(refusal) = pushed
            && let Some(who) = stream_of(kind, behind_route)
        {
            self.tell_source(self.ends[next].node, who.stream, reason_of(&refusal));
        }
    }

    /// Tells a stream's source that a node on its path, which may be its own, has dropped a record.
    pub(crate) fn tell_source(&mut self, relay: usize, stream: StreamId, reason: NoticeReason) {
        let now = self.queue.now();
        let Some(flow) = flow_of(stream).filter(|&flow| flow < self.flows.len()) else { return };
        if self.node_of_source(flow) == relay {
            let congested = reason == NoticeReason::Congested;
            let windows = &mut self.nodes[relay].windows;
            return self.flows[flow].source.handle_dropped(now, congested, windows);
        }
        let path = &self.flows[flow].shape.path;
        let back = match path.iter().position(|&node| usize::from(node) == relay) {
            Some(at) => path.iter().take(at.saturating_add(1)).rev().copied().collect(),
            None => self.way(relay, self.node_of_source(flow), |_| true).unwrap_or_default(),
        };
        let header = self.route(&back);
        let way = back.get(1).and_then(|&before| {
            let before = usize::from(before);
            self.ends.iter().position(|end| end.node == relay && end.peer == before)
        });
        let Some(way) = way else { return };
        let notice = Notice {
            path: PATH,
            reason,
            at: self.nodes[relay].id,
            destination: self.nodes[self.node_of_sink(flow)].id,
            stream,
            refusal: None,
        };
        let mut body = Vec::new();
        notice.encode(&mut body);
        let kind = (FrameKind::Notice, TrafficClass::Control);
        let about = (Flow::default(), FrameFlags::default());
        let _ =
            self.ends[way].push(now, kind, Origin::Own, about, FrameParts::of(&[&header, &body]));
    }

    /// A frame has reached its destination.
    fn handle_local(
        &mut self,
        link_end: usize,
        kind: FrameKind,
        flags: FrameFlags,
        body: FrameBody<'_>,
    ) {
        let now = self.queue.now();
        let node = self.ends[link_end].node;
        let known = |id: StreamId| {
            let bytes = id.as_bytes().last_chunk::<8>();
            let flow = bytes.map_or(u64::MAX, |bytes| u64::from_be_bytes(*bytes));
            usize::try_from(flow).unwrap_or(usize::MAX)
        };
        let unreadable = match kind {
            FrameKind::Record => RecordView::of(body).map(|view| {
                let flow = known(view.header.stream);
                let sink = &mut self.flows[flow].sink;
                if flags.contains(FrameFlags::CONGESTION_EXPERIENCED) {
                    sink.marked = sink.marked.saturating_add(1);
                }
                sink.receiver.handle_record(now, &view, flags);
                if let Some(violation) = sink.receiver.poll_violation() {
                    let text =
                        format!("flow {flow}: the destination refused a record: {violation}");
                    self.violate(Property::Credit, text);
                }
            }),
            FrameKind::StreamSync => StreamSync::decode(&body).map(|sync| {
                self.flows[known(sync.stream)].sink.receiver.handle_sync(&sync, flags);
            }),
            FrameKind::StreamAck => StreamAck::decode(&body).map(|mut ack| {
                if self.mutate(Mutation::InflateCredit) {
                    ack.credit_bytes = u64::MAX;
                }
                self.withholds |= self.mutate(Mutation::WithholdCredit);
                if self.withholds {
                    ack.credit_bytes = ack.credit_bytes.saturating_sub(1);
                }
                let flow = known(ack.stream);
                let from = self.nodes[self.node_of_sink(flow)].id;
                let source = &mut self.flows[flow].source;
                source.sender.handle_ack(now, from, &ack);
                source.settle(now, &mut self.nodes[node].windows);
                if let Some((_, by)) = source.sender.poll_refused() {
                    let text = format!("flow {flow}: the source refused its destination: {by:?}");
                    self.violate(Property::NoFalseAccusation, text);
                }
            }),
            FrameKind::Notice => Notice::decode(&body).map(|notice| {
                let flow = known(notice.stream);
                let congested = notice.reason == NoticeReason::Congested;
                let windows = &mut self.nodes[node].windows;
                self.flows[flow].source.handle_dropped(now, congested, windows);
            }),
            _ => Ok(()),
        };
        if let Err(error) = unreadable {
            self.violate(Property::Content, format!("node {node}: unreadable body: {error}"));
        }
    }
}
