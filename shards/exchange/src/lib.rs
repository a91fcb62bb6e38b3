//! The only bridge between threads: bounded rings with doorbells, the route snapshot cell, and the
//! closed message enums.
//!
//! [`exchange()`] makes all of them and deals the ends out. A thread owns its ends and one
//! [`Doorbell`]; its loop takes what is in its [`Receiver`]s, puts what it has into its [`Sender`]s,
//! rings once per batch, and sleeps at its bell when nothing is left to do.
//!
//! **Invariant:** no thread waits for another. A full ring hands the message back
//! ([`Full`]), and what its sender does then stands in the documentation of the message.
//!
//! **Invariant:** no wake-up is lost, and none is sent to a thread that is awake ([`Doorbell`]).
//!
//! Generic over the session of a lane that is handed over, so that no TLS is named here.

mod doorbell;
mod lane_rule;
mod message;
mod ports;
mod queue;
mod ring;
mod route_cell;
mod spin;
mod sync;

pub use doorbell::Doorbell;
pub use lane_rule::{LanePolicyMode, LaneRule};
pub use message::{
    ApiData, ApiToShard, ConsumerStart, ControlToShard, DestinationSpec, LaneHandover, LaneReport,
    LaneSerial, LinkEventReport, LinkReport, MessageDestination, MessageReport, MessageSending,
    MessageWay, PublishedBatch, Refusal, RoutedFrame, SessionId, ShardReport, ShardToApi,
    ShardToApiData, ShardToControl, ShardToShard, SourceSpec, StreamRefusedReport, StreamReport,
    StreamSpec, SubscribeEnd, SubscribeRequest,
};
pub use ports::{
    ApiPorts, ApiShardPort, ControlPorts, ControlShardPort, Exchange, ShardApiPort,
    ShardControlPort, ShardPeerPort, ShardPorts, exchange,
};
pub use ring::{Full, Receiver, Sender, ring};
pub use route_cell::{RoutePublisher, RouteReader, route_cell};
pub use spin::{Lookout, Spin};
