//! Lanes that are lost, one or all, under load: what was under way over them arrives once and in
//! order.

use std::time::{Duration, Instant};

use hawser_exchange::{ControlToShard, ShardToControl};
use hawser_wire::{
    AdjacencyIndex, BootEpoch, ClassSet, CloseReason, FrameKind, LaneAckEntry, LaneId, LinkEpoch,
    LinkMode, LinkModeOffer, NodeId, Notice, NoticeReason, PathId, ProducerId, RouteHeader,
    ShardId, StreamHeader, StreamId, StreamOffset, StripeStamp, TenantId, TrafficClass,
};

use crate::application::{Application, Publishing, Subscribed};
use crate::cable::Cable;
use crate::node::{Node, node_id, number_of, stream_id};
use crate::peer::{COLLAPSED, LaneSpec, Peer, connect, connect_over, counted_frame, dial, sockets};
use crate::streams::{carries, messages, open_as};
use crate::wait::PATIENCE;

const CONTROL: LaneId = LaneId(0);
/// A lane for control and two for bulk.
const LANES: [LaneId; 3] = [CONTROL, LaneId(2), LaneId(3)];

const BATCH_BYTES: usize = 16 << 10;
/// Some batches.
const IN_FLIGHT_BYTES: u64 = 256 << 10;

fn spec_of(lane: LaneId, epoch: u64) -> LaneSpec {
    let class = if lane == CONTROL { TrafficClass::Control } else { TrafficClass::Bulk };
    LaneSpec { lane, class, epoch: LinkEpoch(epoch), ..COLLAPSED }
}

/// A node that knows of a loss by the socket alone: no silence makes it suspicious, and nothing is
/// sent again for its time. Some whole batches may always be in flight.
fn start(tag: u8) -> Node {
    start_with_session(tag, Duration::from_secs(60))
}

fn start_with_session(tag: u8, session_timeout: Duration) -> Node {
    Node::start_with(node_id(tag, 0), 1, |config| {
        config.link.quiet_after_ticks = 600;
        config.link.hedge_after_ticks = 600;
        config.link.session_timeout = session_timeout;
        config.link.batch_bytes = BATCH_BYTES;
        config.link.in_flight_floor_bytes = IN_FLIGHT_BYTES;
        config.delivery.resend_after = Duration::from_secs(600);
    })
}

/// A stream between the applications of two nodes.
pub(crate) struct Flow {
    publisher: Application,
    publishing: Publishing,
    subscriber: Application,
    subscribed: Subscribed,
}

impl Flow {
    pub(crate) fn open(from: &mut Node, to: &mut Node, stream: StreamId) -> Self {
        Self::open_as(from, to, stream, false)
    }

    pub(crate) fn open_as(from: &mut Node, to: &mut Node, stream: StreamId, striped: bool) -> Self {
        open_as(from, to, stream, striped);
        let (mut publisher, mut subscriber) = (Application::of(from), Application::of(to));
        let publishing = publisher.open_publish(stream, 11);
        let subscribed = subscriber.subscribe(stream, "reader");
        Self { publisher, publishing, subscriber, subscribed }
    }

    pub(crate) fn carries(&mut self, count: u64) {
        let Self { publisher, publishing, subscriber, subscribed } = self;
        carries(publisher, publishing, subscriber, subscribed, count);
    }

    /// Publishes so many messages of some hundred bytes, and waits for nothing but credit.
    pub(crate) fn publish(&mut self, count: u64) -> Vec<Vec<u8>> {
        let sent = messages(self.publishing.next_seq, count);
        for batch in sent.chunks(50) {
            self.publisher.publish(&mut self.publishing, batch);
        }
        sent
    }

    /// All of them arrive, each once and in order, and the source knows it.
    pub(crate) fn receive(&mut self, sent: &[Vec<u8>]) {
        let got = self.subscriber.receive(&mut self.subscribed, sent.len());
        assert!(got == sent, "messages differ");
        self.publisher.until_acked(&self.publishing);
        self.subscriber.assert_quiet();
    }
}

/// Bytes that the node has sent over a lane.
pub(crate) fn sent_over(node: &mut Node, lane: LaneId) -> u64 {
    let lanes = node.report(ShardId(0)).lanes;
    lanes.iter().find(|report| report.lane == lane).map_or(0, |report| report.sent_bytes)
}

/// A whole batch has gone out over the lane since it had sent `before`.
fn until_sent(node: &mut Node, lane: LaneId, before: u64) {
    let until = Instant::now() + PATIENCE;
    while sent_over(node, lane) < before + 40_000 {
        assert!(Instant::now() < until, "{:?} {before}", node.report(ShardId(0)));
    }
}

fn hear_wanted(node: &mut Node, lane: LaneId) {
    node.hear("lane wanted", |message| match message {
        ShardToControl::WantLane { lane: wanted, .. } if *wanted == lane => Some(()),
        _ => None,
    });
}

/// Frames that it had no place for.
pub(crate) fn dropped(node: &mut Node) -> u64 {
    node.report(ShardId(0)).links.iter().map(|link| link.dropped_frames).sum()
}

/// Two neighbours, and the cables of their lanes.
fn neighbours() -> (Node, Node, Vec<Cable>) {
    let (mut a, mut b) = (start(1), start(2));
    let cables = LANES.map(|lane| {
        let (cable, sockets) = Cable::new();
        connect_over(&mut a, &mut b, spec_of(lane, 1), sockets);
        cable
    });
    a.route(&[(b.local, &[5])], &[(5, b.local)]);
    b.route(&[(a.local, &[6])], &[(6, a.local)]);
    (a, b, cables.into())
}

#[test]
fn a_lane_that_is_reset_under_load_costs_nothing_but_the_lane() {
    let (mut a, mut b, mut cables) = neighbours();
    let mut flow = Flow::open(&mut a, &mut b, stream_id(0x80, 0));
    flow.carries(1000);
    // The stream keeps to one of the two.
    let sent: Vec<u64> = LANES.iter().map(|&lane| sent_over(&mut a, lane)).collect();
    let at = if sent[1] > sent[2] { 1 } else { 2 };
    let (lane, other) = (LANES[at], LANES[3 - at]);
    assert!(sent[at] > 100_000 && sent[3 - at] < 20_000, "{sent:?} bytes");

    let cable = cables.remove(at);
    cable.freeze();
    let published = flow.publish(5000);
    until_sent(&mut a, lane, sent[at]);
    cable.cut();
    let (id_a, id_b) = (a.local, b.local);
    a.hear_down(id_b, lane, LinkEpoch(1));
    b.hear_down(id_a, lane, LinkEpoch(1));
    let requeued = a.hear_event(id_b, "requeued");
    assert_eq!(number_of(&requeued, "from"), u64::from(lane.0));
    assert!(number_of(&requeued, "frames") > 0 && number_of(&requeued, "bytes") > 10_000);
    flow.receive(&published);
    hear_wanted(&mut a, lane);
    hear_wanted(&mut b, lane);
    assert_eq!((dropped(&mut a), dropped(&mut b)), (0, 0), "nobody was asked to send again");
    assert!(sent_over(&mut a, other) > 100_000, "the other lane took over");
    for (node, peer) in [(&a, id_b), (&b, id_a)] {
        assert!(node.events(peer, "session-ended").is_empty());
        assert!(node.events(peer, "hedged").is_empty());
    }
    // The lane comes back and takes its part.
    connect(&mut a, &mut b, spec_of(lane, 2));
    flow.carries(1000);
    assert!(sent_over(&mut a, lane) > 100_000);
    a.stop();
    b.stop();
}

#[test]
fn what_was_under_way_when_all_lanes_were_lost_arrives_once_over_the_next() {
    let (mut a, mut b, cables) = neighbours();
    let (id_a, id_b) = (a.local, b.local);
    let mut there = Flow::open(&mut a, &mut b, stream_id(0x81, 0));
    there.carries(1000);
    let lanes = a.report(ShardId(0)).lanes;
    let busiest = lanes.iter().max_by_key(|lane| lane.sent_bytes).unwrap().lane;
    let before = sent_over(&mut a, busiest);
    for cable in &cables {
        cable.freeze();
    }
    let published = there.publish(5000);
    until_sent(&mut a, busiest, before);
    for cable in cables {
        cable.cut();
    }
    for lane in LANES {
        a.hear_down(id_b, lane, LinkEpoch(1));
        b.hear_down(id_a, lane, LinkEpoch(1));
        hear_wanted(&mut a, lane);
        hear_wanted(&mut b, lane);
    }
    // Nothing is told to be lost while the session lasts.
    for lane in LANES {
        connect(&mut a, &mut b, spec_of(lane, 2));
    }
    let requeued = a.hear_event(id_b, "requeued");
    assert!(number_of(&requeued, "bytes") > 10_000, "{requeued:?}");
    there.receive(&published);
    there.carries(1000);
    for (node, peer) in [(&mut a, id_b), (&mut b, id_a)] {
        assert!(node.events(peer, "session-ended").is_empty());
    }
    a.stop();
    b.stop();
}

/// A record of one message, of so many bytes, that says no more than its stream and offset.
pub(crate) fn record(stream: StreamId, number: u64, len: usize) -> Vec<u8> {
    let header = StreamHeader {
        tenant: TenantId::from_bytes([9; 16]),
        stream,
        producer: ProducerId(1),
        producer_base: number,
        stream_base: StreamOffset(number),
        count: 1,
        born_epoch: BootEpoch(1),
        fence_epoch: BootEpoch(1),
        chunk_index: 0,
        chunk_count: 1,
        checksum: 0,
    };
    [&header.encode()[..], &vec![0; len]].concat()
}

/// A record on its way from `source` over the node to `far`.
fn transit(source: NodeId, far: NodeId, number: u64) -> Vec<u8> {
    let (mut route, hops) = (Vec::new(), [AdjacencyIndex(1), AdjacencyIndex(5)]);
    RouteHeader::encode(&mut route, source, far, PathId(7), &hops).unwrap();
    let (fixed, rest) = RouteHeader::split_advanced(&route).unwrap();
    [&fixed[..], rest, &record(stream_id(0x82, 0), number, 500)].concat()
}

/// A lane goes that has records in flight, of which some have arrived; all of them come once, the rest in
/// order and under their link sequences over another one.
fn rest_comes_over_another_lane(end: impl FnOnce(Peer)) {
    let mut node = start(1);
    let mut source = Peer::open(&mut node, node_id(2, 0), COLLAPSED);
    let id = node_id(3, 0);
    let lane_of = |lane: LaneId| {
        let spec = spec_of(lane, 1);
        LaneSpec { carries: ClassSet::of(spec.class), ..spec }
    };
    let mut control = Peer::open(&mut node, id, lane_of(CONTROL));
    let mut lost = Peer::open(&mut node, id, lane_of(LaneId(2)));
    node.route(&[(source.id, &[4])], &[(4, source.id), (5, id)]);
    source.round_trip();
    const SENT: u64 = 200;
    const ARRIVED: u64 = 7;
    for number in 0..SENT {
        let body = transit(source.id, id, number);
        source.send(FrameKind::Record, TrafficClass::Bulk, &[&body]);
    }
    source.round_trip();
    // Some arrive before the lane is lost, and no acknowledgement of them gets through.
    lost.acks = false;
    let mut arrived = Vec::new();
    while lost.received < ARRIVED {
        arrived.push(lost.expect(FrameKind::Record));
    }
    let (count, entry) = (arrived.last().unwrap().count, lost.ack_entry());
    let mut heir = Peer::open(&mut node, id, lane_of(LaneId(3)));
    end(lost);
    node.hear_down(id, LaneId(2), LinkEpoch(1));
    // The final count goes over another lane.
    control.send_ack(LaneAckEntry { is_final: true, count, ..entry });
    let requeued = node.hear_event(id, "requeued");
    let frames = number_of(&requeued, "frames");
    let first = arrived.last().unwrap().header.link_sequence.0 + 1;
    let mut came: Vec<u64> = Vec::new();
    while came.len() < SENT as usize - arrived.len() {
        let record = heir.expect(FrameKind::Record);
        came.push(record.header.link_sequence.0);
        let acknowledged = heir.ack_entry();
        control.send_ack(acknowledged);
    }
    let rest: Vec<u64> = (first..first + frames).collect();
    let again: Vec<u64> = came.iter().copied().filter(|sequence| rest.contains(sequence)).collect();
    assert_eq!(again, rest, "in order, each once");
    came.sort_unstable();
    assert_eq!(came, (first..first + SENT - arrived.len() as u64).collect::<Vec<_>>());
    node.stop();
}

#[test]
fn what_a_lost_lane_had_not_brought_comes_over_the_other_by_link_sequence() {
    rest_comes_over_another_lane(drop);
}

/// Who breaks a rule loses that lane, and nobody what was in flight over it.
#[test]
fn what_a_lane_that_broke_a_rule_had_not_brought_comes_over_the_other() {
    rest_comes_over_another_lane(|mut lane| {
        // Of a class that the lane does not carry.
        lane.send(FrameKind::Notice, TrafficClass::Control, &[&[0; 100]]);
        assert_eq!(lane.expect_close().reason, CloseReason::ClassChange);
    });
}

#[test]
fn what_a_lane_that_overran_its_credit_had_not_brought_comes_over_the_other() {
    rest_comes_over_another_lane(|mut lane| {
        // In one batch, so that nothing is granted anew before the last of them.
        let kind = FrameKind::Unknown(0xee);
        let frames = (1..=65_537).flat_map(|n| counted_frame(kind, TrafficClass::Bulk, n, &[]));
        lane.send_batch(&frames.collect::<Vec<u8>>());
        assert_eq!(lane.expect_close().reason, CloseReason::CreditOverrun);
    });
}

#[test]
fn what_a_lane_that_flooded_with_early_frames_had_not_brought_comes_over_the_other() {
    rest_comes_over_another_lane(|mut lane| {
        for sequence in 1..10 {
            let stamp = StripeStamp { channel: 0, epoch: 1, sequence }.encode();
            let body = [&stamp[..], &vec![0; 1_000_000]];
            lane.send(FrameKind::StripedRecord, TrafficClass::Bulk, &body);
        }
        assert_eq!(lane.expect_close().reason, CloseReason::ReorderOverrun);
    });
}

#[test]
fn the_source_is_told_of_each_record_whose_link_session_ended() {
    let mut node = start_with_session(1, Duration::from_millis(300));
    let mut source = Peer::open(&mut node, node_id(2, 0), COLLAPSED);
    let mut far = Peer::open(&mut node, node_id(3, 0), COLLAPSED);
    node.route(&[(source.id, &[4])], &[(4, source.id), (5, far.id)]);
    source.round_trip();
    const SENT: u64 = 100;
    const ACKED: u64 = 30;
    for number in 0..SENT {
        if number == ACKED {
            for _ in 0..ACKED {
                far.expect(FrameKind::Record);
            }
            far.acks = false;
            far.round_trip();
        }
        let body = transit(source.id, far.id, number);
        source.send(FrameKind::Record, TrafficClass::Bulk, &[&body]);
    }
    // Of these some are on their way, and the others wait for acknowledgements.
    source.round_trip();
    let id = far.id;
    drop(far);
    node.hear_down(id, LaneId(0), LinkEpoch(1));
    // Not before the session ends.
    source.round_trip();
    let ended = node.hear_event(id, "session-ended");
    assert_eq!(number_of(&ended, "unacked_frames"), SENT - ACKED);
    let body = b"behind".to_vec().into();
    node.tell_link(source.id, ControlToShard::LinkControl { peer: source.id, body });
    let mut notices = 0;
    loop {
        let frame = source.next().unwrap();
        match frame.header.kind {
            FrameKind::Notice => {
                let (_, body) = RouteHeader::decode(&frame.body).unwrap();
                let notice = Notice::decode(body).unwrap();
                assert_eq!((notice.reason, notice.at), (NoticeReason::NoAdjacency, node.local));
                assert_eq!((notice.destination, notice.path), (id, PathId(7)));
                notices += 1;
            }
            FrameKind::LinkControl => break,
            _ => {}
        }
    }
    assert_eq!(notices, SENT - ACKED);
    node.stop();
}

#[test]
fn what_a_session_lost_is_sent_again_end_to_end() {
    let session = Duration::from_millis(300);
    let mut a = start_with_session(1, session);
    let (mut relay, mut c) = (start_with_session(2, session), start_with_session(3, session));
    connect(&mut a, &mut relay, COLLAPSED);
    let (cable, sockets) = Cable::new();
    connect_over(&mut relay, &mut c, COLLAPSED, sockets);
    a.route(&[(c.local, &[1, 2])], &[(1, relay.local)]);
    relay.route(&[(a.local, &[3])], &[(2, c.local), (3, a.local)]);
    c.route(&[(a.local, &[4, 3])], &[(4, relay.local)]);
    let mut flow = Flow::open(&mut a, &mut c, stream_id(0x83, 0));
    flow.carries(1000);
    let sent = |relay: &mut Node, to| {
        let links = relay.report(ShardId(0)).links;
        links.iter().find(|link| link.peer == to).unwrap().sent_bytes
    };
    let (id_c, id_relay) = (c.local, relay.local);
    let before = sent(&mut relay, id_c);
    cable.freeze();
    let published = flow.publish(3000);
    let until = Instant::now() + PATIENCE;
    while sent(&mut relay, id_c) < before + 20_000 {
        assert!(Instant::now() < until, "{:?} {before}", relay.report(ShardId(0)));
    }
    cable.cut();
    relay.hear_down(id_c, LaneId(0), LinkEpoch(1));
    c.hear_down(id_relay, LaneId(0), LinkEpoch(1));
    let ended = relay.hear_event(id_c, "session-ended");
    assert!(number_of(&ended, "unacked_frames") > 0);
    c.hear_event(id_relay, "session-ended");
    // The source hears of it and goes on once the path is there again.
    connect(&mut relay, &mut c, LaneSpec { epoch: LinkEpoch(2), ..COLLAPSED });
    flow.receive(&published);
    for node in [a, relay, c] {
        node.stop();
    }
}

#[test]
fn of_two_connections_that_cross_one_lives() {
    for small_first in [true, false] {
        let (mut small, mut large) = (start(1), start(2));
        let (id_small, id_large) = (small.local, large.local);
        let (lives, dies) = (LinkEpoch(3), LinkEpoch(9));
        let by_small = LaneSpec { epoch: lives, ..COLLAPSED };
        let by_large = LaneSpec { epoch: dies, ..COLLAPSED };
        let (ours_here, ours_there) = dial(&small, &large, by_small, sockets());
        let (theirs_there, theirs_here) = dial(&large, &small, by_large, sockets());
        // Each end takes its own first, or each the other's.
        let (here, there) = if small_first {
            ([ours_here, theirs_here], [theirs_there, ours_there])
        } else {
            ([theirs_here, ours_here], [ours_there, theirs_there])
        };
        for message in here {
            small.tell_link(id_large, message);
        }
        for message in there {
            large.tell_link(id_small, message);
        }
        for (node, peer) in [(&mut small, id_large), (&mut large, id_small)] {
            let why = node.hear_down(peer, LaneId(0), dies);
            assert!(why.contains(CloseReason::Superseded.text()), "{why:?}");
            let lanes = node.report(ShardId(0)).lanes;
            let left: Vec<_> = lanes.iter().map(|lane| (lane.epoch, lane.dialled)).collect();
            assert_eq!(left, [(lives, peer == id_large)]);
        }
        small.route(&[(id_large, &[5])], &[(5, id_large)]);
        large.route(&[(id_small, &[6])], &[(6, id_small)]);
        Flow::open(&mut small, &mut large, stream_id(0x84, 0)).carries(500);
        small.stop();
        large.stop();
    }
}

#[test]
fn control_overtakes_bulk_on_one_lane_that_carries_all() {
    let mut node = start(1);
    let mut source = Peer::open(&mut node, node_id(2, 0), COLLAPSED);
    let mut far = Peer::open(&mut node, node_id(3, 0), COLLAPSED);
    node.route(&[], &[(5, far.id)]);
    source.round_trip();
    // Both ends have agreed on one lane for all.
    let collapsed = LinkModeOffer { generation: 1, mode: LinkMode::Collapsed, accepted: false };
    far.send(FrameKind::LinkMode, TrafficClass::Control, &[&collapsed.encode()]);
    let answer = far.expect(FrameKind::LinkMode).body;
    let accepted = LinkModeOffer { accepted: true, ..collapsed };
    assert_eq!(answer, accepted.encode());
    far.round_trip();
    for number in 0..8000 {
        let body = transit(source.id, far.id, number);
        source.send(FrameKind::Record, TrafficClass::Bulk, &[&body]);
    }
    source.round_trip();
    let queued = |node: &mut Node, peer| {
        let links = node.report(ShardId(0)).links;
        links.iter().find(|link| link.peer == peer).unwrap().queued_bytes
    };
    let id = far.id;
    assert!(queued(&mut node, id) > 4 << 20, "nobody acknowledges");
    let body = b"urgent".to_vec().into();
    node.tell_link(id, ControlToShard::LinkControl { peer: id, body });
    node.report(ShardId(0));
    // Behind what may be in flight before anything is acknowledged, to a batch.
    let mut bulk_bytes = 0;
    loop {
        let frame = far.next().unwrap();
        match frame.header.kind {
            FrameKind::Record => bulk_bytes += frame.body.len(),
            FrameKind::LinkControl => break,
            _ => {}
        }
    }
    let most = IN_FLIGHT_BYTES as usize + BATCH_BYTES;
    assert!((1..=most).contains(&bulk_bytes), "control waited behind {bulk_bytes} bytes");
    far.expect(FrameKind::Record);
    node.stop();
}
