//! gRPC messages in the bytes of a call: small ones put together, batches of client data read in
//! passing.

use anyhow::{Context, Result, bail};
use hawser_proto::REQUEST_BYTES_MAX;
use hawser_proto::v1::PublishBatch;
use prost::Message;
use prost::encoding::{WireType, decode_key, decode_varint, encode_key, encode_varint};

use crate::stamp::{STAMP_BYTES, Stamp};

/// Bytes before each gRPC message: compressed or not, length.
const PREFIX_BYTES: usize = 5;

/// Field numbers in hawser.proto.
mod field {
    pub(super) const PUBLISH_BATCH_PAYLOAD: u32 = 6;
    pub(super) const CLIENT_DATA_BATCH_LENGTHS: u32 = 3;
    pub(super) const CLIENT_DATA_BATCH_PAYLOAD: u32 = 4;
}

/// Everything of a [`PublishBatch`] up to its payload, which follows it on the wire.
pub(crate) fn publish_batch_head(batch: &PublishBatch, payload_bytes: usize, head: &mut Vec<u8>) {
    debug_assert!(batch.payload.is_empty(), "the payload stands elsewhere");
    head.clear();
    // A vector takes whatever is encoded.
    let _ = batch.encode(head);
    encode_key(field::PUBLISH_BATCH_PAYLOAD, WireType::LengthDelimited, head);
    encode_varint(payload_bytes as u64, head);
}

/// Length of the message whose prefix `bytes` begin with; none if the prefix is not whole.
fn message_bytes(bytes: &[u8]) -> Result<Option<usize>> {
    let Some(&[compressed, l0, l1, l2, l3]) = bytes.first_chunk::<PREFIX_BYTES>() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes([l0, l1, l2, l3]) as usize;
    if compressed != 0 || length > REQUEST_BYTES_MAX {
        bail!("a message of {length} bytes with flag {compressed}");
    }
    Ok(Some(length))
}

/// Puts messages together. For small ones: they are copied.
#[derive(Debug, Default)]
pub(crate) struct Assembler {
    bytes: Vec<u8>,
}

impl Assembler {
    /// Takes the next bytes of the call; hands every message that they complete to `handle`.
    pub(crate) fn feed<M: Message + Default>(
        &mut self,
        data: &[u8],
        mut handle: impl FnMut(M) -> Result<()>,
    ) -> Result<()> {
        self.bytes.extend_from_slice(data);
        let mut rest = self.bytes.as_slice();
        while let Some(length) = message_bytes(rest)?
            && let Some(message) = rest.get(PREFIX_BYTES..PREFIX_BYTES + length)
        {
            handle(M::decode(message).context("from the node")?)?;
            rest = rest.get(PREFIX_BYTES + length..).unwrap_or_default();
        }
        let done = self.bytes.len() - rest.len();
        self.bytes.drain(..done);
        Ok(())
    }
}

/// Reads batches of client data as their bytes pass by: of each message its length and its stamp.
#[derive(Debug)]
pub(crate) struct BatchReader {
    /// Bytes of a head that is not whole yet.
    head: Vec<u8>,
    /// Length of each message of the batch at hand.
    lengths: Vec<usize>,
    /// The message at hand.
    index: usize,
    /// The start of the message at hand, as far as it was seen.
    stamp: [u8; STAMP_BYTES],
    stamp_bytes: usize,
    /// Bytes behind the stamp that have not passed yet; or, past the last message, the rest of the
    /// gRPC message.
    skip: usize,
    /// Bytes behind the payload in the gRPC message at hand: fields of a later version.
    tail: usize,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Head,
    Payload,
    Tail,
}

/// What stands before the payload.
struct Head {
    bytes: usize,
    payload_bytes: usize,
    tail_bytes: usize,
}

impl BatchReader {
    pub(crate) const fn new() -> Self {
        Self {
            head: Vec::new(),
            lengths: Vec::new(),
            index: 0,
            stamp: [0; STAMP_BYTES],
            stamp_bytes: 0,
            skip: 0,
            tail: 0,
            state: State::Head,
        }
    }

    /// Takes the next bytes of the call; hands length and stamp of every message that begins in
    /// them to `handle`.
    ///
    /// # Errors
    /// If they are no batches, or a message is too short for a stamp.
    pub(crate) fn feed(
        &mut self,
        mut data: &[u8],
        mut handle: impl FnMut(usize, Stamp) -> Result<()>,
    ) -> Result<()> {
        while !data.is_empty() {
            data = match self.state {
                State::Head => self.take_head(data)?,
                State::Payload => self.take_payload(data, &mut handle)?,
                State::Tail => self.take_tail(data),
            };
        }
        Ok(())
    }

    /// Takes a head that is whole, or keeps what there is of it. Returns what stands behind it.
    fn take_head<'a>(&mut self, data: &'a [u8]) -> Result<&'a [u8]> {
        let before = self.head.len();
        let head = if before == 0 {
            parse_head(data, &mut self.lengths)?
        } else {
            self.head.extend_from_slice(data);
            parse_head(&self.head, &mut self.lengths)?
        };
        let Some(head) = head else {
            if before == 0 {
                self.head.extend_from_slice(data);
            }
            return Ok(&[]);
        };
        let announced: usize = self.lengths.iter().sum();
        if announced != head.payload_bytes {
            bail!("a batch of {} bytes whose lengths add up to {announced}", head.payload_bytes);
        }
        self.head.clear();
        self.index = 0;
        self.stamp_bytes = 0;
        self.skip = 0;
        self.tail = head.tail_bytes;
        self.state = if self.lengths.is_empty() { State::Tail } else { State::Payload };
        if self.lengths.is_empty() && self.tail == 0 {
            self.state = State::Head;
        }
        Ok(data.get(head.bytes - before..).unwrap_or_default())
    }

    fn take_payload<'a>(
        &mut self,
        mut data: &'a [u8],
        handle: &mut impl FnMut(usize, Stamp) -> Result<()>,
    ) -> Result<&'a [u8]> {
        while let Some(&length) = self.lengths.get(self.index) {
            if self.skip > 0 {
                let skipped = self.skip.min(data.len());
                data = data.get(skipped..).unwrap_or_default();
                self.skip -= skipped;
                if self.skip > 0 {
                    return Ok(data);
                }
                self.index += 1;
                continue;
            }
            if length < STAMP_BYTES {
                bail!("a message of {length} bytes, too short for its stamp");
            }
            // Mostly the whole message is there.
            if self.stamp_bytes == 0
                && let Some(stamp) = Stamp::decode(data)
                && let Some(after) = data.get(length..)
            {
                handle(length, stamp)?;
                data = after;
                self.index += 1;
                continue;
            }
            let taken = (STAMP_BYTES - self.stamp_bytes).min(data.len());
            let place = self.stamp.get_mut(self.stamp_bytes..self.stamp_bytes + taken);
            place.unwrap_or_default().copy_from_slice(data.get(..taken).unwrap_or_default());
            self.stamp_bytes += taken;
            data = data.get(taken..).unwrap_or_default();
            if self.stamp_bytes < STAMP_BYTES {
                return Ok(data);
            }
            self.stamp_bytes = 0;
            handle(length, Stamp::decode(&self.stamp).context("stamp")?)?;
            self.skip = length - STAMP_BYTES;
            if self.skip == 0 {
                self.index += 1;
            }
        }
        self.state = if self.tail == 0 { State::Head } else { State::Tail };
        Ok(data)
    }

    fn take_tail<'a>(&mut self, data: &'a [u8]) -> &'a [u8] {
        let (passed, rest) = data.split_at(self.tail.min(data.len()));
        self.tail -= passed.len();
        if self.tail == 0 {
            self.state = State::Head;
        }
        rest
    }
}

/// Parses a gRPC prefix and the fields of a `ClientDataBatch` before its payload; the lengths go
/// to `lengths`. None: more bytes are needed.
fn parse_head(data: &[u8], lengths: &mut Vec<usize>) -> Result<Option<Head>> {
    let Some(message) = message_bytes(data)? else { return Ok(None) };
    lengths.clear();
    let end = PREFIX_BYTES + message;
    let whole = data.len() >= end;
    let mut rest = data.get(PREFIX_BYTES..end.min(data.len())).unwrap_or_default();
    loop {
        let at = end.min(data.len()) - rest.len();
        if at == end {
            // Proto3 leaves an empty payload out.
            return Ok(Some(Head { bytes: end, payload_bytes: 0, tail_bytes: 0 }));
        }
        let Some((number, wire_type, value)) = next_field(&mut rest) else {
            if whole {
                bail!("a batch that is no protobuf message");
            }
            return Ok(None);
        };
        let value = usize::try_from(value)?;
        if number == field::CLIENT_DATA_BATCH_PAYLOAD && wire_type == WireType::LengthDelimited {
            let bytes = end.min(data.len()) - rest.len();
            let Some(tail_bytes) = end.checked_sub(bytes + value) else {
                bail!("a payload that exceeds its message");
            };
            return Ok(Some(Head { bytes, payload_bytes: value, tail_bytes }));
        }
        if wire_type == WireType::LengthDelimited {
            let Some((field, after)) = rest.split_at_checked(value) else {
                if whole {
                    bail!("a field that exceeds its message");
                }
                return Ok(None);
            };
            rest = after;
            if number == field::CLIENT_DATA_BATCH_LENGTHS {
                let mut packed = field;
                while !packed.is_empty() {
                    lengths.push(usize::try_from(decode_varint(&mut packed)?)?);
                }
            }
        } else if number == field::CLIENT_DATA_BATCH_LENGTHS {
            lengths.push(value);
        }
    }
}

/// The next key with its value, or with its length if it is delimited. None: not whole, or of a
/// kind that the messages here do not have.
fn next_field(rest: &mut &[u8]) -> Option<(u32, WireType, u64)> {
    let (number, wire_type) = decode_key(rest).ok()?;
    match wire_type {
        WireType::Varint | WireType::LengthDelimited => {
            Some((number, wire_type, decode_varint(rest).ok()?))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use hawser_proto::v1::{ClientDataBatch, PublishResult};

    use super::*;

    fn framed(message: &impl Message) -> Vec<u8> {
        let bytes = message.encode_to_vec();
        [&[0], &u32::try_from(bytes.len()).unwrap().to_be_bytes()[..], &bytes].concat()
    }

    fn batch(first_seq: u64, lengths: &[u32]) -> ClientDataBatch {
        let mut payload = Vec::new();
        for (seq, &length) in (first_seq..).zip(lengths) {
            let start = payload.len();
            payload.extend_from_slice(&Stamp { seq, at_ns: seq * 10 }.encode());
            payload.resize(start + length as usize, 0xEE);
        }
        ClientDataBatch {
            stream_id: "some-stream".to_owned(),
            first_seq,
            lengths: lengths.to_vec(),
            payload: payload.into(),
        }
    }

    #[test]
    fn batches_are_read_however_they_are_cut() {
        let batches =
            [batch(1, &[64, 16, 300]), batch(4, &[]), batch(4, &[17; 200]), batch(204, &[5_000])];
        let mut wire: Vec<u8> = batches.iter().flat_map(framed).collect();
        // A field that this version does not know, behind the payload.
        let mut later = batch(205, &[20]).encode_to_vec();
        later.extend_from_slice(&[0x7A, 3, 1, 2, 3]);
        wire.push(0);
        wire.extend_from_slice(&u32::try_from(later.len()).unwrap().to_be_bytes());
        wire.extend_from_slice(&later);
        wire.extend_from_slice(&framed(&batch(206, &[16])));
        let lengths = [64, 16, 300].into_iter().chain([17; 200]).chain([5_000, 20, 16]);
        let expected: Vec<_> = (1..)
            .zip(lengths)
            .map(|(seq, length)| (length, Stamp { seq, at_ns: seq * 10 }))
            .collect();
        for step in (1..400).chain([1_000, wire.len()]) {
            let mut reader = BatchReader::new();
            let mut found = Vec::new();
            for piece in wire.chunks(step) {
                reader
                    .feed(piece, |length, stamp| {
                        found.push((length, stamp));
                        Ok(())
                    })
                    .unwrap();
            }
            assert_eq!(found, expected, "step {step}");
            assert_eq!(reader.state, State::Head, "step {step}");
        }
    }

    #[test]
    fn what_is_no_batch_is_refused() {
        let mut wrong = batch(1, &[64, 64]);
        wrong.lengths.pop();
        let short = batch(1, &[16]);
        let short = ClientDataBatch { lengths: vec![8, 8], ..short };
        for wire in [framed(&wrong), framed(&short), vec![1, 0, 0, 0, 0], vec![0, 0xFF, 0, 0, 0]] {
            assert!(BatchReader::new().feed(&wire, |_, _| Ok(())).is_err(), "{wire:?}");
        }
    }

    #[test]
    fn small_messages_are_put_together() {
        let results: Vec<_> = (0..5)
            .map(|acked_seq| PublishResult { acked_seq, ..PublishResult::default() })
            .collect();
        let wire: Vec<u8> = results.iter().flat_map(framed).collect();
        for step in 1..wire.len() {
            let (mut assembler, mut found) = (Assembler::default(), Vec::new());
            for piece in wire.chunks(step) {
                assembler
                    .feed(piece, |result: PublishResult| {
                        found.push(result);
                        Ok(())
                    })
                    .unwrap();
            }
            assert_eq!(found, results);
        }
    }

    #[test]
    fn a_head_and_its_payload_are_a_publish_batch() {
        let mut head = Vec::new();
        let mut batch = PublishBatch {
            stream_id: "s".to_owned(),
            first_seq: 9,
            lengths: vec![1, 300],
            ..PublishBatch::default()
        };
        publish_batch_head(&batch, 301, &mut head);
        head.extend_from_slice(&[7; 301]);
        batch.payload = vec![7; 301].into();
        assert_eq!(PublishBatch::decode(head.as_slice()).unwrap(), batch);
    }
}
