//! Lanes that are read a record at a time.

use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use hawser_wire::{FrameKind, LaneId, ShardId, TrafficClass};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::node::{Node, node_id};
use crate::peer::{COLLAPSED, Peer, frame, handed_over};
use crate::wait::PATIENCE;

const BODY: [u8; 12_000] = [7; 12_000];

/// Waits until the shard has read so many bytes of its only lane.
fn await_read(node: &mut Node, bytes: u64) {
    let until = Instant::now() + PATIENCE;
    while read_bytes(node) < bytes {
        assert!(Instant::now() < until, "they were never read");
    }
}

fn read_bytes(node: &mut Node) -> u64 {
    node.report(ShardId(0)).links.remove(0).received_bytes
}

/// So many bytes are there, and whoever waits for the socket is not woken for them.
fn is_asleep_on(socket: &TcpStream, bytes: u64) -> bool {
    let mut fds = [PollFd::new(socket, PollFlags::IN)];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    rustix::io::ioctl_fionread(socket).unwrap() >= bytes
        && poll(&mut fds, Some(&at_once)).unwrap() == 0
}

/// A fast lane whose record comes in parts is not woken for less than what is missing; what is short and
/// comes behind the record is seen at once.
#[test]
fn a_record_that_comes_in_parts_holds_up_nothing_behind_it() {
    let mut node = Node::start(node_id(1, 0), 1);
    let (mut peer, handover) = Peer::make(node_id(2, 0), COLLAPSED, |_near, _far| {});
    let near = handover.socket.try_clone().unwrap();
    node.tell_link(peer.id, handed_over(handover));
    node.hear_up(peer.id, LaneId(0));
    peer.greet();
    peer.round_trip();

    let (kind, class) = (FrameKind::LinkControl, TrafficClass::Control);
    let (mut asleep, until) = (0, Instant::now() + PATIENCE);
    while asleep < 3 {
        assert!(Instant::now() < until, "it was woken for each packet");
        // Two megabytes a second.
        let (begun, mut sent) = (Instant::now(), 0);
        while begun.elapsed() < Duration::from_millis(250) {
            if sent * 500 < begun.elapsed().as_micros() {
                peer.send(kind, class, &[&BODY]);
                sent += u128::try_from(BODY.len()).unwrap() / 1000;
            }
            std::thread::yield_now();
        }
        for _ in 0..5 {
            peer.round_trip();
            let before = read_bytes(&mut node);
            peer.session.send_message(&frame(kind, class, &[&BODY])).unwrap();
            let unsent = peer.session.take_unsent();
            let (first, rest) = unsent.split_at(6000);
            let (more, rest) = rest.split_at(100);
            peer.socket.write_all(first).unwrap();
            await_read(&mut node, before + 6000);
            peer.socket.write_all(more).unwrap();
            // The shard has a turn in which it could read them.
            read_bytes(&mut node);
            asleep += u32::from(is_asleep_on(&near, 100));
            peer.socket.write_all(rest).unwrap();
            peer.round_trip();
        }
    }
    drop(peer);
    node.stop();
}
