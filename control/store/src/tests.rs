mod full;
mod opening;
mod records;
mod thread;

use std::path::Path;
use std::process::{Command, Output};

use hawser_wire::{MeshId, NodeId, StreamId, TrafficClass};
use tempfile::TempDir;
use zeroize::Zeroizing;

use crate::{MemberRecord, MeshRecord, NodeRecord, STATE_FILE, Store, StreamRecord, StreamState};

fn node(number: u8) -> NodeId {
    NodeId::from_bytes([number; 16])
}

fn stream(number: u8) -> StreamId {
    StreamId::from_bytes([number; 16])
}

fn node_record() -> NodeRecord {
    NodeRecord { key_pkcs8: Zeroizing::new(b"a private key".to_vec()), name: "älpha".to_owned() }
}

fn mesh_record() -> MeshRecord {
    MeshRecord {
        mesh: MeshId::from_bytes([7; 16]),
        name: "harbour".to_owned(),
        description: "for tests".to_owned(),
        certificate: vec![1; 600],
        authority: vec![2; 500],
        authority_key: Some(Zeroizing::new(vec![3; 85])),
        stopped: false,
    }
}

fn member_record(number: u8) -> MemberRecord {
    MemberRecord {
        node: node(number),
        name: format!("node-{number}"),
        certificate: vec![number; 700],
        joined_unix_s: 1_700_000_000 + u64::from(number),
    }
}

fn stream_record(number: u8) -> StreamRecord {
    StreamRecord {
        stream: stream(number),
        tenant: "acme".to_owned(),
        name: format!("orders-{number}"),
        source: node(1),
        destinations: vec![node(2), node(3)],
        qos: 1,
        state: StreamState::Open,
        confirmed: vec![node(3)],
        created_unix_s: 1_700_000_000,
        striped: number % 2 == 1,
        class: if number % 2 == 1 { TrafficClass::Bulk } else { TrafficClass::Priority },
    }
}

/// The store as it would be found after a power failure now: a copy of the file as it is.
fn after_a_crash(store: &Store) -> (TempDir, Store) {
    let dir = TempDir::new().unwrap();
    std::fs::copy(store.path(), dir.path().join(STATE_FILE)).unwrap();
    let copy = Store::open(dir.path()).unwrap();
    (dir, copy)
}

/// Runs the test `name` alone, in a child process started by way of `prefix`, with `path` for it
/// to work on.
fn run_alone(mut prefix: Command, name: &str, path: &Path) -> std::io::Result<Output> {
    prefix
        .arg(std::env::current_exe()?)
        .args(["--exact", name, "--nocapture"])
        .env(CHILD_PATH, path)
        .output()
}

/// The child ran the one test, and it passed.
fn check_passed(output: &Output) {
    let said = |bytes| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (said(&output.stdout), said(&output.stderr));
    assert!(output.status.success() && stdout.contains("1 passed"), "{stdout}\n{stderr}");
}

/// Set in the child process of a test: where it is to work.
const CHILD_PATH: &str = "HAWSER_STORE_TEST_PATH";

fn child_path() -> Option<std::path::PathBuf> {
    std::env::var_os(CHILD_PATH).map(Into::into)
}
