//! `hawser demo`.

use std::fs;
use std::path::Path;
use std::process::Stdio;

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
