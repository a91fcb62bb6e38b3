//! Who shares a link has its part of it, whoever else has more to send.

use std::collections::BTreeMap;
use std::time::Duration;

use hawser_exchange::{ControlToShard, SourceSpec, StreamSpec};
use hawser_wire::{
    AdjacencyIndex, BootEpoch, CloseReason, FrameKind, LaneId, LinkEpoch, NodeId, PathId,
    RouteHeader, ShardId, StreamAck, StreamHeader, StreamId, StreamOffset, TenantId, TrafficClass,
};

use crate::application::Application;
use crate::node::{Node, node_id, serial_of, stream_id};
use crate::peer::{COLLAPSED, Frame, LaneSpec, Peer};

const MIB: usize = 1 << 20;

/// A node whose sources do not repeat what is not acknowledged, and need no acknowledgement to go on.
fn start() -> Node {
    Node::start_with(node_id(1, 0), 1, |config| {
        config.delivery.resend_after = Duration::from_secs(600);
        config.delivery.path_window_bytes = 64 << 20;
    })
}

const TENANT: TenantId = TenantId::from_bytes([9; 16]);

fn open_source(node: &mut Node, stream: StreamId, to: NodeId) {
    open_source_of(node, TENANT, stream, to);
}

fn open_source_of(node: &mut Node, tenant: TenantId, stream: StreamId, to: NodeId) {
    let source = SourceSpec {
        destinations: vec![to],
        fresh: true,
        closing: false,
        striped: false,
        class: TrafficClass::Bulk,
    };
    let spec =
        StreamSpec { stream, tenant, epoch: BootEpoch(1), source: Some(source), destination: None };
    node.tell_host(stream, ControlToShard::OpenStream(Box::new(spec)));
}

/// Publishes at least `bytes` as records of `len`, and waits until the source holds them.
fn publish(
    node: &mut Node,
    application: &mut Application,
    stream: StreamId,
    len: usize,
    bytes: usize,
) {
    let mut call = application.open_publish(stream, 1);
    for _ in 0..bytes.div_ceil(len) {
        application.publish(&mut call, &[vec![7; len]]);
    }
    let held = |node: &mut Node| {
        let streams = node.report(ShardId(0)).streams;
        streams.iter().any(|report| report.stream == stream && report.end.0 + 1 == call.next_seq)
    };
    while !held(node) {}
}

/// The route header of a frame that has taken the first of its hops.
fn arrived(from: NodeId, to: NodeId, hops: &[u32]) -> Vec<u8> {
    let hops: Vec<AdjacencyIndex> = hops.iter().copied().map(AdjacencyIndex).collect();
    let mut header = Vec::new();
    RouteHeader::encode(&mut header, from, to, PathId(1), &hops).unwrap();
    let (fixed, rest) = RouteHeader::split_advanced(&header).unwrap();
    [&fixed[..], rest].concat()
}

/// The answer of a destination that takes whatever comes, and has nothing yet.
fn welcome(node: &Node, from: &mut Peer, stream: StreamId) -> Vec<u8> {
    answer(node, from, stream, StreamOffset(0))
}

/// The answer of a destination that has consumed everything below `end`.
fn answer(node: &Node, from: &mut Peer, stream: StreamId, end: StreamOffset) -> Vec<u8> {
    answer_marked(node, from, stream, end, 0)
}

/// Of one that `marked_bytes` came marked to.
fn answer_marked(
    node: &Node,
    from: &mut Peer,
    stream: StreamId,
    end: StreamOffset,
    marked_bytes: u64,
) -> Vec<u8> {
    let unknown = StreamAck::unknown(stream, BootEpoch(1), BootEpoch(9));
    let all = StreamAck { received: end, seen: end, consumed: end, ..unknown };
    let ack = StreamAck { unknown: false, credit_bytes: 1 << 40, marked_bytes, ..all };
    let mut body = arrived(from.id, node.local, &[1]);
    ack.encode(&mut body);
    from.frame(FrameKind::StreamAck, TrafficClass::Control, &[&body])
}

fn header_of(record: &Frame) -> StreamHeader {
    let (_, rest) = RouteHeader::decode(&record.body).unwrap();
    StreamHeader::decode(rest).unwrap().0
}

fn stream_of(record: &Frame) -> StreamId {
    header_of(record).stream
}

/// The next record; one of the node's own is answered.
fn receive(node: &Node, peer: &mut Peer) -> Frame {
    let record = peer.expect(FrameKind::Record);
    if RouteHeader::decode(&record.body).unwrap().0.source == node.local {
        let header = header_of(&record);
        let answer = answer(node, peer, header.stream, header.stream_end());
        peer.send_batch(&answer);
    }
    record
}

#[test]
fn streams_share_a_link_that_is_full() {
    let mut node = start();
    let mut peer = Peer::open(&mut node, node_id(2, 0), COLLAPSED);
    node.route(&[(peer.id, &[5])], &[(5, peer.id)]);
    let mut application = Application::of(&mut node);
    let streams: BTreeMap<StreamId, usize> = [60_000, 200_000, 20_000, 60_000, 4000]
        .iter()
        .zip(0x60..)
        .map(|(&len, tag)| (stream_id(tag, 0), len))
        .collect();
    let mut welcomes = Vec::new();
    for (&stream, &len) in &streams {
        open_source(&mut node, stream, peer.id);
        publish(&mut node, &mut application, stream, len, 8 * MIB);
        welcomes.extend(welcome(&node, &mut peer, stream));
    }
    // All of them begin at once.
    peer.send_batch(&welcomes);
    let mut got: BTreeMap<StreamId, usize> = streams.keys().map(|&stream| (stream, 0)).collect();
    const TOTAL: usize = 20 * MIB;
    while got.values().sum::<usize>() < TOTAL {
        let record = receive(&node, &mut peer);
        *got.entry(stream_of(&record)).or_default() += record.body.len();
    }
    let part = TOTAL / got.len();
    assert!(got.values().all(|of| (part * 8 / 10..part * 12 / 10).contains(of)), "{got:?} bytes");
}

/// A tenant with six streams and one with one have more to send than the way takes. Each has half, and
/// the streams of the first have like parts of it. `answers` answers each record.
fn share_by_tenant(mut node: Node, answers: impl Fn(&Node, &mut Peer, &StreamHeader) -> Vec<u8>) {
    let mut peer = Peer::open(&mut node, node_id(2, 0), COLLAPSED);
    node.route(&[(peer.id, &[5])], &[(5, peer.id)]);
    let mut application = Application::of(&mut node);
    let lone = stream_id(0x60, 0);
    let many: Vec<StreamId> = (0x61..0x67).map(|tag| stream_id(tag, 0)).collect();
    let mut welcomes = Vec::new();
    for (tenant, stream, bytes) in std::iter::once((TenantId::from_bytes([5; 16]), lone, 10 * MIB))
        .chain(many.iter().map(|&stream| (TENANT, stream, 3 * MIB)))
    {
        open_source_of(&mut node, tenant, stream, peer.id);
        publish(&mut node, &mut application, stream, 20_000, bytes);
        welcomes.extend(welcome(&node, &mut peer, stream));
    }
    peer.send_batch(&welcomes);
    let mut got: BTreeMap<StreamId, usize> = many.iter().map(|&stream| (stream, 0)).collect();
    const TOTAL: usize = 16 * MIB;
    while got.values().sum::<usize>() < TOTAL {
        let record = peer.expect(FrameKind::Record);
        let answer = answers(&node, &mut peer, &header_of(&record));
        peer.send_batch(&answer);
        *got.entry(stream_of(&record)).or_default() += record.body.len();
    }
    let is_part = |bytes: usize, of: usize| (of * 85 / 100..of * 115 / 100).contains(&bytes);
    assert!(is_part(got[&lone], TOTAL / 2), "{got:?} bytes");
    assert!(many.iter().all(|stream| is_part(got[stream], TOTAL / 12)), "{got:?} bytes");
}

#[test]
fn tenants_share_a_link_that_is_full_before_their_streams_do() {
    share_by_tenant(start(), |node, peer, header| {
        answer(node, peer, header.stream, header.stream_end())
    });
}

#[test]
fn tenants_share_the_window_of_a_path_before_their_streams_do() {
    let node = Node::start_with(node_id(1, 0), 1, |config| {
        config.delivery.resend_after = Duration::from_secs(600);
    });
    // Relays mark all that comes, so that there is as little as may be under way.
    share_by_tenant(node, |node, peer, header| {
        let end = header.stream_end();
        answer_marked(node, peer, header.stream, end, end.0 << 20)
    });
}

#[test]
fn a_stream_that_is_dropped_while_it_waits_leaves_its_turns_to_others() {
    let mut node = start();
    let mut peer = Peer::open(&mut node, node_id(2, 0), COLLAPSED);
    node.route(&[(peer.id, &[5])], &[(5, peer.id)]);
    let mut application = Application::of(&mut node);
    let streams = [stream_id(0x60, 0), stream_id(0x61, 0)];
    let mut welcomes = Vec::new();
    for stream in streams {
        open_source(&mut node, stream, peer.id);
        publish(&mut node, &mut application, stream, 60_000, 8 * MIB);
        welcomes.extend(welcome(&node, &mut peer, stream));
    }
    peer.send_batch(&welcomes);
    // Both are welcome now, and wait for room.
    receive(&node, &mut peer);
    node.tell_host(streams[0], ControlToShard::DropStream(streams[0]));
    let of = |record: &Frame, stream| usize::from(stream_of(record) == stream);
    let (mut dropped, mut kept) = (0, 0);
    while kept < 8 * MIB / 60_000 {
        let record = receive(&node, &mut peer);
        (dropped, kept) = (dropped + of(&record, streams[0]), kept + of(&record, streams[1]));
    }
    assert!(dropped < 4 * MIB / 60_000, "{dropped} records of the one that is gone");
}

#[test]
fn a_relay_carries_what_others_send_and_what_it_sends_alike() {
    let mut node = start();
    let mut source = Peer::open(&mut node, node_id(2, 0), COLLAPSED);
    let mut far = Peer::open(&mut node, node_id(3, 0), COLLAPSED);
    node.route(&[(far.id, &[5])], &[(5, far.id), (4, source.id)]);
    let mut application = Application::of(&mut node);
    let stream = stream_id(0x60, 0);
    open_source(&mut node, stream, far.id);
    publish(&mut node, &mut application, stream, 60_000, 12 * MIB);
    // The neighbour's records fill sockets and queue before the node's own begin.
    let mut transit = arrived(source.id, far.id, &[1, 5]);
    let foreign = stream_id(0x70, 0);
    transit.extend(
        StreamHeader {
            tenant: TenantId::from_bytes([9; 16]),
            stream: foreign,
            producer: hawser_wire::ProducerId(1),
            producer_base: 1,
            stream_base: StreamOffset(0),
            count: 1,
            born_epoch: BootEpoch(1),
            fence_epoch: BootEpoch(1),
            chunk_index: 0,
            chunk_count: 1,
            checksum: 0,
        }
        .encode(),
    );
    transit.resize(60_000, 0);
    for _ in 0..26 * MIB / transit.len() {
        source.send(FrameKind::Record, TrafficClass::Bulk, &[&transit]);
    }
    source.round_trip();
    let welcome = welcome(&node, &mut far, stream);
    far.send_batch(&welcome);
    while stream_of(&receive(&node, &mut far)) == foreign {}
    let own = (0..200).filter(|_| stream_of(&receive(&node, &mut far)) == stream).count();
    assert!((80..=120).contains(&own), "{own} of 200 records are the relay's own");
}

#[test]
fn what_is_published_while_the_link_is_down_waits_for_its_lane() {
    let mut node = start();
    let mut peer = Peer::open(&mut node, node_id(2, 0), COLLAPSED);
    let id = peer.id;
    node.route(&[(id, &[5])], &[(5, id)]);
    let mut application = Application::of(&mut node);
    let stream = stream_id(0x60, 0);
    open_source(&mut node, stream, id);
    let welcome = welcome(&node, &mut peer, stream);
    peer.send_batch(&welcome);
    peer.round_trip();
    let (lane, epoch, reason) = (LaneId(0), LinkEpoch(1), CloseReason::Shutdown);
    let serial = serial_of(epoch);
    node.tell_link(id, ControlToShard::CloseLane { peer: id, lane, serial, reason });
    node.hear_down(id, lane, epoch);
    publish(&mut node, &mut application, stream, 5000, 20_000);

    let sequence = peer.sequence;
    let mut peer = Peer::open(&mut node, id, LaneSpec { epoch: LinkEpoch(2), ..COLLAPSED });
    peer.sequence = sequence;
    let bases: Vec<u64> =
        (0..4).map(|_| header_of(&receive(&node, &mut peer)).stream_base.0).collect();
    assert_eq!(bases, [0, 1, 2, 3], "each once, in order");
    while node.report(ShardId(0)).streams[0].acked < StreamOffset(4) {}
    // Nothing stands behind them.
    let body = b"behind".to_vec().into();
    node.tell_link(id, ControlToShard::LinkControl { peer: id, body });
    let kinds: Vec<FrameKind> = std::iter::from_fn(|| peer.next())
        .map(|frame| frame.header.kind)
        .take_while(|&kind| kind != FrameKind::LinkControl)
        .collect();
    assert!(!kinds.contains(&FrameKind::Record), "{kinds:?}");
}
