use hawser_exchange::{ControlToShard, ShardToControl};
use hawser_wire::{CloseReason, FrameKind, LaneId, LinkEpoch, ShardId};

use crate::node::{Node, node_id};
use crate::peer::{COLLAPSED, Peer};

#[test]
fn a_shard_that_is_told_to_stop_drains_says_good_bye_and_ends() {
    let mut node = Node::start(node_id(1, 0), 1);
    let mut peer = Peer::open(&mut node, node_id(2, 0), COLLAPSED);
    // What was asked for before the end still leaves, also if all of it is seen at once.
    let port = &mut node.control.shards[0].to;
    for word in 0..100 {
        let body = vec![word].into();
        port.try_send(ControlToShard::LinkControl { peer: peer.id, body }).expect("room");
    }
    port.try_send(ControlToShard::Shutdown).expect("room");
    port.ring();
    for word in 0..100 {
        assert_eq!(peer.expect(FrameKind::LinkControl).body, [word]);
    }
    assert_eq!(peer.expect_close().reason, CloseReason::Shutdown);
    let why = node.hear_down(peer.id, LaneId(0), LinkEpoch(1));
    assert_eq!(why, CloseReason::Shutdown.text());
    node.hear("stopped", |message| matches!(message, ShardToControl::Stopped).then_some(()));
    node.join();
}

#[test]
fn a_peer_that_does_not_read_cannot_hold_up_the_end() {
    let mut node = Node::start(node_id(1, 0), 1);
    let peer = Peer::open(&mut node, node_id(2, 0), COLLAPSED);
    // The sockets hold less than what may wait for the link.
    rustix::net::sockopt::set_socket_recv_buffer_size(&peer.socket, 64 << 10).unwrap();
    for _ in 0..64 {
        let body = vec![0; 512 << 10].into();
        node.tell_link(peer.id, ControlToShard::LinkControl { peer: peer.id, body });
    }
    // Until they are full, and nothing more leaves.
    let (mut sent_bytes, mut same) = (0, 0);
    while same < 50 {
        let link = node.report(ShardId(0)).links.remove(0);
        same = if link.sent_bytes == sent_bytes && sent_bytes > 0 { same + 1 } else { 0 };
        sent_bytes = link.sent_bytes;
        assert!(link.queued_bytes > 0, "the sockets hold all of it");
    }
    node.stop();
    drop(peer);
}

#[test]
fn a_shard_whose_control_thread_is_gone_ends_as_if_told_to() {
    for asleep in [false, true] {
        let mut node = Node::start(node_id(1, 0), 2);
        let mut peer = Peer::open(&mut node, node_id(2, 1), COLLAPSED);
        if asleep {
            peer.round_trip();
        }
        let Node { control, apis, threads, .. } = node;
        drop(control);
        assert_eq!(peer.expect_close().reason, CloseReason::Shutdown);
        for shard in threads {
            shard.thread.join().expect("no panic");
        }
        drop(apis);
    }
}

#[test]
fn a_lane_that_arrives_behind_the_order_to_stop_is_closed() {
    let mut node = Node::start(node_id(1, 0), 1);
    let mut first = Peer::open(&mut node, node_id(2, 0), COLLAPSED);
    // The first lane's write stays in flight, so that the shard cannot end yet.
    for _ in 0..32 {
        let body = vec![0; 512 << 10].into();
        node.tell_link(first.id, ControlToShard::LinkControl { peer: first.id, body });
    }
    let mut late = Peer::open_behind(&mut node, ControlToShard::Shutdown, node_id(3, 0), COLLAPSED);
    assert_eq!(late.expect_close().reason, CloseReason::Shutdown);
    first.until_over();
    node.hear("stopped", |message| matches!(message, ShardToControl::Stopped).then_some(()));
    node.join();
}
