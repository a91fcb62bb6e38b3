//! What threads say to each other: closed enums, one file per pair of sides.
//!
//! Each variant's doc says what happens when the ring is full. Sizes are asserted, so that a
//! variant that grows is boxed on purpose and not by accident.

mod api;
mod control;
mod report;
mod shard;

pub use api::{
    ApiData, ApiToShard, ConsumerStart, PublishedBatch, Refusal, SessionId, ShardToApi,
    ShardToApiData, SubscribeEnd, SubscribeRequest,
};
pub use control::{
    ControlToShard, DestinationSpec, LaneHandover, LaneSerial, ShardToControl, SourceSpec,
    StreamSpec,
};
pub use report::{
    LaneReport, LinkEventReport, LinkReport, MessageDestination, MessageReport, MessageSending,
    MessageWay, ShardReport, StreamRefusedReport, StreamReport,
};
pub use shard::{RoutedFrame, ShardToShard};
