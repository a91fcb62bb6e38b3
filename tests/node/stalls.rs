//! Nodes and lanes that stand still for a while, and lanes that are unlike: a stream that goes on
//! meanwhile loses nothing, and nothing of it comes twice or out of order.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::link_faults::{Traffic, sees};
use crate::link_mode::pair;
use crate::process::{Node, Spec, wait_for};
use crate::relay::{Passage, Relay};

/// Lines of a striped stream, which are more than its lanes carry.
const LINE_BYTES: usize = 1_000;
/// What each lane carries.
const LANE: Passage =
    Passage { delay: Duration::from_millis(2), bytes_per_s: 1_250_000, held: false };
/// What one of two lanes takes longer than the other.
const FAR: Duration = Duration::from_millis(40);

fn lanes(node: &Node) -> Vec<Value> {
    node.json(&["lane", "ls"]).as_array().unwrap().clone()
}

/// Two nodes that see each other; A dials B through a relay.
pub(crate) fn pair_over_relay(passage: Passage) -> (TempDir, Relay, Node, Node) {
    let directory = tempfile::tempdir().unwrap();
    let far = Spec::listening("b");
    let relay = Relay::start(&far.listen, passage);
    let mut command = far.command(directory.path());
    command.env("HAWSER_LANES__ADVERTISE", &relay.address);
    let b = Node::start_with(directory.path(), &far, command);
    b.run(&["mesh", "seed", "test"]).ok();
    let a = Node::start(directory.path(), &Spec::dialling("a"));
    let token = b.json(&["token", "issue"])["token"].as_str().unwrap().to_owned();
    a.run(&["mesh", "join", &token]).ok();
    await_link(&a, &b);
    (directory, relay, a, b)
}

fn await_link(a: &Node, b: &Node) {
    wait_for("both nodes to see each other", || (sees(a, "b") && sees(b, "a")).then_some(()));
}

#[test]
fn a_node_that_stands_still_for_longer_than_its_lanes_live_costs_nothing() {
    let (_directory, a, b) = pair("", "");
    let traffic = Traffic::start(&a, &b, 32, None);
    traffic.await_more(1_000);
    for (still, other) in [(&b, &a), (&a, &b)] {
        still.process.signal(Signal::STOP);
        // Ten ticks without a byte are the end of each.
        wait_for("the end of every lane", || lanes(other).is_empty().then_some(()));
        still.process.signal(Signal::CONT);
        await_link(&a, &b);
        traffic.await_more(1_000);
    }
    traffic.finish(&a);
}

/// Ports of the bulk lanes, as B sees them, the first lane first.
fn bulk_ports(b: &Node) -> Vec<u16> {
    let lanes = lanes(b);
    let bulk = lanes.iter().filter(|lane| lane["lane_class"] == "bulk");
    let mut ports: Vec<(u64, u16)> = bulk
        .map(|lane| {
            let (_, port) = lane["remote_address"].as_str().unwrap().rsplit_once(':').unwrap();
            (lane["lane_id"].as_u64().unwrap(), port.parse().unwrap())
        })
        .collect();
    ports.sort_unstable();
    ports.into_iter().map(|(_, port)| port).collect()
}

/// Waits for an event of the link to B.
fn await_event(a: &Node, names: &[&str]) {
    wait_for(&format!("one of the events {names:?}"), || {
        let events = a.json(&["lane", "events", "--peer", "b"]);
        let mut events = events.as_array().unwrap().iter();
        events.any(|event| names.contains(&event["name"].as_str().unwrap())).then_some(())
    });
}

#[test]
fn unlike_lanes_and_one_that_stalls_cost_a_striped_stream_nothing() {
    let (_directory, relay, a, b) = pair_over_relay(LANE);
    let opened = a.json(&["stream", "open", "s", "--to", "b", "--stripe"]);
    assert!(opened["pending_dst_nodes"].as_array().unwrap().is_empty(), "{opened}");
    let traffic = Traffic::start(&a, &b, LINE_BYTES, None);
    let ports = wait_for("two lanes for the stream", || {
        Some(bulk_ports(&b)).filter(|ports| ports.len() >= 2)
    });
    traffic.await_more(1_000);
    relay.treat(ports[1], |passage| passage.delay += FAR);
    traffic.await_more(2_000);
    relay.treat(ports[0], |passage| passage.held = true);
    // What it has in flight goes over the other one, and what follows, too.
    await_event(&a, &["hedged"]);
    traffic.await_more(1_000);
    relay.treat(ports[0], |passage| passage.held = false);
    // Where the machine is slow it may be dead by then.
    await_event(&a, &["lane-heard", "lane-down"]);
    traffic.await_more(1_000);
    traffic.finish(&a);
}
