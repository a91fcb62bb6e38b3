use std::net::TcpStream;
use std::time::Instant;

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Runtime;

use super::{Contestant, Laps, Meter, READ_BYTES, Received, TRIP_BYTES};

/// A current-thread runtime on epoll.
pub(super) const TOKIO: Contestant = Contestant { name: "tokio", send, receive, ask, answer };

fn runtime() -> Result<Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_io().build()?)
}

/// Within a runtime.
fn adopt(socket: TcpStream) -> Result<tokio::net::TcpStream> {
    socket.set_nonblocking(true)?;
    Ok(tokio::net::TcpStream::from_std(socket)?)
}

fn send(socket: TcpStream, bytes: usize, deadline: Instant) -> Result<()> {
    runtime()?.block_on(async {
        let mut socket = adopt(socket)?;
        let batch = vec![0x5a; bytes];
        loop {
            socket.write_all(&batch).await?;
            // At least one: the thread may have got its core late.
            if Instant::now() >= deadline {
                break;
            }
        }
        Ok(())
    })
}

fn receive(socket: TcpStream) -> Result<Received> {
    runtime()?.block_on(async {
        let mut socket = adopt(socket)?;
        let (mut buffer, mut meter) = (vec![0; READ_BYTES], Meter::default());
        loop {
            match socket.read(&mut buffer).await? {
                0 => return Ok(meter.finish()),
                bytes => meter.count(bytes),
            }
        }
    })
}

fn ask(socket: TcpStream, deadline: Instant) -> Result<Vec<u64>> {
    runtime()?.block_on(async {
        let mut socket = adopt(socket)?;
        let mut message = [0x5a; TRIP_BYTES];
        let mut laps = Laps::until(deadline);
        loop {
            socket.write_all(&message).await?;
            socket.read_exact(&mut message).await?;
            if !laps.lap() {
                return Ok(laps.nanos);
            }
        }
    })
}

fn answer(socket: TcpStream) -> Result<()> {
    runtime()?.block_on(async {
        let mut socket = adopt(socket)?;
        let mut message = [0; TRIP_BYTES];
        // An error here is the end of the connection.
        while socket.read_exact(&mut message).await.is_ok() {
            socket.write_all(&message).await?;
        }
        Ok(())
    })
}
