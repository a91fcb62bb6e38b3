use crate::{ByteReader, DecodeError};

/// What a control plane sends along a path, and has sent back, to see how long the path is broken:
/// the fields of both the probe and its answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct DrillProbe {
    /// The sender's number of what it measures.
    pub drill: u64,
    /// Counts the probes of it, from 1.
    pub probe: u64,
}

impl DrillProbe {
    /// Bytes on the wire.
    pub const LEN: usize = 16;

    /// The probe's bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; Self::LEN] {
        let mut out = [0_u8; Self::LEN];
        let (drill, probe) = out.split_at_mut(8);
        drill.copy_from_slice(&self.drill.to_le_bytes());
        probe.copy_from_slice(&self.probe.to_le_bytes());
        out
    }

    /// Reads a probe. Bytes behind it are left to later versions.
    ///
    /// # Errors
    /// [`DecodeError`] if it is cut off.
    pub fn decode(input: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = ByteReader::new(input, "drill probe");
        Ok(Self { drill: reader.u64()?, probe: reader.u64()? })
    }
}
