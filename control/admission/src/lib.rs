//! How a connection becomes a lane: dialling (through an HTTP CONNECT proxy if need be),
//! accepting, TLS, HTTP upgrade, Hello, join; then the hand-over to the shard that owns the link.
//!
//! Owns every socket from its first byte until the handshake is done, and nothing after it. Runs
//! on the control thread, so that a shard never does asymmetric cryptography and never talks to a
//! peer that is not known.
//!
//! **Invariant:** a [`Handover`] names the node that its certificate names; what Hello says is
//! only compared with it. **Invariant:** a stranger costs at most one slot, one deadline and a few
//! kilobytes: every stage has a bound in time and in bytes, and no stage waits for another
//! connection. **Invariant:** no byte is lost at the hand-over: what was read and not consumed, or
//! made and not written, is inside the session.

mod accept;
mod address;
mod backoff;
mod barred;
mod connection;
mod dial;
mod error;
mod fault;
mod hello;
mod http;
mod join;
mod limits;
mod local_node;
mod proxy;
mod rate_limit;
mod refuse;
mod serve;
mod slots;

use hawser_exchange::LaneHandover;
use hawser_session::LaneSession;

pub use accept::{Accepted, Acceptor, JoinAttempt};
pub use address::check_address;
pub use backoff::Backoff;
pub use barred::{BarredPeers, Refusal};
pub use dial::{DialOptions, dial};
pub use error::AdmissionError;
pub use fault::{Fault, Stage};
pub use join::{JoinOptions, join};
pub use limits::{AdmissionLimits, SocketOptions};
pub use local_node::LocalNode;
pub use refuse::refuse;

/// A lane that is ready for the shard which owns its link.
pub type Handover = LaneHandover<LaneSession>;
