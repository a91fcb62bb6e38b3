use crate::{ByteReader, DecodeError, LaneId, NodeId, PathId, StreamId, TrafficClass};

/// What a relay did with a frame, and why.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NoticeReason {
    /// The next adjacency on the list is down or unknown here.
    NoAdjacency,
    /// The queue towards the next hop is full: send less on this path.
    Congested,
    /// The frame took more hops than its list has.
    HopsExceeded,
    /// The destination does not take the frame.
    NotForThisNode,
    /// Nothing was dropped: the next adjacency is down and the frame went on over a backup. The source
    /// takes another path.
    Rerouted,
    /// Not known to this version.
    Unknown(u8),
}

/// Which bound had no place for a frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NoticeLimit {
    /// The link has no lane.
    NoLane,
    /// What waits of the class.
    Class,
    /// What waits of the tenant.
    Tenant,
    /// What waits of the stream.
    Stream,
    /// Link sequences in flight.
    SequenceWindow,
    /// The size of a frame.
    FrameSize,
    /// What is on its way from one shard of the node to another.
    Shard,
    /// Not known to this version.
    Unknown(u8),
}

impl NoticeLimit {
    /// For people and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoLane => "no lane",
            Self::Class => "class queue",
            Self::Tenant => "tenant quota",
            Self::Stream => "stream quota",
            Self::SequenceWindow => "link sequence window",
            Self::FrameSize => "frame size",
            Self::Shard => "shard ring",
            Self::Unknown(_) => "unknown",
        }
    }

    const fn to_wire(self) -> u8 {
        match self {
            Self::NoLane => 1,
            Self::Class => 2,
            Self::Tenant => 3,
            Self::Stream => 4,
            Self::SequenceWindow => 5,
            Self::FrameSize => 6,
            Self::Shard => 7,
            Self::Unknown(byte) => byte,
        }
    }

    const fn from_wire(byte: u8) -> Self {
        match byte {
            1 => Self::NoLane,
            2 => Self::Class,
            3 => Self::Tenant,
            4 => Self::Stream,
            5 => Self::SequenceWindow,
            6 => Self::FrameSize,
            7 => Self::Shard,
            byte => Self::Unknown(byte),
        }
    }
}

/// What a relay says of the bound that had no place.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct NoticeRefusal {
    /// Which.
    pub limit: NoticeLimit,
    /// The class of the frame.
    pub class: TrafficClass,
    /// The lane that it would have taken, if the node knows: not of a link of another shard.
    pub lane: Option<LaneId>,
    /// When there will be room, in milliseconds from now; [`u32::MAX`]: never for this frame.
    pub retry_after_ms: u32,
}

/// On the wire, in place of no lane.
const NO_LANE: u16 = u16::MAX;

impl NoticeRefusal {
    fn encode(self, out: &mut Vec<u8>) {
        out.push(self.limit.to_wire());
        out.push(self.class.to_wire());
        out.extend_from_slice(&self.lane.map_or(NO_LANE, |lane| lane.0).to_le_bytes());
        out.extend_from_slice(&self.retry_after_ms.to_le_bytes());
    }

    fn decode(reader: &mut ByteReader<'_>) -> Result<Self, DecodeError> {
        let limit = NoticeLimit::from_wire(reader.u8()?);
        let class = TrafficClass::from_wire(reader.u8()?)?;
        let lane = Some(reader.u16()?).filter(|&lane| lane != NO_LANE).map(LaneId);
        Ok(Self { limit, class, lane, retry_after_ms: reader.u32()? })
    }
}

/// Tells a source what became of a frame of its own. Best effort: its loss costs a timeout.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Notice {
    /// The source's name for the path.
    pub path: PathId,
    /// What happened.
    pub reason: NoticeReason,
    /// Where.
    pub at: NodeId,
    /// Where the frame was to go.
    pub destination: NodeId,
    /// The stream of the record; all zeros for another kind of frame.
    pub stream: StreamId,
    /// Which bound had no place for the frame, if that is why it was dropped.
    pub refusal: Option<NoticeRefusal>,
}

impl Notice {
    /// Appends the message.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.path.0.to_le_bytes());
        out.push(match self.reason {
            NoticeReason::NoAdjacency => 1,
            NoticeReason::Congested => 2,
            NoticeReason::HopsExceeded => 3,
            NoticeReason::NotForThisNode => 4,
            NoticeReason::Rerouted => 5,
            NoticeReason::Unknown(byte) => byte,
        });
        out.extend_from_slice(self.at.as_bytes());
        out.extend_from_slice(self.destination.as_bytes());
        out.extend_from_slice(self.stream.as_bytes());
        if let Some(refusal) = self.refusal {
            refusal.encode(out);
        }
    }

    /// What stands behind the refusal is left to later versions.
    ///
    /// # Errors
    /// [`DecodeError`] if it is cut off.
    pub fn decode(input: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = ByteReader::new(input, "notice");
        let mut notice = Self {
            path: PathId(reader.u32()?),
            reason: match reader.u8()? {
                1 => NoticeReason::NoAdjacency,
                2 => NoticeReason::Congested,
                3 => NoticeReason::HopsExceeded,
                4 => NoticeReason::NotForThisNode,
                5 => NoticeReason::Rerouted,
                byte => NoticeReason::Unknown(byte),
            },
            at: NodeId::from_bytes(reader.array()?),
            destination: NodeId::from_bytes(reader.array()?),
            stream: StreamId::from_bytes(reader.array()?),
            refusal: None,
        };
        if !reader.rest().is_empty() {
            notice.refusal = Some(NoticeRefusal::decode(&mut reader)?);
        }
        Ok(notice)
    }
}

/// Body of a ping, echoed in the pong: the sender's own clock in nanoseconds, opaque to the peer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Heartbeat {
    /// As the pinging side wrote it.
    pub sent_nanos: u64,
}

impl Heartbeat {
    /// The message's bytes.
    #[must_use]
    pub const fn encode(&self) -> [u8; 8] {
        self.sent_nanos.to_le_bytes()
    }

    /// # Errors
    /// [`DecodeError`] if it is not 8 bytes.
    pub fn decode(input: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = ByteReader::new(input, "heartbeat");
        let sent_nanos = reader.u64()?;
        reader.finish()?;
        Ok(Self { sent_nanos })
    }
}
