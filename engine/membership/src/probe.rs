use hawser_wire::{MonoTime, NodeId};

/// The one probe that is under way.
#[derive(Clone, Debug)]
pub(crate) struct Probe {
    pub(crate) target: NodeId,
    pub(crate) sequence: u32,
    /// Relays are asked then; `None` once they were.
    pub(crate) relay_due: Option<MonoTime>,
    /// It has failed then.
    pub(crate) end: MonoTime,
    /// Who was asked to relay it, and whether they said that they had no ack.
    pub(crate) relays: Vec<(NodeId, bool)>,
}

impl Probe {
    /// An ack from there answers it.
    pub(crate) fn may_answer(&self, from: NodeId) -> bool {
        from == self.target || self.relays.iter().any(|(relay, _)| *relay == from)
    }

    /// Relays that were asked and have said nothing at all.
    pub(crate) fn silent_relays(&self) -> usize {
        self.relays.iter().filter(|(_, nacked)| !nacked).count()
    }

    pub(crate) fn poll_timeout(&self) -> MonoTime {
        self.relay_due.unwrap_or(self.end)
    }
}
