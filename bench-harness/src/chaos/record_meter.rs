//! Sees from outside whether a lane carries messages: TLS hides what is in a record, not how long
//! it is.

/// RFC 8446 §5.1: type, version, length.
const HEADER_BYTES: usize = 5;

/// RFC 8446 §5.1: the type of every record past the handshake's first flights.
const APPLICATION_DATA: u8 = 23;

/// Records of this many bytes carry messages even if the messages are larger, and so are cut. TLS
/// records have at most 2¹⁴ bytes of content.
const RECORD_BYTES_ENOUGH: usize = 8 << 10;

/// Follows the TLS records of one direction of one connection.
#[derive(Debug)]
pub(crate) struct RecordMeter {
    header: [u8; HEADER_BYTES],
    header_bytes: usize,
    /// Of the record at hand, not seen yet.
    body_left: usize,
    /// The record at hand is long enough to carry a message.
    carries: bool,
    carries_from_bytes: usize,
}

impl RecordMeter {
    /// A meter of messages of `payload_bytes`, which is to be more than any record of heartbeats,
    /// acknowledgements or handshakes has.
    pub(crate) fn new(payload_bytes: usize) -> Self {
        Self {
            header: [0; HEADER_BYTES],
            header_bytes: 0,
            body_left: 0,
            carries: false,
            carries_from_bytes: payload_bytes.min(RECORD_BYTES_ENOUGH),
        }
    }

    /// Takes the next bytes. Returns how many records that carry messages they completed.
    pub(crate) fn feed(&mut self, mut bytes: &[u8]) -> u64 {
        let mut completed = 0;
        while !bytes.is_empty() {
            if self.header_bytes < HEADER_BYTES {
                let (now, later) =
                    bytes.split_at((HEADER_BYTES - self.header_bytes).min(bytes.len()));
                let place = self.header.get_mut(self.header_bytes..self.header_bytes + now.len());
                place.unwrap_or_default().copy_from_slice(now);
                self.header_bytes += now.len();
                bytes = later;
                if self.header_bytes < HEADER_BYTES {
                    break;
                }
                let [kind, _, _, high, low] = self.header;
                self.body_left = usize::from(u16::from_be_bytes([high, low]));
                self.carries =
                    kind == APPLICATION_DATA && self.body_left >= self.carries_from_bytes;
            }
            let taken = self.body_left.min(bytes.len());
            bytes = bytes.get(taken..).unwrap_or_default();
            self.body_left -= taken;
            if self.body_left == 0 {
                completed += u64::from(self.carries);
                self.header_bytes = 0;
            }
        }
        completed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: u8, body_bytes: u16) -> Vec<u8> {
        let [high, low] = body_bytes.to_be_bytes();
        let mut record = vec![kind, 3, 3, high, low];
        record.resize(HEADER_BYTES + usize::from(body_bytes), 0xAB);
        record
    }

    fn check(records: &[(u8, u16)], expected: u64) {
        let bytes: Vec<u8> = records.iter().flat_map(|&(kind, body)| record(kind, body)).collect();
        for piece in [1, 2, 3, 5, 7, 1000, bytes.len()] {
            let mut meter = RecordMeter::new(4096);
            let found: u64 = bytes.chunks(piece).map(|piece| meter.feed(piece)).sum();
            assert_eq!(found, expected, "{records:?} in pieces of {piece}");
        }
    }

    #[test]
    fn records_that_carry_messages_are_told_apart_however_they_are_cut() {
        check(&[(23, 100)], 0);
        check(&[(22, 6000)], 0);
        check(&[(23, 4095), (23, 4096), (23, 4097)], 2);
        check(&[(22, 1), (23, 0), (23, 16_640), (23, 30), (23, 5000)], 2);
    }

    #[test]
    fn a_record_counts_once_it_is_whole() {
        let mut meter = RecordMeter::new(4096);
        let bytes = record(23, 5000);
        let (last, rest) = bytes.split_last().unwrap();
        assert_eq!(meter.feed(rest), 0);
        assert_eq!(meter.feed(&[*last]), 1);
    }
}
