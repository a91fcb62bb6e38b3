//! Worlds in which frames leave links that cannot bring them on.

use super::{
    MEMORY_BYTES, calm_link, far, faults, flow, limits, link, link_config, path_window, priority,
};
use crate::world::{Expectation, FaultKind, FlowShape, LinkShape, Pace, Rests, World};

/// A ring of four, so that each link has a way around it, over one lane or several; plain and striped
/// streams over one hop and two fill it in part. Whatever can go wrong with links does, so that one is
/// without a lane, or heard of nothing, again and again.
#[must_use]
pub fn detours() -> World {
    use FaultKind::{
        LaneHalfSilence, LaneReset, LaneRetire, LaneSilence, LinkOutage, LinkReset, LinkSilence,
        ModeSwitch, NodeRestart, NodeStall,
    };
    let kinds = [
        (LinkSilence, 8),
        (LinkReset, 4),
        (LinkOutage, 2),
        (LaneReset, 3),
        (LaneSilence, 2),
        (LaneHalfSilence, 2),
        (LaneRetire, 1),
        (ModeSwitch, 2),
        (NodeStall, 3),
        (NodeRestart, 1),
    ];
    let ring = |a, b, bulk_lanes, bytes_per_second| LinkShape {
        bytes_per_second,
        ..link(a, b, bulk_lanes)
    };
    let striped = |flow: FlowShape| FlowShape { striped: true, ..flow };
    let paced = |path: &[u16], rate| flow(path, Pace::PerSecond(rate), (16, 3000));
    let long = |path: &[u16]| flow(path, Pace::PerSecond(1), (4000, 20_000));
    let mut world = World {
        name: "detours",
        about: "a ring of four, frames leave links that are silent or lost and go round",
        nodes: 4,
        links: vec![
            ring(0, 1, 2, 125_000),
            far(ring(1, 2, 3, 125_000), 20),
            ring(2, 3, 0, 500_000),
            far(ring(3, 0, 1, 250_000), 10),
        ],
        flows: vec![
            striped(long(&[0, 1, 2])),
            striped(paced(&[0, 1, 2], 3)),
            striped(paced(&[2, 3, 0], 2)),
            paced(&[1, 2, 3], 2),
            paced(&[2, 1], 2),
            long(&[3, 0, 1]),
            priority(paced(&[0, 1, 2], 2)),
            priority(paced(&[3, 2, 1], 2)),
        ],
        link: calm_link(link_config()),
        delivery: limits(),
        memory_bytes: MEMORY_BYTES,
        path_window: path_window(),
        faults: faults(3, &kinds),
        rests: Rests::default(),
        expect: Expectation::default(),
    };
    world.faults.reroutes = true;
    world
}
