//! LEB128 as protobuf has it, for values up to 32 bits: seven bits a byte, least significant first.

use crate::DecodeError;

/// A 32-bit value takes at most this many bytes.
pub const VARINT_U32_BYTES_MAX: usize = 5;

/// Bytes that `value` takes.
#[must_use]
pub const fn varint_len(value: u32) -> usize {
    match value {
        0..0x80 => 1,
        0x80..0x4000 => 2,
        0x4000..0x20_0000 => 3,
        0x20_0000..0x1000_0000 => 4,
        _ => 5,
    }
}

/// Appends `value`.
pub fn put_varint(out: &mut Vec<u8>, mut value: u32) {
    loop {
        let low = value.to_le_bytes()[0];
        value >>= 7;
        if value == 0 {
            out.push(low & 0x7f);
            return;
        }
        out.push(low | 0x80);
    }
}

/// Reads one value from the front of `input`; the value and the rest.
///
/// # Errors
/// [`DecodeError`] if the input ends within the value, the value is above 32 bits, or it was not
/// encoded in the fewest bytes (one value, one encoding).
#[inline]
pub(crate) fn split_varint<'a>(
    input: &'a [u8],
    what: &'static str,
) -> Result<(u32, &'a [u8]), DecodeError> {
    let Some((&first, mut rest)) = input.split_first() else {
        return Err(DecodeError::Truncated { what, have_bytes: 0 });
    };
    if first < 0x80 {
        return Ok((u32::from(first), rest));
    }
    let mut value = u64::from(first & 0x7f);
    for shift in [7_u32, 14, 21, 28] {
        let Some((&byte, tail)) = rest.split_first() else {
            return Err(DecodeError::Truncated { what, have_bytes: input.len() });
        };
        rest = tail;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            if byte == 0 {
                return Err(DecodeError::Invalid { what, value });
            }
            let value = u32::try_from(value).map_err(|_too_large| DecodeError::TooLarge {
                what,
                value,
                max: u64::from(u32::MAX),
            })?;
            return Ok((value, rest));
        }
    }
    Err(DecodeError::Invalid { what, value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_back_and_lengths_agree() {
        for value in [0, 1, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152, 268_435_456, u32::MAX] {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            assert_eq!(out.len(), varint_len(value));
            assert_eq!(split_varint(&out, "v"), Ok((value, &[][..])));
        }
    }

    #[test]
    fn a_longer_encoding_than_needed_is_refused() {
        assert!(matches!(split_varint(&[0x80, 0x00], "v"), Err(DecodeError::Invalid { .. })));
        assert!(matches!(
            split_varint(&[0xff, 0xff, 0xff, 0xff, 0x7f], "v"),
            Err(DecodeError::TooLarge { .. })
        ));
        assert!(matches!(split_varint(&[0x80; 6], "v"), Err(DecodeError::Invalid { .. })));
        assert!(matches!(split_varint(&[0x80], "v"), Err(DecodeError::Truncated { .. })));
    }
}
