use thiserror::Error;

/// Why bytes are not what they should be. The fault is the sender's; nothing was taken from the
/// input and no state changed.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum DecodeError {
    /// The input ends before the value does.
    #[error("truncated {what}: {have_bytes} bytes left")]
    Truncated {
        /// The value that was being read.
        what: &'static str,
        /// Bytes that were left.
        have_bytes: usize,
    },
    /// A length or count is above its bound.
    #[error("{what} is {value}, more than {max}")]
    TooLarge {
        /// The value that is too large.
        what: &'static str,
        /// As announced.
        value: u64,
        /// The bound.
        max: u64,
    },
    /// A checksum does not match.
    #[error("{what} has checksum {found:#010x}, announced {announced:#010x}")]
    Checksum {
        /// What the checksum covers.
        what: &'static str,
        /// Computed over the bytes received.
        found: u32,
        /// Read from the bytes received.
        announced: u32,
    },
    /// A value that this version does not allow.
    #[error("{what} has invalid value {value}")]
    Invalid {
        /// The field.
        what: &'static str,
        /// Its value.
        value: u64,
    },
    /// Bytes are left behind the value.
    #[error("{bytes} bytes behind {what}")]
    Trailing {
        /// The value that should have ended.
        what: &'static str,
        /// Bytes left.
        bytes: usize,
    },
}
