//! Frames that leave a link which carries nothing, to go another way.

use hawser_wire::{
    FrameFlags, FrameHeader, FrameKind, FrameRef, LaneId, StripeStamp, TrafficClass,
};

use super::VirtualLink;
use super::recovery::in_sequence;
use crate::batch::{Batch, BatchFifo, NewFrame};
use crate::event::LinkEvent;
use crate::frame_parts::FrameParts;
use crate::origin::Origin;
use crate::width::wide;

impl VirtualLink {
    /// Lanes are up, and all of them miss as many heartbeats as it takes to send what is in flight over
    /// another one: there is no such other one.
    #[must_use]
    pub fn is_stalled(&self) -> bool {
        let (after, tick) = (self.config.hedge_after_ticks, self.config.tick);
        !self.lanes.is_empty()
            && self.lanes.iter().all(|lane| lane.watch.missed_ticks(tick) >= after)
    }

    /// Frames that the link takes now arrive, as far as can be known.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        self.is_up() && !self.is_stalled()
    }

    /// Hands the counted frames that `takes` wants to [`Self::poll_rerouted`], oldest first: those that
    /// wait, and copies of those in flight over lanes that are silent or gone. Some of the latter may
    /// have arrived. None of them is sent over this link again, neither when the lane they are in
    /// flight over is lost nor when the link comes back within its session. `takes` sees striped frames
    /// without their stamp.
    ///
    /// For a link that is not [usable](Self::is_usable). What is not wanted stays, of a striped stream
    /// that loses frames as plain ones: its channel begins anew, as what has left will never come there.
    pub fn evacuate(&mut self, mut takes: impl FnMut(&FrameRef<'_>) -> bool) {
        let mut takes = |frame: &FrameRef<'_>| {
            frame.unstamped().is_ok_and(|frame| !frame.body.is_empty() && takes(&frame))
        };
        let batch_bytes = self.config.batch_bytes;
        let Self { departed, lanes, orphans, control, priority, flows, striping, pool, .. } = self;
        let mut taken: Vec<Batch> = Vec::new();
        for departed in departed {
            departed.unacked_mut().evacuate(&mut takes, pool, &mut taken);
        }
        for lane in &mut *lanes {
            lane.evacuate(&mut takes, pool, &mut taken);
            lane.extract(&mut takes, pool, &mut taken);
        }
        for (_, batch) in &mut *orphans {
            taken.extend(batch.extract(&mut takes, pool));
        }
        orphans.retain(|(_, batch)| batch.len() > 0);
        control.extract(&mut takes, pool, &mut taken);
        priority.extract(&mut takes, pool, &mut taken);
        flows.extract(&mut takes, pool, &mut taken);
        striping.extract(&mut takes, pool, &mut taken);
        taken.retain(|batch| batch.counted() > 0);
        if taken.is_empty() {
            return;
        }
        // Of a stream that lanes have failed under some may be in flight over each of them.
        let mut taken = in_sequence(taken, batch_bytes, pool);
        taken.sort_by_key(Batch::lowest);
        let (frames, bytes) = taken.iter().fold((0, 0), |(frames, bytes): (u64, u64), batch| {
            (frames.saturating_add(batch.counted()), bytes.saturating_add(wide(batch.len())))
        });
        let lanes = self.lanes.len();
        self.events.push_back(LinkEvent::Rerouted { frames, bytes, lanes });
        self.renew_channels(taken.iter().filter_map(Batch::stripe).collect());
        self.rerouted.extend(taken);
        self.note_gone();
    }

    /// Begins the stripe channels with these epochs anew, of which the far end would miss something for
    /// ever: it has left the link, or is given back to its source as the peer has ended its session. What
    /// waits of the channels goes out plain, as does what was in flight if it has to be sent again.
    pub(super) fn renew_channels(&mut self, mut over: Vec<u32>) {
        over.sort_unstable();
        over.dedup();
        if over.is_empty() {
            return;
        }
        // Now, as what is taken out below is not found where it waits.
        self.lowest_sequence = self.find_lowest_sequence();
        let mut is_over = |frame: &FrameRef<'_>| {
            frame.header.kind == FrameKind::StripedRecord
                && StripeStamp::decode(&frame.body)
                    .is_ok_and(|(stamp, _)| over.binary_search(&stamp.epoch).is_ok())
        };
        let mut waiting: Vec<(LaneId, Vec<Batch>)> = Vec::new();
        for lane in &mut self.lanes {
            let mut rest = Vec::new();
            lane.extract(&mut is_over, &mut self.pool, &mut rest);
            waiting.push((lane.id.lane, rest));
        }
        let any = self.any_lane();
        let mut moving = Vec::new();
        self.flows.extract(&mut is_over, &mut self.pool, &mut moving);
        waiting.push((any, moving));
        for &epoch in &over {
            waiting.push((any, self.striping.take_queued(epoch)));
            let first = self.renew_channel(epoch);
            waiting.push((any, first.into_iter().collect()));
        }
        for (from, batches) in waiting {
            self.requeue(from, batches);
        }
        self.requeue_orphans();
    }

    /// What is bound to no lane comes from this one.
    fn any_lane(&self) -> LaneId {
        self.known_lanes.first().map_or(LaneId(0), |&(lane, _)| lane)
    }

    /// Begins channels anew that could not before.
    pub(super) fn renew_left(&mut self) {
        while let Some(epoch) = self.striping.left()
            && self.has_sequence(TrafficClass::Control, Origin::Own)
            && let Some(first) = self.renew_channel(epoch)
        {
            self.requeue(self.any_lane(), vec![first]);
        }
    }

    /// The first frame of a channel that begins anew. It has no record: the stream may never send one
    /// here again. If that is too much for the link the stream has it no more, and it waits.
    fn renew_channel(&mut self, epoch: u32) -> Option<Batch> {
        let len = FrameHeader::LEN.saturating_add(StripeStamp::LEN);
        if !self.is_within_window(self.lowest_sequence, 0) {
            self.striping.leave(epoch);
            return None;
        }
        let sequence = self.next_sequence;
        let stamp = Some(self.striping.renew(epoch, sequence, wide(len))?);
        let (kind, class) = (FrameKind::StripedRecord, TrafficClass::Bulk);
        let flags = FrameFlags::STRIPED;
        let body = FrameParts::of(&[]);
        let frame = NewFrame { kind, class, flags, sequence, stamp, body, len };
        let mut first = BatchFifo::default();
        first.push(&frame, len, &mut self.pool);
        self.next_sequence = self.next_sequence.saturating_add(1);
        first.pop()
    }
}
