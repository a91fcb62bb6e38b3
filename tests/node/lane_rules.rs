//! What is chosen for the bulk lanes of one link: in the file, and over restarts at run time.

use rustix::process::Signal;

use crate::link_mode::pair;
use crate::process::{Node, Spec, run, wait_for};

/// The rule that a command answers with.
fn rule(node: &Node, arguments: [&str; 3]) -> (u64, String) {
    let [noun, peer, value] = arguments;
    let said = wait_for("the link", || {
        let done = node.run(&["lane", noun, peer, value, "--json"]);
        (done.code == 0).then(|| done.json())
    });
    assert_eq!(said["peer_name"], "b");
    (said["bulk_lanes_max"].as_u64().unwrap(), said["policy"].as_str().unwrap().to_owned())
}

#[test]
fn what_is_chosen_at_run_time_goes_before_the_file_and_holds_over_restarts() {
    const CONFIG: &str =
        "[[links.peer]]\nname = \"b\"\nbulk_lanes_max = 2\nlane_policy = \"off\"\n";
    let (directory, mut a, _b) = pair(CONFIG, "");
    let spec = Spec { config: CONFIG, ..Spec::dialling("a") };
    for (arguments, bulk_lanes_max, policy, end) in [
        (["cap", "b", "1"], 1, "off", Signal::KILL),
        (["policy", "b", "dry-run"], 1, "dry-run", Signal::TERM),
        (["cap", "b", "default"], 2, "dry-run", Signal::KILL),
        (["policy", "b", "default"], 2, "off", Signal::TERM),
        (["cap", "b", "3"], 3, "off", Signal::TERM),
    ] {
        assert_eq!(rule(&a, arguments), (bulk_lanes_max, policy.to_owned()), "{arguments:?}");
        a.process.signal(end);
        a.process.wait();
        a = Node::start(directory.path(), &spec);
    }
}

#[test]
fn entries_of_neighbours_are_checked_and_shown() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("hawser.toml");
    let check = |text: &str, json: &[&str]| {
        std::fs::write(&path, text).unwrap();
        run(&[&["config", "check", "--config", path.to_str().unwrap()], json].concat())
    };
    let good = "[[links.peer]]\nname = \"b\"\nbulk_lanes_max = 2\n";
    let shown = check(good, &["--json"]).ok().json();
    let rows = shown["keys"].as_array().unwrap();
    let row = rows.iter().find(|row| row["key"] == "links.peer[b].bulk_lanes_max").unwrap();
    assert_eq!(row["value"], "2");
    assert!(row["from"].as_str().unwrap().ends_with("hawser.toml:3"), "{row}");
    let wrong = check("[[links.peer]]\nname = \"b\"\nbulk_lane_max = 2\n", &[]);
    wrong.refused(7, &["toml:3", "did you mean links.peer.bulk_lanes_max?"]);
    check("[links.peer]\nname = \"b\"\n", &[]).refused(7, &["toml:1", "[[links.peer]]"]);
    assert!(run(&["config", "keys"]).ok().text().contains("links.peer.lane_policy"));
}
