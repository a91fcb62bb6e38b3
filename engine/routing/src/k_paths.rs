//! The K shortest loopless paths from one node to every other (Yen 1971, with Lawler's partition of
//! 1972 and lazily evaluated deviations), exact also on ties.
//!
//! A destination's paths are found one after the other. The paths not found yet are partitioned into
//! *classes*: those that share with a found path its end, from the *spur* node on, and come to the
//! spur from another node than the found paths do. Each class has a lower bound of its best path;
//! only the class with the smallest bound is searched. Most classes forbid just the hop that the
//! shortest-path tree takes to the spur. The best path to a node without that hop, its *detour*, is
//! the same for all destinations: it is computed once, bounds the class, and is its answer unless it
//! runs into the fixed end.
#![expect(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing,
    reason = "node numbers are below the graph's own node count, keys below PathKey::NONE"
)]

use crate::deviation::{Deviations, Found, front_key};
use crate::graph::{COST_MAX, Graph, HalfArc, NodeNumber, PathKey};
use crate::path_list::PathList;
use crate::spf::ShortestPathTree;

/// What is known of the best path to a node without the tree's hop to it.
#[derive(Clone, Copy, Debug, Default)]
struct Detour {
    /// Computed for the present graph.
    known: bool,
    /// [`PathKey::NONE`] if there is none.
    key: u64,
    /// Its nodes outside the tree, from the node (without it) to where it leaves the tree (with it):
    /// where in the chains.
    chain: (u32, u32),
    /// Order, by their lists of nodes, of the detours that a path and equal keys give: see
    /// [`detour_rank`].
    rank: u64,
}

/// A class of paths that are not found yet.
#[derive(Clone, Copy, Debug)]
struct Class {
    /// No path in it is better; that of the best one once it is known.
    key: u64,
    /// A found path whose end the class shares.
    path: u32,
    /// Where in that path, counted from the destination, the spur is.
    spur: u32,
    state: State,
    /// Rank of the spur's detour if that bounds the class or is its best path.
    rank: Option<u64>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    /// The spur's detour is the answer unless it runs into the fixed end.
    Detour,
    /// To be searched.
    Bound,
    /// Best path known: where in the answers.
    Known { start: u32, end: u32 },
}

/// Computes [`PathList`]s on one graph and tree; reused, so that in steady state it allocates
/// nothing.
#[derive(Clone, Debug, Default)]
pub struct KPaths {
    deviations: Deviations,
    detours: Vec<Detour>,
    chains: Vec<NodeNumber>,
    classes: Vec<Class>,
    answers: Vec<NodeNumber>,
    banned: Vec<NodeNumber>,
    /// Of the known best paths with the smallest key that are detours: path and rank.
    known_ranks: Vec<(u32, u64)>,
    /// See [`beyond`](Self::beyond).
    beyond: u64,
}

/// Most paths to a destination.
pub const K_MAX: usize = 1024;

/// What is asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PathLimits {
    /// Paths to each destination; at most [`K_MAX`] count.
    pub k: usize,
    /// Most hops of a path.
    pub hops_max: u64,
}

impl PathLimits {
    /// So many paths of any length.
    #[must_use]
    pub const fn paths(k: usize) -> Self {
        Self { k, hops_max: u64::MAX }
    }

    /// So many paths that a route header has room for.
    #[must_use]
    pub const fn routable(k: usize) -> Self {
        Self { k, hops_max: hawser_wire::HOPS_MAX as u64 }
    }
}

impl KPaths {
    /// Gets ready for another graph, tree or both.
    pub fn reset(&mut self, graph: &Graph) {
        self.deviations.reset(graph.nodes());
        self.detours.clear();
        self.detours.resize(graph.nodes(), Detour::default());
        self.chains.clear();
    }

    /// Puts the best paths to `destination` into `list`: none to the source itself and to what
    /// cannot be reached. `graph` and `tree` are those since the last [`reset`](Self::reset), and the
    /// tree is that of the graph.
    ///
    /// Of the best `limits.k` paths those with more than `limits.hops_max` hops are left out; if the
    /// very best one has more, all are, and none is searched.
    pub fn compute(
        &mut self,
        graph: &Graph,
        tree: &ShortestPathTree,
        destination: NodeNumber,
        limits: PathLimits,
        list: &mut PathList,
    ) {
        self.search(graph, tree, destination, limits, list);
        list.cut(limits.hops_max);
    }

    /// A key that no path to the destination of the last [`compute`](Self::compute) is below, but
    /// those that were found; [`PathKey::NONE`] if there are no others.
    pub(crate) const fn beyond(&self) -> u64 {
        self.beyond
    }

    fn search(
        &mut self,
        graph: &Graph,
        tree: &ShortestPathTree,
        destination: NodeNumber,
        PathLimits { k, hops_max }: PathLimits,
        list: &mut PathList,
    ) {
        list.clear();
        let key = tree.raw_key(destination);
        if destination == tree.source() || key == PathKey::NONE {
            self.beyond = PathKey::NONE;
            return;
        }
        self.beyond = key;
        if PathKey(key).hops() > hops_max {
            list.is_cut = true;
            return;
        }
        if k == 0 {
            return;
        }
        self.classes.clear();
        self.answers.clear();
        tree.climb_into(destination, &mut self.answers);
        list.push(key, &self.answers);
        let k = k.min(K_MAX);
        if k > 1 {
            self.partition_tree_part(graph, tree, list, 0, 0);
        }
        while list.len() < k {
            let Some(best) = self.best_class() else { break };
            let class = self.classes[best];
            let State::Known { start, end } = class.state else {
                self.evaluate(graph, tree, list, best, k - list.len());
                continue;
            };
            self.classes.swap_remove(best);
            list.push(class.key, &self.answers[start as usize..end as usize]);
            self.partition(graph, tree, list, class.spur as usize);
        }
        if k > 1 {
            let bounds = self.classes.iter().map(|class| class.key);
            self.beyond = bounds.min().unwrap_or(PathKey::NONE);
        }
    }

    /// The class to evaluate or, if its best path is known, the one with the next path: with the
    /// smallest key, and of equal keys one that is not known yet. Not those whose detour comes after
    /// a known one in the same path's order: else all ties along a path would be worked out.
    fn best_class(&mut self) -> Option<usize> {
        let key = self.classes.iter().map(|class| class.key).min()?;
        self.known_ranks.clear();
        let equals = || self.classes.iter().enumerate().filter(|(_, class)| class.key == key);
        for (_, class) in equals() {
            if let (State::Known { .. }, Some(rank)) = (class.state, class.rank) {
                self.known_ranks.push((class.path, rank));
            }
        }
        let unknown = equals().filter(|(_, class)| {
            let behind = |&(path, rank): &(u32, u64)| {
                path == class.path && class.rank.is_some_and(|own| own > rank)
            };
            !matches!(class.state, State::Known { .. }) && !self.known_ranks.iter().any(behind)
        });
        if let Some((at, _)) = unknown.min_by_key(|(_, class)| class.rank) {
            return Some(at);
        }
        let answers = |class: &Class| match class.state {
            State::Known { start, end } => &self.answers[start as usize..end as usize],
            State::Detour | State::Bound => &[],
        };
        let known = equals().filter(|(_, class)| matches!(class.state, State::Known { .. }));
        let first =
            known.min_by(|(_, a), (_, b)| answers(a).iter().rev().cmp(answers(b).iter().rev()));
        first.map(|(at, _)| at)
    }

    /// Finds the best path of a class, or a better bound of it, or removes the class.
    fn evaluate(
        &mut self,
        graph: &Graph,
        tree: &ShortestPathTree,
        list: &PathList,
        at: usize,
        missing: usize,
    ) {
        let Class { path, spur, state, .. } = self.classes[at];
        let suffix = &list.backward(path as usize)[..=spur as usize];
        let spur = suffix[suffix.len() - 1];
        self.deviations.block(tree, suffix);
        let start = self.answers.len();
        if state == State::Detour && self.detour_is_clear(tree, spur) {
            let (from, to) = self.detours[spur as usize].chain;
            self.answers.extend_from_slice(suffix);
            self.answers.extend_from_slice(&self.chains[from as usize..to as usize]);
            self.complete(tree, at, start);
            return;
        }
        self.banned.clear();
        for path in 0..list.len() {
            if let Some((end, [before, ..])) = list.backward(path).split_at_checked(suffix.len())
                && end == suffix
            {
                self.banned.push(*before);
            }
        }
        let suffix_key = suffix_key(graph, suffix);
        let limit = self.limit(at, missing);
        match self.deviations.search(graph, tree, spur, suffix_key, &self.banned, limit) {
            Found::Path { key, leaves } => {
                self.answers.extend_from_slice(suffix);
                self.deviations.chain_into(spur, leaves, &mut self.answers);
                self.classes[at].key = key;
                self.classes[at].rank = None;
                self.complete(tree, at, start);
            }
            Found::Beyond(bound) => {
                self.classes[at].key = bound;
                self.classes[at].state = State::Bound;
                self.classes[at].rank = None;
            }
            Found::Nothing => {
                self.classes.swap_remove(at);
            }
        }
    }

    /// Adds to the last answer, which ends where it leaves the tree, what is in the tree.
    fn complete(&mut self, tree: &ShortestPathTree, at: usize, start: usize) {
        if let Some(&leaves) = self.answers.last() {
            tree.climb_into(tree.raw_parent(leaves), &mut self.answers);
        }
        self.classes[at].state =
            State::Known { start: start as u32, end: self.answers.len() as u32 };
    }

    fn detour_is_clear(&self, tree: &ShortestPathTree, spur: NodeNumber) -> bool {
        let (from, to) = self.detours[spur as usize].chain;
        let chain = &self.chains[from as usize..to as usize];
        !chain.iter().any(|&node| self.deviations.is_blocked(node))
            && chain.last().is_some_and(|&leaves| self.deviations.is_clear(tree, leaves))
    }

    /// How far a search is worth while: to the key up to which there are classes enough for all
    /// paths that are missing.
    fn limit(&self, at: usize, missing: usize) -> u64 {
        let mut smallest = [PathKey::NONE; 8];
        let smallest = &mut smallest[..missing.min(8)];
        for (other, class) in self.classes.iter().enumerate() {
            if other == at {
                continue;
            }
            let mut key = class.key;
            for slot in smallest.iter_mut() {
                if key < *slot {
                    std::mem::swap(slot, &mut key);
                }
            }
        }
        smallest.last().copied().unwrap_or(PathKey::NONE)
    }

    /// Partitions the class that the last found path came from, whose spur was number `spur` of it.
    fn partition(&mut self, graph: &Graph, tree: &ShortestPathTree, list: &PathList, spur: usize) {
        let path = list.len() - 1;
        let nodes = list.backward(path);
        let key = list.raw_key(path);
        let mut suffix_key = suffix_key(graph, &nodes[..=spur]);
        // The banned hops of the spur itself are those of all found paths that share its suffix.
        let mut banned = std::mem::take(&mut self.banned);
        banned.clear();
        for other in 0..list.len() {
            if let Some((end, [before, ..])) = list.backward(other).split_at_checked(spur + 1)
                && *end == nodes[..=spur]
            {
                banned.push(*before);
            }
        }
        let tree_from = tree_part(tree, nodes).max(spur + 1);
        for at in spur..tree_from {
            if at > spur {
                suffix_key += arc_key(graph, nodes[at], nodes[at - 1]);
                banned.clear();
                banned.push(nodes[at + 1]);
            }
            let suffix = &nodes[..=at];
            if let Some(bound) = bound(graph, tree, suffix, &banned) {
                self.classes.push(Class {
                    // Nor is any path of a part better than the best of the whole.
                    key: key.max(suffix_key + bound),
                    path: path as u32,
                    spur: at as u32,
                    state: State::Bound,
                    rank: None,
                });
            }
        }
        self.banned = banned;
        self.partition_tree_part(graph, tree, list, path, tree_from);
    }

    /// Adds the classes of the last path from number `from` on, where it is the tree's.
    fn partition_tree_part(
        &mut self,
        graph: &Graph,
        tree: &ShortestPathTree,
        list: &PathList,
        path: usize,
        from: usize,
    ) {
        let nodes = list.backward(path);
        let key = list.raw_key(path);
        for (at, &node) in nodes.iter().enumerate().take(nodes.len() - 1).skip(from) {
            let detour = self.detour(graph, tree, node);
            if detour != PathKey::NONE {
                self.classes.push(Class {
                    key: key + (detour - tree.raw_key(node)),
                    path: path as u32,
                    spur: at as u32,
                    state: State::Detour,
                    rank: Some(self.detours[node as usize].rank),
                });
            }
        }
    }

    /// Key of the best path to `node` without the tree's hop to it.
    fn detour(&mut self, graph: &Graph, tree: &ShortestPathTree, node: NodeNumber) -> u64 {
        let known = self.detours[node as usize];
        if known.known {
            return known.key;
        }
        self.deviations.block(tree, &[node]);
        let parent = [tree.raw_parent(node)];
        let start = self.chains.len();
        let found = self.deviations.search(graph, tree, node, 0, &parent, PathKey::NONE);
        let (mut key, mut rank) = (PathKey::NONE, 0);
        if let Found::Path { key: found, leaves } = found {
            self.deviations.chain_into(node, leaves, &mut self.chains);
            key = found;
            rank = detour_rank(tree, node, &self.chains[start..]);
        }
        let chain = (start as u32, self.chains.len() as u32);
        self.detours[node as usize] = Detour { known: true, key, chain, rank };
        key
    }
}

/// Orders detours of nodes on one path: of two whose paths have equal keys, the one with the smaller
/// rank has the smaller list of nodes; equal ranks say nothing.
///
/// Lists that turn off the path to a smaller node than its own come first, the earlier the better;
/// then those that turn off to a greater node, the later the better.
fn detour_rank(tree: &ShortestPathTree, node: NodeNumber, chain: &[NodeNumber]) -> u64 {
    let hops = |node| tree.raw_key(node) & 0xffff;
    // Where the detour turns off the path, and the first node after that.
    let [.., leaves] = *chain else { return 0 };
    let before_leaves = chain.len().checked_sub(2).map_or(node, |at| chain[at]);
    let (mut fork, mut turn) = (leaves, before_leaves);
    while !tree.is_below(node, fork) {
        (turn, fork) = (fork, tree.raw_parent(fork));
    }
    let mut own = node;
    while tree.raw_parent(own) != fork {
        own = tree.raw_parent(own);
    }
    let depth = hops(fork);
    let order = if turn < own { depth } else { 0x1_ffff - depth };
    (order << 32) | u64::from(turn)
}

/// A lower bound, without what `suffix` costs, of the paths that come to the last node of `suffix`
/// from none of `banned`.
fn bound(
    graph: &Graph,
    tree: &ShortestPathTree,
    suffix: &[NodeNumber],
    banned: &[NodeNumber],
) -> Option<u64> {
    let allowed = |arc: &&HalfArc| !banned.contains(&arc.node) && !suffix.contains(&arc.node);
    let fronts = graph.incoming(*suffix.last()?).iter().filter(allowed).filter_map(|arc| {
        let front = front_key(graph, tree, arc.node);
        (front != PathKey::NONE).then(|| front + arc.key())
    });
    fronts.min()
}

/// From where on the backward path is the tree's.
fn tree_part(tree: &ShortestPathTree, backward: &[NodeNumber]) -> usize {
    let hops = backward.windows(2);
    hops.len() - hops.rev().take_while(|hop| tree.raw_parent(hop[0]) == hop[1]).count()
}

fn suffix_key(graph: &Graph, suffix: &[NodeNumber]) -> u64 {
    suffix.windows(2).map(|hop| arc_key(graph, hop[1], hop[0])).sum()
}

fn arc_key(graph: &Graph, from: NodeNumber, to: NodeNumber) -> u64 {
    let cost = graph.cost(from, to).unwrap_or(COST_MAX);
    HalfArc { node: to, cost }.key()
}
