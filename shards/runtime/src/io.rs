use std::io;
use std::net::TcpStream;

pub(crate) use hawser_link::LaneKey;

/// An operation that is done, with the buffer that was lent to it.
#[derive(Debug)]
pub(crate) enum Completion {
    /// Bytes were appended to the buffer; none: the peer has closed its side.
    Read { key: LaneKey, buffer: Vec<u8>, result: io::Result<usize> },
    /// All of the buffer was written, or the connection is broken.
    Written { key: LaneKey, buffer: Vec<u8>, result: io::Result<()> },
}

/// Owned-buffer input and output of a shard: at most one read and one write in flight a lane.
///
/// The one place that knows which runtime carries the shard, so that a raw ring can take its place.
pub(crate) trait ShardIo {
    /// Takes a connected socket.
    ///
    /// # Errors
    /// If the driver does not take it; the socket is closed.
    fn open(&mut self, key: LaneKey, socket: TcpStream) -> io::Result<()>;

    /// Gives the lane's socket this congestion control (tcp(7), TCP_CONGESTION). If the kernel refuses
    /// it the lane stays as it is.
    fn set_congestion_control(&mut self, key: LaneKey, name: &str);

    /// Reads once, behind what the buffer holds. Never cancelled: only [`Self::close`] ends it.
    ///
    /// Whoever reads has no use for less than `awaited` bytes, and need not be woken before they are there,
    /// or the peer has closed; it takes what comes all the same.
    fn read(&mut self, key: LaneKey, buffer: Vec<u8>, awaited: usize);

    /// Whoever reads wants whatever has come, however many bytes it awaited.
    fn wake_for_any(&mut self, key: LaneKey);

    /// Writes all of the buffer.
    fn write(&mut self, key: LaneKey, buffer: Vec<u8>);

    /// Nothing more is written, and the peer is told so once all of it is there. Reads go on.
    fn finish(&mut self, key: LaneKey);

    /// Ends the connection. Completions of what is in flight may still come.
    fn close(&mut self, key: LaneKey);

    /// The next operation that is done.
    fn poll_completion(&mut self) -> Option<Completion>;
}
