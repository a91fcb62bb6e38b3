//! Every layout as one thing to test: decode, encode again.

use hawser_wire::{
    AckInterval, AdjacencyIndex, DecodeError, DrillProbe, Eviction, EvictionDigest, FrameHeader,
    Heartbeat, Hello, Hop, JoinReply, JoinRequest, LaneAck, LaneClasses, LaneClose, LaneFragment,
    LinkModeOffer, Notice, RecordView, RouteHeader, StreamAck, StreamHeader, StreamSync,
    StripeStamp, TurnDelay,
};

/// What may stand behind a value.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum End {
    /// Nothing.
    Closed,
    /// What a later version adds; ignored.
    Open,
    /// The rest of the input, handed back.
    Front,
}

/// A layout.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    pub(crate) name: &'static str,
    /// Labels of the golden vectors that have it.
    pub(crate) vectors: &'static [&'static str],
    pub(crate) end: End,
    /// Decodes a value, encodes it, and appends the rest if there is one.
    pub(crate) recode: fn(&[u8]) -> Result<Vec<u8>, DecodeError>,
}

impl Layout {
    /// Decoding `input` gives an error or a value whose encoding `input` is.
    pub(crate) fn check(&self, input: &[u8]) -> Result<(), DecodeError> {
        let again = (self.recode)(input)?;
        match self.end {
            End::Closed | End::Front => assert_eq!(again, input, "{}", self.name),
            End::Open => assert!(input.starts_with(&again), "{}: {again:02x?}", self.name),
        }
        Ok(())
    }
}

pub(crate) const LAYOUTS: &[Layout] = &[
    Layout {
        name: "frame header",
        vectors: &["frame-header"],
        end: End::Front,
        recode: |input| {
            let (header, rest) = FrameHeader::decode(input)?;
            Ok([&header.encode(), rest].concat())
        },
    },
    Layout {
        name: "route header",
        vectors: &["route-header", "route-header-after-one-hop", "route-header-repaired"],
        end: End::Front,
        recode: |input| {
            let (header, rest) = RouteHeader::decode(input)?;
            Ok([&encode_route(&header), rest].concat())
        },
    },
    Layout {
        name: "stream header",
        vectors: &["stream-header"],
        end: End::Front,
        recode: |input| {
            let (header, rest) = StreamHeader::decode(input)?;
            Ok([&header.encode(), rest].concat())
        },
    },
    Layout {
        name: "record",
        vectors: &["record"],
        end: End::Closed,
        recode: |input| {
            let record = RecordView::decode(input)?.to_record();
            assert_eq!(record.encoded_len(), input.len());
            Ok(record.to_bytes())
        },
    },
    Layout {
        name: "hello",
        vectors: &["hello", "hello-with-life"],
        end: End::Open,
        recode: |input| Hello::decode(input).map(|hello| written(|out| hello.encode(out))),
    },
    Layout {
        name: "lane close",
        vectors: &["lane-close"],
        end: End::Open,
        recode: |input| LaneClose::decode(input).map(|close| written(|out| close.encode(out))),
    },
    Layout {
        name: "refusal of an evicted node",
        vectors: &["lane-close-evicted"],
        end: End::Closed,
        recode: |input| {
            let (close, evidence) = LaneClose::decode_with_evidence(input)?;
            let eviction = Eviction::decode(evidence)?;
            Ok([written(|out| close.encode(out)), written(|out| eviction.encode(out))].concat())
        },
    },
    Layout {
        name: "join request",
        vectors: &["join-request"],
        end: End::Closed,
        recode: |input| JoinRequest::decode(input).map(|join| join.encode().unwrap().to_vec()),
    },
    Layout {
        name: "join reply",
        vectors: &["join-reply"],
        end: End::Closed,
        recode: |input| JoinReply::decode(input).map(|reply| reply.encode().unwrap()),
    },
    Layout {
        name: "heartbeat",
        vectors: &["heartbeat"],
        end: End::Closed,
        recode: |input| Heartbeat::decode(input).map(|heartbeat| heartbeat.encode().to_vec()),
    },
    Layout {
        name: "lane ack",
        vectors: &["lane-ack"],
        end: End::Closed,
        recode: |input| LaneAck::decode(input).map(|ack| written(|out| ack.encode(out))),
    },
    Layout {
        name: "lane classes",
        vectors: &["lane-classes"],
        end: End::Closed,
        recode: |input| LaneClasses::decode(input).map(|classes| classes.encode().to_vec()),
    },
    Layout {
        name: "link mode",
        vectors: &["link-mode"],
        end: End::Closed,
        recode: |input| LinkModeOffer::decode(input).map(|offer| offer.encode().to_vec()),
    },
    Layout {
        name: "turn delay",
        vectors: &["turn-delay"],
        end: End::Closed,
        recode: |input| TurnDelay::decode(input).map(|delay| delay.encode().to_vec()),
    },
    Layout {
        name: "ack interval",
        vectors: &["ack-interval"],
        end: End::Closed,
        recode: |input| AckInterval::decode(input).map(|interval| interval.encode().to_vec()),
    },
    Layout {
        name: "drill probe",
        vectors: &["drill-probe"],
        end: End::Open,
        recode: |input| Ok(DrillProbe::decode(input)?.encode().to_vec()),
    },
    Layout {
        name: "eviction",
        vectors: &["eviction"],
        end: End::Closed,
        recode: |input| Eviction::decode(input).map(|eviction| written(|out| eviction.encode(out))),
    },
    Layout {
        name: "eviction digest",
        vectors: &["eviction-digest"],
        end: End::Open,
        recode: |input| Ok(EvictionDigest::decode(input)?.encode().to_vec()),
    },
    Layout {
        name: "stripe stamp",
        vectors: &["stripe-stamp"],
        end: End::Front,
        recode: |input| {
            let (stamp, rest) = StripeStamp::decode(input)?;
            Ok([&stamp.encode(), rest].concat())
        },
    },
    Layout {
        name: "lane fragment",
        vectors: &["lane-fragment"],
        end: End::Front,
        recode: |input| {
            LaneFragment::decode(input).map(|fragment| written(|out| fragment.encode(out)))
        },
    },
    Layout {
        name: "stream sync",
        vectors: &["stream-sync", "stream-sync-closed", "stream-sync-new-life"],
        end: End::Closed,
        recode: |input| StreamSync::decode(input).map(|sync| written(|out| sync.encode(out))),
    },
    Layout {
        name: "stream ack",
        vectors: &["stream-ack", "stream-ack-refused"],
        end: End::Closed,
        recode: |input| StreamAck::decode(input).map(|ack| written(|out| ack.encode(out))),
    },
    Layout {
        name: "notice",
        vectors: &["notice"],
        end: End::Open,
        recode: |input| Notice::decode(input).map(|notice| written(|out| notice.encode(out))),
    },
];

/// What `write` appends.
pub(crate) fn written(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out);
    out
}

/// The hops of a route, whatever its cursor.
pub(crate) fn hops(header: &RouteHeader<'_>) -> Vec<AdjacencyIndex> {
    let at = |cursor| {
        let mut header = *header;
        header.cursor = cursor;
        match header.next_hop() {
            Hop::Via(index) => index,
            Hop::Last => panic!("hop {cursor} of {} is missing", header.hop_count),
        }
    };
    (0..header.hop_count).map(at).collect()
}

/// What a relay sends on.
pub(crate) fn advanced(body: &[u8]) -> Result<Vec<u8>, DecodeError> {
    RouteHeader::split_advanced(body).map(|(fixed, rest)| [&fixed, rest].concat())
}

fn encode_route(header: &RouteHeader<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    let RouteHeader { source, destination, path, .. } = *header;
    RouteHeader::encode(&mut out, source, destination, path, &hops(header)).unwrap();
    out[37..RouteHeader::FIXED_LEN].copy_from_slice(&[header.cursor, header.repairs, header.ttl]);
    out
}
