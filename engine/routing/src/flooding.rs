//! Reliable flooding of link-state advertisements between neighbours: the machine, its own word, its
//! neighbours and its timers. What becomes of a neighbour's messages stands in `intake`.
//!
//! After OSPF (RFC 2328 §13) and IS-IS (ISO 10589 §7.3.15): each advertisement is passed to every
//! neighbour but the one that it came from, repeated until acknowledged; digests of the whole
//! database are compared when a link comes up and every ten seconds, and where they differ a
//! summary shows what either side lacks. Any single message may be lost, repeated or reordered.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::time::Duration;

use bytes::Bytes;
use hawser_wire::{Incarnation, MonoTime, NodeId};
use thiserror::Error;

use crate::candidates::{Candidate, Candidates};
use crate::message::CERTIFICATE_BYTES_MAX;
use crate::neighbour::Neighbour;
use crate::neighbour_certificates::NeighbourCertificates;
use crate::reject::Rejects;
use crate::{
    CertificateHash, Inserted, Lsa, LsaVersion, Lsdb, LsdbPieces, ReceivedCertificate,
    RejectReason, StoredLsa, TokenBucket,
};

/// As often it is looked for origins that may say as much at once as those which have said nothing.
const LIMITS_SWEPT_EVERY: Duration = Duration::from_secs(10);

/// Why an own advertisement cannot be sent; nothing changed.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum OriginateError {
    /// It is another node's.
    #[error("the advertisement is {origin}'s, not this node's")]
    OtherOrigin {
        /// Whose it is.
        origin: NodeId,
    },
    /// A version as high is out already: see [`Flooding::next_version`].
    #[error("incarnation {incarnation}, sequence {sequence} is not above what is known")]
    NotNewer {
        /// Of the refused one.
        incarnation: Incarnation,
        /// Of the refused one.
        sequence: u64,
    },
    /// Incarnation or sequence is beyond what others believe of any node.
    #[error("incarnation {incarnation}, sequence {sequence} is further than others follow")]
    TooFarAhead {
        /// Of the refused one.
        incarnation: Incarnation,
        /// Of the refused one.
        sequence: u64,
    },
    /// The database has no room for it.
    #[error("the link-state database is full")]
    Full,
}

/// The flooding machine of one node.
///
/// After each `handle_*` call the driver checks what [`Flooding::poll_check`] hands out, at its own
/// pace, answers [`Flooding::poll_certificate_request`] and [`Flooding::poll_certificate`], tells of
/// [`Flooding::poll_withheld`], asks [`Flooding::must_originate`], drains
/// [`Flooding::poll_transmit`], and comes back at [`Flooding::poll_timeout`] with
/// [`Flooding::handle_timeout`].
///
/// Memory is bounded by [`ORIGINS_MAX`](crate::ORIGINS_MAX) and
/// [`LSDB_BYTES_MAX`](crate::LSDB_BYTES_MAX), and per neighbour by a few words an origin and by its
/// equal share, a MiB at most, of 16 MiB for advertisements that wait to be checked and of as much for
/// certificates; one advertisement has always room.
#[derive(Debug)]
pub struct Flooding {
    pub(crate) node: NodeId,
    pub(crate) lsdb: Lsdb,
    pub(crate) neighbours: BTreeMap<NodeId, Neighbour>,
    /// The time of the last call that carried one; [`Flooding::poll_transmit`] stamps with it.
    pub(crate) now: MonoTime,
    /// The highest version that is known to be out under this node's name.
    pub(crate) own_version: Option<LsaVersion>,
    pub(crate) superseded: bool,
    /// How often another's word about this node was newer than its own.
    pub(crate) overtaken: u64,
    pub(crate) candidates: Candidates,
    /// The candidate that the driver looks at.
    pub(crate) checking: Option<Candidate>,
    /// How often each origin of the database may say something new; without those that have not said
    /// anything for a while.
    pub(crate) limits: BTreeMap<NodeId, TokenBucket>,
    /// When those were looked for last.
    limits_swept: MonoTime,
    pub(crate) rejects: Rejects,
    /// Who withheld a certificate since that was told last, and of which origin's last.
    pub(crate) withheld: BTreeMap<NodeId, NodeId>,
    /// Whose request for a certificate was handed out last, and whose certificate.
    request_served: NodeId,
    received_served: NodeId,
}

impl Flooding {
    /// As a new one, but for what this node has said last: what it says next is newer, or neighbours that
    /// still have it would take another process to speak as this node.
    #[must_use]
    pub fn cleared(&self) -> Self {
        Self { own_version: self.own_version, ..Self::new(self.node) }
    }

    /// A machine for `node`, with an empty database and no neighbour.
    #[must_use]
    pub fn new(node: NodeId) -> Self {
        Self {
            node,
            lsdb: Lsdb::new(),
            neighbours: BTreeMap::new(),
            now: MonoTime::ZERO,
            own_version: None,
            superseded: false,
            overtaken: 0,
            candidates: Candidates::default(),
            checking: None,
            limits: BTreeMap::new(),
            limits_swept: MonoTime::ZERO,
            rejects: Rejects::default(),
            withheld: BTreeMap::new(),
            request_served: NodeId::default(),
            received_served: NodeId::default(),
        }
    }

    /// As [`new`](Self::new), with a database that is there already. What it has of `node` is taken
    /// for its last word.
    #[must_use]
    pub fn with_lsdb(node: NodeId, mut lsdb: Lsdb) -> Self {
        lsdb.keep_for_good(node);
        let own_version = lsdb.version(node);
        Self { lsdb, own_version, ..Self::new(node) }
    }

    /// Shares an advertisement with another database of this process, if it is equal to the one here;
    /// whether it is.
    pub fn adopt(&mut self, stored: &StoredLsa) -> bool {
        self.lsdb.adopt(stored)
    }

    /// Has pieces of the database in common with the other ones of this process of which that is said
    /// with these `pieces`, as far as there are equal ones.
    pub fn share(&mut self, pieces: &mut LsdbPieces) {
        self.lsdb.share(pieces);
    }

    /// The database.
    #[must_use]
    pub const fn lsdb(&self) -> &Lsdb {
        &self.lsdb
    }

    /// Incarnation and sequence that this node's next advertisement must carry, in a life with
    /// `incarnation`: above everything that is known to be out under its name. The incarnation is
    /// a higher one only if an earlier life's was (as after its disk was restored from a copy), or if
    /// its sequences are used up.
    #[must_use]
    pub fn next_version(&self, incarnation: Incarnation) -> (Incarnation, u64) {
        match self.own_version {
            Some(out) if out.incarnation >= incarnation => out.next(),
            _ => (incarnation, 1),
        }
    }

    /// True if an advertisement of an earlier life of this node is in the mesh and newer than its
    /// own: the driver must sign one with [`Flooding::next_version`] and [`Flooding::originate`]
    /// it. True until it did.
    #[must_use]
    pub const fn must_originate(&self) -> bool {
        self.superseded
    }

    /// Floods this node's own advertisement, signed by the caller.
    ///
    /// # Errors
    /// [`OriginateError`] if it is not this node's, or not newer, or nobody would take it; nothing
    /// changed.
    pub fn originate(&mut self, now: MonoTime, lsa: Lsa) -> Result<(), OriginateError> {
        self.now = now;
        if lsa.origin != self.node {
            return Err(OriginateError::OtherOrigin { origin: lsa.origin });
        }
        let (incarnation, sequence) = (lsa.incarnation, lsa.sequence);
        if !(LsaVersion { incarnation, sequence, hash: 0 }).is_plausible() {
            return Err(OriginateError::TooFarAhead { incarnation, sequence });
        }
        let not_newer = OriginateError::NotNewer { incarnation, sequence };
        if self
            .own_version
            .is_some_and(|out| (incarnation, sequence) <= (out.incarnation, out.sequence))
        {
            return Err(not_newer);
        }
        match self.lsdb.insert(lsa) {
            Inserted::Newest => {}
            Inserted::Same | Inserted::Older => return Err(not_newer),
            Inserted::Full => return Err(OriginateError::Full),
        }
        self.own_version = self.lsdb.version(self.node);
        self.superseded = false;
        for neighbour in self.neighbours.values_mut() {
            neighbour.send(self.node);
        }
        Ok(())
    }

    /// How often another's word about this node was newer than its own, in this life. It is once or
    /// twice after a start with an old disk; more often, another node has the same key.
    #[must_use]
    pub const fn overtaken(&self) -> u64 {
        self.overtaken
    }

    /// How often link state of neighbours was rejected: reasons by
    /// [name](RejectReason::name), in the order of the names.
    pub fn rejects(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        self.rejects.iter()
    }

    /// Whether the digest that the neighbour has sent last, some seconds ago at most, was that of this
    /// node's database when it came or has become so since; `None` before the first, or if it is no
    /// neighbour. One that is told of a change just then differs for once.
    #[must_use]
    pub fn digest_agrees(&self, neighbour: NodeId) -> Option<bool> {
        self.neighbours.get(&neighbour)?.agrees()
    }

    /// A neighbour, and the certificate that it asks for: to be answered with
    /// [`Flooding::send_certificate`] if it is known. One of each neighbour that asks, in turn.
    pub fn poll_certificate_request(&mut self) -> Option<(NodeId, CertificateHash)> {
        let by = self.next_behind(self.request_served, NeighbourCertificates::has_request)?;
        self.request_served = by;
        Some((by, self.neighbours.get_mut(&by)?.certificates.next_request()?))
    }

    /// The next certificate to check. One of each neighbour that has sent any, in turn.
    pub fn poll_certificate(&mut self) -> Option<ReceivedCertificate> {
        let from = self.next_behind(self.received_served, NeighbourCertificates::has_received)?;
        self.received_served = from;
        let (hash, der) = self.neighbours.get_mut(&from)?.certificates.next_received()?;
        Some(ReceivedCertificate { from, hash, der })
    }

    /// A neighbour that has sent advertisements and withheld their certificates, and what is counted
    /// for the last of them.
    pub fn poll_withheld(&mut self) -> Option<(NodeId, RejectReason)> {
        let (from, origin) = self.withheld.pop_first()?;
        Some((from, RejectReason::CertificateMissing { origin }))
    }

    /// The next neighbour behind `served` that has some, in the circle of ids.
    fn next_behind(
        &self,
        served: NodeId,
        has: fn(&NeighbourCertificates) -> bool,
    ) -> Option<NodeId> {
        let behind = self.neighbours.range((Bound::Excluded(served), Bound::Unbounded));
        let mut circle = behind.chain(self.neighbours.range(..=served));
        circle.find(|(_, neighbour)| has(&neighbour.certificates)).map(|(node, _)| *node)
    }

    /// Sends a certificate to the neighbour that [asks](Flooding::poll_certificate_request) for it. One
    /// longer than 8 KiB is none and is not sent.
    pub fn send_certificate(&mut self, to: NodeId, hash: CertificateHash, der: Bytes) {
        if let Some(neighbour) = self.neighbours.get_mut(&to)
            && der.len() <= CERTIFICATE_BYTES_MAX
        {
            neighbour.certificates.send(hash, der);
        }
    }

    /// Neighbours whose whole database was taken over since their link came up, and which have this
    /// node's newest advertisement; in the order of ids.
    pub fn settled(&self) -> impl Iterator<Item = NodeId> + '_ {
        let settled =
            self.neighbours.iter().filter(|(_, neighbour)| neighbour.is_settled(self.node));
        settled.map(|(node, _)| *node)
    }

    /// A link to `node` came up. If it was up already, what was sent is taken for lost. Unless it
    /// `takes_several` advertisements in one message, it is sent each alone.
    pub fn handle_neighbour_up(&mut self, now: MonoTime, node: NodeId, takes_several: bool) {
        self.now = now;
        if node != self.node {
            let mut neighbour = Neighbour::new(now, takes_several);
            if self.lsdb.get(self.node).is_some() {
                neighbour.send(self.node);
            }
            self.neighbours.insert(node, neighbour);
        }
    }

    /// The link to `node` went down; what it had not acknowledged is forgotten.
    pub fn handle_neighbour_down(&mut self, now: MonoTime, node: NodeId) {
        self.now = now;
        self.neighbours.remove(&node);
        self.withheld.remove(&node);
    }

    /// Forgets what `origin` has said, as the mesh has evicted it: the driver refuses what it says
    /// from now on, see [`Refusal::Evicted`](crate::Refusal). True if the database changed.
    pub fn handle_evicted(&mut self, origin: NodeId) -> bool {
        self.limits.remove(&origin);
        let forgets = origin != self.node && self.lsdb.forget(origin);
        if forgets {
            self.tell_changed();
        }
        forgets
    }

    /// The database is another one: neighbours' digests may be its own now, or no more.
    fn tell_changed(&mut self) {
        let digest = self.lsdb.digest();
        self.neighbours.values_mut().for_each(|neighbour| neighbour.handle_changed(digest));
    }

    /// Forgets what has ended and makes what is due ready for [`Flooding::poll_transmit`]. True if
    /// the database changed.
    pub fn handle_timeout(&mut self, now: MonoTime) -> bool {
        self.now = now;
        let expired = self.lsdb.expire(now);
        for origin in &expired {
            self.limits.remove(origin);
        }
        if !expired.is_empty() {
            self.tell_changed();
        }
        let (ask, given_up) = self.candidates.handle_timeout(now);
        for (hash, sender) in ask {
            if let Some(neighbour) = self.neighbours.get_mut(&sender) {
                neighbour.certificates.want(hash);
            }
        }
        for candidate in given_up {
            self.handle_missing(&candidate);
        }
        for neighbour in self.neighbours.values_mut() {
            neighbour.handle_timeout(now);
        }
        if now.saturating_since(self.limits_swept) >= LIMITS_SWEPT_EVERY {
            self.limits_swept = now;
            self.limits.retain(|_, limit| !limit.is_full(now));
        }
        !expired.is_empty()
    }

    /// When [`Flooding::handle_timeout`] is to be called next, if ever.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<MonoTime> {
        let neighbours = self.neighbours.values().map(Neighbour::poll_timeout).min();
        [neighbours, self.candidates.poll_timeout(), self.lsdb.poll_timeout()]
            .into_iter()
            .flatten()
            .min()
    }

    /// The next message to send, and to whom. What is lost needs no telling: it is repeated.
    pub fn poll_transmit(&mut self) -> Option<(NodeId, Vec<u8>)> {
        let (now, lsdb) = (self.now, &self.lsdb);
        self.neighbours
            .iter_mut()
            .find_map(|(node, neighbour)| Some((*node, neighbour.poll_transmit(now, lsdb)?)))
    }
}
