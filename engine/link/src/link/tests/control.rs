//! Control of others beside that of this node, each other's and bulk.

use std::time::Duration;

use hawser_wire::{FrameFlags, FrameKind, LaneId, TrafficClass};

use super::pair::{Pair, STEP};
use crate::*;
use TrafficClass::{Bulk, Control};

/// One lane of 10 Mbit/s for all classes, whose rate is known.
fn slow_lane() -> Pair {
    let mut pair = Pair::new(LinkConfig::default());
    pair.bytes_per_ms = 1250;
    pair.connect(LaneId(0), Control, 0);
    pair.run(Duration::from_millis(200));
    for _ in 0..3 {
        pair.push(0, Bulk, Origin::Own, 1, 100_000).unwrap();
    }
    pair.settle(2);
    pair
}

/// Control of one neighbour until the link takes no more of it.
fn flood(pair: &mut Pair) -> Refusal {
    loop {
        if let Err(refusal) = pair.push(0, Control, Origin::Foreign, 0, 300) {
            return refusal;
        }
    }
}

#[test]
fn control_that_one_neighbour_brings_is_in_nobody_elses_way() {
    let config = LinkConfig { control_bytes_max: 1 << 20, ..LinkConfig::default() };
    let mut pair = Pair::with_lanes(config, 3);
    let refusal = flood(&mut pair);
    assert_eq!((refusal.limit, refusal.class), (RefusedLimit::Stream, Control));
    assert!(refusal.queued_bytes >= (1 << 20) / 3 - 10_000, "{refusal}");
    // Another of the same neighbour, another neighbour's, this node's own.
    let others = [(3, Origin::Foreign), (1, Origin::Foreign), (0, Origin::Own)];
    let others = others.map(|(flow, origin)| pair.push(0, Control, origin, flow, 100).unwrap());
    assert!(pair.ends[0].has_room(Control, Flow::default()));
    pair.settle(5);
    for id in others {
        let place = pair.order[1].iter().position(|&other| other == id).unwrap();
        assert!(place < pair.order[1].len() / 4, "{place} of {}", pair.order[1].len());
    }
    assert_eq!(pair.violations, []);
}

/// Bytes are counted by frames, which are of one size each.
#[test]
fn control_from_elsewhere_leaves_half_of_the_link_to_bulk_and_its_place_to_own() {
    let mut pair = slow_lane();
    let (mut waits, mut took) = (None, Duration::ZERO);
    let mut arrived_before = pair.order[1].len();
    let mut count = [0_usize; 2];
    for step in 0..5000_u32 {
        flood(&mut pair);
        while pair.ends[0].has_room(Bulk, Flow { tenant: 1, stream: 1 }) {
            pair.push(0, Bulk, Origin::Own, 1, 300).unwrap();
        }
        match waits {
            None if step % 100 == 0 => {
                waits = Some((pair.push(0, Control, Origin::Own, 0, 100).unwrap(), pair.now));
            }
            Some((id, since)) if pair.arrived[1].contains(&id) => {
                took = took.max(pair.now.saturating_since(since));
                waits = None;
            }
            _ => {}
        }
        let sent = pair.under_way[0].clone();
        pair.step(true);
        for id in &pair.order[1][arrived_before..] {
            match sent.get(id) {
                Some(Bulk) => count[1] += 1,
                _ => count[0] += 1,
            }
        }
        arrived_before = pair.order[1].len();
    }
    let all = count[0] + count[1];
    assert!(all > 12_000, "{count:?}");
    assert!(count.iter().all(|&frames| frames > all * 2 / 5), "{count:?}");
    assert!(waits.is_none_or(|(_, since)| pair.now.saturating_since(since) < took + STEP));
    assert!(took < Duration::from_millis(30), "{took:?}");
    assert_eq!(pair.violations, []);
}

#[test]
fn control_from_elsewhere_has_a_link_to_itself_if_nobody_else_wants_it() {
    let mut pair = slow_lane();
    let before = pair.order[1].len();
    let (mut own, mut took) = (None, Duration::ZERO);
    for step in 0..20_000 {
        flood(&mut pair);
        if step % 200 == 20 {
            own = Some((pair.push(0, Control, Origin::Own, 0, 100).unwrap(), pair.now));
        }
        pair.step(true);
        if let Some((_, since)) = own.take_if(|(id, _)| pair.arrived[1].contains(id)) {
            took = took.max(pair.now.saturating_since(since));
        }
    }
    assert!(pair.order[1].len() - before > 20_000 * 1250 * 9 / 10 / 332, "{}", pair.order[1].len());
    assert!(own.is_none() && took < Duration::from_millis(130), "{took:?}");
}

/// What is not counted, as link state is not, is acknowledged by nobody.
#[test]
fn what_neighbours_say_to_each_other_does_not_hold_back_control_from_elsewhere() {
    let mut pair = Pair::with_lanes(LinkConfig::default(), 3);
    for _ in 0..20 {
        pair.push(0, Control, Origin::Foreign, 0, 100).unwrap();
        pair.push(0, Bulk, Origin::Own, 1, 1000).unwrap();
        pair.step(true);
    }
    let (kind, flags) = (FrameKind::LinkControl, FrameFlags::default());
    for number in 0..32 {
        let (id, body) = ((u64::MAX - number).to_le_bytes(), vec![0; 16 << 10]);
        let parts = [&id[..], &body];
        let (flow, body) = (Flow::default(), FrameParts::of(&parts));
        pair.ends[0].push(kind, Control, Origin::Own, flow, flags, body).unwrap();
    }
    let mut foreign = Vec::new();
    for _ in 0..100 {
        pair.push(0, Bulk, Origin::Own, 1, 1000).unwrap();
        foreign.push(pair.push(0, Control, Origin::Foreign, 0, 100).unwrap());
        pair.step(true);
    }
    let late = foreign.iter().take(80).filter(|&id| !pair.arrived[1].contains(id)).count();
    assert_eq!(late, 0);
}

/// A batch that has no place in the window of its lane is put back, and goes with that lane's others.
#[test]
fn control_that_waits_for_the_window_of_a_lane_that_is_lost_goes_over_another() {
    for silent in [false, true] {
        let config = LinkConfig { window_bytes: 64 << 10, ..LinkConfig::default() };
        let mut pair = Pair::with_lanes(config, 3);
        let key = pair.key_of(0);
        pair.wires.get_mut(&key).unwrap().is_silent = true;
        for id in 0..400 {
            let origin = if id % 2 == 0 { Origin::Own } else { Origin::Foreign };
            pair.push(0, Control, origin, id % 5, 1000).unwrap();
            pair.push(0, Bulk, Origin::Own, 1, 100).unwrap();
            if id % 20 == 0 {
                pair.step(true);
            }
        }
        if !silent {
            pair.cut(key, [Some(0), Some(0)]);
        }
        pair.settle(15);
        assert_eq!(pair.violations, []);
    }
}
