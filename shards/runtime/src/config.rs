use hawser_delivery::DeliveryLimits;
use hawser_exchange::Spin;
use hawser_link::HealthLimits;
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
    /// How lanes are watched.
    pub health: HealthLimits,
    /// Bytes of each data class that may wait for one neighbour before a relay drops.
    pub relay_queue_bytes: usize,
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
            health: HealthLimits::default(),
            relay_queue_bytes: 32 << 20,
        }
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
