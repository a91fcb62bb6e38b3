use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use hawser_wire::NodeId;

/// Peers that get no lane for a while, for instance because an operator has cut the link to them.
/// Shared between who bars them and the connections that are being accepted.
#[derive(Debug, Default)]
pub struct BarredPeers(Mutex<BTreeSet<NodeId>>);

impl BarredPeers {
    /// From now on `peer` gets no lane.
    pub fn bar(&self, peer: NodeId) {
        self.lock().insert(peer);
    }

    /// It may have lanes again.
    pub fn admit(&self, peer: NodeId) {
        self.lock().remove(&peer);
    }

    /// Whether it gets none.
    #[must_use]
    pub fn is_barred(&self, peer: NodeId) -> bool {
        self.lock().contains(&peer)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<NodeId>> {
        // Nothing that holds the lock can panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
