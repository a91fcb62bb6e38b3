//! How a command fails: an exit code that scripts can rely on, and a sentence for people.

use std::error::Error;
use std::fmt;
use std::io;

use hawser_proto::client::ConnectError;
use tonic::{Code, Status};

/// Exit code of the process. The numbers are documented in `docs/cli.md` and stay.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// It worked.
    Ok = 0,
    /// The node, or this command, failed.
    Failure = 1,
    /// The command line makes no sense. clap uses the same number.
    Usage = 2,
    /// No such node, stream, file.
    NotFound = 3,
    /// No daemon at the socket, or the peer cannot be reached.
    Unreachable = 4,
    /// Token, identity or permission refused.
    Refused = 5,
    /// Something was lost, came twice or differs.
    Loss = 6,
    /// The configuration is wrong.
    Config = 7,
}

/// Why a command ends: what, where, and what to do, in one text of one or more lines.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    pub(crate) message: String,
    /// The reader of standard output went away: nothing is to be said about it.
    pub(crate) quiet: bool,
    /// The connection to the node broke, which [`Self::of_node`] names.
    lost_connection: bool,
}

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), quiet: false, lost_connection: false }
    }

    pub(crate) fn plain(message: impl Into<String>) -> Self {
        Self::new(Exit::Failure, message)
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    pub(crate) fn config(message: impl Into<String>) -> Self {
        Self::new(Exit::Config, message)
    }

    /// A file or directory that cannot be used. `action` completes "cannot …".
    pub(crate) fn file(action: &str, path: impl fmt::Display, error: &io::Error) -> Self {
        let exit = match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Exit::NotFound,
            io::ErrorKind::PermissionDenied => Exit::Refused,
            _ => Exit::Failure,
        };
        Self::new(exit, format!("cannot {action} {path}: {error}"))
    }

    /// Standard output cannot be written. A reader that went away ends the command quietly and
    /// well, as `head` expects.
    pub(crate) fn stdout(error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self { quiet: true, ..Self::new(Exit::Ok, "") };
        }
        Self::plain(format!("cannot write to standard output: {error}"))
    }

    /// The same failure, said to have happened at `place`.
    pub(crate) fn at(mut self, place: impl fmt::Display) -> Self {
        if !self.quiet {
            self.message = format!("{place}: {}", self.message);
        }
        self
    }

    /// The same failure; if the connection broke, it was the one to `node`.
    pub(crate) fn of_node(self, node: impl fmt::Display) -> Self {
        if self.lost_connection { self.at(node) } else { self }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// Whether `status` says that the connection broke. Nodes that answer give no source: one that has
/// a source was made at this end, and of HTTP/2's own errors only those are `Unknown`, `Cancelled`
/// or `Unavailable` that come of a connection that ended.
fn is_lost_connection(status: &Status) -> bool {
    match status.code() {
        Code::Unavailable => status.message().is_empty() || status.source().is_some(),
        Code::Unknown | Code::Cancelled => status.source().is_some(),
        _ => false,
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        if is_lost_connection(&status) {
            let message = "the connection to the node was lost; see whether it still runs";
            return Self { lost_connection: true, ..Self::new(Exit::Unreachable, message) };
        }
        let exit = match status.code() {
            Code::NotFound => Exit::NotFound,
            Code::InvalidArgument => Exit::Usage,
            Code::Unavailable => Exit::Unreachable,
            Code::PermissionDenied | Code::Unauthenticated => Exit::Refused,
            _ => Exit::Failure,
        };
        let message = match (status.code(), status.message()) {
            (code, "") => format!("the node answered: {code}"),
            (_, message) => message.to_owned(),
        };
        Self::new(exit, message)
    }
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        let hint = match error.io().map(io::Error::kind) {
            Some(io::ErrorKind::PermissionDenied) => {
                return Self::new(
                    Exit::Refused,
                    format!("{error}\nthe socket belongs to the node's user: run as that user"),
                );
            }
            Some(io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
                "no node runs there; start one with `hawser node run`, or name another with \
                 --data-dir or --socket"
            }
            _ => {
                "see whether the node runs and answers, or name another with --data-dir or \
                  --socket"
            }
        };
        Self::new(Exit::Unreachable, format!("{error}\n{hint}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_left_is_no_failure() {
        let failure = Failure::stdout(&io::Error::from(io::ErrorKind::BrokenPipe));
        assert!(failure.quiet);
        assert_eq!(failure.exit, Exit::Ok);
        assert_eq!(
            Failure::stdout(&io::Error::from(io::ErrorKind::StorageFull)).exit,
            Exit::Failure
        );
    }

    #[test]
    fn status_codes_become_exit_codes() {
        for (status, exit) in [
            (Status::not_found("x"), Exit::NotFound),
            (Status::unavailable("x"), Exit::Unreachable),
            (Status::permission_denied("x"), Exit::Refused),
            (Status::unauthenticated("x"), Exit::Refused),
            (Status::invalid_argument("x"), Exit::Usage),
            (Status::failed_precondition("x"), Exit::Failure),
        ] {
            assert_eq!(Failure::from(status).exit, exit);
        }
    }

    #[test]
    fn a_connection_that_breaks_is_told_from_an_answer() {
        let socket = "/run/api.sock";
        let broken = Status::from_error(Box::new(io::Error::from(io::ErrorKind::ConnectionReset)));
        let failure = Failure::from(broken).of_node(socket);
        assert_eq!(failure.exit, Exit::Unreachable);
        assert!(failure.message.starts_with("/run/api.sock: the connection"), "{failure}");

        let failure = Failure::from(Status::unknown("as the node says")).of_node(socket);
        assert_eq!((failure.exit, &*failure.message), (Exit::Failure, "as the node says"));
    }
}
