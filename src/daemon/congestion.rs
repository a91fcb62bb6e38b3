//! Which congestion control the sockets of lanes begin with.

use rustix::net::sockopt::{set_tcp_congestion, tcp_congestion};
use rustix::net::{AddressFamily, SocketType, socket};

/// What does not pace, the first that the kernel lets us have.
const UNPACED: [&str; 2] = ["cubic", "reno"];

/// Congestion control of lanes where the system's own paces; see `docs/adr/0022-congestion-control.md`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct CongestionControl {
    /// What sockets begin with.
    pub(crate) unpaced: &'static str,
    /// The system's own, for lanes that turn out to lead far.
    pub(crate) far: String,
}

impl CongestionControl {
    /// What this kernel gives and lets us have; `None` if its own does not pace or there is no other.
    pub(crate) fn of_system() -> Option<Self> {
        let probe = [AddressFamily::INET, AddressFamily::INET6]
            .into_iter()
            .find_map(|family| socket(family, SocketType::STREAM, None).ok())?;
        let far = tcp_congestion(&probe).ok().filter(|name| name.starts_with("bbr"))?;
        let unpaced = UNPACED.into_iter().find(|name| set_tcp_congestion(&probe, name).is_ok())?;
        Some(Self { unpaced, far })
    }
}
