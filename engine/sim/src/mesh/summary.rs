//! What a run came to.

use std::time::Duration;

/// Figures of a run in which every property held.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MeshSummary {
    /// Nodes of the mesh.
    pub nodes: usize,
    /// Links of the mesh.
    pub links: usize,
    /// Names the history.
    pub seed: u64,
    /// Faults and their ends: links cut and there again, nodes killed and begun anew, the mesh
    /// parted and whole again.
    pub events: u64,
    /// From the start of all nodes until each had published paths to all others, in milliseconds;
    /// none if the mesh was there when the simulation began.
    pub start_ms: Option<u64>,
    /// From an event until the last node that it is connected with had published paths that take
    /// it into account, in milliseconds: the middle of the events.
    pub convergence_ms_p50: f64,
    /// The same, 99 of 100 by nearest rank.
    pub convergence_ms_p99: f64,
    /// Link-state messages, acknowledgements and digests included, that were sent from an event
    /// until all databases agreed again, by event and node.
    pub messages_per_event_per_node: f64,
    /// Membership messages by node and second.
    pub membership_messages_per_node_per_s: f64,
    /// From a death until each member connected with the others took it for dead, in milliseconds:
    /// the longest. None without a death.
    pub death_known_ms_max: Option<u64>,
    /// From the moment in which the mesh fell into pieces until each member took those in the others
    /// for dead, in milliseconds: the longest. Pieces of less than an eighth of the nodes are not
    /// waited for. None if it never did.
    pub parted_known_ms_max: Option<u64>,
    /// Verdicts on members that were alive and connected with who gave them.
    pub false_positives: u64,
    /// Verdicts after a partition had healed that repeat those given while it lasted.
    pub late_verdicts: u64,
    /// The longest time in which frames between two nodes that links connected did not arrive.
    pub blackhole_ms: u64,
    /// That time's mean over all pairs that were looked at.
    pub blackhole_ms_mean: f64,
    /// Pairs that were looked at, over all events.
    pub pairs: u64,
    /// Signatures that were checked.
    pub signatures: u64,
    /// Advertisements that were rejected after a look.
    pub rejected: u64,
    /// Simulated time.
    pub simulated: Duration,
    /// Things that happened.
    pub happenings: u64,
    /// Equal for equal histories.
    pub trace_hash: u64,
}

/// How far a run is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct MeshProgress {
    /// What goes on.
    pub what: &'static str,
    /// Events that are over.
    pub events: u64,
    /// Events that there are to be.
    pub events_in_all: u64,
    /// Simulated time.
    pub simulated: Duration,
}

/// Counts while it runs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) link_state: u64,
    pub(crate) datagrams: u64,
    pub(crate) rejected: u64,
    pub(crate) start_ms: Option<u64>,
    pub(crate) convergence_us: Vec<u64>,
    /// Of those, from event to agreement.
    pub(crate) event_messages: u64,
    pub(crate) deaths_ms: Vec<u64>,
    pub(crate) parted_ms: Vec<u64>,
    pub(crate) false_positives: u64,
    pub(crate) late_verdicts: u64,
    pub(crate) blackholes_us: Vec<u64>,
    pub(crate) events: u64,
}

/// By nearest rank; 0 if there is none.
pub(crate) fn quantile(sorted: &[u64], percent: usize) -> u64 {
    let rank = sorted.len().saturating_mul(percent).div_ceil(100).max(1);
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0)
}
