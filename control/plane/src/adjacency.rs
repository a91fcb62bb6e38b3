//! This node's adjacencies: which links it tells the mesh about, under which index, at which
//! latency, and when it must tell anew. Pure.
//!
//! A metric changes what is told only past 20 % and not before its hold time ends, so that routes
//! do not follow noise. A link that comes or goes is told after a short pause that gathers others.

use std::collections::BTreeMap;
use std::time::Duration;

use hawser_routing::Adjacency;
use hawser_wire::{AdjacencyIndex, MonoTime, NodeId};

/// Changes within this time are told together.
const GATHER: Duration = Duration::from_millis(10);
/// A latency that was told stays for so long.
const LATENCY_HOLD: Duration = Duration::from_secs(10);
/// Told before the first measurement, in microseconds.
const LATENCY_UNKNOWN_US: u32 = 1_000;

#[derive(Debug)]
struct Entry {
    /// Durable; `None` until the store answered.
    index: Option<AdjacencyIndex>,
    up: bool,
    /// It has been up in this life.
    lived: bool,
    /// Smoothed one-way latency in microseconds; 0 before the first sample of this link.
    smoothed_us: u32,
    told_us: u32,
    told_at: MonoTime,
}

impl Default for Entry {
    fn default() -> Self {
        Self {
            index: None,
            up: false,
            lived: false,
            smoothed_us: 0,
            told_us: LATENCY_UNKNOWN_US,
            told_at: MonoTime::ZERO,
        }
    }
}

/// Every neighbour that ever had an index here.
#[derive(Debug, Default)]
pub(crate) struct Adjacencies {
    entries: BTreeMap<NodeId, Entry>,
    due: Option<MonoTime>,
}

impl Adjacencies {
    /// With the indices that the store keeps.
    pub(crate) fn new(kept: impl IntoIterator<Item = (AdjacencyIndex, NodeId)>) -> Self {
        let entries = kept.into_iter().map(|(index, neighbour)| {
            (neighbour, Entry { index: Some(index), ..Entry::default() })
        });
        Self { entries: entries.collect(), due: None }
    }

    /// A link came up. True if its index is not known: the loop asks the store and answers with
    /// [`Self::handle_index`].
    pub(crate) fn handle_link_up(&mut self, now: MonoTime, neighbour: NodeId) -> bool {
        let entry = self.entries.entry(neighbour).or_default();
        entry.up = true;
        entry.lived = true;
        entry.smoothed_us = 0;
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
            self.gather(now);
        }
    }

    /// A link's smoothed round trip was measured; zero is no measurement.
    pub(crate) fn handle_rtt(&mut self, now: MonoTime, neighbour: NodeId, rtt: Duration) {
        let Some(entry) = self.entries.get_mut(&neighbour) else { return };
        if rtt.is_zero() || !entry.up {
            return;
        }
        let sample_us = u32::try_from((rtt / 2).as_micros()).unwrap_or(u32::MAX).max(1);
        let first = entry.smoothed_us == 0;
        entry.smoothed_us = if first {
            sample_us
        } else {
            // Three quarters of the old, one of the new.
            let sum = u64::from(entry.smoothed_us) * 3 + u64::from(sample_us);
            u32::try_from(sum / 4).unwrap_or(u32::MAX).max(1)
        };
        let differs =
            u64::from(entry.smoothed_us.abs_diff(entry.told_us)) * 5 > u64::from(entry.told_us);
        let held = now.saturating_since(entry.told_at) < LATENCY_HOLD;
        if differs && (first || !held) {
            entry.told_us = entry.smoothed_us;
            entry.told_at = now;
            self.gather(now);
        }
    }

    /// The node's advertisement is to be made anew soon, whatever the reason.
    pub(crate) fn gather(&mut self, now: MonoTime) {
        self.due.get_or_insert_with(|| now.saturating_add(GATHER));
    }

    /// When the advertisement is to be made anew.
    pub(crate) const fn poll_timeout(&self) -> Option<MonoTime> {
        self.due
    }

    /// True, once, when it is time.
    pub(crate) fn take_due(&mut self, now: MonoTime) -> bool {
        let due = self.due.is_some_and(|due| due <= now);
        if due {
            self.due = None;
        }
        due
    }

    /// What to tell: links that are up and named.
    pub(crate) fn told(&self) -> Vec<Adjacency> {
        self.entries
            .iter()
            .filter(|(_, entry)| entry.up)
            .filter_map(|(&neighbour, entry)| {
                let latency_us = entry.told_us;
                entry.index.map(|index| Adjacency { neighbour, index, latency_us })
            })
            .collect()
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
        self.due = None;
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

    fn micros(micros: u64) -> Duration {
        Duration::from_micros(micros)
    }

    #[test]
    fn a_link_is_told_once_it_is_up_and_named() {
        let mut adjacencies = Adjacencies::default();
        assert!(adjacencies.handle_link_up(at(0), PEER));
        assert_eq!(adjacencies.poll_timeout(), None);
        assert_eq!(adjacencies.told(), []);
        adjacencies.handle_index(at(1), PEER, AdjacencyIndex(7));
        assert!(adjacencies.handle_link_up(at(2), OTHER));
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
        assert!(!adjacencies.handle_link_up(at(40), PEER), "the index is known");
    }

    #[test]
    fn latency_is_damped() {
        let mut adjacencies = Adjacencies::default();
        adjacencies.handle_link_up(at(0), PEER);
        adjacencies.handle_index(at(0), PEER, AdjacencyIndex(1));
        let latency = |adjacencies: &Adjacencies| adjacencies.told()[0].latency_us;
        assert_eq!(latency(&adjacencies), LATENCY_UNKNOWN_US);
        adjacencies.take_due(at(10));
        adjacencies.handle_rtt(at(20), PEER, Duration::ZERO);
        assert_eq!(adjacencies.poll_timeout(), None, "no measurement");
        adjacencies.handle_rtt(at(20), PEER, micros(400));
        assert_eq!(latency(&adjacencies), 200, "the first is told at once");
        assert!(adjacencies.take_due(at(30)));
        adjacencies.handle_rtt(at(20_000), PEER, micros(440));
        assert_eq!(adjacencies.poll_timeout(), None, "below 20 %");
        adjacencies.handle_rtt(at(20_001), PEER, micros(4_000));
        assert!(adjacencies.take_due(at(20_011)));
        let told = latency(&adjacencies);
        assert!((600..=700).contains(&told), "{told}");
        adjacencies.handle_rtt(at(20_100), PEER, micros(40_000));
        assert_eq!(adjacencies.poll_timeout(), None, "held");
        adjacencies.handle_rtt(at(30_100), PEER, micros(40_000));
        assert!(adjacencies.poll_timeout().is_some());
    }
}
