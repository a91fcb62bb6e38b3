//! Worlds about hosts with more processes than cores.

use std::time::Duration;

use super::{faults, full_for, full_link, sized};
use crate::world::{FaultKind, World};

/// Two nodes that fill the bottleneck between them, and wait for their cores a fifth of the time: what
/// they may have in flight for that stands before control in the queue, and control passes in time.
#[must_use]
pub fn busy_pair() -> World {
    let about = "bulk fills a bottleneck of 5 Mbit/s, nodes wait for their cores, control passes";
    let control_within = Duration::from_millis(100);
    let world = full_link("busy-pair", about, (2, 625_000), control_within);
    let mut world = sized(world, 17_000);
    world.faults = faults(0, &[(FaultKind::NodePreempted, 500), (FaultKind::LaneReset, 1)]);
    world.faults.every = Duration::from_millis(40);
    world.rests = full_for(8);
    // What may be in flight goes by how long the ends wait, and by round trips that are longer for it.
    world.expect.in_flight = false;
    world.expect.fair_percent = 30;
    world.expect.carries_percent = 22;
    world
}
