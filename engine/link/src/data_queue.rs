use hawser_wire::FrameRef;

use crate::batch::{Batch, BatchFifo, NewFrame};
use crate::buffer_pool::BufferPool;
use crate::fair_queue::{FairQueue, Flow, Overfull};
use crate::origin::Origin;

/// Frames that wait: bulk for one lane, or control or priority for the link. Those of this node are in one
/// queue, those of others in queues of their own.
#[derive(Debug, Default)]
pub(crate) struct DataQueue {
    own: BatchFifo,
    foreign: FairQueue,
    /// Bytes of each of the two that went out while the other held something, too.
    served_own_bytes: usize,
    served_foreign_bytes: usize,
}

impl DataQueue {
    pub(crate) const fn bytes(&self) -> usize {
        self.own.bytes().saturating_add(self.foreign.bytes())
    }

    pub(crate) const fn bytes_of(&self, origin: Origin) -> usize {
        match origin {
            Origin::Own => self.own.bytes(),
            Origin::Foreign => self.foreign.bytes(),
        }
    }

    /// What queues take beside the frames in them.
    pub(crate) const fn overhead_bytes(&self) -> usize {
        self.foreign.overhead_bytes()
    }

    /// As [`FairQueue::exceeds_share`], of what others' streams have here.
    pub(crate) fn exceeds_share(&self, flow: Flow, bytes: usize) -> bool {
        self.foreign.exceeds_share(flow, bytes)
    }

    /// What others' streams of a tenant have here, their queues included.
    pub(crate) fn tenant_bytes(&self, tenant: u64) -> usize {
        self.foreign.tenant_bytes(tenant)
    }

    /// Others' streams that have something here.
    pub(crate) const fn foreign_streams(&self) -> usize {
        self.foreign.streams()
    }

    /// Tenants that have something here; this node is one.
    pub(crate) fn tenants(&self) -> usize {
        self.foreign.tenants().saturating_add(usize::from(!self.own.is_empty()))
    }

    /// Appends a frame; `free_bytes` is what the link's bound leaves to this tenant's streams, if it is of
    /// another node.
    pub(crate) fn push(
        &mut self,
        origin: Origin,
        flow: Flow,
        frame: &NewFrame<'_>,
        free_bytes: usize,
        batch_bytes: usize,
        pool: &mut BufferPool,
    ) -> Result<(), Overfull> {
        match origin {
            Origin::Own => self.own.push(frame, batch_bytes, pool),
            Origin::Foreign => self.foreign.push(flow, frame, free_bytes, batch_bytes, pool)?,
        };
        Ok(())
    }

    /// The next of this node's, whoever's turn it is.
    pub(crate) fn pop_own(&mut self) -> Option<Batch> {
        self.own.pop()
    }

    /// Own and foreign frames share alike, by bytes, while both hold batches.
    pub(crate) fn pop(&mut self, quantum_bytes: usize) -> Option<Batch> {
        if self.own.is_empty() || self.foreign.bytes() == 0 {
            // Who was alone owes nothing for it.
            (self.served_own_bytes, self.served_foreign_bytes) = (0, 0);
            return self.own.pop().or_else(|| self.foreign.pop(quantum_bytes));
        }
        let (batch, served_bytes) = if self.served_own_bytes <= self.served_foreign_bytes {
            (self.own.pop()?, &mut self.served_own_bytes)
        } else {
            (self.foreign.pop(quantum_bytes)?, &mut self.served_foreign_bytes)
        };
        *served_bytes = served_bytes.saturating_add(batch.len());
        Some(batch)
    }

    /// Takes what waits elsewhere for this lane from now on, behind what is here.
    pub(crate) fn append(&mut self, other: Self) {
        self.own.append(other.own);
        self.foreign.append(other.foreign);
    }

    /// Takes out the frames that `takes` wants.
    pub(crate) fn extract(
        &mut self,
        takes: &mut impl FnMut(&FrameRef<'_>) -> bool,
        pool: &mut BufferPool,
        out: &mut Vec<Batch>,
    ) {
        self.own.extract(takes, pool, out);
        self.foreign.extract(takes, pool, out);
    }

    /// No counted frame that waits has a lower link sequence.
    pub(crate) fn lowest(&self) -> u64 {
        self.own.lowest().min(self.foreign.lowest())
    }

    /// As [`FairQueue::waiting`]; of this node's streams, which are not told apart, none is named.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = (Option<u64>, u64)> {
        std::iter::once((None, self.own.lowest()))
            .chain(self.foreign.waiting().map(|(stream, lowest)| (Some(stream), lowest)))
    }
}
