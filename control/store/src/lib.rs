//! The embedded store: identity, mesh, members, streams across restarts.
