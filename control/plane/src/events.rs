use std::time::{SystemTime, UNIX_EPOCH};

use hawser_wire::{NodeId, printable};
use tokio::sync::broadcast;

use crate::{EventKind, EventView};

/// Events that a watcher may lag behind.
const EVENTS_KEPT: usize = 1024;

/// Numbers events and hands them to whoever watches.
#[derive(Debug)]
pub(crate) struct Events {
    sender: broadcast::Sender<EventView>,
    last: u64,
}

impl Events {
    pub(crate) fn new() -> Self {
        Self { sender: broadcast::Sender::new(EVENTS_KEPT), last: 0 }
    }

    pub(crate) fn sender(&self) -> broadcast::Sender<EventView> {
        self.sender.clone()
    }

    /// Something happened. Nobody need be watching.
    pub(crate) fn emit(&mut self, kind: EventKind, node: Option<NodeId>, mut detail: String) {
        self.last = self.last.saturating_add(1);
        // Some of it may be a peer's words.
        detail = printable(&detail);
        tracing::info!(kind = kind.name(), node = node.map(|node| node.to_string()), "{detail}");
        // An error means that nobody watches.
        let _unwatched =
            self.sender.send(EventView { seq: self.last, kind, node, detail, unix_us: unix_us() });
    }
}

/// Wall clock, microseconds since 1970, for people.
pub(crate) fn unix_us() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}
