//! Records that no TLS library sends, after the handshake (RFC 8446 §5, §6).

use std::io::Write;
use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use hawser_session::{LaneSession, Role, SessionError};
use proptest::prelude::*;
use rustls::pki_types::CertificateDer;
use rustls::{AlertDescription, ConnectionTrafficSecrets, Error};

use crate::far::{Configs, Far};
use crate::pair::{Cuts, Member, deliver, messages};

pub(crate) const ALERT: u8 = 21;
pub(crate) const HANDSHAKE: u8 = 22;
pub(crate) const DATA: u8 = 23;
/// One that asks for none in return, as it stands in its record.
pub(crate) const KEY_UPDATE: [u8; 6] = [24, 0, 0, 1, 0, HANDSHAKE];
/// As that, and asks for one.
const KEY_UPDATE_REQUEST: [u8; 6] = [24, 0, 0, 1, 1, HANDSHAKE];

/// What a peer's TLS sent last, and the key for what comes behind.
pub(crate) struct Forger {
    key: LessSafeKey,
    iv: [u8; 12],
    sequence: u64,
    /// Secrets of the other direction, to read answers with.
    answers: (LessSafeKey, [u8; 12], u64),
}

fn key((sequence, secrets): (u64, ConnectionTrafficSecrets)) -> (LessSafeKey, [u8; 12], u64) {
    let ConnectionTrafficSecrets::Aes256Gcm { key, iv } = secrets else {
        panic!("another cipher suite than expected");
    };
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key.as_ref()).unwrap());
    (key, iv.as_ref().try_into().unwrap(), sequence)
}

fn nonce(iv: [u8; 12], sequence: u64) -> Nonce {
    let mut nonce = iv;
    for (byte, count) in nonce[4..].iter_mut().zip(sequence.to_be_bytes()) {
        *byte ^= count;
    }
    Nonce::assume_unique_for_key(nonce)
}

impl Forger {
    /// In the place of the peer of a session of role `near`.
    pub(crate) fn connected(near: Role) -> (LaneSession, Self) {
        Self::connected_through(near, Member::new().lane_configs())
    }

    /// As [`Self::connected`], with these.
    pub(crate) fn connected_through(
        near: Role,
        (mut client, mut server): Configs,
    ) -> (LaneSession, Self) {
        Arc::make_mut(&mut client).enable_secret_extraction = true;
        Arc::make_mut(&mut server).enable_secret_extraction = true;
        let (near, far) = Far::connected_through(near, (client, server));
        let secrets = far.tls.dangerous_extract_secrets().unwrap();
        let (key, iv, sequence) = key(secrets.tx);
        (near, Self { key, iv, sequence, answers: self::key(secrets.rx) })
    }

    /// A record of `inner`: content, its type, and padding.
    pub(crate) fn record(&mut self, inner: &[u8]) -> Vec<u8> {
        let mut sealed = inner.to_vec();
        let len = u16::try_from(sealed.len() + AES_256_GCM.tag_len()).unwrap().to_be_bytes();
        let header = [23, 3, 3, len[0], len[1]];
        let nonce = nonce(self.iv, self.sequence);
        self.key.seal_in_place_append_tag(nonce, Aad::from(header), &mut sealed).unwrap();
        self.sequence += 1;
        [&header[..], &sealed].concat()
    }

    /// Records of the session that have been read.
    pub(crate) fn opened(&self) -> u64 {
        self.answers.2
    }

    /// The inner plaintexts of what the session answers, up to a key update.
    pub(crate) fn answers(&mut self, near: &mut LaneSession) -> Vec<Vec<u8>> {
        let mut sent = near.take_unsent();
        let (mut rest, mut answers) = (sent.as_mut_slice(), Vec::new());
        while let Some((header, behind)) = rest.split_first_chunk_mut::<5>() {
            let len = usize::from(u16::from_be_bytes([header[3], header[4]]));
            let (record, behind) = behind.split_at_mut(len);
            let (key, iv, sequence) = &mut self.answers;
            let opened = key.open_in_place(nonce(*iv, *sequence), Aad::from(*header), record);
            *sequence += 1;
            answers.push(opened.unwrap().to_vec());
            if answers.last().is_some_and(|inner| *inner == KEY_UPDATE) {
                break;
            }
            rest = behind;
        }
        answers
    }
}

/// A whole message of one byte, as the peer of `role` sends it.
fn frame(role: Role) -> Vec<u8> {
    match role {
        Role::Client => vec![0x82, 1, 7],
        Role::Server => vec![0x82, 0x81, 0, 0, 0, 0, 7],
    }
}

pub(crate) fn feed(near: &mut LaneSession, bytes: &[u8]) -> Result<(), SessionError> {
    deliver(bytes, near, &mut Cuts::new(vec![1, 3, 7000]), |_| {}).map(drop)
}

/// Both roles refuse the record of `inner`, and say why to the peer.
fn refused(inner: &[u8], alert: AlertDescription) {
    for role in [Role::Client, Role::Server] {
        let (mut near, mut forger) = Forger::connected(role);
        let error = feed(&mut near, &forger.record(inner)).unwrap_err();
        let answers = forger.answers(&mut near);
        assert_eq!(answers, [[2, u8::from(alert), ALERT]], "{role:?} {error}");
        assert!(matches!(near.process(), Err(SessionError::NotReady)));
        assert!(near.peer_certificates().is_none_or(<[CertificateDer<'_>]>::is_empty));
    }
}

#[test]
fn padding_and_empty_records_are_not_seen() {
    for role in [Role::Client, Role::Server] {
        let (mut near, mut forger) = Forger::connected(role);
        let whole = frame(role);
        for padding in [0, 1, 200, 16_384 - whole.len()] {
            feed(&mut near, &forger.record(&[DATA])).unwrap();
            let inner = [&whole[..], &[DATA], &vec![0; padding]].concat();
            feed(&mut near, &forger.record(&inner)).unwrap();
            assert_eq!(messages(&mut near), [[7]], "{padding}");
        }
    }
}

#[test]
fn a_record_without_a_type_or_of_a_strange_one_is_refused() {
    refused(&[], AlertDescription::UnexpectedMessage);
    refused(&[0; 100], AlertDescription::UnexpectedMessage);
    for kind in [1, 20, 24, 255] {
        refused(&[1, kind], AlertDescription::UnexpectedMessage);
    }
}

#[test]
fn a_record_that_is_too_long_is_refused_before_it_has_arrived() {
    for role in [Role::Client, Role::Server] {
        let (mut near, mut forger) = Forger::connected(role);
        // 2¹⁴ + 256 is the most.
        let [high, low] = 16_641_u16.to_be_bytes();
        let error = feed(&mut near, &[23, 3, 3, high, low]).unwrap_err();
        assert!(matches!(error, SessionError::Tls(Error::PeerSentOversizedRecord)), "{error}");
        assert_eq!(forger.answers(&mut near), [[2, 22, ALERT]]);
    }
    // So it is if the surplus is padding.
    refused(&[DATA; 16_386], AlertDescription::RecordOverflow);
    refused(&[&[DATA][..], &[0; 16_385]].concat(), AlertDescription::RecordOverflow);
}

#[test]
fn what_is_not_protected_is_refused() {
    for role in [Role::Client, Role::Server] {
        for kind in [20, ALERT, HANDSHAKE, 0, 0x80] {
            let (mut near, mut forger) = Forger::connected(role);
            let error = feed(&mut near, &[kind, 3, 3, 0, 2, 1, 0]).unwrap_err();
            let answers = forger.answers(&mut near);
            assert_eq!(answers, [[2, 10, ALERT]], "{error}");
        }
    }
}

#[test]
fn of_handshake_messages_only_whole_ones_with_a_place_are_taken() {
    let unexpected = AlertDescription::UnexpectedMessage;
    // A piece of a key update; one with something behind it.
    refused(&[24, HANDSHAKE], unexpected);
    refused(&[24, 0, 0, 1, HANDSHAKE], unexpected);
    refused(&[24, 0, 0, 1, 0, 24, 0, 0, 1, 0, HANDSHAKE], unexpected);
    // A value that does not exist; lengths.
    refused(&[24, 0, 0, 1, 2, HANDSHAKE], AlertDescription::IllegalParameter);
    refused(&[24, 0, 0, 0, HANDSHAKE], AlertDescription::DecodeError);
    refused(&[24, 0, 0, 2, 0, 0, HANDSHAKE], AlertDescription::DecodeError);
    // The beginning of a new handshake; none at all.
    refused(&[1, 0, 0, 1, 9, HANDSHAKE], unexpected);
    refused(&[HANDSHAKE], unexpected);
}

#[test]
fn a_ticket_is_for_clients_alone_and_of_no_use_to_them() {
    let ticket = [4, 0, 0, 3, 1, 2, 3, HANDSHAKE];
    let (mut near, mut forger) = Forger::connected(Role::Client);
    feed(&mut near, &forger.record(&ticket)).unwrap();
    feed(&mut near, &forger.record(&[&frame(Role::Client)[..], &[DATA]].concat())).unwrap();
    assert_eq!(messages(&mut near), [[7]]);
    let (mut near, mut forger) = Forger::connected(Role::Server);
    feed(&mut near, &forger.record(&ticket)).unwrap_err();
}

#[test]
fn an_alert_ends_the_session_without_an_answer_unless_it_says_little() {
    for role in [Role::Client, Role::Server] {
        let (mut near, mut forger) = Forger::connected(role);
        let cancelled = u8::from(AlertDescription::UserCanceled);
        feed(&mut near, &forger.record(&[1, cancelled, ALERT])).unwrap();
        // Even as a mere warning.
        let error = feed(&mut near, &forger.record(&[1, 40, ALERT])).unwrap_err();
        assert!(matches!(error, SessionError::Tls(Error::AlertReceived(_))), "{error}");
        assert!(near.unsent_is_empty());
    }
    for inner in [&[1, ALERT][..], &[1, 0, 1, 0, ALERT]] {
        refused(inner, AlertDescription::DecodeError);
    }
    refused(&[ALERT], AlertDescription::UnexpectedMessage);
}

#[test]
fn nothing_counts_behind_a_closure() {
    for role in [Role::Client, Role::Server] {
        let (mut near, mut forger) = Forger::connected(role);
        let data = [&frame(role)[..], &[DATA]].concat();
        let bytes =
            [forger.record(&data), forger.record(&[1, 0, ALERT]), forger.record(&data)].concat();
        let progress = deliver(&bytes, &mut near, &mut Cuts::whole(), |_| {}).unwrap().unwrap();
        assert!(progress.peer_closed && !progress.handshaking);
        assert_eq!(messages(&mut near), [[7]]);
        // Not even what is no TLS at all; and the near end may still send.
        feed(&mut near, b"GET / HTTP/1.1\r\n\r\n").unwrap();
        near.send_message(b"late").unwrap();
        assert_eq!(forger.answers(&mut near).len(), 1);
    }
}

#[test]
fn nothing_is_sent_behind_our_own_closure() {
    for role in [Role::Client, Role::Server] {
        let (mut near, mut forger) = Forger::connected(role);
        near.send_close();
        let sent = near.unsent_len();
        near.send_close();
        assert!(matches!(near.send_message(b"x"), Err(SessionError::NotReady)));
        feed(&mut near, &forger.record(&[&frame(role)[..], &[DATA]].concat())).unwrap();
        feed(&mut near, &forger.record(&KEY_UPDATE_REQUEST)).unwrap();
        assert_eq!(messages(&mut near), [[7]], "the peer may go on");
        feed(&mut near, &[0; 5]).unwrap_err();
        assert_eq!(near.unsent_len(), sent);
        assert_eq!(forger.answers(&mut near).last().unwrap(), &[1, 0, ALERT]);
    }
}

#[test]
fn what_brings_nothing_may_not_come_for_ever() {
    let data = |role| [&frame(role)[..], &[DATA]].concat();
    let cancelled = vec![1, u8::from(AlertDescription::UserCanceled), ALERT];
    for role in [Role::Client, Role::Server] {
        for empty in [&[DATA][..], &cancelled] {
            let (mut near, mut forger) = Forger::connected(role);
            for _ in 0..2 {
                for _ in 0..32 {
                    feed(&mut near, &forger.record(empty)).unwrap();
                }
                feed(&mut near, &forger.record(&data(role))).unwrap();
            }
            for _ in 0..32 {
                feed(&mut near, &forger.record(empty)).unwrap();
            }
            let error = feed(&mut near, &forger.record(empty)).unwrap_err();
            assert!(matches!(error, SessionError::Tls(Error::PeerMisbehaved(_))), "{error}");
            assert_eq!(forger.answers(&mut near), [[2, 10, ALERT]]);
        }
        let (mut near, mut far) = Far::connected(role);
        for _ in 0..33 {
            far.tls.refresh_traffic_keys().unwrap();
        }
        far.write_to(&mut near);
        let error = near.process().unwrap_err();
        assert!(matches!(error, SessionError::Tls(Error::PeerMisbehaved(_))), "{error}");
    }
}

/// New keys cost more than a record does: one record does not pay for as many as may come at once.
#[test]
fn a_little_data_pays_for_few_new_keys() {
    for role in [Role::Client, Role::Server] {
        let (mut near, mut far) = Far::connected(role);
        let mut updates = 0;
        let error = loop {
            far.tls.refresh_traffic_keys().unwrap();
            far.tls.writer().write_all(&frame(role)).unwrap();
            far.write_to(&mut near);
            if let Err(error) = near.process() {
                break error;
            }
            updates += 1;
        };
        assert!(matches!(error, SessionError::Tls(Error::PeerMisbehaved(_))), "{error}");
        assert!((32..40).contains(&updates), "{updates}");
    }
}

#[test]
fn who_asks_for_new_keys_gets_them_before_more_data() {
    for role in [Role::Client, Role::Server] {
        let (mut near, mut forger) = Forger::connected(role);
        feed(&mut near, &forger.record(&KEY_UPDATE_REQUEST)).unwrap();
        assert_eq!(forger.answers(&mut near), [KEY_UPDATE], "at once");
        // Not at once, as much waits to be written; but the next record says so.
        let (mut near, mut forger) = Forger::connected(role);
        near.send_message(&[0; 100_000]).unwrap();
        let before = near.unsent_len();
        feed(&mut near, &forger.record(&KEY_UPDATE_REQUEST)).unwrap();
        assert_eq!(near.unsent_len(), before);
        near.send_message(b"x").unwrap();
        let sent = forger.answers(&mut near);
        assert_eq!(sent.last().unwrap(), &KEY_UPDATE);
        assert_eq!(sent.len(), 100_000_usize.div_ceil(16_384) + 1);
    }
}

#[test]
fn who_asks_for_new_keys_and_does_not_read_gets_few_answers() {
    for role in [Role::Client, Role::Server] {
        let (mut near, mut far) = Far::connected(role);
        near.send_message(&[0; 100_000]).unwrap();
        let before = near.unsent_len();
        for _ in 0..100 {
            far.tls.refresh_traffic_keys().unwrap();
            for _ in 0..8 {
                far.tls.writer().write_all(&frame(role)).unwrap();
            }
            far.write_to(&mut near);
            near.process().unwrap();
        }
        assert_eq!(near.unsent_len(), before, "{role:?}");
        assert_eq!(messages(&mut near).len(), 800);
        far.read_from(&mut near);
        near.process().unwrap();
        assert!(near.unsent_len() > 0, "one answer, once there is room");
        far.read_from(&mut near);
        near.send_message(b"x").unwrap();
        far.read_from(&mut near);
        assert!(far.plaintext().len() > 100_000);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn whatever_is_in_a_record_ends_in_a_value_or_an_error(
        client in any::<bool>(),
        records in prop::collection::vec(inner(), 1..12),
    ) {
        let (mut near, mut forger) =
            Forger::connected(if client { Role::Client } else { Role::Server });
        let bytes: Vec<u8> = records.iter().flat_map(|inner| forger.record(inner)).collect();
        let taken = deliver(&bytes, &mut near, &mut Cuts::new(vec![1, 50, 4]), |near| {
            while let Ok(Some(_)) = near.next_message() {}
        });
        if taken.is_err() {
            prop_assert!(matches!(near.send_message(b"x"), Err(SessionError::NotReady)));
        }
        prop_assert!(near.unsent_len() < 64 << 10);
    }
}

/// Bytes that often begin or end as a handshake message, an alert or a frame does.
fn inner() -> impl Strategy<Value = Vec<u8>> {
    let begin = prop_oneof![
        Just(vec![]),
        Just(vec![24, 0, 0, 1]),
        Just(vec![4, 0, 0, 2]),
        Just(vec![1]),
        Just(vec![0x82, 0x81, 0, 0, 0, 0]),
    ];
    let end = prop_oneof![Just(ALERT), Just(HANDSHAKE), Just(DATA), any::<u8>()];
    let middle = prop::collection::vec(prop_oneof![0..3_u8, any::<u8>()], 0..8);
    (begin, middle, end, 0..3_usize).prop_map(|(begin, middle, end, padding)| {
        [begin, middle, vec![end], vec![0; padding]].concat()
    })
}
