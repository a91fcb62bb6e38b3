//! A mesh of ours in a row: A–B, or A–B–C. B accepts lanes; A and C only dial.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use hawser_proto::client;
use hawser_proto::v1::{IssueTokenReq, JoinMeshReq, OpenClientDataStreamReq, SeedMeshReq};
use tempfile::TempDir;
use tokio::time::sleep;

use crate::cores::NodeCores;
use crate::node::{Node, NodeSpec};

/// How long the ends may take to see each other.
const ROUTE_PATIENCE: Duration = Duration::from_secs(20);

const NAMES: [&str; 3] = ["a", "b", "c"];

/// The node that seeds the mesh and is dialled.
const HUB: usize = 1;

/// Running nodes whose ends can reach each other.
#[derive(Debug)]
pub(crate) struct Mesh {
    /// In the order of the row.
    nodes: Vec<Node>,
    // After the nodes, so that it goes last.
    _directory: TempDir,
}

impl Mesh {
    /// Starts a node for each element of `cores` and joins them.
    pub(crate) async fn start(
        hawser: &Path,
        profile: Option<&str>,
        cores: &[NodeCores],
    ) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("hawser-bench-").tempdir()?;
        let mut nodes = Vec::new();
        for (n, (name, cores)) in NAMES.iter().zip(cores).enumerate() {
            let parent = directory.path();
            let spec = NodeSpec { hawser, name, parent, listens: n == HUB, profile, cores };
            nodes.push(Node::start(spec).await?);
        }
        let mut mesh = Self { nodes, _directory: directory };
        let joined = mesh.join().await;
        mesh.explain(joined)?;
        Ok(mesh)
    }

    async fn join(&self) -> Result<()> {
        let hub = self.hub()?;
        let mut authority = client::mesh(hub.channel.clone());
        let seed = SeedMeshReq { name: "bench".to_owned(), ..SeedMeshReq::default() };
        authority.seed_mesh(seed).await.context("mesh seed")?;
        for node in self.nodes.iter().filter(|node| node.name != hub.name) {
            let token = IssueTokenReq {
                address: hub.address.clone().context("the hub does not listen")?,
                ..IssueTokenReq::default()
            };
            let token = authority.issue_token(token).await.context("token issue")?.into_inner();
            let join = JoinMeshReq { token: token.token, address: String::new() };
            let joined = client::mesh(node.channel.clone()).join_mesh(join).await;
            joined.with_context(|| format!("mesh join of {}", node.name))?;
        }
        let (near, far) = (self.near()?, self.far()?);
        await_route(near, far).await?;
        await_route(far, near).await
    }

    /// The node of the publisher.
    pub(crate) fn near(&self) -> Result<&Node> {
        self.nodes.first().context("no node")
    }

    /// The node of the subscriber.
    pub(crate) fn far(&self) -> Result<&Node> {
        self.nodes.last().context("no node")
    }

    /// The node that the others dial.
    pub(crate) fn hub(&self) -> Result<&Node> {
        self.nodes.get(HUB).context("a mesh of one node")
    }

    /// Pids in the order of the row.
    pub(crate) fn pids(&self) -> Vec<u32> {
        self.nodes.iter().map(|node| node.process.pid()).collect()
    }

    /// Opens a stream from one node to another; returns its id.
    pub(crate) async fn open_stream(&self, from: &Node, to: &Node, name: &str) -> Result<String> {
        let open = OpenClientDataStreamReq {
            name: name.to_owned(),
            dst_nodes: vec![to.name.clone()],
            ..OpenClientDataStreamReq::default()
        };
        let handle = client::mesh(from.channel.clone())
            .open_client_data_stream(open)
            .await
            .context("stream open")?
            .into_inner();
        if !handle.pending_dst_nodes.is_empty() {
            bail!("{} did not confirm the stream", to.name);
        }
        Ok(handle.stream_id)
    }

    /// Passes `outcome` on; a failure is told with what the nodes said last, which mostly explains
    /// it.
    pub(crate) fn explain<T>(&mut self, outcome: Result<T>) -> Result<T> {
        let Err(error) = outcome else { return outcome };
        let mut said = String::new();
        for node in &mut self.nodes {
            match node.process.ensure_running() {
                Ok(()) => said += &format!("\n[node {}]{}", node.name, node.process.log_tail()),
                Err(ended) => said += &format!("\n[{ended}]"),
            }
        }
        Err(error.context(format!("the nodes' last words:{said}\n")))
    }

    /// # Errors
    /// If a node had ended on its own.
    pub(crate) async fn stop(self) -> Result<()> {
        for node in self.nodes {
            node.process.stop().await?;
        }
        Ok(())
    }
}

/// Waits until `from` knows a path to `to`.
async fn await_route(from: &Node, to: &Node) -> Result<()> {
    let mut mesh = client::mesh(from.channel.clone());
    let deadline = Instant::now() + ROUTE_PATIENCE;
    loop {
        let status = mesh.get_mesh_status(()).await.context("mesh status")?.into_inner();
        if status.nodes.iter().any(|node| node.name == to.name && node.reachable) {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("{} sees no path to {} for {} s", from.name, to.name, ROUTE_PATIENCE.as_secs());
        }
        sleep(Duration::from_millis(10)).await;
    }
}
