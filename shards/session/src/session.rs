use std::sync::Arc;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ServerConfig};

use crate::SessionError;
use crate::inbox::Inbox;
use crate::mask::MaskSource;
use crate::outgoing::Outgoing;
use crate::pieces::Pieces;
use crate::records::missing_bytes;
use crate::tls::Tls;
use crate::traffic_key::RECORD_PLAINTEXT_MAX;
use crate::websocket::{HEADER_BYTES_MAX, Opcode, encode_header};

/// Pongs are left out while this many bytes wait: a peer that asks and does not read gets nothing.
const PONGS_UNSENT_MAX: usize = 64 << 10;

/// Payload in the record that the header stands in. The mask begins anew with each record, so that
/// its length is one of whole masks.
const FIRST_PIECE_BYTES: usize = RECORD_PLAINTEXT_MAX - 16;
const _: () = assert!(FIRST_PIECE_BYTES.is_multiple_of(4) && HEADER_BYTES_MAX <= 16);

/// Which end of the connection this is: the one that dialled is the client.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Role {
    /// Dialled; masks its frames.
    Client,
    /// Accepted; does not.
    Server,
}

/// Where the connection stands after [`LaneSession::process`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Progress {
    /// Application data cannot be sent yet.
    pub handshaking: bool,
    /// The peer has closed its side properly.
    pub peer_closed: bool,
}

/// TLS and WebSocket state of one lane, with all bytes that are under way in this process.
#[derive(Debug)]
pub struct LaneSession {
    role: Role,
    tls: Tls,
    masks: MaskSource,
    /// Ciphertext read, not yet processed.
    incoming: Vec<u8>,
    /// Plaintext, not yet consumed.
    inbox: Inbox,
    /// Ciphertext to be written.
    outgoing: Outgoing,
}

impl LaneSession {
    /// The dialling side.
    ///
    /// # Errors
    /// [`SessionError::Tls`] if the configuration cannot make a connection.
    pub fn client(
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> Result<Self, SessionError> {
        let masks = MaskSource::new(config.crypto_provider().secure_random);
        Ok(Self::new(Role::Client, Tls::client(config, name)?, masks))
    }

    /// The accepting side.
    ///
    /// # Errors
    /// [`SessionError::Tls`] if the configuration cannot make a connection.
    pub fn server(config: Arc<ServerConfig>) -> Result<Self, SessionError> {
        let masks = MaskSource::new(config.crypto_provider().secure_random);
        Ok(Self::new(Role::Server, Tls::server(config)?, masks))
    }

    fn new(role: Role, tls: Tls, masks: MaskSource) -> Self {
        Self {
            role,
            tls,
            masks,
            incoming: Vec::new(),
            inbox: Inbox::default(),
            outgoing: Outgoing::default(),
        }
    }

    /// Which end this is.
    #[must_use]
    pub const fn role(&self) -> Role {
        self.role
    }

    /// The peer's certificates, leaf first, once the handshake has got them.
    #[must_use]
    pub fn peer_certificates(&self) -> Option<&[CertificateDer<'static>]> {
        self.tls.peer_certificates()
    }

    /// Ciphertext from the socket is appended here; then [`Self::process`] is called.
    pub const fn read_buffer(&mut self) -> &mut Vec<u8> {
        &mut self.incoming
    }

    /// Takes the read buffer, with a partial record at its front, to hand it to a read in flight.
    #[must_use]
    pub fn take_read_buffer(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.incoming)
    }

    /// So many bytes at least are still to come before there is something to decrypt; 0 if that is not known,
    /// as it is not before the handshake is done.
    #[must_use]
    pub fn missing_bytes(&self) -> usize {
        if self.tls.is_established() { missing_bytes(&self.incoming) } else { 0 }
    }

    /// Brings the read buffer back.
    pub fn put_read_buffer(&mut self, buffer: Vec<u8>) {
        self.incoming = buffer;
    }

    /// Decrypts what was read and advances the handshake.
    ///
    /// # Errors
    /// [`SessionError`] if the connection cannot go on; what is unsent may hold an alert for the
    /// peer.
    pub fn process(&mut self) -> Result<Progress, SessionError> {
        let progress = self.tls.process(&mut self.incoming, &mut self.outgoing, &mut self.inbox)?;
        Ok(Progress {
            handshaking: !progress.may_send && !progress.peer_closed,
            peer_closed: progress.peer_closed,
        })
    }

    /// The decrypted bytes.
    pub const fn inbox(&mut self) -> &mut Inbox {
        &mut self.inbox
    }

    /// Takes the decrypted bytes out, so that they can be read while the session sends.
    #[must_use]
    pub fn take_inbox(&mut self) -> Inbox {
        std::mem::take(&mut self.inbox)
    }

    /// Brings them back, and answers the pings that were among them.
    ///
    /// # Errors
    /// [`SessionError`] if an answer cannot be sent.
    pub fn put_inbox(&mut self, mut inbox: Inbox) -> Result<(), SessionError> {
        let pings = inbox.take_pings();
        self.inbox = inbox;
        for ping in pings {
            if self.outgoing.len() > PONGS_UNSENT_MAX {
                break;
            }
            self.send_frame(Opcode::Pong, Pieces::of([&ping, &[]]))?;
        }
        Ok(())
    }

    /// The next whole message, copied out. For the few messages of a handshake.
    ///
    /// # Errors
    /// [`SessionError::WebSocket`] if the peer broke the protocol.
    pub fn next_message(&mut self) -> Result<Option<Vec<u8>>, SessionError> {
        let mut inbox = self.take_inbox();
        let message = inbox.next_message(self.role).map(|message| message.map(|m| m.to_vec()));
        self.put_inbox(inbox)?;
        Ok(message?)
    }

    /// Encrypts bytes that are no WebSocket frame: the HTTP handshake.
    ///
    /// # Errors
    /// [`SessionError`] if the TLS handshake is not done.
    pub fn send_plaintext(&mut self, bytes: &[u8]) -> Result<(), SessionError> {
        self.tls.records()?.seal_from(bytes, &mut self.outgoing)
    }

    /// Encrypts one binary message.
    ///
    /// # Errors
    /// [`SessionError`] if it cannot be sent.
    pub fn send_message(&mut self, batch: &[u8]) -> Result<(), SessionError> {
        self.send_joined([batch, &[]])
    }

    /// Encrypts one binary message that lies in two parts.
    ///
    /// # Errors
    /// [`SessionError`] if it cannot be sent.
    pub fn send_joined(&mut self, batch: [&[u8]; 2]) -> Result<(), SessionError> {
        self.send_frame(Opcode::Binary, Pieces::of(batch))
    }

    /// A client's payload is masked to where it is encrypted; a server's is encrypted from where it
    /// lies, but for what shares a record with the header or with the other part.
    fn send_frame(&mut self, opcode: Opcode, mut payload: Pieces<'_>) -> Result<(), SessionError> {
        let records = self.tls.records()?;
        let mask = match self.role {
            Role::Client => Some(self.masks.next()?),
            Role::Server => None,
        };
        let mut space = [0; HEADER_BYTES_MAX];
        let start = encode_header(&mut space, opcode, payload.len(), mask);
        let header = space.get(start..).unwrap_or_default();
        let first = match self.role {
            Role::Client => payload.take(FIRST_PIECE_BYTES),
            // What follows is encrypted without being copied.
            Role::Server => payload.take(payload.until_part().min(FIRST_PIECE_BYTES)),
        };
        records.seal(header.len() + first.len(), &mut self.outgoing, |plaintext| {
            let (front, body) = plaintext.split_at_mut(header.len());
            front.copy_from_slice(header);
            first.copy_to(body, mask);
        })?;
        while !payload.is_empty() {
            let piece = payload.take(RECORD_PLAINTEXT_MAX);
            match piece.whole().filter(|_| mask.is_none()) {
                Some(bytes) => records.seal_from(bytes, &mut self.outgoing)?,
                None => records.seal(piece.len(), &mut self.outgoing, |body| {
                    piece.copy_to(body, mask);
                })?,
            }
        }
        Ok(())
    }

    /// Says good-bye on both layers.
    pub fn send_close(&mut self) {
        // RFC 6455 §7.4.1: 1000, normal closure.
        let reason = 1000_u16.to_be_bytes();
        let _cannot = self.send_frame(Opcode::Close, Pieces::of([&reason, &[]]));
        let _cannot = self.tls.records().and_then(|records| records.close(&mut self.outgoing));
    }

    /// Takes the ciphertext that must be written to the socket next, all of it.
    #[must_use]
    pub fn take_unsent(&mut self) -> Vec<u8> {
        self.outgoing.take()
    }

    /// Gives a written-out buffer back to be filled again.
    pub fn recycle(&mut self, buffer: Vec<u8>) {
        self.outgoing.recycle(buffer);
    }

    /// Bytes that wait to be written.
    #[must_use]
    pub const fn unsent_len(&self) -> usize {
        self.outgoing.len()
    }

    /// Nothing waits to be written.
    #[must_use]
    pub const fn unsent_is_empty(&self) -> bool {
        self.outgoing.len() == 0
    }
}
