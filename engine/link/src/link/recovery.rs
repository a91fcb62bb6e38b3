//! What happens to frames whose lane is silent or gone, and the end of the session.

use std::time::Duration;

use hawser_wire::{
    CloseReason, FrameFlags, FrameHeader, FrameIter, FrameKind, FrameRef, Incarnation,
    LANE_ACK_ENTRIES_MAX, LaneAckEntry, LaneId, MonoTime, TrafficClass, TurnDelay,
};

use super::{DEPARTED_MAX, VirtualLink};
use crate::ack_interval::AckInterval;
use crate::batch::{Batch, BatchFifo, NewFrame};
use crate::buffer_pool::BufferPool;
use crate::connection::{ConnectionId, LaneKey};
use crate::departed::{Departed, Settlement};
use crate::duplicates::DuplicateWindow;
use crate::event::{LinkEvent, SessionEnd};
use crate::forgotten::ForgottenConnections;
use crate::frame_parts::FrameParts;
use crate::lane::Lane;
use crate::mode::ModeAgreement;
use crate::unacked::UnackedWindow;
use crate::violation::LinkViolation;
use crate::width::wide;

/// Answers kept for finals about unknown connections: as many as a peer may ask for at once.
const ANSWERS_MAX: usize = LANE_ACK_ENTRIES_MAX;

impl VirtualLink {
    /// Heartbeats, silence, hedging and death.
    pub(super) fn handle_tick(&mut self, now: MonoTime, drained: bool) {
        let config = self.config;
        let flags = measuring_flags(self.rate.handle_tick(now, config.tick));
        self.note_gone();
        let mut changed = false;
        let mut dead = Vec::new();
        for lane in &mut self.lanes {
            if drained {
                lane.watch.handle_tick();
            }
            let silent_ticks = lane.watch.silent_ticks();
            if silent_ticks >= config.dead_after_ticks {
                dead.push(lane.key);
                continue;
            }
            let missed_ticks = lane.watch.missed_ticks(config.tick);
            if drained && !lane.watch.srtt().is_zero() {
                // One tick is what an answer may take.
                self.heartbeats.count(missed_ticks > 1);
            }
            if missed_ticks >= config.quiet_after_ticks && !std::mem::replace(&mut lane.quiet, true)
            {
                changed = true;
                let (lane, silent_ticks) = (lane.id.lane, missed_ticks);
                self.events.push_back(LinkEvent::Quiet { lane, silent_ticks });
            }
            lane.push_heartbeat(now, flags);
            lane.receipt.handle_tick(config.tick, lane.watch.srtt(), config.credit_bytes_max);
        }
        if changed {
            self.place();
        }
        for key in dead {
            self.close_event(key, CloseReason::Silent, "");
            self.handle_lane_down(now, key, CloseReason::Silent.text());
        }
        self.hedge_silent();
        self.end_unsettled(now);
        self.handle_stripe_tick(now);
        self.close_idle(now);
        self.close_drained(now);
        self.forget_leaving(now);
        self.update_bound();
        self.pool.trim();
        self.reassembly.trim();
    }

    /// A tick comes so late. Who waits for its core says so.
    pub(super) fn note_turn_delay(&mut self, late: Duration) {
        if let Some(delay) = self.turn_delay.handle_tick(late)
            && let Some(lane) = self.carrier(TrafficClass::Control)
        {
            lane.push_own(FrameKind::TurnDelay, &TurnDelay::new(delay).encode());
        }
    }

    /// A heartbeat beside those of the ticks, now that the queue is gone.
    pub(super) fn measure(&mut self, now: MonoTime) {
        let flags = measuring_flags(self.rate.asks_peer());
        if let Some(lane) = self.carrier(TrafficClass::Control) {
            lane.push_heartbeat(now, flags);
        }
    }

    /// Sends what is unacknowledged over a silent lane over another one as well, oldest first and as
    /// far as that one's window goes.
    fn hedge_silent(&mut self) {
        let (after, tick) = (self.config.hedge_after_ticks, self.config.tick);
        let silent: Vec<LaneKey> = self
            .lanes
            .iter()
            .filter(|lane| lane.watch.missed_ticks(tick) >= after && lane.carries.is_empty())
            .map(|lane| lane.key)
            .collect();
        for key in silent {
            let Some(spare_bytes) = self.hedge_room() else { return };
            let Some(lane) = self.position(key).and_then(|at| self.lanes.get_mut(at)) else {
                continue;
            };
            let copies = lane.unacked.hedge(spare_bytes, &mut self.pool);
            let copies = in_sequence(copies, self.config.batch_bytes, &mut self.pool);
            let (from, silent_ticks) = (lane.id.lane, lane.watch.missed_ticks(tick));
            self.note_hedged(from, silent_ticks, &copies);
            self.requeue(from, copies);
        }
    }

    /// Says that `batches`, of which something is in flight over a silent lane, go over another one.
    pub(super) fn note_hedged(&mut self, from: LaneId, silent_ticks: u32, batches: &[Batch]) {
        let Some(class) = batches.first().map(Batch::class) else { return };
        let heir = self.heir(class, from).and_then(|at| self.lanes.get(at));
        if let Some(to) = heir.map(|lane| lane.id.lane) {
            let (frames, bytes) = totals(batches);
            if frames > 0 {
                self.events.push_back(LinkEvent::Hedged { from, to, frames, bytes, silent_ticks });
            }
        }
    }

    /// The number of the lane that goes on with what lane `from` had of a class. All bulk of one lane has
    /// one heir while the lanes stay as they are, so that its streams keep their order.
    fn heir(&self, class: TrafficClass, from: LaneId) -> Option<usize> {
        match class {
            TrafficClass::Bulk => self.pinned(u64::from(from.0)),
            class => self.lanes.iter().position(|lane| lane.carries.contains(class)),
        }
    }

    /// Bytes that the lanes which carry something can all take beside what they hold.
    fn hedge_room(&self) -> Option<usize> {
        let carrying = self.lanes.iter().filter(|lane| !lane.carries.is_empty() && !lane.quiet);
        carrying
            .map(|lane| {
                let left = usize::try_from(lane.credit.left_bytes()).unwrap_or(usize::MAX);
                let held = lane.unacked.backing_bytes().saturating_add(lane.resend_bytes());
                self.config.window_bytes.saturating_sub(held).min(left)
            })
            .min()
    }

    /// Gives batches that were on lane `from` to one that carries their class, before whatever was
    /// taken later; without one they wait for it.
    pub(super) fn requeue(&mut self, from: LaneId, batches: Vec<Batch>) {
        self.requeue_all(batches.into_iter().map(|batch| (from, batch)));
    }

    fn requeue_all(&mut self, batches: impl IntoIterator<Item = (LaneId, Batch)>) {
        for (from, batch) in batches {
            // One that was going in pieces may hold frames that have left the link.
            let mut batch = batch.without_gone(&mut self.pool);
            if batch.stripe().is_some_and(|epoch| !self.striping.is_open(epoch)) {
                // Nothing at the far end may wait for it, or be taken to be out of place for it.
                batch = batch.unstamped(&mut self.pool);
            }
            if batch.len() == 0 {
                self.pool.give(batch.into_buffer());
                continue;
            }
            let heir = self.heir(batch.class(), from);
            match heir.and_then(|at| self.lanes.get_mut(at)) {
                Some(lane) => lane.push_resend(batch),
                None => self.orphans.push_back((from, batch)),
            }
        }
        self.lanes.iter_mut().for_each(Lane::sort_resend);
        // Of those that had left the link nothing is here any more.
        self.is_lowest_exact = false;
    }

    /// Batches that waited for a lane go to one.
    pub(super) fn requeue_orphans(&mut self) {
        let orphans = std::mem::take(&mut self.orphans);
        if !orphans.is_empty() {
            self.requeue_all(orphans);
        }
    }

    pub(super) fn add_departed(
        &mut self,
        now: MonoTime,
        id: ConnectionId,
        received: u64,
        unacked: UnackedWindow,
    ) {
        self.departed.push(Departed::new(id, received, unacked));
        self.want_ack_now(now);
    }

    /// A link that loses connection after connection before counts are exchanged starts anew.
    pub(super) fn shed_departed(&mut self, now: MonoTime) {
        if self.departed.len() >= DEPARTED_MAX {
            self.end_session(now, SessionEnd::Flapping);
        }
    }

    /// A peer that is heard and does not say how far a lost connection came keeps what was in flight over
    /// it here, and what must not pass that. As long as a link may be without a lane, it may be so.
    fn end_unsettled(&mut self, now: MonoTime) {
        if self.lanes.iter().all(|lane| lane.quiet) {
            return;
        }
        let tick = self.config.tick.as_nanos().max(1);
        let most = self.config.session_timeout.as_nanos().checked_div(tick).unwrap_or(0);
        let mut unsettled = None;
        for departed in &mut self.departed {
            let waits = departed.handle_tick();
            if u128::from(waits) > most {
                unsettled = Some(departed.id);
            }
        }
        if let Some(id) = unsettled {
            self.end_session(now, SessionEnd::Unsettled { id });
        }
    }

    /// The peer speaks of a connection that has no lane here.
    pub(super) fn handle_departed_entry(
        &mut self,
        now: MonoTime,
        id: ConnectionId,
        entry: &LaneAckEntry,
    ) -> Result<(), LinkViolation> {
        let Some(at) = self.departed.iter().position(|departed| departed.id == id) else {
            if entry.is_final {
                // Without a session that ended in between, it was never served here (of two that had
                // crossed, this end keeps the other one): nothing came. Who says settled needs no count:
                // a final would call for an answer itself, without end if the peer has forgotten the
                // connection, too.
                let is_forgotten = self.forgotten.contains(id);
                self.answer_settled(now, id, !is_forgotten && !entry.settled);
                if is_forgotten {
                    self.forgives_until = now.saturating_add(self.config.session_timeout);
                }
            }
            return Ok(());
        };
        let Some(departed) = self.departed.get_mut(at) else { return Ok(()) };
        let Settlement { rest, is_last, forgotten, over } =
            departed.handle_entry(entry, &mut self.pool)?;
        let acked = departed.unacked_mut().take_acked_sequence();
        if !forgotten {
            self.peer_sequences.handle_acknowledged(acked);
        }
        for (epoch, lowest) in departed.drain_striped() {
            self.striping.handle_acknowledged(epoch, lowest);
        }
        if over {
            self.departed.swap_remove(at);
            if entry.is_final {
                self.answer_settled(now, id, false);
            }
        } else if self.departed.get(at).is_some_and(|departed| departed.to_send) {
            self.want_ack_now(now);
        }
        // What the peer has, and what goes another way, is here no more.
        self.is_lowest_exact &= !is_last;
        let (frames, bytes) = totals(&rest);
        let rest = in_sequence(rest, self.config.batch_bytes, &mut self.pool);
        if forgotten {
            // Nor will anything more come of what the peer had striped.
            self.reassembly.give_up();
            self.channels_forgotten = true;
            // What waits of the channels is many round trips of a slow lane: none of it is to go there first.
            let waiting = self.striping.take_waiting();
            let mut lost: Vec<Batch> = rest.into_iter().chain(waiting).collect();
            lost.retain(Batch::brings_records);
            let (frames, _) = totals(&lost);
            if frames > 0 {
                let reason = SessionEnd::Forgotten { id };
                self.events.push_back(LinkEvent::SessionEnded { reason, frames });
                self.rerouted.extend(lost);
            }
            return Ok(());
        }
        if frames == 0 {
            return Ok(());
        }
        self.events.push_back(LinkEvent::Requeued { from: id, frames, bytes });
        self.requeue(id.lane, rest);
        Ok(())
    }

    /// Tells the peer that nothing more is wanted of a connection.
    fn answer_settled(&mut self, now: MonoTime, id: ConnectionId, is_final: bool) {
        if self.answers.len() < ANSWERS_MAX {
            let ConnectionId { lane, epoch, dialled } = id;
            let (settled, count, credit_frames, credit_bytes) = (true, 0, 0, 0);
            self.answers.push(LaneAckEntry {
                lane,
                epoch,
                dialled,
                is_final,
                settled,
                count,
                credit_frames,
                credit_bytes,
            });
        }
        self.want_ack_now(now);
    }

    /// No lane for too long ends the session.
    pub(super) fn handle_alone(&mut self, now: MonoTime) {
        let after = self.config.session_timeout;
        if self.alone_since.is_some_and(|since| since.saturating_add(after) <= now) {
            self.end_session(now, SessionEnd::NoLane { after });
        }
    }

    pub(super) fn end_for_other_life(&mut self, now: MonoTime, is: Incarnation) {
        let was = self.peer_incarnation.unwrap_or_default();
        self.end_session(now, SessionEnd::OtherLife { was, is });
        self.peer_sequences.handle_other_life(self.next_sequence);
        self.ack_seen = 0;
        if is > was {
            // Two lives that cannot be told apart by that may come by turns.
            self.forgotten = ForgottenConnections::default();
        }
        self.forgives_until = MonoTime::ZERO;
        self.reassembly.handle_other_life();
    }

    /// Drops what was received and hands out what was in flight or waits.
    fn end_session(&mut self, now: MonoTime, reason: SessionEnd) {
        let mut rest = Vec::new();
        // Lanes that are lost are asked for when they are; of another life they come by themselves.
        let is_here = matches!(reason, SessionEnd::Unsettled { .. });
        let closed = self.lanes.iter().filter(|_| is_here).map(|lane| (lane.id.lane, lane.class));
        let closed: Vec<_> = closed.collect();
        for mut lane in std::mem::take(&mut self.lanes) {
            let why = "the link session is over";
            self.close_event(lane.key, CloseReason::Superseded, why);
            let unacked_frames = lane.unacked.sent().saturating_sub(lane.unacked.acked());
            let (key, id, why) = (lane.key, lane.id, why.to_owned());
            self.events.push_back(LinkEvent::LaneDown { key, id, why, unacked_frames });
            let pool = &mut self.pool;
            // A batch that was going in pieces may hold frames that have left the link.
            rest.extend(lane.take_all_queued().into_iter().map(|batch| batch.without_gone(pool)));
            rest.extend(lane.unacked.take_rest(lane.unacked.acked(), &mut self.pool));
        }
        self.carries = false;
        for departed in std::mem::take(&mut self.departed) {
            rest.extend(departed.into_rest(&mut self.pool));
        }
        rest.extend(self.orphans.drain(..).map(|(_, batch)| batch));
        rest.extend(std::iter::from_fn(|| {
            self.control.pop(usize::MAX).or_else(|| self.priority.pop(usize::MAX))
        }));
        rest.extend(self.flows.take_all());
        rest.extend(self.striping.take_all());
        self.reassembly.handle_session_end();
        rest.retain(Batch::brings_records);
        // Of a stream that lanes have failed under some may have been in flight over each of them.
        let mut rest = in_sequence(rest, self.config.batch_bytes, &mut self.pool);
        rest.sort_by_key(Batch::lowest);
        let frames = totals(&rest).0;
        self.rerouted.extend(rest);
        self.forgotten.handle_session_end();
        self.duplicates = DuplicateWindow::default();
        self.known_lanes.clear();
        self.placed = [None; 3];
        self.mode = ModeAgreement::default();
        self.answers.clear();
        (self.ack_due, self.ack_flagged, self.ack_whole) = (None, false, false);
        self.alone_since = None;
        (self.lowest_sequence, self.is_lowest_exact) = (self.next_sequence, false);
        self.moved_before = None;
        // Without a lane there are no ticks, by which it is trimmed.
        self.pool = BufferPool::new(self.config.batch_bytes.saturating_mul(2));
        self.next_tick = now;
        self.rate.reset();
        self.ack_interval = AckInterval::default();
        self.events.push_back(LinkEvent::SessionEnded { reason, frames });
        let wanted = closed.into_iter().map(|(lane, class)| LinkEvent::WantLane { lane, class });
        self.events.extend(wanted);
    }
}

/// Batches that were in flight or waited, those of priority and of plain bulk each in the order of their
/// link sequences.
///
/// What waits is sorted by the lowest sequence of each batch. Small batches share a buffer in flight,
/// whatever queues they came from, and a lower sequence of one stream would take later frames of another
/// past their own earlier ones. With every batch a part of one ascending run none of them is passed: a
/// stream's frames are numbered in the order in which they are queued.
pub(super) fn in_sequence(
    batches: Vec<Batch>,
    batch_bytes: usize,
    pool: &mut BufferPool,
) -> Vec<Batch> {
    let is_plain =
        |batch: &Batch| batch.class() != TrafficClass::Control && batch.stripe().is_none();
    let (plain, mut ordered): (Vec<Batch>, Vec<Batch>) = batches.into_iter().partition(is_plain);
    let is_priority = |batch: &Batch| batch.class() == TrafficClass::Priority;
    let (priority, bulk): (Vec<Batch>, Vec<Batch>) = plain.into_iter().partition(is_priority);
    for mut class in [priority, bulk] {
        class.sort_by_key(Batch::lowest);
        // Those that none overlaps stay as they are, without a copy.
        let (mut run, mut highest) = (Vec::new(), 0);
        for batch in class {
            if batch.lowest() > highest {
                ordered.extend(in_one_run(std::mem::take(&mut run), batch_bytes, pool));
            }
            highest = batch.highest().max(highest);
            run.push(batch);
        }
        ordered.extend(in_one_run(run, batch_bytes, pool));
    }
    ordered
}

/// Batches of one class that overlap as one run, ascending by link sequence.
fn in_one_run(batches: Vec<Batch>, batch_bytes: usize, pool: &mut BufferPool) -> Vec<Batch> {
    if batches.len() < 2 {
        return batches;
    }
    let encoded: Vec<_> = batches.iter().map(Batch::frames).collect();
    let frames = encoded.iter().flat_map(|frames| FrameIter::new(frames));
    let mut frames: Vec<FrameRef<'_>> = frames.map_while(Result::ok).collect();
    frames.sort_by_key(|frame| frame.header.link_sequence);
    let mut run = BatchFifo::default();
    for frame in &frames {
        let FrameHeader { kind, class, flags, link_sequence, .. } = frame.header;
        let body = frame.body.bytes();
        let len = body.len().saturating_add(FrameHeader::LEN);
        let (sequence, stamp, parts) = (link_sequence.0, None, [body]);
        let body = FrameParts::of(&parts);
        let frame = NewFrame { kind, class, flags, sequence, stamp, body, len };
        // It was a frame before, and is no larger now.
        let _fits = run.push(&frame, batch_bytes, pool);
    }
    drop(encoded);
    batches.into_iter().for_each(|batch| pool.give(batch.into_buffer()));
    std::iter::from_fn(|| run.pop()).collect()
}

/// Of heartbeats, by which the peer is asked to measure the round trip, too, or is not.
fn measuring_flags(asks: bool) -> FrameFlags {
    if asks { FrameFlags::MEASURING } else { FrameFlags::default() }
}

/// Counted frames and bytes of `batches`.
fn totals(batches: &[Batch]) -> (u64, u64) {
    batches.iter().fold((0, 0), |(frames, bytes): (u64, u64), batch| {
        (frames.saturating_add(batch.counted()), bytes.saturating_add(wide(batch.len())))
    })
}
