use super::*;
use crate::dial_back_request::tests::request;

#[expect(dead_code, reason = "other tests ask for the labels")]
#[path = "../../../../engine/wire/tests/wire/vectors.rs"]
mod vectors;

fn announce() -> StreamAnnounce {
    StreamAnnounce {
        stream: StreamId::from_bytes([7; 16]),
        tenant: "default".into(),
        name: "orders".into(),
        qos: 0,
        closing: true,
        created_unix_s: 1_700_000_000,
        destinations: vec![NodeId::from_bytes([1; 16]), NodeId::from_bytes([2; 16])],
        striped: true,
        class: TrafficClass::Priority,
    }
}

#[test]
fn every_message_comes_back() {
    let stream = StreamId::from_bytes([9; 16]);
    for message in [
        Datagram::StreamAnnounce(announce()),
        Datagram::StreamConfirm(stream),
        Datagram::StreamRefuse {
            stream,
            reason: RefuseReason::TooMany,
            detail: "65536 streams".into(),
        },
        Datagram::StreamGone(stream),
        Datagram::DialBack(request()),
        Datagram::Probe(DrillProbe { drill: 3, probe: 1 << 40 }),
        Datagram::ProbeAnswer(DrillProbe { drill: u64::MAX, probe: 1 }),
    ] {
        let bytes = message.encode();
        assert_eq!(Datagram::decode(&bytes), Ok(Some(message.clone())));
        // The last byte of an announcement is one that an earlier release does not write.
        let optional = usize::from(matches!(message, Datagram::StreamAnnounce(_)));
        for cut in 0..bytes.len() - optional {
            assert!(Datagram::decode(&bytes[..cut]).is_err(), "{message:?} cut at {cut}");
        }
        let longer = [bytes.as_slice(), b"of a later version"].concat();
        assert_eq!(Datagram::decode(&longer), Ok(Some(message)));
    }
}

#[test]
fn the_documented_announcement() {
    let node = |first: u8| NodeId::from_bytes(std::array::from_fn(|at| first + at as u8));
    let announce = StreamAnnounce {
        stream: StreamId::from_bytes(std::array::from_fn(|at| 0x50 + at as u8)),
        closing: false,
        destinations: vec![node(0xb0), node(0xc0)],
        striped: false,
        ..announce()
    };
    let message = Datagram::StreamAnnounce(announce);
    assert_eq!(message.encode(), vectors::vector("stream-announce"));
    assert_eq!(Datagram::decode(vectors::vector("stream-announce")), Ok(Some(message)));
}

#[test]
fn a_probe_stands_behind_its_kind() {
    let probe = DrillProbe { drill: 7, probe: 258 };
    for (kind, message) in [(7, Datagram::Probe(probe)), (8, Datagram::ProbeAnswer(probe))] {
        assert_eq!(message.encode(), [&[kind][..], &probe.encode()].concat());
    }
}

#[test]
fn membership_messages_come_back_and_are_no_others() {
    let body = membership_envelope(b"ping");
    assert_eq!(membership_message(&body), Some(b"ping".as_slice()));
    assert_eq!(Datagram::decode(&body), Ok(None));
    assert_eq!(membership_message(&Datagram::StreamGone(StreamId::default()).encode()), None);
    assert_eq!(membership_message(&[]), None);
}

#[test]
fn an_announcement_of_an_earlier_release_is_of_a_stream_of_bulk_that_is_not_striped() {
    let bytes = Datagram::StreamAnnounce(announce()).encode();
    let class = TrafficClass::Bulk;
    let earlier = StreamAnnounce { striped: false, class, ..announce() };
    let expected = Ok(Some(Datagram::StreamAnnounce(earlier)));
    assert_eq!(Datagram::decode(&bytes[..bytes.len() - 1]), expected);
}

#[test]
fn unknown_kinds_are_skipped() {
    assert_eq!(Datagram::decode(&[0xfe, 1, 2, 3]), Ok(None));
    assert_eq!(LinkMessage::decode(&[0xfe, 1]), Ok(None));
    assert_eq!(LinkMessage::decode(&[]), Ok(None));
}

#[test]
fn link_messages_come_back() {
    let flooded = flooding_envelope(b"lsa");
    assert_eq!(LinkMessage::decode(&flooded), Ok(Some(LinkMessage::Flooding(b"lsa"))));
    let asked = dial_back_envelope(&request());
    assert_eq!(LinkMessage::decode(&asked), Ok(Some(LinkMessage::DialBack(request()))));
    for cut in 1..asked.len() {
        assert!(LinkMessage::decode(&asked[..cut]).is_err(), "cut at {cut}");
    }
}

#[test]
fn counts_are_checked_before_they_are_trusted() {
    let mut bytes = Datagram::StreamAnnounce(announce()).encode();
    let at = bytes.len() - 1 - 2 * NodeId::LEN - 2;
    bytes[at..at + 2].copy_from_slice(&u16::MAX.to_le_bytes());
    assert!(matches!(Datagram::decode(&bytes), Err(DecodeError::TooLarge { .. })));
}

#[test]
fn long_and_empty_names_are_refused() {
    for name in [String::new(), "n".repeat(STREAM_NAME_BYTES_MAX + 1)] {
        let message = Datagram::StreamAnnounce(StreamAnnounce { name, ..announce() });
        assert!(Datagram::decode(&message.encode()).is_err());
    }
}

#[test]
fn a_long_detail_is_cut_at_a_character() {
    let message = Datagram::StreamRefuse {
        stream: StreamId::from_bytes([9; 16]),
        reason: RefuseReason::Invalid,
        detail: "é".repeat(200),
    };
    let Ok(Some(Datagram::StreamRefuse { detail, .. })) = Datagram::decode(&message.encode())
    else {
        panic!("not read back");
    };
    assert_eq!(detail, "é".repeat(127));
}
