//! Lanes that are read a record at a time.

use std::io::Write;
use std::time::{Duration, Instant};

use hawser_wire::{FrameKind, ShardId, TrafficClass};

use crate::node::{Node, node_id};
use crate::peer::{COLLAPSED, Peer, frame};
use crate::wait::PATIENCE;

/// Bytes that the shard has read of its only lane.
fn read_bytes(node: &mut Node) -> u64 {
    node.report(ShardId(0)).links.remove(0).received_bytes
}

/// A fast lane whose record comes in two parts is not woken for less than the second; what is short and
/// comes behind it is seen at once.
#[test]
fn a_record_that_comes_in_parts_holds_up_nothing_behind_it() {
    let mut node = Node::start(node_id(1, 0), 1);
    let mut peer = Peer::open(&mut node, node_id(2, 0), COLLAPSED);
    let (kind, class) = (FrameKind::LinkControl, TrafficClass::Control);
    let body = [7; 12_000];
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(300) {
        peer.send(kind, class, &[&body]);
        peer.round_trip();
    }
    for _ in 0..20 {
        peer.round_trip();
        let before = read_bytes(&mut node);
        peer.session.send_message(&frame(kind, class, &[&body])).unwrap();
        let unsent = peer.session.take_unsent();
        let (first, rest) = unsent.split_at(6000);
        peer.socket.write_all(first).unwrap();
        let until = Instant::now() + PATIENCE;
        while read_bytes(&mut node) < before + 6000 {
            assert!(Instant::now() < until, "the first part was never read");
        }
        peer.socket.write_all(rest).unwrap();
        peer.round_trip();
    }
    drop(peer);
    node.stop();
}
