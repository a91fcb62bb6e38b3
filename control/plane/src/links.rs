//! Which connection serves which lane of which link: the registry, and the rule that decides
//! between two connections for one lane. Pure.
//!
//! **Invariant:** per neighbour and lane at most one connection is registered, and all connections
//! of a neighbour belong to one process: the newest life of it that was seen. **Invariant:** a
//! connection that is refused changes nothing.

use std::collections::{BTreeMap, BTreeSet};

use hawser_exchange::LaneSerial;
use hawser_wire::{Incarnation, LaneId, LifeNonce, LinkEpoch, LinkMode, NodeId, TrafficClass};

use crate::config::LanePlan;
use crate::refusal::Refusal;

/// A connection whose handshake is done.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Connection {
    /// The neighbour.
    pub peer: NodeId,
    /// Its life.
    pub incarnation: Incarnation,
    /// What tells that from another one with this incarnation, if the neighbour says it.
    pub life: Option<LifeNonce>,
    /// Which lane it is for.
    pub lane: LaneId,
    /// The lane's class, as its dialler has it.
    pub class: TrafficClass,
    /// The dialler's count.
    pub epoch: LinkEpoch,
    /// This node dialled.
    pub dialled: bool,
    /// Of its hand-over: what tells it from every other one.
    pub serial: LaneSerial,
}

/// A registered connection that must be closed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Superseded {
    /// The lane.
    pub lane: LaneId,
    /// The connection.
    pub serial: LaneSerial,
}

/// What becomes of a connection.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Verdict {
    /// It serves its lane from now on.
    Serve {
        /// To be closed first.
        superseded: Vec<Superseded>,
        /// The link was up in an older life of the neighbour, and is down now.
        link_ended: bool,
    },
    /// It gets no lane.
    Refuse(Refusal),
}

/// What a shard's word about a lane changed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum LinkChange {
    /// Nothing: the word is about a connection that was replaced.
    Stale,
    /// The lane changed, the link did not.
    Lane,
    /// The lane changed, and with it the link: its first lane is up, or its last is gone.
    Link,
}

#[derive(Debug)]
struct Lane {
    serial: LaneSerial,
    epoch: LinkEpoch,
    dialled: bool,
    up: bool,
}

#[derive(Debug, Default)]
struct Link {
    incarnation: Incarnation,
    life: Option<LifeNonce>,
    /// As last told to the loop. Stays true while a lane is replaced.
    up: bool,
    /// Both ends agreed on one lane for all traffic.
    collapsed: bool,
    lanes: BTreeMap<LaneId, Lane>,
}

/// All lanes of this node.
#[derive(Debug)]
pub(crate) struct Links {
    local: NodeId,
    links: BTreeMap<NodeId, Link>,
    /// Neighbours that get no lane for a while.
    barred: BTreeSet<NodeId>,
    /// Nodes that get none any more.
    evicted: BTreeSet<NodeId>,
}

impl Links {
    pub(crate) const fn new(local: NodeId) -> Self {
        Self { local, links: BTreeMap::new(), barred: BTreeSet::new(), evicted: BTreeSet::new() }
    }

    /// Decides about a connection and registers it if it is to serve.
    ///
    /// A newer life of the neighbour ends all connections of the older one. Of two lives with one
    /// incarnation the first keeps the link for as long as it has a lane. Within one life: of
    /// two connections that crossed, the one that the smaller id dialled lives; of two that the
    /// same side dialled, the newer. Both ends come to the same verdict.
    pub(crate) fn offer(&mut self, offered: &Connection) -> Verdict {
        if let Err(refusal) = self.check(offered) {
            return Verdict::Refuse(refusal);
        }
        let link = self.links.entry(offered.peer).or_default();
        let mut superseded = Vec::new();
        let mut link_ended = false;
        let is_other = offered.incarnation > link.incarnation || offered.life != link.life;
        if is_other {
            (link.incarnation, link.life) = (offered.incarnation, offered.life);
            link_ended = std::mem::take(&mut link.up);
            link.collapsed = false;
            let old = std::mem::take(&mut link.lanes);
            superseded
                .extend(old.into_iter().map(|(lane, old)| Superseded { lane, serial: old.serial }));
        }
        if let Some(current) = link.lanes.get(&offered.lane) {
            superseded.push(Superseded { lane: offered.lane, serial: current.serial });
        }
        let Connection { serial, epoch, dialled, .. } = *offered;
        let lane = Lane { serial, epoch, dialled, up: false };
        link.lanes.insert(offered.lane, lane);
        Verdict::Serve { superseded, link_ended }
    }

    /// Whether a connection is to serve its lane.
    fn check(&self, offered: &Connection) -> Result<(), Refusal> {
        if self.evicted.contains(&offered.peer) {
            return Err(Refusal::Evicted);
        }
        if self.barred.contains(&offered.peer) {
            return Err(Refusal::Cut);
        }
        let made_for = LanePlan::class_on_wire(offered.lane);
        if offered.class != made_for {
            return Err(Refusal::Class { made_for });
        }
        let Some(link) = self.links.get(&offered.peer) else { return Ok(()) };
        if offered.incarnation < link.incarnation {
            return Err(Refusal::OlderLife { newer: link.incarnation });
        }
        if offered.incarnation > link.incarnation {
            return Ok(());
        }
        if offered.life != link.life && !link.lanes.is_empty() {
            return Err(Refusal::OtherLife);
        }
        match link.lanes.get(&offered.lane) {
            None => Ok(()),
            Some(current) if current.dialled == offered.dialled => {
                let epoch = current.epoch;
                let is_newer = offered.epoch > epoch;
                if is_newer { Ok(()) } else { Err(Refusal::Duplicate { epoch }) }
            }
            Some(_) if offered.dialled == (self.local < offered.peer) => Ok(()),
            Some(_) => Err(Refusal::Crossed),
        }
    }

    /// A shard says that the lane carries frames.
    pub(crate) fn handle_lane_up(
        &mut self,
        peer: NodeId,
        lane: LaneId,
        serial: LaneSerial,
    ) -> LinkChange {
        let Some(link) = self.links.get_mut(&peer) else { return LinkChange::Stale };
        match link.lanes.get_mut(&lane) {
            Some(entry) if entry.serial == serial && !entry.up => entry.up = true,
            _ => return LinkChange::Stale,
        }
        if std::mem::replace(&mut link.up, true) { LinkChange::Lane } else { LinkChange::Link }
    }

    /// A shard says that the lane is gone.
    pub(crate) fn handle_lane_down(
        &mut self,
        peer: NodeId,
        lane: LaneId,
        serial: LaneSerial,
    ) -> LinkChange {
        let Some(link) = self.links.get_mut(&peer) else { return LinkChange::Stale };
        match link.lanes.get(&lane) {
            Some(entry) if entry.serial == serial => drop(link.lanes.remove(&lane)),
            _ => return LinkChange::Stale,
        }
        // A lane that is being replaced may come up yet; the shard will say.
        if link.up && link.lanes.is_empty() {
            link.up = false;
            LinkChange::Link
        } else {
            LinkChange::Lane
        }
    }

    /// A shard says what its ends agreed on.
    pub(crate) fn handle_mode(&mut self, peer: NodeId, mode: LinkMode) {
        if let Some(link) = self.links.get_mut(&peer) {
            link.collapsed = mode == LinkMode::Collapsed;
        }
    }

    /// One lane is all that the ends of the link use.
    pub(crate) fn is_collapsed(&self, peer: NodeId) -> bool {
        self.links.get(&peer).is_some_and(|link| link.collapsed)
    }

    /// How the ends of the link use its lanes.
    pub(crate) fn mode(&self, peer: NodeId) -> LinkMode {
        if self.is_collapsed(peer) { LinkMode::Collapsed } else { LinkMode::Separate }
    }

    /// A connection is registered for the lane, up or about to be.
    pub(crate) fn is_served(&self, peer: NodeId, lane: LaneId) -> bool {
        self.links.get(&peer).is_some_and(|link| link.lanes.contains_key(&lane))
    }

    /// The lane carries frames.
    #[cfg(test)]
    pub(crate) fn is_lane_up(&self, peer: NodeId, lane: LaneId) -> bool {
        self.links.get(&peer).and_then(|link| link.lanes.get(&lane)).is_some_and(|lane| lane.up)
    }

    /// The connection that is registered for the lane.
    #[cfg(test)]
    pub(crate) fn epoch(&self, peer: NodeId, lane: LaneId) -> Option<LinkEpoch> {
        self.links.get(&peer)?.lanes.get(&lane).map(|lane| lane.epoch)
    }

    /// A lane carries frames, or replaces one that did.
    pub(crate) fn is_link_up(&self, peer: NodeId) -> bool {
        self.links.get(&peer).is_some_and(|link| link.up)
    }

    /// The link is up, and misses a lane that it always has in its mode.
    pub(crate) fn is_incomplete_without(&self, peer: NodeId, lane: LaneId) -> bool {
        let is_standing = if self.is_collapsed(peer) {
            lane == LanePlan::FIRST
        } else {
            LanePlan::separate().iter().any(|&(standing, _)| standing == lane)
        };
        let is_wanted = is_standing && !self.is_barred(peer);
        is_wanted && self.is_link_up(peer) && !self.is_served(peer, lane)
    }

    /// No connection with `peer` is to serve a lane from now on; answers with those that do, to be
    /// closed.
    pub(crate) fn bar(&mut self, peer: NodeId) -> Vec<Superseded> {
        self.barred.insert(peer);
        self.connections(peer)
    }

    /// As [`Self::bar`], for good.
    pub(crate) fn evict(&mut self, peer: NodeId) -> Vec<Superseded> {
        self.evicted.insert(peer);
        self.connections(peer)
    }

    /// Nobody is evicted any more: this node leaves the mesh.
    pub(crate) fn clear_evicted(&mut self) {
        self.evicted.clear();
    }

    fn connections(&self, peer: NodeId) -> Vec<Superseded> {
        let lanes = self.links.get(&peer).into_iter().flat_map(|link| &link.lanes);
        lanes.map(|(&lane, entry)| Superseded { lane, serial: entry.serial }).collect()
    }

    /// Ends [`Self::bar`]; answers whether it was so.
    pub(crate) fn admit(&mut self, peer: NodeId) -> bool {
        self.barred.remove(&peer)
    }

    /// The neighbour gets no lane, for a while or for good.
    pub(crate) fn is_barred(&self, peer: NodeId) -> bool {
        self.barred.contains(&peer) || self.evicted.contains(&peer)
    }

    /// Forgets every connection and returns them all, to be closed.
    pub(crate) fn take_all(&mut self) -> Vec<(NodeId, Superseded)> {
        let mut all = Vec::new();
        for (&peer, link) in &mut self.links {
            link.up = false;
            for (lane, entry) in std::mem::take(&mut link.lanes) {
                all.push((peer, Superseded { lane, serial: entry.serial }));
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: NodeId = NodeId::from_bytes([1; 16]);
    const LARGE: NodeId = NodeId::from_bytes([2; 16]);

    fn connection(peer: NodeId, incarnation: u64, epoch: u64, dialled: bool) -> Connection {
        Connection {
            peer,
            incarnation: Incarnation(incarnation),
            life: Some(LifeNonce(1)),
            lane: LaneId(0),
            class: TrafficClass::Control,
            epoch: LinkEpoch(epoch),
            dialled,
            serial: LaneSerial(epoch),
        }
    }

    fn serves(superseded: Vec<Superseded>) -> Verdict {
        Verdict::Serve { superseded, link_ended: false }
    }

    fn older(newer: u64) -> Verdict {
        Verdict::Refuse(Refusal::OlderLife { newer: Incarnation(newer) })
    }

    fn replaces(epoch: u64) -> Verdict {
        serves(vec![Superseded { lane: LaneId(0), serial: LaneSerial(epoch) }])
    }

    #[test]
    fn crossing_connections_end_with_the_same_one_at_both_ends() {
        // Either order of arrival, at either end: the one that SMALL dialled lives.
        for small_first in [true, false] {
            for (local, peer) in [(SMALL, LARGE), (LARGE, SMALL)] {
                let mut links = Links::new(local);
                let by_small = connection(peer, 1, 10, local == SMALL);
                let by_large = connection(peer, 1, 20, local == LARGE);
                if small_first {
                    assert_eq!(links.offer(&by_small), serves(vec![]));
                    assert_eq!(links.offer(&by_large), Verdict::Refuse(Refusal::Crossed));
                } else {
                    assert_eq!(links.offer(&by_large), serves(vec![]));
                    assert_eq!(links.offer(&by_small), replaces(20));
                }
                assert_eq!(links.handle_lane_up(peer, LaneId(0), LaneSerial(10)), LinkChange::Link);
                assert_eq!(
                    links.handle_lane_down(peer, LaneId(0), LaneSerial(20)),
                    LinkChange::Stale
                );
                assert!(links.is_link_up(peer));
            }
        }
    }

    #[test]
    fn who_is_barred_gets_no_lane_until_the_end_of_it() {
        let mut links = Links::new(SMALL);
        assert_eq!(links.offer(&connection(LARGE, 1, 10, true)), serves(vec![]));
        links.handle_lane_up(LARGE, LaneId(0), LaneSerial(10));
        let up = Superseded { lane: LaneId(0), serial: LaneSerial(10) };
        assert_eq!(links.bar(LARGE), [up]);
        // It is up until the shard says that it is not.
        assert_eq!(links.handle_lane_down(LARGE, LaneId(0), LaneSerial(10)), LinkChange::Link);
        let cut = Verdict::Refuse(Refusal::Cut);
        assert_eq!(links.offer(&connection(LARGE, 1, 20, false)), cut);
        assert_eq!(links.offer(&connection(LARGE, 2, 20, false)), cut);
        assert_eq!(links.bar(LARGE), []);
        assert!(links.admit(LARGE) && !links.admit(LARGE));
        assert_eq!(links.offer(&connection(LARGE, 2, 30, false)), serves(vec![]));
        assert_eq!(links.offer(&connection(LARGE, 1, 40, false)), older(2));
    }

    #[test]
    fn a_link_that_is_up_misses_the_lanes_of_its_mode() {
        let mut links = Links::new(SMALL);
        let missed = |links: &Links| {
            let lanes = (0..5).map(LaneId);
            lanes.filter(|&lane| links.is_incomplete_without(LARGE, lane)).collect::<Vec<_>>()
        };
        let bulk = Connection {
            lane: LaneId(2),
            class: TrafficClass::Bulk,
            ..connection(LARGE, 1, 10, true)
        };
        assert_eq!(links.offer(&bulk), serves(vec![]));
        assert_eq!(missed(&links), [], "it is not up");
        links.handle_lane_up(LARGE, LaneId(2), LaneSerial(10));
        assert_eq!(missed(&links), [LaneId(0), LaneId(1)]);
        // What it closes carries on while the only lane is away.
        links.handle_mode(LARGE, LinkMode::Collapsed);
        assert_eq!(missed(&links), [LaneId(0)]);
        links.bar(LARGE);
        assert_eq!(missed(&links), []);
    }

    #[test]
    fn of_two_from_one_side_the_newer_lives() {
        for dialled in [true, false] {
            let mut links = Links::new(SMALL);
            assert_eq!(links.offer(&connection(LARGE, 1, 5, dialled)), serves(vec![]));
            let duplicate = Verdict::Refuse(Refusal::Duplicate { epoch: LinkEpoch(5) });
            assert_eq!(links.offer(&connection(LARGE, 1, 4, dialled)), duplicate);
            assert_eq!(links.offer(&connection(LARGE, 1, 5, dialled)), duplicate);
            assert_eq!(links.offer(&connection(LARGE, 1, 6, dialled)), replaces(5));
        }
    }

    #[test]
    fn a_newer_life_ends_every_lane_of_the_older() {
        let mut links = Links::new(SMALL);
        let bulk = |incarnation, epoch| Connection {
            lane: LaneId(2),
            class: TrafficClass::Bulk,
            ..connection(LARGE, incarnation, epoch, false)
        };
        assert_eq!(links.offer(&connection(LARGE, 1, 50, false)), serves(vec![]));
        assert_eq!(links.offer(&bulk(1, 51)), serves(vec![]));
        // The new life counts from the beginning, and crosses what this node had dialled.
        assert_eq!(
            links.offer(&bulk(2, 1)),
            serves(vec![
                Superseded { lane: LaneId(0), serial: LaneSerial(50) },
                Superseded { lane: LaneId(2), serial: LaneSerial(51) },
            ])
        );
        assert!(!links.is_served(LARGE, LaneId(0)));
        assert_eq!(links.offer(&connection(LARGE, 1, 99, false)), older(2));
    }

    #[test]
    fn what_is_said_of_an_older_life_is_not_taken_for_the_next_that_counts_alike() {
        for dialled in [false, true] {
            let mut links = Links::new(SMALL);
            assert_eq!(links.offer(&connection(LARGE, 5, 7, false)), serves(vec![]));
            let (lane, old, serial) = (LaneId(0), LaneSerial(7), LaneSerial(8));
            let new = Connection { serial, ..connection(LARGE, 6, 7, dialled) };
            assert_eq!(links.offer(&new), replaces(7));
            assert_eq!(links.handle_lane_up(LARGE, lane, old), LinkChange::Stale);
            assert_eq!(links.handle_lane_up(LARGE, lane, serial), LinkChange::Link);
            assert_eq!(links.handle_lane_down(LARGE, lane, old), LinkChange::Stale);
            assert!(links.is_lane_up(LARGE, lane));
            assert_eq!(links.evict(LARGE), [Superseded { lane, serial }]);
        }
    }

    #[test]
    fn of_two_lives_with_one_incarnation_the_first_keeps_the_link() {
        let other =
            |epoch| Connection { life: Some(LifeNonce(2)), ..connection(LARGE, 1, epoch, false) };
        for before in [Some(LifeNonce(1)), None] {
            let mut links = Links::new(SMALL);
            let first = Connection { life: before, ..connection(LARGE, 1, 10, false) };
            assert_eq!(links.offer(&first), serves(vec![]));
            links.handle_lane_up(LARGE, LaneId(0), LaneSerial(10));
            // Whatever it counts, and whichever lane it is for.
            for offered in [
                other(9),
                other(11),
                Connection { dialled: true, ..other(11) },
                Connection { lane: LaneId(2), class: TrafficClass::Bulk, ..other(11) },
                Connection {
                    lane: LaneId(1),
                    class: TrafficClass::Priority,
                    life: None,
                    ..other(11)
                },
            ]
            .iter()
            .filter(|offered| offered.life != before)
            {
                assert_eq!(
                    links.offer(offered),
                    Verdict::Refuse(Refusal::OtherLife),
                    "{offered:?}"
                );
            }
            assert_eq!(links.epoch(LARGE, LaneId(0)), Some(LinkEpoch(10)));
            assert!(links.is_link_up(LARGE));
            // Once the first has no lane any more the other may have the link, and then keeps it.
            links.handle_lane_down(LARGE, LaneId(0), LaneSerial(10));
            assert_eq!(links.offer(&other(12)), serves(vec![]));
            assert_eq!(links.offer(&first), Verdict::Refuse(Refusal::OtherLife));
        }
    }

    #[test]
    fn a_lane_of_another_class_takes_nothing_away() {
        let mut links = Links::new(SMALL);
        assert_eq!(links.offer(&connection(LARGE, 1, 10, false)), serves(vec![]));
        for incarnation in [1, 2] {
            let class = TrafficClass::Bulk;
            let offered = Connection { class, ..connection(LARGE, incarnation, 11, false) };
            let made_for = TrafficClass::Control;
            assert_eq!(links.offer(&offered), Verdict::Refuse(Refusal::Class { made_for }));
        }
        assert_eq!(links.epoch(LARGE, LaneId(0)), Some(LinkEpoch(10)));
        assert_eq!(links.offer(&connection(LARGE, 1, 11, false)), replaces(10));
    }

    #[test]
    fn a_link_is_up_from_its_first_lane_to_its_last() {
        let mut links = Links::new(SMALL);
        let class = TrafficClass::Bulk;
        let bulk = Connection { lane: LaneId(2), class, ..connection(LARGE, 1, 2, true) };
        links.offer(&connection(LARGE, 1, 1, true));
        links.offer(&bulk);
        assert!(!links.is_link_up(LARGE));
        assert_eq!(links.handle_lane_up(LARGE, LaneId(2), LaneSerial(2)), LinkChange::Link);
        assert_eq!(links.handle_lane_up(LARGE, LaneId(0), LaneSerial(1)), LinkChange::Lane);
        assert_eq!(links.handle_lane_up(LARGE, LaneId(0), LaneSerial(1)), LinkChange::Stale);
        assert_eq!(links.handle_lane_down(LARGE, LaneId(0), LaneSerial(1)), LinkChange::Lane);
        assert_eq!(links.handle_lane_down(LARGE, LaneId(2), LaneSerial(2)), LinkChange::Link);
        assert_eq!(links.handle_lane_down(LARGE, LaneId(2), LaneSerial(2)), LinkChange::Stale);
        assert!(!links.is_link_up(LARGE));
    }

    #[test]
    fn a_lane_that_dies_before_it_is_up_changes_no_link() {
        let mut links = Links::new(SMALL);
        links.offer(&connection(LARGE, 1, 1, true));
        assert!(links.is_served(LARGE, LaneId(0)));
        assert_eq!(links.handle_lane_down(LARGE, LaneId(0), LaneSerial(1)), LinkChange::Lane);
        assert!(!links.is_served(LARGE, LaneId(0)));
        assert_eq!(links.offer(&connection(LARGE, 1, 2, true)), serves(vec![]));
    }

    #[test]
    fn a_replaced_lane_keeps_the_link_up_a_new_life_does_not() {
        let mut links = Links::new(SMALL);
        links.offer(&connection(LARGE, 1, 1, false));
        links.handle_lane_up(LARGE, LaneId(0), LaneSerial(1));
        assert_eq!(links.offer(&connection(LARGE, 1, 2, false)), replaces(1));
        assert!(links.is_link_up(LARGE));
        assert_eq!(links.handle_lane_up(LARGE, LaneId(0), LaneSerial(2)), LinkChange::Lane);
        assert_eq!(links.offer(&connection(LARGE, 1, 3, false)), replaces(2));
        assert_eq!(links.handle_lane_down(LARGE, LaneId(0), LaneSerial(3)), LinkChange::Link);

        links.offer(&connection(LARGE, 1, 4, false));
        links.handle_lane_up(LARGE, LaneId(0), LaneSerial(4));
        let superseded = vec![Superseded { lane: LaneId(0), serial: LaneSerial(4) }];
        let verdict = links.offer(&connection(LARGE, 2, 1, false));
        assert_eq!(verdict, Verdict::Serve { superseded, link_ended: true });
        assert!(!links.is_link_up(LARGE));
        assert_eq!(links.handle_lane_up(LARGE, LaneId(0), LaneSerial(1)), LinkChange::Link);
    }

    #[test]
    fn a_collapsed_link_is_one_until_its_end() {
        let mut links = Links::new(SMALL);
        links.handle_mode(LARGE, LinkMode::Collapsed);
        assert!(!links.is_collapsed(LARGE), "no such link");
        links.offer(&connection(LARGE, 1, 1, true));
        links.handle_mode(LARGE, LinkMode::Collapsed);
        assert!(links.is_collapsed(LARGE));
        links.handle_mode(LARGE, LinkMode::Separate);
        assert!(!links.is_collapsed(LARGE));
        links.handle_mode(LARGE, LinkMode::Collapsed);
        links.offer(&connection(LARGE, 2, 1, true));
        assert!(!links.is_collapsed(LARGE), "another life has agreed on nothing");
    }

    #[test]
    fn taking_all_forgets_them() {
        let mut links = Links::new(SMALL);
        links.offer(&connection(LARGE, 1, 1, true));
        links.handle_lane_up(LARGE, LaneId(0), LaneSerial(1));
        let all = links.take_all();
        assert_eq!(all, [(LARGE, Superseded { lane: LaneId(0), serial: LaneSerial(1) })]);
        assert!(!links.is_link_up(LARGE));
        assert_eq!(links.handle_lane_down(LARGE, LaneId(0), LaneSerial(1)), LinkChange::Stale);
    }
}
