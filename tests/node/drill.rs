//! `hawser route drill`: a link is cut under traffic, and comes back.

use std::process::Stdio;

use crate::link_faults::Traffic;
use crate::process::{Mesh, Node, Spec, wait_for};
use crate::triangle::Triangle;

/// What happened on the links of a node since it started, by name.
fn happened(node: &Node, name: &str) -> usize {
    let events = node.json(&["lane", "events"]);
    events.as_array().unwrap().iter().filter(|event| event["name"] == name).count()
}

fn wait_until_up(node: &Node, peer: &str) {
    wait_for("the link to be up again", || {
        let links = node.json(&["link", "ls"]);
        let link = links.as_array().unwrap().iter().find(|link| link["b_name"] == peer).unwrap();
        (link["up"] == true).then_some(())
    });
}

#[test]
fn a_drill_cuts_measures_and_restores_and_costs_the_stream_nothing() {
    let mesh = Triangle::start();
    let opened = mesh.a.json(&["stream", "open", "s", "--to", "c"]);
    assert!(opened["pending_dst_nodes"].as_array().unwrap().is_empty(), "{opened}");
    // So that what is measured does not say by which way A reaches C.
    mesh.a.run(&["route", "add", "c"]).ok();
    let traffic = Traffic::start(&mesh.a, &mesh.c, 32, None);
    traffic.await_more(1_000);
    let report = mesh.a.json(&["route", "drill", "--link", "a,c", "--cut-ms", "1500"]);
    assert_eq!((&report["peer"], &report["cut_ms"]), (&"c".into(), &1500.0.into()), "{report}");
    assert_eq!(report["lost"], 0, "{report}");
    let ms = |key: &str| report[key].as_f64().unwrap_or_else(|| panic!("{key}: {report}"));
    // The way over B took over before the end of the cut.
    assert!(ms("reroute_ms") < 1_500.0, "{report}");
    assert!(ms("back_after_ms") < 30_000.0, "{report}");
    assert!(report["probes"].as_u64() > Some(50), "{report}");
    for node in [&mesh.a, &mesh.c] {
        assert!(happened(node, "lane-down") > 0, "its lanes were closed");
    }
    assert_eq!((happened(&mesh.a, "drill-cut"), happened(&mesh.a, "drill-restored")), (1, 1));
    wait_until_up(&mesh.a, "c");
    traffic.await_more(1_000);
    traffic.finish(&mesh.a);
}

#[test]
fn the_link_comes_back_though_who_asked_is_gone_and_only_the_peer_can_dial() {
    // A dials B, and B has no address for A.
    let mesh = Mesh::start();
    let arguments = ["route", "drill", "--link", "a,b", "--cut-ms", "3000", "--force"];
    let drill = mesh.b.spawn(&arguments, Stdio::null());
    wait_for("the cut", || (happened(&mesh.b, "drill-cut") == 1).then_some(()));
    drop(drill);
    // No other may begin meanwhile.
    let other = mesh.b.run(&["route", "drill", "--link", "b,c", "--force"]);
    if happened(&mesh.b, "drill-restored") == 0 {
        other.refused(1, &["a drill of the link to a runs"]);
    }
    wait_for("the end of the cut", || (happened(&mesh.b, "drill-restored") > 0).then_some(()));
    mesh.wait_until_whole();
    wait_until_up(&mesh.b, "a");
}

#[test]
fn a_link_that_cannot_be_cut_is_refused_with_the_reason() {
    let mesh = Mesh::start();
    let drill = |node: &Node, link: &str| node.run(&["route", "drill", "--link", link]);
    drill(&mesh.a, "b,c").refused(1, &["at its ends alone", "b", "c"]);
    drill(&mesh.a, "a,b").refused(1, &["not cut", "no backup"]);
    drill(&mesh.a, "a,c").refused(3, &["no link a - c", "links to b"]);
    drill(&mesh.a, "a,nobody").refused(3, &["\"nobody\""]);
    drill(&mesh.a, "a,a").refused(2, &["two ends"]);
    drill(&mesh.a, "a").refused(2, &["A,B"]);
    mesh.a.run(&["route", "drill", "--link", "a,b", "--cut-ms", "60001"]).refused(2, &["60000"]);
    assert_eq!(happened(&mesh.a, "drill-cut"), 0);
    let alone = Node::start(mesh.directory.path(), &Spec::dialling("alone"));
    drill(&alone, "alone,a").refused(1, &["no mesh"]);
}
