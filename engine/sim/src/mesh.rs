//! Whole meshes in virtual time: every node runs the engine's own membership, flooding and path
//! computation, as its daemon's control thread would drive them, while links are cut, nodes killed
//! and the mesh parted.
//!
//! Two things are simpler than in a daemon: a link is up or not, and carries messages in order and
//! without limit of its rate; and every node has every certificate. What a message meets on its way
//! is what there is when it is sent.
//!
//! **Invariant:** a node acts on what it was told, and on nothing of [`reality`]; checkers compare
//! the two.

mod checks;
mod faults;
mod forwarding;
mod graph;
mod keys;
mod node;
mod phase;
mod reality;
mod routes;
mod simulation;
mod summary;
#[cfg(test)]
mod tests;
mod wires;

pub use faults::{LOSS_PPM_MAX, MeshFaults};
pub use graph::{GraphKind, MeshGraph, NODES_MAX};
pub use keys::MeshKeys;
pub use simulation::{MeshMutation, MeshSimulation};
pub use summary::{MeshProgress, MeshSummary};
