//! Worlds about tenants that share what is too little for them.

use super::{far, faults, flow, limits, link, marking_link, path_window};
use crate::world::{Expectation, FaultKind, LinkShape, Pace, Rests, World};

/// Of one stream and of eight, on one path behind whose first link it is narrow: the path's window is
/// what they share.
#[must_use]
pub fn tenants() -> World {
    let about = "a tenant with eight streams and one with one share the window of a path";
    shared("tenants", about, &[12_500_000, 150_000])
}

/// The same where the first link is the narrow one, so that they share what it takes.
#[must_use]
pub fn tenants_first_link() -> World {
    let about = "a tenant with eight streams and one with one share the first link of a path";
    shared("tenants-first-link", about, &[150_000])
}

fn shared(name: &'static str, about: &'static str, speeds: &[u64]) -> World {
    let hop = |(from, &bytes_per_second): (u16, &u64)| {
        let near = link(from, from.saturating_add(1), 1);
        far(LinkShape { bytes_per_second, shared: true, ..near }, 10)
    };
    let links: Vec<LinkShape> = (0..).zip(speeds).map(hop).collect();
    let path: Vec<u16> = (0..).take(links.len().saturating_add(1)).collect();
    let mut flows = vec![flow(&path, Pace::Saturating, (4000, 4000)); 9];
    if let Some(lone) = flows.first_mut() {
        lone.tenant = 1;
    }
    World {
        name,
        about,
        nodes: u16::try_from(path.len()).unwrap_or(u16::MAX),
        links,
        flows,
        link: marking_link(),
        delivery: limits(),
        // So much that nothing is shared there.
        memory_bytes: 512 << 20,
        path_window: path_window(),
        faults: faults(20, &[(FaultKind::LaneReset, 1)]),
        rests: Rests::default(),
        expect: Expectation { tenants_fair_percent: 20, ..Expectation::default() },
    }
}
