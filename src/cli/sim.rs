//! `hawser sim`.

mod link;
mod mesh;
mod mesh_faults;
mod mesh_keys;

use clap::Subcommand;
use hawser_sim::Failure as Finding;

use super::failure::{Exit, Failure};
use super::output::{self, Output};

#[derive(Debug, Subcommand)]
pub(crate) enum SimCommand {
    /// Runs nodes, links and streams in virtual time, with faults, and checks that nothing is lost,
    /// repeated or reordered, that queues empty and that control passes.
    Link(link::LinkArgs),
    /// Runs whole meshes in virtual time: membership, flooding and path computation of up to 10,000
    /// nodes, while links are cut, nodes killed and the mesh parted.
    Mesh(mesh::MeshArgs),
}

/// # Errors
/// A name that no world has, arguments that make no sense, a file that cannot be read;
/// [`Exit::Loss`] if a property did not hold.
pub(crate) fn run(command: SimCommand, out: Output) -> Result<(), Failure> {
    match command {
        SimCommand::Link(args) => link::run(&args, out),
        SimCommand::Mesh(args) => mesh::run(&args, out),
    }
}

/// Says what did not hold, what came before it, and how to see it again.
fn show(finding: &Finding, again: &str) -> Failure {
    output::say("the last events before the violation:");
    for event in &finding.recent {
        output::say(&format!("  {event}"));
    }
    Failure::new(Exit::Loss, format!("{finding}\nsee it again: {again}"))
}
