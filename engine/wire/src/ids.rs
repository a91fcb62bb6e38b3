//! Ids are types of their own, so that none can stand in another's place.

use std::fmt;
use std::str::FromStr;

use data_encoding::{BASE32_NOPAD, BASE32_NOPAD_NOCASE};
use thiserror::Error;

/// A text that is no id: not 26 characters of base32 (RFC 4648 §6, without padding).
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("an id has 26 characters of a-z and 2-7")]
pub struct IdParseError;

macro_rules! id128 {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        ///
        /// 128 bits, shown as 26 lower-case characters of base32 (RFC 4648 §6, without padding).
        #[derive(Clone, Copy, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub struct $name([u8; 16]);

        impl $name {
            /// Bytes on the wire.
            pub const LEN: usize = 16;

            /// The id with these bytes.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(bytes)
            }

            /// Its bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 16] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut text = [0_u8; 26];
                BASE32_NOPAD.encode_mut(&self.0, &mut text);
                text.make_ascii_lowercase();
                f.pad(std::str::from_utf8(&text).unwrap_or_default())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl FromStr for $name {
            type Err = IdParseError;

            fn from_str(text: &str) -> Result<Self, IdParseError> {
                if text.len() != 26 {
                    return Err(IdParseError);
                }
                let mut bytes = [0_u8; 16];
                BASE32_NOPAD_NOCASE
                    .decode_mut(text.as_bytes(), &mut bytes)
                    .map_err(|_partial| IdParseError)?;
                Ok(Self(bytes))
            }
        }
    };
}

macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident($int:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub struct $name(pub $int);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id128! {
    /// A node, derived from its Ed25519 public key: whoever holds the key is the node.
    NodeId
}
id128! {
    /// A mesh, drawn at random when it was seeded.
    MeshId
}
id128! {
    /// A tenant, derived from its name.
    TenantId
}
id128! {
    /// A stream, drawn at random by its source node.
    StreamId
}

number_id! {
    /// A producer of a stream; unique within the stream.
    ProducerId(u64)
}
number_id! {
    /// Counts the lives of a node: raised durably at each start.
    Incarnation(u64)
}
number_id! {
    /// Random, drawn by a process when it starts. Two lives with one [`Incarnation`] differ in it: what
    /// runs on a copy of a node's data directory is not that node's process.
    LifeNonce(u64)
}
number_id! {
    /// A source's life as seen by its streams: the durable boot counter. It fences off what an
    /// earlier life still has in flight.
    BootEpoch(u64)
}
number_id! {
    /// Counts the connections that a node dialled for one lane; the newer one replaces the older.
    LinkEpoch(u64)
}
number_id! {
    /// A lane within a link: 0 control, 1 priority, 2 and up bulk.
    LaneId(u16)
}
number_id! {
    /// Names the neighbour at one node, durably and never reused: a stale route can only miss.
    AdjacencyIndex(u32)
}
number_id! {
    /// A path, meaningful to its source alone and echoed in notices.
    PathId(u32)
}
number_id! {
    /// A shard of this process, from 0.
    ShardId(u16)
}
number_id! {
    /// Counts the sequenced frames of a link in one direction, from 1; 0 stands for none.
    LinkSequence(u64)
}
number_id! {
    /// Position of a message in its stream, from 0, without gaps.
    StreamOffset(u64)
}

impl ShardId {
    /// The shard, of `shards` many, that owns the link to `peer`.
    #[must_use]
    pub fn of_peer(peer: NodeId, shards: u16) -> Self {
        Self(bucket(peer.as_bytes(), shards))
    }

    /// The shard, of `shards` many, that hosts `stream`.
    #[must_use]
    pub fn of_stream(stream: StreamId, shards: u16) -> Self {
        Self(bucket(stream.as_bytes(), shards))
    }
}

/// Both kinds of id are hashes or random: their last bytes are spread evenly.
fn bucket(id: &[u8; 16], shards: u16) -> u16 {
    let [.., high, low] = *id;
    u16::from_be_bytes([high, low]).checked_rem(shards).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_comes_back_in_either_case() {
        let id = NodeId::from_bytes(*b"0123456789abcdef");
        let text = id.to_string();
        assert_eq!(text, "gaytemzugu3doobzmfrggzdfmy");
        assert_eq!(text.parse(), Ok(id));
        assert_eq!(text.to_uppercase().parse(), Ok(id));
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["", "a", "gaytemzugu3doobzmfrggzdfm1", "gaytemzugu3doobzmfrggzdfmyy", "é"] {
            assert_eq!(text.parse::<StreamId>(), Err(IdParseError), "{text}");
        }
    }

    #[test]
    fn every_shard_count_is_served() {
        let id = StreamId::from_bytes([0xff; 16]);
        assert_eq!(ShardId::of_stream(id, 0), ShardId(0));
        assert_eq!(ShardId::of_stream(id, 1), ShardId(0));
        assert_eq!(ShardId::of_stream(id, 2), ShardId(1));
    }
}
