//! Wakes a shard at a time, to the microsecond.
//!
//! The runtime's own timers know whole milliseconds and ring up to two too late. A shard that is idle
//! handled its links' ticks so late, took that for waiting for its core, and let a millisecond and more
//! stand in the queue of a slow link, before control (`docs/adr/0029-shard-alarm.md`).

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use hawser_wire::MonoTime;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

/// A timer of the kernel for one sleeper, which may ring too early and never rings too late: who is woken
/// looks at the clock, and sleeps again.
#[derive(Debug)]
pub(crate) struct Alarm {
    timer: OwnedFd,
    state: Rc<State>,
}

#[derive(Debug, Default)]
struct State {
    /// When the timer rings, if it is set.
    set_for: Cell<Option<MonoTime>>,
    has_rung: Cell<bool>,
    sleeper: RefCell<Option<Waker>>,
    /// Waits for the timer to be set.
    pump: RefCell<Option<Waker>>,
}

/// The kernel's part of an alarm. Made before the shard's runtime is, so that a refusal is told.
///
/// # Errors
/// If the kernel has no timer left, or refuses them.
pub(crate) fn create() -> io::Result<OwnedFd> {
    Ok(timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC)?)
}

impl Alarm {
    /// # Errors
    /// If the runtime cannot wait for it.
    pub(crate) fn start(timer: OwnedFd) -> io::Result<Self> {
        let state = Rc::<State>::default();
        // Of a stream's operations only the one that waits until it is readable is used, which is one of
        // any descriptor.
        let readable = monoio::net::UnixStream::from_std(UnixStream::from(timer.try_clone()?))?;
        monoio::spawn(pump(readable, Rc::clone(&state)));
        Ok(Self { timer, state })
    }

    /// Ready at `at` or later, if it is not before; it is `now`. A timer that is set for a time before is
    /// left as it is: to ring once for nothing costs less than to be set again at every sleep.
    ///
    /// # Errors
    /// If the timer cannot be set.
    pub(crate) fn poll_rings(
        &self,
        cx: &Context<'_>,
        now: MonoTime,
        at: MonoTime,
    ) -> Poll<io::Result<()>> {
        if self.state.has_rung.take() || at <= now {
            return Poll::Ready(Ok(()));
        }
        if self.state.set_for.get().is_none_or(|set_for| at < set_for)
            && let Err(error) = self.set(now, at)
        {
            return Poll::Ready(Err(error));
        }
        *self.state.sleeper.borrow_mut() = Some(cx.waker().clone());
        Poll::Pending
    }

    fn set(&self, now: MonoTime, at: MonoTime) -> io::Result<()> {
        let it_value = Timespec::try_from(at.saturating_since(now)).unwrap_or_default();
        let it_interval = Timespec::default();
        let once = Itimerspec { it_interval, it_value };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once)?;
        self.state.set_for.set(Some(at));
        if let Some(pump) = self.state.pump.take() {
            pump.wake();
        }
        Ok(())
    }
}

/// Waits for the timer as often as it is set. It is never read: to set it again makes it unreadable.
async fn pump(timer: monoio::net::UnixStream, state: Rc<State>) {
    loop {
        std::future::poll_fn(|cx| {
            if state.set_for.get().is_some() {
                return Poll::Ready(());
            }
            *state.pump.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
        if timer.readable(false).await.is_err() {
            return;
        }
        state.set_for.set(None);
        state.has_rung.set(true);
        if let Some(sleeper) = state.sleeper.take() {
            sleeper.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::{Duration, Instant};

    use monoio::{IoUringDriver, LegacyDriver, RuntimeBuilder};

    use super::*;
    use crate::clock::Clock;

    /// Sleeps until `at`, as a shard does, which looks at the clock whenever it is woken.
    async fn sleep(alarm: &Alarm, clock: Clock, at: MonoTime) {
        while clock.now() < at {
            poll_fn(|cx| alarm.poll_rings(cx, clock.now(), at)).await.unwrap();
        }
    }

    async fn check() {
        let (alarm, clock) = (Alarm::start(create().unwrap()).unwrap(), Clock::start());
        let after = |micros| clock.now().saturating_add(Duration::from_micros(micros));
        // Ten sleeps of 0.2 ms: timers of whole milliseconds need ten at least, this one does not, unless the
        // host stands still each time.
        let ten_sleeps = async || {
            let began = Instant::now();
            for _ in 0..10 {
                sleep(&alarm, clock, after(200)).await;
            }
            began.elapsed()
        };
        let mut least = Duration::MAX;
        for _ in 0..50 {
            least = least.min(ten_sleeps().await);
        }
        assert!(least >= Duration::from_millis(2), "{least:?}: too early");
        assert!(least < Duration::from_millis(8), "{least:?}: too late, each time");
        // Set for later, then for sooner: who sleeps for sooner is woken, and the later one is not lost.
        let (soon, late) = (after(2_000), after(3_600_000_000));
        poll_fn(|cx| Poll::Ready(alarm.poll_rings(cx, clock.now(), late).is_pending())).await;
        sleep(&alarm, clock, soon).await;
        let then = after(1_000);
        sleep(&alarm, clock, then).await;
        assert!(clock.now() >= then);
    }

    #[test]
    fn an_alarm_rings_in_time_on_a_ring() {
        let runtime = RuntimeBuilder::<IoUringDriver>::new().build();
        runtime.unwrap().block_on(check());
    }

    #[test]
    fn an_alarm_rings_in_time_on_epoll() {
        RuntimeBuilder::<LegacyDriver>::new().build().unwrap().block_on(check());
    }
}
