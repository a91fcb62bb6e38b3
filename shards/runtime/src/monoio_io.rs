//! [`ShardIo`] on monoio: per lane one reader task and one writer task, dumb pumps between the
//! socket and shard-local queues of owned buffers.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{Shutdown, TcpStream};
use std::rc::Rc;
use std::task::{Poll, Waker};

use monoio::buf::IoBufMut;
use monoio::io::{AsyncReadRent, AsyncWriteRentExt, Splitable};
use monoio::net::tcp::{TcpOwnedReadHalf, TcpOwnedWriteHalf};

use crate::io::{Completion, LaneKey, ShardIo};
use crate::low_water::set_receive_low_water;

/// What pumps have completed, and who waits for it.
#[derive(Debug, Default)]
pub(crate) struct Completions {
    queue: RefCell<VecDeque<Completion>>,
    waiting: RefCell<Option<Waker>>,
}

impl Completions {
    fn push(&self, completion: Completion) {
        self.queue.borrow_mut().push_back(completion);
        if let Some(waker) = self.waiting.borrow_mut().take() {
            waker.wake();
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.borrow().is_empty()
    }

    /// Wakes `waker` at the next completion.
    pub(crate) fn register(&self, waker: &Waker) {
        *self.waiting.borrow_mut() = Some(waker.clone());
    }
}

/// Room for one buffer on its way to a pump.
#[derive(Debug, Default)]
struct Slot {
    buffer: RefCell<Option<Vec<u8>>>,
    closed: Cell<bool>,
    waiting: RefCell<Option<Waker>>,
}

impl Slot {
    fn put(&self, buffer: Vec<u8>) {
        *self.buffer.borrow_mut() = Some(buffer);
        self.wake();
    }

    fn close(&self) {
        self.closed.set(true);
        self.wake();
    }

    fn wake(&self) {
        if let Some(waker) = self.waiting.borrow_mut().take() {
            waker.wake();
        }
    }

    /// The next buffer; `None` once closed.
    async fn take(&self) -> Option<Vec<u8>> {
        std::future::poll_fn(|cx| {
            if self.closed.get() {
                return Poll::Ready(None);
            }
            match self.buffer.borrow_mut().take() {
                Some(buffer) => Poll::Ready(Some(buffer)),
                None => {
                    *self.waiting.borrow_mut() = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }
}

#[derive(Debug)]
struct Pumps {
    reads: Rc<Slot>,
    writes: Rc<Slot>,
    /// The same socket, for its options, and to shut it down while operations are in flight.
    socket: TcpStream,
    /// Its low-water mark.
    awaited: usize,
}

impl Pumps {
    fn wake_for(&mut self, bytes: usize) {
        if bytes != self.awaited && set_receive_low_water(&self.socket, bytes).is_ok() {
            self.awaited = bytes;
        }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct MonoioIo {
    lanes: BTreeMap<LaneKey, Pumps>,
    completions: Rc<Completions>,
}

impl MonoioIo {
    pub(crate) fn completions(&self) -> Rc<Completions> {
        Rc::clone(&self.completions)
    }
}

impl ShardIo for MonoioIo {
    fn open(&mut self, key: LaneKey, socket: TcpStream) -> io::Result<()> {
        let held = socket.try_clone()?;
        // io_uring waits for a blocking socket; epoll needs the other kind.
        socket.set_nonblocking(monoio::utils::is_legacy())?;
        let (reader, writer) = monoio::net::TcpStream::from_std(socket)?.into_split();
        let (reads, writes) = (Rc::new(Slot::default()), Rc::new(Slot::default()));
        monoio::spawn(pump_reads(key, reader, Rc::clone(&reads), self.completions()));
        monoio::spawn(pump_writes(key, writer, Rc::clone(&writes), self.completions()));
        self.lanes.insert(key, Pumps { reads, writes, socket: held, awaited: 1 });
        Ok(())
    }

    fn set_congestion_control(&mut self, key: LaneKey, name: &str) {
        let Some(pumps) = self.lanes.get(&key) else { return };
        if let Err(error) = rustix::net::sockopt::set_tcp_congestion(&pumps.socket, name) {
            tracing::debug!(%error, name, "a lane's socket keeps its congestion control");
        }
    }

    fn read(&mut self, key: LaneKey, buffer: Vec<u8>, awaited: usize) {
        if let Some(pumps) = self.lanes.get_mut(&key) {
            pumps.wake_for(awaited.max(1));
            pumps.reads.put(buffer);
        }
    }

    fn wake_for_any(&mut self, key: LaneKey) {
        if let Some(pumps) = self.lanes.get_mut(&key) {
            pumps.wake_for(1);
        }
    }

    fn write(&mut self, key: LaneKey, buffer: Vec<u8>) {
        if let Some(pumps) = self.lanes.get(&key) {
            pumps.writes.put(buffer);
        }
    }

    fn finish(&mut self, key: LaneKey) {
        if let Some(pumps) = self.lanes.get(&key) {
            pumps.writes.close();
            // Fails if the peer was faster, and then there is nothing left to do.
            let _already_closed = pumps.socket.shutdown(Shutdown::Write);
        }
    }

    fn close(&mut self, key: LaneKey) {
        if let Some(pumps) = self.lanes.remove(&key) {
            pumps.reads.close();
            pumps.writes.close();
            // Fails if the peer was faster, and then there is nothing left to do.
            let _already_closed = pumps.socket.shutdown(Shutdown::Both);
        }
    }

    fn poll_completion(&mut self) -> Option<Completion> {
        self.completions.queue.borrow_mut().pop_front()
    }
}

async fn pump_reads(
    key: LaneKey,
    mut reader: TcpOwnedReadHalf,
    slot: Rc<Slot>,
    completions: Rc<Completions>,
) {
    while let Some(buffer) = slot.take().await {
        let (start, end) = (buffer.len(), buffer.capacity());
        let (result, slice) = reader.read(buffer.slice_mut(start..end)).await;
        let buffer = slice.into_inner();
        let over = !matches!(result, Ok(bytes) if bytes > 0);
        completions.push(Completion::Read { key, buffer, result });
        if over {
            return;
        }
    }
}

async fn pump_writes(
    key: LaneKey,
    mut writer: TcpOwnedWriteHalf,
    slot: Rc<Slot>,
    completions: Rc<Completions>,
) {
    while let Some(buffer) = slot.take().await {
        let (result, buffer) = writer.write_all(buffer).await;
        let over = result.is_err();
        completions.push(Completion::Written { key, buffer, result: result.map(|_bytes| ()) });
        if over {
            return;
        }
    }
}
