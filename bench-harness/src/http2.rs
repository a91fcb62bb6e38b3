//! One gRPC call over one unix socket, with blocking system calls and no copy that the socket does
//! not make.
//!
//! The peer's client is as lean as a client can be; so is this one, or else the comparison would
//! measure a client library. It speaks just the part of HTTP/2 that a call needs, and reads no
//! header: an application that wants to know why a call ended asks again with a full client.
//!
//! Source: RFC 9113 (frames, settings, windows), RFC 7541 (header literals), the gRPC wire format.

use std::io::{ErrorKind, IoSlice, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use hawser_proto::{FRAME_BYTES, WINDOW_BYTES};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};

use crate::machine::now_ns;

/// Bytes read from the socket at once, at most.
const READ_BYTES: usize = 512 << 10;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// RFC 9113 §6.9.2: the windows before anybody said otherwise.
const DEFAULT_WINDOW_BYTES: u32 = 65_535;

/// RFC 9113 §4.2: the largest frame before anybody said otherwise.
const DEFAULT_FRAME_BYTES: usize = 16_384;

/// The only stream of a connection.
const STREAM: u32 = 1;

/// How long the node may take to greet.
const GREETING_PATIENCE: Duration = Duration::from_secs(10);

/// Frame types, RFC 9113 §6.
mod kind {
    pub(super) const DATA: u8 = 0;
    pub(super) const HEADERS: u8 = 1;
    pub(super) const RST_STREAM: u8 = 3;
    pub(super) const SETTINGS: u8 = 4;
    pub(super) const PING: u8 = 6;
    pub(super) const GOAWAY: u8 = 7;
    pub(super) const WINDOW_UPDATE: u8 = 8;
}

/// Frame flags.
mod flag {
    /// SETTINGS, PING.
    pub(super) const ACK: u8 = 1;
    /// DATA, HEADERS.
    pub(super) const END_STREAM: u8 = 1;
    pub(super) const END_HEADERS: u8 = 4;
    pub(super) const PADDED: u8 = 8;
}

/// Settings, RFC 9113 §6.5.2.
mod setting {
    pub(super) const ENABLE_PUSH: u16 = 2;
    pub(super) const INITIAL_WINDOW_SIZE: u16 = 4;
    pub(super) const MAX_FRAME_SIZE: u16 = 5;
}

const FRAME_HEADER_BYTES: usize = 9;

/// How long to wait for the node.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wait {
    /// Not at all.
    No,
    /// As long as [`Call::set_patience`] said, else for ever. The cheapest wait: one system call.
    Patience,
    /// Until this time of `CLOCK_MONOTONIC`.
    UntilNs(u64),
}

/// A gRPC message in two parts: what stands before the body is copied, the body is not.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outgoing<'a> {
    pub(crate) head: &'a [u8],
    pub(crate) body: &'a [u8],
}

impl Outgoing<'_> {
    /// Bytes on the wire, without frame headers: what the windows count.
    pub(crate) const fn wire_bytes(&self) -> usize {
        5 + self.head.len() + self.body.len()
    }
}

/// An open call.
#[derive(Debug)]
pub(crate) struct Call {
    socket: UnixStream,
    buffer: Vec<u8>,
    /// Bytes at the start of `buffer` that are no whole frame yet.
    kept: usize,
    /// Bytes of the current DATA frame that have not arrived yet.
    data_left: usize,
    /// The node has ended its side.
    ended: bool,
    /// What may be sent on the stream and on the connection; a change of the settings can make the
    /// first negative.
    stream_window: i64,
    connection_window: i64,
    peer_initial_window: i64,
    peer_frame_bytes: usize,
    greeted: bool,
    /// Bytes received since the node was last given new credit.
    uncredited: usize,
}

/// As `hawser_proto::client` asks for.
const SEND_BUFFER_BYTES: usize = 2 << 20;

impl Call {
    /// Connects to the node and calls `method`, as in `/hawser.v1.MeshService/GetMeshStatus`.
    pub(crate) fn open(socket: &Path, method: &str) -> Result<Self> {
        let socket = UnixStream::connect(socket).with_context(|| socket.display().to_string())?;
        rustix::net::sockopt::set_socket_send_buffer_size(&socket, SEND_BUFFER_BYTES)?;
        let mut call = Self {
            socket,
            buffer: vec![0; READ_BYTES],
            kept: 0,
            data_left: 0,
            ended: false,
            stream_window: i64::from(DEFAULT_WINDOW_BYTES),
            connection_window: i64::from(DEFAULT_WINDOW_BYTES),
            peer_initial_window: i64::from(DEFAULT_WINDOW_BYTES),
            peer_frame_bytes: DEFAULT_FRAME_BYTES,
            greeted: false,
            uncredited: 0,
        };
        call.write(&greeting(method))?;
        let deadline = now_ns() + u64::try_from(GREETING_PATIENCE.as_nanos())?;
        while !call.greeted {
            let nothing = |_: &[u8]| bail!("data before the greeting");
            if !call.receive(Wait::UntilNs(deadline), nothing)? && now_ns() >= deadline {
                bail!("the node does not greet");
            }
        }
        Ok(call)
    }

    /// How long [`Wait::Patience`] waits from now on.
    pub(crate) fn set_patience(&self, patience: Duration) -> Result<()> {
        self.socket.set_read_timeout(Some(patience)).context("socket")
    }

    /// True once the node has ended its side of the call.
    pub(crate) const fn is_ended(&self) -> bool {
        self.ended
    }

    /// Bytes that the node is ready to take.
    pub(crate) fn window(&self) -> usize {
        usize::try_from(self.stream_window.min(self.connection_window)).unwrap_or(0)
    }

    /// Sends `messages`, whose bytes together must be within the [`window`](Self::window), in one
    /// frame if that takes them all. Blocks while the socket is full.
    pub(crate) fn send(&mut self, messages: &[Outgoing<'_>]) -> Result<()> {
        // Frame headers, gRPC prefixes and heads, in the order of the wire, and which bytes of
        // which body follow each.
        let mut heads = Vec::new();
        let mut pieces = Vec::with_capacity(messages.len());
        let all = messages.iter().map(Outgoing::wire_bytes).sum::<usize>();
        let in_one = all <= self.peer_frame_bytes;
        if in_one {
            heads.extend_from_slice(&frame_header(all, kind::DATA, 0, STREAM));
        }
        let mut head_end = 0;
        for message in messages {
            let total = message.wire_bytes();
            let mut begun = 0;
            while begun < total {
                let frame = (total - begun).min(self.peer_frame_bytes);
                let start = head_end;
                if !in_one {
                    heads.extend_from_slice(&frame_header(frame, kind::DATA, 0, STREAM));
                }
                if begun == 0 {
                    let length = u32::try_from(total - 5).context("message")?;
                    heads.push(0);
                    heads.extend_from_slice(&length.to_be_bytes());
                    heads.extend_from_slice(message.head);
                }
                head_end = heads.len();
                let body_start = begun.saturating_sub(total - message.body.len());
                let in_head = if begun == 0 { total - message.body.len() } else { 0 };
                let Some(body_bytes) = frame.checked_sub(in_head) else {
                    bail!("the head of a message is larger than a frame");
                };
                let body = message.body.get(body_start..body_start + body_bytes);
                pieces.push((start..head_end, body.unwrap_or_default()));
                begun += frame;
            }
            self.connection_window -= i64::try_from(total)?;
            self.stream_window -= i64::try_from(total)?;
        }
        let mut slices: Vec<IoSlice<'_>> = pieces
            .iter()
            .flat_map(|(head, body)| [heads.get(head.clone()).unwrap_or_default(), *body])
            .map(IoSlice::new)
            .collect();
        let mut slices = slices.as_mut_slice();
        IoSlice::advance_slices(&mut slices, 0);
        while !slices.is_empty() {
            match (&self.socket).write_vectored(slices) {
                Ok(0) => bail!("the node takes no more"),
                Ok(written) => IoSlice::advance_slices(&mut slices, written),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("to the node"),
            }
        }
        Ok(())
    }

    /// Ends this side of the call.
    pub(crate) fn finish(&mut self) -> Result<()> {
        self.write(&frame_header(0, kind::DATA, flag::END_STREAM, STREAM))
    }

    /// Reads once, and hands what came of the node's messages to `data`, as it was cut. False:
    /// nothing came within the wait.
    ///
    /// # Errors
    /// If the connection failed, the node broke the protocol or aborted the call.
    pub(crate) fn receive(
        &mut self,
        wait: Wait,
        data: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<bool> {
        if let Wait::UntilNs(deadline) = wait
            && !self.poll_until(deadline)?
        {
            return Ok(false);
        }
        let flags = match wait {
            Wait::No | Wait::UntilNs(_) => RecvFlags::DONTWAIT,
            Wait::Patience => RecvFlags::empty(),
        };
        let free = self.buffer.get_mut(self.kept..).unwrap_or_default();
        match recv(&self.socket, free, flags) {
            Ok((_, 0)) => bail!("the node closed the connection"),
            Ok((_, length)) => self.take(length, data).map(|()| true),
            Err(Errno::AGAIN | Errno::INTR) => Ok(false),
            Err(error) => Err(error).context("from the node"),
        }
    }

    /// True if there is something to read before `deadline_ns`.
    fn poll_until(&self, deadline_ns: u64) -> Result<bool> {
        let wait_ns = i64::try_from(deadline_ns.saturating_sub(now_ns()))?;
        let timeout =
            Timespec { tv_sec: wait_ns / 1_000_000_000, tv_nsec: wait_ns % 1_000_000_000 };
        match poll(&mut [PollFd::new(&self.socket, PollFlags::IN)], Some(&timeout)) {
            Ok(ready) => Ok(ready > 0),
            Err(Errno::INTR) => Ok(false),
            Err(error) => Err(error).context("poll"),
        }
    }

    /// Takes `length` bytes that were read behind the kept ones.
    fn take(&mut self, length: usize, data: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let end = self.kept + length;
        let outcome = self.parse(buffer.get(..end).unwrap_or_default(), data);
        if let Ok(rest) = outcome {
            buffer.copy_within(end - rest..end, 0);
            self.kept = rest;
            if rest == buffer.len() {
                bail!("a frame of more than {READ_BYTES} bytes that is no data");
            }
        }
        self.buffer = buffer;
        outcome?;
        self.give_credit()
    }

    /// Parses what is whole; returns how many bytes at the end are not.
    fn parse(
        &mut self,
        mut bytes: &[u8],
        mut data: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<usize> {
        loop {
            if self.data_left > 0 {
                let (now, later) = bytes.split_at(self.data_left.min(bytes.len()));
                data(now)?;
                self.data_left -= now.len();
                self.uncredited += now.len();
                bytes = later;
            }
            let Some((header, after)) = bytes.split_first_chunk::<FRAME_HEADER_BYTES>() else {
                return Ok(bytes.len());
            };
            let [l0, l1, l2, kind, flags, s0, s1, s2, s3] = *header;
            let length = u32::from_be_bytes([0, l0, l1, l2]) as usize;
            let stream = u32::from_be_bytes([s0, s1, s2, s3]) & 0x7FFF_FFFF;
            if kind == kind::DATA {
                if stream != STREAM || flags & flag::PADDED != 0 {
                    bail!("DATA on stream {stream} with flags {flags:#x}");
                }
                self.ended |= flags & flag::END_STREAM != 0;
                self.data_left = length;
                bytes = after;
                continue;
            }
            let Some((payload, after)) = after.split_at_checked(length) else {
                return Ok(bytes.len());
            };
            self.handle_control(kind, flags, stream, payload)?;
            bytes = after;
        }
    }

    fn handle_control(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Result<()> {
        match kind {
            kind::SETTINGS if flags & flag::ACK == 0 => {
                self.handle_settings(payload);
                self.write(&frame_header(0, kind::SETTINGS, flag::ACK, 0))
            }
            kind::PING if flags & flag::ACK == 0 => {
                let mut pong = frame_header(payload.len(), kind::PING, flag::ACK, 0).to_vec();
                pong.extend_from_slice(payload);
                self.write(&pong)
            }
            kind::WINDOW_UPDATE => {
                let increment = payload.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes));
                let window =
                    if stream == 0 { &mut self.connection_window } else { &mut self.stream_window };
                *window += i64::from(increment & 0x7FFF_FFFF);
                Ok(())
            }
            kind::HEADERS => {
                self.ended |= flags & flag::END_STREAM != 0;
                Ok(())
            }
            kind::RST_STREAM | kind::GOAWAY => {
                let said = String::from_utf8_lossy(payload.get(8..).unwrap_or_default());
                let name = if kind == kind::GOAWAY { "GOAWAY" } else { "RST_STREAM" };
                bail!("the node aborted the call: {name} {payload:?} {said}")
            }
            _ => Ok(()),
        }
    }

    fn handle_settings(&mut self, payload: &[u8]) {
        for entry in payload.chunks_exact(6) {
            let &[i0, i1, v0, v1, v2, v3] = entry else { continue };
            let value = u32::from_be_bytes([v0, v1, v2, v3]);
            match u16::from_be_bytes([i0, i1]) {
                setting::INITIAL_WINDOW_SIZE => {
                    // RFC 9113 §6.9.2: it moves the windows of open streams too.
                    self.stream_window += i64::from(value) - self.peer_initial_window;
                    self.peer_initial_window = i64::from(value);
                }
                setting::MAX_FRAME_SIZE => self.peer_frame_bytes = value as usize,
                _ => {}
            }
        }
        self.greeted = true;
    }

    /// Opens the windows again once half of them is used.
    fn give_credit(&mut self) -> Result<()> {
        if self.uncredited < WINDOW_BYTES as usize / 2 {
            return Ok(());
        }
        let increment = u32::try_from(std::mem::take(&mut self.uncredited))?;
        self.write(&[window_update(0, increment), window_update(STREAM, increment)].concat())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.socket.write_all(bytes).context("to the node")
    }
}

fn frame_header(length: usize, kind: u8, flags: u8, stream: u32) -> [u8; FRAME_HEADER_BYTES] {
    let [_, l0, l1, l2] = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    let [s0, s1, s2, s3] = stream.to_be_bytes();
    [l0, l1, l2, kind, flags, s0, s1, s2, s3]
}

fn window_update(stream: u32, increment: u32) -> Vec<u8> {
    let mut frame = frame_header(4, kind::WINDOW_UPDATE, 0, stream).to_vec();
    frame.extend_from_slice(&increment.to_be_bytes());
    frame
}

/// Preface, settings (the windows that a full client asks for), and the request's headers.
fn greeting(method: &str) -> Vec<u8> {
    let settings = [
        (setting::ENABLE_PUSH, 0),
        (setting::INITIAL_WINDOW_SIZE, WINDOW_BYTES),
        (setting::MAX_FRAME_SIZE, FRAME_BYTES),
    ];
    let mut bytes = PREFACE.to_vec();
    bytes.extend_from_slice(&frame_header(6 * settings.len(), kind::SETTINGS, 0, 0));
    for (id, value) in settings {
        bytes.extend_from_slice(&id.to_be_bytes());
        bytes.extend_from_slice(&value.to_be_bytes());
    }
    bytes.extend_from_slice(&window_update(0, WINDOW_BYTES - DEFAULT_WINDOW_BYTES));
    // RFC 7541: 0x83 and 0x86 are `:method: POST` and `:scheme: http` of the static table, 0x04 and
    // 0x01 begin literals named `:path` and `:authority`, 0x00 literals with a name of their own.
    let mut headers = vec![0x83, 0x86, 0x04];
    literal(&mut headers, method);
    headers.push(0x01);
    literal(&mut headers, "hawser");
    for (name, value) in [("content-type", "application/grpc"), ("te", "trailers")] {
        headers.push(0x00);
        literal(&mut headers, name);
        literal(&mut headers, value);
    }
    bytes.extend_from_slice(&frame_header(headers.len(), kind::HEADERS, flag::END_HEADERS, STREAM));
    bytes.extend_from_slice(&headers);
    bytes
}

/// A string without Huffman coding. Names and values here are shorter than the 127 bytes of a
/// one-byte length.
fn literal(headers: &mut Vec<u8>, text: &str) {
    debug_assert!(text.len() < 127, "{text}");
    headers.push(u8::try_from(text.len()).unwrap_or(0));
    headers.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
#[path = "http2/tests.rs"]
mod tests;
