use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use hawser_exchange::Doorbell;

/// Nothing takes this long unless it never happens.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

struct Unparks(Thread);

impl Wake for Unparks {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Sleeps at `bell` until `take` finds something; `None` when patience ends.
pub(crate) fn wait<T>(bell: &Doorbell, mut take: impl FnMut() -> Option<T>) -> Option<T> {
    let waker = Waker::from(Arc::new(Unparks(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let until = Instant::now() + PATIENCE;
    let mut found = None;
    loop {
        let asleep = bell.poll_sleep(&mut context, || {
            found = found.take().or_else(&mut take);
            found.is_some()
        });
        if asleep == Poll::Ready(()) {
            return found;
        }
        let left = until.checked_duration_since(Instant::now())?;
        std::thread::park_timeout(left);
    }
}
