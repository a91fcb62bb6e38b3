use hawser_wire::{DecodeError, Incarnation, NodeId};
use thiserror::Error;

/// Why a message was not taken. Nothing changed but a counter, unless said otherwise.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum RejectReason {
    /// It says that it is from this node: an echo, or a second node with this id.
    #[error("membership message from this node itself")]
    FromSelf,
    /// Its sender, or whom it asks about, is not admitted, or not any more.
    #[error("membership message from or about {node}, which is no member")]
    NotMember {
        /// Who.
        node: NodeId,
    },
    /// The bytes are no message.
    #[error("membership message: {0}")]
    Malformed(#[from] DecodeError),
    /// An earlier life of its sender wrote it.
    #[error("membership message of {from} in life {incarnation}, known is {known}")]
    EarlierLife {
        /// The sender.
        from: NodeId,
        /// Of the message.
        incarnation: Incarnation,
        /// What is known.
        known: Incarnation,
    },
    /// Its sender claims a version that no node reaches.
    #[error("membership message of {from} from too far in the future")]
    FarAhead {
        /// The sender.
        from: NodeId,
    },
    /// It answers nothing that was asked, or so again. Its claims were taken.
    #[error("{from} answers what is not asked")]
    Unasked {
        /// The sender.
        from: NodeId,
    },
    /// It asks for more than this node does in a time. Its claims were taken.
    #[error("{from} asks for too much")]
    TooMuch {
        /// The sender.
        from: NodeId,
    },
}

/// What was not taken so far, by reason. Messages first, then single claims of messages that were.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Rejected {
    /// [`RejectReason::FromSelf`].
    pub from_self: u64,
    /// [`RejectReason::NotMember`].
    pub not_member: u64,
    /// [`RejectReason::Malformed`].
    pub malformed: u64,
    /// [`RejectReason::EarlierLife`].
    pub earlier_life: u64,
    /// [`RejectReason::FarAhead`].
    pub far_ahead: u64,
    /// [`RejectReason::Unasked`].
    pub unasked: u64,
    /// [`RejectReason::TooMuch`].
    pub too_much: u64,
    /// Claims about nodes that are not admitted.
    pub claims_of_strangers: u64,
    /// Suspicions of which no suspecter is a member other than the suspect.
    pub claims_by_strangers: u64,
    /// Claims with a version that no node reaches.
    pub claims_far_ahead: u64,
    /// Rounds of probes that came sooner than time allows: this node did not follow them and drew whom
    /// it probes. When parts of a mesh come together, and now and then on hosts that are late by a part of
    /// an interval; many times a minute, a member lies.
    pub rounds_ahead: u64,
    /// Claims that something newer is known about: ordinary, they come late or again.
    pub claims_old: u64,
    /// Answers that came when another had come, or when they were given up: ordinary on a slow way.
    pub answers_late: u64,
    /// Messages for which there was no room, as the driver did not take earlier ones.
    pub not_sent: u64,
}

impl Rejected {
    pub(crate) const fn count(&mut self, reason: &RejectReason) {
        let counter = match reason {
            RejectReason::FromSelf => &mut self.from_self,
            RejectReason::NotMember { .. } => &mut self.not_member,
            RejectReason::Malformed(_) => &mut self.malformed,
            RejectReason::EarlierLife { .. } => &mut self.earlier_life,
            RejectReason::FarAhead { .. } => &mut self.far_ahead,
            RejectReason::Unasked { .. } => &mut self.unasked,
            RejectReason::TooMuch { .. } => &mut self.too_much,
        };
        *counter = counter.saturating_add(1);
    }

    /// What an operator may want to know of: each reason as one word in kebab case, and how often it
    /// was. Without those that never were, and without claims and answers that merely came late.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + use<> {
        let counts = [
            ("from-self", self.from_self),
            ("not-member", self.not_member),
            ("malformed", self.malformed),
            ("earlier-life", self.earlier_life),
            ("far-ahead", self.far_ahead),
            ("unasked", self.unasked),
            ("too-much", self.too_much),
            ("claims-of-strangers", self.claims_of_strangers),
            ("claims-by-strangers", self.claims_by_strangers),
            ("claims-far-ahead", self.claims_far_ahead),
            ("rounds-ahead", self.rounds_ahead),
            ("not-sent", self.not_sent),
        ];
        counts.into_iter().filter(|(_, count)| *count > 0)
    }

    /// Messages that were not taken, whatever the reason.
    #[must_use]
    pub fn messages(&self) -> u64 {
        [
            self.from_self,
            self.not_member,
            self.malformed,
            self.earlier_life,
            self.far_ahead,
            self.unasked,
            self.too_much,
        ]
        .into_iter()
        .fold(0, u64::saturating_add)
    }
}
