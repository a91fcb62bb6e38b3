use std::collections::VecDeque;

use hawser_wire::{FrameRef, MonoTime, TrafficClass};

use crate::batch::Batch;
use crate::buffer_pool::BufferPool;
use crate::delivery_rate::SendSnapshot;
use crate::width::wide;

/// A batch that was sent and is not acknowledged whole.
#[derive(Debug)]
struct SentBatch {
    /// Empty for a piece that is not the last of its batch.
    batch: Batch,
    /// What of it is in flight.
    bytes: u64,
    /// Of that, control of others.
    foreign_control_bytes: u64,
    /// It was sent in pieces: each counts once, whatever the batch holds.
    split: bool,
    /// Counted frames sent over the connection up to the end of this batch.
    end: u64,
    sent_at: MonoTime,
    snapshot: SendSnapshot,
    /// Of this connection, when it was sent.
    acked_bytes_before: u64,
    /// A copy is in the window of another lane, which answers for it.
    hedged: bool,
}

/// What an acknowledgement released.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Released {
    pub(crate) bytes: u64,
    /// Of the newest batch among them.
    pub(crate) newest: Option<(MonoTime, SendSnapshot)>,
    /// Acknowledged over the connection since that was sent.
    pub(crate) bytes_since: u64,
}

/// The batches of one connection that the peer has not acknowledged, oldest first.
///
/// **Invariant:** `acked <= sent`; the counted frames of the batches are the last ones before `sent`.
#[derive(Debug, Default)]
pub(crate) struct UnackedWindow {
    batches: VecDeque<SentBatch>,
    /// Counted frames, in all.
    sent: u64,
    acked: u64,
    acked_bytes: u64,
    /// The highest link sequence that was acknowledged since it was taken, of batches that were whole.
    acked_sequence: u64,
    backing_bytes: usize,
    /// In flight, by class.
    class_bytes: [u64; 3],
    /// Likewise, of control that others send.
    foreign_control_bytes: u64,
    /// Batches by class that no other lane answers for.
    owed: [u32; 3],
    /// Of striped batches that were acknowledged: the epoch of their channel, and their lowest link
    /// sequence. To be drained after each acknowledgement.
    striped: Vec<(u32, u64)>,
}

const fn index(class: TrafficClass) -> usize {
    match class {
        TrafficClass::Control => 0,
        TrafficClass::Priority => 1,
        TrafficClass::Bulk => 2,
    }
}

impl UnackedWindow {
    pub(crate) const fn sent(&self) -> u64 {
        self.sent
    }

    pub(crate) const fn acked(&self) -> u64 {
        self.acked
    }

    /// Of batches that were acknowledged whole.
    pub(crate) const fn acked_bytes(&self) -> u64 {
        self.acked_bytes
    }

    /// The highest link sequence that was acknowledged since the last call, or 0: of batches that were
    /// whole, and at the end of the connection of the last one, too.
    pub(crate) const fn take_acked_sequence(&mut self) -> u64 {
        std::mem::replace(&mut self.acked_sequence, 0)
    }

    /// No counted frame is in flight.
    pub(crate) fn is_settled(&self) -> bool {
        self.batches.back().is_none_or(|last| last.end <= self.acked)
    }

    /// Memory held, by backing buffers.
    pub(crate) const fn backing_bytes(&self) -> usize {
        self.backing_bytes
    }

    /// Frame bytes of `class` in flight.
    pub(crate) fn bytes_of(&self, class: TrafficClass) -> u64 {
        self.class_bytes.get(index(class)).copied().unwrap_or(0)
    }

    /// Frame bytes of others' control in flight.
    pub(crate) const fn foreign_control_bytes(&self) -> u64 {
        self.foreign_control_bytes
    }

    /// Frame bytes of bulk in flight.
    pub(crate) fn bulk_bytes(&self) -> u64 {
        self.bytes_of(TrafficClass::Bulk)
    }

    fn bytes_mut(&mut self, class: TrafficClass) -> Option<&mut u64> {
        self.class_bytes.get_mut(index(class))
    }

    /// Frames of `class` are in flight that no other lane answers for.
    pub(crate) fn owes(&self, class: TrafficClass) -> bool {
        self.owed.get(index(class)).is_some_and(|&batches| batches > 0)
    }

    /// What this window answers for.
    pub(crate) fn owned(&self) -> impl Iterator<Item = &Batch> {
        self.batches.iter().filter(|sent| !sent.hedged).map(|sent| &sent.batch)
    }

    /// No counted frame that this window answers for has a lower link sequence.
    pub(crate) fn lowest(&self) -> u64 {
        self.owned().map(Batch::lowest).min().unwrap_or(u64::MAX)
    }

    /// Takes a batch that is being sent; its frames are [`Self::tail`] from the place returned on.
    ///
    /// A small one is copied behind the last, so that it does not hold a whole buffer of its own; but
    /// not if it is striped, as its channel has to know of each by itself.
    pub(crate) fn push(
        &mut self,
        batch: Batch,
        now: MonoTime,
        snapshot: SendSnapshot,
        merge_bytes: usize,
        pool: &mut BufferPool,
    ) -> usize {
        self.release_uncounted(pool);
        self.sent = self.sent.saturating_add(batch.counted());
        let bytes = wide(batch.len());
        let foreign_control_bytes = if batch.is_foreign_control() { bytes } else { 0 };
        self.foreign_control_bytes =
            self.foreign_control_bytes.saturating_add(foreign_control_bytes);
        if let Some(in_flight) = self.bytes_mut(batch.class()) {
            *in_flight = in_flight.saturating_add(bytes);
        }
        if let Some(last) = self.batches.back_mut()
            && !last.hedged
            && !last.split
            && last.batch.class() == batch.class()
            && last.batch.stripe().is_none()
            && batch.stripe().is_none()
            && !last.batch.is_closed()
            && !batch.is_closed()
            && last.batch.len().saturating_add(batch.len()) <= merge_bytes
            && last.batch.has_capacity(batch.len())
        {
            let (at, buffer) = last.batch.absorb(batch);
            last.end = self.sent;
            last.bytes = last.bytes.saturating_add(bytes);
            last.foreign_control_bytes =
                last.foreign_control_bytes.saturating_add(foreign_control_bytes);
            pool.give(buffer);
            return at;
        }
        let start = batch.start();
        self.add(SentBatch {
            batch,
            bytes,
            foreign_control_bytes,
            split: false,
            end: self.sent,
            sent_at: now,
            snapshot,
            acked_bytes_before: self.acked_bytes,
            hedged: false,
        });
        start
    }

    /// Notes a piece of a batch of `class` that is being sent, of `bytes` on the wire; with the last
    /// one, the batch.
    pub(crate) fn push_piece(
        &mut self,
        class: TrafficClass,
        batch: Option<Batch>,
        bytes: u64,
        now: MonoTime,
        snapshot: SendSnapshot,
    ) {
        self.sent = self.sent.saturating_add(1);
        if let Some(in_flight) = self.bytes_mut(class) {
            *in_flight = in_flight.saturating_add(bytes);
        }
        self.add(SentBatch {
            batch: batch.unwrap_or_else(|| Batch::new(Vec::new(), class)),
            bytes,
            foreign_control_bytes: 0,
            split: true,
            end: self.sent,
            sent_at: now,
            snapshot,
            acked_bytes_before: self.acked_bytes,
            hedged: false,
        });
    }

    fn add(&mut self, sent: SentBatch) {
        self.backing_bytes = self.backing_bytes.saturating_add(sent.batch.backing_bytes());
        if let Some(owed) = self.owed.get_mut(index(sent.batch.class())) {
            *owed = owed.saturating_add(1);
        }
        self.batches.push_back(sent);
    }

    /// The bytes of the last batch from `at` on, in two parts.
    pub(crate) fn tail(&self, at: usize) -> [&[u8]; 2] {
        self.batches.back().map(|sent| sent.batch.behind(at)).unwrap_or_default()
    }

    fn pop_front(&mut self) -> Option<SentBatch> {
        let sent = self.batches.pop_front()?;
        self.backing_bytes = self.backing_bytes.saturating_sub(sent.batch.backing_bytes());
        if let Some(in_flight) = self.bytes_mut(sent.batch.class()) {
            *in_flight = in_flight.saturating_sub(sent.bytes);
        }
        self.foreign_control_bytes =
            self.foreign_control_bytes.saturating_sub(sent.foreign_control_bytes);
        if !sent.hedged
            && let Some(owed) = self.owed.get_mut(index(sent.batch.class()))
        {
            *owed = owed.saturating_sub(1);
        }
        Some(sent)
    }

    /// Lets go of batches with nothing that is counted, if nothing before them is open: no acknowledgement
    /// need ever come for them.
    fn release_uncounted(&mut self, pool: &mut BufferPool) {
        while self.batches.front().is_some_and(|sent| sent.end <= self.acked) {
            let Some(sent) = self.pop_front() else { break };
            pool.give(sent.batch.into_buffer());
        }
    }

    /// The peer has `count` frames, which the caller has checked against [`Self::acked`] and
    /// [`Self::sent`].
    pub(crate) fn acknowledge(&mut self, count: u64, pool: &mut BufferPool) -> Released {
        let mut released = Released::default();
        self.acked = self.acked.max(count);
        while self.batches.front().is_some_and(|sent| sent.end <= count) {
            let Some(sent) = self.pop_front() else { break };
            // What is not counted has not come for that: it may be on its way still.
            if sent.split || sent.batch.counted() > 0 {
                released.bytes = released.bytes.saturating_add(sent.bytes);
                released.newest = Some((sent.sent_at, sent.snapshot));
                let acked_bytes = self.acked_bytes.saturating_add(released.bytes);
                released.bytes_since = acked_bytes.saturating_sub(sent.acked_bytes_before);
            }
            self.acked_sequence = self.acked_sequence.max(sent.batch.highest());
            if let Some(epoch) = sent.batch.stripe().filter(|_| !sent.hedged) {
                self.striped.push((epoch, sent.batch.lowest()));
            }
            if sent.batch.backing_bytes() > 0 {
                pool.give(sent.batch.into_buffer());
            }
        }
        self.acked_bytes = self.acked_bytes.saturating_add(released.bytes);
        released
    }

    /// Striped batches that were acknowledged since the last call, but for those that another lane
    /// answers for.
    pub(crate) fn drain_striped(&mut self) -> impl Iterator<Item = (u32, u64)> + '_ {
        self.striped.drain(..)
    }

    /// Copies of the oldest batches without one, up to `max_bytes`, for another lane.
    pub(crate) fn hedge(&mut self, max_bytes: usize, pool: &mut BufferPool) -> Vec<Batch> {
        let mut copies: Vec<Batch> = Vec::new();
        let mut left = max_bytes;
        for sent in self.batches.iter_mut().filter(|sent| !sent.hedged) {
            let Some(after) = left.checked_sub(sent.batch.len()) else { break };
            left = after;
            sent.hedged = true;
            if let Some(owed) = self.owed.get_mut(index(sent.batch.class())) {
                *owed = owed.saturating_sub(1);
            }
            if sent.batch.len() > 0 {
                copies.push(sent.batch.copy_counted(pool.take()));
            }
        }
        copies
    }

    /// Copies of the frames that are not acknowledged and that `takes` wants, in order: they go another
    /// way, and are not sent again once the connection is gone.
    pub(crate) fn evacuate(
        &mut self,
        takes: &mut impl FnMut(&FrameRef<'_>) -> bool,
        pool: &mut BufferPool,
        out: &mut Vec<Batch>,
    ) {
        let acked = self.acked;
        for sent in self.batches.iter_mut().filter(|sent| !sent.hedged && sent.batch.len() > 0) {
            let begin = sent.end.saturating_sub(sent.batch.counted());
            let skip = if sent.split { 0 } else { acked.saturating_sub(begin) };
            let copy = sent.batch.copy_gone(skip, takes, pool.take());
            if copy.counted() > 0 {
                out.push(copy);
            } else {
                pool.give(copy.into_buffer());
            }
        }
    }

    /// The connection is gone and the peer had `count` frames of it: what it has not, and what no
    /// other lane answers for, in order.
    pub(crate) fn take_rest(&mut self, count: u64, pool: &mut BufferPool) -> Vec<Batch> {
        let _released = self.acknowledge(count, pool);
        let mut rest = Vec::new();
        while let Some(sent) = self.pop_front() {
            let SentBatch { mut batch, split, end, hedged, .. } = sent;
            if split && batch.len() == 0 {
                continue;
            }
            if hedged {
                pool.give(batch.into_buffer());
                continue;
            }
            if !split {
                let begin = end.saturating_sub(batch.counted());
                let skipped = batch.skip_counted(count.saturating_sub(begin));
                self.acked_sequence = self.acked_sequence.max(skipped);
            }
            let batch = batch.without_gone(pool);
            if batch.len() > 0 {
                rest.push(batch);
            }
        }
        rest
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::batch::BatchFifo;
    use crate::batch::tests::{ending, frame};

    const NOW: MonoTime = MonoTime::ZERO;

    fn batch(sequences: &[u64], body: usize, pool: &mut BufferPool) -> Batch {
        let mut fifo = BatchFifo::default();
        for &sequence in sequences {
            assert!(fifo.push(&frame(sequence, &[&vec![0; body]]), 1 << 20, pool));
        }
        fifo.pop().unwrap()
    }

    fn sequences(batches: &[Batch]) -> Vec<u64> {
        batches.iter().flat_map(crate::batch::tests::sequences).filter(|&s| s != 0).collect()
    }

    fn sent(batches: &[&[u64]], merge: usize) -> (UnackedWindow, BufferPool) {
        let (mut window, mut pool) = (UnackedWindow::default(), BufferPool::new(1 << 20));
        for sequences in batches {
            let batch = batch(sequences, 30, &mut pool);
            let bytes = batch.frames().to_vec();
            let at = window.push(batch, NOW, SendSnapshot::default(), merge, &mut pool);
            assert_eq!(window.tail(at).concat(), bytes, "what is sent is what was taken");
        }
        (window, pool)
    }

    #[test]
    fn batches_are_released_when_their_last_frame_is_acknowledged() {
        let (mut window, mut pool) = sent(&[&[1, 2], &[3, 0], &[4, 5, 6]], 0);
        assert_eq!((window.sent(), window.bulk_bytes()), (6, 350));
        assert_eq!(window.acknowledge(1, &mut pool).bytes, 0);
        assert_eq!(window.acknowledge(3, &mut pool).bytes, 200);
        assert_eq!((window.bulk_bytes(), window.lowest(), window.acked()), (150, 4, 3));
        assert_eq!(window.acknowledge(6, &mut pool).bytes, 150);
        assert!(window.batches.is_empty() && !window.owes(TrafficClass::Bulk));
        assert_eq!((window.backing_bytes(), window.bulk_bytes()), (0, 0));
    }

    #[test]
    fn exactly_the_rest_is_left_whatever_the_count() {
        for merge in [0, 10_000] {
            for count in 0..=6 {
                let (mut window, mut pool) = sent(&[&[1, 2], &[0, 3], &[4, 5, 6]], merge);
                let rest = window.take_rest(count, &mut pool);
                assert_eq!(sequences(&rest), (count + 1..=6).collect::<Vec<_>>(), "{merge}");
                let counted: u64 = rest.iter().map(Batch::counted).sum();
                assert_eq!(counted, 6 - count);
            }
        }
    }

    #[test]
    fn what_is_not_counted_is_let_go_of_without_an_acknowledgement() {
        let (mut window, mut pool) = sent(&[&[1], &[0], &[0]], 0);
        assert_eq!(window.bulk_bytes(), 150, "behind one that is counted they stay");
        assert_eq!(window.acknowledge(1, &mut pool).bytes, 50, "of nothing else it is known");
        for _ in 0..100 {
            let batch = batch(&[0], 30, &mut pool);
            window.push(batch, NOW, SendSnapshot::default(), 0, &mut pool);
        }
        assert_eq!(window.bulk_bytes(), 50);
        assert!(window.is_settled() && window.backing_bytes() < 40_000);
    }

    #[test]
    fn control_of_others_is_counted_apart_from_own_in_the_same_buffer() {
        let (mut window, mut pool) = (UnackedWindow::default(), BufferPool::new(1 << 20));
        for sequence in 1..=3 {
            let mut batch = Batch::new(Vec::with_capacity(10_000), TrafficClass::Control);
            batch.absorb(self::batch(&[sequence], 30, &mut pool));
            if sequence == 2 {
                batch.mark_foreign_control();
            }
            window.push(batch, NOW, SendSnapshot::default(), 2000, &mut pool);
        }
        assert_eq!((window.batches.len(), window.bytes_of(TrafficClass::Control)), (1, 150));
        assert_eq!(window.foreign_control_bytes(), 50);
        window.acknowledge(3, &mut pool);
        assert_eq!(window.foreign_control_bytes(), 0);
    }

    #[test]
    fn a_hedged_batch_is_copied_once_and_not_sent_a_third_time() {
        let (mut window, mut pool) = sent(&[&[1, 2], &[3], &[4]], 0);
        assert_eq!(sequences(&window.hedge(150, &mut pool)), [1, 2, 3]);
        assert_eq!((window.lowest(), window.owes(TrafficClass::Bulk)), (4, true));
        assert_eq!(sequences(&window.take_rest(1, &mut pool)), [4]);
        assert!(window.batches.is_empty());
    }

    #[test]
    fn nothing_is_put_into_a_batch_that_ends_with_what_it_shares_nor_that_into_another() {
        let (mut window, mut pool) = (UnackedWindow::default(), BufferPool::new(1 << 20));
        let mut plain = Batch::new(Vec::with_capacity(1 << 20), TrafficClass::Bulk);
        plain.absorb(batch(&[1], 30, &mut pool));
        let end = Bytes::from(vec![7; 1 << 16]);
        let mut fifo = BatchFifo::default();
        assert!(fifo.push(&ending(2, &end), 1 << 20, &mut pool));
        let batches = [plain, fifo.pop().unwrap(), batch(&[3], 30, &mut pool)];
        for batch in batches {
            let bytes = batch.frames().to_vec();
            let at = window.push(batch, NOW, SendSnapshot::default(), usize::MAX, &mut pool);
            assert_eq!(window.tail(at).concat(), bytes);
        }
        assert_eq!(sequences(&window.take_rest(0, &mut pool)), [1, 2, 3]);
    }

    #[test]
    fn small_batches_share_a_buffer() {
        let (mut window, mut pool) = (UnackedWindow::default(), BufferPool::new(1 << 20));
        for sequence in 1..=100 {
            let mut batch = Batch::new(Vec::with_capacity(10_000), TrafficClass::Bulk);
            batch.absorb(self::batch(&[sequence], 30, &mut pool));
            window.push(batch, NOW, SendSnapshot::default(), 2000, &mut pool);
        }
        assert_eq!((window.backing_bytes(), window.sent()), (30_000, 100));
        assert_eq!(window.acknowledge(40, &mut pool).bytes, 2000);
    }
}
