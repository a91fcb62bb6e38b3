//! The thread that computes paths, beside the control loop.
//!
//! **Invariant:** it holds at most one mesh that it has not looked at, the newest: what comes while
//! it computes replaces what waited. A step of a computation that a newer mesh makes useless is the
//! most that the newer one waits for.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use hawser_routing::{MeshTopology, PathComputer, RouteSnapshot, Step};
use hawser_wire::{AdjacencyIndex, NodeId};

/// Destinations whose paths are computed between two looks for a newer mesh.
const DESTINATIONS_PER_STEP: usize = 256;

/// What the thread is to do next.
pub(crate) enum Task {
    /// Forget the mesh.
    Clear,
    /// Compute the paths of this one, which the database with the digest describes.
    Mesh {
        lsdb_digest: u64,
        mesh: Arc<MeshTopology>,
        /// This node's own, up or down.
        adjacencies: Vec<(AdjacencyIndex, NodeId)>,
    },
}

#[derive(Default)]
struct Slot {
    next: Option<Task>,
    /// The mesh is to be forgotten before the next task.
    clear: bool,
    closed: bool,
}

#[derive(Default)]
struct Shared {
    slot: Mutex<Slot>,
    filled: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Slot> {
        // Nothing that holds the lock can panic.
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The control loop's end; the thread ends with it.
pub(crate) struct PathWorker {
    shared: Arc<Shared>,
}

impl PathWorker {
    /// Starts the thread, which computes `k` paths to each destination. Each snapshot is given to
    /// `publish`, on the thread.
    ///
    /// # Errors
    /// The system's own, if it has no thread left.
    pub(crate) fn start(
        k: usize,
        publish: impl FnMut(RouteSnapshot) + Send + 'static,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let worker = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("paths".to_owned());
        // It is not waited for: it holds nothing but memory.
        let _detached = thread.spawn(move || serve(&worker, PathComputer::new(k), publish))?;
        Ok(Self { shared })
    }

    /// Gives the thread something to do, in place of what waits.
    pub(crate) fn give(&self, task: Task) {
        let mut slot = self.shared.lock();
        slot.clear |= matches!(task, Task::Clear);
        slot.next = Some(task);
        drop(slot);
        self.shared.filled.notify_one();
    }
}

impl Drop for PathWorker {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.filled.notify_one();
    }
}

/// What [`take`] found.
enum Taken {
    Task(Task, bool),
    Nothing,
    Closed,
}

/// The next task, and whether the mesh is to be forgotten first. Waits for one if there is nothing
/// else to do.
fn take(shared: &Shared, wait: bool) -> Taken {
    let mut slot = shared.lock();
    while wait && slot.next.is_none() && !slot.closed {
        slot = shared.filled.wait(slot).unwrap_or_else(PoisonError::into_inner);
    }
    if slot.closed {
        return Taken::Closed;
    }
    let clear = std::mem::take(&mut slot.clear);
    slot.next.take().map_or(Taken::Nothing, |task| Taken::Task(task, clear))
}

fn serve(shared: &Shared, mut computer: PathComputer, mut publish: impl FnMut(RouteSnapshot)) {
    let mut idle = true;
    loop {
        match take(shared, idle) {
            Taken::Closed => return,
            Taken::Task(task, clear) => {
                if clear {
                    publish(computer.clear());
                }
                if let Task::Mesh { lsdb_digest, mesh, adjacencies } = task {
                    match computer.handle_mesh(lsdb_digest, mesh, adjacencies) {
                        Ok(snapshot) => publish(snapshot),
                        Err(error) => tracing::error!(%error, "no paths in this mesh"),
                    }
                }
                idle = false;
            }
            Taken::Nothing => match computer.advance(DESTINATIONS_PER_STEP) {
                Step::Working => {}
                Step::Published(snapshot) => publish(snapshot),
                Step::Idle => idle = true,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use hawser_routing::{
        Adjacency, AdjacencyMetrics, CertificateHash, Lsa, LsaFlags, Lsdb, Weights,
    };
    use hawser_wire::Incarnation;

    use super::*;

    fn node(number: u16) -> NodeId {
        let mut bytes = [0; 16];
        bytes[..2].copy_from_slice(&number.to_be_bytes());
        NodeId::from_bytes(bytes)
    }

    /// A ring of so many nodes; the digest is their count.
    fn ring(count: u16) -> Task {
        let mut lsdb = Lsdb::new();
        for at in 0..count {
            let links = [(at + 1) % count, (at + count - 1) % count].map(|to| Adjacency {
                neighbour: node(to),
                index: AdjacencyIndex(u32::from(to)),
                metrics: AdjacencyMetrics { latency_us: 10, ..AdjacencyMetrics::default() },
            });
            let _newest = lsdb.insert(Lsa {
                origin: node(at),
                incarnation: Incarnation(1),
                sequence: 1,
                name: String::new(),
                address: String::new(),
                public_key: [0; 32],
                certificate: CertificateHash::default(),
                flags: LsaFlags::default(),
                adjacencies: links.to_vec(),
                routes: Vec::new(),
                signature: [0; 64],
            });
        }
        let mesh = Arc::new(MeshTopology::new(&lsdb, node(0), [Weights::default(); 3]));
        Task::Mesh { lsdb_digest: u64::from(count), mesh, adjacencies: Vec::new() }
    }

    #[test]
    fn the_newest_mesh_is_computed_to_the_end_whatever_came_before() {
        let (sender, snapshots) = mpsc::channel();
        let worker = PathWorker::start(4, move |snapshot| drop(sender.send(snapshot))).unwrap();
        for count in 3..40 {
            worker.give(ring(count));
        }
        worker.give(ring(200));
        let mut generation = 0;
        let last = loop {
            let snapshot = snapshots.recv().unwrap();
            assert!(snapshot.generation > generation, "in order");
            generation = snapshot.generation;
            if snapshot.lsdb_digest == 200 && snapshot.complete {
                break snapshot;
            }
        };
        assert_eq!(
            last.routes_to(hawser_wire::TrafficClass::Bulk, node(1)).unwrap().routes().len(),
            1
        );
        // What was to be forgotten is, though nobody had looked before the next came.
        worker.give(Task::Clear);
        worker.give(ring(5));
        let after: Vec<RouteSnapshot> = std::iter::from_fn(|| {
            let snapshot = snapshots.recv().ok()?;
            (snapshot.lsdb_digest != 5).then_some(snapshot)
        })
        .collect();
        assert!(after.iter().any(|snapshot| snapshot.reachable().next().is_none()));
        drop(worker);
        // The thread ends, and with it the channel.
        while snapshots.recv().is_ok() {}
    }
}
