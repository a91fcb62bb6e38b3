//! Wakes a shard at a time, within a tenth of a millisecond.
//!
//! The runtime's own timers know whole milliseconds and ring up to two too late. A shard that is idle
//! handled its links' ticks so late, took that for waiting for its core, and let a millisecond and more
//! stand in the queue of a slow link, before control (`docs/adr/0029-shard-alarm.md`).

use std::cell::Cell;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use hawser_wire::MonoTime;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tracing::error;

use crate::clock::Clock;

/// A timer of the kernel that wakes one task.
///
/// **Invariant:** while it is set for a time it rings then, or later by what the task waited for its core
/// as it set it, and `watch` waits for that. Whoever was asked to wake for a later time looks at the clock.
pub(crate) struct Alarm {
    timer: OwnedFd,
    /// When the timer rings, if it is set.
    set_for: Rc<Cell<Option<MonoTime>>>,
    /// Takes the time back once the timer has rung. Ends with the error that keeps it from that.
    watch: Pin<Box<dyn Future<Output = io::Error>>>,
    fails: bool,
}

impl fmt::Debug for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { timer, set_for, fails, .. } = self;
        let mut alarm = f.debug_struct("Alarm");
        alarm.field("timer", timer).field("set_for", set_for).field("fails", fails);
        alarm.finish_non_exhaustive()
    }
}

impl Alarm {
    /// An alarm that is not set. Has to be made in the runtime that is to wait for it.
    ///
    /// # Errors
    /// If the kernel has no timer left or refuses them, or the runtime cannot wait for this one.
    pub(crate) fn new() -> io::Result<Self> {
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC)?;
        // Of a stream's operations only the one that waits until it is readable is used, which is one of
        // any descriptor.
        let readable = monoio::net::UnixStream::from_std(UnixStream::from(timer.try_clone()?))?;
        let set_for = Rc::<Cell<Option<MonoTime>>>::default();
        let watch = Box::pin(watch(readable, Rc::clone(&set_for)));
        Ok(Self { timer, set_for, watch, fails: false })
    }

    /// Ready at `at`, and not before. Polls of it are one task's. A timer that is set for a time before that is left as it is: to ring
    /// once for nothing costs less than to be set at every sleep.
    ///
    /// One that fails is told in the log, once, and is ready at once from then on: a shard that does not
    /// sleep costs a core, one that sleeps for ever takes its peers for dead.
    pub(crate) fn poll_rings(
        &mut self,
        cx: &mut Context<'_>,
        clock: Clock,
        at: MonoTime,
    ) -> Poll<()> {
        loop {
            let now = clock.now();
            if at <= now || self.fails {
                return Poll::Ready(());
            }
            if self.set_for.get().is_none_or(|set_for| at < set_for)
                && let Err(error) = self.set(now, at)
            {
                self.fail(&error);
            } else if let Poll::Ready(error) = self.watch.as_mut().poll(cx) {
                self.fail(&error);
            } else if self.set_for.get().is_some() {
                return Poll::Pending;
            }
            // It has rung, for an earlier time perhaps.
        }
    }

    fn set(&self, now: MonoTime, at: MonoTime) -> io::Result<()> {
        let never = Timespec { tv_sec: i64::MAX, tv_nsec: 0 };
        let it_value = Timespec::try_from(at.saturating_since(now)).unwrap_or(never);
        let once = Itimerspec { it_interval: Timespec::default(), it_value };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once)?;
        self.set_for.set(Some(at));
        Ok(())
    }

    /// From now on it is ready at once.
    pub(crate) fn fail(&mut self, error: &io::Error) {
        error!(%error, "the timer of a shard fails: it looks for work without sleeping, and takes a core");
        self.fails = true;
    }
}

/// Waits for the timer as often as it is set. It is never read: to set it again makes it unreadable.
async fn watch(timer: monoio::net::UnixStream, set_for: Rc<Cell<Option<MonoTime>>>) -> io::Error {
    loop {
        // Who sets it polls this.
        poll_fn(|_| if set_for.get().is_some() { Poll::Ready(()) } else { Poll::Pending }).await;
        match timer.readable(false).await {
            Ok(()) => set_for.set(None),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return error,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use monoio::{IoUringDriver, LegacyDriver, RuntimeBuilder};

    use super::*;

    async fn sleep(alarm: &mut Alarm, clock: Clock, at: MonoTime) {
        poll_fn(|cx| alarm.poll_rings(cx, clock, at)).await;
        assert!(clock.now() >= at);
    }

    /// Sets it for `at`, and does not wait.
    async fn begin(alarm: &mut Alarm, clock: Clock, at: MonoTime) {
        assert!(poll_fn(|cx| Poll::Ready(alarm.poll_rings(cx, clock, at))).await.is_pending());
    }

    async fn check() {
        let (mut alarm, clock) = (Alarm::new().unwrap(), Clock::start());
        let after = |micros| clock.now().saturating_add(Duration::from_micros(micros));
        // Ten sleeps of 0.2 ms: timers of whole milliseconds need ten at least, this one does not, unless the
        // host stands still each time.
        let mut least = Duration::MAX;
        for _ in 0..50 {
            let began = Instant::now();
            for _ in 0..10 {
                sleep(&mut alarm, clock, after(200)).await;
            }
            least = least.min(began.elapsed());
        }
        assert!(least >= Duration::from_millis(2), "{least:?}: too early");
        assert!(least < Duration::from_millis(8), "{least:?}: too late, each time");
        // Set for later, then for sooner: who sleeps for sooner is woken.
        let hour = after(3_600_000_000);
        begin(&mut alarm, clock, hour).await;
        sleep(&mut alarm, clock, after(2_000)).await;
        // Set for sooner, then for later: it rings for nothing, and again in time.
        begin(&mut alarm, clock, after(1_000)).await;
        sleep(&mut alarm, clock, after(3_000)).await;
        // It rings while nobody sleeps: who sleeps next is not woken for that.
        let soon = after(1_000);
        begin(&mut alarm, clock, soon).await;
        while clock.now() < soon.saturating_add(Duration::from_millis(1)) {
            std::hint::spin_loop();
        }
        sleep(&mut alarm, clock, after(1_000)).await;
        assert!(!alarm.fails);
    }

    #[test]
    fn an_alarm_rings_in_time_on_a_ring() {
        RuntimeBuilder::<IoUringDriver>::new().build().unwrap().block_on(check());
    }

    #[test]
    fn an_alarm_rings_in_time_on_epoll() {
        RuntimeBuilder::<LegacyDriver>::new().build().unwrap().block_on(check());
    }
}
