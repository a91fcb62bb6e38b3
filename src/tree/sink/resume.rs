//! What an earlier receiver left behind.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use aws_lc_rs::digest::{Context, SHA256};
use rustix::fs::{Mode, OFlags, openat};

use super::{Arrived, MODE_MASK, OTHER_HASH, OpenFile, SinkError, State, TreeSink};
use crate::tree::path::SafePath;
use crate::tree::record::TreeRecord;

/// Bytes read at once when a partial file is hashed again.
const REHASH_BYTES: usize = 256 << 10;

impl TreeSink {
    /// A file that was complete already: is it what was sent?
    pub(super) fn verify(
        &self,
        path: &SafePath,
        size: u64,
        sha256: [u8; 32],
    ) -> Result<Arrived, SinkError> {
        let shown = path.to_string();
        let hash = match self.open_final(path) {
            Some(mut file) => rehash(&mut file, size).map_err(self.failed("read", &shown))?,
            None => Context::new(&SHA256),
        };
        if hash.finish().as_ref() == sha256 {
            return Ok(Arrived::File { path: shown, bytes: size });
        }
        Ok(Arrived::Damaged { path: shown, why: OTHER_HASH.to_owned() })
    }

    /// What an earlier receiver left of the file that it had confirmed up to `offset`, or up to its
    /// end: a part, the whole under its name, or nothing ([`State::Skipping`]).
    pub(super) fn resume(&mut self, offset: Option<u64>) -> Result<State, SinkError> {
        let Some((mode, size, path)) = self.read_note() else { return Ok(State::Skipping) };
        self.noted = true;
        let offset = offset.unwrap_or(size);
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let Ok(file) = openat(&self.root, self.part.as_str(), flags, Mode::empty()) else {
            let whole = self.open_final(&path).and_then(|file| file.metadata().ok());
            let done = whole.is_some_and(|metadata| metadata.is_file() && metadata.len() == size);
            return Ok(if done { State::Done { path, size } } else { State::Skipping });
        };
        let mut file = File::from(file);
        let have = file.metadata().map_err(self.failed("read", &self.part))?.len();
        if offset > size || have < offset {
            return Ok(State::Skipping);
        }
        let hash = rehash(&mut file, offset)
            .and_then(|hash| file.set_len(offset).map(|()| hash))
            .map_err(self.failed("read", &self.part))?;
        let open = OpenFile { file, path, mode, size, written: offset, hash };
        Ok(State::Open(Box::new(open)))
    }

    fn open_final(&self, path: &SafePath) -> Option<File> {
        let (parents, leaf) = path.split();
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let parent = self.walk(parents).ok()?;
        openat(&parent, leaf, flags, Mode::empty()).ok().map(File::from)
    }

    pub(super) fn read_note(&self) -> Option<(u32, u64, SafePath)> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(&self.root, self.begun.as_str(), flags, Mode::empty()).ok()?;
        let mut note = Vec::new();
        File::from(file).take(64 << 10).read_to_end(&mut note).ok()?;
        match TreeRecord::decode(&note).ok()? {
            TreeRecord::Begin { mode, size, path } => {
                Some((mode & MODE_MASK, size, SafePath::parse(path).ok()?))
            }
            _ => None,
        }
    }
}

/// Hash of the first `length` bytes; the file stands behind them.
fn rehash(file: &mut File, length: u64) -> io::Result<Context> {
    let mut hash = Context::new(&SHA256);
    let mut buffer = vec![0; REHASH_BYTES];
    let mut left = length;
    file.seek(SeekFrom::Start(0))?;
    while left > 0 {
        let wanted = usize::try_from(left).unwrap_or(REHASH_BYTES).min(REHASH_BYTES);
        let Some(piece) = buffer.get_mut(..wanted) else { break };
        file.read_exact(piece)?;
        hash.update(piece);
        left -= wanted as u64;
    }
    Ok(hash)
}
