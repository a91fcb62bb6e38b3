//! What a node on the way had no place for is told at the stream's source.

use hawser_exchange::{ControlToShard, SourceSpec, StreamSpec};
use hawser_runtime::ShardConfig;
use hawser_wire::{
    AdjacencyIndex, BootEpoch, FrameKind, LaneId, NodeId, Notice, NoticeLimit, NoticeReason,
    NoticeRefusal, PathId, RecordView, RouteHeader, StreamAck, StreamId, StreamOffset, TenantId,
    TrafficClass,
};

use crate::application::{Application, Publishing};
use crate::node::{Node, node_id, stream_id};
use crate::peer::{COLLAPSED, Peer};

const TENANT: TenantId = TenantId::from_bytes([9; 16]);
/// What the node calls its link to the peer, and that its link to the node.
const LINK: AdjacencyIndex = AdjacencyIndex(7);

/// The stream of a node to a destination behind the peer.
struct Scene {
    node: Node,
    peer: Peer,
    application: Application,
    publishing: Publishing,
    stream: StreamId,
    far: NodeId,
    path: PathId,
}

fn scene(change: impl Fn(&mut ShardConfig)) -> Scene {
    let mut node = Node::start_with(node_id(1, 0), 1, change);
    let mut peer = Peer::open(&mut node, node_id(3, 0), COLLAPSED);
    let far = node_id(5, 0);
    node.route(&[(far, &[LINK.0, 8, 9])], &[(LINK.0, peer.id)]);
    let stream = stream_id(0x70, 0);
    let source = Some(SourceSpec {
        destinations: vec![far],
        fresh: true,
        closing: false,
        striped: false,
        class: TrafficClass::Bulk,
    });
    let (tenant, epoch, destination) = (TENANT, BootEpoch(1), None);
    let hosted = StreamSpec { stream, tenant, epoch, source, destination };
    node.tell_host(stream, ControlToShard::OpenStream(Box::new(hosted)));
    let mut application = Application::of(&mut node);
    let publishing = application.open_publish(stream, 1);
    let sync = peer.expect(FrameKind::StreamSync);
    let (route, _) = RouteHeader::decode(&sync.body).unwrap();
    let path = route.path;
    Scene { node, peer, application, publishing, stream, far, path }
}

/// The route from a node behind the peer.
fn back_from(node: NodeId, to: NodeId) -> Vec<u8> {
    let mut back = Vec::new();
    RouteHeader::encode(&mut back, node, to, PathId(1), &[LINK]).unwrap();
    let (fixed, rest) = RouteHeader::split_advanced(&back).unwrap();
    [&fixed[..], rest].concat()
}

/// A link that takes few frames before they are acknowledged: what it has no number for waits at its stream,
/// is not lost, and goes as soon as one is free.
#[test]
fn records_wait_for_link_sequences_and_none_is_refused() {
    let Scene { node, mut peer, mut application, mut publishing, stream, far, .. } =
        scene(|config| config.link.sequence_window = 8);
    let mut body = back_from(far, node.local);
    let start = StreamOffset(0);
    StreamAck {
        stream,
        fence_epoch: BootEpoch(1),
        receiver_epoch: BootEpoch(1),
        received: start,
        seen: start,
        consumed: start,
        origin: start,
        credit_bytes: 1 << 20,
        marked_bytes: 0,
        unknown: false,
        ended: false,
        forgot: false,
        producers: Vec::new(),
        refused: None,
    }
    .encode(&mut body);
    peer.send(FrameKind::StreamAck, TrafficClass::Control, &[&body]);
    peer.acknowledge();
    peer.round_trip();
    peer.acks = false;
    let mut expected = 0;
    let mut expect_next = |peer: &mut Peer| {
        let record = peer.expect(FrameKind::Record);
        let (_, behind) = RouteHeader::decode(&record.body).unwrap();
        let header = RecordView::decode(behind).unwrap().header;
        assert_eq!(header.stream_base, StreamOffset(expected));
        expected += u64::from(header.count);
    };
    for _ in 0..5 {
        // Of eight bulk leaves two, and one is never used.
        for _ in 0..5 {
            application.publish(&mut publishing, &[vec![7; 100]]);
            expect_next(&mut peer);
        }
        application.publish(&mut publishing, &[vec![7; 100]]);
        // One that came now would be passed over, and the next be another one.
        peer.round_trip();
        peer.acknowledge();
        expect_next(&mut peer);
        peer.acknowledge();
    }
    assert!(node.events(peer.id, "refused").is_empty());
    node.stop();
}

#[test]
fn a_refusal_on_the_way_names_hop_lane_tenant_bound_and_when_to_try_again() {
    let Scene { mut node, mut peer, stream, far, path, .. } = scene(|_| {});
    // The relay behind it has no place for what goes to the destination.
    let relay = node_id(4, 0);
    let mut body = back_from(relay, node.local);
    let (limit, class, retry_after_ms) = (NoticeLimit::Tenant, TrafficClass::Bulk, 40);
    let refusal = Some(NoticeRefusal { limit, class, lane: Some(LaneId(2)), retry_after_ms });
    let reason = NoticeReason::Congested;
    Notice { path, reason, at: relay, destination: far, stream, refusal }.encode(&mut body);
    peer.send(FrameKind::Notice, TrafficClass::Control, &[&body]);

    let told = node.hear_event(peer.id, "refused");
    for wanted in [
        ("at", relay.to_string()),
        ("lane", "2".to_owned()),
        ("tenant", TENANT.to_string()),
        ("limit", limit.name().to_owned()),
        ("class", "bulk".to_owned()),
        ("destination", far.to_string()),
        ("stream", stream.to_string()),
        ("records", "1".to_owned()),
        ("retry_after_ms", "40".to_owned()),
    ] {
        assert!(told.contains(&wanted), "{wanted:?} is missing: {told:?}");
    }
    node.stop();
}
