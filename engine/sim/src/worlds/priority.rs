//! Worlds about streams of class priority.

use std::time::Duration;

use hawser_wire::TrafficClass;

use super::{
    MEMORY_BYTES, far, faults, flow, full_for, full_link, further, limits, link, link_config,
    marking_link, path_window, priority, sized,
};
use crate::world::{Expectation, FaultKind, LinkShape, Pace, Rests, World};

/// Priority and bulk over a slow link in pieces of both, every kind of fault of lanes and nodes.
#[must_use]
pub fn priority_faults() -> World {
    slow_pieces(
        "priority-faults",
        "priority and bulk in pieces over two slow links, every fault",
        1,
    )
}

/// The same over one lane for all classes, where pieces of one class come between those of another.
#[must_use]
pub fn priority_collapsed() -> World {
    let about = "pieces of priority between those of bulk on one lane, every fault";
    slow_pieces("priority-collapsed", about, 0)
}

fn slow_pieces(name: &'static str, about: &'static str, bulk_lanes: u16) -> World {
    use FaultKind::{
        LaneFinish, LaneHalfSilence, LaneReset, LaneSilence, LinkOutage, LinkReset, ModeSwitch,
        NodeRestart, NodeStall,
    };
    let mut kinds = vec![
        (LaneReset, 6),
        (LaneFinish, 2),
        (LaneSilence, 3),
        (LaneHalfSilence, 2),
        (LinkReset, 2),
        (LinkOutage, 1),
        (NodeStall, 2),
        (NodeRestart, 1),
    ];
    if bulk_lanes > 0 {
        kinds.push((ModeSwitch, 3));
    }
    let slow = |a, b| {
        let slow = LinkShape { bytes_per_second: 125_000, shared: true, ..link(a, b, bulk_lanes) };
        far(slow, 10)
    };
    let long = |path: &[u16], rate| flow(path, Pace::PerSecond(rate), (4000, 60_000));
    World {
        name,
        about,
        nodes: 3,
        links: vec![slow(0, 1), slow(1, 2)],
        flows: vec![
            flow(&[0, 1, 2], Pace::PerSecond(20), (16, 3000)),
            long(&[0, 1, 2], 1),
            long(&[2, 1], 1),
            priority(flow(&[0, 1, 2], Pace::PerSecond(20), (16, 3000))),
            priority(flow(&[2, 1, 0], Pace::PerSecond(12), (16, 3000))),
            priority(long(&[0, 1, 2], 1)),
        ],
        link: link_config(),
        delivery: limits(),
        memory_bytes: MEMORY_BYTES,
        path_window: path_window(),
        faults: faults(8, &kinds),
        rests: Rests::default(),
        expect: Expectation::default(),
    }
}

/// Priority and bulk both fill one bottleneck: control passes, and bulk does not starve.
#[must_use]
pub fn saturated_priority() -> World {
    let about = "priority and bulk fill a bottleneck of 10 Mbit/s, control passes, bulk moves";
    full_of_both("saturated-priority", about, 2)
}

/// The same over one lane for all classes, one way.
#[must_use]
pub fn saturated_priority_collapsed() -> World {
    let about = "priority and bulk fill one lane of 5 Mbit/s one way, control passes, bulk moves";
    let mut world = sized(full_of_both("saturated-priority-collapsed", about, 0), 30_000);
    for link in &mut world.links {
        link.bytes_per_second = 625_000;
    }
    world.flows.truncate(2);
    world.rests = Rests::default();
    world
}

fn full_of_both(name: &'static str, about: &'static str, bulk_lanes: u16) -> World {
    let control_within = Duration::from_micros(11_500 + 25_000);
    let world = full_link(name, about, (bulk_lanes, 1_250_000), control_within);
    let mut world = further(world, 10);
    for flow in world.flows.iter_mut().step_by(2) {
        flow.class = TrafficClass::Priority;
    }
    world.expect.fair_percent = 0;
    world.expect.priority_percent = 60;
    // Of the half that each of two would have.
    world.expect.at_least_percent = 40;
    world
}

/// Priority through a relay beside bulk that fills both links.
#[must_use]
pub fn priority_relay() -> World {
    let hop =
        |a, b| far(LinkShape { bytes_per_second: 500_000, shared: true, ..link(a, b, 1) }, 15);
    let bulk = |path: &[u16]| flow(path, Pace::Saturating, (30_000, 30_000));
    World {
        name: "priority-relay",
        about: "bulk fills two links in a row, priority passes in time",
        nodes: 3,
        links: vec![hop(0, 1), hop(1, 2)],
        flows: vec![
            bulk(&[0, 1, 2]),
            bulk(&[0, 1, 2]),
            bulk(&[1, 2]),
            priority(flow(&[0, 1, 2], Pace::PerSecond(8), (16, 4000))),
            priority(flow(&[0, 1, 2], Pace::PerSecond(1), (5_000, 15_000))),
        ],
        link: marking_link(),
        delivery: limits(),
        memory_bytes: MEMORY_BYTES,
        path_window: path_window(),
        faults: faults(20, &[(FaultKind::LaneReset, 1)]),
        rests: full_for(12),
        expect: Expectation {
            priority_within: Duration::from_millis(700),
            ..Expectation::default()
        },
    }
}
