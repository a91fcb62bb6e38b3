use hawser_wire::{ByteReader, DecodeError, Incarnation, NodeId};

use crate::Version;

/// Most suspecters that a claim names: the first, and the three confirmations that a suspicion's
/// timeout counts (Lifeguard §IV-B, K = 3).
pub const SUSPECTERS_MAX: usize = 4;

/// What is known of a member's life.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Liveness {
    /// Answers, as far as is known.
    Alive,
    /// Somebody got no answer; it has time to contradict.
    Suspect,
    /// It did not contradict in time.
    Dead,
    /// It said that it leaves.
    Left,
}

impl Liveness {
    /// Lower-case word for people and for the API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Alive => "alive",
            Self::Suspect => "suspect",
            Self::Dead => "dead",
            Self::Left => "left",
        }
    }

    const fn to_wire(self) -> u8 {
        match self {
            Self::Alive => 0,
            Self::Suspect => 1,
            Self::Dead => 2,
            Self::Left => 3,
        }
    }
}

/// Who got no answer from a member, each once, in the order of ids; at most [`SUSPECTERS_MAX`].
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Suspecters {
    nodes: [NodeId; SUSPECTERS_MAX],
    count: usize,
}

impl Suspecters {
    pub(crate) const fn empty() -> Self {
        Self { nodes: [NodeId::from_bytes([0; NodeId::LEN]); SUSPECTERS_MAX], count: 0 }
    }

    /// Adds one. True if it was neither there nor one too many.
    pub fn add(&mut self, node: NodeId) -> bool {
        let known = self.as_slice();
        let Err(at) = known.binary_search(&node) else { return false };
        if known.len() >= SUSPECTERS_MAX {
            return false;
        }
        self.count = self.count.saturating_add(1);
        if let Some(tail) = self.nodes.get_mut(at..self.count) {
            tail.rotate_right(1);
            if let Some(first) = tail.first_mut() {
                *first = node;
            }
        }
        true
    }

    /// In ascending order.
    #[must_use]
    pub fn as_slice(&self) -> &[NodeId] {
        self.nodes.get(..self.count).unwrap_or_default()
    }
}

/// What a claim says about its subject.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ClaimState {
    /// It answers. At a version that others suspect it is its own word.
    Alive,
    /// These got no answer; at least one.
    Suspect(Suspecters),
    /// It did not contradict in time.
    Dead,
    /// It said so itself.
    Left,
}

impl ClaimState {
    /// Without the suspecters.
    #[must_use]
    pub const fn liveness(&self) -> Liveness {
        match self {
            Self::Alive => Liveness::Alive,
            Self::Suspect(_) => Liveness::Suspect,
            Self::Dead => Liveness::Dead,
            Self::Left => Liveness::Left,
        }
    }
}

/// One sentence of gossip. Of two about the same subject the one with the higher version counts, at
/// the same version the later of alive, suspect, dead, left; what two suspicions name adds up. So
/// claims may be lost, repeated and reordered: whoever has heard the same ones thinks the same.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Claim {
    /// Whom it is about.
    pub subject: NodeId,
    /// How new it is.
    pub version: Version,
    /// What it says.
    pub state: ClaimState,
}

impl Claim {
    /// Bytes of one that names no suspecters.
    pub const LEN_MIN: usize = NodeId::LEN + 8 + 8 + 1;
    /// Bytes of one that names all it may.
    pub const LEN_MAX: usize = Self::LEN_MIN + 1 + SUSPECTERS_MAX * NodeId::LEN;

    /// Bytes that it takes.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        match &self.state {
            ClaimState::Suspect(by) => {
                let nodes = by.as_slice().len().saturating_mul(NodeId::LEN);
                Self::LEN_MIN.saturating_add(1).saturating_add(nodes)
            }
            _ => Self::LEN_MIN,
        }
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.subject.as_bytes());
        put_version(out, self.version);
        out.push(self.state.liveness().to_wire());
        if let ClaimState::Suspect(by) = &self.state {
            let nodes = by.as_slice();
            out.push(u8::try_from(nodes.len()).unwrap_or(0));
            for node in nodes {
                out.extend_from_slice(node.as_bytes());
            }
        }
    }

    pub(crate) fn decode(reader: &mut ByteReader<'_>) -> Result<Self, DecodeError> {
        let subject = NodeId::from_bytes(reader.array()?);
        let version = version(reader)?;
        let state = match reader.u8()? {
            0 => ClaimState::Alive,
            1 => ClaimState::Suspect(suspecters(reader)?),
            2 => ClaimState::Dead,
            3 => ClaimState::Left,
            byte => {
                return Err(DecodeError::Invalid { what: "claim's state", value: byte.into() });
            }
        };
        Ok(Self { subject, version, state })
    }
}

pub(crate) fn put_version(out: &mut Vec<u8>, version: Version) {
    out.extend_from_slice(&version.incarnation.0.to_le_bytes());
    out.extend_from_slice(&version.refutation.to_le_bytes());
}

pub(crate) fn version(reader: &mut ByteReader<'_>) -> Result<Version, DecodeError> {
    Ok(Version { incarnation: Incarnation(reader.u64()?), refutation: reader.u64()? })
}

fn suspecters(reader: &mut ByteReader<'_>) -> Result<Suspecters, DecodeError> {
    let count = reader.u8()?;
    if count == 0 || usize::from(count) > SUSPECTERS_MAX {
        let value = count.into();
        return Err(DecodeError::Invalid { what: "claim's number of suspecters", value });
    }
    let mut by = Suspecters::default();
    for position in 0..count {
        let node = NodeId::from_bytes(reader.array()?);
        let in_order = by.as_slice().last().is_none_or(|before| *before < node);
        if !in_order || !by.add(node) {
            let value = position.into();
            return Err(DecodeError::Invalid { what: "claim's order of suspecters", value });
        }
    }
    Ok(by)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suspecters_are_counted_once_and_kept_in_order() {
        let node = |byte| NodeId::from_bytes([byte; 16]);
        let mut by = Suspecters::default();
        assert!(by.add(node(5)) && by.add(node(1)) && by.add(node(9)));
        assert!(!by.add(node(5)));
        assert!(by.add(node(7)));
        assert!(!by.add(node(2)), "one too many");
        assert_eq!(by.as_slice(), [node(1), node(5), node(7), node(9)]);
    }
}
