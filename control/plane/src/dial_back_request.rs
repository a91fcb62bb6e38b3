//! What a node says that wants a lane and cannot dial: dial me.

use std::time::Duration;

use hawser_wire::{ByteReader, DecodeError, Incarnation, LaneId, NodeId, TrafficClass};

use crate::datagram::put_text;

/// Most addresses of a request.
pub(crate) const ADDRESSES_MAX: usize = 4;
/// A request holds for so long at most, whatever it says.
const LIFETIME_MAX: Duration = Duration::from_secs(30);
/// Stands before the bytes that are signed, so that a signature over anything else is none here.
const SIGNATURE_CONTEXT: &[u8] = b"hawser dial-back v1\0";

/// Asks a node to dial a lane to the one that says it.
///
/// Its age cannot be told by a clock, as those of two hosts may differ: it counts within its
/// sender's life, and its lifetime begins when it arrives.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct DialBackRequest {
    /// The sender's life.
    pub incarnation: Incarnation,
    /// Counts the requests of that life to whomever, from 1.
    pub sequence: u64,
    /// Which lane.
    pub lane: LaneId,
    /// Its class.
    pub class: TrafficClass,
    /// The lane is wanted for so long; at most 30 s, in milliseconds.
    pub lifetime: Duration,
    /// Where the sender can be dialled, host:port, unchecked; at most four.
    pub addresses: Vec<String>,
    /// Ed25519, over [`Self::signed_bytes`].
    pub signature: [u8; 64],
}

impl DialBackRequest {
    /// What the signature covers: a context string, both ends, then the encoding up to the
    /// signature.
    pub(crate) fn signed_bytes(&self, from: NodeId, to: NodeId) -> Vec<u8> {
        let mut out = SIGNATURE_CONTEXT.to_vec();
        out.extend_from_slice(from.as_bytes());
        out.extend_from_slice(to.as_bytes());
        self.encode_unsigned(&mut out);
        out
    }

    /// Appends the message. Addresses are cut to their bounds.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        self.encode_unsigned(out);
        out.extend_from_slice(&self.signature);
    }

    fn encode_unsigned(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.incarnation.0.to_le_bytes());
        out.extend_from_slice(&self.sequence.to_le_bytes());
        out.extend_from_slice(&self.lane.0.to_le_bytes());
        out.push(self.class.to_wire());
        let lifetime_ms = u32::try_from(self.lifetime.as_millis()).unwrap_or(u32::MAX);
        out.extend_from_slice(&lifetime_ms.to_le_bytes());
        let addresses = self.addresses.get(..ADDRESSES_MAX).unwrap_or(&self.addresses);
        out.push(u8::try_from(addresses.len()).unwrap_or(0));
        for address in addresses {
            put_text(out, address);
        }
    }

    /// Reads the message; bytes behind it are left alone.
    ///
    /// # Errors
    /// [`DecodeError`] if it is cut off or a field is out of its bounds.
    pub(crate) fn decode(reader: &mut ByteReader<'_>) -> Result<Self, DecodeError> {
        let incarnation = Incarnation(reader.u64()?);
        let sequence = reader.u64()?;
        let lane = LaneId(reader.u16()?);
        let class = TrafficClass::from_wire(reader.u8()?)?;
        let lifetime = Duration::from_millis(u64::from(reader.u32()?));
        if lifetime > LIFETIME_MAX {
            let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
            let (value, max) = (ms(lifetime), ms(LIFETIME_MAX));
            return Err(DecodeError::TooLarge { what: "dial-back's lifetime", value, max });
        }
        let count = reader.u8()?;
        if usize::from(count) > ADDRESSES_MAX {
            let (value, max) = (u64::from(count), u64::try_from(ADDRESSES_MAX).unwrap_or(u64::MAX));
            return Err(DecodeError::TooLarge { what: "dial-back's addresses", value, max });
        }
        let mut addresses = Vec::with_capacity(usize::from(count));
        for _ in 0..count {
            addresses.push(reader.name()?.to_owned());
        }
        let signature = reader.array()?;
        Ok(Self { incarnation, sequence, lane, class, lifetime, addresses, signature })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn request() -> DialBackRequest {
        DialBackRequest {
            incarnation: Incarnation(3),
            sequence: 7,
            lane: LaneId(2),
            class: TrafficClass::Bulk,
            lifetime: Duration::from_secs(10),
            addresses: vec!["b.example:7480".into(), "[::1]:1".into()],
            signature: [9; 64],
        }
    }

    fn decode(request: &DialBackRequest) -> Result<DialBackRequest, DecodeError> {
        let mut bytes = Vec::new();
        request.encode(&mut bytes);
        DialBackRequest::decode(&mut ByteReader::new(&bytes, "dial-back"))
    }

    #[test]
    fn bounds_are_kept_on_both_sides() {
        let mut many = request();
        many.addresses = vec!["b:1".into(); ADDRESSES_MAX + 1];
        assert_eq!(decode(&many).expect("cut").addresses.len(), ADDRESSES_MAX);
        let for_ever = DialBackRequest { lifetime: Duration::from_secs(31), ..request() };
        assert!(matches!(decode(&for_ever), Err(DecodeError::TooLarge { .. })));
        let mut bytes = Vec::new();
        request().encode(&mut bytes);
        bytes[23] = 5;
        let decoded = DialBackRequest::decode(&mut ByteReader::new(&bytes, "dial-back"));
        assert!(matches!(decoded, Err(DecodeError::TooLarge { value: 5, max: 4, .. })));
    }

    #[test]
    fn the_signature_covers_every_field_and_both_ends() {
        let (a, b) = (NodeId::from_bytes([1; 16]), NodeId::from_bytes([2; 16]));
        let mut signed: Vec<Vec<u8>> = [
            request(),
            DialBackRequest { incarnation: Incarnation(4), ..request() },
            DialBackRequest { sequence: 8, ..request() },
            DialBackRequest { lane: LaneId(3), ..request() },
            DialBackRequest { class: TrafficClass::Control, ..request() },
            DialBackRequest { lifetime: Duration::from_secs(9), ..request() },
            DialBackRequest { addresses: vec![], ..request() },
        ]
        .iter()
        .map(|request| request.signed_bytes(a, b))
        .collect();
        signed.push(request().signed_bytes(b, a));
        let count = signed.len();
        signed.sort();
        signed.dedup();
        assert_eq!(signed.len(), count);
    }
}
