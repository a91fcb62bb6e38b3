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
        assert!(striping.push(flow, &new, 1, &mut pool));
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
