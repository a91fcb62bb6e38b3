//! Which of its paths a stream takes: spread over those that are about equally good, moved when one
//! fails.
//!
//! A stream keeps to one path, so that its order needs no putting right, until all that it has sent is
//! acknowledged: that is its barrier. It then takes another one if it has sent a chunk on this.

use std::collections::BTreeMap;
use std::time::Duration;

use hawser_delivery::{PathKey, PathWindows};
use hawser_routing::{Route, RouteSet, SmoothRoundRobin};
use hawser_wire::{MonoTime, NodeId, PathId, TrafficClass};

use crate::dispatch::Forwarder;
use crate::io::ShardIo;

/// What a stream sends on a path before it is another one's turn, at the next barrier.
pub(crate) const CHUNK_BYTES: u64 = 64 << 10;

/// A path that a relay has found broken, or on which nothing moved, is avoided for so long: by then all
/// know of it, or it is in order again.
const AVOIDED_FOR: Duration = Duration::from_secs(1);

/// The share of a path whose window has as much room as that of a new one is not made larger by more.
const ROOM_STEPS_MAX: u64 = 8;
const ROOM_STEP_BYTES: u64 = 64 << 10;

/// Where a stream's records go, and in which class.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Way {
    pub(crate) class: TrafficClass,
    pub(crate) to: NodeId,
}

impl Way {
    /// One path of it.
    fn on(self, path: PathId) -> PathKey {
        PathKey { destination: self.to, path, class: self.class }
    }
}

/// The paths of one shard's streams: whose turn it is, and which are avoided.
#[derive(Debug, Default)]
pub(crate) struct PathChoice {
    turns: BTreeMap<(TrafficClass, NodeId), SmoothRoundRobin>,
    avoided: BTreeMap<PathKey, MonoTime>,
    /// Those of the paths that are looked at; kept for its memory.
    shares: Vec<(PathId, u32)>,
}

impl PathChoice {
    /// Something is wrong with a path; true if that is news.
    pub(crate) fn avoid(&mut self, now: MonoTime, path: PathKey) -> bool {
        self.forget_old(now);
        self.avoided.insert(path, now.saturating_add(AVOIDED_FOR)).is_none()
    }

    fn forget_old(&mut self, now: MonoTime) {
        self.avoided.retain(|_, until| *until > now);
    }

    fn is_avoided(&self, now: MonoTime, path: PathKey) -> bool {
        self.avoided.get(&path).is_some_and(|until| *until > now)
    }

    /// The path is there, begins with a link that is usable, and nothing is known against it.
    fn is_good<I: ShardIo>(&self, forwarder: &Forwarder<I>, way: Way, route: &Route) -> bool {
        forwarder.first_of(route).is_some_and(|neighbour| forwarder.is_usable(neighbour))
            && !self.is_avoided(forwarder.now, way.on(route.path))
    }

    /// The path that a stream takes on its way from now on, that had `current` until now; `current` while
    /// that is good and has a share, or none that is good has one. None if there is none at all.
    pub(crate) fn choose<I: ShardIo>(
        &mut self,
        forwarder: &Forwarder<I>,
        windows: &PathWindows,
        way: Way,
        current: Option<PathId>,
    ) -> Option<PathId> {
        let set = forwarder.paths_to(way.class, way.to)?;
        match current.and_then(|path| set.get(path)) {
            Some(route) if !self.is_good(forwarder, way, route) => {
                Some(self.successor(forwarder, way, route))
            }
            Some(route) if route.weight > 0 || !self.has_share(forwarder, way, set) => {
                Some(route.path)
            }
            // There was nothing better when it was taken.
            _ => self.next(forwarder, windows, way),
        }
    }

    /// A path that has a share is good.
    fn has_share<I: ShardIo>(&self, forwarder: &Forwarder<I>, way: Way, set: &RouteSet) -> bool {
        let mut shares = set.routes().iter().filter(|route| route.weight > 0);
        shares.any(|route| self.is_good(forwarder, way, route))
    }

    /// Whose turn it is among the paths of a way that have a share; without one, the best of the others.
    pub(crate) fn next<I: ShardIo>(
        &mut self,
        forwarder: &Forwarder<I>,
        windows: &PathWindows,
        way: Way,
    ) -> Option<PathId> {
        let routes = forwarder.paths_to(way.class, way.to)?.routes();
        let mut shares = std::mem::take(&mut self.shares);
        shares.clear();
        let good = routes.iter().filter(|route| self.is_good(forwarder, way, route));
        shares.extend(good.map(|route| (route.path, share_of(forwarder, windows, way, route))));
        let turn = match shares.as_slice() {
            // As most often.
            [(only, share)] if *share > 0 => Some(*only),
            _ => self.turns.entry((way.class, way.to)).or_default().next(&shares),
        };
        let best = || shares.first().map(|&(path, _)| path);
        let next = turn.or_else(best).or_else(|| routes.first().map(|route| route.path));
        self.shares = shares;
        next
    }

    /// The path that takes over from one that has failed: the one that relays and links take too, what
    /// is under way stays in front; else one that shares no link with it, else the best that is good;
    /// itself if none is.
    fn successor<I: ShardIo>(&self, forwarder: &Forwarder<I>, way: Way, failed: &Route) -> PathId {
        let Some(set) = forwarder.paths_to(way.class, way.to) else { return failed.path };
        let good =
            |route: &&Route| route.path != failed.path && self.is_good(forwarder, way, route);
        let backup = forwarder
            .first_of(failed)
            .filter(|&neighbour| !forwarder.is_usable(neighbour))
            .and_then(|first| {
                let snapshot = forwarder.routes.current();
                let hops = snapshot.backup(way.class, first, way.to)?;
                set.routes().iter().filter(good).find(|route| route.hops == hops)
            });
        let disjoint = || {
            let [one, other] = set.disjoint()?;
            let partner = match failed.path {
                path if path == one.path => other,
                path if path == other.path => one,
                _ => return None,
            };
            Some(partner).filter(good)
        };
        let next = backup.or_else(disjoint).or_else(|| set.routes().iter().find(good));
        next.map_or(failed.path, |route| route.path)
    }
}

/// The share of a path: what the path computation gave it, by the room that its window has and by
/// what waits for its first link.
fn share_of<I: ShardIo>(
    forwarder: &Forwarder<I>,
    windows: &PathWindows,
    way: Way,
    route: &Route,
) -> u32 {
    if route.weight == 0 {
        return 0;
    }
    let window = windows.get(way.on(route.path));
    let room = window.map_or(ROOM_STEPS_MAX, |window| {
        window.window_bytes().saturating_sub(window.in_flight_bytes()) / ROOM_STEP_BYTES
    });
    let link = forwarder.first_of(route).and_then(|first| forwarder.links.load(first));
    // What waits, in what may be in flight: a full link has the smaller share, and never none.
    let waits = link.map_or(0, |(queued, bound)| queued / bound.max(1));
    let steps = (room.clamp(1, ROOM_STEPS_MAX) * ROOM_STEPS_MAX / (waits + 1)).max(1);
    u32::try_from(steps).unwrap_or(u32::MAX).saturating_mul(route.weight)
}
