//! Directories over streams.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Stdio;

use crate::process::{Mesh, run, wait_for};

fn make_tree(root: &Path, large_bytes: usize) {
    fs::create_dir_all(root.join("deep/er/empty")).unwrap();
    let large: Vec<u8> = (0..large_bytes / 4).flat_map(|n| (n as u32).to_le_bytes()).collect();
    fs::write(root.join("deep/large"), large).unwrap();
    fs::write(root.join("deep/er/none"), "").unwrap();
    fs::write(root.join("script"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(root.join("script"), fs::Permissions::from_mode(0o750)).unwrap();
    for n in 0..50 {
        fs::write(root.join(format!("small-{n}")), n.to_string()).unwrap();
    }
}

fn assert_same(sent: &Path, received: &Path) {
    let differences = std::process::Command::new("diff")
        .args(["--recursive", "--no-dereference"])
        .args([sent, received])
        .output()
        .unwrap();
    assert!(differences.status.success(), "{}", String::from_utf8_lossy(&differences.stdout));
}

#[test]
fn a_directory_arrives_as_it_was() {
    let mesh = Mesh::start();
    mesh.open("files");
    let (sent, received) = (mesh.directory.path().join("sent"), mesh.directory.path().join("got"));
    // Less than a destination holds for consumers that have yet to come.
    make_tree(&sent, 3 << 20);
    let (sent_text, received_text) = (sent.to_str().unwrap(), received.to_str().unwrap());
    let published = mesh.a.run(&["stream", "pub", "files", "--dir", sent_text, "--json"]).ok();
    assert_eq!(published.json()["files"], 53);
    let taken = mesh.c.run(&["stream", "sub", "files", "--dir", received_text, "--json"]).ok();
    let last: serde_json::Value =
        serde_json::from_str(taken.text().lines().last().unwrap()).unwrap();
    assert_eq!(last["files"], 53);
    assert_same(&sent, &received);
    let mode = fs::metadata(received.join("script")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o750);
}

#[test]
fn links_are_left_out_with_a_warning_and_escapes_are_refused() {
    let mesh = Mesh::start();
    mesh.open("files");
    let (sent, received) = (mesh.directory.path().join("sent"), mesh.directory.path().join("got"));
    let outside = mesh.directory.path().join("outside");
    fs::create_dir_all(sent.join("door")).unwrap();
    fs::write(sent.join("door/key"), "evil").unwrap();
    fs::write(sent.join("good"), "good").unwrap();
    symlink("/etc/passwd", sent.join("link")).unwrap();
    fs::create_dir_all(&received).unwrap();
    fs::create_dir_all(&outside).unwrap();
    symlink(&outside, received.join("door")).unwrap();

    let published = mesh.a.run(&["stream", "pub", "files", "--dir", sent.to_str().unwrap()]).ok();
    assert!(published.stderr.contains("link: skipped: symbolic link"), "{published:?}");
    let taken = mesh.c.run(&["stream", "sub", "files", "--dir", received.to_str().unwrap()]);
    taken.refused(5, &["door/key: refused", "symbolic link"]);
    assert_eq!(fs::read(received.join("good")).unwrap(), b"good");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
}

#[test]
fn a_subscriber_that_is_killed_within_a_file_goes_on() {
    let mesh = Mesh::start();
    mesh.open("files");
    let (sent, received) = (mesh.directory.path().join("sent"), mesh.directory.path().join("got"));
    make_tree(&sent, 40 << 20);
    let arguments = ["stream", "sub", "files", "--dir", received.to_str().unwrap()];
    let subscriber = mesh.c.spawn(&arguments, Stdio::null());
    let sent_text = sent.to_str().unwrap();
    let mut publisher =
        mesh.a.spawn(&["stream", "pub", "files", "--dir", sent_text], Stdio::null());
    wait_for("the large file to have begun", || {
        let part = fs::metadata(received.join(".hawser-default.part")).ok()?;
        (part.len() > 4 << 20).then_some(())
    });
    // Dropped, it is killed.
    drop(subscriber);
    let taken = mesh.c.run(&arguments);
    assert_eq!(taken.code, 0, "{taken:?}");
    assert_eq!(publisher.wait(), Some(0));
    assert_same(&sent, &received);
}

#[test]
fn a_message_that_is_no_file_is_refused_and_the_files_go_on() {
    let mesh = Mesh::start();
    mesh.open("files");
    let (sent, received) = (mesh.directory.path().join("sent"), mesh.directory.path().join("got"));
    make_tree(&sent, 1 << 20);
    mesh.a.feed(&["stream", "pub", "files", "--producer", "other"], b"a line\n").ok();
    mesh.a.run(&["stream", "pub", "files", "--dir", sent.to_str().unwrap()]).ok();
    let arguments = ["stream", "sub", "files", "--dir", received.to_str().unwrap(), "--json"];
    let taken = mesh.c.run(&arguments);
    taken.refused(5, &["message 1: refused: it is no file record", "1 refused"]);
    let last = taken.text().lines().last().unwrap();
    let last: serde_json::Value = serde_json::from_str(last).unwrap();
    assert_eq!((&last["files"], &last["refused"]), (&53.into(), &1.into()));
    assert_same(&sent, &received);
    // It is behind this consumer.
    mesh.a.run(&["stream", "close", "files"]).ok();
    let again = mesh.c.run(&arguments);
    assert!(!again.stderr.contains("no file record"), "{again:?}");
}

#[test]
fn a_directory_that_cannot_be_made_is_named() {
    let area = tempfile::tempdir().unwrap();
    fs::write(area.path().join("file"), "").unwrap();
    let socket = area.path().join("api.sock").display().to_string();
    for (directory, why) in [
        (area.path().join("file/below"), "Not a directory"),
        (Path::new("/proc/nothing").to_owned(), "No such file or directory"),
    ] {
        let shown = directory.display().to_string();
        let done = run(&["stream", "sub", "s", "--dir", &shown, "--socket", &socket]);
        done.refused(3, &["cannot create directory", &shown, why]);
    }
}
