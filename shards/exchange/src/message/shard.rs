use std::num::NonZeroU64;

use bytes::Bytes;
use hawser_wire::{FrameFlags, FrameKind, NodeId, TrafficClass};

/// A routed frame between shards: its body starts with the route header.
#[derive(Debug)]
pub struct RoutedFrame {
    /// What it is.
    pub kind: FrameKind,
    /// Its class.
    pub class: TrafficClass,
    /// As it came.
    pub flags: FrameFlags,
    /// A number of the neighbour that has brought it; none if it is of this node.
    pub via: Option<NonZeroU64>,
    /// Route header and the rest, copied out of the lane's buffer.
    pub body: Bytes,
}

/// From one shard to another; acknowledgements and notices on the control ring, records on the ring
/// of their class, so that bulk that waits is in nobody else's way.
///
/// Ring full: on a ring of records the sender acts as a relay whose queue is full: it drops and tells
/// the source, which resends. On the control ring it keeps the frame, unless too many bytes of such
/// frames are on their way: then it drops it, and its protocol repeats it.
#[derive(Debug)]
pub enum ShardToShard {
    /// To be sent on a link that the receiver owns.
    Egress {
        /// The neighbour.
        peer: NodeId,
        /// The frame.
        frame: RoutedFrame,
    },
    /// For a stream that the receiver hosts.
    Ingress {
        /// The frame.
        frame: RoutedFrame,
    },
    /// A link that the sender owns has become usable, or is not any more. On the control ring; never
    /// dropped: while the receiver believes in a link that is down the sender repairs its frames, and
    /// one that it does not believe in it avoids for nothing.
    Link {
        /// The neighbour.
        peer: NodeId,
        /// Frames for it arrive, as far as is known.
        usable: bool,
    },
}

const _: () = assert!(size_of::<ShardToShard>() <= 64);
