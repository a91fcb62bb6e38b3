use std::collections::VecDeque;

use hawser_exchange::{
    ApiData, ApiPorts, ApiToShard, ConsumerStart, PublishedBatch, Refusal, SessionId, ShardToApi,
    ShardToApiData, SubscribeEnd, SubscribeRequest,
};
use hawser_wire::{ProducerId, Record, ShardId, StreamId, StreamOffset, put_varint};

use crate::node::Node;
use crate::wait::wait;

/// Credit of a subscription that is not about credit.
pub(crate) const PLENTY: u64 = 1 << 40;

/// An API thread's place, with the calls that a test makes.
pub(crate) struct Application {
    ports: ApiPorts,
    control: VecDeque<ShardToApi>,
    data: VecDeque<ShardToApiData>,
    sessions: u64,
}

impl Application {
    /// Of a node, once.
    pub(crate) fn of(node: &mut Node) -> Self {
        let ports = node.apis.remove(0);
        Self { ports, control: VecDeque::new(), data: VecDeque::new(), sessions: 0 }
    }

    fn shard(&mut self, stream: StreamId) -> usize {
        usize::from(ShardId::of_stream(stream, self.ports.shards.len() as u16).0)
    }

    fn session(&mut self) -> SessionId {
        self.sessions += 1;
        SessionId(self.sessions)
    }

    pub(crate) fn tell(&mut self, stream: StreamId, message: ApiToShard) {
        let shard = self.shard(stream);
        let port = &mut self.ports.shards[shard].control_to;
        port.try_send(message).expect("room");
        port.ring();
    }

    pub(crate) fn tell_data(&mut self, stream: StreamId, message: ApiData) {
        let shard = self.shard(stream);
        let Self { ports: ApiPorts { bell, shards, .. }, .. } = self;
        let port = &mut shards[shard].data_to;
        let mut message = Some(message);
        let sent = wait(bell, || match port.try_send(message.take()?) {
            Ok(()) => Some(()),
            Err(full) => {
                message = Some(full.0);
                None
            }
        });
        sent.expect("room before patience ends");
        port.ring();
    }

    /// Sleeps until `pick` makes something of what shards have said; the rest is kept.
    fn hear<T>(
        &mut self,
        what: &str,
        mut pick: impl FnMut(&mut VecDeque<ShardToApi>, &mut VecDeque<ShardToApiData>) -> Option<T>,
    ) -> T {
        let Self { ports: ApiPorts { bell, shards, .. }, control, data, .. } = self;
        let found = wait(bell, || {
            for port in &mut *shards {
                control.extend(std::iter::from_fn(|| port.control_from.try_recv()));
                data.extend(std::iter::from_fn(|| port.data_from.try_recv()));
            }
            pick(control, data)
        });
        found.unwrap_or_else(|| panic!("never heard: {what}; heard {control:?} {data:?}"))
    }

    /// Likewise, of the control rings alone.
    pub(crate) fn hear_control<T>(
        &mut self,
        what: &str,
        pick: impl Fn(&ShardToApi) -> Option<T>,
    ) -> T {
        self.hear(what, |control, _| {
            let at = control.iter().position(|message| pick(message).is_some())?;
            pick(&control.remove(at)?)
        })
    }

    /// Asks to publish, without waiting for an answer.
    pub(crate) fn ask_publish(&mut self, stream: StreamId, producer: u64) -> SessionId {
        let (session, producer) = (self.session(), ProducerId(producer));
        self.tell(stream, ApiToShard::OpenPublish { session, stream, producer });
        session
    }

    /// The next sequence of the producer, and its first credit.
    pub(crate) fn hear_publish_opened(&mut self, session: SessionId) -> (u64, u64) {
        self.hear_control("publish opened", |message| match message {
            ShardToApi::PublishOpened { session: s, next_seq, granted_bytes } if *s == session => {
                Some((*next_seq, *granted_bytes))
            }
            _ => None,
        })
    }

    pub(crate) fn open_publish(&mut self, stream: StreamId, producer: u64) -> Publishing {
        let session = self.ask_publish(stream, producer);
        let (next_seq, granted_bytes) = self.hear_publish_opened(session);
        Publishing { session, stream, next_seq, granted_bytes, sent_bytes: 0 }
    }

    /// Publishes messages as one batch, when there is credit for them.
    pub(crate) fn publish(&mut self, call: &mut Publishing, messages: &[Vec<u8>]) {
        let (mut lengths, mut payload) = (Vec::new(), Vec::new());
        for message in messages {
            put_varint(&mut lengths, message.len() as u32);
            payload.extend_from_slice(message);
        }
        while call.sent_bytes >= call.granted_bytes {
            call.granted_bytes = self.hear_control("credit", |message| match message {
                ShardToApi::PublishCredit { session, granted_bytes }
                    if *session == call.session =>
                {
                    Some(*granted_bytes)
                }
                _ => None,
            });
        }
        call.sent_bytes += payload.len() as u64;
        let count = messages.len() as u32;
        let batch = PublishedBatch {
            first_seq: call.next_seq,
            count,
            lengths: lengths.into(),
            payload: payload.into(),
        };
        call.next_seq += u64::from(count);
        let (session, stream, batch) = (call.session, call.stream, Box::new(batch));
        self.tell_data(stream, ApiData::Publish { session, stream, batch });
    }

    /// Waits until everything that was published is at every destination.
    pub(crate) fn until_acked(&mut self, call: &Publishing) {
        let last = call.next_seq - 1;
        self.hear_control("all acknowledged", |message| match message {
            ShardToApi::Published { session, acked_seq, .. }
                if *session == call.session && *acked_seq >= last =>
            {
                Some(())
            }
            _ => None,
        });
    }

    /// Why a call was refused.
    pub(crate) fn hear_refused(&mut self, session: SessionId) -> Refusal {
        self.hear_control("refused", |message| match message {
            ShardToApi::Refused { session: s, refusal } if *s == session => {
                Some((**refusal).clone())
            }
            _ => None,
        })
    }

    pub(crate) fn ask_subscribe(&mut self, stream: StreamId, consumer: &str) -> SessionId {
        self.ask_subscribe_as(stream, consumer, false)
    }

    fn ask_subscribe_as(
        &mut self,
        stream: StreamId,
        consumer: &str,
        manual_commit: bool,
    ) -> SessionId {
        let session = self.session();
        let request = SubscribeRequest {
            session,
            stream,
            consumer: consumer.into(),
            start: ConsumerStart::Resume,
            manual_commit,
            granted_bytes: PLENTY,
        };
        self.tell(stream, ApiToShard::OpenSubscribe(Box::new(request)));
        session
    }

    /// The first offset that will come.
    pub(crate) fn hear_subscribed(&mut self, session: SessionId) -> StreamOffset {
        self.hear_control("subscribed", |message| match message {
            ShardToApi::SubscribeOpened { session: s, next } if *s == session => Some(*next),
            _ => None,
        })
    }

    pub(crate) fn subscribe(&mut self, stream: StreamId, consumer: &str) -> Subscribed {
        let session = self.ask_subscribe(stream, consumer);
        let next = self.hear_subscribed(session);
        Subscribed { session, stream, next }
    }

    /// Likewise, as one that confirms by [`Self::confirm`] alone.
    pub(crate) fn subscribe_manually(&mut self, stream: StreamId, consumer: &str) -> Subscribed {
        let session = self.ask_subscribe_as(stream, consumer, true);
        let next = self.hear_subscribed(session);
        Subscribed { session, stream, next }
    }

    /// Confirms all that was taken.
    pub(crate) fn confirm(&mut self, call: &Subscribed, consumer: &str) {
        let (session, stream, next) = (self.session(), call.stream, call.next);
        let consumer = consumer.into();
        self.tell(stream, ApiToShard::Commit { session, stream, consumer, next });
        self.hear_control("commit done", |message| match message {
            ShardToApi::CommitDone { session: s } if *s == session => Some(()),
            _ => None,
        });
    }

    /// Lets go of a subscription, whatever is still under way to it.
    pub(crate) fn unsubscribe(&mut self, call: &Subscribed) {
        let (session, stream) = (call.session, call.stream);
        self.tell(stream, ApiToShard::EndSubscribe { session, stream });
    }

    /// The next record, where it belongs.
    pub(crate) fn take(&mut self, call: &mut Subscribed) -> Record {
        let what = format!("what begins at {}", call.next.0);
        let record = self.hear(&what, |_, data| {
            let at = data.iter().position(|message| {
                matches!(message, ShardToApiData::Deliver { session, .. }
                    if *session == call.session)
            })?;
            match data.remove(at) {
                Some(ShardToApiData::Deliver { record, .. }) => Some(record),
                _ => None,
            }
        });
        assert_eq!(record.header.stream_base, call.next, "no gap and nothing twice");
        call.next = record.header.stream_end();
        *record
    }

    /// The next `count` messages, each at the offset where it belongs, confirmed.
    pub(crate) fn receive(&mut self, call: &mut Subscribed, count: usize) -> Vec<Vec<u8>> {
        let mut messages: Vec<Vec<u8>> = Vec::new();
        while messages.len() < count {
            let record = self.take(call);
            messages.extend(messages_of(&record));
            let (session, stream, next) = (call.session, call.stream, call.next);
            self.tell(stream, ApiToShard::HandedOut { session, stream, next });
        }
        assert_eq!(messages.len(), count, "records end where they were published to");
        messages
    }

    /// Why a subscription ended; nothing was delivered that was not received before.
    pub(crate) fn hear_end(&mut self, session: SessionId) -> SubscribeEnd {
        self.hear("end of subscription", |_, data| {
            let at = data.iter().position(|message| match message {
                ShardToApiData::Deliver { session: s, .. }
                | ShardToApiData::End { session: s, .. } => *s == session,
            })?;
            match data.remove(at)? {
                ShardToApiData::End { end, .. } => Some(end),
                more => panic!("not received before the end: {more:?}"),
            }
        })
    }

    /// Likewise, and lets go of it.
    pub(crate) fn end(&mut self, call: &Subscribed) -> SubscribeEnd {
        let (session, stream) = (call.session, call.stream);
        let end = self.hear_end(session);
        self.tell(stream, ApiToShard::EndSubscribe { session, stream });
        end
    }

    /// Nothing was said that no test asked for, but progress and credit.
    pub(crate) fn assert_quiet(&self) {
        let quiet = |message: &ShardToApi| {
            matches!(message, ShardToApi::Published { .. } | ShardToApi::PublishCredit { .. })
        };
        assert!(self.control.iter().all(quiet), "{:?}", self.control);
        assert!(self.data.is_empty(), "{:?}", self.data);
    }
}

/// A call that publishes.
pub(crate) struct Publishing {
    pub(crate) session: SessionId,
    pub(crate) stream: StreamId,
    pub(crate) next_seq: u64,
    granted_bytes: u64,
    sent_bytes: u64,
}

/// A call that is subscribed.
pub(crate) struct Subscribed {
    pub(crate) session: SessionId,
    stream: StreamId,
    pub(crate) next: StreamOffset,
}

/// The messages of a record.
pub(crate) fn messages_of(record: &Record) -> Vec<Vec<u8>> {
    let mut rest: &[u8] = &record.payload;
    let each = record.message_lengths().map(|len| {
        let (message, tail) = rest.split_at(len as usize);
        rest = tail;
        message.to_vec()
    });
    each.collect()
}
