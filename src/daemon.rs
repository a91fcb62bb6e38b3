//! The node process: configuration, processors, wiring, shutdown.

pub(crate) mod config;
mod leash;
pub(crate) mod logging;
mod machine;
pub(crate) mod profile;
mod ready;
mod shutdown;
mod wiring;

pub(crate) use wiring::{NodeStart, run};
