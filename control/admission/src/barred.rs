use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use hawser_wire::{CloseReason, LaneClose, NodeId};

/// Peers that get no lane. Shared between who bars them and the connections that are being made.
#[derive(Debug, Default)]
pub struct BarredPeers(Mutex<BTreeMap<NodeId, Bar>>);

/// What a peer that gets no lane is told.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// Why.
    pub close: LaneClose,
    /// The record of its eviction, as it is on the wire; empty if it is not evicted.
    pub evidence: Bytes,
}

#[derive(Debug)]
enum Bar {
    /// An operator has cut the link to it.
    ForAWhile,
    /// The mesh has evicted it.
    Evicted(Refusal),
}

impl BarredPeers {
    /// From now on `peer` gets no lane, until [`Self::admit`].
    pub fn bar(&self, peer: NodeId) {
        self.lock().entry(peer).or_insert(Bar::ForAWhile);
    }

    /// It may have lanes again, unless the mesh has evicted it.
    pub fn admit(&self, peer: NodeId) {
        let mut barred = self.lock();
        if matches!(barred.get(&peer), Some(Bar::ForAWhile)) {
            barred.remove(&peer);
        }
    }

    /// The mesh has evicted `peer`: it gets no lane any more, and is told `detail` and the record.
    pub fn evict(&self, peer: NodeId, detail: String, record: Bytes) {
        let close = LaneClose { reason: CloseReason::Evicted, detail };
        self.lock().insert(peer, Bar::Evicted(Refusal { close, evidence: record }));
    }

    /// What the peer is told, if it gets no lane.
    #[must_use]
    pub fn refusal(&self, peer: NodeId) -> Option<Refusal> {
        self.lock().get(&peer).map(|bar| match bar {
            Bar::ForAWhile => {
                let detail = "the link comes back by itself".to_owned();
                let close = LaneClose { reason: CloseReason::Barred, detail };
                Refusal { close, evidence: Bytes::new() }
            }
            Bar::Evicted(refusal) => refusal.clone(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<NodeId, Bar>> {
        // Nothing that holds the lock can panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: NodeId = NodeId::from_bytes([1; 16]);

    #[test]
    fn who_is_evicted_stays_out_whatever_a_drill_does() {
        let barred = BarredPeers::default();
        let reason =
            |barred: &BarredPeers| barred.refusal(PEER).map(|refusal| refusal.close.reason);
        assert_eq!(reason(&barred), None);
        barred.bar(PEER);
        assert_eq!(reason(&barred), Some(CloseReason::Barred));
        barred.evict(PEER, "by an operator".into(), Bytes::from_static(b"record"));
        barred.admit(PEER);
        barred.bar(PEER);
        let told = barred.refusal(PEER).expect("a refusal");
        let LaneClose { reason, detail } = told.close;
        assert_eq!((reason, detail.as_str()), (CloseReason::Evicted, "by an operator"));
        assert_eq!(told.evidence, "record");
    }

    #[test]
    fn who_is_cut_off_for_a_while_comes_back() {
        let barred = BarredPeers::default();
        barred.bar(PEER);
        barred.admit(PEER);
        assert!(barred.refusal(PEER).is_none());
    }
}
