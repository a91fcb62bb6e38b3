//! Reads a directory tree and cuts it into records, in path order.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{Context, SHA256};
use rustix::fs::{CWD, Mode, OFlags, openat};

use super::path::{SafePath, shown};
use super::record::{DATA_HEADER_BYTES, TreeRecord};

/// File bytes in one data record: with its header it fills one record batch.
const PIECE_BYTES: usize = (64 << 10) - DATA_HEADER_BYTES;

/// Permission bits that travel. Set-user-id and its kind do not.
const MODE_MASK: u32 = 0o777;

/// One file or directory below the root.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Entry {
    pub(crate) path: SafePath,
    pub(crate) mode: u32,
    /// Bytes; none for a directory.
    pub(crate) size: Option<u64>,
}

/// Lists regular files and directories below `root` in path order. What is neither, and what
/// cannot be read, is named in `warnings` and left out; symlinks are not followed.
///
/// # Errors
/// If `root` itself cannot be listed.
pub(crate) fn list(root: &Path, warnings: &mut Vec<String>) -> io::Result<Vec<Entry>> {
    let mut walk = Walk::new(root)?;
    let entries = std::iter::from_fn(|| walk.next(warnings)).collect();
    Ok(entries)
}

/// Goes through a tree in path order: a directory's entries by name, what is in one right behind it.
#[derive(Debug)]
pub(crate) struct Walk {
    root: PathBuf,
    /// Paths below the root that are still to be visited, the next one last.
    pending: Vec<PathBuf>,
}

impl Walk {
    /// # Errors
    /// If `root` cannot be listed.
    pub(crate) fn new(root: &Path) -> io::Result<Self> {
        let mut walk = Self { root: root.to_path_buf(), pending: Vec::new() };
        walk.push_directory(Path::new(""))?;
        Ok(walk)
    }

    fn push_directory(&mut self, directory: &Path) -> io::Result<()> {
        let mut names = fs::read_dir(self.root.join(directory))?
            .map(|item| Ok(item?.file_name()))
            .collect::<io::Result<Vec<_>>>()?;
        names.sort_unstable_by(|a, b| b.as_bytes().cmp(a.as_bytes()));
        self.pending.extend(names.into_iter().map(|name| directory.join(name)));
        Ok(())
    }

    /// The next regular file or directory.
    pub(crate) fn next(&mut self, warnings: &mut Vec<String>) -> Option<Entry> {
        while let Some(path) = self.pending.pop() {
            match self.visit(&path) {
                Ok(entry) => return Some(entry),
                Err(why) => {
                    let full = self.root.join(&path);
                    warnings
                        .push(format!("{}: skipped: {why}", shown(full.as_os_str().as_bytes())));
                }
            }
        }
        None
    }

    fn visit(&mut self, relative: &Path) -> Result<Entry, String> {
        let metadata = fs::symlink_metadata(self.root.join(relative)).map_err(|e| e.to_string())?;
        let path = SafePath::parse(relative.as_os_str().as_bytes()).map_err(|e| e.to_string())?;
        let mode = metadata.mode() & MODE_MASK;
        let kind = metadata.file_type();
        if kind.is_dir() {
            self.push_directory(relative).map_err(|error| error.to_string())?;
            Ok(Entry { path, mode, size: None })
        } else if kind.is_file() {
            Ok(Entry { path, mode, size: Some(metadata.len()) })
        } else if kind.is_symlink() {
            Err("symbolic link".to_owned())
        } else {
            Err("neither file nor directory".to_owned())
        }
    }
}

/// Makes the messages of a tree, one at a time.
#[derive(Debug)]
pub(crate) struct TreeSource {
    root: PathBuf,
    entries: VecDeque<Entry>,
    open: Option<OpenFile>,
    files: u64,
    bytes: u64,
    ended: bool,
    /// What could not be sent, for people.
    pub(crate) failures: Vec<String>,
}

struct OpenFile {
    file: File,
    path: SafePath,
    size: u64,
    offset: u64,
    hash: Context,
}

impl std::fmt::Debug for OpenFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "OpenFile({} at {})", self.path, self.offset)
    }
}

impl TreeSource {
    /// Of `entries`, which [`list`] made of `root`.
    pub(crate) fn new(root: PathBuf, entries: Vec<Entry>) -> Self {
        Self {
            root,
            entries: entries.into(),
            open: None,
            files: 0,
            bytes: 0,
            ended: false,
            failures: Vec::new(),
        }
    }

    /// The next message; none after the last. A file that cannot be read is abandoned and named in
    /// `failures`; the others go on.
    pub(crate) fn next_message(&mut self) -> Option<Vec<u8>> {
        if let Some(open) = self.open.take() {
            return Some(self.continue_file(open));
        }
        while let Some(entry) = self.entries.pop_front() {
            let Some(size) = entry.size else {
                let path = entry.path.as_bytes();
                return Some(TreeRecord::Directory { mode: entry.mode, path }.encode());
            };
            let full = self.root.join(OsStr::from_bytes(entry.path.as_bytes()));
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
            match openat(CWD, &full, flags, Mode::empty()) {
                Ok(file) => {
                    let path = entry.path.as_bytes();
                    let begin = TreeRecord::Begin { mode: entry.mode, size, path }.encode();
                    self.open = Some(OpenFile {
                        file: file.into(),
                        path: entry.path,
                        size,
                        offset: 0,
                        hash: Context::new(&SHA256),
                    });
                    return Some(begin);
                }
                Err(error) => {
                    self.failures.push(format!("{}: not sent: {error}", full.display()));
                }
            }
        }
        if self.ended {
            return None;
        }
        self.ended = true;
        Some(TreeRecord::EndOfTree { files: self.files, bytes: self.bytes }.encode())
    }

    fn continue_file(&mut self, mut open: OpenFile) -> Vec<u8> {
        let left = open.size - open.offset;
        if left == 0 {
            self.files += 1;
            self.bytes += open.size;
            let mut sha256 = [0; 32];
            sha256.copy_from_slice(open.hash.finish().as_ref());
            return TreeRecord::End { sha256 }.encode();
        }
        let wanted = usize::try_from(left).unwrap_or(PIECE_BYTES).min(PIECE_BYTES);
        let mut piece = vec![0; wanted];
        match open.file.read_exact(&mut piece) {
            Ok(()) => {
                open.hash.update(&piece);
                let message = TreeRecord::Data { offset: open.offset, bytes: &piece }.encode();
                open.offset += piece.len() as u64;
                self.open = Some(open);
                message
            }
            Err(error) => {
                let reason = match error.kind() {
                    io::ErrorKind::UnexpectedEof => {
                        "it became shorter while it was read".to_owned()
                    }
                    _ => error.to_string(),
                };
                self.failures.push(format!("{}: not sent: {reason}", open.path));
                TreeRecord::Abandon { reason: &reason }.encode()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_come_in_path_order_and_links_are_left_out() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("b/empty")).unwrap();
        fs::write(root.path().join("b/x"), "1").unwrap();
        fs::write(root.path().join("b.txt"), "22").unwrap();
        fs::write(root.path().join("a"), "").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", root.path().join("b/link")).unwrap();
        std::os::unix::fs::symlink("/etc", root.path().join("etc")).unwrap();
        rustix::fs::mkfifoat(CWD, root.path().join("pipe"), Mode::RUSR).unwrap();
        let mut warnings = Vec::new();
        let entries = list(root.path(), &mut warnings).unwrap();
        let names: Vec<String> = entries.iter().map(|entry| entry.path.to_string()).collect();
        assert_eq!(names, ["a", "b", "b/empty", "b/x", "b.txt"]);
        assert_eq!(warnings.len(), 3, "{warnings:?}");
    }

    #[test]
    fn a_file_that_shrinks_is_abandoned_and_the_rest_goes_on() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("a"), vec![1; 100]).unwrap();
        fs::write(root.path().join("b"), "ok").unwrap();
        let entries = list(root.path(), &mut Vec::new()).unwrap();
        fs::write(root.path().join("a"), "short").unwrap();
        let mut source = TreeSource::new(root.path().to_path_buf(), entries);
        let mut kinds = Vec::new();
        while let Some(message) = source.next_message() {
            kinds.push(message[0] & 0xf);
        }
        assert_eq!(kinds, [2, 5, 2, 3, 4, 6]);
        assert_eq!((source.files, source.bytes), (1, 2));
        assert_eq!(source.failures.len(), 1);
    }
}
