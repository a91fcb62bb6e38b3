//! When which address is dialled for which lane. Pure: the loop runs the attempts.
//!
//! Some addresses are dialled for as long as the node runs, for the lanes that a link always has.
//! Others are lent: by a peer that wants a lane and cannot dial, or by its advertisement. Those are
//! dialled for lanes that are wanted, while they are. A wish for a lane ends when the lane is up: who
//! wants it again after its end says so again.
//!
//! **Invariant:** a lane that is served is not dialled; there is at most one attempt at a time per
//! address and lane, and per peer and lane once it is known who answers.

use std::collections::BTreeMap;
use std::time::Duration;

use hawser_admission::Backoff;
use hawser_wire::{LaneId, LinkEpoch, MonoTime, NodeId, TrafficClass};

use crate::config::LanePlan;
use crate::links::Links;

/// A lane that lived as long is dialled again at once.
const STABLE_AFTER: Duration = Duration::from_secs(1);

/// One that lived as long and was lost, as nobody had closed it, is dialled again after a pause as
/// short as after the first failure, if the whole link is gone with it: so a host that restarts over
/// and over is linked while it is up. Any other one counts as an attempt that failed.
const USED_AFTER: Duration = Duration::from_millis(100);

/// So many such lives in a row are followed by a short pause. Each costs both ends a handshake, and the
/// mesh two advertisements.
const SHORT_LIVES_MAX: u8 = 20;

/// Bits of a link epoch that tell one dialling node from another.
const EPOCH_TAG_BITS: u32 = 16;

/// Lent addresses of one peer.
const LENT_PER_PEER_MAX: usize = 4;

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

/// A lane that is to be dialled, for a while.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct WantedLane {
    /// The other end.
    pub peer: NodeId,
    /// Which lane.
    pub lane: LaneId,
    /// Its class.
    pub class: TrafficClass,
    /// From then on it is not wanted any more.
    pub until: MonoTime,
}

#[derive(Debug)]
struct Dial {
    class: TrafficClass,
    /// The link always has this lane.
    standing: bool,
    /// Wanted until then; a standing lane is wanted without.
    wanted_until: Option<MonoTime>,
    /// Not before then; `None` while an attempt runs.
    due: Option<MonoTime>,
    backoff: Backoff,
    up_since: Option<MonoTime>,
    /// The last connection was in use for a while, and was lost.
    lost_in_use: bool,
    /// How often that was so since a connection lived for long.
    short_lives: u8,
    /// Why the last attempt failed; empty after one that did not.
    failure: String,
}

impl Dial {
    const fn new(now: MonoTime, class: TrafficClass, standing: bool) -> Self {
        Self {
            class,
            standing,
            wanted_until: None,
            due: Some(now),
            backoff: Backoff::new(),
            up_since: None,
            lost_in_use: false,
            short_lives: 0,
            failure: String::new(),
        }
    }

    const fn is_running(&self) -> bool {
        self.due.is_none()
    }
}

/// Why an attempt failed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Failure<'a> {
    /// In words.
    pub why: &'a str,
    /// Nobody listens there: it cost next to nothing.
    pub is_refused: bool,
}

/// How a lane ended that had been up.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum LaneEnd {
    /// Its connection broke or fell silent, or its peer stops.
    Lost,
    /// Either end has closed it for a reason: it may do so again.
    Closed,
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
    /// Who answered last; at a lent address, who must.
    peer: Option<NodeId>,
    /// Forgotten from then on, once its link is down; `None`: dialled for as long as the node runs.
    lent_until: Option<MonoTime>,
    dials: BTreeMap<LaneId, Dial>,
}

impl Address {
    fn want(&mut self, now: MonoTime, wanted: &WantedLane) {
        let dial =
            self.dials.entry(wanted.lane).or_insert_with(|| Dial::new(now, wanted.class, false));
        dial.wanted_until = dial.wanted_until.max(Some(wanted.until));
        if let Some(lent_until) = &mut self.lent_until {
            *lent_until = wanted.until.max(*lent_until);
        }
    }

    /// Whether an attempt for this lane would be of use now. The first lane may be dialled at any
    /// time; the others once the link is up, or where it is certain who answers.
    fn is_wanted(&self, lane: LaneId, dial: &Dial, links: &Links) -> bool {
        if !dial.standing && dial.wanted_until.is_none() {
            return false;
        }
        let first = lane == LanePlan::FIRST;
        match self.peer {
            None => first,
            Some(peer) if links.is_served(peer, lane) || links.is_barred(peer) => false,
            Some(_) if first => true,
            Some(peer) if links.is_collapsed(peer) => false,
            Some(peer) => self.lent_until.is_some() || links.is_link_up(peer),
        }
    }
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
        let standing = self.plan.standing().iter();
        let dials = standing.map(|&(lane, class)| (lane, Dial::new(now, class, true)));
        self.addresses.entry(address.to_owned()).or_insert_with(|| Address {
            peer: None,
            lent_until: None,
            dials: dials.collect(),
        });
    }

    /// Dials nothing any more. Answers of attempts that still run are to be dropped.
    pub(crate) fn clear(&mut self) {
        self.addresses.clear();
    }

    /// An address leads to `peer`, as far as is known.
    #[cfg(test)]
    fn knows(&self, peer: NodeId) -> bool {
        self.addresses.values().any(|address| address.peer == Some(peer))
    }

    /// A lane is missing: dialled at every address that leads to its peer, at once unless one of
    /// its connections failed or died young. True if there is such an address.
    pub(crate) fn want(&mut self, now: MonoTime, wanted: &WantedLane) -> bool {
        let mut known = false;
        for address in self.addresses.values_mut().filter(|a| a.peer == Some(wanted.peer)) {
            known = true;
            address.want(now, wanted);
        }
        known
    }

    /// As [`Self::want`], at an address where the peer is said to answer. False if the address is
    /// dialled already and leads to another node, or to nobody so far.
    pub(crate) fn lend(&mut self, now: MonoTime, name: &str, wanted: &WantedLane) -> bool {
        if !self.addresses.contains_key(name) {
            self.make_room_for_lent(wanted.peer);
        }
        let address = self.addresses.entry(name.to_owned()).or_insert_with(|| Address {
            peer: Some(wanted.peer),
            lent_until: Some(wanted.until),
            dials: BTreeMap::new(),
        });
        let leads_there = address.peer == Some(wanted.peer);
        if leads_there {
            address.want(now, wanted);
        }
        leads_there
    }

    /// Forgets the oldest lent addresses of a peer that has as many as it may.
    fn make_room_for_lent(&mut self, peer: NodeId) {
        let lent = self.addresses.iter().filter(|(_, address)| address.peer == Some(peer));
        let mut lent: Vec<(MonoTime, String)> =
            lent.filter_map(|(name, address)| Some((address.lent_until?, name.clone()))).collect();
        lent.sort();
        let surplus = (lent.len() + 1).saturating_sub(LENT_PER_PEER_MAX);
        for (_, name) in lent.into_iter().take(surplus) {
            self.addresses.remove(&name);
        }
    }

    /// Another address leads to the same peer, and an attempt for the lane runs there.
    fn is_tried_elsewhere(&self, address: &Address, lane: LaneId) -> bool {
        address.peer.is_some()
            && self.addresses.values().any(|other| {
                other.peer == address.peer && other.dials.get(&lane).is_some_and(Dial::is_running)
            })
    }

    /// The lanes that are to be dialled, when they are due.
    fn wanted<'a>(
        &'a self,
        links: &'a Links,
    ) -> impl Iterator<Item = (MonoTime, &'a str, LaneId)> + 'a {
        self.addresses.iter().flat_map(move |(name, address)| {
            address.dials.iter().filter_map(move |(&lane, dial)| {
                let due = dial.due?;
                let wanted =
                    address.is_wanted(lane, dial, links) && !self.is_tried_elsewhere(address, lane);
                wanted.then_some((due, name.as_str(), lane))
            })
        })
    }

    /// The next attempt to make now; the loop must answer each with [`Self::handle_dialled`] or
    /// [`Self::handle_failed`].
    pub(crate) fn poll_dial(&mut self, now: MonoTime, links: &Links) -> Option<DialRequest> {
        self.expire(now, links);
        let ready = self.wanted(links).find(|(due, ..)| *due <= now);
        let (name, lane) = ready.map(|(_, name, lane)| (name.to_owned(), lane))?;
        let address = self.addresses.get_mut(&name)?;
        let dial = address.dials.get_mut(&lane)?;
        dial.due = None;
        self.epochs = self.epochs.saturating_add(1);
        let anybody = lane == LanePlan::FIRST && address.lent_until.is_none();
        Some(DialRequest {
            address: name,
            lane,
            class: dial.class,
            epoch: LinkEpoch((self.epochs << EPOCH_TAG_BITS) | self.tag),
            expect: if anybody { None } else { address.peer },
        })
    }

    /// When [`Self::poll_dial`], which has just had nothing more, has something next, as things
    /// stand.
    pub(crate) fn poll_timeout(&self, links: &Links) -> Option<MonoTime> {
        self.wanted(links).map(|(due, ..)| due).min()
    }

    /// Forgets wishes and lent addresses whose time is over.
    fn expire(&mut self, now: MonoTime, links: &Links) {
        self.addresses.retain(|_, address| {
            for dial in address.dials.values_mut() {
                dial.wanted_until = dial.wanted_until.filter(|&until| until > now);
            }
            let is_used = address.dials.values().any(Dial::is_running)
                || address.peer.is_some_and(|peer| links.is_link_up(peer));
            is_used || address.lent_until.is_none_or(|until| until > now)
        });
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
        request: &DialRequest,
        failure: Failure<'_>,
        entropy: u64,
        links: &Links,
    ) -> Option<Failed> {
        let address = self.addresses.get_mut(&request.address)?;
        // Another node may answer there next time.
        if request.expect.is_none() && !address.peer.is_some_and(|peer| links.is_link_up(peer)) {
            address.peer = None;
        }
        let dial = address.dials.get_mut(&request.lane)?;
        let pause = if failure.is_refused {
            dial.backoff.next_refused(entropy)
        } else {
            dial.backoff.next(entropy)
        };
        dial.due = Some(now.saturating_add(pause));
        let is_news = dial.failure != failure.why;
        failure.why.clone_into(&mut dial.failure);
        Some(Failed { pause, is_news })
    }

    /// The lane carries frames.
    pub(crate) fn handle_lane_up(&mut self, now: MonoTime, peer: NodeId, lane: LaneId) {
        for dial in self.dials_of(peer, lane) {
            dial.up_since = Some(now);
            dial.lost_in_use = false;
            dial.wanted_until = None;
        }
    }

    /// The lane is gone: dialled again, if it is wanted, at once if it had been stable.
    pub(crate) fn handle_lane_down(
        &mut self,
        now: MonoTime,
        peer: NodeId,
        lane: LaneId,
        end: LaneEnd,
        entropy: u64,
    ) {
        for dial in self.dials_of(peer, lane) {
            let lived = dial.up_since.take().map(|since| now.saturating_since(since));
            let lived = lived.unwrap_or_default();
            dial.lost_in_use = (USED_AFTER..STABLE_AFTER).contains(&lived) && end == LaneEnd::Lost;
            let pause = if lived >= STABLE_AFTER {
                dial.backoff.reset();
                dial.short_lives = 0;
                Duration::ZERO
            } else {
                dial.backoff.next(entropy)
            };
            if dial.due.is_some() {
                dial.due = Some(now.saturating_add(pause));
            }
        }
    }

    /// The last lane of the link is gone.
    pub(crate) fn handle_link_down(&mut self, now: MonoTime, peer: NodeId, entropy: u64) {
        let addresses = self.addresses.values_mut().filter(|a| a.peer == Some(peer));
        for dial in addresses.flat_map(|address| address.dials.values_mut()) {
            if std::mem::take(&mut dial.lost_in_use) && dial.short_lives < SHORT_LIVES_MAX {
                dial.short_lives = dial.short_lives.saturating_add(1);
                dial.backoff.reset();
                let pause = dial.backoff.next(entropy);
                dial.due = dial.due.map(|_| now.saturating_add(pause));
            }
        }
    }

    /// Addresses that are always dialled and lead to no link that is up, with what became of the
    /// last attempt for the first lane; empty if none has ended yet.
    pub(crate) fn unreached<'a>(
        &'a self,
        links: &'a Links,
    ) -> impl Iterator<Item = (&'a str, &'a str)> {
        let standing = self.addresses.iter().filter(|(_, address)| address.lent_until.is_none());
        let unreached = standing
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
mod crossing_tests;
#[cfg(test)]
mod tests;
