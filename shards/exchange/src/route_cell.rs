use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::{ArcSwap, Cache};
use hawser_routing::RouteSnapshot;

/// The cell through which route snapshots reach the shards, holding the empty snapshot.
///
/// Read-copy-update: a reader is never blocked and never blocks the publisher.
#[must_use]
pub fn route_cell() -> (RoutePublisher, RouteReader) {
    let cell = Arc::new(ArcSwap::from_pointee(RouteSnapshot::default()));
    let cache = Cache::new(Arc::clone(&cell));
    let current = cell.load_full();
    (RoutePublisher { cell, retired: Mutex::default() }, RouteReader { cache, current })
}

/// The control thread's end.
#[derive(Debug)]
pub struct RoutePublisher {
    cell: Arc<ArcSwap<RouteSnapshot>>,
    /// Replaced snapshots that a shard may still hold. Freeing one walks every route, which is not
    /// for a shard to do.
    retired: Mutex<Vec<Arc<RouteSnapshot>>>,
}

impl RoutePublisher {
    /// Makes `snapshot` the current one. Shards see it on their next turn; ring their bells.
    pub fn publish(&self, snapshot: Arc<RouteSnapshot>) {
        let replaced = self.cell.swap(snapshot);
        let mut retired = self.retired.lock().unwrap_or_else(PoisonError::into_inner);
        retired.push(replaced);
        // Nobody can take a new reference to a replaced snapshot: a count of one stays one.
        retired.retain(|snapshot| Arc::strong_count(snapshot) > 1);
    }
}

/// A shard's end.
#[derive(Clone, Debug)]
pub struct RouteReader {
    cache: Cache<Arc<ArcSwap<RouteSnapshot>>, Arc<RouteSnapshot>>,
    current: Arc<RouteSnapshot>,
}

impl RouteReader {
    /// Takes the newest snapshot; true if it is another one than before. Once per loop turn.
    pub fn refresh(&mut self) -> bool {
        let newest = self.cache.load();
        if Arc::ptr_eq(newest, &self.current) {
            return false;
        }
        self.current = Arc::clone(newest);
        true
    }

    /// There is a newer snapshot than [`RouteReader::current`]; for `has_work` of
    /// [`crate::Doorbell::poll_sleep`].
    #[must_use]
    pub fn is_outdated(&self) -> bool {
        !Arc::ptr_eq(&self.cache.arc_swap().load(), &self.current)
    }

    /// The snapshot of the last [`RouteReader::refresh`].
    #[must_use]
    pub const fn current(&self) -> &Arc<RouteSnapshot> {
        &self.current
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn snapshot(generation: u64) -> Arc<RouteSnapshot> {
        Arc::new(RouteSnapshot::new(generation, 0, [], []))
    }

    #[test]
    fn a_reader_changes_only_when_it_refreshes() {
        let (publisher, mut reader) = route_cell();
        assert!(!reader.refresh() && !reader.is_outdated());
        publisher.publish(snapshot(1));
        publisher.publish(snapshot(2));
        assert!(reader.is_outdated());
        assert_eq!(reader.current().generation, 0);
        assert!(reader.refresh());
        assert_eq!(reader.current().generation, 2);
        assert!(!reader.refresh() && !reader.is_outdated());
    }

    #[test]
    fn a_clone_refreshes_on_its_own() {
        let (publisher, mut reader) = route_cell();
        let mut other = reader.clone();
        publisher.publish(snapshot(1));
        assert!(reader.refresh());
        assert_eq!(other.current().generation, 0);
        assert!(other.refresh());
    }

    #[test]
    fn the_publisher_frees_what_a_reader_let_go() {
        let (publisher, mut reader) = route_cell();
        let first = snapshot(1);
        let first_alive = Arc::downgrade(&first);
        publisher.publish(first);
        reader.refresh();
        publisher.publish(snapshot(2));
        reader.refresh();
        assert!(first_alive.upgrade().is_some(), "freed on the reader's thread");
        publisher.publish(snapshot(3));
        assert!(first_alive.upgrade().is_none());
    }
}
