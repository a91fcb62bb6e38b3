//! `hawser mesh`: seed, join, start, stop, leave, status.

use std::collections::BTreeMap;
use std::io::Read;

use clap::Subcommand;
use hawser_proto::v1::{
    DrainNodeReq, EvictNodeReq, Eviction, JoinMeshReq, LeaveMeshReq, LinkStatus, MeshStatus,
    NodeStatus, RejectCount, SeedMeshReq, StartMeshReq, StopMeshReq, UndrainNodeReq,
};
use serde::Serialize;

use super::client::Target;
use super::failure::Failure;
use super::link::LinkRow;
use super::output::{Output, counted};
use super::table::{Align, Table};

/// Longest token that is read from standard input, in bytes.
const TOKEN_BYTES_MAX: u64 = 16 << 10;

#[derive(Debug, Subcommand)]
pub(crate) enum MeshCommand {
    /// Make this node the first of a new mesh and the holder of its certificate authority.
    Seed {
        /// Name of the mesh: 1 to 63 characters of a-z, 0-9 and -.
        name: String,
        /// What it is for.
        #[arg(long, default_value = "")]
        description: String,
    },
    /// Join a mesh with a token that `hawser token issue` printed at the node that seeded it.
    Join {
        /// The token; `-` reads it from standard input, where no process list shows it.
        token: String,
        /// Address to dial instead of the token's, host:port.
        #[arg(long, default_value = "")]
        address: String,
    },
    /// Take part again after `mesh stop`.
    Start,
    /// Close every lane and stay out until `mesh start`. Membership and streams are kept.
    Stop,
    /// Close every lane and forget certificate, members and streams.
    Leave,
    /// Show the mesh as this node sees it.
    Status,
}

/// # Errors
/// Whatever the node answers.
pub(crate) async fn run(command: MeshCommand, target: Target, out: Output) -> Result<(), Failure> {
    let mut mesh = target.mesh().await?;
    let status = match command {
        MeshCommand::Seed { name, description } => {
            mesh.seed_mesh(SeedMeshReq { name, description }).await?
        }
        MeshCommand::Join { token, address } => {
            let token = if token == "-" { token_from_stdin()? } else { token };
            mesh.join_mesh(JoinMeshReq { token, address }).await?
        }
        MeshCommand::Start => mesh.start_mesh(StartMeshReq {}).await?,
        MeshCommand::Stop => mesh.stop_mesh(StopMeshReq {}).await?,
        MeshCommand::Leave => {
            let left = mesh.leave_mesh(LeaveMeshReq {}).await?.into_inner();
            let row = LeftRow { left: left.success, message: left.message };
            return out.value(&row, || "left the mesh\n".to_owned());
        }
        MeshCommand::Status => mesh.get_mesh_status(()).await?,
    }
    .into_inner();
    show(&status, out)
}

/// Drains the node, or ends that.
///
/// # Errors
/// Whatever the node answers.
pub(crate) async fn drain(drained: bool, target: Target, out: Output) -> Result<(), Failure> {
    let mut mesh = target.mesh().await?;
    let status = if drained {
        mesh.drain_node(DrainNodeReq {}).await?
    } else {
        mesh.undrain_node(UndrainNodeReq {}).await?
    };
    show(&status.into_inner(), out)
}

/// Evicts a node from the mesh.
///
/// # Errors
/// Whatever the node answers.
pub(crate) async fn evict(
    node: String,
    reason: String,
    target: Target,
    out: Output,
) -> Result<(), Failure> {
    let status = target.mesh().await?.evict_node(EvictNodeReq { node, reason }).await?;
    show(&status.into_inner(), out)
}

fn token_from_stdin() -> Result<String, Failure> {
    let mut token = String::new();
    std::io::stdin()
        .take(TOKEN_BYTES_MAX)
        .read_to_string(&mut token)
        .map_err(|error| Failure::usage(format!("cannot read the token: {error}")))?;
    Ok(token.trim().to_owned())
}

#[derive(Serialize)]
struct LeftRow {
    left: bool,
    message: String,
}

#[derive(Serialize)]
struct StatusRow<'a> {
    mesh_id: &'a str,
    name: &'a str,
    state: &'a str,
    node_id: &'a str,
    node_name: &'a str,
    version: &'a str,
    io_driver: &'a str,
    shards: u32,
    route_generation: u64,
    lsdb_digest: &'a str,
    lsdb_size: u64,
    /// Neighbours whose link-state database was the same when they compared last, and all that have
    /// compared.
    lsdb_agrees: u64,
    lsdb_compared: u64,
    link_state_rejects: BTreeMap<&'a str, u64>,
    membership_rejects: BTreeMap<&'a str, u64>,
    stream_rejects: BTreeMap<&'a str, u64>,
    datagram_rejects: BTreeMap<&'a str, u64>,
    one_sided_links: u64,
    raft_health: &'a str,
    nodes: Vec<NodeRow<'a>>,
    links: Vec<LinkRow<'a>>,
    evictions: Vec<EvictionRow<'a>>,
    refused_as_evicted: &'a str,
}

#[derive(Serialize)]
struct EvictionRow<'a> {
    node_id: &'a str,
    name: &'a str,
    by_id: &'a str,
    by_name: &'a str,
    unix_s: u64,
    reason: &'a str,
}

impl<'a> From<&'a Eviction> for EvictionRow<'a> {
    fn from(eviction: &'a Eviction) -> Self {
        Self {
            node_id: &eviction.node_id,
            name: &eviction.name,
            by_id: &eviction.by_id,
            by_name: &eviction.by_name,
            unix_s: eviction.unix_s,
            reason: &eviction.reason,
        }
    }
}

#[derive(Serialize)]
struct NodeRow<'a> {
    node_id: &'a str,
    name: &'a str,
    reachable: bool,
    liveness: &'a str,
    hops: u32,
    incarnation: u64,
    address: &'a str,
    drained: bool,
    stub: bool,
}

impl<'a> From<&'a NodeStatus> for NodeRow<'a> {
    fn from(node: &'a NodeStatus) -> Self {
        Self {
            node_id: &node.node_id,
            name: &node.name,
            reachable: node.reachable,
            liveness: &node.liveness,
            hops: node.hops,
            incarnation: node.incarnation,
            address: &node.address,
            drained: node.drained,
            stub: node.stub,
        }
    }
}

fn show(status: &MeshStatus, out: Output) -> Result<(), Failure> {
    let (lsdb_agrees, lsdb_compared) = agreement(status);
    let row = StatusRow {
        mesh_id: &status.mesh_id,
        name: &status.name,
        state: &status.state,
        node_id: &status.node_id,
        node_name: &status.node_name,
        version: &status.version,
        io_driver: &status.io_driver,
        shards: status.shards,
        route_generation: status.route_generation,
        lsdb_digest: &status.lsdb_digest,
        lsdb_size: status.lsdb_size,
        lsdb_agrees,
        lsdb_compared,
        link_state_rejects: counts(&status.link_state_rejects),
        membership_rejects: counts(&status.membership_rejects),
        stream_rejects: counts(&status.stream_rejects),
        datagram_rejects: counts(&status.datagram_rejects),
        one_sided_links: status.one_sided_links,
        raft_health: &status.raft_health,
        nodes: status.nodes.iter().map(NodeRow::from).collect(),
        links: status.links.iter().map(LinkRow::from).collect(),
        evictions: status.evictions.iter().map(EvictionRow::from).collect(),
        refused_as_evicted: &status.refused_as_evicted,
    };
    out.value(&row, || text(status))
}

fn counts(rejects: &[RejectCount]) -> BTreeMap<&str, u64> {
    rejects.iter().map(|reject| (reject.reason.as_str(), reject.count)).collect()
}

/// Neighbours that had the same link-state database when they compared last, and all that compared.
fn agreement(status: &MeshStatus) -> (u64, u64) {
    status
        .links
        .iter()
        .filter_map(|link| link.digest_agrees)
        .fold((0, 0), |(agree, all), agrees| (agree + u64::from(agrees), all + 1))
}

fn text(status: &MeshStatus) -> String {
    let mut lines = Table::new(&[("", Align::Left), ("", Align::Left)], "");
    let mut line = |what: &str, said: String| lines.row([what.to_owned(), said]);
    match status.state.as_str() {
        "none" => line(
            "mesh",
            "none; `hawser mesh seed` makes one, `hawser mesh join` joins one".to_owned(),
        ),
        state => line("mesh", format!("{}  {}  {state}", status.name, status.mesh_id)),
    }
    line("node", format!("{}  {}  {}", status.node_name, status.node_id, status.version));
    if let Some(own) = status.evictions.iter().find(|out| out.node_id == status.node_id) {
        line("evicted", format!("this node, {}; it cannot come back with this key", decided(own)));
    } else if !status.refused_as_evicted.is_empty() {
        line("refused", format!("a neighbour says: {}", status.refused_as_evicted));
    }
    let shards = counted(u64::from(status.shards), "shard");
    line("shards", format!("{shards} on {}", status.io_driver));
    if status.state != "none" {
        let known = counted(status.nodes.len() as u64, "node");
        line(
            "routes",
            format!(
                "generation {}, {known} known, digest {}",
                status.route_generation, status.lsdb_digest
            ),
        );
        let (agree, compared) = agreement(status);
        if compared > 0 {
            let compared = counted(compared, "neighbour");
            line("agrees", format!("with {agree} of {compared}"));
        }
        let said = |rejects: &[RejectCount]| -> Vec<String> {
            rejects.iter().map(|reject| format!("{} {}", reject.count, reject.reason)).collect()
        };
        if !status.link_state_rejects.is_empty() {
            line("rejected", said(&status.link_state_rejects).join(", "));
        }
        if !status.membership_rejects.is_empty() {
            let said = said(&status.membership_rejects).join(", ");
            line("", format!("{said} (about who is alive)"));
        }
        if !status.stream_rejects.is_empty() {
            line("refused", format!("{} (streams)", said(&status.stream_rejects).join(", ")));
        }
        if !status.datagram_rejects.is_empty() {
            let said = said(&status.datagram_rejects).join(", ");
            line("refused", format!("{said} (datagrams)"));
        }
        if status.one_sided_links > 0 {
            let links = counted(status.one_sided_links, "link");
            line("one-sided", format!("{links} that only one end announces"));
        }
    }
    let mut page = lines.to_string().trim_start_matches('\n').to_owned();
    if !status.nodes.is_empty() {
        page.push('\n');
        page.push_str(&node_table(status).to_string());
    }
    if !status.links.is_empty() {
        page.push('\n');
        page.push_str(&link_table(&status.links).to_string());
    }
    let others = status.evictions.iter().filter(|out| out.node_id != status.node_id);
    let mut evicted =
        Table::new(&[("EVICTED", Align::Left), ("ID", Align::Left), ("", Align::Left)], "");
    let mut any = false;
    for out in others {
        any = true;
        evicted.row([out.name.clone(), out.node_id.clone(), decided(out)]);
    }
    if any {
        page.push('\n');
        page.push_str(&evicted.to_string());
    }
    page
}

/// Who has decided an eviction, and why.
fn decided(eviction: &Eviction) -> String {
    let Eviction { by_id, by_name, reason, .. } = eviction;
    let by = if by_name.is_empty() { by_id } else { by_name };
    let why = if reason.is_empty() { String::new() } else { format!(": {reason}") };
    format!("by {by}{why}")
}

fn node_table(status: &MeshStatus) -> Table {
    let mut table = Table::new(
        &[
            ("NODE", Align::Left),
            ("ID", Align::Left),
            ("REACHABLE", Align::Left),
            ("LIVENESS", Align::Left),
            ("HOPS", Align::Right),
            ("INCARNATION", Align::Right),
            ("TRANSIT", Align::Left),
            ("ADDRESS", Align::Left),
        ],
        "",
    );
    let mut nodes: Vec<&NodeStatus> = status.nodes.iter().collect();
    // This node first, then near before far, then those that cannot be reached.
    nodes.sort_by_key(|node| {
        let here = node.node_id == status.node_id;
        (!here, !node.reachable, node.hops, &node.name)
    });
    for node in nodes {
        let here = node.node_id == status.node_id;
        let reachable = match (here, node.reachable) {
            (true, _) => "this node",
            (false, true) => "yes",
            (false, false) => "no",
        };
        let hops = if here || !node.reachable { "-".to_owned() } else { node.hops.to_string() };
        let liveness = if node.liveness.is_empty() { "-" } else { &node.liveness };
        let transit = match (node.drained, node.stub) {
            (true, _) => "drained",
            (false, true) => "stub",
            (false, false) => "yes",
        };
        let address = if node.address.is_empty() { "-" } else { &node.address };
        table.row([
            node.name.clone(),
            node.node_id.clone(),
            reachable.to_owned(),
            liveness.to_owned(),
            hops,
            node.incarnation.to_string(),
            transit.to_owned(),
            address.to_owned(),
        ]);
    }
    table
}

fn link_table(links: &[LinkStatus]) -> Table {
    let mut table = Table::new(
        &[
            ("LINK", Align::Left),
            ("STATE", Align::Left),
            ("LANES", Align::Right),
            ("RTT", Align::Right),
        ],
        "",
    );
    for link in links {
        let name =
            |name: &str, id: &str| if name.is_empty() { id.to_owned() } else { name.to_owned() };
        let row = LinkRow::from(link);
        // Lanes of other nodes' links are not known here.
        let lanes = if link.lanes == 0 { "-".to_owned() } else { link.lanes.to_string() };
        table.row([
            format!("{} - {}", name(&link.a_name, &link.a), name(&link.b_name, &link.b)),
            row.state().to_owned(),
            lanes,
            row.rtt(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_reads_well() {
        let node = |id: &str, name: &str, hops| NodeStatus {
            node_id: id.to_owned(),
            name: name.to_owned(),
            reachable: true,
            liveness: "alive".to_owned(),
            incarnation: 1,
            hops,
            address: String::new(),
            drained: id == "idb",
            stub: false,
        };
        let out = |id: &str, name: &str| Eviction {
            node_id: id.to_owned(),
            name: name.to_owned(),
            by_name: "b".to_owned(),
            reason: "lost".to_owned(),
            ..Eviction::default()
        };
        let status = MeshStatus {
            mesh_id: "m".to_owned(),
            name: "demo".to_owned(),
            state: "running".to_owned(),
            node_id: "ida".to_owned(),
            node_name: "a".to_owned(),
            nodes: vec![node("idb", "b", 1), node("ida", "a", 0)],
            links: vec![LinkStatus {
                a: "ida".to_owned(),
                a_name: "a".to_owned(),
                b: "idb".to_owned(),
                b_name: "b".to_owned(),
                up: true,
                lanes: 2,
                rtt_us: 120,
                digest_agrees: Some(true),
                ..LinkStatus::default()
            }],
            route_generation: 3,
            lsdb_digest: "00ff".to_owned(),
            // One of them is that of a node that has left.
            lsdb_size: 3,
            version: "0.1.0".to_owned(),
            io_driver: "io_uring".to_owned(),
            shards: 1,
            raft_health: String::new(),
            link_state_rejects: vec![RejectCount { reason: "forged".to_owned(), count: 7 }],
            membership_rejects: vec![RejectCount { reason: "not-member".to_owned(), count: 2 }],
            stream_rejects: vec![RejectCount { reason: "credit-overrun".to_owned(), count: 1 }],
            datagram_rejects: vec![RejectCount { reason: "malformed".to_owned(), count: 4 }],
            one_sided_links: 1,
            evictions: vec![out("idz", "z"), out("idy", "y")],
            refused_as_evicted: String::new(),
        };
        assert_eq!(
            text(&status),
            "mesh       demo  m  running\n\
             node       a  ida  0.1.0\n\
             shards     1 shard on io_uring\n\
             routes     generation 3, 2 nodes known, digest 00ff\n\
             agrees     with 1 of 1 neighbour\n\
             rejected   7 forged\n\
             \x20          2 not-member (about who is alive)\n\
             refused    1 credit-overrun (streams)\n\
             refused    4 malformed (datagrams)\n\
             one-sided  1 link that only one end announces\n\
             \n\
             NODE  ID   REACHABLE  LIVENESS  HOPS  INCARNATION  TRANSIT  ADDRESS\n\
             a     ida  this node  alive        -            1  yes      -\n\
             b     idb  yes        alive        1            1  drained  -\n\
             \n\
             LINK   STATE  LANES     RTT\n\
             a - b  up         2  120 µs\n\
             \n\
             EVICTED  ID\n\
             z        idz  by b: lost\n\
             y        idy  by b: lost\n"
        );
        let own = MeshStatus { evictions: vec![out("ida", "a")], ..status.clone() };
        assert!(text(&own).contains("evicted    this node, by b: lost; it cannot come back"));
        let told = MeshStatus { refused_as_evicted: "node a was evicted".to_owned(), ..status };
        assert!(text(&told).contains("refused    a neighbour says: node a was evicted\n"));
    }
}
