use crate::{
    AdjacencyIndex, ByteReader, DecodeError, HOPS_MAX, NodeId, PathId, REPAIRS_MAX, put_varint,
};

/// Source, destination, path, number of hops, cursor, repairs, TTL.
const FIXED_LEN: usize = 40;

/// What the list says this node is to do with a frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Hop {
    /// The list is used up: the frame is for this node, or has gone astray.
    Last,
    /// Send over the adjacency with this index.
    Via(AdjacencyIndex),
}

/// The strict source route at the front of a routed frame's body.
///
/// A view: the hops stay where they were received. A relay changes cursor and TTL alone, with
/// [`RouteHeader::split_advanced`]; the bytes behind go on as they came.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RouteHeader<'a> {
    /// Where the frame was made.
    pub source: NodeId,
    /// Where it is to go.
    pub destination: NodeId,
    /// The source's name for the path, echoed in notices.
    pub path: PathId,
    /// Adjacencies that were used already.
    pub cursor: u8,
    /// How often a relay replaced the list by its backup, at most 2.
    pub repairs: u8,
    /// Hops that the frame may still take.
    pub ttl: u8,
    /// Entries in the list, at most [`HOPS_MAX`].
    pub hop_count: u8,
    /// The list: one adjacency index a hop, each a varint.
    hops: &'a [u8],
}

impl<'a> RouteHeader<'a> {
    /// Bytes before the list.
    pub const FIXED_LEN: usize = FIXED_LEN;

    /// Appends a header with a list of `hops` and cursor 0. The TTL equals the number of hops: a
    /// frame that takes more has gone astray.
    ///
    /// # Errors
    /// [`DecodeError::TooLarge`] if there are more than [`HOPS_MAX`] hops; nothing is appended.
    pub fn encode(
        out: &mut Vec<u8>,
        source: NodeId,
        destination: NodeId,
        path: PathId,
        hops: &[AdjacencyIndex],
    ) -> Result<(), DecodeError> {
        let too_many = || DecodeError::TooLarge {
            what: "route's hops",
            value: u64::try_from(hops.len()).unwrap_or(u64::MAX),
            max: u64::try_from(HOPS_MAX).unwrap_or(u64::MAX),
        };
        if hops.len() > HOPS_MAX {
            return Err(too_many());
        }
        let hop_count = u8::try_from(hops.len()).map_err(|_above| too_many())?;
        out.extend_from_slice(source.as_bytes());
        out.extend_from_slice(destination.as_bytes());
        out.extend_from_slice(&path.0.to_le_bytes());
        out.extend_from_slice(&[hop_count, 0, 0, hop_count]);
        for hop in hops {
            put_varint(out, hop.0);
        }
        Ok(())
    }

    /// Appends this header with its whole list replaced by `hops`, which lead from this node to the
    /// same destination, the first one marked as taken: what a relay sends over a backup. Source, path
    /// and destination stay, the repairs are one more, and the TTL is that of the new list.
    ///
    /// # Errors
    /// [`DecodeError::TooLarge`] if there are more than [`HOPS_MAX`] hops or the list was replaced
    /// [`REPAIRS_MAX`] times already, [`DecodeError::Invalid`] if there is no hop; nothing is appended.
    pub fn encode_repaired(
        &self,
        out: &mut Vec<u8>,
        hops: &[AdjacencyIndex],
    ) -> Result<(), DecodeError> {
        let repairs = self.repairs.saturating_add(1);
        if repairs > REPAIRS_MAX {
            let (value, max) = (u64::from(repairs), u64::from(REPAIRS_MAX));
            return Err(DecodeError::TooLarge { what: "route's repairs", value, max });
        }
        let Some(ttl) = hops.len().checked_sub(1) else {
            return Err(DecodeError::Invalid { what: "route's hops", value: 0 });
        };
        let begin = out.len();
        Self::encode(out, self.source, self.destination, self.path, hops)?;
        let fixed = out.get_mut(begin..).and_then(|header| header.first_chunk_mut::<FIXED_LEN>());
        if let Some([cursor, own_repairs, own_ttl]) = fixed.and_then(|f| f.last_chunk_mut::<3>()) {
            *cursor = 1;
            *own_repairs = repairs;
            // Not above HOPS_MAX.
            *own_ttl = u8::try_from(ttl).unwrap_or(0);
        }
        Ok(())
    }

    /// Reads a header from the front of `body`; the header and the rest.
    ///
    /// # Errors
    /// [`DecodeError`] if it is cut off, has too many hops, or its cursor lies behind its list.
    pub fn decode(body: &'a [u8]) -> Result<(Self, &'a [u8]), DecodeError> {
        let mut reader = ByteReader::new(body, "route header");
        let source = NodeId::from_bytes(reader.array()?);
        let destination = NodeId::from_bytes(reader.array()?);
        let path = PathId(reader.u32()?);
        let [hop_count, cursor, repairs, ttl] = reader.array()?;
        if usize::from(hop_count) > HOPS_MAX {
            let (value, max) = (u64::from(hop_count), u64::try_from(HOPS_MAX).unwrap_or(u64::MAX));
            return Err(DecodeError::TooLarge { what: "route's hops", value, max });
        }
        if cursor > hop_count {
            return Err(DecodeError::Invalid { what: "route's cursor", value: u64::from(cursor) });
        }
        let list = reader.rest();
        for _ in 0..hop_count {
            reader.varint()?;
        }
        let rest = reader.rest();
        let (hops, _) = list.split_at(list.len().saturating_sub(rest.len()));
        Ok((Self { source, destination, path, cursor, repairs, ttl, hop_count, hops }, rest))
    }

    /// What is to be done here.
    #[must_use]
    pub fn next_hop(&self) -> Hop {
        if self.cursor >= self.hop_count {
            return Hop::Last;
        }
        let mut reader = ByteReader::new(self.hops, "route's hops");
        for _ in 0..self.cursor {
            if reader.varint().is_err() {
                return Hop::Last;
            }
        }
        reader.varint().map_or(Hop::Last, |index| Hop::Via(AdjacencyIndex(index)))
    }

    /// Splits an encoded header (and what follows it) into its fixed part, with one hop marked as
    /// taken, and the unchanged rest: what a relay sends on.
    ///
    /// # Errors
    /// [`DecodeError::Invalid`] if the TTL is used up, [`DecodeError::Truncated`] if this is no
    /// header.
    pub fn split_advanced(body: &[u8]) -> Result<([u8; FIXED_LEN], &[u8]), DecodeError> {
        let have_bytes = body.len();
        let Some((fixed, rest)) = body.split_first_chunk::<FIXED_LEN>() else {
            return Err(DecodeError::Truncated { what: "route header", have_bytes });
        };
        let mut fixed = *fixed;
        if let Some([cursor, _repairs, ttl]) = fixed.last_chunk_mut::<3>() {
            let Some(left) = ttl.checked_sub(1) else {
                return Err(DecodeError::Invalid { what: "route's ttl", value: 0 });
            };
            *ttl = left;
            *cursor = cursor.saturating_add(1);
        }
        Ok((fixed, rest))
    }
}

const _: () = assert!(HOPS_MAX <= 64);
