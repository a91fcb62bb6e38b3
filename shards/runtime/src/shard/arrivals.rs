//! Frames that come over lanes.

use std::num::NonZeroU64;

use hawser_exchange::ShardToControl;
use hawser_link::{Handled, LinkViolation, ReassembledFrame};
use hawser_wire::{
    CloseReason, DATAGRAM_BYTES_MAX, FrameBody, FrameFlags, FrameIter, FrameKind, FrameRef, Hop,
    LINK_CONTROL_BYTES_MAX, LaneClose, MonoTime, NodeId, RouteHeader, TrafficClass,
};
use tracing::debug;

use super::{Breach, Shard};
use crate::dispatch::number_of;
use crate::io::{LaneKey, ShardIo};
use crate::streams::stream_of;

impl<I: ShardIo> Shard<I> {
    pub(super) fn handle_frame(
        &mut self,
        now: MonoTime,
        key: LaneKey,
        peer: NodeId,
        frame: FrameRef<'_>,
    ) -> Option<Breach> {
        let handled = self.forwarder.links.handle_frame(now, key, peer, &frame);
        match handled {
            Ok(Handled::Assembled) => self.deliver_assembled(now, key, peer),
            handled => self.deliver_handled(now, key, peer, frame, handled),
        }
    }

    /// A frame that the link has looked at, and the striped ones that waited for it.
    fn deliver_handled(
        &mut self,
        now: MonoTime,
        key: LaneKey,
        peer: NodeId,
        frame: FrameRef<'_>,
        handled: Result<Handled, LinkViolation>,
    ) -> Option<Breach> {
        match handled {
            Ok(Handled::Deliver) => self.deliver(now, key, peer, frame),
            Ok(Handled::Striped) => {
                let breach = match frame.unstamped() {
                    Ok(frame) => self.deliver(now, key, peer, frame),
                    Err(error) => Some(Breach::of(&error)),
                };
                let broken = self.deliver_reassembled(now, key, peer);
                breach.or(broken)
            }
            // One that brings no record may end the wait of others.
            Ok(Handled::Consumed) if frame.header.kind == FrameKind::StripedRecord => {
                self.deliver_reassembled(now, key, peer)
            }
            Ok(Handled::Duplicate | Handled::Consumed | Handled::Assembled) => None,
            Err(violation) => Some(Breach::by(&violation)),
        }
    }

    /// Striped frames whose turn has come.
    fn deliver_reassembled(&mut self, now: MonoTime, key: LaneKey, peer: NodeId) -> Option<Breach> {
        let mut breach = None;
        while let Some(next) = self.forwarder.links.poll_reassembled(peer) {
            let broken = self.deliver(now, key, peer, next.as_frame());
            self.forwarder.links.give_reassembled(peer, next);
            breach = breach.or(broken);
        }
        breach
    }

    /// Handles the frames of a batch whose last piece has come.
    fn deliver_assembled(&mut self, now: MonoTime, key: LaneKey, peer: NodeId) -> Option<Breach> {
        let batch = self.forwarder.links.take_assembled(key, peer);
        for frame in FrameIter::new(&batch) {
            let breach = match frame {
                Ok(frame) => {
                    let handled = self.forwarder.links.handle_assembled(now, key, peer, &frame);
                    self.deliver_handled(now, key, peer, frame, handled)
                }
                Err(error) => Some(Breach::of(&error)),
            };
            if breach.is_some() {
                // The rest of it was not handled, and comes again over another lane.
                return breach;
            }
        }
        self.forwarder.links.give_assembled(now, key, peer, batch);
        None
    }

    /// A frame that the link has no business with.
    fn deliver(
        &mut self,
        now: MonoTime,
        key: LaneKey,
        peer: NodeId,
        frame: FrameRef<'_>,
    ) -> Option<Breach> {
        let FrameRef { header, body } = frame;
        match header.kind {
            FrameKind::LinkControl => {
                if body.len() > LINK_CONTROL_BYTES_MAX {
                    let bytes = body.len();
                    return Some(Breach::of(&format_args!(
                        "{bytes} bytes of link control, more than {LINK_CONTROL_BYTES_MAX}"
                    )));
                }
                if let Some(body) = self.forwarder.links.take_control(peer, &body) {
                    self.outward.control.push(ShardToControl::LinkControl { from: peer, body });
                }
            }
            FrameKind::Close => {
                let close = LaneClose::decode(&body).map(LaneClose::printable).ok();
                let why = close.as_ref().map_or_else(
                    || "closed by the peer".to_owned(),
                    |close| format!("peer: {}: {}", close.reason.text(), close.detail),
                );
                let why = why.trim_end_matches(": ");
                if let Some(lane) = self.forwarder.links.lane_mut(key) {
                    lane.told = close.as_ref().map(|close| close.reason);
                }
                if close.is_some_and(|close| close.reason == CloseReason::NotNeeded) {
                    self.forwarder.links.retire_lane(now, key, why);
                } else {
                    self.forwarder.links.drop_lane(now, key, why);
                }
            }
            FrameKind::Hello | FrameKind::JoinRequest | FrameKind::JoinReply => {
                return Some(Breach::of(&"a handshake frame on a lane that is up"));
            }
            FrameKind::Unknown(_) => {}
            kind if kind.is_routed() => {
                return self.handle_arrived(now, peer, kind, header.class, header.flags, body);
            }
            _ => {}
        }
        None
    }

    /// A routed frame came over a lane of `via`: it is for this node, or to be sent on.
    fn handle_arrived(
        &mut self,
        now: MonoTime,
        via: NodeId,
        kind: FrameKind,
        class: TrafficClass,
        flags: FrameFlags,
        body: FrameBody<'_>,
    ) -> Option<Breach> {
        // The queues of a class are bounded, and served, as what belongs into them allows.
        if !kind.classes().contains(class) {
            return Some(Breach::of(&format_args!("{kind:?} frame of class {}", class.name())));
        }
        let (route, rest) = match RouteHeader::decode(body.bytes()) {
            Ok(decoded) => decoded,
            Err(error) => return Some(Breach::of(&error)),
        };
        self.moved |= kind != FrameKind::Datagram;
        if kind == FrameKind::Datagram && rest.len() > DATAGRAM_BYTES_MAX {
            // Whose fault it is cannot be said: it may come from afar.
            debug!(from = %route.source, bytes = rest.len(), "datagram too large");
            return None;
        }
        if route.next_hop() != Hop::Last || route.destination != self.forwarder.local {
            self.forwarder.forward(via, kind, class, flags, body);
        } else if kind != FrameKind::Datagram {
            self.handle_routed(now, Some(number_of(via)), kind, class, flags, body);
        } else if let Some(body) = self.forwarder.links.take_control(via, rest) {
            // Who has sent it is what the header says; who has brought it is known.
            let from = route.source;
            self.outward.control.push(ShardToControl::Datagram { from, via, body });
        }
        None
    }

    /// A routed frame about a stream, which the neighbour `via` has brought, is for this node: for the shard
    /// that hosts it.
    pub(super) fn handle_routed(
        &mut self,
        now: MonoTime,
        via: Option<NonZeroU64>,
        kind: FrameKind,
        class: TrafficClass,
        flags: FrameFlags,
        body: FrameBody<'_>,
    ) {
        let Ok((route, rest)) = RouteHeader::decode(body.bytes()) else { return };
        let from = route.source;
        let Some(stream) = stream_of(kind, rest) else {
            debug!(%from, ?kind, "routed frame about no stream");
            return;
        };
        let host = self.forwarder.host_of(stream);
        if host == self.forwarder.shard {
            let epoch = self.epoch;
            let rest = body.with(rest);
            let forwarder = &mut self.forwarder;
            self.streams.handle_frame(now, (from, via), kind, flags, rest, epoch, forwarder);
        } else {
            self.forwarder.push_host(host, via, kind, class, flags, &body);
        }
    }

    /// Handles what was held of striped streams and waits for nothing any more; true if there was any.
    pub(super) fn deliver_restored(&mut self, now: MonoTime) -> bool {
        let mut worked = false;
        while let Some((peer, frame)) = self.forwarder.links.poll_restored() {
            let ReassembledFrame { header, body } = &frame;
            worked = true;
            // The lane that it came over is done with it.
            if let Some(breach) = self.handle_arrived(
                now,
                peer,
                header.kind,
                header.class,
                header.flags,
                body.as_slice().into(),
            ) {
                debug!(%peer, why = breach.why, "striped record dropped");
            }
            self.forwarder.links.give_reassembled(peer, frame);
        }
        worked
    }
}
