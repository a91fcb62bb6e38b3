//! Runs a command's asynchronous part on this thread.

use std::future::Future;

use super::client::Target;
use super::failure::Failure;

/// # Errors
/// The command's own, and that the system refuses what a runtime needs.
pub(crate) fn block_on<T>(future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::plain(format!("cannot start a runtime: {error}")))?
        .block_on(future)
}

/// Runs the part of a command that talks to `target`, whose name stands in what it says of a lost
/// connection.
///
/// # Errors
/// As [`block_on`].
pub(crate) fn ask<T, F>(target: Target, work: impl FnOnce(Target) -> F) -> Result<T, Failure>
where
    F: Future<Output = Result<T, Failure>>,
{
    let node = target.to_string();
    block_on(work(target)).map_err(|failure| failure.of_node(node))
}
