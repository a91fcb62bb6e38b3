//! Link-state advertisements, their database, flooding, shortest paths, route snapshots.
//!
//! Pure: the driver in `control/plane` feeds it messages and the time, and sends what it asks for.
//! The order of work is the order of the modules: an [`Lsa`] is flooded by [`Flooding`] into every
//! node's [`Lsdb`], [`shortest_paths()`] reads that database, [`RouteTable`] names the paths and
//! makes the [`RouteSnapshot`] that shards use.
//!
//! **Invariant:** nothing here iterates over a hash map, so equal inputs in equal order give equal
//! outputs in equal order.
#![warn(clippy::arithmetic_side_effects, clippy::as_conversions, clippy::indexing_slicing)]

mod flooding;
mod lsa;
mod lsdb;
mod message;
mod neighbour;
mod route_table;
mod shortest_paths;
mod snapshot;
#[cfg(test)]
mod tests;

pub use flooding::{Flooding, OriginateError, RejectReason};
pub use lsa::{ADJACENCIES_MAX, Adjacency, LSA_BYTES_MAX, Lsa, LsaVersion};
pub use lsdb::{Inserted, LSDB_BYTES_MAX, Lsdb, ORIGINS_MAX};
pub use message::FLOODING_MESSAGE_BYTES_MAX;
pub use route_table::RouteTable;
pub use shortest_paths::{Path, shortest_paths};
pub use snapshot::{Route, RouteSnapshot};
