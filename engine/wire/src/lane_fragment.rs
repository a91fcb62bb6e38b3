use crate::{ByteReader, DecodeError};

const FIRST: u8 = 0b01;
const LAST: u8 = 0b10;

/// A piece of a batch whose whole would keep others waiting: the pieces of one batch take one lane, in
/// order, and together are its frames.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LaneFragment<'a> {
    /// A batch begins; what came of another one on this lane is void.
    pub first: bool,
    /// The batch is whole.
    pub last: bool,
    /// Its next bytes, at least one.
    pub piece: &'a [u8],
}

impl<'a> LaneFragment<'a> {
    /// What stands before the piece.
    #[must_use]
    pub const fn flags(&self) -> [u8; 1] {
        [if self.first { FIRST } else { 0 } | if self.last { LAST } else { 0 }]
    }

    /// Appends the message's bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.flags());
        out.extend_from_slice(self.piece);
    }

    /// # Errors
    /// [`DecodeError`] if it has no piece or an unknown flag.
    pub fn decode(input: &'a [u8]) -> Result<Self, DecodeError> {
        let what = "lane fragment";
        let mut reader = ByteReader::new(input, what);
        let flags = reader.u8()?;
        if flags & !(FIRST | LAST) != 0 {
            return Err(DecodeError::Invalid { what, value: u64::from(flags) });
        }
        let piece = reader.rest();
        if piece.is_empty() {
            return Err(DecodeError::Truncated { what, have_bytes: input.len() });
        }
        Ok(Self { first: flags & FIRST != 0, last: flags & LAST != 0, piece })
    }
}
