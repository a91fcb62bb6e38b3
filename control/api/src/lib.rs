//! gRPC services over the control plane and the shards.
//!
//! Control RPCs ask the control thread through [`hawser_plane::PlaneHandle`]. Data RPCs are
//! *sessions*: each call's handler speaks with one task, the pump, and the pump alone owns this
//! thread's rings to the shards. Protobuf stops here: no other crate of the node knows it.
//!
//! **Invariant:** everything that waits is bounded. A publisher is read only while its shard grants
//! credit; a subscription's credit returns only when HTTP/2 took the messages. So what a slow
//! receiver does not take stays at the stream's source.

mod authority;
mod batch_body;
mod batch_requests;
mod connection;
mod data_service;
mod detour;
mod event_watch;
mod failure;
mod hub;
mod listener;
mod mesh_service;
mod mesh_status;
mod message_reader;
mod message_status;
mod operators;
mod outlet;
mod plane_status;
mod publish_batch;
mod publish_call;
mod publish_unary;
mod pump;
mod request_check;
mod route_status;
mod runtime;
mod server;
mod session;
mod subscription;
mod survey_status;
mod unix_socket;

pub use listener::ApiListeners;
pub use runtime::runtime;
pub use server::{ServeError, serve};
pub use unix_socket::{BindError, BoundSocket, bind_unix};
