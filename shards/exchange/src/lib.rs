//! The only bridge between threads: bounded rings with doorbells, the route snapshot cell, and the
//! closed message enums.

mod message;

pub use message::{
    ApiData, ApiToShard, ConsumerStart, ControlToShard, DestinationSpec, LaneHandover, LaneReport,
    LinkReport, PublishedBatch, Refusal, RoutedFrame, SessionId, ShardReport, ShardToApi,
    ShardToApiData, ShardToControl, ShardToShard, SourceSpec, StreamReport, StreamSpec,
    SubscribeEnd, SubscribeRequest,
};
