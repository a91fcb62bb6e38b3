use std::collections::VecDeque;

use hawser_wire::{FrameRef, STRIPE_CHANNELS, StripeStamp};

use crate::batch::{Batch, BatchFifo, NewFrame};
use crate::buffer_pool::BufferPool;
use crate::fair_queue::Flow;
use crate::origin::Origin;
use crate::width::wide;

/// A channel without a frame is given up after so many ticks.
const IDLE_TICKS: u32 = 10;

/// The sending half of striping on one link: streams that take every bulk lane, and keep their order.
///
/// Each has a *channel* and in it a sequence. What it sends waits in one queue, from which the lanes take
/// the next batch as they have room.
/// What waits is bound to no lane that may be lost. The far end puts the frames back in order.
///
/// The first frame of a channel goes behind the stream's plain ones on their lane, and no other is
/// delivered before it: the lane is the barrier. A channel that holds nothing, with nothing in flight,
/// may be given to another stream, or end: whatever the stream sends next cannot overtake anything.
///
/// **Invariant:** what was sent of a channel from the first frame that is not acknowledged on stays
/// within the window, unless it is one batch: it is what the far end may have to hold.
#[derive(Debug)]
pub(crate) struct Striping {
    window_bytes: u64,
    window_frames: u64,
    /// Who was served last, last.
    channels: VecDeque<Channel>,
    /// The turn of the last that was served (start-time fair queueing, Goyal et al., 1996): bytes, times
    /// the channels of the tenant that waited. So tenants share by bytes, then each one's channels.
    time: u64,
    /// The last that was given to a channel.
    epoch: u32,
    /// The peer puts striped frames back in order.
    pub(crate) is_supported: bool,
}

/// One stream's frames: those of this node, or those of others, which have a queue of their own on each
/// lane, too, behind which the first one goes. Frames that go round a broken link may come past their
/// source again.
#[derive(Debug)]
struct Channel {
    number: u8,
    epoch: u32,
    flow: Flow,
    origin: Origin,
    next_sequence: u64,
    queue: BatchFifo,
    /// What was sent from the first batch on that is not acknowledged.
    sent: VecDeque<SentBatch>,
    sent_bytes: u64,
    sent_frames: u64,
    /// When its turn is, see [`Striping::time`].
    turn: u64,
    idle_ticks: u32,
    tenure: Tenure,
}

/// Whose a channel is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Tenure {
    /// The stream's.
    Stream,
    /// Nobody's: the far end is still to be told, by a new epoch, that what it misses will not come.
    Untold,
    /// Nobody's: that is on its way.
    Told,
}

/// A batch as it was sent, the lowest link sequence its name.
#[derive(Clone, Copy, Debug)]
struct SentBatch {
    lowest: u64,
    bytes: u64,
    frames: u64,
    is_acknowledged: bool,
}

impl Channel {
    fn is_of(&self, flow: Flow, origin: Origin) -> bool {
        self.flow.stream == flow.stream && self.origin == origin && self.tenure == Tenure::Stream
    }

    fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.sent.is_empty()
    }

    fn forget_sent(&mut self) {
        self.sent.clear();
        (self.sent_bytes, self.sent_frames) = (0, 0);
    }

    fn note_sent(&mut self, lowest: u64, bytes: u64, frames: u64) {
        self.sent.push_back(SentBatch { lowest, bytes, frames, is_acknowledged: false });
        self.sent_bytes = self.sent_bytes.saturating_add(bytes);
        self.sent_frames = self.sent_frames.saturating_add(frames);
    }
}

impl Striping {
    pub(crate) const fn new(window_bytes: u64, window_frames: u64) -> Self {
        let channels = VecDeque::new();
        Self { window_bytes, window_frames, channels, time: 0, epoch: 0, is_supported: false }
    }

    fn of(&self, flow: Flow, origin: Origin) -> Option<&Channel> {
        self.channels.iter().find(|channel| channel.is_of(flow, origin))
    }

    fn of_mut(&mut self, flow: Flow, origin: Origin) -> Option<&mut Channel> {
        self.channels.iter_mut().find(|channel| channel.is_of(flow, origin))
    }

    /// Bytes that wait of a stream that has a channel.
    pub(crate) fn queued_of(&self, flow: Flow, origin: Origin) -> Option<usize> {
        self.of(flow, origin).map(|channel| channel.queue.bytes())
    }

    /// The least that waits of one that has a channel, in bytes.
    pub(crate) fn least_queued(&self, origin: Origin) -> Option<usize> {
        let channels = self.channels.iter().filter(|channel| channel.tenure == Tenure::Stream);
        channels
            .filter(|channel| channel.origin == origin)
            .map(|channel| channel.queue.bytes())
            .min()
    }

    /// The stamp of a stream's next frame. A stream without a channel gets one if it `asks` for it, the
    /// peer knows of striping, and a channel is free.
    pub(crate) fn stamp(&mut self, flow: Flow, origin: Origin, asks: bool) -> Option<StripeStamp> {
        if self.of(flow, origin).is_none() {
            if !asks || !self.is_supported {
                return None;
            }
            self.open(flow, origin)?;
        }
        let channel = self.of(flow, origin)?;
        let Channel { number, epoch, next_sequence: sequence, .. } = *channel;
        Some(StripeStamp { channel: number, epoch, sequence })
    }

    /// Of other nodes' streams a tenant may have as many channels in use as are still free (as with
    /// bytes in a [`crate::fair_queue::FairQueue`]), half of them if it is alone.
    fn open(&mut self, flow: Flow, origin: Origin) -> Option<()> {
        let epoch = self.epoch.checked_add(1)?;
        let used = || self.channels.iter().filter(|channel| !channel.is_empty());
        let held = used().filter(|channel| channel.flow.tenant == flow.tenant).count();
        let free = STRIPE_CHANNELS.saturating_sub(used().count());
        if origin == Origin::Foreign && held >= free {
            return None;
        }
        let is_free = |number: &u8| self.channels.iter().all(|channel| channel.number != *number);
        let number = (0..u8::try_from(STRIPE_CHANNELS).unwrap_or(u8::MAX)).find(is_free);
        let number = match number {
            Some(number) => number,
            None => {
                // The far end waits for word of one that is untold.
                let is_free = |other: &Channel| other.is_empty() && other.tenure != Tenure::Untold;
                let free = self.channels.iter().enumerate().filter(|(_, other)| is_free(other));
                let (at, _) = free.max_by_key(|(_, channel)| channel.idle_ticks)?;
                self.channels.remove(at)?.number
            }
        };
        self.epoch = epoch;
        self.channels.push_back(Channel {
            number,
            epoch,
            flow,
            origin,
            next_sequence: 0,
            queue: BatchFifo::default(),
            sent: VecDeque::new(),
            sent_bytes: 0,
            sent_frames: 0,
            turn: self.time,
            idle_ticks: 0,
            tenure: Tenure::Stream,
        });
        Some(())
    }

    /// The frame with the stream's last stamp waits on a lane, behind plain ones.
    pub(crate) fn handle_first(&mut self, flow: Flow, origin: Origin, frame: &NewFrame<'_>) {
        if let Some(channel) = self.of_mut(flow, origin) {
            channel.next_sequence = channel.next_sequence.saturating_add(1);
            channel.note_sent(frame.sequence, wide(frame.len), 1);
        }
    }

    /// Queues the frame with the stream's last stamp; false, and nothing taken, if it is too large.
    pub(crate) fn push(
        &mut self,
        (flow, origin): (Flow, Origin),
        frame: &NewFrame<'_>,
        batch_bytes: usize,
        pool: &mut BufferPool,
    ) -> bool {
        let Some(channel) = self.of_mut(flow, origin) else { return false };
        let taken = channel.queue.push(frame, batch_bytes, pool);
        channel.next_sequence = channel.next_sequence.saturating_add(u64::from(taken));
        taken
    }

    /// The next batch of a channel, if its window allows it.
    fn sendable<'a>(&self, channel: &'a Channel) -> Option<&'a Batch> {
        let front = channel.queue.front()?;
        let bytes = channel.sent_bytes.saturating_add(front.counted_bytes());
        let frames = channel.sent_frames.saturating_add(front.counted());
        let fits = bytes <= self.window_bytes && frames <= self.window_frames;
        (fits || channel.sent.is_empty()).then_some(front)
    }

    /// Channels that have something to send.
    pub(crate) fn waiting(&self) -> usize {
        self.channels.iter().filter(|channel| self.sendable(channel).is_some()).count()
    }

    /// Tenants of those.
    pub(crate) fn waiting_tenants(&self) -> usize {
        let waiting = || self.channels.iter().filter(|channel| self.sendable(channel).is_some());
        let is_first = |&(at, channel): &(usize, &Channel)| {
            !waiting().take(at).any(|other| other.flow.tenant == channel.flow.tenant)
        };
        waiting().enumerate().filter(is_first).count()
    }

    /// The channel whose turn it is. One that did not wait has missed its turns.
    fn next(&self) -> Option<usize> {
        let channels = self.channels.iter().enumerate();
        let waiting = channels.filter(|(_, channel)| self.sendable(channel).is_some());
        waiting.min_by_key(|(_, channel)| channel.turn.max(self.time)).map(|(at, _)| at)
    }

    /// The batch whose turn it is.
    pub(crate) fn front(&self) -> Option<&Batch> {
        self.next().and_then(|at| self.channels.get(at)).and_then(|channel| channel.queue.front())
    }

    /// Takes that batch, to be sent.
    pub(crate) fn take(&mut self) -> Option<Batch> {
        let at = self.next()?;
        let tenant = self.channels.get(at)?.flow.tenant;
        let waiting = self.channels.iter().filter(|channel| self.sendable(channel).is_some());
        let sharers = wide(waiting.filter(|channel| channel.flow.tenant == tenant).count());
        let mut channel = self.channels.remove(at)?;
        let batch = channel.queue.pop();
        if let Some(batch) = &batch {
            channel.note_sent(batch.lowest(), batch.counted_bytes(), batch.counted());
            self.time = channel.turn.max(self.time);
            channel.turn = self.time.saturating_add(wide(batch.len()).saturating_mul(sharers));
        }
        self.channels.push_back(channel);
        batch
    }

    /// The peer has all of a batch. One of a channel that is over changes nothing.
    pub(crate) fn handle_acknowledged(&mut self, epoch: u32, lowest: u64) {
        let mut channels = self.channels.iter_mut();
        let Some(channel) = channels.find(|channel| channel.epoch == epoch) else { return };
        // Link sequences grow as batches are sent.
        let at = channel.sent.binary_search_by_key(&lowest, |sent| sent.lowest);
        if let Some(sent) = at.ok().and_then(|at| channel.sent.get_mut(at)) {
            sent.is_acknowledged = true;
        }
        while let Some(sent) = channel.sent.pop_front_if(|sent| sent.is_acknowledged) {
            channel.sent_bytes = channel.sent_bytes.saturating_sub(sent.bytes);
            channel.sent_frames = channel.sent_frames.saturating_sub(sent.frames);
        }
    }

    /// A tick has passed: channels of streams that send nothing end.
    pub(crate) fn handle_tick(&mut self) {
        for channel in &mut self.channels {
            let ticks = channel.idle_ticks.saturating_add(1);
            let is_idle = channel.is_empty() && channel.tenure != Tenure::Untold;
            channel.idle_ticks = if is_idle { ticks } else { 0 };
        }
        self.channels.retain(|channel| channel.idle_ticks < IDLE_TICKS);
    }

    /// Ends every channel: what waits. Epochs go on counting.
    pub(crate) fn take_all(&mut self) -> Vec<Batch> {
        let mut waiting = Vec::new();
        for mut channel in self.channels.drain(..) {
            waiting.extend(std::iter::from_fn(|| channel.queue.pop()));
        }
        waiting
    }

    /// Takes out the waiting frames that `takes` wants.
    pub(crate) fn extract(
        &mut self,
        takes: &mut impl FnMut(&FrameRef<'_>) -> bool,
        pool: &mut BufferPool,
        out: &mut Vec<Batch>,
    ) {
        for channel in &mut self.channels {
            channel.queue.extract(takes, pool, out);
        }
    }

    /// What waits of all channels, which stay.
    pub(crate) fn take_waiting(&mut self) -> Vec<Batch> {
        let mut waiting = Vec::new();
        for channel in &mut self.channels {
            waiting.extend(std::iter::from_fn(|| channel.queue.pop()));
        }
        waiting
    }

    /// What waits of the channel with this epoch.
    pub(crate) fn take_queued(&mut self, epoch: u32) -> Vec<Batch> {
        let channel = self.channels.iter_mut().find(|channel| channel.epoch == epoch);
        channel
            .map_or_else(Vec::new, |channel| std::iter::from_fn(|| channel.queue.pop()).collect())
    }

    /// Ends the channel with this epoch, of which nothing waits.
    pub(crate) fn end(&mut self, epoch: u32) {
        self.channels.retain(|channel| channel.epoch != epoch);
    }

    /// Begins the channel with this epoch, of which nothing waits, anew: the stamp of its first frame,
    /// which has `len` bytes and is on its way. It ends if epochs have run out.
    pub(crate) fn renew(&mut self, epoch: u32, sequence: u64, len: u64) -> Option<StripeStamp> {
        let Some(newer) = self.epoch.checked_add(1) else {
            self.end(epoch);
            return None;
        };
        let channel = self.channels.iter_mut().find(|channel| channel.epoch == epoch)?;
        self.epoch = newer;
        (channel.epoch, channel.next_sequence) = (newer, 1);
        channel.forget_sent();
        channel.note_sent(sequence, len, 1);
        if channel.tenure == Tenure::Untold {
            channel.tenure = Tenure::Told;
        }
        Some(StripeStamp { channel: channel.number, epoch: newer, sequence: 0 })
    }

    /// The channel with this epoch, of which nothing waits, is to begin anew when it can: not for its stream,
    /// which may send plain frames until then.
    pub(crate) fn leave(&mut self, epoch: u32) {
        if let Some(channel) = self.channels.iter_mut().find(|channel| channel.epoch == epoch) {
            channel.forget_sent();
            channel.tenure = Tenure::Untold;
        }
    }

    /// The epoch of a channel that is to begin anew.
    pub(crate) fn left(&self) -> Option<u32> {
        let mut channels = self.channels.iter();
        channels.find(|channel| channel.tenure == Tenure::Untold).map(|channel| channel.epoch)
    }

    /// Those that channels have now.
    pub(crate) fn epochs(&self) -> Vec<u32> {
        self.channels.iter().map(|channel| channel.epoch).collect()
    }

    /// A channel has this epoch, and the far end waits for what is missing of it.
    pub(crate) fn is_open(&self, epoch: u32) -> bool {
        let mut channels = self.channels.iter();
        channels.any(|channel| channel.epoch == epoch && channel.tenure != Tenure::Untold)
    }

    /// Bytes of `origin` that wait.
    pub(crate) fn queued_bytes(&self, origin: Origin) -> usize {
        let channels = self.channels.iter().filter(|channel| channel.origin == origin);
        channels.fold(0, |sum: usize, channel| sum.saturating_add(channel.queue.bytes()))
    }

    /// Bytes that wait of others' streams of a tenant.
    pub(crate) fn tenant_bytes(&self, tenant: u64) -> usize {
        let is_of_tenant =
            |channel: &&Channel| channel.origin == Origin::Foreign && channel.flow.tenant == tenant;
        let channels = self.channels.iter().filter(is_of_tenant);
        channels.fold(0, |sum: usize, channel| sum.saturating_add(channel.queue.bytes()))
    }

    /// No counted frame that waits has a lower link sequence.
    pub(crate) fn lowest(&self) -> u64 {
        let queues = self.channels.iter().map(|channel| channel.queue.lowest());
        queues.min().unwrap_or(u64::MAX)
    }

    /// Channels that streams have.
    pub(crate) fn channels(&self) -> usize {
        let is_streams = |channel: &&Channel| channel.tenure == Tenure::Stream;
        self.channels.iter().filter(is_streams).count()
    }
}

#[cfg(test)]
mod tests;
