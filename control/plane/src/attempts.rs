//! Work beside the control loop: attempts to dial or to join, and good-byes.
//!
//! **Invariant:** of each that is not aborted the loop hears once, also if it ends by a bug: whatever waits
//! for it goes on.

use std::any::Any;
use std::fmt;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// What is to happen on the loop that owns an `S` when something outside it is done.
pub(crate) type Continuation<S> = Box<dyn FnOnce(&mut S) + Send>;

/// A task has panicked, and said this.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Bug(String);

impl fmt::Display for Bug {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "ended by a bug: {}", self.0)
    }
}

/// The tasks, ended with this.
#[derive(Debug)]
pub(crate) struct Attempts<S> {
    tasks: JoinSet<()>,
    continuations: mpsc::UnboundedSender<Continuation<S>>,
}

impl<S: 'static> Attempts<S> {
    pub(crate) fn new(continuations: mpsc::UnboundedSender<Continuation<S>>) -> Self {
        Self { tasks: JoinSet::new(), continuations }
    }

    /// Runs `work` beside the loop, then `done` with its result on the loop.
    pub(crate) fn spawn<R: Send + 'static>(
        &mut self,
        work: impl Future<Output = R> + Send + 'static,
        done: impl FnOnce(&mut S, Result<R, Bug>) + Send + 'static,
    ) {
        // Ended ones are only kept until somebody looks.
        while self.tasks.try_join_next().is_some() {}
        let continuations = self.continuations.clone();
        self.tasks.spawn(async move {
            let result = caught(work).await;
            let continuation: Continuation<S> = Box::new(move |state| done(state, result));
            // The loop is gone at the very end.
            let _loop_gone = continuations.send(continuation);
        });
    }

    /// Ends them all; nothing is heard of them any more, unless it was said already.
    pub(crate) fn abort_all(&mut self) {
        self.tasks.abort_all();
    }
}

/// A future that has panicked is not polled again, and what it held is dropped with it: nobody sees what
/// the panic has left half done.
async fn caught<F: Future>(work: F) -> Result<F::Output, Bug> {
    let mut work = pin!(work);
    poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(cx))) {
        Ok(polled) => polled.map(Ok),
        Err(panic) => Poll::Ready(Err(Bug(text_of(panic.as_ref())))),
    })
    .await
}

fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("a panic without words").to_owned()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// What the loop heard.
    type Heard = Vec<Result<u8, Bug>>;

    #[tokio::test]
    async fn the_loop_hears_of_each_also_if_it_panics() {
        let (sender, mut continuations) = mpsc::unbounded_channel();
        let mut attempts = Attempts::<Heard>::new(sender);
        let mut heard = Heard::new();
        let say = |heard: &mut Heard, result| heard.push(result);
        for number in 0..4 {
            let work = async move {
                tokio::task::yield_now().await;
                match number {
                    0 => panic!("of a test"),
                    1 => panic!("number {number}"),
                    2 => std::panic::panic_any(number),
                    _ => number,
                }
            };
            attempts.spawn(work, say);
            let next = tokio::time::timeout(Duration::from_secs(30), continuations.recv()).await;
            next.expect("in time").expect("said")(&mut heard);
        }
        let bug = |text: &str| Err(Bug(text.to_owned()));
        let expected = [bug("of a test"), bug("number 1"), bug("a panic without words"), Ok(3)];
        assert_eq!(heard, expected);
    }
}
