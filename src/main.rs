//! `hawser`: the node daemon and the commands that speak to it.
//!
//! This package wires: `daemon` builds a node process out of the crates, `cli` is the command line,
//! `demo` shows the main job, `tree` carries directories over streams.

mod cli;
mod daemon;
mod demo;
mod tree;

/// Threads here allocate records that others free: the system's allocator gave their pages back to
/// the kernel and took them again at every turn, a tenth of a node's time at 64 KiB a message.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    cli::run(std::env::args_os())
}
