//! The embedded store: what a node must still know after a restart, in one `redb` file.
//!
//! Owns `state.redb` in the data directory: the node's key and boot counter, the mesh that it is
//! in, join tokens, members, adjacency indices, evictions, addresses to dial, paths and lane rules that
//! operators have set, streams and their consumers.
//! Payload is not here.
//!
//! **Invariant:** every write is one transaction and on disk before its function returns; with
//! [`StoreThread`], before its answer is given.
//!
//! **Invariant:** the boot counter and the adjacency indices only grow, whatever else is cleared.

mod codec;
mod database;
mod error;
mod eviction;
mod lane_rule;
mod member;
mod mesh;
mod node;
mod operator_route;
mod peer;
mod stream;
mod thread;
mod token;

#[cfg(test)]
mod tests;

pub use database::{STATE_FILE, Store};
pub use error::StoreError;
pub use lane_rule::LaneRuleRecord;
pub use member::{MemberPut, MemberRecord};
pub use mesh::MeshRecord;
pub use node::NodeRecord;
pub use stream::{StreamRecord, StreamState};
pub use thread::{StoreHandle, StoreThread};
pub use token::{Admitted, TokenRecord};
