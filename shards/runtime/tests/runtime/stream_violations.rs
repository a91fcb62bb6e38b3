//! What an end of a stream may not do costs it that stream, by name, and other streams nothing.

use hawser_exchange::{
    ControlToShard, DestinationSpec, Refusal, ShardToControl, SourceSpec, StreamRefusedReport,
    StreamSpec,
};
use hawser_wire::{
    AdjacencyIndex, BootEpoch, FrameKind, NodeId, PathId, ProducerId, RecordBuilder, RouteHeader,
    StreamAck, StreamId, StreamOffset, StreamRefusal, StreamSync, TenantId, TrafficClass,
    put_varint,
};

use crate::application::Application;
use crate::node::{Node, node_id, stream_id};
use crate::peer::{COLLAPSED, Peer, connect};
use crate::streams::{carries, open};

const TENANT: TenantId = TenantId::from_bytes([9; 16]);
/// What the peer calls its link to the node.
const TO_NODE: u32 = 1;
/// What the node calls its link to the peer.
const TO_PEER: u32 = 7;

/// A node with a stream from a good neighbour and a lane to a peer in the hands of the test.
struct Scene {
    node: Node,
    good: Node,
    peer: Peer,
    /// At the node.
    application: Application,
}

impl Scene {
    fn start() -> Self {
        let mut node = Node::start(node_id(1, 0), 1);
        let mut good = Node::start(node_id(2, 0), 1);
        connect(&mut good, &mut node, COLLAPSED);
        let peer = Peer::open(&mut node, node_id(3, 0), COLLAPSED);
        let neighbours = [(5, good.local), (TO_PEER, peer.id)];
        node.route(&[(good.local, &[5]), (peer.id, &[TO_PEER])], &neighbours);
        good.route(&[(node.local, &[6])], &[(6, node.local)]);
        let application = Application::of(&mut node);
        Self { node, good, peer, application }
    }

    /// A frame of the peer for the node.
    fn send(&mut self, kind: FrameKind, class: TrafficClass, body: &[u8]) {
        let (from, to) = (self.peer.id, self.node.local);
        let mut route = Vec::new();
        RouteHeader::encode(&mut route, from, to, PathId(1), &[AdjacencyIndex(TO_NODE)]).unwrap();
        let (fixed, rest) = RouteHeader::split_advanced(&route).unwrap();
        self.peer.send(kind, class, &[&fixed, rest, body]);
    }

    /// What the node says of a stream to the peer that is its source.
    fn expect_ack(&mut self) -> StreamAck {
        let frame = self.peer.expect(FrameKind::StreamAck);
        let (_, body) = RouteHeader::decode(&frame.body).unwrap();
        StreamAck::decode(body).unwrap()
    }

    /// The operator is told of it, and a stream from another node goes on.
    fn assert_refused(mut self, stream: StreamId, reason: StreamRefusal, detail: &str) {
        let report = hear_refused(&mut self.node);
        let told = (report.stream, report.peer, report.reason, report.times);
        assert_eq!(told, (stream, self.peer.id, reason, 1));
        assert!(report.detail.as_ref().is_some_and(|text| text.contains(detail)), "{report:?}");
        let other = stream_id(0x71, 0);
        open(&mut self.good, &mut self.node, other);
        let mut publisher = Application::of(&mut self.good);
        let mut publishing = publisher.open_publish(other, 11);
        let mut subscribed = self.application.subscribe(other, "reader");
        carries(&mut publisher, &mut publishing, &mut self.application, &mut subscribed, 1000);
        self.peer.round_trip();
        self.node.stop();
        self.good.stop();
    }
}

fn hear_refused(node: &mut Node) -> StreamRefusedReport {
    node.hear("stream refused", |message| match message {
        ShardToControl::StreamRefused(report) => Some((**report).clone()),
        _ => None,
    })
}

fn spec(stream: StreamId) -> StreamSpec {
    let epoch = BootEpoch(1);
    StreamSpec { stream, tenant: TENANT, epoch, source: None, destination: None }
}

#[test]
fn a_source_that_sends_more_than_was_granted() {
    let mut scene = Scene::start();
    let stream = stream_id(0x70, 0);
    let (source, consumers) = (scene.peer.id, Vec::new());
    let destination = Some(DestinationSpec { source, consumers, restored: false });
    let hosted = StreamSpec { destination, ..spec(stream) };
    scene.node.tell_host(stream, ControlToShard::OpenStream(Box::new(hosted)));
    let (fence_epoch, base) = (BootEpoch(1), Some(StreamOffset(0)));
    let mut sync = Vec::new();
    StreamSync { stream, fence_epoch, base, end: None, producers: Vec::new() }.encode(&mut sync);
    scene.send(FrameKind::StreamSync, TrafficClass::Control, &sync);
    let granted = scene.expect_ack().credit_bytes;

    // Nobody takes them, so that nothing more is granted.
    let builder = RecordBuilder::new(TENANT, stream, BootEpoch(1));
    let (mut lengths, mut sent, mut count) = (Vec::new(), 0, 0);
    put_varint(&mut lengths, 60_000_u32);
    while sent <= granted {
        let (base, payload) = (StreamOffset(count), vec![7; 60_000].into());
        let lengths = lengths.clone().into();
        let record = builder.record(ProducerId(1), count + 1, base, 1, lengths, payload);
        scene.send(FrameKind::Record, TrafficClass::Bulk, &record.to_bytes());
        (sent, count) = (sent + record.charge_bytes(), count + 1);
    }
    let (base, payload) = (StreamOffset(count), vec![7; 60_000].into());
    let record = builder.record(ProducerId(1), count + 1, base, 1, lengths.into(), payload);
    scene.send(FrameKind::Record, TrafficClass::Bulk, &record.to_bytes());
    let refusal = std::iter::repeat_with(|| scene.expect_ack())
        .find(|ack| ack.refused.is_some())
        .expect("it says so");
    assert_eq!(refusal.refused, Some(StreamRefusal::CreditOverrun));
    assert_eq!(refusal.received, StreamOffset(count), "what was granted was taken");
    let mut subscribed = scene.application.subscribe(stream, "reader");
    let received = scene.application.receive(&mut subscribed, count as usize);
    assert!(received.iter().all(|message| message.len() == 60_000), "and is delivered");
    scene.assert_refused(stream, StreamRefusal::CreditOverrun, &format!("{granted} are granted"));
}

/// The node has a stream to the peer, which does `bad` when it was told of it.
fn destination_refused(bad: impl Fn(StreamAck) -> Vec<StreamAck>, reason: StreamRefusal) {
    let mut scene = Scene::start();
    let stream = stream_id(0x70, 0);
    let source = Some(SourceSpec {
        destinations: vec![scene.peer.id],
        fresh: true,
        closing: false,
        striped: false,
        class: TrafficClass::Bulk,
    });
    let hosted = StreamSpec { source, ..spec(stream) };
    scene.node.tell_host(stream, ControlToShard::OpenStream(Box::new(hosted)));
    let mut publishing = scene.application.open_publish(stream, 1);
    scene.peer.expect(FrameKind::StreamSync);
    let ack = StreamAck {
        credit_bytes: 1 << 20,
        unknown: false,
        ..StreamAck::unknown(stream, BootEpoch(1), BootEpoch(1))
    };
    say(&mut scene, &ack);
    scene.application.publish(&mut publishing, &[vec![1; 100]]);
    scene.peer.expect(FrameKind::Record);
    for ack in bad(ack) {
        say(&mut scene, &ack);
    }
    let node = scene.peer.id;
    let told = Refusal::StreamRefused { node, reason };
    assert_eq!(scene.application.hear_refused(publishing.session), told);
    let again = scene.application.ask_publish(stream, 2);
    assert_eq!(scene.application.hear_refused(again), told, "as is who comes later");
    scene.assert_refused(stream, reason, "");
}

fn say(scene: &mut Scene, ack: &StreamAck) {
    let mut body = Vec::new();
    ack.encode(&mut body);
    scene.send(FrameKind::StreamAck, TrafficClass::Control, &body);
}

#[test]
fn a_destination_that_acknowledges_what_was_not_sent() {
    let far = StreamOffset(2);
    let bad = |ack| vec![StreamAck { received: far, seen: far, consumed: far, ..ack }];
    destination_refused(bad, StreamRefusal::AckAhead);
}

#[test]
fn a_destination_that_takes_a_grant_back() {
    let first = StreamOffset(1);
    let bad = |ack: StreamAck| {
        let lower = StreamAck { credit_bytes: 1 << 19, ..ack };
        // One that may only be late does no harm.
        vec![lower.clone(), StreamAck { received: first, seen: first, ..lower }]
    };
    destination_refused(bad, StreamRefusal::CreditReturned);
}

#[test]
fn a_source_that_is_told_that_it_is_refused() {
    let mut scene = Scene::start();
    let stream = stream_id(0x70, 0);
    let destinations: Vec<NodeId> = vec![scene.peer.id];
    let (fresh, closing, striped, class) = (true, false, false, TrafficClass::Bulk);
    let source = Some(SourceSpec { destinations, fresh, closing, striped, class });
    let hosted = StreamSpec { source, ..spec(stream) };
    scene.node.tell_host(stream, ControlToShard::OpenStream(Box::new(hosted)));
    let publishing = scene.application.open_publish(stream, 1);
    scene.peer.expect(FrameKind::StreamSync);
    let refused = Some(StreamRefusal::SequenceJump);
    let unknown = StreamAck::unknown(stream, BootEpoch(1), BootEpoch(1));
    say(&mut scene, &StreamAck { unknown: false, refused, ..unknown });
    let (node, reason) = (scene.peer.id, StreamRefusal::SequenceJump);
    let told = Refusal::StreamRefused { node, reason };
    assert_eq!(scene.application.hear_refused(publishing.session), told);
    let report = hear_refused(&mut scene.node);
    assert_eq!((report.peer, report.reason, report.detail), (node, reason, None));
    scene.node.stop();
    scene.good.stop();
}
