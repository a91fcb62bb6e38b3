use hawser_exchange::{Sender, ShardToShard};
use hawser_wire::TrafficClass;

use crate::budget::Budget;
use crate::outlet::Outlet;

/// Bytes of control frames that may be on their way to another shard: what a shard that stands
/// still may cost.
const SHARD_CONTROL_BYTES_MAX: usize = 16 << 20;

/// Rings to another shard.
#[derive(Debug)]
pub(crate) struct PeerOutlets {
    pub(crate) control: Outlet<ShardToShard>,
    pub(crate) priority: Outlet<ShardToShard>,
    pub(crate) data: Outlet<ShardToShard>,
    /// Of control frames.
    pub(crate) budget: Budget,
}

impl PeerOutlets {
    pub(crate) fn new(
        control: Sender<ShardToShard>,
        priority: Sender<ShardToShard>,
        data: Sender<ShardToShard>,
    ) -> Self {
        let control = Outlet::new(control);
        let (priority, data) = (Outlet::new(priority), Outlet::new(data));
        Self { control, priority, data, budget: Budget::new(SHARD_CONTROL_BYTES_MAX) }
    }

    /// A ring has room again for what waits.
    pub(crate) fn can_flow(&self) -> bool {
        [&self.control, &self.priority, &self.data].into_iter().any(Outlet::can_flow)
    }

    /// Moves what fits into the rings and wakes the other shard. True if there is room again for records
    /// that there was none for.
    pub(crate) fn flush(&mut self) -> bool {
        let was_full = [&self.priority, &self.data].map(Outlet::is_full);
        for ring in [&mut self.control, &mut self.priority, &mut self.data] {
            ring.flush();
        }
        was_full.iter().zip([&self.priority, &self.data]).any(|(was, ring)| *was && !ring.is_full())
    }

    /// The ring for records of a class takes no more.
    pub(crate) fn is_full(&self, class: TrafficClass) -> bool {
        match class {
            TrafficClass::Control => false,
            TrafficClass::Priority => self.priority.is_full(),
            TrafficClass::Bulk => self.data.is_full(),
        }
    }
}
