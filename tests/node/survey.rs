//! The mesh as a whole, from one node: `route coverage` and `plan --live`.

use std::collections::BTreeSet;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::process::{Done, Node, Spec, run, wait_for};
use crate::triangle::{Triangle, paths_to, ways};

/// A triangle, and D, which has a link to B alone.
fn triangle_with_tail() -> (Node, Triangle) {
    let mesh = Triangle::start();
    let d = Node::start(mesh.directory.path(), &Spec::dialling("d"));
    let token = mesh.b.json(&["token", "issue"])["token"].as_str().unwrap().to_owned();
    d.run(&["mesh", "join", &token]).ok();
    for (node, other) in [(&mesh.a, "d"), (&d, "a"), (&d, "c")] {
        wait_for("both paths", || (ways(&paths_to(node, other)).len() == 2).then_some(()));
    }
    (d, mesh)
}

/// The coverage of one node, as another one sees it.
fn of<'a>(report: &'a Value, node: &str) -> &'a Value {
    report["nodes"].as_array().unwrap().iter().find(|row| row["node"] == node).unwrap()
}

#[test]
fn coverage_says_what_has_no_backup_and_why() {
    let (d, mesh) = triangle_with_tail();
    let own = d.json(&["route", "coverage"]);
    assert_eq!(
        (&own["destinations"], &own["protected"], &own["share"]),
        (&3.into(), &0.into(), &0.0.into())
    );
    let at_risk = own["nodes"][0]["unprotected"].as_array().unwrap();
    assert_eq!(at_risk.len(), 3, "{own}");
    assert!(at_risk.iter().all(|risk| risk["link"] == json!(["d", "b"])), "{own}");

    // What is measured says by which way A reaches D, unless an operator does.
    mesh.a.run(&["route", "add", "d", "--via", "b"]).ok();
    let own = mesh.a.json(&["route", "coverage"]);
    assert_eq!(own["nodes"].as_array().unwrap().len(), 1, "{own}");
    let risk = json!([{"destination": "d", "link": ["a", "b"]}]);
    assert_eq!(
        (&own["destinations"], &own["protected"], &own["nodes"][0]["unprotected"]),
        (&3.into(), &2.into(), &risk)
    );
    // By C it is covered: the way over B alone is left, then.
    mesh.a.run(&["route", "drop", "d"]).ok();
    mesh.a.run(&["route", "add", "d", "--via", "c,b"]).ok();
    let own = mesh.a.json(&["route", "coverage"]);
    assert_eq!((&own["protected"], &own["share"]), (&3.into(), &1.0.into()), "{own}");
    let all = mesh.a.json(&["route", "coverage", "--all"]);
    assert_eq!(all["nodes"].as_array().unwrap().len(), 4, "{all}");
    assert_eq!(of(&all, "a"), &own["nodes"][0]);
    assert_eq!((&all["destinations"], &of(&all, "d")["protected"]), (&12.into(), &0.into()));
    let text = d.run(&["route", "coverage"]).ok();
    assert!(
        text.text().contains("0.0 %") && text.text().contains("no way but the link d - b"),
        "{text:?}"
    );
    assert!(text.text().contains("no way round b"), "{text:?}");

    d.process.signal(Signal::KILL);
    let own = wait_for("the end of D", || {
        let own = mesh.c.json(&["route", "coverage"]);
        (own["destinations"] == 2).then_some(own)
    });
    assert_eq!((&own["protected"], &own["nodes"][0]["unreachable"]), (&2.into(), &json!(["d"])));
}

/// The pairs, in whatever order: that of ids, which are random.
fn pairs(answer: &Value) -> BTreeSet<[String; 2]> {
    let ends = |pair: &Value| [0, 1].map(|at: usize| pair[at].as_str().unwrap().to_owned());
    let sorted = answer.as_array().unwrap().iter().map(ends).map(|mut pair| {
        pair.sort();
        pair
    });
    sorted.collect()
}

fn expected<const N: usize>(pairs: [[&str; 2]; N]) -> BTreeSet<[String; 2]> {
    pairs.into_iter().map(|pair| pair.map(str::to_owned)).collect()
}

#[test]
fn a_plan_is_made_with_the_mesh_as_it_is() {
    let (_d, mesh) = triangle_with_tail();
    let plan = |arguments: &[&str]| -> Done {
        mesh.a.run(&[&["plan", "--live", "--json"], arguments].concat())
    };
    let paths = plan(&["--from", "a", "--to", "d"]).ok().json();
    assert_eq!(ways(&paths["paths"]), ["a b d", "a c b d"]);
    assert!(
        paths["generation"].as_u64() > Some(0) && paths["paths"][0]["cost"].is_u64(),
        "{paths}"
    );
    assert_eq!(paths["disjoint"], json!([]), "both end with the link from B");
    let without = plan(&["--from", "a", "--to", "d", "--cut", "b,a"]).ok().json();
    assert_eq!(ways(&without["paths"]), ["a c b d"]);
    assert_eq!(plan(&["--from", "a", "--to", "d", "--cut", "b,d"]).code, 3);

    let impact = |done: Done, code| {
        assert_eq!(done.code, code, "{done:?}");
        let answer = done.json();
        assert_eq!(answer["overloaded"], Value::Null);
        (pairs(&answer["unreachable"]), pairs(&answer["unprotected"]))
    };
    let cut = (expected([["a", "d"], ["b", "d"], ["c", "d"]]), expected([]));
    assert_eq!(impact(plan(&["--cut", "b,d"]), 4), cut);
    let drained = (expected([["a", "d"], ["c", "d"]]), expected([["a", "c"]]));
    assert_eq!(impact(plan(&["--drain", "b"]), 4), drained);
    let side = (expected([]), expected([["a", "b"], ["a", "c"], ["b", "c"]]));
    assert_eq!(impact(plan(&["--cut", "a,c"]), 4), side);
    assert_eq!(impact(plan(&["--drain", "d"]), 0), (expected([]), expected([])));

    // The mesh as a file gives the same answers without a node.
    let file = mesh.directory.path().join("mesh.json");
    std::fs::write(&file, plan(&["--export"]).ok().stdout).unwrap();
    let file = file.to_str().unwrap();
    let from_file =
        |arguments: &[&str]| run(&[&["plan", "--topology", file, "--json"], arguments].concat());
    assert_eq!(impact(from_file(&["--cut", "b,d"]), 4), cut);
    assert_eq!(impact(from_file(&["--drain", "b"]), 4), drained);
    let paths = from_file(&["--from", "a", "--to", "d"]).ok().json();
    assert_eq!((ways(&paths["paths"]).len(), &paths["generation"]), (2, &0.into()));

    plan(&["--from", "a", "--to", "nobody"]).refused(3, &["\"nobody\""]);
    plan(&["--cut", "a,d"]).refused(3, &["no link", "\"d\""]);
    plan(&["--topology", file, "--drain", "b"]).refused(2, &["--live"]);
    run(&["plan", "--drain", "b"]).refused(2, &["--topology"]);
    let socket = mesh.directory.path().join("nobody");
    run(&["plan", "--live", "--drain", "b", "--socket", socket.to_str().unwrap()])
        .refused(4, &["nobody"]);
}
