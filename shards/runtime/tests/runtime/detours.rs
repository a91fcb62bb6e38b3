//! Links that break or fall silent while another way is known: what is under way takes it at once,
//! nothing is lost, nothing comes twice or out of order.

use std::time::{Duration, Instant};

use hawser_exchange::{ControlToShard, MessageWay, ShardToControl};
use hawser_link::LinkConfig;
use hawser_runtime::ShardConfig;
use hawser_wire::{
    AdjacencyIndex, FrameKind, LaneId, LinkEpoch, NodeId, Notice, NoticeLimit, NoticeReason,
    PathId, REPAIRS_MAX, RouteHeader, ShardId, StreamId, StreamOffset, TrafficClass,
};

use crate::cable::Cable;
use crate::node::{Node, index_of, node_id, number_of, stream_id};
use crate::peer::{COLLAPSED, Peer, connect, connect_over};
use crate::recovery::{self, Flow};
use crate::wait::PATIENCE;

/// A ring of four: A and D, and two ways between them, the cheaper over B.
struct Ring {
    a: Node,
    b: Node,
    c: Node,
    d: Node,
    /// From A to B, and from B to D.
    cables: [Option<Cable>; 2],
}

/// Silence makes nobody suspicious: a busy machine makes many.
pub(crate) const DEAF: u32 = 600;

/// Some whole batches may always be in flight, no session ends, and nothing is sent again for its time.
/// A lane is passed by after so many silent ticks.
pub(crate) fn start(tag: u8, shards: u16, shard: u16, hedge_after_ticks: u32) -> Node {
    start_with(tag, shards, shard, hedge_after_ticks, |_| {})
}

/// As [`start`], with something else of its own.
pub(crate) fn start_with(
    tag: u8,
    shards: u16,
    shard: u16,
    hedge_after_ticks: u32,
    change: impl Fn(&mut ShardConfig),
) -> Node {
    Node::start_with(node_id(tag, shard), shards, |config| {
        config.link.quiet_after_ticks = hedge_after_ticks;
        config.link.hedge_after_ticks = hedge_after_ticks;
        config.link.session_timeout = Duration::from_secs(600);
        config.link.batch_bytes = 16 << 10;
        config.link.in_flight_floor_bytes = 256 << 10;
        config.delivery.resend_after = Duration::from_secs(600);
        change(config);
    })
}

impl Ring {
    /// With so many shards a node; links are at different ones if there are several.
    fn new(shards: u16, hedge_after_ticks: u32) -> Self {
        let start = |tag, shards, shard| start(tag, shards, shard, hedge_after_ticks);
        let mut a = start(1, shards, 0);
        let mut b = start(2, shards, 0);
        let mut c = start(3, shards, shards - 1);
        let mut d = start(4, shards, 0);
        let cables = [(); 2].map(|()| Cable::new());
        let [(to_b, ends_a), (to_d, ends_b)] = cables;
        connect_over(&mut a, &mut b, COLLAPSED, ends_a);
        connect_over(&mut b, &mut d, COLLAPSED, ends_b);
        connect(&mut a, &mut c, COLLAPSED);
        connect(&mut c, &mut d, COLLAPSED);
        let mesh = [
            (a.local, b.local, 100),
            (b.local, d.local, 100),
            (a.local, c.local, 1000),
            (c.local, d.local, 1000),
        ];
        for node in [&mut a, &mut b, &mut c, &mut d] {
            node.know_mesh(&mesh);
        }
        Self { a, b, c, d, cables: [Some(to_b), Some(to_d)] }
    }

    fn stop(self) {
        for node in [self.a, self.b, self.c, self.d] {
            node.stop();
        }
    }
}

/// Bytes that a node has sent over its link to `peer`.
pub(crate) fn sent_to(node: &mut Node, peer: NodeId) -> u64 {
    let shards = node.control.shards.len() as u16;
    let reports = (0..shards).map(|shard| node.report(ShardId(shard)));
    let links: Vec<_> = reports.flat_map(|report| report.links).collect();
    links.iter().find(|link| link.peer == peer).map_or(0, |link| link.sent_bytes)
}

pub(crate) fn until_sent(node: &mut Node, peer: NodeId, bytes: u64) {
    let until = Instant::now() + PATIENCE;
    while sent_to(node, peer) < bytes {
        assert!(Instant::now() < until, "never sent {bytes} bytes");
    }
}

/// The node that sent a message another way, once the source at `node` has heard of it.
fn detour_of(node: &mut Node, stream: StreamId, offset: u64) -> NodeId {
    let until = Instant::now() + PATIENCE;
    for ticket in 0.. {
        assert!(Instant::now() < until, "never heard of a detour");
        let offset = StreamOffset(offset);
        node.tell_host(stream, ControlToShard::ExplainMessage { ticket, stream, offset });
        let way = node.hear("which way it went", |message| match message {
            ShardToControl::MessageReport(report) if report.ticket == ticket => {
                Some(report.destinations[0].way.clone())
            }
            _ => None,
        });
        let MessageWay::Sent(sendings) = way else { panic!("{way:?}") };
        assert!(!sendings[0].again);
        if let Some((at, _)) = sendings[0].detour {
            return at;
        }
    }
    unreachable!()
}

#[test]
fn what_was_under_way_over_a_link_that_breaks_takes_the_backup_at_once() {
    for shards in [1, 2] {
        let mut ring = Ring::new(shards, DEAF);
        let stream = stream_id(0x90, 0);
        let mut flow = Flow::open(&mut ring.a, &mut ring.d, stream);
        flow.carries(1000);
        let (id_b, id_c) = (ring.b.local, ring.c.local);
        let before = sent_to(&mut ring.a, id_b);
        assert!(before > 100_000 && sent_to(&mut ring.a, id_c) < 50_000, "the cheaper way");
        let cable = ring.cables[0].take().unwrap();
        cable.freeze();
        let published = flow.publish(3000);
        until_sent(&mut ring.a, id_b, before + 20_000);
        cable.cut();
        // Nobody has told anybody of the break: A sends over C what B never got.
        let rerouted = ring.a.hear_event(id_b, "rerouted");
        assert!(number_of(&rerouted, "frames") > 0);
        assert_eq!(number_of(&rerouted, "silent_lanes"), 0);
        flow.receive(&published);
        // The first one after the cable froze had left, and not arrived.
        let at = detour_of(&mut ring.a, stream, 1000);
        assert_eq!(at, ring.a.local);
        flow.carries(1000);
        assert!(sent_to(&mut ring.a, id_c) > 500_000);
        // The link comes back within its session, and nothing comes over it again.
        let old = sent_to(&mut ring.b, ring.d.local);
        let spec = crate::peer::LaneSpec { epoch: LinkEpoch(2), ..COLLAPSED };
        connect(&mut ring.a, &mut ring.b, spec);
        assert!(sent_to(&mut ring.b, ring.d.local) < old + 20_000, "nothing to bring on");
        flow.carries(1000);
        ring.stop();
    }
}

#[test]
fn what_is_under_way_leaves_a_link_that_the_mesh_has_forgotten_already() {
    for shards in [1, 2] {
        let mut ring = Ring::new(shards, DEAF);
        let mut flow = Flow::open(&mut ring.a, &mut ring.d, stream_id(0x96, 0));
        flow.carries(1000);
        let (id_a, id_b, id_c, id_d) = (ring.a.local, ring.b.local, ring.c.local, ring.d.local);
        let before = sent_to(&mut ring.a, id_b);
        let cable = ring.cables[0].take().unwrap();
        cable.freeze();
        let published = flow.publish(3000);
        until_sent(&mut ring.a, id_b, before + 20_000);
        // The far end has seen the break before, and its word comes by way of the others.
        ring.a.know_mesh(&[(id_b, id_d, 100), (id_a, id_c, 1000), (id_c, id_d, 1000)]);
        cable.cut();
        let rerouted = ring.a.hear_event(id_b, "rerouted");
        assert!(number_of(&rerouted, "frames") > 0);
        flow.receive(&published);
        ring.stop();
    }
}

#[test]
fn a_relay_whose_next_link_breaks_turns_frames_round_and_their_source_takes_another_path() {
    for shards in [1, 2] {
        let mut ring = Ring::new(shards, DEAF);
        let stream = stream_id(0x91, 0);
        let mut flow = Flow::open(&mut ring.a, &mut ring.d, stream);
        flow.carries(1000);
        let (id_b, id_c, id_d) = (ring.b.local, ring.c.local, ring.d.local);
        let before = sent_to(&mut ring.b, id_d);
        let cable = ring.cables[1].take().unwrap();
        cable.freeze();
        let published = flow.publish(3000);
        until_sent(&mut ring.b, id_d, before + 20_000);
        cable.cut();
        let rerouted = ring.b.hear_event(id_d, "rerouted");
        assert!(number_of(&rerouted, "frames") > 0);
        flow.receive(&published);
        assert_eq!(detour_of(&mut ring.a, stream, 1000), id_b);
        // The source was told: what it sends now does not go by way of B.
        let over_b = sent_to(&mut ring.a, id_b);
        flow.carries(2000);
        assert!(sent_to(&mut ring.a, id_b) < over_b + 100_000, "heartbeats and acknowledgements");
        assert!(sent_to(&mut ring.a, id_c) > 500_000);
        ring.stop();
    }
}

#[test]
fn a_link_that_falls_silent_is_passed_by_before_its_lanes_are_dead() {
    let mut ring = Ring::new(1, LinkConfig::default().hedge_after_ticks);
    let mut flow = Flow::open(&mut ring.a, &mut ring.d, stream_id(0x92, 0));
    flow.carries(1000);
    let id_b = ring.b.local;
    ring.cables[0].as_ref().unwrap().freeze();
    let published = flow.publish(3000);
    flow.receive(&published);
    let rerouted = ring.a.hear_event(id_b, "rerouted");
    assert!(number_of(&rerouted, "frames") > 0);
    assert_eq!(number_of(&rerouted, "silent_lanes"), 1);
    assert!(ring.a.events(id_b, "lane-down").is_empty());
    flow.carries(1000);
    ring.cables[0].take().unwrap().cut();
    flow.carries(1000);
    ring.stop();
}

const BULK: TrafficClass = TrafficClass::Bulk;
const PATH: PathId = PathId(77);

fn header(source: NodeId, destination: NodeId, hops: &[AdjacencyIndex], repairs: u8) -> Vec<u8> {
    let mut header = Vec::new();
    RouteHeader::encode(&mut header, source, destination, PATH, hops).unwrap();
    let (mut fixed, rest) = RouteHeader::split_advanced(&header).unwrap();
    fixed[38] = repairs;
    [&fixed[..], rest].concat()
}

fn record(number: u64) -> Vec<u8> {
    recovery::record(stream_id(0x93, 0), number, 300)
}

/// A relay between a source and two neighbours that both lead to a fifth node; the first of them has no
/// lane. The shards that the links are at are those that are said.
fn check_repair(shards: u16, source: u16, dead: u16, way: u16) {
    let mut relay = start(1, shards, 0, DEAF);
    let mut source = Peer::open(&mut relay, node_id(2, source), COLLAPSED);
    let mut way = Peer::open(&mut relay, node_id(3, way), COLLAPSED);
    let (dead, end) = (node_id(9, dead), node_id(8, 0));
    relay.know_mesh(&[
        (relay.local, source.id, 1),
        (relay.local, dead, 1),
        (dead, end, 1),
        (relay.local, way.id, 5),
        (way.id, end, 5),
    ]);
    source.round_trip();
    way.round_trip();
    let list = [index_of(relay.local), index_of(dead), index_of(end)];
    for repairs in 0..REPAIRS_MAX {
        let body = [header(source.id, end, &list, repairs), record(1)].concat();
        source.send(FrameKind::Record, BULK, &[&body]);
        let came = way.expect(FrameKind::Record);
        let (route, rest) = RouteHeader::decode(&came.body).unwrap();
        assert_eq!((route.source, route.destination, route.path), (source.id, end, PATH));
        assert_eq!((route.hop_count, route.cursor, route.ttl), (2, 1, 1), "the list is a new one");
        assert_eq!((route.repairs, rest), (repairs + 1, &record(1)[..]));
        assert_eq!(route.next_hop(), hawser_wire::Hop::Via(index_of(end)));
    }
    // Once for all that follow each other closely.
    let mut notice = || {
        let frame = source.expect(FrameKind::Notice);
        Notice::decode(RouteHeader::decode(&frame.body).unwrap().1).unwrap()
    };
    let stream = stream_id(0x93, 0);
    let at = relay.local;
    let expected = Notice {
        path: PATH,
        reason: NoticeReason::Rerouted,
        at,
        destination: end,
        stream,
        refusal: None,
    };
    assert_eq!(notice(), expected);
    // A frame that was repaired twice is not repaired again.
    let body = [header(source.id, end, &list, REPAIRS_MAX), record(2)].concat();
    source.send(FrameKind::Record, BULK, &[&body]);
    loop {
        let frame = source.expect(FrameKind::Notice);
        let (_, body) = RouteHeader::decode(&frame.body).unwrap();
        let said = Notice::decode(body).unwrap();
        if said.reason == NoticeReason::NoAdjacency {
            let limit = said.refusal.map(|refusal| refusal.limit);
            assert_eq!(limit, Some(NoticeLimit::NoLane), "{said:?}");
            let (reason, refusal) = (NoticeReason::NoAdjacency, said.refusal);
            assert_eq!(said, Notice { reason, refusal, ..expected });
            break;
        }
    }
    // One to the neighbour itself has no way at all: nobody else leads there but the end.
    let body = [header(source.id, way.id, &[list[0], index_of(way.id)], 0), record(3)].concat();
    source.send(FrameKind::Record, BULK, &[&body]);
    way.expect(FrameKind::Record);
    let report = (0..shards).map(|shard| relay.report(ShardId(shard)));
    assert_eq!(report.flat_map(|r| r.links).filter(|link| link.peer == way.id).count(), 1);
    relay.stop();
}

#[test]
fn a_frame_whose_next_link_is_down_is_given_the_backups_list() {
    check_repair(1, 0, 0, 0);
    for (source, dead, way) in [(0, 1, 0), (0, 0, 1), (1, 0, 1), (0, 1, 1)] {
        check_repair(2, source, dead, way);
    }
}

#[test]
fn other_shards_know_of_a_link_that_turns() {
    // The stream is at shard 0, the link to B at shard 1.
    let mut a = start(1, 2, 0, DEAF);
    let mut b = start(2, 1, 1, DEAF);
    let mut c = start(3, 1, 0, DEAF);
    let (cable, ends) = Cable::new();
    connect_over(&mut a, &mut b, COLLAPSED, ends);
    connect(&mut a, &mut c, COLLAPSED);
    connect(&mut c, &mut b, COLLAPSED);
    let mesh = [(a.local, b.local, 10), (a.local, c.local, 10), (c.local, b.local, 10)];
    for node in [&mut a, &mut b, &mut c] {
        node.know_mesh(&mesh);
    }
    let mut flow = Flow::open(&mut a, &mut b, stream_id(0x94, 0));
    flow.carries(1000);
    let published = flow.publish(2000);
    cable.cut();
    a.hear_down(b.local, LaneId(0), LinkEpoch(1));
    flow.receive(&published);
    flow.carries(1000);
    assert!(sent_to(&mut a, c.local) > 100_000);
    for node in [a, b, c] {
        node.stop();
    }
}
