//! Streams that take every bulk lane.

use hawser_wire::{
    FRAME_BODY_BYTES_MAX, FrameFlags, FrameKind, FrameRef, LaneId, MonoTime, StripeStamp,
    TrafficClass,
};

use super::VirtualLink;
use super::moves::Place;
use super::receive::Handled;
use crate::batch::NewFrame;
use crate::event::{LinkEvent, Refusal, RefusedLimit};
use crate::fair_queue::Flow;
use crate::lane::Lane;
use crate::origin::Origin;
use crate::reassembly::{GivenUp, ReassembledFrame, StripeOutcome};
use crate::violation::LinkViolation;

/// To make room for so many frames before the first of a channel that has come costs a heartbeat. Those of
/// a burst may well overtake its first.
const PLACES_A_BEAT: u64 = 256;

impl VirtualLink {
    /// The next frame of a striped stream whose turn has come, or that is delivered without those
    /// before it. To be asked for after each frame of kind [`FrameKind::StripedRecord`], and whenever
    /// the link was woken or a lane came or went.
    pub fn poll_reassembled(&mut self) -> Option<ReassembledFrame> {
        self.reassembly.poll_deliver()
    }

    /// Such a frame was handled: its memory is there for others.
    pub fn give_reassembled(&mut self, frame: ReassembledFrame) {
        // What nobody ticks for, nobody trims.
        if self.carries {
            self.reassembly.give(frame);
        }
    }

    /// Takes a record of a stream that is striped, or was and still has a channel; `None` if it is not.
    pub(super) fn push_striped(
        &mut self,
        origin: Origin,
        flow: Flow,
        frame: &NewFrame<'_>,
    ) -> Option<Result<(), Refusal>> {
        let len = frame.len.saturating_add(StripeStamp::LEN);
        if frame.kind != FrameKind::Record || len > FRAME_BODY_BYTES_MAX {
            return None;
        }
        // What a stream has sent over one lane is no barrier if it is somewhere else. And a first frame that
        // waits for the stream's next lane is one at which others wait at the far end.
        let is_placed = matches!(self.place_of(flow.stream), Some(Place::Lane(_)));
        let is_striped = frame.flags.contains(FrameFlags::STRIPED);
        let asks = is_striped && self.moved_before.is_none() && is_placed;
        let stamp = self.striping.stamp(flow, origin, asks)?;
        if stamp.sequence == 0 && !is_placed {
            return None;
        }
        let frame = NewFrame { kind: FrameKind::StripedRecord, stamp: Some(stamp), len, ..*frame };
        Some(if stamp.sequence == 0 {
            let pushed = self.push_bulk(origin, flow, &frame);
            pushed.map(|()| self.striping.handle_first(flow, origin, &frame))
        } else {
            self.queue_striped(origin, flow, &frame)
        })
    }

    fn queue_striped(
        &mut self,
        origin: Origin,
        flow: Flow,
        frame: &NewFrame<'_>,
    ) -> Result<(), Refusal> {
        let (class, max) = (TrafficClass::Bulk, self.config.data_bytes_max);
        let queued = self.queued_bytes(class, origin);
        let held = queued.saturating_add(self.bulk_overhead_bytes(origin));
        if held > 0 && held.saturating_add(frame.len) > max {
            let lane = self.striped_lane();
            return Err(self.refusal(class, lane, RefusedLimit::Class, held, max));
        }
        if origin == Origin::Foreign {
            self.check_quotas(flow, frame.len, max.saturating_sub(held), held)?;
        }
        let flags = self.mark(origin, queued, frame.flags, |link| {
            link.striping.queued_of(flow, origin) > Some(link.striped_mark_share())
        });
        let (frame, batch_bytes) = (NewFrame { flags, ..*frame }, self.batch_bytes());
        if self.striping.push((flow, origin), &frame, batch_bytes, &mut self.pool) {
            self.next_sequence = self.next_sequence.saturating_add(1);
            self.want_striped();
        }
        Ok(())
    }

    /// As in the queue of a lane (dynamic thresholds, see [`crate::fair_queue::FairQueue`]): the tenant may
    /// hold as much bulk as is still free, the stream as much as its tenant may still add.
    fn check_quotas(
        &self,
        flow: Flow,
        len: usize,
        free: usize,
        queued: usize,
    ) -> Result<(), Refusal> {
        // While two thirds are free nobody can have too much.
        if queued.saturating_mul(2).saturating_add(len) <= free {
            return Ok(());
        }
        let of_tenant = self.tenant_bytes(flow.tenant);
        let own = self.striping.queued_of(flow, Origin::Foreign).unwrap_or(0);
        let of_stream = free.saturating_sub(of_tenant);
        let over = |bytes: usize, max: usize| bytes > 0 && bytes.saturating_add(len) > max;
        let (limit, bytes, max) = if over(of_tenant, free) {
            (RefusedLimit::Tenant, of_tenant, free)
        } else if over(own, of_stream) {
            (RefusedLimit::Stream, own, of_stream)
        } else {
            return Ok(());
        };
        Err(self.refusal(TrafficClass::Bulk, self.striped_lane(), limit, bytes, max))
    }

    /// Whichever lane can may send what waits of striped streams.
    pub(super) fn want_striped(&mut self) {
        if self.striping.front().is_some() {
            for lane in &mut self.lanes {
                lane.wanted |= lane.carries.contains(TrafficClass::Bulk);
            }
        }
    }

    /// The lane that delivers first what striped streams send next, by its rate and what it has in flight.
    pub(super) fn striped_lane(&self) -> Option<LaneId> {
        let carrying = self.lanes.iter().filter(|lane| lane.carries.contains(TrafficClass::Bulk));
        carrying.min_by_key(|lane| (lane.quiet, lane.drain_nanos())).map(|lane| lane.id.lane)
    }

    /// Bytes of striped streams that wait, as each bulk lane has its part of them.
    pub(super) fn striped_share(&self) -> usize {
        let queued =
            [Origin::Own, Origin::Foreign].map(|origin| self.striping.queued_bytes(origin));
        let queued = queued.into_iter().fold(0_usize, usize::saturating_add);
        queued.checked_div(self.bulk_lanes()).unwrap_or(0)
    }

    /// A striped stream's share of the threshold for marks: on each bulk lane, that of a stream.
    fn striped_mark_share(&self) -> usize {
        let share = self.config.mark_bytes.checked_div(self.bulk_lanes()).unwrap_or(0);
        let lanes = self.lanes.iter().filter(|lane| lane.carries.contains(TrafficClass::Bulk));
        let channels = self.striping.waiting().max(1);
        lanes.fold(0, |sum: usize, lane| {
            let sharers = lane.bulk.foreign_streams().saturating_add(channels);
            sum.saturating_add(share.checked_div(sharers).unwrap_or(share))
        })
    }

    /// Lanes that carry bulk.
    pub(super) fn bulk_lanes(&self) -> usize {
        let carries = |lane: &&Lane| lane.carries.contains(TrafficClass::Bulk);
        self.lanes.iter().filter(carries).count()
    }

    /// Lanes came or went, and what waited was moved: no stream begins to be striped before what was
    /// taken until now has arrived.
    pub(super) fn note_moved(&mut self) {
        self.moved_before = Some(self.next_sequence);
        self.settle_moved();
    }

    /// What was taken before that may have arrived. Walks all that waits: for ticks, not for each
    /// acknowledgement.
    fn settle_moved(&mut self) {
        let lowest = self.moved_before.map(|_| self.find_lowest_sequence());
        self.moved_before = self.moved_before.filter(|&before| lowest < Some(before));
    }

    /// Of a link that is not usable the peer may have sent another way what is missing here: nothing
    /// waits for it any more. If it comes nevertheless, the destination puts it in its place.
    pub(super) fn release_held(&mut self) {
        if !self.is_usable() {
            self.reassembly.give_up();
        }
    }

    pub(super) fn handle_stripe_tick(&mut self, now: MonoTime) {
        self.settle_moved();
        self.striping.handle_tick();
        self.renew_left();
        self.release_held();
        self.want_striped();
        while let Some(given_up) = self.reassembly.handle_timeout(now) {
            let GivenUp { channel, sequence, waited } = given_up;
            self.events.push_back(LinkEvent::StripeGap { channel, sequence, waited });
        }
    }

    /// A frame that was not here before: one that is striped is put in its place.
    pub(super) fn handle_fresh(
        &mut self,
        now: MonoTime,
        at: usize,
        frame: &FrameRef<'_>,
    ) -> Result<Handled, LinkViolation> {
        if frame.header.kind != FrameKind::StripedRecord {
            return Ok(Handled::Deliver);
        }
        let Some(lane) = self.lanes.get(at) else { return Ok(Handled::Duplicate) };
        if frame.header.class != TrafficClass::Bulk {
            let (lane, class) = (lane.id.lane, frame.header.class);
            return Err(LinkViolation::FrameClass { lane, class });
        }
        let (stamp, _) = StripeStamp::decode(&frame.body)?;
        let plain = frame.unstamped()?;
        let channel = usize::from(stamp.channel);
        let is_outdated =
            lane.stripe_epochs.get(channel).is_some_and(|&newest| stamp.epoch < newest);
        let is_forgiving = now < self.forgives_until;
        let beats = self.reassembly.early_places(stamp) / PLACES_A_BEAT;
        if beats > 0 {
            self.spend(now, at, u32::try_from(beats).unwrap_or(u32::MAX))?;
        }
        let outcome = self.reassembly.handle_frame(now, stamp, plain, is_outdated, is_forgiving)?;
        let lane = self.lanes.get_mut(at);
        if let Some(newest) = lane.and_then(|lane| lane.stripe_epochs.get_mut(channel)) {
            *newest = stamp.epoch.max(*newest);
        }
        Ok(match outcome {
            // The beginning of a channel that brings no record.
            StripeOutcome::Deliver if plain.body.is_empty() => Handled::Consumed,
            StripeOutcome::Deliver => Handled::Striped,
            StripeOutcome::Held => Handled::Consumed,
        })
    }
}
