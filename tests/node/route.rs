//! `hawser route`: what a node says of its paths.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::process::{Node, Spec, wait_for};
use crate::triangle::{Triangle, nodes_of, ways};

#[test]
fn each_path_is_shown_and_explained() {
    let mesh = Triangle::start();
    let (a, b) = (&mesh.a, &mesh.b);
    let rows = wait_for("both paths", || {
        let rows = a.json(&["route", "ls", "c"]);
        (ways(&rows) == ["a b c", "a c"]).then_some(rows)
    });
    for row in rows.as_array().unwrap() {
        assert_eq!(row["destination_name"], "c");
        assert_eq!(row["disjoint"], true, "{row}");
    }
    assert!(rows[0]["weight"].as_u64().unwrap() > 0, "the best one has a share: {rows}");
    let all = a.json(&["route", "ls"]);
    assert_eq!(ways(&all), ["a b", "a b c", "a c", "a c b"]);

    let explained = a.json(&["route", "explain", "a", "c"]);
    let found = explained["candidates"].as_array().unwrap();
    assert_eq!(ways(&explained["candidates"]), ["a b c", "a c"]);
    assert_eq!(found[0]["verdict"], "best");
    for candidate in found {
        let hops = candidate["hops"].as_array().unwrap();
        let sum: u64 = hops.iter().map(|hop| hop["cost"].as_u64().unwrap()).sum();
        assert_eq!(candidate["cost"], sum, "{candidate}");
        for hop in hops {
            let terms = [&hop["latency_cost"], &hop["hop_cost"]].map(|term| term.as_u64().unwrap());
            assert_eq!((terms[1], &hop["cost"]), (50, &terms.iter().sum::<u64>().into()), "{hop}");
        }
    }
    if found[1]["verdict"] == "dearer" {
        let costs = [0, 1].map(|at: usize| found[at]["cost"].as_u64().unwrap());
        assert_eq!(found[1]["by"], costs[1] - costs[0], "{explained}");
    }
    // The paths in use are named as `route ls` names them.
    let named = wait_for("the snapshot and the database to agree", || {
        let rows = a.json(&["route", "ls", "c"]);
        let explained = a.json(&["route", "explain", "a", "c"]);
        let ids = |rows: &Value| -> Vec<Value> {
            rows.as_array().unwrap().iter().map(|row| row["path_id"].clone()).collect()
        };
        (ids(&rows) == ids(&explained["candidates"])).then_some(explained)
    });
    assert!(named["candidates"][0]["weight"].as_u64().unwrap() > 0);
    // Another node's are not this node's, and are of the same links.
    let other = a.json(&["route", "explain", "c", "b", "-k", "1"]);
    assert_eq!(other["candidates"].as_array().unwrap().len(), 1, "{other}");
    assert_eq!(other["candidates"][0]["path_id"], json!(null));
    let text = a.run(&["route", "explain", "a", "c", "-o", "table"]).ok();
    assert!(text.text().contains("LATENCY") && text.text().contains("a b c"), "{text:?}");

    b.run(&["node", "drain"]).ok();
    let explained = wait_for("the way over B to be none", || {
        let explained = a.json(&["route", "explain", "a", "c"]);
        let found = explained["candidates"].as_array().unwrap();
        found.iter().any(|found| found["no_transit"] == "b").then_some(explained)
    });
    let lost = explained["candidates"].as_array().unwrap().iter();
    let lost: Vec<&Value> = lost.filter(|found| found["verdict"] != "best").collect();
    assert_eq!((lost.len(), lost[0]["verdict"].as_str()), (1, Some("no-transit")), "{explained}");
    assert_eq!((nodes_of(lost[0]), &lost[0]["path_id"]), ("a b c".to_owned(), &json!(null)));
    wait_for("its end", || (ways(&a.json(&["route", "ls", "c"])) == ["a c"]).then_some(()));
}

#[test]
fn each_class_has_paths_by_its_own_weights() {
    let config = "[routing]\nweights_control = \"hop=7\"\nweights_bulk = \"latency=2,hop=1\"\n";
    let mesh = Triangle::start_with(config);
    let a = &mesh.a;
    // Counted in hops the link to C is the better way, whatever is measured.
    let costs = |rows: &Value| -> Vec<(String, u64)> {
        let rows = rows.as_array().unwrap().iter();
        rows.map(|row| (nodes_of(row), row["cost"].as_u64().unwrap())).collect()
    };
    let by_hops = [("a c".to_owned(), 7), ("a b c".to_owned(), 14)];
    assert_eq!(costs(&a.json(&["route", "ls", "c", "--class", "control"])), by_hops);
    let control = a.json(&["route", "explain", "a", "c", "--class", "control"]);
    assert_eq!(
        (&control["class"], costs(&control["candidates"])),
        (&"control".into(), by_hops.into())
    );
    let hop = &control["candidates"][0]["hops"][0];
    assert_eq!((&hop["hop_cost"], &hop["latency_cost"]), (&7.into(), &0.into()), "{control}");
    let bulk = wait_for("latency that is measured", || {
        let bulk = a.json(&["route", "explain", "a", "c"]);
        let hop = &bulk["candidates"][0]["hops"][0];
        (hop["latency_cost"].as_u64() > Some(0)).then_some(bulk)
    });
    for candidate in bulk["candidates"].as_array().unwrap() {
        for hop in candidate["hops"].as_array().unwrap() {
            let latency = hop["latency_cost"].as_u64().unwrap();
            assert_eq!((latency % 2, &hop["hop_cost"]), (0, &1.into()), "twice the latency: {hop}");
            assert_eq!(hop["cost"], latency + 1, "{hop}");
        }
    }
    // What is not named has the default.
    let exported = a.json(&["plan", "--live", "--export"]);
    assert_eq!(
        (&exported["weights"]["priority"]["latency"], &exported["weights"]["bulk"]["latency"]),
        (&1.0.into(), &2.0.into())
    );
    assert_eq!(exported["weights"]["bulk"]["utilization"], 1.0, "shares follow the use of links");
    // Other nodes have their own.
    let theirs = mesh.b.json(&["route", "explain", "a", "c", "--class", "control"]);
    assert_eq!(theirs["candidates"][0]["hops"][0]["hop_cost"], 50, "{theirs}");
}

#[test]
fn what_cannot_be_explained_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(directory.path(), &Spec::listening("alone"));
    assert_eq!(node.json(&["route", "ls"]), json!([]));
    node.run(&["mesh", "seed", "test"]).ok();
    node.run(&["route", "explain", "alone", "nobody"]).refused(3, &["nobody"]);
    node.run(&["route", "ls", "nobody"]).refused(3, &["nobody"]);
    node.run(&["route", "explain", "alone", "alone"]).refused(2, &["one node"]);
    node.run(&["route", "explain", "alone", "alone", "-k", "0"]).refused(2, &["1..=1024"]);
}

/// Which way the message `seq` went.
fn way_of(mesh: &Triangle, seq: u64) -> Value {
    mesh.a.json(&["route", "explain", "--message", &format!("orders:{seq}")])
}

/// The nodes on the way that a message took first; none if it waits.
fn first_sending(told: &Value) -> String {
    let sending = &told["destinations"][0]["sendings"][0];
    if sending.is_null() { String::new() } else { nodes_of(sending) }
}

/// Publishes messages, the next of which is `next`, until one goes over `nodes`: a link that is silent
/// for a moment is left. Which one that is.
fn publish_until_sent_over(mesh: &Triangle, mut next: u64, nodes: &str) -> u64 {
    wait_for("a message that goes that way", || {
        mesh.a.feed(&["stream", "pub", "orders"], b"a message\n").ok();
        let seq = next;
        next += 1;
        (first_sending(&way_of(mesh, seq)) == nodes).then_some(seq)
    })
}

/// Makes what A sends to C go one way and no other.
fn take_way(mesh: &Triangle, via: &[&str], nodes: &str) {
    mesh.a.run(&[&["route", "add", "c"], via].concat()).ok();
    wait_for("the way to be in force", || {
        let rows = mesh.a.json(&["route", "ls", "c"]);
        let first = rows[0]["operator"] == true && rows[0]["path_id"].is_u64();
        (first && nodes_of(&rows[0]) == nodes).then_some(())
    });
}

#[test]
fn the_way_that_a_message_took_is_told_later() {
    let mut mesh = Triangle::start();
    // One path, whatever is measured meanwhile.
    take_way(&mesh, &["--via", "b"], "a b c");
    mesh.a.run(&["stream", "open", "orders", "--to", "c"]).ok();
    mesh.a
        .run(&["route", "explain", "--message", "orders:1"])
        .refused(3, &["nothing was published"]);
    let first = publish_until_sent_over(&mesh, 1, "a b c");
    let told = wait_for("its arrival", || {
        let told = way_of(&mesh, first);
        (told["destinations"][0]["state"] == "received").then_some(told)
    });
    assert_eq!((&told["stream"], &told["seq"]), (&"orders".into(), &first.into()));
    let journey = &told["destinations"][0];
    assert_eq!(journey["destination"], "c", "{told}");
    let sending = &journey["sendings"][0];
    assert_eq!(nodes_of(sending), "a b c", "{told}");
    assert_eq!(sending["again"], false, "{told}");
    assert!(sending["generation"].as_u64() > Some(0), "{told}");
    assert!(sending["from_unix_us"].as_u64() <= sending["until_unix_us"].as_u64(), "{told}");
    let named = format!("orders:{first}");
    let text = mesh.a.run(&["route", "explain", "--message", &named, "-o", "table"]).ok();
    assert!(text.text().contains("received") && text.text().contains("a b c"), "{text:?}");

    // Another way for what follows, and what has passed is remembered as it was.
    mesh.a.run(&["route", "drop", "c"]).ok();
    take_way(&mesh, &[], "a c");
    let last = publish_until_sent_over(&mesh, first + 1, "a c");
    assert_eq!(first_sending(&way_of(&mesh, first)), "a b c");

    let next = format!("orders:{}", last + 1);
    let end = format!("the last one is {last}");
    mesh.a.run(&["route", "explain", "--message", &next]).refused(3, &[&end]);
    mesh.a.run(&["route", "explain", "--message", "order:1"]).refused(3, &["orders"]);
    mesh.c.run(&["route", "explain", "--message", "orders:1"]).refused(1, &["another node"]);
    mesh.a.run(&["route", "explain", "--message", "orders"]).refused(2, &["STREAM:SEQ"]);
    mesh.a.run(&["route", "explain", "a", "--message", "orders:1"]).refused(2, &["cannot be used"]);
    // What a node of before its restart has sent it knows no more.
    mesh.a.process.signal(Signal::TERM);
    assert_eq!(mesh.a.process.wait(), Some(0));
    mesh.a = Node::start(mesh.directory.path(), &mesh.spec_a);
    wait_for("the stream to go on", || {
        let run = mesh.a.run(&["route", "explain", "--message", "orders:1"]);
        run.stderr.contains("forgotten").then_some(())
    });
}
