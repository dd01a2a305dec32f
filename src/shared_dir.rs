//! The shared directory: which of its files are shared, and their content.
//!
//! Invariant: only regular files directly in the directory are shared, symbolic links to them included, and only under
//! names that every peer takes; and whoever reads one to its end has the file as it was at one moment. Errors name no
//! path, for they go to strangers.

use std::{
    fs::{self, DirEntry, File, Metadata},
    io::{self, ErrorKind, Read, Seek},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    thread,
    time::{Duration, SystemTime},
};

use rustix::fs::{Mode, OFlags};

use crate::file_name::{FileName, InvalidFileName};

/// How old a file's last change must be before it is read: file systems tell the time in ticks of up to 10 ms, and a
/// second change within one tick could not be seen.
const SETTLING_TIME: Duration = Duration::from_millis(20);

/// How many settling times a file that is changed again and again is waited for.
const SETTLING_ROUNDS: usize = 5;

/// A directory whose files are shared.
pub(crate) struct SharedDir {
    dir: PathBuf,
}

/// What a share holds, for the message at start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Statistics {
    /// Shared files.
    pub(crate) files: u64,
    /// Their bytes together.
    pub(crate) bytes: u64,
    /// Those of the shared files whose names begin with a dot.
    pub(crate) hidden: u64,
    /// Files that are not shared because no peer would take their names; partial downloads are not counted.
    pub(crate) refused: u64,
}

impl SharedDir {
    /// Fails unless `dir` is a directory that can be read now; later it may vanish and come back.
    pub(crate) fn open(dir: &Path) -> io::Result<Self> {
        fs::read_dir(dir)?;
        Ok(Self { dir: dir.to_owned() })
    }

    /// The names of the shared files that are `wanted`, sorted.
    pub(crate) fn list(&self, wanted: &dyn Fn(&str) -> bool) -> io::Result<Vec<FileName>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
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

    /// Opens a shared file, never waiting for it and never disturbing what is not a regular file.
    ///
    /// A file that was changed within [`SETTLING_TIME`] is waited for.
    pub(crate) fn open_file(&self, name: &FileName) -> io::Result<SharedFile> {
        let path = self.dir.join(name.as_str());
        // Asked first, because opening alone can start a device or wake the writer of a FIFO.
        demand_regular(&fs::metadata(&path)?)?;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = File::from(rustix::fs::open(&path, flags, Mode::empty())?);
        let snapshot = settled_snapshot(&file)?;
        Ok(SharedFile { file, snapshot, remaining: snapshot.size })
    }

    /// Counts what is shared. Unlike a listing this looks at every file.
    pub(crate) fn statistics(&self) -> io::Result<Statistics> {
        let mut statistics = Statistics::default();
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            let Some(found) = look_at(&entry).ok().filter(Metadata::is_file) else { continue };
            match FileName::from_bytes(entry.file_name().as_bytes()) {
                Ok(name) => {
                    statistics.files += 1;
                    statistics.bytes += found.len();
                    statistics.hidden += u64::from(name.as_str().starts_with('.'));
                }
                Err(InvalidFileName::Partial) => {}
                Err(_) => statistics.refused += 1,
            }
        }
        Ok(statistics)
    }
}

/// Whether an entry is a regular file or a symbolic link to one. Most directories tell without a look at the file.
fn is_shareable(entry: &DirEntry) -> bool {
    entry
        .file_type()
        .is_ok_and(|kind| kind.is_file() || kind.is_symlink() && look_at(entry).is_ok_and(|target| target.is_file()))
}

/// What an entry is or links to.
fn look_at(entry: &DirEntry) -> io::Result<Metadata> {
    // An entry's own metadata need no walk along the path, but show a link as a link.
    if entry.file_type()?.is_symlink() { fs::metadata(entry.path()) } else { entry.metadata() }
}

fn demand_regular(found: &Metadata) -> io::Result<()> {
    if found.is_file() {
        Ok(())
    } else if found.is_dir() {
        Err(ErrorKind::IsADirectory.into())
    } else {
        Err(io::Error::new(ErrorKind::InvalidInput, "not a regular file"))
    }
}

/// What tells one state of a file from another.
///
/// Not the time of the last status change: a link made or removed, another owner or mode leave the content as it is,
/// and a client that publishes by a link would cut who reads at once. So a writer who puts the old modification time
/// back is not seen, nor one who writes through a memory map or one long `write` that began before the reading.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Snapshot {
    size: u64,
    modified: SystemTime,
}

impl Snapshot {
    fn of(file: &File) -> io::Result<Self> {
        let found = file.metadata()?;
        demand_regular(&found)?;
        Ok(Self { size: found.len(), modified: found.modified()? })
    }
}

/// The snapshot of a file that rests: any later change shows in its time.
fn settled_snapshot(file: &File) -> io::Result<Snapshot> {
    for _ in 0..SETTLING_ROUNDS {
        let now = SystemTime::now();
        let snapshot = Snapshot::of(file)?;
        // A time that lies ahead is no mark of a recent change.
        let age = now.duration_since(snapshot.modified).unwrap_or(SETTLING_TIME);
        let Some(rest) = SETTLING_TIME.checked_sub(age).filter(|rest| !rest.is_zero()) else {
            return Ok(snapshot);
        };
        thread::sleep(rest);
    }
    Err(changed())
}

fn changed() -> io::Error {
    io::Error::other("the file is being changed")
}

/// A shared file, opened: its first `size()` bytes, all of one moment.
///
/// The last piece is handed out only after a look whether the file is still what it was at opening, so a reader who
/// gets [`size`](Self::size) bytes has no mixture. One that has shrunk ends in `UnexpectedEof`.
pub(crate) struct SharedFile {
    file: File,
    snapshot: Snapshot,
    remaining: u64,
}

impl SharedFile {
    /// The size in bytes at opening; exactly so many are read.
    pub(crate) fn size(&self) -> u64 {
        self.snapshot.size
    }

    /// Begins anew, with the same state of the file demanded.
    pub(crate) fn rewind(&mut self) -> io::Result<()> {
        self.file.rewind()?;
        self.remaining = self.snapshot.size;
        Ok(())
    }
}

impl Read for SharedFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = usize::try_from(self.remaining).unwrap_or(usize::MAX).min(buffer.len());
        if room == 0 {
            // An empty file has no last piece.
            if self.snapshot.size == 0 && Snapshot::of(&self.file)? != self.snapshot {
                return Err(changed());
            }
            return Ok(0);
        }
        let count = self.file.read(&mut buffer[..room])?;
        if count == 0 {
            return Err(io::Error::new(ErrorKind::UnexpectedEof, "the file has shrunk"));
        }
        let remaining = self.remaining - count as u64;
        if remaining == 0 && Snapshot::of(&self.file)? != self.snapshot {
            return Err(changed());
        }
        self.remaining = remaining;
        Ok(count)
    }
}

#[cfg(test)]
mod tests;
