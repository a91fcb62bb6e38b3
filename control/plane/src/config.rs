use hawser_admission::{AdmissionLimits, SocketOptions};
use hawser_wire::{LaneId, TrafficClass};

/// Which lanes a link has.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct LanePlan {
    /// One lane carries every class, control first. Otherwise lane 0 carries control and lane 2
    /// client data.
    pub collapsed: bool,
}

impl LanePlan {
    /// The lanes, the one first that must be up before the others are dialled.
    pub(crate) const fn lanes(self) -> &'static [(LaneId, TrafficClass)] {
        const LANES: [(LaneId, TrafficClass); 2] =
            [(LaneId(0), TrafficClass::Control), (LaneId(2), TrafficClass::Bulk)];
        if self.collapsed { LANES.split_at(1).0 } else { &LANES }
    }
}

/// What the control plane is told at start. None of it changes while it runs.
#[derive(Clone, Debug)]
pub struct PlaneConfig {
    /// Human name of this node, see [`hawser_identity::check_node_name`].
    pub node_name: String,
    /// Where lanes are accepted, host:port; `None`: this node only dials.
    pub listen: Option<String>,
    /// What other nodes are to dial, host:port, if it differs from `listen`.
    pub advertise: Option<String>,
    /// Addresses that are dialled for as long as the node runs, beside those that the store keeps.
    pub dial: Vec<String>,
    /// HTTP CONNECT proxy for every lane that is dialled, host:port.
    pub proxy: Option<String>,
    /// Lanes per link.
    pub lanes: LanePlan,
    /// Bounds of handshakes.
    pub limits: AdmissionLimits,
    /// Options of lane sockets.
    pub sockets: SocketOptions,
    /// For status: "io_uring" or "epoll".
    pub io_driver: String,
    /// For status: this program's version.
    pub version: String,
}
