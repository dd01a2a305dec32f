//! A file that is not whole yet: under which name, and where there is data in it.

use std::{
    fs::{File, Metadata},
    io::{self, Read, Seek, SeekFrom},
    ops::Range,
    os::unix::fs::MetadataExt,
    time::SystemTime,
};

use rustix::fs::{SeekFrom as Extent, seek};
use tempfile::NamedTempFile;

use super::anonymous::LinkMethod;

/// Device, inode, size, and the times of the last change of the content and of the status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fingerprint(u64, u64, u64, (i64, i64), (i64, i64));

impl Fingerprint {
    pub(super) fn of(found: &Metadata) -> Self {
        let modified = (found.mtime(), found.mtime_nsec());
        Self(found.dev(), found.ino(), found.len(), modified, (found.ctime(), found.ctime_nsec()))
    }
}

/// A file that is not whole yet. Dropped, it is gone.
pub(crate) enum PartialFile {
    /// With a random name.
    Named(NamedTempFile),
    Anonymous(File, LinkMethod),
    /// With a name that is made of the file's own; only this can be [kept](super::DownloadDir::keep).
    Resumable(NamedTempFile),
}

impl PartialFile {
    /// Sets the modification time. A time that the file system cannot keep is no reason to lose the file.
    pub(crate) fn set_modified(&self, time: SystemTime) {
        let _ = self.file().set_modified(time);
    }

    /// The file itself: not through `NamedTempFile`, which would put the path into every error.
    pub(crate) fn file(&self) -> &File {
        match self {
            Self::Named(file) | Self::Resumable(file) => file.as_file(),
            Self::Anonymous(file, _) => file,
        }
    }

    /// What changes whenever somebody writes to it.
    pub(crate) fn fingerprint(&self) -> io::Result<Fingerprint> {
        Ok(Fingerprint::of(&self.file().metadata()?))
    }

    /// Where there is data in it. A file system that does not know has data everywhere.
    pub(crate) fn data(&self) -> Vec<Range<u64>> {
        let file = self.file();
        let mut ranges = Vec::new();
        let mut position = 0;
        while let Ok(start) = seek(file, Extent::Data(position))
            && let Ok(end) = seek(file, Extent::Hole(start))
        {
            ranges.push(start..end);
            position = end;
        }
        if let (0, Ok(metadata)) = (position, file.metadata())
            && metadata.blocks() > 0
        {
            ranges.push(0..metadata.len());
        }
        ranges
    }

    /// Reads from here on.
    pub(crate) fn read_from(&self, offset: u64) -> io::Result<impl Read> {
        let mut file = self.file();
        file.seek(SeekFrom::Start(offset))?;
        Ok(file)
    }
}
