//! The program as its user meets it.
#![expect(clippy::unwrap_used, reason = "helpers of tests: what cannot go on fails the test")]

use std::ffi::OsString;
use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(60);

fn bench(args: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hawser-bench"));
    command.args(args.split_whitespace());
    command
}

fn output(command: &mut Command) -> Output {
    command.output().unwrap()
}

/// Makes a command use the nats-server that is installed; without one, the harness gets its own.
fn with_nats_server(mut command: Command) -> Command {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let installed = std::env::split_paths(&path)
        .chain(["/usr/sbin".into()])
        .map(|directory| directory.join("nats-server"))
        .find(|path| path.is_file());
    if let Some(path) = installed {
        command.arg("--nats").arg(path);
    }
    command
}

/// The `hawser` beside the harness, built if need be.
fn with_hawser(command: Command) -> Command {
    let beside = Path::new(env!("CARGO_BIN_EXE_hawser-bench")).parent().unwrap();
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet", "--package", "hawser", "--bin", "hawser"]);
    if beside.ends_with("release") {
        build.arg("--release");
    }
    let built = output(build.current_dir(env!("CARGO_MANIFEST_DIR")));
    assert!(built.status.success(), "{built:?}");
    command
}

/// The rows of a run that must succeed, without one key of `keys` missing.
fn rows(mut command: Command, keys: &[&str]) -> Vec<Value> {
    let output = output(&mut command);
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let rows: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for row in &rows {
        for key in keys {
            assert!(row.get(key).is_some(), "{key} is missing: {row}");
        }
    }
    rows
}

/// Processes whose command line names `directory`.
fn processes_within(directory: &Path) -> Vec<String> {
    let needle = directory.as_os_str().as_encoded_bytes();
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .filter_map(|pid| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let is_within = line.windows(needle.len()).any(|window| window == needle);
            // Name, state, parent and the like: should one be left, it shows what it was about.
            let about = || fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            is_within.then(|| format!("{} {}", String::from_utf8_lossy(&line), about()))
        })
        .collect()
}

/// Waits until `condition` holds; the processes that it is about belong to others.
fn await_that(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        std::thread::yield_now();
    }
}

/// A comparison that goes on for long, with everything it makes under a directory of its own.
fn start_long_run() -> (Child, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let child = with_nats_server(bench("nats --seconds 600"))
        .env("TMPDIR", directory.path())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let servers = || processes_within(directory.path()).len();
    await_that("two servers and their directory", || servers() == 2);
    (child, directory)
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_raw(child.id().try_into().unwrap()).unwrap(), signal).unwrap();
}

#[test]
fn the_chain_is_one_json_line() {
    let output = output(&mut bench("chain --hops 2 --seconds 0.1 --json"));
    assert!(output.status.success(), "{output:?}");
    let row: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(row["hops"], 2);
    assert!(row["chain_bytes_per_s"].as_f64().unwrap() > 1e6);
    assert_eq!(output.stdout.iter().filter(|&&byte| byte == b'\n').count(), 1);
}

#[test]
fn the_peer_carries_every_message_over_one_link_and_two() {
    for hops in [1, 2] {
        // nats-server cuts off a subscriber that is 64 MiB behind, as one may be beside other tests:
        // so little is published that it cannot be.
        let line = format!("nats --hops {hops} --payload 64 --warmup 0.05 --seconds 0.1 --json");
        let output = output(&mut with_nats_server(bench(&line)));
        assert!(output.status.success(), "{output:?}");
        let row: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(row["peer"].as_str().unwrap().starts_with("nats-server 2."), "{row}");
        assert_eq!((&row["lost"], &row["duplicated"]), (&Value::from(0), &Value::from(0)), "{row}");
        assert!(row["msgs_per_s"].as_f64().unwrap() > 100.0, "{row}");
        assert!(row["lone_p50_us"].as_f64().unwrap() > 1.0, "{row}");
    }
}

#[test]
fn a_mesh_carries_every_message() {
    const KEYS: &[&str] = &[
        "hops",
        "payload",
        "msgs_per_s",
        "bytes_per_s",
        "p50_us",
        "p99_us",
        "p999_us",
        "lost",
        "duplicated",
        "cpu_s_per_million",
        "rss_peak_mib",
        "chain_bytes_per_s",
        "ratio_to_chain",
    ];
    for (line, hops, payload) in [
        ("load --hops 1 --payload 64 --warmup 0.2 --seconds 0.5 --json", 1, 64),
        ("load --hops 2 --payload 70000 --warmup 0.2 --seconds 0.5 --json", 2, 70_000),
        ("load --hops 1 --payload 16 --rate 300 --warmup 0.2 --seconds 0.5 --json", 1, 16),
    ] {
        let rows = rows(with_hawser(bench(line)), KEYS);
        let [row] = rows.as_slice() else { panic!("{rows:?}") };
        assert_eq!((&row["hops"], &row["payload"]), (&hops.into(), &payload.into()), "{row}");
        for count in ["lost", "duplicated", "reordered"] {
            assert_eq!(row[count], 0, "{row}");
        }
        assert_eq!(row["published"], row["delivered"], "{row}");
        assert!(row["p50_us"].as_f64().unwrap() > 1.0, "{row}");
        assert!(row["rss_peak_mib"].as_f64().unwrap() > 1.0, "{row}");
        if line.contains("--rate") {
            let rate = row["msgs_per_s"].as_f64().unwrap();
            assert!((50.0..3000.0).contains(&rate), "asked for 300 a second: {row}");
        }
    }
}

#[test]
fn lanes_that_are_reset_lose_nothing_and_the_row_says_how_long_it_took() {
    const KEYS: &[&str] = &[
        "scenario",
        "messages",
        "faults",
        "lost",
        "duplicated",
        "reordered",
        "resume_ms_p50",
        "resume_ms_p99",
        "control_p99_us_idle",
        "control_p99_us_loaded",
    ];
    let line = "chaos --scenario lane-kill --faults 2 --control-seconds 0.3 --json";
    let rows = rows(with_hawser(bench(line)), KEYS);
    let row = rows.last().unwrap();
    assert_eq!((&row["scenario"], &row["faults"]), (&"lane-kill".into(), &2.into()), "{row}");
    for count in ["lost", "duplicated", "reordered"] {
        assert_eq!(row[count], 0, "{row}");
    }
    assert!(row["messages"].as_u64().unwrap() > 1000, "{row}");
    assert!(row["resume_ms_p99"].as_f64() >= row["resume_ms_p50"].as_f64(), "{row}");
    assert!(row["resume_ms_p50"].as_f64().unwrap() > 0.0, "{row}");
}

#[test]
fn the_comparison_has_a_row_for_each_payload() {
    const KEYS: &[&str] = &[
        "peer",
        "hops",
        "payload",
        "ours_msgs_per_s",
        "peer_msgs_per_s",
        "ratio",
        "ours_p50_us",
        "peer_p50_us",
    ];
    let line = "peers --hops 1 --payload 64,1024 --runs 1 --warmup 0.1 --seconds 0.3 --json";
    let rows = rows(with_hawser(with_nats_server(bench(line))), KEYS);
    let payloads: Vec<_> = rows.iter().map(|row| row["payload"].as_u64().unwrap()).collect();
    assert_eq!(payloads, [64, 1024]);
    for row in rows {
        let value = |key: &str| row[key].as_f64().unwrap();
        let ratio = value("ours_msgs_per_s") / value("peer_msgs_per_s");
        assert!((ratio - value("ratio")).abs() < 0.01 * ratio + 0.001, "{row}");
        assert!(value("ours_p50_us") > 1.0 && value("peer_p50_us") > 1.0, "{row}");
        assert_eq!((&row["ours_lost"], &row["ours_duplicated"]), (&0.into(), &0.into()), "{row}");
    }
}

#[test]
fn a_signal_ends_everything_and_leaves_nothing() {
    for end in [Signal::TERM, Signal::INT, Signal::HUP] {
        let (mut child, directory) = start_long_run();
        signal(&child, end);
        assert_eq!(child.wait().unwrap().code(), Some(1), "{end:?}");
        assert_eq!(processes_within(directory.path()), Vec::<String>::new(), "{end:?}");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "{end:?}");
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert!(said.starts_with("hawser-bench: "), "{said}");
    }
}

/// Its own nats-server is made by programs that start others and put things aside.
#[test]
fn a_signal_during_an_installation_ends_and_removes_all_of_it() {
    for processes in [1, 2] {
        let directory = tempfile::tempdir().unwrap();
        let [temporary, cache] = ["temporary", "cache"].map(|name| directory.path().join(name));
        fs::create_dir(&temporary).unwrap();
        let mut child = bench("nats --seconds 600")
            .envs([("TMPDIR", &temporary), ("XDG_CACHE_HOME", &cache)])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        await_that("the installation", || processes_within(directory.path()).len() >= processes);
        signal(&child, Signal::TERM);
        assert_eq!(child.wait().unwrap().code(), Some(1));
        assert_eq!(processes_within(directory.path()), Vec::<String>::new());
        let left = |path: &Path| -> Vec<_> {
            fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name()).collect()
        };
        assert_eq!(left(&temporary), Vec::<OsString>::new());
        assert_eq!(left(&cache.join("hawser-bench")), Vec::<OsString>::new());
    }
}

#[test]
fn not_even_a_killed_harness_leaves_a_process() {
    let (mut child, directory) = start_long_run();
    child.kill().unwrap();
    child.wait().unwrap();
    await_that("the servers' end", || processes_within(directory.path()).is_empty());
}

#[test]
fn what_is_missing_is_named() {
    let output = output(&mut bench("load --hawser /no/such/hawser"));
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("/no/such/hawser: no such file"), "{said}");

    let output = self::output(&mut bench("nats --nats /bin/true"));
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("/bin/true is no nats-server"), "{said}");
}

#[test]
fn a_node_that_ends_is_told_with_its_last_words() {
    let directory = tempfile::tempdir().unwrap();
    let hawser = directory.path().join("hawser");
    fs::write(&hawser, "#!/bin/sh\necho 'no such luck' >&2\nexit 7\n").unwrap();
    fs::set_permissions(&hawser, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let output = output(bench("load --seconds 0.1 --hawser").arg(&hawser));
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("node a ended: exit status: 7\nno such luck"), "{said}");
    assert!(output.stdout.is_empty());
}
