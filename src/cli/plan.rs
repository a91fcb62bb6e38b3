//! `hawser plan`: paths in a mesh, of a file or of a running node, and what would be lost with some of
//! it.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use hawser_routing::{
    GraphError, K_MAX, PlannedPath, Topology, plan_impact, plan_node_disjoint, plan_paths,
};
use hawser_wire::TrafficClass;
use serde::Serialize;

use super::client::Target;
use super::failure::{Exit, Failure};
use super::output::Output;
use super::runtime::ask;
use super::table::{Align, Table};
use mesh::PlanMesh;

mod live;
mod mesh;
mod topology_file;

#[derive(Args, Debug)]
pub(crate) struct PlanArgs {
    /// The mesh, as JSON.
    #[arg(long, value_name = "FILE", required_unless_present = "live", conflicts_with = "live")]
    topology: Option<PathBuf>,
    /// The mesh as a running node knows it.
    #[arg(long)]
    live: bool,
    /// Print the mesh, as it is or with what --cut and --drain take away, as a topology file.
    #[arg(long, conflicts_with_all = ["from", "to", "k", "node_disjoint"])]
    export: bool,
    /// Where the paths begin.
    #[arg(long, value_name = "NODE", requires = "to")]
    from: Option<String>,
    /// Where the paths end.
    #[arg(long, value_name = "NODE", requires = "from")]
    to: Option<String>,
    /// How many paths.
    #[arg(short, long = "paths", value_name = "K", default_value_t = 4, requires = "from",
        value_parser = clap::value_parser!(u16).range(1..=K_MAX as i64))]
    k: u16,
    /// Also two paths that share no node but their ends, if there are such.
    #[arg(long, requires = "from")]
    node_disjoint: bool,
    /// Whose weights count.
    #[arg(long, value_enum, default_value = "bulk")]
    class: Class,
    /// Without this link; repeatable.
    #[arg(long, value_name = "A,B")]
    cut: Vec<String>,
    /// With this node no longer carrying what is not its own; repeatable.
    #[arg(long, value_name = "NODE")]
    drain: Vec<String>,
}

/// A traffic class, as an argument.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Class {
    Control,
    Priority,
    Bulk,
}

impl Class {
    /// As the API names it.
    pub(crate) fn name(self) -> &'static str {
        TrafficClass::from(self).name()
    }
}

impl From<Class> for TrafficClass {
    fn from(class: Class) -> Self {
        match class {
            Class::Control => Self::Control,
            Class::Priority => Self::Priority,
            Class::Bulk => Self::Bulk,
        }
    }
}

#[derive(Serialize)]
struct PathRow<'a> {
    nodes: Vec<&'a str>,
    cost: u64,
}

#[derive(Serialize)]
struct PathsRow<'a> {
    paths: Vec<PathRow<'a>>,
    /// None, or two.
    disjoint: Vec<PathRow<'a>>,
    /// None, or two, if they are asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    node_disjoint: Option<Vec<PathRow<'a>>>,
    /// Of the node's routes; a file has 0.
    generation: u64,
}

type IdPair<'a> = [&'a str; 2];

#[derive(Serialize)]
struct ImpactRow<'a> {
    unreachable: Vec<IdPair<'a>>,
    unprotected: Vec<IdPair<'a>>,
    overloaded: Option<Vec<IdPair<'a>>>,
}

/// The topology that a file describes.
///
/// # Errors
/// If it cannot be read or does not describe one: says what is wrong with it.
pub(super) fn read_topology(path: &Path) -> Result<Topology, Failure> {
    topology_file::read(path).map(|mesh| mesh.topology)
}

/// # Errors
/// [`Exit::NotFound`] if there is no such node, link or path; [`Exit::Unreachable`] if a cut or a
/// drained node takes something away; whatever the node answers.
pub(crate) fn run(
    args: &PlanArgs,
    target: impl FnOnce() -> Result<Target, Failure>,
    out: Output,
) -> Result<(), Failure> {
    let mesh = match &args.topology {
        Some(path) => topology_file::read(path)?,
        None => ask(target()?, |node| async move { live::fetch(&node).await })?,
    };
    let mut changed = mesh.topology.clone();
    for link in &args.cut {
        let (a, b) = mesh.pair(link)?;
        // The same link may be named twice.
        if !changed.cut(a, b) && mesh.topology.metrics(a, b).is_none() {
            let (a, b) = (mesh.id(a), mesh.id(b));
            return Err(Failure::new(Exit::NotFound, format!("there is no link {a:?} - {b:?}")));
        }
    }
    for node in &args.drain {
        changed.drain(mesh.node(node)?);
    }
    if args.export {
        let exported = mesh.file(&changed);
        return out.value(&exported, || format!("{exported:#}\n"));
    }
    match (&args.from, &args.to) {
        (Some(from), Some(to)) => paths(&mesh, &changed, (from, to), args, out),
        _ if args.cut.is_empty() && args.drain.is_empty() => Err(Failure::usage(
            "nothing is asked: name two nodes with --from and --to, or a change with --cut or --drain, \
             or --export",
        )),
        _ => impact(&mesh, &changed, args.class.into(), out),
    }
}

fn paths(
    mesh: &PlanMesh,
    topology: &Topology,
    (from, to): (&str, &str),
    args: &PlanArgs,
    out: Output,
) -> Result<(), Failure> {
    let ends = (mesh.node(from)?, mesh.node(to)?);
    if ends.0 == ends.1 {
        return Err(Failure::usage(format!("{from:?} is both ends: no path leads there")));
    }
    let class = args.class.into();
    let plan = plan_paths(topology, class, ends, args.k.into()).map_err(too_large)?;
    let by_node = (args.node_disjoint)
        .then(|| plan_node_disjoint(topology, class, ends).map_err(too_large))
        .transpose()?;
    let path = |path: &PlannedPath| PathRow {
        nodes: path.nodes.iter().map(|&node| mesh.id(node)).collect(),
        cost: path.cost,
    };
    let row = PathsRow {
        paths: plan.paths.iter().map(path).collect(),
        disjoint: plan.disjoint.iter().flatten().map(path).collect(),
        node_disjoint: by_node.map(|pair| pair.iter().flatten().map(path).collect()),
        generation: mesh.generation,
    };
    out.value(&row, || {
        let columns = [("PATH", Align::Left), ("COST", Align::Right), ("NODES", Align::Left)];
        let mut table = Table::new(&columns, "no path");
        for (number, path) in (1..).zip(&row.paths) {
            table.row([number.to_string(), path.cost.to_string(), path.nodes.join(" ")]);
        }
        let by_link = row.disjoint.iter().map(|path| ("disjoint", path));
        let by_node = row.node_disjoint.iter().flatten().map(|path| ("node-disjoint", path));
        for (what, path) in by_link.chain(by_node) {
            table.row([what.to_owned(), path.cost.to_string(), path.nodes.join(" ")]);
        }
        table.to_string()
    })?;
    if row.paths.is_empty() {
        return Err(Failure::new(Exit::NotFound, format!("no path from {from:?} to {to:?}")));
    }
    Ok(())
}

fn impact(
    mesh: &PlanMesh,
    changed: &Topology,
    class: TrafficClass,
    out: Output,
) -> Result<(), Failure> {
    let demands = mesh.demands.as_deref();
    let impact = plan_impact(&mesh.topology, changed, class, demands).map_err(too_large)?;
    let row = ImpactRow {
        unreachable: in_order(mesh.named(&impact.unreachable).map(ordered)),
        unprotected: in_order(mesh.named(&impact.unprotected).map(ordered)),
        overloaded: impact.overloaded.as_deref().map(|arcs| in_order(mesh.named(arcs))),
    };
    out.value(&row, || {
        let columns = [("WHAT", Align::Left), ("A", Align::Left), ("B", Align::Left)];
        let mut table = Table::new(&columns, "nothing is lost");
        let overloaded = row.overloaded.iter().flatten();
        for (what, [a, b]) in (row.unreachable.iter().map(|pair| ("unreachable", pair)))
            .chain(row.unprotected.iter().map(|pair| ("unprotected", pair)))
            .chain(overloaded.map(|pair| ("overloaded", pair)))
        {
            table.row([what, a, b]);
        }
        table.to_string()
    })?;
    if impact.is_none() {
        return Ok(());
    }
    let overloaded = row.overloaded.as_ref().map_or(0, Vec::len);
    let (unreachable, unprotected) = (row.unreachable.len(), row.unprotected.len());
    Err(Failure::new(
        Exit::Unreachable,
        format!(
            "{unreachable} pairs of nodes become unreachable, {unprotected} unprotected; \
             {overloaded} links overloaded"
        ),
    ))
}

/// A pair without a direction.
fn ordered<'a>([a, b]: IdPair<'a>) -> IdPair<'a> {
    if a <= b { [a, b] } else { [b, a] }
}

/// Pairs in the order of what is printed: nodes of a live mesh are numbered by ids that nobody sees.
fn in_order<'a>(pairs: impl Iterator<Item = IdPair<'a>>) -> Vec<IdPair<'a>> {
    let mut pairs: Vec<_> = pairs.collect();
    pairs.sort_unstable();
    pairs
}

/// Every node that a command names has been found: only the size is left.
fn too_large(error: GraphError) -> Failure {
    Failure::plain(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_in_the_order_of_what_is_printed() {
        let pairs = [["d", "b"], ["a", "c"], ["b", "a"]];
        let undirected = in_order(pairs.into_iter().map(ordered));
        assert_eq!(undirected, [["a", "b"], ["a", "c"], ["b", "d"]]);
        assert_eq!(in_order(pairs.into_iter()), [["a", "c"], ["b", "a"], ["d", "b"]]);
    }
}
