use std::time::Duration;

use crate::PathWindowLimits;

/// Bounds of one stream at one node.
#[derive(Clone, Copy, Debug)]
pub struct DeliveryLimits {
    /// Bytes of records that a destination holds for its consumers, at most; its end-to-end credit.
    pub window_bytes: u64,
    /// Of these, what it grants to a source of which it knows nothing.
    pub window_initial_bytes: u64,
    /// Bytes of records that a source holds before it stops taking more from publishers.
    pub outbox_bytes: u64,
    /// Of these, bytes not sent yet to any destination, while one can be reached. What waits longer
    /// than it must falls out of the caches, and every copy of it costs more.
    pub unsent_bytes: u64,
    /// Bytes of records that a source may have under way on a path that it knows nothing of.
    pub path_window_bytes: u64,
    /// Producers of one stream.
    pub producers_max: usize,
    /// Consumers of one stream at one destination.
    pub consumers_max: usize,
    /// Without progress for this long (or four round trips, if that is more) the source probes.
    pub resend_after: Duration,
    /// A gap at a destination is a loss once it has lasted for this long (or two round trips, if that
    /// is more). A link that loses a lane sends what was in flight over another one, behind what it
    /// has sent there meanwhile: within one and a half of its own round trips if both ends learn of
    /// the loss, else after three silent ticks. What a relay drops is told by a notice, long before.
    pub gap_after: Duration,
    /// A consumer's progress alone is acknowledged after this time at the latest.
    pub consumed_ack_after: Duration,
}

impl Default for DeliveryLimits {
    fn default() -> Self {
        Self {
            window_bytes: 4 << 20,
            window_initial_bytes: 256 << 10,
            outbox_bytes: 16 << 20,
            unsent_bytes: 2 << 20,
            path_window_bytes: PathWindowLimits::default().initial_bytes,
            producers_max: 256,
            consumers_max: 64,
            resend_after: Duration::from_secs(1),
            gap_after: Duration::from_millis(400),
            consumed_ack_after: Duration::from_millis(20),
        }
    }
}

impl DeliveryLimits {
    /// Of the windows of a source's paths.
    #[must_use]
    pub fn path_window(&self) -> PathWindowLimits {
        PathWindowLimits {
            initial_bytes: self.path_window_bytes,
            resend_after: self.resend_after,
            ..PathWindowLimits::default()
        }
    }
}
