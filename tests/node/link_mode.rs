//! `hawser link mode`: a live link changes between lanes for each class and one for all traffic.

use tempfile::TempDir;

use crate::link_faults::Traffic;
use crate::process::{Node, Spec, wait_for};

/// A dials B, and has a stream `s` to it. Each has further lines of configuration.
pub(crate) fn pair(config: &'static str, far_config: &'static str) -> (TempDir, Node, Node) {
    let directory = tempfile::tempdir().unwrap();
    let far = Spec { config: far_config, ..Spec::listening("b") };
    let b = Node::start(directory.path(), &far);
    b.run(&["mesh", "seed", "test"]).ok();
    let a = Node::start(directory.path(), &Spec { config, ..Spec::dialling("a") });
    let token = b.json(&["token", "issue"])["token"].as_str().unwrap().to_owned();
    a.run(&["mesh", "join", &token]).ok();
    let opened = a.json(&["stream", "open", "s", "--to", "b"]);
    assert!(opened["pending_dst_nodes"].as_array().unwrap().is_empty(), "{opened}");
    (directory, a, b)
}

/// Changes the link at one end, and waits until either end says so and has so many lanes.
fn change(asked: &Node, far: &Node, (peer, mode): (&str, &str), lanes: u64) {
    let changed = asked.json(&["link", "mode", peer, mode]);
    assert_eq!((&changed["peer_name"], &changed["mode"]), (&peer.into(), &mode.into()));
    wait_for("as many lanes as the mode has", || {
        [asked, far].iter().all(|node| is_so(node, mode, lanes)).then_some(())
    });
}

fn is_so(node: &Node, mode: &str, lanes: u64) -> bool {
    let links = node.json(&["link", "ls"]);
    links[0]["mode"] == mode && links[0]["lanes"] == lanes
}

#[test]
fn a_live_link_changes_there_and_back_and_costs_the_stream_nothing() {
    let (_directory, a, b) = pair("", "");
    wait_for("lanes for each class", || is_so(&a, "separate", 3).then_some(()));
    let traffic = Traffic::start(&a, &b, 32, None);
    traffic.await_more(1_000);
    for _ in 0..2 {
        change(&a, &b, ("b", "collapsed"), 1);
        traffic.await_more(1_000);
        a.run(&["link", "mode", "b", "collapsed"]).refused(1, &["one lane", "already"]);
        change(&b, &a, ("a", "separate"), 3);
        traffic.await_more(1_000);
        b.run(&["link", "mode", "a", "separate"]).refused(1, &["separate lanes already"]);
    }
    traffic.finish(&a);
    for node in [&a, &b] {
        let events = node.json(&["lane", "events"]);
        let of =
            |name| events.as_array().unwrap().iter().filter(move |event| event["name"] == name);
        assert_eq!(of("mode-changed").count(), 4, "{events}");
        assert_eq!(of("session-ended").count(), 0, "{events}");
    }
}

#[test]
fn a_link_that_is_configured_with_one_lane_gets_more_and_keeps_them() {
    let (_directory, a, b) = pair("[lanes]\ncollapsed = true\n", "");
    wait_for("one lane", || is_so(&a, "collapsed", 1).then_some(()));
    let traffic = Traffic::start(&a, &b, 32, None);
    // The configured end has dialled, and dials what the other one asks for.
    change(&b, &a, ("a", "separate"), 3);
    traffic.await_more(1_000);
    assert!(is_so(&a, "separate", 3), "the operator's word holds");
    change(&a, &b, ("b", "collapsed"), 1);
    traffic.await_more(1_000);
    traffic.finish(&a);
}

#[test]
fn a_link_that_is_not_there_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let alone = Node::start(directory.path(), &Spec::listening("alone"));
    let set = |peer: &str, mode: &str| alone.run(&["link", "mode", peer, mode]);
    set("b", "collapsed").refused(1, &["no mesh"]);
    alone.run(&["mesh", "seed", "test"]).ok();
    set("b", "collapsed").refused(3, &["no node \"b\""]);
    set("alone", "collapsed").refused(3, &["no link alone - alone"]);
    set("b", "one").refused(2, &["separate", "collapsed"]);
}
