//! Layouts against the golden vectors of `docs/wire-format.md`, against damage and against any
//! bytes at all.
#![expect(clippy::panic, clippy::unwrap_used, reason = "a test that fails panics")]

mod any_bytes;
mod batches;
mod damage;
mod golden;
mod layouts;
mod refusals;
mod round_trip;
mod strategies;
mod vectors;
