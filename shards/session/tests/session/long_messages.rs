//! Records within a message that is long: they are decrypted to where it is put together.

use hawser_session::{LaneSession, Role, SessionError};
use proptest::prelude::*;
use rustls::AlertDescription;

use crate::pair::messages;
use crate::records::{ALERT, DATA, Forger, HANDSHAKE, feed};

const MASK: [u8; 4] = [3, 77, 150, 201];
/// A plaintext is no longer, its type aside.
const CONTENT_MAX: usize = 16 << 10;

fn payload(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 29 + at / 256) as u8).collect()
}

/// The header of a frame with `len` bytes, and those as they are on the wire: the peer of `role`
/// sends them.
fn frame(role: Role, len: usize) -> (Vec<u8>, Vec<u8>) {
    let (masked, key) = match role {
        Role::Client => (0, [0; 4]),
        Role::Server => (0x80, MASK),
    };
    let len_field = u64::try_from(len).unwrap().to_be_bytes();
    let mut header = [&[0x82, masked | 127][..], &len_field].concat();
    if role == Role::Server {
        header.extend(MASK);
    }
    let body = payload(len).iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key).collect();
    (header, body)
}

/// A session that has got the header of a long frame, and knows that bytes are frames.
fn begun(role: Role, len: usize) -> (LaneSession, Forger, Vec<u8>) {
    let (mut near, mut forger) = Forger::connected(role);
    assert_eq!(messages(&mut near), [[0; 0]; 0]);
    let (header, body) = frame(role, len);
    feed(&mut near, &forger.record(&[&header[..], &[DATA]].concat())).unwrap();
    (near, forger, body)
}

fn data(content: &[u8], padding: usize) -> Vec<u8> {
    [content, &[DATA], &vec![0; padding]].concat()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn however_it_is_cut_into_records_and_padded_the_message_is_whole(
        cuts in prop::collection::vec(
            (prop_oneof![500..5000_usize, Just(CONTENT_MAX), 4000..CONTENT_MAX], 0..2000_usize),
            1..8,
        ),
        len in 70_000..120_000_usize,
        server in any::<bool>(),
    ) {
        let role = if server { Role::Server } else { Role::Client };
        let (mut near, mut forger, body) = begun(role, len);
        let mut rest = &body[..];
        for &(content, padding) in cuts.iter().cycle() {
            let (piece, behind) = rest.split_at(content.min(rest.len()));
            // A record has as much room as it has.
            let padding = padding.min(CONTENT_MAX - piece.len());
            feed(&mut near, &forger.record(&data(piece, padding))).unwrap();
            rest = behind;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert!(messages(&mut near) == [payload(len)]);
    }
}

#[test]
fn a_record_that_ends_a_message_may_begin_the_next() {
    for role in [Role::Client, Role::Server] {
        let (mut near, mut forger, body) = begun(role, 70_000);
        let (header, next) = frame(role, 66_000);
        let all = [body, header, next].concat();
        for piece in all.chunks(CONTENT_MAX) {
            feed(&mut near, &forger.record(&data(piece, 0))).unwrap();
        }
        assert!(messages(&mut near) == [payload(70_000), payload(66_000)], "{role:?}");
        // With the first bytes of its header, from none on.
        for more in 0..4 {
            let (mut near, mut forger, body) = begun(role, 70_000);
            let (header, next) = frame(role, 66_000);
            let all = [body, header, next].concat();
            let (first, rest) = all.split_at(60_000);
            let (second, rest) = rest.split_at(10_000 + more);
            for piece in first.chunks(CONTENT_MAX).chain([second]).chain(rest.chunks(CONTENT_MAX)) {
                feed(&mut near, &forger.record(&data(piece, 0))).unwrap();
            }
            assert!(messages(&mut near) == [payload(70_000), payload(66_000)], "{role:?} {more}");
        }
    }
}

#[test]
fn what_is_no_data_leaves_the_message_alone() {
    for role in [Role::Client, Role::Server] {
        let (mut near, mut forger, body) = begun(role, 70_000);
        let user_canceled = [1, u8::from(AlertDescription::UserCanceled)];
        let (first, rest) = body.split_at(10_000);
        feed(&mut near, &forger.record(&data(first, 0))).unwrap();
        for content in [&[DATA][..], &[&user_canceled[..], &[ALERT]].concat()] {
            let inner = [content, &[0; 8000]].concat();
            feed(&mut near, &forger.record(&inner)).unwrap();
        }
        for piece in rest.chunks(CONTENT_MAX) {
            feed(&mut near, &forger.record(&data(piece, 0))).unwrap();
        }
        assert!(messages(&mut near) == [payload(70_000)], "{role:?}");
    }
}

#[test]
fn data_pays_for_what_brings_nothing() {
    let (mut near, mut forger, body) = begun(Role::Client, 320_000);
    for piece in body.chunks(5000) {
        feed(&mut near, &forger.record(&[DATA])).unwrap();
        feed(&mut near, &forger.record(&data(piece, 0))).unwrap();
    }
    assert!(messages(&mut near) == [payload(320_000)]);
}

#[test]
fn new_keys_may_come_within_it() {
    for role in [Role::Client, Role::Server] {
        let (mut near, mut forger, body) = begun(role, 70_000);
        let update = [&[24, 0, 0, 1, 1, HANDSHAKE][..], &[0; 8000]].concat();
        feed(&mut near, &forger.record(&update)).unwrap();
        assert_eq!(forger.answers(&mut near).len(), 1, "{role:?}");
        // The old ones are of no use any more.
        let error = feed(&mut near, &forger.record(&data(&body[..9000], 0))).unwrap_err();
        assert!(
            matches!(error, SessionError::Tls(rustls::Error::DecryptError)),
            "{role:?} {error}"
        );
    }
}

#[test]
fn what_is_wrong_with_a_record_within_it_is_found() {
    let refused = |inner: &[u8], alert: AlertDescription| {
        for role in [Role::Client, Role::Server] {
            let (mut near, mut forger, _) = begun(role, 70_000);
            let error = feed(&mut near, &forger.record(inner)).unwrap_err();
            let answers = forger.answers(&mut near);
            assert_eq!(answers, [[2, u8::from(alert), ALERT]], "{role:?} {error}");
            assert_eq!(messages(&mut near), [[0; 0]; 0]);
        }
    };
    refused(&[0; 9000], AlertDescription::UnexpectedMessage);
    refused(&[7; 9000], AlertDescription::UnexpectedMessage);
    refused(&data(&[7; CONTENT_MAX], 1), AlertDescription::RecordOverflow);
    refused(&[&[HANDSHAKE][..], &[0; 9000]].concat(), AlertDescription::UnexpectedMessage);
    for place in [5, 5000, 9005, 9020] {
        let (mut near, mut forger, body) = begun(Role::Client, 70_000);
        let mut record = forger.record(&data(&body[..9000], 0));
        record[place] ^= 1;
        feed(&mut near, &record).unwrap_err();
        assert_eq!(
            forger.answers(&mut near),
            [[2, u8::from(AlertDescription::BadRecordMac), ALERT]]
        );
    }
}
