//! What happened on links, with what led to it: the latest of it is kept for whoever asks.

use std::collections::{BTreeMap, VecDeque};

use hawser_exchange::LinkEventReport;
use hawser_wire::{NodeId, printable};
use tokio::sync::broadcast;

use crate::control::Control;
use crate::directory::resolve_node;
use crate::events::unix_us;
use crate::{EventKind, LaneEventView, LaneEventsView, NodeRef, PlaneError};

/// Events of all links that are kept.
const EVENTS_KEPT: usize = 4096;
/// Events that a watcher may lag behind.
const LAG_MAX: usize = 1024;

/// Inputs of an event, by name.
pub(crate) type Inputs = Vec<(&'static str, String)>;

/// The latest events of each link.
///
/// When there is no room the link with the most of them loses its oldest: one on which much happens takes
/// what others have no use for, and nothing of their history.
#[derive(Debug)]
pub(crate) struct LaneEvents {
    /// By neighbour, the oldest first; none is empty.
    kept: BTreeMap<NodeId, VecDeque<LaneEventView>>,
    count: usize,
    live: broadcast::Sender<LaneEventView>,
    last: u64,
}

impl LaneEvents {
    pub(crate) fn new() -> Self {
        Self { kept: BTreeMap::new(), count: 0, live: broadcast::Sender::new(LAG_MAX), last: 0 }
    }

    /// Something happened.
    fn add(&mut self, peer: NodeRef, name: &'static str, mut inputs: Inputs) {
        for (_, value) in &mut inputs {
            // Some of them may be a peer's words.
            *value = printable(value);
        }
        self.last = self.last.saturating_add(1);
        let node = peer.node;
        let event = LaneEventView { seq: self.last, peer, name, inputs, unix_us: unix_us() };
        self.kept.entry(node).or_default().push_back(event.clone());
        self.count += 1;
        if self.count > EVENTS_KEPT {
            self.drop_one();
        }
        // An error means that nobody watches.
        let _unwatched = self.live.send(event);
    }

    fn drop_one(&mut self) {
        let most = self.kept.iter_mut().max_by_key(|(_, events)| events.len());
        let Some((&node, events)) = most else { return };
        events.pop_front();
        self.count -= 1;
        if events.is_empty() {
            self.kept.remove(&node);
        }
    }

    /// What is kept, the oldest first, and all that follows it.
    fn view(&self, peer: Option<NodeId>) -> LaneEventsView {
        let wanted = |&(node, _): &(&NodeId, _)| peer.is_none_or(|peer| *node == peer);
        let of_wanted = self.kept.iter().filter(wanted).flat_map(|(_, events)| events);
        let mut kept: Vec<_> = of_wanted.cloned().collect();
        kept.sort_unstable_by_key(|event| event.seq);
        LaneEventsView { kept, live: self.live.subscribe(), peer }
    }

    /// Who was called so, or has this id; of several the one of whose link something was told last.
    fn peer_called(&self, name: &str) -> Option<NodeId> {
        let id = name.parse().ok();
        let is_it = |event: &&LaneEventView| event.peer.name == name || Some(event.peer.node) == id;
        let of_each = self.kept.values().filter_map(|events| events.iter().rev().find(is_it));
        of_each.max_by_key(|event| event.seq).map(|event| event.peer.node)
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
            Err(error @ PlaneError::UnknownNode { .. }) => {
                self.lane_events.peer_called(name).ok_or(error)?
            }
            resolved => resolved?,
        };
        Ok(self.lane_events.view(Some(peer)))
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
        // Whose name it was.
        assert_eq!(events.peer_called("node-2"), Some(peer(2).node));
        assert_eq!(events.peer_called("node-3"), None);
        events.add(peer(2), "heard", vec![]);
        let followed = of_one.live.try_recv().map(|event| (event.seq, event.name));
        let seq = u64::try_from(EVENTS_KEPT).expect("small") + 2;
        assert_eq!(followed.ok(), Some((seq, "heard")));
    }

    #[test]
    fn a_link_on_which_much_happens_takes_no_other_ones_history() {
        let mut events = LaneEvents::new();
        for id in 2..12 {
            for _ in 0..200 {
                events.add(peer(id), "lane-quiet", vec![]);
            }
        }
        for _ in 0..3 * EVENTS_KEPT {
            events.add(peer(1), "mode-changed", vec![]);
        }
        let of = |id| events.view(Some(peer(id).node)).kept.len();
        assert_eq!((2..12).map(of).sum::<usize>(), 2000);
        assert_eq!(of(1), EVENTS_KEPT - 2000);
        assert!(events.view(None).kept.is_sorted_by_key(|event| event.seq));
    }
}
