//! The directory that downloads go into: partial files, and how they become files.
//!
//! Invariant: what has a name is whole and was synced before it got the name; nothing that had the name before is
//! followed, replaced or removed, but a regular file that is to be replaced and is still what it was. A partial file has no name where the system has anonymous files, else a random one.
//! One that is worth resuming gets a name that is made of the file's own, by which a later run finds it. A partial file
//! with a name is locked for as long as its client lives, so whatever can be locked was left by a client that ended.

mod anonymous;
mod partial_file;
mod replacement;
mod reserve;
mod stale;

use std::{
    collections::BTreeSet,
    fs::{self, File, Metadata, OpenOptions, TryLockError},
    io::{self, ErrorKind},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, openat, statat},
    process::geteuid,
};
use tempfile::{Builder, NamedTempFile, TempPath};

use self::{anonymous::LinkMethod, reserve::Reserve};
pub(crate) use self::{
    partial_file::{Fingerprint, PartialFile},
    replacement::Existing,
    reserve::{Claim, ClaimedFile},
};
use crate::{
    digest,
    file_name::{FileName, PARTIAL_PREFIX, PARTIAL_SUFFIX},
    lock::lock,
};

/// The most files in one batch to commit. Each holds a descriptor until then, and one batch is collected while another
/// is committed: two of them and the sockets fit into 256 descriptors, the smallest usual limit (macOS).
pub(crate) const MAX_BATCH: usize = 64;

/// How many files of a batch are synced at once: journalling file systems serve several waiting syncs with one commit.
/// More gained nothing on ext4; `syncfs` before them waits for all that other programs have written, too.
const SYNCS_AT_ONCE: usize = 16;

/// How long a sync takes where it waits for a disk; more than starting a thread costs. On file systems in memory a
/// sync is over in a microsecond, and threads for it would cost a fifth of the time that small files take.
const SLOW_SYNC: Duration = Duration::from_micros(100);

/// How long a partial file that is worth resuming is kept.
pub(crate) const DAYS_KEPT: u32 = 7;

/// Hexadecimal digits in the name of a partial file that is worth resuming.
const DIGEST_DIGITS: usize = 32;

/// Random characters in the name of a partial file, of 62 kinds: two clients never meet under one name.
const RANDOM_CHARS: usize = 12;

/// A directory to download into. Any number of them, in one process or several, may work in one directory.
pub(crate) struct DownloadDir {
    /// Absolute, so that creating a file does not ask for the current directory each time.
    path: PathBuf,
    /// The directory itself, for syncing; kept open lest that fail for want of descriptors.
    handle: File,
    /// How anonymous files get a name here, if they can be made at all.
    link_method: Option<LinkMethod>,
    /// Whether the syncs of the last batch waited for a disk.
    syncs_slowly: AtomicBool,
    /// The names of the partial files here that are worth resuming.
    resumable: Mutex<BTreeSet<String>>,
    /// What is to be left free.
    reserve: Option<Arc<Reserve>>,
}

/// What became of a whole file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Committed {
    /// The file is whole under its name, and the name is on the disk.
    Saved,
    /// Something else has the name and stays; ours was dropped.
    AlreadyExists,
    /// What was to be replaced is not what it was, and stays; ours was dropped.
    Changed,
}

/// What has a name in the directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// A regular file, or a link to one.
    File,
    /// Something that is not a file and keeps one from getting the name; the text says what.
    Obstacle(&'static str),
}

impl Entry {
    fn new(file_type: FileType, directory: &'static str, other: &'static str) -> Self {
        match file_type {
            FileType::RegularFile => Self::File,
            FileType::Directory => Self::Obstacle(directory),
            _ => Self::Obstacle(other),
        }
    }
}

impl DownloadDir {
    /// Opens a directory and removes the partial files there that nobody needs any more.
    ///
    /// Fails unless it is a directory that can be read and written: a file is made and removed again to know that.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let mut dir = Self::read_only(path)?;
        dir.remove_stale_partials(Duration::from_secs(u64::from(DAYS_KEPT) * 24 * 60 * 60))?;
        dir.create()?;
        let methods = [LinkMethod::ByDescriptor, LinkMethod::ByProc];
        dir.link_method = methods.into_iter().find(|method| dir.supports(*method));
        Ok(dir)
    }

    /// Opens a directory to look at, and touches nothing in it.
    pub(crate) fn read_only(path: &Path) -> io::Result<Self> {
        // First, because opening what is no directory can block.
        fs::read_dir(path)?;
        let handle = File::open(path)?;
        let path = std::path::absolute(path)?;
        let (syncs_slowly, resumable) = (AtomicBool::default(), Mutex::default());
        Ok(Self { path, handle, link_method: None, syncs_slowly, resumable, reserve: None })
    }

    /// Leaves room on the file system from now on: a twentieth of it, a gibibyte at most.
    pub(crate) fn keep_reserve(&mut self) -> io::Result<()> {
        self.reserve = Some(Reserve::of(&self.handle)?);
        Ok(())
    }

    /// Claims room for a file of this size, if it is known. Fails where a reserve is kept and too little is left.
    pub(crate) fn claim(&self, name: &FileName, size: Option<u64>) -> io::Result<Claim> {
        let Some(reserve) = &self.reserve else { return Ok(Claim::unlimited()) };
        let name = resumable_name(name);
        let here = if lock(&self.resumable).contains(&name) { self.bytes_of(&name) } else { 0 };
        reserve.claim(size, here)
    }

    /// Claims room for this number of bytes of small files.
    pub(crate) fn claim_bytes(&self, bytes: u64) -> io::Result<Claim> {
        self.reserve.as_ref().map_or_else(|| Ok(Claim::unlimited()), |reserve| reserve.claim(Some(bytes), 0))
    }

    /// The bytes that this user may still write on the file system, where that can be known.
    pub(crate) fn room(&self) -> Option<u64> {
        reserve::free_bytes(&self.handle)
    }

    /// The bytes of the partial files here that are worth resuming.
    pub(crate) fn resumable_bytes(&self) -> u64 {
        lock(&self.resumable).iter().map(|name| self.bytes_of(name)).sum()
    }

    /// The bytes that a file takes on the disk.
    fn bytes_of(&self, name: &str) -> u64 {
        fs::symlink_metadata(self.path.join(name)).map_or(0, |found| found.blocks() * 512)
    }

    /// What has the name, if anything has. Nothing is opened, so nothing can block.
    pub(crate) fn entry(&self, name: &FileName) -> Option<Entry> {
        let found = statat(&self.handle, name.as_str(), AtFlags::SYMLINK_NOFOLLOW).ok()?;
        let file_type = FileType::from_raw_mode(found.st_mode);
        if file_type != FileType::Symlink {
            return Some(Entry::new(file_type, "a directory", "a special file"));
        }
        let Ok(target) = statat(&self.handle, name.as_str(), AtFlags::empty()) else {
            return Some(Entry::Obstacle("a broken link"));
        };
        Some(Entry::new(FileType::from_raw_mode(target.st_mode), "a link to a directory", "a link to a special file"))
    }

    /// Makes an empty partial file of the mode that the umask gives. It is anonymous where that can be: then there is
    /// nothing to lock and to clean up, and it costs half.
    pub(crate) fn create(&self) -> io::Result<PartialFile> {
        let Some(method) = self.link_method else {
            return self.make_partial(create_locked).map(PartialFile::Named);
        };
        let file = anonymous::create(&self.handle);
        // In a directory that is gone the system's own error says something else.
        Ok(PartialFile::Anonymous(file.or_else(|error| self.check_unmoved().and(Err(error)))?, method))
    }

    /// Makes a partial file one that is kept and can be resumed, if the name for that can be had.
    pub(crate) fn make_resumable(&self, name: &FileName, partial: PartialFile) -> PartialFile {
        let path = self.path.join(resumable_name(name));
        match partial {
            PartialFile::Anonymous(file, method) => {
                // Before it has the name; nobody else can have the lock.
                let _ = file.try_lock();
                match anonymous::link(&file, method, &self.handle, &path) {
                    Ok(()) => PartialFile::Resumable(named(file, path)),
                    Err(_) => PartialFile::Anonymous(file, method),
                }
            }
            PartialFile::Named(file) => match file.persist_noclobber(&path) {
                Ok(file) => PartialFile::Resumable(named(file, path)),
                Err(refused) => PartialFile::Named(refused.file),
            },
            PartialFile::Resumable(_) => partial,
        }
    }

    /// Keeps a partial file for later; false if it cannot be resumed, and is gone.
    pub(crate) fn keep(&self, name: &FileName, partial: PartialFile) -> bool {
        let PartialFile::Resumable(file) = partial else { return false };
        // Whoever still has a descriptor of it has the lock, too.
        let _ = file.as_file().unlock();
        let is_kept = file.keep().is_ok();
        if is_kept {
            lock(&self.resumable).insert(resumable_name(name));
        }
        is_kept
    }

    /// Opens the partial file of this name that was kept, if there is one which nobody else has and which is ours.
    pub(crate) fn reopen(&self, name: &FileName) -> Option<PartialFile> {
        let mut resumable = lock(&self.resumable);
        if resumable.is_empty() {
            return None;
        }
        let name = resumable_name(name);
        if !resumable.remove(&name) {
            return None;
        }
        let path = self.path.join(&name);
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = File::from(openat(&self.handle, &*name, flags, Mode::empty()).ok()?);
        let metadata = file.metadata().ok()?;
        let is_ours = metadata.is_file() && metadata.nlink() == 1 && metadata.uid() == geteuid().as_raw();
        let is_free = is_ours && file.try_lock().is_ok() && leads_to(&path, &file).is_ok_and(|leads| leads);
        is_free.then(|| PartialFile::Resumable(named(file, path)))
    }

    /// Makes something under a new partial name; it is removed when the result is dropped.
    fn make_partial<T>(&self, make: impl FnMut(&Path) -> io::Result<T>) -> io::Result<NamedTempFile<T>> {
        let mut builder = Builder::new();
        builder.prefix(PARTIAL_PREFIX).suffix(PARTIAL_SUFFIX).rand_bytes(RANDOM_CHARS);
        builder.make_in(&self.path, make)
    }

    /// Whether an anonymous file can be made here and get a name by this method.
    fn supports(&self, method: LinkMethod) -> bool {
        let Ok(file) = anonymous::create(&self.handle) else { return false };
        self.make_partial(|path| anonymous::link(&file, method, &self.handle, path)).is_ok()
    }

    /// Makes a batch durable and visible, each file under a name that is free or in the place of what has it, with a
    /// result for each in the given order.
    ///
    /// The content of all is synced, then each gets its name, then the directory is synced once. A file whose result
    /// is an error is gone, unless only the last step failed: then it is whole under its name, but power loss may
    /// take it. Callers keep to [`MAX_BATCH`].
    pub(crate) fn commit_batch(
        &self,
        batch: Vec<(FileName, PartialFile, Option<Existing>)>,
    ) -> Vec<io::Result<Committed>> {
        for (_, partial, replaced) in &batch {
            if let Some(existing) = replaced {
                existing.give_mode_to(partial);
            }
        }
        let files: Vec<&File> = batch.iter().map(|(_, partial, _)| partial.file()).collect();
        let synced = self.sync_contents(&files);
        let mut results = Vec::with_capacity(batch.len());
        for ((name, partial, replaced), synced) in batch.into_iter().zip(synced) {
            results.push(synced.and_then(|()| match replaced {
                Some(existing) => self.replace(&name, partial, &existing),
                None => self.link(&name, partial),
            }));
        }
        let mut saved = results.iter_mut().filter(|result| matches!(result, Ok(Committed::Saved))).peekable();
        if saved.peek().is_some()
            && let Err(error) = self.sync_names()
        {
            saved.for_each(|result| *result = Err(io::Error::new(error.kind(), error.to_string())));
        }
        results
    }

    /// Gives a synced file its name, where nothing has it.
    fn link(&self, name: &FileName, partial: PartialFile) -> io::Result<Committed> {
        let linked = match partial {
            PartialFile::Anonymous(file, method) => {
                anonymous::link(&file, method, &self.handle, Path::new(name.as_str()))
            }
            PartialFile::Named(file) | PartialFile::Resumable(file) => {
                file.persist_noclobber(self.path.join(name.as_str())).map(drop).map_err(|refused| refused.error)
            }
        };
        match linked {
            Ok(()) => Ok(Committed::Saved),
            Err(refused) if refused.kind() == ErrorKind::AlreadyExists => Ok(Committed::AlreadyExists),
            Err(refused) => Err(refused),
        }
    }

    /// Syncs the content of all files, several at once if the disk is slow, with a result for each.
    fn sync_contents(&self, files: &[&File]) -> Vec<io::Result<()>> {
        let threads = if self.syncs_slowly.load(Ordering::Relaxed) { SYNCS_AT_ONCE } else { 1 };
        let sync = |files: &[&File]| files.iter().map(|file| file.sync_data()).collect::<Vec<_>>();
        thread::scope(|scope| {
            let mut chunks = files.chunks(files.len().div_ceil(threads).max(1));
            let own = chunks.next().unwrap_or_default();
            let spawn = |chunk| (chunk, thread::Builder::new().spawn_scoped(scope, move || sync(chunk)));
            let others: Vec<_> = chunks.map(spawn).collect();
            let start = Instant::now();
            let mut results = sync(own);
            let mean = start.elapsed() / u32::try_from(own.len()).unwrap_or(u32::MAX).max(1);
            self.syncs_slowly.store(mean > SLOW_SYNC, Ordering::Relaxed);
            for (chunk, thread) in others {
                // Where no thread was to be had, this one does the work.
                results
                    .extend(thread.map_or_else(|_| sync(chunk), |thread| thread.join().expect("syncing panics not")));
            }
            results
        })
    }

    /// Syncs the directory, and with it all names that files got.
    fn sync_names(&self) -> io::Result<()> {
        self.check_unmoved()?;
        match self.handle.sync_all() {
            // Some network and FUSE file systems know no sync of directories; there is nothing to wait for then.
            Err(error) if matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported) => Ok(()),
            synced => synced,
        }
    }

    /// Fails if the directory is no longer where it was.
    fn check_unmoved(&self) -> io::Result<()> {
        if is_same(&fs::metadata(&self.path)?, &self.handle.metadata()?) {
            Ok(())
        } else {
            Err(io::Error::new(ErrorKind::NotFound, "the directory was replaced"))
        }
    }
}

/// The name of the partial file of this name that can be resumed.
fn resumable_name(name: &FileName) -> String {
    let digest = digest::sha256(name.as_str().as_bytes(), u64::MAX).expect("bytes in memory can be read");
    format!("{PARTIAL_PREFIX}{}{PARTIAL_SUFFIX}", &digest[..DIGEST_DIGITS])
}

fn named(file: File, path: PathBuf) -> NamedTempFile {
    NamedTempFile::from_parts(file, TempPath::try_from_path(path).expect("the path is absolute"))
}

/// Makes a partial file and locks it; "already exists", which asks for another name, when another client removed it
/// between the two.
fn create_locked(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
    let ours = match file.try_lock() {
        Ok(()) => leads_to(path, &file),
        Err(TryLockError::WouldBlock) => Ok(false),
        // A file system without locks: nobody can remove it there either.
        Err(TryLockError::Error(_)) => Ok(true),
    };
    match ours {
        Ok(true) => Ok(file),
        Ok(false) => {
            // Where the other client has not yet removed it, this does.
            let _ = fs::remove_file(path);
            Err(ErrorKind::AlreadyExists.into())
        }
        Err(error) => {
            let _ = fs::remove_file(path);
            Err(error)
        }
    }
}

/// Whether `path` itself, not what it may link to, is `file`: between opening and locking it may have been removed or
/// have got its final name.
fn leads_to(path: &Path, file: &File) -> io::Result<bool> {
    let held = file.metadata()?;
    match path.symlink_metadata() {
        Ok(found) => Ok(is_same(&found, &held)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn is_same(one: &Metadata, other: &Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

#[cfg(test)]
mod tests;
