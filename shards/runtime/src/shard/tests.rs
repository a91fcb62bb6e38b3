use std::net::TcpStream;
use std::num::NonZeroU64;

use bytes::Bytes;
use hawser_exchange::{ControlPorts, Exchange, RoutedFrame, ShardPeerPort, exchange};
use hawser_wire::ShardId;

use super::*;
use crate::dispatch::{Sent, flow_of};

const NOW: MonoTime = MonoTime::ZERO;

/// Has no lanes.
#[derive(Debug)]
struct NoIo;

impl ShardIo for NoIo {
    fn open(&mut self, _: LaneKey, _: TcpStream) -> std::io::Result<()> {
        Ok(())
    }

    fn set_congestion_control(&mut self, _: LaneKey, _: &str) {}

    fn read(&mut self, _: LaneKey, _: Vec<u8>, _: usize) {}

    fn wake_for_any(&mut self, _: LaneKey) {}

    fn write(&mut self, _: LaneKey, _: Vec<u8>) {}

    fn finish(&mut self, _: LaneKey) {}

    fn close(&mut self, _: LaneKey) {}

    fn poll_completion(&mut self) -> Option<Completion> {
        None
    }
}

fn node(tag: u8) -> NodeId {
    NodeId::from_bytes([tag; 16])
}

/// A neighbour whose link is at the second of two shards.
fn neighbour() -> NodeId {
    (2..u8::MAX).map(node).find(|&peer| ShardId::of_peer(peer, 2) == ShardId(1)).unwrap()
}

/// The first of so many shards, what the control thread has, and the others' rings with it.
fn shard(count: u16) -> (Shard<NoIo>, ControlPorts<LaneSession>, Vec<ShardPeerPort>) {
    let Exchange { mut shards, control, .. } = exchange::<LaneSession>(count, 0);
    let others = shards.split_off(1);
    let first = shards.pop().unwrap();
    let shard = Shard::new(first, &ShardConfig::new(node(1)), NoIo);
    let rings = others.into_iter().map(|mut other| other.peers.swap_remove(0).unwrap());
    (shard, control, rings.collect())
}

fn frame(class: TrafficClass) -> RoutedFrame {
    let (kind, flags) = (FrameKind::Record, FrameFlags::default());
    RoutedFrame { kind, class, flags, via: None, body: Bytes::from_static(b"frame") }
}

fn push(shard: &mut Shard<NoIo>, class: TrafficClass) -> Sent {
    let (kind, flags) = (FrameKind::Record, FrameFlags::default());
    let (origin, flow) = (Origin::Own, Flow::default());
    let frame = Outgoing { kind, class, origin, flow, flags, via: None };
    let body = FrameParts::of(&[b"frame"]);
    shard.forwarder.push_plain(neighbour(), frame, &[b"", b""], body)
}

#[test]
fn control_is_known_by_who_has_brought_it_on_another_shard_too() {
    let (kind, rest) = (FrameKind::StreamAck, b"ack".as_slice());
    let via = |tag| NonZeroU64::new(tag);
    let flow = |tag, source| flow_of(kind, via(tag), node(source), rest);
    assert_ne!(flow(1, 7).tenant, flow(2, 7).tenant, "two neighbours");
    assert_eq!(flow(1, 7).tenant, flow(1, 8).tenant, "whatever they say");
    assert_ne!(flow(1, 7).stream, flow(1, 8).stream, "two sources of one neighbour");

    let (mut shard, _control, mut others) = shard(2);
    for brought in [via(5), None] {
        let (class, flags) = (TrafficClass::Control, FrameFlags::default());
        let (origin, flow) = (Origin::Foreign, Flow::default());
        let frame = Outgoing { kind, class, origin, flow, flags, via: brought };
        let parts = [rest];
        let body = FrameParts::of(&parts);
        let sent = shard.forwarder.push_plain(neighbour(), frame, &[b"", b""], body);
        assert_eq!(sent, Sent::Queued);
        shard.turn(NOW);
        let Some(ShardToShard::Egress { frame, .. }) = others[0].control_from.try_recv() else {
            panic!("nothing came");
        };
        assert_eq!(frame.via, brought);
    }
}

fn class_of(message: &ShardToShard) -> TrafficClass {
    match message {
        ShardToShard::Egress { frame, .. } | ShardToShard::Ingress { frame } => frame.class,
        ShardToShard::Link { .. } => TrafficClass::Control,
    }
}

#[test]
fn a_ring_full_of_bulk_is_in_nobody_elses_way() {
    use TrafficClass::{Bulk, Control, Priority};
    let (mut shard, _control, mut others) = shard(2);
    let second = &mut others[0];
    let (mut taken, stream) = (0, hawser_wire::StreamId::from_bytes([3; 16]));
    while push(&mut shard, Bulk) == Sent::Queued {
        taken += 1;
        assert!(taken < 10_000, "the ring is bounded");
    }
    let room = |shard: &mut Shard<NoIo>, class| {
        let forwarder = &mut shard.forwarder;
        let has_room = forwarder.has_room(neighbour(), class, stream);
        assert_eq!(has_room, !forwarder.is_full(neighbour(), class));
        has_room
    };
    assert!(!room(&mut shard, Bulk));
    assert!(room(&mut shard, Priority));
    assert_eq!(push(&mut shard, Priority), Sent::Queued);
    assert_eq!(push(&mut shard, Control), Sent::Queued);
    shard.turn(NOW);
    assert_eq!(second.priority_from.try_recv().as_ref().map(class_of), Some(Priority));
    let control = std::iter::from_fn(|| second.control_from.try_recv());
    assert!(control.map(|message| class_of(&message)).eq([Control]));
    let bulk = std::iter::from_fn(|| second.data_from.try_recv());
    assert!(bulk.map(|message| class_of(&message)).all(|class| class == Bulk));

    // And the other way round.
    shard.turn(NOW);
    while push(&mut shard, Priority) == Sent::Queued {}
    assert!(!room(&mut shard, Priority));
    assert!(room(&mut shard, Bulk));
}

#[test]
fn room_in_a_ring_that_was_full_is_reason_for_another_turn() {
    let (mut shard, _control, mut others) = shard(2);
    let second = &mut others[0];
    shard.turn(NOW);
    assert!(!shard.turn(NOW), "there is nothing to do");
    for class in [TrafficClass::Bulk, TrafficClass::Priority] {
        while push(&mut shard, class) == Sent::Queued {}
        shard.turn(NOW);
        assert!(!shard.has_work() && !shard.turn(NOW), "who waits for room waits");
        let ring = match class {
            TrafficClass::Bulk => &mut second.data_from,
            _ => &mut second.priority_from,
        };
        assert!(ring.try_recv().is_some());
        assert!(shard.has_work());
        assert!(shard.turn(NOW), "streams that found no room may send in the next turn");
        assert!(!shard.turn(NOW));
    }
}

#[test]
fn what_is_urgent_is_taken_first_from_all_shards() {
    use TrafficClass::{Bulk, Control, Priority};
    let (mut shard, _control, mut others) = shard(3);
    for port in &mut others {
        for _ in 0..RING_BATCH_MAX {
            port.data_to.try_send(ShardToShard::Ingress { frame: frame(Bulk) }).unwrap();
        }
        port.priority_to.try_send(ShardToShard::Ingress { frame: frame(Priority) }).unwrap();
        port.control_to.try_send(ShardToShard::Ingress { frame: frame(Control) }).unwrap();
    }
    assert!(shard.has_work());
    let classes: Vec<TrafficClass> = shard.collect_peers().iter().map(class_of).collect();
    assert_eq!(classes[..4], [Control, Control, Priority, Priority]);
    assert_eq!(classes.len(), 4 + 2 * RING_BATCH_MAX);
    assert!(!shard.has_work());
    others[0].priority_to.try_send(ShardToShard::Ingress { frame: frame(Priority) }).unwrap();
    assert!(shard.has_work());
}
