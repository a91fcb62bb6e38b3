//! Five nodes, each in a network namespace of its own, in a ring with a chord; a router between the
//! namespaces lets nothing through but what belongs to the ring.
//!
//! A, B, C, D, E stand in the ring, and B and D are joined by the chord. From A to C the way over B is
//! the only one with two links.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use hawser_proto::client;
use hawser_proto::v1::{IssueTokenReq, JoinMeshReq, OpenClientDataStreamReq, SeedMeshReq};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::time::sleep;
use tonic::transport::Channel;

use crate::chaos::{hold, run_command};
use crate::machine;
use crate::process::{self, Process};

/// How long the nodes may take to answer and to see each other. Dialling waits up to 30 s.
const PATIENCE: Duration = Duration::from_secs(60);

const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];
pub(super) const A: usize = 0;
pub(super) const B: usize = 1;
pub(super) const C: usize = 2;
const D: usize = 3;
const E: usize = 4;

/// Whom each node dials, beside A, where they all join.
const DIALS: [&[usize]; 5] = [&[], &[C, D], &[D], &[E], &[]];
/// Pairs that have joined over a link that does not belong to the ring.
const STRANGERS: [(usize, usize); 2] = [(A, C), (A, D)];
/// Links of the ring, the chord among them.
const LINKS: usize = 6;

/// Which port lanes are accepted at: the namespaces are empty.
const PORT: u16 = 7480;

/// What the router does to packets between two nodes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wall {
    /// Answers them with a RST.
    Reset,
    /// Drops them.
    Silent,
}

/// A running node.
#[derive(Debug)]
pub(super) struct Member {
    name: &'static str,
    process: Process,
    pub(super) socket: PathBuf,
    channel: Channel,
}

/// The ring.
#[derive(Debug)]
pub(super) struct Ring {
    // In this order: the nodes end before what they run in goes.
    nodes: Vec<Option<Member>>,
    spaces: Vec<Process>,
    router: Process,
    hawser: PathBuf,
    directory: TempDir,
}

fn address(node: usize) -> String {
    format!("10.76.{}.1", node + 1)
}

impl Ring {
    pub(super) async fn start(hawser: &Path, profile: Option<&str>) -> Result<Self> {
        let router = hold().await?;
        let hub = router.pid();
        within(hub, "sysctl -qw net.ipv4.ip_forward=1").await?;
        let mut spaces = Vec::new();
        for node in 0..NAMES.len() {
            let space = hold().await?;
            let (end, hop, gateway) =
                (space.pid(), format!("hop{node}"), format!("10.76.{}.2", node + 1));
            let veth = format!("ip link add lane0 netns {end} type veth peer name {hop}");
            run_command(&format!("{veth} netns {hub}")).await?;
            for (pid, command) in [
                (end, "ip link set lo up".to_owned()),
                (end, format!("ip address add {}/30 dev lane0", address(node))),
                (end, "ip link set lane0 up".to_owned()),
                (end, format!("ip route add default via {gateway}")),
                (hub, format!("ip address add {gateway}/30 dev {hop}")),
                (hub, format!("ip link set {hop} up")),
            ] {
                within(pid, &command).await?;
            }
            spaces.push(space);
        }
        let directory = tempfile::Builder::new().prefix("hawser-bench-").tempdir()?;
        let cores = machine::cores()?;
        for (node, name) in NAMES.iter().enumerate() {
            let at = directory.path().join(name);
            fs::create_dir(&at).with_context(|| at.display().to_string())?;
            let core = cores.get(node % cores.len().max(1)).copied().unwrap_or(0);
            let text = configuration(node, &at.join("data"), profile, core);
            fs::write(at.join("hawser.toml"), text)?;
        }
        let (hawser, nodes) = (hawser.to_owned(), Vec::new());
        let mut ring = Self { nodes, spaces, router, hawser, directory };
        for node in 0..NAMES.len() {
            let member = ring.run(node).await?;
            ring.nodes.push(Some(member));
        }
        let joined = ring.join().await;
        ring.explain(joined)?;
        Ok(ring)
    }

    /// Runs a node with what its directory has.
    async fn run(&self, node: usize) -> Result<Member> {
        let name = NAMES.get(node).copied().context("no such node")?;
        let at = self.directory.path().join(name);
        let pid = self.spaces.get(node).context("no such node")?.pid().to_string();
        let mut command = process::command(Path::new("nsenter"), &[]);
        command.args(["--target", &pid, "--net", "--"].map(OsString::from)).arg(&self.hawser);
        command.args(["node", "run", "--config"]).arg(at.join("hawser.toml"));
        let mut process = Process::spawn_logged(&format!("node {name}"), command, &at.join("log"))?;
        let socket = at.join("data/api.sock");
        let deadline = Instant::now() + PATIENCE;
        let channel = loop {
            process.ensure_running()?;
            match client::connect_unix(&socket).await {
                Ok(channel) => break channel,
                Err(error) if Instant::now() > deadline => {
                    return Err(error).context("the node does not answer");
                }
                Err(_not_yet) => sleep(Duration::from_millis(10)).await,
            }
        };
        Ok(Member { name, process, socket, channel })
    }

    async fn join(&self) -> Result<()> {
        let mut authority = client::mesh(self.node(A)?.channel.clone());
        let seed = SeedMeshReq { name: "ring".to_owned(), ..SeedMeshReq::default() };
        authority.seed_mesh(seed).await.context("mesh seed")?;
        // Who is dialled by another has joined before.
        for node in [E, D, C, B] {
            let address = format!("{}:{PORT}", address(A));
            let token = IssueTokenReq { address, ..IssueTokenReq::default() };
            let token = authority.issue_token(token).await.context("token issue")?.into_inner();
            let join = JoinMeshReq { token: token.token, address: String::new() };
            let channel = self.node(node)?.channel.clone();
            client::mesh(channel).join_mesh(join).await.context("mesh join")?;
        }
        let hub = self.router.pid();
        for (a, b) in STRANGERS {
            add_rules(hub, "walls", a, b, Wall::Reset).await?;
        }
        self.await_whole().await
    }

    pub(super) fn node(&self, node: usize) -> Result<&Member> {
        self.nodes.get(node).and_then(Option::as_ref).context("the node is not there")
    }

    /// Opens a stream from one node to another; its id.
    pub(super) async fn open_stream(&self, name: &str, from: usize, to: usize) -> Result<String> {
        let open = OpenClientDataStreamReq {
            name: name.to_owned(),
            dst_nodes: vec![self.node(to)?.name.to_owned()],
            ..OpenClientDataStreamReq::default()
        };
        let mut mesh = client::mesh(self.node(from)?.channel.clone());
        let handle = mesh.open_client_data_stream(open).await.context("stream open")?.into_inner();
        if !handle.pending_dst_nodes.is_empty() {
            bail!("the stream was not confirmed");
        }
        Ok(handle.stream_id)
    }

    /// Waits until every node knows of all links of the ring and no others, and reaches all nodes.
    pub(super) async fn await_whole(&self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        for member in self.nodes.iter().flatten() {
            loop {
                let mut mesh = client::mesh(member.channel.clone());
                let status = mesh.get_mesh_status(()).await.context("mesh status")?.into_inner();
                let up = status.links.iter().filter(|link| link.up).count();
                let reached = status.nodes.iter().filter(|node| node.reachable).count();
                if up == LINKS && reached == NAMES.len() {
                    break;
                }
                if Instant::now() > deadline {
                    bail!("{} sees {up} links and {reached} nodes", member.name);
                }
                sleep(Duration::from_millis(10)).await;
            }
        }
        Ok(())
    }

    /// Bytes that a node has sent over its link to another.
    pub(super) async fn sent_bytes(&self, from: usize, to: usize) -> Result<u64> {
        let mut mesh = client::mesh(self.node(from)?.channel.clone());
        let links = mesh.list_links(()).await.context("link ls")?.into_inner().links;
        let to = NAMES.get(to).copied().unwrap_or_default();
        Ok(links.iter().find(|link| link.b_name == to).map_or(0, |link| link.sent_bytes))
    }

    /// From now on the router does this to packets between two nodes.
    pub(super) async fn wall(&self, a: usize, b: usize, wall: Wall) -> Result<()> {
        add_rules(self.router.pid(), "faults", a, b, wall).await
    }

    /// The router lets everything through again that belongs to the ring.
    pub(super) async fn mend(&self) -> Result<()> {
        within(self.router.pid(), "nft delete table inet faults").await
    }

    /// Ends a node without a word.
    pub(super) fn kill(&mut self, node: usize) -> Result<()> {
        let member = self.nodes.get_mut(node).and_then(Option::take).context("not there")?;
        let pid = i32::try_from(member.process.pid()).ok().and_then(Pid::from_raw);
        kill_process(pid.context("no pid")?, Signal::KILL).context("SIGKILL")
    }

    /// Runs it again.
    pub(super) async fn revive(&mut self, node: usize) -> Result<()> {
        let member = self.run(node).await?;
        if let Some(place) = self.nodes.get_mut(node) {
            *place = Some(member);
        }
        Ok(())
    }

    /// Passes `outcome` on; a failure is told with what the nodes said last, which mostly explains
    /// it.
    pub(super) fn explain<T>(&mut self, outcome: Result<T>) -> Result<T> {
        let Err(error) = outcome else { return outcome };
        let mut said = String::new();
        for node in self.nodes.iter_mut().flatten() {
            match node.process.ensure_running() {
                Ok(()) => said += &format!("\n[node {}]{}", node.name, node.process.log_tail()),
                Err(ended) => said += &format!("\n[{ended}]"),
            }
        }
        Err(error.context(format!("the nodes' last words:{said}\n")))
    }

    /// # Errors
    /// If a node had ended on its own.
    pub(super) async fn stop(self) -> Result<()> {
        for node in self.nodes.into_iter().flatten() {
            node.process.stop().await?;
        }
        Ok(())
    }
}

/// The configuration file of a node; all of its threads on one core, so that five nodes share what
/// there is.
fn configuration(node: usize, data_dir: &Path, profile: Option<&str>, core: usize) -> String {
    let name = NAMES.get(node).copied().unwrap_or_default();
    let dials = DIALS.get(node).copied().unwrap_or_default();
    let dial: Vec<String> = dials.iter().map(|&to| format!("{}:{PORT}", address(to))).collect();
    let profile = profile.map_or_else(String::new, |name| format!("profile = {name:?}\n"));
    format!(
        "[node]\nname = {name:?}\ndata_dir = {data_dir:?}\n{profile}\n\
         [lanes]\nlisten = \"{}:{PORT}\"\ndial = {dial:?}\n\n[api]\nlisten = \"none\"\n\n\
         [cores]\ncontrol = {core}\napi = [{core}]\nshards = [{core}]\n",
        address(node)
    )
}

/// Adds to a table of the router, in both directions at once, what happens to packets between two nodes.
async fn add_rules(hub: u32, table: &str, a: usize, b: usize, wall: Wall) -> Result<()> {
    let verdict = match wall {
        Wall::Reset => "meta l4proto tcp reject with tcp reset",
        Wall::Silent => "drop",
    };
    let [one, other] = [(a, b), (b, a)].map(|(from, to)| {
        let (from, to) = (address(from), address(to));
        format!("add rule inet {table} forward ip saddr {from} ip daddr {to} {verdict}")
    });
    let hook = "{ type filter hook forward priority 0 ; }";
    let table = format!("add table inet {table} ; add chain inet {table} forward {hook}");
    within(hub, &format!("nft {table} ; {one} ; {other}")).await
}

/// Runs a command, whose words contain no spaces, in the namespace of a process.
async fn within(pid: u32, command: &str) -> Result<()> {
    run_command(&format!("nsenter --target {pid} --net -- {command}")).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_is_toml_and_names_whom_the_node_dials() {
        let text = configuration(B, Path::new("/d/b"), Some("latency"), 1);
        let table: toml::Table = text.parse().unwrap();
        assert_eq!(table["node"]["name"].as_str(), Some("b"));
        assert_eq!(table["node"]["profile"].as_str(), Some("latency"));
        assert_eq!(table["lanes"]["listen"].as_str(), Some("10.76.2.1:7480"));
        let dial = table["lanes"]["dial"].as_array().unwrap();
        assert_eq!(
            dial.iter().filter_map(toml::Value::as_str).collect::<Vec<_>>(),
            ["10.76.3.1:7480", "10.76.4.1:7480"]
        );
        assert_eq!(table["cores"]["shards"].as_array().unwrap().len(), 1);
    }
}
