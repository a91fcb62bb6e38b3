//! Decoders take anything: no panic, and never a value whose encoding the bytes are not.

use hawser_wire::{
    BootEpoch, ByteReader, FrameIter, NodeId, ProducerId, RecordBuilder, RecordView, StreamId,
    StreamOffset, TenantId, put_varint, varint_len,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use crate::layouts::LAYOUTS;
use crate::vectors::vector;

/// A golden vector of some layout with a piece replaced by other bytes.
fn spliced() -> impl Strategy<Value = (usize, Vec<u8>)> {
    let picks = LAYOUTS.iter().enumerate();
    let picks: Vec<_> =
        picks.flat_map(|(at, one)| one.vectors.iter().map(move |v| (at, *v))).collect();
    let parts = (select(picks), any::<Index>(), any::<Index>(), vec(any::<u8>(), 0..12));
    parts.prop_map(|((layout, label), one, other, insert)| {
        let whole = vector(label);
        let (one, other) = (one.index(whole.len() + 1), other.index(whole.len() + 1));
        let (start, end) = (one.min(other), one.max(other).min(one.min(other) + 12));
        (layout, [&whole[..start], &insert, &whole[end..]].concat())
    })
}

proptest! {
    #[test]
    fn any_bytes_in_every_layout(input in vec(any::<u8>(), 0..400)) {
        for layout in LAYOUTS {
            let _ = layout.check(&input);
        }
        for frame in FrameIter::new(&input) {
            prop_assert!(frame.is_err() || input.len() >= 20);
        }
    }

    #[test]
    fn spliced_vectors((layout, input) in spliced()) {
        let _ = LAYOUTS[layout].check(&input);
    }

    /// The checksum is made to match, so that what stands behind it is reached.
    #[test]
    fn any_body_under_a_matching_checksum(
        count in 0_u32..2000,
        lengths in vec(any::<u8>(), 0..64),
        payload in vec(any::<u8>(), 0..300),
    ) {
        let (tenant, stream) = (TenantId::default(), StreamId::default());
        let builder = RecordBuilder::new(tenant, stream, BootEpoch(1));
        let (lengths, payload) = (lengths.into(), payload.into());
        let record =
            builder.record(ProducerId(1), 1, StreamOffset(0), count, lengths, payload);
        let encoded = record.to_bytes();
        if let Ok(view) = RecordView::decode(&encoded) {
            prop_assert_eq!(&view.to_record(), &record);
            let sum: u64 = record.message_lengths().map(u64::from).sum();
            prop_assert_eq!(sum, record.payload.len() as u64);
            prop_assert_eq!(record.message_lengths().count(), count as usize);
        }
    }

    #[test]
    fn any_lengths_are_cut_within_their_bounds(
        lengths in vec(any::<u8>(), 0..64),
        payload_len in 0_usize..1000,
    ) {
        if let Some((count, len_bytes, bytes)) = RecordBuilder::cut(&lengths, payload_len) {
            prop_assert!(count > 0 && len_bytes <= lengths.len() && bytes <= payload_len);
        }
    }

    #[test]
    fn a_reader_takes_nothing_when_it_fails(input in vec(any::<u8>(), 0..16)) {
        let new = || ByteReader::new(&input, "test");
        let reads: [fn(&mut ByteReader<'_>) -> bool; 8] = [
            |reader| reader.u8().is_err(),
            |reader| reader.u16().is_err(),
            |reader| reader.u32().is_err(),
            |reader| reader.u64().is_err(),
            |reader| reader.varint().is_err(),
            |reader| reader.array::<16>().is_err(),
            |reader| reader.bytes(17).is_err(),
            |reader| reader.name().is_err(),
        ];
        for read in reads {
            let mut reader = new();
            prop_assert_eq!(read(&mut reader), reader.rest() == input, "{:?}", input);
        }
    }

    #[test]
    fn one_varint_has_one_encoding(value: u32, tail in vec(any::<u8>(), 0..4)) {
        let mut bytes = Vec::new();
        put_varint(&mut bytes, value);
        prop_assert_eq!(bytes.len(), varint_len(value));
        bytes.extend_from_slice(&tail);
        let mut reader = ByteReader::new(&bytes, "test");
        prop_assert_eq!(reader.varint(), Ok(value));
        prop_assert_eq!(reader.rest(), tail);
    }

    #[test]
    fn any_text_is_an_id_or_is_not(text in "\\PC{0,30}|[a-zA-Z2-7]{26}") {
        if let Ok(id) = text.parse::<NodeId>() {
            prop_assert_eq!(id.to_string(), text.to_ascii_lowercase());
        }
    }

    #[test]
    fn an_id_comes_back_from_its_text(bytes: [u8; 16]) {
        let id = NodeId::from_bytes(bytes);
        prop_assert_eq!(id.to_string().parse(), Ok(id));
    }
}
