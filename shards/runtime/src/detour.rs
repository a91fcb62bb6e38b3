//! What is done with frames whose next link carries nothing: the rest of their list is replaced by the
//! backup from here to their destination, in the same turn of the loop.
//!
//! **Invariant:** a frame is repaired at most [`REPAIRS_MAX`] times, and a list names no node twice.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::num::NonZeroU64;
use std::time::Duration;

use hawser_exchange::RouteReader;
use hawser_link::{Batch, FrameParts, Origin};
use hawser_wire::{
    AdjacencyIndex, FrameHeader, FrameIter, FrameKind, FrameRef, MonoTime, NodeId, NoticeReason,
    PathId, REPAIRS_MAX, RouteHeader, StreamHeader, StreamId, TrafficClass,
};

use crate::dispatch::{Forwarder, Onward, Sent, flow_of};
use crate::io::ShardIo;
use crate::links::Outgoing;

/// A list that takes the place of another.
#[derive(Debug)]
pub(crate) struct Backup {
    neighbour: NodeId,
    hops: Vec<AdjacencyIndex>,
}

/// Backups that were asked for, by class, link and destination. Of the present snapshot, which knows them all
/// and takes longer to say so.
///
/// **Invariant:** only what there is: destinations are what frames say, and whoever makes some up is not
/// remembered for each.
#[derive(Debug, Default)]
pub(crate) struct Backups(HashMap<(TrafficClass, NodeId, NodeId), Backup>);

impl Backups {
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    fn find(
        &mut self,
        routes: &RouteReader,
        class: TrafficClass,
        neighbour: NodeId,
        destination: NodeId,
    ) -> Option<&Backup> {
        match self.0.entry((class, neighbour, destination)) {
            Entry::Occupied(found) => Some(found.into_mut()),
            Entry::Vacant(place) => {
                let snapshot = routes.current();
                let hops = snapshot.backup(class, neighbour, destination)?;
                let neighbour = snapshot.neighbour(*hops.first()?)?;
                Some(place.insert(Backup { neighbour, hops }))
            }
        }
    }
}

/// Sources that were told of a detour a short while ago.
#[derive(Debug)]
pub(crate) struct ToldSources(Vec<Option<(NodeId, PathId, StreamId, MonoTime)>>);

/// Sources, by path and stream, that are remembered at once; of two for one place the later one is.
const TOLD_MAX: usize = 256;
/// Until a source is told again: what it had under way when it was told has passed by then.
const TELL_EVERY: Duration = Duration::from_millis(50);

impl Default for ToldSources {
    fn default() -> Self {
        Self(vec![None; TOLD_MAX])
    }
}

impl ToldSources {
    /// True if the source is to be told.
    fn note(&mut self, now: MonoTime, source: NodeId, path: PathId, stream: StreamId) -> bool {
        // Ids are random, or as good as, and so are their last bytes.
        let place = usize::from(stream.as_bytes()[15] ^ source.as_bytes()[15]);
        let Some(told) = self.0.get_mut(place) else { return true };
        if let Some((s, p, of, at)) = *told
            && (s, p, of) == (source, path, stream)
            && now.saturating_since(at) < TELL_EVERY
        {
            return false;
        }
        *told = Some((source, path, stream, now));
        true
    }
}

impl<I: ShardIo> Forwarder<I> {
    /// Sends a frame over the backup for the link to `neighbour`, which is not usable; over the link all
    /// the same if it is silent and there is no backup. A source elsewhere is told.
    pub(crate) fn detour(
        &mut self,
        neighbour: NodeId,
        frame: Outgoing,
        onward: &Onward<'_>,
        body: FrameParts<'_>,
    ) -> Sent {
        let route = onward.route();
        let sent = route.and_then(|route| self.push_backup(neighbour, frame, route, body));
        sent.unwrap_or_else(|| self.push_plain(neighbour, frame, &onward.header, body))
    }

    /// Sends a frame over a backup whose first link is usable, if there is one and the frame may take
    /// it.
    fn push_backup(
        &mut self,
        mut broken: NodeId,
        frame: Outgoing,
        mut route: RouteHeader<'_>,
        body: FrameParts<'_>,
    ) -> Option<Sent> {
        loop {
            let class = frame.class;
            let backup = self.backups.find(&self.routes, class, broken, route.destination)?;
            let (next, mut repaired) = (backup.neighbour, Vec::with_capacity(64));
            route.encode_repaired(&mut repaired, &backup.hops).ok()?;
            if self.is_usable(next) {
                let sent = self.push_plain(next, frame, &[&repaired, &[]], body);
                if sent == Sent::Queued && frame.kind == FrameKind::Record {
                    self.tell_of_detour(&route, frame.via, body);
                }
                return Some(sent);
            }
            // As if the frame had come to the next link and found it broken, too.
            route.repairs = route.repairs.saturating_add(1);
            broken = next;
        }
    }

    fn tell_of_detour(
        &mut self,
        route: &RouteHeader<'_>,
        via: Option<NonZeroU64>,
        body: FrameParts<'_>,
    ) {
        let Some((_, stream)) = body.iter().next().and_then(StreamHeader::peek) else {
            return;
        };
        if self.told.note(self.now, route.source, route.path, stream) {
            self.send_notice(*route, via, NoticeReason::Rerouted, None, stream);
        }
    }

    /// Looks at the links of this shard: those that have become usable or are not any more are told to
    /// the other shards, and what waits for one that is not usable goes another way. True if any link
    /// has turned.
    pub(crate) fn turn_links(&mut self, now: MonoTime) -> bool {
        let mut turned = false;
        self.links.settle(now);
        while let Some((peer, usable)) = self.links.poll_turned() {
            turned = true;
            self.tell_link(peer, usable);
            if !usable {
                self.evacuate(peer);
            }
        }
        if turned {
            self.links.settle(now);
        }
        self.reroute();
        turned
    }

    /// There are other routes: what had no other way may have one now.
    pub(crate) fn evacuate_all(&mut self) {
        let unusable: Vec<NodeId> = self.links.with_usable(false).collect();
        for peer in unusable {
            self.evacuate(peer);
        }
    }

    /// Takes from a link that is not usable the frames that a usable link can bring on.
    fn evacuate(&mut self, peer: NodeId) {
        let unusable: BTreeSet<NodeId> = self.unusable().collect();
        let Self { links, backups, routes, .. } = self;
        links.evacuate(peer, |frame| {
            let FrameRef { header, body } = frame;
            let Ok((route, _)) = RouteHeader::decode(body.bytes()) else { return false };
            let backup = backups.find(routes, header.class, peer, route.destination);
            route.repairs < REPAIRS_MAX
                && backup.is_some_and(|backup| !unusable.contains(&backup.neighbour))
        });
    }

    /// Sends on what links have let go of: frames of links that carry nothing, and of link sessions that
    /// have ended.
    fn reroute(&mut self) {
        while let Some((peer, batch)) = self.links.poll_rerouted() {
            self.reroute_batch(peer, &batch);
        }
    }

    fn reroute_batch(&mut self, peer: NodeId, batch: &Batch) {
        let frames = batch.frames();
        let frames = FrameIter::new(&frames).map_while(Result::ok);
        for frame in frames.filter_map(|frame| frame.unstamped().ok()) {
            let FrameRef { header, body } = frame;
            let Ok((route, rest)) = RouteHeader::decode(body.bytes()) else { continue };
            let origin = if route.source == self.local { Origin::Own } else { Origin::Foreign };
            // Who had brought it is not known any more: all of that is as one neighbour's.
            let via = (origin == Origin::Foreign).then_some(NonZeroU64::MIN);
            let flow = flow_of(header.kind, via, route.source, rest);
            let FrameHeader { kind, class, flags, .. } = header;
            let outgoing = Outgoing { kind, class, origin, flow, flags, via };
            // Without a backup it is as if the link had been down when the frame came.
            let rest = &[rest];
            let sent = self.push_backup(peer, outgoing, route, FrameParts::of(rest));
            let sent = sent.unwrap_or(Sent::NoRoute);
            self.tell_source(sent, via, header.kind, &body);
        }
    }
}

#[cfg(test)]
mod tests {
    use hawser_exchange::route_cell;

    use super::*;

    #[test]
    fn destinations_that_are_made_up_are_not_remembered() {
        let (_publisher, routes) = route_cell();
        let mut backups = Backups::default();
        let neighbour = NodeId::from_bytes([1; 16]);
        for n in 0..10_000_u128 {
            let destination = NodeId::from_bytes(n.to_be_bytes());
            let found = backups.find(&routes, TrafficClass::Bulk, neighbour, destination);
            assert!(found.is_none());
        }
        assert!(backups.0.is_empty());
    }
}
