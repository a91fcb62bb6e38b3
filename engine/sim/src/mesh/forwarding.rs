//! Frames on their way: strict source routes, each hop by what the node there believes, with the
//! repairs that shards make.

use std::time::Duration;

use hawser_wire::{AdjacencyIndex, HOPS_MAX, Hop, NodeId, PathId, RouteHeader, TrafficClass};

use crate::mesh::node::{End, MeshNode};
use crate::mesh::simulation::{MeshMutation, MeshSimulation};
use crate::violation::Property;

/// What became of a frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Fate {
    /// It arrives after so long.
    Arrives(Duration),
    /// It was sent over a link that carries nothing.
    Swallowed,
    /// A node on the way, or the first, knows no way.
    NoWay,
}

impl MeshSimulation {
    /// The way of a frame that is sent now, as if nothing happened on its way.
    pub(crate) fn follow(&mut self, class: TrafficClass, from: u32, to: u32) -> Fate {
        let (source, destination) = (self.id(from), self.id(to));
        let Some((path, hops)) = self.path_of(class, from, destination, End::is_usable) else {
            return Fate::NoWay;
        };
        let mut header = Vec::with_capacity(128);
        if RouteHeader::encode(&mut header, source, destination, path, &hops).is_err() {
            return Fate::NoWay;
        }
        self.travel(class, from, header)
    }

    /// The path that a frame takes from a node: of the published ones the best one whose first link
    /// is `usable`, or the best one.
    pub(crate) fn path_of(
        &mut self,
        class: TrafficClass,
        from: u32,
        destination: NodeId,
        usable: impl Fn(&End) -> bool,
    ) -> Option<(PathId, Vec<AdjacencyIndex>)> {
        let node = self.with_tree(from)?;
        let first_is_usable = |hop: Option<&AdjacencyIndex>| {
            hop.and_then(|&hop| node.end_of(hop)).is_some_and(&usable)
        };
        if node.routes.knows_tree() {
            let hops = node.routes.best_path(node.id, destination)?;
            // One that is too long for a header is not the first of the K.
            let first = first_is_usable(hops.first()) && hops.len() <= HOPS_MAX;
            if self.scale.trees || first {
                return Some((PathId(1), hops));
            }
        }
        let node = self.with_paths(from);
        let usable = |hop| node.end_of(hop).is_some_and(&usable);
        node.routes.path_to(class, destination, usable)
    }

    /// What the node sends a frame along whose next link, that to `neighbour`, is down.
    pub(super) fn backup_of(
        &mut self,
        class: TrafficClass,
        at: u32,
        neighbour: u32,
        destination: NodeId,
    ) -> Option<Vec<AdjacencyIndex>> {
        let (node, neighbour) = (self.id(at), self.id(neighbour));
        if !self.with_tree(at)?.routes.knows_tree() {
            return self.with_paths(at).routes.snapshot()?.backup(class, neighbour, destination);
        }
        let routes = &mut self.nodes.get_mut(usize::try_from(at).ok()?)?.routes;
        match routes.backup(node, neighbour, destination, &mut self.trees) {
            Some(backup) => backup,
            // No path takes the link any more.
            None => Some(self.path_of(class, at, destination, |_| true)?.1),
        }
    }

    /// The node with the tree of what it has published.
    fn with_tree(&mut self, number: u32) -> Option<&MeshNode> {
        let node = self.nodes.get_mut(usize::try_from(number).ok()?)?;
        node.routes.compute(node.id, &mut self.trees);
        Some(node)
    }

    fn travel(&mut self, class: TrafficClass, mut at: u32, mut header: Vec<u8>) -> Fate {
        let mut took = Duration::ZERO;
        // Those of the present list.
        let mut visited = vec![at];
        loop {
            let Ok((route, _)) = RouteHeader::decode(&header) else { return Fate::NoWay };
            let Hop::Via(index) = route.next_hop() else {
                let arrived = self.id(at) == route.destination;
                return if arrived { Fate::Arrives(took) } else { Fate::NoWay };
            };
            let Some(&end) = self.node(at).end_of(index) else { return Fate::NoWay };
            let next = if end.is_usable() {
                let Ok((fixed, _)) = RouteHeader::split_advanced(&header) else {
                    return Fate::NoWay;
                };
                let Some((front, _)) = header.split_first_chunk_mut() else { return Fate::NoWay };
                *front = fixed;
                end
            } else {
                let Some((first, repaired)) = self.detour(class, at, end.neighbour, &header) else {
                    return Fate::NoWay;
                };
                visited = vec![at];
                header = repaired;
                first
            };
            let swallowed = class == TrafficClass::Bulk && self.breaks(MeshMutation::Swallow);
            if swallowed || !self.reality.carries(next.link) {
                return Fate::Swallowed;
            }
            took = took.saturating_add(self.reality.delay(at, next.link));
            at = next.neighbour;
            if visited.len() == 2 && self.breaks(MeshMutation::Loop) {
                at = visited.first().copied().unwrap_or(at);
            }
            if visited.contains(&at) {
                let list = format!("a list leads to node {at} again, after {visited:?}");
                self.violate(Property::NoLoop, list);
                return Fate::NoWay;
            }
            visited.push(at);
        }
    }

    /// The backup for the link from `at` to `broken` whose own first link is usable, its first hop
    /// taken.
    fn detour(
        &mut self,
        class: TrafficClass,
        at: u32,
        mut broken: u32,
        header: &[u8],
    ) -> Option<(End, Vec<u8>)> {
        let (mut route, _) = RouteHeader::decode(header).ok()?;
        loop {
            let hops = self.backup_of(class, at, broken, route.destination)?;
            let mut repaired = Vec::with_capacity(128);
            route.encode_repaired(&mut repaired, &hops).ok()?;
            let &first = self.node(at).end_of(*hops.first()?)?;
            if first.is_usable() {
                return Some((first, repaired));
            }
            // As if the frame had come to the next link and found it broken, too.
            route.repairs = route.repairs.saturating_add(1);
            broken = first.neighbour;
        }
    }
}
