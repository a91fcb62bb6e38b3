use std::time::Duration;

/// Timers and counts. Times of probes are multiplied by the awareness multiplier.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Config {
    /// From one probe to the next (SWIM's protocol period T').
    pub probe_interval: Duration,
    /// A probe without an ack for so long is relayed.
    pub ack_timeout: Duration,
    /// A probe without an ack for so long has failed, relays included; at most `probe_interval`.
    pub probe_timeout: Duration,
    /// Members that are asked to relay a probe (SWIM's k).
    pub indirect_probes: usize,
    /// News go out so often, while there are any.
    pub gossip_interval: Duration,
    /// To so many members each time.
    pub gossip_fanout: usize,
    /// Each piece of news is sent so many times, times ln of the members (SWIM's λ).
    pub retransmit_factor: u32,
    /// Shortest suspicion, in probe intervals, times log10 of the members (Lifeguard's α).
    pub suspicion_min: u32,
    /// Longest suspicion, in shortest ones (Lifeguard's β).
    pub suspicion_max: u32,
    /// One of the dead is asked again so often, so that a partition heals.
    pub reconnect_interval: Duration,
    /// All that is claimed is compared with one member's so often.
    pub sync_interval: Duration,
}

impl Config {
    /// The usual proportions around one probe each `probe_interval`.
    #[must_use]
    pub fn every(probe_interval: Duration) -> Self {
        let part = |tenths: u32| {
            probe_interval.saturating_mul(tenths).checked_div(10).unwrap_or(probe_interval)
        };
        Self {
            probe_interval,
            ack_timeout: part(3),
            probe_timeout: part(8),
            indirect_probes: 3,
            gossip_interval: part(1),
            gossip_fanout: 3,
            retransmit_factor: 3,
            suspicion_min: 1,
            suspicion_max: 6,
            reconnect_interval: part(50),
            sync_interval: part(3000),
        }
    }
}

impl Default for Config {
    /// A probe a second: an idle node's probes cost next to nothing.
    fn default() -> Self {
        Self::every(Duration::from_secs(1))
    }
}
