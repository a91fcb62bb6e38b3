//! Confirmations of consumers on their way to the store: many become one transaction. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use hawser_wire::{MonoTime, StreamId, StreamOffset};

/// Confirmations are gathered for so long before they are written.
const GATHER: Duration = Duration::from_millis(20);

/// After a transaction that failed the next one waits so long: what fails now mostly fails again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Progress by stream and consumer.
type Progress = BTreeMap<(StreamId, Box<str>), StreamOffset>;

/// The newest confirmation of each consumer that is not durable yet.
///
/// **Invariant:** a confirmation leaves only when it is durable, or its stream is gone.
#[derive(Debug, Default)]
pub(crate) struct Commits {
    gathered: Progress,
    /// What the transaction that is on its way holds.
    under_way: Progress,
    due: Option<MonoTime>,
    /// A transaction is on its way; the next waits for it.
    writing: bool,
    /// The last one failed.
    fails: bool,
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
        self.keep((stream, consumer), next);
        self.due.get_or_insert_with(|| now.saturating_add(GATHER));
    }

    /// The newer of two stays.
    fn keep(&mut self, consumer: (StreamId, Box<str>), next: StreamOffset) {
        let kept = self.gathered.entry(consumer).or_default();
        *kept = next.max(*kept);
    }

    /// The stream is gone, and its consumers with it.
    pub(crate) fn forget(&mut self, stream: StreamId) {
        for kept in [&mut self.gathered, &mut self.under_way] {
            kept.retain(|(of, _), _| *of != stream);
        }
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
        self.under_way = std::mem::take(&mut self.gathered);
        Some(listed(self.under_way.clone()))
    }

    /// The transaction is over. What it held is written with the next one if it `failed`; whether that is
    /// news.
    pub(crate) fn handle_written(&mut self, now: MonoTime, failed: bool) -> bool {
        self.writing = false;
        let is_news = !std::mem::replace(&mut self.fails, failed) && failed;
        let held = std::mem::take(&mut self.under_way);
        if failed && !held.is_empty() {
            for (consumer, next) in held {
                self.keep(consumer, next);
            }
            self.due = Some(now.saturating_add(RETRY_AFTER));
        }
        is_news
    }

    /// Everything that is not known to be written, at the end.
    pub(crate) fn drain(&mut self) -> Vec<(StreamId, String, StreamOffset)> {
        for (consumer, next) in std::mem::take(&mut self.under_way) {
            self.keep(consumer, next);
        }
        listed(std::mem::take(&mut self.gathered))
    }
}

fn listed(progress: Progress) -> Vec<(StreamId, String, StreamOffset)> {
    let listed = progress.into_iter();
    listed.map(|((stream, consumer), next)| (stream, consumer.into(), next)).collect()
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
        assert!(!commits.handle_written(at(99), false));
        let written = commits.take_due(at(99)).expect("due");
        assert_eq!(written, [(STREAM, "c".to_owned(), StreamOffset(10))]);
        assert!(!commits.handle_written(at(99), false));
        assert_eq!((commits.poll_timeout(), commits.drain()), (None, vec![]));
    }

    #[test]
    fn what_could_not_be_written_is_written_later_unless_there_is_newer() {
        const GONE: StreamId = StreamId::from_bytes([8; 16]);
        let mut commits = Commits::default();
        for (consumer, next) in [("older", 3), ("alone", 4)] {
            commits.add(at(0), STREAM, consumer.into(), StreamOffset(next));
        }
        commits.add(at(0), GONE, "c".into(), StreamOffset(5));
        assert_eq!(commits.take_due(at(20)).expect("due").len(), 3);
        commits.add(at(21), STREAM, "older".into(), StreamOffset(7));
        commits.forget(GONE);
        assert!(commits.handle_written(at(30), true), "the first is news");
        assert_eq!(commits.poll_timeout(), Some(at(1_030)));
        // What comes meanwhile waits with it.
        commits.add(at(40), STREAM, "alone".into(), StreamOffset(4));
        assert_eq!(commits.take_due(at(1_029)), None);
        let kept = [("alone", 4), ("older", 7)];
        let kept = kept.map(|(consumer, next)| (STREAM, consumer.to_owned(), StreamOffset(next)));
        assert_eq!(commits.take_due(at(1_030)).expect("due"), kept);
        // Nor does the end lose what is on its way.
        assert_eq!(commits.drain(), kept);
        assert!(!commits.handle_written(at(1_040), true), "said already");
        assert_eq!((commits.poll_timeout(), commits.drain()), (None, vec![]));
    }

    #[test]
    fn a_forgotten_stream_is_not_written() {
        let mut commits = Commits::default();
        commits.add(at(0), STREAM, "c".into(), StreamOffset(1));
        commits.forget(STREAM);
        assert_eq!(commits.drain(), []);
    }
}
