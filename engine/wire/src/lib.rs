//! Bytes on the wire: ids, monotonic time, frame header, route header, stream header, record batch,
//! checksum, and the small messages that travel in frames.
//!
//! Owns the layouts that `docs/wire-format.md` describes and nothing else: no socket, no clock, no
//! allocation by a length that was not checked first.
//!
//! **Invariant:** every decoder takes any bytes without a panic and answers with a value or a
//! [`DecodeError`]. Integers are little-endian.
#![warn(clippy::arithmetic_side_effects, clippy::as_conversions, clippy::indexing_slicing)]

mod ack_interval;
mod batch;
mod checksum;
mod class;
mod drill_probe;
mod error;
mod eviction;
mod frame;
mod hello;
mod ids;
mod join;
mod lane_ack;
mod lane_fragment;
mod lane_mode;
mod limits;
mod notice;
mod printable;
mod producer_list;
mod reader;
mod record;
mod route;
mod stream;
mod stream_ack;
mod stream_refusal;
mod stream_sync;
mod stripe_stamp;
mod time;
mod turn_delay;
mod varint;

pub use ack_interval::AckInterval;
pub use batch::{BatchWriter, FrameBody, FrameIter, FrameRef};
pub use checksum::{Crc32c, crc32c};
pub use class::TrafficClass;
pub use drill_probe::DrillProbe;
pub use error::DecodeError;
pub use eviction::{Eviction, EvictionDigest};
pub use frame::{FrameFlags, FrameHeader, FrameKind};
pub use hello::{
    CloseReason, Hello, LaneClose, PROTOCOL_VERSION, PROTOCOL_VERSION_MIN, capability,
};
pub use ids::{
    AdjacencyIndex, BootEpoch, IdParseError, Incarnation, LaneId, LifeNonce, LinkEpoch,
    LinkSequence, MeshId, NodeId, PathId, ProducerId, ShardId, StreamId, StreamOffset, TenantId,
};
pub use join::{JoinReply, JoinRequest};
pub use lane_ack::{LaneAck, LaneAckEntry};
pub use lane_fragment::LaneFragment;
pub use lane_mode::{ClassSet, LaneClasses, LinkMode, LinkModeOffer};
pub use limits::{
    BATCH_BYTES_MAX, DATAGRAM_BYTES_MAX, FRAME_BODY_BYTES_MAX, HOPS_MAX, LANE_ACK_ENTRIES_MAX,
    LANE_CREDIT_BYTES_INITIAL, LANE_CREDIT_FRAMES_INITIAL, LINK_CONTROL_BYTES_MAX,
    LINK_SEQUENCE_WINDOW, MESSAGE_BYTES_MAX, NAME_BYTES_MAX, RECORD_BYTES_TARGET,
    RECORD_MESSAGES_MAX, REPAIRS_MAX, STRIPE_CHANNELS, STRIPE_WINDOW_BYTES, STRIPE_WINDOW_FRAMES,
};
pub use notice::{Heartbeat, Notice, NoticeLimit, NoticeReason, NoticeRefusal};
pub use printable::printable;
pub use reader::ByteReader;
pub use record::{Record, RecordBuilder, RecordView};
pub use route::{Hop, RouteHeader};
pub use stream::StreamHeader;
pub use stream_ack::StreamAck;
pub use stream_refusal::StreamRefusal;
pub use stream_sync::StreamSync;
pub use stripe_stamp::StripeStamp;
pub use time::MonoTime;
pub use turn_delay::TurnDelay;
pub use varint::{VARINT_U32_BYTES_MAX, put_varint, varint_len};
