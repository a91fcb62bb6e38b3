//! Link-state advertisements, their database, flooding, shortest paths, route snapshots.
//!
//! Pure: the driver in `control/plane` feeds it messages and the time, and sends what it asks for.
//! The order of work is the order of the modules: an [`Lsa`] is flooded by [`Flooding`] into every
//! node's [`Lsdb`], once the driver has [checked](Flooding::poll_check) it, [`MeshTopology`] is what
//! that says of nodes and links, [`PathComputer`] computes from it, and [`RouteTable`] names the paths and makes the [`RouteSnapshot`] that shards use.
//!
//! Each class sees a [`Topology`] as a [`Graph`], in which the [`Rib`] keeps a [`ShortestPathTree`],
//! the [`Backups`] of this node's links and the K best paths ([`KPaths`]) up to date. [`explain()`],
//! [`plan_paths`], [`plan_impact`] and [`CoverageSurvey`] answer the operator's questions with the same code.
//!
//! **Invariant:** paths are in a total order: cost, then hops, then the bytewise list of nodes; what
//! is computed is the first in it, on ties too.
//!
//! **Invariant:** nothing here iterates over a hash map, so equal inputs in equal order give equal
//! outputs in equal order.
#![warn(clippy::arithmetic_side_effects, clippy::as_conversions, clippy::indexing_slicing)]

mod adjacency;
mod aged_out;
mod arc_map;
mod backup;
mod candidates;
mod coverage;
mod delta;
mod deviation;
mod disjoint;
mod distances;
mod explain;
mod flooding;
mod graph;
mod incremental_spf;
mod intake;
mod k_paths;
mod life;
mod list_change;
mod lsa;
mod lsdb;
mod mesh_topology;
mod message;
mod multipath;
mod neighbour;
mod neighbour_certificates;
mod operator_route;
mod path_computer;
mod path_list;
mod piece_table;
mod plan;
mod protection;
mod reject;
mod rib;
mod rib_table;
mod route_table;
mod shared_map;
mod shared_vec;
#[cfg(test)]
mod shortest_paths;
mod snapshot;
mod spf;
mod summary_limit;
#[cfg(test)]
mod tests;
mod token_bucket;
mod topology;
mod upcoming;

pub use adjacency::{Adjacency, AdjacencyMetrics};
pub use backup::Backups;
pub use coverage::{Coverage, CoverageSurvey};
pub use disjoint::{LinkDisjointPairs, NodeDisjointPairs};
pub use explain::{Candidate, ExplainedHop, Verdict, best_paths, explain};
pub use flooding::{Flooding, OriginateError};
pub use graph::{COST_MAX, Graph, GraphArc, GraphError, NODES_MAX, NodeNumber, PathKey};
pub use incremental_spf::{ArcChange, RegrowWorkspace};
pub use k_paths::{K_MAX, KPaths, PathLimits};
pub use life::LIFETIME_MAX;
pub use lsa::{ADJACENCIES_MAX, CertificateHash, LSA_BYTES_MAX, Lsa, LsaFlags, LsaVersion};
pub use lsdb::{Inserted, LSDB_BYTES_MAX, Lsdb, LsdbPieces, LsdbState, ORIGINS_MAX, StoredLsa};
pub use mesh_topology::{MeshPieces, MeshTopology};
pub use message::FLOODING_MESSAGE_BYTES_MAX;
pub use multipath::SmoothRoundRobin;
pub use operator_route::{OPERATOR_ROUTES_MAX, Obstacle, OperatorRoute, VIA_MAX};
pub use path_computer::{PathComputer, Step};
pub use path_list::PathList;
pub use plan::{
    Demand, Impact, NodePair, PlannedPath, PlannedPaths, plan_impact, plan_node_disjoint,
    plan_paths,
};
pub use reject::{CertificateFault, Judgement, ReceivedCertificate, Refusal, RejectReason};
pub use rib::{ClassRoutes, Rib, Routes};
pub use route_table::RouteTable;
pub use shared_vec::SharedVec;
#[cfg(test)]
use shortest_paths::{Path, shortest_paths};
pub use snapshot::{Route, RouteSet, RouteSnapshot};
pub use spf::{ShortestPathTree, SpfWorkspace};
pub use token_bucket::TokenBucket;
pub use topology::{
    CostTerms, LinkMetrics, NodeFlags, REFERENCE_MBPS, Topology, Weights, cost_beyond,
};
