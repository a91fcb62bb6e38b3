//! What must hold once the mesh has settled: databases agree, members know of each other, and the
//! published paths are the paths of the mesh as it is.

use hawser_membership::Liveness;
use hawser_routing::Route;
use hawser_wire::{AdjacencyIndex, HOPS_MAX, TrafficClass};

use crate::mesh::phase::PIECE_SHARE;
use crate::mesh::reality::Reality;
use crate::mesh::simulation::{MeshMutation, MeshSimulation};
use crate::violation::Property;

/// Up to so many nodes the paths of all of them are checked, else those of so many; of fewer, where
/// there are ten times as many destinations.
const SOURCES: usize = 64;
const SOURCES_OF_MANY: usize = 8;

impl MeshSimulation {
    /// Two nodes that are connected and whose databases differ, or one that does not know all of
    /// those it is connected with.
    pub(crate) fn disagreement(&self) -> Option<(u32, u32)> {
        let mut first: Vec<Option<(u32, u64)>> = vec![None; self.reality.piece_nodes.len()];
        for node in self.all().filter(|&node| self.is_alive(node)) {
            let lsdb = self.node(node).flooding.lsdb();
            if lsdb.len() < self.reality.piece_of(node) {
                return Some((node, node));
            }
            let piece = usize::try_from(node).ok().and_then(|at| self.reality.piece.get(at));
            let of_piece = piece.and_then(|&piece| first.get_mut(usize::try_from(piece).ok()?))?;
            let (known_by, digest) = *of_piece.get_or_insert((node, lsdb.digest()));
            if digest != lsdb.digest() {
                return Some((known_by, node));
            }
        }
        None
    }

    /// A node whose paths were computed from an earlier database than it has.
    pub(crate) fn behind(&self) -> Option<u32> {
        let is_current = |node: u32| {
            let node = self.node(node);
            node.routes.digest() == Some(node.flooding.lsdb().digest())
        };
        self.all().find(|&node| self.is_alive(node) && !is_current(node))
    }

    /// Who takes too many or too few members for dead, in pieces that are large enough to know.
    pub(crate) fn wrong_about_members(&self) -> Option<String> {
        let nodes = self.nodes.len();
        let lossless = self.faults.loss_ppm == 0;
        if self.reality.out_of_reach {
            return None;
        }
        for node in self.all().filter(|&node| self.is_alive(node)) {
            let piece = self.reality.piece_of(node);
            if piece.saturating_mul(PIECE_SHARE) < nodes {
                continue;
            }
            let of = self.node(node);
            let (known, dead) = (of.membership.len(), of.dead.len());
            if known < of.flooding.lsdb().len() {
                return Some(format!("node {node} has admitted {known} members alone"));
            }
            let gone = known.saturating_sub(piece);
            if dead != gone || (lossless && gone == 0 && of.suspects > 0) {
                return Some(format!(
                    "node {node} takes {dead} members for dead and {} for suspect, {gone} are dead \
                     or out of reach",
                    of.suspects
                ));
            }
            if let Some(wrong) = of.dead.iter().find(|&&dead| self.reality.connected(node, dead)) {
                return Some(format!("node {node} takes node {wrong} for dead, and not another"));
            }
        }
        None
    }

    /// Whether a frame can be sent from one node to another: links lead there, over nodes that are
    /// transit and no more of them than a header takes.
    pub(crate) fn is_routable(&self, from: u32, to: u32) -> bool {
        self.reality.connected(from, to) && {
            let costs = self.reality.costs(TrafficClass::Bulk, from);
            let cost = usize::try_from(to).ok().and_then(|at| costs.get(at).copied().flatten());
            cost.is_some_and(|(_, hops)| within_header(hops))
        }
    }

    /// The published paths of the nodes, or of some, are loop-free, lead over links that carry, cost
    /// what they say, and the first of them costs what the best one does.
    pub(crate) fn check_paths(&mut self) {
        let count = self.nodes.len();
        let sources = if self.scale.trees { SOURCES_OF_MANY } else { SOURCES };
        let every = count.div_ceil(sources).max(1);
        let offset = self.fault_random.below(u64::try_from(every).unwrap_or(1));
        let offset = usize::try_from(offset).unwrap_or(0);
        let sources: Vec<u32> = self.all().skip(offset).step_by(every).collect();
        for node in sources.into_iter().filter(|&node| self.is_alive(node)).collect::<Vec<_>>() {
            self.with_paths(node);
            if let Some(wrong) = self.wrong_paths(node) {
                return self.violate(Property::Paths, format!("node {node}: {wrong}"));
            }
        }
    }

    fn wrong_paths(&self, source: u32) -> Option<String> {
        for class in self.reality.classes() {
            let best = self.reality.costs(class, source);
            for (to, best) in self.all().zip(best).filter(|(to, _)| *to != source) {
                let wrong = |what: String| Some(format!("{} to node {to}: {what}", class.name()));
                let paths = self.paths(source, class, to);
                match (best, paths.first()) {
                    (None, None) => {}
                    (None, Some(_)) => return wrong("there is a path and no way".to_owned()),
                    (Some((_, hops)), None) if within_header(hops) => {
                        return wrong("there is a way and no path".to_owned());
                    }
                    (Some((cost, hops)), Some(&(first, _)))
                        if within_header(hops) && first != cost =>
                    {
                        return wrong(format!("the best path costs {first}, not {cost}"));
                    }
                    (Some(_), _) => {}
                }
                // In their order, each once.
                if let Some((before, _)) = paths
                    .iter()
                    .zip(paths.iter().skip(1))
                    .find(|((a, one), (b, other))| a > b || one == other)
                    && !self.node(source).routes.has_pairs()
                {
                    return wrong(format!("a path of cost {} stands too early", before.0));
                }
                for (cost, hops) in &paths {
                    if let Err(what) = self.walk(source, to, class, *cost, hops) {
                        return wrong(what);
                    }
                }
            }
        }
        None
    }

    /// The paths that a node has published, with what it takes each to cost.
    fn paths(&self, source: u32, class: TrafficClass, to: u32) -> Vec<(u64, Vec<AdjacencyIndex>)> {
        let (routes, destination) = (&self.node(source).routes, self.id(to));
        if let Some(snapshot) = routes.snapshot() {
            let set = snapshot.routes_to(class, destination);
            let routes: &[Route] = set.map_or(&[], |set| set.routes());
            let more = u64::from(source == 0 && self.breaks(MeshMutation::Overprice));
            let cost = |route: &Route| route.cost.saturating_add(more);
            return routes.iter().map(|route| (cost(route), route.hops.clone())).collect();
        }
        let path = routes.best_path(self.id(source), destination);
        let cost = |hops: &[AdjacencyIndex]| {
            let mut at = source;
            let costs = hops.iter().map(|&hop| {
                let Some(end) = self.node(at).end_of(hop) else { return 0 };
                let cost = self.reality.cost(class, at, end.link);
                at = end.neighbour;
                cost
            });
            costs.fold(0, u64::saturating_add)
        };
        path.into_iter().map(|hops| (cost(&hops), hops)).collect()
    }

    /// Follows a list over the links as they are.
    pub(super) fn walk(
        &self,
        source: u32,
        to: u32,
        class: TrafficClass,
        cost: u64,
        hops: &[AdjacencyIndex],
    ) -> Result<(), String> {
        let (mut at, mut sum, mut visited) = (source, 0_u64, vec![source]);
        for &hop in hops {
            if at != source && !self.reality.transits(at) {
                return Err(format!("node {at} is no transit"));
            }
            let end = self.node(at).end_of(hop);
            let end = end.ok_or_else(|| format!("node {at} has no adjacency {hop}"))?;
            if !self.reality.carries(end.link) {
                return Err(format!("nodes {at} and {} have no link", end.neighbour));
            }
            sum = sum.saturating_add(self.reality.cost(class, at, end.link));
            at = end.neighbour;
            if visited.contains(&at) {
                return Err(format!("node {at} is on the path twice"));
            }
            visited.push(at);
        }
        match (at == to, sum == cost) {
            (true, true) => Ok(()),
            (true, false) => Err(format!("a path costs {sum} and is said to cost {cost}")),
            (false, _) => Err(format!("a path ends at node {at}")),
        }
    }

    /// Nobody that runs and is connected with them is dead for others, whatever events there were.
    pub(crate) fn check_members(&mut self) {
        if let Some(wrong) = self.wrong_about_members() {
            self.violate(Property::Membership, wrong);
        }
        // The counters are those of the events; some are compared with what the machines say.
        let nodes: Vec<u32> = self.all().filter(|&node| self.is_alive(node)).take(8).collect();
        for node in nodes {
            let of = self.node(node);
            let dead = |id| matches!(of.membership.member(id), Some((Liveness::Dead, _)));
            let counted = self.ids.iter().filter(|&&id| dead(id)).count();
            let told = of.dead.len();
            if counted != told {
                let detail = format!("node {node} has told of {told} deaths and has {counted}");
                self.violate(Property::Membership, detail);
            }
        }
    }
}

fn within_header(hops: u32) -> bool {
    usize::try_from(hops).is_ok_and(|hops| hops <= HOPS_MAX)
}

impl Reality {
    /// The classes that differ in what they weigh.
    fn classes(&self) -> Vec<TrafficClass> {
        let mut classes = Vec::new();
        for class in TrafficClass::ALL {
            let same = |&other: &TrafficClass| self.weights(other) == self.weights(class);
            if !classes.iter().any(same) {
                classes.push(class);
            }
        }
        classes
    }
}
