use std::collections::VecDeque;

use bytes::{BufMut, Bytes, BytesMut};
use hawser_wire::{
    ProducerId, RECORD_BYTES_TARGET, RECORD_MESSAGES_MAX, Record, RecordBuilder, StreamOffset,
};

/// A publish of at least this many bytes becomes a record without being copied.
const UNCOPIED_BYTES_MIN: usize = 4 << 10;

/// A record of the outbox. Records are numbered from 0, never reused.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) record: Record,
    /// Its checksum is there: since it was sent first.
    is_summed: bool,
    /// Payload bytes of all records before this one, ever.
    pub(crate) bytes_before: u64,
}

impl Stored {
    fn bytes(&self) -> u64 {
        self.record.charge_bytes()
    }
}

/// Messages that may still join the record that is being filled.
#[derive(Debug)]
struct OpenRecord {
    producer: ProducerId,
    producer_base: u64,
    stream_base: StreamOffset,
    count: u32,
    lengths: BytesMut,
    payload: BytesMut,
}

/// Everything published that not every consumer has, in order of offsets.
#[derive(Debug)]
pub(crate) struct Outbox {
    builder: RecordBuilder,
    records: VecDeque<Stored>,
    /// Number of the first record in `records`.
    first_number: u64,
    open: Option<OpenRecord>,
    next_offset: StreamOffset,
    /// Payload bytes of all closed records, ever.
    bytes_ever: u64,
    buffered_bytes: u64,
}

impl Outbox {
    pub(crate) const fn new(builder: RecordBuilder, next_offset: StreamOffset) -> Self {
        Self {
            builder,
            records: VecDeque::new(),
            first_number: 0,
            open: None,
            next_offset,
            bytes_ever: 0,
            buffered_bytes: 0,
        }
    }

    /// Offset behind the last message taken.
    pub(crate) const fn next_offset(&self) -> StreamOffset {
        self.next_offset
    }

    /// Bytes held; the open record, at most one record's worth, counts when it is closed.
    pub(crate) const fn buffered_bytes(&self) -> u64 {
        self.buffered_bytes
    }

    pub(crate) const fn first_number(&self) -> u64 {
        self.first_number
    }

    /// Number behind the last closed record.
    pub(crate) fn end_number(&self) -> u64 {
        self.first_number.saturating_add(u64::try_from(self.records.len()).unwrap_or(u64::MAX))
    }

    /// The record with this number, complete.
    pub(crate) fn complete(&mut self, number: u64) -> Option<Record> {
        let at = usize::try_from(number.checked_sub(self.first_number)?).ok()?;
        let stored = self.records.get_mut(at)?;
        if !std::mem::replace(&mut stored.is_summed, true) {
            stored.record.sum();
        }
        Some(stored.record.clone())
    }

    pub(crate) fn get(&self, number: u64) -> Option<&Stored> {
        self.records.get(usize::try_from(number.checked_sub(self.first_number)?).ok()?)
    }

    /// Number of the first record that ends above `offset`.
    pub(crate) fn number_at(&self, offset: StreamOffset) -> u64 {
        let before = self.records.partition_point(|s| s.record.header.stream_end() <= offset);
        self.first_number.saturating_add(u64::try_from(before).unwrap_or(u64::MAX))
    }

    /// Payload bytes of all records before `number`, ever.
    pub(crate) fn bytes_before(&self, number: u64) -> u64 {
        self.get(number).map_or(self.bytes_ever, |stored| stored.bytes_before)
    }

    /// What the record `number` counts for; of the one that is being filled, what it would now.
    pub(crate) fn charge_at(&self, number: u64) -> Option<u64> {
        match self.get(number) {
            Some(stored) => Some(stored.bytes()),
            None if number == self.end_number() => {
                self.open.as_ref().map(|open| Record::charge_of(&open.lengths, &open.payload))
            }
            None => None,
        }
    }

    /// There is something behind the record `number`.
    pub(crate) fn has_behind(&self, number: u64) -> bool {
        number.saturating_add(1) < self.end_number() || self.open.is_some()
    }

    /// Payload bytes of all closed records, ever.
    pub(crate) const fn bytes_ever(&self) -> u64 {
        self.bytes_ever
    }

    /// Where the stream goes on after a new life of its source. Nothing may have been taken yet.
    pub(crate) fn start_at(&mut self, offset: StreamOffset) {
        if self.records.is_empty() && self.open.is_none() {
            self.next_offset = offset;
        }
    }

    /// Takes messages of a producer; their lengths were checked to describe the payload.
    pub(crate) fn push(
        &mut self,
        producer: ProducerId,
        mut seq: u64,
        mut lengths: Bytes,
        mut payload: Bytes,
    ) {
        if payload.len() < UNCOPIED_BYTES_MIN && self.push_open(producer, seq, &lengths, &payload) {
            return;
        }
        self.close_open();
        while let Some((count, lengths_len, bytes)) = RecordBuilder::cut(&lengths, payload.len()) {
            let record_lengths = lengths.split_to(lengths_len);
            let record_payload = payload.split_to(bytes);
            let base = self.next_offset;
            let record =
                self.builder.unsummed(producer, seq, base, count, record_lengths, record_payload);
            self.next_offset = record.header.stream_end();
            seq = record.header.producer_end();
            self.store(record);
        }
    }

    /// Joins the open record, or begins one; false if there is no room in it.
    fn push_open(
        &mut self,
        producer: ProducerId,
        seq: u64,
        lengths: &[u8],
        payload: &[u8],
    ) -> bool {
        // One byte a length is the least, so this never undercounts the room that is needed.
        let count = lengths.iter().filter(|&&byte| byte < 0x80).count();
        if count > RECORD_MESSAGES_MAX {
            return false;
        }
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        let fits = self.open.as_ref().is_some_and(|open| {
            open.producer == producer
                && open.payload.len().saturating_add(payload.len()) <= RECORD_BYTES_TARGET
                && usize::try_from(open.count.saturating_add(count))
                    .is_ok_and(|count| count <= RECORD_MESSAGES_MAX)
        });
        if !fits {
            self.close_open();
        }
        let open = self.open.get_or_insert_with(|| OpenRecord {
            producer,
            producer_base: seq,
            stream_base: self.next_offset,
            count: 0,
            lengths: BytesMut::new(),
            payload: BytesMut::new(),
        });
        open.count = open.count.saturating_add(count);
        open.lengths.put_slice(lengths);
        open.payload.put_slice(payload);
        self.next_offset = StreamOffset(self.next_offset.0.saturating_add(u64::from(count)));
        true
    }

    /// Nothing joins the open record any more: it can be sent.
    pub(crate) fn close_open(&mut self) {
        if let Some(open) = self.open.take() {
            let record = self.builder.unsummed(
                open.producer,
                open.producer_base,
                open.stream_base,
                open.count,
                open.lengths.freeze(),
                open.payload.freeze(),
            );
            self.store(record);
        }
    }

    /// Every consumer has everything.
    pub(crate) fn is_empty(&self) -> bool {
        self.records.is_empty() && self.open.is_none()
    }

    fn store(&mut self, record: Record) {
        let bytes = record.charge_bytes();
        self.buffered_bytes = self.buffered_bytes.saturating_add(bytes);
        self.records.push_back(Stored { record, is_summed: false, bytes_before: self.bytes_ever });
        self.bytes_ever = self.bytes_ever.saturating_add(bytes);
    }

    /// Forgets records that end at or below `offset`.
    pub(crate) fn trim(&mut self, offset: StreamOffset) {
        while let Some(stored) =
            self.records.pop_front_if(|stored| stored.record.header.stream_end() <= offset)
        {
            self.first_number = self.first_number.saturating_add(1);
            self.buffered_bytes = self.buffered_bytes.saturating_sub(stored.bytes());
        }
    }
}
