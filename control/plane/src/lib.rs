//! The control thread's own logic: links and their lanes, flooding and path computation, the
//! stream catalogue, the mesh's lifecycle.
//!
//! One loop ([`Plane::run`]) owns all of it. Sub-machines are pure and are told the time: `links`,
//! `dialler`, `wishes`, `dial_back_guard`, `adjacency`, `link_metrics`, `certificates`, `verified`, `catalogue`, `announcements`, `opens`,
//! `commits`, `reports`, `datagram`, `dial_back_request`, `directory`, `drill`. Beside them stand the parts that
//! act: `lanes`, `wanted_lanes`, `lane_events`, `link_state`, `topology`, `streams`, `arrivals`, `lifecycle`, `joins`,
//! `settling`, `status`, `routes`, `operator_routes`, `drills` move what the machines say between the rings, the sockets of admission and the
//! store.
//!
//! **Invariant:** no payload passes here, and nothing in the loop waits for a disk or a socket.
//!
//! **Invariant:** what a caller is told is done is durable.

mod adjacency;
mod announcements;
mod arrivals;
mod catalogue;
mod certificates;
mod commits;
mod config;
mod control;
mod datagram;
mod dial_back_guard;
mod dial_back_request;
mod dialler;
mod directory;
mod drill;
mod drills;
mod error;
mod events;
mod evicting;
mod evictions;
mod farewells;
mod handle;
mod joins;
mod lane_events;
mod lane_rules;
mod lanes;
mod lifecycle;
mod link_metrics;
mod link_modes;
mod link_state;
mod links;
mod liveness;
mod message_ways;
mod neighbour_turns;
mod opens;
mod operator_routes;
mod path_worker;
mod plane;
mod refresh;
mod refusal;
mod refused;
mod reports;
mod routes;
mod settling;
mod shards;
mod status;
mod store_queue;
mod streams;
mod survey;
mod topology;
mod verified;
mod view;
mod wanted_lanes;
mod wishes;

pub use config::{LanePlan, PlaneConfig};
pub use drill::DrillMeasured;
pub use drills::DrillView;
pub use error::PlaneError;
pub use handle::PlaneHandle;
pub use hawser_membership::Liveness;
pub use hawser_routing::{CostTerms, K_MAX, LinkMetrics};
pub use hawser_store::StreamState;
pub use lane_rules::{LaneRuleChange, LaneRuleChoice, LaneRuleView, PeerSelector};
pub use message_ways::{MessageDestinationView, MessageSendingView, MessageState, MessageView};
pub use plane::Plane;
pub use routes::{
    CandidateView, ObstacleView, OperatorRouteView, RouteHopView, RouteView, RoutesView,
    VerdictView,
};
pub use survey::{CoverageView, TopologyNodeView, TopologyView};
pub use view::{
    EventKind, EventView, EvictionView, LaneEventView, LaneEventsView, LaneView, LinkView,
    MeshState, MeshView, NodeRef, NodeView, OpenStream, OpenedStream, StatusView, StreamRole,
    StreamStatusView, StreamView,
};
