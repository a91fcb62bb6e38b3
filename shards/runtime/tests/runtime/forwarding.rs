//! Routed frames of other nodes, as a relay treats them.

use bytes::Bytes;
use hawser_exchange::{ControlToShard, ShardToControl};
use hawser_link::LinkConfig;
use hawser_wire::{
    AdjacencyIndex, BootEpoch, CloseReason, DATAGRAM_BYTES_MAX, FrameHeader, FrameKind, LaneId,
    LinkEpoch, LinkSequence, NodeId, Notice, NoticeLimit, NoticeReason, PathId, ProducerId, Record,
    RouteHeader, StreamHeader, StreamId, StreamOffset, StreamSync, TenantId, TrafficClass,
};

use crate::node::{Node, node_id, patient, stream_id};
use crate::peer::{COLLAPSED, Frame, Peer};

const BULK: TrafficClass = TrafficClass::Bulk;
/// What the far source calls its path.
const PATH: PathId = PathId(77);
/// The relay's adjacencies: to the neighbour that the frames come from, and to the other one.
const BACK: u32 = 4;
const ON: u32 = 5;

/// A relay between two neighbours whose links are at the shards that are said.
struct Relay {
    node: Node,
    source: Peer,
    far: Peer,
}

impl Relay {
    fn new(shards: u16, source: u16, far: u16) -> Self {
        let mut node = Node::start(node_id(1, 0), shards);
        let (id_source, id_far) = (node_id(2, source), node_id(3, far));
        let source = Peer::open(&mut node, id_source, COLLAPSED);
        let far = Peer::open(&mut node, id_far, COLLAPSED);
        node.route(
            &[(id_source, &[BACK]), (id_far, &[ON])],
            &[(BACK, id_source), (ON, id_far), (9, node_id(9, 0))],
        );
        let mut relay = Self { node, source, far };
        // A heartbeat behind the bell: the routes are known from now on.
        relay.source.round_trip();
        relay.far.round_trip();
        relay
    }

    /// A record from the source's neighbour as it comes in: its first hop is behind it.
    fn send(&mut self, destination: NodeId, hops: &[u32]) -> Vec<u8> {
        self.send_as(BULK, destination, hops)
    }

    /// Likewise, of a class.
    fn send_as(&mut self, class: TrafficClass, destination: NodeId, hops: &[u32]) -> Vec<u8> {
        let body = [arrived(self.source.id, destination, hops), record()].concat();
        self.source.send(FrameKind::Record, class, &[&body]);
        body
    }

    fn expect_notice(&mut self, reason: NoticeReason, destination: NodeId) {
        self.expect_refusal(reason, destination, None);
    }

    fn expect_refusal(
        &mut self,
        reason: NoticeReason,
        destination: NodeId,
        limit: Option<NoticeLimit>,
    ) {
        let notice = self.source.expect(FrameKind::Notice);
        assert_eq!(notice.header.class, TrafficClass::Control);
        let (route, body) = RouteHeader::decode(&notice.body).unwrap();
        assert_eq!((route.source, route.destination), (self.node.local, self.source.id));
        let at = self.node.local;
        let notice = Notice::decode(body).unwrap();
        let refusal = notice.refusal.inspect(|refusal| {
            assert_eq!(refusal.class, BULK);
            assert!((1..=1000).contains(&refusal.retry_after_ms));
        });
        // One stream that fills a queue alone has the quota of a stream against it.
        let is_full = reason == NoticeReason::Congested;
        let limit = if is_full { Some(NoticeLimit::Stream) } else { limit };
        assert_eq!(refusal.map(|refusal| refusal.limit), limit);
        let lane = refusal.and_then(|refusal| refusal.lane);
        assert_eq!(lane, is_full.then_some(LaneId(0)), "it has that lane alone");
        let expected = Notice { path: PATH, reason, at, destination, stream: stream(), refusal };
        assert_eq!(notice, expected);
    }

    fn stop(mut self) {
        assert!(self.node.unasked().is_empty(), "{:?}", self.node.unasked());
        self.source.round_trip();
        self.node.stop();
    }
}

fn stream() -> StreamId {
    stream_id(0x60, 0)
}

fn record() -> Vec<u8> {
    record_of(stream())
}

fn record_of(stream: StreamId) -> Vec<u8> {
    let header = StreamHeader {
        tenant: TenantId::from_bytes([1; 16]),
        stream,
        producer: ProducerId(1),
        producer_base: 1,
        stream_base: StreamOffset(0),
        count: 1,
        born_epoch: BootEpoch(1),
        fence_epoch: BootEpoch(1),
        chunk_index: 0,
        chunk_count: 1,
        checksum: 0,
    };
    let payload = Bytes::from(vec![0x42; 5000]);
    let mut lengths = Vec::new();
    hawser_wire::put_varint(&mut lengths, 5000);
    Record::new(header, lengths.into(), payload).to_bytes()
}

/// The route header of a frame that has taken the first of its hops.
fn arrived(source: NodeId, destination: NodeId, hops: &[u32]) -> Vec<u8> {
    let hops: Vec<AdjacencyIndex> = hops.iter().copied().map(AdjacencyIndex).collect();
    let mut header = Vec::new();
    RouteHeader::encode(&mut header, source, destination, PATH, &hops).unwrap();
    let (fixed, rest) = RouteHeader::split_advanced(&header).unwrap();
    [&fixed[..], rest].concat()
}

/// Any frame that is not about the lane itself.
fn routed(frame: &Frame) -> bool {
    frame.header.kind.is_routed()
}

#[test]
fn a_record_is_sent_on_in_its_class_with_its_cursor_moved_and_nothing_else() {
    for (shards, source, far) in [(1, 0, 0), (2, 0, 1), (2, 1, 0)] {
        let mut relay = Relay::new(shards, source, far);
        let (far, on) = (relay.far.id, node_id(8, 0));
        for (class, destination, hops) in [
            (BULK, far, &[1, ON][..]),
            (BULK, on, &[1, ON, 300_000]),
            (TrafficClass::Priority, far, &[1, ON]),
        ] {
            let body = relay.send_as(class, destination, hops);
            let frame = relay.far.expect(FrameKind::Record);
            assert_eq!(frame.header.class, class);
            assert!(frame.header.link_sequence > LinkSequence(0));
            let (before, rest) = RouteHeader::decode(&body).unwrap();
            let (after, sent) = RouteHeader::decode(&frame.body).unwrap();
            assert_eq!((after.cursor, after.ttl), (before.cursor + 1, before.ttl - 1));
            assert_eq!((after.source, after.destination), (before.source, before.destination));
            assert_eq!((after.path, after.hop_count), (before.path, before.hop_count));
            assert_eq!(sent, rest);
        }
        relay.stop();
    }
}

#[test]
fn the_source_is_told_of_an_adjacency_that_nobody_knows() {
    let mut relay = Relay::new(1, 0, 0);
    relay.send(node_id(8, 0), &[1, 99]);
    relay.expect_notice(NoticeReason::NoAdjacency, node_id(8, 0));
    relay.stop();
}

#[test]
fn the_source_is_told_of_a_link_that_is_down_at_whichever_shard() {
    for shards in [1, 2] {
        // The neighbour with the index 9 has its link at shard 0, and no lane.
        let mut relay = Relay::new(shards, shards - 1, 0);
        relay.send(node_id(9, 0), &[1, 9]);
        let limit = Some(NoticeLimit::NoLane);
        relay.expect_refusal(NoticeReason::NoAdjacency, node_id(9, 0), limit);
        relay.stop();
    }
}

#[test]
fn the_source_is_told_of_a_frame_that_took_too_many_hops() {
    let mut relay = Relay::new(1, 0, 0);
    let mut body = [arrived(relay.source.id, relay.far.id, &[1, ON]), record()].concat();
    let (route, _) = RouteHeader::decode(&body).unwrap();
    assert_eq!(body[RouteHeader::FIXED_LEN - 1], route.ttl, "the last byte before the list");
    body[RouteHeader::FIXED_LEN - 1] = 0;
    relay.source.send(FrameKind::Record, BULK, &[&body]);
    relay.expect_notice(NoticeReason::HopsExceeded, relay.far.id);
    relay.stop();
}

#[test]
fn the_source_is_told_of_a_list_that_ends_at_the_wrong_node() {
    let mut relay = Relay::new(1, 0, 0);
    relay.send(relay.far.id, &[1]);
    relay.expect_notice(NoticeReason::NotForThisNode, relay.far.id);
    relay.stop();
}

#[test]
fn nothing_is_said_about_frames_that_repeat_themselves_or_to_who_cannot_be_reached() {
    let mut relay = Relay::new(1, 0, 0);
    let header = arrived(relay.source.id, node_id(8, 0), &[1, 99]);
    for kind in [FrameKind::Datagram, FrameKind::StreamAck, FrameKind::StreamSync] {
        relay.source.send(kind, TrafficClass::Control, &[&header, &[0; 200]]);
    }
    let stranger = [arrived(node_id(7, 0), node_id(8, 0), &[1, 99]), record()].concat();
    relay.source.send(FrameKind::Record, BULK, &[&stranger]);
    // The next record is answered, and nothing before it was.
    relay.send(node_id(8, 0), &[1, 99]);
    relay.expect_notice(NoticeReason::NoAdjacency, node_id(8, 0));
    relay.source.socket.shutdown(std::net::Shutdown::Write).unwrap();
    let rest = relay.source.until_over();
    assert!(!rest.iter().any(routed), "{rest:?}");
    relay.node.stop();
}

/// It says that they come from the far neighbour, which is told of each, and whose link is not theirs.
#[test]
fn what_a_neighbour_makes_a_relay_say_is_not_before_what_that_says_by_itself() {
    const MANY: usize = 20_000;
    let mut relay = Relay::new(1, 0, 0);
    let far = relay.far.id;
    let lost = [arrived(far, node_id(8, 0), &[1, 99]), record()].concat();
    let sync = StreamSync {
        stream: stream_id(0x62, 0),
        fence_epoch: BootEpoch(1),
        base: None,
        end: None,
        producers: Vec::new(),
    };
    let mut unknown = arrived(far, relay.node.local, &[1]);
    sync.encode(&mut unknown);
    for _ in 0..MANY {
        relay.source.send(FrameKind::Record, BULK, &[&lost]);
        relay.source.send(FrameKind::StreamSync, TrafficClass::Control, &[&unknown]);
    }
    relay.source.round_trip();
    let body = Bytes::from_static(b"own");
    relay.node.tell_link(far, ControlToShard::LinkControl { peer: far, body });
    let before = std::iter::from_fn(|| relay.far.next())
        .take_while(|frame| frame.header.kind != FrameKind::LinkControl)
        .filter(routed)
        .count();
    assert!((1..MANY / 4).contains(&before), "{before} notices and answers");
    relay.node.stop();
}

#[test]
fn a_full_queue_drops_and_the_source_is_told_while_others_pass() {
    const MAX: u64 = 1 << 20;
    let mut node = Node::start_with(node_id(1, 0), 1, |config| {
        config.link = LinkConfig { data_bytes_max: MAX as usize, ..patient() };
    });
    let (id_source, id_slow, id_far) = (node_id(2, 0), node_id(3, 0), node_id(4, 0));
    let source = Peer::open(&mut node, id_source, COLLAPSED);
    let slow = Peer::open(&mut node, id_slow, COLLAPSED);
    let mut far = Peer::open(&mut node, id_far, COLLAPSED);
    node.route(&[(id_source, &[BACK])], &[(BACK, id_source), (ON, id_slow), (6, id_far)]);
    far.round_trip();
    let mut relay = Relay { node, source, far: slow };
    // Nobody acknowledges at the slow end: what may be in flight is, then its queue fills.
    let body = [arrived(id_source, id_slow, &[1, ON]), record()].concat();
    for _ in 0..4000 {
        relay.source.send(FrameKind::Record, BULK, &[&body]);
    }
    relay.expect_notice(NoticeReason::Congested, id_slow);
    let body = [arrived(id_source, id_far, &[1, 6]), record()].concat();
    relay.source.send(FrameKind::Record, BULK, &[&body]);
    far.expect(FrameKind::Record);
    let report = relay.node.report(hawser_wire::ShardId(0));
    let link = report.links.iter().find(|link| link.peer == id_slow).unwrap();
    assert!(link.dropped_frames > 0, "{link:?}");
    // One stream alone gets a third of the queue, to a frame, and the frame whose turn it is.
    let len = (FrameHeader::LEN + body.len()) as u64;
    assert!((MAX / 3 - len..=MAX / 3 + len).contains(&link.queued_bytes), "{link:?}");
    // Another one, which is not to blame, has a place beside it.
    let route = arrived(id_source, id_slow, &[1, ON]);
    let other = [route, record_of(stream_id(0x61, 0))].concat();
    relay.source.send(FrameKind::Record, BULK, &[&other]);
    relay.source.round_trip();
    let report = relay.node.report(hawser_wire::ShardId(0));
    let after = report.links.iter().find(|link| link.peer == id_slow).unwrap();
    assert_eq!(after.queued_bytes, link.queued_bytes + len, "{after:?}");
    assert_eq!(after.dropped_frames, link.dropped_frames, "{after:?}");
    // What was taken arrives once somebody reads.
    let taken = 4000 - link.dropped_frames + 1;
    for _ in 0..taken {
        relay.far.expect(FrameKind::Record);
    }
    relay.node.stop();
}

#[test]
fn datagrams_above_their_bound_go_nowhere_and_cost_nobody_a_lane() {
    let mut relay = Relay::new(1, 0, 0);
    let (local, far) = (relay.node.local, relay.far.id);
    for len in [DATAGRAM_BYTES_MAX + 1, DATAGRAM_BYTES_MAX] {
        for (to, hops) in [(local, &[1][..]), (far, &[1, ON])] {
            let header = arrived(relay.source.id, to, hops);
            let parts = [header.as_slice(), &vec![0; len]];
            relay.source.send(FrameKind::Datagram, TrafficClass::Control, &parts);
        }
    }
    let here = relay.node.hear("datagram", |message| match message {
        ShardToControl::Datagram { body, .. } => Some(body.len()),
        _ => None,
    });
    let frame = relay.far.expect(FrameKind::Datagram);
    let (_, there) = RouteHeader::decode(&frame.body).unwrap();
    assert_eq!((here, there.len()), (DATAGRAM_BYTES_MAX, DATAGRAM_BYTES_MAX));
    relay.stop();
}

#[test]
fn control_frames_above_what_any_neighbour_may_send_on_cost_it_the_lane() {
    let mut relay = Relay::new(1, 0, 0);
    let max = LinkConfig::default().control_frame_bytes_max;
    let header = arrived(relay.source.id, relay.far.id, &[1, ON]);
    for kind in [FrameKind::Datagram, FrameKind::StreamAck] {
        let body = vec![0; max - header.len()];
        relay.source.send(kind, TrafficClass::Control, &[&header, &body]);
    }
    relay.source.round_trip();
    // The datagram is too large for one; the other goes on, as a relay does not look into it.
    assert_eq!(relay.far.expect(FrameKind::StreamAck).body.len(), max);
    let body = vec![0; max - header.len() + 1];
    relay.source.send(FrameKind::Datagram, TrafficClass::Control, &[&header, &body]);
    let close = relay.source.expect_close();
    assert_eq!(close.reason, CloseReason::ControlTooLarge);
    assert!(close.detail.contains(&format!("{} bytes", max + 1)), "{close:?}");
    relay.node.hear_down(relay.source.id, LaneId(0), LinkEpoch(1));
    relay.far.round_trip();
    relay.node.stop();
}

#[test]
fn datagrams_reach_the_control_threads_of_both_ends() {
    for shards in [1, 2] {
        let mut relay = Relay::new(shards, 0, shards - 1);
        let local = relay.node.local;
        let header = arrived(relay.source.id, local, &[1]);
        relay.source.send(FrameKind::Datagram, TrafficClass::Control, &[&header, b"hello"]);
        let (from, body) = relay.node.hear("datagram", |message| match message {
            ShardToControl::Datagram { from, via, body } => {
                assert_eq!(*via, relay.source.id);
                Some((*from, body.to_vec()))
            }
            _ => None,
        });
        assert_eq!((from, body), (relay.source.id, b"hello".to_vec()));

        let to = relay.far.id;
        let datagram = ControlToShard::Datagram { to, body: b"and back".to_vec().into() };
        // Whichever shard is asked.
        relay.node.tell(hawser_wire::ShardId(0), datagram);
        let frame = relay.far.expect(FrameKind::Datagram);
        let (route, body) = RouteHeader::decode(&frame.body).unwrap();
        assert_eq!((route.source, route.destination, body), (local, to, &b"and back"[..]));
        relay.stop();
    }
}
