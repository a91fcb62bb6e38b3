//! Where received messages go: lines, raw bytes, JSON, or a directory.

use std::io::{self, Write};
use std::path::Path;

use data_encoding::BASE64;
use serde::Serialize;

use crate::cli::failure::{Exit, Failure};
use crate::cli::output::{Output, bytes_text, counted, say};
use crate::tree::{Arrived, SinkError, TreeSink};

/// What a receiver wants next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Next {
    More,
    /// Confirm what was taken before the next message.
    Confirm,
    /// Everything is here.
    End,
}

/// A destination of messages.
#[derive(Debug)]
pub(super) enum Receiver {
    /// Standard output; one message a line.
    Lines,
    /// Standard output; one JSON object a message.
    Json,
    /// Standard output; nothing between messages.
    Raw,
    /// Files below a directory.
    Tree(Box<TreeReceiver>),
}

#[derive(Serialize)]
struct MessageRow<'a> {
    seq: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
}

impl From<SinkError> for Failure {
    fn from(error: SinkError) -> Self {
        match error {
            SinkError::Io { action, path, error } => Self::file(action, path, &error),
            SinkError::Record(error) => Self::plain(error.to_string()),
        }
    }
}

impl Receiver {
    /// Takes one message. `written` collects what goes to standard output.
    ///
    /// # Errors
    /// If it cannot be kept: then it must not be confirmed.
    pub(super) fn take(
        &mut self,
        seq: u64,
        message: &[u8],
        written: &mut Vec<u8>,
    ) -> Result<Next, Failure> {
        match self {
            Self::Lines => {
                written.extend_from_slice(message);
                written.push(b'\n');
            }
            Self::Raw => written.extend_from_slice(message),
            Self::Json => {
                let text = std::str::from_utf8(message).ok();
                let base64 = text.is_none().then(|| BASE64.encode(message));
                serde_json::to_writer(&mut *written, &MessageRow { seq, text, base64 })
                    .map_err(|error| Failure::plain(format!("cannot write JSON: {error}")))?;
                written.push(b'\n');
            }
            Self::Tree(tree) => return tree.take(seq, message),
        }
        Ok(Next::More)
    }

    /// Brings what was taken to where it stays, so that it may be confirmed.
    ///
    /// # Errors
    /// If it cannot be kept: then it must not be confirmed.
    pub(super) fn settle(&mut self, written: &mut Vec<u8>) -> Result<(), Failure> {
        if !written.is_empty() {
            let mut stdout = io::stdout().lock();
            stdout
                .write_all(written)
                .and_then(|()| stdout.flush())
                .map_err(|error| Failure::stdout(&error))?;
            written.clear();
        }
        match self {
            Self::Tree(tree) => tree.sink.sync().map_err(Failure::from),
            _ => Ok(()),
        }
    }

    /// What was settled last is confirmed.
    pub(super) fn confirmed(&mut self) {
        if let Self::Tree(tree) = self {
            tree.sink.confirmed();
        }
    }
}

/// Files of a tree, and the account of them.
#[derive(Debug)]
pub(super) struct TreeReceiver {
    sink: TreeSink,
    out: Output,
    counts: TreeCounts,
}

/// How it went.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct TreeCounts {
    files: u64,
    bytes: u64,
    /// Hostile names, names that something here stands in the way of, and messages that are no
    /// part of a tree.
    refused: u64,
    /// Files that came otherwise than they were sent.
    damaged: u64,
    /// Files that the sender could not read to their end.
    abandoned: u64,
    /// The whole tree was received.
    complete: bool,
}

#[derive(Serialize)]
struct FileRow<'a> {
    file: &'a str,
    bytes: u64,
}

impl TreeReceiver {
    /// # Errors
    /// If the directory cannot be used.
    pub(super) fn open(root: &Path, consumer: &str, out: Output) -> Result<Self, Failure> {
        let sink = TreeSink::open(root, consumer)?;
        Ok(Self { sink, out, counts: TreeCounts::default() })
    }

    fn take(&mut self, seq: u64, message: &[u8]) -> Result<Next, Failure> {
        let arrived = match self.sink.accept(message) {
            // Who publishes beside the tree shall not end it for all.
            Err(SinkError::Record(error)) => {
                Arrived::Refused { path: format!("message {seq}"), why: error.to_string() }
            }
            arrived => arrived?,
        };
        let counts = &mut self.counts;
        match arrived {
            Arrived::Nothing => {}
            Arrived::File { path, bytes } => {
                counts.files += 1;
                counts.bytes += bytes;
                if self.out.is_json() {
                    self.out.value(&FileRow { file: &path, bytes }, String::new)?;
                }
            }
            Arrived::Refused { path, why } => {
                counts.refused += 1;
                say(&format!("warning: {path}: refused: {why}"));
            }
            Arrived::Damaged { path, why } => {
                counts.damaged += 1;
                say(&format!("warning: {path}: damaged, not kept: {why}"));
            }
            Arrived::Abandoned { path, why } => {
                counts.abandoned += 1;
                say(&format!("warning: {path}: given up by the sender: {why}"));
            }
            Arrived::EndOfTree { .. } => {
                counts.complete = true;
                return Ok(Next::End);
            }
        }
        Ok(if self.sink.wants_confirmation() { Next::Confirm } else { Next::More })
    }

    /// Says how it went.
    ///
    /// # Errors
    /// If not every file is here as it was sent.
    pub(super) fn finish(self) -> Result<(), Failure> {
        let counts = self.counts;
        self.out.value(&counts, || {
            format!("{}, {}\n", counted(counts.files, "file"), bytes_text(counts.bytes))
        })?;
        if counts.damaged > 0 {
            let damaged = counted(counts.damaged, "file");
            return Err(Failure::new(Exit::Loss, format!("{damaged} came damaged")));
        }
        if counts.refused > 0 {
            let refused = format!("{} refused: the warnings say which", counts.refused);
            return Err(Failure::new(Exit::Refused, refused));
        }
        if counts.abandoned > 0 {
            let abandoned = counted(counts.abandoned, "file");
            return Err(Failure::plain(format!("the sender gave up on {abandoned}")));
        }
        if !counts.complete {
            return Err(Failure::plain("the stream ended before the tree did"));
        }
        Ok(())
    }
}
