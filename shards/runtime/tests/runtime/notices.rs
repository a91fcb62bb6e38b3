//! What a node on the way had no place for is told at the stream's source.

use hawser_exchange::{ControlToShard, SourceSpec, StreamSpec};
use hawser_wire::{
    AdjacencyIndex, BootEpoch, FrameKind, LaneId, Notice, NoticeLimit, NoticeReason, NoticeRefusal,
    PathId, RouteHeader, TenantId, TrafficClass,
};

use crate::application::Application;
use crate::node::{Node, node_id, stream_id};
use crate::peer::{COLLAPSED, Peer};

const TENANT: TenantId = TenantId::from_bytes([9; 16]);
/// What the node calls its link to the peer, and that its link to the node.
const LINK: AdjacencyIndex = AdjacencyIndex(7);

#[test]
fn a_refusal_on_the_way_names_hop_lane_tenant_bound_and_when_to_try_again() {
    let mut node = Node::start(node_id(1, 0), 1);
    let mut peer = Peer::open(&mut node, node_id(3, 0), COLLAPSED);
    // The relay behind it has no place for what goes to the destination.
    let (relay, far) = (node_id(4, 0), node_id(5, 0));
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
    let _publishing = application.open_publish(stream, 1);
    let sync = peer.expect(FrameKind::StreamSync);
    let (route, _) = RouteHeader::decode(&sync.body).unwrap();
    let path = route.path;

    let mut back = Vec::new();
    RouteHeader::encode(&mut back, relay, node.local, PathId(1), &[LINK]).unwrap();
    let (fixed, rest) = RouteHeader::split_advanced(&back).unwrap();
    let mut body = [&fixed[..], rest].concat();
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
