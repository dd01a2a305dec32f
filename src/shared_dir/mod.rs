//! The shared directory: which of its files are shared, and their content.
//!
//! Invariant: only regular files directly in the directory are shared, symbolic links to them included, and only under
//! names that every peer takes. Errors name no path, for strangers see them.

mod file;
#[cfg(test)]
mod tests;

use std::{
    fs::{self, DirEntry, Metadata},
    io,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

pub(crate) use self::file::SharedFile;
use crate::file_name::{FileName, InvalidFileName};

/// A directory whose files are shared.
pub(crate) struct SharedDir {
    path: PathBuf,
}

/// How much a directory shares, for the message at start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Statistics {
    /// Shared files.
    pub(crate) files: u64,
    /// The sum of their sizes in bytes.
    pub(crate) bytes: u64,
    /// Shared files whose names begin with a dot.
    pub(crate) hidden: u64,
    /// Files that are not shared because no peer would take their names; partial downloads are not counted.
    pub(crate) refused: u64,
}

impl SharedDir {
    /// Opens a directory. Fails unless it can be read now; later it may vanish and come back.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        fs::read_dir(path)?;
        Ok(Self { path: path.to_owned() })
    }

    /// Lists the names of the shared files that are `wanted`, sorted.
    pub(crate) fn list(&self, wanted: &dyn Fn(&str) -> bool) -> io::Result<Vec<FileName>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            if let Ok(name) = FileName::from_bytes(entry.file_name().as_bytes())
                && wanted(name.as_str())
                && is_shareable(&entry)
            {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Opens a shared file; see [`SharedFile`] for what its reader may rely on.
    pub(crate) fn open_file(&self, name: &FileName) -> io::Result<SharedFile> {
        SharedFile::open(&self.path.join(name.as_str()))
    }

    /// Counts what is shared. Unlike a listing this reads the metadata of every file.
    pub(crate) fn statistics(&self) -> io::Result<Statistics> {
        let mut statistics = Statistics::default();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            let Some(metadata) = metadata(&entry).ok().filter(Metadata::is_file) else { continue };
            match FileName::from_bytes(entry.file_name().as_bytes()) {
                Ok(name) => {
                    statistics.files += 1;
                    statistics.bytes += metadata.len();
                    statistics.hidden += u64::from(name.as_str().starts_with('.'));
                }
                Err(InvalidFileName::Partial) => {}
                Err(_) => statistics.refused += 1,
            }
        }
        Ok(statistics)
    }
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
