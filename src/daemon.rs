//! The node process: configuration, processors, wiring, shutdown.

mod api_threads;
pub(crate) mod config;
mod congestion;
mod fault;
mod leash;
pub(crate) mod logging;
mod machine;
pub(crate) mod profile;
mod ready;
mod shutdown;
mod wiring;

pub(crate) use leash::RELEASE;
pub(crate) use machine::usable_processors;
pub(crate) use wiring::{NodeStart, run};
