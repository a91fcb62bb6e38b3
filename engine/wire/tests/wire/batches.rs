//! Frames in a batch: many, cut off, damaged, of kinds that nobody knows.

use bytes::Bytes;
use hawser_wire::{
    BatchWriter, BootEpoch, DecodeError, FRAME_BODY_BYTES_MAX, FrameBody, FrameHeader, FrameIter,
    FrameKind, FrameRef, LinkSequence, ProducerId, Record, RecordBuilder, RecordView, StreamId,
    StreamOffset, TenantId, TrafficClass, put_varint,
};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::strategies as any_of;
use crate::vectors::vector;

type Frame = (FrameKind, TrafficClass, u64, Vec<u8>);

fn frames() -> impl Strategy<Value = Vec<Frame>> {
    vec((any_of::kind(), any_of::class(), any::<u64>(), vec(any::<u8>(), 0..60)), 0..8)
}

fn batch_of(frames: &[Frame]) -> Vec<u8> {
    let mut out = Vec::new();
    for (kind, class, sequence, body) in frames {
        let (front, back) = body.split_at(body.len() / 2);
        let parts = [front, &[], back];
        let mut writer = BatchWriter::new(&mut out);
        writer.frame(*kind, *class, LinkSequence(*sequence), &parts).unwrap();
    }
    out
}

fn as_frame(frame: FrameRef<'_>) -> Frame {
    let FrameHeader { kind, class, link_sequence, .. } = frame.header;
    (kind, class, link_sequence.0, frame.body.to_vec())
}

proptest! {
    #[test]
    fn frames_come_back_in_order(frames in frames()) {
        let batch = batch_of(&frames);
        let again: Result<Vec<_>, _> = FrameIter::new(&batch).map(|one| one.map(as_frame)).collect();
        prop_assert_eq!(again, Ok(frames));
    }

    /// Frames before the damage are read, then comes one error, then nothing.
    #[test]
    fn a_batch_ends_at_its_first_error(
        frames in frames(),
        at in any::<proptest::sample::Index>(),
        cut: bool,
    ) {
        let whole = batch_of(&frames);
        prop_assume!(!whole.is_empty());
        let at = at.index(whole.len());
        let mut batch = whole;
        if cut { batch.truncate(at); } else { batch[at] ^= 0x10; }
        let mut end = 0;
        let mut errors = 0;
        for (frame, expected) in FrameIter::new(&batch).zip(&frames) {
            prop_assert_eq!(errors, 0);
            match frame {
                Ok(frame) => {
                    end += FrameHeader::LEN + frame.body.len();
                    prop_assert_eq!(frame.body.len(), expected.3.len());
                    prop_assert!(end <= at || !cut);
                }
                Err(_) => errors += 1,
            }
        }
        prop_assert_eq!(FrameIter::new(&batch).filter(Result::is_err).count(), errors);
        prop_assert!(errors == 1 || end == batch.len());
    }
}

#[test]
fn the_golden_batch_keeps_what_it_does_not_know() {
    let frames: Vec<_> = FrameIter::new(vector("batch")).map(Result::unwrap).collect();
    let [ping, unknown, pong] = frames.as_slice() else { panic!("{frames:?}") };
    assert_eq!((ping.header.kind, ping.body.bytes()), (FrameKind::Ping, vector("heartbeat")));
    assert_eq!(
        (unknown.header.kind, unknown.body.bytes()),
        (FrameKind::Unknown(0x7f), &b"xyz"[..])
    );
    assert_eq!((unknown.header.flags.0, unknown.header.class), (0x80, TrafficClass::Priority));
    assert_eq!((pong.header.kind, pong.body.bytes()), (FrameKind::Pong, vector("heartbeat")));

    let again: Vec<u8> = frames
        .iter()
        .flat_map(|frame| [&frame.header.encode(), frame.body.bytes()].concat())
        .collect();
    assert_eq!(again, vector("batch"));
}

#[test]
fn every_truncation_of_the_golden_batch_is_an_error_or_ends_between_frames() {
    let whole = vector("batch");
    let ends = [0, 28, 51, whole.len()];
    for len in 0..=whole.len() {
        let errors = FrameIter::new(&whole[..len]).filter(Result::is_err).count();
        assert_eq!(errors, usize::from(!ends.contains(&len)), "cut to {len}");
    }
}

#[test]
fn a_body_above_its_bound_is_refused_on_both_sides() {
    let body = vec![0; FRAME_BODY_BYTES_MAX + 1];
    let (max, value) = (FRAME_BODY_BYTES_MAX as u64, FRAME_BODY_BYTES_MAX as u64 + 1);
    let too_large = DecodeError::TooLarge { what: "frame body", value, max };

    let mut out = Vec::new();
    let mut writer = BatchWriter::new(&mut out);
    let kind = FrameKind::Record;
    let class = TrafficClass::Bulk;
    assert_eq!(writer.frame(kind, class, LinkSequence(0), &[&body]), Err(too_large));
    writer.frame(kind, class, LinkSequence(0), &[&body[1..]]).unwrap();
    assert_eq!(out.len(), FrameHeader::LEN + FRAME_BODY_BYTES_MAX);

    let (mut header, _) = FrameHeader::decode(&out).unwrap();
    header.body_len += 1;
    assert_eq!(FrameHeader::decode(&header.encode()), Err(too_large));
}

#[test]
fn a_reserved_byte_or_an_unknown_class_is_refused() {
    let refused = |at: usize, byte: u8| {
        let mut bytes = vector("frame-header").to_vec();
        bytes[at] = byte;
        let sum = hawser_wire::crc32c(&bytes[..16]).to_le_bytes();
        bytes[16..20].copy_from_slice(&sum);
        FrameHeader::decode(&bytes).unwrap_err()
    };
    let reserved = DecodeError::Invalid { what: "frame header's reserved byte", value: 1 };
    assert_eq!(refused(3, 1), reserved);
    assert_eq!(refused(2, 3), DecodeError::Invalid { what: "traffic class", value: 3 });
}

/// A batch of records with payloads of these lengths, and what is kept of each.
fn kept(payloads: &[usize]) -> (Bytes, Vec<Record>) {
    let builder = RecordBuilder::new(
        TenantId::from_bytes([1; 16]),
        StreamId::from_bytes([2; 16]),
        BootEpoch(1),
    );
    let mut batch = Vec::new();
    for (&len, base) in payloads.iter().zip(0..) {
        let mut lengths = Vec::new();
        put_varint(&mut lengths, u32::try_from(len).unwrap());
        let payload = vec![u8::try_from(base).unwrap(); len].into();
        let (producer, offset) = (ProducerId(3), StreamOffset(base));
        let record = builder.record(producer, base + 1, offset, 1, lengths.into(), payload);
        let (kind, class) = (FrameKind::Record, TrafficClass::Bulk);
        let parts = [&record.to_bytes()[..]];
        BatchWriter::new(&mut batch).frame(kind, class, LinkSequence(1), &parts).unwrap();
    }
    let batch = Bytes::from(batch);
    let frames = FrameIter::shared(&batch).map(|frame| frame.unwrap().body);
    let records = frames.map(|body| RecordView::of(body).unwrap().to_record()).collect();
    (batch, records)
}

#[test]
fn a_record_is_kept_as_a_part_of_its_batch_if_that_is_not_much_larger() {
    let stands_in = |record: &Record, batch: &Bytes| {
        batch.as_ptr_range().contains(&record.payload.as_ptr())
            && batch.as_ptr_range().contains(&record.lengths.as_ptr())
    };
    let (batch, records) = kept(&[40_000, 40_000]);
    assert!(records.iter().all(|record| stands_in(record, &batch)));
    let (batch, records) = kept(&[20_000, 20_000, 40_000, 0]);
    let found: Vec<_> = records.iter().map(|record| stands_in(record, &batch)).collect();
    assert_eq!(found, [false, false, true, false]);
    for (record, base) in records.iter().zip(0_u8..) {
        assert!(record.payload.iter().all(|&byte| byte == base));
        assert_eq!(record, &RecordView::decode(&record.to_bytes()).unwrap().to_record());
    }
}

#[test]
fn a_body_is_shared_if_it_is_half_of_its_batch() {
    let shared = |len: usize, batch: usize| {
        let batch = Bytes::from(vec![7; batch]);
        let body = FrameBody::shared(&batch).with(batch.get(1..=len).unwrap());
        let shared = body.to_shared();
        shared.map(|part| (part.len(), batch.as_ptr_range().contains(&part.as_ptr())))
    };
    assert_eq!(shared(499, 1000), None);
    assert_eq!(shared(500, 1000), Some((500, true)));
    assert_eq!(shared(500, 1001), None);
    let apart = vec![7; 1000];
    let batch = Bytes::from(apart.clone());
    assert_eq!(FrameBody::shared(&batch).with(&apart).to_shared(), None, "it stands elsewhere");
    assert_eq!(FrameBody::from(&apart[..]).to_shared(), None);
}

#[test]
fn bytes_that_are_no_part_of_the_batch_are_copied() {
    let (batch, records) = kept(&[40_000]);
    let apart = records[0].to_bytes();
    let body = FrameIter::shared(&batch).next().unwrap().unwrap().body.with(&apart);
    let record = RecordView::of(body).unwrap().to_record();
    assert_eq!(record, records[0]);
    assert!(!batch.as_ptr_range().contains(&record.payload.as_ptr()));
}
