mod acknowledgement;
mod agreement;

use bytes::Bytes;
use hawser_wire::{
    BootEpoch, FrameFlags, MonoTime, NodeId, ProducerId, RecordBuilder, StreamId, StreamOffset,
    TenantId,
};
use thiserror::Error;

use crate::destination::{Destination, SyncState, sooner};
use crate::outbox::Outbox;
use crate::producers::Producers;
use crate::{DeliveryLimits, Offer, PathWindow, RefusedBy, StreamKey, Transmit, TransmitBody};

/// A publish that was taken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PublishOutcome {
    /// Messages that had been published before and were removed.
    pub duplicates: u32,
    /// What the producer has acknowledged so far; repeated for it if everything was a duplicate.
    pub acked_seq: u64,
}

/// A publish that was not taken; nothing changed.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum PublishError {
    /// Sequences must follow each other.
    #[error("sequence {expected_seq} is next, got {got_seq}")]
    SequenceGap {
        /// What should have come.
        expected_seq: u64,
        /// What came.
        got_seq: u64,
    },
    /// The stream has as many producers as it may have.
    #[error("the stream has {max} producers already")]
    TooManyProducers {
        /// The bound.
        max: usize,
    },
    /// The stream was closed.
    #[error("the stream is closed")]
    Closed,
    /// The lengths do not describe the payload.
    #[error("lengths do not describe the payload")]
    Malformed,
}

/// The source's half of a stream.
#[derive(Debug)]
pub struct StreamSender {
    key: StreamKey,
    epoch: BootEpoch,
    limits: DeliveryLimits,
    outbox: Outbox,
    producers: Producers,
    destinations: Vec<Destination>,
    /// Records below were reported as acknowledged.
    acked_number: u64,
    closing: bool,
    /// Destinations that answered what they have, while the source is asking.
    answered: Vec<NodeId>,
    /// One of them remembered the producers.
    producers_known: bool,
    /// Destination to look at first, so that each gets its turn.
    turn: usize,
    unknown_at: Vec<NodeId>,
    /// Destinations that the stream was refused at, or for, since that was last asked for.
    refused_at: Vec<(NodeId, RefusedBy)>,
}

impl StreamSender {
    /// A stream of `tenant` to `destinations` in the source's life `epoch`.
    ///
    /// If it is `fresh` it begins at offset 0. Otherwise the destinations are asked where it goes
    /// on, and nothing can be published before all have answered.
    #[must_use]
    pub fn new(
        tenant: TenantId,
        stream: StreamId,
        epoch: BootEpoch,
        destinations: &[NodeId],
        fresh: bool,
        limits: DeliveryLimits,
    ) -> Self {
        let sync = if fresh { SyncState::Telling } else { SyncState::Asking };
        Self {
            key: StreamKey { tenant, stream },
            epoch,
            limits,
            outbox: Outbox::new(RecordBuilder::new(tenant, stream, epoch), StreamOffset(0)),
            producers: Producers::default(),
            destinations: destinations.iter().map(|&node| Destination::new(node, sync)).collect(),
            acked_number: 0,
            closing: false,
            answered: Vec::new(),
            producers_known: false,
            turn: 0,
            unknown_at: Vec::new(),
            refused_at: Vec::new(),
        }
    }

    /// The stream.
    #[must_use]
    pub const fn stream(&self) -> StreamId {
        self.key.stream
    }

    /// The stream, and whose it is.
    #[must_use]
    pub const fn key(&self) -> StreamKey {
        self.key
    }

    /// Every destination.
    pub fn destinations(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.destinations.iter().map(|destination| destination.node)
    }

    /// Offset behind the last message published.
    #[must_use]
    pub const fn end(&self) -> StreamOffset {
        self.outbox.next_offset()
    }

    /// Every destination has what is below.
    #[must_use]
    pub fn acked(&self) -> StreamOffset {
        self.destinations.iter().map(|d| d.received).min().unwrap_or_else(|| self.end())
    }

    /// `node` has what is below. 0 if it is no destination.
    #[must_use]
    pub fn received(&self, node: NodeId) -> StreamOffset {
        let destination = self.destinations.iter().find(|destination| destination.node == node);
        destination.map(|destination| destination.received).unwrap_or_default()
    }

    /// Payload bytes held.
    #[must_use]
    pub const fn buffered_bytes(&self) -> u64 {
        self.outbox.buffered_bytes()
    }

    /// What `node` would still take of all that was published, as far as it has said. 0 if it is no
    /// destination.
    #[must_use]
    pub fn credit_left(&self, node: NodeId) -> u64 {
        let destination = self.destinations.iter().find(|destination| destination.node == node);
        destination.map_or(0, |destination| {
            let spent = self.outbox.bytes_ever().saturating_sub(destination.origin_bytes);
            destination.credit_bytes.saturating_sub(spent)
        })
    }

    /// Payload bytes that publishers may add before they have to wait.
    #[must_use]
    pub fn room_bytes(&self) -> u64 {
        let room = self.limits.outbox_bytes.saturating_sub(self.outbox.buffered_bytes());
        let moving = self.destinations.iter().filter(|d| d.reachable && d.takes_records());
        let Some(sent_number) = moving.map(|d| d.sent_number).max() else { return room };
        let unsent = self.outbox.bytes_ever().saturating_sub(self.outbox.bytes_before(sent_number));
        room.min(self.limits.unsent_bytes.saturating_sub(unsent))
    }

    /// Offsets can be given out. False while destinations are asked where the stream goes on.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.destinations.iter().all(|destination| destination.sync != SyncState::Asking)
    }

    /// The stream was closed by its application.
    #[must_use]
    pub const fn is_closing(&self) -> bool {
        self.closing
    }

    /// Closed, and every consumer has everything.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.closing
            && self.is_ready()
            && self.destinations.iter().all(|d| d.end_acked && d.consumed >= self.end())
    }

    /// The sequence that `producer` is to use next, and what it has acknowledged.
    ///
    /// # Errors
    /// [`PublishError`] if it may not publish; nothing changed.
    pub fn open_producer(&mut self, producer: ProducerId) -> Result<(u64, u64), PublishError> {
        if self.closing {
            return Err(PublishError::Closed);
        }
        let max = self.limits.producers_max;
        if self.producers.get(producer).is_none() && self.producers.len() >= max {
            return Err(PublishError::TooManyProducers { max });
        }
        let known = self.producers.entry(producer);
        Ok((known.next_seq, known.acked_seq))
    }

    /// The last sequence that `producer` published; 0 before the first.
    #[must_use]
    pub fn last_seq(&self, producer: ProducerId) -> u64 {
        self.producers.get(producer).map_or(0, |known| known.next_seq.saturating_sub(1))
    }

    /// Takes consecutive messages of a producer, without those that it published before.
    ///
    /// # Errors
    /// [`PublishError`]; nothing changed.
    pub fn handle_publish(
        &mut self,
        producer: ProducerId,
        first_seq: u64,
        count: u32,
        lengths: Bytes,
        payload: Bytes,
    ) -> Result<PublishOutcome, PublishError> {
        let (next_seq, acked_seq) = self.open_producer(producer)?;
        if first_seq > next_seq {
            let expected_seq = next_seq;
            return Err(PublishError::SequenceGap { expected_seq, got_seq: first_seq });
        }
        let known = next_seq.saturating_sub(first_seq);
        let duplicates = u32::try_from(known).map_or(count, |known| known.min(count));
        let (lengths, payload) =
            without_first(lengths, payload, duplicates).ok_or(PublishError::Malformed)?;
        if duplicates < count {
            let entry = self.producers.entry(producer);
            entry.next_seq = first_seq.saturating_add(u64::from(count));
            self.outbox.push(producer, next_seq, lengths, payload);
        }
        Ok(PublishOutcome { duplicates, acked_seq })
    }

    /// The application closed the stream: nothing more is taken.
    pub fn handle_close(&mut self) {
        self.closing = true;
        for destination in &mut self.destinations {
            destination.tell_end();
        }
    }

    /// A path to `node` appeared, changed or vanished.
    ///
    /// Everything that the destination has not confirmed is sent again over the new path.
    pub fn handle_path(&mut self, node: NodeId, reachable: bool) {
        let outbox = &self.outbox;
        for destination in self.destinations.iter_mut().filter(|d| d.node == node) {
            destination.reachable = reachable;
            if reachable {
                destination.path_changed(!outbox.is_empty());
                destination.roll_back(outbox);
                destination.resend_at = None;
                destination.look_at = None;
            }
        }
    }

    /// Records to `node` take another path from now on. What is under way on the old one is not taken
    /// for lost, though newer records may arrive before it: links that fail hand it on.
    pub fn handle_path_left(&mut self, now: MonoTime, node: NodeId) {
        let outbox = &self.outbox;
        for destination in self.destinations.iter_mut().filter(|d| d.node == node) {
            destination.path_left(now, outbox);
        }
    }

    /// `node` has acknowledged everything that was sent to it: what is sent next may take another path
    /// and overtakes nothing.
    #[must_use]
    pub fn is_settled(&self, node: NodeId) -> bool {
        let mut destinations = self.destinations.iter().filter(|d| d.node == node);
        destinations.all(|destination| destination.is_settled(&self.outbox))
    }

    /// A relay dropped a record on its way to `node`.
    pub fn handle_dropped(&mut self, now: MonoTime, node: NodeId) {
        let outbox = &self.outbox;
        for destination in self.destinations.iter_mut().filter(|d| d.node == node) {
            if destination.wants_resend(now) {
                destination.roll_back(outbox);
            } else {
                destination.look_soon(now);
            }
        }
    }

    /// The window of the path to `node` has taken all that was under way on it for lost.
    pub fn handle_path_timeout(&mut self, now: MonoTime, node: NodeId) {
        let outbox = &self.outbox;
        for destination in self.destinations.iter_mut().filter(|d| d.node == node) {
            destination.handle_path_timeout(now, outbox);
        }
    }

    /// Tells the window of the path to `node` what this stream has done on it since the last call;
    /// how many bytes it has sent.
    ///
    /// To be called after each event and after each record that [`Self::poll_transmit`] hands out. A
    /// path without a window, as that to this very node, is not told of.
    pub fn settle_path(&mut self, now: MonoTime, node: NodeId, window: &mut PathWindow) -> u64 {
        let destination = self.destinations.iter_mut().find(|d| d.node == node);
        destination.map_or(0, |destination| destination.settle_path(now, window))
    }

    /// Takes what this stream has under way on the path to `node` out of the path's window: the
    /// stream ends, or takes another path, which [`Self::handle_path`] says next.
    pub fn leave_path(&mut self, node: NodeId, window: &mut PathWindow) {
        if let Some(destination) = self.destinations.iter_mut().find(|d| d.node == node) {
            destination.leave_path(window);
        }
    }

    /// Probes destinations where nothing has moved for too long.
    pub fn handle_timeout(&mut self, now: MonoTime) {
        for destination in &mut self.destinations {
            if destination.resend_at.is_some_and(|at| at <= now) {
                destination.handle_expiry();
            }
            if destination.gap_lasts_from(&self.limits).is_some_and(|at| at <= now) {
                destination.handle_lost(now, &self.outbox);
            }
            destination.handle_look(now);
        }
    }

    /// When [`Self::handle_timeout`] or [`Self::poll_transmit`] has something to do without another
    /// event.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<MonoTime> {
        let reachable = self.destinations.iter().filter(|destination| destination.reachable);
        reachable.fold(None, |next, destination| sooner(next, destination.due(&self.limits)))
    }

    /// The next producer whose acknowledged sequence rose, and that sequence.
    pub fn poll_acked(&mut self) -> Option<(ProducerId, u64)> {
        self.producers.poll_acked()
    }

    /// The next destination that answered that it does not know the stream.
    pub fn poll_unknown(&mut self) -> Option<NodeId> {
        self.unknown_at.pop()
    }

    /// The next destination that the stream was refused at or for, and why: nothing more is sent there
    /// before it begins a new life.
    pub fn poll_refused(&mut self) -> Option<(NodeId, RefusedBy)> {
        self.refused_at.pop()
    }

    /// A destination that gets nothing more because one end broke the rules, and why.
    #[must_use]
    pub fn refused(&self) -> Option<(NodeId, RefusedBy)> {
        self.destinations.iter().find_map(|d| d.refused.map(|(_, by)| (d.node, by)))
    }

    /// The next thing to send, if a destination can take one. `ready` says whether the path takes the
    /// record that is offered now; if it does, that one is what comes next.
    pub fn poll_transmit(
        &mut self,
        now: MonoTime,
        mut ready: impl FnMut(Offer) -> bool,
    ) -> Option<Transmit> {
        let count = self.destinations.len();
        for step in 0..count {
            let index = self.turn.saturating_add(step).checked_rem(count)?;
            let destination = self.destinations.get(index)?;
            if !destination.reachable {
                continue;
            }
            if destination.sync_at.is_some_and(|at| at <= now) {
                return Some(self.transmit_sync(now, index));
            }
            if destination.takes_records()
                && let Some(offer) = self.offer(now, index)
                && ready(offer)
                && let Some(transmit) = self.transmit_record(now, index)
            {
                self.turn = index.saturating_add(1);
                return Some(transmit);
            }
        }
        None
    }

    /// What would go to a destination next, if its credit allows it.
    fn offer(&mut self, now: MonoTime, index: usize) -> Option<Offer> {
        let destination = self.destinations.get_mut(index)?;
        let number = destination.number_to_send(&self.outbox);
        let Some(len_bytes) = self.outbox.charge_at(number) else {
            destination.probe = false; // Everything has arrived in the meantime.
            return None;
        };
        // A record may begin below the credit and end above it, so that the largest message always
        // gets through; the destination allows for one.
        let before = self.outbox.bytes_before(number).saturating_sub(destination.origin_bytes);
        if before >= destination.credit_bytes {
            // The grant that ends this may be lost: ask for it again, as TCP probes a closed window.
            destination.query_credit(now, &self.limits);
            return None;
        }
        Some(Offer { destination: destination.node, len_bytes })
    }

    /// Sends what was offered.
    fn transmit_record(&mut self, now: MonoTime, index: usize) -> Option<Transmit> {
        let destination = self.destinations.get_mut(index)?;
        let number = destination.number_to_send(&self.outbox);
        if number >= self.outbox.end_number() {
            self.outbox.close_open();
        }
        let record = self.outbox.complete(number)?;
        destination.probe = false;
        destination.sent_end = destination.sent_end.max(record.header.stream_end());
        if number >= destination.next_number {
            destination.next_number = number.saturating_add(1);
        }
        if number >= destination.sent_number {
            destination.sent_number = number.saturating_add(1);
            if destination.timed.is_none() {
                destination.timed = Some((record.header.stream_end(), now));
            }
        }
        if destination.resend_at.is_none() {
            destination.resend_at = Some(now.saturating_add(destination.wait(&self.limits)));
        }
        destination.note_sent(record.charge_bytes());
        // What comes next would begin at the credit or above it.
        let through = self.outbox.bytes_before(number.saturating_add(1));
        let is_limited = through.saturating_sub(destination.origin_bytes)
            >= destination.credit_bytes
            && self.outbox.has_behind(number);
        let flags = if is_limited { FrameFlags::CREDIT_LIMITED } else { FrameFlags::default() };
        let body = TransmitBody::Record(record);
        Some(Transmit { destination: destination.node, flags, body })
    }
}

/// Lengths and payload without the first `skip` messages; `None` if the lengths end before.
fn without_first(mut lengths: Bytes, mut payload: Bytes, skip: u32) -> Option<(Bytes, Bytes)> {
    for _ in 0..skip {
        let mut reader = hawser_wire::ByteReader::new(&lengths, "lengths");
        let len = usize::try_from(reader.varint().ok()?).ok()?;
        lengths = lengths.slice_ref(reader.rest());
        if len > payload.len() {
            return None;
        }
        payload = payload.split_off(len);
    }
    Some((lengths, payload))
}
