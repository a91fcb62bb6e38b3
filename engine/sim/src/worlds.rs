mod busy;
mod detours;
mod dials;
mod distance;
mod priority;
mod tenants;

use std::time::Duration;

use hawser_delivery::{DeliveryLimits, PathWindowLimits};
use hawser_link::LinkConfig;
use hawser_wire::TrafficClass;

use crate::network::PathShape;
use crate::world::{
    Expectation, FaultKind, FaultProfile, FlowShape, LinkShape, Pace, Rests, Slowness, World,
};

pub use busy::busy_pair;
pub use detours::detours;
pub use dials::standing_dials;
pub use distance::long_way;
pub use priority::{
    priority_collapsed, priority_faults, priority_relay, saturated_priority,
    saturated_priority_collapsed,
};
pub use tenants::{tenants, tenants_first_link};

const KIB: u64 = 1 << 10;
/// So little that busy streams share it.
const MEMORY_BYTES: u64 = 1024 * KIB;

/// Worlds that seeds take in turn; each minute of theirs has load.
#[must_use]
pub fn worlds() -> Vec<World> {
    let mut worlds = vec![
        pair(),
        standing_dials(),
        collapsed(),
        mode_switch(),
        lane_changes(),
        restarts(),
        all_lanes(),
        silence(),
        lane_loss(),
        relays(),
        detours(),
        saturated_ring(),
        striped(),
        striped_relay(),
        fair_ring(),
        slow_link(),
        slow_consumer(),
        saturated_pair(),
        saturated_collapsed(),
        thin_link(),
        long_way(),
        busy_hosts(),
        busy_pair(),
        priority_faults(),
        priority_collapsed(),
        priority_relay(),
        saturated_priority(),
        saturated_priority_collapsed(),
        tenants(),
        tenants_first_link(),
    ];
    for world in &mut worlds {
        world.expect.load = true;
    }
    worlds
}

const fn path(delay_us: u64, jitter_us: u64) -> PathShape {
    PathShape {
        delay: Duration::from_micros(delay_us),
        jitter: Duration::from_micros(jitter_us),
        backlog_bytes: 64 * KIB,
        buffer_bytes: 256 * KIB,
    }
}

const fn link(a: u16, b: u16, bulk_lanes: u16) -> LinkShape {
    LinkShape {
        a,
        b,
        bulk_lanes,
        bytes_per_second: 12_500_000,
        shared: false,
        path: path(2000, 1500),
    }
}

/// The same over a longer way.
fn far(link: LinkShape, delay_ms: u64) -> LinkShape {
    let delay = Duration::from_millis(delay_ms);
    LinkShape { path: PathShape { delay, ..link.path }, ..link }
}

fn flow(path: &[u16], pace: Pace, message_bytes: (u32, u32)) -> FlowShape {
    let (consume_every, striped, class) = (Duration::ZERO, false, TrafficClass::Bulk);
    let (path, tenant) = (path.to_vec(), 0);
    FlowShape { path, pace, message_bytes, consume_every, striped, class, tenant }
}

/// Its records are of class priority.
fn priority(flow: FlowShape) -> FlowShape {
    FlowShape { class: TrafficClass::Priority, ..flow }
}

/// Queues small enough to be filled.
fn link_config() -> LinkConfig {
    LinkConfig { data_bytes_max: 256 << 10, mark_bytes: 64 << 10, ..LinkConfig::default() }
}

/// Queues that mark long before they drop, in the proportion of a node's own.
fn marking_link() -> LinkConfig {
    LinkConfig { data_bytes_max: 4 << 20, mark_bytes: 128 << 10, ..LinkConfig::default() }
}

/// Heartbeats half as often as nodes send them unless told otherwise.
fn calm_link(link: LinkConfig) -> LinkConfig {
    LinkConfig { tick: Duration::from_millis(200), ..link }
}

/// Windows that begin small enough to grow.
fn limits() -> DeliveryLimits {
    DeliveryLimits {
        window_bytes: 256 * KIB,
        window_initial_bytes: 64 * KIB,
        outbox_bytes: 512 * KIB,
        ..DeliveryLimits::default()
    }
}

/// As a node's own, for records of the size that saturating flows publish.
fn path_window() -> PathWindowLimits {
    PathWindowLimits {
        initial_bytes: 128 * KIB,
        min_bytes: 32 * KIB,
        step_bytes: 4 * KIB,
        ..PathWindowLimits::default()
    }
}

fn faults(every_s: u64, kinds: &[(FaultKind, u32)]) -> FaultProfile {
    let (every, kinds) = (Duration::from_secs(every_s), kinds.to_vec());
    FaultProfile { every, kinds, dials_always: false, reroutes: false }
}

/// Links are filled for so many of each twenty seconds, and then until what sources hold is gone.
const fn full_for(seconds: u64) -> Rests {
    Rests {
        full: Duration::from_secs(seconds),
        rest: Duration::from_secs(20_u64.saturating_sub(seconds)),
    }
}

/// What streams hold at their sources lasts a few seconds on a slow link, so that it comes to rest.
fn short_limits() -> DeliveryLimits {
    DeliveryLimits { outbox_bytes: 128 * KIB, ..limits() }
}

/// Two nodes that send to each other over a link, with faults of these kinds.
fn two_nodes(
    name: &'static str,
    about: &'static str,
    bulk_lanes: u16,
    faults: FaultProfile,
) -> World {
    World {
        name,
        about,
        nodes: 2,
        links: vec![link(0, 1, bulk_lanes)],
        flows: vec![
            flow(&[0, 1], Pace::PerSecond(4), (16, 4000)),
            flow(&[1, 0], Pace::PerSecond(4), (16, 4000)),
            flow(&[0, 1], Pace::PerSecond(1), (10_000, 200_000)),
            priority(flow(&[0, 1], Pace::PerSecond(4), (16, 4000))),
            priority(flow(&[1, 0], Pace::PerSecond(1), (10_000, 200_000))),
        ],
        link: link_config(),
        delivery: limits(),
        memory_bytes: MEMORY_BYTES,
        path_window: path_window(),
        faults,
        rests: Rests::default(),
        expect: Expectation::default(),
    }
}

/// Several lanes, every kind of lane and link fault.
#[must_use]
pub fn pair() -> World {
    use FaultKind::{
        LaneFinish, LaneHalfSilence, LaneReset, LaneSilence, LinkReset, LinkSilence, NodeStall,
    };
    let kinds = [
        (LaneReset, 4),
        (LaneFinish, 2),
        (LaneSilence, 2),
        (LaneHalfSilence, 2),
        (LinkReset, 2),
        (LinkSilence, 1),
        (NodeStall, 2),
    ];
    two_nodes("pair", "two nodes, four lanes, every fault of lanes", 2, faults(6, &kinds))
}

/// One lane for all classes.
#[must_use]
pub fn collapsed() -> World {
    use FaultKind::{LaneFinish, LaneHalfSilence, LaneReset, LaneSilence, NodeStall};
    let kinds =
        [(LaneReset, 4), (LaneFinish, 2), (LaneSilence, 2), (LaneHalfSilence, 1), (NodeStall, 2)];
    two_nodes("collapsed", "two nodes, one lane for all classes", 0, faults(8, &kinds))
}

/// Lanes are joined into one and separated again, while some fail.
#[must_use]
pub fn mode_switch() -> World {
    use FaultKind::{LaneReset, LaneSilence, ModeSwitch};
    let kinds = [(ModeSwitch, 6), (LaneReset, 2), (LaneSilence, 1)];
    two_nodes("mode-switch", "separate lanes and one for all, in turn", 1, faults(5, &kinds))
}

/// Lanes come and go on both links of a path and none is lost: links keep the order of every stream.
#[must_use]
pub fn lane_changes() -> World {
    use FaultKind::{LaneRetire, ModeSwitch, NodePause};
    let hop = |a, b| far(LinkShape { bytes_per_second: 80_000, ..link(a, b, 3) }, 30);
    let paced = |path: &[u16]| flow(path, Pace::PerSecond(5), (1000, 8000));
    World {
        name: "lane-changes",
        about: "lanes come and go, none is lost, and links keep the order of streams",
        nodes: 3,
        links: vec![hop(0, 1), hop(1, 2)],
        flows: vec![
            flow(&[0, 1, 2], Pace::Saturating, (4000, 4000)),
            flow(&[0, 1, 2], Pace::Saturating, (4000, 4000)),
            paced(&[0, 1, 2]),
            paced(&[0, 1, 2]),
            paced(&[1, 2]),
            paced(&[2, 1, 0]),
            priority(paced(&[0, 1, 2])),
            priority(flow(&[0, 1, 2], Pace::PerSecond(2), (10_000, 100_000))),
        ],
        link: calm_link(marking_link()),
        delivery: short_limits(),
        memory_bytes: MEMORY_BYTES,
        path_window: path_window(),
        faults: faults(2, &[(LaneRetire, 30), (ModeSwitch, 10), (NodePause, 3)]),
        rests: full_for(10),
        expect: Expectation::default(),
    }
}

/// Nodes lose their memory, and links are down for about the session time.
#[must_use]
pub fn restarts() -> World {
    use FaultKind::{LaneReset, LinkOutage, NodeRestart};
    let kinds = [(NodeRestart, 3), (LinkOutage, 3), (LaneReset, 2)];
    let about = "nodes restart, links are down for about the session time";
    let mut world = two_nodes("restarts", about, 1, faults(20, &kinds));
    // What a minute carries that is without a link for a good part of it.
    for flow in &mut world.flows {
        if flow.message_bytes.1 <= 4000 {
            flow.pace = Pace::PerSecond(9);
        }
    }
    world
}

/// All lanes are lost at once, again and again.
#[must_use]
pub fn all_lanes() -> World {
    use FaultKind::{LaneReset, LinkReset, LinkSilence};
    let kinds = [(LinkReset, 4), (LinkSilence, 1), (LaneReset, 1)];
    two_nodes("all-lanes", "all lanes of a link are lost at once", 2, faults(5, &kinds))
}

/// Lanes fall silent, so that frames are sent again over others.
#[must_use]
pub fn silence() -> World {
    let kinds = [(FaultKind::LaneSilence, 1)];
    let mut world =
        two_nodes("silence", "lanes fall silent, frames are hedged", 2, faults(5, &kinds));
    world.expect.age_within = Duration::from_millis(500);
    world
}

/// Lanes are lost under load, on both links of a path: links make it good, so that sources send
/// nothing again.
#[must_use]
pub fn lane_loss() -> World {
    let kinds = [(FaultKind::LaneReset, 3), (FaultKind::LaneFinish, 1)];
    let slow = |a, b| far(LinkShape { bytes_per_second: 125_000, ..link(a, b, 2) }, 20);
    World {
        name: "lane-loss",
        about: "lanes are lost under load, and no byte goes twice from end to end",
        nodes: 3,
        links: vec![slow(0, 1), slow(1, 2)],
        flows: vec![
            flow(&[0, 1, 2], Pace::Saturating, (4000, 4000)),
            flow(&[2, 1, 0], Pace::PerSecond(8), (16, 4000)),
            priority(flow(&[0, 1, 2], Pace::PerSecond(4), (16, 4000))),
        ],
        link: marking_link(),
        delivery: limits(),
        memory_bytes: MEMORY_BYTES,
        path_window: path_window(),
        faults: faults(4, &kinds),
        rests: Rests::default(),
        expect: Expectation { no_resend: true, ..Expectation::default() },
    }
}

/// Striped streams, and some that are not, over lanes with a bottleneck each, with every fault of lanes
/// and of nodes.
#[must_use]
pub fn striped() -> World {
    use FaultKind::{
        LaneFinish, LaneHalfSilence, LaneReset, LaneSilence, LinkOutage, LinkReset, ModeSwitch,
        NodeRestart, NodeStall,
    };
    let kinds = [
        (LaneReset, 6),
        (LaneFinish, 2),
        (LaneSilence, 3),
        (LaneHalfSilence, 2),
        (LinkReset, 2),
        (LinkOutage, 1),
        (ModeSwitch, 2),
        (NodeStall, 2),
        (NodeRestart, 1),
    ];
    let about = "striped streams over four bulk lanes, every fault of lanes and nodes";
    let mut world = two_nodes("striped", about, 4, faults(6, &kinds));
    let stripe = |flow: FlowShape| FlowShape { striped: true, ..flow };
    world.flows.extend([
        stripe(flow(&[0, 1], Pace::PerSecond(3), (10_000, 60_000))),
        stripe(flow(&[1, 0], Pace::PerSecond(2), (16, 60_000))),
        stripe(flow(&[0, 1], Pace::PerSecond(1), (100, 200_000))),
    ]);
    world
}

/// A striped stream that fills the lanes of two links in a row, beside one that is not striped.
#[must_use]
pub fn striped_relay() -> World {
    use FaultKind::{LaneReset, LaneSilence, LinkReset, ModeSwitch};
    let hop = |a, b| far(LinkShape { bytes_per_second: 125_000, ..link(a, b, 3) }, 20);
    let mut filling = flow(&[0, 1, 2], Pace::Saturating, (4000, 4000));
    filling.striped = true;
    World {
        name: "striped-relay",
        about: "a striped stream fills three lanes of two links in a row, lanes fail",
        nodes: 3,
        links: vec![hop(0, 1), hop(1, 2)],
        flows: vec![filling, flow(&[2, 1, 0], Pace::PerSecond(10), (16, 4000))],
        link: link_config(),
        delivery: limits(),
        memory_bytes: MEMORY_BYTES,
        path_window: path_window(),
        faults: faults(10, &[(LaneReset, 2), (LaneSilence, 1), (ModeSwitch, 1), (LinkReset, 1)]),
        rests: Rests::default(),
        expect: Expectation::default(),
    }
}

/// A ring of four, flows over one and two hops, everything that can go wrong with their links.
#[must_use]
pub fn relays() -> World {
    use FaultKind::{
        LaneHalfSilence, LaneReset, LaneSilence, LinkOutage, LinkReset, NodeRestart, NodeStall,
    };
    let kinds = [
        (LaneReset, 4),
        (LaneSilence, 2),
        (LaneHalfSilence, 2),
        (LinkReset, 2),
        (LinkOutage, 1),
        (NodeStall, 2),
        (NodeRestart, 1),
    ];
    let slow = |path: &[u16]| flow(path, Pace::PerSecond(2), (16, 4000));
    World {
        name: "relays",
        about: "a ring of four, flows over two hops, every fault",
        nodes: 4,
        links: vec![link(0, 1, 1), link(1, 2, 1), link(2, 3, 1), link(3, 0, 1)],
        flows: vec![
            slow(&[0, 1, 2]),
            slow(&[1, 2, 3]),
            slow(&[2, 3, 0]),
            slow(&[3, 0, 1]),
            priority(slow(&[0, 1, 2])),
            priority(slow(&[2, 1, 0])),
            priority(slow(&[2, 3, 0])),
        ],
        link: calm_link(link_config()),
        delivery: limits(),
        memory_bytes: MEMORY_BYTES,
        path_window: path_window(),
        faults: faults(6, &kinds),
        rests: Rests::default(),
        expect: Expectation::default(),
    }
}

/// A link filled with bulk, all lanes over one bottleneck; control must pass.
#[must_use]
pub fn saturated_pair() -> World {
    let about = "bulk fills a bottleneck of 10 Mbit/s, control passes in time";
    let control_within = Duration::from_micros(3500 + 25_000);
    let mut world = full_link("saturated-pair", about, (2, 1_250_000), control_within);
    world.flows.truncate(2);
    world.rests = full_for(8);
    sized(world, 20_000)
}

/// The same over one lane for all classes.
#[must_use]
pub fn saturated_collapsed() -> World {
    let about = "bulk fills one lane of 10 Mbit/s, control passes in time";
    let control_within = Duration::from_micros(6500 + 25_000);
    further(full_link("saturated-collapsed", about, (0, 1_250_000), control_within), 5)
}

/// Its links lead over a longer way.
fn further(mut world: World, delay_ms: u64) -> World {
    for link in &mut world.links {
        *link = far(*link, delay_ms);
    }
    world
}

/// The same over a link so slow that little of anything is much of it: heartbeats must pass, too.
#[must_use]
pub fn thin_link() -> World {
    let about = "bulk fills a bottleneck of 200 kbit/s, no lane passes for silent";
    let world = full_link("thin-link", about, (2, 25_000), Duration::from_millis(500));
    World { rests: Rests::default(), ..sized(world, 1000) }
}

/// Its messages are of so many bytes.
fn sized(mut world: World, message_bytes: u32) -> World {
    for flow in &mut world.flows {
        flow.message_bytes = (message_bytes, message_bytes);
    }
    world
}

/// Two nodes that fill the one bottleneck between them, with records of full size, both ways.
fn full_link(
    name: &'static str,
    about: &'static str,
    (bulk_lanes, bytes_per_second): (u16, u64),
    control_within: Duration,
) -> World {
    let mut shape = link(0, 1, bulk_lanes);
    shape.shared = true;
    shape.bytes_per_second = bytes_per_second;
    let full = |path: &[u16]| flow(path, Pace::Saturating, (60_000, 60_000));
    World {
        name,
        about,
        nodes: 2,
        links: vec![shape],
        flows: vec![full(&[0, 1]), full(&[0, 1]), full(&[1, 0]), full(&[1, 0])],
        // Room for a record beyond what sources send ahead.
        link: LinkConfig { data_bytes_max: 512 << 10, ..link_config() },
        delivery: limits(),
        memory_bytes: MEMORY_BYTES,
        path_window: path_window(),
        faults: faults(20, &[(FaultKind::LaneReset, 1)]),
        rests: full_for(12),
        expect: Expectation {
            control_within,
            fair_percent: 20,
            in_flight: true,
            ..Expectation::default()
        },
    }
}

/// Three hosts with little between them and more processes than cores: what the links carry is up to
/// threads that wait for their turn.
#[must_use]
pub fn busy_hosts() -> World {
    let near = |a, b| LinkShape { bytes_per_second: 500_000, path: path(25, 10), ..link(a, b, 1) };
    let mut world = World {
        name: "busy-hosts",
        about: "nodes wait for their cores again and again, links carry what is left",
        nodes: 3,
        links: vec![near(0, 1), near(1, 2)],
        flows: vec![flow(&[0, 1, 2], Pace::Saturating, (20_000, 20_000))],
        link: marking_link(),
        delivery: DeliveryLimits::default(),
        memory_bytes: 512 << 20,
        path_window: PathWindowLimits::default(),
        faults: faults(0, &[(FaultKind::NodePreempted, 5000), (FaultKind::NodePause, 1)]),
        rests: Rests::default(),
        expect: Expectation { carries_percent: 80, ..Expectation::default() },
    };
    world.faults.every = Duration::from_millis(4);
    world
}

/// A ring of four, each link filled in both directions by flows over two hops, of messages from so many
/// bytes to so many.
fn full_ring(
    name: &'static str,
    about: &'static str,
    bytes: (u32, u32),
    expect: Expectation,
) -> World {
    let ring = |a, b| far(LinkShape { bytes_per_second: 32_000, ..link(a, b, 1) }, 40);
    let full = |path: &[u16]| flow(path, Pace::Saturating, bytes);
    World {
        name,
        about,
        nodes: 4,
        links: vec![ring(0, 1), ring(1, 2), ring(2, 3), ring(3, 0)],
        flows: vec![
            full(&[0, 1, 2]),
            full(&[1, 2, 3]),
            full(&[2, 3, 0]),
            full(&[3, 0, 1]),
            full(&[0, 3, 2]),
            full(&[3, 2, 1]),
            full(&[2, 1, 0]),
            full(&[1, 0, 3]),
        ],
        link: calm_link(link_config()),
        delivery: short_limits(),
        memory_bytes: MEMORY_BYTES,
        path_window: path_window(),
        faults: faults(20, &[(FaultKind::LaneReset, 1)]),
        rests: full_for(10),
        expect,
    }
}

/// It must keep moving: each flow has at least a fifth of the mean.
#[must_use]
pub fn saturated_ring() -> World {
    let about = "a ring of four, every link filled both ways by flows over two hops, keeps moving";
    full_ring(
        "saturated-ring",
        about,
        (200, 7_000),
        Expectation { at_least_percent: 20, ..Expectation::default() },
    )
}

/// It must be fair, too.
#[must_use]
pub fn fair_ring() -> World {
    let about = "the same with messages of one size, and flows have like shares";
    let expect = Expectation { fair_percent: 20, ..Expectation::default() };
    let ring = full_ring("fair-ring", about, (4000, 4000), expect);
    World { delivery: limits(), rests: Rests::default(), ..ring }
}

/// Two sources, a relay that both use, two destinations; the first flow's way can be made slow.
fn shared_relay(name: &'static str, about: &'static str, slowness: Slowness) -> World {
    let spoke = |a, b| far(LinkShape { bytes_per_second: 80_000, ..link(a, b, 1) }, 15);
    let full = |path: &[u16]| flow(path, Pace::Saturating, (3000, 3000));
    World {
        name,
        about,
        nodes: 5,
        links: vec![spoke(0, 1), spoke(1, 2), spoke(1, 3), spoke(4, 1)],
        flows: vec![full(&[0, 1, 2]), full(&[0, 1, 3]), full(&[4, 1, 3])],
        link: calm_link(marking_link()),
        delivery: short_limits(),
        memory_bytes: MEMORY_BYTES,
        path_window: path_window(),
        faults: faults(20, &[(FaultKind::LaneReset, 1)]),
        rests: full_for(10),
        expect: Expectation { isolate: Some(slowness), ..Expectation::default() },
    }
}

/// The link behind a shared relay is slow.
#[must_use]
pub fn slow_link() -> World {
    let slowness = Slowness { flow: 0, link: Some((1, 20_000)), consume_every: Duration::ZERO };
    shared_relay("slow-link", "a slow link behind a relay that others share", slowness)
}

/// The consumer behind a shared relay is slow.
#[must_use]
pub fn slow_consumer() -> World {
    let slowness = Slowness { flow: 0, link: None, consume_every: Duration::from_secs(2) };
    shared_relay("slow-consumer", "a slow consumer behind a relay that others share", slowness)
}
