use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpSocket;

/// What strangers may cost.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct AdmissionLimits {
    /// From the first packet to the last byte of the handshake, name resolution included.
    pub handshake_timeout: Duration,
    /// Handshakes under way at once; one address gets half of them at most.
    pub handshakes_max: usize,
    /// Connections accepted from one address (IPv6: one /64) per second, and as many at once.
    pub accepts_per_second_per_address: u32,
    /// Longest HTTP head, Hello, or join message, in bytes.
    pub request_bytes_max: usize,
}

impl Default for AdmissionLimits {
    fn default() -> Self {
        Self {
            handshake_timeout: Duration::from_secs(5),
            handshakes_max: 64,
            accepts_per_second_per_address: 50,
            request_bytes_max: 8 << 10,
        }
    }
}

/// Options of a lane's socket. TCP_NODELAY is always set: batches are made above.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct SocketOptions {
    /// SO_SNDBUF in bytes; the system's own choice if absent.
    pub send_buffer_bytes: Option<usize>,
    /// SO_RCVBUF in bytes; the system's own choice if absent.
    pub receive_buffer_bytes: Option<usize>,
}

impl SocketOptions {
    /// A socket for `address`. Buffers are set before it connects or listens, because the window
    /// scale is agreed on in the first packet (RFC 7323 §2.2).
    pub(crate) fn socket(self, address: SocketAddr) -> io::Result<TcpSocket> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        if let Some(bytes) = self.send_buffer_bytes {
            socket.set_send_buffer_size(u32::try_from(bytes).unwrap_or(u32::MAX))?;
        }
        if let Some(bytes) = self.receive_buffer_bytes {
            socket.set_recv_buffer_size(u32::try_from(bytes).unwrap_or(u32::MAX))?;
        }
        Ok(socket)
    }
}
