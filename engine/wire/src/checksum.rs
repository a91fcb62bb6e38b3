//! CRC32C (Castagnoli, RFC 3720 appendix B.4), by the CPU's vector instructions where it has them.

use crc_fast::{CrcAlgorithm, Digest};

/// CRC32C of `bytes`.
#[must_use]
pub fn crc32c(bytes: &[u8]) -> u32 {
    narrow(crc_fast::checksum(CrcAlgorithm::Crc32Iscsi, bytes))
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
}
