use std::time::Duration;

use anyhow::{Context, Result};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};

/// The cores for two threads that talk to each other: two different ones, where there are two. A
/// thread that is bound to one core gets that one twice.
pub(crate) fn pair() -> Result<(usize, usize)> {
    let set = sched_getaffinity(None).context("sched_getaffinity")?;
    let mut cores = (0..CpuSet::MAX_CPU).filter(|&core| set.is_set(core));
    let first = cores.next().context("the kernel allows this process no core at all")?;
    Ok((first, cores.next().unwrap_or(first)))
}

/// Binds the calling thread to `core`.
pub(crate) fn pin(core: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set).with_context(|| format!("cannot run on core {core}"))
}

/// CPU time that the calling thread has used, in the kernel too.
pub(crate) fn thread_cpu() -> Duration {
    let used = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(used.tv_sec).unwrap_or(0), u32::try_from(used.tv_nsec).unwrap_or(0))
}
