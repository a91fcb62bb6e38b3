use std::collections::VecDeque;

use hawser_wire::FrameRef;

use crate::batch::{Batch, BatchFifo, NewFrame};
use crate::buffer_pool::BufferPool;

/// Whose a frame is: hashes of tenant and stream, for fair shares, quotas and pinning to a lane.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Flow {
    /// Of the tenant.
    pub tenant: u64,
    /// Of the stream.
    pub stream: u64,
}

/// Who has too much in a queue; nothing was taken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Overfull {
    Queue,
    Tenant { bytes: usize },
    Stream { bytes: usize },
}

/// Tenants told apart at once, and streams of each; further ones share a queue with another.
const TENANTS_MAX: usize = 32;
const STREAMS_MAX: usize = 32;

#[derive(Debug, Default)]
struct StreamQueue {
    stream: u64,
    deficit: i64,
    fifo: BatchFifo,
    /// It may hold frames of other streams, too.
    is_shared: bool,
}

#[derive(Debug, Default)]
struct TenantQueue {
    tenant: u64,
    deficit: i64,
    bytes: usize,
    streams: VecDeque<StreamQueue>,
}

impl TenantQueue {
    /// As [`FairQueue::known_tenant`], for a stream.
    fn known(&self, stream: u64) -> Option<usize> {
        let known = self.streams.iter().position(|queue| queue.stream == stream);
        let is_full = self.streams.len() >= STREAMS_MAX;
        let shared = || shared(stream, self.streams.iter().map(|queue| queue.stream));
        known.or_else(|| is_full.then(shared))
    }

    /// The queue of a stream, or the one that it shares; a new one from `spare`.
    fn stream(&mut self, stream: u64, spare: &mut Vec<StreamQueue>) -> usize {
        self.known(stream).unwrap_or_else(|| {
            let spare = spare.pop().unwrap_or_default();
            let (deficit, is_shared) = (0, false);
            self.streams.push_back(StreamQueue { stream, deficit, is_shared, ..spare });
            self.streams.len().saturating_sub(1)
        })
    }
}

/// Foreign bulk of one lane: deficit round robin (Shreedhar and Varghese, 1995) between tenants,
/// then between each one's streams, with a deficit that may go below zero as batches are not cut.
///
/// Who may wait is bounded by dynamic thresholds (Choudhury and Hahne, 1998): a tenant may hold as much as is still free; a stream as much as its tenant may still add. So there is always
/// room for one more: a tenant alone has half of the queue at most, a stream alone a third.
#[derive(Debug, Default)]
pub(crate) struct FairQueue {
    tenants: VecDeque<TenantQueue>,
    bytes: usize,
    /// Queues that were emptied, for the next who comes.
    spare_tenants: Vec<TenantQueue>,
    spare_streams: Vec<StreamQueue>,
}

impl FairQueue {
    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Appends a frame; `free_bytes` is what the link's bound leaves to all, without what the tenant has
    /// in other such queues of the link: so the thresholds are those of the link. `Ok(false)` if its body is
    /// above the protocol's bound.
    pub(crate) fn push(
        &mut self,
        flow: Flow,
        frame: &NewFrame<'_>,
        free_bytes: usize,
        batch_bytes: usize,
        pool: &mut BufferPool,
    ) -> Result<bool, Overfull> {
        if self.bytes > 0 && frame.len > free_bytes {
            return Err(Overfull::Queue);
        }
        let tenant = self.tenant(flow.tenant);
        let Some(tenant) = self.tenants.get_mut(tenant) else { return Ok(false) };
        let over = |bytes: usize, max: usize| bytes > 0 && bytes.saturating_add(frame.len) > max;
        if over(tenant.bytes, free_bytes) {
            return Err(Overfull::Tenant { bytes: tenant.bytes });
        }
        let at = tenant.stream(flow.stream, &mut self.spare_streams);
        let Some(stream) = tenant.streams.get_mut(at) else { return Ok(false) };
        if over(stream.fifo.bytes(), free_bytes.saturating_sub(tenant.bytes)) {
            return Err(Overfull::Stream { bytes: stream.fifo.bytes() });
        }
        let taken = stream.fifo.push(frame, batch_bytes, pool);
        if taken {
            stream.is_shared |= stream.stream != flow.stream;
            tenant.bytes = tenant.bytes.saturating_add(frame.len);
            self.bytes = self.bytes.saturating_add(frame.len);
        }
        Ok(taken)
    }

    /// Has the stream more than its share of `bytes`, of which each tenant has as much as another and
    /// each of a tenant's streams, too? If all of that waits, one has.
    pub(crate) fn exceeds_share(&self, flow: Flow, bytes: usize) -> bool {
        let tenant = self.known_tenant(flow.tenant).and_then(|at| self.tenants.get(at));
        let Some(tenant) = tenant else { return false };
        let Some(stream) = tenant.known(flow.stream).and_then(|at| tenant.streams.get(at)) else {
            return false;
        };
        let sharers = self.tenants.len().saturating_mul(tenant.streams.len());
        stream.fifo.bytes() > bytes.checked_div(sharers).unwrap_or(bytes)
    }

    /// The queue that a tenant has or, as there can be no more of them, shares.
    fn known_tenant(&self, tenant: u64) -> Option<usize> {
        let known = self.tenants.iter().position(|queue| queue.tenant == tenant);
        let is_full = self.tenants.len() >= TENANTS_MAX;
        let shared = || shared(tenant, self.tenants.iter().map(|queue| queue.tenant));
        known.or_else(|| is_full.then(shared))
    }

    /// Takes what is in `other`, behind what is here. What a tenant has on the link stays the same, and so
    /// do the bounds.
    pub(crate) fn append(&mut self, other: Self) {
        self.bytes = self.bytes.saturating_add(other.bytes);
        for theirs in other.tenants {
            let at = self.tenant(theirs.tenant);
            let Some(tenant) = self.tenants.get_mut(at) else { continue };
            tenant.bytes = tenant.bytes.saturating_add(theirs.bytes);
            for queue in theirs.streams {
                let at = tenant.stream(queue.stream, &mut self.spare_streams);
                let Some(stream) = tenant.streams.get_mut(at) else { continue };
                stream.is_shared |= queue.is_shared || stream.stream != queue.stream;
                stream.fifo.append(queue.fifo);
            }
        }
    }

    /// Who has frames here, and a link sequence that none of those is below; of a queue that streams
    /// share no stream is named.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = (Option<u64>, u64)> {
        let streams = self.tenants.iter().flat_map(|tenant| &tenant.streams);
        streams.map(|queue| ((!queue.is_shared).then_some(queue.stream), queue.fifo.lowest()))
    }

    /// Takes out the counted frames that `takes` wants, whoever's they are.
    pub(crate) fn extract(
        &mut self,
        takes: &mut impl FnMut(&FrameRef<'_>) -> bool,
        pool: &mut BufferPool,
        out: &mut Vec<Batch>,
    ) {
        for tenant in &mut self.tenants {
            let before = tenant.bytes;
            for stream in &mut tenant.streams {
                let held = stream.fifo.bytes();
                stream.fifo.extract(takes, pool, out);
                let left = held.saturating_sub(stream.fifo.bytes());
                tenant.bytes = tenant.bytes.saturating_sub(left);
            }
            tenant.streams.retain(|stream| !stream.fifo.is_empty());
            self.bytes = self.bytes.saturating_sub(before.saturating_sub(tenant.bytes));
        }
        // Who has nothing more has no share.
        self.tenants.retain(|tenant| !tenant.streams.is_empty());
    }

    fn tenant(&mut self, tenant: u64) -> usize {
        if let Some(known) = self.known_tenant(tenant) {
            return known;
        }
        let spare = self.spare_tenants.pop().unwrap_or_default();
        self.tenants.push_back(TenantQueue { tenant, deficit: 0, bytes: 0, ..spare });
        self.tenants.len().saturating_sub(1)
    }

    /// The batch whose turn it is, with `quantum_bytes` for each turn.
    pub(crate) fn pop(&mut self, quantum_bytes: usize) -> Option<Batch> {
        let quantum = signed(quantum_bytes).max(1);
        // Each turn without a batch raises a deficit, and a batch is at most some quanta.
        loop {
            let tenant = self.tenants.front_mut()?;
            if tenant.streams.is_empty() {
                // A frame that was refused had made it.
                self.spare_tenants.extend(self.tenants.pop_front());
                continue;
            }
            if tenant.deficit <= 0 {
                tenant.deficit = tenant.deficit.saturating_add(quantum);
                self.tenants.rotate_left(1);
                continue;
            }
            let Some(stream) = tenant.streams.front_mut() else { continue };
            if stream.fifo.is_empty() {
                self.spare_streams.extend(tenant.streams.pop_front());
                continue;
            }
            if stream.deficit <= 0 {
                stream.deficit = stream.deficit.saturating_add(quantum);
                tenant.streams.rotate_left(1);
                continue;
            }
            let batch = stream.fifo.pop()?;
            let len = batch.len();
            stream.deficit = stream.deficit.saturating_sub(signed(len));
            tenant.deficit = tenant.deficit.saturating_sub(signed(len));
            tenant.bytes = tenant.bytes.saturating_sub(len);
            self.bytes = self.bytes.saturating_sub(len);
            // Who has nothing more owes nothing.
            if stream.fifo.is_empty() {
                self.spare_streams.extend(tenant.streams.pop_front());
            }
            if tenant.streams.is_empty() {
                self.spare_tenants.extend(self.tenants.pop_front());
            }
            return Some(batch);
        }
    }

    /// What waits in a tenant's own queue.
    pub(crate) fn tenant_bytes(&self, tenant: u64) -> usize {
        let known = self.tenants.iter().find(|queue| queue.tenant == tenant);
        known.map_or(0, |queue| queue.bytes)
    }

    /// Tenants that have something here.
    pub(crate) fn tenants(&self) -> usize {
        self.tenants.len()
    }

    /// Streams that have something here.
    pub(crate) fn streams(&self) -> usize {
        self.tenants.iter().fold(0, |sum, tenant| sum.saturating_add(tenant.streams.len()))
    }

    /// No counted frame that waits has a lower link sequence.
    pub(crate) fn lowest(&self) -> u64 {
        let streams = self.tenants.iter().flat_map(|tenant| &tenant.streams);
        streams.map(|stream| stream.fifo.lowest()).min().unwrap_or(u64::MAX)
    }
}

/// Which of the queues with these hashes is for one that has none of its own: the same one while
/// that is there.
fn shared(hash: u64, queues: impl Iterator<Item = u64>) -> usize {
    let nearest = queues.enumerate().min_by_key(|&(_, queue)| queue ^ hash);
    nearest.map_or(0, |(at, _)| at)
}

fn signed(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, clippy::indexing_slicing, reason = "a test may panic")]
mod tests {
    use std::collections::BTreeMap;

    use hawser_wire::{FrameHeader, FrameIter};

    use super::*;
    use crate::batch::tests::frame;

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

    #[test]
    fn more_flows_than_queues_are_served_all() {
        let flows: Vec<_> = (0..200).map(|stream| (stream % 50, stream, 100)).collect();
        let served = serve(&flows, 1 << 20, 20_000);
        assert_eq!(served.len(), 200);
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
            let free = 10_000 - queue.bytes();
            queue.push(flow, &frame(1, &[&[0; 80]]), free, QUANTUM, &mut pool)
        };
        while push(&mut queue, hog).is_ok() {}
        assert_eq!(push(&mut queue, hog), Err(Overfull::Stream { bytes: 3400 }));
        let sibling = Flow { tenant: 1, stream: 2 };
        while push(&mut queue, sibling).is_ok() {}
        while push(&mut queue, Flow { tenant: 1, stream: 3 }).is_ok() {}
        assert!(queue.bytes() >= 4500, "{}", queue.bytes());
        for _ in 0..15 {
            assert_eq!(push(&mut queue, other), Ok(true));
        }
        while queue.pop(QUANTUM).is_some() {}
        assert_eq!((queue.bytes(), queue.tenants.len()), (0, 0));
        assert_eq!(queue.lowest(), u64::MAX);
    }
}
