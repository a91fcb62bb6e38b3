//! What control planes tell each other over routed paths, and the envelope of what neighbours tell
//! each other over their link.
//!
//! Both begin with a kind byte. An unknown kind is skipped, so that an older node lives beside a
//! newer one. Bytes behind the last field are left to later versions. Integers are little-endian;
//! texts have one byte of length.

use hawser_wire::{
    ByteReader, DecodeError, DrillProbe, Eviction, EvictionDigest, NAME_BYTES_MAX, NodeId,
    StreamId, TrafficClass, printable,
};

use crate::dial_back_request::DialBackRequest;

/// Most destinations of a stream.
pub(crate) const DESTINATIONS_MAX: usize = 256;

/// Longest tenant or stream name, in bytes.
pub(crate) const STREAM_NAME_BYTES_MAX: usize = 128;

/// A source tells a destination of a stream. Repeated until it is confirmed or refused.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct StreamAnnounce {
    /// The stream.
    pub stream: StreamId,
    /// Its tenant's name.
    pub tenant: String,
    /// Its name.
    pub name: String,
    /// Quality of service, as the API numbers it.
    pub qos: u8,
    /// The application has closed it; what it holds is still delivered.
    pub closing: bool,
    /// When it was opened, Unix time in seconds.
    pub created_unix_s: u64,
    /// All destinations.
    pub destinations: Vec<NodeId>,
    /// Its records take all bulk lanes of a link.
    pub striped: bool,
    /// Of its records.
    pub class: TrafficClass,
}

/// Why a destination will not have a stream.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum RefuseReason {
    /// It hosts as many as it may.
    TooMany,
    /// The announcement makes no sense to it.
    Invalid,
    /// Its store failed.
    StoreFailed,
    /// Not known to this version.
    Unknown(u8),
}

/// One message between control planes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Datagram {
    /// See [`StreamAnnounce`].
    StreamAnnounce(StreamAnnounce),
    /// The destination has stored the stream and hosts it.
    StreamConfirm(StreamId),
    /// The destination will not have it.
    StreamRefuse {
        /// The stream.
        stream: StreamId,
        /// Why.
        reason: RefuseReason,
        /// For people; printable once it is decoded.
        detail: String,
    },
    /// The source has no such stream: nothing will come on it.
    StreamGone(StreamId),
    /// The sender wants a lane and cannot dial.
    DialBack(DialBackRequest),
    /// To be sent back as an answer with the same numbers.
    Probe(DrillProbe),
    /// A probe of the receiver.
    ProbeAnswer(DrillProbe),
}

const STREAM_ANNOUNCE: u8 = 1;
const STREAM_CONFIRM: u8 = 2;
const STREAM_REFUSE: u8 = 3;
const STREAM_GONE: u8 = 4;
const DIAL_BACK: u8 = 5;
const MEMBERSHIP: u8 = 6;
const PROBE: u8 = 7;
const PROBE_ANSWER: u8 = 8;

/// A datagram that carries a message of the membership machine.
pub(crate) fn membership_envelope(message: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.len().saturating_add(1));
    out.push(MEMBERSHIP);
    out.extend_from_slice(message);
    out
}

/// The message that such a datagram carries; `None` if it is another one.
pub(crate) fn membership_message(body: &[u8]) -> Option<&[u8]> {
    body.split_first().filter(|(kind, _)| **kind == MEMBERSHIP).map(|(_, message)| message)
}

/// Bits of what stands behind the destinations of an announcement.
const STRIPED: u8 = 1;
const PRIORITY: u8 = 2;

impl Datagram {
    /// The message's bytes. Texts are cut to their bounds, which callers have checked.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::StreamAnnounce(announce) => {
                out.push(STREAM_ANNOUNCE);
                out.extend_from_slice(announce.stream.as_bytes());
                put_text(&mut out, &announce.tenant);
                put_text(&mut out, &announce.name);
                out.push(announce.qos);
                out.push(u8::from(announce.closing));
                out.extend_from_slice(&announce.created_unix_s.to_le_bytes());
                let destinations =
                    announce.destinations.get(..DESTINATIONS_MAX).unwrap_or(&announce.destinations);
                out.extend_from_slice(
                    &u16::try_from(destinations.len()).unwrap_or(0).to_le_bytes(),
                );
                for node in destinations {
                    out.extend_from_slice(node.as_bytes());
                }
                let striped = if announce.striped { STRIPED } else { 0 };
                let is_priority = announce.class == TrafficClass::Priority;
                out.push(striped | if is_priority { PRIORITY } else { 0 });
            }
            Self::StreamConfirm(stream) => {
                out.push(STREAM_CONFIRM);
                out.extend_from_slice(stream.as_bytes());
            }
            Self::StreamRefuse { stream, reason, detail } => {
                out.push(STREAM_REFUSE);
                out.extend_from_slice(stream.as_bytes());
                out.push(reason.to_wire());
                put_text(&mut out, detail);
            }
            Self::StreamGone(stream) => {
                out.push(STREAM_GONE);
                out.extend_from_slice(stream.as_bytes());
            }
            Self::DialBack(request) => {
                out.push(DIAL_BACK);
                request.encode(&mut out);
            }
            Self::Probe(probe) => {
                out.push(PROBE);
                out.extend_from_slice(&probe.encode());
            }
            Self::ProbeAnswer(probe) => {
                out.push(PROBE_ANSWER);
                out.extend_from_slice(&probe.encode());
            }
        }
        out
    }

    /// Reads a message; `None` if its kind is not known to this version.
    ///
    /// # Errors
    /// [`DecodeError`] if it is cut off or a field is out of its bounds.
    pub(crate) fn decode(input: &[u8]) -> Result<Option<Self>, DecodeError> {
        let mut reader = ByteReader::new(input, "datagram");
        let message = match reader.u8()? {
            STREAM_ANNOUNCE => Self::StreamAnnounce(decode_announce(&mut reader)?),
            STREAM_CONFIRM => Self::StreamConfirm(StreamId::from_bytes(reader.array()?)),
            STREAM_REFUSE => Self::StreamRefuse {
                stream: StreamId::from_bytes(reader.array()?),
                reason: RefuseReason::from_wire(reader.u8()?),
                detail: printable(reader.name()?),
            },
            STREAM_GONE => Self::StreamGone(StreamId::from_bytes(reader.array()?)),
            DIAL_BACK => Self::DialBack(DialBackRequest::decode(&mut reader)?),
            PROBE => Self::Probe(DrillProbe::decode(reader.rest())?),
            PROBE_ANSWER => Self::ProbeAnswer(DrillProbe::decode(reader.rest())?),
            _ => return Ok(None),
        };
        Ok(Some(message))
    }
}

fn decode_announce(reader: &mut ByteReader<'_>) -> Result<StreamAnnounce, DecodeError> {
    let stream = StreamId::from_bytes(reader.array()?);
    let tenant = stream_name(reader, "datagram's tenant")?;
    let name = stream_name(reader, "datagram's stream name")?;
    let qos = reader.u8()?;
    let closing = match reader.u8()? {
        0 => false,
        1 => true,
        byte => {
            return Err(DecodeError::Invalid { what: "datagram's state", value: byte.into() });
        }
    };
    let created_unix_s = reader.u64()?;
    let count = reader.u16()?;
    if usize::from(count) > DESTINATIONS_MAX {
        let max = u64::try_from(DESTINATIONS_MAX).unwrap_or(u64::MAX);
        let value = u64::from(count);
        return Err(DecodeError::TooLarge { what: "datagram's destinations", value, max });
    }
    let mut destinations = Vec::with_capacity(usize::from(count));
    for _ in 0..count {
        destinations.push(NodeId::from_bytes(reader.array()?));
    }
    // An earlier release ends here.
    let flags = reader.rest().first().copied().unwrap_or(0);
    let striped = flags & STRIPED != 0;
    let is_priority = flags & PRIORITY != 0;
    let class = if is_priority { TrafficClass::Priority } else { TrafficClass::Bulk };
    let announce = StreamAnnounce {
        stream,
        tenant,
        name,
        qos,
        closing,
        created_unix_s,
        destinations,
        striped,
        class,
    };
    Ok(announce)
}

fn stream_name(reader: &mut ByteReader<'_>, what: &'static str) -> Result<String, DecodeError> {
    let name = reader.name()?;
    if name.is_empty() || name.len() > STREAM_NAME_BYTES_MAX {
        let max = u64::try_from(STREAM_NAME_BYTES_MAX).unwrap_or(u64::MAX);
        let value = u64::try_from(name.len()).unwrap_or(u64::MAX);
        return Err(DecodeError::TooLarge { what, value, max });
    }
    Ok(name.to_owned())
}

/// Appends a text as [`ByteReader::name`] reads it, cut to its bound at a character.
pub(crate) fn put_text(out: &mut Vec<u8>, text: &str) {
    let text = text.get(..text.floor_char_boundary(NAME_BYTES_MAX)).unwrap_or_default();
    out.push(u8::try_from(text.len()).unwrap_or(0));
    out.extend_from_slice(text.as_bytes());
}

impl RefuseReason {
    const fn to_wire(self) -> u8 {
        match self {
            Self::TooMany => 1,
            Self::Invalid => 2,
            Self::StoreFailed => 3,
            Self::Unknown(byte) => byte,
        }
    }

    const fn from_wire(byte: u8) -> Self {
        match byte {
            1 => Self::TooMany,
            2 => Self::Invalid,
            3 => Self::StoreFailed,
            _ => Self::Unknown(byte),
        }
    }
}

const LINK_FLOODING: u8 = 1;
const LINK_DIAL_BACK: u8 = 2;
const LINK_EVICTION: u8 = 3;
const LINK_EVICTION_DIGEST: u8 = 4;

/// What a neighbour's control plane says over its link.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum LinkMessage<'a> {
    /// A flooding message.
    Flooding(&'a [u8]),
    /// As [`Datagram::DialBack`].
    DialBack(DialBackRequest),
    /// The mesh has evicted a node.
    Eviction(Eviction),
    /// What the neighbour knows of evictions.
    EvictionDigest(EvictionDigest),
}

impl<'a> LinkMessage<'a> {
    /// Reads the body of a link control frame; `None` if its kind is not known to this version.
    ///
    /// # Errors
    /// [`DecodeError`] if it is cut off or a field is out of its bounds.
    pub(crate) fn decode(body: &'a [u8]) -> Result<Option<Self>, DecodeError> {
        match body.split_first() {
            Some((&LINK_FLOODING, message)) => Ok(Some(Self::Flooding(message))),
            Some((&LINK_DIAL_BACK, message)) => {
                let mut reader = ByteReader::new(message, "link message");
                DialBackRequest::decode(&mut reader).map(|request| Some(Self::DialBack(request)))
            }
            Some((&LINK_EVICTION, message)) => {
                Eviction::decode(message).map(|eviction| Some(Self::Eviction(eviction)))
            }
            Some((&LINK_EVICTION_DIGEST, message)) => {
                EvictionDigest::decode(message).map(|digest| Some(Self::EvictionDigest(digest)))
            }
            _ => Ok(None),
        }
    }
}

/// The body of a link control frame that carries a request to dial back.
pub(crate) fn dial_back_envelope(request: &DialBackRequest) -> Vec<u8> {
    let mut out = vec![LINK_DIAL_BACK];
    request.encode(&mut out);
    out
}

/// The body of a link control frame that tells of an eviction.
pub(crate) fn eviction_envelope(eviction: &Eviction) -> Vec<u8> {
    let mut out = vec![LINK_EVICTION];
    eviction.encode(&mut out);
    out
}

/// The body of a link control frame that says what this node knows of evictions.
pub(crate) fn eviction_digest_envelope(digest: EvictionDigest) -> Vec<u8> {
    [&[LINK_EVICTION_DIGEST], digest.encode().as_slice()].concat()
}

/// The body of a link control frame that carries a flooding message.
pub(crate) fn flooding_envelope(message: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.len().saturating_add(1));
    out.push(LINK_FLOODING);
    out.extend_from_slice(message);
    out
}

#[cfg(test)]
mod tests;
