use bytes::{BufMut, Bytes, BytesMut};

use crate::batch::part_of;
use crate::varint::split_varint;
use crate::{
    BootEpoch, ByteReader, DecodeError, FrameBody, MESSAGE_BYTES_MAX, ProducerId,
    RECORD_BYTES_TARGET, RECORD_MESSAGES_MAX, StreamHeader, StreamId, StreamOffset, TenantId,
};

/// Consecutive messages of one producer on one stream: the unit of everything. Cheap to clone.
///
/// Its body is the length of `lengths` (u32), the lengths, one varint a message, and the messages,
/// one behind the other.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Record {
    /// Which messages.
    pub header: StreamHeader,
    /// One varint a message.
    pub lengths: Bytes,
    /// The messages.
    pub payload: Bytes,
}

impl Record {
    /// Makes a record and its checksum. `lengths` and `payload` must belong together, as
    /// [`RecordBuilder`] sees to.
    #[must_use]
    pub fn new(header: StreamHeader, lengths: Bytes, payload: Bytes) -> Self {
        let mut record = Self { header, lengths, payload };
        record.sum();
        record
    }

    /// Sets the checksum, which header and body determine.
    pub fn sum(&mut self) {
        let parts = [&len_bytes(&self.lengths)[..], &self.lengths, &self.payload];
        self.header.checksum = self.header.checksum_over(&parts);
    }

    /// Bytes that the record takes behind the route header.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        StreamHeader::LEN
            .saturating_add(4)
            .saturating_add(self.lengths.len())
            .saturating_add(self.payload.len())
    }

    /// What the record counts for in windows and credit: its bytes, and what holding any record
    /// costs, so that many small ones do not fill a memory that their payload would fit.
    #[must_use]
    pub fn charge_bytes(&self) -> u64 {
        Self::charge_of(&self.lengths, &self.payload)
    }

    /// What a record made of these would count for.
    #[must_use]
    pub fn charge_of(lengths: &[u8], payload: &[u8]) -> u64 {
        let bytes = lengths.len().saturating_add(payload.len());
        u64::try_from(bytes).unwrap_or(u64::MAX).saturating_add(RECORD_OVERHEAD_BYTES)
    }

    /// The record as if it had been received.
    #[must_use]
    pub fn view(&self) -> RecordView<'_> {
        let (lengths, payload) = (&self.lengths, &self.payload);
        RecordView { header: self.header, lengths, payload, batch: None }
    }

    /// The parts that, one behind the other, are the record on the wire: header, length of the
    /// lengths, lengths; and the messages.
    pub fn with_parts<R>(&self, write: impl FnOnce(&[&[u8]], &Bytes) -> R) -> R {
        let head = [&self.header.encode()[..], &len_bytes(&self.lengths), &self.lengths];
        write(&head, &self.payload)
    }

    /// The record as it is on the wire.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.with_parts(|head, payload| [&head.concat(), &payload[..]].concat())
    }
}

/// Records that are kept as parts of a batch are at least this share of it, each.
const BATCH_SHARES_MAX: usize = 3;

/// What holding a record costs beside its bytes.
const RECORD_OVERHEAD_BYTES: u64 = 256;

fn len_bytes(lengths: &[u8]) -> [u8; 4] {
    u32::try_from(lengths.len()).unwrap_or(u32::MAX).to_le_bytes()
}

/// A record as received, borrowed from the lane's buffer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RecordView<'a> {
    /// Which messages.
    pub header: StreamHeader,
    /// One varint a message.
    pub lengths: &'a [u8],
    /// The messages.
    pub payload: &'a [u8],
    /// The batch that both stand in, if parts of it may be kept without a copy.
    batch: Option<&'a Bytes>,
}

impl<'a> RecordView<'a> {
    /// Reads a whole record and checks it: checksum, every length, their sum.
    ///
    /// # Errors
    /// [`DecodeError`] naming what is wrong.
    pub fn decode(input: &'a [u8]) -> Result<Self, DecodeError> {
        let (header, body) = StreamHeader::decode(input)?;
        let found = header.checksum_over(&[body]);
        if found != header.checksum {
            let announced = header.checksum;
            return Err(DecodeError::Checksum { what: "record", found, announced });
        }
        let mut reader = ByteReader::new(body, "record");
        let lengths_len = reader.u32()?;
        let lengths = reader.bytes(usize::try_from(lengths_len).unwrap_or(usize::MAX))?;
        let payload = reader.rest();
        let sum = sum_lengths(lengths, header.count)?;
        if sum != payload.len() {
            let value = u64::try_from(sum).unwrap_or(u64::MAX);
            return Err(DecodeError::Invalid { what: "record's lengths", value });
        }
        Ok(Self { header, lengths, payload, batch: None })
    }

    /// As [`Self::decode`], of a frame's body behind its route header: a record that is a good part of
    /// its batch need not be copied then.
    ///
    /// # Errors
    /// As [`Self::decode`].
    pub fn of(body: FrameBody<'a>) -> Result<Self, DecodeError> {
        Ok(Self { batch: body.batch(), ..Self::decode(body.bytes())? })
    }

    /// As [`Record::charge_bytes`].
    #[must_use]
    pub fn charge_bytes(&self) -> u64 {
        Record::charge_of(self.lengths, self.payload)
    }

    /// The record for itself: a part of its batch, if it is at least a third of that, so that a record
    /// holds less than four times what it counts for; else a copy, in one allocation.
    #[must_use]
    pub fn to_record(&self) -> Record {
        self.part_of_batch().unwrap_or_else(|| self.copy())
    }

    fn part_of_batch(&self) -> Option<Record> {
        let batch = self.batch?;
        let len = self.lengths.len().saturating_add(self.payload.len());
        if len.saturating_mul(BATCH_SHARES_MAX) < batch.len() {
            return None;
        }
        let (lengths, payload) = (part_of(batch, self.lengths)?, part_of(batch, self.payload)?);
        Some(Record { header: self.header, lengths, payload })
    }

    fn copy(&self) -> Record {
        let len = self.lengths.len().saturating_add(self.payload.len());
        let mut copy = BytesMut::with_capacity(len);
        copy.put_slice(self.lengths);
        copy.put_slice(self.payload);
        let mut lengths = copy.freeze();
        let payload = lengths.split_off(self.lengths.len());
        Record { header: self.header, lengths, payload }
    }
}

/// The sum of `count` lengths that fill `lengths` exactly.
fn sum_lengths(mut lengths: &[u8], count: u32) -> Result<usize, DecodeError> {
    let mut sum = 0_usize;
    for _ in 0..count {
        let (len, rest) = split_varint(lengths, "record's lengths")?;
        lengths = rest;
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        if len > MESSAGE_BYTES_MAX {
            return Err(DecodeError::TooLarge {
                what: "message",
                value: u64::try_from(len).unwrap_or(u64::MAX),
                max: u64::try_from(MESSAGE_BYTES_MAX).unwrap_or(u64::MAX),
            });
        }
        sum = sum.saturating_add(len);
    }
    if lengths.is_empty() {
        Ok(sum)
    } else {
        Err(DecodeError::Trailing { what: "record's lengths", bytes: lengths.len() })
    }
}

impl Record {
    /// The record without its first `skip` messages; `None` if none is left. The checksum is made
    /// anew.
    #[must_use]
    pub fn without_first(&self, skip: u32) -> Option<Self> {
        let count = self.header.count.checked_sub(skip).filter(|&left| left > 0)?;
        if skip == 0 {
            return Some(self.clone());
        }
        let mut rest: &[u8] = &self.lengths;
        let mut bytes = 0_usize;
        for _ in 0..skip {
            let (len, tail) = split_varint(rest, "record's lengths").ok()?;
            bytes = bytes.saturating_add(usize::try_from(len).ok()?);
            rest = tail;
        }
        let lengths = self.lengths.slice_ref(rest);
        let payload = self.payload.get(bytes..).map(|tail| self.payload.slice_ref(tail))?;
        let header = StreamHeader {
            producer_base: self.header.producer_base.saturating_add(u64::from(skip)),
            stream_base: StreamOffset(self.header.stream_base.0.saturating_add(u64::from(skip))),
            count,
            ..self.header
        };
        Some(Self::new(header, lengths, payload))
    }

    /// The length of each message, in order.
    pub fn message_lengths(&self) -> impl Iterator<Item = u32> + '_ {
        let mut rest: &[u8] = &self.lengths;
        std::iter::from_fn(move || {
            let (len, tail) = split_varint(rest, "record's lengths").ok()?;
            rest = tail;
            Some(len)
        })
    }
}

/// Cuts a producer's messages into records within their bounds.
///
/// Messages of one publish that fit one record are not copied; small publishes that follow each
/// other share a record, so that a flood of single messages costs a header once per record.
#[derive(Debug)]
pub struct RecordBuilder {
    tenant: TenantId,
    stream: StreamId,
    epoch: BootEpoch,
}

impl RecordBuilder {
    /// Builds records of `stream` in the source's life `epoch`.
    #[must_use]
    pub const fn new(tenant: TenantId, stream: StreamId, epoch: BootEpoch) -> Self {
        Self { tenant, stream, epoch }
    }

    /// Makes the record of `count` messages that start at `producer_base` and `stream_base`, still
    /// without its checksum: [`Record::sum`] reads every byte, and does so for the least when they are
    /// about to be copied anyway.
    #[must_use]
    pub fn unsummed(
        &self,
        producer: ProducerId,
        producer_base: u64,
        stream_base: StreamOffset,
        count: u32,
        lengths: Bytes,
        payload: Bytes,
    ) -> Record {
        let header = StreamHeader {
            tenant: self.tenant,
            stream: self.stream,
            producer,
            producer_base,
            stream_base,
            count,
            born_epoch: self.epoch,
            fence_epoch: self.epoch,
            chunk_index: 0,
            chunk_count: 1,
            checksum: 0,
        };
        Record { header, lengths, payload }
    }

    /// As [`Self::unsummed`], with its checksum.
    #[must_use]
    pub fn record(
        &self,
        producer: ProducerId,
        producer_base: u64,
        stream_base: StreamOffset,
        count: u32,
        lengths: Bytes,
        payload: Bytes,
    ) -> Record {
        let (base, offset) = (producer_base, stream_base);
        let mut record = self.unsummed(producer, base, offset, count, lengths, payload);
        record.sum();
        record
    }

    /// How many messages, how many bytes of lengths and how many bytes of payload the next record
    /// takes from the front of a run; at least one message. `None` if the run is empty or its
    /// lengths do not describe it.
    #[must_use]
    pub fn cut(lengths: &[u8], payload_len: usize) -> Option<(u32, usize, usize)> {
        let (mut count, mut bytes) = (0_u32, 0_usize);
        let mut rest = lengths;
        let messages_max = u32::try_from(RECORD_MESSAGES_MAX).ok()?;
        while !rest.is_empty() && count < messages_max {
            let (len, tail) = split_varint(rest, "record's lengths").ok()?;
            let with = bytes.saturating_add(usize::try_from(len).ok()?);
            if count > 0 && with > RECORD_BYTES_TARGET {
                break;
            }
            count = count.saturating_add(1);
            bytes = with;
            rest = tail;
        }
        (count > 0 && bytes <= payload_len)
            .then(|| (count, lengths.len().saturating_sub(rest.len()), bytes))
    }
}
