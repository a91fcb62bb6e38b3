//! Runs a command's asynchronous part on this thread.

use std::future::Future;

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
