use std::io;
use std::time::Duration;

use hawser_exchange::{ApiPorts, Spin};
use hawser_plane::PlaneHandle;
use hawser_proto::v1::mesh_data_service_server::MeshDataServiceServer;
use hawser_proto::v1::mesh_service_server::MeshServiceServer;
use hawser_proto::{
    CONNECTION_WINDOW_BYTES, FILE_DESCRIPTOR_SET, FRAME_BYTES, REQUEST_BYTES_MAX, WINDOW_BYTES,
};
use thiserror::Error;
use tokio::sync::watch;
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::{InterceptorLayer, Routes};
use tonic::transport::Server;
use tower::util::{MapRequestLayer, MapResponseLayer};

use crate::data_service::MeshDataApi;
use crate::detour::{attach_response, detach_request};
use crate::hub::{Hub, hub_and_pump};
use crate::listener::{ApiListeners, accept_all};
use crate::mesh_service::MeshApi;
use crate::operators::{mark_refused, refuse};

/// Calls open on one connection.
const CALLS_PER_CONNECTION_MAX: u32 = 4096;

/// A connection that is silent for so long is asked whether it still lives.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);

/// A connection that does not answer for so long is closed, and its calls end.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// At the end, clients get so long to take their last answers.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// Sessions that are still open then end with the shards.
const PUMP_TIMEOUT: Duration = Duration::from_millis(100);

/// Why the API is not served.
#[derive(Debug, Error)]
pub enum ServeError {
    /// A listener that was handed over cannot be used.
    #[error("the API's listener: {0}")]
    Listener(#[from] io::Error),
    /// The descriptors built into this program are malformed.
    #[error("the API's reflection: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// The server failed; the calls that were open are gone.
    #[error("the API's server: {0}")]
    Server(#[from] tonic::transport::Error),
}

/// Serves the API on this thread until `shutdown` is ready: control RPCs through `plane`, data RPCs
/// through `ports`. To be run on a tokio runtime of one thread.
///
/// After the last message to or from a shard, the thread looks for work as `spin` says
/// before it sleeps. At the end open calls are told UNAVAILABLE.
///
/// # Errors
/// [`ServeError`] if it could not begin, or had to end before `shutdown`.
pub async fn serve(
    ports: ApiPorts,
    plane: PlaneHandle,
    listeners: ApiListeners,
    spin: Spin,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let (hub, pump) = hub_and_pump(ports);
    let (stop, stopped) = watch::channel(false);
    let routes = routes(plane, &hub, stopped.clone()).await?;
    let operators = listeners.operators.iter().copied().collect();
    let accepted = accept_all(listeners)?;
    let pump = tokio::spawn(pump.run(spin));

    let mut draining = stopped.clone();
    let mut stopping = stopped;
    let stop_serving = async move {
        // The sender lives as long as this function.
        let _stopped = stopping.wait_for(|stop| *stop).await;
    };
    let served = server()
        .layer(MapRequestLayer::new(mark_refused(operators)))
        .layer(InterceptorLayer::new(refuse))
        .layer(MapRequestLayer::new(detach_request))
        .layer(MapResponseLayer::new(attach_response))
        .add_routes(routes)
        .serve_with_incoming_shutdown(ReceiverStream::new(accepted), stop_serving);
    let drained = async {
        let _stopped = draining.wait_for(|stop| *stop).await;
        tokio::time::sleep(DRAIN_TIMEOUT).await;
    };
    let stop_on_shutdown = async {
        shutdown.await;
        hub.stop().await;
        stop.send_replace(true);
        std::future::pending::<()>().await;
    };
    let outcome = tokio::select! {
        served = served => served.map_err(ServeError::from),
        () = drained => Ok(()),
        () = stop_on_shutdown => Ok(()),
    };
    hub.stop().await;
    let abort = pump.abort_handle();
    if tokio::time::timeout(PUMP_TIMEOUT, pump).await.is_err() {
        abort.abort();
    }
    outcome
}

fn server() -> Server {
    Server::builder()
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES)
        .max_concurrent_streams(CALLS_PER_CONNECTION_MAX)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
}

async fn routes(
    plane: PlaneHandle,
    hub: &Hub,
    stop: watch::Receiver<bool>,
) -> Result<Routes, ServeError> {
    let mesh = MeshServiceServer::new(MeshApi::new(plane.clone(), hub.clone(), stop))
        .max_decoding_message_size(REQUEST_BYTES_MAX)
        .max_encoding_message_size(REQUEST_BYTES_MAX);
    let data = MeshDataServiceServer::new(MeshDataApi::new(plane, hub.clone()))
        .max_decoding_message_size(REQUEST_BYTES_MAX)
        .max_encoding_message_size(REQUEST_BYTES_MAX);

    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_serving::<MeshServiceServer<MeshApi>>().await;
    reporter.set_serving::<MeshDataServiceServer<MeshDataApi>>().await;

    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    Ok(Routes::new(mesh)
        .add_service(data)
        .add_service(health)
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?))
}
