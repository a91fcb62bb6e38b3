use std::collections::VecDeque;
use std::time::Duration;

use hawser_wire::{
    BatchWriter, ClassSet, CloseReason, FrameFlags, FrameKind, FrameRef, Heartbeat, LaneAckEntry,
    LinkSequence, MonoTime, STRIPE_CHANNELS, TrafficClass,
};

use crate::batch::{Batch, extract_from};
use crate::buffer_pool::BufferPool;
use crate::connection::{ConnectionId, LaneKey, LaneOffer};
use crate::credit::{LaneCredit, LaneReceipt};
use crate::data_queue::DataQueue;
use crate::fragment::{Incoming, SplitBatch};
use crate::proportion::proportion;
use crate::rate_maximum::{RateMaximum, half_window, rate_of};
use crate::unacked::UnackedWindow;
use crate::watch::LaneWatch;
use crate::width::wide;

/// Heartbeats and answers are left out while this many bytes of a lane's own frames wait: a peer that
/// asks for them and does not read gets no more.
const OWN_BYTES_MAX: usize = 64 << 10;

/// Least time that a sample of a lane's rate spans: below it scheduling is all that is measured.
const RATE_SPAN_MIN: Duration = Duration::from_micros(200);

/// One connection of a link.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) key: LaneKey,
    pub(crate) id: ConnectionId,
    /// What the lane was made for.
    pub(crate) class: TrafficClass,
    /// What this side puts on it by placement.
    pub(crate) carries: ClassSet,
    /// As the peer was told last.
    announced: ClassSet,
    /// What the peer says that it puts on it.
    pub(crate) peer_classes: ClassSet,
    pub(crate) unacked: UnackedWindow,
    pub(crate) receipt: LaneReceipt,
    pub(crate) credit: LaneCredit,
    pub(crate) watch: LaneWatch,
    /// Of acknowledgements that came over this lane.
    pub(crate) ack_sequence: u64,
    /// Frames of the link itself, uncounted, that must take this lane.
    own: Vec<u8>,
    own_count: u64,
    /// The last of them that were handed out.
    own_sent: Vec<u8>,
    /// Batches by class that go before new ones.
    resend: [VecDeque<Batch>; 3],
    /// Bytes of those.
    resend_bytes: [usize; 3],
    /// Classes of which something goes before new batches: it waits to be sent again or is being sent in
    /// pieces. Most often there is none, and each message asks.
    ahead: ClassSet,
    /// What is being sent in pieces, one batch of a class at a time. Those of one class pass between
    /// those of another.
    split: [Option<SplitBatch>; 3],
    /// What comes in pieces, by class.
    pub(crate) incoming: Incoming,
    /// What keeps to it.
    pub(crate) bulk: DataQueue,
    /// Bulk bytes that it has sent, or would have had it always had some.
    pub(crate) bulk_served: u64,
    /// What bulk that keeps to this lane, and striped bulk, has had while both waited: bytes, divided by
    /// the parts that each had when they went out.
    pinned_time: u64,
    striped_time: u64,
    /// What it delivers, by itself.
    rate: RateMaximum,
    /// The newest epoch of each stripe channel that came over it.
    pub(crate) stripe_epochs: [u32; STRIPE_CHANNELS],
    /// It may have something to write.
    pub(crate) wanted: bool,
    pub(crate) quiet: bool,
    /// It is to be closed once nothing is in flight over it, and another lane carries what there is.
    pub(crate) draining: Option<CloseReason>,
    /// When that was decided, or when the peer last sent something over it that counts.
    pub(crate) draining_since: MonoTime,
    /// The peer wants to close it, and sends nothing more over it: since then, or since this side last had
    /// something for it.
    pub(crate) leaves_since: Option<MonoTime>,
    /// Either side closes it though its link has lanes for each class again: it is to come back.
    pub(crate) returns: bool,
}

impl Lane {
    pub(crate) fn new(now: MonoTime, key: LaneKey, offer: &LaneOffer) -> Self {
        let classes = ClassSet::of(offer.class);
        Self {
            key,
            id: offer.id(),
            class: offer.class,
            carries: ClassSet::empty(),
            announced: classes,
            peer_classes: classes,
            unacked: UnackedWindow::default(),
            receipt: LaneReceipt::new(),
            credit: LaneCredit::new(),
            watch: LaneWatch::new(now),
            ack_sequence: 0,
            own: Vec::new(),
            own_count: 0,
            own_sent: Vec::new(),
            resend: Default::default(),
            resend_bytes: [0; 3],
            ahead: ClassSet::empty(),
            split: [const { None }; 3],
            incoming: Incoming::default(),
            bulk: DataQueue::default(),
            bulk_served: 0,
            pinned_time: 0,
            striped_time: 0,
            rate: RateMaximum::new(),
            stripe_epochs: [0; STRIPE_CHANNELS],
            wanted: true,
            quiet: false,
            draining: None,
            draining_since: now,
            leaves_since: None,
            returns: false,
        }
    }

    /// This side does not want to close it.
    pub(crate) const fn is_open(&self) -> bool {
        self.draining.is_none()
    }

    /// Neither side wants to close it.
    pub(crate) const fn stays(&self) -> bool {
        self.is_open() && self.leaves_since.is_none()
    }

    /// It is to be closed, and the peer was told.
    pub(crate) const fn is_leaving(&self) -> bool {
        self.draining.is_some() && self.has_said_last()
    }

    /// The peer was told that nothing more comes over it.
    pub(crate) const fn has_said_last(&self) -> bool {
        self.announced.is_empty()
    }

    /// Nothing is in flight over it, and both sides have said that they send nothing more; one that does
    /// not say so is waited for until nothing has come for as long as `patience`. One that carries
    /// something, as no other can, goes on.
    pub(crate) fn is_drained(&self, now: MonoTime, patience: Duration) -> bool {
        let is_late = self.draining_since.saturating_add(patience) <= now;
        let is_over = is_late || self.peer_classes.is_empty();
        is_over && self.carries.is_empty() && self.unacked.is_settled() && !self.has_queued()
    }

    /// Queues a frame of the link itself; heartbeats, and what answers the peer, are left out if too
    /// many wait.
    pub(crate) fn push_own(&mut self, kind: FrameKind, body: &[u8]) {
        self.push_own_flagged(kind, FrameFlags::default(), body);
    }

    /// As [`Self::push_own`], with flags. False if it is left out.
    fn push_own_flagged(&mut self, kind: FrameKind, flags: FrameFlags, body: &[u8]) -> bool {
        let may_miss = matches!(
            kind,
            FrameKind::Ping | FrameKind::Pong | FrameKind::LinkMode | FrameKind::TurnDelay
        );
        if may_miss && self.own.len() > OWN_BYTES_MAX {
            return false;
        }
        let class = TrafficClass::Control;
        // Bodies of some kilobytes never exceed the bound.
        let mut writer = BatchWriter::new(&mut self.own);
        let _fits = writer.flagged_frame(kind, class, flags, LinkSequence(0), &[body]);
        self.own_count = self.own_count.saturating_add(1);
        self.wanted = true;
        true
    }

    /// Asks the peer for an echo.
    pub(crate) fn push_heartbeat(&mut self, now: MonoTime, flags: FrameFlags) {
        let beat = Heartbeat { sent_nanos: now.as_nanos() };
        if self.push_own_flagged(FrameKind::Ping, flags, &beat.encode()) {
            self.watch.handle_asked(beat);
        }
    }

    pub(crate) const fn has_own(&self) -> bool {
        !self.own.is_empty()
    }

    /// Makes the link's own frames those that were handed out; how many they are.
    pub(crate) fn take_own(&mut self) -> u64 {
        self.own_sent.clear();
        std::mem::swap(&mut self.own, &mut self.own_sent);
        std::mem::take(&mut self.own_count)
    }

    pub(crate) fn own_sent(&self) -> &[u8] {
        &self.own_sent
    }

    /// What this side puts on the lane from here on, if that is news to the peer.
    pub(crate) fn announce(&mut self) -> Option<ClassSet> {
        let mut classes = self.carries;
        if self.has_bulk() {
            // What waits here goes out here, though nothing is added to it.
            classes = classes.with(TrafficClass::Bulk);
        }
        if classes == self.announced {
            return None;
        }
        // A lane that carries nothing for a while need not say so; one that is to be closed has to.
        let is_over =
            (self.draining.is_some() || self.leaves_since.is_some()) && !self.has_queued();
        if classes.is_empty() && !is_over {
            return None;
        }
        self.announced = classes;
        Some(classes)
    }

    fn resend_of(&self, class: TrafficClass) -> Option<&VecDeque<Batch>> {
        self.resend.get(usize::from(class.to_wire()))
    }

    fn resend_mut(&mut self, class: TrafficClass) -> Option<(&mut VecDeque<Batch>, &mut usize)> {
        let at = usize::from(class.to_wire());
        self.resend.get_mut(at).zip(self.resend_bytes.get_mut(at))
    }

    /// What goes before new batches of `class` has changed.
    fn note_ahead(&mut self, class: TrafficClass) {
        let resends = self.resend_of(class).is_some_and(|queue| !queue.is_empty());
        let is_ahead = resends || self.split(class).is_some();
        self.ahead = if is_ahead { self.ahead.with(class) } else { self.ahead.without(class) };
    }

    /// Something goes before new batches of `class`: one of [`Self::split`] and [`Self::resend_front`].
    pub(crate) const fn is_ahead(&self, class: TrafficClass) -> bool {
        self.ahead.contains(class)
    }

    /// The batch of `class` that is being sent in pieces.
    pub(crate) fn split(&self, class: TrafficClass) -> Option<&SplitBatch> {
        self.split.get(usize::from(class.to_wire()))?.as_ref()
    }

    fn split_mut(&mut self, class: TrafficClass) -> Option<&mut Option<SplitBatch>> {
        self.split.get_mut(usize::from(class.to_wire()))
    }

    /// Sends a batch in pieces from now on.
    pub(crate) fn begin_split(&mut self, batch: Batch) {
        let class = batch.class();
        if let Some(split) = self.split_mut(class) {
            *split = Some(SplitBatch::new(batch));
        }
        self.note_ahead(class);
    }

    /// A batch that goes before new ones of its class; once all are there, [`Self::sort_resend`] puts it
    /// before those that were taken later.
    pub(crate) fn push_resend(&mut self, batch: Batch) {
        self.ahead = self.ahead.with(batch.class());
        if let Some((queue, bytes)) = self.resend_mut(batch.class()) {
            *bytes = bytes.saturating_add(batch.len());
            queue.push_back(batch);
        }
        self.wanted = true;
    }

    /// Batches were pushed. To find the place of each would take the square of how many they are, and a
    /// peer can have a hundred thousand wait.
    pub(crate) fn sort_resend(&mut self) {
        for class in TrafficClass::ALL {
            if let Some((queue, _)) = self.resend_mut(class) {
                queue.make_contiguous().sort_by_key(Batch::lowest);
            }
        }
    }

    /// Puts a batch that could not be sent yet back in front.
    pub(crate) fn put_back(&mut self, batch: Batch) {
        self.ahead = self.ahead.with(batch.class());
        if let Some((queue, bytes)) = self.resend_mut(batch.class()) {
            *bytes = bytes.saturating_add(batch.len());
            queue.push_front(batch);
        }
    }

    /// Bytes that go before new batches.
    pub(crate) fn resend_bytes(&self) -> usize {
        if self.ahead.is_empty() {
            return 0;
        }
        let classes = TrafficClass::ALL.iter();
        classes.fold(0, |sum, &class| sum.saturating_add(self.resend_bytes_of(class)))
    }

    /// Likewise, of `class`.
    pub(crate) fn resend_bytes_of(&self, class: TrafficClass) -> usize {
        if !self.is_ahead(class) {
            return 0;
        }
        let split = self.split(class).map_or(0, SplitBatch::left_bytes);
        let waits = self.resend_bytes.get(usize::from(class.to_wire())).copied().unwrap_or(0);
        waits.saturating_add(split)
    }

    /// As [`DataQueue::waiting`], of all bulk that this lane is to send.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = (Option<u64>, u64)> {
        let resend = self.resend_of(TrafficClass::Bulk).into_iter().flatten();
        let next = resend.chain(self.split(TrafficClass::Bulk).map(SplitBatch::batch));
        next.map(|batch| (None, batch.lowest())).chain(self.bulk.waiting())
    }

    /// Something waits for this very lane.
    pub(crate) fn has_queued(&self) -> bool {
        !self.ahead.is_empty() || self.bulk.bytes() > 0
    }

    /// Bulk waits for this very lane.
    pub(crate) fn has_bulk(&self) -> bool {
        self.is_ahead(TrafficClass::Bulk) || self.bulk.bytes() > 0
    }

    /// Makes the next piece of the batch of `class` that is being sent in pieces the frame that is
    /// handed out; its bytes on the wire, and the batch if it was the last.
    pub(crate) fn take_piece(
        &mut self,
        class: TrafficClass,
        max_bytes: usize,
    ) -> Option<(u64, Option<Batch>)> {
        let split = self.split.get_mut(usize::from(class.to_wire()))?;
        let fragment = split.as_mut()?.next_piece(max_bytes);
        self.own_sent.clear();
        let kind = FrameKind::LaneFragment;
        let parts: [&[u8]; 2] = [&fragment.flags(), fragment.piece];
        let is_last = fragment.last;
        // A piece is smaller than a frame may be.
        let _fits =
            BatchWriter::new(&mut self.own_sent).frame(kind, class, LinkSequence(0), &parts);
        let batch = split.take_if(|_| is_last).map(SplitBatch::into_batch);
        if is_last {
            self.note_ahead(class);
        }
        Some((wide(self.own_sent.len()), batch))
    }

    pub(crate) fn resend_front(&self, class: TrafficClass) -> Option<&Batch> {
        self.resend_of(class).and_then(VecDeque::front)
    }

    pub(crate) fn pop_resend(&mut self, class: TrafficClass) -> Option<Batch> {
        let (queue, bytes) = self.resend_mut(class)?;
        let batch = queue.pop_front()?;
        *bytes = bytes.saturating_sub(batch.len());
        self.note_ahead(class);
        Some(batch)
    }

    /// So many bytes were acknowledged since `sent_at`, a batch that was sent then the last of them: that
    /// is what the lane carries, however little of it is wanted.
    pub(crate) fn handle_delivered(
        &mut self,
        now: MonoTime,
        bytes: u64,
        sent_at: MonoTime,
        is_app_limited: bool,
    ) {
        let rate = rate_of(bytes, now.saturating_since(sent_at).max(RATE_SPAN_MIN));
        if !is_app_limited || rate > self.rate.get() {
            self.rate.handle_sample(now, rate, half_window(self.watch.min_rtt()));
        }
    }

    /// Bytes of the classes that what may be in flight holds back.
    pub(crate) fn data_in_flight(&self) -> u64 {
        self.unacked.bytes_of(TrafficClass::Priority).saturating_add(self.unacked.bulk_bytes())
    }

    /// How long the bulk in flight takes to arrive, by the lane's rate, in nanoseconds: what is sent next
    /// follows it. Before a rate is known, whatever is in flight takes for ever.
    pub(crate) fn drain_nanos(&self) -> u64 {
        match self.unacked.bulk_bytes() {
            0 => 0,
            bytes => proportion(bytes, 1_000_000_000, self.rate.get()).unwrap_or(u64::MAX),
        }
    }

    /// Whether striped bulk of so many `tenants` has its turn before the bulk that keeps to this lane.
    ///
    /// They share by bytes, by as many parts as each has of tenants; the node's own bulk that keeps to
    /// the lane is one of them, however many streams it is of.
    pub(crate) fn is_striped_turn(&mut self, tenants: usize) -> bool {
        if tenants == 0 || self.bulk.bytes() == 0 {
            // Who was alone owes nothing for it.
            (self.pinned_time, self.striped_time) = (0, 0);
            return tenants > 0;
        }
        self.striped_time <= self.pinned_time
    }

    /// Striped bulk went out over it, while some of so many tenants waited.
    pub(crate) fn note_striped(&mut self, bytes: usize, tenants: usize) {
        self.striped_time = self.striped_time.saturating_add(service_time(bytes, tenants));
    }

    /// The next batch of bulk that keeps to this lane.
    pub(crate) fn pop_bulk(&mut self, quantum_bytes: usize) -> Option<Batch> {
        let parts = self.bulk.tenants();
        let batch = self.bulk.pop(quantum_bytes)?;
        self.pinned_time = self.pinned_time.saturating_add(service_time(batch.len(), parts));
        Some(batch)
    }

    /// What waits of `class` for this very lane, in order.
    pub(crate) fn take_queued(&mut self, class: TrafficClass) -> Vec<Batch> {
        let mut queued: Vec<Batch> = Vec::new();
        let split = self.split_mut(class).and_then(Option::take);
        queued.extend(split.map(SplitBatch::into_batch));
        queued.extend(std::iter::from_fn(|| self.pop_resend(class)));
        self.note_ahead(class);
        if class == TrafficClass::Bulk {
            queued.extend(std::iter::from_fn(|| self.pop_bulk(usize::MAX)));
        }
        queued
    }

    /// All that waits for this very lane.
    pub(crate) fn take_all_queued(&mut self) -> Vec<Batch> {
        TrafficClass::ALL.into_iter().flat_map(|class| self.take_queued(class)).collect()
    }

    /// Copies of the frames that `takes` wants, of those in flight over it; a batch that goes in pieces is
    /// in flight from its first piece on.
    pub(crate) fn evacuate(
        &mut self,
        takes: &mut impl FnMut(&FrameRef<'_>) -> bool,
        pool: &mut BufferPool,
        out: &mut Vec<Batch>,
    ) {
        self.unacked.evacuate(takes, pool, out);
        for split in self.split.iter_mut().flatten() {
            out.push(split.batch_mut().copy_gone(0, takes, pool.take()));
        }
    }

    /// Takes out the frames that `takes` wants, of those that wait for this very lane.
    pub(crate) fn extract(
        &mut self,
        takes: &mut impl FnMut(&FrameRef<'_>) -> bool,
        pool: &mut BufferPool,
        out: &mut Vec<Batch>,
    ) {
        for (queue, bytes) in self.resend.iter_mut().zip(&mut self.resend_bytes) {
            extract_from(queue, takes, pool, out);
            *bytes = queue.iter().fold(0, |sum: usize, batch| sum.saturating_add(batch.len()));
        }
        TrafficClass::ALL.into_iter().for_each(|class| self.note_ahead(class));
        self.bulk.extract(takes, pool, out);
    }

    /// No counted frame that waits or is in flight has a lower link sequence.
    pub(crate) fn lowest(&self) -> u64 {
        let resend = self.resend.iter().flatten().map(Batch::lowest).min().unwrap_or(u64::MAX);
        let split = self.split.iter().flatten().map(|split| split.batch().lowest());
        let split = split.min().unwrap_or(u64::MAX);
        self.unacked.lowest().min(resend).min(self.bulk.lowest()).min(split)
    }

    /// Counts and grants, to be sent.
    pub(crate) fn acknowledge(&mut self) -> LaneAckEntry {
        let (count, credit_frames, credit_bytes) = self.receipt.acknowledge();
        let ConnectionId { lane, epoch, dialled } = self.id;
        let (is_final, settled) = (false, false);
        LaneAckEntry { lane, epoch, dialled, is_final, settled, count, credit_frames, credit_bytes }
    }
}

/// What `bytes` are worth to one of so many parts, in 1/1024 byte.
fn service_time(bytes: usize, parts: usize) -> u64 {
    (wide(bytes) << 10).checked_div(wide(parts)).unwrap_or(0)
}
