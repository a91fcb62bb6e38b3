//! Writes the files of a tree below one directory, and nothing outside of it.
//!
//! **Invariant:** a file appears under its name only when it is complete and its SHA-256 is right:
//! it is written under a temporary name at the top and renamed. Every directory on the way is
//! opened without following symlinks. What the sender names wrongly costs that file alone.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{Context, SHA256};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, fchmod, mkdirat, openat, renameat, unlinkat};
use rustix::io::Errno;
use thiserror::Error;

mod resume;

use super::path::{SafePath, shown};
use super::record::{RecordError, TreeRecord};

/// Permission bits that are taken from the sender.
const MODE_MASK: u32 = 0o777;
const OTHER_HASH: &str = "its SHA-256 is not the sender's";

/// Why nothing more can be received. What was renamed stays; the partial file stays to be resumed.
#[derive(Debug, Error)]
pub(crate) enum SinkError {
    #[error("cannot {action} {path}: {error}")]
    Io { action: &'static str, path: String, error: io::Error },
    #[error(transparent)]
    Record(#[from] RecordError),
}

/// What a record brought about.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Arrived {
    /// Nothing to tell yet.
    Nothing,
    /// A file is complete under its name.
    File { path: String, bytes: u64 },
    /// A file was refused: the sender's name or order is wrong, or what is here is in its way.
    Refused { path: String, why: String },
    /// A file is not what was sent.
    Damaged { path: String, why: String },
    /// The sender gave up on a file.
    Abandoned { path: String, why: String },
    /// Everything was received.
    EndOfTree { files: u64, bytes: u64 },
}

/// Receives one tree.
#[derive(Debug)]
pub(crate) struct TreeSink {
    root: OwnedFd,
    shown_root: PathBuf,
    /// Names of the partial file and of what it will be, at the top.
    part: String,
    begun: String,
    state: State,
    /// The `begun` file stands for a file that was in progress at the last confirmation.
    noted: bool,
}

#[derive(Debug)]
enum State {
    /// Nothing is known of a file in progress but what the directory may hold.
    Start,
    /// Between files.
    Idle,
    /// Within a file.
    Open(Box<OpenFile>),
    /// Within a file that was complete before its end was confirmed.
    Done { path: SafePath, size: u64 },
    /// Within a file that is not kept; it was reported already.
    Skipping,
}

struct OpenFile {
    file: File,
    path: SafePath,
    mode: u32,
    size: u64,
    written: u64,
    hash: Context,
}

impl std::fmt::Debug for OpenFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "OpenFile({} at {})", self.path, self.written)
    }
}

impl TreeSink {
    /// Receives into `root`, which is made if it does not exist. `consumer` tells receivers of
    /// several streams into the same directory apart; 1 to 128 characters of `A-Za-z0-9._-`.
    ///
    /// # Errors
    /// If the directory cannot be made or opened.
    pub(crate) fn open(root: &Path, consumer: &str) -> Result<Self, SinkError> {
        let failed =
            |action| move |error| SinkError::Io { action, path: root.display().to_string(), error };
        std::fs::create_dir_all(root).map_err(failed("create directory"))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = openat(CWD, root, flags, Mode::empty())
            .map_err(|errno| failed("open directory")(errno.into()))?;
        Ok(Self {
            root: directory,
            shown_root: root.to_path_buf(),
            part: format!(".hawser-{consumer}.part"),
            begun: format!(".hawser-{consumer}.begun"),
            state: State::Start,
            noted: false,
        })
    }

    /// Takes the next message of the stream.
    ///
    /// # Errors
    /// [`SinkError`]; the message had no effect that matters when it comes again.
    pub(crate) fn accept(&mut self, message: &[u8]) -> Result<Arrived, SinkError> {
        let record = TreeRecord::decode(message)?;
        let mut state = std::mem::replace(&mut self.state, State::Idle);
        let continues = matches!(
            record,
            TreeRecord::Data { .. } | TreeRecord::End { .. } | TreeRecord::Abandon { .. }
        );
        if !continues && matches!(state, State::Start) {
            // Whatever an earlier receiver left is of a file that is not continued.
            state = State::Idle;
            self.noted = self.read_note().is_some();
            self.confirmed();
        }
        match record {
            TreeRecord::Directory { mode, path } => self.directory(mode, path),
            TreeRecord::Begin { mode, size, path } => self.begin(&state, mode, size, path),
            TreeRecord::Data { offset, bytes } => self.data(state, offset, bytes),
            TreeRecord::End { sha256 } => self.end(state, sha256),
            TreeRecord::Abandon { reason } => {
                let path = match state {
                    State::Open(open) => open.path.to_string(),
                    _ => return Ok(Arrived::Nothing),
                };
                self.forget_part();
                let why: String = reason.chars().filter(|c| !c.is_control()).take(200).collect();
                Ok(Arrived::Abandoned { path, why })
            }
            TreeRecord::EndOfTree { files, bytes } => {
                self.forget_part();
                Ok(Arrived::EndOfTree { files, bytes })
            }
        }
    }

    /// Makes durable what was accepted, so that the messages may be confirmed and forgotten.
    ///
    /// # Errors
    /// If the disk refuses: then nothing may be confirmed.
    pub(crate) fn sync(&mut self) -> Result<(), SinkError> {
        let State::Open(open) = &self.state else { return Ok(()) };
        open.file.sync_data().map_err(self.failed("write", &self.part))?;
        if !self.noted {
            let note =
                TreeRecord::Begin { mode: open.mode, size: open.size, path: open.path.as_bytes() }
                    .encode();
            let file = self.create(&self.begun)?;
            file.write_all_at(&note, 0)
                .and_then(|()| file.sync_data())
                .map_err(self.failed("write", &self.begun))?;
            self.noted = true;
        }
        Ok(())
    }

    /// Everything accepted before the last [`Self::sync`] is confirmed.
    pub(crate) fn confirmed(&mut self) {
        if self.noted && !matches!(self.state, State::Open(_) | State::Done { .. }) {
            self.noted = false;
            let _absent = unlinkat(&self.root, self.begun.as_str(), AtFlags::empty());
        }
    }

    /// A file that was confirmed in part has ended: confirm before the next message, because one
    /// note is all there is to resume by.
    pub(crate) const fn wants_confirmation(&self) -> bool {
        self.noted && !matches!(self.state, State::Open(_) | State::Done { .. })
    }

    fn directory(&mut self, mode: u32, path: &[u8]) -> Result<Arrived, SinkError> {
        let refused = |why: String| Ok(Arrived::Refused { path: shown(path), why });
        let path = match SafePath::parse(path) {
            Ok(path) => path,
            Err(refusal) => return refused(refusal.to_string()),
        };
        let (parents, leaf) = path.split();
        let made = self.walk(parents.chain([leaf]));
        match made {
            Ok(directory) => {
                // Files in it must still be writable by their owner.
                let mode = Mode::from_raw_mode((mode & MODE_MASK) | 0o700);
                let _kept = fchmod(&directory, mode);
                Ok(Arrived::Nothing)
            }
            Err(errno) => self.obstacle(errno, &path),
        }
    }

    fn begin(
        &mut self,
        state: &State,
        mode: u32,
        size: u64,
        path: &[u8],
    ) -> Result<Arrived, SinkError> {
        let path = match SafePath::parse(path) {
            Ok(path) => path,
            Err(refusal) => {
                self.state = State::Skipping;
                return Ok(Arrived::Refused { path: shown(path), why: refusal.to_string() });
            }
        };
        self.confirmed();
        self.state = State::Open(Box::new(OpenFile {
            file: self.create(&self.part)?,
            path,
            mode: mode & MODE_MASK,
            size,
            written: 0,
            hash: Context::new(&SHA256),
        }));
        Ok(match state {
            State::Open(open) => Arrived::Abandoned {
                path: open.path.to_string(),
                why: "the sender began another file".to_owned(),
            },
            _ => Arrived::Nothing,
        })
    }

    fn data(&mut self, state: State, offset: u64, bytes: &[u8]) -> Result<Arrived, SinkError> {
        let mut open = match state {
            State::Open(open) => open,
            State::Start => match self.resume(Some(offset))? {
                State::Open(open) => open,
                State::Skipping => {
                    self.state = State::Skipping;
                    return Ok(Arrived::Damaged {
                        path: "a file".to_owned(),
                        why: "the stream goes on within it, and its beginning is not here"
                            .to_owned(),
                    });
                }
                other => {
                    self.state = other;
                    return Ok(Arrived::Nothing);
                }
            },
            State::Skipping | State::Done { .. } => {
                self.state = state;
                return Ok(Arrived::Nothing);
            }
            State::Idle => {
                self.state = State::Skipping;
                return Ok(Arrived::Refused {
                    path: "data".to_owned(),
                    why: "it belongs to no file".to_owned(),
                });
            }
        };
        let end = offset.saturating_add(bytes.len() as u64);
        if offset != open.written || end > open.size {
            self.state = State::Skipping;
            let why = format!(
                "data at {offset} to {end}, where {} to at most {} should follow",
                open.written, open.size
            );
            return Ok(Arrived::Damaged { path: open.path.to_string(), why });
        }
        let written = open.file.write_all_at(bytes, offset);
        if written.is_ok() {
            open.hash.update(bytes);
            open.written = end;
        }
        self.state = State::Open(open);
        written.map_err(self.failed("write", &self.part))?;
        Ok(Arrived::Nothing)
    }

    fn end(&mut self, state: State, sha256: [u8; 32]) -> Result<Arrived, SinkError> {
        let state = if let State::Start = state { self.resume(None)? } else { state };
        let open = match state {
            State::Open(open) => open,
            State::Done { path, size } => return self.verify(&path, size, sha256),
            State::Start | State::Idle | State::Skipping => return Ok(Arrived::Nothing),
        };
        let damaged = |why: String| Arrived::Damaged { path: open.path.to_string(), why };
        if open.written != open.size {
            let why = format!("{} bytes of {}", open.written, open.size);
            let arrived = damaged(why);
            self.forget_part();
            return Ok(arrived);
        }
        if open.hash.clone().finish().as_ref() != sha256 {
            let arrived = damaged(OTHER_HASH.to_owned());
            self.forget_part();
            return Ok(arrived);
        }
        fchmod(&open.file, Mode::from_raw_mode(open.mode))
            .map_err(|errno| self.failed("set mode of", &self.part)(errno.into()))?;
        open.file.sync_data().map_err(self.failed("write", &self.part))?;
        let (parents, leaf) = open.path.split();
        let renamed = self
            .walk(parents)
            .and_then(|parent| renameat(&self.root, self.part.as_str(), &parent, leaf));
        if let Err(errno) = renamed {
            return self.obstacle(errno, &open.path);
        }
        Ok(Arrived::File { path: open.path.to_string(), bytes: open.size })
    }

    /// Opens the directory that `parts` lead to, making what is missing.
    fn walk<'p>(&self, parts: impl Iterator<Item = &'p [u8]>) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut at = self
            .root
            .try_clone()
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        for part in parts {
            at = match openat(at.as_fd(), part, flags, Mode::empty()) {
                Err(Errno::NOENT) => {
                    match mkdirat(at.as_fd(), part, Mode::from_raw_mode(0o755)) {
                        Ok(()) | Err(Errno::EXIST) => {}
                        Err(errno) => return Err(errno),
                    }
                    openat(at.as_fd(), part, flags, Mode::empty())?
                }
                opened => opened?,
            };
        }
        Ok(at)
    }

    /// What stands in the way of one name is that file's matter; a sick disk is everybody's.
    fn obstacle(&self, errno: Errno, path: &SafePath) -> Result<Arrived, SinkError> {
        let why = match errno {
            Errno::NOTDIR | Errno::LOOP => {
                "a symbolic link or a file stands where it needs a directory"
            }
            Errno::ISDIR | Errno::EXIST | Errno::NOTEMPTY => "a directory of that name is there",
            Errno::NAMETOOLONG => "the name is too long for this file system",
            _ => {
                let shown = self.shown_root.join(path.to_string()).display().to_string();
                return Err(SinkError::Io { action: "create", path: shown, error: errno.into() });
            }
        };
        self.forget_part();
        Ok(Arrived::Refused { path: path.to_string(), why: why.to_owned() })
    }

    fn create(&self, name: &str) -> Result<File, SinkError> {
        let flags =
            OFlags::RDWR | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = || openat(&self.root, name, flags, Mode::RUSR | Mode::WUSR);
        let opened = match open() {
            // A symlink that somebody put there: it goes, its target stays.
            Err(Errno::LOOP) => unlinkat(&self.root, name, AtFlags::empty()).and_then(|()| open()),
            opened => opened,
        };
        opened.map(File::from).map_err(|errno| self.failed("create", name)(errno.into()))
    }

    fn forget_part(&self) {
        let _absent = unlinkat(&self.root, self.part.as_str(), AtFlags::empty());
    }

    fn failed(&self, action: &'static str, name: &str) -> impl Fn(io::Error) -> SinkError + use<> {
        let path = self.shown_root.join(name).display().to_string();
        move |error| SinkError::Io { action, path: path.clone(), error }
    }
}

#[cfg(test)]
mod tests;
