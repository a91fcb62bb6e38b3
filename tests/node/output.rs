//! What reaches standard output.

use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;

use rustix::process::Signal;
use serde_json::Value;

use crate::process::{Done, Guarded, Mesh, Node, Spec, hawser, run};

/// Fails the test unless standard output is JSON, one value a line, and at least one.
fn assert_json(done: &Done) {
    assert!(!done.stdout.is_empty(), "{done:?}");
    for line in done.text().lines() {
        serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("{error}: {done:?}"));
    }
}

#[test]
fn with_json_only_json_reaches_standard_output() {
    let mesh = Mesh::start();
    mesh.open("s");
    mesh.a.feed(&["stream", "pub", "s"], b"text\n\xff\xfe\n").ok();
    let commands: [&[&str]; 9] = [
        &["mesh", "status"],
        &["link", "ls"],
        &["lane", "ls"],
        &["stream", "ls"],
        &["stream", "open", "s", "--to", "c"],
        &["config", "check"],
        &["config", "keys"],
        &["token", "issue"],
        &["stream", "close", "s"],
    ];
    for arguments in commands {
        let (text, json) =
            (mesh.a.run(arguments), mesh.a.run(&[arguments, &["-o", "json"]].concat()));
        if arguments[0] == "token" {
            // Only the node that seeded the mesh issues tokens: nothing is printed elsewhere.
            assert!(text.stdout.is_empty() && json.stdout.is_empty(), "{text:?} {json:?}");
            continue;
        }
        assert_json(&json.ok());
        assert!(!text.ok().stdout.is_empty(), "{arguments:?}");
    }
    let received = mesh.c.run(&["stream", "sub", "s", "--json"]).ok();
    let lines: Vec<Value> =
        received.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2);
    assert_eq!((&lines[0]["seq"], &lines[0]["text"]), (&1.into(), &"text".into()));
    assert_eq!(lines[1]["base64"], "//4=");
}

#[test]
fn what_changes_a_mesh_and_what_looks_into_it_answer_in_json() {
    let mesh = Mesh::start();
    mesh.open("s");
    mesh.a.feed(&["stream", "pub", "s"], b"text\n").ok();
    let commands: [(&Node, i32, &[&str]); 17] = [
        (&mesh.a, 0, &["route", "ls"]),
        (&mesh.a, 0, &["route", "ls", "c"]),
        (&mesh.a, 0, &["route", "explain", "a", "c"]),
        (&mesh.a, 0, &["route", "explain", "--message", "s:1"]),
        (&mesh.a, 0, &["route", "coverage"]),
        (&mesh.b, 0, &["route", "coverage", "--all"]),
        (&mesh.a, 0, &["route", "add", "c", "--via", "b"]),
        (&mesh.a, 0, &["route", "drop", "c"]),
        (&mesh.a, 0, &["plan", "--live", "--from", "a", "--to", "c"]),
        (&mesh.a, 4, &["plan", "--live", "--drain", "b"]),
        (&mesh.a, 0, &["plan", "--live", "--export"]),
        (&mesh.a, 0, &["lane", "events"]),
        (&mesh.c, 0, &["node", "drain"]),
        (&mesh.c, 0, &["node", "undrain"]),
        (&mesh.c, 0, &["mesh", "stop"]),
        (&mesh.c, 0, &["mesh", "start"]),
        (&mesh.c, 0, &["mesh", "leave"]),
    ];
    for (node, code, arguments) in commands {
        let done = node.run(&[arguments, &["--json"]].concat());
        assert_eq!(done.code, code, "{arguments:?}: {done:?}");
        assert_json(&done);
    }
    let mut follower = mesh.a.spawn(&["lane", "events", "--follow", "--json"], Stdio::null());
    let mut line = String::new();
    BufReader::new(follower.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    serde_json::from_str::<Value>(&line).unwrap();
}

#[test]
fn a_mesh_is_made_and_left_in_json_and_errors_are_none_of_it() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Node::start(directory.path(), &Spec::listening("x"));
    let member = Node::start(directory.path(), &Spec::dialling("y"));
    assert_json(&authority.run(&["mesh", "seed", "m", "--json"]).ok());
    let issued = authority.run(&["token", "issue", "--json"]).ok();
    assert_json(&issued);
    let token = issued.json()["token"].as_str().unwrap().to_owned();
    assert_json(&member.run(&["mesh", "join", &token, "--json"]).ok());
    for (code, arguments) in [
        (1, &["mesh", "seed", "n"][..]),
        (1, &["node", "evict", "x"]),
        (3, &["node", "evict", "nobody"]),
        (3, &["stream", "sub", "nothing"]),
        (3, &["route", "drop", "y"]),
        (3, &["route", "explain", "x", "nobody"]),
        (2, &["events", "watch", "--kind", "nothing"]),
        (2, &["mesh", "seed"]),
    ] {
        let done = authority.run(&[arguments, &["--json"]].concat());
        assert_eq!((done.code, done.text()), (code, ""), "{arguments:?}: {done:?}");
        assert!(!done.stderr.is_empty(), "{arguments:?}");
    }
    assert_json(&authority.run(&["node", "evict", "y", "--json"]).ok());

    // The node's own output, to its end.
    let mut command = Spec::dialling("z").command(directory.path());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut node = Guarded(command.spawn().unwrap());
    let mut stdout = BufReader::new(node.0.stdout.take().unwrap());
    let mut said = String::new();
    stdout.read_line(&mut said).unwrap();
    node.signal(Signal::TERM);
    assert_eq!(node.wait(), Some(0));
    stdout.read_to_string(&mut said).unwrap();
    assert!(said.starts_with('{'), "{said}");
    assert!(said.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()), "{said}");
}

#[test]
fn help_and_version_are_no_json() {
    for (arguments, word) in [
        (&["--help"][..], "Usage: hawser"),
        (&["--version"], "hawser 0."),
        (&["help", "stream"], "hawser stream"),
        (&["stream", "pub", "--help"], "hawser stream pub"),
    ] {
        let text = run(arguments).ok();
        assert!(text.text().contains(word) && text.stderr.is_empty(), "{text:?}");
        let json = run(&[&["--json"], arguments].concat()).ok();
        assert!(json.stdout.is_empty() && json.stderr.contains(word), "{json:?}");
    }
}

#[test]
fn tables_line_up() {
    let mesh = Mesh::start();
    let status = mesh.a.run(&["mesh", "status"]).ok();
    let text = status.text();
    let heading = text.lines().find(|line| line.starts_with("NODE")).unwrap();
    let column = heading.find("REACHABLE").unwrap();
    let rows: Vec<&str> =
        text.lines().skip_while(|line| *line != heading).skip(1).take(3).collect();
    assert_eq!(rows.len(), 3);
    for row in rows {
        let cell = &row[column..];
        assert!(["this node", "yes", "no"].iter().any(|word| cell.starts_with(word)), "{text}");
    }
}

#[test]
fn a_reader_that_leaves_is_no_error() {
    for arguments in [&["config", "keys"][..], &["completions", "bash"], &["--help"]] {
        let mut command = hawser();
        command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        drop(child.stdout.take());
        let done = child.wait_with_output().unwrap();
        assert!(done.status.success(), "{arguments:?}: {done:?}");
        assert!(done.stderr.is_empty(), "{arguments:?}: {done:?}");
    }
}

#[test]
fn completions_are_there() {
    for (shell, word) in
        [("bash", "complete"), ("zsh", "#compdef hawser"), ("fish", "complete -c hawser")]
    {
        let done = run(&["completions", shell]).ok();
        assert!(done.text().contains(word), "{shell}");
    }
}
