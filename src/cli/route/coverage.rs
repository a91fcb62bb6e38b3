//! `hawser route coverage`: how much of the traffic goes on when a link breaks.

use clap::Args;
use hawser_proto::v1::{CoverageReq, NodeCoverage, RouteNode};
use serde::Serialize;

use super::shown;
use crate::cli::client::Target;
use crate::cli::failure::Failure;
use crate::cli::output::Output;
use crate::cli::plan::Class;
use crate::cli::table::{Align, Table};

#[derive(Args, Debug)]
pub(crate) struct CoverageArgs {
    /// Of what each node of the mesh sends, not of what this node sends alone.
    #[arg(long)]
    all: bool,
    /// Whose paths.
    #[arg(long, value_enum, default_value = "bulk")]
    class: Class,
}

#[derive(Serialize)]
struct ReportRow<'a> {
    class: &'a str,
    generation: u64,
    lsdb_digest: &'a str,
    /// Of all nodes together.
    destinations: u64,
    protected: u64,
    share: Option<f64>,
    nodes: Vec<CoverageRow<'a>>,
}

#[derive(Serialize)]
struct CoverageRow<'a> {
    node: &'a str,
    destinations: u64,
    protected: u64,
    /// None without a destination.
    share: Option<f64>,
    unprotected: Vec<UnprotectedRow<'a>>,
    unreachable: Vec<&'a str>,
    #[serde(skip)]
    unreachable_nodes: u64,
}

#[derive(Serialize)]
struct UnprotectedRow<'a> {
    destination: &'a str,
    /// The first one on the path. If it does not end at the destination, there is no way round the
    /// node where it ends.
    link: [&'a str; 2],
    #[serde(skip)]
    ends_there: bool,
}

impl<'a> From<&'a NodeCoverage> for CoverageRow<'a> {
    fn from(found: &'a NodeCoverage) -> Self {
        let named = |node: &'a Option<RouteNode>| node.as_ref().map_or("", shown);
        let node = named(&found.source);
        let at_risk = found.unprotected.iter().map(|risk| UnprotectedRow {
            destination: named(&risk.destination),
            link: [node, named(&risk.neighbour)],
            ends_there: risk.neighbour == risk.destination,
        });
        Self {
            node,
            destinations: found.destinations,
            protected: found.protected,
            share: share(found.protected, found.destinations),
            unprotected: at_risk.collect(),
            unreachable: found.unreachable.iter().map(shown).collect(),
            unreachable_nodes: found.unreachable_nodes,
        }
    }
}

fn share(protected: u64, destinations: u64) -> Option<f64> {
    (destinations > 0).then(|| protected as f64 / destinations as f64)
}

/// # Errors
/// Whatever the node answers.
pub(super) async fn run(args: CoverageArgs, target: Target, out: Output) -> Result<(), Failure> {
    let traffic_class = args.class.name().to_owned();
    let request = CoverageReq { traffic_class, all_nodes: args.all };
    let found = target.mesh().await?.get_coverage(request).await?.into_inner();
    let nodes: Vec<CoverageRow<'_>> = found.nodes.iter().map(CoverageRow::from).collect();
    let (destinations, protected) = nodes.iter().fold((0, 0), |(destinations, protected), node| {
        (destinations + node.destinations, protected + node.protected)
    });
    let row = ReportRow {
        class: &found.traffic_class,
        generation: found.generation,
        lsdb_digest: &found.lsdb_digest,
        destinations,
        protected,
        share: share(protected, destinations),
        nodes,
    };
    out.value(&row, || text_of(&row))
}

/// The shares, then what is not protected or cannot be reached.
fn text_of(row: &ReportRow<'_>) -> String {
    let columns = [
        ("FROM", Align::Left),
        ("DESTINATIONS", Align::Right),
        ("PROTECTED", Align::Right),
        ("SHARE", Align::Right),
    ];
    let percent = |share: Option<f64>| {
        share.map_or_else(|| "-".to_owned(), |share| format!("{:.1} %", share * 100.0))
    };
    let mut shares = Table::new(&columns, "nothing is known of the mesh");
    let counts = |destinations: u64, protected: u64, share: Option<f64>| {
        [destinations.to_string(), protected.to_string(), percent(share)]
    };
    for node in &row.nodes {
        let counts = counts(node.destinations, node.protected, node.share);
        shares.row(std::iter::once(node.node.to_owned()).chain(counts));
    }
    if row.nodes.len() > 1 {
        let counts = counts(row.destinations, row.protected, row.share);
        shares.row(std::iter::once("all".to_owned()).chain(counts));
    }
    let columns = [("FROM", Align::Left), ("TO", Align::Left), ("WHY", Align::Left)];
    let mut gaps = Table::new(&columns, "every destination has a backup");
    let mut listed = 0;
    for node in &row.nodes {
        for risk in &node.unprotected {
            let [near, far] = risk.link;
            let why = if risk.ends_there {
                format!("no way but the link {near} - {far}")
            } else {
                format!("no way round {far}")
            };
            gaps.row([near, risk.destination, &why]);
        }
        for destination in &node.unreachable {
            gaps.row([node.node, destination, "no path"]);
        }
        listed += node.unprotected.len() + node.unreachable.len();
    }
    let gaps_all: u64 = row.destinations - row.protected
        + row.nodes.iter().map(|node| node.unreachable_nodes).sum::<u64>();
    let unlisted = gaps_all.saturating_sub(listed as u64);
    let more = if unlisted > 0 { format!("and {unlisted} more\n") } else { String::new() };
    let (class, generation, digest) = (row.class, row.generation, row.lsdb_digest);
    let head = format!("class {class}, routes {generation}, link-state database {digest}");
    format!("{head}\n\n{shares}\n{gaps}{more}")
}
