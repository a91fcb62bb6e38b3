//! What flooding says to a neighbour: one kind byte, then the body.

use std::time::Duration;

use bytes::Bytes;
use hawser_wire::{ByteReader, DecodeError, NodeId};

use crate::delta::LsaDelta;
use crate::life::LIFETIME_MAX;
use crate::{CertificateHash, LSA_BYTES_MAX, Lsa, LsaVersion};

/// Longest flooding message, in bytes.
pub const FLOODING_MESSAGE_BYTES_MAX: usize = 512 << 10;

/// Most entries in one message that lists origins, as it is taken.
pub(crate) const ENTRIES_MAX: usize = 4096;

/// Lists are sent in messages of at most so many bytes: one goes over the control lane as a whole, and
/// what stands behind it, as counts and heartbeats, waits for it.
const LIST_BYTES_MAX: usize = SEVERAL_BYTES_MAX;
/// Most entries of a summary or of acknowledgements as they are sent.
pub(crate) const ENTRIES_SENT_MAX: usize = (LIST_BYTES_MAX - 3 - 2 * NodeId::LEN) / ENTRY_BYTES;
/// Most origins of a request as it is sent.
pub(crate) const REQUESTED_MAX: usize = (LIST_BYTES_MAX - 3) / NodeId::LEN;

const ENTRY_BYTES: usize = NodeId::LEN + LsaVersion::LEN;

const _: () =
    assert!(3 + 2 * NodeId::LEN + ENTRIES_MAX * ENTRY_BYTES <= FLOODING_MESSAGE_BYTES_MAX);
const _: () = assert!(ENTRIES_SENT_MAX <= ENTRIES_MAX && REQUESTED_MAX <= ENTRIES_MAX);
const _: () = assert!(LSA_BYTES_MAX + 3 < FLOODING_MESSAGE_BYTES_MAX);

/// Advertisements that go in one message have at most so many bytes together, each with its length.
pub(crate) const SEVERAL_BYTES_MAX: usize = 16 << 10;

/// Bytes of the length before each of several messages.
pub(crate) const LENGTH_LEN: usize = 2;
const _: () = assert!(SEVERAL_BYTES_MAX <= 0xffff, "a length takes two bytes");

/// Bytes of the lifetime before an advertisement.
const LIFETIME_LEN: usize = 2;

const KIND_LSA: u8 = 1;
const KIND_ACK: u8 = 2;
const KIND_DIGEST: u8 = 3;
const KIND_SUMMARY: u8 = 4;
const KIND_REQUEST: u8 = 5;
const KIND_CERTIFICATE_REQUEST: u8 = 6;
const KIND_CERTIFICATE: u8 = 7;
const KIND_DELTA: u8 = 8;
const KIND_SEVERAL: u8 = 9;

const SEVERAL: &str = "flooding message with several advertisements";

/// Most certificates that one message asks for.
pub(crate) const CERTIFICATES_MAX: usize = 64;
/// Longest certificate, in bytes.
pub(crate) const CERTIFICATE_BYTES_MAX: usize = 8 << 10;

/// A message between neighbours.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Message {
    /// An advertisement, its own or passed on; to be acknowledged.
    Lsa { lifetime: Duration, lsa: Box<Lsa>, version: LsaVersion, encoding: Bytes },
    /// These were taken note of and need not be sent again.
    Ack(Vec<(NodeId, LsaVersion)>),
    /// The digest of the sender's whole database.
    Digest(u64),
    /// Everything that the sender has of the origins from `first` to `last`, both inclusive (as
    /// the CSNP of ISO 10589 §9.9): what is not listed it has not.
    Summary { first: NodeId, last: NodeId, entries: Vec<(NodeId, LsaVersion)> },
    /// The sender wants the advertisements of these origins.
    Request(Vec<NodeId>),
    /// The sender wants these certificates, at least one.
    CertificateRequest(Vec<CertificateHash>),
    /// A certificate that the receiver has asked for.
    Certificate { hash: CertificateHash, der: Bytes },
    /// An advertisement, as what differs from the one before; to be acknowledged.
    Delta { lifetime: Duration, delta: Box<LsaDelta> },
}

/// Why bytes are no message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum MessageError {
    UnknownKind(u8),
    Decode(DecodeError),
}

impl From<DecodeError> for MessageError {
    fn from(error: DecodeError) -> Self {
        Self::Decode(error)
    }
}

impl Message {
    /// A message with the advertisement that has this encoding, and so much of its life left; whole
    /// seconds of it count.
    pub(crate) fn encode_lsa(lifetime: Duration, encoding: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(encoding.len().saturating_add(3));
        out.push(KIND_LSA);
        put_lifetime(&mut out, lifetime);
        out.extend_from_slice(encoding);
        out
    }

    /// As [`Self::encode_lsa`], with a delta's encoding.
    pub(crate) fn encode_delta(lifetime: Duration, encoding: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(encoding.len().saturating_add(3));
        out.push(KIND_DELTA);
        put_lifetime(&mut out, lifetime);
        out.extend_from_slice(encoding);
        out
    }

    /// One message with these, each made by [`encode_lsa`](Self::encode_lsa) or
    /// [`encode_delta`](Self::encode_delta); a single one alone. Together with their lengths they must
    /// have at most [`SEVERAL_BYTES_MAX`] bytes, if they are more than one.
    pub(crate) fn encode_several(mut messages: Vec<Vec<u8>>) -> Vec<u8> {
        if messages.len() == 1 {
            return messages.pop().unwrap_or_default();
        }
        let bytes = messages.iter().map(|message| message.len().saturating_add(LENGTH_LEN)).sum();
        let mut out = Vec::with_capacity(usize::saturating_add(bytes, 1));
        out.push(KIND_SEVERAL);
        for message in messages {
            debug_assert!(message.len() <= SEVERAL_BYTES_MAX, "callers cut their lists");
            out.extend_from_slice(&u16::try_from(message.len()).unwrap_or(0).to_le_bytes());
            out.extend_from_slice(&message);
        }
        out
    }

    /// The messages in one with several advertisements, as far as their lengths hold; `None` if
    /// `input` is no such message. One that is longer than nodes make it is an error.
    pub(crate) fn several(input: &[u8]) -> Option<Result<Several<'_>, DecodeError>> {
        let body = input.strip_prefix(&[KIND_SEVERAL])?;
        if body.len() > SEVERAL_BYTES_MAX {
            let value = u64::try_from(body.len()).unwrap_or(u64::MAX);
            return Some(Err(DecodeError::TooLarge { what: SEVERAL, value, max: 16_384 }));
        }
        Some(Ok(Several(body)))
    }

    pub(crate) fn encode_certificate_request(hashes: &[CertificateHash]) -> Vec<u8> {
        debug_assert!(hashes.len() <= CERTIFICATES_MAX, "callers cut their lists");
        let mut out = vec![KIND_CERTIFICATE_REQUEST];
        out.push(u8::try_from(hashes.len()).unwrap_or(0));
        for hash in hashes {
            out.extend_from_slice(&hash.0);
        }
        out
    }

    /// The certificate must be at most [`CERTIFICATE_BYTES_MAX`] long.
    pub(crate) fn encode_certificate(hash: CertificateHash, der: &[u8]) -> Vec<u8> {
        let mut out = vec![KIND_CERTIFICATE];
        out.extend_from_slice(&hash.0);
        out.extend_from_slice(der);
        out
    }

    pub(crate) fn encode_ack(entries: &[(NodeId, LsaVersion)]) -> Vec<u8> {
        let mut out = vec![KIND_ACK];
        put_entries(&mut out, entries);
        out
    }

    pub(crate) fn encode_digest(digest: u64) -> Vec<u8> {
        let mut out = vec![KIND_DIGEST];
        out.extend_from_slice(&digest.to_le_bytes());
        out
    }

    pub(crate) fn encode_summary(
        first: NodeId,
        last: NodeId,
        entries: &[(NodeId, LsaVersion)],
    ) -> Vec<u8> {
        let mut out = vec![KIND_SUMMARY];
        out.extend_from_slice(first.as_bytes());
        out.extend_from_slice(last.as_bytes());
        put_entries(&mut out, entries);
        out
    }

    pub(crate) fn encode_request(origins: &[NodeId]) -> Vec<u8> {
        let mut out = vec![KIND_REQUEST];
        put_count(&mut out, origins.len());
        for origin in origins {
            out.extend_from_slice(origin.as_bytes());
        }
        out
    }

    /// What is left of the life of a whole advertisement in a message, its encoding, and whose it is;
    /// the last two are not checked.
    pub(crate) fn lsa_encoding(input: &[u8]) -> Option<(Duration, NodeId, &[u8])> {
        let body = input.strip_prefix(&[KIND_LSA])?;
        let left = lifetime(&mut ByteReader::new(body, "flooding message")).ok()?;
        let encoding = body.get(LIFETIME_LEN..)?;
        Some((left, Lsa::origin_in(encoding)?, encoding))
    }

    /// Reads a message.
    pub(crate) fn decode(input: &[u8]) -> Result<Self, MessageError> {
        if input.len() > FLOODING_MESSAGE_BYTES_MAX {
            let value = u64::try_from(input.len()).unwrap_or(u64::MAX);
            let max = u64::try_from(FLOODING_MESSAGE_BYTES_MAX).unwrap_or(u64::MAX);
            return Err(DecodeError::TooLarge { what: "flooding message", value, max }.into());
        }
        let mut reader = ByteReader::new(input, "flooding message");
        let kind = reader.u8()?;
        let message = match kind {
            KIND_LSA => {
                let lifetime = lifetime(&mut reader)?;
                let encoding = reader.bytes(reader.rest().len())?;
                let lsa = Box::new(Lsa::decode(encoding)?);
                let version = lsa.version_of(encoding);
                Self::Lsa { lifetime, lsa, version, encoding: Bytes::copy_from_slice(encoding) }
            }
            KIND_ACK => Self::Ack(entries(&mut reader)?),
            KIND_DIGEST => Self::Digest(reader.u64()?),
            KIND_SUMMARY => {
                let first = NodeId::from_bytes(reader.array()?);
                let last = NodeId::from_bytes(reader.array()?);
                let entries = entries(&mut reader)?;
                let outside =
                    |(origin, _): &(NodeId, LsaVersion)| *origin < first || *origin > last;
                if first > last || entries.iter().any(outside) {
                    let error =
                        DecodeError::Invalid { what: "link-state summary's range", value: 0 };
                    return Err(error.into());
                }
                Self::Summary { first, last, entries }
            }
            KIND_REQUEST => {
                let count = count(&mut reader)?;
                let mut origins = Vec::new();
                for _ in 0..count {
                    origins.push(NodeId::from_bytes(reader.array()?));
                }
                Self::Request(origins)
            }
            KIND_CERTIFICATE_REQUEST => {
                let what = "flooding message's certificates";
                let count = reader.u8()?;
                if usize::from(count) > CERTIFICATES_MAX {
                    let value = u64::from(count);
                    return Err(DecodeError::TooLarge { what, value, max: 64 }.into());
                }
                let mut hashes = Vec::new();
                for _ in 0..count {
                    hashes.push(CertificateHash(reader.array()?));
                }
                Self::CertificateRequest(hashes)
            }
            KIND_CERTIFICATE => {
                let hash = CertificateHash(reader.array()?);
                let der = reader.bytes(reader.rest().len())?;
                if der.len() > CERTIFICATE_BYTES_MAX {
                    let value = u64::try_from(der.len()).unwrap_or(u64::MAX);
                    let what = "flooding message's certificate";
                    return Err(DecodeError::TooLarge { what, value, max: 8192 }.into());
                }
                Self::Certificate { hash, der: Bytes::copy_from_slice(der) }
            }
            KIND_DELTA => {
                let lifetime = lifetime(&mut reader)?;
                Self::Delta { lifetime, delta: Box::new(LsaDelta::decode(&mut reader)?) }
            }
            kind => return Err(MessageError::UnknownKind(kind)),
        };
        reader.finish()?;
        Ok(message)
    }
}

/// The messages of one that has several.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Several<'a>(&'a [u8]);

impl<'a> Iterator for Several<'a> {
    type Item = Result<&'a [u8], DecodeError>;

    /// The next one: an advertisement or a delta, not decoded. Behind an error there is nothing.
    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let mut reader = ByteReader::new(std::mem::take(&mut self.0), "flooding message");
        let message = reader.u16().and_then(|len| reader.bytes(usize::from(len)));
        let is_one = |message: &&[u8]| matches!(message.first(), Some(&(KIND_LSA | KIND_DELTA)));
        let message = message.and_then(|message| {
            let value = message.first().copied().unwrap_or_default().into();
            let wrong = DecodeError::Invalid { what: "one of several advertisements", value };
            Some(message).filter(is_one).ok_or(wrong)
        });
        if message.is_ok() {
            self.0 = reader.rest();
        }
        Some(message)
    }
}

fn put_lifetime(out: &mut Vec<u8>, lifetime: Duration) {
    let seconds = lifetime.min(LIFETIME_MAX).as_secs();
    out.extend_from_slice(&u16::try_from(seconds).unwrap_or(0).to_le_bytes());
}

fn lifetime(reader: &mut ByteReader<'_>) -> Result<Duration, DecodeError> {
    let lifetime = Duration::from_secs(reader.u16()?.into());
    if lifetime > LIFETIME_MAX {
        let (what, value) = ("link-state advertisement's lifetime", lifetime.as_secs());
        return Err(DecodeError::TooLarge { what, value, max: LIFETIME_MAX.as_secs() });
    }
    Ok(lifetime)
}

fn put_count(out: &mut Vec<u8>, count: usize) {
    debug_assert!(count <= ENTRIES_MAX, "callers cut their lists");
    out.extend_from_slice(&u16::try_from(count).unwrap_or(0).to_le_bytes());
}

fn count(reader: &mut ByteReader<'_>) -> Result<u16, DecodeError> {
    let count = reader.u16()?;
    if usize::from(count) > ENTRIES_MAX {
        let (value, max) = (u64::from(count), 4096);
        return Err(DecodeError::TooLarge { what: "flooding message's entries", value, max });
    }
    Ok(count)
}

fn put_entries(out: &mut Vec<u8>, entries: &[(NodeId, LsaVersion)]) {
    put_count(out, entries.len());
    for (origin, version) in entries {
        out.extend_from_slice(origin.as_bytes());
        version.encode(out);
    }
}

/// Entries in strictly ascending order of their origins.
fn entries(reader: &mut ByteReader<'_>) -> Result<Vec<(NodeId, LsaVersion)>, DecodeError> {
    let count = count(reader)?;
    let mut entries: Vec<(NodeId, LsaVersion)> = Vec::new();
    for position in 0..count {
        let origin = NodeId::from_bytes(reader.array()?);
        if entries.last().is_some_and(|(before, _)| *before >= origin) {
            let value = u64::from(position);
            return Err(DecodeError::Invalid { what: "flooding message's order", value });
        }
        entries.push((origin, LsaVersion::decode(reader)?));
    }
    Ok(entries)
}

const _: () = assert!(ENTRIES_MAX == 4096 && CERTIFICATES_MAX == 64, "as the errors say");
const _: () = assert!(CERTIFICATE_BYTES_MAX == 8192, "as the decoder's error says");
const _: () = assert!(SEVERAL_BYTES_MAX == 16_384, "as its error says");
