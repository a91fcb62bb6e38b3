use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::kernel::KernelConnection;
use rustls::pki_types::CertificateDer;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::{
    AlertDescription, Error, ExtractedSecrets, InvalidMessage, PeerMisbehaved, SupportedCipherSuite,
};

use crate::SessionError;
use crate::inbox::Inbox;
use crate::outgoing::Outgoing;
use crate::traffic_key::{
    ContentType, RECORD_HEADER_BYTES, RECORD_PLAINTEXT_MAX, TAG_BYTES, TrafficKey,
};

/// A protected record may be longer than its plaintext by so much (RFC 8446 §5.2).
const EXPANSION_BYTES_MAX: usize = 256;
/// Handshake messages that may come after the handshake (RFC 8446 §4): type and length, in bytes.
const HANDSHAKE_HEADER_BYTES: usize = 4;
const NEW_SESSION_TICKET: u8 = 4;
const KEY_UPDATE: u8 = 24;
/// A key update that asks for none in return (RFC 8446 §4.6.3).
const KEY_UPDATE_MESSAGE: [u8; 5] = [KEY_UPDATE, 0, 0, 1, 0];
/// Answers to key updates are put off while this many bytes wait to be written: a peer that asks and
/// does not read gets nothing.
const ANSWERS_UNSENT_MAX: usize = 64 << 10;
/// Key updates, tickets, warnings and records without data that may come in a row.
const FRUITLESS_MAX: u8 = 32;
/// Key updates that may come at once.
const KEY_UPDATES_MAX: u8 = 32;
/// Records with data that pay for one more: new keys cost as much as some records do, and whoever else
/// this thread serves waits.
const PAYS_RECORDS: u8 = 8;
/// `AlertLevel.fatal` (RFC 8446 §6).
const FATAL: u8 = 2;

/// Where new traffic secrets come from: the key schedule stays with rustls.
enum KeySchedule {
    Client(Box<KernelConnection<ClientConnectionData>>),
    Server(Box<KernelConnection<ServerConnectionData>>),
}

impl KeySchedule {
    fn next_sealing(&mut self) -> Result<TrafficKey, SessionError> {
        TrafficKey::new(match self {
            Self::Client(connection) => connection.update_tx_secret()?,
            Self::Server(connection) => connection.update_tx_secret()?,
        })
    }

    fn next_opening(&mut self) -> Result<TrafficKey, SessionError> {
        TrafficKey::new(match self {
            Self::Client(connection) => connection.update_rx_secret()?,
            Self::Server(connection) => connection.update_rx_secret()?,
        })
    }

    fn suite(&self) -> SupportedCipherSuite {
        match self {
            Self::Client(connection) => connection.negotiated_cipher_suite(),
            Self::Server(connection) => connection.negotiated_cipher_suite(),
        }
    }
}

/// The record protocol of TLS 1.3 behind the handshake (RFC 8446 §5): what the kernel does where it
/// has TLS. rustls has made the handshake and keeps the key schedule; records are encrypted where
/// they are written from, and decrypted where they were read to.
pub(crate) struct Records {
    schedule: KeySchedule,
    peer_certificates: Option<Vec<CertificateDer<'static>>>,
    sealing: TrafficKey,
    opening: TrafficKey,
    /// Of the suite (RFC 8446 §5.5).
    records_per_key_max: u64,
    /// The peer has asked for new keys of this side's and has not got them.
    key_update_due: bool,
    /// Records in a row that brought nothing.
    fruitless: u8,
    /// Key updates that no data has paid for, and records with data since the last that was paid for.
    key_updates: (u8, u8),
    /// The peer sends no more.
    peer_closed: bool,
    /// This side sends no more: it has said so, or cannot go on.
    closed: bool,
}

impl Records {
    /// Takes over from a client that has done its handshake.
    ///
    /// # Errors
    /// [`SessionError::Tls`] if it has not, or keeps its secrets.
    pub(crate) fn of_client(connection: UnbufferedClientConnection) -> Result<Self, SessionError> {
        let certificates = owned(connection.peer_certificates());
        let (secrets, kernel) = connection.dangerous_into_kernel_connection()?;
        Self::new(KeySchedule::Client(Box::new(kernel)), secrets, certificates)
    }

    /// As [`Self::of_client`], from a server.
    ///
    /// # Errors
    /// As there.
    pub(crate) fn of_server(connection: UnbufferedServerConnection) -> Result<Self, SessionError> {
        let certificates = owned(connection.peer_certificates());
        let (secrets, kernel) = connection.dangerous_into_kernel_connection()?;
        Self::new(KeySchedule::Server(Box::new(kernel)), secrets, certificates)
    }

    fn new(
        schedule: KeySchedule,
        secrets: ExtractedSecrets,
        peer_certificates: Option<Vec<CertificateDer<'static>>>,
    ) -> Result<Self, SessionError> {
        let suite = schedule.suite().tls13();
        let suite = suite.ok_or_else(|| Error::General("not TLS 1.3".to_owned()))?;
        Ok(Self {
            schedule,
            peer_certificates,
            sealing: TrafficKey::new(secrets.tx)?,
            opening: TrafficKey::new(secrets.rx)?,
            records_per_key_max: suite.common.confidentiality_limit,
            key_update_due: false,
            fruitless: 0,
            key_updates: (0, 0),
            peer_closed: false,
            closed: false,
        })
    }

    pub(crate) fn peer_certificates(&self) -> Option<&[CertificateDer<'static>]> {
        self.peer_certificates.as_deref()
    }

    /// The peer has said that it sends no more.
    pub(crate) const fn is_peer_closed(&self) -> bool {
        self.peer_closed
    }

    /// Takes the whole records from the front of `incoming`; how many bytes they were. After an error,
    /// the alert that the peer is owed has been written, and nothing more may be asked.
    pub(crate) fn process(
        &mut self,
        incoming: &mut [u8],
        outgoing: &mut Outgoing,
        inbox: &mut Inbox,
    ) -> Result<usize, SessionError> {
        let mut taken = 0;
        let mut rest = incoming;
        loop {
            if self.peer_closed {
                // RFC 8446 §6.1: what comes behind a closure alert is ignored.
                taken += rest.len();
                break;
            }
            let len = match record_len(rest) {
                Ok(Some(len)) => len,
                Ok(None) => break,
                Err(error) => return Err(self.fail(error, outgoing)),
            };
            let (record, behind) = rest.split_at_mut(len);
            if let Err(error) = self.take(record, inbox) {
                return Err(self.fail(error, outgoing));
            }
            taken += len;
            rest = behind;
        }
        if self.key_update_due && !self.closed && outgoing.len() <= ANSWERS_UNSENT_MAX {
            self.update_sealing(outgoing).map_err(|error| self.fail(error, outgoing))?;
        }
        Ok(taken)
    }

    fn take(&mut self, record: &mut [u8], inbox: &mut Inbox) -> Result<(), SessionError> {
        let Some((&mut header, protected)) = record.split_first_chunk_mut() else { return Ok(()) };
        if let Some(room) = inbox.lend(protected.len().saturating_sub(TAG_BYTES)) {
            let opened = self.opening.open_to(header, protected, room);
            return match opened.and_then(|()| split_content(room)) {
                Ok((ContentType::ApplicationData, bytes)) if !bytes.is_empty() => {
                    let bytes = bytes.len();
                    self.note_data();
                    inbox.fill(bytes);
                    Ok(())
                }
                Ok((content, bytes)) => {
                    let bytes = bytes.to_vec();
                    inbox.fill(0);
                    self.take_content(content, &bytes, inbox)
                }
                Err(error) => {
                    inbox.fill(0);
                    Err(error)
                }
            };
        }
        let opened = self.opening.open(header, protected)?;
        let (content, bytes) = split_content(opened)?;
        self.take_content(content, bytes, inbox)
    }

    fn take_content(
        &mut self,
        content: ContentType,
        bytes: &[u8],
        inbox: &mut Inbox,
    ) -> Result<(), SessionError> {
        match content {
            ContentType::ApplicationData if bytes.is_empty() => {
                self.note_fruitless(PeerMisbehaved::TooManyEmptyFragments)?;
            }
            ContentType::ApplicationData => {
                self.note_data();
                inbox.feed(bytes);
            }
            // RFC 8446 §5.4.
            _ if bytes.is_empty() => return Err(unexpected(content.code())),
            ContentType::Handshake => self.take_handshake(bytes)?,
            ContentType::Alert => self.take_alert(bytes)?,
        }
        Ok(())
    }

    fn take_alert(&mut self, bytes: &[u8]) -> Result<(), SessionError> {
        let &[_level, description] = bytes else {
            return Err(Error::InvalidMessage(InvalidMessage::MessageTooShort).into());
        };
        // RFC 8446 §6: all others are errors, whatever level they claim.
        match AlertDescription::from(description) {
            AlertDescription::CloseNotify => self.peer_closed = true,
            AlertDescription::UserCanceled => {
                self.note_fruitless(PeerMisbehaved::TooManyWarningAlertsReceived)?;
            }
            other => return Err(Error::AlertReceived(other).into()),
        }
        Ok(())
    }

    fn take_handshake(&mut self, mut bytes: &[u8]) -> Result<(), SessionError> {
        while !bytes.is_empty() {
            let (kind, body, behind) =
                split_handshake(bytes).ok_or(SessionError::HandshakeInPieces)?;
            bytes = behind;
            match (kind, body) {
                // RFC 8446 §5.1: it ends the record, since what follows has another key.
                (KEY_UPDATE, _) if !bytes.is_empty() => {
                    return Err(unexpected(ContentType::Handshake.code()));
                }
                (KEY_UPDATE, &[asks @ (0 | 1)]) => {
                    self.note_key_update()?;
                    self.opening = self.schedule.next_opening()?;
                    self.key_update_due |= asks == 1;
                }
                (KEY_UPDATE, &[_]) => {
                    return Err(Error::InvalidMessage(InvalidMessage::InvalidKeyUpdate).into());
                }
                (KEY_UPDATE, _) => {
                    return Err(Error::InvalidMessage(InvalidMessage::MessageTooLarge).into());
                }
                // Nothing is resumed here, so that a ticket is of no use.
                (NEW_SESSION_TICKET, _) if matches!(self.schedule, KeySchedule::Client(_)) => {
                    self.note_fruitless(PeerMisbehaved::TooManyEmptyFragments)?;
                }
                _ => return Err(unexpected(ContentType::Handshake.code())),
            }
        }
        Ok(())
    }

    /// Data came: it pays for what brought none, and is not saved for later.
    fn note_data(&mut self) {
        self.fruitless = 0;
        let (updates, records) = self.key_updates;
        let records = if updates > 0 { records.saturating_add(1) } else { 0 };
        let is_paid = records >= PAYS_RECORDS;
        self.key_updates =
            if is_paid { (updates.saturating_sub(1), 0) } else { (updates, records) };
    }

    fn note_key_update(&mut self) -> Result<(), SessionError> {
        self.note_fruitless(PeerMisbehaved::TooManyKeyUpdateRequests)?;
        self.key_updates.0 = self.key_updates.0.saturating_add(1);
        if self.key_updates.0 > KEY_UPDATES_MAX {
            return Err(Error::PeerMisbehaved(PeerMisbehaved::TooManyKeyUpdateRequests).into());
        }
        Ok(())
    }

    /// Each record costs something; data pays for it.
    fn note_fruitless(&mut self, too_many: PeerMisbehaved) -> Result<(), SessionError> {
        self.fruitless = self.fruitless.saturating_add(1);
        if self.fruitless > FRUITLESS_MAX {
            return Err(Error::PeerMisbehaved(too_many).into());
        }
        Ok(())
    }

    /// Appends a record whose `len_bytes` of application data `fill` writes.
    pub(crate) fn seal(
        &mut self,
        len_bytes: usize,
        outgoing: &mut Outgoing,
        fill: impl FnOnce(&mut [u8]),
    ) -> Result<(), SessionError> {
        self.renew_sealing(outgoing)?;
        let sealed = self.sealing.seal(ContentType::ApplicationData, len_bytes, outgoing, fill);
        self.ending_with(sealed)
    }

    /// Appends `plaintext`, encrypted from where it lies, in as many records as it takes.
    pub(crate) fn seal_from(
        &mut self,
        plaintext: &[u8],
        outgoing: &mut Outgoing,
    ) -> Result<(), SessionError> {
        for piece in plaintext.chunks(RECORD_PLAINTEXT_MAX) {
            self.renew_sealing(outgoing)?;
            let content = ContentType::ApplicationData;
            let sealed = self.sealing.seal_from(content, piece, outgoing);
            self.ending_with(sealed)?;
        }
        Ok(())
    }

    /// What could not be sealed is missing among the records: nothing may be sent behind it.
    fn ending_with(&mut self, sealed: Result<(), SessionError>) -> Result<(), SessionError> {
        self.closed |= sealed.is_err();
        sealed
    }

    /// Appends a closure alert. Nothing can be sent behind it (RFC 8446 §6.1).
    pub(crate) fn close(&mut self, outgoing: &mut Outgoing) -> Result<(), SessionError> {
        self.alert(AlertDescription::CloseNotify, outgoing)
    }

    /// New keys before the next data, if the peer has asked for them (RFC 8446 §4.6.3) or the present
    /// ones would protect too much (§5.5). The record that says so is one of theirs.
    fn renew_sealing(&mut self, outgoing: &mut Outgoing) -> Result<(), SessionError> {
        if self.closed {
            return Err(SessionError::NotReady);
        }
        let is_used_up = self.sealing.records().saturating_add(1) >= self.records_per_key_max;
        if self.key_update_due || is_used_up { self.update_sealing(outgoing) } else { Ok(()) }
    }

    fn update_sealing(&mut self, outgoing: &mut Outgoing) -> Result<(), SessionError> {
        self.key_update_due = false;
        let content = ContentType::Handshake;
        let sealed = self.sealing.seal_from(content, &KEY_UPDATE_MESSAGE, outgoing);
        let next = sealed.and_then(|()| self.schedule.next_sealing());
        let renewed = next.map(|key| self.sealing = key);
        self.ending_with(renewed)
    }

    fn alert(
        &mut self,
        description: AlertDescription,
        outgoing: &mut Outgoing,
    ) -> Result<(), SessionError> {
        if std::mem::replace(&mut self.closed, true) {
            return Err(SessionError::NotReady);
        }
        let level = if description == AlertDescription::CloseNotify { 1 } else { FATAL };
        let alert = [level, u8::from(description)];
        self.sealing.seal_from(ContentType::Alert, &alert, outgoing)
    }

    /// Tells the peer what it is owed, if anything (RFC 8446 §6.2).
    fn fail(&mut self, error: SessionError, outgoing: &mut Outgoing) -> SessionError {
        let description = match &error {
            SessionError::Tls(Error::AlertReceived(_)) => return error,
            SessionError::Tls(Error::DecryptError) => AlertDescription::BadRecordMac,
            SessionError::Tls(Error::PeerSentOversizedRecord) => AlertDescription::RecordOverflow,
            SessionError::Tls(Error::InvalidMessage(InvalidMessage::InvalidKeyUpdate)) => {
                AlertDescription::IllegalParameter
            }
            SessionError::Tls(Error::InvalidMessage(_)) => AlertDescription::DecodeError,
            SessionError::Tls(Error::InappropriateMessage { .. } | Error::PeerMisbehaved(_))
            | SessionError::HandshakeInPieces => AlertDescription::UnexpectedMessage,
            _ => AlertDescription::InternalError,
        };
        // It is over in any case.
        let _unsent = self.alert(description, outgoing);
        error
    }
}

fn owned(certificates: Option<&[CertificateDer<'static>]>) -> Option<Vec<CertificateDer<'static>>> {
    certificates.map(<[CertificateDer<'static>]>::to_vec)
}

/// A record of a type that has no place where it stands.
fn unexpected(code: u8) -> SessionError {
    let got_type = rustls::ContentType::from(code);
    Error::InappropriateMessage { expect_types: Vec::new(), got_type }.into()
}

/// Length of the record at the front, header included, if it has arrived in full.
///
/// # Errors
/// [`SessionError::Tls`] if what stands there cannot be a protected record.
fn record_len(bytes: &[u8]) -> Result<Option<usize>, SessionError> {
    let Some(&[kind, _, _, high, low]) = bytes.first_chunk() else { return Ok(None) };
    if kind != ContentType::ApplicationData.code() {
        return Err(unexpected(kind));
    }
    let protected = usize::from(u16::from_be_bytes([high, low]));
    if protected > RECORD_PLAINTEXT_MAX + EXPANSION_BYTES_MAX {
        return Err(Error::PeerSentOversizedRecord.into());
    }
    let len = RECORD_HEADER_BYTES + protected;
    Ok((bytes.len() >= len).then_some(len))
}

/// So much is missing of the record at the front: before that is there nothing can be decrypted. 0 if its
/// length is not known yet, or if it is whole.
pub(crate) fn missing_bytes(bytes: &[u8]) -> usize {
    let Some(&[_, _, _, high, low]) = bytes.first_chunk() else { return 0 };
    let len = RECORD_HEADER_BYTES + usize::from(u16::from_be_bytes([high, low]));
    len.saturating_sub(bytes.len())
}

/// What a decrypted record carries, without padding and type behind it (RFC 8446 §5.4).
///
/// # Errors
/// [`SessionError::Tls`] if it has no type, or one that has no place behind the handshake, or is too
/// long.
fn split_content(opened: &[u8]) -> Result<(ContentType, &[u8]), SessionError> {
    // RFC 8446 §5.4: padding counts.
    if opened.len() > RECORD_PLAINTEXT_MAX + 1 {
        return Err(Error::PeerSentOversizedRecord.into());
    }
    let end = opened.iter().rposition(|&byte| byte != 0);
    let Some((content, &[code, ..])) = end.and_then(|end| opened.split_at_checked(end)) else {
        // Padding alone: RFC 8446 §5.4 asks for an unexpected_message alert.
        return Err(unexpected(0));
    };
    let kind = ContentType::from_code(code).ok_or_else(|| unexpected(code))?;
    Ok((kind, content))
}

/// Type and body of the first handshake message, and what stands behind it; nothing if it is not
/// whole (RFC 8446 §4).
fn split_handshake(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[kind, high, middle, low], rest) = bytes.split_first_chunk::<HANDSHAKE_HEADER_BYTES>()?;
    let len = usize::try_from(u32::from_be_bytes([0, high, middle, low])).ok()?;
    let (body, behind) = rest.split_at_checked(len)?;
    Some((kind, body, behind))
}
