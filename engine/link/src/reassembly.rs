use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use hawser_wire::{FrameFlags, MonoTime};
use thiserror::Error;

use crate::{StripeChannel, StripeStamp, StripeWindow};

/// A frame that is less than this part of its backing buffer is copied out of it.
const BACKING_PART_MIN: usize = 8;

/// Bounds of what a link's receiver holds for striped streams.
#[derive(Clone, Copy, Debug)]
pub struct ReassemblyLimits {
    /// What the sender was told that one channel may hold; more closes the link.
    pub window: StripeWindow,
    /// Channels at a time; what the sender was told, too.
    pub channels_max: usize,
    /// Bytes of backing buffers that frames of all channels may keep from being freed. Beyond it
    /// frames are copied out, so that memory never exceeds this and the windows together.
    pub backing_bytes_max: usize,
    /// A frame may be missing this long. More than a link session outlives its lanes, so that only a
    /// sender that never sent it exceeds it.
    pub gap_max: Duration,
}

impl Default for ReassemblyLimits {
    fn default() -> Self {
        Self {
            window: StripeWindow::default(),
            channels_max: 8,
            backing_bytes_max: 16 << 20,
            gap_max: Duration::from_secs(15),
        }
    }
}

/// The peer broke the rules of striping; nothing was taken, and the link is to be closed.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum ReassemblyError {
    /// More channels than it was told.
    #[error("{max} stripe channels are open already")]
    TooManyChannels {
        /// The bound.
        max: usize,
    },
    /// A sequence further ahead than the window has frames.
    #[error("stripe sequence {sequence} is {max} frames or more ahead of {next}")]
    SequenceJump {
        /// What came.
        sequence: u64,
        /// What is to be delivered next.
        next: u64,
        /// The bound in frames.
        max: usize,
    },
    /// A sequence that was here before. Retransmissions were removed already, by link sequence.
    #[error("stripe sequence {sequence} came twice")]
    DuplicateSequence {
        /// What came.
        sequence: u64,
    },
    /// A sequence behind the last one, or a last one before others.
    #[error("stripe sequence {sequence} contradicts the channel's last frame")]
    BeyondLast {
        /// What came.
        sequence: u64,
    },
    /// More bytes out of order than the window has.
    #[error("{held_bytes} bytes wait out of order, {max_bytes} may")]
    WindowOverrun {
        /// With the frame that came.
        held_bytes: u64,
        /// The bound.
        max_bytes: u64,
    },
    /// A frame that others wait for did not come.
    #[error("stripe sequence {sequence} is missing for {waited:?}")]
    GapTimeout {
        /// What is missing.
        sequence: u64,
        /// For how long.
        waited: Duration,
    },
}

/// What became of a striped frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum StripeOutcome {
    /// It is next: deliver it, then all that [`Reassembly::poll_deliver`] gives.
    Deliver,
    /// It came before its turn and is held.
    Held,
}

/// A frame that was held.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ReassembledFrame {
    /// As in its header.
    pub flags: FrameFlags,
    /// What stood behind the stamp; empty if the stamp came alone.
    pub body: Bytes,
}

/// The receiving half of striping on one link: puts the frames of each channel back in order.
///
/// Frames that come in order are never copied or kept. Plain frames never come here.
///
/// Invariant: no channel holds more than its window in frames or bytes; what is held keeps at most
/// `backing_bytes_max` of backing buffers from being freed, besides what was copied out.
#[derive(Debug)]
pub struct Reassembly {
    limits: ReassemblyLimits,
    channels: BTreeMap<StripeChannel, Channel>,
    /// Of all channels.
    backing_bytes: usize,
    copied_bytes: usize,
}

#[derive(Debug, Default)]
struct Channel {
    next: u64,
    /// What has come from `next` on; the first is missing, or due.
    slots: VecDeque<Option<Held>>,
    held_bytes: u64,
    held_frames: usize,
    last: Option<u64>,
    /// Since when `next` is missing.
    waits_since: Option<MonoTime>,
}

#[derive(Debug)]
struct Held {
    frame: ReassembledFrame,
    memory: Memory,
}

#[derive(Clone, Copy, Debug)]
enum Memory {
    /// Shares a buffer of this many bytes. Charged in full for each frame: too much if two share
    /// one, never too little.
    Backing(usize),
    Copied(usize),
}

impl Reassembly {
    /// Nothing held.
    #[must_use]
    pub const fn new(limits: ReassemblyLimits) -> Self {
        Self { limits, channels: BTreeMap::new(), backing_bytes: 0, copied_bytes: 0 }
    }

    /// Channels of which the last frame has not been delivered.
    #[must_use]
    pub fn open_channels(&self) -> usize {
        self.channels.len()
    }

    /// Bytes of memory that held frames keep: backing buffers and copies.
    #[must_use]
    pub const fn memory_bytes(&self) -> usize {
        self.backing_bytes.saturating_add(self.copied_bytes)
    }

    /// Takes a striped frame: its stamp, its header's flags, and what stands behind the stamp.
    /// `backing` is the shared buffer that `body` lies in, if there is one to share.
    ///
    /// # Errors
    /// [`ReassemblyError`]; nothing was taken.
    ///
    /// # Panics
    /// If `body` does not lie in `backing`.
    pub fn handle_frame(
        &mut self,
        now: MonoTime,
        stamp: StripeStamp,
        flags: FrameFlags,
        body: &[u8],
        backing: Option<&Bytes>,
    ) -> Result<StripeOutcome, ReassemblyError> {
        let sequence = stamp.sequence;
        let ahead = self.check(stamp, body.len())?;
        let channel = self.channels.entry(stamp.channel).or_default();
        if stamp.last {
            channel.last = Some(sequence);
        }
        if ahead == 0 {
            channel.slots.pop_front();
            self.advance(now, stamp.channel);
            return Ok(StripeOutcome::Deliver);
        }
        let backing_bytes_left = self.limits.backing_bytes_max.saturating_sub(self.backing_bytes);
        let shared = backing.filter(|backing| {
            backing.len() <= body.len().saturating_mul(BACKING_PART_MIN)
                && backing.len() <= backing_bytes_left
        });
        let (body, memory) = if let Some(backing) = shared {
            self.backing_bytes = self.backing_bytes.saturating_add(backing.len());
            (backing.slice_ref(body), Memory::Backing(backing.len()))
        } else {
            self.copied_bytes = self.copied_bytes.saturating_add(body.len());
            (Bytes::copy_from_slice(body), Memory::Copied(body.len()))
        };
        channel.hold(now, ahead, Held { frame: ReassembledFrame { flags, body }, memory });
        Ok(StripeOutcome::Held)
    }

    /// The next held frame of a channel whose turn has come.
    pub fn poll_deliver(
        &mut self,
        now: MonoTime,
        channel: StripeChannel,
    ) -> Option<ReassembledFrame> {
        let slots = &mut self.channels.get_mut(&channel)?.slots;
        let held = slots.pop_front_if(|slot| slot.is_some()).flatten()?;
        let frame = self.release(channel, held);
        self.advance(now, channel);
        Some(frame)
    }

    /// Looks whether a frame has been missing for too long.
    ///
    /// # Errors
    /// [`ReassemblyError::GapTimeout`]; nothing changed.
    pub fn handle_timeout(&self, now: MonoTime) -> Result<(), ReassemblyError> {
        for channel in self.channels.values() {
            let waited = channel.waits_since.map_or(Duration::ZERO, |at| now.saturating_since(at));
            if waited >= self.limits.gap_max {
                return Err(ReassemblyError::GapTimeout { sequence: channel.next, waited });
            }
        }
        Ok(())
    }

    /// When a missing frame will have been missing for too long.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<MonoTime> {
        let first = self.channels.values().filter_map(|channel| channel.waits_since).min()?;
        Some(first.saturating_add(self.limits.gap_max))
    }

    /// The link session ended: what is missing will not come. Gives every held frame, in order but
    /// with gaps, so that the destination need not be sent them again; call until `None`.
    pub fn poll_session_end(&mut self) -> Option<ReassembledFrame> {
        while let Some((&number, channel)) = self.channels.iter_mut().next() {
            while let Some(slot) = channel.slots.pop_front() {
                if let Some(held) = slot {
                    return Some(self.release(number, held));
                }
            }
            self.channels.pop_first();
        }
        None
    }

    /// How far ahead of its turn a frame is; 0 if it may be delivered at once.
    fn check(&self, stamp: StripeStamp, len: usize) -> Result<usize, ReassemblyError> {
        let StripeWindow { bytes: max_bytes, frames: max } = self.limits.window;
        let sequence = stamp.sequence;
        let known = self.channels.get(&stamp.channel);
        if known.is_none() && self.channels.len() >= self.limits.channels_max {
            return Err(ReassemblyError::TooManyChannels { max: self.limits.channels_max });
        }
        let next = known.map_or(0, |channel| channel.next);
        let ahead =
            sequence.checked_sub(next).ok_or(ReassemblyError::DuplicateSequence { sequence })?;
        let ahead = usize::try_from(ahead).unwrap_or(usize::MAX);
        if ahead >= max && ahead > 0 {
            return Err(ReassemblyError::SequenceJump { sequence, next, max });
        }
        let len = u64::try_from(len).unwrap_or(u64::MAX);
        let held_bytes = known.map_or(0, |channel| channel.held_bytes).saturating_add(len);
        if ahead > 0 && held_bytes > max_bytes {
            return Err(ReassemblyError::WindowOverrun { held_bytes, max_bytes });
        }
        let Some(channel) = known else { return Ok(ahead) };
        if channel.slots.get(ahead).is_some_and(Option::is_some) {
            return Err(ReassemblyError::DuplicateSequence { sequence });
        }
        let beyond = channel.last.is_some_and(|last| stamp.last || sequence > last)
            || (stamp.last && channel.slots.len() > ahead.saturating_add(1));
        if beyond {
            return Err(ReassemblyError::BeyondLast { sequence });
        }
        Ok(ahead)
    }

    /// The frame at the front was taken out: the one behind it is next.
    fn advance(&mut self, now: MonoTime, number: StripeChannel) {
        let Some(channel) = self.channels.get_mut(&number) else { return };
        channel.next = channel.next.saturating_add(1);
        channel.waits_since = (channel.held_frames > 0).then_some(now);
        if channel.last.is_some_and(|last| channel.next > last) {
            self.channels.remove(&number);
        }
    }

    fn release(&mut self, number: StripeChannel, held: Held) -> ReassembledFrame {
        match held.memory {
            Memory::Backing(bytes) => {
                self.backing_bytes = self.backing_bytes.saturating_sub(bytes);
            }
            Memory::Copied(bytes) => self.copied_bytes = self.copied_bytes.saturating_sub(bytes),
        }
        if let Some(channel) = self.channels.get_mut(&number) {
            let len = u64::try_from(held.frame.body.len()).unwrap_or(u64::MAX);
            channel.held_bytes = channel.held_bytes.saturating_sub(len);
            channel.held_frames = channel.held_frames.saturating_sub(1);
        }
        held.frame
    }
}

impl Channel {
    fn hold(&mut self, now: MonoTime, ahead: usize, held: Held) {
        let len = u64::try_from(held.frame.body.len()).unwrap_or(u64::MAX);
        self.held_bytes = self.held_bytes.saturating_add(len);
        self.held_frames = self.held_frames.saturating_add(1);
        self.waits_since.get_or_insert(now);
        while self.slots.len() <= ahead {
            self.slots.push_back(None);
        }
        if let Some(slot) = self.slots.get_mut(ahead) {
            *slot = Some(held);
        }
    }
}

#[cfg(test)]
mod tests;
