use std::collections::VecDeque;

use hawser_wire::{BatchWriter, FrameHeader, FrameKind, LinkSequence, TrafficClass};
use thiserror::Error;

/// Bounds of what waits for one neighbour.
#[derive(Clone, Copy, Debug)]
pub struct EgressLimits {
    /// A batch is closed when it reaches this many bytes: what control may have to wait behind.
    pub batch_bytes: usize,
    /// Room kept free in front of each batch, for the header of the message that will carry it.
    pub prefix_bytes: usize,
    /// Bytes of control class that may wait. Reached only if the peer does not read.
    pub control_bytes_max: usize,
    /// Bytes of priority class, of own bulk and of foreign bulk, each, that may wait.
    pub data_bytes_max: usize,
}

/// The queue is full; nothing was taken.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("{queued_bytes} bytes of class {} wait already", class.name())]
pub struct EgressFull {
    /// Whose queue.
    pub class: TrafficClass,
    /// What waits.
    pub queued_bytes: usize,
}

/// Whose frames are put into a queue. Bulk of each waits apart, so that neither can keep the other
/// from the link; the other classes make no difference.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Origin {
    /// Streams of the queue's own shard, which look for room before they send.
    Own,
    /// Transit and other shards, which do not.
    Foreign,
}

/// Frames that wait to be sent to one neighbour, already encoded into batches, by class.
///
/// A frame is copied once, from where it stands into the batch that will be encrypted.
#[derive(Debug)]
pub struct EgressQueue {
    limits: EgressLimits,
    control: BatchQueue,
    priority: BatchQueue,
    bulk_own: BatchQueue,
    bulk_foreign: BatchQueue,
    /// Bytes that went out of each bulk queue while the other held something, too; the one with
    /// fewer is served next.
    served_own_bytes: usize,
    served_foreign_bytes: usize,
    next_sequence: u64,
    /// Batches that were sent, to be filled again.
    spare: Vec<Vec<u8>>,
}

/// Frames that go to the neighbour as one message.
#[derive(Debug)]
pub struct EgressBatch {
    /// The free prefix, and the frames behind it.
    pub bytes: Vec<u8>,
    /// How many they are.
    pub frames: u32,
}

#[derive(Debug, Default)]
struct BatchQueue {
    batches: VecDeque<EgressBatch>,
    bytes: usize,
}

impl BatchQueue {
    const fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    fn pop(&mut self, prefix_bytes: usize) -> Option<EgressBatch> {
        let batch = self.batches.pop_front()?;
        let len = batch.bytes.len().saturating_sub(prefix_bytes);
        self.bytes = self.bytes.saturating_sub(len);
        Some(batch)
    }
}

/// Spare batches kept; more are freed.
const SPARE_MAX: usize = 4;

impl EgressQueue {
    /// An empty queue.
    #[must_use]
    pub fn new(limits: EgressLimits) -> Self {
        Self {
            limits,
            control: BatchQueue::default(),
            priority: BatchQueue::default(),
            bulk_own: BatchQueue::default(),
            bulk_foreign: BatchQueue::default(),
            served_own_bytes: 0,
            served_foreign_bytes: 0,
            next_sequence: 1,
            spare: Vec::new(),
        }
    }

    const fn queue(&self, class: TrafficClass, origin: Origin) -> &BatchQueue {
        match (class, origin) {
            (TrafficClass::Control, _) => &self.control,
            (TrafficClass::Priority, _) => &self.priority,
            (TrafficClass::Bulk, Origin::Own) => &self.bulk_own,
            (TrafficClass::Bulk, Origin::Foreign) => &self.bulk_foreign,
        }
    }

    const fn queue_mut(&mut self, class: TrafficClass, origin: Origin) -> &mut BatchQueue {
        match (class, origin) {
            (TrafficClass::Control, _) => &mut self.control,
            (TrafficClass::Priority, _) => &mut self.priority,
            (TrafficClass::Bulk, Origin::Own) => &mut self.bulk_own,
            (TrafficClass::Bulk, Origin::Foreign) => &mut self.bulk_foreign,
        }
    }

    /// Bytes of `class` that wait where frames of `origin` do.
    #[must_use]
    pub const fn queued_bytes(&self, class: TrafficClass, origin: Origin) -> usize {
        self.queue(class, origin).bytes
    }

    /// Bytes that wait in all.
    #[must_use]
    pub fn queued_bytes_total(&self) -> usize {
        [&self.control, &self.priority, &self.bulk_own, &self.bulk_foreign]
            .iter()
            .fold(0, |sum, queue| sum.saturating_add(queue.bytes))
    }

    /// Appends a frame whose body is made of `parts`.
    ///
    /// Routed frames carry a link sequence; heartbeats and what only neighbours say to each other
    /// carry none.
    ///
    /// # Errors
    /// [`EgressFull`] if its queue may not take more; nothing is taken.
    pub fn push(
        &mut self,
        kind: FrameKind,
        class: TrafficClass,
        origin: Origin,
        parts: &[&[u8]],
    ) -> Result<(), EgressFull> {
        let body = parts.iter().fold(0_usize, |sum, part| sum.saturating_add(part.len()));
        let len = body.saturating_add(FrameHeader::LEN);
        let limits = self.limits;
        let max = match class {
            TrafficClass::Control => limits.control_bytes_max,
            TrafficClass::Priority | TrafficClass::Bulk => limits.data_bytes_max,
        };
        let queued_bytes = self.queued_bytes(class, origin);
        let full = EgressFull { class, queued_bytes };
        if queued_bytes > 0 && queued_bytes.saturating_add(len) > max {
            return Err(full);
        }
        let sequence =
            if kind.is_routed() { LinkSequence(self.next_sequence) } else { LinkSequence(0) };
        let needs_batch = self.queue(class, origin).batches.back().is_none_or(|batch| {
            batch.bytes.len().saturating_add(len)
                > limits.batch_bytes.saturating_add(limits.prefix_bytes)
        });
        if needs_batch {
            let mut bytes = self.spare.pop().unwrap_or_default();
            bytes.clear();
            bytes.resize(limits.prefix_bytes, 0);
            self.queue_mut(class, origin).batches.push_back(EgressBatch { bytes, frames: 0 });
        }
        let queue = self.queue_mut(class, origin);
        let Some(batch) = queue.batches.back_mut() else { return Err(full) };
        if BatchWriter::new(&mut batch.bytes).frame(kind, class, sequence, parts).is_err() {
            return Err(full); // A body above the protocol's bound never gets this far.
        }
        batch.frames = batch.frames.saturating_add(1);
        queue.bytes = queue.bytes.saturating_add(len);
        if kind.is_routed() {
            self.next_sequence = self.next_sequence.saturating_add(1);
        }
        Ok(())
    }

    /// The oldest batch of the first of `classes` that has one; own and foreign bulk share alike, by
    /// bytes, while both hold batches.
    pub fn pop(&mut self, classes: &[TrafficClass]) -> Option<EgressBatch> {
        let prefix_bytes = self.limits.prefix_bytes;
        for &class in classes {
            let batch = match class {
                TrafficClass::Control => self.control.pop(prefix_bytes),
                TrafficClass::Priority => self.priority.pop(prefix_bytes),
                TrafficClass::Bulk => self.pop_bulk(prefix_bytes),
            };
            if batch.is_some() {
                return batch;
            }
        }
        None
    }

    fn pop_bulk(&mut self, prefix_bytes: usize) -> Option<EgressBatch> {
        if self.bulk_own.is_empty() || self.bulk_foreign.is_empty() {
            // Who was alone owes nothing for it.
            (self.served_own_bytes, self.served_foreign_bytes) = (0, 0);
            return self.bulk_own.pop(prefix_bytes).or_else(|| self.bulk_foreign.pop(prefix_bytes));
        }
        let (queue, served_bytes) = if self.served_own_bytes <= self.served_foreign_bytes {
            (&mut self.bulk_own, &mut self.served_own_bytes)
        } else {
            (&mut self.bulk_foreign, &mut self.served_foreign_bytes)
        };
        let batch = queue.pop(prefix_bytes)?;
        *served_bytes = served_bytes.saturating_add(batch.bytes.len());
        Some(batch)
    }

    /// Gives a batch's bytes back to be filled again.
    pub fn recycle(&mut self, batch: Vec<u8>) {
        // One that a largest message has blown up is not kept.
        if self.spare.len() < SPARE_MAX
            && batch.capacity() <= self.limits.batch_bytes.saturating_mul(2)
        {
            self.spare.push(batch);
        }
    }

    /// Drops everything that waits and the spare memory: the link is gone.
    pub fn clear(&mut self) {
        self.control = BatchQueue::default();
        self.priority = BatchQueue::default();
        self.bulk_own = BatchQueue::default();
        self.bulk_foreign = BatchQueue::default();
        self.spare.clear();
    }
}

#[cfg(test)]
#[expect(clippy::as_conversions, clippy::indexing_slicing, reason = "a test may panic")]
mod tests {
    use hawser_wire::FrameIter;

    use super::*;
    use TrafficClass::Bulk;

    const LIMITS: EgressLimits = EgressLimits {
        batch_bytes: 256,
        prefix_bytes: 14,
        control_bytes_max: 512,
        data_bytes_max: 1024,
    };

    #[test]
    fn control_overtakes_bulk_and_batches_close_at_their_bound() {
        let mut queue = EgressQueue::new(LIMITS);
        for byte in 0..8_u8 {
            queue.push(FrameKind::Record, Bulk, Origin::Own, &[&[byte; 50], &[byte; 30]]).unwrap();
        }
        queue.push(FrameKind::Ping, TrafficClass::Control, Origin::Own, &[b"now"]).unwrap();
        let first = queue.pop(&TrafficClass::ALL).unwrap();
        let frames: Vec<_> = FrameIter::new(&first.bytes[14..]).map(Result::unwrap).collect();
        assert_eq!((frames.len(), first.frames), (1, 1));
        assert_eq!(frames[0].body, b"now");
        assert_eq!(frames[0].header.link_sequence, LinkSequence(0));
        let mut sequences = Vec::new();
        while let Some(batch) = queue.pop(&TrafficClass::ALL) {
            assert!(batch.bytes.len() <= 256 + 14);
            let before = sequences.len();
            sequences.extend(
                FrameIter::new(&batch.bytes[14..])
                    .map(|frame| frame.unwrap().header.link_sequence.0),
            );
            assert_eq!(sequences.len() - before, batch.frames as usize);
            queue.recycle(batch.bytes);
        }
        assert_eq!(sequences, [1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(queue.queued_bytes_total(), 0);
    }

    #[test]
    fn a_full_class_refuses_and_others_go_on() {
        let mut queue = EgressQueue::new(LIMITS);
        let mut taken = 0;
        let full = loop {
            match queue.push(FrameKind::Record, Bulk, Origin::Own, &[&[0; 80]]) {
                Ok(()) => taken += 1,
                Err(full) => break full,
            }
        };
        assert_eq!(taken, 10);
        assert_eq!(full, EgressFull { class: Bulk, queued_bytes: 1000 });
        queue.push(FrameKind::StreamAck, TrafficClass::Control, Origin::Own, &[&[0; 80]]).unwrap();
    }

    #[test]
    fn one_frame_above_every_bound_passes_an_empty_queue() {
        let mut queue = EgressQueue::new(LIMITS);
        queue.push(FrameKind::Record, Bulk, Origin::Own, &[&[7; 5000]]).unwrap();
        assert!(queue.push(FrameKind::Record, Bulk, Origin::Own, &[&[7; 1]]).is_err());
        assert_eq!(queue.pop(&[Bulk]).map(|batch| batch.bytes.len()), Some(5034));
    }

    /// The first byte of each frame of a batch.
    fn tags(batch: &EgressBatch) -> Vec<u8> {
        FrameIter::new(&batch.bytes[14..]).map(|frame| frame.unwrap().body[0]).collect()
    }

    #[test]
    fn own_and_foreign_bulk_take_turns_and_neither_fills_the_other() {
        let mut queue = EgressQueue::new(LIMITS);
        while queue.push(FrameKind::Record, Bulk, Origin::Foreign, &[&[2; 230]]).is_ok() {}
        assert_eq!(queue.queued_bytes(Bulk, Origin::Foreign), 1000);
        assert_eq!(queue.queued_bytes(Bulk, Origin::Own), 0, "room is looked for apart");
        for _ in 0..4 {
            queue.push(FrameKind::Record, Bulk, Origin::Own, &[&[1; 230]]).unwrap();
        }
        let order: Vec<u8> = std::iter::from_fn(|| queue.pop(&TrafficClass::ALL))
            .flat_map(|batch| tags(&batch))
            .collect();
        assert_eq!(order, [1, 2, 1, 2, 1, 2, 1, 2]);
        assert_eq!(queue.queued_bytes_total(), 0);
    }

    #[test]
    fn turns_are_taken_by_bytes_and_who_was_alone_owes_nothing() {
        let mut queue = EgressQueue::new(EgressLimits { data_bytes_max: 1 << 20, ..LIMITS });
        for _ in 0..20 {
            queue.push(FrameKind::Record, Bulk, Origin::Own, &[&[1; 230]]).unwrap();
        }
        for _ in 0..4 {
            assert_eq!(queue.pop(&[Bulk]).map(|batch| tags(&batch)), Some(vec![1]));
        }
        for _ in 0..3 {
            queue.push(FrameKind::Record, Bulk, Origin::Foreign, &[&[2; 1000]]).unwrap();
        }
        let order: Vec<u8> = std::iter::from_fn(|| queue.pop(&[Bulk]))
            .flat_map(|batch| tags(&batch))
            .take(12)
            .collect();
        assert_eq!(order, [1, 2, 1, 1, 1, 2, 1, 1, 1, 1, 2, 1]);
    }
}
