//! `hawser node`.

use std::path::PathBuf;

use clap::Subcommand;

use super::failure::Failure;
use super::output::Output;

#[derive(Debug, Subcommand)]
pub(crate) enum NodeCommand {
    /// Run the node in the foreground.
    Run,
}

pub(crate) fn run(_c: NodeCommand, _d: Option<PathBuf>, _o: Output) -> Result<(), Failure> {
    Ok(())
}
