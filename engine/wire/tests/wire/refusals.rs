//! Values out of their bounds: each is refused, and the error names the field and the value.

use bytes::Bytes;
use hawser_wire::{
    AdjacencyIndex, BootEpoch, CloseReason, DecodeError, Hello, Hop, JoinReply, JoinRequest,
    LaneClose, MeshId, ProducerId, REPAIRS_MAX, RecordBuilder, RecordView, RouteHeader, StreamAck,
    StreamHeader, StreamId, StreamOffset, StreamSync, TenantId, put_varint,
};

use crate::vectors::vector;

/// The golden vector with `bytes` at `at`.
fn patched(label: &str, at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut patched = vector(label).to_vec();
    patched[at..at + bytes.len()].copy_from_slice(bytes);
    patched
}

const fn invalid(what: &'static str, value: u64) -> DecodeError {
    DecodeError::Invalid { what, value }
}

const fn too_large(what: &'static str, value: u64, max: u64) -> DecodeError {
    DecodeError::TooLarge { what, value, max }
}

#[test]
fn route_header() {
    let refused =
        |at, byte| RouteHeader::decode(&patched("route-header", at, &[byte])).unwrap_err();
    assert_eq!(refused(36, 65), too_large("route's hops", 65, 64));
    assert_eq!(refused(37, 4), invalid("route's cursor", 4));
    assert!(RouteHeader::decode(&patched("route-header", 37, &[3])).is_ok());
}

#[test]
fn a_list_is_replaced_at_most_twice_and_by_one_that_leads_somewhere() {
    let hops = [AdjacencyIndex(9), AdjacencyIndex(70_000)];
    let mut header = vector("route-header").to_vec();
    for repairs in 1..=REPAIRS_MAX {
        let (route, _) = RouteHeader::decode(&header).unwrap();
        assert_eq!(route.encode_repaired(&mut Vec::new(), &[]), Err(invalid("route's hops", 0)));
        let long = [AdjacencyIndex(1); 65];
        let error = route.encode_repaired(&mut Vec::new(), &long).unwrap_err();
        assert_eq!(error, too_large("route's hops", 65, 64));
        let mut repaired = vec![7];
        route.encode_repaired(&mut repaired, &hops).unwrap();
        let (new, rest) = RouteHeader::decode(&repaired[1..]).unwrap();
        assert_eq!(
            (new.source, new.destination, new.path),
            (route.source, route.destination, route.path)
        );
        assert_eq!((new.hop_count, new.cursor, new.ttl, new.repairs), (2, 1, 1, repairs));
        assert_eq!((new.next_hop(), rest), (Hop::Via(hops[1]), &[][..]));
        // What the next relay makes of it is used up.
        let (fixed, list) = RouteHeader::split_advanced(&repaired[1..]).unwrap();
        let last = [&fixed[..], list].concat();
        assert_eq!(RouteHeader::decode(&last).unwrap().0.next_hop(), Hop::Last);
        header = repaired.split_off(1);
    }
    let (route, _) = RouteHeader::decode(&header).unwrap();
    let mut out = vec![7];
    let error = route.encode_repaired(&mut out, &hops).unwrap_err();
    assert_eq!((error, out), (too_large("route's repairs", 3, 2), vec![7]));
}

#[test]
fn stream_header() {
    let refused =
        |at, bytes: &[u8]| StreamHeader::decode(&patched("stream-header", at, bytes)).unwrap_err();
    assert_eq!(refused(64, &[0]), invalid("record's count", 0));
    assert_eq!(refused(64, &[0x01, 0x04]), invalid("record's count", 1025));
    assert_eq!(refused(68, &[1]), invalid("record's chunk index", 1));
    assert_eq!(refused(40, &[0]), invalid("record's range", 0));
    // The range's end must be a number, too: 3 messages from here on are one too many.
    let last = (u64::MAX - 2).to_le_bytes();
    assert_eq!(refused(40, &last), invalid("record's range", u64::MAX - 2));
    assert_eq!(refused(48, &last), invalid("record's range", 41));
}

#[test]
fn record() {
    let refused = |lengths: &[u32], count, payload: usize| {
        let mut encoded = Vec::new();
        for len in lengths {
            put_varint(&mut encoded, *len);
        }
        let builder = RecordBuilder::new(TenantId::default(), StreamId::default(), BootEpoch(1));
        let payload = Bytes::from(vec![0; payload]);
        let (producer, offset) = (ProducerId(1), StreamOffset(0));
        let record = builder.record(producer, 1, offset, count, encoded.into(), payload);
        RecordView::decode(&record.to_bytes()).map(|_| ())
    };
    assert_eq!(refused(&[2, 3], 2, 5), Ok(()));
    assert_eq!(refused(&[2, 3], 2, 4), Err(invalid("record's lengths", 5)));
    assert_eq!(refused(&[2, 3], 2, 6), Err(invalid("record's lengths", 5)));
    let trailing = DecodeError::Trailing { what: "record's lengths", bytes: 1 };
    assert_eq!(refused(&[2, 3], 1, 2), Err(trailing));
    let truncated = DecodeError::Truncated { what: "record's lengths", have_bytes: 0 };
    assert_eq!(refused(&[2, 3], 3, 5), Err(truncated));
    let mib = 1 << 20;
    assert_eq!(refused(&[mib], 1, 1 << 20), Ok(()));
    let message = too_large("message", (1 << 20) + 1, 1 << 20);
    assert_eq!(refused(&[mib + 1], 1, (1 << 20) + 1), Err(message));
}

#[test]
fn stream_ack() {
    let refused =
        |at, bytes: &[u8]| StreamAck::decode(&patched("stream-ack", at, bytes)).unwrap_err();
    let (received, seen, flags, producers) = (32, 40, 80, 81);
    assert_eq!(refused(received, &[39]), invalid("stream ack's order", 39));
    assert_eq!(refused(seen, &[42]), invalid("stream ack's order", 43));
    assert_eq!(refused(flags, &[16]), invalid("stream ack's flags", 16));
    let many = too_large("list of producers", 1025, 1024);
    assert_eq!(refused(producers, &[0x01, 0x04]), many);
}

#[test]
fn stream_sync() {
    let refused = |label, at, byte| StreamSync::decode(&patched(label, at, &[byte])).unwrap_err();
    assert_eq!(refused("stream-sync", 24, 4), invalid("stream sync's flags", 4));
    let (base, end) = (25, 33);
    let absent = invalid("stream sync's absent offset", 1);
    assert_eq!(refused("stream-sync-new-life", base, 1), absent);
    assert_eq!(refused("stream-sync-new-life", end, 1), absent);
}

#[test]
fn names_and_blobs() {
    let at = vector("hello").len() - 6;
    let error = Hello::decode(&patched("hello", at + 2, &[0xff])).unwrap_err();
    assert_eq!(error, invalid("hello", 2));

    let blob = [&0x2001_u16.to_le_bytes()[..], &[0; 0x2001 + 3]].concat();
    let refused = too_large("join message's blob", 0x2001, 0x2000);
    assert!(JoinRequest::decode(&blob) == Err(refused));
}

#[test]
fn a_join_message_that_no_peer_would_take_is_not_written() {
    let refused = too_large("join message's blob", 0x2001, 0x2000);
    let mesh = MeshId::from_bytes([0; 16]);
    for (len, expected) in [(0x2000, Ok(())), (0x2001, Err(refused))] {
        let blob = || vec![0; len];
        let request = |secret: Vec<u8>, csr| {
            JoinRequest { secret: secret.into(), csr, name: "n".to_owned() }.encode().map(drop)
        };
        assert_eq!(request(blob(), vec![]), expected);
        assert_eq!(request(vec![], blob()), expected);
        let reply = |certificate, authority| {
            JoinReply { mesh, mesh_name: "m".to_owned(), certificate, authority }.encode().map(drop)
        };
        assert_eq!(reply(blob(), vec![]), expected);
        assert_eq!(reply(vec![], blob()), expected);
    }
}

#[test]
fn a_closing_peer_writes_on_no_terminal() {
    let close = LaneClose { reason: CloseReason::Shutdown, detail: "\x1b]0;x\x07\r\n".to_owned() };
    let mut bytes = Vec::new();
    close.encode(&mut bytes);
    let detail = LaneClose::decode(&bytes).unwrap().printable().detail;
    assert_eq!(detail, "\\u{1b}]0;x\\u{7}\\r\\n");
}
