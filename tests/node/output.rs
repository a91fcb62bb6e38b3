//! What reaches standard output.

use std::process::Stdio;

use crate::process::{Mesh, hawser, run};

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
        for line in json.ok().text().lines() {
            serde_json::from_str::<serde_json::Value>(line).unwrap();
        }
        assert!(!text.ok().stdout.is_empty(), "{arguments:?}");
    }
    let received = mesh.c.run(&["stream", "sub", "s", "--json"]).ok();
    let lines: Vec<serde_json::Value> =
        received.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2);
    assert_eq!((&lines[0]["seq"], &lines[0]["text"]), (&1.into(), &"text".into()));
    assert_eq!(lines[1]["base64"], "//4=");
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
