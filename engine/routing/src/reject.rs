//! Why link state of a neighbour is not taken, and how often that was.

use std::collections::BTreeMap;

use hawser_wire::{DecodeError, NodeId};
use thiserror::Error;

use crate::{CertificateHash, ORIGINS_MAX};

/// What the driver says of an advertisement that it has looked at.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Judgement {
    /// It is its origin's own word, and the origin is a member.
    Accept,
    /// Origin, key and signature do not agree.
    Forged,
    /// The certificate that it names is not known here.
    NeedsCertificate,
    /// It is its origin's word, and is not taken.
    Refuse(Refusal),
}

/// What is wrong with an origin, or with what it says of itself.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum Refusal {
    /// The mesh has evicted it.
    #[error("the origin was evicted")]
    Evicted,
    /// The certificate has ended.
    #[error("its certificate has expired")]
    CertificateExpired,
    /// The certificate is another node's.
    #[error("its certificate is another node's")]
    CertificateOfOther,
    /// The authority of the mesh has not made the certificate.
    #[error("its certificate is not one of this mesh")]
    CertificateInvalid,
    /// It calls itself otherwise than its certificate does.
    #[error("its name is not its certificate's")]
    NameOfOther,
    /// Nobody can dial what it says.
    #[error("its address is none")]
    AddressInvalid,
    /// It steers what is not its own, or along what is no path.
    #[error("its operator routes are not for its own traffic, or are no paths")]
    RouteInvalid,
}

/// What is wrong with a certificate that a neighbour has sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CertificateFault {
    /// It is not the one that was asked for: the neighbour's doing.
    OtherHash,
    /// The authority of the mesh has not made it: the doing of the origins that name it.
    NotOfThisMesh,
}

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
    /// The bytes are no message, or one that exceeds its bounds.
    #[error("flooding message: {0}")]
    Malformed(#[from] DecodeError),
    /// The advertisement is not its origin's own word.
    #[error("link-state advertisement of {origin}: origin, key and signature do not agree")]
    Forged {
        /// Whom it claims to be from.
        origin: NodeId,
    },
    /// The neighbour has sent so many forged ones, or without the certificate, that nothing of it is
    /// looked at for a while.
    #[error("too many forged link-state advertisements from {from}")]
    TooManyForged {
        /// The sender.
        from: NodeId,
    },
    /// The neighbour has said so often what its database has that it is not compared with this node's
    /// for a while.
    #[error("too many summaries of {from}'s link state")]
    TooManySummaries {
        /// The sender.
        from: NodeId,
    },
    /// The origin, or what it says of itself, is refused. Acknowledged nevertheless, so that it is
    /// offered again with the next digest and not every second.
    #[error("link-state advertisement of {origin}: {refusal}")]
    Refused {
        /// Whom it is from.
        origin: NodeId,
        /// What is wrong with it.
        refusal: Refusal,
    },
    /// Incarnation or sequence is beyond what any node can have counted up to.
    #[error("link-state advertisement of {origin}: its version is too far ahead")]
    FarFuture {
        /// Whom it claims to be from.
        origin: NodeId,
    },
    /// Its time is over. Acknowledged nevertheless.
    #[error("link-state advertisement of {origin}: its lifetime has ended")]
    Expired {
        /// Whom it is from.
        origin: NodeId,
    },
    /// The origin advertises itself too often; its neighbours will repeat the newest.
    #[error("link-state advertisement of {origin}: too many of them")]
    RateLimited {
        /// Whom it claims to be from.
        origin: NodeId,
    },
    /// As many advertisements of the neighbour wait to be looked at as may wait; it will be repeated.
    #[error("link-state advertisement of {origin}: too many wait to be checked")]
    Busy {
        /// Whom it claims to be from.
        origin: NodeId,
    },
    /// The delta does not give what it says. The whole is asked for.
    #[error("link-state delta of {origin} does not fit")]
    DeltaMismatch {
        /// Whom it claims to be from.
        origin: NodeId,
    },
    /// The neighbour sent another certificate than the one that it was asked for.
    #[error("{from} sent a certificate that is not the one asked for")]
    WrongCertificate {
        /// The sender.
        from: NodeId,
    },
    /// None of the neighbours that sent the advertisement has sent the certificate that it names. Who
    /// was asked all the time and has sent no certificate meanwhile is at fault: whoever believes an
    /// advertisement has its certificate. It may come again.
    #[error("link-state advertisement of {origin}: its certificate does not come")]
    CertificateMissing {
        /// Whom it claims to be from.
        origin: NodeId,
    },
    /// This node's database is full. Acknowledged nevertheless, so that it is offered again with
    /// the next digest and not every second.
    #[error("no room for the link-state advertisement of {origin}: at most {ORIGINS_MAX} origins")]
    Full {
        /// Whom it is from.
        origin: NodeId,
    },
    /// Another life's word about this node, newer than its own: not stored. Counted, never an error.
    #[error("link-state advertisement of {origin} by another life of it")]
    Overtaken {
        /// This node.
        origin: NodeId,
    },
    /// An older one than what is known, replayed or overtaken on the way: the newer one is sent back.
    /// Or one that has aged out, or is older than that: acknowledged. Counted, never an error.
    #[error("link-state advertisement of {origin} is older than what is or was known")]
    Stale {
        /// Whom it is from.
        origin: NodeId,
    },
}

impl RejectReason {
    /// The reason as one word in kebab case: what it is counted under.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::NotNeighbour { .. } => "not-neighbour",
            Self::UnknownKind(_) => "unknown-kind",
            Self::Malformed(_) => "malformed",
            Self::Forged { .. } => "forged",
            Self::TooManyForged { .. } => "too-many-forged",
            Self::TooManySummaries { .. } => "too-many-summaries",
            Self::Refused { refusal, .. } => match refusal {
                Refusal::Evicted => "evicted",
                Refusal::CertificateExpired => "certificate-expired",
                Refusal::CertificateOfOther => "certificate-of-other",
                Refusal::CertificateInvalid => "certificate-invalid",
                Refusal::NameOfOther => "name-of-other",
                Refusal::AddressInvalid => "address-invalid",
                Refusal::RouteInvalid => "route-invalid",
            },
            Self::FarFuture { .. } => "far-future",
            Self::Expired { .. } => "expired",
            Self::RateLimited { .. } => "rate-limited",
            Self::Busy { .. } => "busy",
            Self::DeltaMismatch { .. } => "delta-mismatch",
            Self::WrongCertificate { .. } => "wrong-certificate",
            Self::CertificateMissing { .. } => "certificate-missing",
            Self::Full { .. } => "full",
            Self::Overtaken { .. } => "overtaken",
            Self::Stale { .. } => "stale",
        }
    }
}

/// How often link state was rejected, by reason.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rejects(BTreeMap<&'static str, u64>);

impl Rejects {
    pub(crate) fn count(&mut self, reason: &RejectReason) {
        let count = self.0.entry(reason.name()).or_default();
        *count = count.saturating_add(1);
    }

    /// In the order of the names.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        self.0.iter().map(|(name, count)| (*name, *count))
    }
}

/// A certificate that a neighbour sent, as asked: check it, keep it if it is good, and answer with
/// [`Flooding::handle_certificate`](crate::Flooding::handle_certificate).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ReceivedCertificate {
    /// Who sent it.
    pub from: NodeId,
    /// What was asked for.
    pub hash: CertificateHash,
    /// What came (DER).
    pub der: bytes::Bytes,
}
