//! The shared directory: which of its files are shared, and their content.
//!
//! Invariant: only regular files directly in the directory are shared, symbolic links to them included, and only under
//! names that every peer takes. Errors name no path, for strangers see them.
//!
//! A file that may not be read is left out of listings once that is known: from the count at start, or from an opening
//! that failed. A listing asks for the permission of no other file: that takes longer than to read their names.

mod file;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeSet,
    ffi::OsString,
    fs::{self, DirEntry, Metadata},
    io::{self, ErrorKind},
    os::unix::{
        ffi::OsStrExt,
        fs::{MetadataExt, PermissionsExt},
    },
    path::{Path, PathBuf},
    sync::Mutex,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rustix::fs::{Access, access};

pub(crate) use self::file::SharedFile;
use crate::{
    file_name::{FileName, InvalidFileName},
    lock::lock,
    protocol::IndexEntry,
};

/// How many unreadable files are remembered from failed openings: where nothing can be opened, callers may name
/// whatever they like.
const MAX_FAILED_OPENINGS: usize = 10_000;

/// Everybody's permission to read.
const READ_BITS: u32 = 0o444;

/// A directory whose files are shared.
pub(crate) struct SharedDir {
    path: PathBuf,
    /// Files that could not be read when they were last tried.
    unreadable: Mutex<BTreeSet<FileName>>,
}

/// How much a directory shares, for the message at start.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Statistics {
    /// Shared files.
    pub(crate) files: u64,
    /// The sum of their sizes in bytes.
    pub(crate) bytes: u64,
    /// Shared files whose names begin with a dot.
    pub(crate) hidden: u64,
    /// Files that are not shared because no peer would take their names, and why; partial downloads are not counted.
    pub(crate) refused: Vec<(OsString, InvalidFileName)>,
    /// Files that are not shared because this user may not read them.
    pub(crate) unreadable: Vec<FileName>,
    /// Directories in it, which are not shared.
    pub(crate) directories: u64,
}

impl SharedDir {
    /// Opens a directory. Fails unless it can be read now; later it may vanish and come back.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        fs::read_dir(path)?;
        Ok(Self { path: path.to_owned(), unreadable: Mutex::default() })
    }

    /// Lists the names of the shared files that are `wanted`, sorted.
    pub(crate) fn list(&self, wanted: &dyn Fn(&str) -> bool) -> io::Result<Vec<FileName>> {
        let mut names = Vec::new();
        self.scan(wanted, &mut |name, _| names.push(name))?;
        names.sort_unstable();
        Ok(names)
    }

    /// Lists the shared files that are `wanted`, sorted by name, with their sizes and ages. Unlike [`list`](Self::list)
    /// it reads the metadata of each.
    pub(crate) fn index(&self, wanted: &dyn Fn(&str) -> bool) -> io::Result<Vec<IndexEntry<FileName>>> {
        let now = SystemTime::now();
        let mut entries = Vec::new();
        self.scan(wanted, &mut |name, entry| {
            // What vanished meanwhile is shared no more.
            if let Ok(metadata) = metadata(entry) {
                entries.push(IndexEntry { size: metadata.len(), age: age(&metadata, now), name });
            }
        })?;
        entries.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        Ok(entries)
    }

    /// Hands over the shared files that are `wanted`, in the order of the directory.
    fn scan(&self, wanted: &dyn Fn(&str) -> bool, each: &mut dyn FnMut(FileName, &DirEntry)) -> io::Result<()> {
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            if let Ok(name) = FileName::from_bytes(entry.file_name().as_bytes())
                && wanted(name.as_str())
                && is_shareable(&entry)
                && !self.is_known_unreadable(&name)
            {
                each(name, &entry);
            }
        }
        Ok(())
    }

    /// Opens a shared file; see [`SharedFile`] for what its reader may rely on.
    pub(crate) fn open_file(&self, name: &FileName) -> io::Result<SharedFile> {
        SharedFile::open(&self.path_of(name)).inspect_err(|error| {
            let mut unreadable = lock(&self.unreadable);
            if error.kind() == ErrorKind::PermissionDenied && unreadable.len() < MAX_FAILED_OPENINGS {
                unreadable.insert(name.clone());
            }
        })
    }

    fn path_of(&self, name: &FileName) -> PathBuf {
        self.path.join(name.as_str())
    }

    /// Whether a file could not be read when it was last tried, and still cannot.
    fn is_known_unreadable(&self, name: &FileName) -> bool {
        let mut unreadable = lock(&self.unreadable);
        if !unreadable.contains(name) {
            return false;
        }
        let is_readable = access(self.path_of(name), Access::READ_OK).is_ok();
        if is_readable {
            unreadable.remove(name);
        }
        !is_readable
    }

    /// Counts what is shared. Unlike a listing this reads the metadata of every file, and so learns which of them may
    /// not be read.
    pub(crate) fn statistics(&self) -> io::Result<Statistics> {
        let mut statistics = Statistics::default();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            let metadata = metadata(&entry);
            let is_file = match &metadata {
                Ok(metadata) => {
                    statistics.directories += u64::from(metadata.is_dir());
                    metadata.is_file()
                }
                // What lies in a directory that may be read and not entered.
                Err(error) => error.kind() == ErrorKind::PermissionDenied && is_shareable(&entry),
            };
            if !is_file {
                continue;
            }
            let name = match FileName::from_bytes(entry.file_name().as_bytes()) {
                Ok(name) => name,
                Err(InvalidFileName::Partial) => continue,
                Err(reason) => {
                    statistics.refused.push((entry.file_name(), reason));
                    continue;
                }
            };
            match metadata {
                Ok(metadata) if self.is_readable(&name, &metadata) => {
                    statistics.files += 1;
                    statistics.bytes += metadata.len();
                    statistics.hidden += u64::from(name.as_str().starts_with('.'));
                }
                _ => statistics.unreadable.push(name),
            }
        }
        lock(&self.unreadable).extend(statistics.unreadable.iter().cloned());
        Ok(statistics)
    }

    /// Whether a file may be read. One that everybody may read need not be asked for.
    fn is_readable(&self, name: &FileName, metadata: &Metadata) -> bool {
        let mode = metadata.permissions().mode();
        mode & READ_BITS == READ_BITS || access(self.path_of(name), Access::READ_OK).is_ok()
    }
}

/// The seconds since the content of a file was last changed: by its modification time, or where that lies ahead by the
/// time of its last status change.
fn age(metadata: &Metadata, now: SystemTime) -> u64 {
    let modified = metadata.modified().ok().and_then(|modified| now.duration_since(modified).ok());
    let status_changed = || {
        let since = Duration::new(u64::try_from(metadata.ctime()).ok()?, 0);
        now.duration_since(UNIX_EPOCH.checked_add(since)?).ok()
    };
    modified.or_else(status_changed).map_or(0, |age| age.as_secs())
}

/// Whether an entry is a regular file or a symbolic link to one. Most file systems tell without reading its metadata.
fn is_shareable(entry: &DirEntry) -> bool {
    let Ok(file_type) = entry.file_type() else { return false };
    file_type.is_file() || file_type.is_symlink() && metadata(entry).is_ok_and(|target| target.is_file())
}

/// The metadata of an entry, or of what it links to.
fn metadata(entry: &DirEntry) -> io::Result<Metadata> {
    // An entry's own metadata need no walk along the path, but show a link as a link.
    if entry.file_type()?.is_symlink() { fs::metadata(entry.path()) } else { entry.metadata() }
}
