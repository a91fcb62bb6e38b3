//! A timer finer than the runtime's milliseconds.

use std::os::fd::OwnedFd;
use std::task::{Context, Poll, ready};

use anyhow::Result;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tokio::io::unix::AsyncFd;

/// A timer of the kernel's that wakes a task.
#[derive(Debug)]
pub(crate) struct Alarm {
    timer: AsyncFd<OwnedFd>,
}

impl Alarm {
    /// Needs a runtime around it.
    #[expect(
        deprecated,
        reason = "unsound for a type whose descriptor changes; an OwnedFd's does not, and the \
                  function in its place is unsafe"
    )]
    pub(crate) fn new() -> Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        Ok(Self { timer: AsyncFd::new(timer)? })
    }

    /// Sets the alarm to `at_ns` of `CLOCK_MONOTONIC`, in place of any earlier setting. A time that
    /// is past rings at once.
    pub(crate) fn set(&self, at_ns: u64) {
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        // Zero would disarm it.
        let at_ns = i64::try_from(at_ns.max(1)).unwrap_or(i64::MAX);
        let at = Timespec { tv_sec: at_ns / 1_000_000_000, tv_nsec: at_ns % 1_000_000_000 };
        let setting = Itimerspec { it_interval: zero, it_value: at };
        // Fails for nonsensical arguments only.
        let _ = timerfd_settime(&self.timer, TimerfdTimerFlags::ABSTIME, &setting);
    }

    /// Ready once the alarm has rung since it was last set.
    pub(crate) fn poll_rung(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let Ok(mut guard) = ready!(self.timer.poll_read_ready(cx)) else {
                // The runtime is going away: nobody waits for this any more.
                return Poll::Pending;
            };
            if rustix::io::read(&self.timer, &mut [0; 8]).is_ok() {
                return Poll::Ready(());
            }
            guard.clear_ready();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;
    use crate::machine::now_ns;

    #[tokio::test]
    async fn it_rings_when_it_should() {
        let mut alarm = Alarm::new().unwrap();
        for ahead_ns in [0, 300_000, 2_000_000] {
            let at_ns = now_ns() + ahead_ns;
            alarm.set(at_ns);
            poll_fn(|cx| alarm.poll_rung(cx)).await;
            assert!(now_ns() >= at_ns);
        }
    }
}
