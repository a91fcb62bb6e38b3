use crate::{ByteReader, DecodeError};

/// How much the sender of this would like to have acknowledged at once: it has little in flight, and does
/// not send on before some of it has arrived (as the ACK_FREQUENCY frame of
/// draft-ietf-quic-ack-frequency).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct AckInterval {
    /// Bytes of counted frames, headers included.
    pub bytes: u32,
}

impl AckInterval {
    /// The message's bytes.
    #[must_use]
    pub const fn encode(&self) -> [u8; 4] {
        self.bytes.to_le_bytes()
    }

    /// # Errors
    /// [`DecodeError`] if it is not 4 bytes.
    pub fn decode(input: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = ByteReader::new(input, "ack interval");
        let bytes = reader.u32()?;
        reader.finish()?;
        Ok(Self { bytes })
    }
}
