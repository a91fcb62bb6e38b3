//! One lane's TLS 1.3 and WebSocket, without I/O.
//!
//! Owns the bytes between a socket and the frames of a lane: ciphertext read but not yet decrypted,
//! plaintext not yet consumed, ciphertext not yet written. `control/admission` drives it through
//! the handshakes on the control thread; the owner shard drives the same value from then on, so
//! that nothing is converted, copied or lost at the hand-over.
//!
//! **Invariant:** no socket, no clock; whatever a peer sends ends in a value or a
//! [`SessionError`], never in a panic, and never takes more memory than the bounds of
//! `hawser-wire`.

mod error;
mod inbox;
mod mask;
mod message;
mod outgoing;
mod pieces;
mod records;
mod session;
mod tls;
mod traffic_key;
mod websocket;

pub use error::{SessionError, WebSocketViolation};
pub use inbox::Inbox;
pub use message::Message;
pub use session::{LaneSession, Progress, Role};
