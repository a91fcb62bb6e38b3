//! Who is alive: SWIM (Das, Gupta, Motivala 2002) with Lifeguard (Dadgar, Phillips, Currey 2018).
//!
//! Pure: the driver says whom the mesh admits, feeds [`Membership`] messages and the time, and sends
//! what it asks for. A [`Message`] carries [`Claim`]s; a claim's [`Version`] says how new it is.
//!
//! **Invariant:** members are those that the driver admitted and no others, so that memory is
//! bounded whatever is claimed. What strangers say, and what is said about them, is counted and
//! forgotten.
//!
//! **Invariant:** nothing here iterates over a hash map, so equal inputs in equal order give equal
//! outputs in equal order.
#![warn(clippy::arithmetic_side_effects, clippy::as_conversions, clippy::indexing_slicing)]

mod awareness;
mod broadcasts;
mod claim;
mod config;
mod event;
mod late_answers;
mod members;
mod membership;
mod message;
mod pace;
mod probe;
mod random;
mod reject;
mod relays;
mod request_limit;
mod roster;
mod running_clock;
mod shared_slots;
mod suspicion;
#[cfg(test)]
mod tests;
mod version;

pub use claim::{Claim, ClaimState, Liveness, SUSPECTERS_MAX, Suspecters};
pub use config::Config;
pub use event::Event;
pub use members::MEMBERS_MAX;
pub use membership::{MembersFull, Membership};
pub use message::{CLAIMS_MAX, MEMBERSHIP_MESSAGE_BYTES_MAX, Message, MessageBody};
pub use reject::{RejectReason, Rejected};
pub use roster::Roster;
pub use version::Version;
