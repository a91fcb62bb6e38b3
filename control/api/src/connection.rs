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

/// Who is at the other end of a connection. Found in every request's extensions.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum ApiPeer {
    /// Whoever may open the unix socket: the user that runs the node.
    Local,
    /// A member of the mesh, from its certificate.
    Member { node: NodeId, name: String, remote: SocketAddr },
}

/// A connection of either kind.
pub(crate) struct ApiConnection {
    socket: Socket,
    peer: ApiPeer,
    /// One of the connections that this thread takes.
    _place: OwnedSemaphorePermit,
}

enum Socket {
    Unix(UnixStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl ApiConnection {
    pub(crate) const fn unix(socket: UnixStream, place: OwnedSemaphorePermit) -> Self {
        Self { socket: Socket::Unix(socket), peer: ApiPeer::Local, _place: place }
    }

    pub(crate) fn tls(
        socket: TlsStream<TcpStream>,
        peer: ApiPeer,
        place: OwnedSemaphorePermit,
    ) -> Self {
        Self { socket: Socket::Tls(Box::new(socket)), peer, _place: place }
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
        match &mut self.socket {
            Socket::Unix(socket) => Pin::new(socket).poll_read(cx, buf),
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
            Socket::Unix(socket) => Pin::new(socket).poll_write(cx, buf),
            Socket::Tls(socket) => Pin::new(socket).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.socket {
            Socket::Unix(socket) => Pin::new(socket).poll_write_vectored(cx, bufs),
            Socket::Tls(socket) => Pin::new(socket).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.socket {
            Socket::Unix(socket) => socket.is_write_vectored(),
            Socket::Tls(socket) => socket.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.socket {
            Socket::Unix(socket) => Pin::new(socket).poll_flush(cx),
            Socket::Tls(socket) => Pin::new(socket).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.socket {
            Socket::Unix(socket) => Pin::new(socket).poll_shutdown(cx),
            Socket::Tls(socket) => Pin::new(socket).poll_shutdown(cx),
        }
    }
}
