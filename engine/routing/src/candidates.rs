//! Advertisements that came and are not checked yet: those whose turn it is, and those whose
//! certificate is awaited.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::time::Duration;

use bytes::Bytes;
use hawser_wire::{MonoTime, NodeId};

use crate::life::Life;
use crate::{CertificateHash, Lsa, LsaVersion};

/// Most that one neighbour may have waiting here. What a neighbour may send without an
/// acknowledgement (256 KiB) holds fewer.
const OF_NEIGHBOUR_MAX: usize = 2048;
/// Most bytes of encodings that one neighbour may have waiting here, where neighbours are few: several
/// times what it may send without an acknowledgement.
const OF_NEIGHBOUR_BYTES_MAX: usize = 1 << 20;
/// Most bytes of encodings in all: where neighbours are many each has an equal share.
const BYTES_MAX: usize = 16 << 20;
/// A certificate is asked for so often until it comes.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// And given up after so long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// An advertisement that would be stored if it is good.
#[derive(Debug)]
pub(crate) struct Candidate {
    pub(crate) lsa: Lsa,
    pub(crate) version: LsaVersion,
    pub(crate) encoding: Bytes,
    pub(crate) life: Life,
    /// Who has sent it. The first one is whose bounds it counts towards.
    pub(crate) senders: Vec<Sender>,
}

/// A neighbour that has sent a candidate.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sender {
    pub(crate) node: NodeId,
    /// When, for the first time.
    pub(crate) since: MonoTime,
    /// What it said to be left of its life.
    pub(crate) left: Duration,
}

impl Sender {
    /// What it would say now.
    pub(crate) fn left_at(&self, now: MonoTime) -> Duration {
        self.left.saturating_sub(now.saturating_since(self.since))
    }
}

impl Candidate {
    /// Whether `node` has sent it.
    pub(crate) fn is_from(&self, node: NodeId) -> bool {
        self.senders.iter().any(|sender| sender.node == node)
    }

    fn key(&self) -> Key {
        (self.lsa.origin, self.version, self.encoding.clone())
    }

    fn join(&mut self, sender: Sender) {
        self.life.extend(sender.since, sender.left);
        if !self.is_from(sender.node) {
            self.senders.push(sender);
        }
    }
}

/// The version tells most of them apart. It is no proof: whoever likes makes two with one version, so
/// that the encoding belongs to it.
type Key = (NodeId, LsaVersion, Bytes);

/// Most bytes that wait for one of so many neighbours.
pub(crate) fn share(neighbours: usize) -> usize {
    OF_NEIGHBOUR_BYTES_MAX.min(BYTES_MAX.checked_div(neighbours).unwrap_or(BYTES_MAX))
}

/// What waits to be checked.
///
/// **Invariant:** whatever is `known` is in the queue of its first sender or awaits one certificate;
/// each neighbour accounts for at most [`OF_NEIGHBOUR_MAX`] of them and for its [`share`] of the bytes,
/// or for a single one. So no neighbour takes another's room, nor, as the queues are served in turn,
/// another's time.
#[derive(Debug, Default)]
pub(crate) struct Candidates {
    /// By a number that is given once.
    known: BTreeMap<u64, Waiting>,
    numbers: BTreeMap<Key, u64>,
    last_number: u64,
    /// What each neighbour has sent, in this order; some of it may be here no more, or parked.
    queues: BTreeMap<NodeId, VecDeque<u64>>,
    /// Whose queue was served last.
    served: NodeId,
    awaited: BTreeMap<CertificateHash, Awaited>,
    held: BTreeMap<NodeId, Held>,
}

#[derive(Debug)]
struct Waiting {
    candidate: Candidate,
    /// Since when it awaits its certificate.
    parked: Option<MonoTime>,
}

#[derive(Debug)]
struct Awaited {
    asked: MonoTime,
    numbers: BTreeSet<u64>,
}

/// What a neighbour accounts for.
#[derive(Debug, Default)]
struct Held {
    count: usize,
    bytes: usize,
}

impl Candidates {
    /// Takes in what the neighbour has sent, behind what else it has. One that is here already gains a
    /// sender, and perhaps time. False if there is no room in its `share` of bytes, and then nothing
    /// changed.
    pub(crate) fn add(&mut self, candidate: Candidate, share: usize) -> bool {
        let Some(&from) = candidate.senders.first() else { return false };
        let key = candidate.key();
        if let Some(number) = self.numbers.get(&key).copied() {
            if let Some(known) = self.known.get_mut(&number) {
                let joins = known.parked.is_none() && !known.candidate.is_from(from.node);
                known.candidate.join(from);
                // Its turn comes with the first of its senders.
                let queue = self.queues.get(&from.node);
                if joins && queue.is_none_or(|queue| queue.len() < OF_NEIGHBOUR_MAX) {
                    self.enqueue(from.node, number);
                }
            }
            return true;
        }
        if let Some(held) = self.held.get(&from.node)
            && (held.count >= OF_NEIGHBOUR_MAX
                || held.bytes.saturating_add(candidate.encoding.len()) > share)
        {
            return false;
        }
        let number = self.keep(key, candidate, None);
        self.enqueue(from.node, number);
        true
    }

    /// The next one to check; it is here no more. One of each neighbour that has any, in turn.
    pub(crate) fn take_next(&mut self) -> Option<Candidate> {
        loop {
            let behind = (Bound::Excluded(self.served), Bound::Unbounded);
            let next = self.queues.range(behind).next().or_else(|| self.queues.iter().next());
            let sender = *next?.0;
            self.served = sender;
            let number = self.queues.get_mut(&sender).and_then(VecDeque::pop_front);
            if self.queues.get(&sender).is_some_and(VecDeque::is_empty) {
                self.queues.remove(&sender);
            }
            let waits = |number: &u64| {
                self.known.get(number).is_some_and(|waiting| waiting.parked.is_none())
            };
            if let Some(number) = number.filter(waits) {
                return self.forget(number);
            }
        }
    }

    /// Those that [`Self::take_next`] would give, in its order, as long as nothing else comes.
    pub(crate) fn upcoming(&self) -> impl Iterator<Item = &Candidate> {
        let behind = (Bound::Excluded(self.served), Bound::Unbounded);
        let queues = self.queues.range(behind).chain(self.queues.range(..=self.served));
        let mut turns: VecDeque<_> = queues.map(|(_, queue)| queue.iter()).collect();
        let mut seen = BTreeSet::new();
        std::iter::from_fn(move || {
            loop {
                let mut queue = turns.pop_front()?;
                let Some(number) = queue.next() else { continue };
                turns.push_back(queue);
                let waiting = self.known.get(number).filter(|waiting| waiting.parked.is_none());
                if let Some(waiting) = waiting.filter(|_| seen.insert(*number)) {
                    return Some(&waiting.candidate);
                }
            }
        })
    }

    /// A candidate that was taken waits for its certificate.
    pub(crate) fn park(&mut self, now: MonoTime, candidate: Candidate) {
        let (key, hash) = (candidate.key(), candidate.lsa.certificate);
        // A copy that came while it was looked at counts no longer.
        if let Some(number) = self.numbers.get(&key).copied() {
            self.forget(number);
        }
        let number = self.keep(key, candidate, Some(now));
        let fresh = || Awaited { asked: now, numbers: BTreeSet::new() };
        self.awaited.entry(hash).or_insert_with(fresh).numbers.insert(number);
    }

    /// Whether a certificate is awaited from `node`.
    pub(crate) fn awaits(&self, hash: CertificateHash, node: NodeId) -> bool {
        self.awaited.get(&hash).is_some_and(|awaited| {
            let mut known = awaited.numbers.iter().filter_map(|number| self.known.get(number));
            known.any(|waiting| waiting.candidate.is_from(node))
        })
    }

    /// The certificate is there: what awaited it is to be checked.
    pub(crate) fn release(&mut self, hash: CertificateHash) {
        let numbers = self.awaited.remove(&hash).map(|awaited| awaited.numbers);
        for number in numbers.unwrap_or_default() {
            let Some(waiting) = self.known.get_mut(&number) else { continue };
            waiting.parked = None;
            let senders: Vec<NodeId> =
                waiting.candidate.senders.iter().map(|sender| sender.node).collect();
            for (position, sender) in senders.into_iter().enumerate() {
                let queue = self.queues.get(&sender);
                if position == 0 || queue.is_none_or(|queue| queue.len() < OF_NEIGHBOUR_MAX) {
                    self.enqueue(sender, number);
                }
            }
        }
    }

    /// The certificate is no good: what awaited it is here no more.
    pub(crate) fn take_awaiting(&mut self, hash: CertificateHash) -> Vec<Candidate> {
        let numbers = self.awaited.remove(&hash).map(|awaited| awaited.numbers);
        numbers.unwrap_or_default().into_iter().filter_map(|number| self.forget(number)).collect()
    }

    /// Certificates to ask for again now, with the neighbours that must have them; and what was
    /// given up.
    pub(crate) fn handle_timeout(
        &mut self,
        now: MonoTime,
    ) -> (Vec<(CertificateHash, NodeId)>, Vec<Candidate>) {
        let (mut ask, mut late) = (Vec::new(), Vec::new());
        for (hash, awaited) in &mut self.awaited {
            if now.saturating_since(awaited.asked) < ASK_EVERY {
                continue;
            }
            awaited.asked = now;
            let mut senders = BTreeSet::new();
            awaited.numbers.retain(|number| {
                let Some(waiting) = self.known.get(number) else { return false };
                let since = waiting.parked.unwrap_or(now);
                let keeps = now.saturating_since(since) < PATIENCE;
                if keeps {
                    senders.extend(waiting.candidate.senders.iter().map(|sender| sender.node));
                } else {
                    late.push(*number);
                }
                keeps
            });
            ask.extend(senders.into_iter().map(|sender| (*hash, sender)));
        }
        self.awaited.retain(|_, awaited| !awaited.numbers.is_empty());
        (ask, late.into_iter().filter_map(|number| self.forget(number)).collect())
    }

    /// When [`Self::handle_timeout`] has something to do.
    pub(crate) fn poll_timeout(&self) -> Option<MonoTime> {
        self.awaited.values().map(|awaited| awaited.asked.saturating_add(ASK_EVERY)).min()
    }

    fn enqueue(&mut self, sender: NodeId, number: u64) {
        self.queues.entry(sender).or_default().push_back(number);
    }

    fn keep(&mut self, key: Key, candidate: Candidate, parked: Option<MonoTime>) -> u64 {
        if let Some(from) = candidate.senders.first() {
            let held = self.held.entry(from.node).or_default();
            held.count = held.count.saturating_add(1);
            held.bytes = held.bytes.saturating_add(candidate.encoding.len());
        }
        self.last_number = self.last_number.saturating_add(1);
        self.numbers.insert(key, self.last_number);
        self.known.insert(self.last_number, Waiting { candidate, parked });
        self.last_number
    }

    fn forget(&mut self, number: u64) -> Option<Candidate> {
        let candidate = self.known.remove(&number)?.candidate;
        self.numbers.remove(&candidate.key());
        if let Some(from) = candidate.senders.first()
            && let Some(held) = self.held.get_mut(&from.node)
        {
            held.count = held.count.saturating_sub(1);
            held.bytes = held.bytes.saturating_sub(candidate.encoding.len());
            if held.count == 0 {
                self.held.remove(&from.node);
            }
        }
        Some(candidate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::lsa;

    fn node(number: u8) -> NodeId {
        NodeId::from_bytes([number; 16])
    }

    /// One with this encoding, whatever it says, and the version of `version`.
    fn candidate(from: u8, version: &[u8], encoding: &[u8]) -> Candidate {
        let lsa = lsa(9, 1, 1, &[]);
        let left = Duration::from_secs(10);
        Candidate {
            version: lsa.version_of(version),
            lsa,
            encoding: Bytes::copy_from_slice(encoding),
            life: Life::new(MonoTime::ZERO, left),
            senders: vec![Sender { node: node(from), since: MonoTime::ZERO, left }],
        }
    }

    fn next(candidates: &mut Candidates) -> Option<Vec<u8>> {
        candidates.take_next().map(|next| next.encoding.to_vec())
    }

    #[test]
    fn two_encodings_with_one_version_are_two_candidates() {
        let mut candidates = Candidates::default();
        for encoding in [&b"forged"[..], b"genuine", b"genuine"] {
            assert!(candidates.add(candidate(2, b"", encoding), 100));
        }
        let forged = candidates.take_next().expect("the first");
        assert_eq!(forged.encoding, b"forged"[..]);
        candidates.park(MonoTime::ZERO, forged);
        assert_eq!(next(&mut candidates), Some(b"genuine".to_vec()));
        assert_eq!(next(&mut candidates), None);
    }

    #[test]
    fn neighbours_are_served_in_turn_and_a_copy_with_the_first_of_its_senders() {
        let mut candidates = Candidates::default();
        for name in [b"a", b"b", b"c", b"d"] {
            assert!(candidates.add(candidate(2, name, name), 100));
        }
        // Neighbour 3 has sent the last of those, too, and another one behind it.
        for name in [b"d", b"e"] {
            assert!(candidates.add(candidate(3, name, name), 100));
        }
        let ahead: Vec<Bytes> = candidates.upcoming().map(|next| next.encoding.clone()).collect();
        assert_eq!(ahead.concat(), b"adbec");
        let order: Vec<u8> = std::iter::from_fn(|| next(&mut candidates)).flatten().collect();
        assert_eq!(order, b"adbec");
        assert!(candidates.known.is_empty() && candidates.numbers.is_empty());
        assert!(candidates.queues.is_empty() && candidates.held.is_empty());
    }

    #[test]
    fn each_has_its_share_of_bytes_or_a_single_one() {
        let mut candidates = Candidates::default();
        assert!(candidates.add(candidate(2, b"a", &[0; 200]), 100), "however long");
        assert!(!candidates.add(candidate(2, b"b", b"b"), 100));
        assert!(candidates.add(candidate(3, b"c", &[1; 60]), 100));
        assert!(candidates.add(candidate(3, b"d", &[2; 40]), 100));
        assert!(!candidates.add(candidate(3, b"e", b"e"), 100));
        while candidates.take_next().is_some() {}
        assert!(candidates.add(candidate(2, b"b", b"b"), 100), "room comes back");
        assert_eq!((share(1), share(16), share(1024)), (1 << 20, 1 << 20, 16 << 10));
    }
}
