//! Downloads large files: resumes what is there, shares the rest out among those who have it, and checks the whole.
//!
//! The peer that a file is fetched from is its reference: what others bring counts only when it has the digest that the
//! reference gives. So nobody need be trusted who was not trusted before, and what differs under one name never mixes.

use std::{
    io::{self, Write},
    ops::Range,
    sync::{Arc, atomic::Ordering},
    thread,
    time::{Duration, SystemTime},
};

use super::{
    super::{
        blocks::{self, BLOCK_BYTES, Blocks},
        large_file::{Help, LargeFile},
        queue::{DownloadQueue, Task},
        spool::{MIN_RESUMABLE, SpooledDownload, StreamEnd},
    },
    Downloads, is_want_of_room,
};
use crate::{
    digest,
    download_dir::{DAYS_KEPT, Fingerprint, PartialFile},
    error::CallError,
    file_name::FileName,
    format,
    lock::lock,
    peer_client::{DownloadSink, cancellable},
    protocol::{Digest, MAX_DIGEST_BYTES, Part},
};

/// How many digests one peer is asked for at once.
pub(super) const DIGESTS_PER_PEER: usize = 2;

/// How often a digest is asked for of a peer that is busy, and how long that is waited for each time.
const BUSY_TRIES: usize = 20;
const BUSY_PAUSE: Duration = Duration::from_millis(250);

/// How many blocks one digest is of at most.
const BLOCKS_PER_DIGEST: usize = (MAX_DIGEST_BYTES / BLOCK_BYTES) as usize;

/// The question what a file is now.
const NOTHING: Part = Part { offset: 0, length: 0 };

/// A partial file that was kept in this run.
pub(super) struct Kept {
    name: FileName,
    /// How many bytes of it are good, and the most that there have been.
    bytes: u64,
    most: u64,
    /// What of it one peer sent, or another in its place.
    verified: Option<Verified>,
}

/// What of a partial file is one state of the file at one peer.
struct Verified {
    peer: usize,
    version: String,
    blocks: Blocks,
    /// Where the main stream was.
    position: u64,
    /// What the file was when it was kept: another client may have written to it since.
    fingerprint: Fingerprint,
}

impl<'a> Downloads<'a> {
    /// Downloads one file, from the peer of the task, or on from what is there from another, which is then that of the
    /// task: what came, and how many bytes the file has. After a failure what is worth it is kept.
    pub(super) fn download(&self, task: &mut Task) -> Result<(SpooledDownload<'a>, u64), CallError> {
        let progress = self.progress().file(&task.file_name);
        let mut file = SpooledDownload::new(self.run.dir, task.clone(), progress, &self.files);
        let result = match self.run.dir.reopen(&task.file_name) {
            Some(partial) => {
                file.set_partial(partial);
                self.resume(&mut file)
            }
            None => self.download_whole(&mut file),
        };
        task.clone_from(&file.task);
        match result {
            Ok(bytes) => {
                lock(&self.kept).remove(&task.name_id);
                log::debug!("fetched '{}' from {}: {}", task.file_name, self.run.peers[task.peer], format::size(bytes));
                Ok((file, bytes))
            }
            Err(CallError::Local(error)) if is_want_of_room(&error) => {
                lock(&self.kept).remove(&task.name_id);
                Err(CallError::Local(error))
            }
            Err(failure) => {
                self.keep(file);
                Err(failure)
            }
        }
    }

    /// Keeps what came of a file. If that is more than ever before, the name may fail as often as a new one.
    fn keep(&self, file: SpooledDownload) {
        let task = file.task.clone();
        let mut bytes = file.position();
        let mut verified = None;
        if let Some(large) = file.large().cloned() {
            self.files.remove(&large);
            let (position, blocks) = (file.position(), large.blocks(Blocks::only_done));
            let is_within = blocks.len() as u64 > position / BLOCK_BYTES
                && !blocks.is_done(usize::try_from(position / BLOCK_BYTES).expect("there are at most 2^20 blocks"));
            bytes = blocks.done_bytes() + if is_within { position % BLOCK_BYTES } else { 0 };
            let fingerprint = file.partial().and_then(|partial| partial.fingerprint().ok());
            let version = large.version.clone();
            verified =
                fingerprint.map(|fingerprint| Verified { peer: task.peer, version, blocks, position, fingerprint });
        }
        let partial = file.into_resumable().filter(|_| bytes >= MIN_RESUMABLE);
        if !partial.is_some_and(|partial| self.run.dir.keep(&task.file_name, partial)) {
            lock(&self.kept).remove(&task.name_id);
            return;
        }
        let mut kept = lock(&self.kept);
        let before = kept.get(&task.name_id).map_or(0, |kept| kept.most);
        let is_progress = bytes >= before + MIN_RESUMABLE;
        let most = before.max(bytes);
        kept.insert(task.name_id, Kept { name: task.file_name, bytes, most, verified });
        drop(kept);
        if is_progress {
            lock(&self.queue).has_progressed(task.name_id);
        }
    }

    /// Removes what was kept of a file that is not needed any more.
    pub(super) fn discard_kept(&self, task: &Task) {
        if lock(&self.kept).remove(&task.name_id).is_some() {
            drop(self.run.dir.reopen(&task.file_name));
        }
    }

    /// Says what was kept, when no job works any more.
    pub(super) fn report_kept(&self) {
        for Kept { name, bytes, .. } in lock(&self.kept).values() {
            log::info!("kept {} of '{name}' to resume within {DAYS_KEPT} days", format::size(*bytes));
        }
    }

    /// Downloads a whole file in one stream, with help if it is large; its size.
    fn download_whole(&self, file: &mut SpooledDownload) -> Result<u64, CallError> {
        let (peer, name) = (&self.run.peers[file.task.peer], file.task.file_name.clone());
        let is_over = Arc::clone(&file.is_over);
        let result = cancellable(&is_over, || self.run.client.download(peer, &name, None, file));
        let Some(large) = file.large() else { return result };
        large.end_stream(&is_over);
        match result {
            Ok(bytes) if !large.is_shared() => Ok(bytes),
            Err(failure) if file.end().is_none() && !is_over.load(Ordering::Relaxed) => Err(failure),
            _ => self.finish(file),
        }
    }

    /// Goes on with a partial file, at the first peer whose file agrees with it, or begins anew; its size.
    fn resume(&self, file: &mut SpooledDownload) -> Result<u64, CallError> {
        let others = lock(&self.queue).holders(&file.task);
        let verified = lock(&self.kept).get_mut(&file.task.name_id).and_then(|kept| kept.verified.take());
        let fingerprint = file.partial().and_then(|partial| partial.fingerprint().ok());
        let verified = verified.filter(|verified| Some(verified.fingerprint) == fingerprint);
        let asked = file.task.clone();
        let mut own_failure = None;
        for holder in [vec![asked.clone()], others].concat() {
            self.check_going()?;
            let trusted = verified.as_ref().filter(|verified| verified.peer == holder.peer);
            match self.adopt(file, &holder, trusted, true) {
                Ok(true) => {
                    lock(&self.queue).move_call(&asked, &holder);
                    return self.finish(file);
                }
                Ok(false) => {}
                Err(CallError::Local(error)) => return Err(CallError::Local(error)),
                Err(failure) => {
                    let peer = &self.run.peers[holder.peer];
                    log::debug!("could not compare what is here of '{}' with {peer}: {failure}", holder.file_name);
                    let is_answer = matches!(failure, CallError::Fault(_) | CallError::Malformed(_));
                    own_failure = own_failure.or(Some(failure).filter(|_| holder == asked && !is_answer));
                }
            }
        }
        self.check_going()?;
        if let Some(failure) = own_failure {
            // It stays as it is: this peer may agree with it later, and could not send the file now either.
            return Err(failure);
        }
        log::debug!("what is here of '{}' is what nobody has who can tell; it begins anew", asked.file_name);
        file.restart().map_err(CallError::Local)?;
        self.download_whole(file)
    }

    /// Takes the blocks of a partial file that a holder has too, by its digests; the others are to be fetched from it.
    /// What it sent itself is `trusted`. False, where it `must_agree`, if the first block here is another there.
    fn adopt(
        &self,
        file: &mut SpooledDownload,
        holder: &Task,
        trusted: Option<&Verified>,
        must_agree: bool,
    ) -> Result<bool, CallError> {
        let now = self.digest(holder, NOTHING)?;
        if !(MIN_RESUMABLE..=blocks::MAX_BYTES).contains(&now.size) {
            return Ok(false);
        }
        let mut blocks = Blocks::new(now.size);
        let mut position = 0;
        if let Some(trusted) = trusted.filter(|trusted| trusted.version == now.version) {
            blocks = trusted.blocks.only_done();
            position = trusted.position;
        } else {
            let data = file.partial().map(PartialFile::data).unwrap_or_default();
            let runs = data.iter().filter_map(|range| whole_blocks(range, now.size)).collect::<Vec<_>>();
            match runs.first() {
                Some(first) if self.agrees(file, holder, &now.version, blocks.part(first.start, 1))? => {}
                _ if must_agree => return Ok(false),
                _ => {}
            }
            for run in runs {
                for first in run.clone().step_by(BLOCKS_PER_DIGEST) {
                    let end = run.end.min(first + BLOCKS_PER_DIGEST);
                    self.find_agreeing(file, holder, &now.version, first..end, &mut blocks)?;
                }
            }
        }
        if let Some(partial) = file.partial() {
            partial.file().set_len(now.size).map_err(CallError::Local)?;
        }
        file.task = holder.clone();
        file.expect(now.size);
        if let Some(time) = SystemTime::now().checked_sub(Duration::from_secs(now.age)) {
            file.set_modified(time);
        }
        file.seek(position, &Arc::default());
        let there = format::size(blocks.done_bytes());
        log::debug!("going on with '{}' from {}: {there} are here", holder.file_name, self.run.peers[holder.peer]);
        file.set_blocks(&now.version, blocks).map_err(CallError::Local)?;
        Ok(true)
    }

    /// Marks the blocks of a run that a holder has too, halving it where it differs.
    fn find_agreeing(
        &self,
        file: &SpooledDownload,
        holder: &Task,
        version: &str,
        run: Range<usize>,
        blocks: &mut Blocks,
    ) -> Result<(), CallError> {
        self.check_going()?;
        if self.agrees(file, holder, version, blocks.part(run.start, run.len()))? {
            blocks.set_done(run.start, run.len());
        } else if run.len() > 1 {
            let middle = run.start + run.len() / 2;
            self.find_agreeing(file, holder, version, run.start..middle, blocks)?;
            self.find_agreeing(file, holder, version, middle..run.end, blocks)?;
        }
        Ok(())
    }

    /// Whether a part of the file is the same here and at a holder.
    fn agrees(&self, file: &SpooledDownload, holder: &Task, version: &str, part: Part) -> Result<bool, CallError> {
        let theirs = self.digest(holder, part)?;
        if theirs.version != version {
            return Err(CallError::Changed);
        }
        let Some(partial) = file.partial() else { return Ok(false) };
        let ours = partial.read_from(part.offset).and_then(|content| digest::sha256(content, part.length));
        Ok(ours.map_err(CallError::Local)? == theirs.sha256)
    }

    /// Fetches what is missing of a file that others helped with or that was resumed; its size.
    fn finish(&self, file: &mut SpooledDownload) -> Result<u64, CallError> {
        let mut has_changed = false;
        while let Some(large) = file.large().cloned() {
            if self.fetch_rest(file, &large)? && self.digest(&large.task, NOTHING)?.version == large.version {
                return Ok(large.blocks(Blocks::size));
            }
            if has_changed {
                return Err(CallError::Changed);
            }
            has_changed = true;
            let reference = large.task.clone();
            if !self.adopt(file, &reference, None, false)? {
                break;
            }
        }
        Err(CallError::Changed)
    }

    /// Fetches from the reference, run by run, what nobody else fetches, and in the end what others take too long for;
    /// false if the reference has another state of the file now.
    fn fetch_rest(&self, file: &mut SpooledDownload, large: &Arc<LargeFile>) -> Result<bool, CallError> {
        let (peer, name) = (&self.run.peers[large.task.peer], &large.task.file_name);
        while !large.is_whole().map_err(CallError::Local)? {
            self.check_going()?;
            let is_over = Arc::default();
            let Some(mut part) = large.next_part(&is_over) else {
                large.wait();
                continue;
            };
            let within = file.position().saturating_sub(part.offset);
            if within < BLOCK_BYTES.min(part.length) {
                // The beginning of the block came before the connection broke.
                part = Part { offset: part.offset + within, length: part.length - within };
            }
            file.seek(part.offset, &is_over);
            large.begin_stream(&is_over);
            let result = cancellable(&is_over, || self.run.client.download(peer, name, Some(part), file));
            large.end_stream(&is_over);
            match (file.end(), result) {
                (Some(StreamEnd::Changed), _) => return Ok(false),
                (Some(StreamEnd::Met), _) => {}
                (None, Ok(bytes)) if bytes == part.length => {}
                (None, Ok(_)) => return Err(CallError::Malformed("a part is too short".to_owned())),
                (None, Err(_)) if is_over.load(Ordering::Relaxed) => {}
                (None, Err(failure)) => return Err(failure),
            }
        }
        Ok(true)
    }

    /// A block to help with, of some file.
    pub(super) fn find_any_help(&self, queue: &mut DownloadQueue) -> Option<Help> {
        self.files.helpable().iter().find_map(|file| self.find_help(queue, file))
    }

    /// A block of a file to help with, from the least busy of those who have it.
    fn find_help(&self, queue: &mut DownloadQueue, file: &Arc<LargeFile>) -> Option<Help> {
        let peer = queue.least_busy_holder(&file.task, |peer| file.is_excluded(peer))?;
        let help = self.files.claim(file, peer)?;
        queue.begin_call(peer);
        Some(help)
    }

    /// Fetches a block.
    pub(super) fn fetch_block(&self, help: Help) -> Option<(Help, BlockSink)> {
        let (file, is_over, number) = (Arc::clone(&help.file), Arc::clone(&help.claim.is_over), help.claim.peer);
        let (name, peer) = (&file.task.file_name, &self.run.peers[number]);
        let mut block = BlockSink { content: Vec::new(), most: help.part.length, is_too_long: false };
        let result = cancellable(&is_over, || self.run.client.download(peer, name, Some(help.part), &mut block));
        let is_cancelled = || is_over.load(Ordering::Relaxed) || self.run.interruption.has_come();
        self.change(|queue| queue.end_call(number, result.as_ref().err().filter(|_| !is_cancelled())));
        if let Err(failure) = result
            && !block.is_too_long
        {
            if !is_cancelled() {
                log::debug!("could not fetch a part of '{name}' from {peer}: {failure}");
                file.exclude(number);
            }
            return None;
        }
        Some((help, block))
    }

    /// Writes a block if the reference has the same, else asks its peer for no more.
    pub(super) fn check_block(&self, help: Help, block: &BlockSink) {
        let (file, is_over, number) = (Arc::clone(&help.file), Arc::clone(&help.claim.is_over), help.claim.peer);
        let (name, peer) = (&file.task.file_name, &self.run.peers[number]);
        match cancellable(&is_over, || self.digest(&file.task, help.part)) {
            Ok(theirs) if theirs.version != file.version => file.close(),
            Ok(theirs) if block.content.len() as u64 == help.part.length && block.sha256() == theirs.sha256 => {
                help.finish(&block.content);
            }
            Ok(_) => {
                if file.exclude(number) {
                    let reference = &self.run.peers[file.task.peer];
                    log::warn!("'{name}' of {peer} differs from that of {reference}; not used");
                }
            }
            Err(_) if is_over.load(Ordering::Relaxed) => {}
            Err(failure) => {
                log::debug!("could not check a part of '{name}': {failure}");
                file.close();
            }
        }
    }

    /// Asks a peer for a digest, again and again while it is busy.
    fn digest(&self, holder: &Task, part: Part) -> Result<Digest, CallError> {
        let _permit = self.digests[holder.peer].acquire();
        let ask = || self.run.client.digest(&self.run.peers[holder.peer], &holder.file_name, part);
        for _ in 1..BUSY_TRIES {
            match ask() {
                Err(CallError::Status(503)) => thread::sleep(BUSY_PAUSE),
                answer => return answer,
            }
        }
        ask()
    }

    /// Fails when the run is to end.
    fn check_going(&self) -> Result<(), CallError> {
        if self.run.interruption.has_come() || lock(&self.queue).is_stopped() {
            return Err(CallError::ConnectionLost("it was ended here".to_owned()));
        }
        Ok(())
    }
}

/// The blocks that lie wholly in a range of a file of this size.
fn whole_blocks(range: &Range<u64>, size: u64) -> Option<Range<usize>> {
    let first = range.start.div_ceil(BLOCK_BYTES);
    let end = if range.end >= size { size.div_ceil(BLOCK_BYTES) } else { range.end / BLOCK_BYTES };
    let number = |block| usize::try_from(block).expect("there are at most 2^20 blocks");
    (first < end).then(|| number(first)..number(end))
}

/// A block in memory.
pub(super) struct BlockSink {
    content: Vec<u8>,
    /// The most bytes that it may have.
    most: u64,
    is_too_long: bool,
}

impl BlockSink {
    fn sha256(&self) -> String {
        digest::sha256(&*self.content, u64::MAX).expect("bytes in memory can be read")
    }
}

impl Write for BlockSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.is_too_long = (self.content.len() + bytes.len()) as u64 > self.most;
        if self.is_too_long {
            return Err(io::Error::other("the part is too long"));
        }
        self.content.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl DownloadSink for BlockSink {
    fn expect(&mut self, _: u64) {}

    fn set_modified(&mut self, _: SystemTime) {}

    fn set_version(&mut self, _: &str) {}
}
