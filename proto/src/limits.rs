//! Sizes that both ends of a connection use. With HTTP/2's defaults (64 KiB windows) a batched
//! stream stalls for a round trip every other batch.

/// Flow-control window of a stream, in bytes.
pub const WINDOW_BYTES: u32 = 8 << 20;

/// Flow-control window of a connection, in bytes: a few streams that nobody reads do not stop the
/// others on the same connection.
pub const CONNECTION_WINDOW_BYTES: u32 = 4 * WINDOW_BYTES;

/// Largest HTTP/2 frame, in bytes.
pub const FRAME_BYTES: u32 = 1 << 20;

/// Largest payload of a [`PublishBatch`](crate::v1::PublishBatch), in bytes.
pub const BATCH_PAYLOAD_BYTES_MAX: usize = 4 << 20;

/// Most messages in a [`PublishBatch`](crate::v1::PublishBatch).
pub const BATCH_MESSAGES_MAX: usize = 65_536;

/// Largest encoded request or response, in bytes: a largest batch, its lengths and ids.
pub const REQUEST_BYTES_MAX: usize = BATCH_PAYLOAD_BYTES_MAX + BATCH_MESSAGES_MAX * 5 + (64 << 10);
