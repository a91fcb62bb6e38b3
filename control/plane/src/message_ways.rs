//! Which way a message went: asked of the shard that hosts its stream.

use std::collections::BTreeMap;
use std::time::Duration;

use hawser_exchange::{
    ControlToShard, MessageDestination, MessageReport, MessageSending, MessageWay,
};
use hawser_wire::{PathId, StreamId, StreamOffset};

use crate::control::Control;
use crate::events::unix_us;
use crate::handle::Answer;
use crate::{NodeRef, PlaneError};

/// Calls that wait for a shard's answer, each of which comes as long as the shard runs.
#[derive(Debug, Default)]
pub(crate) struct MessageQuestions {
    last_ticket: u64,
    waiting: BTreeMap<u64, Question>,
}

#[derive(Debug)]
struct Question {
    stream: StreamId,
    name: String,
    seq: u64,
    answer: Answer<MessageView>,
}

/// A message and the ways that it took.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MessageView {
    /// Its stream,
    pub stream: StreamId,
    /// and that one's name.
    pub name: String,
    /// Its sequence in the stream, from 1.
    pub seq: u64,
    /// One for each destination of the stream.
    pub destinations: Vec<MessageDestinationView>,
}

/// How a message went to one destination.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MessageDestinationView {
    /// The destination.
    pub node: NodeRef,
    /// How far the message is.
    pub state: MessageState,
    /// Each time that it was sent, the oldest first, as far as that is remembered.
    pub sendings: Vec<MessageSendingView>,
}

/// How far a message is on its way to a destination.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum MessageState {
    /// It waits to be sent.
    Waiting,
    /// It was sent, and the destination has not said that it has it.
    Sent,
    /// The destination has it.
    Received,
}

/// One time that a message was sent.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MessageSendingView {
    /// Unix time in microseconds: not before,
    pub from_unix_us: u64,
    /// and not after. At most a second lies between.
    pub until_unix_us: u64,
    /// Not for the first time.
    pub again: bool,
    /// This node's name for the path.
    pub path: PathId,
    /// Of the route snapshot in force then.
    pub generation: u64,
    /// Of the link-state database that it was computed from.
    pub lsdb_digest: u64,
    /// From this node to the destination, both included.
    pub nodes: Vec<NodeRef>,
    /// A node that sent what was under way then another way, and when this node heard of it (Unix time
    /// in microseconds).
    pub detour: Option<(NodeRef, u64)>,
}

impl Control {
    /// Asks which way a message went.
    pub(crate) fn explain_message(&mut self, stream: &str, seq: u64, answer: Answer<MessageView>) {
        let found = self.catalogue.resolve(stream).and_then(|record| {
            let (stream, source_node) = (record.stream, record.source);
            if source_node != self.node {
                return Err(PlaneError::NotSource { stream, source_node });
            }
            let Some(offset) = seq.checked_sub(1).map(StreamOffset) else {
                let (what, value) = ("sequence", seq.to_string());
                let rule = "messages are counted from 1";
                return Err(PlaneError::NameInvalid { what, value, rule });
            };
            Ok((stream, record.name.clone(), offset))
        });
        let (stream, name, offset) = match found {
            Ok(found) => found,
            Err(error) => return drop(answer.send(Err(error))),
        };
        let questions = &mut self.message_questions;
        questions.last_ticket = questions.last_ticket.wrapping_add(1);
        let ticket = questions.last_ticket;
        questions.waiting.insert(ticket, Question { stream, name, seq, answer });
        let question = ControlToShard::ExplainMessage { ticket, stream, offset };
        self.shards.send_to_stream(stream, question);
    }

    /// A shard answers.
    pub(crate) fn handle_message_report(&mut self, report: MessageReport) {
        let Some(question) = self.message_questions.waiting.remove(&report.ticket) else { return };
        let Question { stream, name, seq, answer } = question;
        let _caller_gone = answer.send(self.message_view(stream, name, seq, report));
    }

    fn message_view(
        &self,
        stream: StreamId,
        name: String,
        seq: u64,
        report: MessageReport,
    ) -> Result<MessageView, PlaneError> {
        let Some(end) = report.end else {
            // It ended while it was asked for.
            return Err(PlaneError::UnknownStream { stream: name, nearest: None });
        };
        if report.destinations.is_empty() {
            return Err(PlaneError::NoMessage { stream, seq, last_seq: end.0 });
        }
        let forgotten = |destination: &MessageDestination| match destination.way {
            MessageWay::Forgotten { known_from } => {
                Some(known_from.map(|offset| offset.0.saturating_add(1)))
            }
            _ => None,
        };
        let all: Option<Vec<Option<u64>>> = report.destinations.iter().map(forgotten).collect();
        if let Some(known) = all {
            let known_from = known.into_iter().flatten().min();
            return Err(PlaneError::MessageForgotten { stream, seq, known_from });
        }
        let now_us = unix_us();
        let destinations = report.destinations.into_iter();
        let view = |destination: MessageDestination| self.destination_view(now_us, destination);
        Ok(MessageView { stream, name, seq, destinations: destinations.map(view).collect() })
    }

    fn destination_view(
        &self,
        now_us: u64,
        destination: MessageDestination,
    ) -> MessageDestinationView {
        let MessageDestination { node, received, way } = destination;
        let (state, sendings) = match way {
            MessageWay::NotSent => (MessageState::Waiting, Vec::new()),
            MessageWay::Here | MessageWay::Forgotten { .. } => (MessageState::Sent, Vec::new()),
            MessageWay::Sent(sendings) => (MessageState::Sent, sendings),
        };
        let state = if received { MessageState::Received } else { state };
        let sendings = sendings.iter().map(|sending| self.sending_view(now_us, sending));
        MessageDestinationView { node: self.node_ref(node), state, sendings: sendings.collect() }
    }

    fn sending_view(&self, now_us: u64, sending: &MessageSending) -> MessageSendingView {
        let &MessageSending { first_ago, last_ago, again, path, generation, lsdb_digest, .. } =
            sending;
        let before = |ago: Duration| {
            now_us.saturating_sub(u64::try_from(ago.as_micros()).unwrap_or(u64::MAX))
        };
        let nodes = std::iter::once(&self.node).chain(sending.nodes.iter());
        MessageSendingView {
            from_unix_us: before(first_ago),
            until_unix_us: before(last_ago),
            again,
            path,
            generation,
            lsdb_digest,
            nodes: nodes.map(|&node| self.node_ref(node)).collect(),
            detour: sending.detour.map(|(node, ago)| (self.node_ref(node), before(ago))),
        }
    }
}
