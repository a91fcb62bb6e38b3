//! What one stream sends when it has its turn, and what it answers.

use std::num::NonZeroU64;

use hawser_delivery::{
    PathKey, PathWindows, SendRounds, StreamSender, Transmit, TransmitBody, WindowBudget,
};
use hawser_link::FrameParts;
use hawser_wire::{BootEpoch, FrameKind, MonoTime, NodeId, StreamAck, StreamSync, TrafficClass};

use crate::dispatch::{Forwarder, Sent};
use crate::host::StreamHost;
use crate::io::ShardIo;

/// A neighbour and a class of records for it: each has a queue of its own.
pub(super) type Egress = (NodeId, TrafficClass);

/// What the streams of a shard share.
pub(super) struct Shared<'a> {
    /// What may be under way on each path.
    pub(super) windows: &'a mut PathWindows,
    /// What may be granted to sources.
    pub(super) budget: &'a mut WindowBudget,
    /// Whose turn it is to send.
    pub(super) rounds: &'a mut SendRounds<Egress>,
}

/// What a stream did when it was visited.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Visit {
    pub(super) sent: bool,
    /// It would send more to where there is no way.
    pub(super) lacks_way: bool,
}

/// Sends what a stream may send before others have their turn.
pub(super) fn send_from<I: ShardIo>(
    now: MonoTime,
    host: &mut StreamHost,
    shared: &mut Shared<'_>,
    forwarder: &mut Forwarder<I>,
    scratch: &mut Vec<u8>,
) -> Visit {
    let mut visit = Visit::default();
    let Some(who) = host.sender.as_ref().map(StreamSender::key) else { return visit };
    loop {
        let StreamHost { sender, paths, .. } = host;
        let next = sender.as_mut().and_then(|sender| {
            sender.poll_transmit(now, |offer| {
                let node = offer.destination;
                let window = paths.window_to(node);
                if window
                    .is_some_and(|key| !shared.windows.may_send(now, key, who, offer.len_bytes))
                {
                    return false;
                }
                let (class, path) = (paths.class, paths.path_to(node).unwrap_or_default());
                let Some(neighbour) = forwarder.next_hop(class, node, path) else {
                    visit.lacks_way = true;
                    return false;
                };
                let has_room = forwarder.has_room(neighbour, class, who.stream);
                let may = shared.rounds.may_send(who, (neighbour, class), has_room);
                if let Some(key) = window.filter(|_| !may) {
                    shared.windows.handle_no_room(key, who);
                }
                may
            })
        });
        let Some(transmit) = next else { break };
        visit.sent = true;
        if let TransmitBody::Record(record) = &transmit.body {
            let (to, bytes) = (transmit.destination, record.charge_bytes());
            let path = host.paths.path_to(to).unwrap_or_default();
            if let Some(neighbour) = forwarder.next_hop(host.paths.class, to, path) {
                shared.rounds.note_sent(who, (neighbour, host.paths.class), bytes);
            }
            host.paths.note_sent(to, bytes);
            host.settle_path(now, transmit.destination, shared.windows);
        }
        transmit_from(now, host, &transmit, shared, forwarder, scratch);
    }
    shared.rounds.end_visit(who);
    for key in host.paths.windows() {
        shared.windows.end_visit(key, who);
    }
    visit
}

/// A record on its way to `node` was dropped; for want of room, if a path is `congested`.
pub(super) fn handle_dropped(
    now: MonoTime,
    node: NodeId,
    congested: Option<PathKey>,
    host: &mut StreamHost,
    windows: &mut PathWindows,
) {
    let Some(sender) = &mut host.sender else { return };
    sender.handle_dropped(now, node);
    if let Some(path) = congested {
        windows.handle_loss(now, path);
    }
    host.settle_path(now, node, windows);
}

/// Sends what the source's half wants sent; to this very node without leaving the shard.
fn transmit_from<I: ShardIo>(
    now: MonoTime,
    host: &mut StreamHost,
    transmit: &Transmit,
    shared: &mut Shared<'_>,
    forwarder: &mut Forwarder<I>,
    scratch: &mut Vec<u8>,
) {
    let to = transmit.destination;
    if to == forwarder.local {
        match &transmit.body {
            TransmitBody::Sync(sync) => {
                if let Some(receiver) = &mut host.receiver {
                    receiver.handle_sync(sync, transmit.flags);
                }
            }
            TransmitBody::Record(record) => {
                host.handle_record(now, &record.view(), transmit.flags);
            }
        }
        acknowledge_from(now, host, shared.budget, forwarder, scratch);
        return;
    }
    let sent = match &transmit.body {
        TransmitBody::Sync(sync) => {
            scratch.clear();
            sync.encode(scratch);
            let parts: [&[u8]; 1] = [scratch];
            let body = FrameParts::of(&parts);
            let (kind, class) = (FrameKind::StreamSync, TrafficClass::Control);
            forwarder.send_flagged(to, None, kind, class, transmit.flags, body)
        }
        TransmitBody::Record(record) => {
            let path = Some(host.paths.path_to(to).unwrap_or_default());
            let (kind, class, flags) = (FrameKind::Record, host.paths.class, host.record_flags());
            let flags = flags.with(transmit.flags);
            record.with_parts(|parts, payload| {
                let body = FrameParts { parts, end: Some(payload) };
                forwarder.send_flagged(to, path, kind, class, flags, body)
            })
        }
    };
    if let TransmitBody::Record(record) = &transmit.body
        && sent == Sent::Queued
    {
        host.note_sent(now, to, &record.header, forwarder);
    }
    let is_record = matches!(transmit.body, TransmitBody::Record(_));
    let is_full = matches!(sent, Sent::Full(_));
    let congested = host.paths.window_to(to).filter(|_| is_record && is_full);
    if sent != Sent::Queued {
        handle_dropped(now, to, congested, host, shared.windows);
    }
}

/// Sends the acknowledgement that the destination's half owes, if any.
pub(super) fn acknowledge_from<I: ShardIo>(
    now: MonoTime,
    host: &mut StreamHost,
    budget: &mut WindowBudget,
    forwarder: &mut Forwarder<I>,
    scratch: &mut Vec<u8>,
) {
    let Some(source) = host.source() else { return };
    let Some(ack) = host.receiver.as_mut().and_then(|receiver| receiver.poll_ack(now, budget))
    else {
        return;
    };
    if source == forwarder.local {
        if let Some(sender) = &mut host.sender {
            sender.handle_ack(now, source, &ack);
        }
        return;
    }
    scratch.clear();
    ack.encode(scratch);
    // Without a path it is lost, and sent anew when there is one again.
    let _sent =
        forwarder.send(source, None, FrameKind::StreamAck, TrafficClass::Control, &[scratch]);
}

/// Tells a source that its stream is not known here.
pub(super) fn answer_unknown<I: ShardIo>(
    (from, via): (NodeId, Option<NonZeroU64>),
    sync: &StreamSync,
    epoch: BootEpoch,
    forwarder: &mut Forwarder<I>,
) {
    let ack = StreamAck::unknown(sync.stream, sync.fence_epoch, epoch);
    let mut out = Vec::with_capacity(128);
    ack.encode(&mut out);
    let _sent = forwarder.answer(via, from, FrameKind::StreamAck, &out);
}
