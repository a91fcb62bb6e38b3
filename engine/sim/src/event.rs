use hawser_wire::{LaneId, LinkEpoch, MonoTime};

use crate::network::{ConnectionId, End, NetworkEvent};

/// What can happen in the world.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Event {
    /// See [`NetworkEvent`].
    Network(NetworkEvent),
    /// A machine of a node asked to be woken at this time.
    Wake { node: usize, at: MonoTime },
    /// An application publishes.
    Publish { flow: usize },
    /// A slow consumer takes its next record.
    Consume { flow: usize },
    /// A control frame of known age is sent over a link end.
    Probe { end: usize },
    /// The owner of a link end tries to open a lane, unless it is open.
    Dial { end: usize, lane: LaneId },
    /// The handshakes of a lane are done.
    Dialled { end: usize, lane: LaneId, epoch: LinkEpoch, lives: [u64; 2] },
    /// A lane is handed to the node at its end.
    LaneUp { end: End },
    /// Something goes wrong.
    Fault,
    /// Something is over that went wrong.
    Heal(Heal),
}

/// The end of a fault.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Heal {
    /// A connection that was silent in some direction speaks again.
    Connection(ConnectionId),
    /// Lanes of a link can be opened again.
    Link { link: usize, since: MonoTime },
    /// A node goes on.
    Stall(usize),
    /// A node begins a new life.
    Reboot(usize),
}

impl From<NetworkEvent> for Event {
    fn from(event: NetworkEvent) -> Self {
        Self::Network(event)
    }
}

impl Event {
    /// Name and numbers for the trace.
    pub(crate) fn trace(&self) -> (&'static str, [u64; 2]) {
        let connection = |end: &End| [u64::from(end.connection.0), u64::from(end.is_acceptor())];
        let number = |index: usize| u64::try_from(index).unwrap_or(u64::MAX);
        match self {
            Self::Network(NetworkEvent::Arrive(end)) => ("arrive", connection(end)),
            Self::Network(NetworkEvent::Writable(end)) => ("writable", connection(end)),
            Self::Network(NetworkEvent::Down(end, _)) => ("connection ends", connection(end)),
            Self::Wake { node, .. } => ("wake", [number(*node), 0]),
            Self::Publish { flow } => ("publish", [number(*flow), 0]),
            Self::Consume { flow } => ("consume", [number(*flow), 0]),
            Self::Probe { end } => ("probe", [number(*end), 0]),
            Self::Dial { end, lane } => ("dial", [number(*end), u64::from(lane.0)]),
            Self::Dialled { end, lane, .. } => ("dialled", [number(*end), u64::from(lane.0)]),
            Self::LaneUp { end } => ("lane up", connection(end)),
            Self::Fault => ("fault", [0; 2]),
            Self::Heal(Heal::Connection(id)) => ("connection heals", [u64::from(id.0), 0]),
            Self::Heal(Heal::Link { link, .. }) => ("link heals", [number(*link), 0]),
            Self::Heal(Heal::Stall(node)) => ("node goes on", [number(*node), 0]),
            Self::Heal(Heal::Reboot(node)) => ("node reboots", [number(*node), 0]),
        }
    }
}
