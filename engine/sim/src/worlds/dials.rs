//! Worlds about who dials.

use super::pair;
use crate::world::World;

/// As [`pair`], but for who dials: lanes are dialled whether a machine asks for them or not.
#[must_use]
pub fn standing_dials() -> World {
    let mut world = pair();
    world.name = "standing-dials";
    world.about = "two nodes, four lanes, every fault of lanes, and each lane is always dialled";
    world.faults.dials_always = true;
    world
}
