use std::collections::VecDeque;

use hawser_wire::{
    BatchWriter, FrameFlags, FrameHeader, FrameIter, FrameKind, FrameRef, LinkSequence,
    StripeStamp, TrafficClass,
};

use crate::width::wide;

/// Encoded frames of one class that go to the neighbour as one message.
#[derive(Debug)]
pub struct Batch {
    bytes: Vec<u8>,
    /// Where the first frame stands that has not been acknowledged.
    start: usize,
    /// Frames behind `start`.
    count: u64,
    /// Those among them with a link sequence.
    counted: u64,
    /// Their bytes, headers included.
    counted_bytes: u64,
    /// No counted frame has a lower link sequence; `u64::MAX` if there is none.
    lowest: u64,
    class: TrafficClass,
    /// All frames are of this epoch of a stripe channel.
    stripe: Option<u32>,
    /// Link sequences, ascending, of frames that have gone another way: they are still counted where
    /// they were sent, and are not sent again.
    gone: Vec<u64>,
}

impl Batch {
    pub(crate) const fn new(bytes: Vec<u8>, class: TrafficClass) -> Self {
        Self {
            bytes,
            start: 0,
            count: 0,
            counted: 0,
            counted_bytes: 0,
            lowest: u64::MAX,
            class,
            stripe: None,
            gone: Vec::new(),
        }
    }

    /// An empty one for frames of this one.
    fn like(&self, buffer: Vec<u8>) -> Self {
        Self { stripe: self.stripe, ..Self::new(buffer, self.class) }
    }

    /// The epoch of a stripe channel that all of its frames are of.
    pub(crate) const fn stripe(&self) -> Option<u32> {
        self.stripe
    }

    /// The frames.
    #[must_use]
    pub fn frames(&self) -> &[u8] {
        self.bytes.get(self.start..).unwrap_or_default()
    }

    /// How many they are.
    pub(crate) const fn count(&self) -> u64 {
        self.count
    }

    /// How many of them have a link sequence.
    #[must_use]
    pub const fn counted(&self) -> u64 {
        self.counted
    }

    /// Bytes of those, headers included: what they take of a lane's credit.
    pub(crate) const fn counted_bytes(&self) -> u64 {
        self.counted_bytes
    }

    /// Their class.
    #[must_use]
    pub const fn class(&self) -> TrafficClass {
        self.class
    }

    pub(crate) const fn len(&self) -> usize {
        self.bytes.len().saturating_sub(self.start)
    }

    /// Memory that the batch holds.
    pub(crate) const fn backing_bytes(&self) -> usize {
        self.bytes.capacity()
    }

    /// Where its frames begin in its buffer.
    pub(crate) const fn start(&self) -> usize {
        self.start
    }

    pub(crate) const fn lowest(&self) -> u64 {
        self.lowest
    }

    pub(crate) fn into_buffer(self) -> Vec<u8> {
        self.bytes
    }

    /// Appends the frames of `other`, whose buffer comes back; the place where they begin.
    pub(crate) fn absorb(&mut self, other: Self) -> (usize, Vec<u8>) {
        let at = self.bytes.len();
        self.bytes.extend_from_slice(other.frames());
        self.count = self.count.saturating_add(other.count);
        self.counted = self.counted.saturating_add(other.counted);
        self.counted_bytes = self.counted_bytes.saturating_add(other.counted_bytes);
        self.lowest = self.lowest.min(other.lowest);
        self.gone.extend(other.gone);
        self.gone.sort_unstable();
        (at, other.bytes)
    }

    /// Room for `bytes` more without growing.
    pub(crate) const fn has_capacity(&self, bytes: usize) -> bool {
        self.bytes.capacity().saturating_sub(self.bytes.len()) >= bytes
    }

    pub(crate) fn tail(&self, at: usize) -> &[u8] {
        self.bytes.get(at..).unwrap_or_default()
    }

    /// Leaves out the first `frames` counted frames and what stands between them.
    pub(crate) fn skip_counted(&mut self, frames: u64) {
        let (mut left, mut skipped_bytes) = (frames, 0_usize);
        let (mut start, mut count) = (self.start, self.count);
        for frame in FrameIter::new(self.frames()) {
            if left == 0 {
                break;
            }
            let Ok(frame) = frame else { break };
            let len = frame.body.len().saturating_add(FrameHeader::LEN);
            start = start.saturating_add(len);
            count = count.saturating_sub(1);
            if frame.header.link_sequence.0 != 0 {
                left = left.saturating_sub(1);
                skipped_bytes = skipped_bytes.saturating_add(len);
            }
        }
        (self.start, self.count) = (start, count);
        self.counted = self.counted.saturating_sub(frames.saturating_sub(left));
        self.counted_bytes = self.counted_bytes.saturating_sub(wide(skipped_bytes));
    }

    /// Appends a frame as it stands in another batch.
    fn push(&mut self, frame: &FrameRef<'_>) {
        self.bytes.extend_from_slice(&frame.header.encode());
        self.bytes.extend_from_slice(&frame.body);
        self.count = self.count.saturating_add(1);
        let sequence = frame.header.link_sequence.0;
        if sequence != 0 {
            let len = frame.body.len().saturating_add(FrameHeader::LEN);
            self.counted = self.counted.saturating_add(1);
            self.counted_bytes = self.counted_bytes.saturating_add(wide(len));
            self.lowest = self.lowest.min(sequence);
        }
    }

    fn is_gone(&self, frame: &FrameRef<'_>) -> bool {
        self.gone.binary_search(&frame.header.link_sequence.0).is_ok()
    }

    /// A copy of the counted frames that have not gone another way, in `buffer`.
    pub(crate) fn copy_counted(&self, mut buffer: Vec<u8>) -> Self {
        buffer.clear();
        let mut copy = self.like(buffer);
        for frame in FrameIter::new(self.frames()).map_while(Result::ok) {
            if frame.header.link_sequence.0 != 0 && !self.is_gone(&frame) {
                copy.push(&frame);
            }
        }
        copy
    }

    /// Copies of the counted frames behind the first `skip` that `takes` wants and that have not gone
    /// another way: now they have.
    pub(crate) fn copy_gone(
        &mut self,
        skip: u64,
        takes: &mut impl FnMut(&FrameRef<'_>) -> bool,
        buffer: Vec<u8>,
    ) -> Self {
        let mut copy = self.like(buffer);
        let mut gone = std::mem::take(&mut self.gone);
        let frames = FrameIter::new(self.frames()).map_while(Result::ok);
        let counted = frames.filter(|frame| frame.header.link_sequence.0 != 0);
        for frame in counted.skip(usize::try_from(skip).unwrap_or(usize::MAX)) {
            let sequence = frame.header.link_sequence.0;
            let at = gone.binary_search(&sequence);
            if let Err(at) = at
                && takes(&frame)
            {
                gone.insert(at, sequence);
                copy.push(&frame);
            }
        }
        self.gone = gone;
        copy
    }

    /// The batch without the frames that have gone another way.
    pub(crate) fn without_gone(self, pool: &mut BufferPool) -> Self {
        if self.gone.is_empty() {
            return self;
        }
        let mut rest = self.like(pool.take());
        for frame in FrameIter::new(self.frames()).map_while(Result::ok) {
            if !self.is_gone(&frame) {
                rest.push(&frame);
            }
        }
        pool.give(self.bytes);
        rest
    }

    /// The batch with plain frames in place of striped ones.
    pub(crate) fn unstamped(self, pool: &mut BufferPool) -> Self {
        let mut plain = Self::new(pool.take(), self.class);
        let frames = FrameIter::new(self.frames()).map_while(Result::ok);
        for frame in frames.filter_map(|frame| frame.unstamped().ok()) {
            plain.push(&frame);
        }
        plain.gone = self.gone;
        pool.give(self.bytes);
        plain
    }

    /// Takes out the counted frames that `takes` wants; none, and nothing has changed, if it wants none.
    pub(crate) fn extract(
        &mut self,
        takes: &mut impl FnMut(&FrameRef<'_>) -> bool,
        pool: &mut BufferPool,
    ) -> Option<Self> {
        let mut wants = |frame: &FrameRef<'_>| frame.header.link_sequence.0 != 0 && takes(frame);
        let mut frames = FrameIter::new(self.frames()).map_while(Result::ok);
        if !frames.any(|frame| wants(&frame)) {
            return None;
        }
        let mut taken = self.like(pool.take());
        let mut rest = self.like(pool.take());
        for frame in FrameIter::new(self.frames()).map_while(Result::ok) {
            if wants(&frame) { taken.push(&frame) } else { rest.push(&frame) }
        }
        rest.gone = std::mem::take(&mut self.gone);
        pool.give(std::mem::replace(self, rest).bytes);
        Some(taken)
    }
}

/// As [`Batch::extract`] for each of `batches`, which keep their order; those with nothing left go.
pub(crate) fn extract_from(
    batches: &mut VecDeque<Batch>,
    takes: &mut impl FnMut(&FrameRef<'_>) -> bool,
    pool: &mut BufferPool,
    out: &mut Vec<Batch>,
) {
    for mut batch in std::mem::take(batches) {
        out.extend(batch.extract(takes, pool));
        if batch.len() > 0 {
            batches.push_back(batch);
        } else {
            pool.give(batch.into_buffer());
        }
    }
}

/// Buffers to be filled again: as many as were of use since the last trim.
#[derive(Debug, Default)]
pub(crate) struct BufferPool {
    spare: Vec<Vec<u8>>,
    /// Fewest that were left since the last trim.
    idle: usize,
    /// A buffer with more room is not kept.
    keep_bytes: usize,
}

/// Most that are kept.
const SPARE_MAX: usize = 256;

impl BufferPool {
    pub(crate) fn new(keep_bytes: usize) -> Self {
        Self { spare: Vec::new(), idle: 0, keep_bytes }
    }

    pub(crate) fn take(&mut self) -> Vec<u8> {
        let mut buffer = self.spare.pop().unwrap_or_default();
        self.idle = self.idle.min(self.spare.len());
        buffer.clear();
        buffer
    }

    pub(crate) fn give(&mut self, buffer: Vec<u8>) {
        if self.spare.len() < SPARE_MAX && buffer.capacity() <= self.keep_bytes {
            self.spare.push(buffer);
        }
    }

    /// Frees what was of no use since the last call.
    pub(crate) fn trim(&mut self) {
        let keep = self.spare.len().saturating_sub(self.idle);
        self.spare.truncate(keep);
        self.idle = self.spare.len();
    }
}

/// A frame to be appended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NewFrame<'a> {
    pub(crate) kind: FrameKind,
    pub(crate) class: TrafficClass,
    pub(crate) flags: FrameFlags,
    /// 0 for one that is not counted.
    pub(crate) sequence: u64,
    /// In front of the parts.
    pub(crate) stamp: Option<StripeStamp>,
    pub(crate) parts: &'a [&'a [u8]],
    /// With its header and its stamp.
    pub(crate) len: usize,
}

/// Batches that wait, in order; the last one is open.
#[derive(Debug, Default)]
pub(crate) struct BatchFifo {
    batches: VecDeque<Batch>,
    bytes: usize,
}

impl BatchFifo {
    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// Appends a frame, to the open batch if that stays within `batch_bytes` and is of the same stripe
    /// channel or of none, too. False, and nothing taken, if its body is above the protocol's bound.
    pub(crate) fn push(
        &mut self,
        frame: &NewFrame<'_>,
        batch_bytes: usize,
        pool: &mut BufferPool,
    ) -> bool {
        let NewFrame { kind, class, flags, sequence, stamp, parts, len } = *frame;
        let stripe = stamp.map(|stamp| stamp.epoch);
        let fits = |batch: &Batch| {
            batch.stripe == stripe && batch.bytes.len().saturating_add(len) <= batch_bytes
        };
        if !self.batches.back().is_some_and(fits) {
            self.batches.push_back(Batch { stripe, ..Batch::new(pool.take(), class) });
        }
        let Some(batch) = self.batches.back_mut() else { return false };
        let (sequence_field, stamp) = (LinkSequence(sequence), stamp.map(|stamp| stamp.encode()));
        let prefix = stamp.as_ref().map_or(&[][..], |stamp| stamp.as_slice());
        let written = BatchWriter::new(&mut batch.bytes).prefixed_frame(
            kind,
            class,
            flags,
            sequence_field,
            prefix,
            parts,
        );
        if written.is_err() {
            if batch.bytes.is_empty() {
                self.batches.pop_back();
            }
            return false;
        }
        batch.count = batch.count.saturating_add(1);
        if sequence != 0 {
            batch.counted = batch.counted.saturating_add(1);
            batch.counted_bytes = batch.counted_bytes.saturating_add(wide(len));
            batch.lowest = batch.lowest.min(sequence);
        }
        self.bytes = self.bytes.saturating_add(len);
        true
    }

    /// Takes the batches of `other`, behind those that are here.
    pub(crate) fn append(&mut self, mut other: Self) {
        self.batches.append(&mut other.batches);
        self.bytes = self.bytes.saturating_add(other.bytes);
    }

    /// Takes out the counted frames that `takes` wants.
    pub(crate) fn extract(
        &mut self,
        takes: &mut impl FnMut(&FrameRef<'_>) -> bool,
        pool: &mut BufferPool,
        out: &mut Vec<Batch>,
    ) {
        extract_from(&mut self.batches, takes, pool, out);
        self.bytes = self.batches.iter().fold(0, |sum, batch| sum.saturating_add(batch.len()));
    }

    pub(crate) fn front(&self) -> Option<&Batch> {
        self.batches.front()
    }

    pub(crate) fn pop(&mut self) -> Option<Batch> {
        let batch = self.batches.pop_front()?;
        self.bytes = self.bytes.saturating_sub(batch.len());
        Some(batch)
    }

    /// No counted frame that waits has a lower link sequence.
    pub(crate) fn lowest(&self) -> u64 {
        self.batches.iter().map(Batch::lowest).min().unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "a test may panic")]
pub(crate) mod tests {
    use super::*;

    /// A frame with this body.
    pub(crate) fn frame<'a>(sequence: u64, parts: &'a [&'a [u8]]) -> NewFrame<'a> {
        let len = parts.iter().map(|part| part.len()).sum::<usize>() + FrameHeader::LEN;
        let (kind, class) = (FrameKind::Record, TrafficClass::Bulk);
        let flags = FrameFlags::default();
        NewFrame { kind, class, flags, sequence, stamp: None, parts, len }
    }

    fn sequences(batch: &Batch) -> Vec<u64> {
        FrameIter::new(batch.frames()).map(|frame| frame.unwrap().header.link_sequence.0).collect()
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

    #[test]
    fn buffers_that_were_of_no_use_are_freed() {
        let mut pool = BufferPool::new(1000);
        for _ in 0..4 {
            pool.give(Vec::with_capacity(100));
        }
        pool.give(Vec::with_capacity(2000));
        pool.trim();
        assert_eq!(pool.spare.len(), 4, "too large a one is not kept");
        let one = pool.take();
        pool.give(one);
        pool.trim();
        assert_eq!(pool.spare.len(), 1);
    }
}
