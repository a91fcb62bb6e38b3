//! What sources are told of records that found no place or way here.

use std::collections::VecDeque;
use std::num::NonZeroU64;

use hawser_exchange::ShardToShard;
use hawser_link::{Flow, FrameParts, Origin};
use hawser_wire::{
    FrameFlags, FrameKind, Notice, NoticeReason, NoticeRefusal, PathId, RouteHeader, StreamHeader,
    StreamId, TrafficClass,
};

use crate::dispatch::{Forwarder, Sent};
use crate::io::ShardIo;
use crate::links::Outgoing;

/// Notices to streams of this shard. Each of a burst says the same; beyond the bound they are dropped, as
/// others may be on their way.
#[derive(Debug, Default)]
pub(crate) struct OwnNotices(VecDeque<Notice>);

const OWN_NOTICES_MAX: usize = 1024;

impl OwnNotices {
    fn add(&mut self, notice: Notice) {
        if self.0.back() != Some(&notice) && self.0.len() < OWN_NOTICES_MAX {
            self.0.push_back(notice);
        }
    }
}

impl<I: ShardIo> Forwarder<I> {
    /// Tells the source of a frame that the neighbour `via` has brought what became of it.
    pub(crate) fn tell_source(
        &mut self,
        sent: Sent,
        via: Option<NonZeroU64>,
        kind: FrameKind,
        body: &[u8],
    ) {
        let (reason, refusal) = match sent {
            Sent::Queued => return,
            Sent::NoRoute => (NoticeReason::NoAdjacency, None),
            Sent::NoLane(refusal) => (NoticeReason::NoAdjacency, Some(refusal)),
            Sent::Full(refusal) => (NoticeReason::Congested, Some(refusal)),
        };
        if let Ok((route, _)) = RouteHeader::decode(body) {
            self.notify(route, via, reason, refusal, kind, body);
        }
    }

    /// Tells the source of a dropped record; other frames are repeated without being asked for.
    pub(crate) fn notify(
        &mut self,
        route: RouteHeader<'_>,
        via: Option<NonZeroU64>,
        reason: NoticeReason,
        refusal: Option<NoticeRefusal>,
        kind: FrameKind,
        body: &[u8],
    ) {
        let Ok((_, rest)) = RouteHeader::decode(body) else { return };
        let Some((_, stream)) = StreamHeader::peek(rest) else { return };
        if kind == FrameKind::Record {
            self.send_notice(route, via, reason, refusal, stream);
        }
    }

    /// Tells a source what became of a record of a stream, which the neighbour `via` has brought.
    pub(crate) fn send_notice(
        &mut self,
        route: RouteHeader<'_>,
        via: Option<NonZeroU64>,
        reason: NoticeReason,
        refusal: Option<NoticeRefusal>,
        stream: StreamId,
    ) {
        let RouteHeader { source, destination, path, .. } = route;
        let notice = Notice { path, reason, at: self.local, destination, stream, refusal };
        if source == self.local && self.host_of(stream) == self.shard {
            self.notices.add(notice);
            return;
        }
        let mut out = Vec::with_capacity(64);
        notice.encode(&mut out);
        if source == self.local {
            self.notify_host(path, stream, &out);
            return;
        }
        // Best effort: without a path back the source's own timer does it.
        let _lost = self.answer(via, source, FrameKind::Notice, &out);
    }

    /// What became of records of streams that this very shard hosts.
    pub(crate) fn poll_notice(&mut self) -> Option<Notice> {
        self.notices.0.pop_front()
    }

    /// Tells another shard of this node, which hosts a stream, what became of its record here.
    fn notify_host(&mut self, path: PathId, stream: StreamId, notice: &[u8]) {
        let mut header = Vec::with_capacity(RouteHeader::FIXED_LEN);
        let (class, host) = (TrafficClass::Control, self.host_of(stream));
        if RouteHeader::encode(&mut header, self.local, self.local, path, &[]).is_ok() {
            let (kind, flags) = (FrameKind::Notice, FrameFlags::default());
            let (origin, flow) = (Origin::Own, Flow::default());
            let frame = Outgoing { kind, class, origin, flow, flags, via: None };
            let parts = [&header[..], notice];
            let _best_effort = self.push_to_shard(host, frame, FrameParts::of(&parts), |frame| {
                ShardToShard::Ingress { frame }
            });
        }
    }
}
