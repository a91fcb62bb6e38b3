use std::collections::{BTreeSet, HashMap};
use std::num::NonZeroU64;

use bytes::Bytes;
use hawser_exchange::{RouteReader, RoutedFrame, ShardToShard};
use hawser_link::{Flow, FrameParts, Origin, Refusal, RefusedLimit};
use hawser_routing::{Route, RouteSet};
use hawser_wire::{
    FrameBody, FrameFlags, FrameKind, Hop, MonoTime, NodeId, NoticeLimit, NoticeReason,
    NoticeRefusal, PathId, RouteHeader, ShardId, StreamHeader, StreamId, TrafficClass,
};

use crate::detour::{Backups, ToldSources};
use crate::io::ShardIo;
use crate::links::{Links, Outgoing};
use crate::peer_outlets::PeerOutlets;
use crate::source_notices::OwnNotices;

/// Most slices that a body is made of, with the two parts of the route header in front.
const PARTS_MAX: usize = 8;

/// What became of a frame that was to leave.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Sent {
    /// It waits in the queue of its next hop.
    Queued,
    /// There is no path.
    NoRoute,
    /// The next link has no lane, and there is no other way.
    NoLane(NoticeRefusal),
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

/// A frame's way from here: the header with its next hop taken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Onward<'a> {
    /// In two parts.
    pub(crate) header: [&'a [u8]; 2],
    /// As it came, if it was looked into; else the first part is all of the header.
    pub(crate) route: Option<RouteHeader<'a>>,
}

impl<'a> Onward<'a> {
    /// What a detour has to know of the frame.
    pub(crate) fn route(&self) -> Option<RouteHeader<'a>> {
        let [header, _] = self.header;
        self.route.or_else(|| RouteHeader::decode(header).ok().map(|(route, _)| route))
    }
}

/// A route header ready to be sent, and where to.
#[derive(Debug, Default)]
struct EncodedRoute {
    neighbour: NodeId,
    header: Vec<u8>,
}

/// Where routed frames go: this node, a link of this shard, or another shard.
///
/// Keeps no state per path: a relay follows the frame's own list, or replaces it.
#[derive(Debug)]
pub(crate) struct Forwarder<I> {
    pub(crate) local: NodeId,
    pub(crate) shard: ShardId,
    shard_count: u16,
    pub(crate) links: Links<I>,
    pub(crate) routes: RouteReader,
    /// By destination and path, of the present snapshot.
    encoded: HashMap<(NodeId, PathId), EncodedRoute>,
    pub(crate) backups: Backups,
    /// Links of other shards that are not usable.
    down: BTreeSet<NodeId>,
    pub(crate) told: ToldSources,
    pub(crate) notices: OwnNotices,
    pub(crate) peers: Vec<Option<PeerOutlets>>,
    /// Of the present turn.
    pub(crate) now: MonoTime,
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
        Self {
            local,
            shard,
            shard_count,
            links,
            routes,
            encoded: HashMap::new(),
            backups: Backups::default(),
            down: BTreeSet::new(),
            told: ToldSources::default(),
            notices: OwnNotices::default(),
            peers,
            now: MonoTime::ZERO,
        }
    }

    /// Takes the newest route snapshot; true if it is another one.
    pub(crate) fn refresh_routes(&mut self) -> bool {
        let changed = self.routes.refresh();
        if changed {
            self.encoded.clear();
            self.backups.clear();
        }
        changed
    }

    /// The shard that hosts `stream`.
    pub(crate) fn host_of(&self, stream: StreamId) -> ShardId {
        ShardId::of_stream(stream, self.shard_count)
    }

    /// Frames for the link to `neighbour` arrive, as far as this shard knows.
    pub(crate) fn is_usable(&self, neighbour: NodeId) -> bool {
        if ShardId::of_peer(neighbour, self.shard_count) == self.shard {
            self.links.is_usable(neighbour)
        } else {
            !self.down.contains(&neighbour)
        }
    }

    /// Neighbours whose links are known not to be.
    pub(crate) fn unusable(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.links.with_usable(false).chain(self.down.iter().copied())
    }

    /// Another shard speaks of its link.
    pub(crate) fn handle_link(&mut self, neighbour: NodeId, usable: bool) {
        if usable {
            self.down.remove(&neighbour);
        } else {
            self.down.insert(neighbour);
        }
    }

    /// Tells every other shard of a link of this one.
    pub(crate) fn tell_link(&mut self, peer: NodeId, usable: bool) {
        for outlets in self.peers.iter_mut().flatten() {
            outlets.control.push(ShardToShard::Link { peer, usable });
        }
    }

    /// The paths for records of `class` to `to`, if there are any.
    pub(crate) fn paths_to(&self, class: TrafficClass, to: NodeId) -> Option<&RouteSet> {
        self.routes.current().routes_to(class, to)
    }

    /// The neighbour that a path begins with.
    pub(crate) fn first_of(&self, route: &Route) -> Option<NodeId> {
        self.routes.current().neighbour(*route.hops.first()?)
    }

    /// The best path for control frames to `to` whose first link is usable, else the best one.
    fn control_path(&self, to: NodeId) -> Option<PathId> {
        let routes = self.routes.current().routes_to(TrafficClass::Control, to)?.routes();
        let begins = |route: &&Route| self.first_of(route).is_some_and(|n| self.is_usable(n));
        routes.iter().find(begins).or_else(|| routes.first()).map(|route| route.path)
    }

    fn encode_route(&mut self, class: TrafficClass, to: NodeId, path: PathId) -> Option<()> {
        if self.encoded.contains_key(&(to, path)) {
            return Some(());
        }
        let snapshot = self.routes.current();
        let route = snapshot.routes_to(class, to)?.get(path)?;
        let neighbour = snapshot.neighbour(*route.hops.first()?)?;
        let mut header = Vec::with_capacity(RouteHeader::FIXED_LEN + route.hops.len() * 2);
        RouteHeader::encode(&mut header, self.local, to, route.path, &route.hops).ok()?;
        let (fixed, hops) = RouteHeader::split_advanced(&header).ok()?;
        let header = [&fixed[..], hops].concat();
        self.encoded.insert((to, path), EncodedRoute { neighbour, header });
        Some(())
    }

    /// The neighbour over which records of `class` for `to` go on `path`; this node itself if they end
    /// here.
    pub(crate) fn next_hop(
        &mut self,
        class: TrafficClass,
        to: NodeId,
        path: PathId,
    ) -> Option<NodeId> {
        if to == self.local {
            return Some(to);
        }
        self.encode_route(class, to, path)?;
        self.encoded.get(&(to, path)).map(|route| route.neighbour)
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
            self.peer_outlets(owner).is_some_and(|outlets| !outlets.is_full(class))
        }
    }

    /// None of this node's streams may send more of `class` over `neighbour`; else some may.
    pub(crate) fn is_full(&self, neighbour: NodeId, class: TrafficClass) -> bool {
        let owner = ShardId::of_peer(neighbour, self.shard_count);
        if neighbour == self.local {
            false
        } else if owner == self.shard {
            self.links.is_full(neighbour, class)
        } else {
            let outlets = self.peers.get(usize::from(owner.0)).and_then(Option::as_ref);
            outlets.is_none_or(|outlets| outlets.is_full(class))
        }
    }

    fn peer_outlets(&mut self, shard: ShardId) -> Option<&mut PeerOutlets> {
        self.peers.get_mut(usize::from(shard.0))?.as_mut()
    }

    /// Sends a frame of this node's own to `to`, which is another node, on `path`; without one, on the
    /// best for control frames.
    pub(crate) fn send(
        &mut self,
        to: NodeId,
        path: Option<PathId>,
        kind: FrameKind,
        class: TrafficClass,
        parts: &[&[u8]],
    ) -> Sent {
        self.send_flagged(to, path, kind, class, FrameFlags::default(), FrameParts::of(parts))
    }

    /// Sends control that something calls for which the neighbour `via` has brought. It waits with what that
    /// neighbour sends on: whoever makes this node say much takes nothing from what it says by itself.
    pub(crate) fn answer(
        &mut self,
        via: Option<NonZeroU64>,
        to: NodeId,
        kind: FrameKind,
        body: &[u8],
    ) -> Sent {
        let (class, flags) = (TrafficClass::Control, FrameFlags::default());
        let origin = if via.is_some() { Origin::Foreign } else { Origin::Own };
        let flow = flow_of(kind, via, self.local, body);
        let frame = Outgoing { kind, class, origin, flow, flags, via };
        self.send_frame(to, None, frame, FrameParts::of(&[body]))
    }

    /// As [`Self::send`], with flags.
    pub(crate) fn send_flagged(
        &mut self,
        to: NodeId,
        path: Option<PathId>,
        kind: FrameKind,
        class: TrafficClass,
        flags: FrameFlags,
        body: FrameParts<'_>,
    ) -> Sent {
        let first = body.parts.first().copied().unwrap_or_default();
        let flow = flow_of_record(kind, first).unwrap_or_default();
        let frame = Outgoing { kind, class, origin: Origin::Own, flow, flags, via: None };
        self.send_frame(to, path, frame, body)
    }

    fn send_frame(
        &mut self,
        to: NodeId,
        path: Option<PathId>,
        frame: Outgoing,
        body: FrameParts<'_>,
    ) -> Sent {
        let Some(path) = path.or_else(|| self.control_path(to)) else { return Sent::NoRoute };
        if self.encode_route(frame.class, to, path).is_none() {
            return Sent::NoRoute;
        }
        // The header is lent out and put back, so that nothing is copied to please the borrow.
        let Some(lent) = self.encoded.get_mut(&(to, path)).map(std::mem::take) else {
            return Sent::NoRoute;
        };
        let onward = Onward { route: None, header: [&lent.header, &[]] };
        let sent = self.push_to(lent.neighbour, frame, &onward, body);
        if let Some(route) = self.encoded.get_mut(&(to, path)) {
            *route = lent;
        }
        sent
    }

    /// Sends a frame over a link, or over a detour if that is not usable.
    fn push_to(
        &mut self,
        neighbour: NodeId,
        frame: Outgoing,
        onward: &Onward<'_>,
        body: FrameParts<'_>,
    ) -> Sent {
        let owner = ShardId::of_peer(neighbour, self.shard_count);
        if owner != self.shard && !self.down.contains(&neighbour) {
            let all = joined(&onward.header, body.parts);
            let body = FrameParts { parts: &all, ..body };
            return self.push_to_shard(owner, frame, body, |frame| ShardToShard::Egress {
                peer: neighbour,
                frame,
            });
        }
        if owner == self.shard {
            let all = joined(&onward.header, body.parts);
            let all = FrameParts { parts: &all, ..body };
            match self.links.push_usable(neighbour, frame, all) {
                Ok(()) => return Sent::Queued,
                Err(refusal) if refusal.limit == RefusedLimit::NoLane => {}
                Err(refusal) => return Sent::Full(refusal_of(&refusal)),
            }
        }
        self.detour(neighbour, frame, onward, body)
    }

    /// Sends a frame over a link as its list says, be the link silent or not.
    pub(crate) fn push_plain(
        &mut self,
        neighbour: NodeId,
        frame: Outgoing,
        header: &[&[u8]; 2],
        body: FrameParts<'_>,
    ) -> Sent {
        let all = joined(header, body.parts);
        let owner = ShardId::of_peer(neighbour, self.shard_count);
        if owner != self.shard {
            let body = FrameParts { parts: &all, ..body };
            return self.push_to_shard(owner, frame, body, |frame| ShardToShard::Egress {
                peer: neighbour,
                frame,
            });
        }
        match self.links.push(neighbour, frame, FrameParts { parts: &all, ..body }) {
            Ok(()) => Sent::Queued,
            Err(refusal) if refusal.limit == RefusedLimit::NoLane => {
                self.links.note_dropped(neighbour);
                Sent::NoLane(refusal_of(&refusal))
            }
            Err(refusal) => Sent::Full(refusal_of(&refusal)),
        }
    }

    /// Hands a frame to another shard as the message that `wrap` makes of it.
    pub(crate) fn push_to_shard(
        &mut self,
        owner: ShardId,
        frame: Outgoing,
        body: FrameParts<'_>,
        wrap: impl FnOnce(RoutedFrame) -> ShardToShard,
    ) -> Sent {
        let Outgoing { kind, class, flags, via, .. } = frame;
        let Some(outlets) = self.peer_outlets(owner) else { return Sent::NoRoute };
        let ring = match class {
            TrafficClass::Control => {
                let Some(body) = outlets.budget.take(body) else {
                    return Sent::Full(ring_full(class));
                };
                outlets.control.push(wrap(RoutedFrame { kind, class, flags, via, body }));
                return Sent::Queued;
            }
            TrafficClass::Priority => &mut outlets.priority,
            TrafficClass::Bulk => &mut outlets.data,
        };
        if ring.is_full() {
            return Sent::Full(ring_full(class));
        }
        let body = Bytes::from(body.concat());
        ring.push(wrap(RoutedFrame { kind, class, flags, via, body }));
        Sent::Queued
    }

    /// A frame that another shard wants on a link of ours. Its route is advanced already.
    pub(crate) fn egress(&mut self, peer: NodeId, frame: &RoutedFrame) {
        let RoutedFrame { kind, class, flags, via, .. } = *frame;
        let Ok((route, rest)) = RouteHeader::decode(&frame.body) else { return };
        let flow = flow_of(kind, via, route.source, rest);
        let origin = match via {
            None if class == TrafficClass::Control => Origin::Own,
            _ => Origin::Foreign,
        };
        let outgoing = Outgoing { kind, class, origin, flow, flags, via };
        let header = frame.body.get(..frame.body.len() - rest.len()).unwrap_or_default();
        let onward = Onward { route: Some(route), header: [header, &[]] };
        let body = match class {
            // What the other shard may have under way is given back as soon as the link has it.
            TrafficClass::Control => FrameBody::from(rest),
            _ => FrameBody::shared(&frame.body).with(rest),
        };
        let sent = self.push_onward(peer, outgoing, &onward, body);
        self.tell_source(sent, via, frame.kind, &frame.body);
    }

    /// Hands a frame for a stream, which the neighbour `via` has brought, to the shard that hosts it.
    pub(crate) fn push_host(
        &mut self,
        host: ShardId,
        via: Option<NonZeroU64>,
        kind: FrameKind,
        class: TrafficClass,
        flags: FrameFlags,
        body: &[u8],
    ) {
        let (origin, flow) = (Origin::Foreign, Flow::default());
        let frame = Outgoing { kind, class, origin, flow, flags, via };
        let sent = self.push_to_shard(host, frame, FrameParts::of(&[body]), |frame| {
            ShardToShard::Ingress { frame }
        });
        self.tell_source(sent, via, kind, body);
    }

    /// Sends a frame that came from the neighbour `via` on its way.
    pub(crate) fn forward(
        &mut self,
        via: NodeId,
        kind: FrameKind,
        class: TrafficClass,
        flags: FrameFlags,
        body: FrameBody<'_>,
    ) {
        let Ok((route, after)) = RouteHeader::decode(body.bytes()) else { return };
        let via = Some(number_of(via));
        let Hop::Via(index) = route.next_hop() else {
            self.notify(route, via, NoticeReason::NotForThisNode, None, kind, &body);
            return;
        };
        let Ok((fixed, rest)) = RouteHeader::split_advanced(body.bytes()) else {
            self.notify(route, via, NoticeReason::HopsExceeded, None, kind, &body);
            return;
        };
        let Some(neighbour) = self.routes.current().neighbour(index) else {
            self.notify(route, via, NoticeReason::NoAdjacency, None, kind, &body);
            return;
        };
        let (origin, flow) = (Origin::Foreign, flow_of(kind, via, route.source, after));
        let frame = Outgoing { kind, class, origin, flow, flags, via };
        let hops = rest.get(..rest.len() - after.len()).unwrap_or_default();
        let onward = Onward { route: Some(route), header: [&fixed, hops] };
        let sent = self.push_onward(neighbour, frame, &onward, body.with(after));
        self.tell_source(sent, via, kind, &body);
    }

    /// Sends what stands behind the route header of a frame that came from elsewhere.
    fn push_onward(
        &mut self,
        neighbour: NodeId,
        frame: Outgoing,
        onward: &Onward<'_>,
        rest: FrameBody<'_>,
    ) -> Sent {
        match rest.to_shared() {
            Some(end) => {
                self.push_to(neighbour, frame, onward, FrameParts { parts: &[], end: Some(&end) })
            }
            None => self.push_to(neighbour, frame, onward, FrameParts::of(&[rest.bytes()])),
        }
    }
}

/// The slices of a body, the header's first.
fn joined<'a>(header: &[&'a [u8]; 2], parts: &[&'a [u8]]) -> [&'a [u8]; PARTS_MAX] {
    let mut all: [&[u8]; PARTS_MAX] = [&[]; PARTS_MAX];
    for (slot, &part) in all.iter_mut().zip(header.iter().chain(parts)) {
        *slot = part;
    }
    all
}

/// Into so many queues control of one neighbour is divided.
const CONTROL_QUEUES: u64 = 16;

/// Whose a frame is. A record is its tenant's and stream's, by what stands behind its route header.
/// Control is the neighbour's that has brought it, which is known, and by its source, which the neighbour
/// says, in one of a few queues (stochastic fairness queueing, McKenney, 1990).
pub(crate) fn flow_of(
    kind: FrameKind,
    via: Option<NonZeroU64>,
    source: NodeId,
    rest: &[u8],
) -> Flow {
    flow_of_record(kind, rest).unwrap_or_else(|| Flow {
        tenant: via.map_or(0, NonZeroU64::get),
        stream: hash_of(source.as_bytes()) % CONTROL_QUEUES,
    })
}

fn flow_of_record(kind: FrameKind, rest: &[u8]) -> Option<Flow> {
    let (tenant, stream) = StreamHeader::peek(rest).filter(|_| kind == FrameKind::Record)?;
    Some(Flow { tenant: hash_of(tenant.as_bytes()), stream: hash_of(stream.as_bytes()) })
}

/// Of a neighbour, for what it brings.
pub(crate) fn number_of(neighbour: NodeId) -> NonZeroU64 {
    NonZeroU64::new(hash_of(neighbour.as_bytes())).unwrap_or(NonZeroU64::MIN)
}

/// Ids are random, or as good as.
fn hash_of(id: &[u8; 16]) -> u64 {
    id.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}
