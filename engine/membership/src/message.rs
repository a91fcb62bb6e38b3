//! What members say to each other: who is there, who answers, what is claimed.

use hawser_wire::{ByteReader, DecodeError, NodeId};

use crate::claim::{put_version, version};
use crate::{Claim, Version};

/// Most claims of one message.
pub const CLAIMS_MAX: usize = 512;

/// Longest message, in bytes.
pub const MEMBERSHIP_MESSAGE_BYTES_MAX: usize = PREFIX_BYTES_MAX + CLAIMS_MAX * Claim::LEN_MAX;

/// Kind, version of the sender, round, sequence, target, number of claims.
const PREFIX_BYTES_MAX: usize = 1 + 16 + 4 + 4 + NodeId::LEN + 2;

const _: () = assert!(MEMBERSHIP_MESSAGE_BYTES_MAX < hawser_wire::DATAGRAM_BYTES_MAX);

const KIND_PING: u8 = 1;
const KIND_ACK: u8 = 2;
const KIND_PING_REQUEST: u8 = 3;
const KIND_NACK: u8 = 4;
const KIND_GOSSIP: u8 = 5;
const KIND_SYNC_REQUEST: u8 = 6;
const KIND_SYNC: u8 = 7;

/// What a message is for, beside its claims.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum MessageBody {
    /// Wants an ack with this sequence. 0: the sender does not wait for it.
    Ping {
        /// Of the sender.
        sequence: u32,
    },
    /// The receiver's ping was answered, by the sender or by whom it was to ping.
    Ack {
        /// Of the ping, or of the request.
        sequence: u32,
    },
    /// The receiver is to ping `target` and pass its ack on.
    PingRequest {
        /// Of the sender.
        sequence: u32,
        /// Whom to ping.
        target: NodeId,
    },
    /// The sender was asked to ping somebody and has no ack yet: it is not the sender that is away
    /// (Lifeguard §IV-A).
    Nack {
        /// Of the request.
        sequence: u32,
    },
    /// Claims alone.
    Gossip,
    /// All that the sender claims, or the last part of it, and the receiver is to say the same.
    SyncRequest,
    /// All that the sender claims, or a part of it.
    Sync,
}

/// One message.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Message {
    /// The sender as it is alive now.
    pub sender: Version,
    /// The sender's round of probes, which all members share; see [`crate::Membership`].
    pub round: u32,
    /// What it is for.
    pub body: MessageBody,
    /// News, in no order.
    pub claims: Vec<Claim>,
}

impl Message {
    /// The message's bytes. Claims beyond [`CLAIMS_MAX`] are left out.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let claims = self.claims.get(..CLAIMS_MAX).unwrap_or(&self.claims);
        let len =
            claims.iter().map(Claim::encoded_len).fold(PREFIX_BYTES_MAX, usize::saturating_add);
        let mut out = Vec::with_capacity(len);
        let (kind, sequence) = match self.body {
            MessageBody::Ping { sequence } => (KIND_PING, Some(sequence)),
            MessageBody::Ack { sequence } => (KIND_ACK, Some(sequence)),
            MessageBody::PingRequest { sequence, .. } => (KIND_PING_REQUEST, Some(sequence)),
            MessageBody::Nack { sequence } => (KIND_NACK, Some(sequence)),
            MessageBody::Gossip => (KIND_GOSSIP, None),
            MessageBody::SyncRequest => (KIND_SYNC_REQUEST, None),
            MessageBody::Sync => (KIND_SYNC, None),
        };
        out.push(kind);
        put_version(&mut out, self.sender);
        out.extend_from_slice(&self.round.to_le_bytes());
        if let Some(sequence) = sequence {
            out.extend_from_slice(&sequence.to_le_bytes());
        }
        if let MessageBody::PingRequest { target, .. } = self.body {
            out.extend_from_slice(target.as_bytes());
        }
        out.extend_from_slice(&u16::try_from(claims.len()).unwrap_or(0).to_le_bytes());
        for claim in claims {
            claim.encode(&mut out);
        }
        out
    }

    /// Reads a message; it has one encoding.
    ///
    /// # Errors
    /// [`DecodeError`] if it is cut off, too long, of unknown kind, or a field is out of its bounds.
    pub fn decode(input: &[u8]) -> Result<Self, DecodeError> {
        const WHAT: &str = "membership message";
        if input.len() > MEMBERSHIP_MESSAGE_BYTES_MAX {
            return Err(too_large(WHAT, input.len(), MEMBERSHIP_MESSAGE_BYTES_MAX));
        }
        let mut reader = ByteReader::new(input, WHAT);
        let kind = reader.u8()?;
        let sender = version(&mut reader)?;
        let round = reader.u32()?;
        let body = match kind {
            KIND_PING => MessageBody::Ping { sequence: reader.u32()? },
            KIND_ACK => MessageBody::Ack { sequence: reader.u32()? },
            KIND_PING_REQUEST => MessageBody::PingRequest {
                sequence: reader.u32()?,
                target: NodeId::from_bytes(reader.array()?),
            },
            KIND_NACK => MessageBody::Nack { sequence: reader.u32()? },
            KIND_GOSSIP => MessageBody::Gossip,
            KIND_SYNC_REQUEST => MessageBody::SyncRequest,
            KIND_SYNC => MessageBody::Sync,
            kind => {
                let value = kind.into();
                return Err(DecodeError::Invalid { what: "membership message's kind", value });
            }
        };
        let count = usize::from(reader.u16()?);
        if count > CLAIMS_MAX {
            return Err(too_large("membership message's claims", count, CLAIMS_MAX));
        }
        // Memory for what is there, not for what is announced.
        let room = reader.rest().len().checked_div(Claim::LEN_MIN).unwrap_or(0);
        let mut claims = Vec::with_capacity(count.min(room));
        for _ in 0..count {
            claims.push(Claim::decode(&mut reader)?);
        }
        reader.finish()?;
        Ok(Self { sender, round, body, claims })
    }
}

fn too_large(what: &'static str, value: usize, max: usize) -> DecodeError {
    let wide = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
    DecodeError::TooLarge { what, value: wide(value), max: wide(max) }
}
