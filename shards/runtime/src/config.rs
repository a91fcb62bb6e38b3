use std::time::Duration;

use hawser_delivery::DeliveryLimits;
use hawser_exchange::{LanePolicyMode, LaneRule, Spin};
use hawser_link::LinkConfig;
use hawser_wire::NodeId;
use thiserror::Error;

/// What carries a shard's reads and writes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum IoDriver {
    /// io_uring if the kernel lets us, else epoll, with a warning in the log.
    #[default]
    Auto,
    /// io_uring or nothing.
    IoUring,
    /// epoll.
    Epoll,
}

/// How one shard runs.
#[derive(Clone, Debug)]
pub struct ShardConfig {
    /// This node.
    pub local: NodeId,
    /// Core to run on; `None`: wherever the scheduler likes.
    pub core: Option<usize>,
    /// How to look for work before sleeping.
    pub spin: Spin,
    /// What carries reads and writes.
    pub driver: IoDriver,
    /// Bounds of each stream.
    pub delivery: DeliveryLimits,
    /// Bytes that streams which end at the shard may be granted together.
    pub stream_memory_bytes: u64,
    /// What each link keeps to.
    pub link: LinkConfig,
    /// All classes of a link share one lane, as far as the peer agrees.
    pub collapsed: bool,
    /// Congestion control of lanes that lead far, if sockets come with another (tcp(7)).
    pub far_control: Option<String>,
    /// For bulk lanes of each link, unless an operator says otherwise.
    pub lane_rule: LaneRule,
}

impl ShardConfig {
    /// The defaults for the node `local`.
    #[must_use]
    pub fn new(local: NodeId) -> Self {
        Self {
            local,
            core: None,
            spin: Spin::default(),
            driver: IoDriver::Auto,
            delivery: DeliveryLimits::default(),
            stream_memory_bytes: 512 << 20,
            link: LinkConfig::default(),
            collapsed: false,
            far_control: None,
            lane_rule: LaneRule {
                bulk_lanes_max: hawser_link::BULK_LANES_MAX,
                policy: LanePolicyMode::default(),
            },
        }
    }

    /// Heartbeats go out on each lane `every` so often.
    ///
    /// However often: a lane is dead after a second of silence at the earliest, for a busy host may
    /// stand still for a good part of one.
    pub fn set_heartbeat(&mut self, every: Duration) {
        const DEAD_AFTER_MIN: Duration = Duration::from_secs(1);
        let beats = DEAD_AFTER_MIN.as_nanos().div_ceil(every.as_nanos().max(1));
        let least = LinkConfig::default().dead_after_ticks;
        self.link.tick = every;
        self.link.dead_after_ticks = u32::try_from(beats).unwrap_or(u32::MAX).max(least);
    }
}

/// Why a shard did not start.
#[derive(Debug, Error)]
pub enum ShardError {
    /// The thread could not be made.
    #[error("cannot start the thread of shard {shard}: {source}")]
    Thread {
        /// Which.
        shard: u16,
        /// Why.
        source: std::io::Error,
    },
    /// No timer to wake it.
    #[error(
        "no timer for shard {shard}: {source}; allow timerfd_create (container seccomp profile, ulimit -n)"
    )]
    Timer {
        /// Which.
        shard: u16,
        /// Why.
        source: std::io::Error,
    },
    /// The core does not exist or is not ours.
    #[error(
        "cannot pin shard {shard} to core {core}: {source}; choose cores that this process may use"
    )]
    Core {
        /// Which.
        shard: u16,
        /// The core.
        core: usize,
        /// Why.
        source: std::io::Error,
    },
    /// No ring.
    #[error(
        "io_uring is refused for shard {shard}: {source}; allow it (sysctl kernel.io_uring_disabled, \
         container seccomp profile, ulimit -l) or set shards.driver = \"auto\" to fall back to epoll"
    )]
    IoUring {
        /// Which.
        shard: u16,
        /// Why.
        source: std::io::Error,
    },
    /// No epoll either.
    #[error("cannot set up epoll for shard {shard}: {source}")]
    Epoll {
        /// Which.
        shard: u16,
        /// Why.
        source: std::io::Error,
    },
}
