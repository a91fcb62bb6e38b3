//! `hawser`: the node daemon and the commands that speak to it.
//!
//! This package wires: `daemon` builds a node process out of the crates, `cli` is the command line,
//! `demo` shows the main job, `tree` carries directories over streams.

mod cli;
mod daemon;
mod demo;
mod tree;

fn main() -> std::process::ExitCode {
    cli::run(std::env::args_os())
}
