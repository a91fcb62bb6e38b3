//! Confirmations of consumers on their way to the store: many become one transaction. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use hawser_wire::{MonoTime, StreamId, StreamOffset};

/// Confirmations are gathered for so long before they are written.
const GATHER: Duration = Duration::from_millis(20);

/// The newest confirmation of each consumer that is not durable yet.
#[derive(Debug, Default)]
pub(crate) struct Commits {
    gathered: BTreeMap<(StreamId, Box<str>), StreamOffset>,
    due: Option<MonoTime>,
    /// A transaction is on its way; the next waits for it.
    writing: bool,
}

impl Commits {
    /// A consumer confirmed. Progress is absolute and only grows.
    pub(crate) fn add(
        &mut self,
        now: MonoTime,
        stream: StreamId,
        consumer: Box<str>,
        next: StreamOffset,
    ) {
        let kept = self.gathered.entry((stream, consumer)).or_default();
        *kept = next.max(*kept);
        self.due.get_or_insert_with(|| now.saturating_add(GATHER));
    }

    /// The stream is gone, and its consumers with it.
    pub(crate) fn forget(&mut self, stream: StreamId) {
        self.gathered.retain(|(gathered, _), _| *gathered != stream);
    }

    /// When [`Self::take_due`] has something.
    pub(crate) fn poll_timeout(&self) -> Option<MonoTime> {
        self.due.filter(|_| !self.writing)
    }

    /// What is to be written now, in one transaction; [`Self::handle_written`] must follow.
    pub(crate) fn take_due(
        &mut self,
        now: MonoTime,
    ) -> Option<Vec<(StreamId, String, StreamOffset)>> {
        if self.poll_timeout().is_none_or(|due| due > now) {
            return None;
        }
        self.due = None;
        self.writing = true;
        Some(self.drain())
    }

    /// The transaction is over.
    pub(crate) const fn handle_written(&mut self) {
        self.writing = false;
    }

    /// Everything that is not written, at the end.
    pub(crate) fn drain(&mut self) -> Vec<(StreamId, String, StreamOffset)> {
        std::mem::take(&mut self.gathered)
            .into_iter()
            .map(|((stream, consumer), next)| (stream, consumer.into(), next))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: StreamId = StreamId::from_bytes([7; 16]);

    fn at(millis: u64) -> MonoTime {
        MonoTime::ZERO.saturating_add(Duration::from_millis(millis))
    }

    #[test]
    fn many_become_one_and_one_waits_for_the_other() {
        let mut commits = Commits::default();
        for next in [3, 9, 5] {
            commits.add(at(next), STREAM, "c".into(), StreamOffset(next));
        }
        assert_eq!(commits.take_due(at(22)), None);
        let written = commits.take_due(at(23)).expect("due");
        assert_eq!(written, [(STREAM, "c".to_owned(), StreamOffset(9))]);
        commits.add(at(24), STREAM, "c".into(), StreamOffset(10));
        assert_eq!(commits.poll_timeout(), None);
        assert_eq!(commits.take_due(at(99)), None);
        commits.handle_written();
        assert_eq!(commits.take_due(at(99)).expect("due").len(), 1);
    }

    #[test]
    fn a_forgotten_stream_is_not_written() {
        let mut commits = Commits::default();
        commits.add(at(0), STREAM, "c".into(), StreamOffset(1));
        commits.forget(STREAM);
        assert_eq!(commits.drain(), []);
    }
}
