//! What happened on links, with what led to it: the latest of it is kept for whoever asks.

use std::collections::VecDeque;

use hawser_exchange::LinkEventReport;
use hawser_wire::{NodeId, printable};
use tokio::sync::broadcast;

use crate::control::Control;
use crate::directory::resolve_node;
use crate::events::unix_us;
use crate::{EventKind, LaneEventView, LaneEventsView, NodeRef, PlaneError};

/// Events that are kept, and that a watcher may lag behind.
const EVENTS_KEPT: usize = 1024;

/// Inputs of an event, by name.
pub(crate) type Inputs = Vec<(&'static str, String)>;

/// The latest events, the oldest first.
#[derive(Debug)]
pub(crate) struct LaneEvents {
    kept: VecDeque<LaneEventView>,
    live: broadcast::Sender<LaneEventView>,
    last: u64,
}

impl LaneEvents {
    pub(crate) fn new() -> Self {
        Self { kept: VecDeque::new(), live: broadcast::Sender::new(EVENTS_KEPT), last: 0 }
    }

    /// Something happened; the oldest event makes room for it.
    fn add(&mut self, peer: NodeRef, name: &'static str, mut inputs: Inputs) {
        for (_, value) in &mut inputs {
            // Some of them may be a peer's words.
            *value = printable(value);
        }
        self.last = self.last.saturating_add(1);
        let event = LaneEventView { seq: self.last, peer, name, inputs, unix_us: unix_us() };
        if self.kept.len() >= EVENTS_KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back(event.clone());
        // An error means that nobody watches.
        let _unwatched = self.live.send(event);
    }

    /// What is kept, and all that follows it.
    fn view(&self, peer: Option<NodeId>) -> LaneEventsView {
        let wanted = |event: &&LaneEventView| peer.is_none_or(|peer| event.peer.node == peer);
        let kept = self.kept.iter().filter(wanted).cloned().collect();
        LaneEventsView { kept, live: self.live.subscribe(), peer }
    }
}

impl Control {
    /// A shard tells what happened on a link.
    pub(crate) fn handle_link_event(&mut self, report: LinkEventReport) {
        self.note_lane_event(report.peer, report.name, report.inputs);
    }

    /// Keeps an event of a link and tells watchers of both kinds.
    pub(crate) fn note_lane_event(&mut self, peer: NodeId, name: &'static str, inputs: Inputs) {
        let mut detail = format!("{name} on the link to {}", self.node_name(peer));
        for (input, value) in &inputs {
            detail.push_str(&format!(" {input}={value}"));
        }
        self.events.emit(EventKind::LinkEvent, Some(peer), detail);
        let peer = self.node_ref(peer);
        self.lane_events.add(peer, name, inputs);
    }

    /// The events of all links, or of the one to the node that the caller names.
    pub(crate) fn lane_events(&self, peer: Option<&str>) -> Result<LaneEventsView, PlaneError> {
        let Some(name) = peer else { return Ok(self.lane_events.view(None)) };
        let resolved = resolve_node(self.flooding.lsdb(), self.node, &self.config.node_name, name);
        let peer = match resolved {
            // One that has left may still be asked about.
            Err(PlaneError::UnknownNode { .. }) if self.event_peer(name).is_some() => {
                self.event_peer(name)
            }
            resolved => Some(resolved?),
        };
        Ok(self.lane_events.view(peer))
    }

    fn event_peer(&self, name: &str) -> Option<NodeId> {
        let id = name.parse().ok();
        let mut peers = self.lane_events.kept.iter().rev().map(|event| &event.peer);
        peers.find(|peer| peer.name == name || Some(peer.node) == id).map(|peer| peer.node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(id: u8) -> NodeRef {
        NodeRef { node: NodeId::from_bytes([id; 16]), name: format!("node-{id}") }
    }

    #[test]
    fn the_latest_are_kept_by_peer_and_the_rest_follows() {
        let mut events = LaneEvents::new();
        for _ in 0..EVENTS_KEPT {
            events.add(peer(1), "hedged", vec![("from_lane", "2".into())]);
        }
        events.add(peer(2), "quiet", vec![("why", "\x1b[2J".into())]);
        let all = events.view(None);
        assert_eq!(all.kept.len(), EVENTS_KEPT);
        assert_eq!(all.kept.first().map(|event| event.seq), Some(2));
        let mut of_one = events.view(Some(peer(2).node));
        assert_eq!(of_one.kept.len(), 1);
        assert_eq!(of_one.kept[0].inputs, [("why", "\\u{1b}[2J".to_owned())]);
        events.add(peer(2), "heard", vec![]);
        let followed = of_one.live.try_recv().map(|event| (event.seq, event.name));
        let seq = u64::try_from(EVENTS_KEPT).expect("small") + 2;
        assert_eq!(followed.ok(), Some((seq, "heard")));
    }
}
