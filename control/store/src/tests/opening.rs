use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use redb::TableDefinition;
use tempfile::TempDir;

use super::{check_passed, child_path, member_record, node_record, run_alone, stream_record};
use crate::{STATE_FILE, Store, StoreError};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn directory_and_file_are_closed_to_others() {
    let dir = TempDir::new().unwrap();
    let data_dir = dir.path().join("a/b");
    drop(Store::open(&data_dir).unwrap());
    let file = data_dir.join(STATE_FILE);
    assert_eq!((mode(&data_dir), mode(&file)), (0o700, 0o600));
    let names: Vec<_> =
        fs::read_dir(&data_dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(names, std::slice::from_ref(&file));

    fs::set_permissions(&data_dir, Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
    drop(Store::open(&data_dir).unwrap());
    assert_eq!((mode(&data_dir), mode(&file)), (0o755, 0o600));
}

#[test]
fn a_store_is_opened_once() {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let error = Store::open(dir.path()).unwrap_err();
    assert!(matches!(error, StoreError::InUse { .. }), "{error}");
    assert!(error.to_string().contains(dir.path().to_str().unwrap()), "{error}");
    store.set_node(&node_record()).unwrap();
    drop(store);
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(store.node().unwrap(), Some(node_record()));
}

#[test]
fn a_store_that_another_process_holds_is_in_use() {
    if let Some(path) = child_path() {
        let error = Store::open(&path).unwrap_err();
        assert!(matches!(error, StoreError::InUse { .. }), "{error}");
        return;
    }
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let name = "tests::opening::a_store_that_another_process_holds_is_in_use";
    check_passed(&run_alone(Command::new("env"), name, dir.path()).unwrap());
    store.next_boot().unwrap();
}

#[test]
fn an_interrupted_creation_is_begun_anew() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("state.redb.new"), b"half of a fi").unwrap();
    drop(Store::open(dir.path()).unwrap());
    assert!(!dir.path().join("state.redb.new").exists());
    drop(Store::open(dir.path()).unwrap());
}

#[expect(clippy::print_stderr, reason = "says that a test was skipped")]
#[test]
fn without_permission_the_error_says_so() {
    if let Some(path) = child_path() {
        for (case, what) in [("closed", "closed"), ("open/unreadable", STATE_FILE)] {
            let error = Store::open(&path.join(case)).unwrap_err();
            assert!(matches!(error, StoreError::Permission { .. }), "{case}: {error}");
            assert!(error.to_string().contains(what), "{case}: {error}");
        }
        let error = Store::open(&path.join("closed/below")).unwrap_err();
        assert!(matches!(error, StoreError::Permission { .. }), "{error}");
        return;
    }
    // Beneath /tmp itself, so that another user can reach it.
    let dir =
        tempfile::Builder::new().permissions(Permissions::from_mode(0o755)).tempdir().unwrap();
    let (closed, unreadable) = (dir.path().join("closed"), dir.path().join("open/unreadable"));
    fs::create_dir(&closed).unwrap();
    drop(Store::open(&unreadable).unwrap());
    for (path, mode) in [
        (dir.path().join("open"), 0o755),
        (unreadable.clone(), 0o755),
        (unreadable.join(STATE_FILE), 0o000),
        (closed.clone(), 0o555),
    ] {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }
    let mut command = Command::new("env");
    let root =
        fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0);
    if root {
        // Root may do everything: the child is nobody.
        command.uid(65534).gid(65534);
        let mut probe = Command::new(std::env::current_exe().unwrap());
        if probe.uid(65534).gid(65534).arg("--list").output().is_err() {
            eprintln!("skipped: this test program is not executable for another user");
            return;
        }
    }
    let name = "tests::opening::without_permission_the_error_says_so";
    let output = run_alone(command, name, dir.path()).unwrap();
    fs::set_permissions(&closed, Permissions::from_mode(0o755)).unwrap();
    check_passed(&output);
}

#[test]
fn a_file_that_is_none_is_corrupt() {
    for content in
        [&b""[..], b"r", b"redb", &[0; 10_000], &[0xff; 100], b"redb\x1a\x0a\xa9\x0d\x0a"]
    {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join(STATE_FILE);
        fs::write(&path, content).unwrap();
        let error = Store::open(dir.path()).unwrap_err();
        assert!(matches!(error, StoreError::Corrupt { .. }), "{content:?}: {error}");
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
        assert_eq!(fs::read(&path).unwrap(), content, "it is left as it is");
    }
}

#[test]
fn another_programs_database_is_foreign() {
    let dir = TempDir::new().unwrap();
    let database = redb::Database::create(dir.path().join(STATE_FILE)).unwrap();
    let table: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("theirs");
    let transaction = database.begin_write().unwrap();
    transaction.open_table(table).unwrap().insert("a", [1].as_slice()).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let error = Store::open(dir.path()).unwrap_err();
    assert!(matches!(error, StoreError::Foreign { .. }), "{error}");

    let dir = TempDir::new().unwrap();
    drop(Store::open(dir.path()).unwrap());
    let database = redb::Database::create(dir.path().join(STATE_FILE)).unwrap();
    let transaction = database.begin_write().unwrap();
    let meta = crate::database::META;
    transaction.open_table(meta).unwrap().insert("format", [9].as_slice()).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let error = Store::open(dir.path()).unwrap_err();
    assert!(matches!(error, StoreError::Foreign { .. }), "{error}");
    assert!(error.to_string().contains("format 9"), "{error}");
}

fn filled() -> (TempDir, Vec<u8>) {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).unwrap();
    store.set_node(&node_record()).unwrap();
    for number in 0..100 {
        store.put_member(&member_record(number)).unwrap();
    }
    store.put_stream(&stream_record(1)).unwrap();
    drop(store);
    let content = fs::read(dir.path().join(STATE_FILE)).unwrap();
    (dir, content)
}

/// Opens `content`: it is whole, or refused as corrupt.
fn check_damaged(content: &[u8], what: &str) -> bool {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join(STATE_FILE);
    fs::File::create(&path).unwrap().write_all(content).unwrap();
    match Store::open(dir.path()) {
        Ok(store) => {
            assert_eq!(store.node().unwrap(), Some(node_record()), "{what}");
            assert_eq!(store.members().unwrap().len(), 100, "{what}");
            assert_eq!(store.streams().unwrap(), [stream_record(1)], "{what}");
            false
        }
        Err(StoreError::Corrupt { .. } | StoreError::Foreign { .. }) => true,
        Err(error) => panic!("{what}: {error}"),
    }
}

#[test]
fn a_damaged_file_is_refused_or_whole() {
    let (_dir, content) = filled();
    let used: Vec<usize> = (0..content.len()).filter(|at| content[*at] != 0).collect();
    let mut refused = 0;
    for at in used.iter().step_by(used.len() / 150) {
        let mut damaged = content.clone();
        damaged[*at] ^= 0x10;
        refused += usize::from(check_damaged(&damaged, &format!("bit at {at}")));
    }
    assert!(refused > 50, "{refused}: most of the file is covered");
}

#[test]
fn a_cut_file_is_refused() {
    let (_dir, content) = filled();
    for len in [5, 100, 4096, 8192, content.len() / 2, content.len() - 4096, content.len() - 1] {
        assert!(check_damaged(&content[..len], &format!("{len} bytes")));
    }
}

#[test]
fn a_record_of_another_version_is_corrupt_and_harms_no_other() {
    let (dir, _) = filled();
    let database = redb::Database::create(dir.path().join(STATE_FILE)).unwrap();
    let transaction = database.begin_write().unwrap();
    let meta = crate::database::META;
    for (name, record) in [("node", &[9, 1, 2][..]), ("mesh", &[1, 2]), ("boot", &[1; 30])] {
        transaction.open_table(meta).unwrap().insert(name, record).unwrap();
    }
    transaction.commit().unwrap();
    drop(database);
    let store = Store::open(dir.path()).unwrap();
    for error in
        [store.node().unwrap_err(), store.mesh().unwrap_err(), store.next_boot().unwrap_err()]
    {
        assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
    }
    assert_eq!(store.members().unwrap().len(), 100);
    store.put_stream(&stream_record(2)).unwrap();
}
