use crate::{
    BootEpoch, ByteReader, Crc32c, DecodeError, ProducerId, RECORD_MESSAGES_MAX, StreamId,
    StreamOffset, TenantId,
};

/// Says which messages of which stream a record holds.
///
/// All fields but `fence_epoch` are immutable from the record's birth on and are covered by its
/// checksum.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct StreamHeader {
    /// Whose data it is.
    pub tenant: TenantId,
    /// The stream.
    pub stream: StreamId,
    /// Who published.
    pub producer: ProducerId,
    /// The producer's sequence of the first message, from 1.
    pub producer_base: u64,
    /// The stream's offset of the first message.
    pub stream_base: StreamOffset,
    /// Messages in the record, 1 to [`RECORD_MESSAGES_MAX`].
    pub count: u32,
    /// The source's epoch when the record was made.
    pub born_epoch: BootEpoch,
    /// The source's epoch when the record was sent; older ones than the newest seen are refused.
    pub fence_epoch: BootEpoch,
    /// Which part of a message larger than a record may be; 0.
    pub chunk_index: u16,
    /// Into how many parts it was cut; 1.
    pub chunk_count: u16,
    /// CRC32C over the immutable fields and the record's body.
    pub checksum: u32,
}

impl StreamHeader {
    /// Bytes on the wire.
    pub const LEN: usize = 84;
    /// Bytes before `fence_epoch`, all immutable.
    const IMMUTABLE_LEN: usize = 72;

    /// Offset behind the last message.
    #[must_use]
    pub fn stream_end(&self) -> StreamOffset {
        StreamOffset(self.stream_base.0.saturating_add(u64::from(self.count)))
    }

    /// The producer's sequence behind the last message.
    #[must_use]
    pub fn producer_end(&self) -> u64 {
        self.producer_base.saturating_add(u64::from(self.count))
    }

    /// The immutable fields, chunk index and count first.
    fn immutable(&self) -> [u8; Self::IMMUTABLE_LEN] {
        let mut out = [0_u8; Self::IMMUTABLE_LEN];
        let mut rest = out.as_mut_slice();
        let mut put = |bytes: &[u8]| {
            if let Some((head, tail)) = std::mem::take(&mut rest).split_at_mut_checked(bytes.len())
            {
                head.copy_from_slice(bytes);
                rest = tail;
            }
        };
        put(self.tenant.as_bytes());
        put(self.stream.as_bytes());
        put(&self.producer.0.to_le_bytes());
        put(&self.producer_base.to_le_bytes());
        put(&self.stream_base.0.to_le_bytes());
        put(&self.born_epoch.0.to_le_bytes());
        put(&self.count.to_le_bytes());
        put(&self.chunk_index.to_le_bytes());
        put(&self.chunk_count.to_le_bytes());
        out
    }

    /// The checksum that a record with this header and a body of `parts` has.
    #[must_use]
    pub fn checksum_over(&self, parts: &[&[u8]]) -> u32 {
        parts
            .iter()
            .fold(Crc32c::new().update(&self.immutable()), |crc, part| crc.update(part))
            .finish()
    }

    /// The header's bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; Self::LEN] {
        let mut out = [0_u8; Self::LEN];
        let (immutable, rest) = out.split_at_mut(Self::IMMUTABLE_LEN);
        immutable.copy_from_slice(&self.immutable());
        let (fence, checksum) = rest.split_at_mut(8);
        fence.copy_from_slice(&self.fence_epoch.0.to_le_bytes());
        checksum.copy_from_slice(&self.checksum.to_le_bytes());
        out
    }

    /// The tenant and the stream that an encoded header begins with, without a look at the rest.
    #[must_use]
    pub fn peek(input: &[u8]) -> Option<(TenantId, StreamId)> {
        let (tenant, rest) = input.split_first_chunk::<16>()?;
        let (stream, _) = rest.split_first_chunk::<16>()?;
        Some((TenantId::from_bytes(*tenant), StreamId::from_bytes(*stream)))
    }

    /// Reads a header from the front of `input`; the header and the rest. The checksum is not
    /// looked at: [`crate::RecordView::decode`] does.
    ///
    /// # Errors
    /// [`DecodeError`] if it is cut off or a count is out of range.
    pub fn decode(input: &[u8]) -> Result<(Self, &[u8]), DecodeError> {
        let mut reader = ByteReader::new(input, "stream header");
        let header = Self {
            tenant: TenantId::from_bytes(reader.array()?),
            stream: StreamId::from_bytes(reader.array()?),
            producer: ProducerId(reader.u64()?),
            producer_base: reader.u64()?,
            stream_base: StreamOffset(reader.u64()?),
            born_epoch: BootEpoch(reader.u64()?),
            count: reader.u32()?,
            chunk_index: reader.u16()?,
            chunk_count: reader.u16()?,
            fence_epoch: BootEpoch(reader.u64()?),
            checksum: reader.u32()?,
        };
        let max = u32::try_from(RECORD_MESSAGES_MAX).unwrap_or(u32::MAX);
        if header.count == 0 || header.count > max {
            let value = u64::from(header.count);
            return Err(DecodeError::Invalid { what: "record's count", value });
        }
        if header.chunk_index >= header.chunk_count {
            let value = u64::from(header.chunk_index);
            return Err(DecodeError::Invalid { what: "record's chunk index", value });
        }
        let count = u64::from(header.count);
        if header.stream_base.0.checked_add(count).is_none()
            || header.producer_base == 0
            || header.producer_base.checked_add(count).is_none()
        {
            let value = header.producer_base;
            return Err(DecodeError::Invalid { what: "record's range", value });
        }
        Ok((header, reader.rest()))
    }
}
