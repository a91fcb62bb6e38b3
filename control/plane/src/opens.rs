//! Calls that wait for the destinations of a stream to confirm it. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use hawser_wire::{MonoTime, StreamId};

use crate::OpenedStream;
use crate::handle::Answer;

/// A call is answered after so long, whoever has confirmed by then.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug)]
struct Waiting {
    answer: Answer<OpenedStream>,
    deadline: MonoTime,
}

/// The calls, by stream.
#[derive(Debug, Default)]
pub(crate) struct Opens {
    waiting: BTreeMap<StreamId, Vec<Waiting>>,
}

impl Opens {
    pub(crate) fn add(&mut self, now: MonoTime, stream: StreamId, answer: Answer<OpenedStream>) {
        let deadline = now.saturating_add(PATIENCE);
        self.waiting.entry(stream).or_default().push(Waiting { answer, deadline });
    }

    /// Somebody waits for this stream.
    pub(crate) fn is_waited_for(&self, stream: StreamId) -> bool {
        self.waiting.contains_key(&stream)
    }

    /// Every call about `stream`, to be answered now.
    pub(crate) fn take(&mut self, stream: StreamId) -> Vec<Answer<OpenedStream>> {
        let waiting = self.waiting.remove(&stream).unwrap_or_default();
        waiting.into_iter().map(|waiting| waiting.answer).collect()
    }

    /// Every call that has waited long enough.
    pub(crate) fn take_overdue(&mut self, now: MonoTime) -> Vec<(StreamId, Answer<OpenedStream>)> {
        let mut overdue = Vec::new();
        self.waiting.retain(|&stream, calls| {
            for call in calls.extract_if(.., |call| call.deadline <= now) {
                overdue.push((stream, call.answer));
            }
            !calls.is_empty()
        });
        overdue
    }

    /// When [`Self::take_overdue`] has something next.
    pub(crate) fn poll_timeout(&self) -> Option<MonoTime> {
        self.waiting.values().flatten().map(|waiting| waiting.deadline).min()
    }
}
