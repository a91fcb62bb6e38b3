use hawser_wire::{StreamOffset, StreamRefusal};
use thiserror::Error;

/// The other end of a stream broke its rules: the stream is refused with [`Self::refusal`].
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum StreamViolation {
    /// A source sent more than was granted.
    #[error("a record begins at byte {begins} at least, {granted} are granted")]
    CreditOverrun {
        /// Where it begins, from the origin.
        begins: u64,
        /// What was granted, from there.
        granted: u64,
    },
    /// A destination took back a grant.
    #[error("credit lowered from {from} bytes to {to}")]
    CreditReturned {
        /// Granted before.
        from: u64,
        /// Granted now.
        to: u64,
    },
    /// A destination acknowledged what was not sent.
    #[error("acknowledged below offset {}, sent below {}", seen.0, sent.0)]
    AckAhead {
        /// One behind the highest offset that it has, as it says.
        seen: StreamOffset,
        /// Behind what was sent.
        sent: StreamOffset,
    },
    /// A source left out more than it may send.
    #[error(
        "offset {} came in place of {}, which is at least {begins} bytes in all, {granted} are granted",
        base.0, frontier.0
    )]
    SequenceJump {
        /// Of the record.
        base: StreamOffset,
        /// What should have come next.
        frontier: StreamOffset,
        /// Where it begins, from the origin.
        begins: u64,
        /// What was granted, from there.
        granted: u64,
    },
    /// A source sent more before its turn than was granted.
    #[error("{early} bytes before their turn, {granted} are granted")]
    ReorderOverrun {
        /// What was held, with the record that was refused.
        early: u64,
        /// What was granted beyond what came in order.
        granted: u64,
    },
    /// A source sent something behind the end that it had named.
    #[error("a record ends at offset {}, the stream at {}", record_end.0, end.0)]
    BeyondEnd {
        /// Behind the record.
        record_end: StreamOffset,
        /// Behind the stream.
        end: StreamOffset,
    },
}

impl StreamViolation {
    /// What the other end is told.
    #[must_use]
    pub const fn refusal(&self) -> StreamRefusal {
        match self {
            Self::CreditOverrun { .. } => StreamRefusal::CreditOverrun,
            Self::CreditReturned { .. } => StreamRefusal::CreditReturned,
            Self::AckAhead { .. } => StreamRefusal::AckAhead,
            Self::SequenceJump { .. } => StreamRefusal::SequenceJump,
            Self::ReorderOverrun { .. } => StreamRefusal::ReorderOverrun,
            Self::BeyondEnd { .. } => StreamRefusal::BeyondEnd,
        }
    }
}

/// Why a source sends a destination nothing more.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RefusedBy {
    /// The destination broke the rules.
    Source(StreamViolation),
    /// This source did, as the destination says.
    Destination(StreamRefusal),
}

impl RefusedBy {
    /// The reason.
    #[must_use]
    pub const fn refusal(&self) -> StreamRefusal {
        match self {
            Self::Source(violation) => violation.refusal(),
            Self::Destination(refusal) => *refusal,
        }
    }
}
