//! The node process: configuration, processors, wiring, shutdown.

pub(crate) mod config;
pub(crate) mod profile;
