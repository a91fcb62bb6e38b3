use crate::varint::split_varint;
use crate::{DecodeError, NAME_BYTES_MAX};

/// Reads values from the front of a slice. A failed read takes nothing.
#[derive(Clone, Copy, Debug)]
pub struct ByteReader<'a> {
    rest: &'a [u8],
    what: &'static str,
}

impl<'a> ByteReader<'a> {
    /// Reads from `input`; `what` names the value in errors.
    #[must_use]
    pub const fn new(input: &'a [u8], what: &'static str) -> Self {
        Self { rest: input, what }
    }

    /// What is left.
    #[must_use]
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    const fn truncated(&self) -> DecodeError {
        DecodeError::Truncated { what: self.what, have_bytes: self.rest.len() }
    }

    /// The next `N` bytes.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] if fewer are left.
    pub const fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let Some((head, rest)) = self.rest.split_first_chunk::<N>() else {
            return Err(self.truncated());
        };
        self.rest = rest;
        Ok(*head)
    }

    /// The next `len` bytes.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] if fewer are left.
    pub const fn bytes(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let Some((head, rest)) = self.rest.split_at_checked(len) else {
            return Err(self.truncated());
        };
        self.rest = rest;
        Ok(head)
    }

    /// # Errors
    /// [`DecodeError::Truncated`] at the end.
    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        let [byte] = self.array()?;
        Ok(byte)
    }

    /// # Errors
    /// [`DecodeError::Truncated`] if fewer than 2 bytes are left.
    pub fn u16(&mut self) -> Result<u16, DecodeError> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    /// # Errors
    /// [`DecodeError::Truncated`] if fewer than 4 bytes are left.
    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    /// # Errors
    /// [`DecodeError::Truncated`] if fewer than 8 bytes are left.
    pub fn u64(&mut self) -> Result<u64, DecodeError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// A variable-length integer of at most 32 bits.
    ///
    /// # Errors
    /// [`DecodeError`] if it is cut off, too large, or longer than it needs to be.
    pub fn varint(&mut self) -> Result<u32, DecodeError> {
        let (value, rest) = split_varint(self.rest, self.what)?;
        self.rest = rest;
        Ok(value)
    }

    /// A name: one byte of length, then UTF-8.
    ///
    /// # Errors
    /// [`DecodeError`] if it is cut off or not UTF-8.
    pub fn name(&mut self) -> Result<&'a str, DecodeError> {
        let mut ahead = *self;
        let len = usize::from(ahead.u8()?);
        let bytes = ahead.bytes(len)?;
        let name = std::str::from_utf8(bytes).map_err(|error| DecodeError::Invalid {
            what: self.what,
            value: u64::try_from(error.valid_up_to()).unwrap_or(u64::MAX),
        })?;
        *self = ahead;
        Ok(name)
    }

    /// Nothing may be left.
    ///
    /// # Errors
    /// [`DecodeError::Trailing`] if something is.
    pub const fn finish(self) -> Result<(), DecodeError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(DecodeError::Trailing { what: self.what, bytes: self.rest.len() })
        }
    }
}

/// Appends a name as [`ByteReader::name`] reads it, cut to [`NAME_BYTES_MAX`] at a character.
pub(crate) fn put_name(out: &mut Vec<u8>, name: &str) {
    let mut end = name.len().min(NAME_BYTES_MAX);
    while !name.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    let name = name.get(..end).unwrap_or_default();
    out.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
    out.extend_from_slice(name.as_bytes());
}
