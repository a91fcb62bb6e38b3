//! Links that change to one lane for all and lose it before the others have sent what waited for them.

use std::time::Duration;

use hawser_wire::{LaneId, LinkMode, TrafficClass};

use super::pair::{Pair, class_of};
use crate::*;
use TrafficClass::{Bulk, Control, Priority};

fn millis(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A link with one lane for all, whose former bulk lanes still have much to send from end 0.
fn draining() -> Pair {
    let mut pair = Pair::new(LinkConfig::default());
    pair.bytes_per_ms = 1000;
    for lane in 0..4 {
        pair.connect(LaneId(lane), class_of(lane), 0);
    }
    pair.run(millis(300));
    pair.redials = false;
    for _ in 0..50 {
        for stream in 0..20 {
            pair.push(0, Bulk, Origin::Foreign, stream, 1000).unwrap();
        }
    }
    pair.ends[1].propose_mode(LinkMode::Collapsed);
    while pair.ends[0].lanes().count() > 3 {
        pair.step(true);
    }
    assert!(pair.ends[0].lanes.iter().skip(1).all(|lane| !lane.is_open() && lane.has_bulk()));
    pair
}

/// Each end pushes a frame of each class in each step, as far as it can; how often it could not.
fn push_all(pair: &mut Pair, steps: u64) -> u64 {
    let mut refused = 0;
    for _ in 0..steps {
        for end in 0..2 {
            for class in [Control, Priority, Bulk] {
                refused += u64::from(pair.push(end, class, Origin::Own, 1, 100).is_err());
            }
        }
        pair.step(true);
    }
    refused
}

#[test]
fn lanes_that_are_to_be_closed_carry_on_when_the_one_for_all_is_lost() {
    let mut pair = draining();
    push_all(&mut pair, 20);
    let key = pair.key_of(0);
    pair.cut(key, [Some(0), Some(0)]);
    pair.step(true);
    assert_eq!(push_all(&mut pair, 200), 0, "the link carries on");
    let wants = |event: &LinkEvent| {
        matches!(event, LinkEvent::WantLane { lane: LaneId(0), class: Control })
    };
    assert!((0..2).any(|end| pair.saw(end, wants)), "{:#?}", pair.events);
    pair.settle(5);
    // Once there is a lane for all again the others are let go of.
    pair.connect(LaneId(0), Control, 1);
    assert_eq!(push_all(&mut pair, 300), 0);
    pair.settle(5);
    assert!(pair.ends.iter().all(|end| end.lanes().count() == 1));
    assert_eq!(pair.violations, []);
}

#[test]
fn lanes_that_are_to_be_closed_carry_on_while_the_one_for_all_is_silent() {
    let mut pair = draining();
    let key = pair.key_of(0);
    pair.wires.get_mut(&key).unwrap().is_silent = true;
    push_all(&mut pair, 320);
    let control = pair.push(0, Control, Origin::Own, 1, 100).unwrap();
    pair.run(millis(50));
    assert!(!pair.under_way[0].contains_key(&control));
    pair.wires.get_mut(&key).unwrap().is_silent = false;
    pair.settle(5);
    pair.run(millis(500));
    assert!(pair.ends.iter().all(|end| end.lanes().count() == 1));
    assert_eq!(pair.violations, []);
}

/// What was in flight over the lost lane goes before whatever comes after the lanes have their classes
/// again.
#[test]
fn a_mode_that_changes_back_after_the_lane_for_all_was_lost_keeps_the_order_of_priority() {
    for ms in (0..300).step_by(10) {
        let mut pair = draining();
        push_all(&mut pair, 20);
        let key = pair.key_of(0);
        pair.cut(key, [Some(0), Some(0)]);
        push_all(&mut pair, ms);
        pair.ends[1].propose_mode(LinkMode::Separate);
        pair.redials = true;
        push_all(&mut pair, 100);
        pair.settle(15);
        assert!(pair.ends.iter().all(|end| end.mode() == LinkMode::Separate), "{ms} ms");
        assert_eq!(pair.violations, [], "{ms} ms");
    }
}
