use std::collections::VecDeque;

use hawser_wire::{LaneId, LinkSequence};

use crate::{StripeChannel, StripeLanes};

/// What stands in front of a striped frame, valid on one link only.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct StripeStamp {
    /// Which run of frames.
    pub channel: StripeChannel,
    /// Position in it, from 0, without gaps.
    pub sequence: u64,
    /// Nothing follows on this channel; it may come without a frame behind it.
    pub last: bool,
}

/// Where a stream's frames are to go.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum StripeTarget {
    /// All on one lane.
    Lane(LaneId),
    /// Over every bulk lane that is up. For large bulk streams that asked for it.
    AllLanes,
}

/// Where one frame goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct StripePlacement {
    /// The lane.
    pub lane: LaneId,
    /// What to write in front of it; a frame without keeps its place by its lane alone.
    pub stamp: Option<StripeStamp>,
}

/// A frame cannot be placed now; nothing changed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum StripeBlocked {
    /// No lane that it may go to has room.
    Lane,
    /// What was sent and not acknowledged fills the receiver's reorder buffer.
    Window,
}

/// How far a stream's frames may run ahead of their acknowledgement: the receiver's reorder buffer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct StripeWindow {
    /// Bytes of frame bodies of one channel.
    pub bytes: u64,
    /// Frames of one channel.
    pub frames: usize,
}

impl Default for StripeWindow {
    fn default() -> Self {
        Self { bytes: 8 << 20, frames: 1024 }
    }
}

/// The sending half of one stream on one link: on which lane each of its frames goes, so that they
/// leave the link in order however lanes are changed.
///
/// A stream on one lane sends plain frames; the lane keeps their order. For a change it opens a
/// *channel*, whose frames carry a sequence:
///
/// 1. Frame 0 goes on the **old** lane, behind the plain frames there. Until it arrives the receiver
///    delivers no other frame of the channel: the lane itself is the barrier, and nothing waits for
///    an acknowledgement.
/// 2. The others go on any lane; the receiver delivers them by sequence.
/// 3. To end on one lane, all frames go there, still stamped. Once what went elsewhere is
///    acknowledged the next one is marked as the *last*. It finds nothing missing when it arrives,
///    so plain frames may follow on its lane.
///
/// Relies on the link for two things: a dead lane's unacknowledged frames all go, in order, to one
/// lane, before new ones; a retransmitted frame keeps its stamp and its link sequence. Without the
/// first the stream's order is lost around a dead lane, without any loss of frames; without the
/// second the receiver closes the link.
///
/// Invariant: unacknowledged stamped frames never exceed the window, unless it is one frame.
#[derive(Debug)]
pub struct StripeSender {
    window: StripeWindow,
    /// Where the last plain frame went, or would have gone.
    lane: LaneId,
    target: StripeTarget,
    channel: Option<OpenChannel>,
    /// Link sequence of the last frame placed, 0 before the first.
    last_sequence: LinkSequence,
    /// Link sequence and body bytes of stamped frames, oldest first.
    unacked: VecDeque<(LinkSequence, u32)>,
    unacked_bytes: u64,
}

#[derive(Clone, Copy, Debug)]
struct OpenChannel {
    channel: StripeChannel,
    next_sequence: u64,
    /// No frame with a higher link sequence went elsewhere than to the lane that is the target, or
    /// to the one whose frames that took over.
    barrier: LinkSequence,
}

impl StripeSender {
    /// A stream on one lane.
    #[must_use]
    pub const fn new(lane: LaneId, window: StripeWindow) -> Self {
        Self {
            window,
            lane,
            target: StripeTarget::Lane(lane),
            channel: None,
            last_sequence: LinkSequence(0),
            unacked: VecDeque::new(),
            unacked_bytes: 0,
        }
    }

    /// Frames are plain and stay on this lane; `None` while any are stamped.
    #[must_use]
    pub const fn pinned(&self) -> Option<LaneId> {
        if self.channel.is_none() { Some(self.lane) } else { None }
    }

    /// Where frames are to go from now on. Takes effect over the next frames, without loss and
    /// without a pause.
    pub fn set_target(&mut self, target: StripeTarget) {
        if self.target == target {
            return;
        }
        self.target = target;
        // Whatever was sent so far may be on another lane than the new target.
        if let Some(open) = &mut self.channel {
            open.barrier = self.last_sequence;
        }
    }

    /// A lane died and its unacknowledged frames were put on another.
    pub fn handle_requeued(&mut self, from: LaneId, to: LaneId) {
        if self.lane == from {
            self.lane = to;
        }
        if self.target == StripeTarget::Lane(from) {
            self.target = StripeTarget::Lane(to);
        }
    }

    /// The link session ended: the stream begins anew on `lane`, with plain frames.
    pub fn handle_session_end(&mut self, lane: LaneId) {
        *self = Self::new(lane, self.window);
    }

    /// Places the stream's next frame, of `len_bytes` and with the link sequence that it will carry.
    ///
    /// # Errors
    /// [`StripeBlocked`]; nothing was taken. Ask again when a lane has room or an acknowledgement
    /// has come.
    pub fn place(
        &mut self,
        lanes: &mut StripeLanes,
        len_bytes: u32,
        sequence: LinkSequence,
        has_room: impl Fn(LaneId) -> bool,
    ) -> Result<StripePlacement, StripeBlocked> {
        self.open_or_pin(lanes);
        self.forget_acked(lanes);
        let placement = match self.channel {
            None if has_room(self.lane) => StripePlacement { lane: self.lane, stamp: None },
            None => return Err(StripeBlocked::Lane),
            Some(open) => self.place_stamped(lanes, open, len_bytes, sequence, has_room)?,
        };
        self.last_sequence = sequence;
        Ok(placement)
    }

    /// The stream has nothing to send, but its channel can be closed: the stamp to send alone, with
    /// the link sequence given, and where. A stream that ends is kept until [`Self::pinned`].
    pub fn poll_last(
        &mut self,
        lanes: &mut StripeLanes,
        sequence: LinkSequence,
    ) -> Option<StripePlacement> {
        let StripeTarget::Lane(lane) = self.target else { return None };
        self.open_or_pin_idle(lanes);
        let open = self.channel.filter(|open| open.next_sequence > 0)?;
        if !lanes.is_acked(open.barrier) {
            return None;
        }
        self.last_sequence = sequence;
        Some(self.close(lanes, open, lane, sequence))
    }

    /// Before a frame: leaves the present lane if that needs no channel, else opens one, if one may
    /// be opened; the stream stays where it is until then.
    fn open_or_pin(&mut self, lanes: &mut StripeLanes) {
        self.open_or_pin_idle(lanes);
        if self.channel.is_none() && self.target != StripeTarget::Lane(self.lane) {
            self.channel = lanes.open_channel().map(|channel| OpenChannel {
                channel,
                next_sequence: 0,
                barrier: self.last_sequence,
            });
        }
    }

    /// Gives back a channel that carried nothing if it is not needed, and goes to the target lane if
    /// nothing is under way that could be overtaken.
    fn open_or_pin_idle(&mut self, lanes: &mut StripeLanes) {
        let StripeTarget::Lane(target) = self.target else { return };
        if self.channel.is_some_and(|open| open.next_sequence > 0) {
            return;
        }
        if target == self.lane || lanes.is_acked(self.last_sequence) {
            if self.channel.take().is_some() {
                lanes.release_unused();
            }
            self.lane = target;
        }
    }

    fn place_stamped(
        &mut self,
        lanes: &mut StripeLanes,
        open: OpenChannel,
        len_bytes: u32,
        sequence: LinkSequence,
        has_room: impl Fn(LaneId) -> bool,
    ) -> Result<StripePlacement, StripeBlocked> {
        let bytes = self.unacked_bytes.saturating_add(u64::from(len_bytes));
        let full = bytes > self.window.bytes || self.unacked.len() >= self.window.frames;
        if full && !self.unacked.is_empty() {
            return Err(StripeBlocked::Window);
        }
        let lane = match self.target {
            _ if open.next_sequence == 0 => Some(self.lane).filter(|&lane| has_room(lane)),
            StripeTarget::Lane(lane) => Some(lane).filter(|&lane| has_room(lane)),
            StripeTarget::AllLanes => lanes.pick(len_bytes, has_room),
        };
        let lane = lane.ok_or(StripeBlocked::Lane)?;
        let on_target = self.target == StripeTarget::Lane(lane);
        if on_target && open.next_sequence > 0 && lanes.is_acked(open.barrier) {
            return Ok(self.close(lanes, open, lane, sequence));
        }
        self.unacked.push_back((sequence, len_bytes));
        self.unacked_bytes = bytes;
        self.channel = Some(OpenChannel {
            next_sequence: open.next_sequence.saturating_add(1),
            barrier: if on_target { open.barrier } else { sequence },
            ..open
        });
        let stamp =
            StripeStamp { channel: open.channel, sequence: open.next_sequence, last: false };
        Ok(StripePlacement { lane, stamp: Some(stamp) })
    }

    fn close(
        &mut self,
        lanes: &mut StripeLanes,
        open: OpenChannel,
        lane: LaneId,
        sequence: LinkSequence,
    ) -> StripePlacement {
        lanes.close_channel(sequence);
        self.lane = lane;
        self.channel = None;
        self.unacked.clear();
        self.unacked_bytes = 0;
        let stamp = StripeStamp { channel: open.channel, sequence: open.next_sequence, last: true };
        StripePlacement { lane, stamp: Some(stamp) }
    }

    fn forget_acked(&mut self, lanes: &StripeLanes) {
        while let Some((_, bytes)) =
            self.unacked.pop_front_if(|&mut (sequence, _)| lanes.is_acked(sequence))
        {
            self.unacked_bytes = self.unacked_bytes.saturating_sub(u64::from(bytes));
        }
    }
}

#[cfg(test)]
mod tests;
