//! One relayed connection: both sockets, and what waits between them.

use std::collections::VecDeque;
use std::future::pending;
use std::io::{self, ErrorKind};
use std::time::Duration;

use rustix::net::{Shutdown, shutdown, sockopt::set_socket_linger};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::record_meter::RecordMeter;
use super::relay::{RelaySpec, Shared, Tap};

/// Bytes read at once, at most.
const READ_BYTES: usize = 256 << 10;

/// Bytes that wait in one direction, about; beyond it the sender is left waiting.
const QUEUE_BYTES_MAX: usize = 4 << 20;

/// What is done to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Treatment {
    Forward,
    /// Nothing is read or written, and neither end learns of the other's end: a black hole.
    Hold,
    /// Both ends get a RST; what waited is gone.
    Reset,
}

/// Closes a socket with a RST.
pub(super) fn reset(socket: TcpStream) {
    // If it cannot be asked for, the socket has gone already.
    let _ = set_socket_linger(&socket, Some(Duration::ZERO));
    drop(socket);
}

/// Bytes on their way, and when they may go on.
#[derive(Debug)]
struct Piece {
    due: Instant,
    bytes: Vec<u8>,
    sent: usize,
}

/// One direction.
#[derive(Debug)]
struct Direction {
    delay: Duration,
    queue: VecDeque<Piece>,
    queued_bytes: usize,
    /// The sender has ended its side.
    ended: bool,
    /// And the receiver knows.
    finished: bool,
    buffer: Vec<u8>,
}

impl Direction {
    fn new(delay: Duration) -> Self {
        Self {
            delay,
            queue: VecDeque::new(),
            queued_bytes: 0,
            ended: false,
            finished: false,
            buffer: vec![0; READ_BYTES],
        }
    }

    /// Moves some bytes, as soon as any can be. Cancelled, it has moved none. `look` sees what was
    /// read.
    async fn step(
        &mut self,
        from: &TcpStream,
        to: &TcpStream,
        look: impl FnOnce(&[u8]),
    ) -> io::Result<()> {
        let reads = !self.ended && self.queued_bytes < QUEUE_BYTES_MAX;
        let due = self.queue.front().map(|piece| piece.due);
        tokio::select! {
            biased;
            ready = writable(to, due) => ready.and_then(|()| self.write(to)),
            ready = from.readable(), if reads => ready.and_then(|()| self.read(from, look)),
        }?;
        if self.ended && !self.finished && self.queue.is_empty() {
            self.finished = true;
            shutdown(to, Shutdown::Write)?;
        }
        Ok(())
    }

    fn read(&mut self, from: &TcpStream, look: impl FnOnce(&[u8])) -> io::Result<()> {
        let length = match from.try_read(&mut self.buffer) {
            Ok(length) => length,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        self.ended = length == 0;
        if length > 0 {
            let bytes = self.buffer.get(..length).unwrap_or_default();
            look(bytes);
            let due = Instant::now() + self.delay;
            self.queue.push_back(Piece { due, bytes: bytes.to_vec(), sent: 0 });
            self.queued_bytes += length;
        }
        Ok(())
    }

    fn write(&mut self, to: &TcpStream) -> io::Result<()> {
        let Some(piece) = self.queue.front_mut() else { return Ok(()) };
        match to.try_write(piece.bytes.get(piece.sent..).unwrap_or_default()) {
            Ok(written) => {
                piece.sent += written;
                self.queued_bytes -= written;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
        if piece.sent == piece.bytes.len() {
            self.queue.pop_front();
        }
        Ok(())
    }
}

/// Waits until something is due and `to` takes it; for ever if nothing waits.
async fn writable(to: &TcpStream, due: Option<Instant>) -> io::Result<()> {
    match due {
        None => pending().await,
        Some(due) => {
            if due > Instant::now() {
                sleep_until(due).await;
            }
            to.writable().await
        }
    }
}

/// One relayed connection.
#[derive(Debug)]
pub(super) struct Connection {
    downstream: TcpStream,
    upstream: TcpStream,
    /// From the node that dialled.
    out: Direction,
    back: Direction,
    meter: RecordMeter,
    treated: watch::Receiver<Treatment>,
}

impl Connection {
    pub(super) fn new(
        downstream: TcpStream,
        upstream: TcpStream,
        spec: RelaySpec,
        treated: watch::Receiver<Treatment>,
    ) -> Self {
        Self {
            downstream,
            upstream,
            out: Direction::new(spec.delay),
            back: Direction::new(spec.delay),
            meter: RecordMeter::new(spec.payload_bytes),
            treated,
        }
    }

    /// Relays until both ends have ended or one fails, which resets the other.
    pub(super) async fn run(mut self, tap: &Tap, shared: &Shared) {
        while !(self.out.finished && self.back.finished) {
            let treatment = *self.treated.borrow_and_update();
            let outcome = match treatment {
                Treatment::Reset => break,
                Treatment::Hold => self.treated.changed().await.map_err(io::Error::other),
                Treatment::Forward => {
                    let meter = &mut self.meter;
                    let look = |bytes: &[u8]| {
                        let records = meter.feed(bytes);
                        if records > 0 {
                            shared.handle_carried(tap, records);
                        }
                    };
                    tokio::select! {
                        biased;
                        changed = self.treated.changed() => changed.map_err(io::Error::other),
                        moved = self.out.step(&self.downstream, &self.upstream, look) => moved,
                        moved = self.back.step(&self.upstream, &self.downstream, |_| ()) => moved,
                    }
                }
            };
            if outcome.is_err() {
                break;
            }
        }
        if !(self.out.finished && self.back.finished) {
            reset(self.downstream);
            reset(self.upstream);
        }
    }
}
