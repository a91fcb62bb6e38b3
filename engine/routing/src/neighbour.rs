//! What flooding keeps for one neighbour: what it must be sent, and what it has not acknowledged.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use hawser_wire::{MonoTime, NodeId};

use crate::candidates::PATIENCE;
use crate::lsdb::Outgoing;
use crate::message::{ENTRIES_SENT_MAX, LENGTH_LEN, Message, REQUESTED_MAX, SEVERAL_BYTES_MAX};
use crate::neighbour_certificates::NeighbourCertificates;
use crate::summary_limit::SummaryLimit;
use crate::{LsaVersion, Lsdb, ORIGINS_MAX, TokenBucket};

/// An advertisement that was not acknowledged for this long is sent again.
pub(crate) const RETRANSMIT_AFTER: Duration = Duration::from_secs(1);
/// Digests are exchanged this often.
const DIGEST_EVERY: Duration = Duration::from_secs(10);
/// A neighbour that has not sent a digest yet is sent ours this often.
const DIGEST_UNANSWERED_EVERY: Duration = Duration::from_secs(1);
/// A neighbour gets at most one summary of the whole database in this time, however often its
/// digest differs.
const SUMMARY_EVERY: Duration = Duration::from_secs(1);
/// After a message of acknowledgements the next one waits so long for others to join it: where many
/// advertisements come at once they are acknowledged together (RFC 2328 §13.5, delayed
/// acknowledgements). Far below [`RETRANSMIT_AFTER`].
const ACKS_EVERY: Duration = Duration::from_millis(5);
/// So many messages with advertisements are sent at once, and then one each few milliseconds: where
/// many nodes speak at the same time, as when a mesh falls apart or is whole again, what comes
/// meanwhile goes together, as in one Link State Update of OSPF (RFC 2328 §A.3.5). What a few nodes say
/// waits for nothing.
const ADVERTISEMENTS: TokenBucket = TokenBucket::new(16, Duration::from_millis(2));
/// So many advertisements wait for no others.
const ADVERTISEMENTS_ENOUGH: usize = 64;
/// Bytes of advertisements that may be unacknowledged before no more are sent.
const WINDOW_BYTES: usize = 256 << 10;
/// Advertisements that are forged, or whose certificates it withholds, that a neighbour may send before
/// nothing of it is looked at, and how fast that is forgiven.
const FAULTS: TokenBucket = TokenBucket::new(16, Duration::from_secs(1));

/// Of what was sent, so much that is answered is kept beside as much as is not.
const SENT_SPARE: usize = 64;

const FIRST_ID: NodeId = NodeId::from_bytes([0; 16]);
const LAST_ID: NodeId = NodeId::from_bytes([0xff; 16]);

/// Flooding's state for one neighbour.
///
/// **Invariant:** every set is keyed by origin and an origin enters it only if the database holds
/// it, or up to [`ORIGINS_MAX`]; so no neighbour makes this grow. What is sent for an origin is
/// always its newest advertisement, looked up when it is sent.
#[derive(Debug)]
pub(crate) struct Neighbour {
    /// To be sent; true if the neighbour has the version before, so that a delta will do.
    unsent: BTreeMap<NodeId, bool>,
    /// Sent and not acknowledged; never also in `unsent`.
    unacked: BTreeMap<NodeId, Unacked>,
    unacked_bytes: usize,
    /// Several advertisements may go in one message; nodes of earlier releases skip such a one.
    takes_several: bool,
    advertisements: TokenBucket,
    /// What was sent when, and as the how manieth, in this order; the first of it is still in `unacked`,
    /// and not much of it is not.
    sent: VecDeque<(MonoTime, u64, NodeId)>,
    sent_count: u64,
    /// Acknowledgements that are due, and before when none is sent.
    acks: BTreeMap<NodeId, LsaVersion>,
    acks_due: MonoTime,
    /// Origins whose advertisement the neighbour is to be asked for.
    wanted: BTreeSet<NodeId>,
    /// Where the summary that is being sent goes on.
    summary_next: Option<NodeId>,
    summary_started: Option<MonoTime>,
    digest_due: MonoTime,
    /// The first origin up to which the neighbour's database has not been compared with ours
    /// since the link came up; `None` once all of it was.
    uncompared: Option<NodeId>,
    /// Origins of which the neighbour had something newer, until it came; and which version. At most
    /// [`ORIGINS_MAX`]: what the neighbour says it has is its word alone.
    behind: BTreeMap<NodeId, LsaVersion>,
    /// The digest that the neighbour has sent last, and whether it was ours then or has become so since.
    heard: Option<(u64, bool)>,
    /// The digest that follows the first exchange of summaries was sent.
    exchange_told: bool,
    pub(crate) certificates: NeighbourCertificates,
    /// When the link came up.
    up: MonoTime,
    faults: TokenBucket,
    pub(crate) summaries: SummaryLimit,
}

#[derive(Debug)]
struct Unacked {
    /// Its number in [`Neighbour::sent`].
    number: u64,
    bytes: usize,
    delta: bool,
}

impl Neighbour {
    /// A neighbour whose link has just come up: the digest is due at once.
    pub(crate) const fn new(now: MonoTime, takes_several: bool) -> Self {
        Self {
            unsent: BTreeMap::new(),
            unacked: BTreeMap::new(),
            unacked_bytes: 0,
            takes_several,
            advertisements: ADVERTISEMENTS,
            sent: VecDeque::new(),
            sent_count: 0,
            acks: BTreeMap::new(),
            acks_due: now,
            wanted: BTreeSet::new(),
            summary_next: None,
            summary_started: None,
            digest_due: now,
            uncompared: Some(FIRST_ID),
            behind: BTreeMap::new(),
            heard: None,
            exchange_told: false,
            certificates: NeighbourCertificates::new(),
            up: now,
            faults: FAULTS,
            summaries: SummaryLimit::new(),
        }
    }

    /// The database has a new advertisement of `origin` that the neighbour must get.
    pub(crate) fn send(&mut self, origin: NodeId) {
        // A guess that may be wrong, as if it is just forgetting it: then it asks for the whole.
        let has_version_before = self.uncompared.is_none()
            && !self.unsent.contains_key(&origin)
            && !self.unacked.contains_key(&origin);
        self.forget_unacked(origin);
        self.unsent.insert(origin, has_version_before);
    }

    /// The neighbour lacks the advertisement of `origin`; if it is on its way as a whole, its
    /// acknowledgement or the timeout decides.
    pub(crate) fn send_if_idle(&mut self, origin: NodeId) {
        if self.unacked.get(&origin).is_none_or(|unacked| unacked.delta) {
            self.forget_unacked(origin);
            self.unsent.insert(origin, false);
        }
    }

    /// Whether the neighbour, which is asked for a certificate since then, has withheld it: its link
    /// was up all the time, and it has sent no other one that may have kept it busy.
    pub(crate) fn withholds(&self, now: MonoTime, since: MonoTime) -> bool {
        now.saturating_since(since) >= PATIENCE
            && self.up <= since
            && !self.certificates.delivered_since(since)
    }

    /// The neighbour has sent what nobody honest sends.
    pub(crate) fn handle_fault(&mut self, now: MonoTime) {
        self.faults.take(now);
    }

    /// Whether the neighbour has sent so much of that, that nothing of it is looked at now.
    pub(crate) fn is_distrusted(&self, now: MonoTime) -> bool {
        !self.faults.has_token(now)
    }

    /// Whether the digest that the neighbour has sent last was ours then, or has become so since.
    pub(crate) fn agrees(&self) -> Option<bool> {
        self.heard.map(|(_, agrees)| agrees)
    }

    /// Our database has this digest now. Once it is the one that the neighbour has sent last the two
    /// agree, until it sends another one.
    pub(crate) fn handle_changed(&mut self, ours: u64) {
        if let Some((theirs, agrees)) = &mut self.heard {
            *agrees |= *theirs == ours;
        }
    }

    /// Whether the first exchange of summaries has just ended, and both have what either had: the
    /// neighbour hears so at once, and not when the next digest is due.
    fn take_exchange_over(&mut self) -> bool {
        let over = !self.exchange_told
            && self.summary_started.is_some()
            && self.uncompared.is_none()
            && self.summary_next.is_none()
            && self.behind.is_empty()
            && self.unsent.is_empty()
            && self.unacked.is_empty();
        self.exchange_told |= over;
        over
    }

    /// The neighbour has the newest advertisement of `origin`.
    pub(crate) fn settled(&mut self, origin: NodeId) {
        self.unsent.remove(&origin);
        self.wanted.remove(&origin);
        self.behind.remove(&origin);
        self.forget_unacked(origin);
    }

    /// The neighbour's summary covered these origins.
    pub(crate) fn handle_compared(&mut self, first: NodeId, last: NodeId) {
        if self.uncompared.is_some_and(|next| (first..=last).contains(&next)) {
            self.uncompared = successor(last);
        }
    }

    /// The whole database of the neighbour was taken over since the link came up, and the newest
    /// advertisement of `local` has arrived there.
    pub(crate) fn is_settled(&self, local: NodeId) -> bool {
        let own_is_on_its_way =
            self.unsent.contains_key(&local) || self.unacked.contains_key(&local);
        self.uncompared.is_none() && self.behind.is_empty() && !own_is_on_its_way
    }

    fn forget_unacked(&mut self, origin: NodeId) {
        if let Some(unacked) = self.unacked.remove(&origin) {
            self.unacked_bytes = self.unacked_bytes.saturating_sub(unacked.bytes);
        }
        while let Some((_, number, first)) = self.sent.front()
            && self.unacked.get(first).is_none_or(|unacked| unacked.number != *number)
        {
            self.sent.pop_front();
        }
        if self.sent.is_empty() && self.sent.capacity() > 2 * SENT_SPARE {
            self.sent.shrink_to(SENT_SPARE);
        }
    }

    /// Notes what was sent. A neighbour that leaves the first of it without an answer and has the rest
    /// sent again and again makes nothing grow.
    fn note_sent(&mut self, now: MonoTime, origin: NodeId, bytes: usize, delta: bool) {
        self.sent_count = self.sent_count.saturating_add(1);
        let number = self.sent_count;
        self.unacked_bytes = self.unacked_bytes.saturating_add(bytes);
        self.unacked.insert(origin, Unacked { number, bytes, delta });
        self.sent.push_back((now, number, origin));
        if self.sent.len() > self.unacked.len().saturating_mul(2).saturating_add(SENT_SPARE) {
            let unacked = &self.unacked;
            self.sent.retain(|(_, number, origin)| {
                unacked.get(origin).is_some_and(|unacked| unacked.number == *number)
            });
        }
    }

    /// The neighbour has sent the version that is known already. If it was sent the same one, the two
    /// have crossed, and each end takes the other's for the acknowledgement (RFC 2328 §13, step 7a).
    pub(crate) fn handle_same(&mut self, origin: NodeId, version: LsaVersion) {
        let crossed = self.unacked.contains_key(&origin);
        self.settled(origin);
        if !crossed {
            self.acknowledge(origin, version);
        }
    }

    /// Whether the neighbour has said that it has this version of `origin`, or a newer one.
    pub(crate) fn has(&self, origin: NodeId, version: LsaVersion) -> bool {
        self.behind.get(&origin).is_some_and(|has| *has >= version)
    }

    /// The neighbour is to be told that this version arrived.
    pub(crate) fn acknowledge(&mut self, origin: NodeId, version: LsaVersion) {
        if self.acks.len() < ORIGINS_MAX {
            self.acks.insert(origin, version);
        }
    }

    /// The neighbour has this version of `origin`, which is newer than what is known.
    pub(crate) fn want(&mut self, origin: NodeId, version: LsaVersion) {
        if self.wanted.len() < ORIGINS_MAX {
            self.wanted.insert(origin);
        }
        if self.behind.len() < ORIGINS_MAX || self.behind.contains_key(&origin) {
            self.behind.insert(origin, version);
        }
    }

    /// The neighbour's digest came; ours is the other one.
    pub(crate) fn handle_digest(&mut self, now: MonoTime, theirs: u64, ours: u64) {
        let equal = theirs == ours;
        self.heard = Some((theirs, equal));
        if equal {
            self.uncompared = None;
            self.behind.clear();
        }
        let rested = self
            .summary_started
            .is_none_or(|started| now.saturating_since(started) >= SUMMARY_EVERY);
        if !equal && rested {
            self.summary_next = Some(FIRST_ID);
            self.summary_started = Some(now);
        }
    }

    /// Moves what was not acknowledged in time back to what must be sent.
    pub(crate) fn handle_timeout(&mut self, now: MonoTime) {
        while let Some(&(sent, _, origin)) = self.sent.front()
            && sent.saturating_add(RETRANSMIT_AFTER) <= now
        {
            self.forget_unacked(origin);
            self.unsent.insert(origin, false);
        }
    }

    /// When [`Neighbour::handle_timeout`] or [`Neighbour::poll_transmit`] has something to do next.
    pub(crate) fn poll_timeout(&self) -> MonoTime {
        let late = self.sent.front().map(|(sent, ..)| sent.saturating_add(RETRANSMIT_AFTER));
        let acks = (!self.acks.is_empty()).then_some(self.acks_due);
        let due = [late, acks, self.advertisements_due()];
        due.into_iter().flatten().fold(self.digest_due, MonoTime::min)
    }

    /// The next message for the neighbour.
    pub(crate) fn poll_transmit(&mut self, now: MonoTime, lsdb: &Lsdb) -> Option<Vec<u8>> {
        if self.acks.len() >= ENTRIES_SENT_MAX || (!self.acks.is_empty() && self.acks_due <= now) {
            self.acks_due = now.saturating_add(ACKS_EVERY);
            let rest = self.acks.keys().nth(ENTRIES_SENT_MAX).copied();
            let rest = rest.map(|origin| self.acks.split_off(&origin)).unwrap_or_default();
            let now: Vec<_> = std::mem::replace(&mut self.acks, rest).into_iter().collect();
            return Some(Message::encode_ack(&now));
        }
        if !self.wanted.is_empty() {
            let rest = self.wanted.iter().nth(REQUESTED_MAX).copied();
            let rest = rest.map(|origin| self.wanted.split_off(&origin)).unwrap_or_default();
            let now: Vec<_> = std::mem::replace(&mut self.wanted, rest).into_iter().collect();
            return Some(Message::encode_request(&now));
        }
        if let Some(message) = self.certificates.poll_transmit() {
            return Some(message);
        }
        if self.digest_due <= now || self.take_exchange_over() {
            let every = if self.heard.is_some() { DIGEST_EVERY } else { DIGEST_UNANSWERED_EVERY };
            self.digest_due = now.saturating_add(every);
            return Some(Message::encode_digest(lsdb.digest()));
        }
        if let Some(message) = self.next_advertisements(now, lsdb) {
            return Some(message);
        }
        self.next_summary(lsdb)
    }

    /// Advertisements that are to be sent, as many as go into a message, if their time has come.
    fn next_advertisements(&mut self, now: MonoTime, lsdb: &Lsdb) -> Option<Vec<u8>> {
        if self.advertisements_due().is_none_or(|due| due > now) {
            return None;
        }
        let (mut messages, mut bytes) = (Vec::new(), 0_usize);
        while self.unacked_bytes < WINDOW_BYTES
            && let Some((&origin, &has_version_before)) = self.unsent.first_key_value()
        {
            let Some(Outgoing { lifetime, encoding, delta }) = lsdb.outgoing(now, origin) else {
                self.unsent.pop_first();
                continue;
            };
            let delta = delta.filter(|_| has_version_before);
            let message = match delta {
                Some(delta) => Message::encode_delta(lifetime, delta),
                None => Message::encode_lsa(lifetime, encoding),
            };
            bytes = bytes.saturating_add(LENGTH_LEN).saturating_add(message.len());
            if !messages.is_empty() && (bytes > SEVERAL_BYTES_MAX || !self.takes_several) {
                break;
            }
            messages.push(message);
            self.unsent.pop_first();
            self.note_sent(now, origin, delta.map_or(encoding.len(), <[u8]>::len), delta.is_some());
        }
        if messages.is_empty() {
            return None;
        }
        self.advertisements.take(now);
        Some(Message::encode_several(messages))
    }

    /// When advertisements are to be sent; none if there are none, or if acknowledgements must come
    /// before.
    fn advertisements_due(&self) -> Option<MonoTime> {
        if self.unsent.is_empty() || self.unacked_bytes >= WINDOW_BYTES {
            return None;
        }
        // What goes alone in any case waits for no others.
        let enough = !self.takes_several || self.unsent.len() >= ADVERTISEMENTS_ENOUGH;
        Some(if enough { MonoTime::ZERO } else { self.advertisements.ready_at() })
    }

    fn next_summary(&mut self, lsdb: &Lsdb) -> Option<Vec<u8>> {
        let first = self.summary_next.take()?;
        let mut versions = lsdb.versions(first..);
        let entries: Vec<_> = versions.by_ref().take(ENTRIES_SENT_MAX).collect();
        let last = match (entries.last(), versions.next()) {
            (Some((origin, _)), Some(_)) => {
                self.summary_next = successor(*origin);
                *origin
            }
            _ => LAST_ID,
        };
        Some(Message::encode_summary(first, last, &entries))
    }
}

/// The id behind `id` in the order of ids.
fn successor(id: NodeId) -> Option<NodeId> {
    let next = u128::from_be_bytes(*id.as_bytes()).checked_add(1)?;
    Some(NodeId::from_bytes(next.to_be_bytes()))
}

#[cfg(test)]
mod tests {
    use hawser_wire::Incarnation;

    use super::*;
    use crate::tests::lsa;

    #[test]
    fn a_neighbour_that_claims_to_have_ever_more_origins_makes_nothing_grow() {
        let lsdb = Lsdb::new();
        let version = LsaVersion { incarnation: Incarnation(1), sequence: 1, hash: 0 };
        let mut neighbour = Neighbour::new(MonoTime::ZERO, true);
        for origin in 0..40_000_u128 {
            neighbour.want(NodeId::from_bytes(origin.to_be_bytes()), version);
            if origin % 100 == 0 {
                while neighbour.poll_transmit(MonoTime::ZERO, &lsdb).is_some() {}
            }
        }
        assert_eq!(neighbour.behind.len(), ORIGINS_MAX);
    }

    #[test]
    fn a_neighbour_that_answers_all_but_the_first_makes_nothing_grow() {
        let mut lsdb = Lsdb::new();
        for origin in [1, 2] {
            let _newest = lsdb.insert(lsa(origin, 1, 1, &[]));
        }
        let now = MonoTime::from_nanos(5);
        let id = |byte| NodeId::from_bytes([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, byte]);
        let mut neighbour = Neighbour::new(now, true);
        neighbour.send(id(1));
        for _ in 0..10_000 {
            neighbour.send(id(2));
            while neighbour.poll_transmit(now, &lsdb).is_some() {}
            neighbour.settled(id(2));
        }
        assert!(neighbour.sent.len() <= 2 + SENT_SPARE + 1, "{}", neighbour.sent.len());
        // The first one is still repeated in its time.
        let due = now.saturating_add(RETRANSMIT_AFTER);
        assert_eq!(neighbour.poll_timeout(), due);
        neighbour.handle_timeout(due);
        assert!(neighbour.unsent.contains_key(&id(1)) && neighbour.sent.is_empty());
    }
}
