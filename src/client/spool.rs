//! A file on its way from a peer to the directory.
//!
//! A small file waits in memory until it is committed, so that the next call goes out at once and one thread alone works
//! in the directory. A larger one goes into a partial file as it comes. When enough of it is there to be worth resuming,
//! and its peer knows parts, the partial file gets a name by which it is found again, and others may help with it.

use std::{
    io::{self, Write},
    mem,
    os::unix::fs::FileExt,
    sync::{Arc, atomic::AtomicBool},
    time::{Instant, SystemTime},
};

use crate::{
    download_dir::{Claim, ClaimedFile, DownloadDir, PartialFile},
    error::CallError,
    peer_client::DownloadSink,
    progress::FileProgress,
};

use super::{
    blocks::{self, Blocks},
    large_file::{LargeFile, LargeFiles},
    queue::Task,
};

/// The most bytes of a file that waits in memory. At most two batches wait, which makes 2 MiB.
const MAX_IN_MEMORY: usize = 16 << 10;

/// From this many bytes on a file is worth resuming.
pub(super) const MIN_RESUMABLE: u64 = 1 << 20;

/// What has come of a file. Nothing of it is in the directory before more bytes came than may wait in memory, so a
/// refusal leaves nothing there.
pub(super) struct SpooledDownload<'a> {
    dir: &'a DownloadDir,
    pub(super) task: Task,
    began: Instant,
    progress: Arc<FileProgress>,
    in_memory: Vec<u8>,
    in_file: Option<PartialFile>,
    /// Where the next byte goes.
    position: u64,
    /// What the peer told of it.
    length: Option<u64>,
    modified: Option<SystemTime>,
    version: Option<String>,
    /// Where files go with which others may help.
    files: Arc<LargeFiles>,
    large: Option<Arc<LargeFile>>,
    /// Set to end the call that brings it: somebody else has brought what it is to bring.
    pub(super) is_over: Arc<AtomicBool>,
    end: Option<StreamEnd>,
    /// Whether it is a partial file as it was found.
    is_untouched: bool,
    /// How many bytes of it were here before this run.
    pub(super) here: u64,
    /// The room that it may take.
    claim: Arc<Claim>,
    /// The most bytes that it may have, and whether more came.
    most: u64,
    is_too_long: bool,
}

/// Why the main stream was ended from this side.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum StreamEnd {
    /// The next block is not free.
    Met,
    /// What comes is another state of the file.
    Changed,
}

impl<'a> SpooledDownload<'a> {
    pub(super) fn new(
        dir: &'a DownloadDir,
        task: Task,
        claim: &Arc<Claim>,
        progress: FileProgress,
        files: &Arc<LargeFiles>,
    ) -> Self {
        let most = task.size.filter(|_| claim.is_limited()).unwrap_or(claim.most());
        Self {
            dir,
            task,
            began: Instant::now(),
            progress: Arc::new(progress),
            in_memory: Vec::new(),
            in_file: None,
            position: 0,
            length: None,
            modified: None,
            version: None,
            files: Arc::clone(files),
            large: None,
            is_over: Arc::default(),
            end: None,
            is_untouched: false,
            here: 0,
            claim: Arc::clone(claim),
            most,
            is_too_long: false,
        }
    }

    /// Shows that so much is here.
    pub(super) fn show(&self, bytes: u64) {
        self.progress.raise(bytes);
    }

    /// Goes on with a partial file.
    pub(super) fn set_partial(&mut self, partial: PartialFile) {
        self.position = partial.data().iter().map(|range| range.end - range.start).sum();
        self.in_file = Some(partial);
        self.is_untouched = true;
    }

    /// Whether it is a partial file as it was found.
    pub(super) fn is_untouched(&self) -> bool {
        self.is_untouched
    }

    /// What is in a file of it.
    pub(super) fn partial(&self) -> Option<&PartialFile> {
        self.in_file.as_ref()
    }

    /// Gives up the partial file that was found.
    pub(super) fn take_partial(&mut self) -> Option<PartialFile> {
        self.in_file.take()
    }

    /// Begins anew.
    pub(super) fn restart(&mut self) -> io::Result<()> {
        self.position = 0;
        self.is_untouched = false;
        self.partial().map_or(Ok(()), |partial| partial.file().set_len(0))?;
        self.claim.restart()
    }

    /// The file as those who help see it.
    pub(super) fn large(&self) -> Option<&Arc<LargeFile>> {
        self.large.as_ref()
    }

    /// Goes on with these blocks of the state that the peer calls `version`.
    pub(super) fn set_blocks(&mut self, version: &str, blocks: Blocks) -> io::Result<()> {
        self.close();
        self.is_untouched = false;
        self.check_length(blocks.size())?;
        let Some(partial) = &self.in_file else { return Ok(()) };
        self.show(blocks.done_bytes());
        let (file, progress) = (ClaimedFile::new(partial.file().try_clone()?, &self.claim), Arc::clone(&self.progress));
        self.large = Some(self.files.add(self.task.clone(), version.to_owned(), file, progress, self.began, blocks));
        Ok(())
    }

    /// Goes on at this byte of the main stream, with a call that the flag ends.
    pub(super) fn seek(&mut self, position: u64, is_over: &Arc<AtomicBool>) {
        self.position = position;
        self.version = None;
        self.end = None;
        self.is_over = Arc::clone(is_over);
    }

    /// Where the main stream is.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Why the main stream was ended from this side, if it was.
    pub(super) fn end(&self) -> Option<StreamEnd> {
        self.end
    }

    /// Lets nobody help any more.
    pub(super) fn close(&mut self) {
        if let Some(large) = self.large.take() {
            self.files.remove(&large);
        }
    }

    /// The partial file, to be resumed. Of the bytes that count as received these will count again then.
    pub(super) fn into_resumable(mut self, bytes: u64) -> Option<PartialFile> {
        self.become_resumable();
        self.close();
        self.progress.take_back(bytes);
        self.in_file.take()
    }

    /// A partial file with all that has come, and with the time that it had over there.
    pub(super) fn into_partial(mut self) -> io::Result<PartialFile> {
        self.close();
        let partial = self.in_file.take().map_or_else(|| self.dir.create(), Ok)?;
        partial.file().write_all(&self.in_memory)?;
        if let Some(time) = self.modified {
            partial.set_modified(time);
        }
        Ok(partial)
    }

    /// Writes to the partial file; returns how many bytes.
    fn write_to_file(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(partial) = &self.in_file else { return Ok(0) };
        let Some(large) = &self.large else {
            partial.file().write_all_at(bytes, self.position)?;
            self.claim.advance(bytes.len() as u64)?;
            return Ok(bytes.len());
        };
        let is_same = self.version.as_ref() == Some(&large.version);
        let count = if is_same { large.write(bytes, self.position, &self.is_over)? } else { 0 };
        if count == 0 {
            self.end = Some(if is_same { StreamEnd::Met } else { StreamEnd::Changed });
            return Err(io::Error::other("the stream has met what others brought"));
        }
        Ok(count)
    }

    /// Fails where the file is longer than it may be.
    fn check_length(&mut self, length: u64) -> io::Result<()> {
        self.is_too_long = length > self.most;
        if self.is_too_long { Err(io::Error::other("it is longer than it was said to be")) } else { Ok(()) }
    }

    /// Checks what came of a whole file against what it was listed as, where room is kept free: this many bytes came, or
    /// it failed.
    pub(super) fn check(&self, result: Result<u64, CallError>) -> Result<u64, CallError> {
        let is_limited = self.claim.is_limited();
        match result {
            Err(_) if self.is_too_long => {
                Err(CallError::TooLarge("larger than it was listed as, or than half of the room".to_owned()))
            }
            Ok(bytes) if is_limited && self.task.size.is_some_and(|size| size != bytes) => Err(CallError::Changed),
            result => result,
        }
    }

    /// Lets others help if its peer knows parts; else nobody could tell later what this is.
    fn become_large(&mut self) -> io::Result<()> {
        if let Some(length) = self.length.filter(|length| (MIN_RESUMABLE..=blocks::MAX_BYTES).contains(length))
            && let Some(version) = self.version.clone()
        {
            self.set_blocks(&version, Blocks::new(length))?;
            self.large.iter().for_each(|large| large.begin_stream(&self.is_over));
        }
        Ok(())
    }

    /// Gives it the name by which it can be resumed, if it can be.
    fn become_resumable(&mut self) {
        if self.large.is_some()
            && let Some(partial) = self.in_file.take()
        {
            self.in_file = Some(self.dir.make_resumable(&self.task.file_name, partial));
        }
    }
}

impl Drop for SpooledDownload<'_> {
    fn drop(&mut self) {
        self.close();
    }
}

impl Write for SpooledDownload<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.large.is_none() {
            self.check_length(self.position + bytes.len() as u64)?;
        }
        if self.in_file.is_none() && self.in_memory.len() + bytes.len() > MAX_IN_MEMORY {
            let partial = self.in_file.insert(self.dir.create()?);
            partial.file().write_all_at(&mem::take(&mut self.in_memory), 0)?;
        }
        if self.in_file.is_some() && self.large.is_none() {
            self.become_large()?;
        }
        let written = if self.in_file.is_some() { self.write_to_file(bytes)? } else { self.in_memory.write(bytes)? };
        let before = self.position;
        self.position += written as u64;
        self.progress.advance(written);
        if before < MIN_RESUMABLE && self.position >= MIN_RESUMABLE {
            self.become_resumable();
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl DownloadSink for SpooledDownload<'_> {
    fn expect(&mut self, bytes: u64) {
        // The length of a part is not that of the file.
        if self.large.is_none() {
            self.length = Some(bytes);
            self.progress.expect(bytes);
        }
    }

    fn set_modified(&mut self, time: SystemTime) {
        self.modified = Some(time);
    }

    fn set_version(&mut self, version: &str) {
        self.version = Some(version.to_owned());
    }
}
