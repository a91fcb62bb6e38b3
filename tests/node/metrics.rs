//! What a node announces of a link is what the real one does.

use std::fs::File;
use std::ops::RangeInclusive;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;

use crate::link_faults::World;
use crate::namespaces::Fault;
use crate::process::{Guarded, Node, wait_for};
use crate::relay::Passage;
use crate::stalls::pair_over_relay;

const BOTTLENECK_MBIT: u32 = 10;
/// Headers and TLS take a part of it. What its bucket has gathered while ends waited for their cores,
/// 16 kB, passes at once, which is 6.6 Mbit/s more over the 20 ms of a sample.
const BANDWIDTH_MBPS: RangeInclusive<f64> = 5.0..=17.0;
/// Announced before anything is measured.
const LATENCY_UNKNOWN_US: u32 = 1_000;

/// Each way takes at least as long.
const FAR: Passage =
    Passage { delay: Duration::from_millis(20), bytes_per_s: 12_500_000, held: false };

/// What B knows of the way from A to it: what A has announced.
fn announced(b: &Node) -> Option<Value> {
    let mesh = b.json(&["plan", "--live", "--export"]);
    let link = mesh["links"].as_array().unwrap().first()?;
    // A way back that is like the way there does not stand apart.
    let back = link.get("ba").filter(|_| link["a"] != "a");
    Some(back.unwrap_or(link).clone())
}

#[test]
fn bandwidth_use_and_loss_are_those_of_the_link() {
    let Some(world) = World::start(Some(BOTTLENECK_MBIT), "") else { return };
    // The first word on a link holds for a while, as each one does: the next is on what comes now.
    wait_for("a measured latency", || {
        announced(&world.b).filter(|way| way["latency_us"] != LATENCY_UNKNOWN_US)
    });
    let mut subscriber = world.b.command(&["stream", "sub", "s", "--raw"]);
    let _subscriber = Guarded(subscriber.stdout(Stdio::null()).spawn().unwrap());
    let endless = File::open("/dev/zero").unwrap();
    let _publisher = world.a.spawn(&["stream", "pub", "s", "--raw"], endless.into());
    // From here on its heartbeats are missed, until it is dead.
    let port = world.lane("priority");
    world.namespaces.begin(Fault::Silence { port });
    wait_for("the end of the lane", || {
        (!world.lanes().iter().any(|(_, other)| *other == port)).then_some(())
    });
    world.namespaces.end();
    wait_for("the link to be announced as it is", || {
        let way = announced(&world.b)?;
        let bandwidth = way["bandwidth_mbps"].as_f64().filter(|it| BANDWIDTH_MBPS.contains(it));
        let (used, loss) = (way["utilization"].as_f64()?, way["loss"].as_f64()?);
        (bandwidth.is_some() && used > 0.2 && loss > 0.001).then_some(())
    });
    // Operators see the same.
    let link = &world.a.json(&["link", "ls"])[0];
    let kbps = link["bandwidth_kbps"].as_f64().unwrap();
    assert!(BANDWIDTH_MBPS.contains(&(kbps / 1e3)), "{link}");
    assert!(link["utilization_permille"].as_u64() > Some(200), "{link}");
    assert!(link["loss_ppm"].as_u64() > Some(1_000), "{link}");
}

#[test]
fn latency_is_that_of_the_way() {
    let (_directory, _relay, a, b) = pair_over_relay(FAR);
    let least_us = u64::try_from(FAR.delay.as_micros()).unwrap();
    wait_for("the latency to be announced", || {
        let way = announced(&b)?;
        (way["latency_us"].as_u64() >= Some(least_us)).then_some(())
    });
    let link = &a.json(&["link", "ls"])[0];
    assert!(link["rtt_us"].as_u64() >= Some(2 * least_us), "{link}");
}
