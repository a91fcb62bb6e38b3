//! What is to be checked next, seen ahead: for a driver that verifies signatures together.

use crate::candidates::Candidate;
use crate::{Flooding, Inserted, Lsa};

impl Flooding {
    /// Of the next `max` advertisements that [`Flooding::poll_check`] hands out, in their order, the
    /// first of each origin. Nothing changes.
    ///
    /// What is found about some of them keeps no other from being handed out, but for a sender that is
    /// distrusted by then and a database that is full: whoever has sent a forged one among them is found
    /// out. So those are left out of which no sender is there any more. A second one of an origin would be
    /// dropped if the first was newer.
    #[must_use]
    pub fn upcoming_checks(&self, max: usize) -> Vec<&Lsa> {
        let mut upcoming: Vec<&Lsa> = Vec::new();
        let waiting = self.checking.iter().chain(self.candidates.upcoming());
        for candidate in waiting.filter(|candidate| self.is_to_be_checked(candidate)).take(max) {
            let origin = candidate.lsa.origin;
            if !upcoming.iter().any(|lsa| lsa.origin == origin) {
                upcoming.push(&candidate.lsa);
            }
        }
        upcoming
    }

    /// Whether the driver must look at it, as things stand.
    fn is_to_be_checked(&self, candidate: &Candidate) -> bool {
        let (origin, version) = (candidate.lsa.origin, candidate.version);
        let is_wanted = match self.lsdb.judge(origin, version, candidate.encoding.len()) {
            Inserted::Newest => true,
            Inserted::Full => origin == self.node,
            Inserted::Same | Inserted::Older => false,
        };
        is_wanted
            && !self.lsdb.is_over(self.now, origin, version)
            && !self.says_too_much(origin)
            && candidate.senders.iter().any(|sender| {
                let neighbour = self.neighbours.get(&sender.node);
                neighbour.is_some_and(|neighbour| !neighbour.is_distrusted(self.now))
            })
    }
}
