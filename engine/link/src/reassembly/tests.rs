#![expect(clippy::as_conversions, reason = "a test that cuts a number off fails, as it should")]

use hawser_wire::{FrameFlags, FrameKind, LinkSequence, TrafficClass};

use super::*;

const NOW: MonoTime = MonoTime::from_nanos(1_000_000_000);
const GAP_MAX: Duration = Duration::from_secs(15);

fn reassembly() -> Reassembly {
    Reassembly::new(ReorderLimits { bytes: 1000, frames: 8, gap_max: GAP_MAX })
}

const fn stamp(channel: u8, epoch: u32, sequence: u64) -> StripeStamp {
    StripeStamp { channel, epoch, sequence }
}

fn put_with(
    reassembly: &mut Reassembly,
    stamp: StripeStamp,
    len: usize,
    (is_outdated, is_forgiving): (bool, bool),
) -> Result<StripeOutcome, ReassemblyError> {
    let header = FrameHeader {
        kind: FrameKind::Record,
        flags: FrameFlags::CONGESTION_EXPERIENCED,
        class: TrafficClass::Bulk,
        body_len: len as u32,
        link_sequence: LinkSequence(stamp.sequence.wrapping_add(1)),
    };
    let body = vec![7; len];
    let frame = FrameRef { header, body: body.as_slice().into() };
    reassembly.handle_frame(NOW, stamp, frame, is_outdated, is_forgiving)
}

fn put(
    reassembly: &mut Reassembly,
    stamp: StripeStamp,
    len: usize,
) -> Result<StripeOutcome, ReassemblyError> {
    put_with(reassembly, stamp, len, (false, false))
}

fn drain(reassembly: &mut Reassembly) -> Vec<usize> {
    std::iter::from_fn(|| reassembly.poll_deliver()).map(|frame| frame.body.len()).collect()
}

const HELD: Result<StripeOutcome, ReassemblyError> = Ok(StripeOutcome::Held);
const DELIVER: Result<StripeOutcome, ReassemblyError> = Ok(StripeOutcome::Deliver);

#[test]
fn frames_leave_in_the_order_of_their_sequence() {
    let mut reassembly = reassembly();
    for sequence in [3, 1, 4] {
        assert_eq!(put(&mut reassembly, stamp(0, 1, sequence), 10 + sequence as usize), HELD);
        assert_eq!(drain(&mut reassembly), []);
    }
    assert_eq!(reassembly.held_bytes(), 38);
    assert_eq!(put(&mut reassembly, stamp(0, 1, 0), 10), DELIVER);
    assert_eq!(drain(&mut reassembly), [11]);
    assert_eq!(put(&mut reassembly, stamp(0, 1, 2), 10), DELIVER);
    assert_eq!(drain(&mut reassembly), [13, 14]);
    assert_eq!((reassembly.held_bytes(), reassembly.channels[0].slots.len()), (0, 0));
}

#[test]
fn channels_do_not_wait_for_each_other_and_flags_come_out() {
    let mut reassembly = reassembly();
    assert_eq!(put(&mut reassembly, stamp(0, 1, 1), 10), HELD);
    assert_eq!(put(&mut reassembly, stamp(7, 2, 0), 10), DELIVER);
    assert_eq!(drain(&mut reassembly), []);
    assert_eq!(put(&mut reassembly, stamp(0, 1, 0), 10), DELIVER);
    let frame = reassembly.poll_deliver().unwrap();
    assert_eq!(frame.header.flags, FrameFlags::CONGESTION_EXPERIENCED);
    assert_eq!(frame.header.link_sequence, LinkSequence(2));
}

/// Prepares with frames of 100 bytes, then puts one more; it is refused and changes nothing.
fn check_refused(prepare: &[StripeStamp], last: StripeStamp, len: usize, error: ReassemblyError) {
    let mut reassembly = reassembly();
    for &before in prepare {
        put(&mut reassembly, before, 100).unwrap();
    }
    while reassembly.poll_deliver().is_some() {}
    let before = format!("{reassembly:?}");
    assert_eq!(put(&mut reassembly, last, len), Err(error));
    assert_eq!(format!("{reassembly:?}"), before);
    // One that may not have known better is delivered as it comes.
    assert_eq!(put_with(&mut reassembly, last, len, (false, true)), DELIVER);
    assert_eq!(format!("{reassembly:?}"), before);
}

#[test]
fn what_is_out_of_place_is_refused() {
    use ReassemblyError::{DuplicateSequence, SequenceJump, StaleEpoch, WindowOverrun};
    let jump = |sequence, next| SequenceJump { sequence, next, max: 8 };
    check_refused(&[], stamp(0, 1, 8), 10, jump(8, 0));
    check_refused(&[stamp(0, 1, 0)], stamp(0, 1, 9), 10, jump(9, 1));
    check_refused(&[stamp(0, 1, 0)], stamp(0, 1, u64::MAX), 10, jump(u64::MAX, 1));
    check_refused(&[stamp(0, 1, 0)], stamp(0, 2, 8), 10, jump(8, 0));
    let twice = DuplicateSequence { sequence: 0 };
    check_refused(&[stamp(0, 1, 0)], stamp(0, 1, 0), 10, twice);
    check_refused(&[stamp(0, 1, 2)], stamp(0, 1, 2), 10, DuplicateSequence { sequence: 2 });
    let over = WindowOverrun { held_bytes: 1001, max_bytes: 1000 };
    check_refused(&[stamp(0, 1, 2)], stamp(0, 1, 3), 901, over);
    let none = put(&mut reassembly(), stamp(0, 0, 0), 10);
    assert_eq!(none, Err(StaleEpoch { channel: 0, epoch: 0 }));
}

#[test]
fn a_window_that_is_full_takes_what_has_its_turn() {
    let mut reassembly = reassembly();
    assert_eq!(put(&mut reassembly, stamp(0, 1, 1), 1000), HELD);
    assert_eq!(put(&mut reassembly, stamp(0, 1, 0), 5000), DELIVER);
    assert_eq!(drain(&mut reassembly), [1000]);
}

#[test]
fn a_higher_epoch_ends_the_one_before() {
    let mut reassembly = reassembly();
    put(&mut reassembly, stamp(0, 4, 2), 20).unwrap();
    put(&mut reassembly, stamp(0, 4, 5), 50).unwrap();
    assert_eq!(put(&mut reassembly, stamp(0, 9, 1), 11), HELD);
    assert_eq!(drain(&mut reassembly), [20, 50]);
    // Over another lane it was under way, over the same one it cannot be.
    assert_eq!(put(&mut reassembly, stamp(0, 4, 0), 10), DELIVER);
    let stale = put_with(&mut reassembly, stamp(0, 4, 1), 10, (true, false));
    assert_eq!(stale, Err(ReassemblyError::StaleEpoch { channel: 0, epoch: 4 }));
    assert_eq!(put_with(&mut reassembly, stamp(0, 4, 1), 10, (true, true)), DELIVER);
    assert_eq!(put(&mut reassembly, stamp(0, 9, 0), 10), DELIVER);
    assert_eq!(drain(&mut reassembly), [11]);
}

#[test]
fn what_is_missing_for_too_long_is_given_up_and_may_come_late() {
    let mut reassembly = reassembly();
    put(&mut reassembly, stamp(3, 1, 0), 1).unwrap();
    put(&mut reassembly, stamp(3, 1, 2), 2).unwrap();
    put(&mut reassembly, stamp(3, 1, 4), 4).unwrap();
    let before = NOW.saturating_add(GAP_MAX - Duration::from_nanos(1));
    assert_eq!(reassembly.handle_timeout(before), None);
    let due = NOW.saturating_add(GAP_MAX);
    let given_up = GivenUp { channel: 3, sequence: 1, waited: GAP_MAX };
    assert_eq!(reassembly.handle_timeout(due), Some(given_up));
    assert_eq!(drain(&mut reassembly), [2, 4]);
    assert_eq!(reassembly.handle_timeout(due), None);
    assert_eq!(put(&mut reassembly, stamp(3, 1, 1), 1), DELIVER);
    assert_eq!(put(&mut reassembly, stamp(3, 1, 5), 5), DELIVER);
}

#[test]
fn the_end_of_a_session_delivers_what_is_held() {
    let mut reassembly = reassembly();
    put(&mut reassembly, stamp(1, 7, 3), 3).unwrap();
    put(&mut reassembly, stamp(2, 8, 1), 1).unwrap();
    reassembly.handle_session_end();
    assert_eq!((drain(&mut reassembly), reassembly.held_bytes()), (vec![3, 1], 0));
    assert_eq!(put(&mut reassembly, stamp(1, 1, 0), 3), DELIVER);
}

#[test]
fn any_order_within_the_window_comes_out_in_order() {
    let mut state = 5_u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as usize % below
    };
    let mut reassembly = reassembly();
    let (mut waiting, mut sent, mut out) = (Vec::new(), 0, Vec::new());
    while out.len() < 5000 {
        while sent < out.len() as u64 + 8 {
            waiting.push(sent);
            sent += 1;
        }
        let sequence = waiting.swap_remove(random(waiting.len()));
        let len = (sequence % 100) as usize;
        if put(&mut reassembly, stamp(0, 1, sequence), len) == DELIVER {
            out.push(len);
        }
        out.extend(drain(&mut reassembly));
    }
    assert!(out.iter().enumerate().all(|(at, &len)| len == at % 100), "{out:?}");
}

#[test]
fn what_is_held_needs_no_new_memory_and_no_more_than_twice_its_own() {
    let mut reassembly = reassembly();
    let mut places = Vec::new();
    for sequence in 0..6 {
        for len in [700, 70] {
            // Each in a channel of its own, so that both are held at once.
            let channel = u8::from(len == 70);
            assert_eq!(put(&mut reassembly, stamp(channel, 1, 2 * sequence + 1), len), HELD);
        }
        for channel in 0..2 {
            assert_eq!(put(&mut reassembly, stamp(channel, 1, 2 * sequence), 10), DELIVER);
            let frame = reassembly.poll_deliver().unwrap();
            places.push(frame.body.as_ptr());
            reassembly.give(frame);
        }
    }
    places.sort();
    places.dedup();
    assert_eq!(places.len(), 2);
    for len in [0, 1, 1024, 1025, 100_000, 262_144, 262_145, 1 << 20] {
        let mut buffers = HeldBuffers::new();
        buffers.give(Vec::with_capacity(1 << 18));
        let buffer = buffers.copy(&vec![1; len]);
        assert!(
            buffer.capacity() <= (2 * len).max(BUFFER_BYTES_MIN),
            "{len}: {}",
            buffer.capacity()
        );
        assert_eq!(buffer, vec![1; len]);
    }
}
