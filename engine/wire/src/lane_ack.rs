use crate::{ByteReader, DecodeError, LANE_ACK_ENTRIES_MAX, LaneId, LinkEpoch};

/// What one side has received over one connection of a link, and what it will take.
///
/// All of it is absolute and only grows, so that one that is lost or comes twice does no harm.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LaneAckEntry {
    /// The lane.
    pub lane: LaneId,
    /// Which connection for that lane, as its dialler counts.
    pub epoch: LinkEpoch,
    /// The sender of this message dialled it: both ends may count alike.
    pub dialled: bool,
    /// The connection is gone: `count` will not grow any more, and whatever was sent behind it has
    /// to be sent again.
    pub is_final: bool,
    /// The sender has the receiver's final count of this connection.
    pub settled: bool,
    /// Counted frames received: those with a link sequence.
    pub count: u64,
    /// Counted frames that may be sent over the connection in all.
    pub credit_frames: u64,
    /// Bytes of counted frames, headers included, that may be sent over the connection in all.
    pub credit_bytes: u64,
}

/// The acknowledgements of a link: cumulative per connection, with the credit of each.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct LaneAck {
    /// Counts these messages of one side, from 1, whatever lane they take: an older one that comes
    /// late over another lane is known by it.
    pub sequence: u64,
    /// At most [`LANE_ACK_ENTRIES_MAX`].
    pub entries: Vec<LaneAckEntry>,
}

const FINAL: u8 = 0b001;
const DIALLED: u8 = 0b010;
const SETTLED: u8 = 0b100;

impl LaneAckEntry {
    /// Bytes on the wire.
    pub const LEN: usize = 35;

    /// Appends the entry.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let flag = |set: bool, bit: u8| if set { bit } else { 0 };
        out.extend_from_slice(&self.lane.0.to_le_bytes());
        out.push(
            flag(self.is_final, FINAL) | flag(self.dialled, DIALLED) | flag(self.settled, SETTLED),
        );
        out.extend_from_slice(&self.epoch.0.to_le_bytes());
        out.extend_from_slice(&self.count.to_le_bytes());
        out.extend_from_slice(&self.credit_frames.to_le_bytes());
        out.extend_from_slice(&self.credit_bytes.to_le_bytes());
    }

    fn read(reader: &mut ByteReader<'_>) -> Result<Self, DecodeError> {
        let lane = LaneId(reader.u16()?);
        let flags = reader.u8()?;
        if flags & !(FINAL | DIALLED | SETTLED) != 0 {
            let value = u64::from(flags);
            return Err(DecodeError::Invalid { what: "lane ack's flags", value });
        }
        Ok(Self {
            lane,
            epoch: LinkEpoch(reader.u64()?),
            dialled: flags & DIALLED != 0,
            is_final: flags & FINAL != 0,
            settled: flags & SETTLED != 0,
            count: reader.u64()?,
            credit_frames: reader.u64()?,
            credit_bytes: reader.u64()?,
        })
    }
}

impl LaneAck {
    /// Bytes in front of the entries.
    pub const FIXED_LEN: usize = 9;

    /// Appends the message; entries above the bound are left out.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let count = self.entries.len().min(LANE_ACK_ENTRIES_MAX);
        out.extend_from_slice(&self.sequence.to_le_bytes());
        out.push(u8::try_from(count).unwrap_or(u8::MAX));
        for entry in self.entries.iter().take(count) {
            entry.encode(out);
        }
    }

    /// # Errors
    /// [`DecodeError`] if it is cut off, too long, or has more entries than allowed.
    pub fn decode(input: &[u8]) -> Result<Self, DecodeError> {
        let mut ack = Self::default();
        ack.decode_into(input)?;
        Ok(ack)
    }

    /// As [`Self::decode`], into a message whose memory is used again.
    ///
    /// # Errors
    /// As [`Self::decode`]; then what `self` holds means nothing.
    pub fn decode_into(&mut self, input: &[u8]) -> Result<(), DecodeError> {
        let mut reader = ByteReader::new(input, "lane ack");
        self.sequence = reader.u64()?;
        let count = usize::from(reader.u8()?);
        if count > LANE_ACK_ENTRIES_MAX {
            let (value, max) = (wide(count), wide(LANE_ACK_ENTRIES_MAX));
            return Err(DecodeError::TooLarge { what: "lane ack's entries", value, max });
        }
        self.entries.clear();
        for _ in 0..count {
            self.entries.push(LaneAckEntry::read(&mut reader)?);
        }
        reader.finish()
    }
}

fn wide(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
