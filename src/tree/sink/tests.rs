use std::fs;
use std::os::unix::fs::PermissionsExt;

use proptest::prelude::*;

use super::*;
use crate::tree::source::{TreeSource, list};

fn messages(root: &Path) -> Vec<Vec<u8>> {
    let mut source = TreeSource::new(root.to_path_buf(), list(root, &mut Vec::new()).unwrap());
    std::iter::from_fn(|| source.next_message()).collect()
}

fn receive(root: &Path, messages: &[Vec<u8>]) -> Vec<Arrived> {
    let mut sink = TreeSink::open(root, "c").unwrap();
    let arrived = messages.iter().map(|message| sink.accept(message).unwrap());
    arrived.filter(|arrived| *arrived != Arrived::Nothing).collect()
}

fn names(root: &Path) -> Vec<String> {
    list(root, &mut Vec::new()).unwrap().iter().map(|entry| entry.path.to_string()).collect()
}

fn file(path: &[u8], content: &[u8]) -> Vec<Vec<u8>> {
    let mut sha256 = [0; 32];
    sha256.copy_from_slice(aws_lc_rs::digest::digest(&SHA256, content).as_ref());
    vec![
        TreeRecord::Begin { mode: 0o4755, size: content.len() as u64, path }.encode(),
        TreeRecord::Data { offset: 0, bytes: content }.encode(),
        TreeRecord::End { sha256 }.encode(),
    ]
}

#[test]
fn a_tree_comes_back() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::create_dir_all(from.path().join("a/b/empty")).unwrap();
    let large: Vec<u8> = (0..200_000_u32).flat_map(u32::to_le_bytes).collect();
    fs::write(from.path().join("a/b/large"), &large).unwrap();
    fs::write(from.path().join("a/none"), "").unwrap();
    fs::write(from.path().join("run"), "#!").unwrap();
    fs::set_permissions(from.path().join("run"), fs::Permissions::from_mode(0o750)).unwrap();
    let arrived = receive(to.path(), &messages(from.path()));
    assert_eq!(arrived.len(), 4);
    assert_eq!(arrived.last(), Some(&Arrived::EndOfTree { files: 3, bytes: 800_002 }));
    assert_eq!(names(to.path()), names(from.path()));
    assert_eq!(fs::read(to.path().join("a/b/large")).unwrap(), large);
    let mode = fs::metadata(to.path().join("run")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o750);
}

#[test]
fn hostile_names_leave_nothing_outside_and_do_not_stop_the_rest() {
    let area = tempfile::tempdir().unwrap();
    let (root, outside) = (area.path().join("in"), area.path().join("out"));
    fs::create_dir_all(&root).unwrap();
    fs::create_dir_all(&outside).unwrap();
    std::os::unix::fs::symlink(&outside, root.join("link")).unwrap();
    std::os::unix::fs::symlink(outside.join("target"), root.join("leaf")).unwrap();
    fs::create_dir(root.join("directory")).unwrap();
    let mut sent = Vec::new();
    for path in [
        &b"../out/a"[..],
        b"/tmp/hawser-absolute",
        b"link/b",
        b"x/../../out/c",
        b".hawser-c.part",
        b"n\0l",
        b"directory",
    ] {
        sent.extend(file(path, b"evil"));
    }
    sent.push(TreeRecord::Directory { mode: 0o777, path: b"link/made" }.encode());
    sent.extend(file(b"leaf", b"replaces the link, not its target"));
    sent.extend(file(b"good", b"good"));
    let arrived = receive(&root, &sent);
    let refused = arrived.iter().filter(|a| matches!(a, Arrived::Refused { .. })).count();
    assert_eq!(refused, 8, "{arrived:?}");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    assert!(!Path::new("/tmp/hawser-absolute").exists());
    assert_eq!(fs::read(root.join("good")).unwrap(), b"good");
    assert!(fs::symlink_metadata(root.join("leaf")).unwrap().is_file());
    assert_eq!(fs::metadata(root.join("good")).unwrap().permissions().mode() & 0o7777, 0o755);
}

#[test]
fn a_damaged_file_never_gets_its_name() {
    let root = tempfile::tempdir().unwrap();
    let mut sent = file(b"short", b"1234");
    sent[0] = TreeRecord::Begin { mode: 0o644, size: 5, path: b"short" }.encode();
    sent.extend(file(b"other", b"1234"));
    sent[4] = TreeRecord::Data { offset: 0, bytes: b"1235" }.encode();
    let mut gap = file(b"gap", b"1234");
    gap[1] = TreeRecord::Data { offset: 1, bytes: b"234" }.encode();
    sent.extend(gap);
    sent.push(TreeRecord::EndOfTree { files: 3, bytes: 12 }.encode());
    let arrived = receive(root.path(), &sent);
    let damaged = arrived.iter().filter(|a| matches!(a, Arrived::Damaged { .. })).count();
    assert_eq!(damaged, 3, "{arrived:?}");
    assert_eq!(names(root.path()), Vec::<String>::new());
}

#[test]
fn a_message_that_is_no_record_is_an_error() {
    let root = tempfile::tempdir().unwrap();
    let mut sink = TreeSink::open(root.path(), "c").unwrap();
    assert!(matches!(sink.accept(b"hello"), Err(SinkError::Record(_))));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// The receiver confirms behind some messages, is stopped behind any, and goes on with the
    /// first that was not confirmed.
    #[test]
    fn an_interrupted_receiver_goes_on(
        confirmations in prop::collection::vec(any::<bool>(), 16),
        stops in prop::collection::vec(1_usize..8, 1..4),
    ) {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let large: Vec<u8> = (0..70_000_u32).flat_map(u32::to_le_bytes).collect();
        fs::write(from.path().join("a"), &large).unwrap();
        fs::write(from.path().join("b"), "small").unwrap();
        let sent = messages(from.path());
        let mut confirmed = 0;
        for run in stops.into_iter().chain([sent.len()]) {
            let mut sink = TreeSink::open(to.path(), "c").unwrap();
            for at in (confirmed..sent.len()).take(run) {
                let arrived = sink.accept(&sent[at]).unwrap();
                prop_assert!(
                    !matches!(arrived, Arrived::Damaged { .. } | Arrived::Refused { .. }),
                    "{:?} at {}", arrived, at
                );
                if confirmations[at] || sink.wants_confirmation() {
                    sink.sync().unwrap();
                    confirmed = at + 1;
                    sink.confirmed();
                }
            }
        }
        prop_assert_eq!(fs::read(to.path().join("a")).unwrap(), large);
        prop_assert_eq!(names(to.path()), vec!["a".to_owned(), "b".to_owned()]);
        let left: Vec<_> = fs::read_dir(to.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        prop_assert!(left.len() <= 3, "{:?}", left);
    }
}
