//! Removes the partial files that nobody needs any more.

use std::{
    collections::BTreeSet,
    fs::{self, DirEntry, Metadata, OpenOptions},
    io,
    os::unix::fs::MetadataExt,
    path::Path,
    time::{Duration, UNIX_EPOCH},
};

use super::{DIGEST_DIGITS, DownloadDir, leads_to, resumable_name};
use crate::{
    file_name::{self, FileName, PARTIAL_PREFIX, PARTIAL_SUFFIX},
    lock::lock,
};

impl DownloadDir {
    /// Removes the partial files that no client will resume: those with random names, those that are old, and those whose
    /// file is there. By the times of their last status changes the file must be the later of the two: a partial file that
    /// is to replace it is later. One that cannot be removed, another user's say, does no harm.
    pub(super) fn remove_stale_partials(&self, max_age: Duration) -> io::Result<()> {
        let mut resumable = BTreeSet::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            let Some(name) = entry.file_name().to_str().map(str::to_owned).filter(|name| file_name::is_partial(name))
            else {
                continue;
            };
            if name.len() == PARTIAL_PREFIX.len() + DIGEST_DIGITS + PARTIAL_SUFFIX.len() && !is_older(&entry, max_age) {
                resumable.insert(name);
            } else {
                let _ = remove_if_abandoned(&entry.path());
            }
        }
        if !resumable.is_empty() {
            for entry in fs::read_dir(&self.path)? {
                let entry = entry?;
                if let Ok(name) = FileName::from_bytes(entry.file_name().as_encoded_bytes())
                    && let Some(partial) = resumable.get(&resumable_name(&name)).cloned()
                    && !is_later(&self.path.join(&partial), &entry).unwrap_or_default()
                {
                    resumable.remove(&partial);
                    let _ = remove_if_abandoned(&self.path.join(partial));
                }
            }
        }
        *lock(&self.resumable) = resumable;
        Ok(())
    }
}

/// Whether a partial file was not touched for so long. By its status: it may have the modification time of its original.
fn is_older(entry: &DirEntry, age: Duration) -> bool {
    let changed = entry.metadata().ok().and_then(|found| u64::try_from(found.ctime()).ok());
    let changed = changed.and_then(|seconds| UNIX_EPOCH.checked_add(Duration::from_secs(seconds)));
    changed.is_some_and(|changed| changed.elapsed().is_ok_and(|since| since > age))
}

/// Whether the status of a file changed after that of an entry: a file has its name since then at the latest.
fn is_later(path: &Path, entry: &DirEntry) -> io::Result<bool> {
    let changed = |found: &Metadata| (found.ctime(), found.ctime_nsec());
    Ok(changed(&path.symlink_metadata()?) > changed(&entry.metadata()?))
}

/// Removes a partial file unless a living client holds its lock.
fn remove_if_abandoned(path: &Path) -> io::Result<()> {
    let metadata = path.symlink_metadata()?;
    if !metadata.is_file() || metadata.nlink() != 1 {
        return Ok(());
    }
    // For writing, because NFS gives exclusive locks to no other.
    let file = OpenOptions::new().write(true).open(path)?;
    if file.try_lock().is_ok() && leads_to(path, &file)? {
        fs::remove_file(path)?;
    }
    Ok(())
}
