use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use hawser_wire::NodeId;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::OwnedSemaphorePermit;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use crate::authority::AuthorityFilter;

/// Who is at the other end of a connection. Found in every request's extensions.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum ApiPeer {
    /// Whoever may open the unix socket: the user that runs the node.
    Local,
    /// A member of the mesh, from its certificate.
    Member { node: NodeId, name: String, remote: SocketAddr },
}

impl fmt::Display for ApiPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local => f.write_str("unix socket"),
            Self::Member { node, name, remote } => write!(f, "{name} ({node}) at {remote}"),
        }
    }
}

/// Ready when a connection is not to be served any longer.
pub(crate) type Revoked = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A connection of either kind.
pub(crate) struct ApiConnection {
    socket: Socket,
    peer: ApiPeer,
    /// Ends a connection whose mesh this node has left. Looked at when reading: a connection
    /// always reads.
    revoked: Option<Revoked>,
    /// One of the connections that this thread takes.
    _place: OwnedSemaphorePermit,
}

/// Asked of the kernel for each unix connection; it grants what its limits allow.
const UNIX_SEND_BUFFER_BYTES: usize = 2 << 20;

enum Socket {
    Unix { socket: UnixStream, filter: AuthorityFilter },
    Tls(Box<TlsStream<TcpStream>>),
}

impl ApiConnection {
    pub(crate) fn unix(socket: UnixStream, place: OwnedSemaphorePermit) -> Self {
        // The default holds three records: less than one wake of the client should find.
        let _kept_as_it_is =
            rustix::net::sockopt::set_socket_send_buffer_size(&socket, UNIX_SEND_BUFFER_BYTES);
        let socket = Socket::Unix { socket, filter: AuthorityFilter::new() };
        Self { socket, peer: ApiPeer::Local, revoked: None, _place: place }
    }

    pub(crate) fn tls(
        socket: TlsStream<TcpStream>,
        peer: ApiPeer,
        revoked: Revoked,
        place: OwnedSemaphorePermit,
    ) -> Self {
        let socket = Socket::Tls(Box::new(socket));
        Self { socket, peer, revoked: Some(revoked), _place: place }
    }
}

impl Connected for ApiConnection {
    type ConnectInfo = ApiPeer;

    fn connect_info(&self) -> ApiPeer {
        self.peer.clone()
    }
}

impl AsyncRead for ApiConnection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(revoked) = &mut self.revoked
            && revoked.as_mut().poll(cx).is_ready()
        {
            self.revoked = Some(Box::pin(std::future::ready(())));
            let reason = "the node's membership in the mesh has changed";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionAborted, reason)));
        }
        match &mut self.socket {
            Socket::Unix { socket, filter } => {
                let before = buf.filled().len();
                let polled = Pin::new(socket).poll_read(cx, buf);
                if let Some(read) = buf.filled_mut().get_mut(before..) {
                    filter.pass(read);
                }
                polled
            }
            Socket::Tls(socket) => Pin::new(socket).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for ApiConnection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.socket {
            Socket::Unix { socket, .. } => Pin::new(socket).poll_write(cx, buf),
            Socket::Tls(socket) => Pin::new(socket).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.socket {
            Socket::Unix { socket, .. } => Pin::new(socket).poll_write_vectored(cx, bufs),
            Socket::Tls(socket) => Pin::new(socket).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.socket {
            Socket::Unix { socket, .. } => socket.is_write_vectored(),
            Socket::Tls(socket) => socket.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.socket {
            Socket::Unix { socket, .. } => Pin::new(socket).poll_flush(cx),
            Socket::Tls(socket) => Pin::new(socket).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.socket {
            Socket::Unix { socket, .. } => Pin::new(socket).poll_shutdown(cx),
            Socket::Tls(socket) => Pin::new(socket).poll_shutdown(cx),
        }
    }
}
