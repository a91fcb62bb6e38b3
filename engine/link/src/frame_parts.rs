use bytes::Bytes;

/// The end of a frame's body is copied into its batch below this many bytes: a batch ends with what it
/// shares, and a message of its own costs more than a short copy.
pub(crate) const SHARED_BYTES_MIN: usize = 32 << 10;

/// The body of a frame that is to be sent: slices, one behind the other, and the end of it, which need
/// not be copied.
#[derive(Clone, Copy, Debug)]
pub struct FrameParts<'a> {
    /// What comes first.
    pub parts: &'a [&'a [u8]],
    /// What comes last. If it is long the link holds it, and what it is a part of, until the neighbour
    /// has the frame.
    pub end: Option<&'a Bytes>,
}

impl<'a> FrameParts<'a> {
    /// Slices that are copied, all of them.
    #[must_use]
    pub const fn of(parts: &'a [&'a [u8]]) -> Self {
        Self { parts, end: None }
    }

    /// All of them in their order, the end last.
    pub fn iter(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.parts.iter().copied().chain(self.end.map(|end| &end[..]))
    }

    /// A copy, in one piece.
    #[must_use]
    pub fn concat(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.len());
        self.iter().for_each(|part| bytes.extend_from_slice(part));
        bytes
    }

    /// Bytes of all.
    #[must_use]
    pub fn len(&self) -> usize {
        self.iter().fold(0, |sum, part| sum.saturating_add(part.len()))
    }

    /// The end is long enough to be held.
    pub(crate) fn shares_end(&self) -> bool {
        self.end.is_some_and(|end| end.len() >= SHARED_BYTES_MIN)
    }

    /// There are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
