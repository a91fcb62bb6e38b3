use crate::{ByteReader, DecodeError, ProducerId};

/// Most producers that one message lists; a stream keeps no more.
const PRODUCERS_MAX: usize = 1024;

/// Appends each producer with its next sequence, at most 1,024 of them.
pub(crate) fn put_producers(out: &mut Vec<u8>, producers: &[(ProducerId, u64)]) {
    let producers = producers.get(..PRODUCERS_MAX).unwrap_or(producers);
    out.extend_from_slice(&u16::try_from(producers.len()).unwrap_or(0).to_le_bytes());
    for (producer, next_seq) in producers {
        out.extend_from_slice(&producer.0.to_le_bytes());
        out.extend_from_slice(&next_seq.to_le_bytes());
    }
}

/// Reads what [`put_producers`] wrote.
pub(crate) fn read_producers(
    reader: &mut ByteReader<'_>,
) -> Result<Vec<(ProducerId, u64)>, DecodeError> {
    let count = usize::from(reader.u16()?);
    if count > PRODUCERS_MAX {
        let value = u64::try_from(count).unwrap_or(u64::MAX);
        let max = u64::try_from(PRODUCERS_MAX).unwrap_or(u64::MAX);
        return Err(DecodeError::TooLarge { what: "list of producers", value, max });
    }
    let mut producers = Vec::new();
    for _ in 0..count {
        producers.push((ProducerId(reader.u64()?), reader.u64()?));
    }
    Ok(producers)
}
