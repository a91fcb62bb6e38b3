//! When which address is dialled for which lane. Pure: the loop runs the attempts.
//!
//! **Invariant:** a lane that is served is not dialled, and there is at most one attempt at a time
//! per address and lane.

use std::collections::BTreeMap;
use std::time::Duration;

use hawser_admission::Backoff;
use hawser_wire::{LaneId, LinkEpoch, MonoTime, NodeId, TrafficClass};

use crate::config::LanePlan;
use crate::links::Links;

/// A lane that lived shorter is dialled again after a pause, as if the attempt had failed.
const STABLE_AFTER: Duration = Duration::from_secs(1);

/// Bits of a link epoch that tell one dialling node from another.
const EPOCH_TAG_BITS: u32 = 16;

/// An attempt to make.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct DialRequest {
    /// Where to, host:port.
    pub address: String,
    /// For which lane.
    pub lane: LaneId,
    /// Its class.
    pub class: TrafficClass,
    /// The connection's number.
    pub epoch: LinkEpoch,
    /// Who must answer; `None`: whoever does.
    pub expect: Option<NodeId>,
}

#[derive(Debug)]
struct Dial {
    class: TrafficClass,
    /// Not before then; `None` while an attempt runs.
    due: Option<MonoTime>,
    backoff: Backoff,
    up_since: Option<MonoTime>,
    /// Why the last attempt failed; empty after one that did not.
    failure: String,
}

/// What follows from a failed attempt.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Failed {
    /// Until the next attempt.
    pub pause: Duration,
    /// The attempt before it did not fail, or failed otherwise.
    pub is_news: bool,
}

#[derive(Debug)]
struct Address {
    /// Who answered last.
    peer: Option<NodeId>,
    dials: BTreeMap<LaneId, Dial>,
}

/// Every address that this node dials.
#[derive(Debug)]
pub(crate) struct Dialler {
    plan: LanePlan,
    /// In the low bits of every epoch that this node gives, so that of two connections that
    /// crossed neither can be taken for the other.
    tag: u64,
    epochs: u64,
    addresses: BTreeMap<String, Address>,
}

impl Dialler {
    pub(crate) fn new(local: NodeId, plan: LanePlan) -> Self {
        let [a, b, ..] = *local.as_bytes();
        let tag = u64::from(u16::from_be_bytes([a, b]));
        Self { plan, tag, epochs: 0, addresses: BTreeMap::new() }
    }

    /// Dials `address` from now on.
    pub(crate) fn add(&mut self, now: MonoTime, address: &str) {
        let dials = self.plan.lanes().iter().map(|&(lane, class)| {
            let dial = Dial {
                class,
                due: Some(now),
                backoff: Backoff::new(),
                up_since: None,
                failure: String::new(),
            };
            (lane, dial)
        });
        self.addresses
            .entry(address.to_owned())
            .or_insert_with(|| Address { peer: None, dials: dials.collect() });
    }

    /// Dials nothing any more. Answers of attempts that still run are to be dropped.
    pub(crate) fn clear(&mut self) {
        self.addresses.clear();
    }

    /// Whether an attempt for this lane would be of use now. The first lane of the plan may be
    /// dialled at any time, the others once it is up.
    fn is_wanted(plan: LanePlan, address: &Address, lane: LaneId, links: &Links) -> bool {
        let first = plan.lanes().first().is_none_or(|&(first, _)| first == lane);
        match address.peer {
            None => first,
            Some(peer) if links.is_served(peer, lane) => false,
            Some(_) if first => true,
            Some(peer) => {
                plan.lanes().first().is_some_and(|&(first, _)| links.is_lane_up(peer, first))
            }
        }
    }

    /// The next attempt to make now; the loop must answer each with [`Self::handle_dialled`] or
    /// [`Self::handle_failed`].
    pub(crate) fn poll_dial(&mut self, now: MonoTime, links: &Links) -> Option<DialRequest> {
        for (name, address) in &mut self.addresses {
            let ready = address.dials.iter().find_map(|(&lane, dial)| {
                let due = dial.due.is_some_and(|due| due <= now);
                (due && Self::is_wanted(self.plan, address, lane, links)).then_some(lane)
            });
            let Some(lane) = ready else { continue };
            let Some(dial) = address.dials.get_mut(&lane) else { continue };
            dial.due = None;
            self.epochs = self.epochs.saturating_add(1);
            let first = self.plan.lanes().first().is_none_or(|&(first, _)| first == lane);
            return Some(DialRequest {
                address: name.clone(),
                lane,
                class: dial.class,
                epoch: LinkEpoch((self.epochs << EPOCH_TAG_BITS) | self.tag),
                expect: if first { None } else { address.peer },
            });
        }
        None
    }

    /// When [`Self::poll_dial`] has something next, as things stand.
    pub(crate) fn poll_timeout(&self, links: &Links) -> Option<MonoTime> {
        self.addresses
            .values()
            .flat_map(|address| {
                address.dials.iter().filter_map(|(&lane, dial)| {
                    let wanted = Self::is_wanted(self.plan, address, lane, links);
                    dial.due.filter(|_| wanted)
                })
            })
            .min()
    }

    /// An attempt led to `peer`, and its connection serves the lane or another one does.
    pub(crate) fn handle_dialled(
        &mut self,
        now: MonoTime,
        address: &str,
        lane: LaneId,
        peer: NodeId,
    ) {
        let Some(address) = self.addresses.get_mut(address) else { return };
        address.peer = Some(peer);
        if let Some(dial) = address.dials.get_mut(&lane) {
            dial.due = Some(now);
            dial.failure.clear();
        }
    }

    /// An attempt failed. `None` if the address is not dialled any more.
    pub(crate) fn handle_failed(
        &mut self,
        now: MonoTime,
        address: &str,
        lane: LaneId,
        failure: &str,
        entropy: u64,
    ) -> Option<Failed> {
        let address = self.addresses.get_mut(address)?;
        // Another node may answer there next time.
        if self.plan.lanes().first().is_some_and(|&(first, _)| first == lane) {
            address.peer = None;
        }
        let dial = address.dials.get_mut(&lane)?;
        let pause = dial.backoff.next(entropy);
        dial.due = Some(now.saturating_add(pause));
        let is_news = dial.failure != failure;
        failure.clone_into(&mut dial.failure);
        Some(Failed { pause, is_news })
    }

    /// The lane carries frames.
    pub(crate) fn handle_lane_up(&mut self, now: MonoTime, peer: NodeId, lane: LaneId) {
        for dial in self.dials_of(peer, lane) {
            dial.up_since = Some(now);
        }
    }

    /// The lane is gone: dialled again at once if it had been stable.
    pub(crate) fn handle_lane_down(
        &mut self,
        now: MonoTime,
        peer: NodeId,
        lane: LaneId,
        entropy: u64,
    ) {
        for dial in self.dials_of(peer, lane) {
            let lived = dial.up_since.take().map(|since| now.saturating_since(since));
            let pause = if lived.is_some_and(|lived| lived >= STABLE_AFTER) {
                dial.backoff.reset();
                Duration::ZERO
            } else {
                dial.backoff.next(entropy)
            };
            if dial.due.is_some() {
                dial.due = Some(now.saturating_add(pause));
            }
        }
    }

    /// Addresses that lead to no link that is up, with what became of the last attempt for the
    /// first lane; empty if none has ended yet.
    pub(crate) fn unreached<'a>(
        &'a self,
        links: &'a Links,
    ) -> impl Iterator<Item = (&'a str, &'a str)> {
        let unreached = self
            .addresses
            .iter()
            .filter(|(_, address)| !address.peer.is_some_and(|peer| links.is_link_up(peer)));
        unreached.map(|(name, address)| {
            let first = address.dials.values().next();
            (name.as_str(), first.map_or("", |dial| dial.failure.as_str()))
        })
    }

    fn dials_of(&mut self, peer: NodeId, lane: LaneId) -> impl Iterator<Item = &mut Dial> {
        self.addresses
            .values_mut()
            .filter(move |address| address.peer == Some(peer))
            .filter_map(move |address| address.dials.get_mut(&lane))
    }
}

#[cfg(test)]
mod tests {
    use hawser_wire::Incarnation;

    use super::*;
    use crate::links::{Connection, Verdict};

    const LOCAL: NodeId = NodeId::from_bytes([1; 16]);
    const PEER: NodeId = NodeId::from_bytes([2; 16]);
    const CONTROL: LaneId = LaneId(0);
    const BULK: LaneId = LaneId(2);

    fn at(millis: u64) -> MonoTime {
        MonoTime::ZERO.saturating_add(Duration::from_millis(millis))
    }

    fn connection(lane: LaneId, epoch: LinkEpoch, dialled: bool) -> Connection {
        Connection { peer: PEER, incarnation: Incarnation(1), lane, epoch, dialled }
    }

    /// Serves what `request` asked for and reports it up.
    fn serve(dialler: &mut Dialler, links: &mut Links, now: MonoTime, request: &DialRequest) {
        let verdict = links.offer(&connection(request.lane, request.epoch, true));
        assert!(matches!(verdict, Verdict::Serve { .. }));
        dialler.handle_dialled(now, &request.address, request.lane, PEER);
        links.handle_lane_up(PEER, request.lane, request.epoch);
        dialler.handle_lane_up(now, PEER, request.lane);
    }

    fn fixture() -> (Dialler, Links) {
        let mut dialler = Dialler::new(LOCAL, LanePlan::default());
        dialler.add(at(0), "b:7480");
        (dialler, Links::new(LOCAL))
    }

    #[test]
    fn control_comes_first_then_bulk_then_nothing() {
        let (mut dialler, mut links) = fixture();
        let first = dialler.poll_dial(at(0), &links).expect("due");
        assert_eq!((first.lane, first.class, first.expect), (CONTROL, TrafficClass::Control, None));
        assert_eq!(dialler.poll_dial(at(0), &links), None, "one attempt at a time");
        serve(&mut dialler, &mut links, at(1), &first);
        let second = dialler.poll_dial(at(1), &links).expect("due");
        assert_eq!(
            (second.lane, second.class, second.expect),
            (BULK, TrafficClass::Bulk, Some(PEER))
        );
        assert!(second.epoch > first.epoch);
        serve(&mut dialler, &mut links, at(2), &second);
        assert_eq!(dialler.poll_dial(at(999_999), &links), None);
        assert_eq!(dialler.poll_timeout(&links), None);
    }

    #[test]
    fn a_collapsed_link_has_one_lane() {
        let mut dialler = Dialler::new(LOCAL, LanePlan { collapsed: true });
        let mut links = Links::new(LOCAL);
        dialler.add(at(0), "b:7480");
        let only = dialler.poll_dial(at(0), &links).expect("due");
        serve(&mut dialler, &mut links, at(0), &only);
        assert_eq!(dialler.poll_timeout(&links), None);
    }

    #[test]
    fn failures_back_off_and_a_stable_lane_is_redialled_at_once() {
        let (mut dialler, mut links) = fixture();
        let mut now = at(0);
        for _ in 0..5 {
            let request = dialler.poll_dial(now, &links).expect("due");
            let (address, lane) = (&request.address, request.lane);
            let failed = dialler.handle_failed(now, address, lane, "no route", u64::MAX);
            let Failed { pause, is_news } = failed.expect("known address");
            assert_eq!(is_news, now == at(0), "the same failure is no news");
            assert!(!pause.is_zero());
            assert_eq!(dialler.poll_timeout(&links), Some(now.saturating_add(pause)));
            assert_eq!(dialler.poll_dial(now, &links), None);
            now = now.saturating_add(pause);
        }
        let request = dialler.poll_dial(now, &links).expect("due");
        serve(&mut dialler, &mut links, now, &request);
        now = now.saturating_add(STABLE_AFTER);
        links.handle_lane_down(PEER, CONTROL, request.epoch);
        dialler.handle_lane_down(now, PEER, CONTROL, u64::MAX);
        assert_eq!(dialler.poll_timeout(&links), Some(now));
        assert_eq!(dialler.poll_dial(now, &links).expect("due").lane, CONTROL);
    }

    #[test]
    fn a_lane_that_dies_young_waits() {
        let (mut dialler, mut links) = fixture();
        let request = dialler.poll_dial(at(0), &links).expect("due");
        serve(&mut dialler, &mut links, at(0), &request);
        links.handle_lane_down(PEER, CONTROL, request.epoch);
        dialler.handle_lane_down(at(10), PEER, CONTROL, u64::MAX);
        assert_eq!(dialler.poll_dial(at(10), &links), None);
        assert!(dialler.poll_timeout(&links) > Some(at(10)));
    }

    #[test]
    fn a_lane_that_the_peer_dialled_is_not_dialled() {
        let (mut dialler, mut links) = fixture();
        let request = dialler.poll_dial(at(0), &links).expect("due");
        links.offer(&connection(CONTROL, LinkEpoch(1), false));
        links.handle_lane_up(PEER, CONTROL, LinkEpoch(1));
        // The attempt crossed it and was refused, but showed who lives at the address.
        dialler.handle_dialled(at(5), &request.address, CONTROL, PEER);
        let next = dialler.poll_dial(at(5), &links).expect("the other lane");
        assert_eq!(next.lane, BULK);
    }

    #[test]
    fn epochs_of_two_nodes_differ() {
        let (mut ours, links) = fixture();
        let mut theirs = Dialler::new(PEER, LanePlan::default());
        theirs.add(at(0), "a:7480");
        let mine = ours.poll_dial(at(0), &links).expect("due").epoch;
        let other = theirs.poll_dial(at(0), &Links::new(PEER)).expect("due").epoch;
        assert_ne!(mine, other);
    }
}
