#![expect(clippy::indexing_slicing, reason = "a test may panic")]

use super::*;
use crate::batch::tests::frame;

const POOL_BYTES: usize = 1 << 20;

/// Queues frames of `len` bytes of a stream, each a batch, from link sequence `first` on.
fn push(striping: &mut Striping, flow: Flow, len: usize, sequences: std::ops::Range<u64>) {
    let mut pool = BufferPool::new(POOL_BYTES);
    for sequence in sequences {
        let body = vec![0; len];
        let parts = [&body[..]];
        let new = NewFrame {
            stamp: striping.stamp(flow, Origin::Foreign, true),
            ..frame(sequence, &parts)
        };
        assert!(striping.push((flow, Origin::Foreign), &new, 1, &mut pool));
    }
}

fn striping() -> Striping {
    Striping { is_supported: true, ..Striping::new(1 << 20, 1000) }
}

#[test]
fn what_is_sent_counts_until_all_before_it_is_acknowledged() {
    let mut striping = Striping { window_frames: 3, ..striping() };
    let flow = Flow { tenant: 1, stream: 1 };
    push(&mut striping, flow, 10, 5..15);
    let sent: Vec<Batch> = std::iter::from_fn(|| striping.take()).collect();
    let named: Vec<u64> = sent.iter().map(Batch::lowest).collect();
    assert_eq!(named, [5, 6, 7]);
    let epoch = sent.first().and_then(Batch::stripe).unwrap();
    for (lowest, may_send) in [(7, 0), (6, 0), (6, 0), (99, 0), (5, 3)] {
        striping.handle_acknowledged(epoch, lowest);
        striping.handle_acknowledged(epoch.wrapping_add(1), 5);
        let taken = std::iter::from_fn(|| striping.take()).count();
        assert_eq!(taken, may_send, "{lowest}");
    }
    assert_eq!(striping.channels.front().unwrap().sent_frames, 3);
}

#[test]
fn tenants_share_by_bytes_then_each_ones_streams() {
    let mut striping = striping();
    // Two tenants, one with three streams, and frames of unlike size.
    let flows = [(1, 1, 90), (1, 2, 900), (1, 3, 300), (2, 4, 90)];
    let mut sequence = 1;
    for (tenant, stream, len) in flows {
        let frames = 60_000 / u64::try_from(len).unwrap();
        push(&mut striping, Flow { tenant, stream }, len, sequence..sequence + frames);
        sequence += frames;
    }
    let mut served = [0_u64; 5];
    while served.iter().sum::<u64>() < 40_000 {
        let epoch = striping.front().and_then(Batch::stripe).unwrap();
        let at = usize::try_from(epoch).unwrap();
        served[at] += wide(striping.take().unwrap().len());
    }
    let [_, one, two, three, other] = served;
    assert!((19_000..21_000).contains(&other), "{served:?}");
    assert!([one, two, three].iter().all(|each| (5700..7700).contains(each)), "{served:?}");
}

#[test]
fn a_tenant_of_others_leaves_channels_to_the_next() {
    let mut striping = striping();
    let mut opened = Vec::new();
    for tenant in 1..=5 {
        let held = |stream: &u64| {
            let flow = Flow { tenant, stream: tenant * 10 + stream };
            let is_open = striping.stamp(flow, Origin::Foreign, true).is_some();
            if is_open {
                push(&mut striping, flow, 10, flow.stream..flow.stream + 1);
            }
            is_open
        };
        opened.push((0..8).filter(held).count());
    }
    assert_eq!(opened, [4, 2, 1, 1, 0]);
    assert_eq!(striping.channels(), STRIPE_CHANNELS);
}

/// Nothing of it is here any more, and the far end still misses what has left.
#[test]
fn a_channel_of_which_the_far_end_is_to_hear_is_not_given_to_another_stream() {
    let mut striping = striping();
    let flow = |stream| Flow { tenant: stream, stream };
    let streams = u64::try_from(STRIPE_CHANNELS).unwrap();
    for stream in 0..streams {
        push(&mut striping, flow(stream), 10, stream..stream + 1);
    }
    assert_eq!(striping.stamp(flow(streams), Origin::Own, true), None, "all are in use");
    let epoch = striping.epochs()[0];
    assert_eq!(striping.take_queued(epoch).len(), 1);
    striping.leave(epoch);
    for _ in 0..2 * IDLE_TICKS {
        striping.handle_tick();
        assert_eq!(striping.stamp(flow(streams), Origin::Own, true), None);
        assert_eq!(striping.left(), Some(epoch));
    }
    // Once it is told, and that has arrived, it is free.
    let newer = striping.renew(epoch, 99, 50).unwrap().epoch;
    assert_eq!((striping.left(), striping.stamp(flow(streams), Origin::Own, true)), (None, None));
    striping.handle_acknowledged(newer, 99);
    assert!(striping.stamp(flow(streams), Origin::Own, true).is_some());
}
