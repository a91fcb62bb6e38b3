//! Wrong configuration, wrong commands, tokens and streams that are not there.

use std::fs;
use std::net::TcpListener;
use std::path::Path;

use crate::process::{Mesh, Node, Spec, finish, hawser, run, wait_for};

#[test]
fn an_unknown_key_is_named_with_the_nearest_one() {
    let directory = tempfile::tempdir().unwrap();
    let spec = Spec { config: "[lanes]\nlisen = \"none\"\n", ..Spec::dialling("a") };
    spec.fails(directory.path()).refused(
        7,
        &["a.toml:2: unknown configuration key lanes.lisen", "did you mean lanes.listen?"],
    );
    let path = directory.path().join("a.toml");
    let checked = run(&["config", "check", "--config", path.to_str().unwrap()]);
    checked.refused(7, &["did you mean lanes.listen?"]);

    let mut command = Spec::dialling("b").command(directory.path());
    finish(command.env("HAWSER_LANE__LISTEN", "none"), None)
        .refused(7, &["HAWSER_LANE__LISTEN", "did you mean HAWSER_LANES__LISTEN?"]);
    assert!(!directory.path().join("b").exists(), "nothing was made");
}

#[test]
fn a_port_in_use_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let lanes = Spec { listen: address.clone(), ..Spec::dialling("a") };
    lanes.fails(directory.path()).refused(1, &[&address, "in use"]);
    leaves_no_socket(directory.path(), "a");

    let api = Spec::dialling("b");
    let mut command = api.command(directory.path());
    command.env("HAWSER_API__LISTEN", &address);
    // The flag overrides the variable.
    drop(Node::start_with(directory.path(), &api, command));
    let config: &'static str = format!("[api]\nlisten = \"{address}\"\n").leak();
    let mut command = hawser();
    let path = directory.path().join("c.toml");
    fs::write(&path, config).unwrap();
    command.args(["node", "run", "--listen", "none", "--config"]).arg(path);
    command.arg("--data-dir").arg(directory.path().join("c"));
    let done = finish(&mut command, None);
    done.refused(1, &[&address, "in use", "--api-listen"]);
    leaves_no_socket(directory.path(), "c");
}

/// The node `name` got as far as its store, and nobody finds a socket of it.
fn leaves_no_socket(directory: &Path, name: &str) {
    let left = fs::read_dir(directory.join(name)).unwrap();
    let left: Vec<String> =
        left.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(left, ["state.redb"]);
}

#[test]
fn a_directory_has_one_node_at_a_time() {
    let directory = tempfile::tempdir().unwrap();
    let spec = Spec::dialling("a");
    let node = Node::start(directory.path(), &spec);
    spec.fails(directory.path()).refused(1, &["/a", "in use"]);
    node.run(&["mesh", "status"]).ok();
}

#[test]
fn a_member_keeps_its_name() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(directory.path(), &Spec::dialling("a"));
    node.run(&["mesh", "seed", "m"]).ok();
    drop(node);
    let mut command = hawser();
    command.args(["node", "run", "--listen", "none", "--api-listen", "none", "--name", "other"]);
    command.arg("--data-dir").arg(directory.path().join("a"));
    finish(&mut command, None).refused(5, &["\"a\"", "\"other\"", "another data directory"]);
    // The one of the node that was killed before is gone, too.
    leaves_no_socket(directory.path(), "a");
}

#[test]
fn a_place_where_no_directory_can_be_is_named() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("a"), "a file").unwrap();
    let shown = directory.path().join("a").display().to_string();
    Spec::dialling("a").fails(directory.path()).refused(1, &[&shown, "File exists"]);

    let long = "x".repeat(90);
    let deep = directory.path().join(long);
    let mut command = hawser();
    command.args(["node", "run", "--listen", "none", "--api-listen", "none", "--data-dir"]);
    finish(command.arg(deep), None).refused(7, &["api.sock", "107 bytes"]);
}

#[test]
fn where_no_node_runs_commands_say_so() {
    let directory = tempfile::tempdir().unwrap();
    let data_dir = directory.path().to_str().unwrap();
    for command in [&["mesh", "status"][..], &["link", "ls"], &["stream", "sub", "s"]] {
        let mut arguments = command.to_vec();
        arguments.extend(["--data-dir", data_dir]);
        run(&arguments).refused(4, &["api.sock", "hawser node run"]);
    }
}

#[test]
fn a_token_is_good_once() {
    let directory = tempfile::tempdir().unwrap();
    let start = |spec| Node::start(directory.path(), &spec);
    let (a, b, c) =
        (start(Spec::listening("a")), start(Spec::dialling("b")), start(Spec::dialling("c")));
    a.run(&["token", "issue"]).refused(1, &["mesh seed"]);
    a.run(&["mesh", "seed", "m"]).ok();
    a.run(&["mesh", "seed", "n"]).refused(1, &["already"]);
    let token = a.run(&["token", "issue"]).ok();
    let token = token.text().trim();
    b.feed(&["mesh", "join", "-"], token.as_bytes()).ok();
    c.run(&["mesh", "join", token]).refused(5, &["token", "used"]);
    let mut broken = token.to_owned();
    broken.replace_range(20..21, if broken.as_bytes()[20] == b'a' { "b" } else { "a" });
    c.run(&["mesh", "join", &broken]).refused(5, &["the join token cannot be used", "checksum"]);
    b.run(&["token", "issue"]).refused(1, &["authority"]);

    let b_id = b.ready["node_id"].as_str().unwrap();
    let bound = a.json(&["token", "issue", "--node", b_id]);
    c.run(&["mesh", "join", bound["token"].as_str().unwrap()])
        .refused(5, &["the join token cannot be used", "it is for node", b_id]);

    // Nobody of those that were refused has hurt those that were not.
    wait_for("b to be reached", || {
        let status = a.json(&["mesh", "status"]);
        status["nodes"].as_array()?.iter().find(|n| n["name"] == "b" && n["reachable"] == true)?;
        Some(())
    });
}

#[test]
fn streams_and_nodes_that_are_not_there_are_not_found() {
    let mesh = Mesh::start();
    mesh.open("readings");
    mesh.a.feed(&["stream", "pub", "reading"], b"x\n").refused(3, &["reading", "readings"]);
    mesh.c.run(&["stream", "sub", "raedings", "--count", "1"]).refused(3, &["readings"]);
    mesh.a.run(&["stream", "close", "nothing"]).refused(3, &["nothing"]);
    mesh.a.run(&["stream", "open", "x", "--to", "nobody"]).refused(3, &["nobody"]);
    // It ends at c, it does not begin there.
    let done = mesh.c.feed(&["stream", "pub", "readings"], b"x\n");
    assert_ne!(done.code, 0, "{done:?}");
    mesh.a.run(&["stream", "open", "bad name", "--to", "c"]).refused(2, &["bad name"]);
    let long = [b'x'; (1 << 20) + 1];
    mesh.a.feed(&["stream", "pub", "readings"], &long).refused(2, &["line 1"]);
    mesh.a.feed(&["stream", "pub", "readings"], b"still works\n").ok();
}

#[test]
fn wrong_usage_has_its_own_code() {
    for arguments in [
        &["stream", "open", "x"][..],
        &["node"],
        &["no-such-noun"],
        &["stream", "sub", "x", "--raw", "--json"],
        &["completions", "bash", "--json"],
        &["stream", "sub", "x", "--raw", "--dir", "y"],
        &["token", "issue", "--ttl", "soon"],
    ] {
        let done = run(arguments);
        assert_eq!(done.code, 2, "{arguments:?}: {done:?}");
        assert!(done.stdout.is_empty(), "{arguments:?}: {done:?}");
    }
}
