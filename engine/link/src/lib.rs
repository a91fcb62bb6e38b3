//! The link between two nodes: what waits to be sent by class, which lane carries which class, and
//! whether a lane is alive.
//!
//! Owns no lane and no clock: the shard asks what to send and says what it heard.
//!
//! **Invariant:** a batch that control waits in is never queued behind bulk of the same lane; what a
//! queue takes is bounded by bytes.
#![warn(clippy::arithmetic_side_effects, clippy::as_conversions, clippy::indexing_slicing)]

mod egress;
mod health;
mod placement;

pub use egress::{EgressBatch, EgressFull, EgressLimits, EgressQueue, Origin};
pub use health::{HealthAction, HealthLimits, LaneHealth};
pub use placement::lane_for;
