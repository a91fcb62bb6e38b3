//! `hawser route`: the paths that a node uses, those that operators set, and why others are not used.

use clap::{Args, Subcommand};
use hawser_proto::v1::operator_route::Obstacle;
use hawser_proto::v1::{
    AddRouteReq, DropRouteReq, ListRoutesReq, OperatorRoute, RouteList, RouteNode, RouteStatus,
};
use serde::Serialize;

use super::client::Target;
use super::failure::Failure;
use super::output::Output;
use super::plan::Class;
use super::table::{Align, Table};

mod coverage;
mod drill;
mod explain;
mod message;

#[derive(Debug, Subcommand)]
pub(crate) enum RouteCommand {
    /// List the paths that this node uses, and those that operators have set.
    Ls(ListArgs),
    /// Set the path that this node's traffic to another node takes before any that is computed. While a
    /// link of it is not there, paths are taken as if none were set. It holds over restarts.
    Add(AddArgs),
    /// Drop the path that `route add` has set.
    Drop(DropArgs),
    /// Show the best paths between two nodes, what each costs, and why it is not the first; with
    /// --message which way a message went.
    Explain(explain::ExplainArgs),
    /// Show how much of the traffic goes on when a link breaks: to which share of the destinations there
    /// is a backup, and to which there is none.
    Coverage(coverage::CoverageArgs),
    /// Cut a link of this node for a while, measure what becomes of traffic to its far end, and restore
    /// it. The node restores it also if this command ends before.
    Drill(drill::DrillArgs),
}

#[derive(Args, Debug)]
pub(crate) struct ListArgs {
    /// Only those to this node, by name or id.
    destination: Option<String>,
    /// Whose paths.
    #[arg(long, value_enum, default_value = "bulk")]
    class: Class,
}

#[derive(Args, Debug)]
pub(crate) struct AddArgs {
    /// Where the path leads: a node by name or id.
    #[arg(value_name = "DST")]
    destination: String,
    /// The nodes between, in order, each with a link to the next [default: none, the link to DST]
    #[arg(long, value_name = "NODE", value_delimiter = ',')]
    via: Vec<String>,
}

#[derive(Args, Debug)]
pub(crate) struct DropArgs {
    /// Where the path leads: a node by name or id.
    #[arg(value_name = "DST")]
    destination: String,
}

#[derive(Serialize)]
struct RouteRow<'a> {
    destination: &'a str,
    destination_name: &'a str,
    /// None, as the cost, of a path that is not taken.
    path_id: Option<u32>,
    cost: Option<u64>,
    weight: u32,
    disjoint: bool,
    operator: bool,
    /// Why what an operator has set is not taken.
    obstacle: Option<String>,
    nodes: Vec<&'a str>,
}

impl<'a> From<&'a RouteStatus> for RouteRow<'a> {
    fn from(route: &'a RouteStatus) -> Self {
        Self {
            destination: &route.destination,
            destination_name: &route.destination_name,
            path_id: Some(route.path_id),
            cost: Some(route.cost),
            weight: route.weight,
            disjoint: route.disjoint,
            operator: route.operator,
            obstacle: None,
            nodes: route.nodes.iter().map(shown).collect(),
        }
    }
}

impl<'a> RouteRow<'a> {
    /// A path that an operator has set and that is not taken at present.
    fn not_taken(route: &'a OperatorRoute) -> Option<Self> {
        Some(Self {
            destination: &route.destination,
            destination_name: &route.destination_name,
            path_id: None,
            cost: None,
            weight: 0,
            disjoint: false,
            operator: true,
            obstacle: Some(obstacle_of(route)?),
            nodes: route.nodes.iter().map(shown).collect(),
        })
    }

    const fn shown_destination(&self) -> &'a str {
        if self.destination_name.is_empty() { self.destination } else { self.destination_name }
    }

    fn cells(&self) -> [String; 7] {
        let number = |number: Option<u64>| number.map_or_else(|| "-".to_owned(), |n| n.to_string());
        let operator = match &self.obstacle {
            Some(obstacle) => format!("not taken: {obstacle}"),
            None if self.operator => "yes".to_owned(),
            None => "-".to_owned(),
        };
        [
            self.shown_destination().to_owned(),
            number(self.path_id.map(u64::from)),
            number(self.cost),
            self.weight.to_string(),
            if self.disjoint { "yes" } else { "-" }.to_owned(),
            operator,
            self.nodes.join(" "),
        ]
    }
}

/// Why a path that an operator has set is not taken, for people; `None` if it is.
fn obstacle_of(route: &OperatorRoute) -> Option<String> {
    Some(match route.obstacle.as_ref()? {
        Obstacle::NoLink(link) => {
            let end = |node: &Option<RouteNode>| {
                node.as_ref().map(|node| shown(node).to_owned()).unwrap_or_default()
            };
            format!("no link {} - {}", end(&link.from), end(&link.to))
        }
        Obstacle::NoTransit(node) => format!("{} is no transit", shown(node)),
    })
}

/// A node's name, or its id if it has none that is known.
fn shown(node: &RouteNode) -> &str {
    if node.name.is_empty() { &node.node_id } else { &node.name }
}

/// # Errors
/// Whatever the node answers; that nothing is found, if no path leads from the one node to the other.
pub(crate) async fn run(command: RouteCommand, target: Target, out: Output) -> Result<(), Failure> {
    match command {
        RouteCommand::Ls(ListArgs { destination, class }) => {
            list(destination.unwrap_or_default(), class, &target, out).await
        }
        RouteCommand::Add(AddArgs { destination: to, via }) => {
            let request = AddRouteReq { from: String::new(), to: to.clone(), via };
            target.mesh().await?.add_route(request).await?;
            list(to, Class::Bulk, &target, out).await
        }
        RouteCommand::Drop(DropArgs { destination: to }) => {
            let request = DropRouteReq { from: String::new(), to: to.clone() };
            target.mesh().await?.drop_route(request).await?;
            // It may be an id of a node that is gone.
            match list(to, Class::Bulk, &target, out).await {
                Err(failure) if failure.exit == super::failure::Exit::NotFound => {
                    list(String::new(), Class::Bulk, &target, out).await
                }
                listed => listed,
            }
        }
        RouteCommand::Explain(args) => explain::run(args, target, out).await,
        RouteCommand::Coverage(args) => coverage::run(args, target, out).await,
        RouteCommand::Drill(args) => drill::run(args, target, out).await,
    }
}

/// In the order of destinations as they are printed; paths to one stay in theirs.
fn rows_of(routes: &RouteList) -> Vec<RouteRow<'_>> {
    let mut rows: Vec<RouteRow<'_>> = routes.routes.iter().map(RouteRow::from).collect();
    rows.sort_by_key(RouteRow::shown_destination);
    let mut not_taken: Vec<_> =
        routes.operator_routes.iter().filter_map(RouteRow::not_taken).collect();
    not_taken.sort_by_key(RouteRow::shown_destination);
    rows.extend(not_taken);
    rows
}

/// The paths to one node, or to all if none is named: those that are used, by destination the best one
/// first, then those that are set and not taken.
async fn list(
    destination: String,
    class: Class,
    target: &Target,
    out: Output,
) -> Result<(), Failure> {
    let request = ListRoutesReq { traffic_class: class.name().to_owned(), destination };
    let routes = target.mesh().await?.list_routes(request).await?.into_inner();
    let rows = rows_of(&routes);
    out.rows(&rows, || {
        let columns = [
            ("DESTINATION", Align::Left),
            ("PATH", Align::Right),
            ("COST", Align::Right),
            ("WEIGHT", Align::Right),
            ("DISJOINT", Align::Left),
            ("OPERATOR", Align::Left),
            ("NODES", Align::Left),
        ];
        let mut table = Table::new(&columns, "no routes");
        for row in &rows {
            table.row(row.cells());
        }
        table
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_are_in_the_order_of_what_is_printed() {
        let route = |id: &str, name: &str, path_id| RouteStatus {
            destination: id.to_owned(),
            destination_name: name.to_owned(),
            path_id,
            ..RouteStatus::default()
        };
        let routes = vec![
            route("ida", "d", 7),
            route("ida", "d", 2),
            route("idb", "", 3),
            route("idz", "b", 9),
        ];
        let routes = RouteList { routes, ..RouteList::default() };
        let rows = rows_of(&routes);
        let shown: Vec<_> = rows.iter().map(|row| (row.shown_destination(), row.path_id)).collect();
        assert_eq!(shown, [("b", Some(9)), ("d", Some(7)), ("d", Some(2)), ("idb", Some(3))]);
    }
}
