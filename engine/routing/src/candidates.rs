//! Advertisements that came and are not checked yet: those whose turn it is, and those whose
//! certificate is awaited.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use hawser_wire::{MonoTime, NodeId};

use crate::{CertificateHash, Lsa, LsaVersion};

/// Most that one neighbour may have waiting here. What a neighbour may send without an
/// acknowledgement (256 KiB) holds fewer.
const OF_NEIGHBOUR_MAX: usize = 2048;
/// Most bytes of encodings in all.
const BYTES_MAX: usize = 16 << 20;
/// A certificate is asked for so often until it comes.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// And given up after so long.
const PATIENCE: Duration = Duration::from_secs(10);

/// An advertisement that would be stored if it is good.
#[derive(Debug)]
pub(crate) struct Candidate {
    pub(crate) lsa: Lsa,
    pub(crate) version: LsaVersion,
    pub(crate) encoding: Bytes,
    /// When it ends.
    pub(crate) expires: MonoTime,
    /// Who has sent it. The first one is whose bound it counts towards.
    pub(crate) senders: Vec<NodeId>,
}

type Key = (NodeId, LsaVersion);

/// What waits to be checked.
///
/// **Invariant:** whatever is `known` is in the queue or awaits one certificate; each neighbour
/// accounts for at most [`OF_NEIGHBOUR_MAX`] of them, all together for at most [`BYTES_MAX`].
#[derive(Debug, Default)]
pub(crate) struct Candidates {
    known: BTreeMap<Key, Candidate>,
    queue: VecDeque<Key>,
    awaited: BTreeMap<CertificateHash, Awaited>,
    of_neighbour: BTreeMap<NodeId, usize>,
    bytes: usize,
}

#[derive(Debug)]
struct Awaited {
    since: MonoTime,
    asked: MonoTime,
    keys: BTreeSet<Key>,
}

impl Candidates {
    /// Takes a candidate in behind the others; one that is here already only gains a sender. False
    /// if there is no room, and then nothing changed.
    pub(crate) fn add(&mut self, candidate: Candidate) -> bool {
        let key = (candidate.lsa.origin, candidate.version);
        if let Some(known) = self.known.get_mut(&key) {
            for sender in candidate.senders {
                if !known.senders.contains(&sender) {
                    known.senders.push(sender);
                }
            }
            return true;
        }
        let bytes = self.bytes.saturating_add(candidate.encoding.len());
        let waiting = candidate.senders.first().and_then(|from| self.of_neighbour.get(from));
        if bytes > BYTES_MAX || waiting.is_some_and(|count| *count >= OF_NEIGHBOUR_MAX) {
            return false;
        }
        self.keep(key, candidate);
        self.queue.push_back(key);
        true
    }

    /// The next one to check; it is here no more.
    pub(crate) fn take_next(&mut self) -> Option<Candidate> {
        let key = self.queue.pop_front()?;
        self.forget(key)
    }

    /// A candidate that was taken waits for its certificate. True if that is to be asked for now:
    /// nobody has been asked yet.
    pub(crate) fn park(&mut self, now: MonoTime, candidate: Candidate) -> bool {
        let (key, hash) = ((candidate.lsa.origin, candidate.version), candidate.lsa.certificate);
        self.keep(key, candidate);
        let first = !self.awaited.contains_key(&hash);
        let fresh = || Awaited { since: now, asked: now, keys: BTreeSet::new() };
        self.awaited.entry(hash).or_insert_with(fresh).keys.insert(key);
        first
    }

    /// Whether a certificate is awaited.
    pub(crate) fn awaits(&self, hash: CertificateHash) -> bool {
        self.awaited.contains_key(&hash)
    }

    /// The certificate is there: what awaited it is to be checked.
    pub(crate) fn release(&mut self, hash: CertificateHash) {
        if let Some(awaited) = self.awaited.remove(&hash) {
            self.queue.extend(awaited.keys);
        }
    }

    /// The certificate is no good: what awaited it is here no more.
    pub(crate) fn take_awaiting(&mut self, hash: CertificateHash) -> Vec<Candidate> {
        let keys = self.awaited.remove(&hash).map(|awaited| awaited.keys).unwrap_or_default();
        keys.into_iter().filter_map(|key| self.forget(key)).collect()
    }

    /// Certificates to ask for again now, with the neighbours that must have them; and what was
    /// given up.
    pub(crate) fn handle_timeout(
        &mut self,
        now: MonoTime,
    ) -> (Vec<(CertificateHash, NodeId)>, Vec<Candidate>) {
        let (mut ask, mut late) = (Vec::new(), Vec::new());
        for (hash, awaited) in &mut self.awaited {
            if now.saturating_since(awaited.since) >= PATIENCE {
                late.push(*hash);
            } else if now.saturating_since(awaited.asked) >= ASK_EVERY {
                awaited.asked = now;
                let senders = awaited.keys.iter().filter_map(|key| self.known.get(key));
                let senders: BTreeSet<NodeId> =
                    senders.flat_map(|candidate| candidate.senders.iter().copied()).collect();
                ask.extend(senders.into_iter().map(|sender| (*hash, sender)));
            }
        }
        let given_up = late.into_iter().flat_map(|hash| self.take_awaiting(hash)).collect();
        (ask, given_up)
    }

    /// When [`Self::handle_timeout`] has something to do.
    pub(crate) fn poll_timeout(&self) -> Option<MonoTime> {
        self.awaited.values().map(|awaited| awaited.asked.saturating_add(ASK_EVERY)).min()
    }

    fn keep(&mut self, key: Key, candidate: Candidate) {
        self.bytes = self.bytes.saturating_add(candidate.encoding.len());
        if let Some(from) = candidate.senders.first() {
            let count = self.of_neighbour.entry(*from).or_default();
            *count = count.saturating_add(1);
        }
        self.known.insert(key, candidate);
    }

    fn forget(&mut self, key: Key) -> Option<Candidate> {
        let candidate = self.known.remove(&key)?;
        self.bytes = self.bytes.saturating_sub(candidate.encoding.len());
        if let Some(from) = candidate.senders.first()
            && let Some(count) = self.of_neighbour.get_mut(from)
        {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.of_neighbour.remove(from);
            }
        }
        Some(candidate)
    }
}
