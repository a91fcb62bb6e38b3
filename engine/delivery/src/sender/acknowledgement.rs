//! What destinations say that they have.

use hawser_wire::{BootEpoch, MonoTime, NodeId, StreamAck, StreamOffset};

use super::StreamSender;
use crate::destination::SyncState;
use crate::{RefusedBy, StreamViolation};

/// Most that a destination may have of a stream. No stream gets there, and one that went on near the end of
/// numbers would have no room for what is published.
const OFFSET_MAX: StreamOffset = StreamOffset(u64::MAX >> 1);

fn check_answer(ack: &StreamAck) -> Result<(), StreamViolation> {
    let (seen, sent) = (ack.seen.max(ack.received), OFFSET_MAX);
    if seen > sent { Err(StreamViolation::AckAhead { seen, sent }) } else { Ok(()) }
}

impl StreamSender {
    /// A destination's progress. Acknowledgements of another life of this node are ignored.
    pub fn handle_ack(&mut self, now: MonoTime, from: NodeId, ack: &StreamAck) {
        if ack.fence_epoch != self.epoch {
            return;
        }
        let Some(index) = self.destinations.iter().position(|d| d.node == from) else { return };
        let Some(destination) = self.destinations.get_mut(index) else { return };
        if let Some((epoch, by)) = destination.refused {
            if epoch != ack.receiver_epoch {
                // It began a new life, and has another chance.
                destination.refused = None;
                if destination.sync != SyncState::Asking {
                    destination.restart_sync(SyncState::Telling);
                }
            } else if matches!(by, RefusedBy::Source(_)) {
                return destination.ask_seldom(now);
            }
        }
        if ack.unknown {
            if destination.sync != SyncState::Asking {
                destination.restart_sync(SyncState::Telling);
            }
            destination.sync_sent(now);
            self.unknown_at.push(from);
            return;
        }
        let checked = match destination.sync {
            // What was sent in earlier lives is not known here any more.
            SyncState::Asking => check_answer(ack),
            _ => destination.check(ack),
        };
        if let Err(violation) = checked {
            let by = RefusedBy::Source(violation);
            return self.handle_refused(now, index, ack.receiver_epoch, by);
        }
        match destination.sync {
            SyncState::Asking => return self.handle_answer(from, ack),
            SyncState::Telling if ack.received < destination.consumed => {
                // It was told of an earlier base, before that was known to be consumed.
                destination.sync_at = Some(MonoTime::ZERO);
                return;
            }
            // It answers an earlier question, and counts its credit from an offset of another life.
            SyncState::Telling if !ack.producers.is_empty() => return,
            SyncState::Telling => {
                if ack.refused.is_none() {
                    // It has forgotten the stream, and why it refused it.
                    destination.refused = None;
                }
                destination.sync = SyncState::Ready;
                destination.receiver_epoch = Some(ack.receiver_epoch);
                if ack.origin != destination.origin {
                    destination.set_origin(ack.origin, &self.outbox);
                }
                destination.marked_bytes = ack.marked_bytes;
                destination.sync_at = self.closing.then_some(MonoTime::ZERO);
                destination.received = ack.received;
                destination.consumed = destination.consumed.max(ack.consumed);
                destination.roll_back(&self.outbox);
            }
            SyncState::Ready if destination.receiver_epoch != Some(ack.receiver_epoch) => {
                // It began a new life and lost what its consumers had not taken.
                destination.restart_sync(SyncState::Telling);
                destination.received = destination.consumed;
                return;
            }
            SyncState::Ready => {}
        }
        let known = destination.received;
        let progressed = ack.received > destination.received;
        destination.received = destination.received.max(ack.received);
        destination.consumed = destination.consumed.max(ack.consumed);
        if ack.origin > destination.origin {
            destination.set_origin(ack.origin, &self.outbox);
        }
        if ack.origin == destination.origin {
            destination.credit_bytes = destination.credit_bytes.max(ack.credit_bytes);
        }
        if ack.ended && self.closing {
            destination.end_acked = true;
            destination.sync_at = None;
        }
        let rtt = destination.sample_rtt(now);
        if progressed {
            let outbox = &self.outbox;
            let [before, number] = [known, destination.received].map(|o| outbox.number_at(o));
            let bytes = outbox.bytes_before(number).saturating_sub(outbox.bytes_before(before));
            let marked = if ack.origin == destination.origin { ack.marked_bytes } else { 0 };
            destination.note_acked(bytes, marked, rtt);
            // What was sent before it was taken for lost may have arrived.
            destination.next_number = destination.next_number.max(number);
            let in_flight = number < destination.next_number;
            destination.resend_at =
                in_flight.then(|| now.saturating_add(destination.wait(&self.limits)));
            destination.look_at = destination.look_at.filter(|_| in_flight);
        }
        destination.forget_query();
        // A gap that lasts, or a probe that got through: what lies behind it was lost too.
        let has_gap = destination.note_gap(now, ack.seen > destination.received, &self.limits);
        if has_gap || (progressed && destination.probing) {
            destination.handle_lost(now, &self.outbox);
        }
        if let Some(refusal) = ack.refused {
            let by = RefusedBy::Destination(refusal);
            self.handle_refused(now, index, ack.receiver_epoch, by);
        }
        self.advance();
    }

    /// One end broke the rules: the destination gets nothing more in its life `epoch`, nor is anything
    /// held back for it where others need the place. What it has not consumed is kept.
    fn handle_refused(&mut self, now: MonoTime, index: usize, epoch: BootEpoch, by: RefusedBy) {
        let Some(destination) = self.destinations.get_mut(index) else { return };
        if destination.refused.is_none() {
            self.refused_at.push((destination.node, by));
        }
        destination.handle_refused(now, epoch, by, &self.outbox);
    }

    /// Draws the consequences of a destination's progress.
    fn advance(&mut self) {
        let acked = self.acked();
        while let Some(stored) = self.outbox.get(self.acked_number) {
            let header = &stored.record.header;
            if header.stream_end() > acked {
                break;
            }
            let (producer, through) = (header.producer, header.producer_end().saturating_sub(1));
            self.producers.acknowledge(producer, through);
            self.acked_number = self.acked_number.saturating_add(1);
        }
        if let Some(consumed) = self.destinations.iter().map(|d| d.consumed).min() {
            self.outbox.trim(consumed.min(acked));
        }
    }
}
