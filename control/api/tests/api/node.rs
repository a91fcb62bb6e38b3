//! A node with everything real but its shard.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use hawser_api::{ApiListeners, ServeError, bind_unix, serve};
use hawser_exchange::{Exchange, LanePolicyMode, Spin, exchange};
use hawser_plane::{LanePlan, OpenStream, Plane, PlaneConfig, PlaneHandle};
use hawser_proto::client;
use hawser_proto::v1::mesh_data_service_client::MeshDataServiceClient;
use hawser_proto::v1::mesh_service_client::MeshServiceClient;
use hawser_store::{Store, StoreThread};
use hawser_wire::{NodeId, TrafficClass};
use rustls::ServerConfig;
use tempfile::TempDir;
use tokio::sync::{oneshot, watch};
use tonic::transport::Channel;

use crate::shard::ShardThread;

/// Human name of the node.
pub(crate) const NAME: &str = "node-a";

type Tcp = (std::net::TcpListener, watch::Receiver<Option<Arc<ServerConfig>>>);

pub(crate) struct Node {
    directory: TempDir,
    pub(crate) plane: PlaneHandle,
    pub(crate) shard: ShardThread,
    stop_api: Option<oneshot::Sender<()>>,
    api: Option<JoinHandle<Result<(), ServeError>>>,
    /// Ends with the node.
    _stop_plane: oneshot::Sender<()>,
}

impl Node {
    pub(crate) async fn start() -> Self {
        Self::start_with(None, Duration::ZERO).await
    }

    /// In a mesh of its own, with one stream from itself to itself.
    pub(crate) async fn with_stream() -> (Self, String) {
        Self::with_stream_and_spin(Duration::ZERO).await
    }

    pub(crate) async fn with_stream_and_spin(spin: Duration) -> (Self, String) {
        let mut node = Self::start_with(None, spin).await;
        node.plane.seed_mesh("test", "").await.unwrap();
        let stream = node.open("orders").await;
        (node, stream)
    }

    pub(crate) async fn start_with(tcp: Option<Tcp>, spin: Duration) -> Self {
        Self::start_for(tcp, Vec::new(), spin).await
    }

    /// A node that is changed over TCP by these members alone.
    pub(crate) async fn start_for(
        tcp: Option<Tcp>,
        operators: Vec<NodeId>,
        spin: Duration,
    ) -> Self {
        let directory = TempDir::new().unwrap();
        let Exchange { control, mut shards, mut apis } = exchange(1, 1);
        let (ports, api_ports) = (shards.pop().unwrap(), apis.pop().unwrap());

        let (_, store) = StoreThread::start(Store::open(directory.path()).unwrap()).unwrap();
        let (handle_to, handle) = oneshot::channel();
        let (stop_plane, plane_stopped) = oneshot::channel::<()>();
        std::thread::spawn(move || {
            block_on(async {
                let (plane, handle) = Plane::new(config(), store, control).await.unwrap();
                handle_to.send(handle).unwrap();
                let stopped = async {
                    let _sender_dropped = plane_stopped.await;
                };
                plane.run(stopped).await;
            });
        });
        let shard = ShardThread::start(ports);
        let plane = handle.await.unwrap();

        let unix = bind_unix(directory.path().join("api.sock")).unwrap();
        let (stop_api, stopped) = oneshot::channel::<()>();
        let for_api = plane.clone();
        let api = std::thread::spawn(move || {
            let unix = unix;
            block_on(async {
                let stopped = async {
                    let _sender_dropped = stopped.await;
                };
                serve(
                    api_ports,
                    for_api,
                    ApiListeners { unix: unix.listener().unwrap(), tcp, operators },
                    Spin { budget: spin, shares_core: false },
                    stopped,
                )
                .await
            })
        });
        Self {
            directory,
            plane,
            shard,
            stop_api: Some(stop_api),
            api: Some(api),
            _stop_plane: stop_plane,
        }
    }

    /// Opens a stream to this node itself; the shard hosts it when this returns.
    pub(crate) async fn open(&mut self, name: &str) -> String {
        let hosted = self.shard.seen.borrow().streams;
        let open = OpenStream {
            tenant: String::new(),
            name: name.to_owned(),
            destinations: vec![NAME.to_owned()],
            qos: 0,
            striped: false,
            class: TrafficClass::Bulk,
        };
        let opened = self.plane.open_stream(open).await.unwrap();
        self.shard.wait(|seen| seen.streams > hosted).await;
        opened.stream.to_string()
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join("api.sock")
    }

    pub(crate) async fn channel(&self) -> Channel {
        client::connect_unix(self.socket()).await.unwrap()
    }

    pub(crate) async fn mesh(&self) -> MeshServiceClient<Channel> {
        client::mesh(self.channel().await)
    }

    pub(crate) async fn data(&self) -> MeshDataServiceClient<Channel> {
        client::mesh_data(self.channel().await)
    }

    /// Tells the API to stop; it ends in the background.
    pub(crate) fn stop_api(&mut self) {
        self.stop_api = None;
    }

    pub(crate) async fn join_api(&mut self) -> Result<(), ServeError> {
        self.stop_api();
        let api = self.api.take().unwrap();
        // Connections are served by this runtime: it must not be blocked.
        tokio::task::spawn_blocking(move || api.join().unwrap()).await.unwrap()
    }
}

fn config() -> PlaneConfig {
    PlaneConfig {
        node_name: NAME.to_owned(),
        listen: None,
        advertise: None,
        dial: Vec::new(),
        proxy: None,
        probe_interval: Duration::from_secs(1),
        lanes: LanePlan::default(),
        lane_policy: LanePolicyMode::On,
        peer_lane_rules: Vec::new(),
        link_admin: Vec::new(),
        paths: 4,
        stub: false,
        weights: Default::default(),
        limits: Default::default(),
        sockets: Default::default(),
        io_driver: "none".to_owned(),
        version: "test".to_owned(),
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}
