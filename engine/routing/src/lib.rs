//! Link-state database, flooding, shortest paths, route snapshots.
//!
//! Pure: the driver in `control/plane` feeds it announcements and sends what it asks for.
#![warn(clippy::arithmetic_side_effects, clippy::as_conversions, clippy::indexing_slicing)]

mod snapshot;

pub use snapshot::{Route, RouteSnapshot};
