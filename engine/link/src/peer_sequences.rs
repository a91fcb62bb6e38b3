/// What the peer has had of the link sequences that were given out.
///
/// It takes none that is further ahead of the highest that it has had than its window is wide. Numbers
/// whose frames have left the link without being sent, or were lost, it never sees.
#[derive(Debug, Default)]
pub(crate) struct PeerSequences {
    at_least: u64,
    sent: u64,
}

impl PeerSequences {
    /// It has had this one or a higher one, or none since it ended a session.
    pub(crate) const fn at_least(&self) -> u64 {
        self.at_least
    }

    /// The highest that went out over any lane: it has had no higher one.
    pub(crate) const fn sent(&self) -> u64 {
        self.sent
    }

    /// Frames up to this one go out.
    pub(crate) fn handle_sent(&mut self, sequence: u64) {
        self.sent = self.sent.max(sequence);
    }

    /// It has acknowledged one.
    pub(crate) fn handle_acknowledged(&mut self, sequence: u64) {
        self.at_least = self.at_least.max(sequence);
    }

    /// It may have ended the session: then this is the lowest that it will have.
    pub(crate) fn handle_alone(&mut self, lowest: u64) {
        self.at_least = self.at_least.min(lowest.saturating_sub(1));
    }

    /// It has had none in its present life, and the next one is the first.
    pub(crate) const fn handle_other_life(&mut self, next: u64) {
        self.at_least = next.saturating_sub(1);
        self.sent = self.at_least;
    }
}
