//! Reliable flooding of link-state advertisements between neighbours.
//!
//! After OSPF (RFC 2328 §13) and IS-IS (ISO 10589 §7.3.15): each advertisement is passed to every
//! neighbour but the one that it came from, repeated until acknowledged; digests of the whole
//! database are compared when a link comes up and every ten seconds, and where they differ a
//! summary shows what either side lacks. Any single message may be lost, repeated or reordered.

use std::collections::BTreeMap;

use bytes::Bytes;
use hawser_wire::{DecodeError, Incarnation, MonoTime, NodeId};
use thiserror::Error;

use crate::message::{Message, MessageError};
use crate::neighbour::Neighbour;
use crate::{Inserted, Lsa, LsaVersion, Lsdb, ORIGINS_MAX};

/// Why a message changed nothing. The sender's doing, unless said otherwise; the link stays.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum RejectReason {
    /// It came from a node whose link is not up: a message that was on its way when it went down.
    #[error("{from} is no neighbour")]
    NotNeighbour {
        /// The sender.
        from: NodeId,
    },
    /// A kind of a newer version; to be ignored.
    #[error("flooding message of unknown kind {0}")]
    UnknownKind(u8),
    /// The bytes are no message.
    #[error("flooding message: {0}")]
    Malformed(#[from] DecodeError),
    /// The advertisement is not its origin's own word.
    #[error("link-state advertisement of {origin}: origin, key and signature do not agree")]
    Unverified {
        /// Whom it claims to be from.
        origin: NodeId,
    },
    /// This node's database is full. The advertisement was acknowledged nevertheless, so that it
    /// is offered again with the next digest and not every second.
    #[error("no room for the link-state advertisement of {origin}: at most {ORIGINS_MAX} origins")]
    Full {
        /// Whom it is from.
        origin: NodeId,
    },
}

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
    /// The database has no room for it.
    #[error("the link-state database is full")]
    Full,
}

/// The flooding machine of one node.
///
/// After each `handle_*` call the driver asks [`Flooding::must_originate`], drains
/// [`Flooding::poll_transmit`], and comes back at [`Flooding::poll_timeout`] with
/// [`Flooding::handle_timeout`].
///
/// Memory is bounded by [`ORIGINS_MAX`] and [`crate::LSDB_BYTES_MAX`], and per neighbour by a
/// few words an origin.
#[derive(Debug)]
pub struct Flooding {
    node: NodeId,
    lsdb: Lsdb,
    neighbours: BTreeMap<NodeId, Neighbour>,
    /// The time of the last call that carried one; [`Flooding::poll_transmit`] stamps with it.
    now: MonoTime,
    /// The highest version that is known to be out under this node's name.
    own_version: Option<LsaVersion>,
    superseded: bool,
}

impl Flooding {
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
        }
    }

    /// The database.
    #[must_use]
    pub const fn lsdb(&self) -> &Lsdb {
        &self.lsdb
    }

    /// Incarnation and sequence that this node's next advertisement must carry, in a life with
    /// `incarnation`: above everything that is known to be out under its name. The incarnation is
    /// a higher one only if an earlier life's was (as after its disk was restored from a copy).
    #[must_use]
    pub fn next_version(&self, incarnation: Incarnation) -> (Incarnation, u64) {
        match self.own_version {
            Some(out) if out.incarnation >= incarnation => match out.sequence.checked_add(1) {
                Some(sequence) => (out.incarnation, sequence),
                None => (Incarnation(out.incarnation.0.saturating_add(1)), 1),
            },
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
    /// [`OriginateError`] if it is not this node's or not newer; nothing changed.
    pub fn originate(&mut self, now: MonoTime, lsa: Lsa) -> Result<(), OriginateError> {
        self.now = now;
        if lsa.origin != self.node {
            return Err(OriginateError::OtherOrigin { origin: lsa.origin });
        }
        let (incarnation, sequence) = (lsa.incarnation, lsa.sequence);
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

    /// Neighbours whose whole database was taken over since their link came up, and which have this
    /// node's newest advertisement; in the order of ids.
    pub fn settled(&self) -> impl Iterator<Item = NodeId> + '_ {
        let settled =
            self.neighbours.iter().filter(|(_, neighbour)| neighbour.is_settled(self.node));
        settled.map(|(node, _)| *node)
    }

    /// A link to `node` came up. If it was up already, what was sent is taken for lost.
    pub fn handle_neighbour_up(&mut self, now: MonoTime, node: NodeId) {
        self.now = now;
        if node != self.node {
            let mut neighbour = Neighbour::new(now);
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
    }

    /// Takes a message of the neighbour `from`. True if the database changed.
    ///
    /// `verify` must answer whether the advertisement is its origin's own word: that its public
    /// key hashes to its origin's id, **and** that its signature over [`Lsa::signed_bytes`] holds
    /// under that key. It is asked only about advertisements that would be stored or that are
    /// newer than this node's own, since each answer costs about 50 µs.
    ///
    /// # Errors
    /// [`RejectReason`]; the database did not change.
    pub fn handle_message(
        &mut self,
        now: MonoTime,
        from: NodeId,
        message: &[u8],
        verify: &mut dyn FnMut(&Lsa) -> bool,
    ) -> Result<bool, RejectReason> {
        self.now = now;
        let Some(neighbour) = self.neighbours.get_mut(&from) else {
            return Err(RejectReason::NotNeighbour { from });
        };
        let message = Message::decode(message).map_err(|error| match error {
            MessageError::UnknownKind(kind) => RejectReason::UnknownKind(kind),
            MessageError::Decode(error) => RejectReason::Malformed(error),
        })?;
        match message {
            Message::Lsa { lsa, version, encoding } => {
                return self.handle_lsa(from, *lsa, version, encoding, verify);
            }
            Message::Ack(entries) => {
                for (origin, version) in entries {
                    if self.lsdb.version(origin).is_some_and(|have| version >= have) {
                        neighbour.settled(origin);
                    }
                }
            }
            Message::Digest(digest) => neighbour.handle_digest(now, digest == self.lsdb.digest()),
            Message::Summary { first, last, entries } => {
                compare(&self.lsdb, neighbour, first, last, &entries);
                neighbour.handle_compared(first, last);
            }
            Message::Request(origins) => {
                for origin in origins {
                    if self.lsdb.get(origin).is_some() {
                        neighbour.send_if_idle(origin);
                    }
                }
            }
        }
        Ok(false)
    }

    fn handle_lsa(
        &mut self,
        from: NodeId,
        lsa: Lsa,
        version: LsaVersion,
        encoding: Bytes,
        verify: &mut dyn FnMut(&Lsa) -> bool,
    ) -> Result<bool, RejectReason> {
        let origin = lsa.origin;
        let Some(neighbour) = self.neighbours.get_mut(&from) else {
            return Err(RejectReason::NotNeighbour { from });
        };
        match self.lsdb.judge(origin, version, encoding.len()) {
            Inserted::Same => {
                neighbour.settled(origin);
                neighbour.acknowledge(origin, version);
                return Ok(false);
            }
            Inserted::Older => {
                neighbour.send_if_idle(origin);
                return Ok(false);
            }
            Inserted::Full if origin != self.node => {
                neighbour.acknowledge(origin, version);
                return Err(RejectReason::Full { origin });
            }
            Inserted::Full | Inserted::Newest => {}
        }
        if !verify(&lsa) {
            return Err(RejectReason::Unverified { origin });
        }
        neighbour.settled(origin);
        neighbour.acknowledge(origin, version);
        if origin == self.node {
            // An earlier life's word about this node is not stored: it is overtaken.
            self.own_version = self.own_version.max(Some(version));
            self.superseded = true;
            return Ok(false);
        }
        self.lsdb.store(lsa, version, encoding);
        for (_, other) in self.neighbours.iter_mut().filter(|(node, _)| **node != from) {
            other.send(origin);
        }
        Ok(true)
    }

    /// Makes what is due ready for [`Flooding::poll_transmit`].
    pub fn handle_timeout(&mut self, now: MonoTime) {
        self.now = now;
        for neighbour in self.neighbours.values_mut() {
            neighbour.handle_timeout(now);
        }
    }

    /// When [`Flooding::handle_timeout`] is to be called next; none without a neighbour.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<MonoTime> {
        self.neighbours.values().map(Neighbour::poll_timeout).min()
    }

    /// The next message to send, and to whom. What is lost needs no telling: it is repeated.
    pub fn poll_transmit(&mut self) -> Option<(NodeId, Vec<u8>)> {
        let (now, lsdb) = (self.now, &self.lsdb);
        self.neighbours
            .iter_mut()
            .find_map(|(node, neighbour)| Some((*node, neighbour.poll_transmit(now, lsdb)?)))
    }
}

/// Finds out of a neighbour's summary what either side lacks.
fn compare(
    lsdb: &Lsdb,
    neighbour: &mut Neighbour,
    first: NodeId,
    last: NodeId,
    theirs: &[(NodeId, LsaVersion)],
) {
    let theirs: BTreeMap<NodeId, LsaVersion> = theirs.iter().copied().collect();
    for (origin, ours) in lsdb.versions(first..=last) {
        match theirs.get(&origin) {
            Some(version) if *version > ours => neighbour.want(origin),
            Some(version) if *version == ours => neighbour.settled(origin),
            _ => neighbour.send_if_idle(origin),
        }
    }
    for origin in theirs.into_keys().filter(|origin| lsdb.get(*origin).is_none()) {
        neighbour.want(origin);
    }
}
