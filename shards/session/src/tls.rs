use std::sync::Arc;

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, InsufficientSizeError, UnbufferedStatus};
use rustls::{ClientConfig, ServerConfig};

use crate::SessionError;
use crate::inbox::Inbox;
use crate::outgoing::Outgoing;
use crate::records::Records;
use crate::traffic_key::RECORD_HEADER_BYTES;

/// Space for a handshake message, if nothing says how much it needs.
const MESSAGE_BYTES: usize = 512;

/// TLS of either side: rustls' unbuffered connection until the handshake is done, our own records
/// from then on.
pub(crate) enum Tls {
    Client(Box<UnbufferedClientConnection>, Seen),
    Server(Box<UnbufferedServerConnection>, Seen),
    Established(Box<Records>),
    /// It met an error. What rustls remembers about the read buffer no longer holds, and asking it
    /// again may panic, so there is nothing left to ask.
    Failed,
}

/// How much of the read buffer rustls has been shown, from its front. It remembers places there, and
/// may not be shown less.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    /// Where the last whole record ended.
    whole: usize,
    bytes: usize,
}

impl Seen {
    /// One whole record more, or what there is of it. False if there is nothing new.
    fn extend(&mut self, bytes: &[u8]) -> bool {
        let before = self.bytes;
        if let Some(end) = record_end(bytes, self.whole) {
            (self.whole, self.bytes) = (end, end);
        } else {
            self.bytes = bytes.len();
        }
        self.bytes > before
    }

    const fn discard(&mut self, bytes: usize) {
        self.whole = self.whole.saturating_sub(bytes);
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Client(..) => "Tls::Client",
            Self::Server(..) => "Tls::Server",
            Self::Established(_) => "Tls::Established",
            Self::Failed => "Tls::Failed",
        })
    }
}

/// What one step over the incoming bytes came to.
enum Step {
    /// Go on: a record was taken, or a handshake message written.
    Again,
    /// Nothing more to do until bytes arrive.
    Idle,
    /// As that, and application data may be sent.
    Traffic,
}

/// Where a run over the incoming bytes ended.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TlsProgress {
    pub(crate) may_send: bool,
    pub(crate) peer_closed: bool,
}

impl Tls {
    pub(crate) fn client(
        mut config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> Result<Self, SessionError> {
        // Where they go to is this process, and this crate.
        Arc::make_mut(&mut config).enable_secret_extraction = true;
        let connection = UnbufferedClientConnection::new(config, name)?;
        Ok(Self::Client(Box::new(connection), Seen::default()))
    }

    pub(crate) fn server(mut config: Arc<ServerConfig>) -> Result<Self, SessionError> {
        Arc::make_mut(&mut config).enable_secret_extraction = true;
        let connection = UnbufferedServerConnection::new(config)?;
        Ok(Self::Server(Box::new(connection), Seen::default()))
    }

    pub(crate) fn peer_certificates(&self) -> Option<&[CertificateDer<'static>]> {
        match self {
            Self::Client(connection, _) => connection.peer_certificates(),
            Self::Server(connection, _) => connection.peer_certificates(),
            Self::Established(records) => records.peer_certificates(),
            Self::Failed => None,
        }
    }

    pub(crate) const fn is_established(&self) -> bool {
        matches!(self, Self::Established(_))
    }

    /// Records, once the handshake is done.
    pub(crate) fn records(&mut self) -> Result<&mut Records, SessionError> {
        match self {
            Self::Established(records) => Ok(records),
            Self::Client(..) | Self::Server(..) | Self::Failed => Err(SessionError::NotReady),
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
        let result = self.take(incoming, outgoing, inbox);
        let Ok((taken, progress)) = result else {
            // What was decrypted is of no use to anybody.
            incoming.fill(0);
            incoming.clear();
            *self = Self::Failed;
            return result.map(|(_, progress)| progress);
        };
        // One move for the partial record at the end, not one per record.
        incoming.copy_within(taken.., 0);
        incoming.truncate(incoming.len() - taken);
        Ok(progress)
    }

    /// How many bytes it took, and where that led.
    fn take(
        &mut self,
        incoming: &mut [u8],
        outgoing: &mut Outgoing,
        inbox: &mut Inbox,
    ) -> Result<(usize, TlsProgress), SessionError> {
        let mut taken = match self {
            Self::Established(_) => 0,
            _ => self.handshake(incoming, outgoing)?,
        };
        let Self::Established(records) = self else { return Ok((taken, TlsProgress::default())) };
        let rest = incoming.get_mut(taken..).unwrap_or_default();
        taken += records.process(rest, outgoing, inbox)?;
        let peer_closed = records.is_peer_closed();
        Ok((taken, TlsProgress { may_send: true, peer_closed }))
    }

    /// Lets rustls have the bytes until it needs more or has done; how many it took.
    ///
    /// It gets one whole record more at a time, so that it never sees what comes behind the end of
    /// the handshake: an answer to a key update would stay inside it.
    fn handshake(
        &mut self,
        incoming: &mut [u8],
        outgoing: &mut Outgoing,
    ) -> Result<usize, SessionError> {
        let (mut taken, mut seen) = (0, self.seen());
        loop {
            let rest = incoming.get_mut(taken..).unwrap_or_default();
            let shown = rest.get_mut(..seen.bytes).unwrap_or_default();
            let (discard, step) = self.step(shown, outgoing);
            taken += discard;
            seen.discard(discard);
            match step {
                Ok(Step::Again) => {}
                // A server may send before it has heard the end of the client's handshake.
                Ok(Step::Traffic) if !self.is_handshaking() => {
                    self.establish()?;
                    return Ok(taken);
                }
                Ok(Step::Idle | Step::Traffic) => {
                    if !seen.extend(incoming.get(taken..).unwrap_or_default()) {
                        self.note_seen(seen);
                        return Ok(taken);
                    }
                }
                Err(error) => {
                    // The alert for the peer still waits inside; this one step writes it. Another
                    // would read the failed record again.
                    let rest = incoming.get_mut(taken..).unwrap_or_default();
                    let shown = rest.get_mut(..seen.bytes).unwrap_or_default();
                    let _alert = self.step(shown, outgoing);
                    return Err(error);
                }
            }
        }
    }

    const fn seen(&self) -> Seen {
        match self {
            Self::Client(_, seen) | Self::Server(_, seen) => *seen,
            Self::Established(_) | Self::Failed => Seen { whole: 0, bytes: 0 },
        }
    }

    const fn note_seen(&mut self, now: Seen) {
        if let Self::Client(_, seen) | Self::Server(_, seen) = self {
            *seen = now;
        }
    }

    /// Takes the keys over from rustls, which has done its handshake and seen nothing behind it.
    fn establish(&mut self) -> Result<(), SessionError> {
        let records = match std::mem::replace(self, Self::Failed) {
            Self::Client(connection, _) => Records::of_client(*connection)?,
            Self::Server(connection, _) => Records::of_server(*connection)?,
            Self::Established(_) | Self::Failed => return Err(SessionError::NotReady),
        };
        *self = Self::Established(Box::new(records));
        Ok(())
    }

    fn is_handshaking(&self) -> bool {
        match self {
            Self::Client(connection, _) => connection.is_handshaking(),
            Self::Server(connection, _) => connection.is_handshaking(),
            Self::Established(_) | Self::Failed => false,
        }
    }

    fn step(
        &mut self,
        rest: &mut [u8],
        outgoing: &mut Outgoing,
    ) -> (usize, Result<Step, SessionError>) {
        match self {
            Self::Client(connection, _) => handle(connection.process_tls_records(rest), outgoing),
            Self::Server(connection, _) => handle(connection.process_tls_records(rest), outgoing),
            Self::Established(_) | Self::Failed => (0, Err(SessionError::NotReady)),
        }
    }
}

/// Where the record that begins at `start` ends, if it has arrived in full (RFC 8446 §5.1).
fn record_end(bytes: &[u8], start: usize) -> Option<usize> {
    let record = bytes.get(start..)?;
    let &[_, _, _, high, low] = record.first_chunk()?;
    let len = RECORD_HEADER_BYTES + usize::from(u16::from_be_bytes([high, low]));
    (record.len() >= len).then_some(start + len)
}

fn handle<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    outgoing: &mut Outgoing,
) -> (usize, Result<Step, SessionError>) {
    let discard = status.discard;
    let state = match status.state {
        Ok(state) => state,
        Err(error) => return (discard, Err(error.into())),
    };
    let step = match state {
        ConnectionState::EncodeTlsData(mut data) => {
            let written = append(outgoing, MESSAGE_BYTES, |space| {
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
        ConnectionState::WriteTraffic(_) => Ok(Step::Traffic),
        ConnectionState::BlockedHandshake => Ok(Step::Idle),
        // A closure, data, and early data, which no configuration of ours accepts: they have no place
        // before the end of a handshake, and rustls says so before it comes to this.
        _ => Err(SessionError::NotReady),
    };
    (discard, step)
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
                space = need.required_size;
            }
            Err(Append::Grow(_)) => return Err(SessionError::NotReady),
            Err(Append::Failed(error)) => return Err(error),
        }
    }
}
