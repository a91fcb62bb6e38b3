use std::time::Duration;

use hawser_wire::{CloseReason, Incarnation, LaneId, LinkMode, TrafficClass};
use thiserror::Error;

use crate::connection::{ConnectionId, LaneKey};

/// What an operator sees of a link, with the inputs of each decision, and what the driver has to do.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum LinkEvent {
    /// A connection serves its lane.
    LaneUp {
        /// The connection.
        key: LaneKey,
        /// As both ends name it.
        id: ConnectionId,
        /// What the lane was made for.
        class: TrafficClass,
    },
    /// A connection is gone; its frames in flight wait for the peer's count.
    LaneDown {
        /// The connection.
        key: LaneKey,
        /// As both ends name it.
        id: ConnectionId,
        /// What was seen.
        why: String,
        /// Counted frames sent and not acknowledged.
        unacked_frames: u64,
    },
    /// The driver has to tell the peer and close the connection; the link does not use it any more.
    CloseLane {
        /// The connection.
        key: LaneKey,
        /// What the peer is told.
        reason: CloseReason,
        /// For people.
        detail: String,
    },
    /// A lane is missing: one of this id and class should be dialled.
    WantLane {
        /// Which.
        lane: LaneId,
        /// Its class.
        class: TrafficClass,
    },
    /// A class went to a lane that was not made for it.
    Promoted {
        /// The class.
        class: TrafficClass,
        /// Where it was.
        from: LaneId,
        /// Where it is.
        to: LaneId,
    },
    /// Nothing is heard over a lane, new frames avoid it.
    Quiet {
        /// Which.
        lane: LaneId,
        /// Own ticks without a byte.
        silent_ticks: u32,
    },
    /// A quiet lane is heard again.
    Heard {
        /// Which.
        lane: LaneId,
    },
    /// What a silent lane has in flight goes over another one: copies of unacknowledged frames, or a batch
    /// of which only some pieces had left.
    Hedged {
        /// The silent one.
        from: LaneId,
        /// The other.
        to: LaneId,
        /// Counted frames.
        frames: u64,
        /// Their bytes.
        bytes: u64,
        /// Own ticks without a byte.
        silent_ticks: u32,
    },
    /// What the peer had not received over a connection that is gone is sent again.
    Requeued {
        /// The connection.
        from: ConnectionId,
        /// Counted frames.
        frames: u64,
        /// Their bytes.
        bytes: u64,
    },
    /// A frame of a striped stream did not come; those behind it were delivered without it.
    StripeGap {
        /// The channel of the stream.
        channel: u8,
        /// The first that is missing.
        sequence: u64,
        /// For so long.
        waited: Duration,
    },
    /// Frames have left the link to go another way.
    Rerouted {
        /// Counted frames.
        frames: u64,
        /// Their bytes.
        bytes: u64,
        /// Lanes that are up, all of them silent; 0 if there is none.
        lanes: usize,
    },
    /// Both sides have agreed.
    ModeChanged {
        /// On this mode.
        mode: LinkMode,
    },
    /// The link session is over: what was in flight or waited is at [`crate::VirtualLink::poll_rerouted`].
    SessionEnded {
        /// Why.
        reason: SessionEnd,
        /// Counted frames to be rerouted.
        frames: u64,
    },
}

/// Why a link session ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SessionEnd {
    /// The peer has begun another life.
    OtherLife {
        /// Before.
        was: Incarnation,
        /// Now.
        is: Incarnation,
    },
    /// No lane for too long.
    NoLane {
        /// How long.
        after: Duration,
    },
    /// The peer has forgotten a connection whose frames were in flight: it had ended the session.
    Forgotten {
        /// The connection.
        id: ConnectionId,
    },
    /// The peer was heard for as long as a link may be without a lane, and has not said how far a connection
    /// came that was lost.
    Unsettled {
        /// The connection.
        id: ConnectionId,
    },
    /// Too many connections were lost without an exchange of counts.
    Flapping,
}

/// Which bound refused a frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RefusedLimit {
    /// The link has no lane.
    NoLane,
    /// What waits of the class.
    Class,
    /// What waits of the tenant.
    Tenant,
    /// What waits of the stream.
    Stream,
    /// Link sequences in flight.
    SequenceWindow,
    /// The frame's own size.
    FrameSize,
}

impl RefusedLimit {
    /// For people and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoLane => "no lane",
            Self::Class => "class queue",
            Self::Tenant => "tenant quota",
            Self::Stream => "stream quota",
            Self::SequenceWindow => "link sequence window",
            Self::FrameSize => "frame size",
        }
    }
}

/// A frame was not taken; nothing changed. The driver knows hop and tenant.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("{} of class {}: {queued_bytes} of {max_bytes} bytes, try again in {retry_after:?}", limit.name(), class.name())]
pub struct Refusal {
    /// The frame's class.
    pub class: TrafficClass,
    /// The lane that it would have taken, as things are now; none if no lane carries its class.
    pub lane: Option<LaneId>,
    /// Which bound.
    pub limit: RefusedLimit,
    /// What is held against the bound.
    pub queued_bytes: usize,
    /// The bound.
    pub max_bytes: usize,
    /// When there will be room, as the link's rate goes.
    pub retry_after: Duration,
}

/// Why [`crate::VirtualLink::poll_timeout`] wants to be woken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum WakeReason {
    /// Heartbeats are due.
    Tick,
    /// An acknowledgement is due.
    Ack,
    /// The session ends.
    SessionEnd,
}
