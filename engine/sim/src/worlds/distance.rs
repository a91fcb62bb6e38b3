//! Worlds about ways that are long.

use super::{far, faults, flow, limits, link, marking_link, path_window, priority};
use crate::world::{Expectation, FaultKind, LinkShape, Pace, Rests, World};

/// Two nodes at ends of the earth, of which one fills the bottleneck between them, though it takes it a good
/// part of a second to hear of what it did.
#[must_use]
pub fn long_way() -> World {
    let near = LinkShape { bytes_per_second: 250_000, shared: true, ..link(0, 1, 1) };
    let full = |path: &[u16]| flow(path, Pace::Saturating, (8000, 8000));
    World {
        name: "long-way",
        about: "bulk fills a bottleneck over a way of 150 ms, and has nearly all of it",
        nodes: 2,
        links: vec![far(near, 150)],
        flows: vec![
            full(&[0, 1]),
            flow(&[1, 0], Pace::PerSecond(4), (16, 4000)),
            priority(flow(&[0, 1], Pace::PerSecond(4), (16, 4000))),
        ],
        link: marking_link(),
        delivery: limits(),
        memory_bytes: 512 << 20,
        path_window: path_window(),
        faults: faults(20, &[(FaultKind::LaneReset, 1)]),
        rests: Rests::default(),
        expect: Expectation { carries_percent: 80, ..Expectation::default() },
    }
}
