use std::collections::BTreeMap;

use hawser_wire::{FrameHeader, FrameIter};

use super::*;
use crate::batch::tests::frame;
use crate::buffer_pool::SHORT_BYTES_MAX;

const QUANTUM: usize = 1000;

/// Keeps every flow's queue as full as it may be and serves `rounds` batches; bytes served by
/// tenant and stream.
fn serve(flows: &[(u8, u8, usize)], max: usize, rounds: usize) -> BTreeMap<(u8, u8), usize> {
    let (mut queue, mut pool) = (FairQueue::default(), BufferPool::new(1 << 20));
    let mut served = BTreeMap::new();
    for _ in 0..rounds {
        for &(tenant, stream, len) in flows {
            let flow = Flow { tenant: tenant.into(), stream: stream.into() };
            let body = [&[tenant, stream][..], &vec![0; len]].concat();
            loop {
                let free = max - queue.bytes();
                match queue.push(flow, &frame(1, &[&body]), free, QUANTUM, &mut pool) {
                    Ok(taken) => assert!(taken),
                    Err(_) => break,
                }
            }
            assert!(queue.bytes() <= max);
        }
        let batch = queue.pop(QUANTUM).unwrap();
        for frame in FrameIter::new(&batch.frames()) {
            let body = frame.unwrap().body;
            *served.entry((body[0], body[1])).or_default() += body.len() + FrameHeader::LEN;
        }
        pool.give(batch.into_buffer());
    }
    served
}

fn assert_shares(served: &BTreeMap<(u8, u8), usize>, of: &[(u8, u8)]) {
    let mean = of.iter().map(|flow| served[flow]).sum::<usize>() / of.len();
    for flow in of {
        assert!((mean * 9 / 10..=mean * 11 / 10).contains(&served[flow]), "{served:?}");
    }
}

#[test]
fn streams_of_one_tenant_share_by_bytes() {
    let served = serve(&[(1, 1, 80), (1, 2, 900), (1, 3, 3000)], 100_000, 4000);
    assert_shares(&served, &[(1, 1), (1, 2), (1, 3)]);
}

#[test]
fn tenants_share_first_however_many_streams_they_have() {
    let mut flows: Vec<_> = (1..=8).map(|stream| (1, stream, 200)).collect();
    flows.push((2, 1, 200));
    let served = serve(&flows, 100_000, 8000);
    let many: usize = (1..=8).map(|stream| served[&(1, stream)]).sum();
    let one = served[&(2, 1)];
    assert!((one * 9 / 10..=one * 11 / 10).contains(&many), "{many} and {one}");
}

/// Each of them has always something waiting, and no more than there is room for.
#[test]
fn of_many_tenants_with_streams_of_unlike_frames_each_has_its_share() {
    let len = |stream: u8| [80, 300, 900, 3000][usize::from(stream / 50)];
    let flows: Vec<(u8, u8)> = (0..200).map(|stream| (stream % 50, stream)).collect();
    let (mut queue, mut pool) = (FairQueue::default(), BufferPool::new(1 << 20));
    let (mut served, mut waits) = (BTreeMap::new(), BTreeMap::<(u8, u8), usize>::new());
    for _ in 0..20_000 {
        for &(tenant, stream) in &flows {
            let waits = waits.entry((tenant, stream)).or_default();
            while *waits < 4000 {
                let flow = Flow { tenant: tenant.into(), stream: stream.into() };
                let body = [&[tenant, stream][..], &vec![0; len(stream)]].concat();
                let parts = [&body[..]];
                let frame = frame(1, &parts);
                assert_eq!(queue.push(flow, &frame, 4 << 20, QUANTUM, &mut pool), Ok(true));
                *waits += frame.len;
            }
        }
        let batch = queue.pop(QUANTUM).unwrap();
        let body = FrameIter::new(&batch.frames()).next().unwrap().unwrap().body.bytes().to_vec();
        *waits.get_mut(&(body[0], body[1])).unwrap() -= batch.len();
        *served.entry((body[0], body[1])).or_default() += batch.len();
        pool.give(batch.into_buffer());
    }
    assert_eq!((queue.tenants(), queue.streams()), (50, 200));
    assert_shares(&served, &flows);
}

/// However short frames are, queues take no more memory than is free: the link counts it.
#[test]
fn what_queues_take_is_known() {
    let (mut queue, mut pool) = (FairQueue::default(), BufferPool::new(1 << 20));
    for stream in 0..5000 {
        let flow = Flow { tenant: name(stream % 700), stream: name(stream) };
        assert_eq!(queue.push(flow, &frame(1, &[]), 1 << 30, QUANTUM, &mut pool), Ok(true));
    }
    assert_eq!((queue.tenants(), queue.streams()), (700, 5000));
    // Slots grow by half their number; each stream may be of a tenant of its own.
    let slots = size_of::<StreamQueue>() + size_of::<TenantQueue>() + 2 * 64;
    let held = 2 * slots + 4 * size_of::<usize>() + 4 * size_of::<Batch>() + SHORT_BYTES_MAX;
    assert!((STREAM_QUEUE_BYTES / 2..=STREAM_QUEUE_BYTES).contains(&held), "{held}");
    assert_eq!(queue.tenant_bytes(name(0)), 8 * (FrameHeader::LEN + STREAM_QUEUE_BYTES));
    while queue.pop(QUANTUM).is_some() {}
    assert_eq!((queue.tenants(), queue.streams(), queue.bytes()), (0, 0, 0));
    assert_eq!((queue.turns.capacity(), queue.lowest()), (0, u64::MAX));
}

/// Also where the buffers that lie about are long.
#[test]
fn short_frames_of_many_streams_take_no_long_buffers() {
    let (mut queue, mut pool) = (FairQueue::default(), BufferPool::new(1 << 20));
    for _ in 0..100 {
        pool.give(Vec::with_capacity(200_000));
    }
    for stream in 0..100 {
        let flow = Flow { tenant: 1, stream: name(stream) };
        assert_eq!(queue.push(flow, &frame(1, &[&[0; 30]]), 1 << 30, QUANTUM, &mut pool), Ok(true));
    }
    let held = std::iter::from_fn(|| queue.pop(QUANTUM)).map(|batch| batch.backing_bytes());
    assert!(held.sum::<usize>() <= 100 * STREAM_QUEUE_BYTES);
}

#[test]
fn of_a_threshold_whoever_has_more_than_the_share_is_above_it() {
    let (mut queue, mut pool) = (FairQueue::default(), BufferPool::new(1 << 20));
    let flow = |tenant, stream| Flow { tenant, stream };
    let mut push = |flow, frames| {
        for _ in 0..frames {
            queue.push(flow, &frame(1, &[&[0; 80]]), 1 << 20, QUANTUM, &mut pool).unwrap();
        }
    };
    push(flow(1, 1), 30);
    push(flow(1, 2), 10);
    push(flow(2, 1), 45);
    // Of 8000 bytes a tenant has 4000, a stream of the first 2000.
    assert!(queue.exceeds_share(flow(1, 1), 8000));
    assert!(!queue.exceeds_share(flow(1, 2), 8000));
    assert!(queue.exceeds_share(flow(2, 1), 8000));
    assert!(!queue.exceeds_share(flow(2, 1), 10_000));
    assert!(!queue.exceeds_share(flow(3, 1), 0), "who has nothing there");
}

#[test]
fn one_stream_alone_has_a_third_of_the_queue_and_leaves_room_for_others() {
    let (mut queue, mut pool) = (FairQueue::default(), BufferPool::new(1 << 20));
    let (hog, other) = (Flow { tenant: 1, stream: 1 }, Flow { tenant: 2, stream: 2 });
    let mut push = |queue: &mut FairQueue, flow| {
        let free = 100_000 - queue.bytes() - queue.overhead_bytes();
        queue.push(flow, &frame(1, &[&[0; 80]]), free, QUANTUM, &mut pool)
    };
    while push(&mut queue, hog).is_ok() {}
    assert_eq!(push(&mut queue, hog), Err(Overfull::Stream { bytes: 33_396 }));
    let sibling = Flow { tenant: 1, stream: 2 };
    while push(&mut queue, sibling).is_ok() {}
    while push(&mut queue, Flow { tenant: 1, stream: 3 }).is_ok() {}
    let held = queue.tenant_bytes(1);
    assert!((44_000..=50_000).contains(&held), "{held}");
    for _ in 0..100 {
        assert_eq!(push(&mut queue, other), Ok(true));
    }
    while queue.pop(QUANTUM).is_some() {}
    assert_eq!((queue.bytes(), queue.tenants()), (0, 0));
    assert_eq!(queue.lowest(), u64::MAX);
}

/// What everyone was served and how often refused, if one floods the queue and each other one wants no
/// more than its share.
struct Crowd {
    served: BTreeMap<Flow, usize>,
    refused: BTreeMap<Flow, usize>,
}

fn crowd(flooder: Flow, others: &[Flow]) -> Crowd {
    const SHARE: usize = 950;
    const MAX: usize = 4 << 20;
    const ROUNDS: usize = 600;
    let (mut queue, mut pool) = (FairQueue::default(), BufferPool::new(1 << 20));
    let mut crowd = Crowd { served: BTreeMap::new(), refused: BTreeMap::new() };
    let mut owed = 0_i64;
    for round in 0..ROUNDS {
        if round == ROUNDS / 3 {
            // From here on everyone has had a turn.
            crowd.served.clear();
        }
        let mut push = |flow: Flow, len: usize| {
            let body = [&flow.tenant.to_le_bytes()[..], &flow.stream.to_le_bytes(), &vec![0; len]];
            let free = MAX - queue.bytes();
            let pushed = queue.push(flow, &frame(1, &body), free, QUANTUM, &mut pool);
            if pushed.is_err() {
                *crowd.refused.entry(flow).or_default() += 1;
            }
            pushed.is_ok()
        };
        // The flooder is always there first.
        while push(flooder, 900) {}
        for &other in others {
            push(other, SHARE - 16 - FrameHeader::LEN);
        }
        owed += signed(SHARE * (others.len() + 1));
        while owed > 0 {
            let batch = queue.pop(QUANTUM).unwrap();
            owed -= signed(batch.len());
            for frame in FrameIter::new(&batch.frames()) {
                let body = frame.unwrap().body.bytes().to_vec();
                let at = |from: usize| u64::from_le_bytes(body[from..from + 8].try_into().unwrap());
                let flow = Flow { tenant: at(0), stream: at(8) };
                *crowd.served.entry(flow).or_default() += body.len() + FrameHeader::LEN;
            }
            pool.give(batch.into_buffer());
        }
    }
    crowd
}

/// Names as they come: random.
fn name(number: u64) -> u64 {
    crate::flow_table::mix(number, 5)
}

fn assert_fair(crowd: &Crowd, flooder: Flow) {
    let Crowd { served, refused } = crowd;
    let refused: Vec<_> = refused.keys().filter(|&&flow| flow != flooder).collect();
    assert!(refused.is_empty(), "{} others were refused", refused.len());
    let share = served[&flooder];
    let unfair = served.iter().filter(|&(_, bytes)| bytes.abs_diff(share) * 5 > share);
    let unfair: Vec<_> = unfair.collect();
    assert!(unfair.is_empty(), "{share} and {} others, {:?}", unfair.len(), unfair.first());
}

#[test]
fn who_floods_is_one_tenant_of_many() {
    let flow = |tenant| Flow { tenant: name(tenant), stream: name(tenant + 1000) };
    let others: Vec<Flow> = (1..40).map(flow).collect();
    let crowd = crowd(flow(0), &others);
    assert_eq!(crowd.served.len(), 40);
    assert_fair(&crowd, flow(0));
}

#[test]
fn who_floods_is_one_stream_of_many() {
    let flow = |stream| Flow { tenant: 9, stream: name(stream) };
    let others: Vec<Flow> = (1..200).map(flow).collect();
    let crowd = crowd(flow(0), &others);
    assert_eq!(crowd.served.len(), 200);
    assert_fair(&crowd, flow(0));
}

/// Batches are larger than what a turn gives: who has one at a time owes the rest when it comes back, and
/// has no more than who always waits.
#[test]
fn who_leaves_after_each_batch_has_no_more_than_its_share() {
    for flow in [
        |number| Flow { tenant: number, stream: number },
        |number| Flow { tenant: 1, stream: number },
    ] {
        let (mut queue, mut pool) = (FairQueue::default(), BufferPool::new(1 << 20));
        let (body, mut served) = ([0; 999 - FrameHeader::LEN], [0_usize; 3]);
        for _ in 0..3000 {
            for (number, batches) in [(0, 3), (1, 3), (2, 1)] {
                let of_stream = |queue: &FairQueue| {
                    let at = queue.streams.find(flow(number))?;
                    Some(queue.streams.get(at)?.fifo.bytes())
                };
                while of_stream(&queue).unwrap_or(0) < batches * 8 * QUANTUM {
                    let parts = [&number.to_le_bytes()[..1], &body];
                    let frame = frame(1, &parts);
                    queue.push(flow(number), &frame, 1 << 20, 8 * QUANTUM, &mut pool).unwrap();
                }
            }
            let batch = queue.pop(QUANTUM).unwrap();
            served[usize::from(batch.frames()[FrameHeader::LEN])] += batch.len();
            pool.give(batch.into_buffer());
        }
        let mean = served.iter().sum::<usize>() / 3;
        let near = |bytes: &usize| bytes.abs_diff(mean) * 10 <= mean;
        assert!(served.iter().all(near), "{served:?}");
    }
}
