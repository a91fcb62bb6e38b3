//! Connects to a node: over the unix socket in its data directory, or over TCP with TLS.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use hawser_proto::client;
//!
//! let channel = client::connect_unix("/var/lib/hawser/api.sock").await?;
//! let status = client::mesh(channel).get_mesh_status(()).await?.into_inner();
//! # let _ = status;
//! # Ok(())
//! # }
//! ```

use std::error::Error;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use thiserror::Error;
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint, Uri};

use crate::v1::mesh_data_service_client::MeshDataServiceClient;
use crate::v1::mesh_service_client::MeshServiceClient;
use crate::{CONNECTION_WINDOW_BYTES, FRAME_BYTES, REQUEST_BYTES_MAX, WINDOW_BYTES};

/// How long a connection may take to come up.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Requests that wait for the connection; a call beyond them waits for room.
const CHANNEL_REQUESTS_MAX: usize = 1024;

/// Why there is no connection. Nothing was sent.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// Nobody answers there: no such socket, nobody listening, no permission, or no answer in
    /// time.
    #[error("{target}: {cause}")]
    Unreachable {
        /// The path or address that was tried.
        target: String,
        /// What the system said.
        cause: io::Error,
    },
    /// Somebody answered who is no node, or who refused this client's certificate.
    #[error("{target}: {detail}")]
    Refused {
        /// The path or address that was tried.
        target: String,
        /// What went wrong.
        detail: String,
    },
}

impl ConnectError {
    /// What the system said, if it was the system that failed.
    #[must_use]
    pub const fn io(&self) -> Option<&io::Error> {
        match self {
            Self::Unreachable { cause, .. } => Some(cause),
            Self::Refused { .. } => None,
        }
    }
}

/// Bytes that may wait in a unix socket; the default holds three records.
const SEND_BUFFER_BYTES: usize = 2 << 20;

/// Connects to the unix socket at `path`. A connection that is lost later is made anew by the next
/// call.
///
/// # Errors
/// [`ConnectError`] if nobody answers there within [`CONNECT_TIMEOUT`].
pub async fn connect_unix(path: impl AsRef<Path>) -> Result<Channel, ConnectError> {
    let path = path.as_ref().to_path_buf();
    let target = path.display().to_string();
    let connector = tower::service_fn(move |_: Uri| {
        let path = path.clone();
        async move {
            let socket = UnixStream::connect(path).await?;
            // The kernel grants what its limits allow; less costs wakes, nothing else.
            let _kept_as_it_is =
                rustix::net::sockopt::set_socket_send_buffer_size(&socket, SEND_BUFFER_BYTES);
            Ok::<_, io::Error>(TokioIo::new(socket))
        }
    });
    endpoint()
        .connect_with_connector(connector)
        .await
        .map_err(|error| ConnectError::new(target, &error))
}

/// Connects to `address` (host:port) with TLS. The server's certificate must be for
/// `server_name`; `config` carries the trust anchors and this client's own certificate. Its ALPN
/// list is replaced.
///
/// # Errors
/// [`ConnectError`] if nobody answers there within [`CONNECT_TIMEOUT`], or the certificates are
/// not to each other's liking.
pub async fn connect_tls(
    address: &str,
    server_name: ServerName<'static>,
    config: &ClientConfig,
) -> Result<Channel, ConnectError> {
    let mut config = config.clone();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let tls = TlsConnector::from(Arc::new(config));
    let connect_to = address.to_owned();
    let connector = tower::service_fn(move |_: Uri| {
        let (address, tls, name) = (connect_to.clone(), tls.clone(), server_name.clone());
        async move {
            let socket = TcpStream::connect(address).await?;
            socket.set_nodelay(true)?;
            tls.connect(name, socket).await.map(TokioIo::new)
        }
    });
    endpoint()
        .connect_with_connector(connector)
        .await
        .map_err(|error| ConnectError::new(address.to_owned(), &error))
}

/// The control service over `channel`, with the message sizes that a node allows.
#[must_use]
pub fn mesh(channel: Channel) -> MeshServiceClient<Channel> {
    MeshServiceClient::new(channel)
        .max_decoding_message_size(REQUEST_BYTES_MAX)
        .max_encoding_message_size(REQUEST_BYTES_MAX)
}

/// The data service over `channel`, with the message sizes that a node allows.
#[must_use]
pub fn mesh_data(channel: Channel) -> MeshDataServiceClient<Channel> {
    MeshDataServiceClient::new(channel)
        .max_decoding_message_size(REQUEST_BYTES_MAX)
        .max_encoding_message_size(REQUEST_BYTES_MAX)
}

/// The address is for the `:authority` header alone: the connector knows where to go.
fn endpoint() -> Endpoint {
    Endpoint::from_static("http://hawser")
        .connect_timeout(CONNECT_TIMEOUT)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES)
        .buffer_size(CHANNEL_REQUESTS_MAX)
}

impl ConnectError {
    /// Finds the system's error within `error`, if there is one. rustls' own arrive as
    /// `InvalidData`: they are refusals.
    fn new(target: String, error: &tonic::transport::Error) -> Self {
        let mut next: Option<&(dyn Error + 'static)> = Some(error);
        let mut detail = error.to_string();
        while let Some(error) = next {
            detail = error.to_string();
            if let Some(found) = error.downcast_ref::<io::Error>()
                && found.kind() != io::ErrorKind::InvalidData
            {
                let cause = found.raw_os_error().map_or_else(
                    || io::Error::new(found.kind(), detail.clone()),
                    io::Error::from_raw_os_error,
                );
                return Self::Unreachable { target, cause };
            }
            next = error.source();
        }
        Self::Refused { target, detail }
    }
}
