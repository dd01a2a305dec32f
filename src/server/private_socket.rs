//! Makes the private sockets over which `tiny_http` is reached, in the directory for temporary files.
//!
//! A private socket has a path only while a backend is opened: there is nothing that a cleaner of temporary files could
//! take away, and next to nothing that a killed server leaves there. What one left all the same, the next that starts
//! removes: a server of another system, of version 0.1, or one that was killed in that short moment.

use std::{
    env,
    fs::{self, DirBuilder, DirEntry},
    io::{self, ErrorKind},
    os::unix::{
        ffi::OsStrExt,
        fs::{DirBuilderExt, FileTypeExt, MetadataExt},
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::process::geteuid;
use socket2::{Domain, SockAddr, Socket, Type};

/// How the name of a private directory begins.
const DIRECTORY_PREFIX: &str = "tinyp2p-";

/// How many letters and digits follow it: 6 in version 0.1, and 16.
const SUFFIX_LENGTHS: [usize; 2] = [6, 16];

/// The name of a private socket.
const SOCKET: &str = "http";

/// How the names of the sockets of version 0.1 began.
const OLD_SOCKET_PREFIX: &str = "line-";

/// How old a directory must be to be removed: another server may be making its socket at this moment.
const MIN_STALE_AGE: Duration = Duration::from_secs(60);

/// The longest path of a private socket in bytes: the system's limit is 104 on macOS and 108 on Linux.
const MAX_PATH_BYTES: usize = 100;

/// How often a private socket is tried for which a cleaner of temporary files was too quick.
const SOCKET_ATTEMPTS: usize = 100;

/// A directory that only this user may enter, for one socket. Removed with it when this is dropped.
pub(super) struct PrivateDir(PathBuf);

impl PrivateDir {
    fn create() -> io::Result<Self> {
        let path = env::temp_dir().join(format!("{DIRECTORY_PREFIX}{:016x}", fastrand::u64(..)));
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }

    fn socket(&self) -> PathBuf {
        self.0.join(SOCKET)
    }

    /// Makes the socket and the only connection to it.
    fn open_socket(&self) -> io::Result<(UnixListener, UnixStream)> {
        let path = self.socket();
        if path.as_os_str().as_bytes().len() > MAX_PATH_BYTES {
            let text = format!("the path of a private socket in it is longer than {MAX_PATH_BYTES} bytes");
            return Err(io::Error::new(ErrorKind::InvalidInput, text));
        }
        Ok((UnixListener::bind(&path)?, UnixStream::connect(&path)?))
    }
}

impl Drop for PrivateDir {
    fn drop(&mut self) {
        // Whoever cleans temporary files may have been quicker.
        let _ = fs::remove_file(self.socket());
        let _ = fs::remove_dir(&self.0);
    }
}

/// Makes a private socket in a directory of its own, once more where that vanishes meanwhile.
pub(super) fn open_private_socket() -> io::Result<(PrivateDir, UnixListener, UnixStream)> {
    let mut attempts = 0;
    loop {
        attempts += 1;
        let directory = PrivateDir::create()?;
        match directory.open_socket() {
            Ok((listener, stream)) => return Ok((directory, listener, stream)),
            Err(error) if error.kind() == ErrorKind::NotFound && attempts < SOCKET_ATTEMPTS => {}
            Err(error) => return Err(error),
        }
    }
}

/// Fails if the directory for temporary files cannot be used for private sockets.
pub(super) fn check_private_socket() -> io::Result<()> {
    open_private_socket().map(drop)
}

/// Removes the private directories that servers of this user left when they were killed. One that is in use, or holds
/// anything but private sockets, stays.
pub(super) fn remove_stale_private_dirs() {
    let Ok(entries) = fs::read_dir(env::temp_dir()) else { return };
    let mut removed = 0;
    for entry in entries.flatten() {
        if is_private_dir(&entry) && remove_if_stale(&entry.path()) {
            removed += 1;
        }
    }
    if removed > 0 {
        log::debug!("removed {removed} temporary directories of servers that were killed");
    }
}

/// Whether an entry of the temporary directory is a private directory of this user, and not of this moment.
fn is_private_dir(entry: &DirEntry) -> bool {
    let name = entry.file_name();
    let Some(suffix) = name.to_str().and_then(|name| name.strip_prefix(DIRECTORY_PREFIX)) else { return false };
    if !SUFFIX_LENGTHS.contains(&suffix.len()) || !suffix.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return false;
    }
    // Of the entry itself: a link is no directory.
    let Ok(metadata) = entry.metadata() else { return false };
    let age = metadata.modified().ok().and_then(|modified| modified.elapsed().ok());
    metadata.is_dir() && metadata.uid() == geteuid().as_raw() && age.is_some_and(|age| age >= MIN_STALE_AGE)
}

/// Removes a private directory unless it is in use. Returns whether it is gone.
fn remove_if_stale(directory: &Path) -> bool {
    let Ok(entries) = fs::read_dir(directory) else { return false };
    let mut sockets = Vec::new();
    for entry in entries {
        let Ok(entry) = entry else { return false };
        if !is_abandoned_socket(&entry) {
            return false;
        }
        sockets.push(entry.path());
    }
    for socket in sockets {
        // What cannot be removed keeps its directory.
        let _ = fs::remove_file(socket);
    }
    fs::remove_dir(directory).is_ok()
}

/// Whether an entry is a private socket on which nobody listens.
fn is_abandoned_socket(entry: &DirEntry) -> bool {
    let name = entry.file_name();
    let has_name = name.to_str().is_some_and(|name| name == SOCKET || name.starts_with(OLD_SOCKET_PREFIX));
    if !has_name || !entry.file_type().is_ok_and(|kind| kind.is_socket()) {
        return false;
    }
    is_refused(&entry.path()).unwrap_or(false)
}

/// Whether a connection to a socket is refused. Does not wait for a server that is busy.
fn is_refused(path: &Path) -> io::Result<bool> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    let outcome = socket.connect(&SockAddr::unix(path)?);
    Ok(outcome.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused))
}
