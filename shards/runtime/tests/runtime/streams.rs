use std::time::{Duration, Instant};

use hawser_exchange::{
    ControlToShard, DestinationSpec, Refusal, ShardToControl, SourceSpec, StreamSpec, SubscribeEnd,
};
use hawser_runtime::ShardConfig;
use hawser_wire::{
    BootEpoch, CloseReason, LaneId, LinkEpoch, NodeId, ShardId, StreamId, StreamOffset, TenantId,
    TrafficClass,
};

use crate::application::{Application, Publishing, Subscribed};
use crate::node::{Node, node_id, serial_of, stream_id};
use crate::peer::{COLLAPSED, LaneSpec, connect};
use crate::wait::PATIENCE;

fn spec(stream: StreamId) -> StreamSpec {
    StreamSpec {
        stream,
        tenant: TenantId::from_bytes([9; 16]),
        epoch: BootEpoch(1),
        source: None,
        destination: None,
    }
}

fn source_of(destinations: &[NodeId]) -> Option<SourceSpec> {
    Some(SourceSpec {
        destinations: destinations.to_vec(),
        fresh: true,
        closing: false,
        striped: false,
        class: TrafficClass::Bulk,
    })
}

fn destination_from(source: NodeId) -> Option<DestinationSpec> {
    Some(DestinationSpec { source, consumers: Vec::new(), restored: false })
}

pub(crate) fn open(source: &mut Node, destination: &mut Node, stream: StreamId) {
    open_as(source, destination, stream, false);
}

pub(crate) fn open_as(source: &mut Node, destination: &mut Node, stream: StreamId, striped: bool) {
    let part = source_of(&[destination.local]).map(|part| SourceSpec {
        striped,
        class: TrafficClass::Bulk,
        ..part
    });
    let at_source = StreamSpec { source: part, ..spec(stream) };
    let part = destination_from(source.local);
    let at_destination = StreamSpec { destination: part, ..spec(stream) };
    destination.tell_host(stream, ControlToShard::OpenStream(Box::new(at_destination)));
    source.tell_host(stream, ControlToShard::OpenStream(Box::new(at_source)));
}

pub(crate) fn messages(from: u64, count: u64) -> Vec<Vec<u8>> {
    (from..from + count)
        .map(|number| {
            let mut message = number.to_le_bytes().to_vec();
            message.resize(8 + (number as usize * 7) % 300, number as u8);
            message
        })
        .collect()
}

/// Publishes so many messages in batches of ten and receives them, in between and behind.
pub(crate) fn carries(
    publisher: &mut Application,
    publishing: &mut Publishing,
    subscriber: &mut Application,
    subscribed: &mut Subscribed,
    count: u64,
) {
    let sent = messages(publishing.next_seq, count);
    for batch in sent.chunks(10) {
        publisher.publish(publishing, batch);
    }
    assert!(subscriber.receive(subscribed, sent.len()) == sent, "messages differ");
    publisher.until_acked(publishing);
}

/// Behind the last message of a stream that has ended.
fn hear_ended(node: &mut Node, stream: StreamId) -> u64 {
    node.hear("stream ended", |message| match message {
        ShardToControl::StreamEnded { stream: s, end } if *s == stream => Some(end.0),
        _ => None,
    })
}

fn hosted(node: &mut Node) -> Vec<(StreamId, bool)> {
    (0..node.control.shards.len() as u16)
        .flat_map(|shard| node.report(ShardId(shard)).streams)
        .map(|stream| (stream.stream, stream.source))
        .collect()
}

/// A node with its link at shard 0 of others, and one with its link at shard 1; two shards each.
fn neighbours() -> (Node, Node) {
    neighbours_with(|_| {})
}

/// Likewise, with something changed at the latter.
pub(crate) fn neighbours_with(change: impl Fn(&mut ShardConfig)) -> (Node, Node) {
    let mut a = Node::start(node_id(1, 0), 2);
    let mut b = Node::start_with(node_id(2, 1), 2, change);
    connect(&mut a, &mut b, COLLAPSED);
    a.route(&[(b.local, &[5])], &[(5, b.local)]);
    b.route(&[(a.local, &[6])], &[(6, a.local)]);
    (a, b)
}

#[test]
fn messages_cross_two_nodes_whichever_shards_host_the_stream_and_the_links() {
    let (mut a, mut b) = neighbours();
    let (mut publisher, mut subscriber) = (Application::of(&mut a), Application::of(&mut b));
    for shard in [0, 1] {
        let stream = stream_id(0x51, shard);
        open(&mut a, &mut b, stream);
        let mut publishing = publisher.open_publish(stream, 11);
        assert_eq!(publishing.next_seq, 1);
        let mut subscribed = subscriber.subscribe(stream, "reader");
        carries(&mut publisher, &mut publishing, &mut subscriber, &mut subscribed, 2000);

        // The end: everything is consumed, both say so, and forget it when they are told.
        a.tell_host(stream, ControlToShard::CloseStream(stream));
        assert_eq!(subscriber.end(&subscribed), SubscribeEnd::StreamEnded);
        assert_eq!((hear_ended(&mut a, stream), hear_ended(&mut b, stream)), (2000, 2000));
        let next = b.hear("commit of everything", |message| match message {
            ShardToControl::Committed { stream: s, next, .. } if *s == stream => {
                (*next == StreamOffset(2000)).then_some(*next)
            }
            _ => None,
        });
        assert_eq!(next, StreamOffset(2000));
        assert_eq!(hosted(&mut a), [(stream, true)], "it answers until it is dropped");
        assert_eq!(hosted(&mut b), [(stream, false)]);
        for node in [&mut a, &mut b] {
            node.tell_host(stream, ControlToShard::DropStream(stream));
            assert_eq!(hosted(node), []);
        }
    }
    a.stop();
    b.stop();
}

#[test]
fn messages_cross_a_relay_whose_links_are_at_different_shards() {
    let mut a = Node::start(node_id(1, 0), 1);
    let mut relay = Node::start(node_id(2, 1), 2);
    let mut c = Node::start(node_id(3, 1), 2);
    connect(&mut a, &mut relay, COLLAPSED);
    connect(&mut relay, &mut c, COLLAPSED);
    a.route(&[(c.local, &[1, 2])], &[(1, relay.local)]);
    relay.route(&[], &[(2, c.local), (3, a.local)]);
    c.route(&[(a.local, &[4, 3])], &[(4, relay.local)]);
    let stream = stream_id(0x52, 0);
    open(&mut a, &mut c, stream);
    let (mut publisher, mut subscriber) = (Application::of(&mut a), Application::of(&mut c));
    let mut publishing = publisher.open_publish(stream, 11);
    let mut subscribed = subscriber.subscribe(stream, "reader");
    carries(&mut publisher, &mut publishing, &mut subscriber, &mut subscribed, 1000);
    for node in [a, relay, c] {
        node.stop();
    }
}

#[test]
fn control_and_bulk_lanes_share_the_work_and_one_does_it_all() {
    let (mut a, mut b) = (Node::start(node_id(1, 0), 1), Node::start(node_id(2, 0), 1));
    connect(&mut a, &mut b, COLLAPSED);
    let bulk = LaneSpec { lane: LaneId(2), class: TrafficClass::Bulk, ..COLLAPSED };
    connect(&mut a, &mut b, bulk);
    a.route(&[(b.local, &[5])], &[(5, b.local)]);
    b.route(&[(a.local, &[6])], &[(6, a.local)]);
    let stream = stream_id(0x53, 0);
    open(&mut a, &mut b, stream);
    let (mut publisher, mut subscriber) = (Application::of(&mut a), Application::of(&mut b));
    let mut publishing = publisher.open_publish(stream, 11);
    let mut subscribed = subscriber.subscribe(stream, "reader");
    carries(&mut publisher, &mut publishing, &mut subscriber, &mut subscribed, 1000);
    let sent: Vec<u64> = a.report(ShardId(0)).lanes.iter().map(|lane| lane.sent_bytes).collect();
    assert!(sent[1] > 100_000 && sent[0] < 50_000, "{sent:?} bytes");
    let peer = b.local;
    let reason = CloseReason::Shutdown;
    let serial = serial_of(LinkEpoch(1));
    let close = ControlToShard::CloseLane { peer, lane: LaneId(2), serial, reason };
    a.tell_link(peer, close);
    carries(&mut publisher, &mut publishing, &mut subscriber, &mut subscribed, 1000);
    a.hear_down(peer, LaneId(2), LinkEpoch(1));
    a.stop();
    b.stop();
}

#[test]
fn a_link_that_fails_and_returns_loses_nothing_and_repeats_nothing() {
    let (mut a, mut b) = neighbours();
    let stream = stream_id(0x54, 1);
    open(&mut a, &mut b, stream);
    let (mut publisher, mut subscriber) = (Application::of(&mut a), Application::of(&mut b));
    let mut publishing = publisher.open_publish(stream, 11);
    let mut subscribed = subscriber.subscribe(stream, "reader");
    let (id_a, id_b) = (a.local, b.local);
    for epoch in 1..6 {
        let sent = messages(publishing.next_seq, 1500);
        for (number, batch) in sent.chunks(10).enumerate() {
            publisher.publish(&mut publishing, batch);
            if number == 75 {
                let (lane, serial) = (LaneId(0), serial_of(LinkEpoch(epoch)));
                let reason = CloseReason::Shutdown;
                let close = ControlToShard::CloseLane { peer: id_b, lane, serial, reason };
                a.tell_link(id_b, close);
            }
        }
        a.hear_down(id_b, LaneId(0), LinkEpoch(epoch));
        b.hear_down(id_a, LaneId(0), LinkEpoch(epoch));
        a.route(&[], &[(5, id_b)]);
        b.route(&[], &[(6, id_a)]);
        connect(&mut a, &mut b, LaneSpec { epoch: LinkEpoch(epoch + 1), ..COLLAPSED });
        a.route(&[(id_b, &[5])], &[(5, id_b)]);
        b.route(&[(id_a, &[6])], &[(6, id_a)]);
        assert!(subscriber.receive(&mut subscribed, sent.len()) == sent, "messages differ");
        publisher.until_acked(&publishing);
    }
    subscriber.assert_quiet();
    a.stop();
    b.stop();
}

#[test]
fn a_stream_may_end_where_it_begins() {
    let mut node = Node::start(node_id(1, 0), 2);
    let stream = stream_id(0x55, 1);
    let both = StreamSpec {
        source: source_of(&[node.local]),
        destination: destination_from(node.local),
        ..spec(stream)
    };
    node.tell_host(stream, ControlToShard::OpenStream(Box::new(both)));
    let mut application = Application::of(&mut node);
    let mut publishing = application.open_publish(stream, 1);
    let mut subscribed = application.subscribe(stream, "reader");
    let sent = messages(1, 500);
    for batch in sent.chunks(50) {
        application.publish(&mut publishing, batch);
    }
    assert!(application.receive(&mut subscribed, 500) == sent);
    application.until_acked(&publishing);
    node.tell_host(stream, ControlToShard::CloseStream(stream));
    assert_eq!(application.end(&subscribed), SubscribeEnd::StreamEnded);
    assert_eq!(hear_ended(&mut node, stream), 500);
    node.stop();
}

#[test]
fn more_than_every_window_flows_through_while_somebody_reads() {
    let (mut a, mut b) = neighbours();
    let stream = stream_id(0x56, 1);
    open(&mut a, &mut b, stream);
    let (mut publisher, mut subscriber) = (Application::of(&mut a), Application::of(&mut b));
    let mut publishing = publisher.open_publish(stream, 11);
    let mut subscribed = subscriber.subscribe(stream, "reader");
    let large: Vec<Vec<u8>> = (0..4_u8).map(|tag| vec![tag; 250_000]).collect();
    let reader = std::thread::spawn(move || {
        for round in 0..48 {
            let got = subscriber.receive(&mut subscribed, 4);
            assert!((0..4_u8).zip(&got).all(|(tag, m)| m == &vec![tag; 250_000]), "{round}");
        }
        subscriber
    });
    for _ in 0..48 {
        publisher.publish(&mut publishing, &large);
    }
    reader.join().expect("receives everything").assert_quiet();
    publisher.until_acked(&publishing);
    a.stop();
    b.stop();
}

#[test]
fn a_shard_that_drops_a_record_tells_the_one_that_hosts_the_stream() {
    // Hosted at shard 1, over a link of shard 0 whose queue is far too short. Nothing is sent
    // again for its time alone.
    let mut a = Node::start_with(node_id(1, 0), 2, |config| {
        config.link.data_bytes_max = 64 << 10;
        config.delivery.resend_after = Duration::from_secs(600);
    });
    let mut b = Node::start(node_id(2, 0), 1);
    connect(&mut a, &mut b, COLLAPSED);
    a.route(&[(b.local, &[5])], &[(5, b.local)]);
    b.route(&[(a.local, &[6])], &[(6, a.local)]);
    let stream = stream_id(0x5b, 1);
    open(&mut a, &mut b, stream);
    let (mut publisher, mut subscriber) = (Application::of(&mut a), Application::of(&mut b));
    let mut publishing = publisher.open_publish(stream, 11);
    let mut subscribed = subscriber.subscribe(stream, "reader");
    for round in 0..10_u8 {
        let burst: Vec<Vec<u8>> = (0..10).map(|_| vec![round; 50_000]).collect();
        for message in burst.chunks(1) {
            publisher.publish(&mut publishing, message);
        }
        assert!(subscriber.receive(&mut subscribed, burst.len()) == burst, "{round}");
    }
    publisher.until_acked(&publishing);
    let report = a.report(ShardId(0));
    assert!(report.links[0].dropped_frames > 0, "the queue was long enough after all");
    a.stop();
    b.stop();
}

#[test]
fn a_stream_that_is_dropped_ends_its_calls_and_can_be_opened_again() {
    let (mut a, mut b) = neighbours();
    let stream = stream_id(0x57, 1);
    open(&mut a, &mut b, stream);
    let (mut publisher, mut subscriber) = (Application::of(&mut a), Application::of(&mut b));
    let mut publishing = publisher.open_publish(stream, 11);
    let mut subscribed = subscriber.subscribe(stream, "reader");
    carries(&mut publisher, &mut publishing, &mut subscriber, &mut subscribed, 100);
    // Not everything that is held is delivered: it is forgotten all the same.
    for node in [&mut a, &mut b] {
        node.tell_host(stream, ControlToShard::DropStream(stream));
        assert_eq!(hosted(node), []);
    }
    assert_eq!(publisher.hear_refused(publishing.session), Refusal::UnknownStream);
    assert_eq!(subscriber.hear_end(subscribed.session), SubscribeEnd::StreamDropped);
    let session = publisher.ask_publish(stream, 11);
    assert_eq!(publisher.hear_refused(session), Refusal::UnknownStream);
    let session = subscriber.ask_subscribe(stream, "reader");
    assert_eq!(subscriber.hear_refused(session), Refusal::UnknownStream);
    // Dropping what is not there is no harm.
    a.tell_host(stream, ControlToShard::DropStream(stream));

    open(&mut a, &mut b, stream);
    let mut publishing = publisher.open_publish(stream, 11);
    assert_eq!(publishing.next_seq, 1, "nothing of before is left");
    let mut subscribed = subscriber.subscribe(stream, "reader");
    carries(&mut publisher, &mut publishing, &mut subscriber, &mut subscribed, 100);
    a.stop();
    b.stop();
}

#[test]
fn a_call_that_waits_for_its_stream_to_know_where_it_goes_on_ends_with_it() {
    let mut node = Node::start(node_id(1, 0), 1);
    let stream = stream_id(0x58, 0);
    // Begun in an earlier life: its destination, which is away, has to be asked.
    let source = SourceSpec {
        destinations: vec![node_id(2, 0)],
        fresh: false,
        closing: false,
        striped: false,
        class: TrafficClass::Bulk,
    };
    let at_source = StreamSpec { source: Some(source), ..spec(stream) };
    node.tell_host(stream, ControlToShard::OpenStream(Box::new(at_source)));
    let mut application = Application::of(&mut node);
    let session = application.ask_publish(stream, 1);
    // Whoever answers this has seen the call, too.
    node.report(ShardId(0));
    node.tell_host(stream, ControlToShard::DropStream(stream));
    assert_eq!(application.hear_refused(session), Refusal::UnknownStream);
    application.assert_quiet();
    node.stop();
}

#[test]
fn a_destination_that_does_not_know_the_stream_is_reported_and_then_told() {
    let (mut a, mut b) = neighbours();
    let stream = stream_id(0x59, 0);
    let at_source = StreamSpec { source: source_of(&[b.local]), ..spec(stream) };
    a.tell_host(stream, ControlToShard::OpenStream(Box::new(at_source)));
    let node = a.hear("unknown there", |message| match message {
        ShardToControl::StreamUnknownAt { stream: s, node } if *s == stream => Some(*node),
        _ => None,
    });
    assert_eq!(node, b.local);
    // Each time that it is said to host the stream it is told at once: with a pause of 200 ms before
    // each repetition so many would take longer than patience lasts.
    let begun = Instant::now();
    for _ in 0..200 {
        a.tell_host(stream, ControlToShard::StreamHostedAt { stream, node: b.local });
        a.hear("unknown there, still", |message| match message {
            ShardToControl::StreamUnknownAt { stream: s, .. } if *s == stream => Some(()),
            _ => None,
        });
    }
    assert!(begun.elapsed() < PATIENCE);
    let at_destination = StreamSpec { destination: destination_from(a.local), ..spec(stream) };
    b.tell_host(stream, ControlToShard::OpenStream(Box::new(at_destination)));
    let (mut publisher, mut subscriber) = (Application::of(&mut a), Application::of(&mut b));
    let mut publishing = publisher.open_publish(stream, 11);
    let mut subscribed = subscriber.subscribe(stream, "reader");
    carries(&mut publisher, &mut publishing, &mut subscriber, &mut subscribed, 10);
    a.stop();
    b.stop();
}

#[test]
fn calls_are_ended_when_the_shard_stops() {
    let (mut a, mut b) = neighbours();
    let stream = stream_id(0x5a, 0);
    open(&mut a, &mut b, stream);
    let (mut publisher, mut subscriber) = (Application::of(&mut a), Application::of(&mut b));
    let publishing = publisher.open_publish(stream, 11);
    let subscribed = subscriber.subscribe(stream, "reader");
    a.stop();
    b.stop();
    assert_eq!(publisher.hear_refused(publishing.session), Refusal::ShuttingDown);
    assert_eq!(subscriber.hear_end(subscribed.session), SubscribeEnd::ShuttingDown);
}
