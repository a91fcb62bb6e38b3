use hawser_wire::{CloseReason, DecodeError, FrameKind, LaneId, LinkSequence, TrafficClass};
use thiserror::Error;

use crate::reassembly::ReassemblyError;

/// The peer broke the link protocol. The frame that did so changed nothing but what is counted, or, in
/// a message with several acknowledgements, those before it; the connection has to be closed with
/// [`Self::close_reason`], and what was in flight over it goes over the others.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum LinkViolation {
    /// More was sent than granted.
    #[error("lane {lane}: {sent} {unit} sent, {granted} granted")]
    CreditOverrun {
        /// Over this lane.
        lane: LaneId,
        /// Bytes or frames.
        unit: &'static str,
        /// Received in all.
        sent: u64,
        /// Granted in all.
        granted: u64,
    },
    /// A grant was lowered.
    #[error("lane {lane}: credit of {unit} lowered from {from} to {to}")]
    CreditReturned {
        /// Of this lane.
        lane: LaneId,
        /// Bytes or frames.
        unit: &'static str,
        /// Granted before.
        from: u64,
        /// Granted now.
        to: u64,
    },
    /// A count is above what was sent.
    #[error("lane {lane}: {count} frames acknowledged, {sent} sent")]
    AckAhead {
        /// Of this lane.
        lane: LaneId,
        /// As the peer counts.
        count: u64,
        /// Sent in all.
        sent: u64,
    },
    /// A count or the sequence of acknowledgements was lowered.
    #[error("lane {lane}: acknowledgement lowered from {from} to {to}")]
    AckReturned {
        /// Of this lane.
        lane: LaneId,
        /// Before.
        from: u64,
        /// Now.
        to: u64,
    },
    /// The sequence of acknowledgements is further ahead than any that is under way: all that follow would
    /// pass for late ones.
    #[error("lane {lane}: acknowledgement {to} behind {from}")]
    AckJump {
        /// Of this lane.
        lane: LaneId,
        /// The highest before, over any lane.
        from: u64,
        /// Now.
        to: u64,
    },
    /// A second connection by the same dialler that is not newer.
    #[error("lane {lane} has a connection of epoch {epoch} already")]
    DuplicateLane {
        /// For this lane.
        lane: LaneId,
        /// Of the connection that stays.
        epoch: u64,
    },
    /// Another connection serves the lane, or the peer has begun a newer life.
    #[error("another connection serves lane {lane}")]
    Superseded {
        /// The lane.
        lane: LaneId,
    },
    /// A lane came back with another class.
    #[error("lane {lane} was made for {}, now for {}", was.name(), is.name())]
    LaneClass {
        /// The lane.
        lane: LaneId,
        /// Its class earlier in this session.
        was: TrafficClass,
        /// Its class now.
        is: TrafficClass,
    },
    /// A counted frame of a class that the lane does not carry.
    #[error("{} frame on lane {lane}, which does not carry them", class.name())]
    FrameClass {
        /// The lane.
        lane: LaneId,
        /// The frame's class.
        class: TrafficClass,
    },
    /// A routed frame without a link sequence: it would need no credit and could come twice.
    #[error("{kind:?} frame without a link sequence")]
    Uncounted {
        /// Its kind.
        kind: FrameKind,
    },
    /// A link sequence on a frame that only neighbours say to each other.
    #[error("{kind:?} frame with link sequence {sequence}")]
    Counted {
        /// Its kind.
        kind: FrameKind,
        /// Its sequence.
        sequence: LinkSequence,
    },
    /// A link sequence too far ahead.
    #[error("link sequence {sequence} behind {highest}")]
    SequenceJump {
        /// Of the frame.
        sequence: LinkSequence,
        /// The highest before.
        highest: LinkSequence,
    },
    /// Too many heartbeats.
    #[error("more than {per_second} heartbeats a second")]
    HeartbeatStorm {
        /// What is allowed.
        per_second: u32,
    },
    /// The peer changes the mode of the link over and over.
    #[error("the mode of the link changes more than once a second")]
    ModeStorm,
    /// A control frame above its bound.
    #[error("{kind:?} of {bytes} bytes, more than {max_bytes}")]
    ControlTooLarge {
        /// Its kind.
        kind: FrameKind,
        /// Of its body.
        bytes: usize,
        /// The bound.
        max_bytes: usize,
    },
    /// A piece of a batch that has not begun, or a frame in a batch in pieces that does not belong
    /// there.
    #[error("lane {lane}: a piece or a frame of no batch")]
    StrayFragment {
        /// The lane.
        lane: LaneId,
    },
    /// A batch in pieces above its bound.
    #[error("lane {lane}: {bytes} bytes of one batch in pieces")]
    FragmentsTooLarge {
        /// The lane.
        lane: LaneId,
        /// With the piece that was refused.
        bytes: usize,
    },
    /// Too many connections were lost without the counts having been exchanged, or lanes beyond
    /// any use are open.
    #[error("{connections} connections are open or unsettled")]
    Flapping {
        /// How many.
        connections: usize,
    },
    /// A striped record out of its place.
    #[error(transparent)]
    Stripe(#[from] ReassemblyError),
    /// A frame of the link could not be read.
    #[error(transparent)]
    Malformed(#[from] DecodeError),
}

impl LinkViolation {
    /// What the peer is told.
    #[must_use]
    pub const fn close_reason(&self) -> CloseReason {
        match self {
            Self::CreditOverrun { .. } => CloseReason::CreditOverrun,
            Self::CreditReturned { .. } => CloseReason::CreditReturned,
            Self::AckAhead { .. } => CloseReason::AckAhead,
            Self::AckReturned { .. } => CloseReason::AckReturned,
            Self::DuplicateLane { .. } => CloseReason::DuplicateLane,
            Self::Superseded { .. } => CloseReason::Superseded,
            Self::LaneClass { .. } | Self::FrameClass { .. } => CloseReason::ClassChange,
            Self::SequenceJump { .. } => CloseReason::SequenceJump,
            Self::HeartbeatStorm { .. } => CloseReason::HeartbeatStorm,
            Self::ModeStorm => CloseReason::ModeStorm,
            Self::ControlTooLarge { .. } => CloseReason::ControlTooLarge,
            Self::Flapping { .. } => CloseReason::LinkFlapping,
            Self::Stripe(
                ReassemblyError::SequenceJump { .. } | ReassemblyError::WindowOverrun { .. },
            ) => CloseReason::ReorderOverrun,
            Self::Stripe(
                ReassemblyError::DuplicateSequence { .. } | ReassemblyError::StaleEpoch { .. },
            ) => CloseReason::StripeSequence,
            Self::Uncounted { .. }
            | Self::Counted { .. }
            | Self::AckJump { .. }
            | Self::StrayFragment { .. }
            | Self::FragmentsTooLarge { .. }
            | Self::Malformed(_) => CloseReason::ProtocolViolation,
        }
    }
}
