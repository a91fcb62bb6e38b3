//! The file and its transactions.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use redb::backends::FileBackend;
use redb::{
    Builder, Database, Durability, ReadTransaction, ReadableDatabase, TableDefinition,
    WriteTransaction,
};

use crate::error::{Fault, StoreError};
use crate::{eviction, lane_rule, member, node, operator_route, peer, stream, token};

/// The file in the data directory.
pub const STATE_FILE: &str = "state.redb";
/// Its name until it is complete.
const STATE_FILE_NEW: &str = "state.redb.new";
/// What a `redb` file begins with.
const MAGIC: &[u8] = b"redb";
/// Version of tables and records; raised when an older node could not read them any more.
const FORMAT: u8 = 1;
/// Memory for pages.
const CACHE_BYTES: usize = 8 << 20;

/// Single values by name.
pub(crate) const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
const META_FORMAT: &str = "format";

/// The embedded store of one node.
///
/// Safe to use from several threads; writes wait for each other and for the disk. After a write
/// failed, the file is opened anew before the next use, so that a full disk does no lasting harm.
#[derive(Debug)]
pub struct Store {
    shared: Arc<Shared>,
    /// Commits need not be on disk when they return: [`Store::sync`] follows.
    deferred: bool,
}

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    /// None from a failure until the next use.
    database: RwLock<Option<Database>>,
    /// How often the database was given up; deferred commits of before are lost.
    given_up: AtomicU64,
    /// Holds the lock on the data directory.
    _directory: File,
}

/// What a write transaction came to.
pub(crate) enum Outcome<R> {
    /// To be committed.
    Changed(R),
    /// Nothing was written.
    Unchanged(R),
}

impl Store {
    /// Opens the store in `data_dir`, making both if they are not there: the directory with mode
    /// 0700, the file with 0600. An existing directory keeps its mode, since it may be shared; an
    /// existing file is closed to others, since it holds the node's key.
    ///
    /// # Errors
    /// [`StoreError`], by what can be done about it; an existing file is not changed.
    pub fn open(data_dir: &Path) -> Result<Self, StoreError> {
        let at = |path: &Path| {
            let path = path.to_path_buf();
            move |cause| StoreError::from_io(path, cause)
        };
        DirBuilder::new().recursive(true).mode(0o700).create(data_dir).map_err(at(data_dir))?;
        let directory = File::open(data_dir).map_err(at(data_dir))?;
        match directory.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(StoreError::InUse { path: data_dir.to_path_buf() });
            }
            Err(TryLockError::Error(cause)) => return Err(at(data_dir)(cause)),
        }
        let path = data_dir.join(STATE_FILE);
        if !path.try_exists().map_err(at(&path))? {
            // Complete under another name first: a crash in between leaves no half file.
            let new = data_dir.join(STATE_FILE_NEW);
            create(&new)?;
            fs::rename(&new, &path).map_err(at(&path))?;
            directory.sync_all().map_err(at(data_dir))?;
        }
        let shared = Shared {
            database: RwLock::new(Some(open(&path)?)),
            path,
            given_up: AtomicU64::new(0),
            _directory: directory,
        };
        Ok(Self { shared: Arc::new(shared), deferred: false })
    }

    /// The same store with commits that are on disk only after [`Store::sync`].
    pub(crate) fn deferred(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), deferred: true }
    }

    /// Where the file is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.shared.path
    }

    /// Counts the failures that lost deferred commits.
    pub(crate) fn given_up(&self) -> u64 {
        self.shared.given_up.load(Ordering::Acquire)
    }

    /// Brings every commit so far to the disk.
    pub(crate) fn sync(&self) -> Result<(), StoreError> {
        self.commit(Durability::Immediate, |_| Ok(Outcome::Changed(())))
    }

    /// Runs `operation` on the newest committed state.
    pub(crate) fn read<R>(
        &self,
        operation: impl FnOnce(&ReadTransaction) -> Result<R, Fault>,
    ) -> Result<R, StoreError> {
        self.with_database(|database| operation(&database.begin_read()?))
    }

    /// Runs `operation` in a write transaction; all of it takes effect or nothing.
    pub(crate) fn write<R>(
        &self,
        operation: impl FnOnce(&WriteTransaction) -> Result<Outcome<R>, Fault>,
    ) -> Result<R, StoreError> {
        let durability = if self.deferred { Durability::None } else { Durability::Immediate };
        self.commit(durability, operation)
    }

    fn commit<R>(
        &self,
        durability: Durability,
        operation: impl FnOnce(&WriteTransaction) -> Result<Outcome<R>, Fault>,
    ) -> Result<R, StoreError> {
        self.with_database(|database| {
            let mut transaction = database.begin_write()?;
            transaction.set_durability(durability)?;
            match operation(&transaction)? {
                Outcome::Changed(result) => {
                    transaction.commit()?;
                    Ok(result)
                }
                Outcome::Unchanged(result) => {
                    transaction.abort()?;
                    Ok(result)
                }
            }
        })
    }

    fn with_database<R>(
        &self,
        operation: impl FnOnce(&Database) -> Result<R, Fault>,
    ) -> Result<R, StoreError> {
        let database = self.database()?;
        let result = match database.as_ref() {
            Some(database) => operation(database),
            None => Err(Fault::from(redb::Error::DatabaseClosed)),
        };
        drop(database);
        result.map_err(|fault| {
            if matches!(fault, Fault::Database(_)) {
                // It refuses everything from now on; closing and opening it repairs it.
                self.shared.given_up.fetch_add(1, Ordering::AcqRel);
                *self.shared.database.write().unwrap_or_else(PoisonError::into_inner) = None;
            }
            StoreError::from_fault(self.shared.path.clone(), fault)
        })
    }

    fn database(&self) -> Result<RwLockReadGuard<'_, Option<Database>>, StoreError> {
        let database = self.shared.database.read().unwrap_or_else(PoisonError::into_inner);
        if database.is_some() {
            return Ok(database);
        }
        drop(database);
        let mut database = self.shared.database.write().unwrap_or_else(PoisonError::into_inner);
        if database.is_none() {
            *database = Some(open(&self.shared.path)?);
        }
        drop(database);
        Ok(self.shared.database.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Makes a complete, empty store at `path`.
fn create(path: &Path) -> Result<(), StoreError> {
    let failed = |cause| StoreError::from_io(path.to_path_buf(), cause);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .map_err(failed)?;
    let database = database(path, file)?;
    let make = || -> Result<(), Fault> {
        let transaction = database.begin_write()?;
        transaction.open_table(META)?.insert(META_FORMAT, [FORMAT].as_slice())?;
        transaction.open_table(node::ADJACENCIES)?;
        transaction.open_table(token::TOKENS)?;
        transaction.open_table(member::MEMBERS)?;
        transaction.open_table(peer::PEERS)?;
        transaction.open_table(operator_route::OPERATOR_ROUTES)?;
        transaction.open_table(lane_rule::LANE_RULES)?;
        transaction.open_table(eviction::EVICTIONS)?;
        transaction.open_table(stream::STREAMS)?;
        transaction.open_table(stream::CONSUMERS)?;
        transaction.commit()?;
        Ok(())
    };
    make().map_err(|fault| StoreError::from_fault(path.to_path_buf(), fault))?;
    database.close().map_err(|error| StoreError::from_open(path.to_path_buf(), error))
}

/// Opens the store at `path` and checks that it is one.
fn open(path: &Path) -> Result<Database, StoreError> {
    let failed = |cause| StoreError::from_io(path.to_path_buf(), cause);
    let mut file = OpenOptions::new().read(true).write(true).open(path).map_err(failed)?;
    let mode = file.metadata().map_err(failed)?.permissions().mode();
    if mode & 0o077 != 0 {
        file.set_permissions(Permissions::from_mode(mode & 0o700)).map_err(failed)?;
    }
    let mut magic = [0; MAGIC.len()];
    match file.read_exact(&mut magic) {
        Ok(()) if magic == MAGIC => {}
        Err(cause) if cause.kind() != io::ErrorKind::UnexpectedEof => return Err(failed(cause)),
        _ => {
            let detail = "it does not begin as a state file does".to_owned();
            return Err(StoreError::Corrupt { path: path.to_path_buf(), detail });
        }
    }
    let database = database(path, file)?;
    let format = || -> Result<Option<u8>, Fault> {
        let transaction = database.begin_read()?;
        let meta = match transaction.open_table(META) {
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
            meta => meta?,
        };
        Ok(meta.get(META_FORMAT)?.and_then(|format| format.value().first().copied()))
    };
    let detail = match format() {
        Ok(Some(FORMAT)) => return Ok(database),
        Ok(Some(format)) => format!("format {format}, not {FORMAT}"),
        Ok(None) => "no format in it".to_owned(),
        Err(fault) => return Err(StoreError::from_fault(path.to_path_buf(), fault)),
    };
    Err(StoreError::Foreign { path: path.to_path_buf(), detail })
}

fn database(path: &Path, file: File) -> Result<Database, StoreError> {
    let failed = |error| StoreError::from_open(path.to_path_buf(), error);
    let backend = FileBackend::new(file).map_err(failed)?;
    Builder::new()
        .set_cache_size(CACHE_BYTES)
        // The file is small. A plain open may panic on one that was damaged.
        .set_check_integrity_on_open(true)
        .create_with_backend(backend)
        .map_err(failed)
}
