use hawser_wire::LaneAckEntry;

use crate::batch::Batch;
use crate::buffer_pool::BufferPool;
use crate::connection::ConnectionId;
use crate::unacked::UnackedWindow;
use crate::violation::LinkViolation;

/// A connection that is gone while the two sides have not yet told each other how far it came.
#[derive(Debug)]
pub(crate) struct Departed {
    pub(crate) id: ConnectionId,
    /// Counted frames received over it: will not grow any more.
    received: u64,
    unacked: UnackedWindow,
    /// The peer's final count is known: nothing waits here any more.
    has_final: bool,
    /// The peer knows ours.
    settled: bool,
    /// Ticks at which the final count was missing though the peer was heard.
    ticks: u32,
    /// Something about it is to be said.
    pub(crate) to_send: bool,
}

/// What the peer's word about a departed connection leads to.
#[derive(Debug, Default)]
pub(crate) struct Settlement {
    /// What the peer has not received, to be sent again.
    pub(crate) rest: Vec<Batch>,
    /// The peer's last count is known since.
    pub(crate) is_last: bool,
    /// The peer has forgotten the connection: what it has of the rest is not known.
    pub(crate) forgotten: bool,
    /// Both sides know both counts.
    pub(crate) over: bool,
}

impl Departed {
    pub(crate) const fn new(id: ConnectionId, received: u64, unacked: UnackedWindow) -> Self {
        let (has_final, settled, ticks) = (false, false, 0);
        Self { id, received, unacked, has_final, settled, ticks, to_send: true }
    }

    pub(crate) const fn unacked(&self) -> &UnackedWindow {
        &self.unacked
    }

    pub(crate) const fn unacked_mut(&mut self) -> &mut UnackedWindow {
        &mut self.unacked
    }

    /// The peer is heard, over another lane; the ticks for which its final count is missing since.
    pub(crate) const fn handle_tick(&mut self) -> u32 {
        if !self.has_final {
            self.ticks = self.ticks.saturating_add(1);
        }
        self.ticks
    }

    /// As [`UnackedWindow::drain_striped`].
    pub(crate) fn drain_striped(&mut self) -> impl Iterator<Item = (u32, u64)> + '_ {
        self.unacked.drain_striped()
    }

    /// What the peer is told.
    pub(crate) const fn entry(&self) -> LaneAckEntry {
        LaneAckEntry {
            lane: self.id.lane,
            epoch: self.id.epoch,
            dialled: self.id.dialled,
            is_final: true,
            settled: self.has_final,
            count: self.received,
            credit_frames: 0,
            credit_bytes: 0,
        }
    }

    /// The peer's entry says what was not known.
    pub(crate) const fn is_news(&self, entry: &LaneAckEntry) -> bool {
        (entry.settled && !self.settled)
            || (!self.has_final && (entry.is_final || entry.count > self.unacked.acked()))
    }

    /// The peer speaks of the connection.
    ///
    /// # Errors
    /// [`LinkViolation`] if its count cannot be; then nothing changed.
    pub(crate) fn handle_entry(
        &mut self,
        entry: &LaneAckEntry,
        pool: &mut BufferPool,
    ) -> Result<Settlement, LinkViolation> {
        let mut settlement = Settlement::default();
        // Without `final` and with `settled` the peer has nothing to say about a count.
        let counts = entry.is_final || !entry.settled;
        if counts && !self.has_final {
            check_count(&self.unacked, entry)?;
            let _released = self.unacked.acknowledge(entry.count, pool);
        }
        if !self.has_final && (entry.is_final || entry.settled) {
            settlement.is_last = true;
            settlement.forgotten = !entry.is_final;
            let count = if entry.is_final { entry.count } else { self.unacked.acked() };
            settlement.rest = self.unacked.take_rest(count, pool);
            self.has_final = true;
        }
        if entry.is_final && !(self.settled && entry.settled) {
            self.to_send = true;
        }
        self.settled |= entry.settled;
        settlement.over = self.has_final && self.settled;
        Ok(settlement)
    }

    /// The session ends: what was in flight.
    pub(crate) fn into_rest(mut self, pool: &mut BufferPool) -> Vec<Batch> {
        let acked = self.unacked.acked();
        self.unacked.take_rest(acked, pool)
    }
}

/// A count is neither above what was sent nor below what was acknowledged.
pub(crate) fn check_count(
    unacked: &UnackedWindow,
    entry: &LaneAckEntry,
) -> Result<(), LinkViolation> {
    let (lane, count) = (entry.lane, entry.count);
    if count > unacked.sent() {
        return Err(LinkViolation::AckAhead { lane, count, sent: unacked.sent() });
    }
    if count < unacked.acked() {
        return Err(LinkViolation::AckReturned { lane, from: unacked.acked(), to: count });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use hawser_wire::{LaneId, LinkEpoch, MonoTime, TrafficClass};

    use super::*;
    use crate::batch::BatchFifo;
    use crate::batch::tests::frame;
    use crate::delivery_rate::SendSnapshot;

    const ID: ConnectionId = ConnectionId { lane: LaneId(2), epoch: LinkEpoch(7), dialled: true };

    /// Has sent ten frames of which two were acknowledged, and received five.
    fn departed(pool: &mut BufferPool) -> Departed {
        let mut fifo = BatchFifo::default();
        for sequence in 1..=10 {
            assert!(fifo.push(&frame(sequence, &[&[1; 10]]), 100, pool));
        }
        let mut unacked = UnackedWindow::default();
        while let Some(batch) = fifo.pop() {
            unacked.push(batch, MonoTime::ZERO, SendSnapshot::default(), 0, pool);
        }
        unacked.acknowledge(2, pool);
        Departed::new(ID, 5, unacked)
    }

    fn entry(count: u64, is_final: bool, settled: bool) -> LaneAckEntry {
        let (lane, epoch, dialled) = (ID.lane, ID.epoch, false);
        let (credit_frames, credit_bytes) = (0, 0);
        LaneAckEntry { lane, epoch, dialled, is_final, settled, count, credit_frames, credit_bytes }
    }

    fn counted(batches: &[Batch]) -> u64 {
        batches.iter().map(Batch::counted).sum()
    }

    #[test]
    fn the_rest_comes_once_the_final_count_is_known() {
        let mut pool = BufferPool::new(1 << 20);
        let mut departed = departed(&mut pool);
        assert!(departed.entry().is_final && !departed.entry().settled);
        let late = departed.handle_entry(&entry(4, false, false), &mut pool).unwrap();
        assert_eq!((late.rest.len(), late.over), (0, false));
        let last = departed.handle_entry(&entry(7, true, false), &mut pool).unwrap();
        assert_eq!((counted(&last.rest), last.forgotten, last.over), (3, false, false));
        assert!(departed.entry().settled);
        let again = departed.handle_entry(&entry(7, true, true), &mut pool).unwrap();
        assert_eq!((counted(&again.rest), again.over), (0, true));
    }

    #[test]
    fn a_peer_that_has_forgotten_leaves_all_in_doubt() {
        let mut pool = BufferPool::new(1 << 20);
        let mut departed = departed(&mut pool);
        let answer = departed.handle_entry(&entry(0, false, true), &mut pool).unwrap();
        assert_eq!((counted(&answer.rest), answer.forgotten, answer.over), (8, true, true));
        assert!(answer.rest.iter().all(|batch| batch.class() == TrafficClass::Bulk));
    }

    #[test]
    fn counts_that_cannot_be_are_refused_and_change_nothing() {
        let mut pool = BufferPool::new(1 << 20);
        let mut departed = departed(&mut pool);
        let ahead = departed.handle_entry(&entry(11, true, false), &mut pool);
        assert!(matches!(ahead, Err(LinkViolation::AckAhead { count: 11, sent: 10, .. })));
        let back = departed.handle_entry(&entry(1, true, false), &mut pool);
        assert!(matches!(back, Err(LinkViolation::AckReturned { from: 2, to: 1, .. })));
        assert_eq!(counted(&departed.into_rest(&mut pool)), 8);
    }
}
