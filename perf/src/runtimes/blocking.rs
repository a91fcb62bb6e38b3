use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use anyhow::Result;

use super::{Contestant, Laps, Meter, READ_BYTES, Received, TRIP_BYTES};

/// No runtime at all: what the others are measured by.
pub(super) const BLOCKING: Contestant =
    Contestant { name: "blocking sockets", send, receive, ask, answer };

/// Reads without waiting, over and over: the shortest round trip that the kernel's TCP gives.
pub(super) const SPINNING: Contestant = Contestant {
    name: "blocking sockets, spinning",
    send,
    receive,
    ask: |socket, deadline| {
        socket.set_nonblocking(true)?;
        ask(socket, deadline)
    },
    answer: |socket| {
        socket.set_nonblocking(true)?;
        answer(socket)
    },
};

fn send(mut socket: TcpStream, bytes: usize, deadline: Instant) -> Result<()> {
    let batch = vec![0x5a; bytes];
    loop {
        socket.write_all(&batch)?;
        // At least one: the thread may have got its core late.
        if Instant::now() >= deadline {
            break;
        }
    }
    Ok(())
}

fn receive(mut socket: TcpStream) -> Result<Received> {
    let (mut buffer, mut meter) = (vec![0; READ_BYTES], Meter::default());
    loop {
        match socket.read(&mut buffer)? {
            0 => return Ok(meter.finish()),
            bytes => meter.count(bytes),
        }
    }
}

fn ask(mut socket: TcpStream, deadline: Instant) -> Result<Vec<u64>> {
    let mut message = [0x5a; TRIP_BYTES];
    let mut laps = Laps::until(deadline);
    loop {
        socket.write_all(&message)?;
        if !read_message(&mut socket, &mut message)? || !laps.lap() {
            return Ok(laps.nanos);
        }
    }
}

fn answer(mut socket: TcpStream) -> Result<()> {
    let mut message = [0; TRIP_BYTES];
    while read_message(&mut socket, &mut message)? {
        socket.write_all(&message)?;
    }
    Ok(())
}

/// False at the end. Spins if the socket does not wait.
fn read_message(socket: &mut TcpStream, message: &mut [u8; TRIP_BYTES]) -> Result<bool> {
    let mut have = 0;
    while let Some(rest) = message.get_mut(have..).filter(|rest| !rest.is_empty()) {
        match socket.read(rest) {
            Ok(0) => return Ok(false),
            Ok(bytes) => have += bytes,
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::hint::spin_loop(),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(true)
}
