use std::collections::VecDeque;

use bytes::BytesMut;
use hawser_wire::BATCH_BYTES_MAX;

use crate::mask::apply_mask;
use crate::message::Message;
use crate::websocket::{HEADER_BYTES_MAX, Header, Opcode, decode_header};
use crate::{Role, WebSocketViolation};

/// A message may come in this many pieces; our own senders use one.
const FRAGMENTS_MAX: u32 = 64;
/// Pings answered between two calls that take the answers.
const PINGS_MAX: u32 = 16;
/// Memory for what a header announces is taken at once, up to so many times what has arrived of it.
const AHEAD_MAX: usize = 16;
/// A shorter record is not worth being decrypted to where it belongs.
const LENT_BYTES_MIN: usize = 4 << 10;
/// A buffer that came back is kept for the next message up to this size.
const SPARE_BYTES_MAX: usize = 256 << 10;

/// Decrypted bytes of a lane on their way to being messages.
///
/// Until the first message is asked for, bytes are kept as they come: the HTTP handshake. From then
/// on they are frames, and each payload goes to its message as it arrives, unmasked.
///
/// It can be taken out of its session while its messages are handled, and put back.
#[derive(Debug, Default)]
pub struct Inbox {
    /// This side, once bytes are frames.
    role: Option<Role>,
    /// Bytes of the HTTP handshake; later of a frame's header that is not whole.
    unread: Vec<u8>,
    /// The frame whose payload comes next.
    frame: Option<Payload>,
    /// The message in the making.
    message: BytesMut,
    /// Bytes at its end that were lent.
    lent_bytes: usize,
    fragments: u32,
    in_message: bool,
    /// Messages that are whole.
    whole: VecDeque<BytesMut>,
    /// A buffer to be filled again.
    spare: BytesMut,
    /// What has come of a control frame's payload.
    control: Vec<u8>,
    /// Payloads of pings that want a pong.
    pings: Vec<Vec<u8>>,
    /// The peer sent a close frame.
    closed: bool,
    /// The peer broke the protocol: nothing is read behind that.
    violation: Option<WebSocketViolation>,
}

/// A payload, as far as it is still to come.
#[derive(Clone, Copy, Debug)]
struct Payload {
    opcode: Opcode,
    fin: bool,
    /// As it applies to the next byte.
    mask: Option<[u8; 4]>,
    left_bytes: usize,
}

/// An inbox with these decrypted bytes, as if a session had read them.
impl From<Vec<u8>> for Inbox {
    fn from(unread: Vec<u8>) -> Self {
        Self { unread, ..Self::default() }
    }
}

impl Inbox {
    /// The bytes before the first message, for the HTTP handshake.
    #[must_use]
    pub fn unread(&self) -> &[u8] {
        &self.unread
    }

    /// Drops `count` bytes from the front of the unread ones.
    pub fn consume(&mut self, count: usize) {
        self.unread.drain(..count.min(self.unread.len()));
    }

    /// Drops everything, and from now on whatever comes: the lane is about to close.
    pub fn discard(&mut self) {
        *self = Self { closed: true, role: self.role.or(Some(Role::Server)), ..Self::default() };
    }

    /// Bytes that have arrived and were not handed out.
    #[must_use]
    pub fn waiting_bytes(&self) -> usize {
        let whole = self.whole.iter().map(BytesMut::len).sum::<usize>();
        self.unread.len().saturating_add(self.message.len()).saturating_add(whole)
    }

    /// The peer has sent a WebSocket close frame, and all before it was handed out; nothing comes
    /// behind it.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closed && self.whole.is_empty()
    }

    pub(crate) fn take_pings(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.pings)
    }

    /// The next whole binary message; `None` if more bytes are needed or the peer closed.
    ///
    /// `role` is this side's, the same each time.
    ///
    /// # Errors
    /// [`WebSocketViolation`] if the peer broke the protocol behind the messages before; the lane is
    /// to be closed.
    pub fn next_message(&mut self, role: Role) -> Result<Option<Message>, WebSocketViolation> {
        if self.role.is_none() {
            self.role = Some(role);
            let bytes = std::mem::take(&mut self.unread);
            self.feed(&bytes);
        }
        match (self.whole.pop_front(), self.violation) {
            (Some(message), _) => Ok(Some(Message::new(message))),
            (None, Some(violation)) => Err(violation),
            (None, None) => Ok(None),
        }
    }

    /// Takes back a message that is done with, whose memory is used again unless somebody keeps a
    /// part of it.
    pub fn recycle(&mut self, message: Message) {
        if let Some(mut buffer) = message.into_buffer()
            && (self.spare.capacity()..=SPARE_BYTES_MAX).contains(&buffer.capacity())
        {
            buffer.clear();
            self.spare = buffer;
        }
    }

    /// Takes decrypted bytes.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        let Some(role) = self.role else {
            self.unread.extend_from_slice(bytes);
            return;
        };
        if let Err(violation) = self.absorb(role, bytes) {
            self.violation = Some(violation);
            self.message = BytesMut::new();
            self.unread = Vec::new();
        }
    }

    /// Room for a record of `bytes`, content and what is behind that, all of whose content belongs to
    /// the message in the making: it is decrypted there, and not copied. [`Self::fill`] is to follow.
    ///
    /// `None` if it may not belong there, or is short.
    pub(crate) fn lend(&mut self, bytes: usize) -> Option<&mut [u8]> {
        let payload = self.frame.filter(|payload| !payload.opcode.is_control())?;
        // The last byte, at least, is not content.
        if bytes > payload.left_bytes.saturating_add(1) || bytes < LENT_BYTES_MIN {
            return None;
        }
        self.make_room(bytes, payload.left_bytes);
        let start = self.message.len();
        self.message.resize(start.saturating_add(bytes), 0);
        self.lent_bytes = bytes;
        self.message.get_mut(start..)
    }

    /// The first `bytes` of what was lent are the message's; the rest is forgotten.
    pub(crate) fn fill(&mut self, bytes: usize) {
        let lent_bytes = std::mem::take(&mut self.lent_bytes);
        let start = self.message.len().saturating_sub(lent_bytes);
        let end = start.saturating_add(bytes.min(lent_bytes));
        self.message.truncate(end);
        if let Some(payload) = self.frame.filter(|_| end > start) {
            self.place(payload, start);
        }
    }

    fn absorb(&mut self, role: Role, mut bytes: &[u8]) -> Result<(), WebSocketViolation> {
        while !bytes.is_empty() && !self.closed && self.violation.is_none() {
            if let Some(payload) = self.frame {
                let (piece, rest) = bytes.split_at(payload.left_bytes.min(bytes.len()));
                bytes = rest;
                self.append(payload, piece);
            } else {
                let Some((header, rest)) = self.header(role, bytes)? else { break };
                bytes = rest;
                self.begin(&header)?;
            }
        }
        Ok(())
    }

    /// The header of the next frame and what stands behind it; `None` if it is not whole, and what is
    /// there of it is kept.
    fn header<'a>(
        &mut self,
        role: Role,
        bytes: &'a [u8],
    ) -> Result<Option<(Header, &'a [u8])>, WebSocketViolation> {
        let had = self.unread.len();
        let decoded = if had == 0 {
            decode_header(bytes, role)?
        } else {
            let more = bytes.len().min(HEADER_BYTES_MAX.saturating_sub(had));
            self.unread.extend_from_slice(bytes.get(..more).unwrap_or_default());
            decode_header(&self.unread, role)?
        };
        if decoded.is_none() && had == 0 {
            self.unread.extend_from_slice(bytes);
        }
        Ok(decoded.map(|header| {
            self.unread.clear();
            (header, bytes.get(header.len.saturating_sub(had)..).unwrap_or_default())
        }))
    }

    fn begin(&mut self, header: &Header) -> Result<(), WebSocketViolation> {
        self.check_bounds(header)?;
        let left_bytes = usize::try_from(header.payload_len).unwrap_or(usize::MAX);
        let &Header { opcode, fin, mask, .. } = header;
        let payload = Payload { opcode, fin, mask, left_bytes };
        self.frame = Some(payload);
        if left_bytes == 0 {
            self.append(payload, &[]);
        }
        Ok(())
    }

    /// Copies the next bytes of the payload to where they belong.
    fn append(&mut self, payload: Payload, piece: &[u8]) {
        let start = if payload.opcode.is_control() {
            self.control.extend_from_slice(piece);
            self.control.len()
        } else {
            self.make_room(piece.len(), payload.left_bytes);
            self.message.extend_from_slice(piece);
            self.message.len()
        };
        self.place(payload, start.saturating_sub(piece.len()));
    }

    /// What stands from `start` on where the payload belongs are its next bytes: unmasks them.
    fn place(&mut self, payload: Payload, start: usize) {
        let placed = if payload.opcode.is_control() {
            self.control.get_mut(start..)
        } else {
            self.message.get_mut(start..)
        };
        let placed = placed.unwrap_or_default();
        let left_bytes = payload.left_bytes.saturating_sub(placed.len());
        let mask = payload.mask.map(|mut mask| {
            // Just written, they are in the nearest cache still.
            apply_mask(placed, mask);
            mask.rotate_left(placed.len() % 4);
            mask
        });
        if left_bytes > 0 {
            self.frame = Some(Payload { mask, left_bytes, ..payload });
        } else {
            self.frame = None;
            self.finish(payload.opcode, payload.fin);
        }
    }

    /// Room for a piece, and for what follows it as far as a peer is believed. A byte more than the
    /// payload takes: a record that is decrypted there has one behind its content.
    fn make_room(&mut self, piece_bytes: usize, left_bytes: usize) {
        let wanted = left_bytes.saturating_add(1);
        if self.message.capacity() == 0 && Message::suits(self.spare.capacity(), wanted) {
            self.message = std::mem::take(&mut self.spare);
        }
        if self.message.capacity().saturating_sub(self.message.len()) < piece_bytes {
            self.message.reserve(wanted.min(piece_bytes.saturating_mul(AHEAD_MAX)));
        }
    }

    fn finish(&mut self, opcode: Opcode, fin: bool) {
        match opcode {
            Opcode::Ping => self.pings.push(std::mem::take(&mut self.control)),
            Opcode::Pong => self.control.clear(),
            Opcode::Close => {
                self.control.clear();
                self.closed = true;
                self.message = BytesMut::new();
            }
            Opcode::Binary | Opcode::Continuation if fin => {
                self.whole.push_back(std::mem::take(&mut self.message));
                (self.fragments, self.in_message) = (0, false);
            }
            Opcode::Binary | Opcode::Continuation => {
                self.fragments = self.fragments.saturating_add(1);
                self.in_message = true;
            }
        }
    }

    /// Checks what a header announces, before its payload is waited for.
    fn check_bounds(&self, header: &Header) -> Result<(), WebSocketViolation> {
        match header.opcode {
            Opcode::Ping if self.pings.len() >= usize::try_from(PINGS_MAX).unwrap_or(0) => {
                return Err(WebSocketViolation::PingFlood { max: PINGS_MAX });
            }
            Opcode::Ping | Opcode::Pong | Opcode::Close => return Ok(()),
            Opcode::Continuation if !self.in_message => {
                return Err(WebSocketViolation::UnexpectedContinuation);
            }
            Opcode::Binary if self.in_message => {
                return Err(WebSocketViolation::ExpectedContinuation);
            }
            Opcode::Continuation | Opcode::Binary => {}
        }
        if self.in_message && self.fragments >= FRAGMENTS_MAX {
            return Err(WebSocketViolation::TooManyFragments { max: FRAGMENTS_MAX });
        }
        let earlier = u64::try_from(self.message.len()).unwrap_or(u64::MAX);
        let bytes = earlier.saturating_add(header.payload_len);
        let max_bytes = u64::try_from(BATCH_BYTES_MAX).unwrap_or(u64::MAX);
        if bytes > max_bytes {
            return Err(WebSocketViolation::TooLarge { bytes, max_bytes });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
