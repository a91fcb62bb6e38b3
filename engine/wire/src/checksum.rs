//! CRC32C (Castagnoli, RFC 3720 appendix B.4), by the CPU's instruction where it has one.

/// CRC32C of `bytes`.
#[must_use]
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes)
}

/// CRC32C over several slices, as if they stood one behind the other.
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
        Self(crc32c::crc32c_append(self.0, bytes))
    }

    /// The checksum so far.
    #[must_use]
    pub const fn finish(self) -> u32 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_value_of_the_catalogue() {
        assert_eq!(crc32c(b"123456789"), 0xE306_9283);
        assert_eq!(Crc32c::new().update(b"1234").update(b"56789").finish(), 0xE306_9283);
    }
}
