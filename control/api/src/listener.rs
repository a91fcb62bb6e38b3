use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hawser_identity::peer_identity;
use hawser_wire::NodeId;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio_rustls::TlsAcceptor;

use crate::connection::{ApiConnection, ApiPeer, Revoked};

/// Connections that one API thread takes; the next ones wait in the kernel.
const CONNECTIONS_MAX: usize = 1024;

/// TLS handshakes under way; the next ones wait in the kernel.
const HANDSHAKES_MAX: usize = 64;

/// A client that has not finished its handshake by then is dropped.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// Connections outlive the credentials they were made with for so long: the answer to a call that
/// left the mesh is still to be read.
const REVOKE_AFTER: Duration = Duration::from_millis(500);

/// After the system refused to accept (no descriptors left, say), accepting rests for so long.
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// What the API listens on. Both listeners are bound already and need no runtime.
#[derive(Debug)]
pub struct ApiListeners {
    /// For whoever may open the socket's file; see [`crate::bind_unix`].
    pub unix: std::os::unix::net::UnixListener,
    /// For members of the mesh, with TLS. While the configuration is `None`, which it is before
    /// the node is in a mesh, connections are closed at once; when it changes, those that were
    /// made under the old one are.
    pub tcp: Option<(std::net::TcpListener, watch::Receiver<Option<Arc<ServerConfig>>>)>,
    /// Members that may change the node over TCP. Others may read, and use streams.
    pub operators: Vec<NodeId>,
}

/// Accepts on all listeners until its receiver is dropped.
///
/// # Errors
/// What the system says if a listener cannot be used.
pub(crate) fn accept_all(
    listeners: ApiListeners,
) -> io::Result<mpsc::Receiver<io::Result<ApiConnection>>> {
    let (sink, accepted) = mpsc::channel(1);
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    listeners.unix.set_nonblocking(true)?;
    let unix = UnixListener::from_std(listeners.unix)?;
    tokio::spawn(accept_unix(unix, Arc::clone(&places), sink.clone()));
    if let Some((tcp, config)) = listeners.tcp {
        tcp.set_nonblocking(true)?;
        let tcp = TcpListener::from_std(tcp)?;
        tokio::spawn(accept_tcp(tcp, config, places, sink));
    }
    Ok(accepted)
}

type Sink = mpsc::Sender<io::Result<ApiConnection>>;

async fn accept_unix(listener: UnixListener, places: Arc<Semaphore>, sink: Sink) {
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        let accepted = tokio::select! {
            () = sink.closed() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((socket, _address)) => {
                if sink.send(Ok(ApiConnection::unix(socket, place))).await.is_err() {
                    return;
                }
            }
            Err(error) => rest_after("unix socket", &error).await,
        }
    }
}

async fn accept_tcp(
    listener: TcpListener,
    mut config: watch::Receiver<Option<Arc<ServerConfig>>>,
    places: Arc<Semaphore>,
    sink: Sink,
) {
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    while let (Ok(place), Ok(handshake)) =
        (Arc::clone(&places).acquire_owned().await, Arc::clone(&handshakes).acquire_owned().await)
    {
        let accepted = tokio::select! {
            () = sink.closed() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((socket, remote)) => {
                let current = config.borrow_and_update().clone();
                let Some(current) = current else {
                    tracing::debug!(%remote, "API connection closed: the node is in no mesh");
                    continue;
                };
                let (sink, mut changes) = (sink.clone(), config.clone());
                let revoked: Revoked = Box::pin(async move {
                    // A plane that is gone has no mesh either.
                    let _changed = changes.changed().await;
                    tokio::time::sleep(REVOKE_AFTER).await;
                });
                tokio::spawn(async move {
                    match shake_hands(socket, remote, current, revoked, place).await {
                        Ok(connection) => {
                            // A server that is gone takes no more connections.
                            let _server_gone = sink.send(Ok(connection)).await;
                        }
                        Err(reason) => {
                            tracing::info!(%remote, reason, "API connection refused");
                        }
                    }
                    drop(handshake);
                });
            }
            Err(error) => rest_after("TCP port", &error).await,
        }
    }
}

async fn shake_hands(
    socket: TcpStream,
    remote: SocketAddr,
    config: Arc<ServerConfig>,
    revoked: Revoked,
    place: OwnedSemaphorePermit,
) -> Result<ApiConnection, String> {
    socket.set_nodelay(true).map_err(|error| format!("TCP_NODELAY: {error}"))?;
    let tls = tokio::time::timeout(HANDSHAKE_TIMEOUT, TlsAcceptor::from(config).accept(socket))
        .await
        .map_err(|_elapsed| format!("no TLS handshake within {HANDSHAKE_TIMEOUT:?}"))?
        .map_err(|error| format!("TLS handshake: {error}"))?;
    let certificates = tls.get_ref().1.peer_certificates().unwrap_or_default();
    let member = peer_identity(certificates).map_err(|error| error.to_string())?;
    let peer = ApiPeer::Member { node: member.node, name: member.name, remote };
    tracing::debug!(%peer, "API connection");
    Ok(ApiConnection::tls(tls, peer, revoked, place))
}

async fn rest_after(what: &str, error: &io::Error) {
    tracing::warn!(%error, "cannot accept on the API's {what}; trying again");
    tokio::time::sleep(ACCEPT_REST).await;
}
