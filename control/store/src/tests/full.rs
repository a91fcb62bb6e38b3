//! A disk that is full, for real: a small memory file system in a mount namespace of its own, and
//! a limit on the size of files.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use super::{check_passed, child_path, node_record, run_alone, stream_record};
use crate::{MemberPut, MemberRecord, Store, StoreError, StoreThread};

fn large_member(number: u16) -> MemberRecord {
    let mut id = [0; 16];
    id[..2].copy_from_slice(&number.to_be_bytes());
    MemberRecord {
        node: hawser_wire::NodeId::from_bytes(id),
        name: format!("node-{number}"),
        certificate: vec![7; 8000],
        joined_unix_s: 1,
    }
}

/// Adds members until there is no room; how many there are.
fn fill(store: &Store, first: u16) -> u16 {
    for number in first..10_000 {
        match store.put_member(&large_member(number)) {
            Ok(put) => assert_eq!(put, MemberPut::Inserted),
            Err(error) => {
                assert!(matches!(error, StoreError::Full { .. }), "{error}");
                assert!(error.to_string().contains("state.redb"), "{error}");
                return number;
            }
        }
    }
    panic!("the disk never got full");
}

#[expect(clippy::print_stderr, reason = "says that a test was skipped")]
#[test]
fn a_full_disk_is_named_and_does_no_lasting_harm() {
    if let Some(path) = child_path() {
        return on_a_small_disk(&path);
    }
    let dir = TempDir::new().unwrap();
    // The mount is seen by the child alone and goes with it.
    let mount =
        "mount -t tmpfs -o size=6m hawser-test \"$HAWSER_STORE_TEST_PATH\" || exit 77; exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "--map-root-user", "sh", "-c", mount, "sh"]);
    let name = "tests::full::a_full_disk_is_named_and_does_no_lasting_harm";
    let output = match run_alone(command, name, dir.path()) {
        Ok(output) => output,
        Err(error) => return eprintln!("skipped: no unshare: {error}"),
    };
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(77) || said.contains("unshare failed") {
        return eprintln!("skipped: mounting is not possible here: {said}");
    }
    check_passed(&output);
}

fn on_a_small_disk(path: &Path) {
    let store = Store::open(path).unwrap();
    store.set_node(&node_record()).unwrap();
    assert_eq!(store.next_boot().unwrap(), 1);
    let reserve = path.join("reserve");
    fs::write(&reserve, vec![1; 1 << 20]).unwrap();
    let kept = fill(&store, 0);
    assert!(kept > 10, "{kept}");

    // As long as it is full, each attempt fails alike.
    for number in [kept, kept + 1] {
        let error = store.put_member(&large_member(number)).unwrap_err();
        assert!(matches!(error, StoreError::Full { .. }), "{error}");
    }
    // What is there can be read all the while.
    assert_eq!(store.node().unwrap(), Some(node_record()));
    // With room, the same store goes on, and has all that it had.
    fs::remove_file(&reserve).unwrap();
    assert_eq!(store.node().unwrap(), Some(node_record()));
    let members = store.members().unwrap().len();
    assert!((usize::from(kept)..=usize::from(kept) + 1).contains(&members), "{members} of {kept}");
    assert_eq!(store.put_member(&large_member(kept)).unwrap(), MemberPut::Inserted);
    assert_eq!(store.next_boot().unwrap(), 2);

    // A group that cannot be brought to the disk fails as a whole.
    let rest = fill_with_zeros(&path.join("filler"));
    let (thread, handle) = StoreThread::start(store).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let mut jobs = tokio::task::JoinSet::new();
        for number in 0..200 {
            let handle = handle.clone();
            jobs.spawn(async move {
                handle.run(move |store| store.put_member(&large_member(5000 + number))).await
            });
        }
        let mut failed = 0;
        while let Some(answer) = jobs.join_next().await {
            match answer.unwrap() {
                Ok(_) => {}
                Err(StoreError::Full { .. } | StoreError::Io { .. }) => failed += 1,
                Err(error) => panic!("{error}"),
            }
        }
        assert!(failed > 0, "there was room for {rest}");
        fs::remove_file(path.join("filler")).unwrap();
        handle.run(|store| store.put_stream(&stream_record(1))).await.unwrap();
    });
    drop(handle);
    thread.join().unwrap();
    let store = Store::open(path).unwrap();
    assert_eq!(store.streams().unwrap(), [stream_record(1)]);
    assert_eq!(store.next_boot().unwrap(), 3);
    assert!(store.members().unwrap().len() > usize::from(kept));
}

/// Takes all the room that is left; how many bytes that was.
fn fill_with_zeros(path: &Path) -> usize {
    let mut file = fs::File::create(path).unwrap();
    let mut written = 0;
    while file.write_all(&[0; 4096]).is_ok() {
        written += 4096;
    }
    written
}

#[test]
fn a_disk_without_room_for_the_store_is_full() {
    if let Some(path) = child_path() {
        let error = Store::open(&path).unwrap_err();
        assert!(matches!(error, StoreError::Full { .. }), "{error}");
        return;
    }
    let dir = TempDir::new().unwrap();
    // Blocks of 512 bytes; the signal would end the process before it sees the error.
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' XFSZ; ulimit -f 16; exec \"$@\"", "sh"]);
    let name = "tests::full::a_disk_without_room_for_the_store_is_full";
    check_passed(&run_alone(command, name, dir.path()).unwrap());
    // What the attempt left does not hinder the next one.
    drop(Store::open(dir.path()).unwrap());
}
