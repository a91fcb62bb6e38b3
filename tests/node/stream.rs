//! Streams through three nodes.

use std::io::Read;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::link_faults::Traffic;
use crate::process::{Mesh, Node, Spec, wait_for};

/// Of 1,000 bytes each: what nodes take longer for than for the rest of a test.
const BULK_LINES: u64 = 100_000;

/// A node that floods and is not read holds two windows of the stream and its queues, not the
/// flood; generous, because an allocator keeps what it had.
const NODE_BYTES_MAX: u64 = 160 << 20;
/// What a publisher can hand over while nobody reads: less than this.
const HELD_BYTES_MAX: u64 = 64 << 20;

fn lines(count: usize) -> Vec<u8> {
    (1..=count).flat_map(|n| format!("line {n}\n").into_bytes()).collect()
}

#[test]
fn three_nodes_carry_a_stream_once_and_in_order() {
    let mesh = Mesh::start();
    mesh.open("s");
    let sent = lines(20_000);
    let published = mesh.a.feed(&["stream", "pub", "s", "--json"], &sent).ok().json();
    assert_eq!((&published["published"], &published["duplicates"]), (&20_000.into(), &0.into()));

    let first = mesh.c.run(&["stream", "sub", "s", "--count", "5000"]).ok();
    let rest = mesh.c.run(&["stream", "sub", "s", "--count", "15000"]).ok();
    assert!([first.stdout, rest.stdout].concat() == sent, "a consumer goes on where it confirmed");

    let late = ["stream", "sub", "s", "--consumer", "late", "--from-seq", "1", "--count", "1"];
    mesh.c.run(&late).refused(1, &["20001"]);
}

#[test]
fn a_striped_stream_is_shown_as_one_and_carries_all_in_order() {
    let mesh = Mesh::start();
    let open = ["stream", "open", "s", "--to", "c", "--stripe"];
    mesh.a.run(&open).ok();
    mesh.a.run(&open[..5]).refused(1, &["striping"]);
    wait_for("stream s at c", || mesh.c.stream("s", "destination"));
    for (node, role) in [(&mesh.a, "source"), (&mesh.c, "destination")] {
        assert_eq!(node.stream("s", role).unwrap()["striped"], true, "{role}");
    }
    let sent = lines(20_000);
    mesh.a.feed(&["stream", "pub", "s"], &sent).ok();
    let received = mesh.c.run(&["stream", "sub", "s", "--count", "20000"]).ok();
    assert!(received.stdout == sent, "lines differ");
}

/// What a node has sent to another one over its lanes of a class.
fn sent_bytes(node: &Node, peer: &str, class: &str) -> u64 {
    let lanes = node.json(&["lane", "ls"]);
    let of = lanes.as_array().unwrap().iter();
    let of = of.filter(|lane| lane["peer_name"] == peer && lane["lane_class"] == class);
    of.map(|lane| lane["sent_bytes"].as_u64().unwrap()).sum()
}

#[test]
fn priority_arrives_once_and_in_order_beside_bulk_that_fills_the_links_over_a_lane_of_its_own() {
    let mesh = Mesh::start();
    mesh.open("s");
    let open = ["stream", "open", "p", "--to", "c", "--class", "priority"];
    mesh.a.run(&open).ok();
    mesh.a.run(&open[..5]).refused(1, &["traffic class"]);
    wait_for("stream p at c", || mesh.c.stream("p", "destination"));
    for (node, role) in [(&mesh.a, "source"), (&mesh.c, "destination")] {
        assert_eq!(node.stream("p", role).unwrap()["traffic_class"], "priority", "{role}");
        assert_eq!(node.stream("s", role).unwrap()["traffic_class"], "bulk", "{role}");
    }
    let bulk = Traffic::start(&mesh.a, &mesh.c, 1000, Some(BULK_LINES));
    bulk.await_more(1000);
    let hops = [(&mesh.a, "b"), (&mesh.b, "c")];
    let before = hops.map(|(node, peer)| sent_bytes(node, peer, "priority"));
    let sent = lines(20_000);
    mesh.a.feed(&["stream", "pub", "p"], &sent).ok();
    let received = mesh.c.run(&["stream", "sub", "p", "--count", "20000"]).ok();
    assert!(received.stdout == sent, "lines differ");
    assert!(bulk.received() < BULK_LINES, "bulk was over before");
    for ((node, peer), before) in hops.into_iter().zip(before) {
        let bytes = sent_bytes(node, peer, "priority") - before;
        assert!(bytes >= sent.len() as u64, "{bytes} bytes to {peer} over the lane of priority");
    }
    bulk.finish(&mesh.a);
}

#[test]
fn a_producer_goes_on_where_it_ended_and_repeats_are_removed() {
    let mesh = Mesh::start();
    mesh.open("s");
    mesh.a.feed(&["stream", "pub", "s"], b"1\n2\n").ok();
    mesh.a.feed(&["stream", "pub", "s"], b"3\n4\n").ok();
    let repeated = mesh.a.feed(&["stream", "pub", "s", "--from-seq", "3", "--json"], b"3\n4\n5\n");
    assert_eq!(repeated.ok().json()["duplicates"], 2);
    let other = mesh.a.feed(&["stream", "pub", "s", "--producer", "other"], b"6\n");
    other.ok();
    let received = mesh.c.run(&["stream", "sub", "s", "--count", "6"]).ok();
    assert_eq!(received.text(), "1\n2\n3\n4\n5\n6\n");
}

#[test]
fn a_closed_stream_delivers_what_it_holds_and_ends_its_subscribers() {
    let mesh = Mesh::start();
    mesh.open("s");
    mesh.a.feed(&["stream", "pub", "s", "--raw"], &[7; 300_000]).ok();
    mesh.a.run(&["stream", "close", "s"]).ok();
    let received = mesh.c.run(&["stream", "sub", "s", "--raw"]).ok();
    assert!(received.stdout == [7; 300_000]);
    let refused = mesh.a.feed(&["stream", "pub", "s"], b"late\n");
    assert_ne!(refused.code, 0, "{refused:?}");
}

#[test]
fn a_relay_that_dies_costs_nothing() {
    let mut mesh = Mesh::start();
    mesh.open("s");
    let sent = lines(5_000);
    let mut subscriber = mesh.c.spawn(&["stream", "sub", "s", "--count", "10000"], Stdio::null());
    mesh.a.feed(&["stream", "pub", "s"], &sent).ok();

    let spec = Spec {
        listen: mesh.b.json(&["mesh", "status"])["nodes"]
            .as_array()
            .unwrap()
            .iter()
            .find(|node| node["name"] == "b")
            .unwrap()["address"]
            .as_str()
            .unwrap()
            .to_owned(),
        ..Spec::dialling("b")
    };
    mesh.b.process.signal(rustix::process::Signal::KILL);
    mesh.b.process.wait();
    mesh.b = Node::start(mesh.directory.path(), &spec);
    mesh.a.feed(&["stream", "pub", "s"], &sent).ok();

    let (code, received) = subscriber.output();
    assert_eq!(code, Some(0));
    assert!(received == [sent.clone(), sent].concat());
}

#[test]
fn a_slow_subscriber_holds_the_publisher_back_and_loses_nothing() {
    const FLOOD_BYTES: usize = 96 << 20;
    let mesh = Mesh::start();
    mesh.open("s");
    let input = mesh.directory.path().join("flood");
    let flood: Vec<u8> = (0..FLOOD_BYTES / 8)
        .flat_map(|n| (n as u64).wrapping_mul(0x9e37_79b9).to_le_bytes())
        .collect();
    std::fs::write(&input, &flood).unwrap();

    // Nobody reads its standard output: the pipe fills, and it takes no more.
    let mut subscriber = mesh.c.spawn(&["stream", "sub", "s", "--raw"], Stdio::null());
    let stdin = std::fs::File::open(&input).unwrap();
    let mut publisher =
        mesh.a.spawn(&["stream", "pub", "s", "--raw", "--json"], Stdio::from(stdin));
    let mut last = (0, Instant::now());
    let held = wait_for("the publisher to be held back", || {
        let seq = mesh.a.stream("s", "source")?["last_seq"].as_u64()?;
        if seq != last.0 {
            last = (seq, Instant::now());
        }
        (seq > 0 && last.1.elapsed() > Duration::from_millis(700)).then_some(seq)
    });
    assert!(publisher.0.try_wait().unwrap().is_none(), "it was not held back");
    // Messages of --raw have at most 64 KiB.
    assert!(held * (64 << 10) < HELD_BYTES_MAX, "{held} messages were taken");
    for node in [&mesh.a, &mesh.b, &mesh.c] {
        let resident = node.resident_bytes();
        assert!(resident < NODE_BYTES_MAX, "{} MiB resident", resident >> 20);
    }

    let mut received = vec![0; FLOOD_BYTES];
    let mut stdout = subscriber.0.stdout.take().unwrap();
    stdout.read_exact(&mut received).unwrap();
    assert!(received == flood, "the bytes differ");
    let (code, summary) = publisher.output();
    assert_eq!(code, Some(0), "{}", String::from_utf8_lossy(&summary));
}
