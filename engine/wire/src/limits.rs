//! Bounds that both ends of a lane share. A peer that exceeds one is closed with a named reason.

/// Largest message of an application, in bytes.
pub const MESSAGE_BYTES_MAX: usize = 1 << 20;

/// A record closes when its payload reaches this many bytes; a single larger message makes a record
/// of its own.
pub const RECORD_BYTES_TARGET: usize = 64 << 10;

/// A record closes at this many messages.
pub const RECORD_MESSAGES_MAX: usize = 1024;

/// Largest body of a frame in bytes: a record of one largest message, its lengths and headers.
pub const FRAME_BODY_BYTES_MAX: usize = MESSAGE_BYTES_MAX + (16 << 10);

/// Largest batch of frames in one WebSocket message, in bytes.
pub const BATCH_BYTES_MAX: usize = FRAME_BODY_BYTES_MAX + (256 << 10);

/// Largest body of a [`crate::FrameKind::LinkControl`] frame in bytes: half a mebibyte of link
/// state, and what stands around it.
pub const LINK_CONTROL_BYTES_MAX: usize = (512 << 10) + (16 << 10);

/// Largest body of a [`crate::FrameKind::Datagram`] in bytes, behind its route header.
pub const DATAGRAM_BYTES_MAX: usize = 64 << 10;

/// Longest strict source route, in hops.
pub const HOPS_MAX: usize = 64;

/// Most times that relays replace the list of a frame by a backup.
pub const REPAIRS_MAX: u8 = 2;

/// Longest human name on the wire, in bytes of UTF-8.
pub const NAME_BYTES_MAX: usize = 255;

/// Most connections that one [`crate::LaneAck`] speaks of.
pub const LANE_ACK_ENTRIES_MAX: usize = 96;

/// Counted frames that may be sent over a connection before it has granted more.
pub const LANE_CREDIT_FRAMES_INITIAL: u64 = 65_536;

/// Bytes of counted frames that may be sent over a connection before it has granted more: some
/// largest batches.
pub const LANE_CREDIT_BYTES_INITIAL: u64 = 8 << 20;

/// Link sequences in flight span less than this: a frame further ahead of the newest than that is a
/// violation, one further behind was delivered.
pub const LINK_SEQUENCE_WINDOW: u64 = 1 << 18;

/// Channels of striped records that a link has in each direction.
pub const STRIPE_CHANNELS: usize = 8;

/// Bytes of frame bodies of one channel that may come before their turn: how far the records of a
/// striped stream may run ahead of the first that was not acknowledged.
pub const STRIPE_WINDOW_BYTES: u64 = 8 << 20;

/// Likewise in frames.
pub const STRIPE_WINDOW_FRAMES: u64 = 4096;

const _: () = assert!(RECORD_BYTES_TARGET <= MESSAGE_BYTES_MAX);
const _: () = assert!(RECORD_MESSAGES_MAX * 5 < 16 << 10, "lengths fit into the frame's slack");
const _: () = assert!(BATCH_BYTES_MAX > FRAME_BODY_BYTES_MAX);
const _: () = assert!(LINK_CONTROL_BYTES_MAX <= FRAME_BODY_BYTES_MAX);
const _: () = assert!(DATAGRAM_BYTES_MAX <= LINK_CONTROL_BYTES_MAX);
