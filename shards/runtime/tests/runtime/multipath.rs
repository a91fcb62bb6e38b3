//! Streams of one node to another over several paths.

use hawser_wire::{NodeId, ShardId};

use crate::application::Application;
use crate::node::{Node, node_id, stream_id};
use crate::peer::{COLLAPSED, connect};
use crate::recovery::Flow;
use crate::streams::{carries, open};

fn sent_to(node: &mut Node, peer: NodeId) -> u64 {
    let links = node.report(ShardId(0)).links;
    links.iter().find(|link| link.peer == peer).map_or(0, |link| link.sent_bytes)
}

/// A and D with three nodes between them, over which the ways have these latencies.
fn start(latencies: [u32; 3]) -> (Node, [Node; 3], Node) {
    // A busy machine is silent at times: that is no reason to take another path here.
    let start = |tag| {
        Node::start_with(node_id(tag, 0), 1, |config| {
            config.link.quiet_after_ticks = 600;
            config.link.hedge_after_ticks = 600;
        })
    };
    let (mut a, mut d) = (start(1), start(9));
    let mut between = [2, 3, 4].map(start);
    let mut mesh = Vec::new();
    for (node, latency) in between.iter_mut().zip(latencies) {
        connect(&mut a, node, COLLAPSED);
        connect(node, &mut d, COLLAPSED);
        mesh.extend([(a.local, node.local, latency), (node.local, d.local, latency)]);
    }
    for node in [&mut a, &mut d].into_iter().chain(&mut between) {
        node.know_mesh(&mesh);
    }
    (a, between, d)
}

fn stop(a: Node, between: [Node; 3], d: Node) {
    for node in [a, d].into_iter().chain(between) {
        node.stop();
    }
}

#[test]
fn a_stream_takes_turns_over_equal_paths_at_its_barriers_and_none_that_is_much_longer() {
    let (mut a, mut between, mut d) = start([100, 110, 200]);
    let mut flow = Flow::open(&mut a, &mut d, stream_id(0xa0, 0));
    for _ in 0..20 {
        // Each part is acknowledged before the next, and is more than a chunk.
        flow.carries(1000);
    }
    let ids = between.each_ref().map(|node| node.local);
    let sent = ids.map(|id| sent_to(&mut a, id));
    let all: u64 = sent.iter().sum();
    assert!(sent[0] > all / 4 && sent[1] > all / 4, "{sent:?}");
    assert!(sent[2] < all / 10, "it costs twice as much: {sent:?}");
    let [one, ..] = &mut between;
    assert!(sent_to(one, d.local) > all / 4, "and on from there");
    stop(a, between, d);
}

#[test]
fn streams_spread_over_equal_paths_and_each_keeps_to_its_own_while_it_has_something_under_way() {
    let (mut a, between, mut d) = start([100, 100, 100]);
    let ids = between.each_ref().map(|node| node.local);
    let streams: Vec<_> = (0xa1..0xa7).map(|tag| stream_id(tag, 0)).collect();
    for &stream in &streams {
        open(&mut a, &mut d, stream);
    }
    let (mut publisher, mut subscriber) = (Application::of(&mut a), Application::of(&mut d));
    // Every stream has less to say than a chunk: the path that it began with is the one it has.
    for &stream in &streams {
        let mut publishing = publisher.open_publish(stream, 11);
        let mut subscribed = subscriber.subscribe(stream, "reader");
        carries(&mut publisher, &mut publishing, &mut subscriber, &mut subscribed, 300);
    }
    let sent = ids.map(|id| sent_to(&mut a, id));
    let all: u64 = sent.iter().sum();
    assert!(sent.iter().all(|&sent| sent > all / 5), "two streams each: {sent:?}");
    stop(a, between, d);
}
