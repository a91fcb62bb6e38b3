//! Messages to publish: lines, raw pieces, or a directory tree, cut into batches on a thread of
//! their own because files and pipes block.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::thread;

use bytes::{Bytes, BytesMut};
use hawser_wire::{MESSAGE_BYTES_MAX, RECORD_BYTES_TARGET, RECORD_MESSAGES_MAX};
use tokio::sync::mpsc;

use crate::cli::failure::Failure;
use crate::tree::{Entry, TreeSource, list};

/// Batches that wait between the reader and the connection.
const BATCHES_WAITING: usize = 8;

/// Consecutive messages.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) lengths: Vec<u32>,
    pub(crate) payload: Bytes,
}

/// What a reader sends: batches, then nothing, or why it stopped.
pub(crate) type Batches = mpsc::Receiver<Result<Batch, Failure>>;

/// Collects messages into batches that fill one record.
#[derive(Debug, Default)]
struct Collector {
    lengths: Vec<u32>,
    payload: BytesMut,
    /// Messages that may still come; none: as many as there are.
    left: Option<u64>,
}

impl Collector {
    const fn is_done(&self) -> bool {
        matches!(self.left, Some(0))
    }

    fn fits(&self, bytes: usize) -> bool {
        self.lengths.is_empty()
            || (self.lengths.len() < RECORD_MESSAGES_MAX
                && self.payload.len() + bytes <= RECORD_BYTES_TARGET)
    }

    fn push(&mut self, message: &[u8]) {
        self.lengths.push(u32::try_from(message.len()).unwrap_or(u32::MAX));
        self.payload.extend_from_slice(message);
        if let Some(left) = &mut self.left {
            *left = left.saturating_sub(1);
        }
    }

    fn take(&mut self) -> Option<Batch> {
        if self.lengths.is_empty() {
            return None;
        }
        let payload = self.payload.split().freeze();
        Some(Batch { lengths: std::mem::take(&mut self.lengths), payload })
    }
}

/// The connection has gone: the reader has nobody to read for.
pub(crate) struct Gone;

/// Where a reader puts its messages.
pub(crate) struct Sink {
    batches: mpsc::Sender<Result<Batch, Failure>>,
    collector: Collector,
}

impl Sink {
    /// Adds a message; a batch that is full goes out.
    pub(crate) fn message(&mut self, message: &[u8]) -> Result<(), Gone> {
        if self.collector.is_done() {
            return Ok(());
        }
        if !self.collector.fits(message.len()) {
            self.flush()?;
        }
        self.collector.push(message);
        Ok(())
    }

    /// Sends what there is.
    pub(crate) fn flush(&mut self) -> Result<(), Gone> {
        match self.collector.take() {
            Some(batch) => self.batches.blocking_send(Ok(batch)).map_err(|_closed| Gone),
            None => Ok(()),
        }
    }

    /// Ends the messages with a failure.
    pub(crate) fn fail(&mut self, failure: Failure) {
        let _gone = self.flush();
        let _gone = self.batches.blocking_send(Err(failure));
    }
}

/// Runs `work` on a thread of its own; `count` messages are taken of it at most.
///
/// # Errors
/// If no thread can be started.
pub(crate) fn spawn(
    count: Option<u64>,
    work: impl FnOnce(&mut Sink) -> Result<(), Gone> + Send + 'static,
) -> Result<Batches, Failure> {
    let (batches, receiver) = mpsc::channel(BATCHES_WAITING);
    let mut sink = Sink { batches, collector: Collector { left: count, ..Collector::default() } };
    // Not joined: it may sit in a read of a terminal when the command ends.
    thread::Builder::new()
        .name("input".to_owned())
        .spawn(move || {
            let _gone = work(&mut sink).and_then(|()| sink.flush());
        })
        .map_err(|error| Failure::plain(format!("cannot start a thread: {error}")))?;
    Ok(receiver)
}

/// One message a line, without its line feed. What has been read is sent at once: a lone line does
/// not wait for others.
pub(crate) fn lines(
    mut input: impl Read + Send + 'static,
    count: Option<u64>,
) -> Result<Batches, Failure> {
    spawn(count, move |sink| {
        let mut buffer = BytesMut::new();
        let mut number = 1_u64;
        loop {
            let read = match read_some(&mut input, &mut buffer) {
                Ok(read) => read,
                Err(failure) => {
                    sink.fail(failure);
                    return Ok(());
                }
            };
            while let Some(end) = memchr(&buffer) {
                let line = buffer.split_to(end + 1);
                if end > MESSAGE_BYTES_MAX {
                    sink.fail(line_too_long(number));
                    return Ok(());
                }
                sink.message(line.get(..end).unwrap_or_default())?;
                number += 1;
            }
            if buffer.len() > MESSAGE_BYTES_MAX {
                sink.fail(line_too_long(number));
                return Ok(());
            }
            if read == 0 {
                if !buffer.is_empty() {
                    sink.message(&buffer)?;
                }
                return Ok(());
            }
            sink.flush()?;
            if sink.collector.is_done() {
                return Ok(());
            }
        }
    })
}

/// The bytes as they come, cut into messages of at most a record.
pub(crate) fn raw(
    mut input: impl Read + Send + 'static,
    count: Option<u64>,
) -> Result<Batches, Failure> {
    spawn(count, move |sink| {
        let mut buffer = BytesMut::new();
        loop {
            match read_some(&mut input, &mut buffer) {
                Ok(0) => return Ok(()),
                Ok(_) => {
                    sink.message(&buffer.split())?;
                    sink.flush()?;
                }
                Err(failure) => {
                    sink.fail(failure);
                    return Ok(());
                }
            }
            if sink.collector.is_done() {
                return Ok(());
            }
        }
    })
}

/// A directory that is about to be sent.
#[derive(Debug)]
pub(crate) struct Directory {
    pub(crate) root: PathBuf,
    pub(crate) entries: Vec<Entry>,
    pub(crate) warnings: Vec<String>,
}

impl Directory {
    /// # Errors
    /// If it cannot be listed.
    pub(crate) fn list(root: &Path) -> Result<Self, Failure> {
        let mut warnings = Vec::new();
        let entries = list(root, &mut warnings)
            .map_err(|error| Failure::file("read directory", root.display(), &error))?;
        Ok(Self { root: root.to_path_buf(), entries, warnings })
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.entries.iter().filter_map(|entry| entry.size).sum()
    }

    /// Its messages. Files that could not be sent make the last item a failure.
    pub(crate) fn batches(self) -> Result<Batches, Failure> {
        spawn(None, move |sink| {
            let mut source = TreeSource::new(self.root, self.entries);
            while let Some(message) = source.next_message() {
                sink.message(&message)?;
            }
            if !source.failures.is_empty() {
                sink.fail(Failure::plain(source.failures.join("\n")));
            }
            Ok(())
        })
    }
}

fn read_some(input: &mut impl Read, buffer: &mut BytesMut) -> Result<usize, Failure> {
    let mut piece = vec![0; RECORD_BYTES_TARGET];
    loop {
        match input.read(&mut piece) {
            Ok(read) => {
                buffer.extend_from_slice(piece.get(..read).unwrap_or_default());
                return Ok(read);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Failure::file("read", "standard input", &error)),
        }
    }
}

fn memchr(buffer: &[u8]) -> Option<usize> {
    buffer.iter().position(|byte| *byte == b'\n')
}

fn line_too_long(number: u64) -> Failure {
    Failure::usage(format!(
        "line {number} is longer than {MESSAGE_BYTES_MAX} bytes, the most that a message has; \
         --raw sends bytes without regard to lines"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collect(mut batches: Batches) -> (Vec<Vec<u8>>, Option<Failure>) {
        let mut messages = Vec::new();
        while let Some(batch) = batches.blocking_recv() {
            let batch = match batch {
                Ok(batch) => batch,
                Err(failure) => return (messages, Some(failure)),
            };
            let mut payload = batch.payload;
            for length in batch.lengths {
                messages.push(payload.split_to(length as usize).to_vec());
            }
            assert!(payload.is_empty());
        }
        (messages, None)
    }

    #[test]
    fn lines_become_messages() {
        let text = "a\n\nlong line\nlast without end";
        let (messages, failure) = collect(lines(text.as_bytes(), None).unwrap());
        assert!(failure.is_none());
        assert_eq!(messages, [&b"a"[..], b"", b"long line", b"last without end"]);
        let (messages, _) = collect(lines(text.as_bytes(), Some(2)).unwrap());
        assert_eq!(messages.len(), 2);
    }

    #[test]
    fn many_lines_keep_order_and_batches_their_size() {
        let text: String = (0..50_000).map(|n| format!("{n}\n")).collect();
        let (messages, _) = collect(lines(io::Cursor::new(text), None).unwrap());
        assert_eq!(messages.len(), 50_000);
        assert!(messages.iter().enumerate().all(|(n, m)| *m == n.to_string().into_bytes()));
    }

    #[test]
    fn a_line_beyond_a_message_is_refused_behind_those_before() {
        let mut text = b"ok\n".to_vec();
        text.resize(MESSAGE_BYTES_MAX + 10, b'x');
        let (messages, failure) = collect(lines(io::Cursor::new(text), None).unwrap());
        assert_eq!(messages, [b"ok"]);
        assert!(failure.unwrap().message.starts_with("line 2 is longer"));
    }

    #[test]
    fn raw_bytes_come_back() {
        let bytes: Vec<u8> = (0..200_000_u32).flat_map(u32::to_le_bytes).collect();
        let (messages, _) = collect(raw(io::Cursor::new(bytes.clone()), None).unwrap());
        assert_eq!(messages.concat(), bytes);
        assert!(messages.iter().all(|message| message.len() <= RECORD_BYTES_TARGET));
    }
}
