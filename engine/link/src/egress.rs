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
    /// Bytes of priority and bulk class, each, that may wait.
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

/// Frames that wait to be sent to one neighbour, already encoded into batches, by class.
///
/// A frame is copied once, from where it stands into the batch that will be encrypted.
#[derive(Debug)]
pub struct EgressQueue {
    limits: EgressLimits,
    classes: [ClassQueue; 3],
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
struct ClassQueue {
    batches: VecDeque<EgressBatch>,
    bytes: usize,
}

/// Spare batches kept; more are freed.
const SPARE_MAX: usize = 4;

impl EgressQueue {
    /// An empty queue.
    #[must_use]
    pub fn new(limits: EgressLimits) -> Self {
        Self { limits, classes: Default::default(), next_sequence: 1, spare: Vec::new() }
    }

    const fn class(&self, class: TrafficClass) -> &ClassQueue {
        let [control, priority, bulk] = &self.classes;
        match class {
            TrafficClass::Control => control,
            TrafficClass::Priority => priority,
            TrafficClass::Bulk => bulk,
        }
    }

    const fn class_mut(&mut self, class: TrafficClass) -> &mut ClassQueue {
        let [control, priority, bulk] = &mut self.classes;
        match class {
            TrafficClass::Control => control,
            TrafficClass::Priority => priority,
            TrafficClass::Bulk => bulk,
        }
    }

    /// Bytes of `class` that wait.
    #[must_use]
    pub const fn queued_bytes(&self, class: TrafficClass) -> usize {
        self.class(class).bytes
    }

    /// Bytes that wait in all.
    #[must_use]
    pub fn queued_bytes_total(&self) -> usize {
        self.classes.iter().fold(0, |sum, class| sum.saturating_add(class.bytes))
    }

    /// Appends a frame whose body is made of `parts`.
    ///
    /// Routed frames carry a link sequence; heartbeats and what only neighbours say to each other
    /// carry none.
    ///
    /// # Errors
    /// [`EgressFull`] if its class may not take more; nothing is taken.
    pub fn push(
        &mut self,
        kind: FrameKind,
        class: TrafficClass,
        parts: &[&[u8]],
    ) -> Result<(), EgressFull> {
        let body = parts.iter().fold(0_usize, |sum, part| sum.saturating_add(part.len()));
        let len = body.saturating_add(FrameHeader::LEN);
        let limits = self.limits;
        let max = match class {
            TrafficClass::Control => limits.control_bytes_max,
            TrafficClass::Priority | TrafficClass::Bulk => limits.data_bytes_max,
        };
        let queued_bytes = self.queued_bytes(class);
        let full = EgressFull { class, queued_bytes };
        if queued_bytes > 0 && queued_bytes.saturating_add(len) > max {
            return Err(full);
        }
        let sequence =
            if kind.is_routed() { LinkSequence(self.next_sequence) } else { LinkSequence(0) };
        let needs_batch = self.class(class).batches.back().is_none_or(|batch| {
            batch.bytes.len().saturating_add(len)
                > limits.batch_bytes.saturating_add(limits.prefix_bytes)
        });
        if needs_batch {
            let mut bytes = self.spare.pop().unwrap_or_default();
            bytes.clear();
            bytes.resize(limits.prefix_bytes, 0);
            self.class_mut(class).batches.push_back(EgressBatch { bytes, frames: 0 });
        }
        let queue = self.class_mut(class);
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

    /// The oldest batch of the first of `classes` that has one.
    pub fn pop(&mut self, classes: &[TrafficClass]) -> Option<EgressBatch> {
        let prefix_bytes = self.limits.prefix_bytes;
        for &class in classes {
            let queue = self.class_mut(class);
            if let Some(batch) = queue.batches.pop_front() {
                let len = batch.bytes.len().saturating_sub(prefix_bytes);
                queue.bytes = queue.bytes.saturating_sub(len);
                return Some(batch);
            }
        }
        None
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
        self.classes = Default::default();
        self.spare.clear();
    }
}

#[cfg(test)]
mod tests {
    use hawser_wire::FrameIter;

    use super::*;

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
            queue.push(FrameKind::Record, TrafficClass::Bulk, &[&[byte; 50], &[byte; 30]]).unwrap();
        }
        queue.push(FrameKind::Ping, TrafficClass::Control, &[b"now"]).unwrap();
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
            match queue.push(FrameKind::Record, TrafficClass::Bulk, &[&[0; 80]]) {
                Ok(()) => taken += 1,
                Err(full) => break full,
            }
        };
        assert_eq!(taken, 10);
        assert_eq!(full, EgressFull { class: TrafficClass::Bulk, queued_bytes: 1000 });
        queue.push(FrameKind::StreamAck, TrafficClass::Control, &[&[0; 80]]).unwrap();
    }

    #[test]
    fn one_frame_above_every_bound_passes_an_empty_queue() {
        let mut queue = EgressQueue::new(LIMITS);
        queue.push(FrameKind::Record, TrafficClass::Bulk, &[&[7; 5000]]).unwrap();
        assert!(queue.push(FrameKind::Record, TrafficClass::Bulk, &[&[7; 1]]).is_err());
        assert_eq!(queue.pop(&[TrafficClass::Bulk]).map(|batch| batch.bytes.len()), Some(5034));
    }
}
