//! The shard: one pinned thread with an io_uring of its own that owns links, lanes and streams.
//!
//! Drives the machines of `engine/link` and `engine/delivery` and the lane sessions of
//! `hawser-session` between sockets and rings. Every turn of its loop takes what is there
//! (routes, rings, completed reads), lets the machines run, and hands out what they made (batches to
//! sockets, messages to rings); only then does it wait.
//!
//! **Invariant:** everything a shard owns is one `&mut` of synchronous state; nothing is borrowed
//! across an await, nothing is locked, and a peer's bytes never end in a panic. A shard that panics
//! all the same ends the process.

mod alarm;
mod breach;
mod breaches;
mod budget;
mod clock;
mod config;
mod congestion_control;
mod control_share;
mod decision_event;
mod detour;
mod dispatch;
mod host;
mod io;
mod lane;
mod lane_supervisor;
mod link_event_quota;
mod link_events;
mod links;
mod low_water;
mod message_ways;
mod monoio_io;
mod outlet;
mod outward;
mod path_choice;
mod peer_outlets;
mod publishers;
mod read_pace;
mod refusals;
mod report;
mod shard;
mod source_notices;
mod stream_paths;
mod streams;
mod subscriptions;
mod thread;
mod untold;

pub use config::{IoDriver, ShardConfig, ShardError};
pub use thread::{ShardThread, spawn_shard};
