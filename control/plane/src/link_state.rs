//! What neighbours flood: taken, checked a few at a time, passed on; and the certificates for it.

use bytes::Bytes;
use hawser_exchange::ControlToShard;
use hawser_routing::{ReceivedCertificate, RejectReason};
use hawser_store::MeshRecord;
use hawser_wire::{MonoTime, NodeId};

use crate::EventKind;
use crate::certificates::certificate_hash;
use crate::control::{Control, unix_s};
use crate::datagram::{LinkMessage, flooding_envelope};
use crate::verified::{BATCH_MIN, Verified};

/// What is done in one turn of the loop: about two milliseconds of signatures. The loop serves others
/// before it goes on. None of the three takes the time of another, and of each the neighbours take turns.
const PER_TURN: ChecksLeft = ChecksLeft { advertisements: 16, certificates: 8, requests: 64 };
/// Flooding waits while more messages than this wait for room in the rings.
const WAITING_MAX: usize = 1024;
/// Another's word about this node is newer than its own once or twice after a start with an old disk;
/// each time that it has been so many times more is told.
const OVERTAKEN_EVERY: u64 = 3;

/// What may be done in this turn of the loop yet.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ChecksLeft {
    /// Advertisements to check.
    advertisements: usize,
    /// Certificates to check.
    certificates: usize,
    /// Certificates to look for that neighbours ask for.
    requests: usize,
}

impl ChecksLeft {
    /// There may be more of something than was done.
    const fn is_any_used_up(self) -> bool {
        self.advertisements == 0 || self.certificates == 0 || self.requests == 0
    }
}

impl Control {
    /// A neighbour's control plane says something.
    pub(crate) fn handle_link_control(&mut self, from: NodeId, body: &[u8]) {
        // It was on its way when the mesh evicted the neighbour.
        if self.evictions.contains(from) {
            return;
        }
        match LinkMessage::decode(body) {
            // It was on its way when the link went down, or this node left its mesh.
            Ok(Some(LinkMessage::Flooding(_))) if !self.links.is_link_up(from) => {
                tracing::debug!(%from, "link state behind the end of the link");
            }
            Ok(Some(LinkMessage::Flooding(message))) => {
                let now = self.now();
                if let Err(reason) = self.flooding.handle_message(now, from, message) {
                    self.handle_rejected(from, reason);
                }
                self.check_link_state();
            }
            Ok(Some(LinkMessage::DialBack(request))) => {
                self.handle_dial_back((from, from), &request);
            }
            Ok(Some(LinkMessage::Eviction(eviction))) => self.handle_eviction(from, eviction),
            Ok(Some(LinkMessage::EvictionDigest(digest))) => {
                self.handle_eviction_digest(from, digest);
            }
            Ok(None) => tracing::debug!(%from, "link message of unknown kind"),
            Err(error) => {
                self.tell_refused(from, format!("link message: {error}"));
            }
        }
    }

    /// Times, checks and messages that are due.
    pub(crate) fn advance_flooding(&mut self) {
        let now = self.now();
        if self.flooding.poll_timeout().is_some_and(|due| due <= now) {
            self.lsdb_changed |= self.flooding.handle_timeout(now);
            while let Some((from, reason)) = self.flooding.poll_withheld() {
                self.tell_refused(from, reason.to_string());
            }
        }
        self.checks_left = PER_TURN;
        if self.checks_wait {
            self.check_link_state();
        }
        while self.shards.waiting() < WAITING_MAX {
            let Some((peer, message)) = self.flooding.poll_transmit() else { break };
            let body = flooding_envelope(&message).into();
            self.shards.send_to_link(peer, ControlToShard::LinkControl { peer, body });
        }
    }

    /// When flooding has something to do; while the rings are full their room decides.
    pub(crate) fn flooding_timeout(&self) -> Option<MonoTime> {
        if self.checks_wait {
            return Some(MonoTime::ZERO);
        }
        self.flooding.poll_timeout().filter(|_| self.shards.waiting() < WAITING_MAX)
    }

    /// Checks what waits to be checked, as far as this turn goes.
    fn check_link_state(&mut self) {
        let (now, now_unix_s) = (self.now(), unix_s());
        self.answer_certificates();
        let verified = self.verify_together();
        let mut rejected = Vec::new();
        while self.checks_left.advertisements > 0 && self.flooding.poll_check().is_some() {
            self.checks_left.advertisements -= 1;
            let sender = self.flooding.checked_from();
            let Some(lsa) = self.flooding.poll_check() else { break };
            let evicted = self.evictions.contains(lsa.origin);
            let judgement = self.certificates.judge(lsa, self.node, evicted, now_unix_s, &verified);
            match self.flooding.handle_judgement(now, judgement) {
                Ok(changed) => self.lsdb_changed |= changed,
                Err(reason) => rejected.extend(sender.map(|sender| (sender, reason))),
            }
        }
        // There may be more: the next turn comes at once.
        self.checks_wait = self.checks_left.is_any_used_up();
        for (sender, reason) in rejected {
            self.handle_rejected(sender, reason);
        }
        if self.flooding.must_originate() {
            self.adjacencies.handle_overtaken(now);
            let overtaken = self.flooding.overtaken();
            if overtaken >= self.overtaken_told.saturating_add(OVERTAKEN_EVERY) {
                self.overtaken_told = overtaken;
                let detail = "another node speaks with this node's key: was its disk copied?";
                tracing::error!(overtaken, "{detail} Stop one of the two");
                self.events.emit(EventKind::Refused, Some(self.node), detail.to_owned());
            }
        }
    }

    /// Verifies the signatures of what is checked in this turn, as far as they have to be. What is
    /// judged without its signature is not among them: nobody is found out by a forged one then.
    fn verify_together(&self) -> Verified {
        if self.checks_left.advertisements < BATCH_MIN {
            return Verified::default();
        }
        let mut upcoming = self.flooding.upcoming_checks(self.checks_left.advertisements);
        upcoming.retain(|lsa| {
            let evicted = self.evictions.contains(lsa.origin);
            self.certificates.judge_unverified(lsa, self.node, evicted).is_none()
        });
        Verified::together(&upcoming)
    }

    /// This node's own certificate is one that neighbours ask for.
    pub(crate) fn know_own_certificate(&mut self, record: &MeshRecord) {
        let der = Bytes::copy_from_slice(&record.certificate);
        let hash = certificate_hash(&der);
        let lsdb = self.flooding.lsdb();
        if self.certificates.insert(hash, &der, &record.authority, lsdb).is_err() {
            tracing::error!("this node's certificate is not one of its mesh");
        }
    }

    fn answer_certificates(&mut self) {
        let now = self.now();
        while self.checks_left.requests > 0 {
            let Some((by, hash)) = self.flooding.poll_certificate_request() else { break };
            self.checks_left.requests -= 1;
            if let Some(der) = self.certificates.der(hash) {
                self.flooding.send_certificate(by, hash, der.clone());
            }
        }
        while self.checks_left.certificates > 0 {
            let Some(ReceivedCertificate { from, hash, der }) = self.flooding.poll_certificate()
            else {
                break;
            };
            self.checks_left.certificates -= 1;
            let Some(mesh) = &self.mesh else { continue };
            let lsdb = self.flooding.lsdb();
            let found = self.certificates.insert(hash, &der, &mesh.record.authority, lsdb);
            if let Err(reason) = self.flooding.handle_certificate(now, from, hash, found) {
                self.handle_rejected(from, reason);
            }
        }
    }

    fn handle_rejected(&mut self, from: NodeId, reason: RejectReason) {
        match reason {
            // Counted by the machine, and nobody's fault or too many to tell.
            RejectReason::NotNeighbour { .. }
            | RejectReason::UnknownKind(_)
            | RejectReason::TooManyForged { .. }
            | RejectReason::TooManySummaries { .. }
            | RejectReason::Expired { .. }
            | RejectReason::RateLimited { .. }
            | RejectReason::Busy { .. }
            | RejectReason::DeltaMismatch { .. }
            | RejectReason::CertificateMissing { .. }
            | RejectReason::Overtaken { .. }
            | RejectReason::Stale { .. } => {
                tracing::debug!(%from, %reason, "link state skipped");
            }
            RejectReason::Malformed(_)
            | RejectReason::Forged { .. }
            | RejectReason::Refused { .. }
            | RejectReason::FarFuture { .. }
            | RejectReason::WrongCertificate { .. }
            | RejectReason::Full { .. } => {
                self.tell_refused(from, reason.to_string());
            }
        }
    }
}
