//! Which destinations still have to be told of which stream, and when next. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use hawser_wire::{MonoTime, NodeId, StreamId};

const PAUSE_FIRST: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(5);

#[derive(Debug)]
struct Retry {
    due: MonoTime,
    pause: Duration,
}

/// Announcements without an answer.
#[derive(Debug, Default)]
pub(crate) struct Announcements {
    waiting: BTreeMap<(StreamId, NodeId), Retry>,
}

impl Announcements {
    /// `node` is to be told, now.
    pub(crate) fn add(&mut self, now: MonoTime, stream: StreamId, node: NodeId) {
        self.waiting.insert((stream, node), Retry { due: now, pause: PAUSE_FIRST });
    }

    /// `node` answered. True if it was waited for.
    pub(crate) fn settle(&mut self, stream: StreamId, node: NodeId) -> bool {
        self.waiting.remove(&(stream, node)).is_some()
    }

    /// The stream is gone.
    pub(crate) fn forget(&mut self, stream: StreamId) {
        self.waiting.retain(|&(waiting, _), _| waiting != stream);
    }

    /// Everything is gone.
    pub(crate) fn clear(&mut self) {
        self.waiting.clear();
    }

    /// Who has not answered about `stream`.
    pub(crate) fn pending(&self, stream: StreamId) -> impl Iterator<Item = NodeId> + '_ {
        let first = (stream, NodeId::from_bytes([0; 16]));
        let last = (stream, NodeId::from_bytes([0xff; 16]));
        self.waiting.range(first..=last).map(|(&(_, node), _)| node)
    }

    /// Paths are different now: whoever waits and can be reached is told at once.
    pub(crate) fn handle_routes_changed(&mut self, now: MonoTime) {
        for retry in self.waiting.values_mut() {
            retry.due = retry.due.min(now);
        }
    }

    /// Everyone who is to be told now; each will be again after a pause that doubles from 200 ms
    /// to 5 s.
    pub(crate) fn poll_due(&mut self, now: MonoTime) -> Vec<(StreamId, NodeId)> {
        let mut due = Vec::new();
        for (&key, retry) in &mut self.waiting {
            if retry.due <= now {
                retry.due = now.saturating_add(retry.pause);
                retry.pause = retry.pause.saturating_mul(2).min(PAUSE_MAX);
                due.push(key);
            }
        }
        due
    }

    /// When [`Self::poll_due`] has something next.
    pub(crate) fn poll_timeout(&self) -> Option<MonoTime> {
        self.waiting.values().map(|retry| retry.due).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: StreamId = StreamId::from_bytes([7; 16]);
    const OTHER: StreamId = StreamId::from_bytes([8; 16]);
    const A: NodeId = NodeId::from_bytes([1; 16]);
    const B: NodeId = NodeId::from_bytes([0xff; 16]);

    fn at(millis: u64) -> MonoTime {
        MonoTime::ZERO.saturating_add(Duration::from_millis(millis))
    }

    #[test]
    fn pauses_double_up_to_their_bound() {
        let mut announcements = Announcements::default();
        announcements.add(at(0), STREAM, A);
        let mut now = at(0);
        let mut pauses = Vec::new();
        for _ in 0..8 {
            assert_eq!(announcements.poll_due(now), [(STREAM, A)]);
            assert_eq!(announcements.poll_due(now), []);
            let next = announcements.poll_timeout().expect("waiting");
            pauses.push(next.saturating_since(now).as_millis());
            now = next;
        }
        assert_eq!(pauses, [200, 400, 800, 1600, 3200, 5000, 5000, 5000]);
    }

    #[test]
    fn new_paths_bring_the_next_attempt_forward() {
        let mut announcements = Announcements::default();
        announcements.add(at(0), STREAM, A);
        announcements.poll_due(at(0));
        announcements.handle_routes_changed(at(50));
        assert_eq!(announcements.poll_due(at(50)), [(STREAM, A)]);
    }

    #[test]
    fn an_answer_ends_it() {
        let mut announcements = Announcements::default();
        for node in [A, B] {
            announcements.add(at(0), STREAM, node);
            announcements.add(at(0), OTHER, node);
        }
        assert_eq!(announcements.pending(STREAM).collect::<Vec<_>>(), [A, B]);
        assert!(announcements.settle(STREAM, A));
        assert!(!announcements.settle(STREAM, A));
        assert_eq!(announcements.pending(STREAM).collect::<Vec<_>>(), [B]);
        announcements.forget(STREAM);
        assert_eq!(announcements.poll_due(at(0)), [(OTHER, A), (OTHER, B)]);
    }
}
