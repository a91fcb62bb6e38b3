use std::hint::black_box;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use hawser_wire::{
    AdjacencyIndex, BatchWriter, BootEpoch, FrameIter, FrameKind, LinkSequence, NodeId, PathId,
    ProducerId, Record, RecordBuilder, RecordView, RouteHeader, StreamId, StreamOffset, TenantId,
    TrafficClass, put_varint,
};

use crate::row::{Case, Rows};
use crate::timing::nanos_per_call;

const UNITS: &[&str] = &["ns/frame", "ns/message"];

/// A record as a frame: made at the source, sent on by a relay, taken in by the destination.
pub(crate) fn measure(rows: &mut Rows, sample: Duration) -> Result<()> {
    for (label, bytes, messages_max) in [
        ("lone message", 64, 1),
        ("full", 64, u32::MAX),
        ("full", 1 << 10, u32::MAX),
        ("full", 64 << 10, u32::MAX),
    ] {
        let messages = Messages::new(bytes, messages_max)?;
        let frame = messages.to_frame()?;
        let per_message = |nanos: f64| Ok(vec![nanos, nanos / f64::from(messages.count)]);
        let mut cases = [
            Case::new(format!("encode, {label}"), bytes, UNITS, || {
                let mut out = Vec::new();
                per_message(nanos_per_call(sample, || {
                    out.clear();
                    messages.encode(&mut out)?;
                    black_box(&out);
                    Ok(())
                })?)
            }),
            Case::new(format!("relay, {label}"), bytes, UNITS, || {
                let mut out = Vec::new();
                per_message(nanos_per_call(sample, || {
                    out.clear();
                    relay(&frame, &mut out)?;
                    black_box(&out);
                    Ok(())
                })?)
            }),
            Case::new(format!("decode, {label}"), bytes, UNITS, || {
                per_message(nanos_per_call(sample, || {
                    black_box(decode(&frame)?);
                    Ok(())
                })?)
            }),
        ];
        rows.alternate("codec", &mut cases)?;
    }
    Ok(())
}

/// As many messages of one size as a record takes.
struct Messages {
    builder: RecordBuilder,
    count: u32,
    lengths: Bytes,
    payload: Bytes,
}

impl Messages {
    fn new(bytes: usize, messages_max: u32) -> Result<Self> {
        let many = 2048_usize.min(usize::try_from(messages_max)?);
        let mut lengths = Vec::new();
        for _ in 0..many {
            put_varint(&mut lengths, u32::try_from(bytes)?);
        }
        let payload = vec![0x5a; bytes * many];
        let (count, lengths_len, payload_len) =
            RecordBuilder::cut(&lengths, payload.len()).context("no record fits")?;
        let tenant = TenantId::from_bytes([1; 16]);
        let stream = StreamId::from_bytes([2; 16]);
        Ok(Self {
            builder: RecordBuilder::new(tenant, stream, BootEpoch(3)),
            count,
            lengths: Bytes::from(lengths).slice(..lengths_len),
            payload: Bytes::from(payload).slice(..payload_len),
        })
    }

    /// The source's work: headers, checksum, frame.
    fn encode(&self, out: &mut Vec<u8>) -> Result<()> {
        let record = self.builder.record(
            ProducerId(4),
            1,
            StreamOffset(0),
            self.count,
            self.lengths.clone(),
            self.payload.clone(),
        );
        let mut route = Vec::with_capacity(RouteHeader::FIXED_LEN + 8);
        RouteHeader::encode(
            &mut route,
            NodeId::from_bytes([5; 16]),
            NodeId::from_bytes([6; 16]),
            PathId(7),
            &[AdjacencyIndex(1), AdjacencyIndex(300)],
        )?;
        record.with_parts(|head, payload| {
            let mut parts: Vec<&[u8]> = vec![&route];
            parts.extend_from_slice(head);
            parts.push(payload);
            BatchWriter::new(out).frame(
                FrameKind::Record,
                TrafficClass::Bulk,
                LinkSequence(8),
                &parts,
            )
        })?;
        Ok(())
    }

    fn to_frame(&self) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        self.encode(&mut out)?;
        Ok(out)
    }
}

/// The relay's work: header, next hop, the same body with the cursor moved on.
fn relay(frame: &[u8], out: &mut Vec<u8>) -> Result<()> {
    for frame in FrameIter::new(frame) {
        let frame = frame?;
        let (route, _) = RouteHeader::decode(frame.body.bytes())?;
        black_box(route.next_hop());
        let (advanced, rest) = RouteHeader::split_advanced(&frame.body)?;
        let header = frame.header;
        BatchWriter::new(out).frame(
            header.kind,
            header.class,
            header.link_sequence,
            &[&advanced, rest],
        )?;
    }
    Ok(())
}

/// The destination's work: header, checksum, lengths, one copy out of the lane's buffer.
fn decode(frame: &[u8]) -> Result<Option<Record>> {
    let mut record = None;
    for frame in FrameIter::new(frame) {
        let (_, body) = RouteHeader::decode(frame?.body.bytes())?;
        record = Some(RecordView::decode(body)?.to_record());
    }
    Ok(record)
}

#[cfg(test)]
mod tests {
    use hawser_wire::Hop;

    use super::*;

    #[test]
    fn what_is_timed_arrives() {
        let messages = Messages::new(64, u32::MAX).unwrap();
        let frame = messages.to_frame().unwrap();
        let mut relayed = Vec::new();
        relay(&frame, &mut relayed).unwrap();
        assert_eq!(relayed.len(), frame.len());
        let record = decode(&relayed).unwrap().unwrap();
        assert_eq!((record.header.count, &record.payload), (messages.count, &messages.payload));
        let frame = FrameIter::new(&relayed).next().unwrap().unwrap();
        let (route, _) = RouteHeader::decode(frame.body.bytes()).unwrap();
        assert_eq!(route.next_hop(), Hop::Via(AdjacencyIndex(300)));
    }

    #[test]
    fn a_record_is_full_or_holds_what_was_asked_for() {
        assert_eq!(Messages::new(64, 1).unwrap().count, 1);
        assert_eq!(Messages::new(64, u32::MAX).unwrap().count, 1024);
        assert_eq!(Messages::new(1 << 10, u32::MAX).unwrap().count, 64);
        assert_eq!(Messages::new(64 << 10, u32::MAX).unwrap().count, 1);
    }
}
