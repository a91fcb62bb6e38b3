//! Which nodes the mesh has evicted, and who has heard of it. Pure: signatures and the store are the
//! driver's, in `evicting`.
//!
//! Records are few, small and for good, so that flooding them is simple: each is passed to every
//! neighbour once, and what a neighbour lacks for whatever reason (it is new, or was behind a broken
//! link) the digests show, which go out when a link comes up and every ten seconds.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use hawser_routing::{ORIGINS_MAX, TokenBucket};
use hawser_wire::{Eviction, EvictionDigest, MonoTime, NodeId};

use crate::datagram::{eviction_digest_envelope, eviction_envelope};

/// As many as the mesh may have nodes.
pub(crate) const EVICTIONS_MAX: usize = ORIGINS_MAX;
/// A digest goes to each neighbour this often.
const DIGEST_EVERY: Duration = Duration::from_secs(10);
/// Times that one neighbour is sent everything.
const ANSWERS: TokenBucket = TokenBucket::new(2, Duration::from_secs(5));
/// Records of one neighbour whose signatures are looked at.
const OFFERS: TokenBucket = TokenBucket::new(256, Duration::from_millis(20));

#[derive(Debug)]
struct Neighbour {
    digest_due: MonoTime,
    /// Evicted nodes of which it is to be told.
    untold: BTreeSet<NodeId>,
    answers: TokenBucket,
    offers: TokenBucket,
}

/// The evictions that this node knows.
#[derive(Debug, Default)]
pub(crate) struct Evictions {
    known: BTreeMap<NodeId, Eviction>,
    digest: EvictionDigest,
    neighbours: BTreeMap<NodeId, Neighbour>,
}

impl Evictions {
    /// Those that the store has.
    pub(crate) fn new(kept: Vec<Eviction>) -> Self {
        let mut evictions = Self::default();
        for eviction in kept {
            evictions.insert(eviction, None);
        }
        evictions
    }

    /// Forgets all of them: this node leaves the mesh.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// The mesh has evicted `node`.
    pub(crate) fn contains(&self, node: NodeId) -> bool {
        self.known.contains_key(&node)
    }

    /// Every record, in the order of the ids of those who are out.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Eviction> + '_ {
        self.known.values()
    }

    /// There is no room for another one.
    pub(crate) fn is_full(&self) -> bool {
        self.known.len() >= EVICTIONS_MAX
    }

    /// Takes in a record whose signature is good, to be passed on to all but who sent it. False if
    /// there is one of that node, or no room.
    pub(crate) fn insert(&mut self, eviction: Eviction, from: Option<NodeId>) -> bool {
        let node = eviction.node;
        if self.contains(node) || self.is_full() {
            return false;
        }
        self.digest = self.digest.with(node);
        self.known.insert(node, eviction);
        for (&neighbour, state) in &mut self.neighbours {
            if Some(neighbour) != from {
                state.untold.insert(node);
            }
        }
        true
    }

    /// A link came up.
    pub(crate) fn handle_neighbour_up(&mut self, now: MonoTime, node: NodeId) {
        let untold = BTreeSet::new();
        let state = Neighbour { digest_due: now, untold, answers: ANSWERS, offers: OFFERS };
        self.neighbours.insert(node, state);
    }

    /// All links are gone.
    pub(crate) fn clear_neighbours(&mut self) {
        self.neighbours.clear();
    }

    /// A link went down.
    pub(crate) fn handle_neighbour_down(&mut self, node: NodeId) {
        self.neighbours.remove(&node);
    }

    /// A neighbour sends a record. True if it is news and its signature is to be looked at: then
    /// [`insert`](Self::insert) follows if that is good.
    pub(crate) fn handle_offer(
        &mut self,
        now: MonoTime,
        from: NodeId,
        eviction: &Eviction,
    ) -> bool {
        let known = self.known.contains_key(&eviction.node);
        let full = self.is_full();
        let Some(neighbour) = self.neighbours.get_mut(&from) else { return false };
        if known {
            neighbour.untold.remove(&eviction.node);
            return false;
        }
        !full && neighbour.offers.take(now)
    }

    /// A neighbour says what it knows.
    pub(crate) fn handle_digest(&mut self, now: MonoTime, from: NodeId, digest: EvictionDigest) {
        let Some(neighbour) = self.neighbours.get_mut(&from) else { return };
        if digest != self.digest && !self.known.is_empty() && neighbour.answers.take(now) {
            neighbour.untold.extend(self.known.keys());
        }
    }

    /// The next message to send, and to whom: the body of a link control frame.
    pub(crate) fn poll_transmit(&mut self, now: MonoTime) -> Option<(NodeId, Vec<u8>)> {
        let (known, digest) = (&self.known, self.digest);
        self.neighbours.iter_mut().find_map(|(&node, neighbour)| {
            if let Some(out) = neighbour.untold.pop_first() {
                return known.get(&out).map(|eviction| (node, eviction_envelope(eviction)));
            }
            (neighbour.digest_due <= now).then(|| {
                neighbour.digest_due = now.saturating_add(DIGEST_EVERY);
                (node, eviction_digest_envelope(digest))
            })
        })
    }

    /// When [`Self::poll_transmit`] has something.
    pub(crate) fn poll_timeout(&self) -> Option<MonoTime> {
        let due = |neighbour: &Neighbour| {
            if neighbour.untold.is_empty() { neighbour.digest_due } else { MonoTime::ZERO }
        };
        self.neighbours.values().map(due).min()
    }
}

#[cfg(test)]
mod tests {
    use hawser_wire::MeshId;

    use super::*;
    use crate::datagram::LinkMessage;

    const NOW: MonoTime = MonoTime::ZERO;

    fn node(number: u8) -> NodeId {
        NodeId::from_bytes([number; 16])
    }

    fn eviction(number: u8) -> Eviction {
        Eviction {
            mesh: MeshId::from_bytes([1; 16]),
            node: node(number),
            by: node(1),
            evicted_unix_s: 5,
            name: "out".into(),
            reason: String::new(),
            signature: [number; 64],
        }
    }

    /// Nodes by number, and who has a link to whom.
    struct Mesh {
        nodes: BTreeMap<u8, Evictions>,
        sent: usize,
    }

    impl Mesh {
        fn new(links: &[(u8, u8)]) -> Self {
            let mut mesh = Self { nodes: BTreeMap::new(), sent: 0 };
            for &(a, b) in links {
                mesh.link(NOW, a, b);
            }
            mesh
        }

        fn link(&mut self, now: MonoTime, a: u8, b: u8) {
            self.nodes.entry(a).or_default().handle_neighbour_up(now, node(b));
            self.nodes.entry(b).or_default().handle_neighbour_up(now, node(a));
        }

        /// Delivers until nobody has anything to send at `now`.
        fn settle(&mut self, now: MonoTime) {
            let numbers: Vec<u8> = self.nodes.keys().copied().collect();
            let mut quiet = false;
            while !std::mem::replace(&mut quiet, true) {
                for &from in &numbers {
                    while let Some((to, body)) =
                        self.nodes.get_mut(&from).unwrap().poll_transmit(now)
                    {
                        quiet = false;
                        self.sent += 1;
                        self.deliver(now, from, to.as_bytes()[0], &body);
                    }
                }
            }
        }

        fn deliver(&mut self, now: MonoTime, from: u8, to: u8, body: &[u8]) {
            let receiver = self.nodes.get_mut(&to).unwrap();
            match LinkMessage::decode(body) {
                Ok(Some(LinkMessage::Eviction(eviction))) => {
                    if receiver.handle_offer(now, node(from), &eviction) {
                        receiver.insert(eviction, Some(node(from)));
                    }
                }
                Ok(Some(LinkMessage::EvictionDigest(digest))) => {
                    receiver.handle_digest(now, node(from), digest);
                }
                other => panic!("{other:?}"),
            }
        }

        fn knows(&self, number: u8) -> Vec<u8> {
            self.nodes[&number].iter().map(|eviction| eviction.node.as_bytes()[0]).collect()
        }
    }

    #[test]
    fn all_hear_of_it_once_over_whatever_links() {
        let mut mesh = Mesh::new(&[(1, 2), (2, 3), (3, 1), (3, 4)]);
        mesh.settle(NOW);
        let digests = mesh.sent;
        assert_eq!(digests, 8);
        assert!(mesh.nodes.get_mut(&1).unwrap().insert(eviction(9), None));
        mesh.settle(NOW);
        assert!((1..=4).all(|number| mesh.knows(number) == [9]));
        // Over each link of the ring once or, if it crosses, twice; to 4 once.
        assert!(mesh.sent - digests <= 7, "{} records", mesh.sent - digests);
        assert!(!mesh.nodes.get_mut(&2).unwrap().insert(eviction(9), None));
    }

    #[test]
    fn late_joiners_and_healed_partitions_learn_it_from_digests() {
        let mut mesh = Mesh::new(&[(1, 2)]);
        mesh.nodes.get_mut(&1).unwrap().insert(eviction(8), None);
        mesh.nodes.get_mut(&1).unwrap().insert(eviction(9), None);
        mesh.settle(NOW);
        // 3 joins; on its far side there is one that 1 and 2 have not heard of.
        mesh.nodes.entry(3).or_default().insert(eviction(7), None);
        mesh.link(NOW, 2, 3);
        mesh.settle(NOW);
        assert!((1..=3).all(|number| mesh.knows(number) == [7, 8, 9]));
    }

    #[test]
    fn who_knows_the_same_is_sent_nothing() {
        let mut evictions = Evictions::default();
        evictions.insert(eviction(9), None);
        evictions.handle_neighbour_up(NOW, node(2));
        assert!(evictions.poll_transmit(NOW).is_some(), "its digest");
        evictions.handle_digest(NOW, node(2), EvictionDigest::default().with(node(9)));
        assert_eq!(evictions.poll_transmit(NOW), None);
        // As many, but not the same.
        evictions.handle_digest(NOW, node(2), EvictionDigest::default().with(node(8)));
        assert_eq!(evictions.poll_transmit(NOW), Some((node(2), eviction_envelope(&eviction(9)))));
        assert_eq!(evictions.poll_transmit(NOW), None);
    }

    #[test]
    fn what_was_lost_comes_after_the_next_digest() {
        let mut mesh = Mesh::new(&[(1, 2)]);
        mesh.settle(NOW);
        mesh.nodes.get_mut(&1).unwrap().insert(eviction(9), None);
        assert!(mesh.nodes.get_mut(&1).unwrap().poll_transmit(NOW).is_some(), "lost");
        let soon = NOW.saturating_add(Duration::from_secs(9));
        mesh.settle(soon);
        assert!(mesh.knows(2).is_empty());
        let due = mesh.nodes[&1].poll_timeout().unwrap();
        assert_eq!(due, NOW.saturating_add(DIGEST_EVERY));
        mesh.settle(due);
        assert_eq!(mesh.knows(2), [9]);
    }

    #[test]
    fn a_neighbour_that_asks_and_offers_without_end_is_bounded() {
        let mut evictions = Evictions::default();
        evictions.handle_neighbour_up(NOW, node(2));
        evictions.insert(eviction(9), None);
        let mut records = 0;
        for _ in 0..100 {
            evictions.handle_digest(NOW, node(2), EvictionDigest::default());
            while let Some((_, body)) = evictions.poll_transmit(NOW) {
                let message = LinkMessage::decode(&body);
                records += usize::from(matches!(message, Ok(Some(LinkMessage::Eviction(_)))));
            }
        }
        assert_eq!(records, 2, "two answers, the news in the first");
        let taken =
            (0..1000).filter(|_| evictions.handle_offer(NOW, node(2), &eviction(8))).count();
        assert_eq!(taken, 256);
        assert!(!evictions.handle_offer(NOW, node(3), &eviction(8)), "no neighbour");
    }
}
