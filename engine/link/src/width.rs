//! Lengths in memory as numbers of the protocol.

/// A length as a 64-bit number.
pub(crate) fn wide(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}
