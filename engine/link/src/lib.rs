//! The link between two nodes: lanes that come and go under frames that stay.
//!
//! [`VirtualLink`] is the machine of one neighbour: what waits by class, which lane carries which class,
//! what is in flight, how far the peer has come, who is alive, which streams take all lanes and how they
//! come back into order. Around it: the policy of how many lanes there should be.
//!
//! Owns no connection and no clock: the driver says what it heard and when, and asks what to send.
//!
//! **Invariants:** a counted frame is never lost while its link session lasts, and handed to the driver
//! when that ends; what control waits behind on a lane is bounded; what a peer can fill is bounded by
//! bytes or by count; granting credit needs no credit.
#![warn(clippy::arithmetic_side_effects, clippy::as_conversions, clippy::indexing_slicing)]

mod ack_interval;
mod allowance;
mod batch;
mod buffer_pool;
mod config;
mod connection;
mod credit;
mod data_queue;
mod delivery_marks;
mod delivery_rate;
mod departed;
mod duplicates;
mod event;
mod fair_queue;
mod flow_table;
mod forgotten;
mod fragment;
mod frame_parts;
mod lane;
mod lane_decision;
mod lane_policy;
mod lane_refusal;
mod link;
mod mode;
mod origin;
mod peer_sequences;
mod placement;
mod proportion;
mod queue_slots;
mod rate_maximum;
mod reassembly;
mod striping;
mod turn_delay;
mod unacked;
mod violation;
mod watch;
mod width;

pub use batch::Batch;
pub use config::LinkConfig;
pub use connection::{ConnectionId, LaneKey, LaneOffer};
pub use event::{LinkEvent, Refusal, RefusedLimit, SessionEnd, WakeReason};
pub use fair_queue::Flow;
pub use frame_parts::FrameParts;
pub use lane_decision::{
    BULK_LANES_MAX, LaneAction, LaneDecision, LanePolicyLimits, LaneSample, LaneVerdict,
};
pub use lane_policy::LanePolicy;
pub use link::{Handled, HeartbeatCount, LaneStatus, LinkStatus, Transmit, VirtualLink};
pub use origin::Origin;
pub use placement::lane_for;
pub use reassembly::{ReassembledFrame, ReassemblyError};
pub use violation::LinkViolation;
