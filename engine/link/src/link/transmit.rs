//! What goes out over a lane next.

use hawser_wire::{
    AckInterval, FrameHeader, FrameKind, LANE_ACK_ENTRIES_MAX, LaneClasses, MonoTime, TrafficClass,
};

use super::VirtualLink;
use crate::batch::Batch;
use crate::connection::LaneKey;
use crate::departed::Departed;
use crate::fragment::{SPLIT_BYTES_MAX, SplitBatch};
use crate::lane::Lane;
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
enum Next {
    Batch(Batch),
    /// Of the batch that the lane sends in pieces.
    Piece,
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
            match self.next(at)? {
                Next::Batch(batch) => self.stage_batch(now, at, batch)?,
                Next::Piece => self.stage_piece(now, at)?,
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
        let half = self.config.ack_delay.checked_div(2).unwrap_or_default();
        let soon = now.saturating_add(half);
        let is_due = self.ack_due.is_some_and(|due| due <= soon);
        let Some(lane) = self.lanes.get_mut(at) else { return };
        if let Some(classes) = lane.announce() {
            lane.push_own(FrameKind::LaneClasses, &LaneClasses { classes }.encode());
            lane.wanted = false;
        }
        if is_due && lane.carries.contains(TrafficClass::Control) {
            let whole = std::mem::take(&mut self.ack_whole);
            self.build_ack(whole);
            (self.ack_due, self.ack_flagged) = (None, false);
            self.push_ack(at);
            if !self.answers.is_empty() {
                self.want_ack_now(now);
            }
        }
    }

    /// A new lane is told everything first.
    pub(super) fn greet_with_counts(&mut self, key: LaneKey) {
        self.build_ack(true);
        if let Some(at) = self.position(key) {
            self.push_ack(at);
        }
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

    /// What has its turn on a lane, taken from where it waited.
    fn next(&mut self, at: usize) -> Option<Next> {
        for class in TrafficClass::ALL {
            let lane = self.lanes.get(at)?;
            if class == TrafficClass::Bulk
                && let Some(split) = &lane.split
            {
                let piece = Some(self.piece_len(split.left_bytes()));
                return self.may_send(at, split.batch(), piece).then_some(Next::Piece);
            }
            let resend = lane.resend_front(class);
            let queue = match class {
                TrafficClass::Control => self.control.front(),
                TrafficClass::Priority => self.priority.front(),
                TrafficClass::Bulk => None,
            };
            let carries = lane.carries.contains(class);
            let front = resend.or_else(|| queue.filter(|_| carries));
            if let Some(front) = front {
                let piece = self.splits(front).then(|| self.piece_len(front.len()));
                if !self.may_send(at, front, piece) {
                    // What is more urgent does not let others take its credit.
                    return None;
                }
                let is_resend = resend.is_some();
                let lane = self.lanes.get_mut(at)?;
                let batch = match class {
                    _ if is_resend => lane.pop_resend(class),
                    TrafficClass::Control => self.control.pop(),
                    TrafficClass::Priority => self.priority.pop(),
                    TrafficClass::Bulk => None,
                }?;
                return self.begin(at, batch);
            }
            if class == TrafficClass::Bulk && (carries || lane.bulk.bytes() > 0) {
                return self.next_bulk(at, carries);
            }
        }
        None
    }

    /// A batch whose turn it is goes as a whole or in pieces.
    fn begin(&mut self, at: usize, batch: Batch) -> Option<Next> {
        if !self.splits(&batch) {
            return Some(Next::Batch(batch));
        }
        self.lanes.get_mut(at)?.split = Some(SplitBatch::new(batch));
        Some(Next::Piece)
    }

    /// The batch is large for this link: what comes next would wait for too long behind it.
    fn splits(&self, batch: &Batch) -> bool {
        batch.class() == TrafficClass::Bulk
            && batch.len() > self.piece_bytes()
            && batch.len() <= SPLIT_BYTES_MAX
    }

    /// Bytes on the wire of the next piece of a batch of which so many are left.
    fn piece_len(&self, left_bytes: usize) -> usize {
        left_bytes.min(self.piece_bytes()).saturating_add(PIECE_OVERHEAD_BYTES)
    }

    /// Of bulk; on a lane that streams are leaving only what waits for it.
    fn next_bulk(&mut self, at: usize, carries: bool) -> Option<Next> {
        // With more, whoever has less than that waiting loses a part of each turn.
        let quantum = self.config.quantum_bytes;
        let in_flight = self.bulk_in_flight();
        let tenants = if carries { self.striping.waiting_tenants() } else { 0 };
        let lane = self.lanes.get_mut(at)?;
        if lane.bulk.bytes() == 0 && tenants == 0 {
            if in_flight < self.in_flight_bound >> 1 {
                self.rate.handle_idle(in_flight);
            }
            return None;
        }
        if in_flight > 0 && in_flight >= self.in_flight_bound {
            return None;
        }
        if lane.is_striped_turn(tenants) {
            return self.next_striped(at, tenants);
        }
        let batch = lane.pop_bulk(quantum)?;
        let piece = self.splits(&batch).then(|| self.piece_len(batch.len()));
        if self.may_send(at, &batch, piece) {
            return self.begin(at, batch);
        }
        // Whose turn it was, it stays.
        self.lanes.get_mut(at)?.put_back(batch);
        None
    }

    /// Takes the next batch of a striped stream, if this lane may send it; another one may otherwise.
    fn next_striped(&mut self, at: usize, tenants: usize) -> Option<Next> {
        let front = self.striping.front()?;
        let (len, frames) = (front.len(), front.counted());
        let piece = self.splits(front).then(|| self.piece_len(len));
        if !self.may_send(at, front, piece) || !self.delivers_first(at, frames, wide(len)) {
            return None;
        }
        self.lanes.get_mut(at)?.note_striped(len, tenants);
        let batch = self.striping.take()?;
        self.begin(at, batch)
    }

    /// Window, credit, order and what may be in flight allow a batch, or `piece` bytes of it.
    fn may_send(&self, at: usize, batch: &Batch, piece: Option<usize>) -> bool {
        let Some(lane) = self.lanes.get(at) else { return false };
        let (class, len) = (batch.class(), wide(piece.unwrap_or(batch.len())));
        let (frames, bytes) =
            if piece.is_some() { (1, len) } else { (batch.counted(), batch.counted_bytes()) };
        let reserved = match class {
            TrafficClass::Control => 0,
            TrafficClass::Priority | TrafficClass::Bulk => self.config.window_control_bytes,
        };
        let window = self.config.window_bytes.saturating_sub(reserved);
        let held = lane.unacked.backing_bytes();
        if held > 0 && held.saturating_add(batch.backing_bytes()) > window {
            return false;
        }
        if !lane.credit.allows(lane.unacked.sent(), frames, bytes) {
            return false;
        }
        match class {
            TrafficClass::Control => true,
            TrafficClass::Priority => !self.is_priority_elsewhere(at),
            TrafficClass::Bulk => {
                let in_flight = self.bulk_in_flight();
                let fits = in_flight == 0 || in_flight.saturating_add(len) <= self.in_flight_bound;
                fits && !self.owes_turn(at, in_flight, frames, len)
            }
        }
    }

    /// Priority frames are in flight over another lane: their order holds only if newer ones wait
    /// until those have arrived.
    fn is_priority_elsewhere(&self, at: usize) -> bool {
        let class = TrafficClass::Priority;
        let others = self.lanes.iter().enumerate().filter(|&(other, _)| other != at);
        others.map(|(_, lane)| &lane.unacked).any(|unacked| unacked.owes(class))
            || self.departed.iter().any(|departed| departed.unacked().owes(class))
    }

    /// Lanes may share one bottleneck, and what may be in flight is the link's: while it is scarce, a
    /// lane leaves the next turn to another one with bulk waiting that has less of it, or as much and
    /// has been served less (start-time fair queueing, Goyal et al., 1996). A lane whose own way is
    /// slower has more in flight, and nobody waits for it. While striped bulk waits, any lane could take
    /// the turn: it is that of the one that delivers first.
    fn owes_turn(&self, at: usize, in_flight: u64, frames: u64, len: u64) -> bool {
        if !self.is_scarce(in_flight) {
            return false;
        }
        if self.striping.front().is_some() {
            return !self.delivers_first(at, frames, len);
        }
        let Some(own) = self.lanes.get(at) else { return false };
        let own_bytes = own.unacked.bulk_bytes();
        let is_next = |lane: &Lane| {
            let bytes = lane.unacked.bulk_bytes();
            let has_less = bytes.saturating_add(len) <= own_bytes
                || (bytes <= own_bytes && self.turn_of(lane) < self.turn_of(own));
            !lane.quiet && lane.has_bulk() && has_less && self.has_space(lane, len)
        };
        self.lanes.iter().enumerate().any(|(other, lane)| other != at && is_next(lane))
    }

    /// No other lane that can send would have delivered the bulk in flight over it sooner, and what it
    /// is sent next.
    ///
    /// Each lane goes by its own rate: lanes of any speed are kept busy for equally long, whether they
    /// share a bottleneck or not, and records come nearly in the order in which they were sent.
    fn delivers_first(&self, at: usize, frames: u64, len: u64) -> bool {
        let own_nanos = self.lanes.get(at).map_or(0, Lane::drain_nanos);
        let is_sooner = |lane: &Lane| {
            let carries = !lane.quiet && lane.carries.contains(TrafficClass::Bulk);
            carries && lane.drain_nanos() < own_nanos && self.may_follow(lane, frames, len)
        };
        !self.lanes.iter().any(is_sooner)
    }

    /// A lane has window and credit for what it is to send again or in pieces, else for a new batch.
    fn may_follow(&self, lane: &Lane, frames: u64, len: u64) -> bool {
        let (frames, len) = match (&lane.split, lane.resend_front(TrafficClass::Bulk)) {
            (Some(split), _) => (1, wide(self.piece_len(split.left_bytes()))),
            (None, Some(front)) => (front.counted(), front.counted_bytes()),
            (None, None) => (frames, len),
        };
        self.has_space(lane, len) && lane.credit.allows(lane.unacked.sent(), frames, len)
    }

    /// Window and credit of a lane do not keep it from its turn.
    fn has_space(&self, lane: &Lane, len: u64) -> bool {
        let window = self.config.window_bytes.saturating_sub(self.config.window_control_bytes);
        lane.credit.left_bytes() > len && lane.unacked.backing_bytes() < window >> 1
    }

    const fn is_scarce(&self, in_flight: u64) -> bool {
        in_flight >= self.in_flight_bound >> 1
    }

    /// A lane that had nothing to send has missed its turns.
    fn turn_of(&self, lane: &Lane) -> u64 {
        lane.bulk_served.max(self.bulk_turn)
    }

    /// A lane sends so much bulk. Others that left it the turn may have theirs now.
    fn take_turn(&mut self, at: usize, in_flight: u64, len: u64) {
        let Some(turn) = self.lanes.get(at).map(|lane| self.turn_of(lane)) else { return };
        self.bulk_turn = turn;
        let is_scarce = self.is_scarce(in_flight);
        let striped = self.striping.front().is_some();
        for (other, lane) in self.lanes.iter_mut().enumerate() {
            if other == at {
                lane.bulk_served = turn.saturating_add(len);
            } else {
                let waits = striped && lane.carries.contains(TrafficClass::Bulk);
                lane.wanted |= waits || (is_scarce && lane.has_bulk());
            }
        }
    }

    fn stage_piece(&mut self, now: MonoTime, at: usize) -> Option<Staged> {
        let in_flight = self.bulk_in_flight();
        let piece_bytes = self.piece_bytes();
        let snapshot = self.rate.handle_send(now, in_flight, false);
        let lane = self.lanes.get_mut(at)?;
        let (bytes, whole) = lane.take_piece(piece_bytes)?;
        lane.credit.spend(bytes);
        lane.unacked.push_piece(whole, bytes, now, snapshot);
        self.note_sent(at);
        self.take_turn(at, in_flight, bytes);
        self.ask_for_acks(in_flight.saturating_add(bytes));
        Some(Staged::Own { count: 1 })
    }

    /// So many bytes are in flight now: of what may be, the peer is to acknowledge parts at once.
    fn ask_for_acks(&mut self, in_flight: u64) {
        let (bound, default) = (self.in_flight_bound, self.config.ack_bytes);
        if let Some(bytes) = self.ack_interval.handle_send(in_flight, bound, default)
            && let Some(lane) = self.carrier(TrafficClass::Control)
        {
            lane.push_own(FrameKind::AckInterval, &AckInterval { bytes }.encode());
            lane.wanted = true;
        }
    }

    fn stage_batch(&mut self, now: MonoTime, at: usize, batch: Batch) -> Option<Staged> {
        let in_flight = self.bulk_in_flight();
        let count = batch.count();
        // Of the classes that nothing holds back no amount shows what the link can do.
        let is_sparse = batch.class() != TrafficClass::Bulk;
        let snapshot = self.rate.handle_send(now, in_flight, is_sparse);
        if !is_sparse {
            let bytes = wide(batch.len());
            self.take_turn(at, in_flight, bytes);
            self.ask_for_acks(in_flight.saturating_add(bytes));
        }
        let lane = self.lanes.get_mut(at)?;
        lane.credit.spend(batch.counted_bytes());
        let merge = self.config.quantum_bytes;
        let place = lane.unacked.push(batch, now, snapshot, merge, &mut self.pool);
        self.note_sent(at);
        Some(Staged::Batch { at: place, count })
    }
}
