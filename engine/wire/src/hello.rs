use crate::reader::put_name;
use crate::{
    ByteReader, DecodeError, Incarnation, LaneId, LifeNonce, LinkEpoch, MeshId, NodeId,
    TrafficClass, printable,
};

/// The newest version of the lane protocol that this code speaks.
pub const PROTOCOL_VERSION: u16 = 1;
/// The oldest.
pub const PROTOCOL_VERSION_MIN: u16 = 1;

/// Capability bits of [`Hello`]. Both sides use what both have.
pub mod capability {
    /// Routed frames carry strict source routes.
    pub const STRICT_SOURCE_ROUTES: u64 = 1;
    /// Counted frames are acknowledged per lane and sent again when their lane is lost.
    pub const LANE_ACKS: u64 = 1 << 1;
    /// Striped records are put back in order.
    pub const STRIPING: u64 = 1 << 2;
    /// Takes records of class priority, and batches of them in pieces.
    pub const PRIORITY: u64 = 1 << 3;
    /// The sender's [`LifeNonce`](crate::LifeNonce) stands behind its name.
    pub const LIFE_NONCE: u64 = 1 << 4;
    /// Takes several link-state advertisements in one flooding message.
    pub const SEVERAL_ADVERTISEMENTS: u64 = 1 << 5;
}

/// The first frame of a lane in both directions.
///
/// The node id here is what the sender believes; the receiver takes the one of the certificate and
/// closes the lane if they differ.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Hello {
    /// Newest version that the sender speaks.
    pub version_max: u16,
    /// Oldest.
    pub version_min: u16,
    /// See [`capability`].
    pub capabilities: u64,
    /// The mesh.
    pub mesh: MeshId,
    /// The sender.
    pub node: NodeId,
    /// The sender's life.
    pub incarnation: Incarnation,
    /// Counts the dialler's connections for this lane; the acceptor echoes it.
    pub link_epoch: LinkEpoch,
    /// Which lane; the acceptor echoes it.
    pub lane: LaneId,
    /// Its class; the acceptor echoes it.
    pub class: TrafficClass,
    /// Largest frame body that the sender takes, in bytes.
    pub frame_body_max: u32,
    /// The human name that the sender gives itself, unchecked: it may hold any characters. What
    /// counts is the one in its certificate.
    pub name: String,
    /// What tells the sender's life from another one with its incarnation. It is there if
    /// [`capability::LIFE_NONCE`] is set, and only then; nodes of earlier releases have none.
    pub life: Option<LifeNonce>,
}

impl Hello {
    /// Appends the message.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.version_max.to_le_bytes());
        out.extend_from_slice(&self.version_min.to_le_bytes());
        out.extend_from_slice(&self.capabilities.to_le_bytes());
        out.extend_from_slice(self.mesh.as_bytes());
        out.extend_from_slice(self.node.as_bytes());
        out.extend_from_slice(&self.incarnation.0.to_le_bytes());
        out.extend_from_slice(&self.link_epoch.0.to_le_bytes());
        out.extend_from_slice(&self.lane.0.to_le_bytes());
        out.push(self.class.to_wire());
        out.extend_from_slice(&self.frame_body_max.to_le_bytes());
        put_name(out, &self.name);
        if let Some(life) = self.life {
            out.extend_from_slice(&life.0.to_le_bytes());
        }
    }

    /// Bytes behind the last field are left to later versions.
    ///
    /// # Errors
    /// [`DecodeError`] if it is cut off or a field has no meaning.
    pub fn decode(input: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = ByteReader::new(input, "hello");
        let (version_max, version_min) = (reader.u16()?, reader.u16()?);
        let capabilities = reader.u64()?;
        let has_life = capabilities & capability::LIFE_NONCE != 0;
        Ok(Self {
            version_max,
            version_min,
            capabilities,
            mesh: MeshId::from_bytes(reader.array()?),
            node: NodeId::from_bytes(reader.array()?),
            incarnation: Incarnation(reader.u64()?),
            link_epoch: LinkEpoch(reader.u64()?),
            lane: LaneId(reader.u16()?),
            class: TrafficClass::from_wire(reader.u8()?)?,
            frame_body_max: reader.u32()?,
            name: reader.name()?.to_owned(),
            life: if has_life { Some(LifeNonce(reader.u64()?)) } else { None },
        })
    }

    /// The version that both sides speak: the lower of the two newest, if the other side still
    /// speaks it.
    #[must_use]
    pub fn shared_version(&self) -> Option<u16> {
        let version = self.version_max.min(PROTOCOL_VERSION);
        (version >= self.version_min && version >= PROTOCOL_VERSION_MIN).then_some(version)
    }
}

/// Why a lane is closed. Sent to the peer and shown to the operator.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum CloseReason {
    /// The node stops or leaves.
    Shutdown,
    /// Another connection serves this lane.
    Superseded,
    /// No version in common.
    VersionNotShared,
    /// Another mesh.
    WrongMesh,
    /// The certificate is another node's, expired, or not of this mesh.
    IdentityRefused,
    /// The frames could not be read.
    ProtocolViolation,
    /// Nothing was heard for too long.
    Silent,
    /// Too many connections or attempts.
    RateLimited,
    /// The join token is wrong, used or expired.
    TokenRefused,
    /// Two nodes with one name.
    NameTaken,
    /// The peer is this node.
    SelfConnect,
    /// More was sent over a lane than it had granted.
    CreditOverrun,
    /// A grant of credit was taken back.
    CreditReturned,
    /// More was acknowledged than sent.
    AckAhead,
    /// An acknowledgement was taken back.
    AckReturned,
    /// A second connection for one lane by the same dialler that is not newer.
    DuplicateLane,
    /// A frame of a class that the lane does not carry, or a lane that came back with another class.
    ClassChange,
    /// A link sequence too far ahead of all others.
    SequenceJump,
    /// Far more heartbeats than anybody needs.
    HeartbeatStorm,
    /// A frame of control class above its bound.
    ControlTooLarge,
    /// Too many connections were lost without the counts having been exchanged.
    LinkFlapping,
    /// Fewer lanes carry as much. Nobody is to dial it again until it is asked for.
    NotNeeded,
    /// More striped bytes or frames came before their turn than may.
    ReorderOverrun,
    /// A striped record whose place was taken or given up.
    StripeSequence,
    /// An operator has cut the link for a while. The peer may dial again.
    Barred,
    /// The mesh has evicted the peer. It is no use to dial again.
    Evicted,
    /// Another life of the peer has lanes, or a newer one had: two processes run as one node.
    DuplicateNode,
    /// The peer changes the mode of the link over and over.
    ModeStorm,
    /// Not known to this version.
    Unknown(u16),
}

impl CloseReason {
    const TABLE: [(Self, u16, &'static str); 28] = [
        (Self::Shutdown, 1, "shutdown"),
        (Self::Superseded, 2, "superseded by another connection"),
        (Self::VersionNotShared, 3, "no protocol version in common"),
        (Self::WrongMesh, 4, "wrong mesh"),
        (Self::IdentityRefused, 5, "identity refused"),
        (Self::ProtocolViolation, 6, "protocol violation"),
        (Self::Silent, 7, "silent for too long"),
        (Self::RateLimited, 8, "rate limited"),
        (Self::TokenRefused, 9, "join token refused"),
        (Self::NameTaken, 10, "node name is taken"),
        (Self::SelfConnect, 11, "connected to itself"),
        (Self::CreditOverrun, 12, "more was sent than the lane had credit for"),
        (Self::CreditReturned, 13, "lane credit was taken back"),
        (Self::AckAhead, 14, "more was acknowledged than sent"),
        (Self::AckReturned, 15, "an acknowledgement was taken back"),
        (Self::DuplicateLane, 16, "the lane has a connection already"),
        (Self::ClassChange, 17, "a class that the lane does not carry"),
        (Self::SequenceJump, 18, "link sequence jumps ahead"),
        (Self::HeartbeatStorm, 19, "too many heartbeats"),
        (Self::ControlTooLarge, 20, "control frame too large"),
        (Self::LinkFlapping, 21, "connections are lost faster than counts are exchanged"),
        (Self::NotNeeded, 22, "not needed any more"),
        (Self::ReorderOverrun, 23, "more striped records came before their turn than may"),
        (Self::StripeSequence, 24, "a striped record whose place was taken"),
        (Self::Barred, 25, "link cut by an operator for a while"),
        (Self::Evicted, 26, "evicted from the mesh"),
        (Self::DuplicateNode, 27, "two processes run as one node"),
        (Self::ModeStorm, 28, "the link changes its mode too often"),
    ];

    /// Its number on the wire.
    #[must_use]
    pub fn to_wire(self) -> u16 {
        if let Self::Unknown(number) = self {
            return number;
        }
        Self::TABLE.iter().find(|(reason, ..)| *reason == self).map_or(0, |&(_, number, _)| number)
    }

    /// The reason that `number` names.
    #[must_use]
    pub fn from_wire(number: u16) -> Self {
        Self::TABLE
            .iter()
            .find(|&&(_, known, _)| known == number)
            .map_or(Self::Unknown(number), |&(reason, ..)| reason)
    }

    /// For people.
    #[must_use]
    pub fn text(self) -> &'static str {
        Self::TABLE
            .iter()
            .find(|(reason, ..)| *reason == self)
            .map_or("a reason of a newer version", |&(.., text)| text)
    }
}

/// The last frame of a lane.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LaneClose {
    /// Why.
    pub reason: CloseReason,
    /// What and where, for people; at most 255 bytes. A peer may have written any characters.
    pub detail: String,
}

impl LaneClose {
    /// A peer's close as it may stand in a log or on a terminal, see [`printable()`].
    #[must_use]
    pub fn printable(self) -> Self {
        Self { reason: self.reason, detail: printable(&self.detail) }
    }

    /// Appends the message.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.reason.to_wire().to_le_bytes());
        put_name(out, &self.detail);
    }

    /// Bytes behind the detail are evidence, see [`decode_with_evidence`](Self::decode_with_evidence),
    /// or of a later version.
    ///
    /// # Errors
    /// [`DecodeError`] if it is cut off.
    pub fn decode(input: &[u8]) -> Result<Self, DecodeError> {
        Self::decode_with_evidence(input).map(|(close, _)| close)
    }

    /// Reads the message, and what is behind it: for [`CloseReason::Evicted`] the record of the
    /// [eviction](crate::Eviction), as far as the peer has sent it.
    ///
    /// # Errors
    /// [`DecodeError`] if it is cut off.
    pub fn decode_with_evidence(input: &[u8]) -> Result<(Self, &[u8]), DecodeError> {
        let mut reader = ByteReader::new(input, "lane close");
        let reason = CloseReason::from_wire(reader.u16()?);
        let detail = reader.name()?.to_owned();
        Ok((Self { reason, detail }, reader.rest()))
    }
}
