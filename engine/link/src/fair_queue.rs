use std::collections::VecDeque;

use hawser_wire::FrameRef;

use crate::batch::{Batch, BatchFifo, NewFrame};
use crate::buffer_pool::BufferPool;
use crate::queue_slots::QueueSlots;

/// Whose a frame is: hashes of tenant and stream, for fair shares, quotas and pinning to a lane. Of control
/// the tenant is the neighbour that has brought it.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
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

/// What the queue of a stream takes of memory beside its frames: slots and names of stream and tenant, room
/// for some batches and a short buffer are above 2 KiB. It counts against the bound of what may wait and
/// against its tenant's quota, so that however short frames are the memory of their queues is bounded, too,
/// and so is how many there are.
pub(crate) const STREAM_QUEUE_BYTES: usize = 4 << 10;

/// Turns that an idle queue keeps memory for.
const TURNS_KEPT: usize = 64;

#[derive(Debug, Default)]
struct StreamQueue {
    flow: Flow,
    /// The slot of its tenant, while it holds something.
    tenant: usize,
    /// Below zero if it has had more than its turns gave: it owes that also while it holds nothing.
    deficit: i64,
    /// The busy time of its tenant in which that is so.
    busy_time: u64,
    fifo: BatchFifo,
}

#[derive(Debug, Default)]
struct TenantQueue {
    /// As of a stream.
    deficit: i64,
    /// The busy time of the whole in which that is so.
    whole_busy_time: u64,
    /// For as long as something of it waits without a break.
    busy_time: u64,
    bytes: usize,
    /// The slots of its streams, in the order of their turns.
    turns: VecDeque<usize>,
}

/// Foreign frames that wait for one lane, or control or priority of them for the link: deficit round robin
/// (Shreedhar and Varghese, 1995) between tenants, then between each one's streams, with a deficit that may
/// go below zero as batches are not cut.
/// Each tenant and each stream has a queue and an account of its own, however many they are. Who leaves
/// owes what it has had too much of until nobody waited: with a batch at a time it has no more than others.
///
/// Who may wait is bounded by dynamic thresholds (Choudhury and Hahne, 1998): a tenant may hold as much as
/// is still free; a stream as much as its tenant may still add. So there is always room for one more: a
/// tenant alone has half of the queue at most, a stream alone a third.
///
/// **Invariant:** a tenant or stream has a turn if and only if something of it waits here.
#[derive(Debug, Default)]
pub(crate) struct FairQueue {
    tenants: QueueSlots<u64, TenantQueue>,
    streams: QueueSlots<Flow, StreamQueue>,
    /// The slots of tenants, in the order of their turns.
    turns: VecDeque<usize>,
    bytes: usize,
    /// Number of the present busy time, of a tenant or the whole; each has another one.
    busy_time: u64,
    last_busy_time: u64,
}

impl FairQueue {
    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Appends a frame; `free_bytes` is what the link's bound leaves to all, queues included, without what
    /// the tenant has in other such queues of the link: so the thresholds are those of the link. `Ok(false)`
    /// if its body is above the protocol's bound.
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
        let found = self.streams.seek(flow);
        let (of_stream, of_tenant, more) = match found.and_then(|at| self.streams.get(at)) {
            Some(stream) => {
                let tenant = self.tenants.get(stream.tenant);
                let of_stream = stream.fifo.bytes().saturating_add(STREAM_QUEUE_BYTES);
                (of_stream, tenant.map_or(0, TenantQueue::held_bytes), frame.len)
            }
            None => {
                let more = frame.len.saturating_add(STREAM_QUEUE_BYTES);
                (0, self.tenant_bytes(flow.tenant), more)
            }
        };
        let over = |bytes: usize, max: usize| bytes > 0 && bytes.saturating_add(more) > max;
        if over(of_tenant, free_bytes) {
            return Err(Overfull::Tenant { bytes: of_tenant });
        }
        if over(of_stream, free_bytes.saturating_sub(of_tenant)) {
            return Err(Overfull::Stream { bytes: of_stream });
        }
        let at = found.unwrap_or_else(|| self.streams.take(flow));
        let Some(stream) = self.streams.get_mut(at) else { return Ok(false) };
        if found.is_none() {
            stream.fifo.open(frame, batch_bytes, pool);
        }
        let taken = stream.fifo.push(frame, batch_bytes, pool);
        match (found, taken) {
            (Some(_), _) => {}
            (None, true) => self.begin_turns(at, flow),
            (None, false) => self.streams.release(at),
        }
        if taken {
            self.count(at, frame.len);
        }
        Ok(taken)
    }

    /// A stream that had nothing here has: it is behind all others of its tenant, which is behind all
    /// others if it had nothing either.
    fn begin_turns(&mut self, at: usize, flow: Flow) {
        let known = self.tenants.find(flow.tenant);
        let tenant_at = known.unwrap_or_else(|| self.tenants.take(flow.tenant));
        if self.turns.is_empty() {
            self.busy_time = self.next_busy_time();
        }
        let busy_time = if known.is_none() { self.next_busy_time() } else { 0 };
        let Some(tenant) = self.tenants.get_mut(tenant_at) else { return };
        if known.is_none() {
            self.turns.push_back(tenant_at);
            tenant.busy_time = busy_time;
            forget_old(&mut tenant.deficit, &mut tenant.whole_busy_time, self.busy_time);
        }
        tenant.turns.push_back(at);
        let Some(stream) = self.streams.get_mut(at) else { return };
        (stream.flow, stream.tenant) = (flow, tenant_at);
        forget_old(&mut stream.deficit, &mut stream.busy_time, tenant.busy_time);
    }

    const fn next_busy_time(&mut self) -> u64 {
        self.last_busy_time = self.last_busy_time.saturating_add(1);
        self.last_busy_time
    }

    /// So much more waits of a stream that has turns.
    fn count(&mut self, at: usize, bytes: usize) {
        let tenant = self.streams.get(at).map(|stream| stream.tenant);
        if let Some(tenant) = tenant.and_then(|at| self.tenants.get_mut(at)) {
            tenant.bytes = tenant.bytes.saturating_add(bytes);
            self.bytes = self.bytes.saturating_add(bytes);
        }
    }

    /// Has the stream more than its share of `bytes`, of which each tenant has as much as another and
    /// each of a tenant's streams, too? If all of that waits, one has.
    pub(crate) fn exceeds_share(&self, flow: Flow, bytes: usize) -> bool {
        let stream = self.streams.find(flow).and_then(|at| self.streams.get(at));
        let Some(stream) = stream else { return false };
        let Some(tenant) = self.tenants.get(stream.tenant) else { return false };
        let sharers = self.tenants.used().saturating_mul(tenant.turns.len());
        stream.fifo.bytes() > bytes.checked_div(sharers).unwrap_or(bytes)
    }

    /// Takes what is in `other`, behind what is here. What a tenant has on the link stays the same, and so
    /// do the bounds.
    pub(crate) fn append(&mut self, mut other: Self) {
        for at in other.by_turns().collect::<Vec<_>>() {
            let Some(theirs) = other.streams.get_mut(at) else { continue };
            let (flow, fifo) = (theirs.flow, std::mem::take(&mut theirs.fifo));
            let bytes = fifo.bytes();
            let found = self.streams.find(flow);
            let at = found.unwrap_or_else(|| self.streams.take(flow));
            if let Some(stream) = self.streams.get_mut(at) {
                stream.fifo.append(fifo);
            }
            if found.is_none() {
                self.begin_turns(at, flow);
            }
            self.count(at, bytes);
        }
    }

    /// The slots of streams, in the order of turns.
    fn by_turns(&self) -> impl Iterator<Item = usize> {
        let tenants = self.turns.iter().filter_map(|&at| self.tenants.get(at));
        tenants.flat_map(|tenant| &tenant.turns).copied()
    }

    fn waiting_streams(&self) -> impl Iterator<Item = &StreamQueue> {
        self.by_turns().filter_map(|at| self.streams.get(at))
    }

    /// Streams that have frames here, and a link sequence that none of those is below.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = (u64, u64)> {
        self.waiting_streams().map(|queue| (queue.flow.stream, queue.fifo.lowest()))
    }

    /// Takes out the counted frames that `takes` wants, whoever's they are.
    pub(crate) fn extract(
        &mut self,
        takes: &mut impl FnMut(&FrameRef<'_>) -> bool,
        pool: &mut BufferPool,
        out: &mut Vec<Batch>,
    ) {
        let Self { tenants, streams, turns, bytes, .. } = self;
        turns.retain(|&tenant_at| {
            let Some(tenant) = tenants.get_mut(tenant_at) else { return false };
            let mut left = 0_usize;
            tenant.turns.retain(|&at| {
                let Some(stream) = streams.get_mut(at) else { return false };
                stream.fifo.extract(takes, pool, out);
                left = left.saturating_add(stream.fifo.bytes());
                let waits = !stream.fifo.is_empty();
                if !waits {
                    stream.end_turns();
                    streams.release(at);
                }
                waits
            });
            let taken = tenant.bytes.saturating_sub(left);
            (tenant.bytes, *bytes) = (left, bytes.saturating_sub(taken));
            let waits = !tenant.turns.is_empty();
            if !waits {
                // Who has nothing more has no share.
                tenant.end_turns();
                tenants.release(tenant_at);
            }
            waits
        });
        trim(turns);
    }

    /// The batch whose turn it is, with `quantum_bytes` for each turn.
    pub(crate) fn pop(&mut self, quantum_bytes: usize) -> Option<Batch> {
        let quantum = signed(quantum_bytes).max(1);
        // Each turn without a batch raises a deficit, and a batch is at most some quanta.
        loop {
            let &tenant_at = self.turns.front()?;
            let tenant = self.tenants.get_mut(tenant_at)?;
            if tenant.deficit <= 0 {
                pass_turn(&mut tenant.deficit, quantum, &mut self.turns);
                continue;
            }
            let &at = tenant.turns.front()?;
            let stream = self.streams.get_mut(at)?;
            if stream.deficit <= 0 {
                pass_turn(&mut stream.deficit, quantum, &mut tenant.turns);
                continue;
            }
            let batch = stream.fifo.pop()?;
            let len = batch.len();
            stream.deficit = stream.deficit.saturating_sub(signed(len));
            tenant.deficit = tenant.deficit.saturating_sub(signed(len));
            tenant.bytes = tenant.bytes.saturating_sub(len);
            self.bytes = self.bytes.saturating_sub(len);
            if stream.fifo.is_empty() {
                stream.end_turns();
                tenant.turns.pop_front();
                self.streams.release(at);
                if tenant.turns.is_empty() {
                    tenant.end_turns();
                    self.turns.pop_front();
                    trim(&mut self.turns);
                    self.tenants.release(tenant_at);
                }
            }
            return Some(batch);
        }
    }

    /// What a tenant has waiting, its queues included.
    pub(crate) fn tenant_bytes(&self, tenant: u64) -> usize {
        let tenant = self.tenants.find(tenant).and_then(|at| self.tenants.get(at));
        tenant.map_or(0, TenantQueue::held_bytes)
    }

    /// What queues take beside the frames in them.
    pub(crate) const fn overhead_bytes(&self) -> usize {
        self.streams().saturating_mul(STREAM_QUEUE_BYTES)
    }

    /// Tenants that have something here.
    pub(crate) const fn tenants(&self) -> usize {
        self.tenants.used()
    }

    /// Streams that have something here.
    pub(crate) const fn streams(&self) -> usize {
        self.streams.used()
    }

    /// No counted frame that waits has a lower link sequence.
    pub(crate) fn lowest(&self) -> u64 {
        self.waiting_streams().map(|queue| queue.fifo.lowest()).min().unwrap_or(u64::MAX)
    }
}

impl StreamQueue {
    fn end_turns(&mut self) {
        self.deficit = self.deficit.min(0);
        self.fifo.trim();
    }
}

impl TenantQueue {
    /// What waits, and what the queues take in which it does.
    fn held_bytes(&self) -> usize {
        self.bytes.saturating_add(self.turns.len().saturating_mul(STREAM_QUEUE_BYTES))
    }

    fn end_turns(&mut self) {
        self.deficit = self.deficit.min(0);
        trim(&mut self.turns);
    }
}

/// Whoever is in front and owes something has its share, and the next one its turn; with nobody else there
/// until it owes nothing.
fn pass_turn(deficit: &mut i64, quantum: i64, turns: &mut VecDeque<usize>) {
    if turns.len() > 1 {
        *deficit = deficit.saturating_add(quantum);
        turns.rotate_left(1);
        return;
    }
    let owed = deficit.saturating_neg().checked_rem(quantum).unwrap_or(0);
    *deficit = quantum.saturating_sub(owed);
}

/// What was owed in another busy time is not owed any more.
const fn forget_old(deficit: &mut i64, was: &mut u64, is: u64) {
    if *was != is {
        (*deficit, *was) = (0, is);
    }
}

/// After a rush its memory is given back.
fn trim(turns: &mut VecDeque<usize>) {
    if turns.is_empty() && turns.capacity() > TURNS_KEPT {
        *turns = VecDeque::new();
    }
}

fn signed(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, clippy::indexing_slicing, reason = "a test may panic")]
mod tests;
