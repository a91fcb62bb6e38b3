//! A connection to a nats-server: handshake, and a parser of what the server sends.
//!
//! Source: the NATS client protocol, <https://docs.nats.io/reference/reference-protocols/nats-protocol>.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// Bytes read from the socket at once, at most.
const READ_BYTES: usize = 512 << 10;

/// Longest control line taken; the server's own limit is 4 KiB, only its INFO is longer.
const LINE_BYTES_MAX: usize = 64 << 10;

const CONNECT: &str = concat!(
    r#"CONNECT {"verbose":false,"pedantic":false,"tls_required":false,"lang":"rust","#,
    r#""name":"hawser-bench","version":""#,
    env!("CARGO_PKG_VERSION"),
    r#"","protocol":1,"echo":true,"headers":false}"#,
    "\r\nPING\r\n"
);

/// One thing that the server said.
#[derive(Debug, PartialEq, Eq)]
enum Line {
    /// A message; its payload is this range of the buffer.
    Message {
        start: usize,
        end: usize,
    },
    Ping,
    Pong,
    /// INFO, +OK.
    Other,
}

/// Bytes received and not parsed yet.
#[derive(Debug)]
struct Inbound {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl Inbound {
    fn new() -> Self {
        Self { buffer: vec![0; READ_BYTES], start: 0, end: 0 }
    }

    /// The next whole line (with its payload, if it is a message), or nothing if more must be read.
    ///
    /// # Errors
    /// If the server reported an error, or said what the protocol does not know.
    fn next_line(&mut self) -> Result<Option<Line>> {
        let unread = self.buffer.get(self.start..self.end).unwrap_or_default();
        let Some(newline) = unread.iter().position(|&byte| byte == b'\n') else {
            if unread.len() > LINE_BYTES_MAX {
                bail!("nats-server: a line of more than {LINE_BYTES_MAX} bytes");
            }
            return Ok(None);
        };
        let line = unread.get(..newline).unwrap_or_default().trim_ascii_end();
        let after = newline + 1;
        if let Some(fields) = line.strip_prefix(b"MSG ") {
            let length = message_length(fields)?;
            if unread.len() < after + length + 2 {
                return Ok(None);
            }
            let start = self.start + after;
            self.start = start + length + 2;
            return Ok(Some(Line::Message { start, end: start + length }));
        }
        let said = match line {
            b"PING" => Line::Ping,
            b"PONG" => Line::Pong,
            _ if line.starts_with(b"INFO ") || line == b"+OK" => Line::Other,
            _ => bail!("nats-server: {}", String::from_utf8_lossy(line)),
        };
        self.start += after;
        Ok(Some(said))
    }

    /// Reads once from `source` behind what is there. False: the time is over, nothing was read.
    fn read_from(&mut self, source: &mut impl Read) -> Result<bool> {
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        } else if self.buffer.len() - self.end < READ_BYTES / 2 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
            if self.buffer.len() - self.end < READ_BYTES / 2 {
                // A message larger than the buffer: make room for it.
                self.buffer.resize(self.buffer.len() * 2, 0);
            }
        }
        match source.read(self.buffer.get_mut(self.end..).unwrap_or_default()) {
            Ok(0) => bail!("nats-server closed the connection"),
            Ok(length) => {
                self.end += length;
                Ok(true)
            }
            Err(error) if is_timeout(&error) => Ok(false),
            Err(error) => Err(error).context("nats-server"),
        }
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
    )
}

/// The length in `subject sid [reply] length`.
fn message_length(fields: &[u8]) -> Result<usize> {
    let digits = fields.rsplit(|&byte| byte == b' ').next().unwrap_or_default();
    let mut length = 0_usize;
    for digit in digits {
        if !digit.is_ascii_digit() || length > 1 << 30 {
            bail!("nats-server: MSG {}", String::from_utf8_lossy(fields));
        }
        length = length * 10 + usize::from(digit - b'0');
    }
    Ok(length)
}

/// A connection past its handshake.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    inbound: Inbound,
    /// Bytes came along with an answer to the handshake and were not looked at.
    unseen: bool,
}

impl Connection {
    /// Connects, and waits for the server's answer.
    pub(crate) fn open(server: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(server).with_context(|| format!("nats-server {server}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        let mut connection = Self { stream, inbound: Inbound::new(), unseen: false };
        connection.write(CONNECT.as_bytes())?;
        connection.await_pong()?;
        Ok(connection)
    }

    /// Subscribes to `subject`, and waits until the server has understood.
    pub(crate) fn subscribe(&mut self, subject: &str) -> Result<()> {
        self.write(format!("SUB {subject} 1\r\nPING\r\n").as_bytes())?;
        self.await_pong()
    }

    /// How long a read waits from now on.
    pub(crate) fn set_patience(&self, patience: Duration) -> Result<()> {
        self.stream.set_read_timeout(Some(patience)).context("socket")
    }

    /// Writes all of `bytes`; blocks while the server takes none.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).context("nats-server")
    }

    /// Publishes one message.
    pub(crate) fn publish(&mut self, subject: &str, payload: &[u8]) -> Result<()> {
        let mut bytes = format!("PUB {subject} {}\r\n", payload.len()).into_bytes();
        bytes.extend_from_slice(payload);
        bytes.extend_from_slice(b"\r\n");
        self.write(&bytes)
    }

    /// Reads once. False: nothing came within the patience.
    pub(crate) fn wait(&mut self) -> Result<bool> {
        if std::mem::take(&mut self.unseen) {
            return Ok(true);
        }
        self.inbound.read_from(&mut self.stream)
    }

    /// Hands every whole message that was read to `handle`, and answers pings.
    pub(crate) fn drain(&mut self, mut handle: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        while let Some(line) = self.inbound.next_line()? {
            match line {
                Line::Message { start, end } => {
                    handle(self.inbound.buffer.get(start..end).unwrap_or_default())?;
                }
                Line::Ping => self.stream.write_all(b"PONG\r\n")?,
                Line::Pong | Line::Other => {}
            }
        }
        Ok(())
    }

    /// Answers what a connection that only publishes was asked, without waiting.
    pub(crate) fn answer_pings(&mut self) -> Result<()> {
        self.stream.set_nonblocking(true)?;
        let heard = self.wait();
        self.stream.set_nonblocking(false)?;
        if heard? { self.drain(|_| Ok(())) } else { Ok(()) }
    }

    /// Waits until the server has taken everything written so far.
    pub(crate) fn flush(&mut self) -> Result<()> {
        self.write(b"PING\r\n")?;
        self.await_pong()
    }

    fn await_pong(&mut self) -> Result<()> {
        loop {
            while let Some(line) = self.inbound.next_line()? {
                match line {
                    Line::Pong => {
                        self.unseen = self.inbound.start != self.inbound.end;
                        return Ok(());
                    }
                    Line::Ping => self.stream.write_all(b"PONG\r\n")?,
                    Line::Message { .. } | Line::Other => {}
                }
            }
            if !self.inbound.read_from(&mut self.stream)? {
                bail!("nats-server does not answer");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `wire` in pieces of `step` bytes; returns the payloads and the number of other lines.
    fn parse(wire: &[u8], step: usize) -> Result<(Vec<Vec<u8>>, usize)> {
        let mut inbound = Inbound::new();
        let (mut payloads, mut others) = (Vec::new(), 0);
        for mut piece in wire.chunks(step) {
            while !piece.is_empty() {
                inbound.read_from(&mut piece)?;
            }
            while let Some(line) = inbound.next_line()? {
                match line {
                    Line::Message { start, end } => {
                        payloads.push(inbound.buffer[start..end].to_vec());
                    }
                    _ => others += 1,
                }
            }
        }
        Ok((payloads, others))
    }

    #[test]
    fn messages_are_found_however_they_are_cut() {
        let wire = b"INFO {}\r\nMSG b 1 5\r\nab\ncd\r\nPING\r\nMSG b 1 r 0\r\n\r\nMSG b 1 2\r\n\r\n\r\n+OK\r\n";
        let expected = vec![b"ab\ncd".to_vec(), Vec::new(), b"\r\n".to_vec()];
        for step in 1..wire.len() {
            assert_eq!(parse(wire, step).unwrap(), (expected.clone(), 3), "step {step}");
        }
    }

    #[test]
    fn a_message_larger_than_the_buffer_is_taken() {
        let payload = vec![7; 3 * READ_BYTES];
        let mut wire = format!("MSG b 1 {}\r\n", payload.len()).into_bytes();
        wire.extend_from_slice(&payload);
        wire.extend_from_slice(b"\r\nPONG\r\n");
        assert_eq!(parse(&wire, 100_000).unwrap(), (vec![payload], 1));
    }

    #[test]
    fn errors_of_the_server_are_passed_on() {
        let error = parse(b"-ERR 'Slow Consumer'\r\n", 64).unwrap_err().to_string();
        assert_eq!(error, "nats-server: -ERR 'Slow Consumer'");
        assert!(parse(b"MSG b 1 x\r\n", 64).is_err());
    }
}
