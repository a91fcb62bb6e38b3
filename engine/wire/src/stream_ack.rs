use crate::producer_list::{put_producers, read_producers};
use crate::{
    BootEpoch, ByteReader, DecodeError, ProducerId, StreamId, StreamOffset, StreamRefusal,
};

/// A destination's progress on one stream. Absolute, so that one lost or repeated is harmless.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StreamAck {
    /// The stream.
    pub stream: StreamId,
    /// The source's epoch that this answers.
    pub fence_epoch: BootEpoch,
    /// The destination's own boot epoch: another one means that it lost what it held in memory.
    pub receiver_epoch: BootEpoch,
    /// Every offset below is here.
    pub received: StreamOffset,
    /// One behind the highest offset seen; above `received` there is a gap.
    pub seen: StreamOffset,
    /// Every offset below was consumed by every consumer: the source may forget it.
    pub consumed: StreamOffset,
    /// Where the destination began to count credit.
    pub origin: StreamOffset,
    /// Payload bytes from `origin` on that the source may have sent in all; absolute (as
    /// MAX_STREAM_DATA, RFC 9000 §19.10).
    pub credit_bytes: u64,
    /// Of the records that came for the first time, from `origin` on, those that a relay had marked
    /// ([`crate::FrameFlags::CONGESTION_EXPERIENCED`]), as credit counts them; absolute (as the ECN
    /// counts of RFC 9000 §19.3.2).
    pub marked_bytes: u64,
    /// The destination does not know the stream, or not where it goes on: the rest means nothing,
    /// and a [`crate::StreamSync`] is wanted.
    pub unknown: bool,
    /// The destination knows where the stream ends.
    pub ended: bool,
    /// This node began a new life since the stream was opened and has not been told where it goes
    /// on: it does not know what producers had published before, only what consumers confirmed.
    pub forgot: bool,
    /// To a source that asks: each producer's next sequence at this destination.
    pub producers: Vec<(ProducerId, u64)>,
    /// The source has broken the rules: nothing more of the stream is taken from its present life.
    pub refused: Option<StreamRefusal>,
}

impl StreamAck {
    /// Says that the stream, or where it goes on, is not known here in the life `receiver_epoch`.
    #[must_use]
    pub const fn unknown(
        stream: StreamId,
        fence_epoch: BootEpoch,
        receiver_epoch: BootEpoch,
    ) -> Self {
        Self {
            stream,
            fence_epoch,
            receiver_epoch,
            received: StreamOffset(0),
            seen: StreamOffset(0),
            consumed: StreamOffset(0),
            origin: StreamOffset(0),
            credit_bytes: 0,
            marked_bytes: 0,
            unknown: true,
            ended: false,
            forgot: false,
            producers: Vec::new(),
            refused: None,
        }
    }

    /// Appends the message.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.stream.as_bytes());
        out.extend_from_slice(&self.fence_epoch.0.to_le_bytes());
        out.extend_from_slice(&self.receiver_epoch.0.to_le_bytes());
        out.extend_from_slice(&self.received.0.to_le_bytes());
        out.extend_from_slice(&self.seen.0.to_le_bytes());
        out.extend_from_slice(&self.consumed.0.to_le_bytes());
        out.extend_from_slice(&self.origin.0.to_le_bytes());
        out.extend_from_slice(&self.credit_bytes.to_le_bytes());
        out.extend_from_slice(&self.marked_bytes.to_le_bytes());
        let flags = [self.unknown, self.ended, self.forgot, self.refused.is_some()];
        let flags = flags.iter().rev().fold(0, |byte, &flag| byte << 1 | u8::from(flag));
        out.push(flags);
        put_producers(out, &self.producers);
        out.extend(self.refused.map(StreamRefusal::to_wire));
    }

    /// # Errors
    /// [`DecodeError`] if it is cut off, too long, or contradicts itself.
    pub fn decode(input: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = ByteReader::new(input, "stream ack");
        let mut ack = Self {
            stream: StreamId::from_bytes(reader.array()?),
            fence_epoch: BootEpoch(reader.u64()?),
            receiver_epoch: BootEpoch(reader.u64()?),
            received: StreamOffset(reader.u64()?),
            seen: StreamOffset(reader.u64()?),
            consumed: StreamOffset(reader.u64()?),
            origin: StreamOffset(reader.u64()?),
            credit_bytes: reader.u64()?,
            marked_bytes: reader.u64()?,
            unknown: false,
            ended: false,
            forgot: false,
            producers: Vec::new(),
            refused: None,
        };
        let flags = reader.u8()?;
        if flags > 0b1111 {
            let value = u64::from(flags);
            return Err(DecodeError::Invalid { what: "stream ack's flags", value });
        }
        ack.unknown = flags & 0b001 != 0;
        ack.ended = flags & 0b010 != 0;
        ack.forgot = flags & 0b100 != 0;
        if ack.consumed > ack.received || ack.received > ack.seen {
            let value = ack.received.0;
            return Err(DecodeError::Invalid { what: "stream ack's order", value });
        }
        ack.producers = read_producers(&mut reader)?;
        if flags & 0b1000 != 0 {
            ack.refused = Some(StreamRefusal::from_wire(reader.u8()?));
        }
        reader.finish()?;
        Ok(ack)
    }
}
