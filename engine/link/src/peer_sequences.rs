/// What the peer has had of the link sequences that were given out.
///
/// It takes none that is further ahead of the highest that it has had than its window is wide. Numbers
/// whose frames have left the link without being sent, or were lost, it never sees.
#[derive(Debug, Default)]
pub(crate) struct PeerSequences {
    at_least: u64,
    at_most: u64,
}

impl PeerSequences {
    /// It has had this one or a higher one, or none since it ended a session.
    pub(crate) const fn at_least(&self) -> u64 {
        self.at_least
    }

    /// It has had no higher one, but for what is in flight.
    pub(crate) const fn at_most(&self) -> u64 {
        self.at_most
    }

    /// It has acknowledged one.
    pub(crate) fn handle_acknowledged(&mut self, sequence: u64) {
        self.at_least = self.at_least.max(sequence);
        self.at_most = self.at_most.max(sequence);
    }

    /// Whether it has had those up to this one will not be known.
    pub(crate) fn handle_unknown(&mut self, sequence: u64) {
        self.at_most = self.at_most.max(sequence);
    }

    /// It may have ended the session: then this is the lowest that it will have.
    pub(crate) fn handle_alone(&mut self, lowest: u64) {
        self.at_least = self.at_least.min(lowest.saturating_sub(1));
    }

    /// It has had none in its present life, and the next one is the first.
    pub(crate) const fn handle_other_life(&mut self, next: u64) {
        self.at_least = next.saturating_sub(1);
        self.at_most = self.at_least;
    }
}
