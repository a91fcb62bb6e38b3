//! The store's own thread: the control thread never waits for the disk.

use std::io;
use std::sync::mpsc;
use std::thread::JoinHandle;

use tokio::sync::oneshot;

use crate::{Store, StoreError};

/// Most jobs that one synchronisation with the disk serves.
const GROUP_MAX: usize = 128;

/// A job runs on the store and returns what is to be done once its commits are on disk, or could
/// not be brought there.
type Job = Box<dyn FnOnce(&Store) -> Answer + Send>;
type Answer = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// The thread. It ends when every [`StoreHandle`] is gone and all that was asked is done.
#[derive(Debug)]
pub struct StoreThread {
    thread: JoinHandle<()>,
}

/// Asks the store's thread.
#[derive(Clone, Debug)]
pub struct StoreHandle {
    jobs: mpsc::Sender<Job>,
}

impl StoreThread {
    /// Starts the thread, which owns `store` from now on.
    ///
    /// # Errors
    /// [`StoreError::Io`] if the system has no thread left.
    pub fn start(store: Store) -> Result<(Self, StoreHandle), StoreError> {
        let path = store.path().to_path_buf();
        let (jobs, queue) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || serve(&store, &queue))
            .map_err(|cause| StoreError::from_io(path, cause))?;
        Ok((Self { thread }, StoreHandle { jobs }))
    }

    /// Waits until every handle is gone and all that was asked is done; the file is closed then.
    ///
    /// # Errors
    /// The system's own, if the thread panicked.
    pub fn join(self) -> io::Result<()> {
        self.thread.join().map_err(|_panic| io::Error::other("the store's thread panicked"))
    }
}

impl StoreHandle {
    /// Runs `work` on the store's thread. Work that waits at the same time shares one
    /// synchronisation with the disk; its answers are given after it. Work is done in the order
    /// of the calls, and also if the answer is no longer waited for.
    ///
    /// # Errors
    /// The work's own; [`StoreError::Full`] or [`StoreError::Io`] if the synchronisation failed;
    /// [`StoreError::Stopped`] if the thread has ended.
    pub async fn run<T, W>(&self, work: W) -> Result<T, StoreError>
    where
        T: Send + 'static,
        W: FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
    {
        let (sender, receiver) = oneshot::channel();
        let job: Job = Box::new(move |store| {
            let result = work(store);
            // Nobody may wait any more.
            Box::new(move |synced| drop(sender.send(synced.and(result))))
        });
        if self.jobs.send(job).is_err() {
            return Err(StoreError::Stopped);
        }
        receiver.await.unwrap_or(Err(StoreError::Stopped))
    }
}

fn serve(store: &Store, queue: &mpsc::Receiver<Job>) {
    let deferred = store.deferred();
    while let Ok(first) = queue.recv() {
        let mut group = vec![first];
        group.extend(queue.try_iter().take(GROUP_MAX - 1));
        if group.len() == 1 {
            for job in group {
                job(store)(Ok(()));
            }
            continue;
        }
        let given_up = store.given_up();
        let answers: Vec<Answer> = group.into_iter().map(|job| job(&deferred)).collect();
        let mut synced = store.sync();
        if synced.is_ok() && store.given_up() != given_up {
            // The database was opened anew in between: what was committed before is lost.
            synced = Err(StoreError::from_io(
                store.path().to_path_buf(),
                io::Error::other("a write of the same group failed"),
            ));
        }
        for answer in answers {
            answer(synced.clone());
        }
    }
}
