//! Links between nodes: what passes them, and when their ends notice that they came or went.

use std::time::Duration;

use hawser_routing::RejectReason;
use hawser_wire::MonoTime;

use crate::mesh::simulation::{MeshEvent, MeshMutation, MeshSimulation};
use crate::violation::Property;

/// A heartbeat is due so often; the daemon's default.
const TICK: Duration = Duration::from_millis(100);
/// After so many without a byte nothing new is sent over a link, and after so many it is given up.
const QUIET_TICKS: u32 = 3;
const DEAD_TICKS: u32 = 10;
/// Until a link that can be had again is there: dialling and handshakes.
const DIAL: (Duration, Duration) = (Duration::from_millis(100), Duration::from_millis(300));

/// What an end of a link notices.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Notice {
    /// It is there.
    Up,
    /// Nothing has come over it for a while.
    Quiet,
    /// It is gone.
    Down,
}

impl Notice {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Up => "link up",
            Self::Quiet => "link quiet",
            Self::Down => "link down",
        }
    }
}

impl MeshSimulation {
    /// The link carries nothing from now on, or one of its ends is no more. If that is not `silent`
    /// both are told by their kernels, else the missing heartbeats tell.
    pub(crate) fn end_session(&mut self, link: u32, silent: bool) {
        let now = self.now();
        let Some(real) = usize::try_from(link).ok().and_then(|at| self.reality.links.get(at))
        else {
            return;
        };
        let (ends, session) = (real.ends, real.session);
        for (node, neighbour) in [(ends[0], ends[1]), (ends[1], ends[0])] {
            let mut notice = |after: Duration, what| {
                let event = MeshEvent::Notice { node, neighbour, session, what };
                self.queue.schedule(now.saturating_add(after), event);
            };
            if silent {
                // The last heartbeat came up to a tick ago.
                let since = self.random.duration(Duration::ZERO, TICK);
                notice(TICK.saturating_mul(QUIET_TICKS).saturating_sub(since), Notice::Quiet);
                notice(TICK.saturating_mul(DEAD_TICKS).saturating_sub(since), Notice::Down);
            } else {
                notice(self.reality.delay(neighbour, link), Notice::Down);
            }
        }
    }

    /// The ends of the link find each other, in a session of its own; when.
    pub(crate) fn begin_session(&mut self, link: u32, after: (Duration, Duration)) -> MonoTime {
        let after = self.random.duration(after.0, after.1);
        let at = self.now().saturating_add(after);
        let Some(real) = usize::try_from(link).ok().and_then(|at| self.reality.links.get_mut(at))
        else {
            return at;
        };
        real.cut = false;
        real.session = real.session.saturating_add(1);
        let (ends, session) = (real.ends, real.session);
        for (node, neighbour) in [(ends[0], ends[1]), (ends[1], ends[0])] {
            let event = MeshEvent::Notice { node, neighbour, session, what: Notice::Up };
            self.queue.schedule(at, event);
        }
        at
    }

    /// As [`Self::begin_session`], after what dialling takes.
    pub(crate) fn dial(&mut self, link: u32) -> MonoTime {
        self.begin_session(link, DIAL)
    }

    pub(crate) fn handle_notice(&mut self, node: u32, neighbour: u32, session: u32, what: Notice) {
        let now = self.now();
        let link = self.reality.link_between(node, neighbour);
        let real = link.and_then(|link| self.reality.links.get(usize::try_from(link).ok()?));
        if real.is_none_or(|real| real.session != session) {
            return;
        }
        let id = self.id(neighbour);
        self.ways_changed = true;
        let node = self.node_mut(node);
        let Some(end) = node.end_to_mut(neighbour) else { return };
        match what {
            Notice::Quiet => end.quiet = true,
            Notice::Up => {
                (end.up, end.quiet) = (true, false);
                node.flooding.handle_neighbour_up(now, id, true);
                node.gather(now);
            }
            Notice::Down => {
                end.up = false;
                node.flooding.handle_neighbour_down(now, id);
                node.gather_down(now);
            }
        }
    }

    pub(crate) fn send_link_state(&mut self, number: u32) {
        while let Some((to, bytes)) = self.node_mut(number).flooding.poll_transmit() {
            self.tally.link_state = self.tally.link_state.saturating_add(1);
            let Some(to) = self.number(to) else { continue };
            let Some(link) = self.reality.link_between(number, to) else { continue };
            if !self.reality.carries(link) || self.loses() {
                continue;
            }
            let session = self.session(link);
            let at: MonoTime = self.now().saturating_add(self.reality.delay(number, link));
            let event = MeshEvent::LinkState { to, from: number, link, session, bytes };
            self.queue.schedule(at, event);
        }
    }

    fn session(&self, link: u32) -> u32 {
        let link = usize::try_from(link).ok().and_then(|at| self.reality.links.get(at));
        link.map_or(0, |link| link.session)
    }

    pub(crate) fn handle_link_state(
        &mut self,
        to: u32,
        from: u32,
        (link, session): (u32, u32),
        mut bytes: &[u8],
    ) {
        let deaf = to == 0 && self.breaks(MeshMutation::DeafToLinkState);
        if deaf || !self.reality.carries(link) || self.session(link) != session {
            return;
        }
        if to == 0 && self.breaks(MeshMutation::Truncate) {
            bytes = bytes.split_last().map_or(bytes, |(_, rest)| rest);
        }
        let (now, from) = (self.now(), self.id(from));
        if let Err(reason) = self.node_mut(to).flooding.handle_message(now, from, bytes)
            && accuses(&reason)
        {
            self.violate(Property::NoFalseAccusation, format!("node {to}: {reason}"));
        }
    }

    /// Checks what has come, as it comes: what a node can check in a turn is no bound here.
    pub(crate) fn check_link_state(&mut self, number: u32) {
        let now = self.now();
        let (mut changed, mut accused) = (false, None);
        let Some(node) = usize::try_from(number).ok().and_then(|at| self.nodes.get_mut(at)) else {
            return;
        };
        while let Some(lsa) = node.flooding.poll_check() {
            let (origin, judgement) = (lsa.origin, self.judge.judge(lsa));
            match node.flooding.handle_judgement(now, judgement) {
                Ok(true) => {
                    changed = true;
                    self.judge.share(&mut node.flooding, origin);
                    node.heard_of.push(origin);
                }
                Ok(false) => {}
                Err(reason) => {
                    self.tally.rejected = self.tally.rejected.saturating_add(1);
                    accused = accused.or_else(|| accuses(&reason).then_some(reason));
                }
            }
        }
        if node.flooding.must_originate() {
            node.gather(now);
        }
        if changed {
            self.lsdb_changed(number);
        }
        if let Some(reason) = accused {
            self.violate(Property::NoFalseAccusation, format!("node {number}: {reason}"));
        }
    }
}

/// What nobody says who runs the same machine. Others are stale, come too often, or on a link that is
/// gone.
const fn accuses(reason: &RejectReason) -> bool {
    matches!(
        reason,
        RejectReason::Malformed(_)
            | RejectReason::UnknownKind(_)
            | RejectReason::FarFuture { .. }
            | RejectReason::Forged { .. }
            | RejectReason::TooManyForged { .. }
            | RejectReason::TooManySummaries { .. }
            | RejectReason::DeltaMismatch { .. }
            | RejectReason::Full { .. }
    )
}
