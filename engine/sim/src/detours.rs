//! What nodes do with frames of a link that cannot bring them on: they go another way, as in a turn of a
//! shard. A frame that may go stays nevertheless now and then, as one would that has no other way.

use std::collections::VecDeque;

use hawser_link::{Batch, FrameParts, Origin, Refusal};
use hawser_wire::{
    FrameHeader, FrameIter, FrameKind, FrameRef, LinkSequence, NodeId, NoticeReason, REPAIRS_MAX,
    RouteHeader, StreamHeader,
};

use crate::ledger::FrameLedger;
use crate::mutation::Mutation;
use crate::random::Random;
use crate::simulation::Simulation;
use crate::traffic::about_frame;
use crate::violation::Property;

/// Of the frames that may leave a link so many do, of a thousand.
const LEAVE_PER_MILLE: [u64; 3] = [1000, 700, 200];
/// How often, of a thousand turns, a node looks again at what waits for links that are not usable, as it
/// does when it learns other routes.
const LOOKS_AGAIN_PER_MILLE: u64 = 20;

impl Simulation {
    /// Looks at the links of a node: what those hold that are not usable any more leaves them. True if
    /// any link has been looked into.
    pub(crate) fn turn_links(&mut self, node: usize) -> bool {
        let mut turned = false;
        for index in 0..self.nodes[node].ends.len() {
            let Some(&link_end) = self.nodes[node].ends.get(index) else { break };
            let usable = self.ends[link_end].machine.is_usable();
            let was_usable = std::mem::replace(&mut self.ends[link_end].usable, usable);
            if !usable && (was_usable || self.random.chance(LOOKS_AGAIN_PER_MILLE)) {
                self.evacuate(link_end);
                turned = true;
            }
        }
        turned
    }

    /// Takes frames from a link that is not usable and sends them another way.
    fn evacuate(&mut self, link_end: usize) {
        let node = self.ends[link_end].node;
        let leave_per_mille = self.random.pick(&LEAVE_PER_MILLE).copied().unwrap_or(0);
        // The link may ask about a frame more than once.
        let salt = Random::new(self.random.next_u64());
        let reachable: Vec<NodeId> = (0..self.nodes.len())
            .filter(|&to| self.way_around(link_end, to).is_some())
            .map(|to| self.nodes[to].id)
            .collect();
        self.ends[link_end].machine.evacuate(|frame| {
            let Ok((route, _)) = RouteHeader::decode(frame.body.bytes()) else { return false };
            salt.fork(frame.header.link_sequence.0).chance(leave_per_mille)
                && route.repairs < REPAIRS_MAX
                && reachable.contains(&route.destination)
        });
        self.ends[link_end].note_own_frames();
        let (count, left) = self.take_rerouted(link_end);
        self.take_link_events(link_end);
        if count > 0 {
            let link = u64::try_from(self.ends[link_end].link).unwrap_or(u64::MAX);
            self.note_as(node, "rerouted", [link, count]);
        }
        for batch in left {
            self.reroute(link_end, &batch.frames());
        }
    }

    /// What a link's machine has let go of, and how many frames that is.
    pub(crate) fn take_rerouted(&mut self, link_end: usize) -> (u64, Vec<Batch>) {
        let (mut count, mut batches) = (0_u64, Vec::new());
        while let Some(batch) = self.ends[link_end].machine.poll_rerouted() {
            if self.mutate_from_now(Mutation::LoseRerouted) {
                continue;
            }
            for frame in FrameIter::new(&batch.frames()).filter_map(Result::ok) {
                if let Some(ledger) = self.ends[link_end].ledgers.last_mut() {
                    ledger.handle_returned(frame.header.link_sequence);
                }
                count = count.saturating_add(1);
            }
            batches.push(batch);
        }
        (count, batches)
    }

    /// Sends frames that have left a link another way. The sources of records that have none are told, as
    /// if the link had been down when they came.
    pub(crate) fn reroute(&mut self, link_end: usize, frames: &[u8]) {
        let frames = FrameIter::new(frames).filter_map(Result::ok);
        for frame in frames.filter_map(|frame| frame.unstamped().ok()) {
            let Ok((route, rest)) = RouteHeader::decode(frame.body.bytes()) else { continue };
            let sent = self.push_detour(link_end, &frame.header, &route, rest);
            if sent.is_none_or(|sent| sent.is_err())
                && frame.header.kind == FrameKind::Record
                && let Ok((header, _)) = StreamHeader::decode(rest)
            {
                let node = self.ends[link_end].node;
                self.tell_source(node, header.stream, NoticeReason::NoAdjacency);
            }
        }
    }

    /// Sends a frame on that came for a link which is not usable; `None` if it is to wait there.
    pub(crate) fn relay_around(
        &mut self,
        link_end: usize,
        frame: &FrameRef<'_>,
        behind_route: &[u8],
    ) -> Option<Result<(), Refusal>> {
        if !self.world.faults.reroutes
            || self.ends[link_end].machine.is_usable()
            || self.random.chance(500)
        {
            return None;
        }
        let (route, _) = RouteHeader::decode(frame.body.bytes()).ok()?;
        self.push_detour(link_end, &frame.header, &route, behind_route)
    }

    /// Sends a frame to its destination without that link; `None` if there is no way, or it has taken too
    /// many.
    fn push_detour(
        &mut self,
        link_end: usize,
        header: &FrameHeader,
        route: &RouteHeader<'_>,
        behind_route: &[u8],
    ) -> Option<Result<(), Refusal>> {
        if !self.world.faults.reroutes {
            return None;
        }
        let to = self.nodes.iter().position(|node| node.id == route.destination)?;
        let hops = self.hops(&self.way_around(link_end, to)?);
        let next = usize::try_from(hops.first()?.0).ok()?;
        let mut repaired = Vec::new();
        route.encode_repaired(&mut repaired, &hops).ok()?;
        let is_own = route.source == self.nodes[self.ends[link_end].node].id;
        let origin = if is_own { Origin::Own } else { Origin::Foreign };
        let about = about_frame(link_end, header, behind_route);
        let parts = [repaired.as_slice(), behind_route];
        let (now, kind) = (self.queue.now(), (header.kind, header.class));
        Some(self.ends[next].push(now, kind, origin, about, FrameParts::of(&parts)))
    }

    /// The nodes of a shortest way from an end's node to another one that begins with a usable link and
    /// leaves out this end's.
    fn way_around(&self, link_end: usize, to: usize) -> Option<Vec<u16>> {
        let (from, without) = (self.ends[link_end].node, self.ends[link_end].link);
        self.way(from, to, |end| {
            self.ends[end].link != without
                && (self.ends[end].node != from || self.ends[end].machine.is_usable())
        })
    }

    /// The nodes of a shortest way over links whose ends `may` be used.
    pub(crate) fn way(
        &self,
        from: usize,
        to: usize,
        may: impl Fn(usize) -> bool,
    ) -> Option<Vec<u16>> {
        let mut before: Vec<Option<usize>> = vec![None; self.nodes.len()];
        let mut next = VecDeque::from([from]);
        while let Some(node) = next.pop_front() {
            for &end in self.nodes[node].ends.iter().filter(|&&end| may(end)) {
                let peer = self.ends[end].peer;
                if let Some(before) = before.get_mut(peer).filter(|before| before.is_none())
                    && peer != from
                {
                    *before = Some(node);
                    next.push_back(peer);
                }
            }
        }
        let mut way = vec![u16::try_from(to).ok()?];
        let mut at = to;
        while at != from {
            at = before.get(at).copied().flatten()?;
            way.push(u16::try_from(at).ok()?);
        }
        way.reverse();
        (way.len() > 1).then_some(way)
    }

    /// A frame that has left a link is not sent over it again.
    pub(crate) fn check_sent(&mut self, link_end: usize, again: Option<LinkSequence>) {
        if let Some(sequence) = again {
            let (from, to) = (self.ends[link_end].node, self.ends[link_end].peer);
            let text = format!("link {from} to {to}: frame {sequence} had left, and is sent again");
            self.violate(Property::NothingDuplicated, text);
        }
    }
}

/// The first of these encoded frames that has left its link.
pub(crate) fn first_that_left(
    ledger: Option<&FrameLedger>,
    frames: [&[u8]; 2],
) -> Option<LinkSequence> {
    let (ledger, frames) = (ledger?, frames.concat());
    let mut sequences = FrameIter::new(&frames)
        .filter_map(Result::ok)
        .map(|frame| frame.header.link_sequence)
        .filter(|sequence| sequence.0 != 0);
    sequences.find(|&sequence| ledger.has_left(sequence))
}
