use std::collections::BTreeSet;

use hawser_plane::{EventKind, EventView, LaneEventView, LaneEventsView};
use hawser_proto::v1::{Filter, LaneEvent, MeshEvent};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, mpsc, watch};
use tonic::Status;

use crate::failure::stopping;
use crate::mesh_status::{lane_event, mesh_event};

/// Events that wait for one watcher, beyond what the plane keeps for it.
pub(crate) const EVENTS_WAITING: usize = 64;

/// The kinds that a filter wants; empty means all.
pub(crate) fn wanted_kinds(filter: &Filter) -> Result<BTreeSet<&'static str>, Status> {
    let known = EventKind::ALL.map(EventKind::name);
    filter
        .kinds
        .iter()
        .map(|kind| {
            known.iter().find(|name| *name == kind).copied().ok_or_else(|| {
                Status::invalid_argument(format!(
                    "no event kind {kind:?}: there are {}",
                    known.join(", ")
                ))
            })
        })
        .collect()
}

/// Hands events on until the watcher goes, lags, or the node stops.
pub(crate) async fn watch_events(
    events: broadcast::Receiver<EventView>,
    kinds: BTreeSet<&'static str>,
    watcher: mpsc::Sender<Result<MeshEvent, Status>>,
    stop: watch::Receiver<bool>,
) {
    let wanted = |event: EventView| {
        let wanted = kinds.is_empty() || kinds.contains(event.kind.name());
        wanted.then(|| mesh_event(event))
    };
    hand_on(events, wanted, watcher, stop).await;
}

/// Hands the kept events of links on, and then, if they are to be followed, all others.
pub(crate) async fn watch_lane_events(
    events: LaneEventsView,
    follow: bool,
    watcher: mpsc::Sender<Result<LaneEvent, Status>>,
    stop: watch::Receiver<bool>,
) {
    let LaneEventsView { kept, live, peer } = events;
    for event in kept {
        if watcher.send(Ok(lane_event(event))).await.is_err() {
            return;
        }
    }
    if follow {
        let is_wanted = |node| peer.is_none_or(|peer| node == peer);
        let wanted = |event: LaneEventView| is_wanted(event.peer.node).then(|| lane_event(event));
        hand_on(live, wanted, watcher, stop).await;
    }
}

async fn hand_on<V: Clone, M>(
    mut events: broadcast::Receiver<V>,
    wanted: impl Fn(V) -> Option<M>,
    watcher: mpsc::Sender<Result<M, Status>>,
    mut stop: watch::Receiver<bool>,
) {
    let end = loop {
        let event = tokio::select! {
            () = watcher.closed() => return,
            _ = stop.wait_for(|stop| *stop) => break stopping(),
            event = events.recv() => event,
        };
        match event {
            Ok(event) => {
                if let Some(message) = wanted(event) {
                    // Waiting here makes a slow watcher lag behind in the plane's own bounded queue.
                    let _watcher_gone = watcher.send(Ok(message)).await;
                }
            }
            Err(RecvError::Lagged(missed)) => {
                break Status::data_loss(format!(
                    "this watcher fell behind and missed {missed} events: read the status, then \
                     watch again"
                ));
            }
            Err(RecvError::Closed) => break stopping(),
        }
    };
    let _watcher_gone = watcher.send(Err(end)).await;
}

#[cfg(test)]
mod tests {
    use hawser_plane::EventKind;

    use super::*;

    fn event(seq: u64, kind: EventKind) -> EventView {
        EventView { seq, kind, node: None, detail: String::new(), unix_us: 0 }
    }

    #[test]
    fn an_unknown_kind_is_refused_by_name() {
        let status = wanted_kinds(&Filter { kinds: vec!["link_upp".to_owned()] }).unwrap_err();
        assert!(status.message().contains("link_upp"), "{status}");
        assert!(status.message().contains("link_up,"), "{status}");
    }

    #[tokio::test]
    async fn a_watcher_that_lags_is_told_how_much_it_missed() {
        let events = broadcast::Sender::new(2);
        let receiver = events.subscribe();
        let (_stop, stopped) = watch::channel(false);
        for seq in 1..=5 {
            events.send(event(seq, EventKind::LinkUp)).unwrap();
        }
        let (watcher, mut seen) = mpsc::channel(EVENTS_WAITING);
        watch_events(receiver, BTreeSet::new(), watcher, stopped).await;
        let status = seen.recv().await.unwrap().unwrap_err();
        assert!(status.message().contains("missed 3 events"), "{status}");
        assert!(seen.recv().await.is_none());
    }

    #[tokio::test]
    async fn only_wanted_kinds_come_and_the_end_is_said() {
        let events = broadcast::Sender::new(8);
        let receiver = events.subscribe();
        let (_stop, stopped) = watch::channel(false);
        events.send(event(1, EventKind::LinkUp)).unwrap();
        events.send(event(2, EventKind::LaneUp)).unwrap();
        drop(events);
        let (watcher, mut seen) = mpsc::channel(EVENTS_WAITING);
        watch_events(receiver, BTreeSet::from(["lane_up"]), watcher, stopped).await;
        assert_eq!(seen.recv().await.unwrap().unwrap().seq, 2);
        assert_eq!(seen.recv().await.unwrap().unwrap_err().code(), tonic::Code::Unavailable);
    }
}
