//! What a source and its destinations agree on before records flow: where the stream goes on.

use std::collections::BTreeMap;

use hawser_wire::{FrameFlags, MonoTime, NodeId, ProducerId, StreamAck, StreamOffset, StreamSync};

use super::StreamSender;
use crate::destination::SyncState;
use crate::producers::Producers;
use crate::{Transmit, TransmitBody};

impl StreamSender {
    /// `node` has said that it hosts the stream from now on. What it was told before may have come too
    /// early: it is told, or asked, again at once, and not only after the pause that an answer of a
    /// node which does not know the stream begins.
    ///
    /// Where records flow already, or there is no such destination, nothing changes.
    pub fn handle_hosted(&mut self, node: NodeId) {
        for destination in self.destinations.iter_mut().filter(|d| d.node == node) {
            if destination.sync != SyncState::Ready {
                destination.sync_at_once();
            }
        }
    }

    /// A destination answered, to a source in a new life, what it has.
    pub(super) fn handle_answer(&mut self, from: NodeId, ack: &StreamAck) {
        if self.answered.contains(&from) {
            return;
        }
        // One that lost its memory too says nothing about producers; of the others, the one that
        // has least decides, and those that have more remove duplicates.
        if !ack.forgot {
            if std::mem::replace(&mut self.producers_known, true) {
                self.producers.retain_listed(&ack.producers);
            } else {
                self.producers = Producers::default();
                for &(producer, next_seq) in &ack.producers {
                    self.producers.restore(producer, next_seq);
                }
            }
            for &(producer, next_seq) in &ack.producers {
                if self.producers.get(producer).is_some() {
                    self.producers.restore(producer, next_seq);
                }
            }
        }
        self.answered.push(from);
        if let Some(destination) = self.destinations.iter_mut().find(|d| d.node == from) {
            destination.received = ack.received;
            destination.sync_at = None;
        }
        if self.answered.len() < self.destinations.len() {
            return;
        }
        // The stream goes on where the destination that has most does. What another one lacks was
        // acknowledged to nobody, and its producers publish it again.
        let start = self.destinations.iter().map(|d| d.received).max().unwrap_or_default();
        self.outbox.start_at(start);
        for destination in &mut self.destinations {
            destination.restart_sync(SyncState::Telling);
            destination.set_origin(start, &self.outbox);
            destination.base = start;
            destination.sent_end = start;
            destination.received = start;
            destination.consumed = start;
        }
        self.answered.clear();
    }

    pub(super) fn transmit_sync(&mut self, now: MonoTime, index: usize) -> Transmit {
        // What is still open counts as published: its producer's next sequence lies behind it.
        self.outbox.close_open();
        let end = self.closing.then(|| self.outbox.next_offset());
        let (stream, fence_epoch) = (self.key.stream, self.epoch);
        let mut base = None;
        let mut node = NodeId::default();
        if let Some(destination) = self.destinations.get_mut(index) {
            if destination.sync == SyncState::Telling && destination.receiver_epoch.is_none() {
                destination.base = destination.base.max(destination.consumed);
                destination.sent_end = destination.sent_end.max(destination.base);
            }
            destination.sync_sent(now);
            node = destination.node;
            base = match destination.sync {
                SyncState::Asking => None,
                SyncState::Telling => Some(destination.base),
                // A question about credit. Should it reach a destination that has lost its memory,
                // that one begins behind what its consumers have.
                SyncState::Ready => Some(destination.consumed),
            };
        }
        let end = end.filter(|_| base.is_some());
        let producers = base.map(|base| self.producers_at(base)).unwrap_or_default();
        let sync = StreamSync { stream, fence_epoch, base, end, producers };
        let flags = FrameFlags::CREDIT_LIMITED;
        Transmit { destination: node, flags, body: TransmitBody::Sync(sync) }
    }

    /// Each producer's next sequence at `base`: that of its first record there, else its next.
    fn producers_at(&self, base: StreamOffset) -> Vec<(ProducerId, u64)> {
        let mut at: BTreeMap<ProducerId, u64> = self.producers.next_seqs().collect();
        for number in (self.outbox.number_at(base)..self.outbox.end_number()).rev() {
            if let Some(stored) = self.outbox.get(number) {
                at.insert(stored.record.header.producer, stored.record.header.producer_base);
            }
        }
        at.into_iter().collect()
    }
}
