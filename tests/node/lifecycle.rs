//! Start, stop, reload, leave.

use std::fs;
use std::io::{Read, Write};
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::process::{Guarded, Mesh, Node, Spec, skip, wait_for};

#[test]
fn a_node_stops_in_time_and_well_even_with_a_subscriber() {
    let mut mesh = Mesh::start();
    mesh.open("s");
    let mut subscriber = mesh.c.spawn(&["stream", "sub", "s"], Stdio::null());
    wait_for("the subscription", || {
        mesh.a.feed(&["stream", "pub", "s"], b"x\n").ok();
        (mesh.c.stream("s", "destination")?["acked_seq"].as_u64()? > 0).then_some(())
    });
    for signal in [Signal::TERM, Signal::INT] {
        let node = if signal == Signal::TERM { &mut mesh.c } else { &mut mesh.b };
        let asked = Instant::now();
        node.process.signal(signal);
        assert_eq!(node.process.wait(), Some(0), "{}", node.log());
        let took = asked.elapsed();
        assert!(took < Duration::from_secs(3), "{took:?}");
        assert!(node.log().contains("stopped"), "{}", node.log());
        assert!(!node.data_dir.join("api.sock").exists());
    }
    assert_eq!(subscriber.wait(), Some(4), "its node went away");
}

#[test]
fn who_talks_to_a_node_that_is_killed_is_told_so() {
    let directory = tempfile::tempdir().unwrap();
    let mut node = Node::start(directory.path(), &Spec::dialling("a"));
    node.run(&["mesh", "seed", "m"]).ok();
    node.run(&["stream", "open", "s", "--to", "a"]).ok();
    let socket = node.data_dir.join("api.sock").display().to_string();
    let start = |arguments: &[&str], stdin: Stdio| {
        let mut command = node.command(arguments);
        command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
        (arguments.join(" "), Guarded(command.spawn().unwrap()))
    };
    let mut publisher = start(&["stream", "pub", "s"], Stdio::piped());
    let mut talking = vec![
        start(&["stream", "sub", "s"], Stdio::null()),
        start(&["events", "watch"], Stdio::null()),
        start(&["lane", "events", "--follow"], Stdio::null()),
    ];
    // The publisher and the subscriber are through when a line is confirmed; the others have a
    // connection each when the node has as many.
    let stdin = publisher.1.0.stdin.as_mut().unwrap();
    stdin.write_all(b"x\n").unwrap();
    wait_for("a message to come through", || {
        (node.stream("s", "destination")?["acked_seq"].as_u64()? > 0).then_some(())
    });
    wait_for("four connections", || (connections(&socket) >= 4).then_some(()));
    node.process.signal(Signal::KILL);
    node.process.wait();
    talking.push(publisher);
    for (command, mut client) in talking {
        let mut said = String::new();
        client.0.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!(client.wait(), Some(4), "{command}: {said}");
        let expected = format!("error: {socket}: the connection to the node was lost");
        assert!(said.starts_with(&expected), "{command}: {said}");
    }
}

/// Connections that the node at `socket` has accepted.
fn connections(socket: &str) -> usize {
    // State 03 is connected; of each connection the end that was accepted has the name.
    let sockets = fs::read_to_string("/proc/net/unix").unwrap();
    let connected = |line: &&str| line.ends_with(socket) && line.split(' ').nth(5) == Some("03");
    sockets.lines().filter(connected).count()
}

#[test]
fn a_node_keeps_identity_mesh_and_streams_over_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let spec = Spec::dialling("a");
    let mut node = Node::start(directory.path(), &spec);
    node.run(&["mesh", "seed", "m"]).ok();
    node.run(&["stream", "open", "s", "--to", "a"]).ok();
    let before = node.json(&["mesh", "status"]);
    node.process.signal(Signal::TERM);
    node.process.wait();
    let node = Node::start(directory.path(), &spec);
    let after = node.json(&["mesh", "status"]);
    assert_eq!((&before["node_id"], &before["mesh_id"]), (&after["node_id"], &after["mesh_id"]));
    assert_eq!(node.ready["boot"], 2);
    assert_eq!(node.stream("s", "source").unwrap()["state"], "open");
    node.run(&["mesh", "leave"]).ok();
    assert_eq!(node.json(&["mesh", "status"])["state"], "none");
    assert_eq!(node.json(&["stream", "ls"]), serde_json::json!([]));
}

#[test]
fn a_leashed_node_ends_with_the_process_that_started_it() {
    let directory = tempfile::tempdir().unwrap();
    let mut node = Node::start(directory.path(), &Spec::dialling("a"));
    node.run(&["mesh", "status"]).ok();
    drop(node.leash.take());
    assert_eq!(node.process.wait(), Some(0));
}

#[test]
fn sighup_takes_the_log_level_and_names_what_needs_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let spec = Spec { config: "[log]\nformat = \"json\"\n", ..Spec::dialling("a") };
    let node = Node::start(directory.path(), &spec);
    for line in node.log().lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(line["time"].is_string() && line["message"].is_string(), "{line}");
    }
    let path = directory.path().join("a.toml");
    let log_after = |config: &str, word: &str| {
        let known = node.log().len();
        fs::write(&path, config).unwrap();
        node.process.signal(Signal::HUP);
        wait_for(word, || {
            node.log()[known..].contains(word).then(|| node.log()[known..].to_owned())
        })
    };
    log_after("[lgo]\nlevel = \"debug\"\n", "did you mean log.level?");
    log_after("[log]\nformat = \"json\"\n[shards]\nspin_us = 7\n", "shards.spin_us");
    log_after(
        "[log]\nformat = \"json\"\nlevel = \"warn\"\n[shards]\nspin_us = 8\n",
        "shards.spin_us",
    );
    let known = node.log().len();
    node.run(&["mesh", "seed", "m"]).ok();
    assert!(!node.log()[known..].contains("INFO"), "{}", &node.log()[known..]);
}

#[test]
fn a_node_has_huge_pages_only_if_that_is_configured() {
    if !fs::read_to_string("/proc/self/status").unwrap().contains("THP_enabled:\t1") {
        return skip("this kernel has no transparent huge pages, or not for this process");
    }
    let directory = tempfile::tempdir().unwrap();
    for (name, config, says) in
        [("a", "", "THP_enabled:\t0"), ("b", "[node]\nhuge_pages = true\n", "THP_enabled:\t1")]
    {
        let node = Node::start(directory.path(), &Spec { config, ..Spec::dialling(name) });
        let status = format!("/proc/{}/status", node.process.0.id());
        let status = fs::read_to_string(status).unwrap();
        assert!(status.lines().any(|line| line == says), "{says:?} in {status}");
    }
}

#[test]
fn a_stopped_mesh_starts_again() {
    let mesh = Mesh::start();
    mesh.a.run(&["mesh", "stop"]).ok();
    assert_eq!(mesh.a.json(&["mesh", "status"])["state"], "stopped");
    mesh.a.run(&["mesh", "start"]).ok();
    mesh.wait_until_whole();
}

#[test]
fn an_interrupted_subscriber_confirms_what_it_wrote() {
    let mesh = Mesh::start();
    mesh.open("s");
    mesh.a.feed(&["stream", "pub", "s"], b"1\n2\n3\n").ok();
    let mut subscriber: Guarded = mesh.c.spawn(&["stream", "sub", "s"], Stdio::null());
    let mut stdout = subscriber.0.stdout.take().unwrap();
    let mut lines = [0; 6];
    stdout.read_exact(&mut lines).unwrap();
    subscriber.signal(Signal::INT);
    assert_eq!(subscriber.wait(), Some(0));
    mesh.a.feed(&["stream", "pub", "s"], b"4\n").ok();
    assert_eq!(mesh.c.run(&["stream", "sub", "s", "--count", "1"]).ok().text(), "4\n");
}
