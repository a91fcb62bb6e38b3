//! The record: one message. Byte 0 is the kind; integers are little-endian.
//!
//! | Kind | Rest |
//! |---|---|
//! | `0x11` directory | mode u32, path |
//! | `0x12` begin | mode u32, size u64, path |
//! | `0x13` data | offset u64, bytes |
//! | `0x14` end | SHA-256 |
//! | `0x15` abandon | reason, UTF-8 |
//! | `0x16` end of tree | files u64, bytes u64 |
//!
//! The high four bits of the kind are the version of the format.

use thiserror::Error;

const DIRECTORY: u8 = 0x11;
const BEGIN: u8 = 0x12;
const DATA: u8 = 0x13;
const END: u8 = 0x14;
const ABANDON: u8 = 0x15;
const END_OF_TREE: u8 = 0x16;

/// Bytes before the data in a data record.
pub(super) const DATA_HEADER_BYTES: usize = 9;

/// A message that is no record.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub(crate) enum RecordError {
    #[error("it is no file record; was the stream published with --dir?")]
    UnknownKind,
    #[error("the file record is cut short")]
    Truncated,
}

/// One message of a tree. Paths are as the peer gave them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum TreeRecord<'a> {
    /// A directory, which may be empty.
    Directory { mode: u32, path: &'a [u8] },
    /// The `Data` up to `End` or `Abandon` belong to this file of `size` bytes.
    Begin { mode: u32, size: u64, path: &'a [u8] },
    /// Bytes of the file begun last, at this offset.
    Data { offset: u64, bytes: &'a [u8] },
    /// The file is complete.
    End { sha256: [u8; 32] },
    /// The sender could not read the file to its end.
    Abandon { reason: &'a str },
    /// Everything was sent.
    EndOfTree { files: u64, bytes: u64 },
}

impl<'a> TreeRecord<'a> {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Directory { mode, path } => {
                out.push(DIRECTORY);
                out.extend_from_slice(&mode.to_le_bytes());
                out.extend_from_slice(path);
            }
            Self::Begin { mode, size, path } => {
                out.push(BEGIN);
                out.extend_from_slice(&mode.to_le_bytes());
                out.extend_from_slice(&size.to_le_bytes());
                out.extend_from_slice(path);
            }
            Self::Data { offset, bytes } => {
                out.reserve_exact(DATA_HEADER_BYTES + bytes.len());
                out.push(DATA);
                out.extend_from_slice(&offset.to_le_bytes());
                out.extend_from_slice(bytes);
            }
            Self::End { sha256 } => {
                out.push(END);
                out.extend_from_slice(sha256);
            }
            Self::Abandon { reason } => {
                out.push(ABANDON);
                out.extend_from_slice(reason.as_bytes());
            }
            Self::EndOfTree { files, bytes } => {
                out.push(END_OF_TREE);
                out.extend_from_slice(&files.to_le_bytes());
                out.extend_from_slice(&bytes.to_le_bytes());
            }
        }
        out
    }

    /// # Errors
    /// [`RecordError`] if `message` is none.
    pub(crate) fn decode(message: &'a [u8]) -> Result<Self, RecordError> {
        let (kind, rest) = message.split_first().ok_or(RecordError::UnknownKind)?;
        Ok(match *kind {
            DIRECTORY => {
                let (mode, path) = take_u32(rest)?;
                Self::Directory { mode, path }
            }
            BEGIN => {
                let (mode, rest) = take_u32(rest)?;
                let (size, path) = take_u64(rest)?;
                Self::Begin { mode, size, path }
            }
            DATA => {
                let (offset, bytes) = take_u64(rest)?;
                Self::Data { offset, bytes }
            }
            END => Self::End { sha256: rest.try_into().map_err(|_length| RecordError::Truncated)? },
            ABANDON => Self::Abandon {
                reason: std::str::from_utf8(rest).map_err(|_utf8| RecordError::Truncated)?,
            },
            END_OF_TREE => {
                let (files, rest) = take_u64(rest)?;
                let (bytes, _) = take_u64(rest)?;
                Self::EndOfTree { files, bytes }
            }
            _ => return Err(RecordError::UnknownKind),
        })
    }
}

fn take_u32(bytes: &[u8]) -> Result<(u32, &[u8]), RecordError> {
    let (number, rest) = bytes.split_first_chunk().ok_or(RecordError::Truncated)?;
    Ok((u32::from_le_bytes(*number), rest))
}

fn take_u64(bytes: &[u8]) -> Result<(u64, &[u8]), RecordError> {
    let (number, rest) = bytes.split_first_chunk().ok_or(RecordError::Truncated)?;
    Ok((u64::from_le_bytes(*number), rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn records_come_back() {
        for record in [
            TreeRecord::Directory { mode: 0o755, path: b"a/b" },
            TreeRecord::Begin { mode: 0o644, size: u64::MAX, path: b"a/\xff" },
            TreeRecord::Data { offset: 7, bytes: b"" },
            TreeRecord::Data { offset: 1 << 40, bytes: b"xyz" },
            TreeRecord::End { sha256: [9; 32] },
            TreeRecord::Abandon { reason: "gone" },
            TreeRecord::EndOfTree { files: 3, bytes: 4 },
        ] {
            assert_eq!(TreeRecord::decode(&record.encode()), Ok(record));
        }
    }

    #[test]
    fn other_messages_are_told_apart() {
        for message in [&b""[..], b"a line of text", b"{}", &[0x21, 0, 0, 0, 0]] {
            assert_eq!(TreeRecord::decode(message), Err(RecordError::UnknownKind));
        }
        assert_eq!(TreeRecord::decode(&[DATA, 1, 2]), Err(RecordError::Truncated));
        assert_eq!(TreeRecord::decode(&[END, 1, 2]), Err(RecordError::Truncated));
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken_without_panic(message in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(record) = TreeRecord::decode(&message) {
                let again = record.encode();
                prop_assert_eq!(TreeRecord::decode(&again), Ok(record));
            }
        }
    }
}
