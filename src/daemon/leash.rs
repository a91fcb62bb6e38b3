//! Ends a node that was started on behalf of another process when that process dies.
//!
//! The other process holds the writing end of this one's standard input. Its death, however it
//! came, closes that end. A byte written before lets the node go on alone. (The kernel's
//! parent-death signal follows the parent's thread, not the process, and misses a parent that died
//! before it was asked for.)

use std::io::Read;

use tokio::sync::oneshot;

use crate::cli::failure::Failure;

/// What lets the node go on when the other process ends.
pub(crate) const RELEASE: &[u8] = b"r";

/// Ready when the other process has died without [`RELEASE`].
///
/// # Errors
/// If no thread can be started.
pub(crate) fn watch_stdin() -> Result<oneshot::Receiver<()>, Failure> {
    let (died, death) = oneshot::channel();
    std::thread::Builder::new()
        .name("leash".to_owned())
        .spawn(move || {
            let mut byte = [0; 1];
            let released = loop {
                match std::io::stdin().read(&mut byte) {
                    Ok(read) => break read > 0,
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                    Err(_closed) => break false,
                }
            };
            if released {
                // The sender must live on: its end would count as a death. A parked thread may
                // wake for no reason.
                loop {
                    std::thread::park();
                }
            }
            let _stopping_already = died.send(());
        })
        .map_err(|error| Failure::plain(format!("cannot start a thread: {error}")))?;
    Ok(death)
}
