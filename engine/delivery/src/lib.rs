//! Exactly once from a publisher to a consumer: the source's and the destination's half of a
//! stream, duplicate removal by message range, end-to-end acknowledgement, credit and resend.
//!
//! Owns what a stream is between its two hosts: offsets, outbox, frontiers, consumers. Knows no
//! link: the driver sends what `poll_transmit` and `poll_ack` hand out over any path and says when
//! a path changed.
//!
//! **Invariant:** offsets are gapless at the source (I3); an ordered consumer never sees `o + 1`
//! before `o` (I10); the consumed frontier only grows (I6); within its life a source forgets a
//! message only when every consumer at every destination has it. All of it lives in memory: what is
//! acknowledged survives the loss of one host, not of both, until a journal makes it durable.
#![warn(clippy::arithmetic_side_effects, clippy::as_conversions, clippy::indexing_slicing)]

mod consumers;
mod destination;
mod limits;
mod outbox;
mod path_window;
mod path_windows;
mod producers;
mod receive_window;
mod receiver;
mod reorder;
mod resend_timer;
mod send_rounds;
mod sender;
mod sent_log;
mod tenant_rounds;
mod transmit;
mod violation;
mod window_budget;

#[cfg(test)]
mod seeded;
#[cfg(test)]
mod tests;

pub use consumers::{ConsumerError, ConsumerStart};
pub use limits::DeliveryLimits;
pub use path_window::{PathShare, PathWindow, PathWindowLimits};
pub use path_windows::{PathKey, PathWindows};
pub use receiver::{RecordOutcome, StreamReceiver};
pub use resend_timer::ResendTimer;
pub use send_rounds::SendRounds;
pub use sender::{PublishError, PublishOutcome, StreamSender};
pub use sent_log::{Detour, Sendings, SentLog, SentRun, WayTaken};
pub use tenant_rounds::{StreamKey, TenantRounds};
pub use transmit::{Offer, Transmit, TransmitBody};
pub use violation::{RefusedBy, StreamViolation};
pub use window_budget::WindowBudget;
