//! `hawser plan`: needs no node.

use std::path::Path;

use serde_json::{Value, json};

use crate::process::{Done, run};

/// A ring a, b, c, d with a stub e at d. The way from d to a is slower than the way there.
const MESH: &str = r#"{
  "nodes": [{"id": "a"}, {"id": "b"}, {"id": "c"}, {"id": "d"}, {"id": "e", "stub": true}],
  "links": [
    {"a": "a", "b": "b", "latency_us": 3, "bandwidth_mbps": 10},
    {"a": "a", "b": "d", "latency_us": 1, "bandwidth_mbps": 10, "ba": {"latency_us": 2}},
    {"a": "b", "b": "c", "latency_us": 3},
    {"a": "c", "b": "d", "latency_us": 2},
    {"a": "d", "b": "e", "latency_us": 1}
  ],
  "weights": {"control": {"hop": 1}},
  "demands": [{"from": "a", "to": "b", "mbps": 8}, {"from": "a", "to": "d", "mbps": 4}]
}"#;

fn plan(file: &Path, arguments: &[&str]) -> Done {
    let file = file.to_str().unwrap();
    run(&[&["plan", "--topology", file, "--json"], arguments].concat())
}

fn with_mesh(test: impl FnOnce(&Path)) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("mesh.json");
    std::fs::write(&file, MESH).unwrap();
    test(&file);
}

#[test]
fn paths_and_their_costs() {
    with_mesh(|file| {
        let both = json!([
            {"nodes": ["a", "d", "c"], "cost": 3},
            {"nodes": ["a", "b", "c"], "cost": 6},
        ]);
        let mut there = json!({"paths": both, "disjoint": both, "generation": 0});
        assert_eq!(plan(file, &["--from", "a", "--to", "c"]).ok().json(), there);
        there["node_disjoint"] = both;
        assert_eq!(plan(file, &["--from", "a", "--to", "c", "--node-disjoint"]).ok().json(), there);
        let back = plan(file, &["--from", "c", "--to", "a", "-k", "1"]).ok().json();
        assert_eq!(back["paths"], json!([{"nodes": ["c", "d", "a"], "cost": 4}]));
        // With equal costs the smaller list of nodes goes first.
        let control = plan(file, &["--from", "a", "--to", "c", "--class", "control"]).ok().json();
        assert_eq!(control["paths"][0], json!({"nodes": ["a", "b", "c"], "cost": 2}));
        let cut = ["--from", "a", "--to", "c", "--cut", "d,a", "--node-disjoint"];
        let cut = plan(file, &cut).ok().json();
        assert_eq!((&cut["disjoint"], &cut["node_disjoint"]), (&json!([]), &json!([])));
        // People get a table.
        let file = file.to_str().unwrap();
        let asked = ["plan", "--topology", file, "--from", "a", "--to", "c"];
        let table = run(&asked).ok().text().to_owned();
        assert!(table.contains("a d c") && !table.contains("node-disjoint"), "{table}");
        let table = run(&[&asked[..], &["--node-disjoint"]].concat()).ok();
        assert!(table.text().contains("node-disjoint"), "{table:?}");
    });
}

#[test]
fn no_path_is_an_answer_and_exit_code_3() {
    with_mesh(|file| {
        let done = plan(file, &["--from", "a", "--to", "e", "--cut", "d,e"]);
        assert_eq!(done.json(), json!({"paths": [], "disjoint": [], "generation": 0}));
        assert_eq!(done.code, 3);
    });
}

#[test]
fn what_is_lost_is_exit_code_4() {
    with_mesh(|file| {
        let impact = |arguments: &[&str], code| -> Value {
            let done = plan(file, arguments);
            assert_eq!(done.code, code, "{done:?}");
            done.json()
        };
        let cut = json!({
            "unreachable": [],
            "unprotected":
                [["a", "b"], ["a", "c"], ["a", "d"], ["b", "c"], ["b", "d"], ["c", "d"]],
            "overloaded": [["a", "d"]],
        });
        assert_eq!(impact(&["--cut", "a,b"], 4), cut);
        let drain = json!({
            "unreachable": [["a", "e"], ["b", "e"], ["c", "e"]],
            "unprotected": [["a", "b"], ["a", "c"], ["b", "c"]],
            "overloaded": [],
        });
        assert_eq!(impact(&["--drain", "d"], 4), drain);
        let both = impact(&["--cut", "a,b", "--cut", "b,c", "--drain", "e"], 4);
        assert_eq!(both["unreachable"], json!([["a", "b"], ["b", "c"], ["b", "d"], ["b", "e"]]));
        let nothing = json!({"unreachable": [], "unprotected": [], "overloaded": []});
        assert_eq!(impact(&["--drain", "e"], 0), nothing);
    });
}

#[test]
fn wrong_questions_are_refused() {
    with_mesh(|file| {
        plan(file, &["--from", "a", "--to", "x"]).refused(3, &["\"x\""]);
        plan(file, &["--cut", "a,c"]).refused(3, &["no link", "\"c\""]);
        plan(file, &["--cut", "a"]).refused(2, &["A,B"]);
        plan(file, &["--from", "a"]).refused(2, &["--to"]);
        plan(file, &["--cut", "a,b", "--node-disjoint"]).refused(2, &["--from"]);
        plan(file, &["--from", "a", "--to", "a"]).refused(2, &["both ends"]);
        plan(file, &[]).refused(2, &["--cut"]);
        plan(&file.with_file_name("none"), &["--drain", "a"]).refused(3, &["none"]);
        std::fs::write(file, MESH.replace("latency_us", "latency")).unwrap();
        plan(file, &["--drain", "a"]).refused(1, &["mesh.json", "latency"]);
    });
}
