use crate::reader::put_name;
use crate::{ByteReader, DecodeError, MeshId, NodeId};

/// Stands before the bytes that are signed, so that a signature over anything else is none here.
const SIGNATURE_CONTEXT: &[u8] = b"hawser eviction v1\0";

/// The mesh's word that a node is no member any more, signed by the mesh's authority. It does not end
/// and is not taken back: who is to come back does so with another key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Eviction {
    /// The mesh.
    pub mesh: MeshId,
    /// Who is out.
    pub node: NodeId,
    /// Which node has decided it.
    pub by: NodeId,
    /// When, in seconds since the Unix epoch; for people alone.
    pub evicted_unix_s: u64,
    /// The node's human name; at most 255 bytes.
    pub name: String,
    /// Why, for people; at most 255 bytes. An operator may have written any characters.
    pub reason: String,
    /// Ed25519 (RFC 8032) by the authority's key, over [`Eviction::signed_bytes`].
    pub signature: [u8; 64],
}

/// Tells whether two nodes know the same evictions.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct EvictionDigest {
    /// How many.
    pub count: u32,
    /// Sum of the first eight bytes of the ids of those who are out, little-endian, modulo 2⁶⁴.
    pub sum: u64,
}

impl Eviction {
    /// What the authority signs.
    #[must_use]
    pub fn signed_bytes(&self) -> Vec<u8> {
        let mut out = SIGNATURE_CONTEXT.to_vec();
        self.encode_unsigned(&mut out);
        out
    }

    /// Appends the record. Texts are cut to their bounds.
    pub fn encode(&self, out: &mut Vec<u8>) {
        self.encode_unsigned(out);
        out.extend_from_slice(&self.signature);
    }

    fn encode_unsigned(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.mesh.as_bytes());
        out.extend_from_slice(self.node.as_bytes());
        out.extend_from_slice(self.by.as_bytes());
        out.extend_from_slice(&self.evicted_unix_s.to_le_bytes());
        put_name(out, &self.name);
        put_name(out, &self.reason);
    }

    /// Reads a record, and nothing behind it. Whether it is signed is the caller's business.
    ///
    /// # Errors
    /// [`DecodeError`] if it is cut off or something is behind it.
    pub fn decode(input: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = ByteReader::new(input, "eviction");
        let eviction = Self {
            mesh: MeshId::from_bytes(reader.array()?),
            node: NodeId::from_bytes(reader.array()?),
            by: NodeId::from_bytes(reader.array()?),
            evicted_unix_s: reader.u64()?,
            name: reader.name()?.to_owned(),
            reason: reader.name()?.to_owned(),
            signature: reader.array()?,
        };
        reader.finish()?;
        Ok(eviction)
    }
}

impl EvictionDigest {
    /// Bytes on the wire.
    pub const LEN: usize = 12;

    /// With one more node that is out.
    #[must_use]
    pub fn with(self, node: NodeId) -> Self {
        let [a, b, c, d, e, f, g, h, ..] = *node.as_bytes();
        let sum = self.sum.wrapping_add(u64::from_le_bytes([a, b, c, d, e, f, g, h]));
        Self { count: self.count.saturating_add(1), sum }
    }

    /// The digest's bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; Self::LEN] {
        let mut out = [0_u8; Self::LEN];
        let (count, sum) = out.split_at_mut(4);
        count.copy_from_slice(&self.count.to_le_bytes());
        sum.copy_from_slice(&self.sum.to_le_bytes());
        out
    }

    /// Reads a digest. Bytes behind it are left to later versions.
    ///
    /// # Errors
    /// [`DecodeError`] if it is cut off.
    pub fn decode(input: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = ByteReader::new(input, "digest of evictions");
        Ok(Self { count: reader.u32()?, sum: reader.u64()? })
    }
}
