use hawser_wire::BATCH_BYTES_MAX;

use crate::mask::apply_mask;
use crate::websocket::{Header, Opcode, decode_header};
use crate::{Role, WebSocketViolation};

/// A message may come in this many pieces; our own senders use one.
const FRAGMENTS_MAX: u32 = 64;
/// Pings answered between two calls that take the answers.
const PINGS_MAX: u32 = 16;

/// Decrypted bytes of a lane on their way to being messages.
///
/// It can be taken out of its session while its messages are handled, and put back.
#[derive(Debug, Default)]
pub struct Inbox {
    /// Plaintext as decrypted; `start..` is not consumed yet.
    plaintext: Vec<u8>,
    start: usize,
    /// A message that comes in pieces.
    assembly: Vec<u8>,
    fragments: u32,
    in_message: bool,
    /// Payloads of pings that want a pong.
    pings: Vec<Vec<u8>>,
    /// The peer sent a close frame.
    closed: bool,
}

/// An inbox with these decrypted bytes, as if a session had read them.
impl From<Vec<u8>> for Inbox {
    fn from(plaintext: Vec<u8>) -> Self {
        Self { plaintext, ..Self::default() }
    }
}

/// Where a whole message stands.
enum Found {
    InPlace { start: usize, end: usize },
    Assembled,
}

impl Inbox {
    /// Bytes not consumed yet, for the HTTP handshake before the first message.
    #[must_use]
    pub fn unread(&self) -> &[u8] {
        self.plaintext.get(self.start..).unwrap_or_default()
    }

    /// Drops `count` bytes from the front of the unread ones.
    pub fn consume(&mut self, count: usize) {
        self.start = self.start.saturating_add(count).min(self.plaintext.len());
        self.compact();
    }

    /// The peer has sent a WebSocket close frame; nothing comes behind it.
    #[must_use]
    pub const fn is_closed(&self) -> bool {
        self.closed
    }

    pub(crate) const fn plaintext_mut(&mut self) -> &mut Vec<u8> {
        &mut self.plaintext
    }

    pub(crate) fn take_pings(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.pings)
    }

    /// The next whole binary message, unmasked; `None` if more bytes are needed or the peer closed.
    ///
    /// `role` is this side's.
    ///
    /// # Errors
    /// [`WebSocketViolation`] if the peer broke the protocol; the lane is to be closed.
    pub fn next_message(&mut self, role: Role) -> Result<Option<&mut [u8]>, WebSocketViolation> {
        if self.fragments > 0 && !self.in_message {
            // The assembled message that was handed out last is done with.
            self.assembly.clear();
            self.fragments = 0;
        }
        let found = loop {
            if self.closed {
                // Whatever a peer sends behind its close is not kept.
                self.start = self.plaintext.len();
                break None;
            }
            let Some(header) = decode_header(self.unread(), role)? else { break None };
            self.check_bounds(&header)?;
            let payload_len = usize::try_from(header.payload_len).unwrap_or(usize::MAX);
            let start = self.start.saturating_add(header.len);
            let end = start.saturating_add(payload_len);
            let Some(payload) = self.plaintext.get_mut(start..end) else { break None };
            if let Some(mask) = header.mask {
                apply_mask(payload, mask);
            }
            self.start = end;
            match header.opcode {
                Opcode::Ping => self.pings.push(payload.to_vec()),
                Opcode::Pong => {}
                Opcode::Close => self.closed = true,
                Opcode::Binary if header.fin => break Some(Found::InPlace { start, end }),
                Opcode::Binary | Opcode::Continuation => {
                    self.assembly.extend_from_slice(payload);
                    self.fragments = self.fragments.saturating_add(1);
                    self.in_message = !header.fin;
                    if header.fin {
                        break Some(Found::Assembled);
                    }
                }
            }
        };
        Ok(match found {
            None => {
                self.compact();
                None
            }
            Some(Found::InPlace { start, end }) => self.plaintext.get_mut(start..end),
            Some(Found::Assembled) => Some(&mut self.assembly),
        })
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
        let assembled = u64::try_from(self.assembly.len()).unwrap_or(u64::MAX);
        let earlier = if self.in_message { assembled } else { 0 };
        let bytes = earlier.saturating_add(header.payload_len);
        let max_bytes = u64::try_from(BATCH_BYTES_MAX).unwrap_or(u64::MAX);
        if bytes > max_bytes {
            return Err(WebSocketViolation::TooLarge { bytes, max_bytes });
        }
        Ok(())
    }

    /// Moves what is left to the front, once no message is borrowed.
    fn compact(&mut self) {
        if self.start == self.plaintext.len() {
            self.plaintext.clear();
        } else if self.start > 0 {
            self.plaintext.copy_within(self.start.., 0);
            self.plaintext.truncate(self.plaintext.len() - self.start);
        }
        self.start = 0;
    }
}

#[cfg(test)]
mod tests;
