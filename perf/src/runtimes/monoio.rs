use std::cell::Cell;
use std::net::TcpStream;
use std::rc::Rc;
use std::time::Instant;

use anyhow::Result;
use monoio::io::{AsyncReadRent, AsyncReadRentExt, AsyncWriteRentExt};
use monoio::{IoUringDriver, LegacyDriver, RuntimeBuilder};

use super::{Contestant, Laps, Meter, READ_BYTES, Received, TRIP_BYTES};

/// Readiness instead of completion: what a shard falls back to where io_uring is forbidden.
pub(super) const EPOLL: Contestant = Contestant {
    name: "monoio, epoll",
    send: |socket, bytes, deadline| epoll(send(socket, bytes, deadline)),
    receive: |socket| epoll(receive(socket)),
    ask: |socket, deadline| epoll(ask(socket, deadline, false)),
    answer: |socket| epoll(answer(socket, false)),
};

/// As the shards run.
pub(super) const IO_URING: Contestant = Contestant {
    name: "monoio, io_uring",
    send: |socket, bytes, deadline| io_uring(send(socket, bytes, deadline)),
    receive: |socket| io_uring(receive(socket)),
    ask: |socket, deadline| io_uring(ask(socket, deadline, false)),
    answer: |socket| io_uring(answer(socket, false)),
};

/// As the shards run while they spin before they park.
pub(super) const SPINNING: Contestant = Contestant {
    name: "monoio, io_uring, spinning",
    send: |socket, bytes, deadline| io_uring(send(socket, bytes, deadline)),
    receive: |socket| io_uring(receive(socket)),
    ask: |socket, deadline| io_uring(ask(socket, deadline, true)),
    answer: |socket| io_uring(answer(socket, true)),
};

fn epoll<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    RuntimeBuilder::<LegacyDriver>::new().build()?.block_on(work)
}

fn io_uring<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let mut ring = io_uring::IoUring::builder();
    ring.setup_coop_taskrun().setup_single_issuer();
    RuntimeBuilder::<IoUringDriver>::new().uring_builder(ring).build()?.block_on(work)
}

/// Within a runtime.
fn adopt(socket: TcpStream) -> Result<monoio::net::TcpStream> {
    // io_uring waits for a blocking socket; epoll needs the other kind.
    socket.set_nonblocking(monoio::utils::is_legacy())?;
    Ok(monoio::net::TcpStream::from_std(socket)?)
}

async fn send(socket: TcpStream, bytes: usize, deadline: Instant) -> Result<()> {
    let mut socket = adopt(socket)?;
    let mut batch = vec![0x5a; bytes];
    loop {
        let (result, back) = socket.write_all(batch).await;
        result?;
        batch = back;
        // At least one: the thread may have got its core late.
        if Instant::now() >= deadline {
            break;
        }
    }
    Ok(())
}

async fn receive(socket: TcpStream) -> Result<Received> {
    let mut socket = adopt(socket)?;
    let (mut buffer, mut meter) = (Vec::with_capacity(READ_BYTES), Meter::default());
    loop {
        let (result, back) = socket.read(buffer).await;
        match result? {
            0 => return Ok(meter.finish()),
            bytes => meter.count(bytes),
        }
        buffer = back;
        buffer.clear();
    }
}

async fn ask(socket: TcpStream, deadline: Instant, spin: bool) -> Result<Vec<u64>> {
    let _awake = spin.then(Awake::keep);
    let mut socket = adopt(socket)?;
    let mut message = vec![0x5a; TRIP_BYTES];
    let mut laps = Laps::until(deadline);
    loop {
        let (result, back) = socket.write_all(message).await;
        result?;
        let (result, back) = socket.read_exact(back).await;
        result?;
        message = back;
        if !laps.lap() {
            return Ok(laps.nanos);
        }
    }
}

async fn answer(socket: TcpStream, spin: bool) -> Result<()> {
    let _awake = spin.then(Awake::keep);
    let mut socket = adopt(socket)?;
    let mut message = vec![0; TRIP_BYTES];
    loop {
        let (result, back) = socket.read_exact(message).await;
        // An error here is the end of the connection.
        if result.is_err() {
            return Ok(());
        }
        let (result, back) = socket.write_all(back).await;
        result?;
        message = back;
    }
}

/// Keeps the thread polling its ring while it lives: a task that spawns its successor leaves the
/// park no time, and unlike one that wakes itself starves nobody.
struct Awake(Rc<Cell<bool>>);

impl Awake {
    fn keep() -> Self {
        fn again(awake: Rc<Cell<bool>>) {
            monoio::spawn(async move {
                if awake.get() {
                    again(awake);
                }
            });
        }
        let awake = Rc::new(Cell::new(true));
        again(Rc::clone(&awake));
        Self(awake)
    }
}

impl Drop for Awake {
    fn drop(&mut self) {
        self.0.set(false);
    }
}
