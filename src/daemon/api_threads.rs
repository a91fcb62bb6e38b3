//! The threads that serve gRPC.

use std::io;
use std::net::TcpListener;
use std::thread::JoinHandle;
use std::time::Duration;

use hawser_api::{ApiListeners, BoundSocket};
use hawser_exchange::ApiPorts;
use hawser_plane::PlaneHandle;
use hawser_wire::NodeId;
use tokio::sync::{mpsc, watch};
use tracing::info;

use super::config::Config;
use super::machine;
use super::profile::CorePlan;
use crate::cli::failure::Failure;

/// Open calls get so long to hear that the node stops, before lanes are closed.
const API_PATIENCE: Duration = Duration::from_millis(600);

/// What they accept from.
pub(super) struct Listeners {
    pub(super) unix: BoundSocket,
    pub(super) tcp: Option<TcpListener>,
    /// Who may change the node over TCP.
    pub(super) operators: Vec<NodeId>,
}

/// The threads that serve gRPC. Each accepts from the same listeners.
pub(super) struct ApiThreads {
    stop: watch::Sender<bool>,
    ended: mpsc::UnboundedReceiver<Result<(), Failure>>,
    threads: Vec<JoinHandle<()>>,
}

impl ApiThreads {
    /// # Errors
    /// If a thread cannot be started.
    pub(super) fn spawn(
        ports: Vec<ApiPorts>,
        plane: &PlaneHandle,
        listeners: &Listeners,
        config: &Config,
        plan: &CorePlan,
    ) -> Result<Self, Failure> {
        let (stop, stopping) = watch::channel(false);
        let (end, ended) = mpsc::unbounded_channel();
        let mut threads = Vec::new();
        for (ports, core) in ports.into_iter().zip(plan.api.iter().copied()) {
            let listeners = listeners.again(plane).map_err(|error| thread_failure(&error))?;
            let spin = plan.spin_on(core, config.api_spin);
            let (plane, end) = (plane.clone(), end.clone());
            let mut stopping = stopping.clone();
            let serve = move || -> Result<(), Failure> {
                machine::pin(&[core], "API")?;
                let runtime = hawser_api::runtime().map_err(|error| thread_failure(&error))?;
                runtime
                    .block_on(hawser_api::serve(ports, plane, listeners, spin, async move {
                        let _gone = stopping.wait_for(|stop| *stop).await;
                    }))
                    .map_err(|error| Failure::plain(error.to_string()))
            };
            let thread = std::thread::Builder::new()
                .name(format!("api-{}", threads.len()))
                .spawn(move || {
                    let _stopping = end.send(serve());
                })
                .map_err(|error| thread_failure(&error))?;
            threads.push(thread);
        }
        Ok(Self { stop, ended, threads })
    }

    /// Why an API thread ended that should not have.
    pub(super) async fn failed(&mut self) -> Failure {
        match self.ended.recv().await {
            Some(Err(failure)) => failure,
            Some(Ok(())) | None => Failure::plain("an API thread ended by itself"),
        }
    }

    /// Tells open calls that the node stops, and waits a little for them to hear it.
    pub(super) async fn stop(&mut self) {
        self.stop.send_replace(true);
        let all = async {
            for _ in 0..self.threads.len() {
                let _outcome = self.ended.recv().await;
            }
        };
        if tokio::time::timeout(API_PATIENCE, all).await.is_err() {
            info!("clients still hold calls; they are cut");
        }
    }
}

impl Listeners {
    fn again(&self, plane: &PlaneHandle) -> io::Result<ApiListeners> {
        let tcp = match &self.tcp {
            Some(tcp) => Some((tcp.try_clone()?, plane.mesh_credentials())),
            None => None,
        };
        let operators = self.operators.clone();
        Ok(ApiListeners { unix: self.unix.listener()?, tcp, operators })
    }
}

fn thread_failure(error: &io::Error) -> Failure {
    Failure::plain(format!("cannot start an API thread: {error}"))
}
