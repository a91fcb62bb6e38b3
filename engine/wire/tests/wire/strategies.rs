//! Any value of each type that can be encoded.

use bytes::Bytes;
use hawser_wire::{
    AdjacencyIndex, BootEpoch, CloseReason, Eviction, FRAME_BODY_BYTES_MAX, FrameFlags,
    FrameHeader, FrameKind, Hello, Incarnation, JoinReply, JoinRequest, LaneAck, LaneAckEntry,
    LaneClose, LaneId, LifeNonce, LinkEpoch, LinkMode, LinkModeOffer, LinkSequence, MeshId, NodeId,
    Notice, NoticeLimit, NoticeReason, NoticeRefusal, PathId, ProducerId, Record, RecordBuilder,
    StreamAck, StreamHeader, StreamId, StreamOffset, StreamRefusal, StreamSync, TenantId,
    TrafficClass, capability, put_varint,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

pub(crate) fn node() -> impl Strategy<Value = NodeId> {
    any::<[u8; 16]>().prop_map(NodeId::from_bytes)
}

pub(crate) fn stream() -> impl Strategy<Value = StreamId> {
    any::<[u8; 16]>().prop_map(StreamId::from_bytes)
}

fn mesh() -> impl Strategy<Value = MeshId> {
    any::<[u8; 16]>().prop_map(MeshId::from_bytes)
}

fn tenant() -> impl Strategy<Value = TenantId> {
    any::<[u8; 16]>().prop_map(TenantId::from_bytes)
}

fn epoch() -> impl Strategy<Value = BootEpoch> {
    any::<u64>().prop_map(BootEpoch)
}

pub(crate) fn class() -> impl Strategy<Value = TrafficClass> {
    select(TrafficClass::ALL.as_slice())
}

pub(crate) fn kind() -> impl Strategy<Value = FrameKind> {
    any::<u8>().prop_map(FrameKind::from_wire)
}

/// At most 255 bytes of UTF-8.
fn name() -> impl Strategy<Value = String> {
    "\\PC{0,60}"
}

pub(crate) fn frame_header() -> impl Strategy<Value = FrameHeader> {
    let len_max = u32::try_from(FRAME_BODY_BYTES_MAX).unwrap();
    (kind(), any::<u8>(), class(), 0..=len_max, any::<u64>()).prop_map(
        |(kind, flags, class, body_len, sequence)| FrameHeader {
            kind,
            flags: FrameFlags(flags),
            class,
            body_len,
            link_sequence: LinkSequence(sequence),
        },
    )
}

pub(crate) fn hops() -> impl Strategy<Value = Vec<AdjacencyIndex>> {
    vec(any::<u32>().prop_map(AdjacencyIndex), 0..=64)
}

pub(crate) fn path() -> impl Strategy<Value = PathId> {
    any::<u32>().prop_map(PathId)
}

prop_compose! {
    pub(crate) fn eviction()(
        (mesh, node, by) in (mesh(), node(), node()),
        evicted_unix_s: u64,
        (name, reason) in (name(), name()),
        (a, b) in any::<([u8; 32], [u8; 32])>(),
    ) -> Eviction {
        let signature = [a, b].concat().try_into().unwrap();
        Eviction { mesh, node, by, evicted_unix_s, name, reason, signature }
    }
}

prop_compose! {
    pub(crate) fn stream_header()(
        (tenant, stream, producer) in (tenant(), stream(), any::<u64>()),
        (producer_base, stream_base) in (1..u64::MAX - 1024, 0..u64::MAX - 1024),
        (born_epoch, fence_epoch) in (epoch(), epoch()),
        count in 1..=1024_u32,
        (chunk_index, more) in (0..1000_u16, 1..1000_u16),
        checksum: u32,
    ) -> StreamHeader {
        StreamHeader {
            tenant,
            stream,
            producer: ProducerId(producer),
            producer_base,
            stream_base: StreamOffset(stream_base),
            count,
            born_epoch,
            fence_epoch,
            chunk_index,
            chunk_count: chunk_index + more,
            checksum,
        }
    }
}

pub(crate) fn messages() -> impl Strategy<Value = Vec<Vec<u8>>> {
    vec(vec(any::<u8>(), 0..200), 1..40)
}

/// Lengths and payload of `messages`.
pub(crate) fn run(messages: &[Vec<u8>]) -> (Bytes, Bytes) {
    let mut lengths = Vec::new();
    for message in messages {
        put_varint(&mut lengths, u32::try_from(message.len()).unwrap());
    }
    (lengths.into(), messages.concat().into())
}

prop_compose! {
    pub(crate) fn record()(
        (tenant, stream, epoch, producer) in (tenant(), stream(), epoch(), any::<u64>()),
        (producer_base, stream_base) in (1..u64::MAX / 2, 0..u64::MAX / 2),
        messages in messages(),
    ) -> (Record, Vec<Vec<u8>>) {
        let (lengths, payload) = run(&messages);
        let record = RecordBuilder::new(tenant, stream, epoch).record(
            ProducerId(producer),
            producer_base,
            StreamOffset(stream_base),
            u32::try_from(messages.len()).unwrap(),
            lengths,
            payload,
        );
        (record, messages)
    }
}

prop_compose! {
    pub(crate) fn hello()(
        (version_max, version_min, capabilities) in any::<(u16, u16, u64)>(),
        (mesh, node, class, name) in (mesh(), node(), class(), name()),
        (incarnation, link_epoch, lane, frame_body_max) in any::<(u64, u64, u16, u32)>(),
        life in any::<u64>(),
    ) -> Hello {
        let life = (capabilities & capability::LIFE_NONCE != 0).then_some(LifeNonce(life));
        Hello {
            version_max,
            version_min,
            capabilities,
            mesh,
            node,
            incarnation: Incarnation(incarnation),
            link_epoch: LinkEpoch(link_epoch),
            lane: LaneId(lane),
            class,
            frame_body_max,
            name,
            life,
        }
    }
}

prop_compose! {
    fn lane_ack_entry()(
        (lane, epoch, dialled) in any::<(u16, u64, bool)>(),
        (is_final, settled) in any::<(bool, bool)>(),
        (count, credit_frames, credit_bytes) in any::<(u64, u64, u64)>(),
    ) -> LaneAckEntry {
        LaneAckEntry {
            lane: LaneId(lane),
            epoch: LinkEpoch(epoch),
            dialled,
            is_final,
            settled,
            count,
            credit_frames,
            credit_bytes,
        }
    }
}

pub(crate) fn lane_ack() -> impl Strategy<Value = LaneAck> {
    (any::<u64>(), vec(lane_ack_entry(), 0..=96))
        .prop_map(|(sequence, entries)| LaneAck { sequence, entries })
}

pub(crate) fn link_mode() -> impl Strategy<Value = LinkModeOffer> {
    let mode = select(vec![LinkMode::Separate, LinkMode::Collapsed]);
    (any::<u32>(), mode, any::<bool>()).prop_map(|(generation, mode, accepted)| LinkModeOffer {
        generation,
        mode,
        accepted,
    })
}

pub(crate) fn lane_close() -> impl Strategy<Value = LaneClose> {
    let number = prop_oneof![0..30_u16, any::<u16>()];
    (number, name())
        .prop_map(|(number, detail)| LaneClose { reason: CloseReason::from_wire(number), detail })
}

fn blob() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..300)
}

pub(crate) fn join_request() -> impl Strategy<Value = JoinRequest> {
    let parts = (blob(), blob(), name());
    parts.prop_map(|(secret, csr, name)| JoinRequest { secret: secret.into(), csr, name })
}

pub(crate) fn join_reply() -> impl Strategy<Value = JoinReply> {
    (mesh(), name(), blob(), blob()).prop_map(|(mesh, mesh_name, certificate, authority)| {
        JoinReply { mesh, mesh_name, certificate, authority }
    })
}

pub(crate) fn notice() -> impl Strategy<Value = Notice> {
    let reason = prop_oneof![
        Just(NoticeReason::NoAdjacency),
        Just(NoticeReason::Congested),
        Just(NoticeReason::HopsExceeded),
        Just(NoticeReason::NotForThisNode),
        Just(NoticeReason::Rerouted),
        (6..=u8::MAX).prop_map(NoticeReason::Unknown),
    ];
    (path(), reason, node(), node(), stream(), option::of(notice_refusal())).prop_map(
        |(path, reason, at, destination, stream, refusal)| Notice {
            path,
            reason,
            at,
            destination,
            stream,
            refusal,
        },
    )
}

fn notice_refusal() -> impl Strategy<Value = NoticeRefusal> {
    let limit = prop_oneof![
        Just(NoticeLimit::NoLane),
        Just(NoticeLimit::Class),
        Just(NoticeLimit::Tenant),
        Just(NoticeLimit::Stream),
        Just(NoticeLimit::SequenceWindow),
        Just(NoticeLimit::FrameSize),
        Just(NoticeLimit::Shard),
        Just(NoticeLimit::Unknown(0)),
        (8..=u8::MAX).prop_map(NoticeLimit::Unknown),
    ];
    // The last number stands for no lane.
    let lane = option::of((0..u16::MAX).prop_map(LaneId));
    (limit, class(), lane, any::<u32>()).prop_map(|(limit, class, lane, retry_after_ms)| {
        NoticeRefusal { limit, class, lane, retry_after_ms }
    })
}

pub(crate) fn stream_sync() -> impl Strategy<Value = StreamSync> {
    let offset = || any::<Option<u64>>().prop_map(|offset| offset.map(StreamOffset));
    let producers = vec((any::<u64>().prop_map(ProducerId), any::<u64>()), 0..5);
    (stream(), epoch(), offset(), offset(), producers).prop_map(
        |(stream, fence_epoch, base, end, producers)| StreamSync {
            stream,
            fence_epoch,
            base,
            end,
            producers,
        },
    )
}

prop_compose! {
    pub(crate) fn stream_ack()(
        (stream, fence_epoch, receiver_epoch) in (stream(), epoch(), epoch()),
        mut offsets in any::<[u64; 3]>(),
        (origin, credit_bytes, marked_bytes) in any::<(u64, u64, u64)>(),
        (unknown, ended, forgot) in any::<(bool, bool, bool)>(),
        producers in vec(any::<(u64, u64)>(), 0..20),
        refused in stream_refusal(),
    ) -> StreamAck {
        offsets.sort_unstable();
        let [consumed, received, seen] = offsets.map(StreamOffset);
        let producers = producers.into_iter().map(|(id, next)| (ProducerId(id), next)).collect();
        StreamAck {
            stream,
            fence_epoch,
            receiver_epoch,
            received,
            seen,
            consumed,
            origin: StreamOffset(origin),
            credit_bytes,
            marked_bytes,
            unknown,
            ended,
            forgot,
            producers,
            refused,
        }
    }
}

fn stream_refusal() -> impl Strategy<Value = Option<StreamRefusal>> {
    use StreamRefusal::{
        AckAhead, BeyondEnd, CreditOverrun, CreditReturned, ReorderOverrun, SequenceJump, Unknown,
    };
    let known = [CreditOverrun, CreditReturned, AckAhead, SequenceJump, ReorderOverrun, BeyondEnd];
    let any = prop_oneof![select(known.to_vec()), (7..=u8::MAX).prop_map(Unknown)];
    option::of(any)
}
