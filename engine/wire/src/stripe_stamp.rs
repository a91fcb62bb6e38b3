use crate::{ByteReader, DecodeError, FrameHeader, FrameKind, FrameRef, STRIPE_CHANNELS};

/// What stands in front of a striped record: its place among those of its stream, on one link and in
/// one direction.
///
/// A channel serves one stream at a time. Each time that it begins with another stream, or anew, it has
/// a higher epoch, and what is missing of an earlier one will not come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct StripeStamp {
    /// Which of the link's channels, below [`STRIPE_CHANNELS`].
    pub channel: u8,
    /// Counts the streams that channels were given to; never used twice on a link.
    pub epoch: u32,
    /// Position in the epoch, from 0, without gaps.
    pub sequence: u64,
}

impl StripeStamp {
    /// Bytes on the wire.
    pub const LEN: usize = 13;

    /// The stamp's bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; Self::LEN] {
        let mut out = [0_u8; Self::LEN];
        let [channel, rest @ ..] = &mut out;
        *channel = self.channel;
        let (epoch, sequence) = rest.split_at_mut(4);
        epoch.copy_from_slice(&self.epoch.to_le_bytes());
        sequence.copy_from_slice(&self.sequence.to_le_bytes());
        out
    }

    /// Reads a stamp from the front of `input`; the stamp and the record.
    ///
    /// # Errors
    /// [`DecodeError`] if it is cut off or names a channel that cannot be.
    pub fn decode(input: &[u8]) -> Result<(Self, &[u8]), DecodeError> {
        let mut reader = ByteReader::new(input, "stripe stamp");
        let channel = reader.u8()?;
        if usize::from(channel) >= STRIPE_CHANNELS {
            let value = u64::from(channel);
            return Err(DecodeError::Invalid { what: "stripe channel", value });
        }
        let stamp = Self { channel, epoch: reader.u32()?, sequence: reader.u64()? };
        Ok((stamp, reader.rest()))
    }
}

impl<'a> FrameRef<'a> {
    /// A striped record as a plain one; any other frame as it is.
    ///
    /// # Errors
    /// [`DecodeError`] if its stamp cannot be read.
    pub fn unstamped(self) -> Result<Self, DecodeError> {
        if self.header.kind != FrameKind::StripedRecord {
            return Ok(self);
        }
        let (_, body) = StripeStamp::decode(self.body.bytes())?;
        let body_len = u32::try_from(body.len()).unwrap_or(u32::MAX);
        let header = FrameHeader { kind: FrameKind::Record, body_len, ..self.header };
        Ok(Self { header, body: self.body.with(body) })
    }
}
