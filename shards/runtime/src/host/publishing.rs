//! Calls that publish on a stream which begins here.

use hawser_delivery::PublishError;
use hawser_exchange::{PublishedBatch, Refusal, ShardToApi, ShardToControl};
use hawser_wire::ProducerId;

use super::{Outward, StreamHost};
use crate::publishers::CallId;

impl StreamHost {
    pub(crate) fn handle_open_publish(
        &mut self,
        call: CallId,
        producer: ProducerId,
        outward: &mut Outward,
    ) {
        let Some(sender) = &mut self.sender else {
            outward.refuse(call, Refusal::UnknownStream);
            return;
        };
        if !sender.is_ready() {
            self.opening.push((call, producer));
            return;
        }
        if let Some((node, by)) = sender.refused() {
            outward.refuse(call, Refusal::StreamRefused { node, reason: by.refusal() });
            return;
        }
        match sender.open_producer(producer) {
            Ok((next_seq, acked_seq)) => {
                let room = sender.room_bytes();
                let (earlier, granted_bytes) = self.publishers.open(call, producer, room);
                if let Some(earlier) = earlier {
                    outward.refuse(earlier, Refusal::TakenOver);
                }
                let (api, session) = call;
                let opened = ShardToApi::PublishOpened { session, next_seq, granted_bytes };
                outward.push_api(api, opened);
                let duplicates = 0;
                let progress = ShardToApi::Published { session, acked_seq, duplicates };
                outward.push_api(api, progress);
            }
            Err(error) => outward.refuse(call, refusal_of(error)),
        }
    }

    pub(crate) fn handle_publish(
        &mut self,
        call: CallId,
        batch: PublishedBatch,
        outward: &mut Outward,
    ) {
        let (Some(sender), Some(publisher)) = (&mut self.sender, self.publishers.get(call)) else {
            return; // The call was refused or taken over, and is told so.
        };
        let producer = publisher.producer;
        let bytes = u64::try_from(batch.payload.len()).unwrap_or(u64::MAX);
        let PublishedBatch { first_seq, count, lengths, payload } = batch;
        match sender.handle_publish(producer, first_seq, count, lengths, payload) {
            Ok(outcome) => {
                self.publishers.handle_taken(call, bytes, outcome.duplicates);
                if outcome.duplicates > 0 {
                    let seq = outcome.acked_seq;
                    self.publishers
                        .handle_acked(producer, seq, u64::MAX)
                        .into_iter()
                        .for_each(|(api, message)| outward.push_api(api, message));
                }
            }
            Err(error) => {
                self.publishers.remove(call);
                outward.refuse(call, refusal_of(error));
            }
        }
    }

    pub(crate) fn handle_end_publish(
        &mut self,
        call: CallId,
        abandoned: bool,
        outward: &mut Outward,
    ) {
        self.opening.retain(|&(opening, _)| opening != call);
        // The last acknowledgement may have come in this very turn: the call hears of it before it
        // is over.
        self.settle_publishers(outward);
        let acked = self.publishers.get(call).zip(self.sender.as_mut()).is_some_and(
            |(publisher, sender)| {
                sender
                    .open_producer(publisher.producer)
                    .is_ok_and(|(next_seq, acked_seq)| acked_seq.saturating_add(1) >= next_seq)
            },
        );
        if abandoned || acked {
            self.publishers.remove(call);
        } else {
            self.publishers.handle_end(call);
        }
    }

    pub(super) fn settle_publishers(&mut self, outward: &mut Outward) {
        let Some(sender) = &mut self.sender else { return };
        while let Some(node) = sender.poll_unknown() {
            // Whoever does not know the stream says so again and again.
            if !outward.control.is_full() {
                let stream = self.stream;
                outward.control.push(ShardToControl::StreamUnknownAt { stream, node });
            }
        }
        while let Some((producer, acked_seq)) = sender.poll_acked() {
            let last_seq = sender.last_seq(producer);
            if let Some((api, message)) =
                self.publishers.handle_acked(producer, acked_seq, last_seq)
            {
                outward.push_api(api, message);
            }
        }
        for (api, grant) in self.publishers.grants(sender.room_bytes()) {
            outward.push_api(api, grant);
        }
        if sender.is_ready() && !self.opening.is_empty() {
            for (call, producer) in std::mem::take(&mut self.opening) {
                self.handle_open_publish(call, producer, outward);
            }
        }
    }
}

const fn refusal_of(error: PublishError) -> Refusal {
    match error {
        PublishError::SequenceGap { expected_seq, got_seq } => {
            Refusal::SequenceGap { expected_seq, got_seq }
        }
        PublishError::TooManyProducers { max } => Refusal::TooMany { what: "producers", max },
        PublishError::Closed => Refusal::StreamClosed,
        // The API thread checks the lengths before it sends them.
        PublishError::Malformed => Refusal::SequenceGap { expected_seq: 0, got_seq: 0 },
    }
}
