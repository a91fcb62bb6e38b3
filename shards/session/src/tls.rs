use std::sync::Arc;

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncryptError, InsufficientSizeError, UnbufferedStatus,
};
use rustls::{ClientConfig, ServerConfig};

use crate::SessionError;
use crate::inbox::Inbox;
use crate::outgoing::Outgoing;

/// A TLS record carries at most this much plaintext (RFC 8446 §5.1).
pub(crate) const RECORD_PLAINTEXT_MAX: usize = 16 << 10;
/// Header, content type and tag of a record (RFC 8446 §5.2), and room for a key update.
const RECORD_OVERHEAD_MAX: usize = 64;

/// Space beyond what was asked for, so that another key update does not ask once more.
const GROWTH_SLACK: usize = 512;

/// The unbuffered rustls connection of either side.
pub(crate) enum Tls {
    Client(Box<UnbufferedClientConnection>),
    Server(Box<UnbufferedServerConnection>),
    /// It met an error. What rustls remembers about the read buffer no longer holds, and asking it
    /// again may panic, so there is nothing left to ask.
    Failed,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Client(_) => "Tls::Client",
            Self::Server(_) => "Tls::Server",
            Self::Failed => "Tls::Failed",
        })
    }
}

/// What one step over the incoming bytes came to.
enum Step {
    /// Go on: a record was taken, or a handshake message written.
    Again,
    /// Nothing more to do until bytes arrive. True if application data may be sent.
    Idle(bool),
    /// The peer has closed its side.
    PeerClosed,
}

/// Where a run over the incoming bytes ended.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TlsProgress {
    pub(crate) may_send: bool,
    pub(crate) peer_closed: bool,
}

impl Tls {
    pub(crate) fn client(
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> Result<Self, SessionError> {
        Ok(Self::Client(Box::new(UnbufferedClientConnection::new(config, name)?)))
    }

    pub(crate) fn server(config: Arc<ServerConfig>) -> Result<Self, SessionError> {
        Ok(Self::Server(Box::new(UnbufferedServerConnection::new(config)?)))
    }

    pub(crate) fn peer_certificates(&self) -> Option<&[CertificateDer<'static>]> {
        match self {
            Self::Client(connection) => connection.peer_certificates(),
            Self::Server(connection) => connection.peer_certificates(),
            Self::Failed => None,
        }
    }

    /// Takes records from the front of `incoming` until more bytes are needed. Application data goes
    /// to `inbox`, what must be sent to `outgoing`.
    pub(crate) fn process(
        &mut self,
        incoming: &mut Vec<u8>,
        outgoing: &mut Outgoing,
        inbox: &mut Inbox,
    ) -> Result<TlsProgress, SessionError> {
        let mut progress = TlsProgress::default();
        let mut start = 0;
        let result = loop {
            let rest = incoming.get_mut(start..).unwrap_or_default();
            let (discard, step) = self.step(rest, outgoing, inbox);
            start += discard;
            match step {
                Ok(Step::Again) => {}
                Ok(Step::PeerClosed) => progress.peer_closed = true,
                Ok(Step::Idle(may_send)) => {
                    progress.may_send = may_send;
                    break Ok(progress);
                }
                Err(error) => {
                    // The alert for the peer still waits inside; this one step writes it. Another
                    // would read the failed record again.
                    let rest = incoming.get_mut(start..).unwrap_or_default();
                    let _alert = self.step(rest, outgoing, inbox);
                    *self = Self::Failed;
                    break Err(error);
                }
            }
        };
        // One move for the partial record at the end, not one per record.
        incoming.copy_within(start.., 0);
        incoming.truncate(incoming.len() - start);
        if progress.may_send && !progress.peer_closed && holds_whole_record(incoming) {
            // A piece of a handshake message stays in the read buffer, and rustls remembers where;
            // sending, which has no read buffer at hand, would then panic. Nobody cuts the few
            // short messages that exist after the handshake.
            *self = Self::Failed;
            return Err(SessionError::HandshakeInPieces);
        }
        result
    }

    fn step(
        &mut self,
        rest: &mut [u8],
        outgoing: &mut Outgoing,
        inbox: &mut Inbox,
    ) -> (usize, Result<Step, SessionError>) {
        match self {
            Self::Client(connection) => {
                handle(connection.process_tls_records(rest), outgoing, inbox)
            }
            Self::Server(connection) => {
                handle(connection.process_tls_records(rest), outgoing, inbox)
            }
            Self::Failed => (0, Err(SessionError::NotReady)),
        }
    }

    /// Appends `plaintext`, encrypted, to `outgoing`.
    pub(crate) fn encrypt(
        &mut self,
        plaintext: &[u8],
        outgoing: &mut Outgoing,
    ) -> Result<(), SessionError> {
        let records = plaintext.len().div_ceil(RECORD_PLAINTEXT_MAX).max(1);
        let space = plaintext.len() + records * RECORD_OVERHEAD_MAX;
        match self {
            Self::Client(connection) => write(
                connection.process_tls_records(&mut []),
                Write::Data(plaintext),
                outgoing,
                space,
            ),
            Self::Server(connection) => write(
                connection.process_tls_records(&mut []),
                Write::Data(plaintext),
                outgoing,
                space,
            ),
            Self::Failed => Err(SessionError::NotReady),
        }
    }

    /// Appends a close_notify alert to `outgoing`, if one can still be sent.
    pub(crate) fn close(&mut self, outgoing: &mut Outgoing) {
        let space = RECORD_OVERHEAD_MAX;
        // A connection that has failed already has nothing to say good-bye with.
        let _unsendable = match self {
            Self::Client(connection) => {
                write(connection.process_tls_records(&mut []), Write::CloseNotify, outgoing, space)
            }
            Self::Server(connection) => {
                write(connection.process_tls_records(&mut []), Write::CloseNotify, outgoing, space)
            }
            Self::Failed => return,
        };
    }
}

/// True if the bytes begin with a record that has arrived in full (RFC 8446 §5.1).
fn holds_whole_record(bytes: &[u8]) -> bool {
    let Some((&[_, _, _, high, low], body)) = bytes.split_first_chunk::<5>() else { return false };
    body.len() >= usize::from(u16::from_be_bytes([high, low]))
}

fn handle<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    outgoing: &mut Outgoing,
    inbox: &mut Inbox,
) -> (usize, Result<Step, SessionError>) {
    let mut discard = status.discard;
    let state = match status.state {
        Ok(state) => state,
        Err(error) => return (discard, Err(error.into())),
    };
    let step = match state {
        ConnectionState::ReadTraffic(mut traffic) => loop {
            match traffic.next_record() {
                Some(Ok(record)) => {
                    discard += record.discard;
                    inbox.feed(record.payload);
                }
                Some(Err(error)) => break Err(error.into()),
                None => break Ok(Step::Again),
            }
        },
        ConnectionState::EncodeTlsData(mut data) => {
            let written = append(outgoing, 512, |space| {
                data.encode(space).map_err(|error| match error {
                    EncodeError::InsufficientSize(need) => Append::Grow(need),
                    EncodeError::AlreadyEncoded => Append::Failed(SessionError::NotReady),
                })
            });
            written.map(|()| Step::Again)
        }
        ConnectionState::TransmitTlsData(data) => {
            data.done();
            Ok(Step::Again)
        }
        ConnectionState::BlockedHandshake => Ok(Step::Idle(false)),
        ConnectionState::WriteTraffic(_) => Ok(Step::Idle(true)),
        ConnectionState::PeerClosed => Ok(Step::PeerClosed),
        // Closed, and early data, which no configuration of ours accepts.
        _ => Ok(Step::Idle(false)),
    };
    (discard, step)
}

#[derive(Clone, Copy)]
enum Write<'a> {
    Data(&'a [u8]),
    CloseNotify,
}

/// Writes in the state that an empty input leads to. A pending handshake message (a key update) is
/// written by `process`, which runs at every read; only traffic states are met here.
fn write<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    what: Write<'_>,
    outgoing: &mut Outgoing,
    space: usize,
) -> Result<(), SessionError> {
    let ConnectionState::WriteTraffic(mut traffic) = status.state? else {
        return Err(SessionError::NotReady);
    };
    append(outgoing, space, |space| {
        let written = match what {
            Write::Data(plaintext) => traffic.encrypt(plaintext, space),
            Write::CloseNotify => traffic.queue_close_notify(space),
        };
        written.map_err(|error| match error {
            EncryptError::InsufficientSize(need) => Append::Grow(need),
            EncryptError::EncryptExhausted => Append::Failed(SessionError::KeysExhausted),
        })
    })
}

enum Append {
    Grow(InsufficientSizeError),
    Failed(SessionError),
}

/// Lets `write` fill space behind the contents of `out`, growing it as often as it asks for more.
fn append(
    out: &mut Outgoing,
    space: usize,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, Append>,
) -> Result<(), SessionError> {
    let mut space = space;
    loop {
        match write(out.room(space)) {
            Ok(written) => {
                out.commit(written);
                return Ok(());
            }
            Err(Append::Grow(need)) if need.required_size > space => {
                space = need.required_size + GROWTH_SLACK;
            }
            Err(Append::Grow(_)) => return Err(SessionError::NotReady),
            Err(Append::Failed(error)) => return Err(error),
        }
    }
}
