//! `hawser demo`.

use crate::cli::failure::Failure;
use crate::cli::output::Output;
#[derive(clap::Args, Debug)]
pub(crate) struct DemoArgs {}
pub(crate) fn run(_a: DemoArgs, _o: Output) -> Result<(), Failure> {
    Ok(())
}
