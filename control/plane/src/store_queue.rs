//! The way to the store: jobs are done in the order in which they were given, and the loop never
//! waits for one.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use hawser_store::{Store, StoreError, StoreHandle};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::control::{Continuation, Control};

/// A job that the store has been given.
enum Job {
    Waiting(Pin<Box<dyn Future<Output = Continuation> + Send>>),
    Done(Continuation),
}

/// Jobs on their way to the store. What each found out comes back to the loop as a continuation.
pub(crate) struct StoreQueue {
    store: StoreHandle,
    jobs: mpsc::UnboundedSender<Job>,
    worker: JoinHandle<()>,
}

impl StoreQueue {
    /// Starts the queue on the current runtime.
    pub(crate) fn start(
        store: StoreHandle,
        continuations: mpsc::UnboundedSender<Continuation>,
    ) -> Self {
        let (jobs, mut queue) = mpsc::unbounded_channel::<Job>();
        let worker = tokio::spawn(async move {
            while let Some(job) = queue.recv().await {
                let continuation = match job {
                    Job::Waiting(job) => job.await,
                    Job::Done(continuation) => continuation,
                };
                // The loop is gone at the very end; the job is done all the same.
                let _loop_gone = continuations.send(continuation);
            }
        });
        Self { store, jobs, worker }
    }

    /// Runs `job` at the store, then `done` with its result on the loop.
    pub(crate) fn run<R: Send + 'static>(
        &self,
        job: impl FnOnce(&Store) -> Result<R, StoreError> + Send + 'static,
        done: impl FnOnce(&mut Control, Result<R, StoreError>) + Send + 'static,
    ) {
        let store = self.store.clone();
        let mut job = Box::pin(async move {
            let result = store.run(job).await;
            let continuation: Continuation = Box::new(move |control| done(control, result));
            continuation
        });
        // The first poll hands the work over, so that the store has it in this order and may serve
        // several at one synchronisation; the worker collects the results in the same order.
        let job = match job.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(continuation) => Job::Done(continuation),
            Poll::Pending => Job::Waiting(job),
        };
        // The worker ends only when this sender is dropped.
        let _worker_gone = self.jobs.send(job);
    }

    /// Waits until every job is done.
    pub(crate) async fn finish(self) {
        drop(self.jobs);
        if let Err(error) = self.worker.await {
            tracing::error!(%error, "the store's queue failed");
        }
    }
}
