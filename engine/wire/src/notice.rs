use crate::{ByteReader, DecodeError, NodeId, PathId, StreamId};

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
    }

    /// # Errors
    /// [`DecodeError`] if it is cut off or too long.
    pub fn decode(input: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = ByteReader::new(input, "notice");
        let notice = Self {
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
        };
        reader.finish()?;
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
