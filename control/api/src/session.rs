use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use hawser_exchange::{SessionId, SubscribeEnd};
use hawser_wire::{Record, StreamId};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};

use crate::failure::CallFailure;

/// What the handler of a call and the pump both know of it.
///
/// Numbers in it are absolute and only grow, so the pump may look at them as late as it likes.
#[derive(Debug)]
pub(crate) struct SessionShared {
    pub(crate) id: SessionId,
    pub(crate) stream: StreamId,
    /// Index of the shard that hosts the stream.
    pub(crate) shard: usize,
    /// First stream offset not handed out to the client.
    handed_next: AtomicU64,
    /// Credit of what was handed out to the client, in payload bytes.
    handed_bytes: AtomicU64,
    /// The pump has been told to look, and has not yet: it is told once.
    noted: AtomicBool,
    /// The handler is done.
    over: AtomicBool,
    /// The handler ended the session in order: the shard has been told.
    finished: AtomicBool,
    /// Why the subscription's queue is closed.
    pub(crate) end: OnceLock<Result<(), CallFailure>>,
    /// Held until handler and pump have both let go.
    _place: OwnedSemaphorePermit,
}

impl SessionShared {
    pub(crate) const fn new(
        id: SessionId,
        stream: StreamId,
        shard: usize,
        place: OwnedSemaphorePermit,
    ) -> Self {
        Self {
            id,
            stream,
            shard,
            handed_next: AtomicU64::new(0),
            handed_bytes: AtomicU64::new(0),
            noted: AtomicBool::new(false),
            over: AtomicBool::new(false),
            finished: AtomicBool::new(false),
            end: OnceLock::new(),
            _place: place,
        }
    }

    /// The pump is about to look: notes from now on count again.
    pub(crate) fn take_note(&self) {
        self.noted.store(false, Ordering::Release);
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.finished.load(Ordering::Acquire)
    }

    /// First offset not handed out, and the credit of what was.
    pub(crate) fn handed(&self) -> (u64, u64) {
        (self.handed_next.load(Ordering::Acquire), self.handed_bytes.load(Ordering::Acquire))
    }
}

/// A handler's hold on its session. Dropping it ends the session at the shard.
#[derive(Debug)]
pub(crate) struct SessionHandle {
    pub(crate) shared: Arc<SessionShared>,
    notes: mpsc::Sender<SessionId>,
}

impl SessionHandle {
    pub(crate) const fn new(shared: Arc<SessionShared>, notes: mpsc::Sender<SessionId>) -> Self {
        Self { shared, notes }
    }

    /// Records that `credit` more was handed out and that `next` is the first offset that was not.
    pub(crate) fn hand_out(&self, next: u64, credit: u64) {
        self.shared.handed_next.store(next, Ordering::Release);
        self.shared.handed_bytes.fetch_add(credit, Ordering::AcqRel);
    }

    /// Makes the pump look at this session soon.
    pub(crate) fn note(&self) {
        if !self.shared.noted.swap(true, Ordering::AcqRel) {
            // A place for every session is kept in the channel: it is never full. It is closed
            // when the pump is gone, and then there is nobody to tell.
            let _sent = self.notes.try_send(self.shared.id);
        }
    }

    /// The shard needs to be told nothing when the handle is dropped.
    pub(crate) fn finish(&self) {
        self.shared.finished.store(true, Ordering::Release);
    }
}

impl Drop for SessionHandle {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Release);
        self.note();
    }
}

/// How far a producer's session is. Absolute numbers: only the newest counts.
#[derive(Clone, Debug, Default)]
pub(crate) struct PublishProgress {
    /// What the producer is to use next, as of the opening; `None` before it.
    pub(crate) opened_next_seq: Option<u64>,
    /// Payload bytes that may be published in all.
    pub(crate) granted_bytes: u64,
    /// Every sequence up to and with this one is at every destination.
    pub(crate) acked_seq: u64,
    /// The session is over.
    pub(crate) failure: Option<CallFailure>,
}

/// Where the pump puts what the shard says to a subscription.
#[derive(Debug)]
pub(crate) struct SubscribeSink {
    /// Answered once.
    pub(crate) opened: Option<oneshot::Sender<Result<(), CallFailure>>>,
    /// `None` once the subscription's end has come.
    pub(crate) records: Option<mpsc::Sender<Box<Record>>>,
    /// First offset not handed out, as the shard was told.
    pub(crate) told_next: u64,
    /// Credit of what was handed out, as the shard was told by its grant.
    pub(crate) told_bytes: u64,
}

/// What kind of call a session is, with the way back to its handler.
#[derive(Debug)]
pub(crate) enum Role {
    Publish(watch::Sender<PublishProgress>),
    Subscribe(SubscribeSink),
    Commit(Option<oneshot::Sender<Result<(), CallFailure>>>),
}

/// A session as the pump has it.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) shared: Arc<SessionShared>,
    pub(crate) role: Role,
}

impl Session {
    /// Tells the handler that it is over.
    pub(crate) fn fail(&mut self, failure: CallFailure) {
        match &mut self.role {
            Role::Publish(progress) => {
                progress.send_modify(|progress| progress.failure = Some(failure));
            }
            Role::Subscribe(sink) => {
                if let Some(opened) = sink.opened.take() {
                    // The handler may have gone in the meantime.
                    let _sent = opened.send(Err(failure.clone()));
                }
                sink.close(&self.shared, Err(failure));
            }
            Role::Commit(answer) => {
                if let Some(answer) = answer.take() {
                    let _sent = answer.send(Err(failure));
                }
            }
        }
    }
}

impl SubscribeSink {
    /// Ends the queue; what stands in it is still read. Only the first end counts.
    pub(crate) fn close(&mut self, shared: &SessionShared, end: Result<(), CallFailure>) {
        let _first = shared.end.set(end);
        self.records = None;
    }
}

/// What a subscription's end means to its client.
pub(crate) const fn end_result(end: SubscribeEnd) -> Result<(), CallFailure> {
    match end {
        SubscribeEnd::StreamEnded => Ok(()),
        SubscribeEnd::TakenOver => Err(CallFailure::Refused(hawser_exchange::Refusal::TakenOver)),
        SubscribeEnd::StreamDropped => {
            Err(CallFailure::Refused(hawser_exchange::Refusal::UnknownStream))
        }
        SubscribeEnd::ShuttingDown => Err(CallFailure::Stopping),
    }
}
