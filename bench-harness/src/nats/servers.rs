//! Topologies of nats-servers, plaintext, everything else as the servers have it by default.
//!
//! One link: two servers of one cluster. Two links: a hub and two leaf nodes, which both dial the
//! hub, as A and C dial B.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use tempfile::TempDir;
use tokio::time::sleep;

use crate::machine::free_address;
use crate::nats::install::NatsServer;
use crate::process::{self, Process};

/// How long a server may take to open its ports.
const START_PATIENCE: Duration = Duration::from_secs(10);

/// Running servers, connected in a row.
#[derive(Debug)]
pub(crate) struct NatsMesh {
    /// In the order of the row.
    servers: Vec<Server>,
    // After the servers, so that it goes last.
    _directory: TempDir,
}

#[derive(Debug)]
struct Server {
    process: Process,
    ports: Ports,
}

/// What the server writes to its ports file; addresses as URLs.
#[derive(Debug, Deserialize)]
struct Ports {
    #[serde(default)]
    nats: Vec<String>,
    #[serde(default)]
    cluster: Vec<String>,
}

impl NatsMesh {
    /// Starts the servers for `hops` links. They may not know each other's subjects yet: send a
    /// probe first.
    pub(crate) async fn start(nats: &NatsServer, hops: usize) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("hawser-bench-").tempdir()?;
        let at = directory.path();
        let servers = match hops {
            1 => {
                let cluster = |routes: &str| {
                    format!(
                        "cluster {{ name: bench, listen: \"127.0.0.1:-1\", routes: [{routes}] }}\n"
                    )
                };
                let a = Server::start(nats, at, "a", &cluster("")).await?;
                let route = local_port(&a.ports.cluster)?;
                let route = cluster(&format!("\"nats-route://127.0.0.1:{route}\""));
                let b = Server::start(nats, at, "b", &route).await?;
                vec![a, b]
            }
            2 => {
                // This port alone is not in the ports file.
                let hub = free_address()?;
                let listen = format!("leafnodes {{ listen: \"{hub}\" }}\n");
                let b = Server::start(nats, at, "b", &listen).await?;
                let leaf = format!("leafnodes {{ remotes: [{{ url: \"nats-leaf://{hub}\" }}] }}\n");
                let a = Server::start(nats, at, "a", &leaf).await?;
                let c = Server::start(nats, at, "c", &leaf).await?;
                vec![a, b, c]
            }
            _ => bail!("nats-server is compared over one or two links, not {hops}"),
        };
        Ok(Self { servers, _directory: directory })
    }

    /// Where the publisher connects.
    pub(crate) fn near(&self) -> Result<SocketAddr> {
        self.servers.first().context("no server")?.client_address()
    }

    /// Where the subscriber connects.
    pub(crate) fn far(&self) -> Result<SocketAddr> {
        self.servers.last().context("no server")?.client_address()
    }

    /// Pids in the order of the row.
    pub(crate) fn pids(&self) -> Vec<u32> {
        self.servers.iter().map(|server| server.process.pid()).collect()
    }

    /// Passes `outcome` on; a failure is told with what the servers said last.
    pub(crate) fn explain<T>(&self, outcome: Result<T>) -> Result<T> {
        outcome.with_context(|| {
            let logs = self.servers.iter().map(|server| server.process.log_tail());
            format!("the nats-servers' last words:{}\n", logs.collect::<String>())
        })
    }

    /// # Errors
    /// If a server had ended on its own.
    pub(crate) async fn stop(self) -> Result<()> {
        for server in self.servers {
            server.process.stop().await?;
        }
        Ok(())
    }
}

impl Server {
    async fn start(nats: &NatsServer, at: &Path, name: &str, extra: &str) -> Result<Self> {
        let directory = at.join(name);
        fs::create_dir(&directory)?;
        let config = directory.join("nats.conf");
        let text = format!(
            "server_name: {name}\nlisten: \"127.0.0.1:-1\"\nports_file_dir: \"{}\"\n{extra}",
            directory.display()
        );
        fs::write(&config, text)?;
        let mut command = process::command(&nats.path, &[]);
        command.arg("--config").arg(&config);
        let name = format!("nats-server {name}");
        let mut process = Process::spawn_logged(&name, command, &directory.join("log"))?;
        let ports = Self::await_ports(&mut process, &directory).await?;
        Ok(Self { process, ports })
    }

    /// The server writes the file `<program>_<pid>.ports` once it listens.
    async fn await_ports(process: &mut Process, directory: &Path) -> Result<Ports> {
        let deadline = Instant::now() + START_PATIENCE;
        let suffix = format!("_{}.ports", process.pid());
        loop {
            process.ensure_running()?;
            for entry in fs::read_dir(directory)? {
                let entry = entry?;
                if entry.file_name().to_string_lossy().ends_with(&suffix)
                    // It may be half written.
                    && let Ok(ports) = serde_json::from_slice(&fs::read(entry.path())?)
                {
                    return Ok(ports);
                }
            }
            if Instant::now() > deadline {
                bail!("nats-server does not listen yet{}", process.log_tail());
            }
            sleep(Duration::from_millis(5)).await;
        }
    }

    fn client_address(&self) -> Result<SocketAddr> {
        Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, local_port(&self.ports.nats)?)))
    }
}

/// The port in the first of `urls`.
fn local_port(urls: &[String]) -> Result<u16> {
    urls.first()
        .and_then(|url| url.rsplit_once(':'))
        .and_then(|(_, port)| port.parse().ok())
        .with_context(|| format!("nats-server wrote no port: {urls:?}"))
}
