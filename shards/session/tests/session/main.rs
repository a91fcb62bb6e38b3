//! Lane sessions against each other, against rustls and against tungstenite, in memory.

mod conformance;
mod failure;
mod far;
mod key_update;
mod messages;
mod pair;
