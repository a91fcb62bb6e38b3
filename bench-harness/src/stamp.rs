//! The first 16 bytes of every message that the harness sends: its sequence and when it was sent.

/// Bytes of a stamp; no payload may be smaller.
pub(crate) const STAMP_BYTES: usize = 16;

/// Sequence and time of a message, both little-endian on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// From 1, without gaps. 0 marks a probe, which nobody counts.
    pub(crate) seq: u64,
    /// When the message was sent, or, at a given rate, was due: `CLOCK_MONOTONIC`, nanoseconds.
    pub(crate) at_ns: u64,
}

impl Stamp {
    pub(crate) fn encode(self) -> [u8; STAMP_BYTES] {
        (u128::from(self.seq) | u128::from(self.at_ns) << 64).to_le_bytes()
    }

    /// The stamp of `message`, or nothing if it is too short to carry one.
    pub(crate) fn decode(message: &[u8]) -> Option<Self> {
        let bits = u128::from_le_bytes(*message.first_chunk::<STAMP_BYTES>()?);
        Some(Self { seq: bits as u64, at_ns: (bits >> 64) as u64 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_comes_back_as_it_went() {
        let stamp = Stamp { seq: u64::MAX - 3, at_ns: 0x0123_4567_89AB_CDEF };
        let mut message = stamp.encode().to_vec();
        message.extend_from_slice(&[7; 48]);
        assert_eq!(Stamp::decode(&message), Some(stamp));
        assert_eq!(Stamp::decode(&message[..15]), None);
    }
}
