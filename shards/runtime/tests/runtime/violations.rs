//! What a neighbour may not do costs it that lane, and nobody else anything.

use hawser_exchange::ShardToControl;
use hawser_session::Role;
use hawser_wire::{
    AdjacencyIndex, BATCH_BYTES_MAX, ClassSet, CloseReason, Crc32c, FRAME_BODY_BYTES_MAX,
    FrameFlags, FrameHeader, FrameKind, LINK_CONTROL_BYTES_MAX, LINK_SEQUENCE_WINDOW, LaneAckEntry,
    LaneClose, LaneId, LinkEpoch, LinkSequence, NodeId, Notice, NoticeReason, PathId, RouteHeader,
    ShardId, TrafficClass,
};

use crate::node::{Node, node_id, stream_id};
use crate::peer::{COLLAPSED, LaneSpec, Peer, counted_frame, frame};

const CONTROL: TrafficClass = TrafficClass::Control;

/// One peer does `bad`; its lane is closed for `named`, whose detail says `reason`, both sides are
/// told, and the lane of another peer does not notice.
pub(crate) fn refused_in(
    spec: LaneSpec,
    named: CloseReason,
    reason: &str,
    bad: impl Fn(&mut Peer),
) {
    refused_at(Node::start(node_id(1, 0), 1), spec, named, reason, bad);
}

fn refused_at(
    mut node: Node,
    spec: LaneSpec,
    named: CloseReason,
    reason: &str,
    bad: impl Fn(&mut Peer),
) {
    let mut good = Peer::open(&mut node, node_id(2, 0), COLLAPSED);
    let mut evil = Peer::open(&mut node, node_id(3, 0), spec);
    evil.send(FrameKind::LinkControl, CONTROL, &[b"before"]);
    bad(&mut evil);
    let after = frame(FrameKind::LinkControl, CONTROL, &[b"behind"]);
    evil.session.send_message(&after).unwrap();
    evil.flush();

    // Though the peer does not hang up.
    let why = node.hear_down(evil.id, LaneId(0), LinkEpoch(1));
    assert!(why.starts_with(named.text()), "{why:?}");
    assert!(why.contains(reason), "{why:?} does not say {reason:?}");
    let event = node.hear_event(evil.id, "lane-down");
    let seen = event.iter().any(|(name, value)| *name == "why" && *value == why);
    assert!(seen, "{event:?} does not say {why:?}");
    let close = evil.expect_close();
    assert_eq!(close.reason, named);
    assert!(close.detail.contains(reason), "{close:?} does not say {reason:?}");
    assert_eq!(hear_from(&mut node, evil.id), b"before", "what came before it counts");

    good.round_trip();
    good.send(FrameKind::LinkControl, CONTROL, &[b"still here"]);
    assert_eq!(hear_from(&mut node, good.id), b"still here");
    let lanes = node.report(ShardId(0)).lanes;
    assert_eq!(lanes.iter().map(|lane| lane.peer).collect::<Vec<_>>(), [good.id]);
    assert!(node.unasked().is_empty(), "{:?}", node.unasked());
    evil.hang_up();
    node.stop();
}

fn hear_from(node: &mut Node, peer: NodeId) -> Vec<u8> {
    node.hear("link control", |message| match message {
        ShardToControl::LinkControl { from, body } if *from == peer => Some(body.to_vec()),
        _ => None,
    })
}

fn refused(reason: &str, bad: impl Fn(&mut Peer)) {
    refused_in(COLLAPSED, CloseReason::ProtocolViolation, reason, bad);
}

fn refused_for(named: CloseReason, reason: &str, bad: impl Fn(&mut Peer)) {
    refused_in(COLLAPSED, named, reason, bad);
}

/// A header with any bytes in it, and the checksum that belongs to them.
fn forged(change: impl FnOnce(&mut [u8; FrameHeader::LEN])) -> Vec<u8> {
    let mut bytes = FrameHeader {
        kind: FrameKind::LinkControl,
        flags: FrameFlags(0),
        class: CONTROL,
        body_len: 0,
        link_sequence: LinkSequence(0),
    }
    .encode();
    change(&mut bytes);
    let (covered, checksum) = bytes.split_at_mut(16);
    checksum.copy_from_slice(&Crc32c::new().update(covered).finish().to_le_bytes());
    bytes.to_vec()
}

/// A WebSocket frame as the peer of a server sends it, with a mask of zeros.
fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    [&[first, 0x80 | payload.len() as u8, 0, 0, 0, 0], payload].concat()
}

#[test]
fn a_frame_that_its_batch_cuts_off() {
    let whole = frame(FrameKind::LinkControl, CONTROL, &[b"body"]);
    refused("truncated", |peer| peer.send_batch(&whole[..whole.len() - 1]));
    refused("truncated", |peer| peer.send_batch(&whole[..FrameHeader::LEN - 1]));
}

#[test]
fn a_header_whose_checksum_is_wrong() {
    let mut bytes = frame(FrameKind::LinkControl, CONTROL, &[b"body"]);
    bytes[FrameHeader::LEN - 1] ^= 1;
    refused("frame header has checksum", |peer| peer.send_batch(&bytes));
}

#[test]
fn a_reserved_byte_that_is_used() {
    refused("reserved byte", |peer| peer.send_batch(&forged(|bytes| bytes[3] = 1)));
}

#[test]
fn a_class_that_does_not_exist() {
    refused("traffic class", |peer| peer.send_batch(&forged(|bytes| bytes[2] = 3)));
}

#[test]
fn a_body_above_its_bound() {
    for len in [FRAME_BODY_BYTES_MAX as u32 + 1, u32::MAX] {
        refused("frame body is", |peer| {
            peer.send_batch(&forged(|bytes| bytes[4..8].copy_from_slice(&len.to_le_bytes())));
        });
    }
}

#[test]
fn a_handshake_frame_on_a_lane_that_is_up() {
    for kind in [FrameKind::Hello, FrameKind::JoinRequest, FrameKind::JoinReply] {
        refused("handshake frame", |peer| peer.send(kind, CONTROL, &[b"whatever"]));
    }
}

#[test]
fn a_heartbeat_that_is_none() {
    refused("heartbeat", |peer| peer.send(FrameKind::Ping, CONTROL, &[b"seven b"]));
}

#[test]
fn a_route_header_that_is_none() {
    for kind in [FrameKind::Record, FrameKind::Datagram, FrameKind::StreamAck, FrameKind::Notice] {
        let class = if kind == FrameKind::Record { TrafficClass::Bulk } else { CONTROL };
        refused("route header", |peer| peer.send(kind, class, &[b"short"]));
    }
}

#[test]
fn a_routed_frame_in_a_class_that_is_not_its_kinds() {
    for (kind, class) in [
        (FrameKind::Record, CONTROL),
        (FrameKind::Datagram, TrafficClass::Bulk),
        (FrameKind::StreamAck, TrafficClass::Priority),
        (FrameKind::StreamSync, TrafficClass::Bulk),
        (FrameKind::Notice, TrafficClass::Bulk),
    ] {
        let mut route = Vec::new();
        let (from, to) = (node_id(3, 0), node_id(1, 0));
        let hops = [AdjacencyIndex(1)];
        RouteHeader::encode(&mut route, from, to, PathId(1), &hops).unwrap();
        let reason = format!("{kind:?} frame of class {}", class.name());
        refused(&reason, |peer| peer.send(kind, class, &[&route, &[0; 200]]));
    }
}

#[test]
fn a_routed_frame_that_is_not_counted_and_another_one_that_is() {
    for kind in [FrameKind::Record, FrameKind::Datagram, FrameKind::StreamAck] {
        let class = if kind == FrameKind::Record { TrafficClass::Bulk } else { CONTROL };
        refused(&format!("{kind:?} frame without a link sequence"), |peer| {
            peer.send_batch(&frame(kind, class, &[&[0; 200]]));
        });
    }
    for kind in [FrameKind::Ping, FrameKind::LinkControl, FrameKind::Close] {
        refused(&format!("{kind:?} frame with link sequence 7"), |peer| {
            peer.send_batch(&counted_frame(kind, CONTROL, 7, &[&[0; 8]]));
        });
    }
}

#[test]
fn acknowledgements_that_cannot_be() {
    refused_for(CloseReason::AckAhead, "1 frames acknowledged, 0 sent", |peer| {
        peer.send_ack(LaneAckEntry { count: 1, ..peer.ack_entry() });
    });
    refused_for(CloseReason::AckReturned, "lowered from 1 to 1", |peer| {
        peer.acks_sent -= 1;
        peer.acknowledge();
    });
    refused_for(CloseReason::CreditReturned, "credit of frames lowered from", |peer| {
        peer.send_ack(LaneAckEntry { credit_frames: 1 << 39, ..peer.ack_entry() });
    });
    refused_for(CloseReason::CreditReturned, "credit of bytes lowered from", |peer| {
        peer.send_ack(LaneAckEntry { credit_bytes: 0, ..peer.ack_entry() });
    });
    refused("lane ack", |peer| {
        peer.send(FrameKind::LaneAck, CONTROL, &[&[1, 0, 0, 0, 0, 0, 0, 0, 1]]);
    });
}

#[test]
fn more_than_was_granted() {
    let node = Node::start(node_id(1, 0), 1);
    let (named, reason) = (CloseReason::CreditOverrun, "65537 frames sent, 65536 granted");
    refused_at(node, COLLAPSED, named, reason, |peer| {
        // In one batch, so that nothing is granted anew before the last of them.
        let kind = FrameKind::Unknown(0xee);
        let frames = (1..=65_537).flat_map(|n| counted_frame(kind, CONTROL, n, &[]));
        peer.send_batch(&frames.collect::<Vec<u8>>());
    });
}

/// A second connection for lane 2 is closed for `named`, both sides are told, and the first one goes
/// on.
fn second_refused(second: LaneSpec, named: CloseReason, reason: &str) {
    let mut node = Node::start(node_id(1, 0), 1);
    let mut first = Peer::open(&mut node, node_id(2, 0), BULK_LANE);
    let mut second = Peer::open(&mut node, node_id(2, 0), second);
    let close = second.expect_close();
    assert_eq!(close.reason, named);
    assert!(close.detail.contains(reason), "{close:?} does not say {reason:?}");
    let why = node.hear("the second connection down", |message| match message {
        ShardToControl::LaneDown { reason, .. } => Some(reason.to_string()),
        _ => None,
    });
    assert!(why.starts_with(named.text()) && why.contains(reason), "{why:?}");
    first.send(FrameKind::LinkControl, CONTROL, &[b"still here"]);
    assert_eq!(hear_from(&mut node, first.id), b"still here");
    assert_eq!(node.report(ShardId(0)).lanes.len(), 1);
    node.stop();
}

const BULK_LANE: LaneSpec = LaneSpec {
    lane: LaneId(2),
    class: TrafficClass::Bulk,
    carries: ClassSet::of(TrafficClass::Bulk),
    ..COLLAPSED
};

#[test]
fn a_lane_that_is_there_already() {
    let reason = "lane 2 has a connection of epoch 1 already";
    second_refused(BULK_LANE, CloseReason::DuplicateLane, reason);
}

#[test]
fn a_lane_that_comes_again_with_another_class() {
    let class = TrafficClass::Priority;
    let other = LaneSpec { class, carries: ClassSet::of(class), epoch: LinkEpoch(2), ..BULK_LANE };
    let reason = "lane 2 was made for bulk, now for priority";
    second_refused(other, CloseReason::ClassChange, reason);
}

/// A notice to the node about a stream that it does not host.
fn notice(from: NodeId) -> Vec<u8> {
    let (mut route, to, stream) = (Vec::new(), node_id(1, 0), stream_id(0x60, 0));
    RouteHeader::encode(&mut route, from, to, PathId(1), &[AdjacencyIndex(1)]).unwrap();
    let (fixed, rest) = RouteHeader::split_advanced(&route).unwrap();
    let mut body = [&fixed[..], rest].concat();
    let (path, reason) = (PathId(1), NoticeReason::Congested);
    Notice { path, reason, at: from, destination: from, stream, refusal: None }.encode(&mut body);
    body
}

#[test]
fn a_link_sequence_that_jumps_ahead() {
    let far = LINK_SEQUENCE_WINDOW + 2;
    refused_for(CloseReason::SequenceJump, &format!("link sequence {far} behind 1"), |peer| {
        let body = notice(peer.id);
        for sequence in [1, far] {
            peer.send_batch(&counted_frame(FrameKind::Notice, CONTROL, sequence, &[&body]));
        }
    });
}

#[test]
fn a_class_that_the_lane_does_not_carry() {
    let control = LaneSpec { carries: ClassSet::of(CONTROL), ..COLLAPSED };
    refused_in(control, CloseReason::ClassChange, "bulk frame on lane 0", |peer| {
        peer.send(FrameKind::Record, TrafficClass::Bulk, &[&[0; 200]]);
    });
    let class = TrafficClass::Bulk;
    let bulk = LaneSpec { class, carries: ClassSet::of(class), ..COLLAPSED };
    refused_in(bulk, CloseReason::ClassChange, "control frame on lane 0", |peer| {
        let body = notice(peer.id);
        peer.send(FrameKind::Notice, CONTROL, &[&body]);
    });
}

#[test]
fn link_control_above_its_bound() {
    refused("bytes of link control", |peer| {
        peer.send(FrameKind::LinkControl, CONTROL, &[&vec![0; LINK_CONTROL_BYTES_MAX + 1]]);
    });
}

#[test]
fn text() {
    refused("text frame", |peer| peer.send_plaintext(&masked(0x81, b"hello")));
}

#[test]
fn a_missing_mask_and_one_too_many() {
    let bytes = frame(FrameKind::LinkControl, CONTROL, &[b"x"]);
    let bare = [&[0x82, bytes.len() as u8], bytes.as_slice()].concat();
    refused("not masked", |peer| peer.send_plaintext(&bare));
    let client = LaneSpec { near: Role::Client, ..COLLAPSED };
    refused_in(client, CloseReason::ProtocolViolation, "is masked", |peer| {
        peer.send_plaintext(&masked(0x82, &bytes));
    });
}

#[test]
fn reserved_bits_and_opcodes() {
    refused("reserved bits", |peer| peer.send_plaintext(&masked(0xc2, b"x")));
    refused("reserved opcode 0x3", |peer| peer.send_plaintext(&masked(0x83, b"x")));
}

#[test]
fn a_flood_of_fragments() {
    refused("fragments", |peer| {
        let mut bytes = masked(0x02, b"x");
        for _ in 0..1000 {
            bytes.extend(masked(0x00, b"x"));
        }
        peer.send_plaintext(&bytes);
    });
}

#[test]
fn a_flood_of_pings() {
    refused("pings", |peer| peer.send_plaintext(&masked(0x89, b"?").repeat(1000)));
}

#[test]
fn a_message_above_its_bound() {
    refused("more than", |peer| {
        let mut bytes = vec![0x82, 0x80 | 127];
        bytes.extend((BATCH_BYTES_MAX as u64 + 1).to_be_bytes());
        peer.send_plaintext(&[bytes.as_slice(), &[0; 4]].concat());
    });
}

#[test]
fn a_record_of_tls_that_is_changed_is_told_by_an_alert_alone() {
    let mut node = Node::start(node_id(1, 0), 1);
    let mut good = Peer::open(&mut node, node_id(2, 0), COLLAPSED);
    let mut evil = Peer::open(&mut node, node_id(3, 0), COLLAPSED);
    evil.session.send_message(b"x").unwrap();
    let mut bytes = evil.session.take_unsent();
    *bytes.last_mut().unwrap() ^= 1;
    std::io::Write::write_all(&mut evil.socket, &bytes).unwrap();
    let why = node.hear_down(evil.id, LaneId(0), LinkEpoch(1));
    assert!(why.contains("TLS: cannot decrypt peer's message"), "{why:?}");
    good.round_trip();
    node.stop();
}

/// What it sends on while it has not read why it was closed does not cost it that: a connection that is
/// closed with something unread is reset, and what the peer has not got yet with it.
#[test]
fn a_peer_that_reads_late_and_sends_on_hears_why_its_lane_was_closed() {
    let mut node = Node::start(node_id(1, 0), 1);
    let mut peer = Peer::open(&mut node, node_id(3, 0), COLLAPSED);
    // Their answers fill the socket that nobody reads.
    let beats: Vec<u8> = (0..4000_u64)
        .flat_map(|number| frame(FrameKind::Ping, CONTROL, &[&number.to_le_bytes()]))
        .collect();
    for part in beats.chunks(50 * 28) {
        peer.send_batch(part);
    }
    peer.send(FrameKind::LinkControl, CONTROL, &[b"read so far"]);
    assert_eq!(hear_from(&mut node, peer.id), b"read so far");
    let bad = counted_frame(FrameKind::Ping, CONTROL, 77, &[&[0; 8]]);
    peer.session.send_message(&bad).unwrap();
    peer.flush();
    node.hear_event(peer.id, "lane-down");
    for _ in 0..200 {
        peer.send_batch(&beats[..50 * 28]);
    }
    let answers = peer.until_over();
    let last = answers.last().expect("it was told nothing");
    assert_eq!(last.header.kind, FrameKind::Close, "{:?}", last.header);
    let close = LaneClose::decode(&last.body).unwrap();
    assert_eq!(close.reason, CloseReason::ProtocolViolation);
    peer.hang_up();
    node.hear_down(peer.id, LaneId(0), LinkEpoch(1));
    node.stop();
}
