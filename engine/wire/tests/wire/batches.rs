//! Frames in a batch: many, cut off, damaged, of kinds that nobody knows.

use hawser_wire::{
    BatchWriter, DecodeError, FRAME_BODY_BYTES_MAX, FrameHeader, FrameIter, FrameKind, FrameRef,
    LinkSequence, TrafficClass,
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
    assert_eq!((ping.header.kind, ping.body), (FrameKind::Ping, vector("heartbeat")));
    assert_eq!((unknown.header.kind, unknown.body), (FrameKind::Unknown(0x7f), &b"xyz"[..]));
    assert_eq!((unknown.header.flags.0, unknown.header.class), (0x80, TrafficClass::Priority));
    assert_eq!((pong.header.kind, pong.body), (FrameKind::Pong, vector("heartbeat")));

    let again: Vec<u8> =
        frames.iter().flat_map(|frame| [&frame.header.encode(), frame.body].concat()).collect();
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
