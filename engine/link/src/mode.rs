use hawser_wire::{LinkMode, LinkModeOffer};

/// Agrees with the peer on a [`LinkMode`].
///
/// **Invariant:** both ends come to the same mode of the same generation once each has heard the
/// other's last word, which is repeated on each new lane.
#[derive(Debug, Default)]
pub(crate) struct ModeAgreement {
    generation: u32,
    mode: LinkMode,
    proposed: Option<LinkMode>,
    /// Proposed and taken back: the answer to it may be under way.
    withdrawn: Option<LinkMode>,
}

/// What an offer leads to.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct ModeOutcome {
    /// To be sent.
    pub(crate) answer: Option<LinkModeOffer>,
    /// The mode in force is another one now.
    pub(crate) changed: bool,
}

impl ModeAgreement {
    pub(crate) const fn mode(&self) -> LinkMode {
        self.mode
    }

    /// Neither side has asked for a mode in this session, as far as is known here.
    pub(crate) const fn is_untouched(&self) -> bool {
        self.generation == 0 && self.proposed.is_none()
    }

    /// This side wants `mode`; what to send, unless it is in force. A proposal of the other one that
    /// the peer has not answered is taken back: it is not repeated, and undone should the peer agree.
    pub(crate) fn propose(&mut self, mode: LinkMode) -> Option<LinkModeOffer> {
        self.withdrawn = self.proposed.or(self.withdrawn).filter(|&other| other != mode);
        self.proposed = (mode != self.mode).then_some(mode);
        self.open_proposal()
    }

    fn open_proposal(&self) -> Option<LinkModeOffer> {
        let mode = self.proposed?;
        Some(LinkModeOffer { generation: self.generation.saturating_add(1), mode, accepted: false })
    }

    /// What a new lane is told first.
    pub(crate) fn greet(&self) -> impl Iterator<Item = LinkModeOffer> {
        let (generation, mode) = (self.generation, self.mode);
        let in_force =
            (generation > 0).then_some(LinkModeOffer { generation, mode, accepted: true });
        in_force.into_iter().chain(self.open_proposal())
    }

    /// The peer speaks of a change that is not known here.
    pub(crate) const fn is_news(&self, offer: LinkModeOffer) -> bool {
        offer.generation > self.generation
    }

    /// The peer's word.
    pub(crate) fn handle_offer(
        &mut self,
        offer: LinkModeOffer,
        local_is_smaller: bool,
    ) -> ModeOutcome {
        let LinkModeOffer { generation, mode, accepted } = offer;
        if !self.is_news(offer) {
            // Of old, or known. A proposer that has not heard of it is told.
            let known =
                LinkModeOffer { generation: self.generation, mode: self.mode, accepted: true };
            return ModeOutcome { answer: (!accepted).then_some(known), changed: false };
        }
        if !accepted && generation == self.generation.saturating_add(1) {
            // Both proposed at once: that of the smaller id holds, the other side drops its own. One of a
            // later generation comes from a side that has taken ours, and its word of that is under way.
            if self.proposed.is_some_and(|ours| ours != mode) && local_is_smaller {
                return ModeOutcome::default();
            }
        }
        let former = std::mem::replace(&mut self.mode, mode);
        let changed = former != mode;
        self.generation = generation;
        let is_withdrawn = self.withdrawn.take() == Some(mode);
        self.proposed = (accepted && is_withdrawn && changed).then_some(former);
        let answer = if accepted {
            self.open_proposal()
        } else {
            Some(LinkModeOffer { generation, mode, accepted: true })
        };
        ModeOutcome { answer, changed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use LinkMode::{Collapsed, Separate};

    /// Delivers all that is under way until nothing is.
    fn settle(
        small: &mut ModeAgreement,
        large: &mut ModeAgreement,
        mut under_way: Vec<(bool, LinkModeOffer)>,
    ) {
        while let Some((to_small, offer)) = under_way.pop() {
            let outcome = if to_small {
                small.handle_offer(offer, true)
            } else {
                large.handle_offer(offer, false)
            };
            under_way.extend(outcome.answer.map(|answer| (!to_small, answer)));
        }
        assert_eq!((small.generation, small.mode), (large.generation, large.mode));
    }

    #[test]
    fn a_proposal_is_accepted_and_a_second_one_changes_back() {
        let (mut small, mut large) = (ModeAgreement::default(), ModeAgreement::default());
        let offer = large.propose(Collapsed).unwrap();
        assert_eq!(large.mode(), Separate, "not before the answer");
        settle(&mut small, &mut large, vec![(true, offer)]);
        assert_eq!(small.mode(), Collapsed);
        assert_eq!(small.propose(Collapsed), None);
        let offer = small.propose(Separate).unwrap();
        settle(&mut small, &mut large, vec![(false, offer)]);
        assert_eq!(large.mode(), Separate);
    }

    #[test]
    fn proposals_that_cross_end_in_one_mode() {
        let start = || ModeAgreement { generation: 3, mode: Collapsed, ..ModeAgreement::default() };
        let (mut small, mut large) = (start(), start());
        let ours = small.propose(Separate).unwrap();
        let theirs = large.propose(Separate).unwrap();
        settle(&mut small, &mut large, vec![(true, theirs), (false, ours)]);
        assert_eq!(small.mode(), Separate);
    }

    #[test]
    fn what_was_taken_back_is_undone_whenever_the_peer_agrees() {
        for heard_first in [true, false] {
            let (mut small, mut large) = (ModeAgreement::default(), ModeAgreement::default());
            let offer = small.propose(Collapsed).unwrap();
            if !heard_first {
                assert_eq!(small.propose(Separate), None, "it is in force here");
            }
            let answer = large.handle_offer(offer, false).answer.unwrap();
            assert_eq!(large.mode(), Collapsed);
            if heard_first {
                assert_eq!(small.propose(Separate), None);
            }
            settle(&mut small, &mut large, vec![(true, answer)]);
            assert_eq!((small.mode(), small.generation), (Separate, 2));
        }
        // What the peer wants itself stays.
        let (mut small, mut large) = (ModeAgreement::default(), ModeAgreement::default());
        let _lost = small.propose(Collapsed);
        small.propose(Separate);
        let offer = large.propose(Collapsed).unwrap();
        settle(&mut small, &mut large, vec![(true, offer)]);
        assert_eq!(small.mode(), Collapsed);
    }

    #[test]
    fn a_new_lane_brings_a_side_that_forgot_up_to_date() {
        let mut small =
            ModeAgreement { generation: 3, mode: Collapsed, ..ModeAgreement::default() };
        let mut large = ModeAgreement::default();
        let greetings = small.greet().map(|offer| (false, offer)).collect();
        settle(&mut small, &mut large, greetings);
        assert_eq!(large.mode(), Collapsed);
    }

    #[test]
    fn a_proposal_by_who_has_taken_ours_is_taken_before_its_word_of_that_comes() {
        let (mut small, mut large) = (ModeAgreement::default(), ModeAgreement::default());
        let offer = small.propose(Collapsed).unwrap();
        let accepted = large.handle_offer(offer, false).answer.unwrap();
        let later = large.propose(Separate).unwrap();
        let answer = small.handle_offer(later, true).answer;
        assert!(answer.is_some_and(|answer| answer.accepted), "{answer:?}");
        assert_eq!(small.handle_offer(accepted, true), ModeOutcome::default());
        settle(&mut small, &mut large, vec![(false, answer.unwrap())]);
        assert_eq!(large.mode(), Separate);
        assert_eq!((small.proposed, large.proposed), (None, None));
    }
}
