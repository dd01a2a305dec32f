//! A file on its way from a peer to the directory.
//!
//! A small file waits in memory until it is committed, so that the next call goes out at once and one thread alone works
//! in the directory. A large one goes into a partial file as it comes.

use std::{
    io::{self, Write},
    mem,
    time::SystemTime,
};

use crate::{
    download_dir::{DownloadDir, PartialFile},
    peer_client::DownloadSink,
    progress::FileProgress,
};

/// The most bytes of a file that waits in memory. At most two batches wait, which makes 2 MiB.
const MAX_IN_MEMORY: usize = 16 << 10;

/// What has come of a file. Nothing of it is in the directory before more bytes came than may wait in memory, so a
/// refusal leaves nothing there.
pub(super) struct SpooledDownload<'a> {
    dir: &'a DownloadDir,
    progress: FileProgress,
    in_memory: Vec<u8>,
    in_file: Option<PartialFile>,
    /// When the file was last modified over there.
    modified: Option<SystemTime>,
}

impl<'a> SpooledDownload<'a> {
    pub(super) fn new(dir: &'a DownloadDir, progress: FileProgress) -> Self {
        Self { dir, progress, in_memory: Vec::new(), in_file: None, modified: None }
    }

    /// A partial file with all that has come, and with the time that it had over there.
    pub(super) fn into_partial(self) -> io::Result<PartialFile> {
        let partial = self.in_file.map_or_else(|| self.dir.create_with(&self.in_memory), Ok)?;
        if let Some(time) = self.modified {
            partial.set_modified(time);
        }
        Ok(partial)
    }
}

impl Write for SpooledDownload<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.in_file.is_none() && self.in_memory.len() + bytes.len() > MAX_IN_MEMORY {
            let file = self.in_file.insert(self.dir.create()?);
            file.write_all(&mem::take(&mut self.in_memory))?;
        }
        let written = match &mut self.in_file {
            Some(file) => file.write(bytes)?,
            None => self.in_memory.write(bytes)?,
        };
        self.progress.advance(written);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl DownloadSink for SpooledDownload<'_> {
    fn expect(&mut self, bytes: u64) {
        self.progress.expect(bytes);
    }

    fn set_modified(&mut self, time: SystemTime) {
        self.modified = Some(time);
    }
}
