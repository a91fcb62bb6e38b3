//! `hawser node evict`: who is out stays out, and everybody knows it.

use rustix::process::Signal;
use serde_json::Value;

use crate::process::{Node, wait_for};
use crate::triangle::Triangle;

fn status(node: &Node) -> Value {
    node.json(&["mesh", "status"])
}

/// Names of the nodes that are out, as `node` knows them.
fn evicted(node: &Node) -> Vec<String> {
    let status = status(node);
    let evictions = status["evictions"].as_array().unwrap();
    evictions.iter().map(|out| out["name"].as_str().unwrap().to_owned()).collect()
}

/// Waits until `node` knows that C is out, and has neither a link to it nor a place for it.
fn wait_until_c_is_out(node: &Node) {
    wait_for("the eviction of C", || {
        let status = status(node);
        let nodes = status["nodes"].as_array().unwrap();
        let lanes = node.json(&["lane", "ls"]);
        let gone = nodes.iter().all(|n| n["name"] != "c")
            && lanes.as_array().unwrap().iter().all(|lane| lane["peer_name"] != "c");
        (gone && evicted(node) == ["c"]).then_some(())
    });
}

fn restart(node: &mut Node, mesh: &tempfile::TempDir, spec: &crate::process::Spec) {
    node.process.signal(Signal::TERM);
    assert_eq!(node.process.wait(), Some(0), "{}", node.log());
    *node = Node::start(mesh.path(), spec);
}

#[test]
fn who_is_evicted_is_out_for_good_and_knows_it() {
    let mut mesh = Triangle::start();
    mesh.a.run(&["node", "evict", "c"]).refused(1, &["certificate authority"]);
    mesh.b.run(&["node", "evict", "b"]).refused(1, &["\"b\" cannot be evicted"]);
    mesh.b.run(&["node", "evict", "cc"]).refused(3, &["\"cc\"", "did you mean \"c\"?"]);
    let long = "x".repeat(256);
    mesh.b.run(&["node", "evict", "c", "--reason", &long]).refused(2, &["255 bytes"]);
    // A is away meanwhile: it learns of it from who was there.
    mesh.a.process.signal(Signal::KILL);
    mesh.a.process.wait();
    mesh.b.run(&["node", "evict", "c", "--reason", "stolen"]).ok();
    wait_until_c_is_out(&mesh.b);
    let own = wait_for("C to know it", || {
        let status = status(&mesh.c);
        (status["state"] == "evicted").then_some(status)
    });
    let record = &own["evictions"][0];
    let said = ["name", "by_name", "reason"].map(|key| record[key].as_str().unwrap());
    assert_eq!(said, ["c", "b", "stolen"], "{own}");
    assert_eq!(record["by_id"], status(&mesh.b)["node_id"]);
    let text = mesh.c.run(&["mesh", "status"]).ok();
    assert!(text.text().contains("this node, by b: stolen"), "{text:?}");
    assert!(mesh.c.log().contains("this node was evicted from its mesh"), "{}", mesh.c.log());
    let text = mesh.b.run(&["mesh", "status"]).ok();
    assert!(text.text().contains("by b: stolen"), "{text:?}");

    mesh.a = Node::start(mesh.directory.path(), &mesh.spec_a);
    wait_until_c_is_out(&mesh.a);
    // Again is as once, and all is kept.
    mesh.b.run(&["node", "evict", "c"]).ok();
    restart(&mut mesh.b, &mesh.directory, &mesh.spec_b);
    wait_until_c_is_out(&mesh.b);
    restart(&mut mesh.c, &mesh.directory, &mesh.spec_c);
    assert_eq!(status(&mesh.c)["state"], "evicted");
    assert_eq!(mesh.c.json(&["lane", "ls"]), serde_json::json!([]));
    mesh.c.run(&["mesh", "start"]).refused(1, &["was evicted", "hawser mesh leave"]);
    // No token brings the key back.
    mesh.c.run(&["mesh", "leave"]).ok();
    assert_eq!(evicted(&mesh.c), [""; 0]);
    let token = mesh.b.json(&["token", "issue"])["token"].as_str().unwrap().to_owned();
    mesh.c.run(&["mesh", "join", &token]).refused(5, &["evicted from the mesh"]);
    assert_eq!(status(&mesh.c)["state"], "none");
}

#[test]
fn who_was_away_when_it_was_evicted_is_told_at_the_door() {
    let mut mesh = Triangle::start();
    mesh.c.process.signal(Signal::KILL);
    mesh.c.process.wait();
    mesh.b.run(&["node", "evict", "c", "--reason", "lost"]).ok();
    wait_until_c_is_out(&mesh.a);
    restart(&mut mesh.b, &mesh.directory, &mesh.spec_b);
    mesh.c = Node::start(mesh.directory.path(), &mesh.spec_c);
    wait_for("C to know it", || (status(&mesh.c)["state"] == "evicted").then_some(()));
    assert!(mesh.c.log().contains(": lost"), "{}", mesh.c.log());
    assert_eq!(evicted(&mesh.c), ["c"]);
    assert_eq!(mesh.c.json(&["lane", "ls"]), serde_json::json!([]));
    // The others are as they were.
    for (node, other) in [(&mesh.a, "b"), (&mesh.b, "a")] {
        wait_for("the link between A and B", || {
            let status = status(node);
            let nodes = status["nodes"].as_array().unwrap().clone();
            nodes.into_iter().find(|n| n["name"] == other && n["hops"] == 1)
        });
        assert_eq!(evicted(node), ["c"]);
    }
}
