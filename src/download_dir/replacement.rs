//! A file that stands under a name, and what takes its place.

use std::{
    fs::{self, File, Permissions},
    io::{self, ErrorKind},
    os::unix::fs::{MetadataExt, PermissionsExt},
    time::{SystemTime, UNIX_EPOCH},
};

use rustix::fs::{Mode, OFlags, openat};
use tempfile::NamedTempFile;

use super::{Committed, DownloadDir, Fingerprint, PartialFile, anonymous};
use crate::file_name::FileName;

/// The permissions that a file which takes the place of another has from it: all but those to run as its owner.
const KEPT_MODE: u32 = 0o777;

/// A regular file that is here, or a link to one, as it was when it was looked at.
#[derive(Clone, Debug)]
pub(crate) struct Existing {
    /// In bytes.
    pub(crate) size: u64,
    /// When its content was last changed, in seconds since 1970; where that lies ahead, when its status was.
    pub(crate) modified: u32,
    pub(crate) is_link: bool,
    mode: u32,
    fingerprint: Fingerprint,
}

impl Existing {
    /// Gives a file that is to replace it its permissions.
    pub(super) fn give_mode_to(&self, partial: &PartialFile) {
        // Where that cannot be, it has those that the umask gives.
        let _ = partial.file().set_permissions(Permissions::from_mode(self.mode));
    }
}

impl DownloadDir {
    /// The file that has a name.
    pub(crate) fn existing(&self, name: &FileName) -> Option<Existing> {
        let path = self.path.join(name.as_str());
        let mut found = fs::symlink_metadata(&path).ok()?;
        let is_link = found.is_symlink();
        if is_link {
            found = fs::metadata(path).ok()?;
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let seconds = |time| u64::try_from(time).unwrap_or_default();
        let modified = Some(seconds(found.mtime())).filter(|modified| *modified <= now);
        let modified = u32::try_from(modified.unwrap_or_else(|| seconds(found.ctime()))).unwrap_or(u32::MAX);
        let (size, mode, fingerprint) = (found.len(), found.mode() & KEPT_MODE, Fingerprint::of(&found));
        found.is_file().then_some(Existing { size, modified, is_link, mode, fingerprint })
    }

    /// Opens a file that is here, and no link.
    pub(crate) fn open_existing(&self, name: &FileName) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        Ok(File::from(openat(&self.handle, name.as_str(), flags, Mode::empty())?))
    }

    /// Puts a synced file in the place of another, which is still what it was, or vanished.
    pub(super) fn replace(&self, name: &FileName, partial: PartialFile, existing: &Existing) -> io::Result<Committed> {
        let partial = match partial {
            PartialFile::Anonymous(file, method) => {
                // Before it has a name; nobody else can have the lock.
                let _ = file.try_lock();
                let named = self.make_partial(|path| anonymous::link(&file, method, &self.handle, path))?;
                let path = named.into_temp_path();
                NamedTempFile::from_parts(file, path)
            }
            PartialFile::Named(file) | PartialFile::Resumable(file) => file,
        };
        let path = self.path.join(name.as_str());
        match fs::symlink_metadata(&path) {
            Ok(found) if Fingerprint::of(&found) == existing.fingerprint => {
                partial.persist(path).map_err(|refused| refused.error)?;
                Ok(Committed::Saved)
            }
            Ok(_) => Ok(Committed::Changed),
            Err(error) if error.kind() == ErrorKind::NotFound => self.link(name, PartialFile::Named(partial)),
            Err(error) => Err(error),
        }
    }
}
