//! `hawser route explain`: why the traffic to a node goes the way it goes.

use clap::Args;
use hawser_proto::v1::{
    ExplainRouteReq, OperatorRoute, RouteCandidate, RouteExplanation, RouteHop,
};
use serde::Serialize;

use super::message::{self, MessageName};
use super::{obstacle_of, shown};
use crate::cli::client::Target;
use crate::cli::failure::{Exit, Failure};
use crate::cli::output::{Output, counted};
use crate::cli::plan::Class;
use crate::cli::table::{Align, Table};

#[derive(Args, Debug)]
pub(crate) struct ExplainArgs {
    /// Where the paths begin: a node by name or id.
    #[arg(value_name = "SRC", required_unless_present = "message")]
    source: Option<String>,
    /// Where they end.
    #[arg(value_name = "DST", required_unless_present = "message")]
    destination: Option<String>,
    /// Instead of what would be taken now, show which way a message went that was published at this
    /// node: a stream by name or id, and the message's sequence in it.
    #[arg(long, value_name = "STREAM:SEQ", value_parser = MessageName::parse,
        conflicts_with_all = ["source", "destination", "k", "class"])]
    message: Option<MessageName>,
    /// How many paths that may be taken.
    #[arg(short, long = "paths", value_name = "K", default_value_t = 4,
        value_parser = clap::value_parser!(u16).range(1..=hawser_routing::K_MAX as i64))]
    k: u16,
    /// Whose weights count.
    #[arg(long, value_enum, default_value = "bulk")]
    class: Class,
}

#[derive(Serialize)]
struct ExplanationRow<'a> {
    generation: u64,
    lsdb_digest: &'a str,
    class: &'a str,
    operator_route: Option<OperatorRow<'a>>,
    candidates: Vec<CandidateRow<'a>>,
}

/// What an operator has set.
#[derive(Serialize)]
struct OperatorRow<'a> {
    nodes: Vec<&'a str>,
    /// Why it is not taken.
    obstacle: Option<String>,
}

impl<'a> From<&'a OperatorRoute> for OperatorRow<'a> {
    fn from(route: &'a OperatorRoute) -> Self {
        let nodes = route.nodes.iter().map(shown).collect();
        Self { nodes, obstacle: obstacle_of(route) }
    }
}

#[derive(Serialize)]
struct CandidateRow<'a> {
    nodes: Vec<&'a str>,
    cost: u64,
    verdict: &'a str,
    by: u64,
    no_transit: Option<&'a str>,
    path_id: Option<u32>,
    weight: Option<u32>,
    hops: Vec<HopRow<'a>>,
}

#[derive(Serialize)]
struct HopRow<'a> {
    from: &'a str,
    to: &'a str,
    cost: u32,
    latency_cost: u32,
    bandwidth_cost: u32,
    loss_cost: u32,
    hop_cost: u32,
}

impl<'a> From<&'a RouteHop> for HopRow<'a> {
    fn from(hop: &'a RouteHop) -> Self {
        Self {
            from: hop.from.as_ref().map_or("", shown),
            to: hop.to.as_ref().map_or("", shown),
            cost: hop.cost,
            latency_cost: hop.latency_cost,
            bandwidth_cost: hop.bandwidth_cost,
            loss_cost: hop.loss_cost,
            hop_cost: hop.hop_cost,
        }
    }
}

impl<'a> From<&'a RouteCandidate> for CandidateRow<'a> {
    fn from(found: &'a RouteCandidate) -> Self {
        let hops: Vec<HopRow<'a>> = found.hops.iter().map(HopRow::from).collect();
        let first = hops.first().map(|hop| hop.from);
        Self {
            nodes: first.into_iter().chain(hops.iter().map(|hop| hop.to)).collect(),
            cost: found.cost,
            verdict: &found.verdict,
            by: found.by,
            no_transit: found.no_transit.as_ref().map(shown),
            path_id: found.path_id,
            weight: found.weight,
            hops,
        }
    }
}

impl CandidateRow<'_> {
    /// Why it is not the first, for people.
    fn reason(&self) -> String {
        match (self.verdict, self.no_transit) {
            ("dearer", _) => format!("costs {} more", self.by),
            ("longer", _) => format!("as cheap, {} longer", counted(self.by, "hop")),
            ("later", _) => "as good, later in order of ids".to_owned(),
            ("operator", _) => "set by an operator".to_owned(),
            ("overruled", _) => "best, overruled by an operator".to_owned(),
            (_, Some(node)) => format!("{node} is no transit"),
            (verdict, None) => verdict.to_owned(),
        }
    }
}

/// # Errors
/// Whatever the node answers; [`Exit::NotFound`] if no path leads from the one node to the other.
pub(super) async fn run(args: ExplainArgs, target: Target, out: Output) -> Result<(), Failure> {
    let ExplainArgs { source, destination, message, k, class } = args;
    if let Some(name) = message {
        return message::run(name, target, out).await;
    }
    let (source, destination) = (source.unwrap_or_default(), destination.unwrap_or_default());
    let request = ExplainRouteReq {
        source: source.clone(),
        destination: destination.clone(),
        paths: k.into(),
        traffic_class: class.name().to_owned(),
    };
    let found = target.mesh().await?.explain_route(request).await?.into_inner();
    let RouteExplanation { generation, ref lsdb_digest, ref traffic_class, .. } = found;
    let row = ExplanationRow {
        generation,
        lsdb_digest,
        class: traffic_class,
        operator_route: found.operator_route.as_ref().map(OperatorRow::from),
        candidates: found.candidates.iter().map(CandidateRow::from).collect(),
    };
    out.value(&row, || text_of(&row))?;
    if row.candidates.iter().all(|candidate| candidate.no_transit.is_some()) {
        let why = format!("no path from {source:?} to {destination:?}");
        return Err(Failure::new(Exit::NotFound, why));
    }
    Ok(())
}

/// The paths, then the hops of each.
fn text_of(row: &ExplanationRow<'_>) -> String {
    let columns = [
        ("PATH", Align::Right),
        ("COST", Align::Right),
        ("HOPS", Align::Right),
        ("WEIGHT", Align::Right),
        ("WHY", Align::Left),
        ("NODES", Align::Left),
    ];
    let mut paths = Table::new(&columns, "no path");
    let columns = [
        ("PATH", Align::Right),
        ("FROM", Align::Left),
        ("TO", Align::Left),
        ("COST", Align::Right),
        ("LATENCY", Align::Right),
        ("BANDWIDTH", Align::Right),
        ("LOSS", Align::Right),
        ("HOP", Align::Right),
    ];
    let mut hops = Table::new(&columns, "");
    for (number, path) in (1..).zip(&row.candidates) {
        paths.row([
            number.to_string(),
            path.cost.to_string(),
            path.hops.len().to_string(),
            path.weight.map_or_else(|| "-".to_owned(), |weight| weight.to_string()),
            path.reason(),
            path.nodes.join(" "),
        ]);
        for hop in &path.hops {
            let terms =
                [hop.cost, hop.latency_cost, hop.bandwidth_cost, hop.loss_cost, hop.hop_cost];
            let ends = [number.to_string(), hop.from.to_owned(), hop.to.to_owned()];
            hops.row(ends.into_iter().chain(terms.map(|term| term.to_string())));
        }
    }
    let (class, generation, digest) = (row.class, row.generation, row.lsdb_digest);
    let set = match &row.operator_route {
        Some(OperatorRow { nodes, obstacle: Some(obstacle) }) => {
            format!("set by an operator and not taken: {} ({obstacle})\n", nodes.join(" "))
        }
        _ => String::new(),
    };
    let head = format!("class {class}, routes {generation}, link-state database {digest}");
    format!("{head}\n{set}\n{paths}\n{hops}")
}
