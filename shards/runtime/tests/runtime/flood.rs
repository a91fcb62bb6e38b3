//! What a neighbour may ask for without end takes no memory without end.

use hawser_exchange::ShardToControl;
use hawser_session::Role;
use hawser_wire::{FrameKind, Heartbeat, TrafficClass};

use crate::node::{Node, node_id};
use crate::peer::{COLLAPSED, LaneSpec, Peer, frame};

const CONTROL: TrafficClass = TrafficClass::Control;

#[test]
fn who_asks_for_echoes_and_does_not_read_gets_no_more_of_them() {
    let mut node = Node::start(node_id(1, 0), 1);
    let mut peer =
        Peer::open(&mut node, node_id(2, 0), LaneSpec { near: Role::Client, ..COLLAPSED });
    let beat = Heartbeat { sent_nanos: 1 }.encode();
    let batch = frame(FrameKind::Ping, CONTROL, &[&beat]).repeat(4000);
    // Far more than the sockets of both ends hold.
    const BATCHES: usize = 150;
    for _ in 0..BATCHES {
        peer.send_batch(&batch);
    }
    let last = Heartbeat { sent_nanos: 2 }.encode();
    let mut echoes = 0;
    // The last question may have gone unanswered as well: it is asked until it is not.
    'asking: loop {
        peer.send(FrameKind::Ping, CONTROL, &[&last]);
        loop {
            let body = peer.expect(FrameKind::Pong).body;
            if body == last {
                break 'asking;
            }
            echoes += 1;
            if echoes % 1000 == 0 {
                break;
            }
        }
    }
    assert!(echoes < BATCHES * 4000 / 2, "{echoes} echoes were kept");
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
