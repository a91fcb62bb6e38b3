//! The API over real sockets, with the client that applications use, a real control plane and a
//! small shard that keeps the rules of the rings.

// Without `cfg(test)` clippy takes helpers for code that may not panic.
#[cfg(test)]
mod control;
#[cfg(test)]
mod node;
#[cfg(test)]
mod publish;
#[cfg(test)]
mod reflection;
#[cfg(test)]
mod shard;
#[cfg(test)]
mod subscribe;
#[cfg(test)]
mod tls;
#[cfg(test)]
mod unary;

use std::time::Duration;

/// What does not happen by then does not happen.
const PATIENCE: Duration = Duration::from_secs(20);
