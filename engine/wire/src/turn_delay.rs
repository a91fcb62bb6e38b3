use std::time::Duration;

use crate::{ByteReader, DecodeError};

/// How long the sender's end of the link waits for its core on average, once it has something to do.
///
/// Who sends to it needs so much more in flight, or nothing is under way while it waits.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TurnDelay {
    /// In microseconds.
    pub micros: u32,
}

impl TurnDelay {
    /// `delay`, in whole microseconds.
    #[must_use]
    pub fn new(delay: Duration) -> Self {
        Self { micros: u32::try_from(delay.as_micros()).unwrap_or(u32::MAX) }
    }

    /// As time.
    #[must_use]
    pub fn delay(self) -> Duration {
        Duration::from_micros(self.micros.into())
    }

    /// The message's bytes.
    #[must_use]
    pub const fn encode(&self) -> [u8; 4] {
        self.micros.to_le_bytes()
    }

    /// # Errors
    /// [`DecodeError`] if it is not 4 bytes.
    pub fn decode(input: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = ByteReader::new(input, "turn delay");
        let micros = reader.u32()?;
        reader.finish()?;
        Ok(Self { micros })
    }
}
