//! What goes out over a lane next.

use hawser_wire::{
    AckInterval, FrameHeader, FrameKind, LANE_ACK_ENTRIES_MAX, LaneClasses, MonoTime, TrafficClass,
};

use super::VirtualLink;
use super::turns::Turn;
use crate::batch::Batch;
use crate::connection::LaneKey;
use crate::departed::Departed;
use crate::fragment::SPLIT_BYTES_MAX;
use crate::origin::Origin;
use crate::width::wide;

/// Most that one write is worth, in bytes.
const WRITE_BYTES_MAX: usize = 256 << 10;
/// What stands around a piece of a batch.
pub(super) const PIECE_OVERHEAD_BYTES: usize = FrameHeader::LEN + 1;

/// The next message of a lane.
#[derive(Clone, Copy, Debug)]
pub struct Transmit<'a> {
    /// Encoded frames: one behind the other, the payload of one binary WebSocket message.
    pub frames: [&'a [u8]; 2],
    /// How many they are.
    pub count: u64,
}

/// What comes next on a lane.
pub(super) enum Next {
    Batch(Batch),
    /// Of the batch of that class which the lane sends in pieces.
    Piece(TrafficClass),
}

/// Where the next message stands.
enum Staged {
    /// Among the lane's own frames that were handed out.
    Own {
        count: u64,
    },
    Batch {
        at: usize,
        count: u64,
    },
}

impl VirtualLink {
    /// Bytes worth putting into one write: what control may have to wait behind.
    #[must_use]
    pub fn write_budget(&self) -> usize {
        self.in_flight_share(2, WRITE_BYTES_MAX)
    }

    /// The next message for a lane, if window, credit and what may be in flight allow one. The link
    /// keeps what has to survive the lane; the driver encrypts from the slice and forgets it.
    pub fn poll_transmit(&mut self, now: MonoTime, key: LaneKey) -> Option<Transmit<'_>> {
        let at = self.position(key)?;
        self.stage_own(now, at);
        let staged = if self.lanes.get(at)?.has_own() {
            Staged::Own { count: self.lanes.get_mut(at)?.take_own() }
        } else {
            let mut next = None;
            self.next(at, &mut next);
            match next? {
                Next::Batch(batch) => self.stage_batch(now, at, batch)?,
                Next::Piece(class) => self.stage_piece(now, at, class)?,
            }
        };
        let lane = self.lanes.get(at)?;
        Some(match staged {
            Staged::Own { count } => Transmit { frames: [lane.own_sent(), &[]], count },
            Staged::Batch { at, count } => Transmit { frames: lane.unacked.tail(at), count },
        })
    }

    /// Puts what the lane has to say before data among its own frames.
    fn stage_own(&mut self, now: MonoTime, at: usize) {
        let ack_delay = self.config.ack_delay;
        let is_due =
            |due: MonoTime| due <= now.saturating_add(ack_delay.checked_div(2).unwrap_or_default());
        let Some(lane) = self.lanes.get_mut(at) else { return };
        if let Some(classes) = lane.announce() {
            lane.push_own(FrameKind::LaneClasses, &LaneClasses { classes }.encode());
            lane.wanted = false;
        }
        if lane.carries.contains(TrafficClass::Control) && self.ack_due.is_some_and(is_due) {
            let whole = std::mem::take(&mut self.ack_whole);
            self.build_ack(whole);
            self.add_answers();
            (self.ack_due, self.ack_flagged) = (None, false);
            self.push_ack(at);
            if !self.answers.is_empty() {
                self.want_ack_now(now);
            }
        }
    }

    /// A new lane is told everything first. What the peer is owed it is told over the one that carries
    /// acknowledgements, too: it may never serve this one.
    pub(super) fn greet_with_counts(&mut self, key: LaneKey) {
        self.build_ack(true);
        if let Some(at) = self.position(key) {
            self.push_ack(at);
        }
        self.ack_whole |= self.ack_due.is_some();
    }

    /// Gathers counts, of all connections or of those that there is news about.
    fn build_ack(&mut self, whole: bool) {
        let entries = &mut self.ack_out.entries;
        entries.clear();
        for lane in &mut self.lanes {
            if whole || lane.receipt.unacked_frames() > 0 {
                entries.push(lane.acknowledge());
            }
        }
        for departed in &mut self.departed {
            if std::mem::take(&mut departed.to_send) || whole {
                entries.push(Departed::entry(departed));
            }
        }
    }

    fn add_answers(&mut self) {
        let entries = &mut self.ack_out.entries;
        let room = LANE_ACK_ENTRIES_MAX.saturating_sub(entries.len());
        entries.extend(self.answers.drain(..room.min(self.answers.len())));
    }

    fn push_ack(&mut self, at: usize) {
        if self.ack_out.entries.is_empty() {
            return;
        }
        self.ack_sequence = self.ack_sequence.saturating_add(1);
        self.ack_out.sequence = self.ack_sequence;
        self.scratch.clear();
        self.ack_out.encode(&mut self.scratch);
        if let Some(lane) = self.lanes.get_mut(at) {
            lane.push_own(FrameKind::LaneAck, &self.scratch);
        }
    }

    /// Puts what has its turn on a lane into `next`, taken from where it waited.
    ///
    /// There, as a batch is a good deal larger than what the many turns come to that take none.
    fn next(&mut self, at: usize, next: &mut Option<Next>) {
        for class in TrafficClass::ALL {
            if self.next_of(at, class, next) != Some(Turn::Leaves) {
                return;
            }
        }
    }

    /// What a class has for a lane: the rest of what it sends in pieces, what it sends again, what waits.
    fn next_of(&mut self, at: usize, class: TrafficClass, next: &mut Option<Next>) -> Option<Turn> {
        let lane = self.lanes.get(at)?;
        if !lane.is_ahead(class) {
            return self.next_new(at, class, next);
        }
        if let Some(split) = lane.split(class) {
            let piece = Some(self.piece_len(split.left_bytes()));
            let turn = self.turn(at, split.batch(), piece);
            if turn.is_none() {
                *next = Some(Next::Piece(class));
            }
            return Some(turn.unwrap_or(Turn::Takes));
        }
        if let Some(front) = lane.resend_front(class) {
            let piece = self.splits(front).then(|| self.piece_len(front.len()));
            if let Some(turn) = self.turn(at, front, piece) {
                return Some(turn);
            }
            let batch = self.lanes.get_mut(at)?.pop_resend(class)?;
            return self.begin(at, batch, next);
        }
        self.next_new(at, class, next)
    }

    /// Of what waits of a class and was not sent yet.
    fn next_new(
        &mut self,
        at: usize,
        class: TrafficClass,
        next: &mut Option<Next>,
    ) -> Option<Turn> {
        let lane = self.lanes.get(at)?;
        let carries = lane.carries.contains(class);
        match class {
            TrafficClass::Control if carries => self.next_control(at, next),
            TrafficClass::Priority if carries => self.next_priority(at, next),
            TrafficClass::Bulk if carries || lane.bulk.bytes() > 0 => {
                Some(self.next_bulk(at, carries, next).unwrap_or(Turn::Leaves))
            }
            _ => Some(Turn::Leaves),
        }
    }

    fn next_control(&mut self, at: usize, next: &mut Option<Next>) -> Option<Turn> {
        if self.control.bytes() == 0 {
            return Some(Turn::Leaves);
        }
        let own_bytes = self.control.bytes_of(Origin::Own);
        let batch = if self.takes_foreign_control(at) {
            self.control.pop(self.config.quantum_bytes)
        } else {
            self.control.pop_own()
        };
        let Some(mut batch) = batch else { return Some(Turn::Leaves) };
        if self.control.bytes_of(Origin::Own) == own_bytes {
            batch.mark_foreign_control();
        }
        if let Some(turn) = self.turn(at, &batch, None) {
            self.lanes.get_mut(at)?.put_back(batch);
            return Some(turn);
        }
        *next = Some(Next::Batch(batch));
        Some(Turn::Takes)
    }

    /// Of the queue of priority.
    fn next_priority(&mut self, at: usize, next: &mut Option<Next>) -> Option<Turn> {
        if self.priority.bytes() == 0 {
            self.note_idle();
            return Some(Turn::Leaves);
        }
        if self.is_priority_elsewhere(at) || !self.fits(TrafficClass::Priority, 1) {
            return Some(Turn::Leaves);
        }
        let batch = self.priority.pop(self.config.quantum_bytes)?;
        let piece = self.splits(&batch).then(|| self.piece_len(batch.len()));
        if let Some(turn) = self.turn(at, &batch, piece) {
            self.lanes.get_mut(at)?.put_back(batch);
            return Some(turn);
        }
        self.begin(at, batch, next)
    }

    /// A class had its turn on a lane and nothing to send: with nothing of the other one waiting
    /// anywhere, and room for much more, what is in flight does not show what the link can do.
    fn note_idle(&mut self) {
        let in_flight = self.in_flight();
        if in_flight >= self.in_flight_bound >> 1 {
            return;
        }
        let waits = self.priority.bytes() > 0
            || self.lanes.iter().any(|lane| !lane.quiet && lane.has_queued())
            || self.striping.front().is_some()
            || self.flows.bulk().any(|bulk| bulk.bytes() > 0);
        if !waits {
            self.rate.handle_idle(in_flight);
        }
    }

    /// A batch whose turn it is goes as a whole or in pieces.
    fn begin(&mut self, at: usize, batch: Batch, next: &mut Option<Next>) -> Option<Turn> {
        *next = Some(if self.splits(&batch) {
            let class = batch.class();
            self.lanes.get_mut(at)?.begin_split(batch);
            Next::Piece(class)
        } else {
            Next::Batch(batch)
        });
        Some(Turn::Takes)
    }

    /// The batch is large for this link: what comes next would wait for too long behind it.
    pub(super) fn splits(&self, batch: &Batch) -> bool {
        batch.class() != TrafficClass::Control
            && batch.len() > self.piece_bytes()
            && batch.len() <= SPLIT_BYTES_MAX
    }

    /// Bytes on the wire of the next piece of a batch of which so many are left.
    pub(super) fn piece_len(&self, left_bytes: usize) -> usize {
        left_bytes.min(self.piece_bytes()).saturating_add(PIECE_OVERHEAD_BYTES)
    }

    /// Of bulk; on a lane that streams are leaving only what waits for it.
    fn next_bulk(&mut self, at: usize, carries: bool, next: &mut Option<Next>) -> Option<Turn> {
        // With more, whoever has less than that waiting loses a part of each turn.
        let quantum = self.config.quantum_bytes;
        let tenants = if carries { self.striping.waiting_tenants() } else { 0 };
        let lane = self.lanes.get_mut(at)?;
        if lane.bulk.bytes() == 0 && tenants == 0 {
            self.note_idle();
            return None;
        }
        if !self.fits(TrafficClass::Bulk, 1) {
            return None;
        }
        let lane = self.lanes.get_mut(at)?;
        if lane.is_striped_turn(tenants) {
            return self.next_striped(at, tenants, next);
        }
        let batch = lane.pop_bulk(quantum)?;
        let piece = self.splits(&batch).then(|| self.piece_len(batch.len()));
        if self.turn(at, &batch, piece).is_none() {
            return self.begin(at, batch, next);
        }
        // Whose turn it was, it stays.
        self.lanes.get_mut(at)?.put_back(batch);
        None
    }

    /// Takes the next batch of a striped stream, if this lane may send it; another one may otherwise.
    fn next_striped(&mut self, at: usize, tenants: usize, next: &mut Option<Next>) -> Option<Turn> {
        let front = self.striping.front()?;
        let (len, frames) = (front.len(), front.counted());
        let piece = self.splits(front).then(|| self.piece_len(len));
        if self.turn(at, front, piece).is_some() || !self.delivers_first(at, frames, wide(len)) {
            return None;
        }
        self.lanes.get_mut(at)?.note_striped(len, tenants);
        let batch = self.striping.take()?;
        self.begin(at, batch, next)
    }

    fn stage_piece(&mut self, now: MonoTime, at: usize, class: TrafficClass) -> Option<Staged> {
        let in_flight = self.in_flight();
        let piece_bytes = self.piece_bytes();
        let is_first = self.has_none_in_flight(in_flight);
        let snapshot = self.rate.handle_send(now, is_first, false);
        let lane = self.lanes.get_mut(at)?;
        let (bytes, whole) = lane.take_piece(class, piece_bytes)?;
        if let Some(batch) = &whole {
            self.peer_sequences.handle_sent(batch.highest());
        }
        lane.credit.spend(bytes);
        lane.unacked.push_piece(class, whole, bytes, now, snapshot);
        self.note_sent(at);
        if class == TrafficClass::Bulk {
            self.take_turn(at, in_flight, bytes);
        }
        self.ask_for_acks(in_flight.saturating_add(bytes));
        Some(Staged::Own { count: 1 })
    }

    /// So many bytes are in flight now: of what may be, the peer is to acknowledge parts at once.
    fn ask_for_acks(&mut self, in_flight: u64) {
        let (bound, default) = (self.in_flight_bound, self.config.ack_bytes);
        let Some(bytes) = self.ack_interval.handle_send(in_flight, bound, default) else { return };
        match self.carrier(TrafficClass::Control) {
            Some(lane) => {
                lane.push_own(FrameKind::AckInterval, &AckInterval { bytes }.encode());
                lane.wanted = true;
            }
            None => self.ack_interval.forget_asked(),
        }
    }

    fn stage_batch(&mut self, now: MonoTime, at: usize, batch: Batch) -> Option<Staged> {
        let in_flight = self.in_flight();
        let count = batch.count();
        // Of the class that goes before all no amount shows what the link can do.
        let is_sparse = batch.class() == TrafficClass::Control;
        let is_first = self.has_none_in_flight(in_flight);
        let snapshot = self.rate.handle_send(now, is_first, is_sparse);
        if batch.class() == TrafficClass::Bulk {
            self.take_turn(at, in_flight, wide(batch.len()));
        }
        if !is_sparse {
            self.ask_for_acks(in_flight.saturating_add(wide(batch.len())));
        }
        self.peer_sequences.handle_sent(batch.highest());
        let lane = self.lanes.get_mut(at)?;
        lane.credit.spend(batch.counted_bytes());
        let merge = self.config.quantum_bytes;
        let place = lane.unacked.push(batch, now, snapshot, merge, &mut self.pool);
        self.note_sent(at);
        Some(Staged::Batch { at: place, count })
    }
}
