//! The peer: nats-server, driven by a client that speaks its raw protocol over blocking sockets,
//! so that the server is what gets measured.

pub(crate) mod alone;
pub(crate) mod connection;
pub(crate) mod install;
pub(crate) mod publisher;
pub(crate) mod round_trip;
pub(crate) mod servers;
pub(crate) mod subscriber;

/// Subject of the load.
const SUBJECT: &str = "b";

/// Subjects of the round trip: there and back.
const SUBJECT_THERE: &str = "p";
const SUBJECT_BACK: &str = "q";
