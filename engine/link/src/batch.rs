use std::borrow::Cow;
use std::collections::VecDeque;

use bytes::Bytes;
use hawser_wire::{
    BatchWriter, FrameFlags, FrameHeader, FrameIter, FrameKind, FrameRef, LinkSequence,
    StripeStamp, TrafficClass,
};

use crate::buffer_pool::{BufferPool, SHORT_BYTES_MAX};
use crate::frame_parts::FrameParts;
use crate::width::wide;

/// Encoded frames of one class that go to the neighbour as one message.
#[derive(Debug)]
pub struct Batch {
    bytes: Vec<u8>,
    /// The end of the last frame, behind `bytes`, where whoever gave it holds it, too.
    shared: Bytes,
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
    /// No counted frame has a higher one; 0 if there is none.
    highest: u64,
    class: TrafficClass,
    /// Some of it is control that others send over this link.
    is_foreign_control: bool,
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
            shared: Bytes::new(),
            start: 0,
            count: 0,
            counted: 0,
            counted_bytes: 0,
            lowest: u64::MAX,
            highest: 0,
            class,
            is_foreign_control: false,
            stripe: None,
            gone: Vec::new(),
        }
    }

    /// An empty one for frames of this one.
    fn like(&self, buffer: Vec<u8>) -> Self {
        let Self { is_foreign_control, stripe, .. } = *self;
        Self { is_foreign_control, stripe, ..Self::new(buffer, self.class) }
    }

    /// What may be in flight of it is bounded for that.
    pub(crate) const fn mark_foreign_control(&mut self) {
        self.is_foreign_control = true;
    }

    pub(crate) const fn is_foreign_control(&self) -> bool {
        self.is_foreign_control
    }

    /// The epoch of a stripe channel that all of its frames are of.
    pub(crate) const fn stripe(&self) -> Option<u32> {
        self.stripe
    }

    /// The frames; a copy of them, if the end of the last one is shared.
    #[must_use]
    pub fn frames(&self) -> Cow<'_, [u8]> {
        let [own, shared] = self.behind(self.start);
        if shared.is_empty() { Cow::Borrowed(own) } else { Cow::Owned([own, shared].concat()) }
    }

    /// The frames from a place in the buffer on, in two parts.
    pub(crate) fn behind(&self, at: usize) -> [&[u8]; 2] {
        [self.bytes.get(at..).unwrap_or_default(), &self.shared]
    }

    /// No frame can be appended.
    pub(crate) fn is_closed(&self) -> bool {
        !self.shared.is_empty()
    }

    /// Copies what is shared, so that the frames lie in the buffer.
    pub(crate) fn own(&mut self) {
        self.bytes.extend_from_slice(&std::mem::take(&mut self.shared));
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

    /// Something in it has to arrive, whichever way: not only the beginning of a channel.
    pub(crate) fn brings_records(&self) -> bool {
        let beginning = FrameHeader::LEN.saturating_add(StripeStamp::LEN);
        self.counted > 0 && (self.stripe.is_none() || self.len() > beginning)
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
        self.bytes.len().saturating_sub(self.start).saturating_add(self.shared.len())
    }

    /// Memory that the batch holds.
    pub(crate) const fn backing_bytes(&self) -> usize {
        self.bytes.capacity().saturating_add(self.shared.len())
    }

    /// Where its frames begin in its buffer.
    pub(crate) const fn start(&self) -> usize {
        self.start
    }

    pub(crate) const fn lowest(&self) -> u64 {
        self.lowest
    }

    pub(crate) const fn highest(&self) -> u64 {
        self.highest
    }

    pub(crate) fn into_buffer(self) -> Vec<u8> {
        self.bytes
    }

    /// Appends the frames of `other`, whose buffer comes back; the place where they begin. Both are in
    /// their buffers whole.
    pub(crate) fn absorb(&mut self, other: Self) -> (usize, Vec<u8>) {
        let at = self.bytes.len();
        self.bytes.extend_from_slice(&other.frames());
        self.count = self.count.saturating_add(other.count);
        self.counted = self.counted.saturating_add(other.counted);
        self.counted_bytes = self.counted_bytes.saturating_add(other.counted_bytes);
        self.lowest = self.lowest.min(other.lowest);
        self.highest = self.highest.max(other.highest);
        self.is_foreign_control |= other.is_foreign_control;
        self.gone.extend(other.gone);
        self.gone.sort_unstable();
        (at, other.bytes)
    }

    /// Room for `bytes` more without growing.
    pub(crate) const fn has_capacity(&self, bytes: usize) -> bool {
        self.bytes.capacity().saturating_sub(self.bytes.len()) >= bytes
    }

    /// Leaves out the first `frames` counted frames and what stands between them; the highest link
    /// sequence among those, or 0.
    pub(crate) fn skip_counted(&mut self, frames: u64) -> u64 {
        self.own();
        let (mut left, mut skipped_bytes, mut highest) = (frames, 0_usize, 0);
        let (mut start, mut count) = (self.start, self.count);
        for frame in FrameIter::new(&self.frames()) {
            if left == 0 {
                break;
            }
            let Ok(frame) = frame else { break };
            let len = frame.body.len().saturating_add(FrameHeader::LEN);
            start = start.saturating_add(len);
            count = count.saturating_sub(1);
            if frame.header.link_sequence.0 != 0 {
                left = left.saturating_sub(1);
                highest = frame.header.link_sequence.0.max(highest);
                skipped_bytes = skipped_bytes.saturating_add(len);
            }
        }
        (self.start, self.count) = (start, count);
        self.counted = self.counted.saturating_sub(frames.saturating_sub(left));
        self.counted_bytes = self.counted_bytes.saturating_sub(wide(skipped_bytes));
        highest
    }

    /// Appends a body behind its header: its end by reference, if copying it costs more.
    fn put_body(&mut self, stamp: Option<StripeStamp>, body: &FrameParts<'_>) {
        let stamp = stamp.map(|stamp| stamp.encode());
        let prefix = stamp.as_ref().map_or(&[][..], |stamp| stamp.as_slice());
        let shared = body.end.filter(|_| body.shares_end());
        let copied = body.end.filter(|_| shared.is_none()).map_or(&[][..], |end| end);
        let len = prefix.len().saturating_add(body.len());
        self.bytes.reserve(len.saturating_sub(shared.map_or(0, Bytes::len)));
        self.bytes.extend_from_slice(prefix);
        for part in body.parts {
            self.bytes.extend_from_slice(part);
        }
        self.bytes.extend_from_slice(copied);
        self.shared = shared.cloned().unwrap_or_default();
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
            self.highest = self.highest.max(sequence);
        }
    }

    fn is_gone(&self, frame: &FrameRef<'_>) -> bool {
        self.gone.binary_search(&frame.header.link_sequence.0).is_ok()
    }

    /// A copy of the counted frames that have not gone another way, in `buffer`.
    pub(crate) fn copy_counted(&self, mut buffer: Vec<u8>) -> Self {
        buffer.clear();
        let mut copy = self.like(buffer);
        for frame in FrameIter::new(&self.frames()).map_while(Result::ok) {
            if frame.header.link_sequence.0 != 0 && !self.is_gone(&frame) {
                copy.push(&frame);
            }
        }
        // Also if that frame has been acknowledged: a stripe channel knows the batch by it.
        copy.lowest = self.lowest;
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
        let frames = self.frames();
        let frames = FrameIter::new(&frames).map_while(Result::ok);
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
        for frame in FrameIter::new(&self.frames()).map_while(Result::ok) {
            if !self.is_gone(&frame) {
                rest.push(&frame);
            }
        }
        pool.give(self.bytes);
        rest
    }

    /// The batch with plain frames in place of striped ones. What only begins a channel, without a
    /// record, is no frame without its stamp.
    pub(crate) fn unstamped(self, pool: &mut BufferPool) -> Self {
        let mut plain = Self::new(pool.take(), self.class);
        let frames = self.frames();
        let frames = FrameIter::new(&frames).map_while(Result::ok);
        let unstamped = frames.filter_map(|frame| frame.unstamped().ok());
        for frame in unstamped.filter(|frame| !frame.body.is_empty()) {
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
        let frames = self.frames();
        if !FrameIter::new(&frames).map_while(Result::ok).any(|frame| wants(&frame)) {
            return None;
        }
        let mut taken = self.like(pool.take());
        let mut rest = self.like(pool.take());
        for frame in FrameIter::new(&frames).map_while(Result::ok) {
            if wants(&frame) { taken.push(&frame) } else { rest.push(&frame) }
        }
        drop(frames);
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
    pub(crate) body: FrameParts<'a>,
    /// With its header and its stamp.
    pub(crate) len: usize,
}

/// Batches that a queue in which none waits keeps room for.
const BATCHES_KEPT: usize = 16;

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

    /// An empty queue of which there may be many is to have this frame: a short one is not worth a buffer
    /// that was made for more.
    pub(crate) fn open(&mut self, frame: &NewFrame<'_>, batch_bytes: usize, pool: &mut BufferPool) {
        if self.batches.is_empty() && frame.len <= batch_bytes.min(SHORT_BYTES_MAX) {
            let stripe = frame.stamp.map(|stamp| stamp.epoch);
            let buffer = pool.take_short_whole();
            self.batches.push_back(Batch { stripe, ..Batch::new(buffer, frame.class) });
        }
    }

    /// Appends a frame, to the open batch if that stays within `batch_bytes` and is of the same stripe
    /// channel or of none, too. False, and nothing taken, if its body is above the protocol's bound.
    pub(crate) fn push(
        &mut self,
        frame: &NewFrame<'_>,
        batch_bytes: usize,
        pool: &mut BufferPool,
    ) -> bool {
        let NewFrame { kind, class, flags, sequence, stamp, body, len } = *frame;
        let stripe = stamp.map(|stamp| stamp.epoch);
        let fits = |batch: &Batch| {
            !batch.is_closed()
                && batch.stripe == stripe
                && batch.bytes.len().saturating_add(len) <= batch_bytes
        };
        if !self.batches.back().is_some_and(fits) {
            // Headers alone are not worth a buffer that was made for more: it would count as held.
            let buffer = if body.shares_end() { pool.take_short() } else { pool.take() };
            self.batches.push_back(Batch { stripe, ..Batch::new(buffer, class) });
        }
        let Some(batch) = self.batches.back_mut() else { return false };
        if !body.shares_end() {
            pool.make_room(&mut batch.bytes, len);
        }
        let body_bytes = len.saturating_sub(FrameHeader::LEN);
        let sequence_field = LinkSequence(sequence);
        let mut writer = BatchWriter::new(&mut batch.bytes);
        if writer.frame_header(kind, class, flags, sequence_field, body_bytes).is_err() {
            if batch.bytes.is_empty() {
                self.batches.pop_back();
            }
            return false;
        }
        batch.put_body(stamp, &body);
        batch.count = batch.count.saturating_add(1);
        if sequence != 0 {
            batch.counted = batch.counted.saturating_add(1);
            batch.counted_bytes = batch.counted_bytes.saturating_add(wide(len));
            batch.lowest = batch.lowest.min(sequence);
            batch.highest = batch.highest.max(sequence);
        }
        self.bytes = self.bytes.saturating_add(len);
        true
    }

    /// Takes the batches of `other`, behind those that are here.
    pub(crate) fn append(&mut self, mut other: Self) {
        self.batches.append(&mut other.batches);
        self.bytes = self.bytes.saturating_add(other.bytes);
    }

    /// An empty one keeps room for some batches only.
    pub(crate) fn trim(&mut self) {
        if self.batches.is_empty() && self.batches.capacity() > BATCHES_KEPT {
            self.batches = VecDeque::new();
        }
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
pub(crate) mod tests;
