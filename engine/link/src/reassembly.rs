use std::collections::VecDeque;
use std::time::Duration;

use hawser_wire::{FrameHeader, FrameRef, MonoTime, STRIPE_CHANNELS, StripeStamp};
use thiserror::Error;

use crate::buffer_pool::BufferPool;

/// Bounds of what a link's receiver holds for each stripe channel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReorderLimits {
    /// Bytes of bodies before their turn.
    pub(crate) bytes: u64,
    /// How far ahead of its turn a frame may be.
    pub(crate) frames: u64,
    /// A frame may be missing this long. More than a link session outlives its lanes.
    pub(crate) gap_max: Duration,
}

/// The peer broke the rules of striping; nothing was taken.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum ReassemblyError {
    /// A sequence further ahead than may be.
    #[error("stripe sequence {sequence} is {max} frames or more ahead of {next}")]
    SequenceJump {
        /// What came.
        sequence: u64,
        /// What is to be delivered next.
        next: u64,
        /// The bound in frames.
        max: u64,
    },
    /// More bytes before their turn than may be.
    #[error("{held_bytes} bytes wait out of order, {max_bytes} may")]
    WindowOverrun {
        /// With the frame that came.
        held_bytes: u64,
        /// The bound.
        max_bytes: u64,
    },
    /// A sequence that was here before. Retransmissions were removed already, by link sequence.
    #[error("stripe sequence {sequence} came twice")]
    DuplicateSequence {
        /// What came.
        sequence: u64,
    },
    /// An epoch that is over on the lane that it came over.
    #[error("epoch {epoch} of stripe channel {channel} is over")]
    StaleEpoch {
        /// The channel.
        channel: u8,
        /// What came.
        epoch: u32,
    },
}

/// What becomes of a striped frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum StripeOutcome {
    /// It is delivered now, then all that [`Reassembly::poll_deliver`] gives.
    Deliver,
    /// It came before its turn and is held.
    Held,
}

/// A frame that was held until its turn came, without its stamp. Once it is handled its memory is for
/// [`crate::VirtualLink::give_reassembled`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ReassembledFrame {
    /// As of a plain record.
    pub header: FrameHeader,
    /// What stood behind the stamp.
    pub body: Vec<u8>,
}

impl ReassembledFrame {
    /// As it would have come over a lane.
    #[must_use]
    pub fn as_frame(&self) -> FrameRef<'_> {
        FrameRef { header: self.header, body: self.body.as_slice().into() }
    }
}

/// The receiving half of striping on one link: puts the frames of each channel back in order.
///
/// Frames that come in order are never copied or kept. Plain frames never come here. What a lane loses
/// comes over another one, so a frame is missing for long only if the peer has ended the session or
/// breaks the rules; then those behind it are delivered without it.
///
/// **Invariant:** no channel holds more than its limits in frames or bytes, in buffers of its own that
/// are at most twice as large, or of [`BUFFER_BYTES_MIN`].
#[derive(Debug)]
pub(crate) struct Reassembly {
    limits: ReorderLimits,
    channels: [Channel; STRIPE_CHANNELS],
    /// The newest epoch of sessions that this end has ended: the peer may not know yet, and what it
    /// sends of them is delivered as it comes.
    forgotten_epoch: u32,
    /// Whose turn has come.
    ready: VecDeque<ReassembledFrame>,
    buffers: HeldBuffers,
}

/// Smallest buffer for a frame that is held.
const BUFFER_BYTES_MIN: usize = 1 << BUFFER_BITS_MIN;
const BUFFER_BITS_MIN: u32 = 10;
/// From 1 to 256 KiB; for a larger frame memory is found anew.
const BUFFER_SIZES: usize = 9;

/// Memory for frames that are held, a pool for each power of two: a small frame never holds the buffer
/// of a large one.
#[derive(Debug)]
struct HeldBuffers {
    pools: [BufferPool; BUFFER_SIZES],
}

impl HeldBuffers {
    fn new() -> Self {
        // What an allocator adds is no reason to let a buffer go.
        let pool = |at| BufferPool::new((BUFFER_BYTES_MIN << at) | ((BUFFER_BYTES_MIN << at) >> 1));
        Self { pools: std::array::from_fn(pool) }
    }

    fn pool(&mut self, bits: u32) -> Option<&mut BufferPool> {
        let at = usize::try_from(bits.checked_sub(BUFFER_BITS_MIN)?).ok()?;
        self.pools.get_mut(at)
    }

    /// An own copy of `body`.
    fn copy(&mut self, body: &[u8]) -> Vec<u8> {
        let size = body.len().max(BUFFER_BYTES_MIN).next_power_of_two();
        let pool = self.pool(size.trailing_zeros());
        let (mut buffer, size) =
            pool.map_or_else(|| (Vec::new(), body.len()), |p| (p.take(), size));
        buffer.reserve_exact(size);
        buffer.extend_from_slice(body);
        buffer
    }

    fn give(&mut self, buffer: Vec<u8>) {
        if let Some(pool) = buffer.capacity().checked_ilog2().and_then(|bits| self.pool(bits)) {
            pool.give(buffer);
        }
    }
}

#[derive(Debug, Default)]
struct Channel {
    /// 0 before the first.
    epoch: u32,
    next: u64,
    /// What has come from `next` on; the first is missing.
    slots: VecDeque<Option<ReassembledFrame>>,
    held_bytes: u64,
    held_frames: u64,
    /// Since when `next` is missing.
    waits_since: Option<MonoTime>,
    /// A gap was given up: what is missing may still come.
    has_skipped: bool,
}

/// Where a frame belongs.
enum Place {
    /// So far ahead of its turn.
    Ahead(usize),
    /// Its turn is over, and nobody is to blame.
    Late,
}

/// A gap that was given up.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct GivenUp {
    pub(crate) channel: u8,
    /// The first that was missing.
    pub(crate) sequence: u64,
    pub(crate) waited: Duration,
}

impl Reassembly {
    /// Nothing held.
    pub(crate) fn new(limits: ReorderLimits) -> Self {
        let (channels, ready) = (Default::default(), VecDeque::new());
        Self { limits, channels, forgotten_epoch: 0, ready, buffers: HeldBuffers::new() }
    }

    /// Bytes of bodies that wait for their turn.
    pub(crate) fn held_bytes(&self) -> u64 {
        self.channels.iter().fold(0, |sum: u64, channel| sum.saturating_add(channel.held_bytes))
    }

    /// Takes a striped frame without its stamp.
    ///
    /// `is_outdated`: a newer epoch of the channel came over the same lane before. `is_forgiving`: a
    /// session with this life of the peer has ended, which it may not have known when it sent the frame;
    /// whatever would be a violation is delivered as it comes.
    ///
    /// # Errors
    /// [`ReassemblyError`]; nothing was taken.
    pub(crate) fn handle_frame(
        &mut self,
        now: MonoTime,
        stamp: StripeStamp,
        frame: FrameRef<'_>,
        is_outdated: bool,
        is_forgiving: bool,
    ) -> Result<StripeOutcome, ReassemblyError> {
        let limits = self.limits;
        let StripeStamp { channel: number, epoch, .. } = stamp;
        let stale = ReassemblyError::StaleEpoch { channel: number, epoch };
        let channel = self.channels.get_mut(usize::from(number));
        let Some(channel) = channel.filter(|_| epoch > 0) else { return Err(stale) };
        if epoch <= self.forgotten_epoch {
            return Ok(StripeOutcome::Deliver);
        }
        let place = match is_outdated {
            true => Err(stale),
            false => channel.place(stamp, &frame.body, limits),
        };
        let ahead = match place {
            Ok(Place::Ahead(ahead)) => ahead,
            Ok(Place::Late) => return Ok(StripeOutcome::Deliver),
            Err(_) if is_forgiving => return Ok(StripeOutcome::Deliver),
            Err(error) => return Err(error),
        };
        if epoch > channel.epoch {
            channel.give_up(&mut self.ready);
            *channel =
                Channel { epoch, slots: std::mem::take(&mut channel.slots), ..Channel::default() };
        }
        if ahead == 0 {
            channel.slots.pop_front();
            channel.next = channel.next.saturating_add(1);
            channel.advance(now, &mut self.ready);
            return Ok(StripeOutcome::Deliver);
        }
        let FrameRef { header, body } = frame;
        channel.hold(now, ahead, ReassembledFrame { header, body: self.buffers.copy(&body) });
        Ok(StripeOutcome::Held)
    }

    /// For how many frames before it room is made if this one begins a channel anew; none for one that is
    /// refused.
    pub(crate) fn early_places(&self, stamp: StripeStamp) -> u64 {
        let channel = self.channels.get(usize::from(stamp.channel));
        let begins = stamp.sequence < self.limits.frames
            && stamp.epoch > self.forgotten_epoch
            && channel.is_some_and(|channel| stamp.epoch > channel.epoch);
        if begins { stamp.sequence } else { 0 }
    }

    /// The next frame whose turn has come, or that is delivered without those before it.
    pub(crate) fn poll_deliver(&mut self) -> Option<ReassembledFrame> {
        self.ready.pop_front()
    }

    /// Memory of a frame that was delivered.
    pub(crate) fn give(&mut self, frame: ReassembledFrame) {
        self.buffers.give(frame.body);
    }

    /// Frees memory that was of no use since the last call.
    pub(crate) fn trim(&mut self) {
        self.buffers.pools.iter_mut().for_each(BufferPool::trim);
    }

    /// Gives up what has been missing for too long; call until `None`.
    pub(crate) fn handle_timeout(&mut self, now: MonoTime) -> Option<GivenUp> {
        for (number, channel) in (0..).zip(&mut self.channels) {
            let waited = channel.waits_since.map_or(Duration::ZERO, |at| now.saturating_since(at));
            if waited >= self.limits.gap_max {
                let sequence = channel.next;
                channel.give_up(&mut self.ready);
                return Some(GivenUp { channel: number, sequence, waited });
            }
        }
        None
    }

    /// The peer has ended its session: what is missing will not come.
    pub(crate) fn give_up(&mut self) {
        for channel in &mut self.channels {
            channel.give_up(&mut self.ready);
        }
    }

    /// The session ended at this end: the channels begin anew.
    pub(crate) fn handle_session_end(&mut self) {
        self.give_up();
        let epochs = self.channels.iter().map(|channel| channel.epoch);
        self.forgotten_epoch = epochs.fold(self.forgotten_epoch, u32::max);
        self.channels = Default::default();
    }

    /// The peer has begun another life, and counts its epochs anew.
    pub(crate) fn handle_other_life(&mut self) {
        self.forgotten_epoch = 0;
    }
}

impl Channel {
    fn place(
        &self,
        stamp: StripeStamp,
        body: &[u8],
        limits: ReorderLimits,
    ) -> Result<Place, ReassemblyError> {
        let StripeStamp { sequence, epoch, .. } = stamp;
        if epoch < self.epoch {
            // Over another lane than the newer epoch: it was under way when its session ended.
            return Ok(Place::Late);
        }
        let is_new = epoch > self.epoch;
        let (next, held) = if is_new { (0, 0) } else { (self.next, self.held_bytes) };
        let duplicate = Err(ReassemblyError::DuplicateSequence { sequence });
        let Some(ahead) = sequence.checked_sub(next) else {
            return if self.has_skipped { Ok(Place::Late) } else { duplicate };
        };
        if ahead >= limits.frames && ahead > 0 {
            let max = limits.frames;
            return Err(ReassemblyError::SequenceJump { sequence, next, max });
        }
        let held_bytes = held.saturating_add(u64::try_from(body.len()).unwrap_or(u64::MAX));
        if ahead > 0 && held_bytes > limits.bytes {
            let max_bytes = limits.bytes;
            return Err(ReassemblyError::WindowOverrun { held_bytes, max_bytes });
        }
        let ahead = usize::try_from(ahead).unwrap_or(usize::MAX);
        if !is_new && self.slots.get(ahead).is_some_and(Option::is_some) {
            return duplicate;
        }
        Ok(Place::Ahead(ahead))
    }

    fn hold(&mut self, now: MonoTime, ahead: usize, frame: ReassembledFrame) {
        let len = u64::try_from(frame.body.len()).unwrap_or(u64::MAX);
        self.held_bytes = self.held_bytes.saturating_add(len);
        self.held_frames = self.held_frames.saturating_add(1);
        self.waits_since.get_or_insert(now);
        while self.slots.len() <= ahead {
            self.slots.push_back(None);
        }
        if let Some(slot) = self.slots.get_mut(ahead) {
            *slot = Some(frame);
        }
    }

    /// `next` was delivered: those behind it that are here have their turn.
    fn advance(&mut self, now: MonoTime, ready: &mut VecDeque<ReassembledFrame>) {
        while let Some(frame) = self.slots.pop_front_if(|slot| slot.is_some()).flatten() {
            self.release(frame, ready);
            self.next = self.next.saturating_add(1);
        }
        self.waits_since = (self.held_frames > 0).then_some(now);
    }

    /// Delivers what is held, without what is missing.
    fn give_up(&mut self, ready: &mut VecDeque<ReassembledFrame>) {
        self.has_skipped |= self.held_frames > 0;
        while let Some(slot) = self.slots.pop_front() {
            self.next = self.next.saturating_add(1);
            if let Some(frame) = slot {
                self.release(frame, ready);
            }
        }
        self.waits_since = None;
    }

    fn release(&mut self, frame: ReassembledFrame, ready: &mut VecDeque<ReassembledFrame>) {
        let len = u64::try_from(frame.body.len()).unwrap_or(u64::MAX);
        self.held_bytes = self.held_bytes.saturating_sub(len);
        self.held_frames = self.held_frames.saturating_sub(1);
        ready.push_back(frame);
    }
}

#[cfg(test)]
mod tests;
