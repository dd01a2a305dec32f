//! Reads a shared file as it was at one moment.
//!
//! Invariant: whoever reads a [`SharedFile`] to its end has one state of the file. A file that is changed meanwhile ends
//! in an error before its last bytes.

use std::{
    fs::{self, File, Metadata},
    io::{self, ErrorKind, Read, Seek, SeekFrom},
    os::unix::fs::MetadataExt,
    path::Path,
    thread,
    time::{Duration, SystemTime},
};

use rustix::fs::{Mode, OFlags};

use super::age;
use crate::{digest::version, protocol::Part};

/// How old a file's last change must be before it is read: file systems tell the time in ticks of up to 10 ms, and a
/// second change within one tick could not be seen.
const MIN_CHANGE_AGE: Duration = Duration::from_millis(20);

/// How many times a file that is changed again and again is waited for, [`MIN_CHANGE_AGE`] each.
const MAX_WAITS: usize = 5;

/// What tells one state of a file from another.
///
/// Not the time of the last status change: a link made or removed, another owner or mode leave the content as it is,
/// and a client that publishes by a link would cut who reads at once. So a writer who puts the old modification time
/// back is not seen, nor one who writes through a memory map or one long `write` that began before the reading.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Snapshot {
    size: u64,
    modified: SystemTime,
    /// Device and inode, the same for one opened file whatever befalls it.
    identity: (u64, u64),
}

impl Snapshot {
    fn of(file: &File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        check_regular(&metadata)?;
        let identity = (metadata.dev(), metadata.ino());
        Ok(Self { size: metadata.len(), modified: metadata.modified()?, identity })
    }

    /// Takes a snapshot from which any later change can be told. Waits for a file that was changed just now, and fails
    /// if it is changed again and again.
    fn stable(file: &File) -> io::Result<Self> {
        for _ in 0..MAX_WAITS {
            let now = SystemTime::now();
            let snapshot = Self::of(file)?;
            // A time in the future is no sign of a recent change.
            let age = now.duration_since(snapshot.modified).unwrap_or(MIN_CHANGE_AGE);
            let Some(rest) = MIN_CHANGE_AGE.checked_sub(age).filter(|rest| !rest.is_zero()) else {
                return Ok(snapshot);
            };
            thread::sleep(rest);
        }
        Err(changed())
    }
}

/// A shared file, opened: its first [`size`](Self::size) bytes or a part of them, all of one moment.
///
/// The last bytes are returned only after a look whether the file is still what it was at opening. A file that has
/// shrunk ends in `UnexpectedEof`.
pub(crate) struct SharedFile {
    file: File,
    snapshot: Snapshot,
    /// What of it is read: all, or a part.
    part: Part,
    remaining: u64,
}

impl SharedFile {
    /// Opens a regular file, without waiting for anything else and without disturbing it. Waits for a file that was
    /// changed within [`MIN_CHANGE_AGE`].
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        // Asked first, because opening alone can start a device or wake the writer of a FIFO.
        check_regular(&fs::metadata(path)?)?;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
        let snapshot = Snapshot::stable(&file)?;
        Ok(Self { file, snapshot, part: Part { offset: 0, length: snapshot.size }, remaining: snapshot.size })
    }

    /// Chooses a part, which is cut at the end of the file. Fails if it begins after that.
    pub(crate) fn select(&mut self, part: Part) -> io::Result<()> {
        let rest = self.snapshot.size.checked_sub(part.offset);
        let rest = rest.ok_or_else(|| io::Error::new(ErrorKind::InvalidInput, "the file is shorter than that"))?;
        self.part = Part { length: part.length.min(rest), ..part };
        self.rewind()
    }

    /// The size in bytes at opening.
    pub(crate) fn size(&self) -> u64 {
        self.snapshot.size
    }

    /// How many bytes are read: all, or those of the part.
    pub(crate) fn length(&self) -> u64 {
        self.part.length
    }

    /// When its content was last changed, at opening.
    pub(crate) fn modified(&self) -> SystemTime {
        self.snapshot.modified
    }

    /// Which state of which file this is; see [`version`].
    pub(crate) fn version(&self) -> String {
        let Snapshot { size, modified, identity: (device, inode) } = self.snapshot;
        version(device, inode, size, modified)
    }

    /// The seconds since its content was last changed.
    pub(crate) fn age(&self) -> io::Result<u64> {
        Ok(age(&self.file.metadata()?, SystemTime::now()))
    }

    /// Goes back to where it begins; the file must still be in the state in which it was opened.
    pub(crate) fn rewind(&mut self) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(self.part.offset))?;
        self.remaining = self.part.length;
        Ok(())
    }

    fn check_unchanged(&self) -> io::Result<()> {
        if Snapshot::of(&self.file)? == self.snapshot { Ok(()) } else { Err(changed()) }
    }
}

impl Read for SharedFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = usize::try_from(self.remaining).unwrap_or(usize::MAX).min(buffer.len());
        // What is empty has no last bytes: it is checked when its end is read.
        if room == 0 && self.length() > 0 {
            return Ok(0);
        }
        let count = self.file.read(&mut buffer[..room])?;
        if count == 0 && room > 0 {
            return Err(io::Error::new(ErrorKind::UnexpectedEof, "the file has shrunk"));
        }
        let remaining = self.remaining - count as u64;
        if remaining == 0 {
            self.check_unchanged()?;
        }
        self.remaining = remaining;
        Ok(count)
    }
}

fn check_regular(metadata: &Metadata) -> io::Result<()> {
    if metadata.is_file() {
        Ok(())
    } else if metadata.is_dir() {
        Err(ErrorKind::IsADirectory.into())
    } else {
        Err(io::Error::new(ErrorKind::InvalidInput, "not a regular file"))
    }
}

fn changed() -> io::Error {
    io::Error::other("the file is being changed")
}
