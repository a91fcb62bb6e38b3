use std::io;

use tokio::runtime::{Builder, Runtime};

/// Polls of tasks between two looks at the sockets and at what other threads have woken.
///
/// Tokio looks after 61 and 31 polls while some task is ready, which on a thread with a busy publisher
/// there always is: a call of somebody else waited for ten milliseconds before it was read.
const POLLS_BETWEEN_LOOKS: u32 = 4;

/// What an API thread runs on.
///
/// # Errors
/// If the system gives no epoll instance.
pub fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread()
        .enable_all()
        .event_interval(POLLS_BETWEEN_LOOKS)
        .global_queue_interval(POLLS_BETWEEN_LOOKS)
        .build()
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::task::Poll;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::UnixStream;
    use tokio::sync::oneshot;
    use tokio::task::yield_now;

    use super::*;

    /// Checks how often a task that is always ready is polled between what `happen` does and the end of
    /// `waiting`, which waits for that.
    async fn check(waiting: impl Future<Output = u8> + Send + 'static, happen: impl AsyncFnOnce()) {
        let polls = Arc::new(AtomicU32::new(0));
        let counter = Arc::clone(&polls);
        tokio::spawn(poll_fn(move |cx| {
            counter.fetch_add(1, Ordering::Relaxed);
            cx.waker().wake_by_ref();
            Poll::<()>::Pending
        }));
        let waiting = tokio::spawn(waiting);
        yield_now().await;
        happen().await;
        let before = polls.load(Ordering::Relaxed);
        assert_eq!(waiting.await.unwrap(), 7);
        let polls = polls.load(Ordering::Relaxed) - before;
        assert!(polls <= 3 * POLLS_BETWEEN_LOOKS, "{polls} polls of the busy task before that");
    }

    #[test]
    fn a_busy_task_keeps_nobody_from_being_heard() {
        runtime().unwrap().block_on(async {
            let (mut near, mut far) = UnixStream::pair().unwrap();
            let reading = async move { far.read_u8().await.unwrap() };
            check(reading, async || near.write_u8(7).await.unwrap()).await;
        });
    }

    #[test]
    fn what_another_thread_answers_is_seen_soon() {
        runtime().unwrap().block_on(async {
            let (answer, answered) = oneshot::channel();
            let answering = async || {
                std::thread::spawn(move || answer.send(7).unwrap()).join().unwrap();
            };
            check(async { answered.await.unwrap() }, answering).await;
        });
    }
}
