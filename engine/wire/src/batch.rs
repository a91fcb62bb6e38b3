use std::ops::Deref;

use bytes::Bytes;

use crate::{DecodeError, FrameFlags, FrameHeader, FrameKind, LinkSequence, TrafficClass};

/// One frame within a batch; its body is borrowed from the batch.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FrameRef<'a> {
    /// Its header.
    pub header: FrameHeader,
    /// Its body.
    pub body: FrameBody<'a>,
}

/// The bytes of a frame's body, or the end of it, and the batch that they stand in if parts of that
/// may be kept without a copy.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FrameBody<'a> {
    bytes: &'a [u8],
    batch: Option<&'a Bytes>,
}

impl<'a> FrameBody<'a> {
    /// A body that is all of `bytes`, parts of which may be kept without a copy.
    #[must_use]
    pub fn shared(bytes: &'a Bytes) -> Self {
        Self { bytes, batch: Some(bytes) }
    }

    /// The bytes.
    #[must_use]
    pub const fn bytes(self) -> &'a [u8] {
        self.bytes
    }

    /// What stands behind a header of the body: `rest` is a part of these bytes.
    #[must_use]
    pub const fn with(self, rest: &'a [u8]) -> Self {
        Self { bytes: rest, ..self }
    }

    /// The bytes as a part of the batch, if parts of it may be kept and they are at least half of it:
    /// with the room that its buffer may have, what is kept holds at most 2.5 times what it counts for.
    #[must_use]
    pub fn to_shared(self) -> Option<Bytes> {
        let batch = self.batch.filter(|batch| self.bytes.len() >= batch.len().div_ceil(2))?;
        part_of(batch, self.bytes)
    }

    /// The batch, if parts of it may be kept.
    #[must_use]
    pub const fn batch(self) -> Option<&'a Bytes> {
        self.batch
    }
}

/// `bytes` as a part of `batch`, if they stand in there.
pub(crate) fn part_of(batch: &Bytes, bytes: &[u8]) -> Option<Bytes> {
    let start = bytes.as_ptr().addr().checked_sub(batch.as_ptr().addr())?;
    let end = start.checked_add(bytes.len())?;
    (end <= batch.len()).then(|| batch.slice(start..end))
}

/// Bytes that have to be copied to be kept.
impl<'a> From<&'a [u8]> for FrameBody<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self { bytes, batch: None }
    }
}

impl Deref for FrameBody<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes
    }
}

/// The frames of a batch (the payload of one WebSocket message), in order.
///
/// Ends after the first error: what stands behind it cannot be found.
#[derive(Clone, Debug)]
pub struct FrameIter<'a> {
    rest: FrameBody<'a>,
}

impl<'a> FrameIter<'a> {
    /// Reads the frames of `batch`.
    #[must_use]
    pub const fn new(batch: &'a [u8]) -> Self {
        Self { rest: FrameBody { bytes: batch, batch: None } }
    }

    /// As [`Self::new`], of a batch parts of which may be kept without a copy.
    #[must_use]
    pub fn shared(batch: &'a Bytes) -> Self {
        Self { rest: FrameBody::shared(batch) }
    }

    fn split_frame(&mut self) -> Result<FrameRef<'a>, DecodeError> {
        let (header, rest) = FrameHeader::decode(self.rest.bytes)?;
        let len = usize::try_from(header.body_len).unwrap_or(usize::MAX);
        let Some((body, rest)) = rest.split_at_checked(len) else {
            return Err(DecodeError::Truncated { what: "frame body", have_bytes: rest.len() });
        };
        let body = self.rest.with(body);
        self.rest = self.rest.with(rest);
        Ok(FrameRef { header, body })
    }
}

impl<'a> Iterator for FrameIter<'a> {
    type Item = Result<FrameRef<'a>, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let frame = self.split_frame();
        if frame.is_err() {
            self.rest = self.rest.with(&[]);
        }
        Some(frame)
    }
}

/// Appends frames to a buffer.
#[derive(Debug)]
pub struct BatchWriter<'a> {
    out: &'a mut Vec<u8>,
}

impl<'a> BatchWriter<'a> {
    /// Appends to `out`.
    #[must_use]
    pub const fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out }
    }

    /// Appends a frame whose body is made of `parts`, one behind the other.
    ///
    /// # Errors
    /// [`DecodeError::TooLarge`] if the body is above its bound; nothing is appended.
    pub fn frame(
        &mut self,
        kind: FrameKind,
        class: TrafficClass,
        link_sequence: LinkSequence,
        parts: &[&[u8]],
    ) -> Result<(), DecodeError> {
        self.flagged_frame(kind, class, FrameFlags::default(), link_sequence, parts)
    }

    /// As [`Self::frame`], with flags.
    ///
    /// # Errors
    /// As [`Self::frame`].
    pub fn flagged_frame(
        &mut self,
        kind: FrameKind,
        class: TrafficClass,
        flags: FrameFlags,
        link_sequence: LinkSequence,
        parts: &[&[u8]],
    ) -> Result<(), DecodeError> {
        let body_bytes = parts.iter().fold(0_usize, |sum, part| sum.saturating_add(part.len()));
        self.frame_header(kind, class, flags, link_sequence, body_bytes)?;
        self.out.reserve(body_bytes);
        for part in parts {
            self.out.extend_from_slice(part);
        }
        Ok(())
    }

    /// Appends the header of a frame whose body, of `body_bytes`, the caller puts behind it.
    ///
    /// # Errors
    /// As [`Self::frame`].
    pub fn frame_header(
        &mut self,
        kind: FrameKind,
        class: TrafficClass,
        flags: FrameFlags,
        link_sequence: LinkSequence,
        body_bytes: usize,
    ) -> Result<(), DecodeError> {
        let body_len = body_len(body_bytes)?;
        let header = FrameHeader { kind, flags, class, body_len, link_sequence };
        self.out.extend_from_slice(&header.encode());
        Ok(())
    }
}

/// A body length that fits its bound.
fn body_len(len: usize) -> Result<u32, DecodeError> {
    let max = crate::FRAME_BODY_BYTES_MAX;
    u32::try_from(len).ok().filter(|_| len <= max).ok_or_else(|| DecodeError::TooLarge {
        what: "frame body",
        value: u64::try_from(len).unwrap_or(u64::MAX),
        max: u64::try_from(max).unwrap_or(u64::MAX),
    })
}
