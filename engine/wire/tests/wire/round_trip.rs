//! What is encoded is decoded, whatever the value.

use std::fmt::Debug;

use bytes::Bytes;
use hawser_wire::{
    AckInterval, BootEpoch, CloseReason, DecodeError, DrillProbe, Eviction, EvictionDigest,
    FrameHeader, Heartbeat, Hello, Hop, JoinReply, JoinRequest, LaneAck, LaneClose, LaneFragment,
    LinkModeOffer, Notice, ProducerId, RECORD_BYTES_TARGET, RECORD_MESSAGES_MAX, Record,
    RecordBuilder, RecordView, RouteHeader, StreamAck, StreamHeader, StreamOffset, StreamSync,
    StripeStamp, TenantId, TurnDelay,
};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::layouts::{advanced, hops, written};
use crate::strategies as any_of;

/// Encodes `value`, decodes it.
fn comes_back<T: Debug + PartialEq>(
    value: &T,
    encode: impl FnOnce(&T, &mut Vec<u8>),
    decode: impl FnOnce(&[u8]) -> Result<T, DecodeError>,
) -> Result<(), TestCaseError> {
    let bytes = written(|out| encode(value, out));
    prop_assert_eq!(&decode(&bytes).unwrap(), value);
    Ok(())
}

/// The messages of a record, one by one.
fn messages_of(record: &Record) -> Vec<Bytes> {
    let mut payload = record.payload.clone();
    record.message_lengths().map(|len| payload.split_to(len as usize)).collect()
}

proptest! {
    #[test]
    fn hello(value in any_of::hello()) {
        comes_back(&value, Hello::encode, Hello::decode)?;
    }

    #[test]
    fn lane_close(value in any_of::lane_close()) {
        comes_back(&value, LaneClose::encode, LaneClose::decode)?;
    }

    #[test]
    fn lane_ack(value in any_of::lane_ack()) {
        comes_back(&value, LaneAck::encode, LaneAck::decode)?;
    }

    #[test]
    fn link_mode(value in any_of::link_mode()) {
        prop_assert_eq!(LinkModeOffer::decode(&value.encode()), Ok(value));
    }

    #[test]
    fn drill_probe((drill, probe) in any::<(u64, u64)>(), later in any::<Vec<u8>>()) {
        let value = DrillProbe { drill, probe };
        let bytes = value.encode();
        prop_assert_eq!(DrillProbe::decode(&bytes), Ok(value));
        prop_assert_eq!(DrillProbe::decode(&[&bytes[..], &later].concat()), Ok(value));
        prop_assert!(DrillProbe::decode(&bytes[..DrillProbe::LEN - 1]).is_err());
    }

    #[test]
    fn eviction(value in any_of::eviction(), later in vec(any::<u8>(), 1..9)) {
        comes_back(&value, Eviction::encode, Eviction::decode)?;
        let mut bytes = Vec::new();
        value.encode(&mut bytes);
        prop_assert!(Eviction::decode(&bytes[..bytes.len() - 1]).is_err());
        prop_assert!(Eviction::decode(&[bytes, later].concat()).is_err());
    }

    #[test]
    fn eviction_digest((count, sum) in any::<(u32, u64)>(), later in any::<Vec<u8>>()) {
        let value = EvictionDigest { count, sum };
        let bytes = value.encode();
        prop_assert_eq!(EvictionDigest::decode(&[&bytes[..], &later].concat()), Ok(value));
        prop_assert!(EvictionDigest::decode(&bytes[..EvictionDigest::LEN - 1]).is_err());
    }

    #[test]
    fn stripe_stamp(channel in 0..8_u8, (epoch, sequence) in any::<(u32, u64)>()) {
        let value = StripeStamp { channel, epoch, sequence };
        let bytes = value.encode();
        prop_assert_eq!(StripeStamp::decode(&bytes), Ok((value, &[][..])));
    }

    #[test]
    fn lane_fragment(first: bool, last: bool, piece in vec(any::<u8>(), 1..100)) {
        let value = LaneFragment { first, last, piece: &piece };
        let bytes = written(|out| value.encode(out));
        prop_assert_eq!(LaneFragment::decode(&bytes), Ok(value));
    }

    #[test]
    fn join_request(value in any_of::join_request()) {
        let bytes = value.encode().unwrap();
        prop_assert!(JoinRequest::decode(&bytes) == Ok(value));
    }

    #[test]
    fn join_reply(value in any_of::join_reply()) {
        let encode = |reply: &JoinReply, out: &mut Vec<u8>| *out = reply.encode().unwrap();
        comes_back(&value, encode, JoinReply::decode)?;
    }

    #[test]
    fn notice(value in any_of::notice()) {
        comes_back(&value, Notice::encode, Notice::decode)?;
    }

    #[test]
    fn ack_interval(bytes: u32) {
        let value = AckInterval { bytes };
        prop_assert_eq!(AckInterval::decode(&value.encode()), Ok(value));
    }

    #[test]
    fn turn_delay(micros: u32) {
        let value = TurnDelay { micros };
        prop_assert_eq!(TurnDelay::decode(&value.encode()), Ok(value));
        prop_assert_eq!(TurnDelay::new(value.delay()), value);
    }

    #[test]
    fn heartbeat(sent_nanos: u64) {
        let value = Heartbeat { sent_nanos };
        prop_assert_eq!(Heartbeat::decode(&value.encode()), Ok(value));
    }

    #[test]
    fn stream_sync(value in any_of::stream_sync()) {
        comes_back(&value, StreamSync::encode, StreamSync::decode)?;
    }

    #[test]
    fn stream_ack(value in any_of::stream_ack()) {
        comes_back(&value, StreamAck::encode, StreamAck::decode)?;
    }

    #[test]
    fn frame_header(value in any_of::frame_header(), tail in vec(any::<u8>(), 0..9)) {
        let bytes = [value.encode().as_slice(), &tail].concat();
        prop_assert_eq!(FrameHeader::decode(&bytes), Ok((value, tail.as_slice())));
    }

    #[test]
    fn stream_header(value in any_of::stream_header(), tail in vec(any::<u8>(), 0..9)) {
        let bytes = [value.encode().as_slice(), &tail].concat();
        prop_assert_eq!(StreamHeader::decode(&bytes), Ok((value, tail.as_slice())));
    }

    /// From the source to the destination: every relay finds its hop, and only cursor and TTL of
    /// the bytes change on the way.
    #[test]
    fn a_route_is_walked_to_its_end(
        (source, destination, path) in (any_of::node(), any_of::node(), any_of::path()),
        list in any_of::hops(),
        tail in vec(any::<u8>(), 0..9),
    ) {
        let mut body = Vec::new();
        RouteHeader::encode(&mut body, source, destination, path, &list).unwrap();
        body.extend_from_slice(&tail);
        let first = body.clone();
        for (at, hop) in list.iter().enumerate() {
            let (header, rest) = RouteHeader::decode(&body).unwrap();
            prop_assert_eq!((header.source, header.destination), (source, destination));
            prop_assert_eq!((header.path, usize::from(header.cursor)), (path, at));
            prop_assert_eq!(usize::from(header.ttl), list.len() - at);
            prop_assert_eq!(header.next_hop(), Hop::Via(*hop));
            prop_assert_eq!(hops(&header), list.clone());
            prop_assert_eq!(rest, tail.as_slice());
            body = advanced(&body).unwrap();
        }
        let (header, _) = RouteHeader::decode(&body).unwrap();
        prop_assert_eq!((header.next_hop(), header.ttl), (Hop::Last, 0));
        let changed: Vec<_> = (0..body.len()).filter(|&at| body[at] != first[at]).collect();
        prop_assert!(changed.iter().all(|at| [37, 39].contains(at)), "{:?}", changed);

        let refused = advanced(&body);
        prop_assert_eq!(refused, Err(DecodeError::Invalid { what: "route's ttl", value: 0 }));
    }

    #[test]
    fn record((value, messages) in any_of::record()) {
        let bytes = value.to_bytes();
        prop_assert_eq!(bytes.len(), value.encoded_len());
        let view = RecordView::decode(&bytes).unwrap();
        prop_assert_eq!(&view.to_record(), &value);
        prop_assert_eq!(messages_of(&value), messages);
    }

    /// A producer that repeats: what is known is cut off, the rest is a valid record.
    #[test]
    fn a_record_without_its_first_messages((value, messages) in any_of::record(), skip in 0..45_u32) {
        let Some(rest) = value.without_first(skip) else {
            prop_assert!(skip as usize >= messages.len());
            return Ok(());
        };
        prop_assert_eq!(messages_of(&rest), &messages[skip as usize..]);
        prop_assert_eq!(rest.header.stream_base.0, value.header.stream_base.0 + u64::from(skip));
        prop_assert_eq!(rest.header.stream_end(), value.header.stream_end());
        prop_assert_eq!(rest.header.producer_end(), value.header.producer_end());
        prop_assert_eq!(RecordView::decode(&rest.to_bytes()).unwrap().to_record(), rest);
    }

    /// However large the run: each record within its bounds, nothing lost, nothing twice.
    #[test]
    fn a_run_is_cut_into_records(sizes in vec(prop_oneof![0..40_usize, 0..90_000_usize], 1..30), repeat in 1..200_usize) {
        let sizes: Vec<usize> = sizes.iter().flat_map(|&size| {
            std::iter::repeat_n(size, if size < 40 { repeat } else { 1 })
        }).collect();
        let run: Vec<Vec<u8>> = sizes.iter().map(|&size| vec![0; size]).collect();
        let (mut lengths, mut payload) = any_of::run(&run);
        let builder = RecordBuilder::new(TenantId::default(), any_id(), BootEpoch(1));
        let (mut done, mut records) = (0_usize, Vec::new());
        while let Some((count, len_bytes, bytes)) = RecordBuilder::cut(&lengths, payload.len()) {
            let (lengths, payload) = (lengths.split_to(len_bytes), payload.split_to(bytes));
            let base = done as u64;
            let offset = StreamOffset(base);
            records.push(builder.record(ProducerId(7), base + 1, offset, count, lengths, payload));
            done += count as usize;
        }
        prop_assert_eq!((done, lengths.len(), payload.len()), (sizes.len(), 0, 0));
        for record in &records {
            prop_assert!(record.header.count as usize <= RECORD_MESSAGES_MAX);
            prop_assert!(record.header.count == 1 || record.payload.len() <= RECORD_BYTES_TARGET);
            prop_assert!(RecordView::decode(&record.to_bytes()).is_ok());
        }
        let cut: Vec<usize> =
            records.iter().flat_map(Record::message_lengths).map(|len| len as usize).collect();
        prop_assert_eq!(cut, sizes);
    }
}

fn any_id() -> hawser_wire::StreamId {
    hawser_wire::StreamId::from_bytes(*b"a stream's bytes")
}

#[test]
fn every_close_reason_has_a_number_and_a_text() {
    for number in 0..=u16::MAX {
        let reason = CloseReason::from_wire(number);
        assert_eq!(reason.to_wire(), number);
        assert_eq!(matches!(reason, CloseReason::Unknown(_)), reason.text().contains("newer"));
    }
}

#[test]
fn every_frame_kind_has_one_byte() {
    for byte in 0..=u8::MAX {
        assert_eq!(hawser_wire::FrameKind::from_wire(byte).to_wire(), byte);
    }
}
