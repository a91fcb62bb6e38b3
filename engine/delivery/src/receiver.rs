mod credit;
mod judgement;

use std::collections::VecDeque;

use hawser_wire::{
    BootEpoch, FrameFlags, MonoTime, ProducerId, Record, RecordView, StreamAck, StreamId,
    StreamOffset, StreamSync, TenantId,
};

use crate::consumers::Consumers;
use crate::destination::sooner;
use crate::receive_window::ReceiveWindow;
use crate::reorder::Reorder;
use crate::{ConsumerError, ConsumerStart, DeliveryLimits, StreamViolation, WindowBudget};

/// What became of a record.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RecordOutcome {
    /// New messages can be delivered.
    Delivered,
    /// It was here before, and is acknowledged again.
    Duplicate,
    /// It came before its turn and waits.
    Early,
    /// It belongs to an earlier life of its source, or to one that has not introduced itself.
    Fenced,
    /// It is not taken: the source has broken the rules, now or earlier, or has more producers than a
    /// stream may have, or spends what an earlier life of this node had granted.
    Refused,
}

/// The destination's half of a stream.
#[derive(Debug)]
pub struct StreamReceiver {
    tenant: TenantId,
    stream: StreamId,
    /// This node's life.
    epoch: BootEpoch,
    limits: DeliveryLimits,
    /// The source's life; `None` before its first sync in this node's life.
    fence: Option<BootEpoch>,
    /// What producers published in an earlier life of this node is not known here.
    forgot: bool,
    /// The source has said where the stream goes on.
    told: bool,
    /// Every offset below was received.
    frontier: StreamOffset,
    /// One behind the highest offset seen.
    seen: StreamOffset,
    early: Reorder,
    /// Received in order, not consumed by all.
    buffer: VecDeque<Record>,
    buffered_bytes: u64,
    /// Of these, from the first one on, what every consumer was handed.
    handed_bytes: u64,
    /// Where credit began to be counted.
    origin: StreamOffset,
    /// Payload bytes taken since the source said where the stream goes on.
    taken_bytes: u64,
    /// Of what came since then for the first time, what relays had marked.
    marked_bytes: u64,
    /// First offset that is still here.
    floor: StreamOffset,
    consumed: StreamOffset,
    consumers: Consumers,
    /// Each producer's next sequence. Never forgotten by time (I4).
    producers: std::collections::BTreeMap<ProducerId, u64>,
    end: Option<StreamOffset>,
    /// A source sends records in a life that it has not introduced: it takes this node for the one
    /// that it was before it lost its memory, and must be told.
    stranger: Option<BootEpoch>,
    ack_urgent: bool,
    consumed_ack_at: Option<MonoTime>,
    /// Credit in the last acknowledgement: what was granted since `origin`, at most.
    granted_bytes: u64,
    /// What there would be room for, at most.
    window: ReceiveWindow,
    /// When the last new record came, if it does not rest.
    record_at: Option<MonoTime>,
    /// What the budget allows to be sent ahead of consumers,
    window_bytes: u64,
    /// and what this stream has of it.
    allotted_bytes: u64,
    /// The source may still spend what an earlier life of this node had granted it.
    inherits: bool,
    /// What the source has done in its present life: nothing more is taken of it.
    refused: Option<StreamViolation>,
    /// It was not told of yet.
    violation: Option<StreamViolation>,
}

impl StreamReceiver {
    /// A destination of `stream` of `tenant` in this node's life `epoch`, with the consumers that are kept and
    /// the first offset that each has not confirmed. `restored` if the stream was opened in an
    /// earlier life: what had been received, but for the consumers' progress, is forgotten.
    #[must_use]
    pub fn new<'a>(
        tenant: TenantId,
        stream: StreamId,
        epoch: BootEpoch,
        restored: bool,
        consumers: impl IntoIterator<Item = (&'a str, StreamOffset)>,
        limits: DeliveryLimits,
    ) -> Self {
        let mut known = Consumers::default();
        for (name, confirmed) in consumers {
            known.restore(name, confirmed);
        }
        Self {
            tenant,
            stream,
            epoch,
            limits,
            forgot: restored,
            fence: None,
            told: false,
            frontier: StreamOffset(0),
            seen: StreamOffset(0),
            early: Reorder::default(),
            buffer: VecDeque::new(),
            buffered_bytes: 0,
            handed_bytes: 0,
            origin: StreamOffset(0),
            taken_bytes: 0,
            marked_bytes: 0,
            floor: StreamOffset(0),
            consumed: StreamOffset(0),
            consumers: known,
            producers: std::collections::BTreeMap::new(),
            end: None,
            stranger: None,
            ack_urgent: false,
            consumed_ack_at: None,
            granted_bytes: 0,
            window: ReceiveWindow::new(&limits),
            window_bytes: 0,
            record_at: None,
            allotted_bytes: 0,
            inherits: restored,
            refused: None,
            violation: None,
        }
    }

    /// Offset behind the last message received without a gap.
    #[must_use]
    pub const fn frontier(&self) -> StreamOffset {
        self.frontier
    }

    /// Every consumer has what is below.
    #[must_use]
    pub const fn consumed(&self) -> StreamOffset {
        self.consumed
    }

    /// Payload bytes held.
    #[must_use]
    pub const fn buffered_bytes(&self) -> u64 {
        self.buffered_bytes.saturating_add(self.early.bytes())
    }

    /// The stream is closed and ends here.
    #[must_use]
    pub const fn end(&self) -> Option<StreamOffset> {
        self.end
    }

    /// The source says where the stream goes on, or asks, in a frame with these flags.
    pub fn handle_sync(&mut self, sync: &StreamSync, flags: FrameFlags) {
        if self.fence.is_some_and(|fence| sync.fence_epoch < fence) {
            return;
        }
        if self.fence != Some(sync.fence_epoch) {
            // A source that begins a new life knows no earlier life of this node.
            self.inherits &= self.fence.is_none();
            self.fence = Some(sync.fence_epoch);
            self.told = false;
            self.refused = None;
            self.early.clear();
            self.seen = self.frontier;
        }
        self.ack_urgent = true;
        self.stranger = None;
        if self.refused.is_some() {
            return;
        }
        let Some(base) = sync.base else { return };
        if !self.told || base > self.frontier {
            self.told = true;
            self.forgot = false;
            self.begin_at(base);
            self.window.begin(flags.contains(FrameFlags::CREDIT_LIMITED));
            for &(producer, next_seq) in &sync.producers {
                if let Some(known) = self.producers.get_mut(&producer) {
                    *known = (*known).max(next_seq);
                } else if self.producers.len() < self.limits.producers_max {
                    self.producers.insert(producer, next_seq);
                }
            }
        }
        if let Some(end) = sync.end {
            self.end = Some(end);
        }
    }

    /// The source has nothing below `base` any more: this node's consumers have it, or it was
    /// acknowledged to nobody and its producers publish it again. Credit is counted anew.
    fn begin_at(&mut self, base: StreamOffset) {
        if base > self.frontier {
            self.frontier = base;
            self.seen = self.seen.max(base);
            if self.buffer.is_empty() {
                self.floor = base;
            }
        }
        self.early.clear();
        self.origin = self.frontier;
        self.taken_bytes = 0;
        self.marked_bytes = 0;
        self.granted_bytes = 0;
        self.recompute_consumed();
    }

    /// The path to the source changed: the last acknowledgement may be lost.
    pub const fn handle_path(&mut self) {
        if self.fence.is_some() {
            self.ack_urgent = true;
        }
    }

    /// Takes a record that came in a frame with these flags; it is copied out of the lane's buffer only if
    /// it is new. Of one that a relay has marked ([`FrameFlags::CONGESTION_EXPERIENCED`]) the source is
    /// told, once for each record (RFC 8257 §3.2).
    pub fn handle_record(
        &mut self,
        now: MonoTime,
        view: &RecordView<'_>,
        flags: FrameFlags,
    ) -> RecordOutcome {
        let outcome = self.place(now, view);
        let is_new = matches!(outcome, RecordOutcome::Delivered | RecordOutcome::Early);
        if is_new {
            self.record_at = Some(now);
        }
        if is_new && flags.contains(FrameFlags::CONGESTION_EXPERIENCED) {
            self.marked_bytes = self.marked_bytes.saturating_add(view.charge_bytes());
        }
        if is_new && flags.contains(FrameFlags::CREDIT_LIMITED) {
            if !self.consumers.is_any_attached() {
                // Nobody is slow at present: as much waits for who comes as the budget allows.
                self.window.handle_handed_out(self.taken_bytes, self.granted_bytes);
            } else {
                self.window.handle_limited(self.taken_bytes, self.granted_bytes);
            }
        }
        outcome
    }

    fn place(&mut self, now: MonoTime, view: &RecordView<'_>) -> RecordOutcome {
        let header = &view.header;
        if self.fence != Some(header.fence_epoch) || !self.told {
            if self.fence.is_none_or(|fence| fence <= header.fence_epoch) {
                self.stranger = Some(header.fence_epoch);
            }
            return RecordOutcome::Fenced;
        }
        self.ack_urgent = true;
        if self.refused.is_some() {
            return RecordOutcome::Refused;
        }
        if let Some(outcome) = self.judge(view) {
            return outcome;
        }
        self.seen = self.seen.max(header.stream_end());
        if header.stream_base > self.frontier {
            self.early.insert(view.to_record());
            return RecordOutcome::Early;
        }
        self.take(&view.to_record());
        while let Some(record) = self.early.pop_due(self.frontier) {
            self.take(&record);
        }
        // A consumer of an earlier life may have confirmed what comes only now, and what a producer
        // published again is nobody's to confirm.
        self.window.handle_taken(now, self.frontier);
        self.recompute_consumed();
        self.window.handle_consumed(now, self.consumed, self.buffer.is_empty());
        RecordOutcome::Delivered
    }

    /// Puts a record that begins at or below the frontier behind the others.
    fn take(&mut self, record: &Record) {
        let bytes = record.charge_bytes();
        let known = self.frontier.0.saturating_sub(record.header.stream_base.0);
        let Some(record) = u32::try_from(known).ok().and_then(|skip| record.without_first(skip))
        else {
            return;
        };
        self.taken_bytes = self.taken_bytes.saturating_add(bytes);
        self.frontier = record.header.stream_end();
        let next_seq = self.producers.entry(record.header.producer).or_insert(1);
        let published = next_seq.saturating_sub(record.header.producer_base);
        *next_seq = (*next_seq).max(record.header.producer_end());
        // A producer that published again after its source began a new life.
        let skip = u32::try_from(published).unwrap_or(u32::MAX);
        if let Some(record) = record.without_first(skip) {
            let bytes = record.charge_bytes();
            self.buffered_bytes = self.buffered_bytes.saturating_add(bytes);
            self.buffer.push_back(record);
        }
    }

    /// Begins or resumes a consumer's subscription; the first offset that it will get.
    ///
    /// # Errors
    /// [`ConsumerError`]; nothing changed.
    pub fn attach(
        &mut self,
        consumer: &str,
        start: ConsumerStart,
    ) -> Result<StreamOffset, ConsumerError> {
        let max = self.limits.consumers_max;
        let cursor = self.consumers.attach(consumer, start, self.floor, max)?;
        self.handed_bytes = 0;
        self.note_handed_out();
        Ok(cursor)
    }

    /// A consumer's subscription ended. Once there is none left, what was slow is gone with it: as much
    /// waits for who comes next as if nobody had come so far.
    pub fn detach(&mut self, consumer: &str) {
        self.consumers.detach(consumer);
        self.note_nobody_reads();
    }

    /// The first offset that a consumer has not confirmed; `None` for one that is not known.
    #[must_use]
    pub fn confirmed(&self, consumer: &str) -> Option<StreamOffset> {
        self.consumers.get(consumer).map(|known| known.confirmed)
    }

    /// The next messages for a consumer, if there are any.
    pub fn poll_deliver(&mut self, consumer: &str) -> Option<Record> {
        let known = self.consumers.get_mut(consumer)?;
        let index = self.buffer.partition_point(|r| r.header.stream_end() <= known.cursor);
        let record = self.buffer.get(index)?;
        let skip = known.cursor.0.saturating_sub(record.header.stream_base.0);
        let record = record.without_first(u32::try_from(skip).ok()?)?;
        known.cursor = record.header.stream_end();
        if index.saturating_add(1) == self.buffer.len() {
            self.note_handed_out();
        }
        Some(record)
    }

    /// The consumer has got everything that there will ever be.
    #[must_use]
    pub fn is_exhausted(&self, consumer: &str) -> bool {
        self.end.is_some_and(|end| {
            self.frontier >= end
                && self.consumers.get(consumer).is_some_and(|known| {
                    known.cursor >= end
                        || self
                            .buffer
                            .back()
                            .is_none_or(|last| known.cursor >= last.header.stream_end())
                })
        })
    }

    /// A consumer confirms everything below `next`; true if that is news.
    ///
    /// # Errors
    /// [`ConsumerError`]; nothing changed.
    pub fn handle_commit(
        &mut self,
        now: MonoTime,
        consumer: &str,
        next: StreamOffset,
    ) -> Result<bool, ConsumerError> {
        if next > self.frontier {
            return Err(ConsumerError::Ahead { end: self.frontier });
        }
        let floor = self.floor;
        if self.consumers.get(consumer).is_none() {
            self.attach(consumer, ConsumerStart::At(next.max(floor)))?;
            self.detach(consumer);
        }
        let Some(known) = self.consumers.get_mut(consumer) else { return Ok(false) };
        if next <= known.confirmed {
            return Ok(false);
        }
        known.confirmed = next;
        let before = self.consumed;
        self.recompute_consumed();
        self.window.handle_consumed(now, self.consumed, self.buffer.is_empty());
        self.note_handed_out();
        if self.consumed > before && self.consumed_ack_at.is_none() {
            self.consumed_ack_at = Some(now.saturating_add(self.limits.consumed_ack_after));
        }
        Ok(true)
    }

    /// Raises the consumed frontier to what every consumer confirmed and drops what lies below.
    fn recompute_consumed(&mut self) {
        let Some(confirmed) = self.consumers.confirmed() else { return };
        self.consumed = self.consumed.max(confirmed.min(self.frontier));
        while let Some(record) =
            self.buffer.pop_front_if(|record| record.header.stream_end() <= self.consumed)
        {
            let bytes = record.charge_bytes();
            self.buffered_bytes = self.buffered_bytes.saturating_sub(bytes);
            self.handed_bytes = self.handed_bytes.saturating_sub(bytes);
            self.floor = record.header.stream_end();
        }
        if self.buffer.is_empty() {
            // Nothing is left that a consumer could still be given.
            self.consumed = self.frontier;
            self.floor = self.frontier;
        }
    }

    /// The acknowledgement that is due, if one is.
    pub fn poll_ack(&mut self, now: MonoTime, budget: &mut WindowBudget) -> Option<StreamAck> {
        if self.rests_at().is_some_and(|at| at <= now) {
            self.record_at = None;
            self.rest(budget);
        }
        if let Some(fence_epoch) = self.stranger.take() {
            return Some(StreamAck::unknown(self.stream, fence_epoch, self.epoch));
        }
        let fence_epoch = self.fence?;
        let grown = self.credit_with(self.window_bytes).saturating_sub(self.granted_bytes);
        let due = self.ack_urgent
            || self.consumed_ack_at.is_some_and(|at| at <= now)
            || (self.consumed_ack_at.is_some() && grown >= self.window_bytes >> 2);
        if !due {
            return None;
        }
        let credit_bytes = self.grant(budget);
        // A source that asks where to go on takes whichever acknowledgement comes first.
        let producers = if self.told {
            Vec::new()
        } else {
            self.producers.iter().map(|(&producer, &next)| (producer, next)).collect()
        };
        self.ack_urgent = false;
        self.consumed_ack_at = None;
        self.granted_bytes = credit_bytes;
        // A source that asks must not give out again what a consumer has confirmed, though this
        // node has forgotten the rest.
        let received = if self.told {
            self.frontier
        } else {
            self.frontier.max(self.consumers.confirmed_most())
        };
        Some(StreamAck {
            stream: self.stream,
            fence_epoch,
            receiver_epoch: self.epoch,
            received,
            seen: self.seen.max(received),
            consumed: self.consumed,
            origin: self.origin,
            credit_bytes,
            marked_bytes: self.marked_bytes,
            unknown: false,
            ended: self.end.is_some(),
            forgot: self.forgot,
            producers,
            refused: self.refused.map(|violation| violation.refusal()),
        })
    }

    /// When [`Self::poll_ack`] has something to say, or to give back, without another event.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<MonoTime> {
        if self.ack_urgent || self.stranger.is_some() {
            Some(MonoTime::ZERO)
        } else {
            sooner(self.consumed_ack_at, self.rests_at())
        }
    }

    /// Closed, and every consumer has everything.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.end.is_some_and(|end| self.consumed >= end)
    }
}
