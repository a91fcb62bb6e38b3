//! A change of an advertisement: what differs from the version before, and the new signature.
//!
//! The signature is that of the whole. A delta proves nothing by itself: it is applied to the
//! version that it names, and the result is checked as if it had come whole.

use hawser_wire::{ByteReader, DecodeError, NodeId};

use crate::adjacency::{Adjacency, decode_adjacencies, encode_adjacencies};
use crate::{ADJACENCIES_MAX, Lsa, LsaFlags, LsaVersion};

/// From one advertisement of an origin to a later one that differs in version, flags and
/// adjacencies alone.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct LsaDelta {
    pub(crate) origin: NodeId,
    /// What it applies to.
    pub(crate) base: LsaVersion,
    /// What comes out.
    pub(crate) version: LsaVersion,
    flags: LsaFlags,
    /// Neighbours whose adjacencies go, in ascending order.
    removed: Vec<NodeId>,
    /// Adjacencies that come or change, in ascending order of their neighbours.
    changed: Vec<Adjacency>,
    /// Of the whole advertisement that comes out.
    signature: [u8; 64],
}

impl LsaDelta {
    /// The way from `old` to `new`, both in the form that a decoded one has. `None` if they differ in
    /// more than a delta can say.
    pub(crate) fn between(
        (old, base): (&Lsa, LsaVersion),
        (new, version): (&Lsa, LsaVersion),
    ) -> Option<Self> {
        let about = |lsa: &Lsa| (lsa.origin, lsa.public_key, lsa.certificate);
        let said = |lsa: &'_ Lsa| (lsa.name.clone(), lsa.address.clone(), lsa.routes.clone());
        if about(old) != about(new) || said(old) != said(new) {
            return None;
        }
        let gone = old.adjacencies.iter().filter(|link| new.adjacency(link.neighbour).is_none());
        let differs = |link: &&Adjacency| old.adjacency(link.neighbour) != Some(*link);
        Some(Self {
            origin: new.origin,
            base,
            version,
            flags: new.flags,
            removed: gone.map(|link| link.neighbour).collect(),
            changed: new.adjacencies.iter().filter(differs).copied().collect(),
            signature: new.signature,
        })
    }

    /// What `base` becomes; the caller compares its version with [`Self::version`].
    pub(crate) fn apply(&self, base: &Lsa) -> Lsa {
        let goes = |neighbour| {
            self.removed.binary_search(&neighbour).is_ok()
                || self.changed.binary_search_by_key(&neighbour, |link| link.neighbour).is_ok()
        };
        let stays = base.adjacencies.iter().filter(|link| !goes(link.neighbour));
        let mut lsa = Lsa {
            incarnation: self.version.incarnation,
            sequence: self.version.sequence,
            flags: self.flags,
            adjacencies: stays.chain(&self.changed).copied().collect(),
            signature: self.signature,
            ..base.clone()
        };
        lsa.normalize();
        lsa
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.origin.as_bytes());
        self.base.encode(out);
        self.version.encode(out);
        out.push(self.flags.0);
        out.extend_from_slice(&u16::try_from(self.removed.len()).unwrap_or(0).to_le_bytes());
        for neighbour in &self.removed {
            out.extend_from_slice(neighbour.as_bytes());
        }
        encode_adjacencies(&self.changed, out);
        out.extend_from_slice(&self.signature);
    }

    pub(crate) fn decode(reader: &mut ByteReader<'_>) -> Result<Self, DecodeError> {
        let what = "link-state delta's removed neighbours";
        let origin = NodeId::from_bytes(reader.array()?);
        let (base, version) = (LsaVersion::decode(reader)?, LsaVersion::decode(reader)?);
        let flags = LsaFlags(reader.u8()?);
        let count = reader.u16()?;
        if usize::from(count) > ADJACENCIES_MAX {
            let max = u64::try_from(ADJACENCIES_MAX).unwrap_or(u64::MAX);
            return Err(DecodeError::TooLarge { what, value: u64::from(count), max });
        }
        let mut removed: Vec<NodeId> = Vec::new();
        for position in 0..count {
            let neighbour = NodeId::from_bytes(reader.array()?);
            if removed.last().is_some_and(|before| *before >= neighbour) {
                return Err(DecodeError::Invalid { what, value: u64::from(position) });
            }
            removed.push(neighbour);
        }
        let changed = decode_adjacencies(reader, origin, ADJACENCIES_MAX)?;
        Ok(Self { origin, base, version, flags, removed, changed, signature: reader.array()? })
    }
}
