//! Lane sessions against each other, against rustls and against tungstenite, in memory.
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that fails panics, in its helpers too"
)]

mod conformance;
mod failure;
mod far;
mod key_update;
mod long_messages;
mod messages;
mod pair;
mod records;
