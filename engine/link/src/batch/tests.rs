use super::*;
use crate::frame_parts::SHARED_BYTES_MIN;

/// A frame with this body.
pub(crate) fn frame<'a>(sequence: u64, parts: &'a [&'a [u8]]) -> NewFrame<'a> {
    let body = FrameParts::of(parts);
    let len = parts.iter().map(|part| part.len()).sum::<usize>() + FrameHeader::LEN;
    let (kind, class) = (FrameKind::Record, TrafficClass::Bulk);
    let flags = FrameFlags::default();
    NewFrame { kind, class, flags, sequence, stamp: None, body, len }
}

pub(crate) fn sequences(batch: &Batch) -> Vec<u64> {
    FrameIter::new(&batch.frames()).map(|frame| frame.unwrap().header.link_sequence.0).collect()
}

#[test]
fn a_batch_closes_at_its_bound_and_a_larger_frame_stands_alone() {
    let (mut fifo, mut pool) = (BatchFifo::default(), BufferPool::new(1 << 20));
    for sequence in 1..=5 {
        assert!(fifo.push(&frame(sequence, &[&[0; 80]]), 250, &mut pool));
    }
    assert!(fifo.push(&frame(6, &[&[0; 900]]), 250, &mut pool));
    assert_eq!(fifo.bytes(), 5 * 100 + 920);
    let batches: Vec<_> =
        std::iter::from_fn(|| fifo.pop()).map(|batch| sequences(&batch)).collect();
    assert_eq!(batches, [vec![1, 2], vec![3, 4], vec![5], vec![6]]);
    assert!(fifo.is_empty() && fifo.bytes() == 0);
}

/// A queue that holds little does not hold what was made for more; one that fills its batches has it.
#[test]
fn the_first_short_frame_of_a_queue_takes_a_short_buffer() {
    let (mut fifo, mut pool) = (BatchFifo::default(), BufferPool::new(1 << 20));
    for _ in 0..2 {
        pool.give(Vec::with_capacity(100_000));
    }
    fifo.open(&frame(1, &[&[1; 30]]), 50_000, &mut pool);
    assert!(fifo.push(&frame(1, &[&[1; 30]]), 50_000, &mut pool));
    assert_eq!(fifo.front().unwrap().backing_bytes(), SHORT_BYTES_MAX);
    let mut pushed = 1;
    while fifo.bytes() < 100_000 {
        pushed += 1;
        assert!(fifo.push(&frame(pushed, &[&[1; 30]]), 50_000, &mut pool));
    }
    let batches: Vec<Batch> = std::iter::from_fn(|| fifo.pop()).take(2).collect();
    assert!(batches.iter().all(|batch| batch.backing_bytes() == 100_000));
    let found: Vec<u64> = batches.iter().flat_map(sequences).collect();
    assert!(found.iter().copied().eq(1..=u64::try_from(found.len()).unwrap()));
    assert_eq!(pool.take_short().capacity(), SHORT_BYTES_MAX, "it is there for the next one");
    // A long frame has a long one at once.
    batches.into_iter().for_each(|batch| pool.give(batch.into_buffer()));
    let mut other = BatchFifo::default();
    other.open(&frame(1, &[&[1; SHORT_BYTES_MAX]]), 50_000, &mut pool);
    assert!(other.push(&frame(1, &[&[1; SHORT_BYTES_MAX]]), 50_000, &mut pool));
    assert_eq!(other.front().unwrap().backing_bytes(), 100_000);
}

/// A frame whose body begins with one byte, and ends with `end`.
pub(crate) fn ending<'a>(sequence: u64, end: &'a Bytes) -> NewFrame<'a> {
    let body = FrameParts { parts: &[&[1]], end: Some(end) };
    NewFrame { body, len: body.len() + FrameHeader::LEN, ..frame(sequence, &[]) }
}

#[test]
fn a_long_end_is_held_where_it_lies_and_ends_its_batch() {
    let (mut fifo, mut pool) = (BatchFifo::default(), BufferPool::new(1 << 20));
    let (long, short) = (vec![2; SHARED_BYTES_MIN], vec![3; SHARED_BYTES_MIN - 1]);
    let (long, short) = (Bytes::from(long), Bytes::from(short));
    for (sequence, end) in [(1, &short), (2, &long), (3, &short)] {
        assert!(fifo.push(&ending(sequence, end), 1 << 20, &mut pool));
    }
    let bytes = fifo.bytes();
    let mut first = fifo.pop().unwrap();
    assert_eq!((sequences(&first), first.is_closed()), (vec![1, 2], true));
    assert_eq!(first.behind(0)[1].as_ptr(), long.as_ptr());
    assert_eq!(first.len(), first.frames().len());
    assert!(first.backing_bytes() >= first.len());
    let second = fifo.pop().unwrap();
    assert_eq!((sequences(&second), second.is_closed()), (vec![3], false));
    assert_eq!((first.len() + second.len(), fifo.bytes()), (bytes, 0));
    let before = first.frames().to_vec();
    first.own();
    assert_eq!((first.frames(), first.is_closed()), (before.into(), false));
}

#[test]
fn what_is_done_with_some_frames_keeps_the_bytes_of_all() {
    let mut pool = BufferPool::new(1 << 20);
    let long = Bytes::from(vec![9; SHARED_BYTES_MIN]);
    let batch = |pool: &mut BufferPool| {
        let mut fifo = BatchFifo::default();
        assert!(fifo.push(&frame(1, &[&[8; 10]]), 1 << 20, pool));
        assert!(fifo.push(&ending(2, &long), 1 << 20, pool));
        fifo.pop().unwrap()
    };
    let last = |batch: &Batch| {
        let frames = batch.frames();
        FrameIter::new(&frames).last().unwrap().unwrap().body.to_vec()
    };
    let whole = [&[1][..], &long].concat();
    let mut skipped = batch(&mut pool);
    skipped.skip_counted(1);
    assert_eq!((sequences(&skipped), last(&skipped)), (vec![2], whole.clone()));
    skipped.skip_counted(1);
    assert_eq!((skipped.len(), skipped.counted()), (0, 0));
    let mut extracted = batch(&mut pool);
    let mut takes = |frame: &FrameRef<'_>| frame.header.link_sequence.0 == 2;
    let taken = extracted.extract(&mut takes, &mut pool).unwrap();
    assert_eq!((sequences(&extracted), sequences(&taken)), (vec![1], vec![2]));
    assert_eq!(last(&taken), whole);
    let copy = batch(&mut pool).copy_counted(Vec::new());
    assert_eq!((sequences(&copy), last(&copy)), (vec![1, 2], whole));
}

#[test]
fn the_rest_of_a_batch_begins_behind_the_frames_that_are_skipped() {
    let (mut fifo, mut pool) = (BatchFifo::default(), BufferPool::new(1 << 20));
    for sequence in [1, 0, 2, 3] {
        assert!(fifo.push(&frame(sequence, &[&[7; 10]]), 1000, &mut pool));
    }
    let mut batch = fifo.pop().unwrap();
    assert_eq!((batch.count(), batch.counted(), batch.lowest()), (4, 3, 1));
    batch.skip_counted(2);
    assert_eq!((sequences(&batch), batch.count(), batch.len()), (vec![3], 1, 30));
    assert_eq!(batch.counted(), 1);
    assert_eq!(sequences(&batch.copy_counted(Vec::new())), [3]);
}
