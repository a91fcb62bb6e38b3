use std::time::Duration;

use hawser_wire::{
    DATAGRAM_BYTES_MAX, HOPS_MAX, LINK_SEQUENCE_WINDOW, STRIPE_WINDOW_BYTES, STRIPE_WINDOW_FRAMES,
};

/// What a [`crate::VirtualLink`] keeps to. The defaults are the design's numbers.
#[derive(Clone, Copy, Debug)]
pub struct LinkConfig {
    /// Heartbeats go out on each lane this often.
    pub tick: Duration,
    /// Own ticks without a byte from the peer, or without an answer to heartbeats, after which new
    /// frames avoid the lane.
    pub quiet_after_ticks: u32,
    /// Own ticks without a byte from the peer, or without an answer to heartbeats, after which
    /// unacknowledged frames are sent over another lane as well.
    pub hedge_after_ticks: u32,
    /// Own ticks without a byte from the peer after which the lane is dead.
    pub dead_after_ticks: u32,
    /// The link session ends after this long without a lane.
    pub session_timeout: Duration,
    /// An acknowledgement is sent this long after the first frame that it covers, at the latest.
    pub ack_delay: Duration,
    /// An acknowledgement is sent at once for this many bytes of counted frames, and while a connection
    /// is young for an eighth of what came over it.
    pub ack_bytes: u64,
    /// An acknowledgement is sent at once for this many counted frames.
    pub ack_frames: u64,
    /// Memory of unacknowledged batches per lane, by their backing buffers. What a frame holds of a
    /// message that brought it counts for its own bytes, and may be 2.5 times that.
    pub window_bytes: usize,
    /// The part of `window_bytes` that control alone may use.
    pub window_control_bytes: usize,
    /// A batch is closed when it reaches this many bytes, if the link is fast and nothing urgent
    /// waits.
    pub batch_bytes: usize,
    /// A batch is closed when it reaches this many bytes while control or priority waits, or the
    /// link is slow; and what a stream of others gets in each of its turns.
    pub quantum_bytes: usize,
    /// Bytes of own and of foreign control, each, that may wait.
    pub control_bytes_max: usize,
    /// Bytes of own and of foreign priority, of own and of foreign bulk, each, that may wait.
    pub data_bytes_max: usize,
    /// Own streams stop filling a lane's queue at this many bytes, or on a slow link at four times
    /// what may be in flight.
    pub send_ahead_bytes: usize,
    /// Foreign frames are marked while more than this many bytes of their class from elsewhere wait.
    pub mark_bytes: usize,
    /// Largest body of a control frame that this node sends or takes; link control has a bound of
    /// its own.
    pub control_frame_bytes_max: usize,
    /// Priority and bulk that may always be in flight, also before the link's rate is known: some pieces, so that
    /// one is on the wire while another is being acknowledged, and little enough for the slowest link.
    /// With more at first, lanes of a slow link that share one bottleneck hold up each other's
    /// heartbeats, and the round trips that they are to measure.
    pub in_flight_floor_bytes: u64,
    /// Most lane credit granted ahead of what was received.
    pub credit_bytes_max: u64,
    /// Link sequences in flight span less than this, and the next is so far ahead at most of the highest
    /// that the peer has; at most [`LINK_SEQUENCE_WINDOW`], which the peer takes. Bulk leaves a quarter of
    /// it to the other classes, priority and others' control an eighth to own control.
    pub sequence_window: u64,
    /// Bytes of one striped stream that may be sent beyond the first frame that is not acknowledged; at
    /// most [`STRIPE_WINDOW_BYTES`], which the peer takes.
    pub stripe_bytes: u64,
    /// Likewise frames; at most [`STRIPE_WINDOW_FRAMES`].
    pub stripe_frames: u64,
    /// What is missing of a striped stream is given up after this long: longer than a link session
    /// outlives its lanes.
    pub stripe_gap_max: Duration,
    /// Heartbeats that a lane takes per second; ten seconds' worth may come at once.
    pub heartbeats_per_second: u32,
}

impl Default for LinkConfig {
    fn default() -> Self {
        Self {
            tick: Duration::from_millis(100),
            quiet_after_ticks: 2,
            hedge_after_ticks: 3,
            dead_after_ticks: 10,
            session_timeout: Duration::from_secs(10),
            ack_delay: Duration::from_millis(1),
            ack_bytes: 256 << 10,
            ack_frames: 4096,
            window_bytes: 32 << 20,
            window_control_bytes: 2 << 20,
            batch_bytes: 128 << 10,
            quantum_bytes: 16 << 10,
            control_bytes_max: 8 << 20,
            data_bytes_max: 32 << 20,
            send_ahead_bytes: 256 << 10,
            mark_bytes: 1 << 20,
            control_frame_bytes_max: DATAGRAM_BYTES_MAX + 64 + HOPS_MAX * 5,
            in_flight_floor_bytes: 2 << 10,
            credit_bytes_max: 64 << 20,
            sequence_window: LINK_SEQUENCE_WINDOW,
            stripe_bytes: STRIPE_WINDOW_BYTES,
            stripe_frames: STRIPE_WINDOW_FRAMES,
            stripe_gap_max: Duration::from_secs(15),
            heartbeats_per_second: 500,
        }
    }
}
