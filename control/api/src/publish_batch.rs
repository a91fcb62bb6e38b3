use bytes::Bytes;
use hawser_exchange::PublishedBatch;
use hawser_proto::{BATCH_MESSAGES_MAX, BATCH_PAYLOAD_BYTES_MAX};
use hawser_wire::{MESSAGE_BYTES_MAX, crc32c, put_varint};
use thiserror::Error;
use tonic::Status;

/// Most payload bytes that go to a shard in one piece; a shard's credit is at least that.
pub(crate) const PIECE_BYTES_MAX: usize = MESSAGE_BYTES_MAX;

/// Most messages that go to a shard in one piece.
pub(crate) const PIECE_MESSAGES_MAX: usize = 16_384;

/// Why messages cannot be published. None of them was.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub(crate) enum BatchError {
    #[error("sequences start at 1, got 0")]
    SequenceZero,
    #[error("first_seq {first_seq} leaves no room for {count} messages below 2^64")]
    SequenceTooLarge { first_seq: u64, count: usize },
    #[error("the batch has no message: `lengths` needs one entry a message")]
    Empty,
    #[error("the batch has {count} messages, more than {BATCH_MESSAGES_MAX}: send smaller batches")]
    TooManyMessages { count: usize },
    #[error(
        "the batch has {bytes} bytes of payload, more than {BATCH_PAYLOAD_BYTES_MAX}: send smaller \
         batches"
    )]
    TooLarge { bytes: usize },
    #[error("message {seq} has {bytes} bytes, more than {MESSAGE_BYTES_MAX}: send it in parts")]
    MessageTooLarge { seq: u64, bytes: usize },
    #[error("the lengths add up to {sum} bytes, the payload has {bytes}")]
    LengthsDiffer { sum: usize, bytes: usize },
    #[error("the payload has CRC32C {found:#010x}, announced was {announced:#010x}: send it again")]
    Checksum { found: u32, announced: u32 },
}

impl From<BatchError> for Status {
    fn from(error: BatchError) -> Self {
        Self::invalid_argument(error.to_string())
    }
}

/// Checks `payload` against its announced checksum; 0 announces none.
pub(crate) fn check_crc(announced: u32, payload: &[u8]) -> Result<(), BatchError> {
    if announced == 0 {
        return Ok(());
    }
    let found = crc32c(payload);
    if found == announced { Ok(()) } else { Err(BatchError::Checksum { found, announced }) }
}

/// Checks a batch as it came and cuts it into pieces that a shard takes, lengths encoded. The
/// payload is not copied.
pub(crate) fn pieces(
    first_seq: u64,
    checksum: u32,
    lengths: &[u32],
    payload: &Bytes,
) -> Result<Vec<PublishedBatch>, BatchError> {
    let count = lengths.len();
    if first_seq == 0 {
        return Err(BatchError::SequenceZero);
    }
    if count == 0 {
        return Err(BatchError::Empty);
    }
    if count > BATCH_MESSAGES_MAX {
        return Err(BatchError::TooManyMessages { count });
    }
    if payload.len() > BATCH_PAYLOAD_BYTES_MAX {
        return Err(BatchError::TooLarge { bytes: payload.len() });
    }
    let counted = u64::try_from(count).unwrap_or(u64::MAX);
    if first_seq.checked_add(counted).is_none() {
        return Err(BatchError::SequenceTooLarge { first_seq, count });
    }
    let longest = check_lengths(first_seq, lengths, payload.len())?;
    check_crc(checksum, payload)?;
    if longest < 0x80 && count <= PIECE_MESSAGES_MAX && payload.len() <= PIECE_BYTES_MAX {
        // The usual flood of small messages: each length is its own encoding, one byte.
        let lengths = lengths.iter().map(|length| length.to_le_bytes()[0]).collect();
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        return Ok(vec![PublishedBatch { first_seq, count, lengths, payload: payload.clone() }]);
    }

    let mut encoded = Vec::with_capacity(count.saturating_mul(2));
    let mut cuts = Vec::with_capacity(1);
    let mut piece = Cut::default();
    for &length in lengths {
        let bytes = usize_of(length);
        if piece.count > 0
            && (piece.count == PIECE_MESSAGES_MAX || piece.bytes + bytes > PIECE_BYTES_MAX)
        {
            cuts.push(std::mem::take(&mut piece));
        }
        let before = encoded.len();
        put_varint(&mut encoded, length);
        piece.count += 1;
        piece.bytes += bytes;
        piece.encoded += encoded.len() - before;
    }
    cuts.push(piece);

    let (mut lengths, mut payload, mut first_seq) =
        (Bytes::from(encoded), payload.clone(), first_seq);
    let batches = cuts.into_iter().map(|cut| {
        let batch = PublishedBatch {
            first_seq,
            count: u32::try_from(cut.count).unwrap_or(u32::MAX),
            lengths: lengths.split_to(cut.encoded),
            payload: payload.split_to(cut.bytes),
        };
        first_seq += u64::from(batch.count);
        batch
    });
    Ok(batches.collect())
}

/// One piece's part of a batch.
#[derive(Default)]
struct Cut {
    count: usize,
    /// Of payload.
    bytes: usize,
    /// Bytes of encoded lengths.
    encoded: usize,
}

/// Checks each length and their sum; the largest.
fn check_lengths(first_seq: u64, lengths: &[u32], payload_len: usize) -> Result<u32, BatchError> {
    let longest = lengths.iter().copied().max().unwrap_or(0);
    if usize_of(longest) > MESSAGE_BYTES_MAX {
        let at = lengths.iter().position(|&length| length == longest).unwrap_or(0);
        let seq = first_seq.saturating_add(u64::try_from(at).unwrap_or(u64::MAX));
        return Err(BatchError::MessageTooLarge { seq, bytes: usize_of(longest) });
    }
    // At most BATCH_MESSAGES_MAX times MESSAGE_BYTES_MAX: far from overflow.
    let sum = lengths.iter().map(|&length| usize_of(length)).sum();
    if sum == payload_len {
        Ok(longest)
    } else {
        Err(BatchError::LengthsDiffer { sum, bytes: payload_len })
    }
}

fn usize_of(length: u32) -> usize {
    usize::try_from(length).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(
        first_seq: u64,
        checksum: u32,
        lengths: &[u32],
        payload: &'static [u8],
    ) -> BatchError {
        pieces(first_seq, checksum, lengths, &Bytes::from_static(payload)).unwrap_err()
    }

    #[test]
    fn a_batch_that_contradicts_itself_is_refused() {
        assert_eq!(refused(0, 0, &[1], b"a"), BatchError::SequenceZero);
        assert_eq!(refused(1, 0, &[], b""), BatchError::Empty);
        assert_eq!(refused(1, 0, &[1, 1], b"abc"), BatchError::LengthsDiffer { sum: 2, bytes: 3 });
        assert_eq!(refused(1, 0, &[4], b"abc"), BatchError::LengthsDiffer { sum: 4, bytes: 3 });
        let bytes = MESSAGE_BYTES_MAX + 1;
        let length = u32::try_from(bytes).unwrap();
        assert_eq!(refused(7, 0, &[0, length], b""), BatchError::MessageTooLarge { seq: 8, bytes });
        assert_eq!(
            refused(u64::MAX, 0, &[1], b"a"),
            BatchError::SequenceTooLarge { first_seq: u64::MAX, count: 1 }
        );
        assert_eq!(
            refused(1, 1, &[9], b"123456789"),
            BatchError::Checksum { found: 0xE306_9283, announced: 1 }
        );
        let count = BATCH_MESSAGES_MAX + 1;
        assert_eq!(refused(1, 0, &vec![0; count], b""), BatchError::TooManyMessages { count });
    }

    #[test]
    fn a_right_checksum_and_no_checksum_are_taken() {
        for checksum in [0, 0xE306_9283] {
            let payload = Bytes::from_static(b"123456789");
            let batches = pieces(3, checksum, &[4, 0, 5], &payload).unwrap();
            assert_eq!(batches.len(), 1);
            assert_eq!((batches[0].first_seq, batches[0].count), (3, 3));
            assert_eq!(batches[0].lengths.as_ref(), [4, 0, 5]);
            assert_eq!(batches[0].payload, payload);
        }
    }

    #[test]
    fn a_large_batch_is_cut_and_loses_nothing() {
        let lengths = [700_000_u32, 300_000, 100_000, 1_048_576, 5];
        let total = lengths.iter().map(|&length| usize_of(length)).sum::<usize>();
        let payload = Bytes::from((0..total).map(|at| (at % 251) as u8).collect::<Vec<_>>());
        let batches = pieces(10, 0, &lengths, &payload).unwrap();
        let shapes: Vec<_> = batches.iter().map(|batch| (batch.first_seq, batch.count)).collect();
        assert_eq!(shapes, [(10, 2), (12, 1), (13, 1), (14, 1)]);
        let joined: Vec<u8> = batches.iter().flat_map(|batch| batch.payload.to_vec()).collect();
        assert_eq!(joined, payload);
        let mut encoded = Vec::new();
        for length in lengths {
            put_varint(&mut encoded, length);
        }
        let joined: Vec<u8> = batches.iter().flat_map(|batch| batch.lengths.to_vec()).collect();
        assert_eq!(joined, encoded);
    }

    #[test]
    fn many_small_messages_are_cut_too() {
        let count = PIECE_MESSAGES_MAX + 1;
        let batches = pieces(1, 0, &vec![0; count], &Bytes::new()).unwrap();
        assert_eq!(batches.len(), 2);
        assert_eq!((batches[1].first_seq, batches[1].count), (count as u64, 1));
    }
}
