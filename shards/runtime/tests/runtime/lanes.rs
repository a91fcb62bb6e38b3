use std::time::Duration;

use hawser_exchange::{ControlToShard, ShardToControl};
use hawser_link::LinkConfig;
use hawser_runtime::IoDriver;
use hawser_session::Role;
use hawser_wire::{
    CloseReason, FrameKind, Heartbeat, LaneClose, LaneId, LinkEpoch, NodeId, ShardId, TrafficClass,
};

use crate::node::{Node, node_id};
use crate::peer::{COLLAPSED, LaneSpec, Peer, frame};

const CONTROL: TrafficClass = TrafficClass::Control;

fn local() -> NodeId {
    node_id(1, 0)
}

fn peer() -> NodeId {
    node_id(2, 0)
}

/// What the neighbour's control thread sent to this one's.
fn hear_link_control(node: &mut Node, from: NodeId) -> Vec<u8> {
    node.hear("link control", |message| match message {
        ShardToControl::LinkControl { from: f, body } if *f == from => Some(body.to_vec()),
        _ => None,
    })
}

/// A heartbeat is echoed, and link control crosses both ways.
fn a_lane_works(node: &mut Node, peer: &mut Peer) {
    let beat = Heartbeat { sent_nanos: 0x0123_4567_89ab_cdef }.encode();
    peer.send(FrameKind::Ping, CONTROL, &[&beat]);
    assert_eq!(peer.expect(FrameKind::Pong).body, beat);
    peer.send(FrameKind::LinkControl, CONTROL, &[b"to ", b"you"]);
    assert_eq!(hear_link_control(node, peer.id), b"to you");
    let body = b"from us".to_vec().into();
    node.tell_link(peer.id, ControlToShard::LinkControl { peer: peer.id, body });
    let frame = peer.expect(FrameKind::LinkControl);
    assert_eq!((frame.body.as_slice(), frame.header.class), (&b"from us"[..], CONTROL));
}

#[test]
fn heartbeats_are_echoed_in_either_role() {
    for near in [Role::Client, Role::Server] {
        let mut node = Node::start(local(), 1);
        let mut peer = Peer::open(&mut node, peer(), LaneSpec { near, ..COLLAPSED });
        a_lane_works(&mut node, &mut peer);
        // The shard asks, too, and makes a round trip of the answer.
        peer.expect(FrameKind::Ping);
        peer.round_trip();
        let report = node.report(ShardId(0));
        let [lane] = report.lanes.as_slice() else { panic!("one lane") };
        assert_eq!((lane.peer, lane.dialled), (peer.id, near == Role::Client));
        assert!(lane.rtt > Duration::ZERO);
        node.stop();
    }
}

#[test]
fn epoll_carries_lanes_too() {
    let mut node = Node::start_with(local(), 1, |config| config.driver = IoDriver::Epoll);
    assert_eq!(node.threads[0].io_driver, "epoll");
    let mut peer = Peer::open(&mut node, peer(), COLLAPSED);
    a_lane_works(&mut node, &mut peer);
    drop(peer);
    node.hear_down(self::peer(), LaneId(0), LinkEpoch(1));
    node.stop();
}

#[test]
fn frames_sent_are_counted_and_not_batches() {
    let mut node = Node::start(local(), 1);
    let mut peer = Peer::open(&mut node, peer(), COLLAPSED);
    const FRAMES: u64 = 100;
    for number in 0..FRAMES {
        let body = number.to_le_bytes().to_vec().into();
        let message = ControlToShard::LinkControl { peer: peer.id, body };
        node.control.shards[0].to.try_send(message).unwrap();
    }
    // All at once, so that they share batches.
    node.control.shards[0].to.ring();
    for number in 0..FRAMES {
        assert_eq!(peer.expect(FrameKind::LinkControl).body, number.to_le_bytes());
    }
    let before = node.report(ShardId(0)).lanes[0].sent_frames;
    // Heartbeats and acknowledgements beside them.
    assert!((FRAMES..FRAMES * 2).contains(&before), "{before} frames");
    // Echoes count as well.
    peer.round_trip();
    let after = node.report(ShardId(0)).lanes[0].sent_frames;
    assert!(after > before);
    node.stop();
}

#[test]
fn what_came_in_behind_the_hello_is_not_lost() {
    let mut node = Node::start(local(), 1);
    let mut peer = Peer::open_after(&mut node, peer(), COLLAPSED, |near, far| {
        // A whole message that is decrypted already, a whole one that is not, and half of one.
        far.send_message(&frame(FrameKind::LinkControl, CONTROL, &[b"one"])).unwrap();
        near.read_buffer().extend(far.take_unsent());
        near.process().unwrap();
        far.send_message(&frame(FrameKind::LinkControl, CONTROL, &[b"two"])).unwrap();
        let two = far.take_unsent();
        near.read_buffer().extend(two);
        far.send_message(&frame(FrameKind::LinkControl, CONTROL, &[b"three"])).unwrap();
        // And this side still has something to say.
        near.send_message(&frame(FrameKind::LinkControl, CONTROL, &[b"unsent"])).unwrap();
    });
    peer.flush();
    for expected in [&b"one"[..], b"two", b"three"] {
        assert_eq!(hear_link_control(&mut node, peer.id), expected);
    }
    assert_eq!(peer.expect(FrameKind::LinkControl).body, b"unsent");
    node.stop();
}

#[test]
fn unknown_kinds_of_frames_are_skipped() {
    let mut node = Node::start(local(), 1);
    let mut peer = Peer::open(&mut node, peer(), COLLAPSED);
    let unknown = frame(FrameKind::Unknown(0xee), CONTROL, &[&[1; 1000]]);
    let known = frame(FrameKind::LinkControl, CONTROL, &[b"known"]);
    peer.send_batch(&[unknown.as_slice(), &known, &unknown].concat());
    assert_eq!(hear_link_control(&mut node, peer.id), b"known");
    a_lane_works(&mut node, &mut peer);
    node.stop();
}

#[test]
fn a_silent_peer_loses_its_lane() {
    let mut node = Node::start_with(local(), 1, |config| {
        let tick = Duration::from_millis(10);
        config.link = LinkConfig { tick, dead_after_ticks: 5, ..LinkConfig::default() };
    });
    let mut peer = Peer::open(&mut node, peer(), COLLAPSED);
    let why = node.hear_down(peer.id, LaneId(0), LinkEpoch(1));
    assert_eq!(why, CloseReason::Silent.text());
    let frames = peer.until_over();
    // What it puts on the lane and what it takes; that again when it hears nothing; why it goes.
    let kinds: Vec<FrameKind> = frames.iter().map(|frame| frame.header.kind).collect();
    let beats = kinds.iter().filter(|&&kind| kind == FrameKind::Ping).count();
    assert!((4..=6).contains(&beats), "{beats} heartbeats");
    let others: Vec<_> = kinds.into_iter().filter(|&kind| kind != FrameKind::Ping).collect();
    let ack = FrameKind::LaneAck;
    assert_eq!(others, [ack, FrameKind::LaneClasses, ack, FrameKind::Close]);
    node.stop();
}

#[test]
fn a_peer_that_only_answers_keeps_its_lane() {
    let mut node = Node::start_with(local(), 1, |config| {
        let tick = Duration::from_millis(50);
        config.link = LinkConfig { tick, dead_after_ticks: 20, ..LinkConfig::default() };
    });
    let mut peer = Peer::open(&mut node, peer(), COLLAPSED);
    for _ in 0..30 {
        peer.expect(FrameKind::Ping);
    }
    peer.round_trip();
    assert!(node.unasked().is_empty(), "{:?}", node.unasked());
    node.stop();
}

#[test]
fn a_newer_connection_supersedes_the_lane() {
    let mut node = Node::start(local(), 1);
    let mut old = Peer::open(&mut node, peer(), COLLAPSED);
    a_lane_works(&mut node, &mut old);
    let epoch = LinkEpoch(2);
    let mut new = Peer::open(&mut node, peer(), LaneSpec { epoch, ..COLLAPSED });
    assert_eq!(old.expect_close().reason, CloseReason::Superseded);
    let why = node.hear_down(old.id, LaneId(0), LinkEpoch(1));
    assert_eq!(why, CloseReason::Superseded.text());
    a_lane_works(&mut node, &mut new);
    let report = node.report(ShardId(0));
    assert_eq!(report.lanes.iter().map(|lane| lane.epoch).collect::<Vec<_>>(), [epoch]);
    node.stop();
}

#[test]
fn only_the_connection_that_is_meant_is_closed() {
    let mut node = Node::start(local(), 1);
    let epoch = LinkEpoch(7);
    let mut peer = Peer::open(&mut node, peer(), LaneSpec { epoch, ..COLLAPSED });
    let close = |epoch| ControlToShard::CloseLane {
        peer: self::peer(),
        lane: LaneId(0),
        epoch,
        reason: CloseReason::RateLimited,
    };
    node.tell_link(peer.id, close(LinkEpoch(6)));
    a_lane_works(&mut node, &mut peer);
    node.tell_link(peer.id, close(epoch));
    assert_eq!(peer.expect_close().reason, CloseReason::RateLimited);
    assert_eq!(node.hear_down(peer.id, LaneId(0), epoch), CloseReason::RateLimited.text());
    node.stop();
}

#[test]
fn a_peer_that_goes_is_noticed_however_it_goes() {
    let mut node = Node::start(local(), 1);
    let mut check = |epoch: u64, expected: &str, go: &dyn Fn(&mut Peer)| {
        let epoch = LinkEpoch(epoch);
        let mut peer = Peer::open(&mut node, peer(), LaneSpec { epoch, ..COLLAPSED });
        a_lane_works(&mut node, &mut peer);
        go(&mut peer);
        let why = node.hear_down(peer.id, LaneId(0), epoch);
        assert!(why.starts_with(expected), "{why:?} is not {expected:?}");
        peer.until_over();
    };
    check(1, "peer: shutdown: for tea", &|peer| {
        let close = LaneClose { reason: CloseReason::Shutdown, detail: "for tea".to_owned() };
        let mut body = Vec::new();
        close.encode(&mut body);
        peer.send(FrameKind::Close, CONTROL, &[&body]);
    });
    // Both layers at once; only the outer one; only the inner one; none.
    check(2, "closed by the peer", &|peer| {
        peer.session.send_close();
        peer.flush();
    });
    check(3, "closed by the peer", &|peer| peer.send_plaintext(&[0x88, 0x80, 0, 0, 0, 0]));
    check(4, "closed by the peer", &|peer| {
        peer.socket.shutdown(std::net::Shutdown::Write).unwrap();
    });
    node.stop();
}

#[test]
fn link_control_for_a_neighbour_without_a_lane_is_not_kept_for_the_next_one() {
    let mut node = Node::start(local(), 1);
    let mut first = Peer::open(&mut node, peer(), COLLAPSED);
    a_lane_works(&mut node, &mut first);
    drop(first);
    node.hear_down(peer(), LaneId(0), LinkEpoch(1));
    let body = b"stale".to_vec().into();
    node.tell_link(peer(), ControlToShard::LinkControl { peer: peer(), body });
    let epoch = LinkEpoch(2);
    let mut second = Peer::open(&mut node, peer(), LaneSpec { epoch, ..COLLAPSED });
    let body = b"fresh".to_vec().into();
    node.tell_link(peer(), ControlToShard::LinkControl { peer: peer(), body });
    assert_eq!(second.expect(FrameKind::LinkControl).body, b"fresh");
    node.stop();
}
