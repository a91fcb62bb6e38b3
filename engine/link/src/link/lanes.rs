//! Lanes that come and go, and which of them carries what.

use hawser_wire::{
    ClassSet, CloseReason, FrameFlags, FrameKind, LaneId, LinkMode, MonoTime, TrafficClass,
};

use super::{EVERY_CLASS, LANES_MAX, VirtualLink};
use crate::batch::Batch;
use crate::connection::{ConnectionId, Crossing, LaneKey, LaneOffer, cross};
use crate::event::LinkEvent;
use crate::lane::Lane;
use crate::placement::lane_for;
use crate::violation::LinkViolation;

impl VirtualLink {
    /// A connection whose handshake is done serves its lane from now on. Of two for one lane both
    /// ends keep the same one; the older one, if it loses, is named by [`LinkEvent::CloseLane`].
    ///
    /// # Errors
    /// [`LinkViolation`] if the offered one is to be closed, with
    /// [`LinkViolation::close_reason`]; then nothing changed.
    pub fn handle_lane_up(
        &mut self,
        now: MonoTime,
        key: LaneKey,
        offer: LaneOffer,
    ) -> Result<(), LinkViolation> {
        let lane = offer.lane;
        if self.peer_incarnation.is_some_and(|known| offer.peer_incarnation < known) {
            return Err(LinkViolation::Superseded { lane });
        }
        let is_other = offer.peer_life != self.peer_life;
        if self.peer_incarnation.is_some_and(|known| offer.peer_incarnation > known || is_other) {
            self.end_for_other_life(now, offer.peer_incarnation);
        }
        self.peer_incarnation = Some(offer.peer_incarnation);
        self.peer_life = offer.peer_life;
        let is_new = self.check_known(&offer)?;
        if self.departed.iter().any(|departed| departed.id == offer.id()) {
            // Whatever is said of the connection that is gone would be said of this one.
            let epoch = offer.epoch.0;
            return Err(LinkViolation::DuplicateLane { lane, epoch });
        }
        let present = self.lanes.iter().find(|present| present.id.lane == lane);
        if let Some((present_key, present)) = present.map(|present| (present.key, present.id)) {
            match cross(present, offer.id(), self.local_is_smaller) {
                Crossing::Keep => return Err(LinkViolation::Superseded { lane }),
                Crossing::Duplicate => {
                    let epoch = present.epoch.0;
                    return Err(LinkViolation::DuplicateLane { lane, epoch });
                }
                Crossing::Replace => {
                    self.close_event(present_key, CloseReason::Superseded, "");
                    self.depart(now, present_key, "superseded by another connection");
                }
            }
        }
        self.shed_departed(now);
        // After that, as it may be the end of the session, which knows no lane.
        if is_new || self.known_lanes.is_empty() {
            self.known_lanes.push((lane, offer.class));
        }
        if self.lanes.is_empty() {
            self.rate.reset();
            self.next_tick = now;
            self.peer_sequences.handle_alone(self.find_lowest_sequence());
        }
        self.alone_since = None;
        self.striping.is_supported = offer.peer_stripes;
        self.peer_takes_priority = offer.peer_takes_priority;
        self.forgotten.handle_lane_up(offer.id());
        let mut new = Lane::new(now, key, &offer);
        for offer in self.mode.greet() {
            new.push_own(FrameKind::LinkMode, &offer.encode());
        }
        self.lanes.push(new);
        self.greet_with_counts(key);
        self.events.push_back(LinkEvent::LaneUp { key, id: offer.id(), class: offer.class });
        self.place();
        self.update_bound();
        Ok(())
    }

    /// A lane keeps the class that it had first. Whether this one is new in the session.
    fn check_known(&self, offer: &LaneOffer) -> Result<bool, LinkViolation> {
        let (lane, is) = (offer.lane, offer.class);
        match self.known_lanes.iter().find(|(known, _)| *known == lane) {
            Some(&(_, was)) if was == is => Ok(false),
            Some(&(_, was)) => Err(LinkViolation::LaneClass { lane, was, is }),
            None if self.known_lanes.len() >= LANES_MAX => {
                Err(LinkViolation::Flapping { connections: self.known_lanes.len() })
            }
            None => Ok(true),
        }
    }

    /// The connection is gone: FIN, RST, a broken session, or the driver has closed it. A key that
    /// is not known, or not any more, changes nothing.
    pub fn handle_lane_down(&mut self, now: MonoTime, key: LaneKey, why: &str) {
        let Some(at) = self.position(key) else { return };
        let Some(lane) = self.lanes.get(at) else { return };
        // One that either side wanted to close is not missed, unless it is needed again or was the last.
        let is_missed = lane.returns || lane.stays();
        let id = lane.id.lane;
        self.depart(now, key, why);
        self.probe(now);
        if is_missed || self.lanes.is_empty() {
            self.want_lane(id);
        }
    }

    /// What ended one lane may have ended others that nothing is sent over at present: each is asked for
    /// an echo, so that one that is gone says so now and not with the next heartbeat.
    fn probe(&mut self, now: MonoTime) {
        for lane in &mut self.lanes {
            lane.push_heartbeat(now, FrameFlags::default());
        }
    }

    fn want_lane(&mut self, lane: LaneId) {
        let known = self.known_lanes.iter().find(|(known, _)| *known == lane);
        // One lane is all that a collapsed link needs.
        let needless =
            self.mode.mode() == LinkMode::Collapsed && self.lanes.iter().any(Lane::stays);
        if let Some(&(lane, class)) = known
            && !needless
        {
            self.events.push_back(LinkEvent::WantLane { lane, class });
        }
    }

    /// Stops to use a lane, and says so to the peer, which then does the same; once nothing is in flight
    /// over it either way, [`LinkEvent::CloseLane`] names it.
    pub fn close_lane(&mut self, now: MonoTime, key: LaneKey, reason: CloseReason) {
        let Some(lane) = self.position(key).and_then(|at| self.lanes.get_mut(at)) else { return };
        if lane.draining.is_none() {
            (lane.draining, lane.draining_since) = (Some(reason), now);
        }
        self.place();
        self.close_drained(now);
    }

    /// Lets go of lanes that are to be closed and hold nothing.
    pub(super) fn close_drained(&mut self, now: MonoTime) {
        let patience = self.config.session_timeout;
        while let Some((key, reason)) = self.lanes.iter().find_map(|lane| {
            let reason = lane.draining?;
            lane.is_drained(now, patience).then_some((lane.key, reason))
        }) {
            let lane = self.position(key).and_then(|at| self.lanes.get(at));
            let lane = lane.map(|lane| (lane.id.lane, lane.returns));
            self.close_event(key, reason, "");
            self.depart(now, key, "closed");
            // Or those that were to carry on are lost meanwhile.
            if let Some((lane, returns)) = lane
                && (returns || self.lanes.is_empty())
            {
                self.want_lane(lane);
            }
        }
    }

    /// A lane that the peer wanted to close and has not closed for long is used again. As long as this
    /// side has something for it, the peer waits.
    pub(super) fn forget_leaving(&mut self, now: MonoTime) {
        let patience = self.config.session_timeout;
        let is_over = |since: MonoTime| since.saturating_add(patience) <= now;
        let mut changed = false;
        for lane in &mut self.lanes {
            if !lane.has_said_last() && lane.leaves_since.is_some() {
                lane.leaves_since = Some(now);
            }
            changed |= lane.leaves_since.take_if(|since| is_over(*since)).is_some();
        }
        if changed {
            self.place();
        }
    }

    /// Bytes came over the lane.
    pub fn handle_bytes(&mut self, key: LaneKey) {
        let Some(lane) = self.position(key).and_then(|at| self.lanes.get_mut(at)) else { return };
        lane.watch.handle_bytes();
        if lane.quiet
            && let Some(at) = self.position(key)
        {
            self.end_quiet(at);
        }
    }

    /// A lane that is heard, and heard at its other end, carries its classes again.
    pub(super) fn end_quiet(&mut self, at: usize) {
        let tick = self.config.tick;
        let Some(lane) = self.lanes.get_mut(at).filter(|lane| lane.quiet) else { return };
        if lane.watch.missed_ticks(tick) == 0 {
            lane.quiet = false;
            let lane = lane.id.lane;
            self.events.push_back(LinkEvent::Heard { lane });
            self.place();
        }
    }

    /// Both sides have agreed on another mode.
    pub(super) fn handle_mode_changed(&mut self) {
        let mode = self.mode.mode();
        self.events.push_back(LinkEvent::ModeChanged { mode });
        if mode == LinkMode::Separate {
            // What one lane for all made needless is needed again. Of what was told to the peer, or by
            // it, nothing is taken back: an answer to that which is under way would pass for a wish to
            // close the lane. It goes and is dialled anew.
            for lane in &mut self.lanes {
                let is_superseded = lane.draining == Some(CloseReason::Superseded);
                if is_superseded && !lane.is_leaving() {
                    lane.draining = None;
                }
                lane.returns = is_superseded && lane.is_leaving()
                    || lane.is_open() && lane.leaves_since.is_some();
            }
        }
        self.place();
        if mode == LinkMode::Separate {
            let wanted: Vec<LaneId> = self
                .known_lanes
                .iter()
                .map(|&(lane, _)| lane)
                .filter(|&lane| !self.lanes.iter().any(|open| open.id.lane == lane))
                .collect();
            for lane in wanted {
                self.want_lane(lane);
            }
        }
    }

    /// In collapsed mode one side closes what is not needed; the counts make it lossless. Not before a
    /// tick: a lane that has come up tells the peer of the mode first.
    pub(super) fn close_idle(&mut self, now: MonoTime) {
        if self.mode.mode() != LinkMode::Collapsed || !self.local_is_smaller {
            return;
        }
        let is_idle = |lane: &&Lane| lane.is_open() && !lane.quiet && lane.carries.is_empty();
        let idle: Vec<LaneKey> = self.lanes.iter().filter(is_idle).map(|lane| lane.key).collect();
        for key in idle {
            self.close_lane(now, key, CloseReason::Superseded);
        }
    }

    /// Decides anew which lane carries which class: each class the lane made for it, else the one made
    /// for the nearest; bulk all lanes made for it. A lane that is silent, or that either side wants to
    /// close, carries nothing while another can. What waited for any lane goes to one.
    pub(super) fn place(&mut self) {
        let before = self.carrier(TrafficClass::Control).map(|lane| lane.key);
        self.place_classes();
        if self.carries {
            self.requeue_orphans();
        }
        if self.carrier(TrafficClass::Control).map(|lane| lane.key) != before {
            // What was said over the lane that carried acknowledgements may never be heard.
            self.ack_whole = true;
            self.ack_due = Some(MonoTime::ZERO);
            self.ack_flagged = false;
        }
        self.note_moved();
        self.settle_moves();
    }

    fn place_classes(&mut self) {
        let best = self.lanes.iter().map(rank).max();
        let usable = |lane: &Lane| Some(rank(lane)) == best;
        let open: Vec<(LaneId, TrafficClass)> = self
            .lanes
            .iter()
            .filter(|lane| usable(lane))
            .map(|lane| (lane.id.lane, lane.class))
            .collect();
        let single = match self.mode.mode() {
            LinkMode::Separate => None,
            LinkMode::Collapsed => open.iter().map(|&(lane, _)| lane).min(),
        };
        let chosen =
            TrafficClass::ALL.map(|class| single.or_else(|| lane_for(class, open.iter().copied())));
        let several =
            single.is_none() && open.iter().any(|&(_, class)| class == TrafficClass::Bulk);
        for lane in &mut self.lanes {
            let is_usable = usable(lane);
            let id = lane.id.lane;
            let mut carries = ClassSet::empty();
            for (class, chosen) in TrafficClass::ALL.into_iter().zip(chosen) {
                let shares = several && class == TrafficClass::Bulk && lane.class == class;
                if is_usable && (chosen == Some(id) || shares) {
                    carries = carries.with(class);
                }
            }
            if single == Some(id) && is_usable {
                carries = EVERY_CLASS;
            }
            lane.carries = carries;
            lane.wanted = true;
        }
        self.carries = self.lanes.iter().any(|lane| !lane.carries.is_empty());
        self.report_promotions(chosen);
        self.move_stranded();
    }

    fn report_promotions(&mut self, chosen: [Option<LaneId>; 3]) {
        let classes = TrafficClass::ALL.into_iter().zip(self.placed.iter_mut().zip(chosen));
        for (class, (placed, chosen)) in classes {
            let Some(to) = chosen else { continue };
            let made_for = self.lanes.iter().find(|lane| lane.id.lane == to).map(|lane| lane.class);
            if let Some(from) = placed.replace(to)
                && from != to
                && made_for != Some(class)
            {
                self.events.push_back(LinkEvent::Promoted { class, from, to });
            }
        }
    }

    /// What waits for a lane that carries it no more goes to one that does; but bulk of a lane that is
    /// heard goes out there, so that its streams keep their order. A batch that a silent lane was sending
    /// in pieces goes anew, whole: it is in flight, and leaves nothing there to be hedged later.
    fn move_stranded(&mut self) {
        let tick = self.config.tick;
        let mut stranded: Vec<(LaneId, Option<u32>, Vec<Batch>)> = Vec::new();
        for lane in &mut self.lanes {
            for class in TrafficClass::ALL {
                let stays = class == TrafficClass::Bulk && !lane.quiet;
                if !lane.carries.contains(class) && !stays {
                    let silent_ticks = lane.quiet.then(|| lane.watch.missed_ticks(tick));
                    // Taken first, it is the first.
                    let begun = silent_ticks.filter(|_| lane.split(class).is_some());
                    stranded.push((lane.id.lane, begun, lane.take_queued(class)));
                }
            }
        }
        for (from, begun, batches) in stranded {
            // Of what was going in pieces some frames may have left the link.
            let batches = batches.into_iter().map(|batch| batch.without_gone(&mut self.pool));
            let batches: Vec<Batch> = batches.collect();
            if let Some(silent_ticks) = begun {
                self.note_hedged(from, silent_ticks, batches.get(..1).unwrap_or_default());
            }
            self.requeue(from, batches);
        }
    }

    /// Removes a lane. What waits for it goes to others at once, what is in flight once the peer has
    /// said how far it came.
    pub(super) fn depart(&mut self, now: MonoTime, key: LaneKey, why: &str) {
        let Some(at) = self.position(key) else { return };
        let mut lane = self.lanes.remove(at);
        let queued = lane.take_all_queued();
        let id: ConnectionId = lane.id;
        let unacked_frames = lane.unacked.sent().saturating_sub(lane.unacked.acked());
        let why = why.to_owned();
        self.events.push_back(LinkEvent::LaneDown { key, id, why, unacked_frames });
        self.add_departed(now, id, lane.receipt.count(), lane.unacked);
        self.place();
        self.requeue(id.lane, queued);
        self.note_moved();
        self.ack_interval.forget_asked();
        // An acknowledgement that was under way over it may be lost.
        self.ack_whole = true;
        self.ack_flagged = false;
        self.want_ack_now(now);
        if self.lanes.is_empty() {
            self.alone_since = Some(now);
            self.release_held();
        }
    }
}

/// Who carries something: the lanes for which this is the highest.
fn rank(lane: &Lane) -> u8 {
    match (lane.quiet, lane.stays(), lane.has_said_last()) {
        (false, true, _) => 5,
        (false, false, false) if lane.is_open() => 4,
        (false, false, false) => 3,
        // The peer was told that nothing more comes: it may have closed it by now.
        (false, false, true) => 2,
        (true, ..) => u8::from(lane.is_open()),
    }
}
