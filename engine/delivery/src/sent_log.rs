//! Which way a stream's messages went: what `route explain --message` answers from.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use hawser_wire::{MonoTime, NodeId, PathId, StreamOffset};

/// Runs that are remembered of a stream.
const RUNS_MAX: usize = 1024;

/// A run ends after so long: its messages were sent within that time of each other.
const RUN_SPAN_MAX: Duration = Duration::from_secs(1);

/// The way that a stream's records take, as its source knows it when it sends.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct WayTaken {
    /// The path.
    pub path: PathId,
    /// Of the route snapshot in force.
    pub generation: u64,
    /// Of the link-state database that it was computed from.
    pub lsdb_digest: u64,
    /// Where its hops lead: the destination last.
    pub nodes: Arc<[NodeId]>,
}

/// Records that left a link for its backup.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Detour {
    /// The node that sent them another way.
    pub at: NodeId,
    /// When the source heard of it.
    pub heard_at: MonoTime,
    /// They were among the messages from here,
    from: StreamOffset,
    /// to before here: those under way then.
    until: StreamOffset,
}

/// Consecutive messages that were sent to one destination the same way.
#[derive(Clone, Debug)]
pub struct SentRun {
    /// Where to.
    pub destination: NodeId,
    first: StreamOffset,
    end: StreamOffset,
    /// When the first of them was sent,
    pub first_at: MonoTime,
    /// and the last.
    pub last_at: MonoTime,
    /// Which way.
    pub way: WayTaken,
    /// Not for the first time.
    pub again: bool,
    detour: Option<Detour>,
}

impl SentRun {
    fn holds(&self, offset: StreamOffset) -> bool {
        (self.first..self.end).contains(&offset)
    }

    /// A detour that the message at `offset` may have taken: it was under way when the source heard
    /// of it.
    #[must_use]
    pub fn detour_of(&self, offset: StreamOffset) -> Option<Detour> {
        self.detour.filter(|detour| (detour.from..detour.until).contains(&offset))
    }
}

/// What is known of a destination.
#[derive(Clone, Copy, Debug)]
struct Progress {
    node: NodeId,
    /// Everything below was sent at least once.
    sent_end: StreamOffset,
    /// Number of its last run.
    last_run: u64,
}

/// What became of a message on its way to one destination.
#[derive(Debug)]
pub enum Sendings<'a> {
    /// It waits to be sent.
    None,
    /// It was sent, longer ago than is remembered; the first message of which more is known.
    Forgotten {
        /// None if nothing is known of any.
        known_from: Option<StreamOffset>,
    },
    /// Each time that it was sent, the oldest first; the first ones may be forgotten.
    Known(Vec<&'a SentRun>),
}

/// The ways that one stream's messages took, of late.
///
/// Memory is bounded by runs: messages that follow each other on one path within a second are one.
/// Nothing is allocated for a record that continues a run.
#[derive(Debug, Default)]
pub struct SentLog {
    runs: VecDeque<SentRun>,
    /// Number of the first of them.
    first_number: u64,
    progress: Vec<Progress>,
    /// A new run takes the place of the oldest one.
    is_full: bool,
}

impl SentLog {
    /// Whether the log may hold more runs than it does: who keeps many logs bounds them all. One that
    /// is empty may have its first.
    pub const fn set_may_grow(&mut self, may_grow: bool) {
        self.is_full = !may_grow;
    }

    /// Runs that are held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.runs.len()
    }

    /// Nothing is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// The messages from `first` to before `end` are sent to `destination` over `path`, of the snapshot
    /// with this `generation`. `way` is asked for if they do not continue a run.
    pub fn note_sent(
        &mut self,
        now: MonoTime,
        destination: NodeId,
        (first, end): (StreamOffset, StreamOffset),
        (path, generation): (PathId, u64),
        way: impl FnOnce() -> Option<WayTaken>,
    ) {
        let first_number = self.first_number;
        let at = self.progress.iter().position(|progress| progress.node == destination);
        let again = at.and_then(|at| self.progress.get(at)).is_some_and(|p| first < p.sent_end);
        if let Some(progress) = at.and_then(|at| self.progress.get_mut(at)) {
            progress.sent_end = progress.sent_end.max(end);
            let last = progress.last_run.checked_sub(first_number);
            let last = last.and_then(|last| usize::try_from(last).ok());
            if let Some(run) = last.and_then(|last| self.runs.get_mut(last))
                && (run.end, run.again) == (first, again)
                && (run.way.path, run.way.generation) == (path, generation)
                && now.saturating_since(run.first_at) < RUN_SPAN_MAX
            {
                (run.end, run.last_at) = (end, now);
                return;
            }
        }
        let Some(way) = way() else { return };
        if self.runs.len() >= RUNS_MAX || (self.is_full && !self.runs.is_empty()) {
            self.runs.pop_front();
            self.first_number = self.first_number.saturating_add(1);
        }
        let held = u64::try_from(self.runs.len()).unwrap_or(u64::MAX);
        let number = self.first_number.saturating_add(held);
        let (first_at, last_at, detour) = (now, now, None);
        let run = SentRun { destination, first, end, first_at, last_at, way, again, detour };
        self.runs.push_back(run);
        match at.and_then(|at| self.progress.get_mut(at)) {
            Some(progress) => progress.last_run = number,
            None => {
                let progress = Progress { node: destination, sent_end: end, last_run: number };
                self.progress.push(progress);
            }
        }
    }

    /// Node `at` has sent records for `destination` that came over `path` another way. Those that were
    /// under way lie behind what the destination has `received`.
    pub fn note_detour(
        &mut self,
        now: MonoTime,
        (destination, path): (NodeId, PathId),
        at: NodeId,
        received: StreamOffset,
    ) {
        let on_path = |run: &SentRun| run.destination == destination && run.way.path == path;
        for run in self.runs.iter_mut().filter(|run| on_path(run) && run.end > received) {
            let (from, until) = (run.first.max(received), run.end);
            match &mut run.detour {
                Some(known) if known.at == at => known.until = until,
                detour => *detour = Some(Detour { at, heard_at: now, from, until }),
            }
        }
    }

    /// How the message at `offset` was sent to `destination`.
    #[must_use]
    pub fn find(&self, destination: NodeId, offset: StreamOffset) -> Sendings<'_> {
        let of_node = || self.runs.iter().filter(|run| run.destination == destination);
        let found: Vec<&SentRun> = of_node().filter(|run| run.holds(offset)).collect();
        if !found.is_empty() {
            return Sendings::Known(found);
        }
        let progress = self.progress.iter().find(|progress| progress.node == destination);
        if progress.is_some_and(|progress| offset < progress.sent_end) {
            let known_from = of_node().filter(|run| !run.again).map(|run| run.first).min();
            return Sendings::Forgotten { known_from };
        }
        Sendings::None
    }
}

#[cfg(test)]
#[expect(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "a test that overflows or misses fails, as it should"
)]
mod tests;
