#![expect(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing,
    reason = "a test that overflows or misses fails, as it should"
)]

use super::*;

const NOW: MonoTime = MonoTime::from_nanos(1_000_000_000);

fn limits() -> ReassemblyLimits {
    ReassemblyLimits {
        window: StripeWindow { bytes: 1000, frames: 8 },
        channels_max: 2,
        backing_bytes_max: 4000,
        gap_max: Duration::from_secs(15),
    }
}

fn stamp(channel: u32, sequence: u64, last: bool) -> StripeStamp {
    StripeStamp { channel: StripeChannel(channel), sequence, last }
}

fn put(
    reassembly: &mut Reassembly,
    stamp: StripeStamp,
    len: usize,
) -> Result<StripeOutcome, ReassemblyError> {
    reassembly.handle_frame(NOW, stamp, FrameFlags::default(), &vec![7; len], None)
}

fn drain(reassembly: &mut Reassembly, channel: u32) -> Vec<usize> {
    let mut lens = Vec::new();
    while let Some(frame) = reassembly.poll_deliver(NOW, StripeChannel(channel)) {
        lens.push(frame.body.len());
    }
    lens
}

#[test]
fn frames_leave_in_the_order_of_their_sequence() {
    let mut reassembly = Reassembly::new(limits());
    for sequence in [3, 1, 4] {
        let held = put(&mut reassembly, stamp(0, sequence, false), 10 + sequence as usize);
        assert_eq!(held, Ok(StripeOutcome::Held));
        assert_eq!(drain(&mut reassembly, 0), []);
    }
    assert_eq!(put(&mut reassembly, stamp(0, 0, false), 10), Ok(StripeOutcome::Deliver));
    assert_eq!(drain(&mut reassembly, 0), [11]);
    assert_eq!(put(&mut reassembly, stamp(0, 2, false), 10), Ok(StripeOutcome::Deliver));
    assert_eq!(drain(&mut reassembly, 0), [13, 14]);
    assert_eq!(put(&mut reassembly, stamp(0, 5, true), 0), Ok(StripeOutcome::Deliver));
    assert_eq!((reassembly.open_channels(), reassembly.memory_bytes()), (0, 0));
}

#[test]
fn channels_do_not_wait_for_each_other() {
    let mut reassembly = Reassembly::new(limits());
    assert_eq!(put(&mut reassembly, stamp(0, 1, false), 10), Ok(StripeOutcome::Held));
    assert_eq!(put(&mut reassembly, stamp(1, 0, false), 10), Ok(StripeOutcome::Deliver));
    assert_eq!(drain(&mut reassembly, 1), []);
}

#[test]
fn flags_come_out_with_their_frame() {
    let mut reassembly = Reassembly::new(limits());
    let marked = FrameFlags::CONGESTION_EXPERIENCED;
    reassembly.handle_frame(NOW, stamp(0, 1, false), marked, b"late", None).unwrap();
    put(&mut reassembly, stamp(0, 0, false), 1).unwrap();
    let frame = reassembly.poll_deliver(NOW, StripeChannel(0)).unwrap();
    assert_eq!((frame.flags, &frame.body[..]), (marked, &b"late"[..]));
}

/// Prepares with frames of ten bytes, then puts one more; it is refused and changes nothing.
fn check_refused(prepare: &[StripeStamp], stamp: StripeStamp, len: usize, error: ReassemblyError) {
    let mut reassembly = Reassembly::new(limits());
    for &before in prepare {
        put(&mut reassembly, before, 10).unwrap();
    }
    let before = (reassembly.open_channels(), reassembly.memory_bytes());
    assert_eq!(put(&mut reassembly, stamp, len), Err(error));
    assert_eq!((reassembly.open_channels(), reassembly.memory_bytes()), before);
}

#[test]
fn what_a_sender_may_not_do_is_named() {
    let early = [stamp(0, 2, false)];
    let jump = |sequence| ReassemblyError::SequenceJump { sequence, next: 0, max: 8 };
    check_refused(&early, stamp(0, 8, false), 1, jump(8));
    check_refused(&[], stamp(0, u64::MAX, true), 1, jump(u64::MAX));
    let overrun = ReassemblyError::WindowOverrun { held_bytes: 1001, max_bytes: 1000 };
    check_refused(&early, stamp(0, 3, false), 991, overrun);
    check_refused(&[], stamp(0, 3, false), 1001, overrun);
    let twice = |sequence| ReassemblyError::DuplicateSequence { sequence };
    check_refused(&early, stamp(0, 2, false), 1, twice(2));
    check_refused(&[stamp(0, 0, false)], stamp(0, 0, false), 1, twice(0));
    let beyond = |sequence| ReassemblyError::BeyondLast { sequence };
    check_refused(&[stamp(0, 3, true)], stamp(0, 4, false), 1, beyond(4));
    check_refused(&[stamp(0, 3, true)], stamp(0, 2, true), 1, beyond(2));
    check_refused(&[stamp(0, 3, false)], stamp(0, 0, true), 1, beyond(0));
    let channels = [stamp(0, 1, false), stamp(9, 0, false)];
    check_refused(&channels, stamp(5, 0, false), 1, ReassemblyError::TooManyChannels { max: 2 });
}

#[test]
fn a_frame_in_order_may_be_larger_than_the_window() {
    let mut reassembly = Reassembly::new(limits());
    assert_eq!(put(&mut reassembly, stamp(0, 0, false), 5000), Ok(StripeOutcome::Deliver));
    assert_eq!(reassembly.memory_bytes(), 0);
}

#[test]
fn a_small_frame_does_not_keep_a_large_buffer() {
    let mut reassembly = Reassembly::new(limits());
    let backing = Bytes::from(vec![1; 800]);
    let mut hold = |sequence, len| {
        let before = reassembly.memory_bytes();
        let body = &backing[..len];
        reassembly
            .handle_frame(NOW, stamp(0, sequence, false), FrameFlags(0), body, Some(&backing))
            .unwrap();
        reassembly.memory_bytes() - before
    };
    assert_eq!(hold(1, 99), 99);
    assert_eq!(hold(2, 100), 800);
    // Four more buffers fit; then frames are copied out though they are large enough.
    assert_eq!([hold(3, 100), hold(4, 100), hold(5, 100), hold(6, 100)], [800; 4]);
    assert_eq!(hold(7, 100), 100);
    put(&mut reassembly, stamp(0, 0, false), 1).unwrap();
    assert_eq!(drain(&mut reassembly, 0).len(), 7);
    assert_eq!(reassembly.memory_bytes(), 0);
}

#[test]
fn a_frame_that_never_comes_is_noticed() {
    let mut reassembly = Reassembly::new(limits());
    let at = |seconds: u64| MonoTime::from_nanos(seconds * 1_000_000_000);
    put(&mut reassembly, stamp(0, 0, false), 1).unwrap();
    assert_eq!(reassembly.poll_timeout(), None);
    put(&mut reassembly, stamp(0, 2, false), 1).unwrap();
    assert_eq!(reassembly.poll_timeout(), Some(at(16)));
    assert_eq!(reassembly.handle_timeout(at(15)), Ok(()));
    let waited = Duration::from_secs(15);
    let gap = Err(ReassemblyError::GapTimeout { sequence: 1, waited });
    assert_eq!(reassembly.handle_timeout(at(16)), gap);
    put(&mut reassembly, stamp(0, 1, false), 1).unwrap();
    drain(&mut reassembly, 0);
    assert_eq!((reassembly.poll_timeout(), reassembly.handle_timeout(at(99))), (None, Ok(())));
}

#[test]
fn what_is_held_at_the_end_of_a_session_is_given_out_in_order() {
    let mut reassembly = Reassembly::new(limits());
    for (channel, sequence, len) in [(1, 3, 13), (0, 4, 4), (1, 1, 11), (0, 2, 2)] {
        put(&mut reassembly, stamp(channel, sequence, false), len).unwrap();
    }
    let lens: Vec<usize> = std::iter::from_fn(|| reassembly.poll_session_end())
        .map(|frame| frame.body.len())
        .collect();
    assert_eq!(lens, [2, 4, 11, 13]);
    assert_eq!((reassembly.open_channels(), reassembly.memory_bytes()), (0, 0));
    assert_eq!(put(&mut reassembly, stamp(0, 0, false), 1), Ok(StripeOutcome::Deliver));
}

/// A small generator of its own, so that a seed means the same for ever (Vigna, splitmix64).
struct Seeded(u64);

impl Seeded {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

/// Whatever stamps a peer makes up, what is held stays within its bounds and comes out in order.
#[test]
fn any_stamps_are_taken_or_refused_within_the_bounds() {
    let backing = Bytes::from(vec![3; 1500]);
    let mut outcomes = [0_u32; 3];
    for seed in 0..200 {
        let mut random = Seeded(seed);
        let mut reassembly = Reassembly::new(limits());
        for _ in 0..500 {
            let stamp = stamp(random.below(4) as u32, random.below(12), random.below(20) == 0);
            let len = random.below(400) as usize;
            let shared = Some(&backing).filter(|_| random.below(2) == 0);
            let taken = reassembly.handle_frame(NOW, stamp, FrameFlags(0), &backing[..len], shared);
            match taken {
                Ok(StripeOutcome::Deliver) => {
                    outcomes[0] += 1;
                    drain(&mut reassembly, stamp.channel.0);
                }
                Ok(StripeOutcome::Held) => outcomes[1] += 1,
                Err(_) => outcomes[2] += 1,
            }
            assert!(reassembly.open_channels() <= 2, "seed {seed}");
            // Backing buffers, and two windows of copies.
            assert!(reassembly.memory_bytes() <= 4000 + 2 * 1000, "seed {seed}");
        }
        while reassembly.poll_session_end().is_some() {}
        assert_eq!((reassembly.open_channels(), reassembly.memory_bytes()), (0, 0), "seed {seed}");
    }
    assert!(outcomes.iter().all(|&count| count > 1000), "{outcomes:?}");
}
