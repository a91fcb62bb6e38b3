//! What a lane keeps until it is acknowledged has a bound.

use std::time::Duration;

use hawser_wire::TrafficClass;

use super::pair::Pair;
use crate::*;
use TrafficClass::{Bulk, Control};

const WINDOW: usize = 1 << 20;
/// Room for a batch of full size: copies may take it, too.
const FOR_CONTROL: usize = 256 << 10;

/// Lanes on which nothing but the window holds bulk back: their round trip is long, what may be in flight
/// is much.
fn far() -> Pair {
    let config = LinkConfig {
        window_bytes: WINDOW,
        window_control_bytes: FOR_CONTROL,
        in_flight_floor_bytes: 64 << 20,
        ..LinkConfig::default()
    };
    let mut pair = Pair::with_lanes(config, 4);
    pair.redials = false;
    for wire in pair.wires.values_mut() {
        wire.delay = Duration::from_millis(80);
    }
    pair
}

fn fill(pair: &mut Pair) {
    for stream in 0..8 {
        while pair.ends[0].has_room(Bulk, Flow { tenant: stream % 3, stream }) {
            pair.push(0, Bulk, Origin::Own, stream, 5000).unwrap();
        }
    }
}

/// The most that a lane of end 0 keeps, in bytes.
fn most_kept(pair: &Pair) -> usize {
    pair.ends[0].lanes().map(|lane| lane.unacked_bytes).max().unwrap_or(0)
}

#[test]
fn bulk_leaves_control_its_part_of_a_lanes_window() {
    let mut pair = far();
    let mut most = 0;
    for _ in 0..1000 {
        fill(&mut pair);
        pair.step(true);
        most = most.max(most_kept(&pair));
    }
    assert!(most <= WINDOW - FOR_CONTROL, "{most}");
    assert!(
        most > (WINDOW - FOR_CONTROL) / 2,
        "{most} does not show that the window holds it back"
    );
    // With one lane left for all, control has what bulk may not take.
    for lane in [0, 1, 2] {
        let key = pair.key_of(lane);
        pair.cut(key, [Some(0), Some(0)]);
    }
    while pair.ends[0].lanes().count() > 1 || most_kept(&pair) < (WINDOW - FOR_CONTROL) / 2 {
        fill(&mut pair);
        pair.step(true);
    }
    let mut above = 0;
    for _ in 0..500 {
        fill(&mut pair);
        for _ in 0..4 {
            let _full = pair.push(0, Control, Origin::Own, 0, 4000);
        }
        pair.step(true);
        let kept = most_kept(&pair);
        above += u64::from(kept > WINDOW - FOR_CONTROL);
        assert!(kept <= WINDOW, "{kept}");
    }
    assert!(above > 0, "control took nothing of its part");
    pair.settle(60);
    assert_eq!(pair.violations, []);
}

#[test]
fn copies_of_what_a_silent_lane_has_keep_to_the_window_of_those_that_carry_them() {
    let mut pair = far();
    for _ in 0..200 {
        fill(&mut pair);
        pair.step(true);
    }
    let silent = pair.key_of(2);
    pair.wires.get_mut(&silent).unwrap().is_silent = true;
    // What is in flight over the others arrives meanwhile, so that there is room for copies.
    while !pair.saw(0, |event| matches!(event, LinkEvent::Hedged { .. })) {
        assert_eq!(pair.ends[0].lanes().count(), 4, "nothing was sent again");
        pair.step(true);
    }
    for _ in 0..600 {
        fill(&mut pair);
        pair.step(true);
        for lane in pair.ends[0].lanes().filter(|lane| lane.key != silent) {
            let kept = lane.unacked_bytes;
            assert!(kept <= WINDOW - FOR_CONTROL, "{kept} over {:?}", lane.id);
        }
        let waiting = pair.ends[0].lanes.iter().map(lane::Lane::resend_bytes).max();
        assert!(waiting <= Some(WINDOW), "{waiting:?} bytes wait to be sent again");
    }
    pair.settle(60);
    assert_eq!(pair.violations, []);
}
