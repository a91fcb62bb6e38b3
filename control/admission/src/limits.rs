use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::SockRef;
use tokio::net::{TcpSocket, TcpStream};

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

/// What the kernel takes of a lane beyond what is on its way, in bytes: what is sent next is decided when
/// it can go, and what is more urgent waits behind no more than this in its own socket.
const UNSENT_BYTES_MAX: u32 = 64 << 10;

/// Sets what every lane's socket has: batches are made above.
pub(crate) fn prepare(socket: &TcpStream) -> io::Result<()> {
    socket.set_nodelay(true)?;
    // A kernel that does not know it, as in a sandbox, takes more at once; that is no reason for no lane.
    drop(SockRef::from(socket).set_tcp_notsent_lowat(UNSENT_BYTES_MAX));
    Ok(())
}

/// Options of a lane's socket, beside TCP_NODELAY and TCP_NOTSENT_LOWAT, which are always set.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct SocketOptions {
    /// TCP_CONGESTION; the system's own choice if absent, or if the kernel refuses it.
    pub congestion_control: Option<&'static str>,
    /// SO_SNDBUF in bytes; the system's own choice if absent.
    pub send_buffer_bytes: Option<usize>,
    /// SO_RCVBUF in bytes; the system's own choice if absent.
    pub receive_buffer_bytes: Option<usize>,
}

impl SocketOptions {
    /// A socket for `address`. Buffers are set before it connects or listens, because the window
    /// scale is agreed on in the first packet (RFC 7323 §2.2); congestion control, because what has
    /// been paced once always is.
    pub(crate) fn socket(self, address: SocketAddr) -> io::Result<TcpSocket> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        if let Some(bytes) = self.send_buffer_bytes {
            socket.set_send_buffer_size(u32::try_from(bytes).unwrap_or(u32::MAX))?;
        }
        if let Some(bytes) = self.receive_buffer_bytes {
            socket.set_recv_buffer_size(u32::try_from(bytes).unwrap_or(u32::MAX))?;
        }
        if let Some(name) = self.congestion_control {
            drop(SockRef::from(&socket).set_tcp_congestion(name.as_bytes()));
        }
        Ok(socket)
    }
}
