//! Whole `hawser` processes, from outside: what a user sees and what a script can rely on.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod bad_input;
mod bounds;
mod congestion;
mod demo;
mod drill;
mod events;
mod evict;
mod files;
mod lane_policy;
mod lane_rules;
mod lifecycle;
mod link_faults;
mod link_mode;
mod liveness;
mod metrics;
mod namespaces;
mod operator_route;
mod output;
mod plan;
mod process;
mod refused;
mod relay;
mod restarts;
mod ring;
mod route;
mod scripts;
mod stalls;
mod stream;
mod striped_faults;
mod survey;
mod triangle;
mod twins;
mod violations;
mod watcher;
