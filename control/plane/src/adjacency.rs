//! This node's adjacencies: which links it tells the mesh about, under which index, with which
//! metrics, and when it must tell anew. Pure.
//!
//! What changes is told after a short pause that gathers other changes. How often it may be is
//! limited by cause: a link that breaks does not wait for metrics that move. A node that another one
//! speaks for says nothing until it may say so: two processes with one key would else turn the mesh's
//! paths at the pace of their changes.

use std::collections::BTreeMap;
use std::time::Duration;

use hawser_exchange::LinkReport;
use hawser_routing::{Adjacency, AdjacencyMetrics, TokenBucket};
use hawser_wire::{AdjacencyIndex, MonoTime, NodeId};

use crate::link_metrics::LinkMetrics;

/// Why the mesh is to be told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Cause {
    /// A link went.
    LinkDown,
    /// A link came, or something else that matters at once.
    Change,
    /// A metric moved.
    Metric,
    /// Another life's word was newer.
    Overtaken,
}

/// When the mesh is to be told for one cause.
#[derive(Debug)]
struct Due {
    /// Changes within this time are told together.
    gather: Duration,
    bucket: TokenBucket,
    at: Option<MonoTime>,
}

impl Due {
    const fn new(gather: Duration, bucket: TokenBucket) -> Self {
        Self { gather, bucket, at: None }
    }

    fn poll_timeout(&self) -> Option<MonoTime> {
        self.at.map(|at| at.max(self.bucket.ready_at()))
    }
}

#[derive(Debug, Default)]
struct Entry {
    /// Durable; `None` until the store answered.
    index: Option<AdjacencyIndex>,
    up: bool,
    /// It has been up in this life.
    lived: bool,
    metrics: LinkMetrics,
}

/// Every neighbour that ever had an index here.
#[derive(Debug)]
pub(crate) struct Adjacencies {
    entries: BTreeMap<NodeId, Entry>,
    down: Due,
    change: Due,
    metric: Due,
    /// Another life's word is newer than this node's: it waits for this alone.
    overtaken: Due,
}

impl Adjacencies {
    /// With the indices that the store keeps.
    pub(crate) fn new(kept: impl IntoIterator<Item = (AdjacencyIndex, NodeId)>) -> Self {
        let entries = kept.into_iter().map(|(index, neighbour)| {
            (neighbour, Entry { index: Some(index), ..Entry::default() })
        });
        let (soon, later) = (Duration::from_millis(10), Duration::from_secs(1));
        // Together well below what other nodes take of one origin.
        let bucket = |burst, every_ms| TokenBucket::new(burst, Duration::from_millis(every_ms));
        Self {
            entries: entries.collect(),
            down: Due::new(soon, bucket(16, 250)),
            change: Due::new(soon, bucket(16, 500)),
            metric: Due::new(later, bucket(4, 2_000)),
            overtaken: Due::new(soon, bucket(4, 30_000)),
        }
    }

    /// A link came up, to whose cost the operator adds so many hops. True if its index is not known: the
    /// loop asks the store and answers with [`Self::handle_index`].
    pub(crate) fn handle_link_up(&mut self, now: MonoTime, neighbour: NodeId, admin: u16) -> bool {
        let entry = self.entries.entry(neighbour).or_default();
        entry.up = true;
        entry.lived = true;
        entry.metrics.handle_link_up(admin);
        let needs_index = entry.index.is_none();
        if !needs_index {
            self.gather(now);
        }
        needs_index
    }

    /// The store named the neighbour.
    pub(crate) fn handle_index(&mut self, now: MonoTime, neighbour: NodeId, index: AdjacencyIndex) {
        if let Some(entry) = self.entries.get_mut(&neighbour) {
            entry.index = Some(index);
            if entry.up {
                self.gather(now);
            }
        }
    }

    /// A link went down.
    pub(crate) fn handle_link_down(&mut self, now: MonoTime, neighbour: NodeId) {
        if let Some(entry) = self.entries.get_mut(&neighbour) {
            entry.up = false;
            self.gather_for(now, Cause::LinkDown);
        }
    }

    /// A shard has reported on a link.
    pub(crate) fn handle_report(&mut self, now: MonoTime, report: &LinkReport) {
        let Some(entry) = self.entries.get_mut(&report.peer).filter(|entry| entry.up) else {
            return;
        };
        if entry.metrics.handle_report(now, report) {
            self.gather_for(now, Cause::Metric);
        }
    }

    /// The node's advertisement is to be made anew soon, whatever the reason.
    pub(crate) fn gather(&mut self, now: MonoTime) {
        self.gather_for(now, Cause::Change);
    }

    /// Another life of this node is believed in place of it: its advertisement is to be made anew. A
    /// node with an old disk is overtaken once or twice, one with a twin again and again.
    pub(crate) fn handle_overtaken(&mut self, now: MonoTime) {
        self.gather_for(now, Cause::Overtaken);
    }

    fn gather_for(&mut self, now: MonoTime, cause: Cause) {
        let due = match cause {
            Cause::Overtaken => &mut self.overtaken,
            Cause::LinkDown => &mut self.down,
            Cause::Change => &mut self.change,
            Cause::Metric => &mut self.metric,
        };
        let gather = due.gather;
        due.at.get_or_insert_with(|| now.saturating_add(gather));
    }

    /// When the advertisement is to be made anew.
    pub(crate) fn poll_timeout(&self) -> Option<MonoTime> {
        let dues = [&self.down, &self.change, &self.metric].into_iter();
        self.overtaken.poll_timeout().or_else(|| dues.filter_map(Due::poll_timeout).min())
    }

    /// True, once, when it is time: whatever changed is told then.
    pub(crate) fn take_due(&mut self, now: MonoTime) -> bool {
        let is_overtaken = self.overtaken.at.is_some();
        let dues = [&mut self.overtaken, &mut self.down, &mut self.change, &mut self.metric];
        let waiting = if is_overtaken { 1 } else { dues.len() };
        let ready = dues
            .into_iter()
            .take(waiting)
            .find(|due| due.poll_timeout().is_some_and(|at| at <= now));
        let taken = ready.is_some_and(|due| due.bucket.take(now));
        if taken {
            self.told_all();
        }
        taken
    }

    fn told_all(&mut self) {
        for due in [&mut self.overtaken, &mut self.down, &mut self.change, &mut self.metric] {
            due.at = None;
        }
    }

    /// What to tell: links that are up and named.
    pub(crate) fn told(&self) -> Vec<Adjacency> {
        self.entries
            .iter()
            .filter(|(_, entry)| entry.up)
            .filter_map(|(&neighbour, entry)| {
                let metrics = entry.metrics.told();
                entry.index.map(|index| Adjacency { neighbour, index, metrics })
            })
            .collect()
    }

    /// What is told of the link to a neighbour, or would be if it were up.
    pub(crate) fn told_of(&self, neighbour: NodeId) -> AdjacencyMetrics {
        self.entries
            .get(&neighbour)
            .map_or_else(AdjacencyMetrics::default, |entry| entry.metrics.told())
    }

    /// Every index that is known, up or down.
    pub(crate) fn indices(&self) -> Vec<(AdjacencyIndex, NodeId)> {
        self.entries
            .iter()
            .filter_map(|(&neighbour, entry)| entry.index.map(|index| (index, neighbour)))
            .collect()
    }

    /// Neighbours whose link is up or has been in this life, with their index and what is known of
    /// the round trip.
    pub(crate) fn neighbours(&self) -> impl Iterator<Item = (NodeId, Option<AdjacencyIndex>)> + '_ {
        self.entries
            .iter()
            .filter(|(_, entry)| entry.lived)
            .map(|(&neighbour, entry)| (neighbour, entry.index))
    }

    /// Takes every link for down; indices stay.
    pub(crate) fn clear(&mut self) {
        for entry in self.entries.values_mut() {
            entry.up = false;
        }
        self.told_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: NodeId = NodeId::from_bytes([2; 16]);
    const OTHER: NodeId = NodeId::from_bytes([3; 16]);

    fn at(millis: u64) -> MonoTime {
        MonoTime::ZERO.saturating_add(Duration::from_millis(millis))
    }

    fn report(rtt_us: u64) -> LinkReport {
        LinkReport {
            peer: PEER,
            lanes: 1,
            rtt: Duration::from_micros(rtt_us),
            sent_bytes: 0,
            received_bytes: 0,
            queued_bytes: 0,
            dropped_frames: 0,
            control_dropped_frames: 0,
            bandwidth: 0,
            heartbeat_ticks: 0,
            heartbeats_missed: 0,
        }
    }

    fn with_peer() -> Adjacencies {
        let mut adjacencies = Adjacencies::new([(AdjacencyIndex(7), PEER)]);
        assert!(!adjacencies.handle_link_up(at(0), PEER, 0), "the index is known");
        assert!(adjacencies.take_due(at(10)));
        adjacencies
    }

    #[test]
    fn a_link_is_told_once_it_is_up_and_named() {
        let mut adjacencies = Adjacencies::new([]);
        assert!(adjacencies.handle_link_up(at(0), PEER, 0));
        assert_eq!(adjacencies.poll_timeout(), None);
        assert_eq!(adjacencies.told(), []);
        adjacencies.handle_index(at(1), PEER, AdjacencyIndex(7));
        assert!(adjacencies.handle_link_up(at(2), OTHER, 0));
        adjacencies.handle_index(at(3), OTHER, AdjacencyIndex(8));
        assert_eq!(adjacencies.poll_timeout(), Some(at(11)), "gathered from the first change");
        assert!(!adjacencies.take_due(at(10)));
        assert!(adjacencies.take_due(at(11)));
        assert!(!adjacencies.take_due(at(11)));
        assert_eq!(adjacencies.told().len(), 2);
        adjacencies.handle_link_down(at(20), PEER);
        assert_eq!(adjacencies.poll_timeout(), Some(at(30)));
        let told: Vec<_> = adjacencies.told().iter().map(|link| link.neighbour).collect();
        assert_eq!(told, [OTHER]);
        assert_eq!(adjacencies.indices(), [(AdjacencyIndex(7), PEER), (AdjacencyIndex(8), OTHER)]);
        assert!(!adjacencies.handle_link_up(at(40), PEER, 0), "the index is known");
    }

    #[test]
    fn metrics_are_told_after_a_pause_and_of_links_that_are_up_alone() {
        let mut adjacencies = with_peer();
        adjacencies.handle_report(at(20), &report(400));
        assert_eq!(adjacencies.poll_timeout(), Some(at(1020)));
        assert!(adjacencies.take_due(at(1020)));
        assert_eq!(adjacencies.told()[0].metrics.latency_us, 200);
        adjacencies.handle_link_down(at(2000), PEER);
        assert!(adjacencies.take_due(at(2010)));
        adjacencies.handle_report(at(20_000), &report(9_000));
        adjacencies.handle_report(at(20_000), &LinkReport { peer: OTHER, ..report(1) });
        assert_eq!(adjacencies.poll_timeout(), None);
    }

    #[test]
    fn a_broken_link_does_not_wait_for_one_that_flaps() {
        let mut adjacencies = with_peer();
        adjacencies.handle_link_up(at(0), OTHER, 0);
        adjacencies.handle_index(at(0), OTHER, AdjacencyIndex(8));
        let mut told = 0;
        for ms in 0..4_700 {
            adjacencies.handle_link_up(at(ms), OTHER, 0);
            told += u32::from(adjacencies.take_due(at(ms)));
        }
        assert!((20..30).contains(&told), "a burst of 16, then two a second: {told}");
        assert_eq!(adjacencies.poll_timeout(), Some(at(5_010)), "ups wait");
        adjacencies.handle_link_down(at(4_700), PEER);
        assert!(adjacencies.take_due(at(4_710)), "a down does not");
        assert_eq!(adjacencies.poll_timeout(), None, "and tells the ups with it");
    }

    #[test]
    fn who_is_overtaken_speaks_again_at_once_and_then_seldom_whatever_happens() {
        let mut adjacencies = with_peer();
        let mut told = Vec::new();
        for ms in 1_000..100_000 {
            // Its twin speaks whenever it has spoken, and its own links flap.
            adjacencies.handle_overtaken(at(ms));
            adjacencies.handle_link_down(at(ms), PEER);
            adjacencies.handle_link_up(at(ms), PEER, 0);
            if adjacencies.take_due(at(ms)) {
                told.push(ms);
            }
        }
        assert_eq!(told[0], 1_010);
        assert!(told[3] < 1_100, "a burst of four: {told:?}");
        assert_eq!(told.len(), 4 + 3, "then one in 30 s: {told:?}");
        // Once it is not overtaken any more it speaks as ever.
        adjacencies.handle_overtaken(at(200_000));
        assert!(adjacencies.take_due(at(200_010)));
        adjacencies.handle_link_down(at(200_020), PEER);
        assert!(adjacencies.take_due(at(200_030)));
    }

    #[test]
    fn nothing_makes_a_node_speak_more_often_than_others_listen() {
        let mut adjacencies = with_peer();
        let mut told = 0;
        for ms in 0..60_000 {
            adjacencies.handle_link_down(at(ms), PEER);
            adjacencies.handle_link_up(at(ms), PEER, 0);
            adjacencies.handle_report(at(ms), &report(1 + ms * 100));
            told += u32::from(adjacencies.take_due(at(ms)));
        }
        assert!((200..=430).contains(&told), "4 + 2 + 0.5 a second and bursts: {told}");
    }
}
