//! What the machine grants: processors, locked memory, its name.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{
    CpuSet, disable_transparent_huge_pages, sched_getaffinity, sched_setaffinity,
};
use tracing::{info, warn};

use crate::cli::failure::Failure;

/// Memory that a ring wants to lock, in bytes; with less, old kernels refuse it with ENOMEM.
const RING_LOCKED_BYTES: u64 = 64 << 10;

/// File descriptors that a busy node may need: lanes, connections of the API, files.
const DESCRIPTORS_WANTED: u64 = 16_384;

/// Processors that this process may use, ascending.
///
/// # Errors
/// If the system does not say.
pub(crate) fn usable_processors() -> Result<Vec<usize>, Failure> {
    let set = sched_getaffinity(None)
        .map_err(|errno| Failure::plain(format!("cannot read the processors: {errno}")))?;
    Ok((0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect())
}

/// Keeps the calling thread, and the threads that it starts from now on, on `processors`.
///
/// # Errors
/// If the system refuses.
pub(crate) fn pin(processors: &[usize], thread: &str) -> Result<(), Failure> {
    let mut set = CpuSet::new();
    for &processor in processors.iter().filter(|&&processor| processor < CpuSet::MAX_CPU) {
        set.set(processor);
    }
    sched_setaffinity(None, &set).map_err(|errno| {
        Failure::plain(format!("cannot pin the {thread} thread to {processors:?}: {errno}"))
    })
}

/// Whether memory that this process takes from now on may come in pages of 2 MiB.
///
/// The allocator's memory asks for them (`madvise`), and is taken while messages pass: to clear one
/// takes a millisecond and more, which every call waits for that the thread has; see
/// `docs/adr/0024-huge-pages.md`.
pub(crate) fn allow_huge_pages(are_allowed: bool) {
    if let Err(errno) = disable_transparent_huge_pages(!are_allowed) {
        warn!(%errno, are_allowed, "cannot say whether huge pages are allowed: threads may stop for milliseconds");
    }
}

/// Raises soft limits to what is allowed, and says what may be too little for `shards` rings.
pub(crate) fn check_limits(shards: usize) {
    let wanted = RING_LOCKED_BYTES.saturating_mul(u64::try_from(shards).unwrap_or(u64::MAX));
    let locked = raise(Resource::Memlock, wanted);
    if let Some(limit) = locked.filter(|limit| *limit < wanted)
        && !rustix::process::geteuid().is_root()
    {
        warn!(
            limit_bytes = limit,
            wanted_bytes = wanted,
            "little memory may be locked: some kernels then refuse io_uring; raise it with \
             `ulimit -l`, LimitMEMLOCK= in systemd, or /etc/security/limits.conf"
        );
    }
    let descriptors = raise(Resource::Nofile, DESCRIPTORS_WANTED);
    if let Some(limit) = descriptors.filter(|limit| *limit < 1024) {
        warn!(
            limit,
            "few files may be open: connections beyond them are refused; raise it with \
             `ulimit -n` or LimitNOFILE= in systemd"
        );
    }
}

/// The soft limit after it was raised towards `wanted`; none if it is unlimited.
fn raise(resource: Resource, wanted: u64) -> Option<u64> {
    let limit = getrlimit(resource);
    let current = limit.current?;
    let target = limit.maximum.map_or(wanted, |maximum| maximum.min(wanted));
    if current >= target {
        return Some(current);
    }
    let raised = Rlimit { current: Some(target), maximum: limit.maximum };
    if setrlimit(resource, raised).is_ok() {
        info!(?resource, from = current, to = target, "raised a limit of this process");
        return Some(target);
    }
    Some(current)
}

/// The host's name, as far as it can be a node's.
pub(crate) fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name: String = name
        .trim()
        .chars()
        .take(63)
        .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '-' })
        .collect();
    if hawser_identity::check_node_name(&name).is_ok() { name } else { "node".to_owned() }
}
