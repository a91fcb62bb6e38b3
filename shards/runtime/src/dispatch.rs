use std::collections::HashMap;

use bytes::Bytes;
use hawser_exchange::{RouteReader, RoutedFrame, Sender, ShardToShard};
use hawser_link::{Batch, Flow, Origin, Refusal, RefusedLimit};
use hawser_wire::{
    FrameFlags, FrameIter, FrameKind, Hop, NodeId, Notice, NoticeLimit, NoticeReason,
    NoticeRefusal, PathId, RouteHeader, ShardId, StreamHeader, StreamId, TrafficClass,
};

use crate::budget::Budget;
use crate::io::ShardIo;
use crate::links::{Links, Outgoing};
use crate::outlet::Outlet;

/// Bytes of control frames that may be on their way to another shard: what a shard that stands
/// still may cost.
const SHARD_CONTROL_BYTES_MAX: usize = 16 << 20;

/// Most slices that a body is made of, with the route header in front.
const PARTS_MAX: usize = 8;

/// Rings to another shard.
#[derive(Debug)]
pub(crate) struct PeerOutlets {
    pub(crate) control: Outlet<ShardToShard>,
    pub(crate) data: Outlet<ShardToShard>,
    /// Of control frames.
    budget: Budget,
}

impl PeerOutlets {
    pub(crate) fn new(ports: (Sender<ShardToShard>, Sender<ShardToShard>)) -> Self {
        let (control, data) = (Outlet::new(ports.0), Outlet::new(ports.1));
        Self { control, data, budget: Budget::new(SHARD_CONTROL_BYTES_MAX) }
    }

    /// A ring has room again for what waits.
    pub(crate) fn can_flow(&self) -> bool {
        self.control.can_flow() || self.data.can_flow()
    }
}

/// What became of a frame that was to leave.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Sent {
    /// It waits in the queue of its next hop.
    Queued,
    /// There is no path, or its first link is down.
    NoRoute,
    /// A bound of the next hop has no place for it.
    Full(NoticeRefusal),
}

/// What the source is told of a link's refusal.
fn refusal_of(refusal: &Refusal) -> NoticeRefusal {
    let limit = match refusal.limit {
        RefusedLimit::NoLane => NoticeLimit::NoLane,
        RefusedLimit::Class => NoticeLimit::Class,
        RefusedLimit::Tenant => NoticeLimit::Tenant,
        RefusedLimit::Stream => NoticeLimit::Stream,
        RefusedLimit::SequenceWindow => NoticeLimit::SequenceWindow,
        RefusedLimit::FrameSize => NoticeLimit::FrameSize,
    };
    let retry_after_ms = u32::try_from(refusal.retry_after.as_millis()).unwrap_or(u32::MAX);
    NoticeRefusal { limit, class: refusal.class, lane: refusal.lane, retry_after_ms }
}

/// The ring to another shard has no place for a frame of `class`; a turn of that shard makes some.
const fn ring_full(class: TrafficClass) -> NoticeRefusal {
    NoticeRefusal { limit: NoticeLimit::Shard, class, lane: None, retry_after_ms: 1 }
}

/// A route header ready to be sent, and where to.
#[derive(Debug)]
struct EncodedRoute {
    neighbour: NodeId,
    header: Vec<u8>,
}

/// Where routed frames go: this node, a link of this shard, or another shard.
///
/// Keeps no state per path: a relay follows the frame's own list.
#[derive(Debug)]
pub(crate) struct Forwarder<I> {
    pub(crate) local: NodeId,
    pub(crate) shard: ShardId,
    shard_count: u16,
    pub(crate) links: Links<I>,
    pub(crate) routes: RouteReader,
    encoded: HashMap<NodeId, EncodedRoute>,
    pub(crate) peers: Vec<Option<PeerOutlets>>,
}

impl<I: ShardIo> Forwarder<I> {
    pub(crate) fn new(
        local: NodeId,
        shard: ShardId,
        shard_count: u16,
        links: Links<I>,
        routes: RouteReader,
        peers: Vec<Option<PeerOutlets>>,
    ) -> Self {
        Self { local, shard, shard_count, links, routes, encoded: HashMap::new(), peers }
    }

    /// Takes the newest route snapshot; true if it is another one.
    pub(crate) fn refresh_routes(&mut self) -> bool {
        let changed = self.routes.refresh();
        if changed {
            self.encoded.clear();
        }
        changed
    }

    /// The shard that hosts `stream`.
    pub(crate) fn host_of(&self, stream: StreamId) -> ShardId {
        ShardId::of_stream(stream, self.shard_count)
    }

    fn encoded_route(&mut self, to: NodeId) -> Option<&EncodedRoute> {
        if !self.encoded.contains_key(&to) {
            let snapshot = self.routes.current();
            let route = snapshot.route_to(to)?;
            let neighbour = snapshot.neighbour(*route.hops.first()?)?;
            let mut header = Vec::with_capacity(RouteHeader::FIXED_LEN + route.hops.len() * 2);
            RouteHeader::encode(&mut header, self.local, to, route.path, &route.hops).ok()?;
            let (fixed, hops) = RouteHeader::split_advanced(&header).ok()?;
            let header = [&fixed[..], hops].concat();
            self.encoded.insert(to, EncodedRoute { neighbour, header });
        }
        self.encoded.get(&to)
    }

    /// The neighbour over which a path to `to` begins; this node itself if that is where it ends.
    pub(crate) fn next_hop(&mut self, to: NodeId) -> Option<NodeId> {
        if to == self.local {
            return Some(to);
        }
        self.encoded_route(to).map(|route| route.neighbour)
    }

    /// Own streams may send more of `class` over `neighbour`, as [`Self::next_hop`] names it.
    pub(crate) fn has_room(
        &mut self,
        neighbour: NodeId,
        class: TrafficClass,
        stream: StreamId,
    ) -> bool {
        if neighbour == self.local {
            return true;
        }
        let owner = ShardId::of_peer(neighbour, self.shard_count);
        if owner == self.shard {
            // Which lane a stream keeps to has nothing to do with its tenant.
            let flow = Flow { tenant: 0, stream: hash_of(stream.as_bytes()) };
            self.links.has_room(neighbour, class, flow)
        } else {
            self.peer_outlets(owner).is_some_and(|outlets| outlets.data.backlog() == 0)
        }
    }

    fn peer_outlets(&mut self, shard: ShardId) -> Option<&mut PeerOutlets> {
        self.peers.get_mut(usize::from(shard.0))?.as_mut()
    }

    /// Sends a frame of this node's own to `to`, which is another node.
    pub(crate) fn send(
        &mut self,
        to: NodeId,
        kind: FrameKind,
        class: TrafficClass,
        parts: &[&[u8]],
    ) -> Sent {
        self.send_flagged(to, kind, class, FrameFlags::default(), parts)
    }

    /// As [`Self::send`], with flags.
    pub(crate) fn send_flagged(
        &mut self,
        to: NodeId,
        kind: FrameKind,
        class: TrafficClass,
        flags: FrameFlags,
        parts: &[&[u8]],
    ) -> Sent {
        let Some(route) = self.encoded_route(to) else { return Sent::NoRoute };
        let neighbour = route.neighbour;
        // The header is lent out and put back, so that nothing is copied to please the borrow.
        let header = std::mem::take(
            &mut self
                .encoded
                .entry(to)
                .or_insert_with(|| EncodedRoute { neighbour, header: Vec::new() })
                .header,
        );
        let flow = flow_of(kind, parts.first().copied().unwrap_or_default());
        let frame = Outgoing { kind, class, origin: Origin::Own, flow, flags };
        let sent = self.push_to(neighbour, frame, &header, parts);
        if let Some(route) = self.encoded.get_mut(&to) {
            route.header = header;
        }
        sent
    }

    fn push_to(
        &mut self,
        neighbour: NodeId,
        frame: Outgoing,
        header: &[u8],
        parts: &[&[u8]],
    ) -> Sent {
        let owner = ShardId::of_peer(neighbour, self.shard_count);
        if owner == self.shard {
            let mut all: [&[u8]; PARTS_MAX] = [&[]; PARTS_MAX];
            for (slot, part) in
                all.iter_mut().zip(std::iter::once(header).chain(parts.iter().copied()))
            {
                *slot = part;
            }
            return self.push_link(neighbour, frame, &all);
        }
        self.push_to_shard(owner, frame, header, parts, |frame| ShardToShard::Egress {
            peer: neighbour,
            frame,
        })
    }

    fn push_link(&mut self, neighbour: NodeId, frame: Outgoing, parts: &[&[u8]]) -> Sent {
        match self.links.push(neighbour, frame, parts) {
            Ok(()) => Sent::Queued,
            Err(refusal) if refusal.limit == RefusedLimit::NoLane => Sent::NoRoute,
            Err(refusal) => Sent::Full(refusal_of(&refusal)),
        }
    }

    /// Hands a frame to another shard as the message that `wrap` makes of it.
    fn push_to_shard(
        &mut self,
        owner: ShardId,
        frame: Outgoing,
        header: &[u8],
        parts: &[&[u8]],
        wrap: impl FnOnce(RoutedFrame) -> ShardToShard,
    ) -> Sent {
        let Outgoing { kind, class, flags, .. } = frame;
        let Some(outlets) = self.peer_outlets(owner) else { return Sent::NoRoute };
        let mut all: [&[u8]; PARTS_MAX] = [&[]; PARTS_MAX];
        for (slot, part) in all.iter_mut().zip(std::iter::once(header).chain(parts.iter().copied()))
        {
            *slot = part;
        }
        if class == TrafficClass::Control {
            let Some(body) = outlets.budget.take(&all) else {
                return Sent::Full(ring_full(class));
            };
            outlets.control.push(wrap(RoutedFrame { kind, class, flags, body }));
            return Sent::Queued;
        }
        if outlets.data.backlog() > 0 {
            return Sent::Full(ring_full(class));
        }
        let body = Bytes::from(all.concat());
        outlets.data.push(wrap(RoutedFrame { kind, class, flags, body }));
        Sent::Queued
    }

    /// A frame that another shard wants on a link of ours. Its route is advanced already.
    pub(crate) fn egress(&mut self, peer: NodeId, frame: &RoutedFrame) {
        let RoutedFrame { kind, class, flags, .. } = *frame;
        let rest = RouteHeader::decode(&frame.body).map(|(_, rest)| rest).unwrap_or_default();
        let flow = flow_of(kind, rest);
        let outgoing = Outgoing { kind, class, origin: Origin::Foreign, flow, flags };
        let sent = self.push_link(peer, outgoing, &[&frame.body]);
        self.tell_source(sent, frame.kind, &frame.body);
    }

    /// Hands a frame for a stream to the shard that hosts it.
    pub(crate) fn push_host(
        &mut self,
        host: ShardId,
        kind: FrameKind,
        class: TrafficClass,
        flags: FrameFlags,
        body: &[u8],
    ) {
        let frame = Outgoing { kind, class, origin: Origin::Foreign, flow: Flow::default(), flags };
        let sent =
            self.push_to_shard(host, frame, &[], &[body], |frame| ShardToShard::Ingress { frame });
        self.tell_source(sent, kind, body);
    }

    /// Sends a frame that came from a neighbour on its way.
    pub(crate) fn forward(
        &mut self,
        kind: FrameKind,
        class: TrafficClass,
        flags: FrameFlags,
        body: &[u8],
    ) {
        let Ok((route, after)) = RouteHeader::decode(body) else { return };
        let Hop::Via(index) = route.next_hop() else {
            self.notify(route, NoticeReason::NotForThisNode, None, kind, body);
            return;
        };
        let Ok((fixed, rest)) = RouteHeader::split_advanced(body) else {
            self.notify(route, NoticeReason::HopsExceeded, None, kind, body);
            return;
        };
        let Some(neighbour) = self.routes.current().neighbour(index) else {
            self.notify(route, NoticeReason::NoAdjacency, None, kind, body);
            return;
        };
        let flow = flow_of(kind, after);
        let frame = Outgoing { kind, class, origin: Origin::Foreign, flow, flags };
        let sent = self.push_to(neighbour, frame, &fixed, &[rest]);
        self.tell_source(sent, kind, body);
    }

    /// Frames whose link session ended before they were acknowledged: their sources are told, as if
    /// the link had been down when they came.
    pub(crate) fn give_up(&mut self, batch: &Batch) {
        let frames = FrameIter::new(batch.frames()).map_while(Result::ok);
        for frame in frames.filter_map(|frame| frame.unstamped().ok()) {
            self.tell_source(Sent::NoRoute, frame.header.kind, frame.body);
        }
    }

    fn tell_source(&mut self, sent: Sent, kind: FrameKind, body: &[u8]) {
        let (reason, refusal) = match sent {
            Sent::Queued => return,
            Sent::NoRoute => (NoticeReason::NoAdjacency, None),
            Sent::Full(refusal) => (NoticeReason::Congested, Some(refusal)),
        };
        if let Ok((route, _)) = RouteHeader::decode(body) {
            self.notify(route, reason, refusal, kind, body);
        }
    }

    /// Tells the source of a dropped record; other frames are repeated without being asked for.
    fn notify(
        &mut self,
        route: RouteHeader<'_>,
        reason: NoticeReason,
        refusal: Option<NoticeRefusal>,
        kind: FrameKind,
        body: &[u8],
    ) {
        if kind != FrameKind::Record {
            return;
        }
        let Ok((_, rest)) = RouteHeader::decode(body) else { return };
        let Ok((header, _)) = StreamHeader::decode(rest) else { return };
        let notice = Notice {
            path: route.path,
            reason,
            at: self.local,
            destination: route.destination,
            stream: header.stream,
            refusal,
        };
        let mut out = Vec::with_capacity(64);
        notice.encode(&mut out);
        if route.source == self.local {
            self.notify_host(route.path, header.stream, &out);
            return;
        }
        // Best effort: without a path back the source's own timer does it.
        let _lost = self.send(route.source, FrameKind::Notice, TrafficClass::Control, &[&out]);
    }

    /// Tells the shard of this node that hosts a stream what became of its record here.
    fn notify_host(&mut self, path: PathId, stream: StreamId, notice: &[u8]) {
        let mut header = Vec::with_capacity(RouteHeader::FIXED_LEN);
        let (class, host) = (TrafficClass::Control, self.host_of(stream));
        if RouteHeader::encode(&mut header, self.local, self.local, path, &[]).is_ok() {
            let (kind, flags) = (FrameKind::Notice, FrameFlags::default());
            let frame = Outgoing { kind, class, origin: Origin::Own, flow: Flow::default(), flags };
            let _best_effort = self.push_to_shard(host, frame, &header, &[notice], |frame| {
                ShardToShard::Ingress { frame }
            });
        }
    }
}

/// Whose a frame is, by what stands behind its route header.
fn flow_of(kind: FrameKind, rest: &[u8]) -> Flow {
    match StreamHeader::peek(rest) {
        Some((tenant, stream)) if kind == FrameKind::Record => {
            Flow { tenant: hash_of(tenant.as_bytes()), stream: hash_of(stream.as_bytes()) }
        }
        _ => Flow::default(),
    }
}

/// Ids are random, or as good as.
fn hash_of(id: &[u8; 16]) -> u64 {
    id.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}
