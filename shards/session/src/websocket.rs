//! The frame header of RFC 6455 §5.2, both ways.

use crate::{Role, WebSocketViolation};

/// Longest header: two bytes, eight of length, four of mask.
pub(crate) const HEADER_BYTES_MAX: usize = 14;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Opcode {
    Continuation,
    Binary,
    Close,
    Ping,
    Pong,
}

impl Opcode {
    const fn to_wire(self) -> u8 {
        match self {
            Self::Continuation => 0x0,
            Self::Binary => 0x2,
            Self::Close => 0x8,
            Self::Ping => 0x9,
            Self::Pong => 0xa,
        }
    }

    pub(crate) const fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Header {
    pub(crate) fin: bool,
    pub(crate) opcode: Opcode,
    pub(crate) mask: Option<[u8; 4]>,
    pub(crate) payload_len: u64,
    /// Bytes that the header itself takes.
    pub(crate) len: usize,
}

/// Reads a header from the front of `input`; `None` if more bytes are needed. `role` is ours.
pub(crate) fn decode_header(
    input: &[u8],
    role: Role,
) -> Result<Option<Header>, WebSocketViolation> {
    let Some((&[first, second], rest)) = input.split_first_chunk::<2>() else {
        return Ok(None);
    };
    if first & 0x70 != 0 {
        return Err(WebSocketViolation::ReservedBits);
    }
    let opcode = match first & 0x0f {
        0x0 => Opcode::Continuation,
        0x1 => return Err(WebSocketViolation::Text),
        0x2 => Opcode::Binary,
        0x8 => Opcode::Close,
        0x9 => Opcode::Ping,
        0xa => Opcode::Pong,
        other => return Err(WebSocketViolation::ReservedOpcode(other)),
    };
    let fin = first & 0x80 != 0;
    match (role, second & 0x80 != 0) {
        (Role::Server, false) => return Err(WebSocketViolation::Unmasked),
        (Role::Client, true) => return Err(WebSocketViolation::Masked),
        _ => {}
    }
    if opcode.is_control() && (!fin || second & 0x7f > 125) {
        return Err(WebSocketViolation::ControlFrame);
    }
    let (payload_len, rest) = match second & 0x7f {
        126 => {
            let Some((len, rest)) = rest.split_first_chunk::<2>() else { return Ok(None) };
            let len = u64::from(u16::from_be_bytes(*len));
            if len < 126 {
                return Err(WebSocketViolation::LengthEncoding);
            }
            (len, rest)
        }
        127 => {
            let Some((len, rest)) = rest.split_first_chunk::<8>() else { return Ok(None) };
            let len = u64::from_be_bytes(*len);
            if len <= u64::from(u16::MAX) || len >> 63 != 0 {
                return Err(WebSocketViolation::LengthEncoding);
            }
            (len, rest)
        }
        len => (u64::from(len), rest),
    };
    let (mask, rest) = match role {
        Role::Client => (None, rest),
        Role::Server => {
            let Some((mask, rest)) = rest.split_first_chunk::<4>() else { return Ok(None) };
            (Some(*mask), rest)
        }
    };
    let len = input.len() - rest.len();
    Ok(Some(Header { fin, opcode, mask, payload_len, len }))
}

/// Writes the header of a whole message into the end of `space`, and says where it starts.
pub(crate) fn encode_header(
    space: &mut [u8; HEADER_BYTES_MAX],
    opcode: Opcode,
    payload_len: usize,
    mask: Option<[u8; 4]>,
) -> usize {
    let mut bytes = [0_u8; HEADER_BYTES_MAX];
    let mut used = 0;
    let mut put = |more: &[u8]| {
        for byte in more {
            if let Some(slot) = bytes.get_mut(used) {
                *slot = *byte;
                used += 1;
            }
        }
    };
    let masked = if mask.is_some() { 0x80 } else { 0 };
    put(&[0x80 | opcode.to_wire()]);
    match (u8::try_from(payload_len), u16::try_from(payload_len)) {
        (Ok(short), _) if short < 126 => put(&[masked | short]),
        (_, Ok(medium)) => {
            put(&[masked | 126]);
            put(&medium.to_be_bytes());
        }
        _ => {
            put(&[masked | 127]);
            put(&u64::try_from(payload_len).unwrap_or(u64::MAX).to_be_bytes());
        }
    }
    if let Some(mask) = mask {
        put(&mask);
    }
    let start = HEADER_BYTES_MAX - used;
    for (slot, byte) in space.iter_mut().skip(start).zip(bytes) {
        *slot = byte;
    }
    start
}
