//! What becomes of a neighbour's messages. An advertisement passes four gates, the cheap ones first:
//! it is newer than what is known, its origin has not said too much of late, its origin is a member,
//! it is its origin's own word. Until the last one it is a candidate.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use hawser_wire::{DecodeError, MonoTime, NodeId};

use crate::candidates::{Candidate, Sender, share};
use crate::delta::LsaDelta;
use crate::message::{Message, MessageError};
use crate::neighbour::Neighbour;
use crate::{
    CertificateFault, CertificateHash, Flooding, Inserted, Judgement, Lsa, LsaVersion, Lsdb,
    Refusal, RejectReason, TokenBucket,
};

/// How often an origin may say something new: several times what honest ones
/// do. What is beyond is not acknowledged; its neighbours repeat the newest of it.
///
/// Taken from when one is believed, and asked twice: when one comes, and when its turn comes to be
/// checked, as others of its origin may have been believed while it waited.
const ORIGIN_LIMIT: TokenBucket = TokenBucket::new(64, Duration::from_millis(100));

impl Flooding {
    /// Takes a message of the neighbour `from`. The database does not change: advertisements wait
    /// to be [checked](Flooding::poll_check).
    ///
    /// # Errors
    /// [`RejectReason`]; the message changed nothing. Of several advertisements in one message each
    /// is taken or not, up to one that no honest node sends (malformed, or a delta that does not fit),
    /// and the first reason is told. What stands behind is not looked at.
    pub fn handle_message(
        &mut self,
        now: MonoTime,
        from: NodeId,
        message: &[u8],
    ) -> Result<(), RejectReason> {
        self.now = now;
        let Some(several) = Message::several(message) else {
            return self.take_or_count(from, message);
        };
        let several = several.map_err(|error| self.count_malformed(error))?;
        let mut taken = Ok(());
        for message in several {
            let this = match message {
                Ok(message) => self.take_or_count(from, message),
                Err(error) => Err(self.count_malformed(error)),
            };
            taken = taken.and(this);
            // Each costs much, and a message has room for many. Honest nodes send the rest again.
            if let Err(RejectReason::Malformed(_) | RejectReason::DeltaMismatch { .. }) = this {
                break;
            }
        }
        taken
    }

    fn count_malformed(&mut self, error: DecodeError) -> RejectReason {
        let malformed = RejectReason::Malformed(error);
        self.rejects.count(&malformed);
        malformed
    }

    fn take_or_count(&mut self, from: NodeId, message: &[u8]) -> Result<(), RejectReason> {
        let taken = self.take_message(from, message);
        if let Err(reason) = &taken {
            self.rejects.count(reason);
        }
        taken
    }

    fn take_message(&mut self, from: NodeId, message: &[u8]) -> Result<(), RejectReason> {
        let share = share(self.neighbours.len());
        let Some(neighbour) = self.neighbours.get_mut(&from) else {
            return Err(RejectReason::NotNeighbour { from });
        };
        // Most of what comes where links meet is a copy of what is known: seen without decoding it.
        if let Some((left, origin, encoding)) = Message::lsa_encoding(message)
            && let Some(version) = self.lsdb.version_with(origin, encoding)
        {
            self.handle_copy(from, origin, version, left);
            return Ok(());
        }
        let message = Message::decode(message).map_err(|error| match error {
            MessageError::UnknownKind(kind) => RejectReason::UnknownKind(kind),
            MessageError::Decode(error) => RejectReason::Malformed(error),
        })?;
        match message {
            Message::Lsa { lifetime, lsa, version, encoding } => {
                return self.handle_lsa(from, lifetime, *lsa, version, encoding);
            }
            Message::Delta { lifetime, delta } => {
                return self.handle_delta(from, lifetime, &delta);
            }
            Message::Ack(entries) => {
                for (origin, version) in entries {
                    if self.lsdb.version(origin).is_some_and(|have| version >= have) {
                        neighbour.settled(origin);
                    }
                }
            }
            Message::Digest(digest) => {
                neighbour.handle_digest(self.now, digest, self.lsdb.digest());
            }
            Message::Summary { first, last, entries } => {
                if !neighbour.summaries.take(self.now, (first, last), entries.len()) {
                    return Err(RejectReason::TooManySummaries { from });
                }
                compare(&self.lsdb, neighbour, self.now, (first, last), &entries);
                neighbour.handle_compared(first, last);
            }
            Message::Request(origins) => {
                for origin in origins {
                    if self.lsdb.get(origin).is_some() {
                        neighbour.send_if_idle(origin);
                    }
                }
            }
            Message::CertificateRequest(hashes) => {
                for hash in hashes {
                    neighbour.certificates.handle_request(hash);
                }
            }
            Message::Certificate { hash, der } => {
                // One that it was not asked for, or that another has sent meanwhile, is not looked at.
                if self.candidates.awaits(hash, from) {
                    neighbour.certificates.receive(hash, der, share);
                }
            }
        }
        Ok(())
    }

    /// The neighbour has sent what is known, with so much time left. Where that is much more than is
    /// known, what is known lasts longer, and the others hear of it; where it is much less, the
    /// neighbour hears of it.
    fn handle_copy(&mut self, from: NodeId, origin: NodeId, version: LsaVersion, left: Duration) {
        if let Some(neighbour) = self.neighbours.get_mut(&from) {
            neighbour.handle_same(origin, version);
            if self.lsdb.outlasts(self.now, origin, left) {
                neighbour.send_if_idle(origin);
            }
        }
        if self.lsdb.extend(self.now, origin, left) {
            for (_, other) in self.neighbours.iter_mut().filter(|(node, _)| **node != from) {
                other.send(origin);
            }
        }
    }

    fn handle_delta(
        &mut self,
        from: NodeId,
        lifetime: Duration,
        delta: &LsaDelta,
    ) -> Result<(), RejectReason> {
        let (origin, version) = (delta.origin, delta.version);
        let Some(neighbour) = self.neighbours.get_mut(&from) else {
            return Err(RejectReason::NotNeighbour { from });
        };
        let known = self.lsdb.version(origin);
        if known == Some(version) {
            self.handle_copy(from, origin, version, lifetime);
            return Ok(());
        }
        if self.lsdb.is_over(self.now, origin, version) {
            neighbour.acknowledge(origin, version);
            self.rejects.count(&RejectReason::Stale { origin });
            return Ok(());
        }
        if known.is_some_and(|known| known > version) {
            neighbour.send_if_idle(origin);
            self.rejects.count(&RejectReason::Stale { origin });
            return Ok(());
        }
        let Some(base) = self.lsdb.get(origin).filter(|_| known == Some(delta.base)) else {
            neighbour.want(origin, version);
            return Ok(());
        };
        let lsa = delta.apply(base);
        let mut encoding = Vec::new();
        lsa.encode(&mut encoding);
        if lsa.version_of(&encoding) != version {
            neighbour.want(origin, version);
            return Err(RejectReason::DeltaMismatch { origin });
        }
        self.handle_lsa(from, lifetime, lsa, version, encoding.into())
    }

    fn handle_lsa(
        &mut self,
        from: NodeId,
        lifetime: Duration,
        lsa: Lsa,
        version: LsaVersion,
        encoding: Bytes,
    ) -> Result<(), RejectReason> {
        let (origin, now) = (lsa.origin, self.now);
        let Some(neighbour) = self.neighbours.get_mut(&from) else {
            return Err(RejectReason::NotNeighbour { from });
        };
        match self.lsdb.judge(origin, version, encoding.len()) {
            Inserted::Same => {
                self.handle_copy(from, origin, version, lifetime);
                return Ok(());
            }
            Inserted::Older => {
                neighbour.send_if_idle(origin);
                self.rejects.count(&RejectReason::Stale { origin });
                return Ok(());
            }
            Inserted::Full if origin != self.node => {
                neighbour.acknowledge(origin, version);
                return Err(RejectReason::Full { origin });
            }
            Inserted::Full | Inserted::Newest => {}
        }
        let life = self.lsdb.life_of(now, origin, version, lifetime);
        if self.lsdb.is_over(now, origin, version) {
            neighbour.acknowledge(origin, version);
            self.rejects.count(&RejectReason::Stale { origin });
            return Ok(());
        }
        if !version.is_plausible() {
            return Err(RejectReason::FarFuture { origin });
        }
        if lifetime.is_zero() {
            neighbour.acknowledge(origin, version);
            return Err(RejectReason::Expired { origin });
        }
        if neighbour.is_distrusted(now) {
            return Err(RejectReason::TooManyForged { from });
        }
        if self.says_too_much(origin) {
            return Err(RejectReason::RateLimited { origin });
        }
        let senders = vec![Sender { node: from, since: now, left: lifetime }];
        let candidate = Candidate { lsa, version, encoding, life, senders };
        if !self.candidates.add(candidate, share(self.neighbours.len())) {
            return Err(RejectReason::Busy { origin });
        }
        Ok(())
    }

    /// The next advertisement that the driver must look at: it would be stored, or is newer than
    /// this node's own. The same one until [`Flooding::handle_judgement`].
    ///
    /// [`Judgement::Accept`] says that its public key hashes to its origin's id, that its signature
    /// over [`Lsa::signed_bytes`] holds under that key, and that the certificate which it names is
    /// that key's, made by the mesh's authority, and of a node that was not evicted. Whether the
    /// certificate is known is to be asked first, so that no signature is checked twice: it is
    /// asked of the senders alone, so that forged ones are a burden to nobody else.
    pub fn poll_check(&mut self) -> Option<&Lsa> {
        while self.checking.is_none() {
            let candidate = self.candidates.take_next()?;
            if let Some(from) = self.distrusted_sender(&candidate) {
                self.rejects.count(&RejectReason::TooManyForged { from });
                continue;
            }
            let (origin, len) = (candidate.lsa.origin, candidate.encoding.len());
            match self.lsdb.judge(origin, candidate.version, len) {
                // What came while it waited is as new.
                Inserted::Same => {
                    for sender in &candidate.senders {
                        let left = sender.left_at(self.now);
                        self.handle_copy(sender.node, origin, candidate.version, left);
                    }
                }
                Inserted::Older => {
                    for neighbour in senders(&mut self.neighbours, &candidate) {
                        neighbour.send_if_idle(origin);
                    }
                }
                Inserted::Full if origin != self.node => self.settle(&candidate),
                // It, or a newer one, was believed and has aged out while this one waited.
                Inserted::Full | Inserted::Newest
                    if self.lsdb.is_over(self.now, origin, candidate.version) =>
                {
                    self.rejects.count(&RejectReason::Stale { origin });
                    self.settle(&candidate);
                }
                Inserted::Full | Inserted::Newest if self.says_too_much(origin) => {
                    self.rejects.count(&RejectReason::RateLimited { origin });
                }
                Inserted::Full | Inserted::Newest => self.checking = Some(candidate),
            }
        }
        self.checking.as_ref().map(|candidate| &candidate.lsa)
    }

    /// The neighbour that has sent what [`Flooding::poll_check`] handed out; the first, if others
    /// have sent it, too.
    #[must_use]
    pub fn checked_from(&self) -> Option<NodeId> {
        self.checking.as_ref()?.senders.first().map(|sender| sender.node)
    }

    /// What the driver found about the advertisement that [`Flooding::poll_check`] handed out. True
    /// if the database changed.
    ///
    /// # Errors
    /// [`RejectReason`]; the database did not change.
    pub fn handle_judgement(
        &mut self,
        now: MonoTime,
        judgement: Judgement,
    ) -> Result<bool, RejectReason> {
        self.now = now;
        let Some(candidate) = self.checking.take() else { return Ok(false) };
        let origin = candidate.lsa.origin;
        let rejected = match judgement {
            Judgement::Accept => return Ok(self.accept(candidate)),
            Judgement::NeedsCertificate => {
                let hash = candidate.lsa.certificate;
                for neighbour in senders(&mut self.neighbours, &candidate) {
                    neighbour.certificates.want(hash);
                }
                self.candidates.park(now, candidate);
                return Ok(false);
            }
            Judgement::Forged => {
                for neighbour in senders(&mut self.neighbours, &candidate) {
                    neighbour.handle_fault(now);
                }
                RejectReason::Forged { origin }
            }
            Judgement::Refuse(refusal) => {
                self.settle(&candidate);
                RejectReason::Refused { origin, refusal }
            }
        };
        self.rejects.count(&rejected);
        Err(rejected)
    }

    /// What the driver found about the certificate that came from `from`: what awaited it goes on,
    /// or is refused.
    ///
    /// # Errors
    /// [`RejectReason`] for the last advertisement that was refused, or for the neighbour.
    pub fn handle_certificate(
        &mut self,
        now: MonoTime,
        from: NodeId,
        hash: CertificateHash,
        found: Result<(), CertificateFault>,
    ) -> Result<(), RejectReason> {
        self.now = now;
        let mut rejected = None;
        match found {
            Ok(()) => {
                if let Some(neighbour) = self.neighbours.get_mut(&from) {
                    neighbour.certificates.handle_delivered(now);
                }
                self.candidates.release(hash);
            }
            Err(CertificateFault::OtherHash) => {
                if let Some(neighbour) = self.neighbours.get_mut(&from) {
                    neighbour.handle_fault(now);
                }
                let reason = RejectReason::WrongCertificate { from };
                self.rejects.count(&reason);
                rejected = Some(reason);
            }
            Err(CertificateFault::NotOfThisMesh) => {
                for candidate in self.candidates.take_awaiting(hash) {
                    self.settle(&candidate);
                    let (origin, refusal) = (candidate.lsa.origin, Refusal::CertificateInvalid);
                    let reason = RejectReason::Refused { origin, refusal };
                    self.rejects.count(&reason);
                    rejected = Some(reason);
                }
            }
        }
        rejected.map_or(Ok(()), Err)
    }

    /// Whether so much of `origin` was believed of late that nothing new of it is looked at now.
    pub(crate) fn says_too_much(&self, origin: NodeId) -> bool {
        self.limits.get(&origin).is_some_and(|limit| !limit.has_token(self.now))
    }

    /// One of those that have sent the candidate, if nothing of any of them is looked at now.
    pub(crate) fn distrusted_sender(&self, candidate: &Candidate) -> Option<NodeId> {
        let trusted = |sender: &&Sender| {
            let neighbour = self.neighbours.get(&sender.node);
            neighbour.is_none_or(|neighbour| !neighbour.is_distrusted(self.now))
        };
        match candidate.senders.iter().find(trusted) {
            Some(_) => None,
            None => candidate.senders.first().map(|sender| sender.node),
        }
    }

    /// What was given up, as its certificate did not come. Who has withheld it is at fault.
    pub(crate) fn handle_missing(&mut self, candidate: &Candidate) {
        let origin = candidate.lsa.origin;
        self.rejects.count(&RejectReason::CertificateMissing { origin });
        for sender in &candidate.senders {
            if let Some(neighbour) = self.neighbours.get_mut(&sender.node)
                && neighbour.withholds(self.now, sender.since)
            {
                neighbour.handle_fault(self.now);
                self.withheld.insert(sender.node, origin);
            }
        }
    }

    /// Nothing of this is to be sent again.
    fn settle(&mut self, candidate: &Candidate) {
        let origin = candidate.lsa.origin;
        for neighbour in senders(&mut self.neighbours, candidate) {
            neighbour.settled(origin);
            neighbour.acknowledge(origin, candidate.version);
        }
    }

    fn accept(&mut self, candidate: Candidate) -> bool {
        let origin = candidate.lsa.origin;
        // There is one: `poll_check` has looked, and nothing else of its origin was believed since.
        self.limits.entry(origin).or_insert(ORIGIN_LIMIT).take(self.now);
        self.settle(&candidate);
        if origin == self.node {
            // What this node has said itself, before it cleared its database, overtakes nothing.
            if Some(candidate.version) <= self.own_version {
                return false;
            }
            // An earlier life's word about this node is not stored: it is overtaken.
            self.own_version = self.own_version.max(Some(candidate.version));
            self.superseded = true;
            self.overtaken = self.overtaken.saturating_add(1);
            self.rejects.count(&RejectReason::Overtaken { origin });
            return false;
        }
        let Candidate { lsa, version, encoding, life, senders } = candidate;
        self.lsdb.store(lsa, version, encoding, life);
        let digest = self.lsdb.digest();
        for (node, other) in &mut self.neighbours {
            other.handle_changed(digest);
            match senders.iter().find(|sender| sender.node == *node) {
                // It has it, if not for as long.
                Some(sender) if !life.outlasts(self.now, sender.left_at(self.now)) => {}
                // Two databases that are compared tell each other what they have.
                None if other.has(origin, version) => other.settled(origin),
                _ => other.send(origin),
            }
        }
        true
    }
}

/// The neighbours that have sent a candidate and are still there.
fn senders<'a>(
    neighbours: &'a mut BTreeMap<NodeId, Neighbour>,
    candidate: &'a Candidate,
) -> impl Iterator<Item = &'a mut Neighbour> {
    let senders = neighbours.iter_mut().filter(|(node, _)| candidate.is_from(**node));
    senders.map(|(_, neighbour)| neighbour)
}

/// Finds out of a neighbour's summary what either side lacks.
fn compare(
    lsdb: &Lsdb,
    neighbour: &mut Neighbour,
    now: MonoTime,
    (first, last): (NodeId, NodeId),
    theirs: &[(NodeId, LsaVersion)],
) {
    let theirs: BTreeMap<NodeId, LsaVersion> = theirs.iter().copied().collect();
    for (origin, ours) in lsdb.versions(first..=last) {
        match theirs.get(&origin) {
            Some(version) if *version > ours => neighbour.want(origin, *version),
            Some(version) if *version == ours => neighbour.settled(origin),
            _ => neighbour.send_if_idle(origin),
        }
    }
    // What has aged out here will do so there, or is replayed.
    let lacks = |(origin, version): &(NodeId, LsaVersion)| {
        lsdb.get(*origin).is_none() && !lsdb.is_over(now, *origin, *version)
    };
    for (origin, version) in theirs.into_iter().filter(lacks) {
        neighbour.want(origin, version);
    }
}
