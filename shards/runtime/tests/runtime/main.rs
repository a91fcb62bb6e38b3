//! Real shards on threads of their own, with real TLS over real sockets; the tests stand where the
//! control thread, the API threads and the neighbours do.
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that fails panics, in its helpers too"
)]

mod application;
mod cable;
mod congestion;
mod detours;
mod fairness;
mod flood;
mod forwarding;
mod lanes;
mod multipath;
mod node;
mod notices;
mod pace;
mod peer;
mod recovery;
mod shutdown;
mod stream_violations;
mod streams;
mod stripes;
mod violations;
mod wait;
mod windows;
