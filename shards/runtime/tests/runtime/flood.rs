//! What a neighbour may ask for without end takes no memory without end.

use std::time::Instant;

use hawser_exchange::{ShardToControl, ShardToShard};
use hawser_link::LinkConfig;
use hawser_session::Role;
use hawser_wire::{
    AdjacencyIndex, CloseReason, DATAGRAM_BYTES_MAX, FrameKind, Heartbeat, LaneClose, LaneId,
    LinkEpoch, NodeId, PathId, RouteHeader, ShardId, TrafficClass,
};

use crate::node::{Inputs, Node, node_id, number_of};
use crate::peer::{COLLAPSED, LaneSpec, Peer, frame};

const CONTROL: TrafficClass = TrafficClass::Control;

#[test]
fn who_asks_for_echoes_by_the_thousand_loses_the_lane() {
    let mut node = Node::start(node_id(1, 0), 1);
    let mut good = Peer::open(&mut node, node_id(3, 0), COLLAPSED);
    let mut peer =
        Peer::open(&mut node, node_id(2, 0), LaneSpec { near: Role::Client, ..COLLAPSED });
    let beat = Heartbeat { sent_nanos: 1 }.encode();
    let batch = frame(FrameKind::Ping, CONTROL, &[&beat]).repeat(4000);
    // Ten seconds' worth may come at once.
    let LinkConfig { heartbeats_per_second, .. } = LinkConfig::default();
    assert!((4001..8000).contains(&(heartbeats_per_second * 10)));
    let began = Instant::now();
    peer.send_batch(&batch);
    peer.send_batch(&batch);
    let why = node.hear_down(peer.id, LaneId(0), LinkEpoch(1));
    let gained = began.elapsed().as_millis() as u32 * heartbeats_per_second / 1000;
    assert!(why.starts_with(CloseReason::HeartbeatStorm.text()), "{why:?}");
    let frames = peer.until_over();
    let close = LaneClose::decode(&frames.last().unwrap().body).unwrap();
    assert_eq!(close.reason, CloseReason::HeartbeatStorm);
    // What is not read fills no memory: answers are left out.
    let echoes = frames.iter().filter(|frame| frame.header.kind == FrameKind::Pong).count();
    let most = heartbeats_per_second * 10 + gained;
    assert!((1..=most as usize).contains(&echoes), "{echoes} echoes of {most}");
    // Whoever watches sees it, and nobody else feels it.
    let event = node.hear_event(peer.id, "lane-down");
    assert!(event.contains(&("why", why)), "{event:?}");
    good.round_trip();
    node.stop();
}

#[test]
fn frames_for_a_control_thread_that_stands_still_are_dropped_at_a_bound() {
    let mut node = Node::start(node_id(1, 0), 1);
    let mut peer =
        Peer::open(&mut node, node_id(2, 0), LaneSpec { near: Role::Client, ..COLLAPSED });
    // The ring first, with small ones; then large ones behind it.
    for _ in 0..16 {
        peer.send_batch(&frame(FrameKind::LinkControl, CONTROL, &[b"small"]).repeat(64));
    }
    const LARGE: usize = 512 << 10;
    for _ in 0..80 {
        peer.send(FrameKind::LinkControl, CONTROL, &[&vec![0; LARGE]]);
    }
    peer.round_trip();
    let mut large = 0;
    loop {
        // This one comes through once the others are taken out of its way.
        peer.send(FrameKind::LinkControl, CONTROL, &[b"last"]);
        peer.round_trip();
        let len = node.hear("link control", |message| match message {
            ShardToControl::LinkControl { body, .. } if body.len() != 5 => Some(body.len()),
            _ => None,
        });
        if len == 4 {
            break;
        }
        large += 1;
    }
    assert!((1..=32).contains(&large), "{large} of half a MiB were kept");
    node.stop();
}

#[test]
fn large_frames_do_not_fill_the_ring_to_a_control_thread_that_stands_still() {
    let mut node = Node::start(node_id(1, 0), 1);
    let mut peer =
        Peer::open(&mut node, node_id(2, 0), LaneSpec { near: Role::Client, ..COLLAPSED });
    const LARGE: usize = 512 << 10;
    // Far fewer than the ring has slots.
    for _ in 0..80 {
        peer.send(FrameKind::LinkControl, CONTROL, &[&vec![0; LARGE]]);
    }
    peer.round_trip();
    let take = |node: &mut Node| {
        node.hear("link control", |message| match message {
            ShardToControl::LinkControl { body, .. } => Some(body.len()),
            _ => None,
        })
    };
    // One that is taken makes room for another.
    assert_eq!(take(&mut node), LARGE);
    peer.send(FrameKind::LinkControl, CONTROL, &[b"last"]);
    peer.round_trip();
    let large =
        1 + std::iter::from_fn(|| Some(take(&mut node))).take_while(|&l| l == LARGE).count();
    assert!((1..=32).contains(&large), "{large} of half a MiB were kept");
    node.stop();
}

/// In front of a datagram that arrives at `to`, its last hop taken.
fn arrived(from: NodeId, to: NodeId) -> Vec<u8> {
    let mut route = Vec::new();
    RouteHeader::encode(&mut route, from, to, PathId(1), &[AdjacencyIndex(1)]).unwrap();
    let (fixed, rest) = RouteHeader::split_advanced(&route).unwrap();
    [&fixed[..], rest].concat()
}

fn control_dropped(node: &mut Node, peer: NodeId) -> u64 {
    let report = node.report(ShardId(0));
    let link = report.links.iter().find(|link| link.peer == peer).unwrap();
    link.control_dropped_frames
}

#[test]
fn a_neighbour_that_fills_its_way_to_the_control_thread_loses_its_own_frames_alone() {
    let mut node = Node::start(node_id(1, 0), 1);
    let (local, client) = (node.local, LaneSpec { near: Role::Client, ..COLLAPSED });
    let mut good = Peer::open(&mut node, node_id(3, 0), COLLAPSED);
    let mut peer = Peer::open(&mut node, node_id(2, 0), client);
    for _ in 0..80 {
        peer.send(FrameKind::LinkControl, CONTROL, &[&vec![0; 512 << 10]]);
    }
    // What it brings counts as its own, whoever it says has sent that.
    let body = vec![0; DATAGRAM_BYTES_MAX];
    for _ in 0..80 {
        peer.send(FrameKind::Datagram, CONTROL, &[&arrived(good.id, local), &body]);
    }
    // What is left has no room for a small one.
    peer.send_batch(&frame(FrameKind::LinkControl, CONTROL, &[b""]).repeat(1000));
    peer.round_trip();
    good.send(FrameKind::LinkControl, CONTROL, &[b"said"]);
    good.send(FrameKind::Datagram, CONTROL, &[&arrived(peer.id, local), b"brought"]);
    good.round_trip();

    let dropped = control_dropped(&mut node, peer.id);
    assert!((200..1160).contains(&dropped), "{dropped}");
    assert_eq!(control_dropped(&mut node, good.id), 0);
    let event = node.hear_event(peer.id, "control-dropped");
    assert!((1..=dropped).contains(&number_of(&event, "frames")), "{event:?}");
    assert_eq!(node.events(good.id, "control-dropped"), Vec::<Inputs>::new());
    node.hear("what the other one says", |message| match message {
        ShardToControl::LinkControl { from, body } if *from == good.id => Some(body.len()),
        _ => None,
    });
    let from = node.hear("what the other one brings", |message| match message {
        ShardToControl::Datagram { from, via, .. } if *via == good.id => Some(*from),
        _ => None,
    });
    assert_eq!(from, peer.id);
    node.stop();
}

#[test]
fn a_link_that_much_happens_on_is_told_of_at_a_bounded_rate() {
    let mut node = Node::start(node_id(1, 0), 1);
    let (noisy, began) = (node_id(2, 0), Instant::now());
    for epoch in 1..=150 {
        let epoch = LinkEpoch(epoch);
        drop(Peer::open(&mut node, noisy, LaneSpec { epoch, ..COLLAPSED }));
        node.hear_down(noisy, LaneId(0), epoch);
    }
    // Each lane that came and went was told, not what else there is to say of it.
    let untold = node.hear_event(noisy, "events-dropped");
    assert!(number_of(&untold, "events") > 0);
    let told: usize =
        ["lane-up", "lane-down"].map(|name| node.events(noisy, name).len()).iter().sum();
    let most = 128 + 4 * (began.elapsed().as_secs() as usize + 1);
    assert!((40..=most).contains(&told), "{told} of 300 in {:?}", began.elapsed());
    let quiet = Peer::open(&mut node, node_id(3, 0), COLLAPSED);
    node.hear_event(quiet.id, "lane-up");
    node.stop();
}

#[test]
fn little_stands_before_the_word_that_a_lane_came() {
    let mut node = Node::start(node_id(1, 0), 1);
    let client = LaneSpec { near: Role::Client, ..COLLAPSED };
    let mut peer = Peer::open(&mut node, node_id(2, 0), client);
    for _ in 0..40 {
        peer.send_batch(&frame(FrameKind::LinkControl, CONTROL, &[b"small"]).repeat(1000));
    }
    peer.round_trip();
    let good = Peer::open(&mut node, node_id(3, 0), COLLAPSED);
    let before = node.unasked().iter();
    let before = before.filter(|said| matches!(said, ShardToControl::LinkControl { .. })).count();
    assert!((1000..=16_384).contains(&before), "{before} before it");
    // Nothing has been let go of yet.
    assert_eq!(control_dropped(&mut node, peer.id), 40_000 - before as u64);
    assert_eq!(control_dropped(&mut node, good.id), 0);
    node.stop();
}

#[test]
fn frames_for_a_shard_that_stands_still_are_dropped_at_a_bound() {
    // The neighbour's link is at the shard that runs, the other's at the one that does not.
    let (mut node, mut still) = Node::start_first(node_id(1, 0), 1, 2, |_| {});
    let mut peer =
        Peer::open(&mut node, node_id(2, 0), LaneSpec { near: Role::Client, ..COLLAPSED });
    let behind = node_id(3, 1);
    node.route(&[(behind, &[5])], &[(5, behind)]);
    peer.round_trip();
    let mut route = Vec::new();
    let hops = [AdjacencyIndex(1), AdjacencyIndex(5)];
    RouteHeader::encode(&mut route, peer.id, behind, PathId(1), &hops).unwrap();
    let (fixed, rest) = RouteHeader::split_advanced(&route).unwrap();
    let body = vec![0; DATAGRAM_BYTES_MAX];
    for _ in 0..600 {
        peer.send(FrameKind::Datagram, CONTROL, &[&fixed, rest, &body]);
    }
    peer.round_trip();
    let ring = &mut still[0].peers[0].as_mut().unwrap().control_from;
    let mut frames = || {
        let messages = std::iter::from_fn(|| ring.try_recv());
        // Beside them it is told of links.
        messages.filter(|message| matches!(message, ShardToShard::Egress { .. })).count()
    };
    let kept = frames();
    assert!((200..=256).contains(&kept), "{kept} of 64 KiB were kept");
    peer.send(FrameKind::Datagram, CONTROL, &[&fixed, rest, &body]);
    peer.round_trip();
    assert_eq!(frames(), 1, "what was taken makes room");
}
