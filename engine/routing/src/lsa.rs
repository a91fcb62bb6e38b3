//! The link-state advertisement: what one node says about itself and its neighbours.

use hawser_wire::{ByteReader, DecodeError, Incarnation, NAME_BYTES_MAX, NodeId};

use crate::adjacency::{Adjacency, decode_adjacencies, encode_adjacencies};
use crate::operator_route::{OPERATOR_ROUTES_MAX, OperatorRoute};

/// Most adjacencies of one node.
pub const ADJACENCIES_MAX: usize = 1024;

/// Longest encoding of an [`Lsa`], in bytes.
pub const LSA_BYTES_MAX: usize = FIXED_BYTES
    + 2 * (1 + NAME_BYTES_MAX)
    + ADJACENCIES_MAX * Adjacency::LEN
    + OPERATOR_ROUTES_MAX * OperatorRoute::BYTES_MAX;

/// Version, origin, incarnation, sequence, public key, certificate, flags, counts, signature.
const FIXED_BYTES: usize = 1 + 16 + 8 + 8 + 32 + 32 + 1 + 2 + 1 + SIGNATURE_BYTES;
const SIGNATURE_BYTES: usize = 64;
/// Layout of the encoding; raised when it changes.
const ENCODING_VERSION: u8 = 2;
/// Stands before the bytes that are signed, so that a signature over anything else is none here.
const SIGNATURE_CONTEXT: &[u8] = b"hawser lsa v2\0";

/// What a node says of itself, as bits. Those without a meaning yet are carried as they came.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct LsaFlags(pub u8);

impl LsaFlags {
    /// It has left the mesh, and this is its last word.
    pub const LEFT: Self = Self(0b0000_0001);
    /// Not transit at present: it is overloaded, or drained.
    pub const OVERLOADED: Self = Self(0b0000_0010);
    /// Never transit.
    pub const STUB: Self = Self(0b0000_0100);

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

/// SHA-256 of a node's certificate (DER): by it neighbours ask each other for certificates.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct CertificateHash(pub [u8; 32]);

/// A link-state advertisement.
///
/// One value has one encoding: adjacencies are encoded in the order of their neighbours, one per
/// neighbour, none to the origin itself, at most [`ADJACENCIES_MAX`]; what does not fit is left
/// out, and what is out of a metric's bounds counts as the bound. The same holds of the operator's
/// routes. A decoded one is always in that form.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Lsa {
    /// Who says it.
    pub origin: NodeId,
    /// Its life.
    pub incarnation: Incarnation,
    /// Counts the advertisements of that life, from 1.
    pub sequence: u64,
    /// Its Ed25519 public key, from which `origin` is derived.
    pub public_key: [u8; 32],
    /// Its certificate, by which it is a member of the mesh.
    pub certificate: CertificateHash,
    /// What it does not do for others.
    pub flags: LsaFlags,
    /// Its human name; at most 255 bytes, cut at a character.
    pub name: String,
    /// Where its lanes can be dialled, or empty; at most 255 bytes, cut at a character.
    pub address: String,
    /// Its links that are up.
    pub adjacencies: Vec<Adjacency>,
    /// Paths that operators have set for what `origin` sends; at most [`OPERATOR_ROUTES_MAX`].
    pub routes: Vec<OperatorRoute>,
    /// Ed25519, over [`Lsa::signed_bytes`].
    pub signature: [u8; 64],
}

/// Which of two advertisements of one origin is newer: the greater.
///
/// The hash decides where incarnation and sequence are equal and the contents are not, as after a
/// node was restored from an old disk. It is no proof of anything; the signature is.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct LsaVersion {
    /// The origin's life.
    pub incarnation: Incarnation,
    /// Within that life.
    pub sequence: u64,
    /// FNV-1a, 64 bits, over the encoding.
    pub hash: u64,
}

impl LsaVersion {
    /// Bytes on the wire.
    pub(crate) const LEN: usize = 24;

    /// Neither incarnations nor sequences come near this in the life of a mesh. What claims to be
    /// beyond it is refused. A node whose sequences reach it goes on in the next incarnation, so that no
    /// one number, however wrong it was, makes a word of a node its last one: only both of them one
    /// below this do.
    pub(crate) const NUMBER_END: u64 = 1 << 48;

    /// Within what a node can have counted up to.
    pub(crate) const fn is_plausible(&self) -> bool {
        self.incarnation.0 < Self::NUMBER_END && self.sequence < Self::NUMBER_END
    }

    /// Incarnation and sequence of what its origin may say next.
    pub(crate) const fn next(&self) -> (Incarnation, u64) {
        let sequence = self.sequence.saturating_add(1);
        if sequence < Self::NUMBER_END {
            (self.incarnation, sequence)
        } else {
            (Incarnation(self.incarnation.0.saturating_add(1)), 1)
        }
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.incarnation.0.to_le_bytes());
        out.extend_from_slice(&self.sequence.to_le_bytes());
        out.extend_from_slice(&self.hash.to_le_bytes());
    }

    pub(crate) fn decode(reader: &mut ByteReader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            incarnation: Incarnation(reader.u64()?),
            sequence: reader.u64()?,
            hash: reader.u64()?,
        })
    }
}

impl Lsa {
    /// The version of the advertisement that has `encoding`.
    pub(crate) fn version_of(&self, encoding: &[u8]) -> LsaVersion {
        LsaVersion { incarnation: self.incarnation, sequence: self.sequence, hash: fnv1a(encoding) }
    }

    /// The origin in an encoding that is not checked.
    pub(crate) fn origin_in(encoding: &[u8]) -> Option<NodeId> {
        encoding.get(1..)?.first_chunk().map(|id| NodeId::from_bytes(*id))
    }

    /// What the signature covers: a context string, then the encoding up to the signature.
    #[must_use]
    pub fn signed_bytes(&self) -> Vec<u8> {
        let mut out = SIGNATURE_CONTEXT.to_vec();
        self.encode_unsigned(&mut out);
        out
    }

    /// Appends the advertisement; at most [`LSA_BYTES_MAX`] bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        self.encode_unsigned(out);
        out.extend_from_slice(&self.signature);
    }

    fn encode_unsigned(&self, out: &mut Vec<u8>) {
        out.push(ENCODING_VERSION);
        out.extend_from_slice(self.origin.as_bytes());
        out.extend_from_slice(&self.incarnation.0.to_le_bytes());
        out.extend_from_slice(&self.sequence.to_le_bytes());
        out.extend_from_slice(&self.public_key);
        out.extend_from_slice(&self.certificate.0);
        out.push(self.flags.0);
        put_text(out, &self.name);
        put_text(out, &self.address);
        encode_adjacencies(&self.ordered_adjacencies(), out);
        OperatorRoute::encode_all(&OperatorRoute::ordered(&self.routes), out);
    }

    /// Brings it into the form that a decoded one has, but for texts that are too long.
    pub(crate) fn normalize(&mut self) {
        self.adjacencies = self.ordered_adjacencies();
        self.routes = OperatorRoute::ordered(&self.routes);
    }

    /// Whether its origin carries what neither begins nor ends there: it is no stub, not overloaded or
    /// drained, and has not left.
    #[must_use]
    pub const fn is_transit(&self) -> bool {
        self.flags.0 & (LsaFlags::STUB.0 | LsaFlags::OVERLOADED.0 | LsaFlags::LEFT.0) == 0
    }

    /// The operator's routes in it steer its origin's own traffic, lead to other nodes, one to each,
    /// and name no node twice. What does not is refused by whoever hears it.
    #[must_use]
    pub fn steers_soundly(&self) -> bool {
        let one_each = self.routes.windows(2).all(|pair| match pair {
            [one, other] => one.to != other.to,
            _ => true,
        });
        one_each && self.routes.iter().all(|route| route.is_sound_at(self.origin))
    }

    /// What it says of its link to `neighbour`. As in the database: adjacencies are in the order of
    /// their neighbours.
    pub(crate) fn adjacency(&self, neighbour: NodeId) -> Option<&Adjacency> {
        let at = self.adjacencies.binary_search_by_key(&neighbour, |link| link.neighbour);
        self.adjacencies.get(at.ok()?)
    }

    /// The adjacencies as they are encoded.
    pub(crate) fn ordered_adjacencies(&self) -> Vec<Adjacency> {
        let others = self.adjacencies.iter().filter(|link| link.neighbour != self.origin);
        let mut adjacencies: Vec<Adjacency> = others.map(|link| link.bounded()).collect();
        adjacencies.sort_by_key(|link| link.neighbour);
        adjacencies.dedup_by_key(|link| link.neighbour);
        adjacencies.truncate(ADJACENCIES_MAX);
        adjacencies
    }

    /// Reads an advertisement. The signature is not checked here.
    ///
    /// # Errors
    /// [`DecodeError`] if it is cut off, too long, of another version, or not in the one form that
    /// [`Lsa::encode`] writes.
    pub fn decode(input: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = ByteReader::new(input, "link-state advertisement");
        let version = reader.u8()?;
        if version != ENCODING_VERSION {
            let value = u64::from(version);
            return Err(DecodeError::Invalid { what: "link-state advertisement's version", value });
        }
        let origin = NodeId::from_bytes(reader.array()?);
        let lsa = Self {
            origin,
            incarnation: Incarnation(reader.u64()?),
            sequence: reader.u64()?,
            public_key: reader.array()?,
            certificate: CertificateHash(reader.array()?),
            flags: LsaFlags(reader.u8()?),
            name: reader.name()?.to_owned(),
            address: reader.name()?.to_owned(),
            adjacencies: decode_adjacencies(&mut reader, origin, ADJACENCIES_MAX)?,
            routes: OperatorRoute::decode_all(&mut reader)?,
            signature: reader.array()?,
        };
        reader.finish()?;
        Ok(lsa)
    }
}

/// Appends a text as [`ByteReader::name`] reads it, cut to [`NAME_BYTES_MAX`] at a character.
fn put_text(out: &mut Vec<u8>, text: &str) {
    let text = text.get(..text.floor_char_boundary(NAME_BYTES_MAX)).unwrap_or_default();
    out.push(u8::try_from(text.len()).unwrap_or(0));
    out.extend_from_slice(text.as_bytes());
}

/// FNV-1a with 64 bits (draft-eastlake-fnv §5): small, the same on every machine.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
