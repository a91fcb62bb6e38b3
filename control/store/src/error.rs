use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use hawser_wire::DecodeError;
use redb::{DatabaseError, StorageError};
use thiserror::Error;

/// Why the store could not do what was asked. Each names the file and what to do.
///
/// A write that failed took effect as a whole or not at all; after [`StoreError::Full`] and
/// [`StoreError::Io`] only reading it again tells which. The store goes on with the state that is
/// on disk as soon as the cause is gone.
#[derive(Clone, Debug, Error)]
pub enum StoreError {
    /// Another process (or another [`crate::Store`] of this one) has it open.
    #[error("{} is in use by another process: stop that node, or choose another data directory",
        path.display())]
    InUse {
        /// Data directory or file.
        path: PathBuf,
    },
    /// This user may not read, write or create it.
    #[error("no permission for {} ({cause}): make it readable and writable for this user, or choose another data directory",
        path.display())]
    Permission {
        /// Data directory or file.
        path: PathBuf,
        /// As the system said.
        #[source]
        cause: Arc<io::Error>,
    },
    /// No space is left, or a quota or size limit is reached.
    #[error("no space left for {} ({cause}): free some, then try again", path.display())]
    Full {
        /// The file.
        path: PathBuf,
        /// As the system said.
        #[source]
        cause: Arc<io::Error>,
    },
    /// The file's content cannot be right.
    #[error("{} is corrupt ({detail}): restore it from a copy, or move it away and join the mesh as a new node",
        path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// The file is intact, but not one that this version can use.
    #[error("{} was not written by this version of the node ({detail}): choose another data directory, or run the version that wrote it",
        path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What was found.
        detail: String,
    },
    /// Reading or writing failed for another reason.
    #[error("{}: {cause}", path.display())]
    Io {
        /// Data directory or file.
        path: PathBuf,
        /// As the system said.
        #[source]
        cause: Arc<io::Error>,
    },
    /// Numbers that may never be reused have run out.
    #[error("{}: no {what} left", path.display())]
    Exhausted {
        /// The file.
        path: PathBuf,
        /// Which numbers.
        what: &'static str,
    },
    /// The store's thread has ended; nothing was done.
    #[error("the store is closed")]
    Stopped,
}

impl StoreError {
    /// Sorts a failure of the system by what can be done about it.
    pub(crate) fn from_io(path: PathBuf, cause: io::Error) -> Self {
        use io::ErrorKind as Kind;
        let kind = cause.kind();
        let cause = Arc::new(cause);
        match kind {
            Kind::StorageFull | Kind::QuotaExceeded | Kind::FileTooLarge => {
                Self::Full { path, cause }
            }
            Kind::PermissionDenied | Kind::ReadOnlyFilesystem => Self::Permission { path, cause },
            _ => Self::Io { path, cause },
        }
    }

    /// For failures to open the database.
    pub(crate) fn from_open(path: PathBuf, error: DatabaseError) -> Self {
        match error {
            DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => {
                Self::InUse { path }
            }
            DatabaseError::UpgradeRequired(version) => {
                Self::Foreign { path, detail: format!("file format {version}") }
            }
            // A file that ends within its own structure.
            DatabaseError::Storage(StorageError::Io(cause))
                if matches!(
                    cause.kind(),
                    io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData
                ) =>
            {
                Self::Corrupt { path, detail: cause.to_string() }
            }
            error => Self::from_fault(path, Fault::from(redb::Error::from(error))),
        }
    }

    /// For failures within a transaction.
    pub(crate) fn from_fault(path: PathBuf, fault: Fault) -> Self {
        match fault {
            Fault::Record { what, error } => {
                Self::Corrupt { path, detail: format!("{what}: {error}") }
            }
            Fault::Exhausted(what) => Self::Exhausted { path, what },
            Fault::Database(error) => match *error {
                redb::Error::Io(cause) => Self::from_io(path, cause),
                redb::Error::PreviousIo | redb::Error::DatabaseClosed => {
                    Self::from_io(path, io::Error::other(error.to_string()))
                }
                error => Self::Corrupt { path, detail: error.to_string() },
            },
        }
    }
}

/// Why an operation within a transaction failed.
pub(crate) enum Fault {
    /// The database's doing: it is opened anew before it is used again.
    Database(Box<redb::Error>),
    /// A record cannot be read.
    Record { what: &'static str, error: DecodeError },
    /// See [`StoreError::Exhausted`].
    Exhausted(&'static str),
}

impl<E: Into<redb::Error>> From<E> for Fault {
    fn from(error: E) -> Self {
        Self::Database(Box::new(error.into()))
    }
}
