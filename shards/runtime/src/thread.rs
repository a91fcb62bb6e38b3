use std::future::Future;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::task::Poll;
use std::thread::JoinHandle;
use std::time::Instant;

use hawser_exchange::{Lookout, ShardPorts};
use hawser_session::LaneSession;
use hawser_wire::MonoTime;
use monoio::{IoUringDriver, LegacyDriver, Runtime, RuntimeBuilder};
use rustix::thread::CpuSet;
use tracing::{info, warn};

use crate::alarm::Alarm;
use crate::clock::Clock;
use crate::config::{IoDriver, ShardConfig, ShardError};
use crate::monoio_io::MonoioIo;
use crate::shard::Shard;

/// Submission queue entries of a shard's ring.
const RING_ENTRIES: u32 = 1024;

/// A shard that runs.
#[derive(Debug)]
pub struct ShardThread {
    /// What carries its reads and writes: "io_uring" or "epoll".
    pub io_driver: &'static str,
    /// Ends after [`hawser_exchange::ControlToShard::Shutdown`] was served. An error is a panic of
    /// the shard.
    pub thread: JoinHandle<()>,
}

/// Starts a shard on a thread of its own and waits until it has its ring.
///
/// # Errors
/// [`ShardError`] if the thread, its core or its driver cannot be had; nothing runs then.
pub fn spawn_shard(
    ports: ShardPorts<LaneSession>,
    config: ShardConfig,
) -> Result<ShardThread, ShardError> {
    let shard = ports.shard.0;
    let (started, start) = sync_channel(1);
    let thread = std::thread::Builder::new()
        .name(format!("shard-{shard}"))
        .spawn(move || {
            let runtime = match pin(shard, &config).and_then(|()| build(shard, config.driver)) {
                Ok(runtime) => runtime,
                Err(error) => {
                    // The starter waits for this; if it is gone, so is the process.
                    let _nobody = started.send(Err(error));
                    return;
                }
            };
            let name = runtime.name();
            let alarmed = async move {
                let alarm = Alarm::new().map_err(|source| ShardError::Timer { shard, source });
                let (alarm, told) = match alarm {
                    Ok(alarm) => (Some(alarm), Ok(name)),
                    Err(error) => (None, Err(error)),
                };
                let _nobody = started.send(told);
                if let Some(alarm) = alarm {
                    run(ports, config, alarm).await;
                }
            };
            match runtime {
                AnyRuntime::IoUring(mut runtime) => runtime.block_on(alarmed),
                AnyRuntime::Epoll(mut runtime) => runtime.block_on(alarmed),
            }
        })
        .map_err(|source| ShardError::Thread { shard, source })?;
    let lost = || std::io::Error::other("the thread ended at once");
    let io_driver =
        start.recv().map_err(|_gone| ShardError::Thread { shard, source: lost() })??;
    info!(shard, io_driver, "shard started");
    Ok(ShardThread { io_driver, thread })
}

fn pin(shard: u16, config: &ShardConfig) -> Result<(), ShardError> {
    let Some(core) = config.core else { return Ok(()) };
    let mut cores = CpuSet::new();
    if core >= CpuSet::MAX_CPU {
        let source = std::io::Error::other("no such core");
        return Err(ShardError::Core { shard, core, source });
    }
    cores.set(core);
    rustix::thread::sched_setaffinity(None, &cores).map_err(|errno| ShardError::Core {
        shard,
        core,
        source: errno.into(),
    })
}

enum AnyRuntime {
    IoUring(Runtime<IoUringDriver>),
    Epoll(Runtime<LegacyDriver>),
}

impl AnyRuntime {
    const fn name(&self) -> &'static str {
        match self {
            Self::IoUring(_) => "io_uring",
            Self::Epoll(_) => "epoll",
        }
    }
}

fn build(shard: u16, driver: IoDriver) -> Result<AnyRuntime, ShardError> {
    if driver != IoDriver::Epoll {
        // Task work runs when the shard enters the kernel, not by interrupting it, and one thread
        // alone submits: measured 7-12 us round trip over loopback against 58 us with the defaults.
        let mut ring = io_uring::IoUring::builder();
        ring.setup_coop_taskrun().setup_single_issuer();
        let built = RuntimeBuilder::<IoUringDriver>::new()
            .with_entries(RING_ENTRIES)
            .uring_builder(ring)
            .build();
        match (built, driver) {
            (Ok(runtime), _) => return Ok(AnyRuntime::IoUring(runtime)),
            (Err(source), IoDriver::IoUring) => return Err(ShardError::IoUring { shard, source }),
            (Err(error), _) => warn!(
                shard, %error,
                "io_uring is refused: falling back to epoll, which costs more per message; allow \
                 io_uring (sysctl kernel.io_uring_disabled, container seccomp profile, ulimit -l)"
            ),
        }
    }
    RuntimeBuilder::<LegacyDriver>::new()
        .build()
        .map(AnyRuntime::Epoll)
        .map_err(|source| ShardError::Epoll { shard, source })
}

/// The shard loop.
async fn run(ports: ShardPorts<LaneSession>, config: ShardConfig, mut alarm: Alarm) {
    let clock = Clock::start();
    let bell = Arc::clone(&ports.bell);
    let io = MonoioIo::default();
    let completions = io.completions();
    let mut shard = Shard::new(ports, &config, io);
    let (mut last_moved, mut lookout) = (None, Lookout::default());
    loop {
        let now = clock.now();
        let worked = shard.turn(now);
        if shard.take_moved() {
            last_moved = Some(now);
        }
        if shard.is_stopped() {
            return;
        }
        let looks = last_moved.is_some_and(|at| now.saturating_since(at) < config.spin.budget)
            && lookout.may_look(Instant::now());
        if worked || looks {
            if !worked {
                lookout.relax();
            }
            // Let pumps run and the ring be looked at, without sleeping.
            pass().await;
            continue;
        }
        let sleeping = std::future::poll_fn(|cx| {
            completions.register(cx.waker());
            if !completions.is_empty() {
                return Poll::Ready(());
            }
            bell.poll_sleep(cx, || shard.has_work())
        });
        sleep_until(sleeping, shard.poll_timeout(), (&mut alarm, clock)).await;
        shard.handle_rest();
    }
}

/// Waits for `sleeping`, but no longer than `until`. Other tasks run meanwhile, also if that has passed.
async fn sleep_until(
    sleeping: impl Future<Output = ()>,
    until: Option<MonoTime>,
    (alarm, clock): (&mut Alarm, Clock),
) {
    let mut sleeping = std::pin::pin!(sleeping);
    let mut is_first_look = true;
    let is_overdue = std::future::poll_fn(|cx| {
        if sleeping.as_mut().poll(cx).is_ready() {
            return Poll::Ready(false);
        }
        let at_once = std::mem::replace(&mut is_first_look, false);
        let Some(at) = until else { return Poll::Pending };
        alarm.poll_rings(cx, clock, at).map(|()| at_once)
    });
    if is_overdue.await {
        // A loop that is never pending keeps the pumps from their sockets; an alarm that fails makes it one.
        pass().await;
    }
}

/// Lets every other task run once and the driver look at its completions.
///
/// Waking oneself would put this task in front of all others for ever (monoio 0.2.4); a task that
/// does nothing but wake this one goes to the end of the queue instead.
async fn pass() {
    let mut passed = false;
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut passed, true) {
            return Poll::Ready(());
        }
        let waker = cx.waker().clone();
        monoio::spawn(async move { waker.wake() });
        Poll::Pending
    })
    .await;
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::pending;
    use std::rc::Rc;
    use std::time::Duration;

    use super::*;

    #[test]
    fn pumps_have_their_turn_though_the_alarm_fails_or_its_time_has_passed() {
        let mut runtime = RuntimeBuilder::<LegacyDriver>::new().build().unwrap();
        runtime.block_on(async {
            let (mut alarm, clock) = (Alarm::new().unwrap(), Clock::start());
            let hour = clock.now().saturating_add(Duration::from_secs(3600));
            for (fails, until) in [(false, clock.now()), (true, hour)] {
                if fails {
                    alarm.fail(&std::io::Error::other("by a test"));
                }
                let pump = Rc::new(Cell::new(false));
                let turn = Rc::clone(&pump);
                monoio::spawn(async move { turn.set(true) });
                sleep_until(pending(), Some(until), (&mut alarm, clock)).await;
                assert!(pump.get(), "alarm fails: {fails}");
            }
        });
    }
}
