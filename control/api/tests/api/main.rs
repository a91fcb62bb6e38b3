//! The API over real sockets, with the client that applications use, a real control plane and a
//! small shard that keeps the rules of the rings.

mod control;
mod node;
mod publish;
mod shard;
mod subscribe;
mod tls;
mod unary;

use std::time::Duration;

/// What does not happen by then does not happen.
const PATIENCE: Duration = Duration::from_secs(20);
