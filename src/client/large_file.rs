//! A large file on its way: what the job that has its main stream shares with those that help.
//!
//! Invariant: only bytes of the reference's version are written, by the main stream, whose peer is the reference, or as a
//! block of which the reference gave the same digest.

use std::{
    io, mem,
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use super::{
    blocks::{BLOCK_BYTES, Blocks, Claim},
    queue::Task,
};
use crate::{download_dir::ClaimedFile, lock::lock, progress::FileProgress, protocol::Part};

/// How long a file is fetched before others help with it.
const MIN_AGE: Duration = Duration::from_millis(500);

/// Others help with a file when the rest would take longer than the first of these times, and either has this many bytes
/// or would take longer than the second.
const MIN_LEFT_SECONDS: u64 = 1;
const MIN_LEFT_BYTES: u64 = 32 << 20;
const LONG_SECONDS: u64 = 10;

/// With a file that comes so fast, in bytes a second, nobody helps: the disk is no faster.
const MAX_RATE: u64 = 256 << 20;

/// The most blocks that are fetched or checked at once for all files: each is in memory until then.
const MAX_BLOCKS: usize = 12;

/// How many blocks may be checked while every job fetches another.
const BLOCKS_TO_CHECK: usize = 2;

/// How long a wait lasts at most before the state is looked at again: some of what is waited for is time.
pub(super) const TICK: Duration = Duration::from_millis(50);

/// The large files under way.
pub(super) struct LargeFiles {
    files: Mutex<Vec<Arc<LargeFile>>>,
    /// How many more blocks may be fetched.
    blocks_left: AtomicUsize,
    /// The memory of blocks that were fetched: an allocator would keep as much for each thread.
    buffers: Mutex<Vec<Vec<u8>>>,
}

/// A large file under way.
pub(super) struct LargeFile {
    /// The download that it belongs to; its peer is the reference, which sends the main stream.
    pub(super) task: Task,
    /// Which state of the file at the reference is fetched.
    pub(super) version: String,
    file: ClaimedFile,
    progress: Arc<FileProgress>,
    began: Instant,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    blocks: Blocks,
    /// Bytes that came.
    came: u64,
    /// Ends the main stream, while it flows.
    main: Option<Arc<AtomicBool>>,
    is_shared: bool,
    /// Whether nobody may help any more.
    is_closed: bool,
    /// Peers that are not asked for blocks of this file.
    excluded: Vec<usize>,
    /// Why a block could not be written.
    failure: Option<io::Error>,
}

/// A block that one is to help with; when it is dropped unfinished, the block is free again.
pub(super) struct Help {
    files: Arc<LargeFiles>,
    pub(super) file: Arc<LargeFile>,
    pub(super) claim: Claim,
    pub(super) part: Part,
    /// What came of it.
    pub(super) content: Vec<u8>,
}

impl LargeFiles {
    /// None yet; this many jobs will fetch them.
    pub(super) fn new(jobs: usize) -> Self {
        let most = (jobs - 1 + BLOCKS_TO_CHECK).min(MAX_BLOCKS);
        Self { files: Mutex::default(), blocks_left: AtomicUsize::new(most), buffers: Mutex::default() }
    }

    /// Adds a file whose transfer began then, with blocks of which some may be done.
    pub(super) fn add(
        &self,
        task: Task,
        version: String,
        file: ClaimedFile,
        progress: Arc<FileProgress>,
        began: Instant,
        blocks: Blocks,
    ) -> Arc<LargeFile> {
        let (excluded, failure) = (Vec::new(), None);
        let state = State { blocks, came: 0, main: None, is_shared: false, is_closed: false, excluded, failure };
        let (state, changed) = (Mutex::new(state), Condvar::new());
        let file = Arc::new(LargeFile { task, version, file, progress, began, state, changed });
        lock(&self.files).push(Arc::clone(&file));
        file
    }

    /// Ends the help with a file, which does not change any more.
    pub(super) fn remove(&self, file: &Arc<LargeFile>) {
        lock(&self.files).retain(|other| !Arc::ptr_eq(other, file));
        let mut state = lock(&file.state);
        state.is_closed = true;
        state.blocks.end_claims(None);
    }

    pub(super) fn is_empty(&self) -> bool {
        lock(&self.files).is_empty()
    }

    /// The files with which one might help.
    pub(super) fn helpable(&self) -> Vec<Arc<LargeFile>> {
        lock(&self.files).iter().filter(|file| file.is_worth_help()).cloned().collect()
    }

    /// Gives a helper a block of a file, which it is to ask of this peer.
    pub(super) fn claim(self: &Arc<Self>, file: &Arc<LargeFile>, peer: usize) -> Option<Help> {
        let mut state = lock(&file.state);
        if state.is_closed || self.blocks_left.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let claim = state.blocks.claim_last(peer, Instant::now())?;
        state.is_shared = true;
        self.blocks_left.fetch_sub(1, Ordering::Relaxed);
        let part = state.blocks.part(claim.block, 1);
        let new = || Vec::with_capacity(usize::try_from(BLOCK_BYTES).expect("a block is small"));
        let content = lock(&self.buffers).pop().unwrap_or_else(new);
        Some(Help { files: Arc::clone(self), file: Arc::clone(file), claim, part, content })
    }
}

impl LargeFile {
    /// Whether help is worth its cost: two calls for each block.
    fn is_worth_help(&self) -> bool {
        let state = lock(&self.state);
        let elapsed = self.began.elapsed();
        let left = state.blocks.size() - state.blocks.done_bytes();
        let milliseconds = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX).max(1);
        let rate = state.came.saturating_mul(1000) / milliseconds;
        let has_much_left = left >= MIN_LEFT_BYTES.min(rate * LONG_SECONDS).max(rate * MIN_LEFT_SECONDS);
        !state.is_closed && (state.is_shared || elapsed >= MIN_AGE && rate < MAX_RATE && has_much_left)
    }

    /// Whether a peer is not to be asked for blocks: it has something else, or is busy with the main stream.
    pub(super) fn is_excluded(&self, peer: usize) -> bool {
        let state = lock(&self.state);
        state.excluded.contains(&peer) || state.main.is_some() && peer == self.task.peer
    }

    /// Asks a peer no more for blocks of this file; false if that was so before.
    pub(super) fn exclude(&self, peer: usize) -> bool {
        let mut state = lock(&self.state);
        let is_new = !state.excluded.contains(&peer);
        if is_new {
            state.excluded.push(peer);
        }
        is_new
    }

    /// Lets nobody help any more.
    pub(super) fn close(&self) {
        let mut state = lock(&self.state);
        let State { blocks, main, .. } = &mut *state;
        blocks.end_claims(main.as_ref());
        state.is_closed = true;
    }

    /// Ends the main stream, too: its peer has another state of the file by now, so it could not be completed.
    pub(super) fn interrupt(&self) {
        self.close();
        lock(&self.state).main.iter().for_each(|main| main.store(true, Ordering::Relaxed));
    }

    /// Begins the main stream, which claims what it brings with this flag.
    pub(super) fn begin_stream(&self, is_over: &Arc<AtomicBool>) {
        lock(&self.state).main = Some(Arc::clone(is_over));
    }

    /// Ends the main stream, and gives up what it claimed with this flag and did not bring whole.
    pub(super) fn end_stream(&self, is_over: &Arc<AtomicBool>) {
        let mut state = lock(&self.state);
        state.main = None;
        state.blocks.release(is_over);
    }

    /// Writes what the main stream brings, which is claimed with `is_over`, block by block. Returns how much of it was
    /// written; nothing where the next block is not free.
    pub(super) fn write(&self, bytes: &[u8], offset: u64, is_over: &Arc<AtomicBool>) -> io::Result<usize> {
        let block = usize::try_from(offset / BLOCK_BYTES).expect("there are at most 2^20 blocks");
        let mut state = lock(&self.state);
        if let Some(failure) = state.failure.take() {
            return Err(failure);
        }
        let is_ours = block < state.blocks.len()
            && (state.blocks.is_claimed(block, is_over)
                || state.blocks.claim(block, self.task.peer, is_over, Instant::now()));
        if !is_ours {
            return Ok(0);
        }
        let part = state.blocks.part(block, 1);
        drop(state);
        let part_end = part.offset + part.length;
        let count = usize::try_from(part_end.saturating_sub(offset)).expect("a block is small").min(bytes.len());
        self.file.write_all_at(&bytes[..count], offset)?;
        let mut state = lock(&self.state);
        state.came += count as u64;
        if offset + count as u64 == part_end {
            state.blocks.finish(block, is_over, Instant::now());
        }
        Ok(count)
    }

    /// The bytes that the main stream is to fetch next: what nobody fetches, else a block that takes another too long.
    pub(super) fn next_part(&self, is_over: &Arc<AtomicBool>) -> Option<Part> {
        let blocks = &mut lock(&self.state).blocks;
        blocks.first_free().or_else(|| blocks.claim_late(self.task.peer, is_over, Instant::now()))
    }

    /// Whether all of it is here. Fails where a block could not be written.
    pub(super) fn is_whole(&self) -> io::Result<bool> {
        let mut state = lock(&self.state);
        state.failure.take().map_or_else(|| Ok(state.blocks.are_all_done()), Err)
    }

    /// Waits for a change, not for long.
    pub(super) fn wait(&self) {
        let state = lock(&self.state);
        drop(self.changed.wait_timeout(state, TICK).unwrap_or_else(PoisonError::into_inner));
    }

    /// Whether others brought a part of it, or were asked to.
    pub(super) fn is_shared(&self) -> bool {
        lock(&self.state).is_shared
    }

    /// Looks at the blocks.
    pub(super) fn blocks<T>(&self, look: impl FnOnce(&Blocks) -> T) -> T {
        look(&lock(&self.state).blocks)
    }
}

impl Help {
    /// Writes the block, which the reference has too.
    pub(super) fn finish(self) {
        let mut state = lock(&self.file.state);
        if state.is_closed || state.blocks.is_done(self.claim.block) {
            return;
        }
        // Under the lock, so that nothing is written when the file is closed.
        if let Err(error) = self.file.file.write_all_at(&self.content, self.part.offset) {
            state.failure = Some(error);
            state.is_closed = true;
            return;
        }
        state.came += self.content.len() as u64;
        state.blocks.finish(self.claim.block, &self.claim.is_over, Instant::now());
        drop(state);
        self.file.progress.advance(self.content.len());
    }
}

impl Drop for Help {
    fn drop(&mut self) {
        lock(&self.file.state).blocks.release(&self.claim.is_over);
        self.file.changed.notify_all();
        self.content.clear();
        lock(&self.files.buffers).push(mem::take(&mut self.content));
        self.files.blocks_left.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;
    use crate::{file_name::FileName, progress::Progress};

    /// A file of this many bytes under way, and itself.
    fn file_of(bytes: u64) -> (Arc<LargeFiles>, Arc<LargeFile>, File) {
        let file = tempfile::tempfile().unwrap();
        let file_name = FileName::from_bytes(b"film").unwrap();
        let progress = Arc::new(Progress::start().file(&file_name));
        let task = Task { file_name, name_id: 0, source: 0, peer: 0, size: None };
        let files = Arc::new(LargeFiles::new(4));
        let own = ClaimedFile::unlimited(file.try_clone().unwrap());
        let large = files.add(task, "v".to_owned(), own, progress, Instant::now(), Blocks::new(bytes));
        (files, large, file)
    }

    #[test]
    fn the_main_stream_ends_at_what_others_have_and_at_the_end() {
        let (files, large, file) = file_of(2 * BLOCK_BYTES + 5);
        let main = Arc::default();
        large.begin_stream(&main);
        let bytes = vec![1; 2 << 20];
        let write = |offset| large.write(&bytes, offset, &main).unwrap();
        assert_eq!((write(0), write(2 << 20)), (2 << 20, 2 << 20));
        let mut help = files.claim(&large, 1).unwrap();
        assert_eq!((help.claim.block, write(2 * BLOCK_BYTES)), (2, 0), "another has it");
        help.content.extend_from_slice(b"other");
        help.finish();
        let help = files.claim(&large, 1).unwrap();
        assert_eq!((help.claim.block, write(BLOCK_BYTES)), (1, 0), "another has it");
        drop(help);
        assert_eq!((write(BLOCK_BYTES), write(BLOCK_BYTES + (2 << 20))), (2 << 20, 2 << 20));
        assert!(large.is_whole().unwrap() && large.is_shared());
        assert_eq!((write(2 * BLOCK_BYTES), write(2 * BLOCK_BYTES + 5), write(9 * BLOCK_BYTES)), (0, 0, 0));
        assert_eq!(file.metadata().unwrap().len(), 2 * BLOCK_BYTES + 5);
    }

    #[test]
    fn no_byte_comes_after_the_end() {
        let (_files, large, file) = file_of(5);
        let main = Arc::default();
        assert_eq!(large.write(&[1; 9], 0, &main).unwrap(), 5);
        assert_eq!(large.write(&[1; 9], 5, &main).unwrap(), 0);
        assert!(large.is_whole().unwrap());
        assert_eq!(file.metadata().unwrap().len(), 5);
    }

    #[test]
    fn who_helps_with_a_file_that_is_closed_writes_nothing() {
        let (files, large, file) = file_of(2 * BLOCK_BYTES);
        let mut help = files.claim(&large, 1).unwrap();
        files.remove(&large);
        assert!(help.claim.is_over.load(Ordering::Relaxed) && files.claim(&large, 1).is_none() && files.is_empty());
        help.content.extend_from_slice(b"late");
        help.finish();
        assert_eq!(file.metadata().unwrap().len(), 0);
    }

    #[test]
    fn no_more_blocks_are_in_memory_than_jobs_fetch_and_two() {
        let (files, large, _file) = file_of(9 * BLOCK_BYTES);
        let helps: Vec<Help> = (0..9).map_while(|_| files.claim(&large, 1)).collect();
        assert_eq!(helps.len(), 5, "three jobs beside that of the main stream");
        drop(helps);
        assert!(files.claim(&large, 1).is_some());
    }
}
