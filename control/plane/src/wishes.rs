//! Lanes that shards miss, and when somebody else is to be asked for them. Pure.
//!
//! What this node can dial it dials at once, and so does the other end: both see a lane go. Only a
//! lane that is still missing after a moment is asked for.

use std::collections::BTreeMap;
use std::time::Duration;

use hawser_wire::{LaneId, MonoTime, NodeId};

use crate::dialler::WantedLane;

/// A lane that is missing is wanted for so long; as long as a link session lasts without any. One that a
/// link always has is wanted for as long as the link has others, and so long beyond.
const WANTED_FOR: Duration = Duration::from_secs(10);
/// Whoever can dial the lane has so long for it before anybody is asked.
const GRACE: Duration = Duration::from_millis(500);
/// Until the second time; twice as long until each further one.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// It is twice as long so many times at most: about the longest pause of who dials.
const DOUBLED_MAX: u32 = 5;
/// Lanes that are missing at a time.
const WISHES_MAX: usize = 4096;

/// A lane to ask for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Ask {
    /// Which.
    pub wanted: WantedLane,
    /// How often it was asked for before.
    pub round: u32,
}

#[derive(Debug)]
struct Wish {
    ask: Ask,
    due: MonoTime,
}

/// Every lane that is missing.
#[derive(Debug, Default)]
pub(crate) struct Wishes {
    wishes: BTreeMap<(NodeId, LaneId), Wish>,
}

impl Wishes {
    /// How long a lane is wanted at least that is missing now.
    pub(crate) fn until(now: MonoTime) -> MonoTime {
        now.saturating_add(WANTED_FOR)
    }

    /// A lane is missing. One too many is left to those who can dial it.
    pub(crate) fn add(&mut self, now: MonoTime, wanted: WantedLane) {
        let key = (wanted.peer, wanted.lane);
        if self.wishes.len() >= WISHES_MAX && !self.wishes.contains_key(&key) {
            return;
        }
        let due = now.saturating_add(GRACE);
        let ask = Ask { wanted, round: 0 };
        let wish = self.wishes.entry(key).or_insert(Wish { ask, due });
        wish.ask.wanted = wanted;
    }

    /// The lane is there.
    pub(crate) fn handle_lane_up(&mut self, peer: NodeId, lane: LaneId) {
        self.wishes.remove(&(peer, lane));
    }

    /// Time has passed. A lane of which `is_missed` says that its link, which is up, is not whole without
    /// it is wanted on: the link tells of its loss once.
    pub(crate) fn handle_time(
        &mut self,
        now: MonoTime,
        is_missed: impl Fn(NodeId, LaneId) -> bool,
    ) {
        for (&(peer, lane), wish) in &mut self.wishes {
            if is_missed(peer, lane) {
                wish.ask.wanted.until = Self::until(now);
            }
        }
        self.wishes.retain(|_, wish| wish.ask.wanted.until > now);
    }

    /// The next lane to ask for now.
    pub(crate) fn poll_ask(&mut self, now: MonoTime) -> Option<Ask> {
        let wish = self.wishes.values_mut().find(|wish| wish.due <= now)?;
        let ask = wish.ask;
        let pause = ASK_AGAIN.saturating_mul(1 << ask.round.min(DOUBLED_MAX));
        wish.due = now.saturating_add(pause);
        wish.ask.round = ask.round.saturating_add(1);
        Some(ask)
    }

    /// When [`Self::poll_ask`] has something next.
    pub(crate) fn poll_timeout(&self) -> Option<MonoTime> {
        self.wishes.values().map(|wish| wish.due).min()
    }

    /// Nothing is wanted any more.
    pub(crate) fn clear(&mut self) {
        self.wishes.clear();
    }
}

#[cfg(test)]
mod tests {
    use hawser_wire::TrafficClass;

    use super::*;

    const PEER: NodeId = NodeId::from_bytes([2; 16]);

    fn at(millis: u64) -> MonoTime {
        MonoTime::ZERO.saturating_add(Duration::from_millis(millis))
    }

    fn wanted(now: MonoTime, lane: u16) -> WantedLane {
        let (lane, class) = (LaneId(lane), TrafficClass::Bulk);
        WantedLane { peer: PEER, lane, class, until: Wishes::until(now) }
    }

    /// Every time at which a lane is asked for, in milliseconds, while the link has others until `up_until`.
    fn asked(wishes: &mut Wishes, up_until: MonoTime) -> Vec<(u128, LaneId, u32)> {
        let mut asked = Vec::new();
        while let Some(now) = wishes.poll_timeout() {
            wishes.handle_time(now, |_, _| now < up_until);
            while let Some(ask) = wishes.poll_ask(now) {
                let millis = now.saturating_since(MonoTime::ZERO).as_millis();
                asked.push((millis, ask.wanted.lane, ask.round));
            }
        }
        asked
    }

    #[test]
    fn a_missing_lane_is_asked_for_ever_more_seldom_and_not_for_ever() {
        let mut wishes = Wishes::default();
        wishes.add(at(0), wanted(at(0), 2));
        let lane = LaneId(2);
        let expected = [(500, lane, 0), (1_500, lane, 1), (3_500, lane, 2), (7_500, lane, 3)];
        assert_eq!(asked(&mut wishes, at(0)), expected);
    }

    /// Whoever can dial it may be kept from it for longer than the wish of a link without lanes lasts.
    #[test]
    fn a_lane_is_wanted_for_as_long_as_its_link_has_others() {
        let mut wishes = Wishes::default();
        wishes.add(at(0), wanted(at(0), 1));
        let asked: Vec<u128> =
            asked(&mut wishes, at(100_000)).into_iter().map(|(ms, ..)| ms).collect();
        assert_eq!(asked, [500, 1_500, 3_500, 7_500, 15_500, 31_500, 63_500, 95_500]);
    }

    #[test]
    fn what_is_asked_for_late_is_wanted_as_long_as_at_first() {
        let mut wishes = Wishes::default();
        wishes.add(at(0), wanted(at(0), 1));
        wishes.handle_time(at(60_000), |peer, lane| (peer, lane) == (PEER, LaneId(1)));
        wishes.handle_time(at(62_000), |_, _| false);
        let ask = wishes.poll_ask(at(62_000)).unwrap();
        assert_eq!(ask.wanted.until, at(70_000));
        wishes.handle_time(at(70_000), |_, _| false);
        assert!(wishes.wishes.is_empty());
    }

    #[test]
    fn a_lane_that_comes_up_is_not_asked_for() {
        let mut wishes = Wishes::default();
        wishes.add(at(0), wanted(at(0), 2));
        wishes.add(at(0), wanted(at(0), 3));
        wishes.handle_lane_up(PEER, LaneId(2));
        assert!(asked(&mut wishes, at(0)).iter().all(|&(_, lane, _)| lane == LaneId(3)));
    }

    #[test]
    fn a_lane_that_is_missed_again_meanwhile_is_wanted_longer_and_asked_for_no_sooner() {
        let mut wishes = Wishes::default();
        wishes.add(at(0), wanted(at(0), 2));
        wishes.add(at(400), wanted(at(400), 2));
        assert_eq!(wishes.poll_ask(at(500)).map(|ask| ask.wanted.until), Some(at(10_400)));
        assert_eq!(wishes.poll_timeout(), Some(at(1_500)));
    }

    #[test]
    fn wishes_are_bounded() {
        let mut wishes = Wishes::default();
        for lane in 0..=u16::MAX {
            wishes.add(at(0), wanted(at(0), lane));
        }
        assert_eq!(wishes.wishes.len(), WISHES_MAX);
    }
}
