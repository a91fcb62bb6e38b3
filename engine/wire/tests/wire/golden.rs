//! The document's vectors, value by value, in both directions.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::time::Duration;

use hawser_wire::{
    AckInterval, AdjacencyIndex, BatchWriter, BootEpoch, ByteReader, ClassSet, CloseReason,
    DecodeError, DrillProbe, Eviction, EvictionDigest, FRAME_BODY_BYTES_MAX, FrameFlags,
    FrameHeader, FrameIter, FrameKind, FrameRef, Heartbeat, Hello, Incarnation, JoinReply,
    JoinRequest, LaneAck, LaneAckEntry, LaneClasses, LaneClose, LaneFragment, LaneId, LifeNonce,
    LinkEpoch, LinkMode, LinkModeOffer, LinkSequence, MeshId, NodeId, Notice, NoticeLimit,
    NoticeReason, NoticeRefusal, PathId, ProducerId, RecordBuilder, RecordView, RouteHeader,
    StreamAck, StreamHeader, StreamId, StreamOffset, StreamRefusal, StreamSync, StripeStamp,
    TenantId, TrafficClass, TurnDelay, capability, put_varint,
};

use crate::layouts::{LAYOUTS, advanced, hops, written};
use crate::vectors::{labels, vector};

const MESH: MeshId = MeshId::from_bytes(*b"hawser-mesh-0001");
const NODE_A: NodeId = NodeId::from_bytes(sixteen_from(0xa0));
const NODE_B: NodeId = NodeId::from_bytes(sixteen_from(0xb0));
const NODE_C: NodeId = NodeId::from_bytes(sixteen_from(0xc0));
const TENANT: TenantId = TenantId::from_bytes(sixteen_from(0x70));
const STREAM: StreamId = StreamId::from_bytes(sixteen_from(0x50));
const PRODUCER: ProducerId = ProducerId(0x1122_3344_5566_7788);

const fn sixteen_from(first: u8) -> [u8; 16] {
    let mut bytes = [first; 16];
    let mut at = 0;
    while at < 16 {
        bytes[at as usize] = first + at;
        at += 1;
    }
    bytes
}

/// `value` is encoded to the vector, and the vector decoded to `value`.
fn check<T: Debug + PartialEq>(
    label: &str,
    value: &T,
    encode: impl FnOnce(&T, &mut Vec<u8>),
    decode: impl FnOnce(&[u8]) -> Result<T, DecodeError>,
) {
    assert_eq!(written(|out| encode(value, out)), vector(label), "{label}");
    assert_eq!(decode(vector(label)).as_ref(), Ok(value), "{label}");
}

const VARINTS: [(&str, u32); 5] = [
    ("varint-zero", 0),
    ("varint-127", 127),
    ("varint-128", 128),
    ("varint-16384", 16_384),
    ("varint-max", u32::MAX),
];

#[test]
fn the_document_and_the_tests_name_the_same_vectors() {
    let tested: BTreeSet<&str> = LAYOUTS
        .iter()
        .flat_map(|layout| layout.vectors.iter().copied())
        .chain(VARINTS.map(|(label, _)| label))
        // Tested where their layouts live.
        .chain(["batch", "lsa", "lsa-delta", "lsa-several", "certificate-request"])
        .chain(["membership-gossip", "membership-ping", "membership-ping-request"])
        // The front of another one, not a value with something open behind it.
        .chain(["notice-without-refusal"])
        // In the control plane.
        .chain(["stream-announce"])
        // Whole frames.
        .chain(["stripe-opening", "lane-fragment-priority"])
        .collect();
    assert_eq!(labels().collect::<BTreeSet<_>>(), tested);
}

#[test]
fn varints() {
    for (label, value) in VARINTS {
        check(
            label,
            &value,
            |&value, out| put_varint(out, value),
            |input| ByteReader::new(input, "varint").varint(),
        );
    }
}

#[test]
fn frame_header() {
    let header = FrameHeader {
        kind: FrameKind::Record,
        flags: FrameFlags(0),
        class: TrafficClass::Bulk,
        body_len: 300,
        link_sequence: LinkSequence(7),
    };
    assert_eq!(header.encode(), vector("frame-header"));
    assert_eq!(FrameHeader::decode(vector("frame-header")), Ok((header, &[][..])));
}

#[test]
fn lane_messages() {
    let hello = Hello {
        version_max: 1,
        version_min: 1,
        capabilities: capability::STRICT_SOURCE_ROUTES,
        mesh: MESH,
        node: NODE_A,
        incarnation: Incarnation(3),
        link_epoch: LinkEpoch(9),
        lane: LaneId(2),
        class: TrafficClass::Bulk,
        frame_body_max: u32::try_from(FRAME_BODY_BYTES_MAX).unwrap(),
        name: "athens".to_owned(),
        life: None,
    };
    check("hello", &hello, Hello::encode, Hello::decode);
    let hello = Hello {
        capabilities: hello.capabilities | capability::LIFE_NONCE,
        life: Some(LifeNonce(0x0123_4567_89ab_cdef)),
        ..hello
    };
    check("hello-with-life", &hello, Hello::encode, Hello::decode);

    let close = LaneClose { reason: CloseReason::WrongMesh, detail: "mesh of another".to_owned() };
    check("lane-close", &close, LaneClose::encode, LaneClose::decode);
    let refusal = LaneClose { reason: CloseReason::Evicted, detail: "lost".to_owned() };
    let (close, evidence) = LaneClose::decode_with_evidence(vector("lane-close-evicted")).unwrap();
    assert_eq!((close, Eviction::decode(evidence)), (refusal.clone(), Ok(eviction())));
    let encoded = written(|out| {
        refusal.encode(out);
        eviction().encode(out);
    });
    assert_eq!(encoded, vector("lane-close-evicted"));

    let heartbeat = Heartbeat { sent_nanos: 1_000_000_007 };
    check(
        "heartbeat",
        &heartbeat,
        |heartbeat, out| out.extend_from_slice(&heartbeat.encode()),
        Heartbeat::decode,
    );
}

#[test]
fn link_messages() {
    let ack = LaneAck {
        sequence: 12,
        entries: vec![
            LaneAckEntry {
                lane: LaneId(2),
                epoch: LinkEpoch(9),
                dialled: false,
                is_final: false,
                settled: false,
                count: 700,
                credit_frames: 66_236,
                credit_bytes: 16 << 20,
            },
            LaneAckEntry {
                lane: LaneId(0),
                epoch: LinkEpoch(3),
                dialled: true,
                is_final: true,
                settled: true,
                count: 40,
                credit_frames: 0,
                credit_bytes: 0,
            },
        ],
    };
    check("lane-ack", &ack, LaneAck::encode, LaneAck::decode);

    let classes =
        LaneClasses { classes: ClassSet::of(TrafficClass::Bulk).with(TrafficClass::Control) };
    check(
        "lane-classes",
        &classes,
        |classes, out| out.extend_from_slice(&classes.encode()),
        LaneClasses::decode,
    );

    let offer = LinkModeOffer { generation: 4, mode: LinkMode::Collapsed, accepted: true };
    check(
        "link-mode",
        &offer,
        |offer, out| out.extend_from_slice(&offer.encode()),
        LinkModeOffer::decode,
    );

    let fragment = LaneFragment { first: false, last: true, piece: b"seven !" };
    let mut bytes = Vec::new();
    fragment.encode(&mut bytes);
    assert_eq!(bytes, vector("lane-fragment"));
    assert_eq!(LaneFragment::decode(vector("lane-fragment")), Ok(fragment));

    let delay = TurnDelay::new(Duration::from_millis(4));
    assert_eq!(delay.encode(), vector("turn-delay"));
    assert_eq!(TurnDelay::decode(vector("turn-delay")), Ok(delay));

    let interval = AckInterval { bytes: 8_192 };
    assert_eq!(interval.encode(), vector("ack-interval"));
    assert_eq!(AckInterval::decode(vector("ack-interval")), Ok(interval));

    let probe = DrillProbe { drill: 7, probe: 258 };
    assert_eq!(probe.encode(), vector("drill-probe"));
    assert_eq!(DrillProbe::decode(vector("drill-probe")), Ok(probe));
    check("eviction", &eviction(), Eviction::encode, Eviction::decode);
    let digest = EvictionDigest::default().with(eviction().node);
    assert_eq!(digest.encode(), vector("eviction-digest"));
    assert_eq!(EvictionDigest::decode(vector("eviction-digest")), Ok(digest));
    let stamp = StripeStamp { channel: 3, epoch: 12, sequence: 300 };
    assert_eq!(stamp.encode(), vector("stripe-stamp"));
    assert_eq!(StripeStamp::decode(vector("stripe-stamp")), Ok((stamp, &[][..])));
}

#[test]
fn a_fragment_of_priority_is_a_frame_of_that_class_without_a_sequence() {
    let fragment = LaneFragment { first: true, last: false, piece: b"begins.." };
    let (kind, class) = (FrameKind::LaneFragment, TrafficClass::Priority);
    let mut body = Vec::new();
    fragment.encode(&mut body);
    let mut bytes = Vec::new();
    BatchWriter::new(&mut bytes).frame(kind, class, LinkSequence(0), &[&body]).unwrap();
    assert_eq!(bytes, vector("lane-fragment-priority"));
    let mut frames = FrameIter::new(vector("lane-fragment-priority"));
    let frame = frames.next().unwrap().unwrap();
    assert!(frames.next().is_none());
    assert_eq!((frame.header.kind, frame.header.class), (kind, class));
    assert_eq!(frame.header.link_sequence, LinkSequence(0));
    assert_eq!(LaneFragment::decode(frame.body.bytes()), Ok(fragment));
}

fn eviction() -> Eviction {
    Eviction {
        mesh: MeshId::from_bytes(sixteen_from(1)),
        node: NodeId::from_bytes(sixteen_from(0xa0)),
        by: NodeId::from_bytes(sixteen_from(0xb0)),
        evicted_unix_s: 1_700_000_000,
        name: "berlin".into(),
        reason: "lost".into(),
        signature: std::array::from_fn(|at| u8::try_from(at + 0x40).unwrap()),
    }
}

#[test]
fn a_striped_frame_may_begin_an_epoch_without_a_record() {
    let stamp = StripeStamp { channel: 3, epoch: 13, sequence: 0 };
    let (kind, class, flags) = (FrameKind::StripedRecord, TrafficClass::Bulk, FrameFlags::STRIPED);
    let mut bytes = Vec::new();
    let written = BatchWriter::new(&mut bytes).flagged_frame(
        kind,
        class,
        flags,
        LinkSequence(9),
        &[&stamp.encode()],
    );
    assert!(written.is_ok());
    assert_eq!(bytes, vector("stripe-opening"));
    let mut frames = FrameIter::new(vector("stripe-opening"));
    let frame = frames.next().unwrap().unwrap();
    assert!(frames.next().is_none());
    assert_eq!((frame.header.kind, frame.header.link_sequence), (kind, LinkSequence(9)));
    assert_eq!(StripeStamp::decode(frame.body.bytes()), Ok((stamp, &[][..])));
    assert!(frame.unstamped().unwrap().body.is_empty(), "no record");
}

#[test]
fn a_striped_record_is_a_record_behind_its_stamp() {
    let stamp = StripeStamp { channel: 1, epoch: 2, sequence: 3 };
    let body = [&stamp.encode()[..], b"route and record"].concat();
    let header = FrameHeader {
        kind: FrameKind::StripedRecord,
        flags: FrameFlags::STRIPED,
        class: TrafficClass::Bulk,
        body_len: 29,
        link_sequence: LinkSequence(9),
    };
    let frame = FrameRef { header, body: body.as_slice().into() };
    let plain = frame.unstamped().unwrap();
    assert_eq!(*plain.body, *b"route and record");
    let expected = FrameHeader { kind: FrameKind::Record, body_len: 16, ..header };
    assert_eq!(plain.header, expected);
    assert_eq!(plain.unstamped(), Ok(plain), "a plain one stays as it is");
    let cut_off = FrameRef { header, body: body[..12].into() };
    assert!(matches!(cut_off.unstamped(), Err(DecodeError::Truncated { .. })));
    let mut other = body.clone();
    other[0] = 8;
    let refused = FrameRef { header, body: other.as_slice().into() }.unstamped();
    assert!(matches!(refused, Err(DecodeError::Invalid { value: 8, .. })));
}

#[test]
fn join_messages() {
    let secret = (0xe0..=0xff).collect::<Vec<u8>>().into();
    let request = JoinRequest { secret, csr: vec![0x30, 3, 2, 1, 0], name: "corfu".to_owned() };
    check(
        "join-request",
        &request,
        |request, out| out.extend_from_slice(&request.encode().unwrap()),
        JoinRequest::decode,
    );

    let reply = JoinReply {
        mesh: MESH,
        mesh_name: "aegean".to_owned(),
        certificate: vec![0x30, 1, 0],
        authority: vec![0x30, 2, 5, 0],
    };
    check(
        "join-reply",
        &reply,
        |reply, out| out.extend_from_slice(&reply.encode().unwrap()),
        JoinReply::decode,
    );
}

#[test]
fn route_header_and_what_a_relay_changes_in_it() {
    let list = [1, 300, 70_000].map(AdjacencyIndex);
    let mut body = Vec::new();
    RouteHeader::encode(&mut body, NODE_A, NODE_C, PathId(17), &list).unwrap();
    assert_eq!(body, vector("route-header"));

    let (header, rest) = RouteHeader::decode(vector("route-header")).unwrap();
    assert_eq!((header.source, header.destination), (NODE_A, NODE_C));
    assert_eq!((header.path, header.cursor, header.repairs, header.ttl), (PathId(17), 0, 0, 3));
    assert_eq!((hops(&header).as_slice(), rest), (&list[..], &[][..]));

    assert_eq!(advanced(&body).unwrap(), vector("route-header-after-one-hop"));

    let (after, _) = RouteHeader::decode(vector("route-header-after-one-hop")).unwrap();
    let mut repaired = Vec::new();
    after.encode_repaired(&mut repaired, &[2, 300].map(AdjacencyIndex)).unwrap();
    assert_eq!(repaired, vector("route-header-repaired"));
}

#[test]
fn record_and_its_header() {
    let messages = [b"hello".to_vec(), Vec::new(), vec![0x2e; 130]];
    let (lengths, payload) = crate::strategies::run(&messages);
    let mut record = RecordBuilder::new(TENANT, STREAM, BootEpoch(5)).record(
        PRODUCER,
        41,
        StreamOffset(40),
        3,
        lengths,
        payload,
    );
    // Sent again by a later life of its source: the checksum stays.
    record.header.fence_epoch = BootEpoch(6);
    assert_eq!(record.to_bytes(), vector("record"));
    assert_eq!(RecordView::decode(vector("record")).unwrap().to_record(), record);

    assert_eq!(record.header.encode(), vector("stream-header"));
    assert_eq!(StreamHeader::decode(vector("stream-header")), Ok((record.header, &[][..])));
}

#[test]
fn stream_messages() {
    let sync = |fence_epoch, base, end| StreamSync {
        stream: STREAM,
        fence_epoch: BootEpoch(fence_epoch),
        base: Option::map(base, StreamOffset),
        end: Option::map(end, StreamOffset),
        producers: if base.is_some() { vec![(PRODUCER, 41)] } else { Vec::new() },
    };
    for (label, value) in [
        ("stream-sync", sync(6, Some(40), None)),
        ("stream-sync-closed", sync(6, Some(40), Some(43))),
        ("stream-sync-new-life", sync(7, None, None)),
    ] {
        check(label, &value, StreamSync::encode, StreamSync::decode);
    }

    let ack = StreamAck {
        stream: STREAM,
        fence_epoch: BootEpoch(6),
        receiver_epoch: BootEpoch(2),
        received: StreamOffset(43),
        seen: StreamOffset(50),
        consumed: StreamOffset(40),
        origin: StreamOffset(0),
        credit_bytes: 8 << 20,
        marked_bytes: 66_048,
        unknown: false,
        ended: true,
        forgot: false,
        producers: vec![(PRODUCER, 44), (ProducerId(9), 1)],
        refused: None,
    };
    check("stream-ack", &ack, StreamAck::encode, StreamAck::decode);
    let refusal = StreamAck {
        producers: Vec::new(),
        ended: false,
        refused: Some(StreamRefusal::CreditOverrun),
        ..ack
    };
    check("stream-ack-refused", &refusal, StreamAck::encode, StreamAck::decode);

    let notice = Notice {
        path: PathId(17),
        reason: NoticeReason::Congested,
        at: NODE_B,
        destination: NODE_C,
        stream: STREAM,
        refusal: Some(NoticeRefusal {
            limit: NoticeLimit::Tenant,
            class: TrafficClass::Bulk,
            lane: Some(LaneId(3)),
            retry_after_ms: 250,
        }),
    };
    check("notice", &notice, Notice::encode, Notice::decode);
    let without = Notice { reason: NoticeReason::NoAdjacency, refusal: None, ..notice };
    check("notice-without-refusal", &without, Notice::encode, Notice::decode);
}
