//! `hawser demo`.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::process::{Guarded, finish, hawser, wait_for};

fn make_files(root: &Path) {
    fs::create_dir_all(root.join("sub")).unwrap();
    for n in 0..20_u8 {
        fs::write(root.join(format!("sub/{n}")), vec![n; 100_000]).unwrap();
    }
    fs::write(root.join("empty"), "").unwrap();
}

/// Processes whose command line names a path below `directory`.
fn processes_of(directory: &Path) -> Vec<u32> {
    let directory = directory.to_str().unwrap();
    let processes = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let command = fs::read(entry.path().join("cmdline")).ok()?;
        String::from_utf8_lossy(&command).contains(directory).then_some(pid)
    });
    processes.collect()
}

#[test]
fn nothing_is_lost_when_the_relay_dies() {
    let area = tempfile::tempdir_in("/tmp").unwrap();
    let files = area.path().join("files");
    let temporary = area.path().join("t");
    make_files(&files);
    fs::create_dir(&temporary).unwrap();
    for nodes in ["3", "4"] {
        let mut command = hawser();
        command.args(["demo", "--json", "--nodes", nodes, "--dir"]).arg(&files);
        let done = finish(command.env("TMPDIR", &temporary), None).ok();
        let row = done.json();
        for (key, value) in [("lost", 0), ("duplicated", 0), ("bytes", 2_000_000), ("files", 21)] {
            assert_eq!(row[key], value, "{row}");
        }
        assert_eq!(row["published"], row["delivered"], "{row}");
        assert_eq!(row["sha256_ok"], true, "{row}");
        assert!(row["outage_ms"].as_u64().unwrap() > 0, "{row}");
        assert_eq!(processes_of(&temporary), Vec::<u32>::new());
        assert_eq!(fs::read_dir(&temporary).unwrap().count(), 0, "directories are gone");
    }
}

#[test]
fn an_interrupted_demo_leaves_nothing_behind() {
    let area = tempfile::tempdir_in("/tmp").unwrap();
    let files = area.path().join("files");
    let temporary = area.path().join("t");
    make_files(&files);
    fs::create_dir(&temporary).unwrap();
    for signal in [Signal::INT, Signal::TERM, Signal::KILL] {
        let mut command = hawser();
        command.args(["demo", "--dir"]).arg(&files).env("TMPDIR", &temporary);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut demo = Guarded(child);
        wait_for("its nodes", || (processes_of(&temporary).len() >= 3).then_some(()));
        demo.signal(signal);
        demo.wait();
        wait_for("its nodes to end", || processes_of(&temporary).is_empty().then_some(()));
        if signal != Signal::KILL {
            assert_eq!(fs::read_dir(&temporary).unwrap().count(), 0, "directories are gone");
        }
    }
}

#[test]
fn a_demo_that_is_kept_says_what_to_try_and_how_to_end_it() {
    let area = tempfile::tempdir_in("/tmp").unwrap();
    let files = area.path().join("files");
    let temporary = area.path().join("t");
    make_files(&files);
    fs::create_dir(&temporary).unwrap();
    let mut command = hawser();
    command.args(["demo", "--keep", "--json", "--dir"]).arg(&files).env("TMPDIR", &temporary);
    let done = finish(&mut command, None).ok();
    assert_eq!(done.json()["lost"], 0);
    let hints: Vec<&str> = done.stderr.lines().filter_map(|line| line.strip_prefix("  ")).collect();
    assert_eq!(hints.len(), 7, "{done:?}");
    let (end, tried) = hints.split_last().unwrap();
    assert!(end.starts_with("kill "), "{end}");
    // Ended by hand if a hint fails: nothing else would.
    let kept = Kept(end);
    let mut answer = String::new();
    for hint in tried {
        let done = finish(Command::new("sh").args(["-c", hint]), None);
        assert!(done.code == 0 && !done.stdout.is_empty(), "{hint}: {done:?}");
        answer = done.text().to_owned();
    }
    assert_eq!(answer, "hello\n");
    drop(kept);
    wait_for("its nodes to end", || processes_of(&temporary).is_empty().then_some(()));
    assert_eq!(fs::read_dir(&temporary).unwrap().count(), 0, "directories are gone");
}

/// A kept mesh, by the command that ends it.
struct Kept<'a>(&'a str);

impl Drop for Kept<'_> {
    fn drop(&mut self) {
        let _ended = Command::new("sh").args(["-c", self.0]).status();
    }
}
