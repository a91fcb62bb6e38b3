use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use futures_lite::{AsyncReadExt, AsyncWriteExt};
use glommio::{LocalExecutorBuilder, Placement};

use super::{Contestant, Laps, Meter, READ_BYTES, Received, TRIP_BYTES};
use crate::cores;

/// As its authors ship it.
pub(super) const GLOMMIO: Contestant = Contestant {
    name: "glommio",
    send: |socket, bytes, deadline| run(Duration::ZERO, send(socket, bytes, deadline)),
    receive: |socket| run(Duration::ZERO, receive(socket)),
    ask: |socket, deadline| run(Duration::ZERO, ask(socket, deadline)),
    answer: |socket| run(Duration::ZERO, answer(socket)),
};

/// Polling before it parks, for longer than a round trip takes.
pub(super) const SPINNING: Contestant = Contestant {
    name: "glommio, spinning",
    send: |socket, bytes, deadline| run(SPIN, send(socket, bytes, deadline)),
    receive: |socket| run(SPIN, receive(socket)),
    ask: |socket, deadline| run(SPIN, ask(socket, deadline)),
    answer: |socket| run(SPIN, answer(socket)),
};

const SPIN: Duration = Duration::from_millis(1);

fn run<T>(spin: Duration, work: impl Future<Output = Result<T>>) -> Result<T> {
    // An executor without a core of its own ignores the spinning.
    let (core, _) = cores::pair()?;
    LocalExecutorBuilder::new(Placement::Fixed(core))
        .spin_before_park(spin)
        .make()
        .map_err(|error| anyhow!("{error}"))?
        .run(work)
}

/// Within an executor.
fn adopt(socket: TcpStream) -> glommio::net::TcpStream {
    glommio::net::TcpStream::from(socket2_glommio::Socket::from(socket))
}

async fn send(socket: TcpStream, bytes: usize, deadline: Instant) -> Result<()> {
    let mut socket = adopt(socket);
    let batch = vec![0x5a; bytes];
    loop {
        socket.write_all(&batch).await?;
        // At least one: the thread may have got its core late.
        if Instant::now() >= deadline {
            break;
        }
    }
    socket.close().await?;
    Ok(())
}

async fn receive(socket: TcpStream) -> Result<Received> {
    let mut socket = adopt(socket);
    let (mut buffer, mut meter) = (vec![0; READ_BYTES], Meter::default());
    loop {
        match socket.read(&mut buffer).await? {
            0 => return Ok(meter.finish()),
            bytes => meter.count(bytes),
        }
    }
}

async fn ask(socket: TcpStream, deadline: Instant) -> Result<Vec<u64>> {
    let mut socket = adopt(socket);
    let mut message = [0x5a; TRIP_BYTES];
    let mut laps = Laps::until(deadline);
    loop {
        socket.write_all(&message).await?;
        socket.read_exact(&mut message).await?;
        if !laps.lap() {
            socket.close().await?;
            return Ok(laps.nanos);
        }
    }
}

async fn answer(socket: TcpStream) -> Result<()> {
    let mut socket = adopt(socket);
    let mut message = [0; TRIP_BYTES];
    // An error here is the end of the connection.
    while socket.read_exact(&mut message).await.is_ok() {
        socket.write_all(&message).await?;
    }
    Ok(())
}
