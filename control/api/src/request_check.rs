//! Checks that several RPCs share, and the words of their refusals.

use tonic::Status;

/// Longest name of a producer or consumer, in bytes.
const LABEL_BYTES_MAX: usize = 128;

/// The name that stands for an empty one.
pub(crate) fn or_default(name: &str) -> &str {
    if name.is_empty() { "default" } else { name }
}

/// Checks the name of a producer or consumer.
pub(crate) fn check_label(what: &str, name: &str) -> Result<(), Status> {
    let allowed = |byte: u8| byte.is_ascii_graphic();
    if name.len() <= LABEL_BYTES_MAX && name.bytes().all(allowed) {
        return Ok(());
    }
    Err(Status::invalid_argument(format!(
        "{what} {name:?} is not allowed: 1 to {LABEL_BYTES_MAX} visible ASCII characters"
    )))
}

/// Says that an RPC belongs to a later version, and what it needs.
pub(crate) fn not_yet<T>(what: &str, needs: &str) -> Result<T, Status> {
    Err(Status::unimplemented(format!("{what} is not in this version: it needs {needs}")))
}
