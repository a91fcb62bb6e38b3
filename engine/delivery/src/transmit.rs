use hawser_wire::{FrameFlags, NodeId, Record, StreamSync};

/// A record that could be sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Offer {
    /// Where to.
    pub destination: NodeId,
    /// What it counts for, in windows and credit.
    pub len_bytes: u64,
}

/// What is to be sent to a destination.
#[derive(Debug)]
pub struct Transmit {
    /// Where to.
    pub destination: NodeId,
    /// To be set on its frame, with others.
    pub flags: FrameFlags,
    /// What.
    pub body: TransmitBody,
}

/// See [`Transmit`].
#[derive(Debug)]
pub enum TransmitBody {
    /// Control class.
    Sync(StreamSync),
    /// Bulk class.
    Record(Record),
}
