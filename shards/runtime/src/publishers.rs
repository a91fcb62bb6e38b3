use std::collections::BTreeMap;

use hawser_exchange::{Refusal, SessionId, ShardToApi};
use hawser_wire::{MESSAGE_BYTES_MAX, ProducerId};

/// Payload bytes that a publisher may be ahead of the stream's outbox.
const PUBLISH_WINDOW_BYTES: u64 = 2 << 20;

/// However many publish, each may be ahead by so many: three quarters are a largest message, and
/// more is granted before less than that is left, so that every message fits in the end.
const PUBLISH_WINDOW_BYTES_MIN: u64 = LARGEST_BYTES / 3 * 4 + 4;

#[expect(clippy::as_conversions, reason = "u64::try_from is not const")]
const LARGEST_BYTES: u64 = MESSAGE_BYTES_MAX as u64;
const _: () = assert!(PUBLISH_WINDOW_BYTES_MIN / 4 * 3 >= LARGEST_BYTES);
const _: () = assert!(PUBLISH_WINDOW_BYTES_MIN <= PUBLISH_WINDOW_BYTES);

/// How far each of so many calls may be ahead while the outbox has `room_bytes`: they share it.
fn window_bytes(room_bytes: u64, calls: usize) -> u64 {
    let calls = u64::try_from(calls).unwrap_or(u64::MAX).max(1);
    (room_bytes / calls).clamp(PUBLISH_WINDOW_BYTES_MIN, PUBLISH_WINDOW_BYTES).min(room_bytes)
}

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
        let granted_bytes = window_bytes(room_bytes, self.calls.len() + 1);
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
        let window_bytes = window_bytes(room_bytes, self.calls.len());
        self.calls.iter_mut().filter_map(move |(&(api, session), publisher)| {
            let target_bytes = publisher.taken_bytes.saturating_add(window_bytes);
            let grown = target_bytes.saturating_sub(publisher.granted_bytes);
            let used_up = publisher.granted_bytes <= publisher.taken_bytes;
            let worth_bytes = (window_bytes / 4).max(PUBLISH_WINDOW_BYTES_MIN / 4);
            if grown < worth_bytes && !(used_up && grown > 0) {
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

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: u64 = 16 << 20;

    /// So many calls of as many producers, and what each was granted at first.
    fn open(count: u64) -> (Publishers, Vec<u64>) {
        let mut publishers = Publishers::default();
        let granted = (0..count)
            .map(|tag| publishers.open((0, SessionId(tag)), ProducerId(tag), ROOM).1)
            .collect();
        (publishers, granted)
    }

    fn grants(publishers: &mut Publishers, room_bytes: u64) -> BTreeMap<u64, u64> {
        publishers
            .grants(room_bytes)
            .map(|(_, message)| match message {
                ShardToApi::PublishCredit { session, granted_bytes } => (session.0, granted_bytes),
                other => panic!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn calls_share_the_room_that_there_is() {
        const MOST: u64 = PUBLISH_WINDOW_BYTES;
        let (mut publishers, granted) = open(10);
        assert_eq!(granted, [MOST, MOST, MOST, MOST, MOST, MOST, MOST, MOST, ROOM / 9, ROOM / 10]);
        assert!(grants(&mut publishers, ROOM).is_empty(), "they have their parts already");
        for (tag, bytes) in (0..10).zip(granted) {
            publishers.handle_taken((0, SessionId(tag)), bytes, 0);
        }
        let ahead = grants(&mut publishers, ROOM / 2)
            .into_values()
            .zip(publishers.calls.values())
            .map(|(granted, publisher)| granted - publisher.taken_bytes)
            .collect::<Vec<_>>();
        assert_eq!(ahead, [PUBLISH_WINDOW_BYTES_MIN; 10]);
        assert!(grants(&mut publishers, 0).is_empty());
    }

    #[test]
    fn a_largest_message_fits_in_the_end_however_many_publish() {
        let (mut publishers, granted) = open(256);
        let mut credit: BTreeMap<u64, u64> = (0..).zip(granted).collect();
        let mut sent: BTreeMap<u64, u64> = BTreeMap::new();
        // Odd steps, so that credit is left over that is too little for a largest message.
        for step in [999, 700_000, LARGEST_BYTES, 1, LARGEST_BYTES, LARGEST_BYTES - 1] {
            for tag in 0..256 {
                let sent = sent.entry(tag).or_default();
                assert!(*sent + step <= credit[&tag], "{tag} waits for ever with {step}");
                *sent += step;
                publishers.handle_taken((0, SessionId(tag)), step, 0);
                credit.extend(grants(&mut publishers, ROOM));
            }
        }
    }

    #[test]
    fn credit_is_told_when_it_is_worth_it_or_used_up() {
        let (mut publishers, _) = open(1);
        let call = (0, SessionId(0));
        publishers.handle_taken(call, (1 << 19) - 1, 0);
        assert!(grants(&mut publishers, ROOM).is_empty());
        publishers.handle_taken(call, 1, 0);
        assert_eq!(grants(&mut publishers, ROOM)[&0], 5 << 19);
        publishers.handle_taken(call, 2 << 20, 0);
        assert!(grants(&mut publishers, 0).is_empty());
        assert_eq!(grants(&mut publishers, 10)[&0], (5 << 19) + 10);
    }
}
