//! A data directory that was copied, and two processes that run on it: the mesh keeps to the first,
//! and everybody who can do something about it is told.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::process::{Mesh, Node, Spec, wait_for};
use crate::watcher::Watcher;

/// The twin is refused so often before the test looks at what that has done to the mesh.
const REFUSALS: u64 = 4;
/// Paths of a mesh that nobody disturbs change this often at most while that goes on: metrics move.
const CHANGES_MAX: u64 = 12;

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_file() {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

fn status(node: &Node) -> Value {
    node.json(&["mesh", "status"])
}

fn rejected(node: &Node, reason: &str) -> u64 {
    status(node)["link_state_rejects"][reason].as_u64().unwrap_or(0)
}

/// Lane and connection of each lane to C.
fn lanes_to_c(node: &Node) -> Vec<(u64, u64)> {
    let lanes = node.json(&["lane", "ls"]);
    let lanes = lanes.as_array().unwrap().iter().filter(|lane| lane["peer_name"] == "c");
    lanes.map(|lane| (lane["lane_id"].as_u64().unwrap(), lane["epoch"].as_u64().unwrap())).collect()
}

#[test]
fn a_copy_of_a_node_that_runs_beside_it_is_refused_and_named() {
    let mut mesh = Mesh::start();
    let (root, copied) = (mesh.directory.path().to_owned(), tempfile::tempdir().unwrap());
    // Stopped, copied, and both started: the same key, name and incarnation.
    drop(mesh.c.leash.take());
    mesh.c.process.wait();
    copy(&root.join("c"), &copied.path().join("c"));
    mesh.c = Node::start(&root, &Spec::dialling("c"));
    mesh.wait_until_whole();
    let before = wait_for("all lanes to C", || {
        let lanes = lanes_to_c(&mesh.b);
        (lanes.len() == 3).then_some(lanes)
    });
    let watcher = Watcher::start(&mesh.b, &["refused", "lane_down", "link_down"]);
    let generation = |node| status(node)["route_generation"].as_u64().unwrap();
    let generation_before = generation(&mesh.a);

    let twin = Node::start(copied.path(), &Spec::dialling("c"));
    let refused = watcher.next(|event| event["kind"] == "refused");
    let detail = refused["detail"].as_str().unwrap();
    assert!(detail.starts_with("c, from 127.0.0.1: two processes run as one node"), "{detail}");
    wait_for("further refusals", || {
        (rejected(&mesh.b, "duplicate-node") >= REFUSALS).then_some(())
    });
    // What it did is told where it happened, and to who runs the copy.
    let events = mesh.b.json(&["lane", "events", "--peer", "c"]);
    let named = events.as_array().unwrap().iter().find(|event| event["name"] == "lane-refused");
    assert!(
        named.unwrap()["inputs"]["why"].as_str().unwrap().contains("another process"),
        "{events}"
    );
    wait_for("the twin to say what is wrong", || {
        let log = twin.log();
        (log.contains("ERROR") && log.contains("stop one of the two")).then_some(())
    });
    // And the mesh goes on as before.
    assert_eq!(lanes_to_c(&mesh.b), before);
    assert!(watcher.seen().iter().all(|event| event["kind"] == "refused"), "a lane of C is gone");
    let changes = generation(&mesh.a) - generation_before;
    assert!(changes <= CHANGES_MAX, "{changes} changes of paths");
    assert_eq!(rejected(&mesh.c, "overtaken"), 0);
    mesh.open("s");
    mesh.a.feed(&["stream", "pub", "s"], b"hello\n").ok();
    assert_eq!(mesh.c.run(&["stream", "sub", "s", "--count", "1"]).ok().text(), "hello\n");
}
