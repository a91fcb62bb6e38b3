//! Whole planes against each other: real stores, real TLS over real sockets. The shards are stood
//! in for by a task that carries control frames and nothing else.
#![expect(clippy::expect_used, clippy::panic, reason = "a test that cannot go on ends")]

mod capabilities;
mod crossing;
mod door;
mod drills;
mod evictions;
mod lane_rules;
mod lifecycle;
mod link_admin;
mod link_modes;
mod link_state;
mod message_ways;
mod neighbour_turns;
mod node;
mod restart;
mod settling;
mod shard;
mod streams;
mod twin;
mod wanted_lanes;
