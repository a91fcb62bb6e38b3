use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::{fs, os::unix::ffi::OsStrExt};

use rustix::fs::{Mode, fchmod};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use thiserror::Error;

/// A path in `sockaddr_un` has 108 bytes, the last of which is zero.
const PATH_BYTES_MAX: usize = 107;

/// Connections that the kernel keeps until they are accepted.
const BACKLOG: i32 = 128;

/// Why there is no listening socket. Whatever is at the path is unchanged, unless a stale socket
/// was removed.
#[derive(Debug, Error)]
pub enum BindError {
    /// The system has no room for a path of this length.
    #[error(
        "{}: the path of a unix socket has at most {PATH_BYTES_MAX} bytes, this one has {len_bytes}: \
         choose a shorter data directory",
        path.display()
    )]
    PathTooLong {
        /// As it was to be bound.
        path: PathBuf,
        /// Its length.
        len_bytes: usize,
    },
    /// A process answers there.
    #[error("{}: another node answers here: stop it first, or choose another data directory", path.display())]
    InUse {
        /// Its socket.
        path: PathBuf,
    },
    /// Something that is no socket is in the way.
    #[error("{}: this is no socket: move it away, or choose another data directory", path.display())]
    NoSocket {
        /// Where it is.
        path: PathBuf,
    },
    /// The system refused.
    #[error("{}: {cause}", path.display())]
    Io {
        /// As it was to be bound.
        path: PathBuf,
        /// What it said.
        cause: io::Error,
    },
}

/// A unix socket that is listened on. Its file goes when this is dropped, so that nobody finds a
/// socket on which nobody answers.
#[derive(Debug)]
pub struct BoundSocket {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode of the file. While the socket is open no other file has them.
    file: (u64, u64),
}

impl BoundSocket {
    /// A further handle of the listening socket, to accept from.
    ///
    /// # Errors
    /// If the system has no descriptor left.
    pub fn listener(&self) -> io::Result<UnixListener> {
        self.listener.try_clone()
    }
}

impl Drop for BoundSocket {
    fn drop(&mut self) {
        // Another process may have put its own there, if this one's was moved away.
        if file_at(&self.path).is_ok_and(|file| file == self.file)
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "the socket's file stays");
        }
    }
}

fn file_at(path: &Path) -> io::Result<(u64, u64)> {
    let file = fs::symlink_metadata(path)?;
    Ok((file.dev(), file.ino()))
}

/// Listens on a unix socket at `path` that only this user may open (mode 0600). A socket that
/// nobody answers on any more, left by a process that was killed, is replaced.
///
/// # Errors
/// [`BindError`], naming the path and what to do.
pub fn bind_unix(path: impl AsRef<Path>) -> Result<BoundSocket, BindError> {
    let path = path.as_ref();
    let len_bytes = path.as_os_str().as_bytes().len();
    if len_bytes > PATH_BYTES_MAX {
        return Err(BindError::PathTooLong { path: path.to_owned(), len_bytes });
    }
    let refused = |cause: io::Error| BindError::Io { path: path.to_owned(), cause };
    match listen(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            remove_stale(path)?;
            listen(path).map_err(refused)
        }
        other => other.map_err(refused),
    }
}

/// The mode is set before the socket has a name: between bind and chmod another user could
/// connect, and the umask is the whole process's.
fn listen(path: &Path) -> io::Result<BoundSocket> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    let listener = UnixListener::from(socket);
    let bound = BoundSocket { listener, path: path.to_owned(), file: file_at(path)? };
    rustix::net::listen(&bound.listener, BACKLOG)?;
    Ok(bound)
}

fn remove_stale(path: &Path) -> Result<(), BindError> {
    let refused = |cause: io::Error| BindError::Io { path: path.to_owned(), cause };
    let found = fs::symlink_metadata(path).map_err(refused)?;
    if !found.file_type().is_socket() {
        return Err(BindError::NoSocket { path: path.to_owned() });
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(refused)
        }
        // A backlog that is full refuses in its own way: somebody is there.
        Ok(_) => Err(BindError::InUse { path: path.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            Err(BindError::InUse { path: path.to_owned() })
        }
        Err(error) => Err(refused(error)),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn only_the_owner_may_open_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("api.sock");
        let _listener = bind_unix(&path).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);
    }

    #[test]
    fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("api.sock");
        // Closing a plain listener leaves its file, as a kill does.
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let _second = bind_unix(&path).unwrap();
        assert!(matches!(bind_unix(&path), Err(BindError::InUse { .. })));
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn its_file_goes_with_it_and_no_other_does() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("api.sock");
        let bound = bind_unix(&path).unwrap();
        let accepts = bound.listener().unwrap();
        drop(bound);
        assert!(!path.exists());
        drop(accepts);

        let bound = bind_unix(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let others = UnixListener::bind(&path).unwrap();
        drop(bound);
        UnixStream::connect(&path).unwrap();
        drop(others);
    }

    #[test]
    fn another_file_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("api.sock");
        fs::write(&path, "notes").unwrap();
        assert!(matches!(bind_unix(&path), Err(BindError::NoSocket { .. })));
        assert_eq!(fs::read_to_string(&path).unwrap(), "notes");
    }

    #[test]
    fn a_path_that_is_too_long_is_refused_by_its_length() {
        let dir = tempfile::tempdir().unwrap();
        let stem = dir.path().as_os_str().len() + 1;
        let fits = dir.path().join("s".repeat(PATH_BYTES_MAX - stem));
        let _listener = bind_unix(fits).unwrap();
        let path = dir.path().join("s".repeat(PATH_BYTES_MAX + 1 - stem));
        let error = bind_unix(&path).unwrap_err();
        assert!(matches!(error, BindError::PathTooLong { len_bytes: 108, .. }), "{error}");
    }

    #[test]
    fn a_missing_directory_is_named() {
        let error = bind_unix("/nonexistent/api.sock").unwrap_err();
        assert!(error.to_string().contains("/nonexistent/api.sock"), "{error}");
    }
}
