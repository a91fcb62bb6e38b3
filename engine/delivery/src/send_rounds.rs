use hawser_wire::StreamId;

use crate::tenant_rounds::QUANTUM_BYTES;
use crate::{StreamKey, TenantRounds};

/// What may go over one egress before the driver looks at its rings and sockets again.
const TURN_BYTES_MAX: u64 = 20 * QUANTUM_BYTES;

#[derive(Debug, Default)]
struct Egress {
    rounds: TenantRounds,
    /// The turn of the driver, and what was sent in it.
    turn: u64,
    turn_bytes: u64,
    /// The visit, and what was sent in it.
    visit: u64,
    visit_bytes: u64,
}

/// Which of a driver's streams sends next over each of its egresses, which `E` names.
///
/// Whoever comes to an egress where nobody waits sends at once, a quantum. Else it waits, and is visited
/// when its turn comes and there is room: tenants take turns, then their streams ([`TenantRounds`]).
/// Each egress has rounds of its own, so that a slow one changes nothing for the streams of another.
///
/// A visit is: [`Self::begin_visit`], [`Self::may_send`] for each record that the stream would send and
/// [`Self::note_sent`] for each that it has sent, until there is none, [`Self::end_visit`].
#[derive(Debug)]
pub struct SendRounds<E> {
    /// In their order. They are few, and come and go seldom.
    egresses: Vec<(E, Egress)>,
    /// The last that had somebody's turn.
    last: Option<E>,
    turn: u64,
    visit: u64,
    /// The stream that is visited has its turn there.
    granted: Option<E>,
    /// And would send more.
    is_wanted: bool,
}

impl<E> Default for SendRounds<E> {
    fn default() -> Self {
        Self {
            egresses: Vec::new(),
            last: None,
            turn: 0,
            visit: 0,
            granted: None,
            is_wanted: false,
        }
    }
}

impl<E: Copy + Ord> SendRounds<E> {
    /// The driver has looked at its rings and sockets.
    pub const fn begin_turn(&mut self) {
        self.turn = self.turn.saturating_add(1);
    }

    /// A stream is about to be asked for what it has; it has its turn at an egress if [`Self::next`] said
    /// so.
    pub const fn begin_visit(&mut self, granted: Option<E>) {
        self.visit = self.visit.saturating_add(1);
        self.granted = granted;
        self.is_wanted = false;
    }

    /// May the visited stream send a record over `egress`, where it finds room or not? If not it waits
    /// there.
    pub fn may_send(&mut self, who: StreamKey, egress: E, has_room: bool) -> bool {
        let (turn, visit) = (self.turn, self.visit);
        let is_granted = self.granted == Some(egress);
        let at = self.position(egress).unwrap_or_else(|at| {
            self.egresses.insert(at, (egress, Egress::default()));
            at
        });
        let Some((_, state)) = self.egresses.get_mut(at) else { return false };
        state.begin(turn, visit);
        let may = if state.rounds.is_empty() {
            state.visit_bytes < QUANTUM_BYTES
        } else {
            is_granted && state.rounds.is_turn_of(who)
        };
        if may && has_room && state.turn_bytes < TURN_BYTES_MAX {
            return true;
        }
        state.rounds.wait(who, state.visit_bytes);
        self.is_wanted |= is_granted;
        false
    }

    /// The visited stream has sent a record.
    pub fn note_sent(&mut self, who: StreamKey, egress: E, bytes: u64) {
        self.is_wanted = false;
        let Some(state) = self.state_mut(egress) else { return };
        state.turn_bytes = state.turn_bytes.saturating_add(bytes);
        state.visit_bytes = state.visit_bytes.saturating_add(bytes);
        state.rounds.spend(who, bytes);
    }

    /// The visited stream has nothing more that it may send. If it has nothing at all, others have its
    /// turn at once.
    pub fn end_visit(&mut self, who: StreamKey) {
        let Some(egress) = self.granted.take().filter(|_| !self.is_wanted) else { return };
        if let Some(state) = self.state_mut(egress) {
            state.rounds.leave(who);
        }
    }

    /// The next stream to be visited, and where its turn has come, of those that `has_room` has room for;
    /// of no stream it is asked whether there may be room for any.
    pub fn next(
        &mut self,
        mut has_room: impl FnMut(E, Option<StreamId>) -> bool,
    ) -> Option<(E, StreamKey)> {
        let (turn, count) = (self.turn, self.egresses.len());
        let last = self.last.and_then(|last| self.position(last).ok()).unwrap_or(0);
        for step in 0..count {
            let at = last.saturating_add(step).checked_rem(count)?;
            let (egress, state) = self.egresses.get_mut(at)?;
            let is_over = state.turn == turn && state.turn_bytes >= TURN_BYTES_MAX;
            if !state.rounds.is_empty()
                && !is_over
                && has_room(*egress, None)
                && let Some(who) = state.rounds.next(|stream| has_room(*egress, Some(stream)))
            {
                self.last = Some(*egress);
                return Some((*egress, who));
            }
        }
        self.last = self.egresses.get(last).map(|&(egress, _)| egress);
        None
    }

    /// A stream sends nothing more.
    pub fn leave(&mut self, who: StreamKey) {
        for (_, state) in &mut self.egresses {
            state.rounds.leave(who);
        }
    }

    /// Nobody waits: streams may have to take other ways, and are all to be visited.
    pub fn clear(&mut self) {
        self.egresses.clear();
    }

    /// Where an egress stands, or would stand.
    fn position(&self, egress: E) -> Result<usize, usize> {
        self.egresses.binary_search_by_key(&egress, |&(other, _)| other)
    }

    fn state_mut(&mut self, egress: E) -> Option<&mut Egress> {
        let at = self.position(egress).ok()?;
        self.egresses.get_mut(at).map(|(_, state)| state)
    }
}

impl Egress {
    const fn begin(&mut self, turn: u64, visit: u64) {
        if self.turn != turn {
            (self.turn, self.turn_bytes) = (turn, 0);
        }
        if self.visit != visit {
            (self.visit, self.visit_bytes) = (visit, 0);
        }
    }
}

#[cfg(test)]
mod tests;
