//! Streams over all bulk lanes of real links, and what a neighbour may not do with them.

use std::time::{Duration, Instant};

use hawser_exchange::ControlToShard;
use hawser_link::LinkConfig;
use hawser_session::Role;
use hawser_wire::{
    AdjacencyIndex, ClassSet, CloseReason, FrameKind, LaneId, LinkEpoch, NodeId, PathId,
    RouteHeader, ShardId, StripeStamp, TrafficClass,
};

use crate::application::Application;
use crate::cable::Cable;
use crate::detours::{DEAF, sent_to, start, start_with, until_sent};
use crate::node::{Node, node_id, number_of, serial_of, stream_id};
use crate::peer::{COLLAPSED, LaneSpec, Peer, connect, connect_over, counted_frame, frame};
use crate::recovery::{Flow, dropped, sent_over};
use crate::streams::{carries, messages, open_as};
use crate::violations::refused_in;
use crate::wait::PATIENCE;

const BULK: TrafficClass = TrafficClass::Bulk;
const BULK_LANES: [u16; 4] = [2, 3, 4, 5];

fn lane(lane: u16, class: TrafficClass) -> LaneSpec {
    let (lane, epoch, near) = (LaneId(lane), LinkEpoch(1), Role::Server);
    LaneSpec { lane, class, epoch, near, carries: ClassSet::of(class) }
}

/// Every lane of its own.
fn connect_all(a: &mut Node, b: &mut Node) {
    connect(a, b, lane(0, TrafficClass::Control));
    connect(a, b, lane(1, TrafficClass::Priority));
    for number in BULK_LANES {
        connect(a, b, lane(number, BULK));
    }
}

/// Bulk lanes to `peer` over which `node` has sent more than heartbeats.
fn used(node: &mut Node, peer: NodeId) -> usize {
    let lanes = node.report(ShardId(0)).lanes;
    let bulk = lanes.iter().filter(|lane| lane.peer == peer && lane.class == BULK);
    bulk.filter(|lane| lane.sent_bytes > 20_000).count()
}

/// Several lanes to `peer` carry a stream from `node`.
fn until_striped(flow: &mut Flow, node: &mut Node, peer: NodeId) {
    let until = Instant::now() + PATIENCE;
    while used(node, peer) < 2 {
        assert!(Instant::now() < until, "never over several lanes");
        flow.carries(1000);
    }
}

#[test]
fn a_striped_stream_takes_several_lanes_and_keeps_its_order_over_a_relay() {
    let mut nodes = [1, 2, 3].map(|tag| Node::start(node_id(tag, 0), 1));
    let [a, relay, b] = &mut nodes;
    connect_all(a, relay);
    connect_all(relay, b);
    relay.route(&[(a.local, &[6]), (b.local, &[7])], &[(6, a.local), (7, b.local)]);
    b.route(&[(a.local, &[8, 6]), (relay.local, &[8])], &[(8, relay.local)]);
    let (mut publisher, mut subscriber) = (Application::of(a), Application::of(b));
    let stream = stream_id(0x71, 0);
    open_as(a, b, stream, true);
    let mut publishing = publisher.open_publish(stream, 11);
    let mut subscribed = subscriber.subscribe(stream, "reader");
    // All of it waits until there is a path, so that there is always more than one lane takes.
    let waiting = messages(1, 6000);
    for batch in waiting.chunks(10) {
        publisher.publish(&mut publishing, batch);
    }
    a.route(&[(b.local, &[5, 7]), (relay.local, &[5])], &[(5, relay.local)]);
    assert!(subscriber.receive(&mut subscribed, waiting.len()) == waiting, "messages differ");
    publisher.until_acked(&publishing);
    assert!(used(a, relay.local) > 1 && used(relay, b.local) > 1);

    // Lanes that are closed under it cost neither order nor messages.
    for (number, reason) in [(2, CloseReason::RateLimited), (4, CloseReason::Shutdown)] {
        let (peer, epoch) = (b.local, LinkEpoch(1));
        let (lane, serial) = (LaneId(number), serial_of(epoch));
        let close = ControlToShard::CloseLane { peer, lane, serial, reason };
        relay.tell_link(peer, close);
        carries(&mut publisher, &mut publishing, &mut subscriber, &mut subscribed, 5000);
        relay.hear_down(b.local, LaneId(number), epoch);
    }
    for node in nodes {
        node.stop();
    }
}

/// What was in flight over one lane of several goes over the others when that lane is reset, and what came
/// over those meanwhile waits for it: all of it arrives once and in order, and nobody sends again end to
/// end. A new lane takes its part.
#[test]
fn a_lane_that_is_reset_under_a_striped_stream_costs_nothing_but_the_lane() {
    let [mut a, mut b] = [1, 2].map(|tag| {
        start_with(tag, 1, 0, DEAF, |config| {
            // What waits behind a lane that stands still waits for as long as this machine takes to cut it.
            config.link.stripe_gap_max = Duration::from_secs(600);
        })
    });
    let (id_a, id_b) = (a.local, b.local);
    connect(&mut a, &mut b, lane(0, TrafficClass::Control));
    let cables = [2, 3, 4].map(|number| {
        let (cable, sockets) = Cable::new();
        connect_over(&mut a, &mut b, lane(number, BULK), sockets);
        (number, cable)
    });
    a.route(&[(id_b, &[5])], &[(5, id_b)]);
    b.route(&[(id_a, &[6])], &[(6, id_a)]);
    let mut flow = Flow::open_as(&mut a, &mut b, stream_id(0x73, 0), true);
    until_striped(&mut flow, &mut a, id_b);
    for (number, cable) in cables.into_iter().take(2) {
        let id = LaneId(number);
        let before = sent_over(&mut a, id);
        cable.freeze();
        let published = flow.publish(3000);
        let until = Instant::now() + PATIENCE;
        while sent_over(&mut a, id) < before + 2_000 {
            assert!(Instant::now() < until, "nothing in flight over lane {number}");
        }
        cable.cut();
        a.hear_down(id_b, id, LinkEpoch(1));
        b.hear_down(id_a, id, LinkEpoch(1));
        let requeued = a.hear_event(id_b, "requeued");
        assert_eq!(number_of(&requeued, "from"), u64::from(number));
        assert!(number_of(&requeued, "frames") > 0, "{requeued:?}");
        flow.receive(&published);
        assert_eq!((dropped(&mut a), dropped(&mut b)), (0, 0), "nobody was asked to send again");

        connect(&mut a, &mut b, LaneSpec { epoch: LinkEpoch(2), ..lane(number, BULK) });
        let until = Instant::now() + PATIENCE;
        while sent_over(&mut a, id) < 20_000 {
            assert!(Instant::now() < until, "lane {number} takes no part");
            flow.carries(1000);
        }
    }
    assert!(used(&mut a, id_b) > 1);
    assert!(b.events(id_a, "stripe-gap").is_empty(), "nothing was missed for good");
    for node in [a, b] {
        node.stop();
    }
}

/// What is under way over a link that breaks or falls silent goes another way, what has come and waits
/// for it at the far end waits no more, and when the link is back it carries the stream over several
/// lanes again. Nothing is sent again by time.
#[test]
fn a_striped_stream_leaves_a_link_that_breaks_and_is_striped_when_it_is_back() {
    for ticks in [DEAF, LinkConfig::default().hedge_after_ticks] {
        let [mut a, mut b, mut c] = [1, 2, 3].map(|tag| start(tag, 1, 0, ticks));
        let lanes = [(0, TrafficClass::Control), (2, BULK), (3, BULK), (4, BULK)];
        let cables = lanes.map(|(number, class)| {
            let (cable, sockets) = Cable::new();
            connect_over(&mut a, &mut b, lane(number, class), sockets);
            cable
        });
        connect(&mut a, &mut c, COLLAPSED);
        connect(&mut c, &mut b, COLLAPSED);
        let mesh = [(a.local, b.local, 100), (a.local, c.local, 1000), (c.local, b.local, 1000)];
        for node in [&mut a, &mut b, &mut c] {
            node.know_mesh(&mesh);
        }
        let mut flow = Flow::open_as(&mut a, &mut b, stream_id(0x72, 0), true);
        until_striped(&mut flow, &mut a, b.local);
        let before = sent_to(&mut a, b.local);
        // Most of what is in flight over one lane still comes, and waits for what was on others.
        for cable in &cables[..3] {
            cable.freeze();
        }
        let published = flow.publish(3000);
        until_sent(&mut a, b.local, before + 60_000);
        cables[3].freeze();
        if ticks == DEAF {
            cables.into_iter().for_each(Cable::cut);
            let rerouted = a.hear_event(b.local, "rerouted");
            assert!(number_of(&rerouted, "frames") > 0);
            flow.receive(&published);
        } else {
            flow.receive(&published);
            assert!(number_of(&a.hear_event(b.local, "rerouted"), "silent_lanes") > 0);
            cables.into_iter().for_each(Cable::cut);
        }
        flow.carries(1000);
        assert!(sent_to(&mut a, c.local) > 100_000, "the other way");
        for (number, class) in lanes {
            connect(&mut a, &mut b, LaneSpec { epoch: LinkEpoch(2), ..lane(number, class) });
        }
        until_striped(&mut flow, &mut a, b.local);
        for node in [a, b, c] {
            node.stop();
        }
    }
}

/// A body that ends at the node, behind its stamp.
fn body(from: NodeId, stamp: StripeStamp, len: usize) -> Vec<u8> {
    let mut route = Vec::new();
    let hops = [AdjacencyIndex(1)];
    RouteHeader::encode(&mut route, from, node_id(1, 0), PathId(1), &hops).unwrap();
    let (fixed, rest) = RouteHeader::split_advanced(&route).unwrap();
    [&stamp.encode()[..], &fixed, rest, &vec![0; len]].concat()
}

/// A neighbour sends these records; its lane is closed for `named`, and nobody else is disturbed.
fn refused(named: CloseReason, reason: &str, len: usize, stamps: &[(u8, u32, u64)]) {
    refused_in(COLLAPSED, named, reason, |peer: &mut Peer| {
        for &(channel, epoch, sequence) in stamps {
            let body = body(peer.id, StripeStamp { channel, epoch, sequence }, len);
            peer.send(FrameKind::StripedRecord, BULK, &[&body]);
        }
    });
}

#[test]
fn a_flood_of_what_has_not_its_turn() {
    let ahead: Vec<(u8, u32, u64)> = (1..10).map(|sequence| (0, 1, sequence)).collect();
    refused(CloseReason::ReorderOverrun, "bytes wait out of order", 1_000_000, &ahead);
}

#[test]
fn a_stripe_sequence_that_jumps_ahead() {
    let reason = "stripe sequence 4097 is 4096 frames or more ahead of 1";
    refused(CloseReason::ReorderOverrun, reason, 9, &[(0, 1, 0), (0, 1, 4097)]);
}

#[test]
fn a_stripe_sequence_that_comes_twice_and_an_epoch_that_is_over() {
    let named = CloseReason::StripeSequence;
    refused(named, "stripe sequence 0 came twice", 9, &[(0, 1, 0), (0, 1, 0)]);
    refused(named, "stripe sequence 2 came twice", 9, &[(0, 1, 2), (0, 1, 2)]);
    let reason = "epoch 1 of stripe channel 7 is over";
    refused(named, reason, 9, &[(7, 1, 0), (7, 2, 0), (7, 1, 1)]);
}

#[test]
fn a_striped_record_that_is_none() {
    let named = CloseReason::ProtocolViolation;
    refused(named, "stripe channel", 9, &[(8, 1, 0)]);
    refused_in(COLLAPSED, named, "truncated", |peer| {
        peer.send(FrameKind::StripedRecord, BULK, &[&[0; StripeStamp::LEN - 1]]);
    });
    refused_in(COLLAPSED, named, "StripedRecord frame without a link sequence", |peer| {
        peer.send_batch(&frame(FrameKind::StripedRecord, BULK, &[&[0; 200]]));
    });
}

#[test]
fn control_and_priority_are_never_striped() {
    for class in [TrafficClass::Control, TrafficClass::Priority] {
        let reason = format!("{} frame on lane 0", class.name());
        refused_in(COLLAPSED, CloseReason::ClassChange, &reason, |peer| {
            let body = body(peer.id, StripeStamp { channel: 0, epoch: 1, sequence: 0 }, 9);
            peer.send_batch(&counted_frame(FrameKind::StripedRecord, class, 1, &[&body]));
        });
    }
}
