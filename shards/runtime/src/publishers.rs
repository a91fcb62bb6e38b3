use std::collections::BTreeMap;

use hawser_exchange::{Refusal, SessionId, ShardToApi};
use hawser_wire::ProducerId;

/// Payload bytes that a publisher may be ahead of the stream's outbox.
const PUBLISH_WINDOW_BYTES: u64 = 4 << 20;

/// A call: the API thread, and the session there.
pub(crate) type CallId = (usize, SessionId);

#[derive(Debug)]
pub(crate) struct Publisher {
    pub(crate) producer: ProducerId,
    /// Payload bytes granted and taken in all.
    granted_bytes: u64,
    taken_bytes: u64,
    duplicates: u64,
    /// The client sends no more; its last sequence is awaited.
    ended: bool,
}

/// The calls that publish on one stream. A producer has one at most.
#[derive(Debug, Default)]
pub(crate) struct Publishers {
    calls: BTreeMap<CallId, Publisher>,
    by_producer: BTreeMap<ProducerId, CallId>,
}

impl Publishers {
    pub(crate) fn get(&self, call: CallId) -> Option<&Publisher> {
        self.calls.get(&call)
    }

    /// Begins a call; the one that it takes over from, if any, and its first credit.
    pub(crate) fn open(
        &mut self,
        call: CallId,
        producer: ProducerId,
        room_bytes: u64,
    ) -> (Option<CallId>, u64) {
        let earlier = self.by_producer.insert(producer, call);
        if let Some(earlier) = earlier {
            self.calls.remove(&earlier);
        }
        let granted_bytes = room_bytes.min(PUBLISH_WINDOW_BYTES);
        let publisher =
            Publisher { producer, granted_bytes, taken_bytes: 0, duplicates: 0, ended: false };
        self.calls.insert(call, publisher);
        (earlier, granted_bytes)
    }

    pub(crate) fn remove(&mut self, call: CallId) {
        if let Some(publisher) = self.calls.remove(&call)
            && self.by_producer.get(&publisher.producer) == Some(&call)
        {
            self.by_producer.remove(&publisher.producer);
        }
    }

    /// Removes every call.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = CallId> {
        self.by_producer.clear();
        std::mem::take(&mut self.calls).into_keys()
    }

    /// Messages of a call were taken.
    pub(crate) fn handle_taken(&mut self, call: CallId, bytes: u64, duplicates: u32) {
        if let Some(publisher) = self.calls.get_mut(&call) {
            publisher.taken_bytes = publisher.taken_bytes.saturating_add(bytes);
            publisher.duplicates = publisher.duplicates.saturating_add(u64::from(duplicates));
        }
    }

    /// The client has sent all it wants.
    pub(crate) fn handle_end(&mut self, call: CallId) {
        if let Some(publisher) = self.calls.get_mut(&call) {
            publisher.ended = true;
        }
    }

    /// What to tell the call of `producer` about its progress; a call that has ended and reached
    /// `last_seq` is over.
    pub(crate) fn handle_acked(
        &mut self,
        producer: ProducerId,
        acked_seq: u64,
        last_seq: u64,
    ) -> Option<(usize, ShardToApi)> {
        let call = *self.by_producer.get(&producer)?;
        let publisher = self.calls.get(&call)?;
        let (api, session) = call;
        let duplicates = publisher.duplicates;
        if publisher.ended && acked_seq >= last_seq {
            self.remove(call);
        }
        Some((api, ShardToApi::Published { session, acked_seq, duplicates }))
    }

    /// Credit that is worth telling, call by call, while the outbox has `room_bytes`.
    pub(crate) fn grants(&mut self, room_bytes: u64) -> impl Iterator<Item = (usize, ShardToApi)> {
        self.calls.iter_mut().filter_map(move |(&(api, session), publisher)| {
            let ahead = room_bytes.min(PUBLISH_WINDOW_BYTES);
            let target_bytes = publisher.taken_bytes.saturating_add(ahead);
            let grown = target_bytes.saturating_sub(publisher.granted_bytes);
            let used_up = publisher.granted_bytes <= publisher.taken_bytes;
            if grown < PUBLISH_WINDOW_BYTES / 4 && !(used_up && grown > 0) {
                return None;
            }
            publisher.granted_bytes = target_bytes;
            let granted_bytes = target_bytes;
            Some((api, ShardToApi::PublishCredit { session, granted_bytes }))
        })
    }
}

pub(crate) fn refused(session: SessionId, refusal: Refusal) -> ShardToApi {
    ShardToApi::Refused { session, refusal: Box::new(refusal) }
}
