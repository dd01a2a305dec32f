//! A file between its call and the directory.
//!
//! A small file waits in memory until the thread that settles comes to it, so that the next call goes out at once and
//! one thread alone works in the directory. A large one goes into a partial file as it comes.

use std::io::{self, Write};

use crate::{
    download_dir::{DownloadDir, PartialFile},
    peer_client::DownloadSink,
    progress::FileProgress,
};

/// The most bytes of a file that waits in memory. At most two batches wait, which makes 2 MiB.
const MAX_IN_MEMORY: usize = 16 << 10;

/// A file that is being fetched. Nothing of it is in the directory before more bytes came than wait in memory, so a
/// refusal leaves nothing there.
pub(super) struct ActiveDownload<'a> {
    arrivals: &'a DownloadDir,
    progress: FileProgress,
    content: SpooledDownload,
}

/// What has come of a file.
pub(super) enum SpooledDownload {
    InMemory(Vec<u8>),
    InFile(PartialFile),
}

impl<'a> ActiveDownload<'a> {
    pub(super) fn new(arrivals: &'a DownloadDir, progress: FileProgress) -> Self {
        Self { arrivals, progress, content: SpooledDownload::InMemory(Vec::new()) }
    }

    /// All that has come.
    pub(super) fn into_spooled(self) -> SpooledDownload {
        self.content
    }
}

impl Write for ActiveDownload<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let SpooledDownload::InMemory(before) = &mut self.content
            && before.len() + bytes.len() > MAX_IN_MEMORY
        {
            let mut partial = self.arrivals.create()?;
            partial.write_all(before)?;
            self.content = SpooledDownload::InFile(partial);
        }
        let written = match &mut self.content {
            SpooledDownload::InMemory(before) => before.write(bytes)?,
            SpooledDownload::InFile(partial) => partial.write(bytes)?,
        };
        self.progress.advance(written);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl DownloadSink for ActiveDownload<'_> {
    fn expect(&mut self, bytes: u64) {
        self.progress.expect(bytes);
    }
}

impl SpooledDownload {
    /// A file with this content that waits for its name.
    pub(super) fn into_partial(self, arrivals: &DownloadDir) -> io::Result<PartialFile> {
        match self {
            Self::InFile(partial) => Ok(partial),
            Self::InMemory(bytes) => arrivals.create_with(&bytes),
        }
    }
}
