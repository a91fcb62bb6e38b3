use crate::checksum::crc32c_of_16;
use crate::{ClassSet, DecodeError, FRAME_BODY_BYTES_MAX, LinkSequence, TrafficClass};

/// What a frame carries. An unknown kind is skipped by its length, so that an older node lives
/// beside a newer one.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum FrameKind {
    /// [`crate::Hello`]: the first frame of a lane, in both directions.
    Hello,
    /// [`crate::LaneClose`]: the last frame of a lane, saying why.
    Close,
    /// A request to join the mesh, on a connection that is no lane yet.
    JoinRequest,
    /// The answer to it.
    JoinReply,
    /// [`crate::Heartbeat`] that wants an echo.
    Ping,
    /// The echo.
    Pong,
    /// [`crate::LaneAck`]: counts and credit of a link's connections.
    LaneAck,
    /// [`crate::LaneClasses`]: what this lane carries from here on.
    LaneClasses,
    /// [`crate::LinkModeOffer`].
    LinkMode,
    /// [`crate::LaneFragment`]: a piece of a batch.
    LaneFragment,
    /// [`crate::TurnDelay`].
    TurnDelay,
    /// [`crate::AckInterval`].
    AckInterval,
    /// For the neighbour's control plane: link state and the like.
    LinkControl,
    /// Routed; for the destination's control plane.
    Datagram,
    /// Routed; a source tells a destination where a stream begins.
    StreamSync,
    /// Routed; the destination's answer, and later its progress.
    StreamAck,
    /// Routed; a [`crate::Notice`] to a source about one of its paths.
    Notice,
    /// Routed; a record of a stream.
    Record,
    /// A [`crate::StripeStamp`] with a record behind it: one that takes any bulk lane.
    StripedRecord,
    /// Not known to this version.
    Unknown(u8),
}

impl FrameKind {
    /// Its byte on the wire.
    #[must_use]
    pub const fn to_wire(self) -> u8 {
        match self {
            Self::Hello => 0x01,
            Self::Close => 0x02,
            Self::JoinRequest => 0x03,
            Self::JoinReply => 0x04,
            Self::Ping => 0x10,
            Self::Pong => 0x11,
            Self::LaneAck => 0x12,
            Self::LaneClasses => 0x13,
            Self::LinkMode => 0x14,
            Self::LaneFragment => 0x15,
            Self::TurnDelay => 0x16,
            Self::AckInterval => 0x17,
            Self::LinkControl => 0x20,
            Self::Datagram => 0x30,
            Self::StreamSync => 0x31,
            Self::StreamAck => 0x32,
            Self::Notice => 0x33,
            Self::Record => 0x40,
            Self::StripedRecord => 0x41,
            Self::Unknown(byte) => byte,
        }
    }

    /// The kind that `byte` names.
    #[must_use]
    pub const fn from_wire(byte: u8) -> Self {
        match byte {
            0x01 => Self::Hello,
            0x02 => Self::Close,
            0x03 => Self::JoinRequest,
            0x04 => Self::JoinReply,
            0x10 => Self::Ping,
            0x11 => Self::Pong,
            0x12 => Self::LaneAck,
            0x13 => Self::LaneClasses,
            0x14 => Self::LinkMode,
            0x15 => Self::LaneFragment,
            0x16 => Self::TurnDelay,
            0x17 => Self::AckInterval,
            0x20 => Self::LinkControl,
            0x30 => Self::Datagram,
            0x31 => Self::StreamSync,
            0x32 => Self::StreamAck,
            0x33 => Self::Notice,
            0x40 => Self::Record,
            0x41 => Self::StripedRecord,
            _ => Self::Unknown(byte),
        }
    }

    /// True if a [`crate::RouteHeader`] stands at the front of the body.
    #[must_use]
    pub const fn is_routed(self) -> bool {
        matches!(
            self,
            Self::Datagram | Self::StreamSync | Self::StreamAck | Self::Notice | Self::Record
        )
    }

    /// True if it must survive its lane, and so has a link sequence.
    #[must_use]
    pub const fn is_counted(self) -> bool {
        self.is_routed() || matches!(self, Self::StripedRecord)
    }

    /// The classes that frames of this kind may travel in; all of them for a kind that this version
    /// does not know.
    #[must_use]
    pub const fn classes(self) -> ClassSet {
        match self {
            Self::Record | Self::LaneFragment => {
                ClassSet::of(TrafficClass::Priority).with(TrafficClass::Bulk)
            }
            Self::StripedRecord => ClassSet::of(TrafficClass::Bulk),
            Self::Unknown(_) => ClassSet::ALL,
            Self::Hello
            | Self::Close
            | Self::JoinRequest
            | Self::JoinReply
            | Self::Ping
            | Self::Pong
            | Self::LaneAck
            | Self::LaneClasses
            | Self::LinkMode
            | Self::TurnDelay
            | Self::AckInterval
            | Self::LinkControl
            | Self::Datagram
            | Self::StreamSync
            | Self::StreamAck
            | Self::Notice => ClassSet::of(TrafficClass::Control),
        }
    }
}

/// Bits of a frame. Those unknown to this version are carried as they came.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct FrameFlags(pub u8);

impl FrameFlags {
    /// A relay on the way had a long queue (as ECN, RFC 3168).
    pub const CONGESTION_EXPERIENCED: Self = Self(0b0000_0001);
    /// Of a ping: its sender holds bulk back to measure the round trip without a queue.
    pub const MEASURING: Self = Self(0b0000_0010);
    /// Of a record: its stream asks to be carried over all bulk lanes of each link on its way.
    pub const STRIPED: Self = Self(0b0000_0100);
    /// Of a record: its source has more to send, which the stream's credit does not allow. Of a stream
    /// sync: its source says so of records.
    pub const CREDIT_LIMITED: Self = Self(0b0000_1000);

    /// These and those of `other`.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// True if all bits of `other` are set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// The fixed header before every frame.
///
/// The checksum covers this header alone and is made anew at each hop; TLS protects the bytes
/// between hops, a record's own checksum those from end to end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FrameHeader {
    /// What the body is.
    pub kind: FrameKind,
    /// Flag bits.
    pub flags: FrameFlags,
    /// Lane and order.
    pub class: TrafficClass,
    /// Length of the body in bytes, at most [`FRAME_BODY_BYTES_MAX`].
    pub body_len: u32,
    /// Counts frames that must survive a lane; 0 for those that need not.
    pub link_sequence: LinkSequence,
}

impl FrameHeader {
    /// Bytes on the wire.
    pub const LEN: usize = 20;

    /// The header's bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; Self::LEN] {
        let mut out = [0_u8; Self::LEN];
        let [kind, flags, class, _reserved, rest @ ..] = &mut out;
        *kind = self.kind.to_wire();
        *flags = self.flags.0;
        *class = self.class.to_wire();
        let [l0, l1, l2, l3, s0, s1, s2, s3, s4, s5, s6, s7, ..] = rest;
        [*l0, *l1, *l2, *l3] = self.body_len.to_le_bytes();
        [*s0, *s1, *s2, *s3, *s4, *s5, *s6, *s7] = self.link_sequence.0.to_le_bytes();
        if let Some((covered, checksum)) = out.split_first_chunk_mut() {
            checksum.copy_from_slice(&crc32c_of_16(covered).to_le_bytes());
        }
        out
    }

    /// Reads a header from the front of `input`; the header and the rest.
    ///
    /// # Errors
    /// [`DecodeError`] if it is cut off, its checksum does not match, its class is unknown, its
    /// reserved byte is not zero, or it announces more than [`FRAME_BODY_BYTES_MAX`].
    pub fn decode(input: &[u8]) -> Result<(Self, &[u8]), DecodeError> {
        let header = input.split_first_chunk::<{ Self::LEN }>();
        let Some((covered, (header, rest))) = input.first_chunk().zip(header) else {
            return Err(DecodeError::Truncated { what: "frame header", have_bytes: input.len() });
        };
        let [
            kind,
            flags,
            class,
            reserved,
            l0,
            l1,
            l2,
            l3,
            s0,
            s1,
            s2,
            s3,
            s4,
            s5,
            s6,
            s7,
            sum @ ..,
        ] = *header;
        let announced = u32::from_le_bytes(sum);
        let found = crc32c_of_16(covered);
        if found != announced {
            return Err(DecodeError::Checksum { what: "frame header", found, announced });
        }
        if reserved != 0 {
            let value = u64::from(reserved);
            return Err(DecodeError::Invalid { what: "frame header's reserved byte", value });
        }
        let body_len = u32::from_le_bytes([l0, l1, l2, l3]);
        let max = u32::try_from(FRAME_BODY_BYTES_MAX).unwrap_or(u32::MAX);
        if body_len > max {
            let (value, max) = (u64::from(body_len), u64::from(max));
            return Err(DecodeError::TooLarge { what: "frame body", value, max });
        }
        let header = Self {
            kind: FrameKind::from_wire(kind),
            flags: FrameFlags(flags),
            class: TrafficClass::from_wire(class)?,
            body_len,
            link_sequence: LinkSequence(u64::from_le_bytes([s0, s1, s2, s3, s4, s5, s6, s7])),
        };
        Ok((header, rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_and_pieces_are_no_control_and_whatever_else_is_known_is_nothing_else() {
        use TrafficClass::{Bulk, Control, Priority};
        for byte in 0..=u8::MAX {
            let kind = FrameKind::from_wire(byte);
            let expected = match kind {
                FrameKind::Unknown(_) => ClassSet::ALL,
                FrameKind::Record | FrameKind::LaneFragment => ClassSet::of(Priority).with(Bulk),
                FrameKind::StripedRecord => ClassSet::of(Bulk),
                _ => ClassSet::of(Control),
            };
            assert_eq!(kind.classes(), expected, "{kind:?}");
        }
    }
}
