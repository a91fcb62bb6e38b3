//! What happens in the mesh, as a command shows it.

use std::process::Stdio;

use serde_json::Value;

use crate::process::{Node, Spec, wait_for};

#[test]
fn a_watcher_sees_what_it_asked_for_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(directory.path(), &Spec::dialling("a"));
    node.run(&["mesh", "seed", "test"]).ok();
    node.run(&["events", "watch", "--kind", "stream_opend"]).refused(2, &["stream_opend"]);

    let arguments = ["events", "watch", "--kind", "stream_opened", "--count", "2", "--json"];
    let mut watcher = node.spawn(&arguments, Stdio::null());
    // It sees what happens from the moment on in which the node has taken its call.
    let mut streams = 0;
    let code = wait_for("the watcher to have seen two events", || {
        streams += 1;
        node.run(&["stream", "open", &format!("s{streams}"), "--to", "a"]).ok();
        watcher.0.try_wait().unwrap()
    });
    assert_eq!(code.code(), Some(0));
    let (_, seen) = watcher.output();
    let seen = String::from_utf8(seen).unwrap();
    let seen: Vec<Value> = seen.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(seen.len(), 2, "{seen:?}");
    assert!(seen.iter().all(|event| event["kind"] == "stream_opened"), "{seen:?}");
    assert!(seen[0]["seq"].as_u64() < seen[1]["seq"].as_u64(), "{seen:?}");
}
