//! Which ways messages of this shard's streams took, for who asks later.

use std::time::Duration;

use hawser_delivery::{Sendings, SentRun, WayTaken};
use hawser_exchange::{MessageDestination, MessageReport, MessageSending, MessageWay};
use hawser_wire::{MonoTime, NodeId, PathId, StreamHeader, StreamId, StreamOffset};

use crate::dispatch::Forwarder;
use crate::host::StreamHost;
use crate::io::ShardIo;
use crate::streams::Streams;

/// Runs that all logs of a shard hold, and one more for each stream: some megabytes.
pub(crate) const SENT_RUNS_MAX: usize = 32_768;

impl StreamHost {
    /// A record is on its way to `node`.
    pub(crate) fn note_sent<I: ShardIo>(
        &mut self,
        now: MonoTime,
        node: NodeId,
        header: &StreamHeader,
        forwarder: &Forwarder<I>,
    ) {
        let Some(path) = self.paths.path_to(node) else { return };
        let snapshot = forwarder.routes.current();
        let (generation, lsdb_digest) = (snapshot.generation, snapshot.lsdb_digest);
        let messages = (header.stream_base, header.stream_end());
        let class = self.paths.class;
        self.sent.note_sent(now, node, messages, (path, generation), || {
            let nodes = forwarder.paths_to(class, node)?.get(path)?.nodes.clone();
            Some(WayTaken { path, generation, lsdb_digest, nodes })
        });
    }

    /// Node `at` has sent records on their way to `node` another way.
    pub(crate) fn note_detour(&mut self, now: MonoTime, node: NodeId, path: PathId, at: NodeId) {
        if let Some(sender) = &self.sender {
            self.sent.note_detour(now, (node, path), at, sender.received(node));
        }
    }
}

impl Streams {
    /// How the message at `offset` of a stream went to each destination.
    pub(crate) fn explain_message(
        &self,
        now: MonoTime,
        local: NodeId,
        ticket: u64,
        (stream, offset): (StreamId, StreamOffset),
    ) -> MessageReport {
        let host = self.hosts.get(&stream);
        let Some((host, sender)) = host.and_then(|host| Some((host, host.sender.as_ref()?))) else {
            return MessageReport { ticket, end: None, destinations: Vec::new() };
        };
        let end = sender.end();
        let nodes = sender.destinations().filter(|_| offset < end);
        let destinations = nodes.map(|node| {
            let received = offset < sender.received(node);
            let way = match host.sent.find(node, offset) {
                _ if node == local => MessageWay::Here,
                Sendings::Known(runs) => {
                    let sending = |run: &&SentRun| sending_of(now, run, offset);
                    MessageWay::Sent(runs.iter().map(sending).collect())
                }
                Sendings::Forgotten { known_from } => MessageWay::Forgotten { known_from },
                // By this node in an earlier life.
                Sendings::None if received => MessageWay::Forgotten { known_from: None },
                Sendings::None => MessageWay::NotSent,
            };
            MessageDestination { node, received, way }
        });
        MessageReport { ticket, end: Some(end), destinations: destinations.collect() }
    }
}

fn sending_of(now: MonoTime, run: &SentRun, offset: StreamOffset) -> MessageSending {
    let ago = |at: MonoTime| -> Duration { now.saturating_since(at) };
    let WayTaken { path, generation, lsdb_digest, ref nodes } = run.way;
    MessageSending {
        first_ago: ago(run.first_at),
        last_ago: ago(run.last_at),
        again: run.again,
        path,
        generation,
        lsdb_digest,
        nodes: nodes.clone(),
        detour: run.detour_of(offset).map(|detour| (detour.at, ago(detour.heard_at))),
    }
}
