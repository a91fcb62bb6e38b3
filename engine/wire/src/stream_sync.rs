use crate::producer_list::{put_producers, read_producers};
use crate::{BootEpoch, ByteReader, DecodeError, ProducerId, StreamId, StreamOffset};

/// A source tells a destination where the stream goes on: sent when either of them began a new
/// life, and repeated until a [`crate::StreamAck`] answers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StreamSync {
    /// The stream.
    pub stream: StreamId,
    /// The source's epoch; what an older one has in flight is refused from now on.
    pub fence_epoch: BootEpoch,
    /// First offset that the source still has. `None`: it has begun a new life, holds nothing, and
    /// asks where to go on.
    pub base: Option<StreamOffset>,
    /// The stream was closed: nothing comes at or above this offset.
    pub end: Option<StreamOffset>,
    /// Each producer's next sequence at `base`: what the destination removes duplicates by, if it
    /// lost its own memory of it.
    pub producers: Vec<(ProducerId, u64)>,
}

impl StreamSync {
    /// Appends the message.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.stream.as_bytes());
        out.extend_from_slice(&self.fence_epoch.0.to_le_bytes());
        out.push(u8::from(self.base.is_some()) | u8::from(self.end.is_some()) << 1);
        out.extend_from_slice(&self.base.unwrap_or_default().0.to_le_bytes());
        out.extend_from_slice(&self.end.unwrap_or_default().0.to_le_bytes());
        put_producers(out, &self.producers);
    }

    /// # Errors
    /// [`DecodeError`] if it is cut off, too long, or has a value where its flags say there is none.
    pub fn decode(input: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = ByteReader::new(input, "stream sync");
        let stream = StreamId::from_bytes(reader.array()?);
        let fence_epoch = BootEpoch(reader.u64()?);
        let flags = reader.u8()?;
        let base = StreamOffset(reader.u64()?);
        let end = StreamOffset(reader.u64()?);
        let producers = read_producers(&mut reader)?;
        reader.finish()?;
        if flags > 0b11 {
            let value = u64::from(flags);
            return Err(DecodeError::Invalid { what: "stream sync's flags", value });
        }
        let base = present(flags & 0b01 != 0, base)?;
        let end = present(flags & 0b10 != 0, end)?;
        Ok(Self { stream, fence_epoch, base, end, producers })
    }
}

/// An offset that is there, or zeros in the place of one that is not.
fn present(flag: bool, offset: StreamOffset) -> Result<Option<StreamOffset>, DecodeError> {
    if !flag && offset.0 != 0 {
        return Err(DecodeError::Invalid { what: "stream sync's absent offset", value: offset.0 });
    }
    Ok(flag.then_some(offset))
}
