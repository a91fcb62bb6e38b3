//! Frames that come over a lane.

use hawser_wire::{
    AckInterval, FrameFlags, FrameHeader, FrameKind, FrameRef, Heartbeat, LaneAck, LaneAckEntry,
    LaneClasses, LaneFragment, LinkMode, LinkModeOffer, MonoTime, TrafficClass, TurnDelay,
};

use super::{MODE_CHANGE_EVERY, VirtualLink};
use crate::connection::{ConnectionId, LaneKey};
use crate::departed::check_count;
use crate::duplicates::Arrival;
use crate::lane::Lane;
use crate::violation::LinkViolation;
use crate::width::wide;

/// What it costs to place all classes anew, in heartbeats.
const PLACEMENT_BEATS: u32 = 20;

/// An acknowledgement may be this far ahead of the highest that has come, but for the first one: weeks of
/// them, at a thousand a second, all lost.
pub(super) const ACK_JUMP_MAX: u64 = 1 << 32;
/// The first may be any that leaves room for others.
const ACK_FIRST_MAX: u64 = u64::MAX >> 1;

/// What becomes of a frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Handled {
    /// The driver handles it.
    Deliver,
    /// The driver handles it without its stamp, see [`FrameRef::unstamped`], then what
    /// [`VirtualLink::poll_reassembled`] gives.
    Striped,
    /// It is to be dropped: it came over another lane already, or over one that is not part of the
    /// link any more.
    Duplicate,
    /// It was for the link itself.
    Consumed,
    /// It was the last piece of a batch, for [`VirtualLink::take_assembled`].
    Assembled,
}

impl VirtualLink {
    /// A frame came over a lane; frames of one lane in their order.
    ///
    /// # Errors
    /// [`LinkViolation`] if the peer may not send it: the driver closes the lane with its reason and
    /// calls [`Self::handle_lane_down`]. The frame is not counted as received.
    pub fn handle_frame(
        &mut self,
        now: MonoTime,
        key: LaneKey,
        frame: &FrameRef<'_>,
    ) -> Result<Handled, LinkViolation> {
        let Some(at) = self.position(key) else { return Ok(Handled::Duplicate) };
        let (kind, sequence) = (frame.header.kind, frame.header.link_sequence);
        match (kind, sequence.0) {
            (kind, 0) if kind.is_counted() => Err(LinkViolation::Uncounted { kind }),
            (_, 0) => self.handle_uncounted(now, at, frame),
            // Whoever sends a kind that is not known here says by the sequence whether it counts.
            (FrameKind::Unknown(_), _) => self.handle_counted(now, at, frame),
            (kind, _) if kind.is_counted() => self.handle_counted(now, at, frame),
            (kind, _) => Err(LinkViolation::Counted { kind, sequence }),
        }
    }

    fn handle_counted(
        &mut self,
        now: MonoTime,
        at: usize,
        frame: &FrameRef<'_>,
    ) -> Result<Handled, LinkViolation> {
        let (header, bytes) = (&frame.header, frame.body.len());
        let config = &self.config;
        let Some(lane) = self.lanes.get_mut(at) else { return Ok(Handled::Duplicate) };
        if !lane.peer_classes.contains(header.class) {
            let (lane, class) = (lane.id.lane, header.class);
            return Err(LinkViolation::FrameClass { lane, class });
        }
        if header.class == TrafficClass::Control && bytes > config.control_frame_bytes_max {
            let (kind, max_bytes) = (header.kind, config.control_frame_bytes_max);
            return Err(LinkViolation::ControlTooLarge { kind, bytes, max_bytes });
        }
        let len = wide(bytes.saturating_add(FrameHeader::LEN));
        lane.receipt.check(lane.id.lane, len)?;
        let handled = self.handle_once(now, at, frame)?;
        self.count_received(now, at, len);
        Ok(handled)
    }

    /// A frame with a link sequence is taken if it was not here before. One that is refused was not: it
    /// may come again over another lane.
    fn handle_once(
        &mut self,
        now: MonoTime,
        at: usize,
        frame: &FrameRef<'_>,
    ) -> Result<Handled, LinkViolation> {
        let sequence = frame.header.link_sequence;
        match self.duplicates.check(sequence) {
            Arrival::Jump { highest } => Err(LinkViolation::SequenceJump { sequence, highest }),
            Arrival::Duplicate => Ok(Handled::Duplicate),
            Arrival::Fresh => {
                let handled = self.handle_fresh(now, at, frame)?;
                self.duplicates.insert(sequence);
                Ok(handled)
            }
        }
    }

    /// Something counted came, which will be acknowledged.
    fn count_received(&mut self, now: MonoTime, at: usize, len: u64) {
        let config = &self.config;
        let Some(lane) = self.lanes.get_mut(at) else { return };
        lane.receipt.receive(len);
        lane.draining_since = now;
        let lanes = self.lanes.iter().map(|lane| lane.receipt.unacked_bytes());
        let unacked_bytes = lanes.fold(0, u64::saturating_add);
        let Some(lane) = self.lanes.get(at) else { return };
        let is_due = self.ack_interval.is_due(unacked_bytes)
            || lane.receipt.unacked_bytes() >= config.ack_bytes.min(lane.receipt.early_bytes())
            || lane.receipt.unacked_frames() >= config.ack_frames;
        if is_due {
            if !self.ack_flagged {
                self.want_ack_now(now);
            }
        } else if self.ack_due.is_none() {
            self.ack_due = Some(now.saturating_add(config.ack_delay));
        }
    }

    /// A piece of a batch came.
    fn handle_fragment(
        &mut self,
        now: MonoTime,
        at: usize,
        frame: &FrameRef<'_>,
    ) -> Result<Handled, LinkViolation> {
        let fragment = LaneFragment::decode(frame.body.bytes())?;
        let Some(lane) = self.lanes.get_mut(at) else { return Ok(Handled::Duplicate) };
        let (id, class) = (lane.id.lane, frame.header.class);
        if class == TrafficClass::Control || !lane.peer_classes.contains(class) {
            return Err(LinkViolation::FrameClass { lane: id, class });
        }
        let len = wide(frame.body.len().saturating_add(FrameHeader::LEN));
        lane.receipt.check(id, len)?;
        if lane.incoming.handle_piece(id, class, &fragment, len)? {
            return Ok(Handled::Assembled);
        }
        self.count_received(now, at, len);
        Ok(Handled::Consumed)
    }

    /// The batch whose last piece came over a lane: its frames are for [`Self::handle_assembled`], and
    /// once all were taken its memory for [`Self::give_assembled`]. If one was not, the lane has to be
    /// closed: the peer sends the batch again over another one.
    pub fn take_assembled(&mut self, key: LaneKey) -> Vec<u8> {
        let lane = self.position(key).and_then(|at| self.lanes.get_mut(at));
        lane.map_or_else(Vec::new, |lane| lane.incoming.take())
    }

    /// All frames of the batch whose last piece came over a lane were handled: it will be acknowledged,
    /// and its memory is there for the next.
    pub fn give_assembled(&mut self, now: MonoTime, key: LaneKey, buffer: Vec<u8>) {
        let Some(at) = self.position(key) else { return };
        let Some(lane) = self.lanes.get_mut(at) else { return };
        if let Some(len) = lane.incoming.give(buffer) {
            self.count_received(now, at, len);
        }
    }

    /// A frame of a batch that came in pieces.
    ///
    /// # Errors
    /// As [`Self::handle_frame`].
    pub fn handle_assembled(
        &mut self,
        now: MonoTime,
        key: LaneKey,
        frame: &FrameRef<'_>,
    ) -> Result<Handled, LinkViolation> {
        let Some(at) = self.position(key) else { return Ok(Handled::Duplicate) };
        let Some(lane) = self.lanes.get(at) else { return Ok(Handled::Duplicate) };
        let (lane, expected) = (lane.id.lane, lane.incoming.class());
        let FrameHeader { kind, class, link_sequence: sequence, .. } = frame.header;
        if Some(class) != expected {
            return Err(LinkViolation::FrameClass { lane, class });
        }
        if sequence.0 == 0 || !(kind.is_counted() || matches!(kind, FrameKind::Unknown(_))) {
            return Err(LinkViolation::StrayFragment { lane });
        }
        self.handle_once(now, at, frame)
    }

    /// A frame of the link itself. All of them that a peer may repeat at will are limited as heartbeats
    /// are: they need no credit, and cost more to handle than to send.
    fn handle_uncounted(
        &mut self,
        now: MonoTime,
        at: usize,
        frame: &FrameRef<'_>,
    ) -> Result<Handled, LinkViolation> {
        let body = frame.body.bytes();
        let kind = frame.header.kind;
        if matches!(kind, FrameKind::Ping | FrameKind::TurnDelay | FrameKind::AckInterval)
            || matches!(kind, FrameKind::LinkMode | FrameKind::Unknown(_))
        {
            self.spend(now, at, 1)?;
        }
        let Some(lane) = self.lanes.get_mut(at) else { return Ok(Handled::Duplicate) };
        match kind {
            FrameKind::Ping => {
                let beat = Heartbeat::decode(body)?;
                lane.push_own(FrameKind::Pong, &beat.encode());
                if frame.header.flags.contains(FrameFlags::MEASURING) {
                    self.rate.handle_peer_probe(now, self.config.tick);
                    self.update_bound();
                }
            }
            FrameKind::Pong => match lane.watch.handle_echo(now, Heartbeat::decode(body)?) {
                Some(sample) => {
                    self.end_quiet(at);
                    self.rate.handle_round_trip(now, sample);
                    self.update_bound();
                }
                None => self.spend(now, at, 1)?,
            },
            FrameKind::LaneClasses => {
                lane.peer_classes = LaneClasses::decode(body)?.classes;
                let leaves_since = lane.peer_classes.is_empty().then_some(now);
                let was = std::mem::replace(&mut lane.leaves_since, leaves_since);
                // With one lane for all, the others go as they are needless.
                if was.is_none()
                    && leaves_since.is_some()
                    && lane.is_open()
                    && lane.class == TrafficClass::Bulk
                    && self.mode.mode() == LinkMode::Separate
                {
                    self.lanes_let_go = self.lanes_let_go.saturating_add(1);
                }
                if was.is_some() != leaves_since.is_some() {
                    self.spend(now, at, PLACEMENT_BEATS)?;
                    self.place();
                    self.close_drained(now);
                }
            }
            FrameKind::TurnDelay => {
                self.turn_delay.handle_peer(TurnDelay::decode(body)?.delay());
                self.update_bound();
            }
            FrameKind::AckInterval => {
                self.ack_interval.handle_peer(AckInterval::decode(body)?.bytes);
            }
            FrameKind::LinkMode => self.handle_mode(now, at, LinkModeOffer::decode(body)?)?,
            FrameKind::LaneAck => self.handle_ack(now, at, body)?,
            FrameKind::LaneFragment => return self.handle_fragment(now, at, frame),
            _ => return Ok(Handled::Deliver),
        }
        Ok(Handled::Consumed)
    }

    /// The peer wants what costs as much as so many heartbeats.
    pub(super) fn spend(
        &mut self,
        now: MonoTime,
        at: usize,
        beats: u32,
    ) -> Result<(), LinkViolation> {
        let per_second = self.config.heartbeats_per_second;
        let Some(lane) = self.lanes.get_mut(at) else { return Ok(()) };
        if lane.watch.spend(now, beats, per_second) {
            Ok(())
        } else {
            Err(LinkViolation::HeartbeatStorm { per_second })
        }
    }

    fn handle_mode(
        &mut self,
        now: MonoTime,
        at: usize,
        offer: LinkModeOffer,
    ) -> Result<(), LinkViolation> {
        // Each change places all classes anew, may want lanes, and is told to whoever watches.
        if self.mode.is_news(offer) && !self.mode_changes.spend(now, MODE_CHANGE_EVERY) {
            return Err(LinkViolation::ModeStorm);
        }
        let outcome = self.mode.handle_offer(offer, self.local_is_smaller);
        if let Some(answer) = outcome.answer
            && let Some(lane) = self.lanes.get_mut(at)
        {
            lane.push_own(FrameKind::LinkMode, &answer.encode());
        }
        if outcome.changed {
            self.handle_mode_changed();
        }
        Ok(())
    }

    fn handle_ack(&mut self, now: MonoTime, at: usize, body: &[u8]) -> Result<(), LinkViolation> {
        let mut ack = std::mem::take(&mut self.ack_in);
        let acked_before = self.acked_frames();
        let handled = ack
            .decode_into(body)
            .map_err(LinkViolation::from)
            .and_then(|()| self.handle_ack_message(now, at, &ack));
        self.ack_in = ack;
        self.note_acked(self.acked_frames().abs_diff(acked_before));
        if std::mem::take(&mut self.channels_forgotten) {
            // Once for all of their connections that the peer speaks of.
            self.renew_channels(self.striping.epochs());
        }
        self.update_bound();
        self.close_drained(now);
        handled
    }

    fn handle_ack_message(
        &mut self,
        now: MonoTime,
        at: usize,
        ack: &LaneAck,
    ) -> Result<(), LinkViolation> {
        let Some(lane) = self.lanes.get_mut(at) else { return Ok(()) };
        if ack.sequence <= lane.ack_sequence {
            let (lane, from, to) = (lane.id.lane, lane.ack_sequence, ack.sequence);
            return Err(LinkViolation::AckReturned { lane, from, to });
        }
        let most = if self.ack_seen == 0 { ACK_FIRST_MAX } else { ACK_JUMP_MAX };
        if ack.sequence.saturating_sub(self.ack_seen) > most {
            let (lane, from, to) = (lane.id.lane, self.ack_seen, ack.sequence);
            return Err(LinkViolation::AckJump { lane, from, to });
        }
        lane.ack_sequence = ack.sequence;
        // If a newer one came over another lane, what this one says may be known or not: that one need
        // not have spoken of the same connections.
        let is_late = ack.sequence <= self.ack_seen;
        self.ack_seen = self.ack_seen.max(ack.sequence);
        let mut is_news = false;
        let acked_before = self.acked_frames();
        for entry in &ack.entries {
            if !(is_late && self.is_outdated(entry)) {
                is_news |= self.is_news(entry);
                self.handle_ack_entry(now, entry)?;
            }
        }
        if !is_news {
            self.spend(now, at, 1)?;
        }
        for lane in &mut self.lanes {
            lane.wanted |= lane.has_queued();
        }
        if self.acked_frames() != acked_before {
            // It walks all that waits: not for what a peer can say at will.
            self.settle_moves();
        }
        self.want_striped();
        self.want_unbound();
        Ok(())
    }

    /// Frames that were acknowledged over the present connections.
    fn acked_frames(&self) -> u64 {
        self.lanes.iter().map(|lane| lane.unacked.acked()).fold(0, u64::saturating_add)
    }

    /// The connection that an entry of the peer's is about: what it has dialled, this side has not.
    const fn connection_of(entry: &LaneAckEntry) -> ConnectionId {
        ConnectionId { lane: entry.lane, epoch: entry.epoch, dialled: !entry.dialled }
    }

    /// The entry says something about a connection that is not known yet. A larger grant alone does not
    /// count: a peer can grow it by one for ever, and who grants has received something, or ticks.
    fn is_news(&self, entry: &LaneAckEntry) -> bool {
        let id = Self::connection_of(entry);
        match self.lanes.iter().find(|lane| lane.id == id) {
            Some(lane) => entry.is_final || entry.count > lane.unacked.acked(),
            None => {
                let departed = self.departed.iter().find(|departed| departed.id == id);
                departed.is_some_and(|departed| departed.is_news(entry))
            }
        }
    }

    /// The entry of a late acknowledgement says less than is known.
    fn is_outdated(&self, entry: &LaneAckEntry) -> bool {
        let id = Self::connection_of(entry);
        let lane = self.lanes.iter().find(|lane| lane.id == id);
        let outdated = |lane: &Lane| {
            entry.count < lane.unacked.acked()
                || !lane.credit.would_grow(entry.credit_frames, entry.credit_bytes)
        };
        !entry.is_final && !entry.settled && lane.is_none_or(outdated)
    }

    fn handle_ack_entry(
        &mut self,
        now: MonoTime,
        entry: &LaneAckEntry,
    ) -> Result<(), LinkViolation> {
        let id = Self::connection_of(entry);
        let Some(lane) = self.lanes.iter_mut().find(|lane| lane.id == id) else {
            return self.handle_departed_entry(now, id, entry);
        };
        if entry.settled && !entry.is_final {
            // About an earlier loss that never was.
            return Ok(());
        }
        check_count(&lane.unacked, entry)?;
        if entry.is_final {
            let key = lane.key;
            let reason = hawser_wire::CloseReason::Superseded;
            self.close_event(key, reason, "the peer counts the connection as gone");
            self.handle_lane_down(now, key, "gone at the peer");
            return self.handle_departed_entry(now, id, entry);
        }
        lane.credit.grant(entry.lane, entry.credit_frames, entry.credit_bytes)?;
        let released = lane.unacked.acknowledge(entry.count, &mut self.pool);
        self.peer_sequences.handle_acknowledged(lane.unacked.take_acked_sequence());
        for (epoch, lowest) in lane.unacked.drain_striped() {
            self.striping.handle_acknowledged(epoch, lowest);
        }
        if let Some((sent_at, snapshot)) = released.newest {
            let is_app_limited = snapshot.is_app_limited();
            lane.handle_delivered(now, released.bytes_since, sent_at, is_app_limited);
            self.rate.handle_ack(now, released.bytes, sent_at, snapshot);
        }
        Ok(())
    }
}
