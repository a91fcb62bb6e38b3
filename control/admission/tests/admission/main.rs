//! Lanes and admissions over real sockets on 127.0.0.1 and real TLS.
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that fails panics, in its helpers too"
)]

mod bind;
mod fragment;
mod identity;
mod join;
mod lane;
mod mesh;
mod patience;
mod protocol;
mod proxy;
mod raw_peer;
