//! Two nodes, A and B. A only dials, and dials nothing but the address that B advertises: whatever
//! stands there sees every lane.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use hawser_proto::client;
use hawser_proto::v1::{IssueTokenReq, JoinMeshReq, LaneStatus, OpenClientDataStreamReq};
use hawser_proto::v1::{SeedMeshReq, StreamHandle};
use tempfile::TempDir;
use tokio::time::{sleep, timeout};
use tonic::transport::Channel;

use crate::cores::NodeCores;
use crate::process::{self, Process};

/// How long a node may take to answer on its socket, and the two to see each other.
const START_PATIENCE: Duration = Duration::from_secs(20);

/// A node that stands still answers nothing; whoever asks for its lanes wants to ask again.
const LANES_PATIENCE: Duration = Duration::from_secs(1);

/// What both nodes are started with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PairSpec<'a> {
    /// The `hawser` program.
    pub(crate) hawser: &'a Path,
    pub(crate) profile: Option<&'a str>,
    /// One lane for all traffic.
    pub(crate) collapsed: bool,
    /// Of A and B.
    pub(crate) cores: [&'a NodeCores; 2],
    /// Where B accepts lanes.
    pub(crate) listen: SocketAddr,
    /// Where A is to find it.
    pub(crate) advertise: SocketAddr,
    /// Program and arguments that A and B run behind; empty: none.
    pub(crate) prefixes: [&'a [OsString]; 2],
}

/// A running node.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) name: &'static str,
    pub(crate) process: Process,
    pub(crate) socket: PathBuf,
    pub(crate) channel: Channel,
}

/// Two running nodes that can reach each other.
#[derive(Debug)]
pub(crate) struct Pair {
    /// Where messages are published.
    pub(crate) a: Member,
    /// Where they are consumed.
    pub(crate) b: Member,
    // After the nodes, so that it goes last.
    _directory: TempDir,
}

impl Pair {
    pub(crate) async fn start(spec: &PairSpec<'_>) -> Result<Self> {
        let directory = data_directory()?;
        let at = directory.path();
        let [a_cores, b_cores] = spec.cores;
        let [a_prefix, b_prefix] = spec.prefixes;
        let b = Member::start(spec, at, "b", Some(spec.listen), b_cores, b_prefix).await?;
        let a = Member::start(spec, at, "a", None, a_cores, a_prefix).await?;
        let mut pair = Self { a, b, _directory: directory };
        let joined = pair.join(spec.advertise).await;
        pair.explain(joined)?;
        Ok(pair)
    }

    async fn join(&self, advertise: SocketAddr) -> Result<()> {
        let mut authority = client::mesh(self.b.channel.clone());
        let seed = SeedMeshReq { name: "chaos".to_owned(), ..SeedMeshReq::default() };
        authority.seed_mesh(seed).await.context("mesh seed")?;
        let token = IssueTokenReq { address: advertise.to_string(), ..IssueTokenReq::default() };
        let token = authority.issue_token(token).await.context("token issue")?.into_inner();
        let join = JoinMeshReq { token: token.token, address: String::new() };
        client::mesh(self.a.channel.clone()).join_mesh(join).await.context("mesh join")?;
        await_route(&self.a, &self.b).await?;
        await_route(&self.b, &self.a).await
    }

    /// Opens streams from A to B.
    pub(crate) fn opener(&self) -> Opener {
        Opener { channel: self.a.channel.clone(), to: self.b.name, stripe: false }
    }

    /// The lanes as B sees them; none while it does not answer.
    pub(crate) async fn lanes(&self) -> Result<Option<Vec<LaneStatus>>> {
        let mut mesh = client::mesh(self.b.channel.clone());
        match timeout(LANES_PATIENCE, mesh.list_lanes(())).await {
            Ok(lanes) => Ok(Some(lanes.context("lane ls")?.into_inner().lanes)),
            Err(_elapsed) => Ok(None),
        }
    }

    /// How many bulk lanes B sees; 0 while it does not answer.
    pub(crate) async fn bulk_lanes(&self) -> Result<usize> {
        let lanes = self.lanes().await?.unwrap_or_default();
        Ok(lanes.iter().filter(|lane| lane.lane_class == "bulk").count())
    }

    /// Passes `outcome` on; a failure is told with what the nodes said last, which mostly explains
    /// it.
    pub(crate) fn explain<T>(&mut self, outcome: Result<T>) -> Result<T> {
        let Err(error) = outcome else { return outcome };
        let mut said = String::new();
        for node in [&mut self.a, &mut self.b] {
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
        self.a.process.stop().await?;
        self.b.process.stop().await
    }
}

impl Member {
    async fn start(
        spec: &PairSpec<'_>,
        parent: &Path,
        name: &'static str,
        listen: Option<SocketAddr>,
        cores: &NodeCores,
        prefix: &[OsString],
    ) -> Result<Self> {
        let directory = parent.join(name);
        fs::create_dir(&directory).with_context(|| directory.display().to_string())?;
        let data_dir = directory.join("data");
        let socket = data_dir.join("api.sock");
        let config = directory.join("hawser.toml");
        let text = toml::to_string(&configuration(spec, name, &data_dir, listen, cores)?)?;
        fs::write(&config, text)?;
        // `hawser` itself, or what it runs behind.
        let program = prefix.first().map_or(spec.hawser, Path::new);
        let mut command = process::command(program, &[]);
        if let Some((_, arguments)) = prefix.split_first() {
            command.args(arguments).arg(spec.hawser);
        }
        command.args(["node", "run", "--config"]).arg(&config);
        let mut process =
            Process::spawn_logged(&format!("node {name}"), command, &directory.join("log"))?;
        let channel = await_socket(&mut process, &socket).await?;
        Ok(Self { name, process, socket, channel })
    }
}

/// Where the nodes keep their data: in memory, unless `TMPDIR` says otherwise, for an exchange of the
/// control class holds synced writes, and what a busy disk does is not to be measured.
fn data_directory() -> Result<TempDir> {
    let mut builder = tempfile::Builder::new();
    builder.prefix("hawser-bench-");
    let memory = Path::new("/dev/shm");
    let directory = if env::var_os("TMPDIR").is_none() && memory.is_dir() {
        builder.tempdir_in(memory)
    } else {
        builder.tempdir()
    };
    directory.context("temporary directory")
}

/// Opens and closes streams at one node, to another.
#[derive(Clone, Debug)]
pub(crate) struct Opener {
    pub(crate) channel: Channel,
    pub(crate) to: &'static str,
    /// Its streams are to be striped.
    pub(crate) stripe: bool,
}

impl Opener {
    /// Opens a stream. The other node may not have confirmed it: the handle says so.
    pub(crate) async fn open_stream(&self, name: &str) -> Result<StreamHandle> {
        let open = OpenClientDataStreamReq {
            name: name.to_owned(),
            dst_nodes: vec![self.to.to_owned()],
            stripe: self.stripe,
            ..OpenClientDataStreamReq::default()
        };
        let mut mesh = client::mesh(self.channel.clone());
        Ok(mesh.open_client_data_stream(open).await.context("stream open")?.into_inner())
    }

    /// Ends a stream.
    pub(crate) async fn close_stream(&self, handle: StreamHandle) -> Result<()> {
        let mut mesh = client::mesh(self.channel.clone());
        mesh.close_client_data_stream(handle).await.context("stream close")?;
        Ok(())
    }
}

/// The configuration file of a node; the keys are those of docs/configuration.md.
fn configuration(
    spec: &PairSpec<'_>,
    name: &str,
    data_dir: &Path,
    listen: Option<SocketAddr>,
    cores: &NodeCores,
) -> Result<toml::Table> {
    let mut node = toml::Table::new();
    node.insert("name".to_owned(), name.into());
    let data_dir = data_dir.to_str().context("the path of the temporary directory is no UTF-8")?;
    node.insert("data_dir".to_owned(), data_dir.into());
    if let Some(profile) = spec.profile {
        node.insert("profile".to_owned(), profile.into());
    }
    let mut lanes = toml::Table::new();
    let listens = listen.map_or_else(|| "none".to_owned(), |address| address.to_string());
    lanes.insert("listen".to_owned(), listens.into());
    if listen.is_some() {
        lanes.insert("advertise".to_owned(), spec.advertise.to_string().into());
    }
    lanes.insert("collapsed".to_owned(), spec.collapsed.into());
    let mut api = toml::Table::new();
    api.insert("listen".to_owned(), "none".into());
    let mut placed = toml::Table::new();
    // On a host of its own a node has more than one processor: what does little, and is waited for, runs
    // where there is room.
    let mut control: Vec<usize> = spec.cores.iter().map(|cores| cores.control).collect();
    control.dedup();
    placed.insert("control".to_owned(), toml::Value::try_from(control)?);
    placed.insert("api".to_owned(), toml::Value::try_from(&cores.api)?);
    placed.insert("shards".to_owned(), toml::Value::try_from(&cores.shards)?);
    let sections = [("node", node), ("lanes", lanes), ("api", api), ("cores", placed)];
    Ok(sections.into_iter().map(|(name, section)| (name.to_owned(), section.into())).collect())
}

async fn await_socket(process: &mut Process, socket: &Path) -> Result<Channel> {
    let deadline = Instant::now() + START_PATIENCE;
    loop {
        process.ensure_running()?;
        match client::connect_unix(socket).await {
            Ok(channel) => return Ok(channel),
            Err(error) if Instant::now() > deadline => {
                let log = process.log_tail();
                return Err(error).with_context(|| format!("the node does not answer{log}"));
            }
            Err(_not_yet) => sleep(Duration::from_millis(10)).await,
        }
    }
}

/// Waits until `from` knows a path to `to`.
async fn await_route(from: &Member, to: &Member) -> Result<()> {
    let mut mesh = client::mesh(from.channel.clone());
    let deadline = Instant::now() + START_PATIENCE;
    loop {
        let status = mesh.get_mesh_status(()).await.context("mesh status")?.into_inner();
        if status.nodes.iter().any(|node| node.name == to.name && node.reachable) {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("{} sees no path to {} for {} s", from.name, to.name, START_PATIENCE.as_secs());
        }
        sleep(Duration::from_millis(10)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_node_that_listens_advertises_the_relay() {
        let cores = NodeCores { control: 0, api: vec![0], shards: vec![0, 1] };
        let spec = PairSpec {
            hawser: Path::new("/h"),
            profile: None,
            collapsed: true,
            cores: [&cores, &cores],
            listen: "127.0.0.1:1".parse().unwrap(),
            advertise: "127.0.0.1:2".parse().unwrap(),
            prefixes: [&[], &[]],
        };
        let lanes = |listen| {
            let table = configuration(&spec, "n", Path::new("/d"), listen, &cores).unwrap();
            // As the node reads it.
            let table: toml::Table = toml::to_string(&table).unwrap().parse().unwrap();
            assert!(table["node"].get("profile").is_none());
            assert_eq!(table["cores"]["shards"].as_array().unwrap().len(), 2);
            table["lanes"].clone()
        };
        let b = lanes(Some(spec.listen));
        assert_eq!(b["listen"].as_str(), Some("127.0.0.1:1"));
        assert_eq!(b["advertise"].as_str(), Some("127.0.0.1:2"));
        assert_eq!(b["collapsed"].as_bool(), Some(true));
        let a = lanes(None);
        assert_eq!(a["listen"].as_str(), Some("none"));
        assert!(a.get("advertise").is_none());
    }
}
