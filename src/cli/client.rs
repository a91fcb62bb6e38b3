//! Which node a command speaks to.

use std::fmt;
use std::path::{Path, PathBuf};

use hawser_proto::client;
use tonic::transport::Channel;

use super::failure::Failure;
use crate::daemon::config::default_data_dir;

/// Name of the socket in the data directory.
pub(crate) const SOCKET_NAME: &str = "api.sock";

/// The control service of a node.
pub(crate) type Mesh = hawser_proto::v1::mesh_service_client::MeshServiceClient<Channel>;
/// The data service of a node.
pub(crate) type MeshData =
    hawser_proto::v1::mesh_data_service_client::MeshDataServiceClient<Channel>;

/// A node, by its socket.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    socket: PathBuf,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.socket.display().fmt(f)
    }
}

impl Target {
    /// # Errors
    /// If neither is given and there is no default data directory.
    pub(crate) fn new(socket: Option<PathBuf>, data_dir: Option<PathBuf>) -> Result<Self, Failure> {
        let socket = match (socket, data_dir) {
            (Some(socket), _) => socket,
            (None, Some(directory)) => directory.join(SOCKET_NAME),
            (None, None) => default_data_dir()?.join(SOCKET_NAME),
        };
        Ok(Self { socket })
    }

    /// The node whose data directory is `data_dir`.
    pub(crate) fn in_directory(data_dir: &Path) -> Self {
        Self { socket: data_dir.join(SOCKET_NAME) }
    }

    pub(crate) async fn mesh(&self) -> Result<Mesh, Failure> {
        Ok(client::mesh(self.connect().await?))
    }

    pub(crate) async fn mesh_data(&self) -> Result<MeshData, Failure> {
        Ok(client::mesh_data(self.connect().await?))
    }

    async fn connect(&self) -> Result<Channel, Failure> {
        Ok(client::connect_unix(&self.socket).await?)
    }
}
