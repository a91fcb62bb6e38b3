//! CRC32C (Castagnoli, RFC 3720 appendix B.4), by the CPU's vector instructions where it has them.

use crc_fast::{CrcAlgorithm, Digest};

/// CRC32C of `bytes`.
#[must_use]
pub fn crc32c(bytes: &[u8]) -> u32 {
    narrow(crc_fast::checksum(CrcAlgorithm::Crc32Iscsi, bytes))
}

/// As [`crc32c`], of the sixteen bytes that a frame's header covers.
///
/// A checksum is linear: each byte adds to that of zeros what it and its place say, which a table knows.
/// For so few bytes that is done before the library knows what the CPU can do.
#[must_use]
pub(crate) fn crc32c_of_16(bytes: &[u8; 16]) -> u32 {
    let shares = SHARES.iter().zip(bytes);
    shares.fold(OF_16_ZEROS, |sum, (share, &byte)| {
        sum ^ share.get(usize::from(byte)).copied().unwrap_or(0)
    })
}

/// What each byte of sixteen adds to their checksum, by place.
static SHARES: [[u32; 256]; 16] = shares();
/// The checksum of sixteen zeros.
const OF_16_ZEROS: u32 = !after(16, u32::MAX);

/// The state after so many bytes of zero, bit by bit, the lowest first.
const fn after(bytes: u32, mut state: u32) -> u32 {
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    let mut bits = bytes << 3;
    while bits > 0 {
        state = state >> 1 ^ if state & 1 == 1 { POLYNOMIAL } else { 0 };
        bits = bits.saturating_sub(1);
    }
    state
}

#[expect(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    clippy::indexing_slicing,
    reason = "computed when it is compiled; what goes beyond does not compile"
)]
const fn shares() -> [[u32; 256]; 16] {
    let mut shares = [[0; 256]; 16];
    let mut place: usize = 16;
    while place > 0 {
        place = place.saturating_sub(1);
        let mut byte: usize = 0;
        while byte < 256 {
            shares[place][byte] = match place {
                15 => after(1, byte as u32),
                _ => after(1, shares[place.saturating_add(1)][byte]),
            };
            byte = byte.saturating_add(1);
        }
    }
    shares
}

/// CRC32C over several slices, as if they stood one behind the other.
///
/// Holds the checksum so far and not the library's digest: that carries its tables of some hundred bytes
/// with it, and to copy them costs more than the checksum of a header.
#[derive(Clone, Copy, Debug, Default)]
pub struct Crc32c(u32);

impl Crc32c {
    /// The checksum of no bytes.
    #[must_use]
    pub const fn new() -> Self {
        Self(0)
    }

    /// Takes `bytes` in.
    #[must_use]
    pub fn update(self, bytes: &[u8]) -> Self {
        // A checksum is the inverse of the state that it ends with.
        let state = u64::from(!self.0);
        let mut digest = Digest::new_with_init_state(CrcAlgorithm::Crc32Iscsi, state);
        digest.update(bytes);
        Self(narrow(digest.finalize()))
    }

    /// The checksum so far.
    #[must_use]
    pub const fn finish(self) -> u32 {
        self.0
    }
}

/// The library serves 64-bit sums too; one of 32 bits has nothing above.
fn narrow(sum: u64) -> u32 {
    u32::try_from(sum & u64::from(u32::MAX)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_value_of_the_catalogue() {
        assert_eq!(crc32c(b"123456789"), 0xE306_9283);
        assert_eq!(Crc32c::new().update(b"1234").update(b"56789").finish(), 0xE306_9283);
        assert_eq!((Crc32c::new().finish(), crc32c(b"")), (0, 0));
    }

    #[test]
    fn sixteen_bytes_have_the_checksum_that_the_library_says() {
        assert_eq!(crc32c_of_16(&[0; 16]), crc32c(&[0; 16]));
        for place in 0..16 {
            for byte in 0..=u8::MAX {
                let mut bytes = *b"\x10\x01\x02\0\xff\xfe\x80\x7f0123\0\xaa\x55\x01";
                *bytes.get_mut(place).unwrap() = byte;
                assert_eq!(crc32c_of_16(&bytes), crc32c(&bytes), "{bytes:x?}");
            }
        }
    }
}
