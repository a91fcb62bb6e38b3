//! A seeded world in virtual time: nodes that run the engine's real machines, connections that
//! delay, fail and fall silent, and checkers of what must hold whatever happens.
//!
//! Owns the world and no protocol: what a link or a stream does is decided by `hawser-link` and
//! `hawser-delivery`, what a mesh does by `hawser-membership` and `hawser-routing`, as in a daemon.
//! One seed makes one history, which its hash proves.
//!
//! **Invariant:** nothing here reads a clock, and nothing depends on the order of a hash map.
#![warn(clippy::arithmetic_side_effects, clippy::as_conversions, clippy::indexing_slicing)]

mod arena;
mod checks;
mod detours;
mod event;
mod event_queue;
mod faults;
mod flow;
mod lanes;
mod ledger;
mod link_end;
mod mesh;
mod mutation;
mod network;
mod node;
mod order;
mod random;
mod sending;
mod simulation;
mod trace;
mod traffic;
mod violation;
mod watched;
mod world;
mod worlds;

#[cfg(test)]
mod tests;

pub use mesh::{
    GraphKind, LOSS_PPM_MAX, MeshFaults, MeshGraph, MeshKeys, MeshMutation, MeshProgress,
    MeshSimulation, MeshSummary, NODES_MAX,
};
pub use mutation::Mutation;
pub use network::PathShape;
pub use random::Random;
pub use simulation::{Simulation, Summary};
pub use trace::TraceEvent;
pub use violation::{Failure, Property, Violation};
pub use world::{
    Expectation, FaultKind, FaultProfile, FlowShape, LinkShape, Pace, Rests, Slowness, World,
};
pub use worlds::{
    all_lanes, busy_hosts, busy_pair, collapsed, detours, fair_ring, lane_changes, lane_loss,
    long_way, mode_switch, pair, priority_collapsed, priority_faults, priority_relay, relays,
    restarts, saturated_collapsed, saturated_pair, saturated_priority,
    saturated_priority_collapsed, saturated_ring, silence, slow_consumer, slow_link,
    standing_dials, striped, striped_relay, tenants, tenants_first_link, thin_link, worlds,
};
