//! The machine underneath: its clock, its cores, and who used them.
//!
//! CPU figures come from `/proc` in clock ticks (10 ms as a rule), so they are good for windows of
//! a second and more.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use anyhow::{Context, Result, bail};
use rustix::param::clock_ticks_per_second;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds of `CLOCK_MONOTONIC`: the same clock for every process of the machine.
pub(crate) fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}

/// The cores this process may run on, ascending.
pub(crate) fn cores() -> Result<Vec<usize>> {
    let set = sched_getaffinity(None).context("sched_getaffinity")?;
    let cores: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|&core| set.is_set(core)).collect();
    if cores.is_empty() {
        bail!("the kernel allows this process no core at all");
    }
    Ok(cores)
}

/// Binds the calling thread, and whatever it starts from now on, to `cores`. None: no change.
pub(crate) fn pin(cores: &[usize]) -> Result<()> {
    if cores.is_empty() {
        return Ok(());
    }
    let mut set = CpuSet::new();
    for &core in cores {
        if core >= CpuSet::MAX_CPU {
            bail!("core {core} does not exist");
        }
        set.set(core);
    }
    sched_setaffinity(None, &set).with_context(|| format!("cannot run on cores {cores:?}"))
}

/// A free port of loopback. Somebody else can take it before the one it is for does; then that one
/// says so.
pub(crate) fn free_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("loopback")?;
    listener.local_addr().context("loopback")
}

/// Ticks of the whole machine since it started, from `/proc/stat`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct MachineTicks {
    /// User, nice, system and interrupts: all that was not idle. Interrupts belong here because the
    /// kernel charges them to the process that they hit: the ticks of all processes add up to this.
    processes: u64,
    /// What the hypervisor gave to others while this machine wanted to run.
    steal: u64,
    total: u64,
}

impl MachineTicks {
    fn read() -> Result<Self> {
        Self::parse(&fs::read_to_string("/proc/stat").context("/proc/stat")?)
    }

    /// user nice system idle iowait irq softirq steal; guest time is within user already.
    fn parse(stat: &str) -> Result<Self> {
        let line = stat.lines().next().unwrap_or_default();
        let ticks: Vec<u64> = line
            .split_whitespace()
            .skip(1)
            .take(8)
            .filter_map(|field| field.parse().ok())
            .collect();
        let [user, nice, system, _idle, _iowait, irq, softirq, steal] = ticks.as_slice() else {
            bail!("/proc/stat: unexpected first line {line:?}");
        };
        let processes = user + nice + system + irq + softirq;
        Ok(Self { processes, steal: *steal, total: ticks.iter().sum() })
    }
}

/// User and system ticks of a process and its ended threads, from `/proc/<pid>/stat`.
fn process_ticks(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/stat");
    let stat = fs::read_to_string(&path).with_context(|| path.clone())?;
    // The name stands in brackets and may hold anything, so count from its end.
    let fields = stat.rsplit_once(')').map(|(_, rest)| rest).unwrap_or_default();
    let mut fields = fields.split_whitespace().skip(11).map(str::parse::<u64>);
    match (fields.next(), fields.next()) {
        (Some(Ok(user)), Some(Ok(system))) => Ok(user + system),
        _ => bail!("{path}: unexpected content"),
    }
}

/// Largest resident size that the process ever had (`VmHWM`), in bytes.
pub(crate) fn rss_peak_bytes(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).with_context(|| path.clone())?;
    let peak_kib = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|value| value.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    Ok(peak_kib.with_context(|| format!("{path}: no VmHWM"))? * 1024)
}

/// What machine and processes had used at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Usage {
    machine: MachineTicks,
    /// (pid, ticks), in the order of the caller.
    processes: Vec<(u32, u64)>,
}

impl Usage {
    /// # Errors
    /// If one of `pids` has ended.
    pub(crate) fn read(pids: &[u32]) -> Result<Self> {
        let processes =
            pids.iter().map(|&pid| Ok((pid, process_ticks(pid)?))).collect::<Result<_>>()?;
        Ok(Self { machine: MachineTicks::read()?, processes })
    }

    /// What was used from `earlier` to this moment.
    pub(crate) fn since(&self, earlier: &Self) -> Consumption {
        let hertz = clock_ticks_per_second() as f64;
        let processes_s: Vec<f64> = self
            .processes
            .iter()
            .map(|&(pid, ticks)| {
                let before = earlier.processes.iter().find(|&&(p, _)| p == pid);
                ticks.saturating_sub(before.map_or(0, |&(_, ticks)| ticks)) as f64 / hertz
            })
            .collect();
        let total = self.machine.total.saturating_sub(earlier.machine.total).max(1) as f64;
        let steal = self.machine.steal.saturating_sub(earlier.machine.steal) as f64;
        let used = self.machine.processes.saturating_sub(earlier.machine.processes) as f64;
        let ours = processes_s.iter().sum::<f64>() * hertz;
        Consumption {
            processes_s,
            steal: steal / total,
            foreign_cpu: ((used - ours) / total).max(0.0),
        }
    }
}

/// Processes of others that take more than this share of the machine take it unevenly from what is
/// measured: whoever has more threads that want to run keeps more.
const FOREIGN_CPU_MAX: f64 = 0.1;

/// True if a run beside so much foreign CPU is not to be compared with another.
pub(crate) fn is_contended(foreign_cpu: f64) -> bool {
    foreign_cpu > FOREIGN_CPU_MAX
}

/// CPU used within a window.
#[derive(Clone, Debug)]
pub(crate) struct Consumption {
    /// CPU seconds of each process, in the order in which they were asked for.
    pub(crate) processes_s: Vec<f64>,
    /// Share of the machine's time that the hypervisor took, 0 to 1.
    pub(crate) steal: f64,
    /// Share of the machine's time that processes of others used, 0 to 1.
    pub(crate) foreign_cpu: f64,
}

impl Consumption {
    /// CPU seconds of all processes asked for.
    pub(crate) fn total_s(&self) -> f64 {
        self.processes_s.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machine_ticks_leave_idle_time_out_of_use() {
        let ticks = MachineTicks::parse("cpu  10 20 30 40 50 60 70 80 5 6\ncpu0 1 2\n").unwrap();
        assert_eq!(ticks, MachineTicks { processes: 190, steal: 80, total: 360 });
        assert!(MachineTicks::parse("intr 1 2 3").is_err());
    }

    #[test]
    fn consumption_is_the_difference_of_two_readings() {
        let usage = |processes, steal, total, ticks| Usage {
            machine: MachineTicks { processes, steal, total },
            processes: vec![(7, ticks)],
        };
        let used = usage(160, 30, 1200, 90).since(&usage(100, 10, 1000, 50));
        assert!((used.steal - 0.1).abs() < 1e-9);
        assert!((used.foreign_cpu - 0.1).abs() < 1e-9, "60 used, 40 of them ours, of 200");
        assert!((used.total_s() - 40.0 / clock_ticks_per_second() as f64).abs() < 1e-9);
    }

    #[test]
    fn this_process_has_cores_ticks_and_memory() {
        let pid = std::process::id();
        assert!(!cores().unwrap().is_empty());
        assert!(rss_peak_bytes(pid).unwrap() > 64 << 10);
        let usage = Usage::read(&[pid]).unwrap();
        assert!(usage.since(&usage).total_s() < 1e-9);
    }
}
