//! `hawser route add` and `drop`: what an operator sets, whole nodes obey.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::process::{Node, wait_for};
use crate::triangle::{Triangle, nodes_of, paths_to};

/// The paths of `node` to C.
fn to_c(node: &Node) -> Value {
    paths_to(node, "c")
}

/// What operators have set of the rows: its nodes, its share, and why it is not taken.
fn set_of(rows: &Value) -> Vec<(String, u64, Value)> {
    let set = rows.as_array().unwrap().iter().filter(|row| row["operator"] == true);
    set.map(|row| (nodes_of(row), row["weight"].as_u64().unwrap(), row["obstacle"].clone()))
        .collect()
}

/// The paths that have a share.
fn shared(rows: &Value) -> Vec<String> {
    let used = rows.as_array().unwrap().iter().filter(|row| row["weight"].as_u64() > Some(0));
    used.map(nodes_of).collect()
}

fn sent_bytes(node: &Node, peer: &str) -> u64 {
    let links = node.json(&["link", "ls"]);
    let link = links.as_array().unwrap().iter().find(|link| link["b_name"] == peer).unwrap();
    link["sent_bytes"].as_u64().unwrap()
}

/// Publishes on stream `s` until all of a message goes over the link of A to `peer`: a link that was
/// silent for a moment is avoided for a while.
fn until_sent_over(mesh: &Triangle, peer: &str) {
    const MESSAGE: usize = 400_000;
    let other = if peer == "b" { "c" } else { "b" };
    wait_for("a message to go the way that is set", || {
        let links = [peer, other];
        let before = links.map(|link| sent_bytes(&mesh.a, link));
        mesh.a.feed(&["stream", "pub", "s", "--raw"], &[7; MESSAGE]).ok();
        let after = links.map(|link| sent_bytes(&mesh.a, link));
        let [wanted, unwanted] = [0, 1].map(|at: usize| after[at] - before[at]);
        (wanted > MESSAGE as u64 && unwanted < MESSAGE as u64 / 4).then_some(())
    });
}

#[test]
fn a_route_that_is_set_is_taken_shown_explained_and_kept() {
    let mut mesh = Triangle::start();
    let opened = mesh.a.json(&["stream", "open", "s", "--to", "c"]);
    assert!(opened["pending_dst_nodes"].as_array().unwrap().is_empty(), "{opened}");

    // It is in force when the command ends.
    let rows = mesh.a.json(&["route", "add", "c", "--via", "b"]);
    assert_eq!(set_of(&rows), [("a b c".to_owned(), 1000, Value::Null)], "{rows}");
    assert_eq!((shared(&rows), nodes_of(&rows[0])), (vec!["a b c".to_owned()], "a b c".to_owned()));
    until_sent_over(&mesh, "b");
    // What another node sends there is not touched.
    assert_eq!(set_of(&to_c(&mesh.b)), []);

    let explained = mesh.a.json(&["route", "explain", "a", "c"]);
    assert_eq!(explained["operator_route"], json!({"nodes": ["a", "b", "c"], "obstacle": null}));
    let first = &explained["candidates"][0];
    assert_eq!((&first["verdict"], nodes_of(first)), (&json!("operator"), "a b c".to_owned()));
    assert_eq!(first["path_id"], rows[0]["path_id"]);
    let text = mesh.a.run(&["route", "explain", "a", "c"]).ok();
    assert!(text.text().contains("set by an operator"), "{text:?}");
    // It is announced: others know why A's traffic goes where it goes.
    wait_for("the announcement at C", || {
        let explained = mesh.c.json(&["route", "explain", "a", "c"]);
        (explained["candidates"][0]["verdict"] == "operator").then_some(())
    });

    // A restart keeps it.
    mesh.a.process.signal(Signal::TERM);
    assert_eq!(mesh.a.process.wait(), Some(0));
    mesh.a = Node::start(mesh.directory.path(), &mesh.spec_a);
    wait_for("the route after a restart", || {
        (set_of(&to_c(&mesh.a)) == [("a b c".to_owned(), 1000, Value::Null)]).then_some(())
    });
    until_sent_over(&mesh, "b");

    // While the way is not there, it is as if no route were set; what is sent arrives.
    mesh.b.process.signal(Signal::KILL);
    let rows = wait_for("the computed path", || {
        let rows = to_c(&mesh.a);
        (shared(&rows) == ["a c"]).then_some(rows)
    });
    assert_eq!(set_of(&rows), [("a b c".to_owned(), 0, json!("no link a - b"))]);
    mesh.a.feed(&["stream", "pub", "s"], b"without B\n").ok();
    let explained = mesh.a.json(&["route", "explain", "a", "c"]);
    assert_eq!(explained["operator_route"]["obstacle"], "no link a - b");
    assert_eq!(explained["candidates"][0]["verdict"], "best");
    let text = mesh.a.run(&["route", "explain", "a", "c"]).ok();
    assert!(text.text().contains("not taken: a b c (no link a - b)"), "{text:?}");
    mesh.b = Node::start(mesh.directory.path(), &mesh.spec_b);
    wait_for("the way that is set", || (shared(&to_c(&mesh.a)) == ["a b c"]).then_some(()));

    // Who carries nothing for others is no way either.
    mesh.b.run(&["node", "drain"]).ok();
    let rows = wait_for("the computed path", || {
        let rows = to_c(&mesh.a);
        (shared(&rows) == ["a c"]).then_some(rows)
    });
    assert_eq!(set_of(&rows), [("a b c".to_owned(), 0, json!("b is no transit"))]);

    let rows = mesh.a.json(&["route", "drop", "c"]);
    assert_eq!((set_of(&rows), shared(&rows)), (vec![], vec!["a c".to_owned()]));
    let rows = mesh.a.json(&["route", "add", "c"]);
    assert_eq!(set_of(&rows), [("a c".to_owned(), 1000, Value::Null)], "the link itself");
    mesh.b.run(&["node", "undrain"]).ok();
    until_sent_over(&mesh, "c");
}

#[test]
fn a_route_that_cannot_be_is_refused_with_the_reason() {
    let mesh = Triangle::start();
    let a = &mesh.a;
    let add = |arguments: &[&str]| a.run(&[&["route", "add"], arguments].concat());
    add(&["cc"]).refused(3, &["\"cc\"", "did you mean \"c\"?"]);
    add(&["c", "--via", "nobody"]).refused(3, &["\"nobody\""]);
    add(&["a"]).refused(2, &["another node"]);
    add(&["c", "--via", "b,b"]).refused(2, &["each node once"]);
    add(&["c", "--via", "c"]).refused(2, &["each node once"]);
    add(&["c", "--via", "a"]).refused(2, &["each node once"]);
    a.run(&["route", "drop", "c"]).refused(3, &["no route to c"]);
    a.run(&["route", "drop", "nobody"]).refused(3, &["\"nobody\""]);
    add(&["c", "--via", "b"]).ok();
    add(&["c", "--via", "b"]).refused(1, &["by b", "hawser route drop c"]);
    a.run(&["route", "drop", "b"]).refused(3, &["no route to b", "routes lead to c"]);
    assert_eq!(set_of(&to_c(a)), [("a b c".to_owned(), 1000, Value::Null)], "as it was");
    a.run(&["route", "drop", "c"]).ok();
    // Leaving forgets what was set; so does nothing else.
    add(&["c", "--via", "b"]).ok();
    a.run(&["mesh", "leave"]).ok();
    add(&["c"]).refused(1, &["no mesh"]);
    let token = mesh.b.json(&["token", "issue"])["token"].as_str().unwrap().to_owned();
    a.run(&["mesh", "join", &token]).ok();
    wait_for("paths to C", || (!shared(&to_c(a)).is_empty()).then_some(()));
    assert_eq!(set_of(&to_c(a)), []);
}
