//! Link sequences that left the link with their frames: the peer never sees them, and what it sees next is
//! no jump.

use std::time::Duration;

use hawser_wire::{CloseReason, FrameRef, LaneId, LinkMode, TrafficClass};

use super::pair::{Pair, Random, class_of};
use crate::*;
use TrafficClass::{Bulk, Control, Priority};

const WINDOW: u64 = 1 << 10;
/// The part of it that bulk may take.
const BULK: u64 = WINDOW * 3 / 4;

fn config() -> LinkConfig {
    let session_timeout = Duration::from_secs(2);
    LinkConfig { sequence_window: WINDOW, session_timeout, ..LinkConfig::default() }
}

/// Gives end 0 so many short frames, or all that it takes; how many it took.
fn push(pair: &mut Pair, class: TrafficClass, frames: u64) -> u64 {
    let taken = (0..frames).take_while(|&n| pair.push(0, class, Origin::Own, n % 9, 0).is_ok());
    u64::try_from(taken.count()).unwrap()
}

/// A link over which something has arrived, and whose lanes are silent since.
fn silent() -> Pair {
    let mut pair = Pair::with_lanes(config(), 3);
    push(&mut pair, Control, 3);
    pair.settle(1);
    pair.run(Duration::from_millis(300));
    for wire in pair.wires.values_mut() {
        wire.is_silent = true;
    }
    while !pair.ends[0].is_stalled() {
        pair.step(true);
    }
    pair
}

/// Control goes before what was queued earlier, and nothing waits for ever.
fn check_goes_on(pair: &mut Pair, least: u64) {
    assert!(push(pair, Bulk, BULK) >= least);
    push(pair, Control, 1);
    pair.run(Duration::from_millis(20));
    assert_eq!(push(pair, Control, 10), 10);
    pair.settle(5);
    assert_eq!(push(pair, Bulk, BULK / 2), BULK / 2);
    pair.settle(5);
    assert_eq!(pair.violations, []);
}

#[test]
fn what_comes_after_many_frames_that_have_left_is_no_jump() {
    for (frames, least) in [(BULK / 2, BULK / 3), (BULK, BULK / 2)] {
        let mut pair = silent();
        let taken = push(&mut pair, Bulk, frames);
        assert!(frames - taken < 10, "{taken}");
        pair.ends[0].evacuate(|_| true);
        pair.step(true);
        assert_eq!(u64::try_from(pair.rerouted[0].len()).unwrap(), taken);
        for wire in pair.wires.values_mut() {
            wire.is_silent = false;
        }
        pair.run(Duration::from_millis(5));
        assert!(pair.ends[0].is_usable());
        check_goes_on(&mut pair, least);
    }
}

/// What is acknowledged is as the peer likes, and to look for the lowest walks all that waits.
#[test]
fn while_bulk_lacks_numbers_it_is_looked_for_them_in_parts_of_the_window() {
    let mut pair = silent();
    push(&mut pair, Bulk, BULK);
    let end = &mut pair.ends[0];
    assert!(end.lacks_sequence(Bulk));
    for frames in 1..WINDOW / 64 {
        end.note_acked(1);
        assert_eq!(end.acked_unseen, frames, "no look");
    }
    end.note_acked(1);
    assert_eq!(end.acked_unseen, 0);
    end.note_acked(1);
    pair.run(Duration::from_millis(200));
    assert_eq!(pair.ends[0].acked_unseen, 0, "ticks look, too");
}

/// Whatever waits of bulk, and of priority: the link still takes what keeps the mesh together.
#[test]
fn records_leave_control_its_part_of_the_sequences() {
    let mut pair = silent();
    let taken = [Bulk, Priority, Control].map(|class| {
        let taken = push(&mut pair, class, WINDOW);
        let refused = pair.push(0, class, Origin::Own, 1, 0).unwrap_err();
        assert_eq!((refused.class, refused.limit), (class, RefusedLimit::SequenceWindow));
        // Nor is more of it asked for.
        let flow = Flow { tenant: 1, stream: 1 };
        assert!(!pair.ends[0].has_room(class, flow) && pair.ends[0].is_full(class));
        taken
    });
    let [bulk, others @ ..] = taken;
    assert!(bulk > BULK - 20 && others == [WINDOW / 8; 2], "{taken:?}");
    for wire in pair.wires.values_mut() {
        wire.is_silent = false;
    }
    pair.settle(5);
    pair.run(Duration::from_millis(300));
    assert!([Bulk, Priority, Control].iter().all(|&class| !pair.ends[0].is_full(class)));
    check_goes_on(&mut pair, BULK / 2);
}

/// Its records of priority are bulk there, and leave others as much.
#[test]
fn priority_waits_as_bulk_does_for_a_peer_that_does_not_take_it() {
    let mut pair = Pair::new(config());
    pair.takes_priority = false;
    for lane in 0..3 {
        pair.connect(LaneId(lane), class_of(lane), 0);
    }
    pair.run(Duration::from_millis(300));
    for wire in pair.wires.values_mut() {
        wire.is_silent = true;
    }
    assert!(push(&mut pair, Bulk, WINDOW) > BULK - 20);
    let flow = Flow { tenant: 1, stream: 1 };
    assert!(!pair.ends[0].has_room(Priority, flow) && pair.ends[0].is_full(Priority));
    assert!(pair.push(0, Priority, Origin::Own, 1, 0).is_err());
    assert!(pair.ends[0].has_room(Control, flow));
}

#[test]
fn what_comes_after_a_session_that_one_end_has_ended_is_no_jump() {
    for (frames, least) in [(BULK / 2, BULK / 3), (BULK, BULK / 2)] {
        let mut pair = silent();
        push(&mut pair, Bulk, frames);
        forget(&mut pair, 0);
        check_goes_on(&mut pair, least);
    }
}

/// Numbers as many frames as the link takes, which leave while all its lanes are silent.
fn use_up(pair: &mut Pair) {
    for wire in pair.wires.values_mut() {
        wire.is_silent = true;
    }
    while pair.ends[0].is_usable() {
        pair.step(true);
    }
    push(pair, Bulk, BULK);
    pair.ends[0].evacuate(|_| true);
    for wire in pair.wires.values_mut() {
        wire.is_silent = false;
    }
    pair.run(Duration::from_millis(5));
    assert!(pair.ends[0].is_usable());
}

/// Ends the session at one end alone, and brings up the lanes again.
fn forget(pair: &mut Pair, end: usize) {
    (pair.redials, pair.may_repeat) = (false, true);
    let mut told = [Some(1500); 2];
    told[end] = Some(0);
    for key in pair.wires.keys().copied().collect::<Vec<_>>() {
        pair.cut(key, told);
    }
    let is_over = |event: &LinkEvent| matches!(event, LinkEvent::SessionEnded { .. });
    while !pair.saw(end, is_over) {
        pair.step(true);
    }
    assert!(!pair.saw(1 - end, is_over));
    for lane in 0..3 {
        pair.connect(LaneId(lane), class_of(lane), 0);
    }
}

/// It may have come, though no acknowledgement has.
#[test]
fn what_was_in_flight_when_the_session_ended_lends_no_other_frame_its_number() {
    let mut pair = Pair::with_lanes(config(), 3);
    pair.run(Duration::from_millis(300));
    push(&mut pair, Bulk, 30);
    while pair.arrived[1].len() < 30 {
        pair.step(true);
    }
    assert_eq!(pair.ends[0].peer_sequences.at_least(), 0);
    forget(&mut pair, 0);
    pair.run(Duration::from_millis(300));
    use_up(&mut pair);
    check_goes_on(&mut pair, BULK / 2);
}

/// Thirty frames are in flight over a lane that is silent and their copies
/// wait for another.
fn hedged() -> (Pair, LaneKey) {
    let mut pair = Pair::with_lanes(config(), 3);
    pair.run(Duration::from_millis(300));
    let key = pair.key_of(2);
    pair.wires.get_mut(&key).unwrap().is_silent = true;
    push(&mut pair, Bulk, 30);
    loop {
        pair.run(Duration::from_millis(1));
        let (now, end) = (pair.now.saturating_add(Duration::from_millis(1)), &mut pair.ends[0]);
        if end.poll_timeout().is_some_and(|(due, _)| due <= now) {
            end.handle_timeout(now, true);
            let is_hedged = |event| matches!(event, LinkEvent::Hedged { .. });
            if std::iter::from_fn(|| end.poll_event()).any(is_hedged) {
                return (pair, key);
            }
        }
    }
}

/// It may come yet, though its copy has left the link.
#[test]
fn what_a_silent_lane_has_in_flight_lends_no_other_frame_its_number() {
    let (mut pair, key) = hedged();
    let end = &mut pair.ends[0];
    let first = end.next_sequence - 30;
    // Nothing of it has been sent.
    end.evacuate(|_| true);
    assert_eq!(end.find_lowest_sequence(), end.next_sequence);
    assert_eq!(end.lanes().map(|lane| lane.unacked_frames).sum::<u64>(), 30);
    while end.has_sequence(Bulk, Origin::Own) && end.next_sequence > first + 30 - 1 {
        end.next_sequence += 1;
    }
    assert!(!end.has_sequence(Bulk, Origin::Own));
    pair.wires.get_mut(&key).unwrap().is_silent = false;
    pair.run(Duration::from_millis(300));
    check_goes_on(&mut pair, BULK / 2);
}

/// Whatever of it the lane brought before it was lost, and though its copy has left the link.
#[test]
fn what_was_sent_lends_no_other_frame_its_number() {
    let (mut pair, key) = hedged();
    let end = &mut pair.ends[0];
    end.evacuate(|_| true);
    let last = end.next_sequence - 1;
    pair.cut(key, [Some(1), Some(1)]);
    pair.run(Duration::from_millis(300));
    let end = &mut pair.ends[0];
    end.next_sequence = end.peer_sequences.at_least() + WINDOW;
    assert!(end.has_sequence(Bulk, Origin::Own));
    assert!(end.next_sequence > last, "{} after {last}", end.next_sequence);
}

/// It counts from the lowest of what is sent then.
#[test]
fn what_the_peer_had_before_it_ended_the_session_is_no_bound_later() {
    let mut pair = Pair::with_lanes(config(), 3);
    pair.run(Duration::from_millis(300));
    let key = pair.key_of(2);
    pair.wires.get_mut(&key).unwrap().is_silent = true;
    push(&mut pair, Bulk, 200);
    push(&mut pair, Control, 20);
    pair.run(Duration::from_millis(20));
    assert_eq!(pair.ends[0].peer_sequences.at_least(), 220);
    forget(&mut pair, 1);
    pair.settle(1);
    assert!(pair.ends[1].duplicates.highest() < Some(220));
    pair.run(Duration::from_millis(300));
    use_up(&mut pair);
    push(&mut pair, Bulk, WINDOW - 10);
    push(&mut pair, Control, 1);
    pair.settle(1);
    check_goes_on(&mut pair, BULK / 2);
}

/// Some of a striped stream leaves before any of it was sent, with all that was numbered behind it.
#[test]
fn what_stays_of_a_striped_stream_keeps_its_numbers_for_itself() {
    let mut pair = Pair::with_lanes(config(), 4);
    (pair.redials, pair.may_reorder) = (false, true);
    for _ in 0..20 {
        pair.push_striped(0, Origin::Own, 7, 100).unwrap();
    }
    push(&mut pair, Control, WINDOW);
    for key in pair.wires.keys().copied().collect::<Vec<_>>() {
        pair.ends[0].handle_lane_down(pair.now, key, "reset");
        pair.close(0, key);
    }
    let leaves = |frame: &FrameRef<'_>| {
        frame.header.class == Control || !frame.header.link_sequence.0.is_multiple_of(2)
    };
    pair.ends[0].evacuate(leaves);
    let end = &pair.ends[0];
    assert!(end.lowest_sequence <= end.find_lowest_sequence());
    pair.run(Duration::from_millis(10));
    for lane in 0..4 {
        pair.connect(LaneId(lane), class_of(lane), 0);
    }
    while push(&mut pair, Bulk, WINDOW / 2) == 0 {
        pair.step(true);
    }
    pair.settle(5);
    assert!(pair.rerouted[0].len() > 1000 && pair.arrived[1].len() > 10);
    assert_eq!(pair.violations, []);
}

/// Lanes that fall silent or are lost, each one or all, one end sooner than the other, or are closed; modes
/// that change; frames that leave, all or some, and sessions that end.
fn run(seed: u64) -> usize {
    let mut random = Random(seed);
    let mut pair = Pair::with_lanes(config(), 5);
    (pair.may_repeat, pair.may_reorder) = (true, true);
    pair.bytes_per_ms = [100, 2000, 100_000][random.below(3) as usize];
    for step in 0..6000_u64 {
        for end in 0..2 {
            for _ in 0..random.below(4) {
                let (stream, len) = (random.below(9), random.below(300) as usize);
                let class = TrafficClass::ALL[random.below(3) as usize];
                let origin = [Origin::Own, Origin::Foreign][random.below(2) as usize];
                let _refused = match random.below(4) {
                    0 => pair.push_striped(end, Origin::Own, 20 + stream % 3, len),
                    _ => pair.push(end, class, origin, stream, len),
                };
            }
            if !pair.ends[end].is_usable() && random.below(100) == 0 {
                let parts = random.below(4);
                let leaves = |frame: &FrameRef<'_>| frame.header.link_sequence.0 % 4 >= parts;
                pair.ends[end].evacuate(leaves);
            }
        }
        let keys: Vec<LaneKey> = pair.wires.keys().copied().collect();
        let some = |random: &mut Random| random.below(5) == 0;
        match random.below(400) {
            0 => {
                let all = some(&mut random);
                for &key in &keys {
                    let is_silent = all || some(&mut random);
                    pair.wires.get_mut(&key).unwrap().is_silent = is_silent;
                }
            }
            1 => {
                for &key in &keys {
                    pair.wires.get_mut(&key).unwrap().is_silent = false;
                }
            }
            2 => {
                let all = some(&mut random);
                for &key in &keys {
                    if all || some(&mut random) {
                        let told = [0, 1].map(|_| Some(random.below(2500)));
                        pair.cut(key, told);
                    }
                }
                pair.redials = random.below(3) > 0;
            }
            3 => {
                pair.redials = true;
                for lane in 0..5 {
                    let served = |end: &VirtualLink| end.lanes().any(|l| l.id.lane.0 == lane);
                    if !pair.ends.iter().any(served) {
                        pair.connect(LaneId(lane), class_of(lane), (step % 2) as usize);
                    }
                }
            }
            4 => {
                let mode = [LinkMode::Separate, LinkMode::Collapsed][random.below(2) as usize];
                pair.ends[random.below(2) as usize].propose_mode(mode);
            }
            5 => {
                let (now, end) = (pair.now, &mut pair.ends[random.below(2) as usize]);
                let bulk = end.lanes().filter(|lane| lane.class == Bulk).skip(1).last();
                if let Some(key) = bulk.map(|lane| lane.key) {
                    end.close_lane(now, key, CloseReason::NotNeeded);
                }
            }
            _ => {}
        }
        pair.step(true);
    }
    pair.redials = true;
    for wire in pair.wires.values_mut() {
        (wire.is_silent, wire.bytes_per_ms) = (false, 100_000);
    }
    for lane in 0..5 {
        pair.connect(LaneId(lane), class_of(lane), 0);
    }
    pair.settle(60);
    assert_eq!(pair.violations, [], "seed {seed}");
    // One at least, until its acknowledgement shows what the peer has had.
    for least in [1, WINDOW / 2, WINDOW / 2] {
        pair.run(Duration::from_millis(50));
        assert!(push(&mut pair, Bulk, WINDOW) >= least, "seed {seed}");
        pair.settle(5);
    }
    pair.run(Duration::from_secs(2));
    for end in &pair.ends {
        let LinkStatus { queued_bytes, unsettled_frames, striped_streams, reorder_bytes, .. } =
            end.status();
        let left = (queued_bytes, unsettled_frames, striped_streams, reorder_bytes);
        assert_eq!(left, (0, 0, 0, 0), "seed {seed}");
        assert!(end.lanes().all(|lane| lane.unacked_frames == 0), "seed {seed}");
    }
    pair.rerouted.iter().map(|ids| ids.len()).sum()
}

#[test]
#[expect(clippy::print_stdout, reason = "a failure shows its seed")]
fn no_number_is_a_jump_or_comes_twice_whatever_leaves_the_link() {
    let mut left = 0;
    for seed in 0..10 {
        println!("seed {seed}");
        left += run(seed);
    }
    assert!(left > 3000, "{left}");
}
