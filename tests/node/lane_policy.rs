//! How many bulk lanes a link has: each decision can be seen, with what led to it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::link_faults::{Traffic, World};
use crate::process::Node;

/// The bottleneck, in megabits a second, and lines that fill it.
const BOTTLENECK_MBIT: u32 = 10;
const LINE_BYTES: usize = 1_000;
/// The same in bytes a second.
const BOTTLENECK: u64 = (BOTTLENECK_MBIT as u64) * 1_000_000 / 8;
/// Streams that fill it together, for half a minute.
const STREAMS: usize = 8;
const STREAM_LINES: u64 = 4_000;

/// Five seconds of a full buffer call for a lane, seven more judge it; the machine may be busy.
const SOON: Duration = Duration::from_secs(60);

/// Asks until there is an answer.
fn wait_soon<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + SOON;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited for {what} in vain");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// The decisions of a node, as `hawser lane events` shows them: inputs by name.
fn decisions(node: &Node) -> Vec<BTreeMap<String, String>> {
    let events = node.json(&["lane", "events", "--peer", "b"]);
    let events = events.as_array().unwrap().iter();
    let inputs = |event: &Value| serde_json::from_value(event["inputs"].clone()).unwrap();
    events.filter(|event| event["name"] == "lane-policy").map(inputs).collect()
}

/// Waits for the first decision with one of these verdicts.
fn decision(world: &World, verdicts: &[&str]) -> BTreeMap<String, String> {
    wait_soon(&format!("a decision of {verdicts:?}"), || {
        let mut all = decisions(&world.a).into_iter();
        all.find(|inputs| verdicts.contains(&inputs["verdict"].as_str()))
    })
}

fn await_bulk_lanes(world: &World, wanted: usize) {
    wait_soon(&format!("{wanted} bulk lanes"), || (bulk_lanes(world) == wanted).then_some(()));
}

fn bulk_lanes(world: &World) -> usize {
    world.lanes().iter().filter(|(class, _)| class == "bulk").count()
}

fn number(inputs: &BTreeMap<String, String>, name: &str) -> u64 {
    inputs[name].parse().unwrap()
}

/// It was called for as the inputs say.
fn check_wish(inputs: &BTreeMap<String, String>) {
    for (value, high) in [
        ("occupancy_permille", "occupancy_high_permille"),
        ("inflation_permille", "inflation_high_permille"),
    ] {
        // High until it falls below the lower threshold: that is as far as it may be.
        assert!(number(inputs, value) > number(inputs, high) / 2, "{value} of {inputs:?}");
    }
    assert!(number(inputs, "rtt_us") > number(inputs, "min_rtt_us"), "{inputs:?}");
    assert!(number(inputs, "occupied_ms") >= 5_000, "{inputs:?}");
    assert!(number(inputs, "goodput_bytes_per_s") > 0, "{inputs:?}");
}

#[test]
fn a_full_bottleneck_gets_a_second_lane_which_is_then_judged() {
    let Some(world) = World::start(Some(BOTTLENECK_MBIT), "") else { return };
    // A stream keeps to one lane: of so many some keep to each.
    let traffic: Vec<Traffic> = (0..STREAMS)
        .map(|n| {
            let stream = format!("s{n}");
            world.a.run(&["stream", "open", &stream, "--to", "b"]).ok();
            Traffic::over(&stream, &world.a, &world.b, LINE_BYTES, Some(STREAM_LINES))
        })
        .collect();
    let opened = decision(&world, &["open"]);
    assert_eq!((opened["bulk_lanes"].as_str(), opened["dry_run"].as_str()), ("1", "false"));
    check_wish(&opened);
    await_bulk_lanes(&world, 2);
    // Two lanes carry no more through one bottleneck than one.
    let judged = decision(&world, &["undone", "confirmed", "inconclusive"]);
    assert_eq!(judged["verdict"], "undone", "{judged:?}");
    let gain_permille: i64 = judged["gain_permille"].parse().unwrap();
    assert!(gain_permille < 100, "{judged:?}");
    // Each of the two measures is of the bottleneck, what stands around records included.
    for rate in ["baseline_bytes_per_s", "trial_bytes_per_s"] {
        let rate = number(&judged, rate);
        assert!((BOTTLENECK / 2..BOTTLENECK * 11 / 10).contains(&rate), "{judged:?}");
    }
    assert!(number(&judged, "barred_left_ms") > 590_000, "{judged:?}");
    await_bulk_lanes(&world, 1);
    // It is still called for, and not opened.
    let held = decision(&world, &["held_barred"]);
    assert_eq!(held["bulk_lanes"], "1", "{held:?}");
    for traffic in traffic {
        traffic.finish(&world.a);
    }
    assert_eq!(bulk_lanes(&world), 1);
}

#[test]
fn a_dry_run_decides_and_opens_nothing() {
    let config = "[links]\nlane_policy = \"dry-run\"\n";
    let Some(world) = World::start(Some(BOTTLENECK_MBIT), config) else { return };
    let traffic = Traffic::start(&world.a, &world.b, LINE_BYTES, None);
    let wished = decision(&world, &["open"]);
    assert_eq!((wished["bulk_lanes"].as_str(), wished["dry_run"].as_str()), ("1", "true"));
    check_wish(&wished);
    traffic.finish(&world.a);
    assert_eq!(bulk_lanes(&world), 1);
}

#[test]
fn no_lane_is_opened_beyond_the_cap() {
    let config = "[links]\nbulk_lanes_max = 1\n";
    let Some(world) = World::start(Some(BOTTLENECK_MBIT), config) else { return };
    let traffic = Traffic::start(&world.a, &world.b, LINE_BYTES, None);
    let held = decision(&world, &["held_at_cap"]);
    assert_eq!((held["bulk_lanes"].as_str(), held["bulk_lanes_max"].as_str()), ("1", "1"));
    check_wish(&held);
    traffic.finish(&world.a);
    assert_eq!(bulk_lanes(&world), 1);
}

#[test]
fn a_cap_is_set_and_taken_back_while_traffic_goes_on() {
    let config = "[links]\nlane_policy = \"off\"\n";
    let Some(world) = World::start(Some(BOTTLENECK_MBIT), config) else { return };
    let traffic = Traffic::start(&world.a, &world.b, LINE_BYTES, None);
    let set = |args: &[&str], cap: u64, policy: &str| {
        let said = world.a.json(&[&["lane"], args].concat());
        assert_eq!((&said["bulk_lanes_max"], &said["policy"]), (&cap.into(), &policy.into()));
        assert_eq!(said["peer_name"], "b");
    };
    set(&["cap", "b", "1"], 1, "off");
    set(&["policy", "b", "dry-run"], 1, "dry-run");
    let held = decision(&world, &["held_at_cap"]);
    assert_eq!((held["bulk_lanes_max"].as_str(), held["dry_run"].as_str()), ("1", "true"));
    check_wish(&held);
    set(&["policy", "b", "on"], 1, "on");
    set(&["cap", "b", "0"], 4, "on");
    let opened = decision(&world, &["open"]);
    assert_eq!((opened["bulk_lanes_max"].as_str(), opened["dry_run"].as_str()), ("4", "false"));
    await_bulk_lanes(&world, 2);
    traffic.finish(&world.a);
    world.a.run(&["lane", "cap", "b", "5"]).refused(2, &["1 to 4, or default"]);
    world.a.run(&["lane", "cap", "nobody", "1"]).refused(3, &["nobody"]);
}
