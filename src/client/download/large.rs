//! Downloads a file: in one stream or, if it is large, shared out among those who have it, and checks the whole.
//!
//! The peer that a file is fetched from is its reference: what others bring counts only when it has the digest that the
//! reference gives. So nobody need be trusted who was not trusted before, and what differs under one name never mixes.

use std::{
    io::{self, Write},
    sync::{Arc, atomic::Ordering},
    thread,
    time::{Duration, Instant, SystemTime},
};

use super::{
    super::{
        blocks::{BLOCK_BYTES, Blocks},
        large_file::{Help, LargeFile},
        queue::{DownloadQueue, Task},
        spool::{SpooledDownload, StreamEnd},
    },
    Downloads, is_want_of_room,
};
use crate::{
    digest,
    error::CallError,
    format,
    lock::lock,
    peer_client::{DownloadSink, cancellable},
    protocol::{Digest, Part},
};

/// How many digests one peer is asked for at once.
pub(super) const DIGESTS_PER_PEER: usize = 2;

/// How long a peer that is busy is asked for a digest again and again, and after which pause each time.
const BUSY_TIME: Duration = Duration::from_secs(5);
const BUSY_PAUSE: Duration = Duration::from_millis(250);

/// The question what a file is now.
pub(super) const NOTHING: Part = Part { offset: 0, length: 0 };

impl<'a> Downloads<'a> {
    /// Downloads one file, from the peer of the task, or on from what is there from another, which is then that of the
    /// task: what came, and how many bytes came in this run. After a failure what is worth it is kept.
    pub(super) fn download(&self, task: &mut Task) -> Result<(SpooledDownload<'a>, u64), CallError> {
        let claim = self.run.dir.claim(&task.file_name, task.size).map_err(CallError::Local)?;
        let progress = self.progress().file(&task.file_name);
        let mut file = SpooledDownload::new(self.run.dir, task.clone(), &Arc::new(claim), progress, &self.files);
        let result = match self.run.dir.reopen(&task.file_name) {
            Some(partial) => {
                file.set_partial(partial);
                self.resume(&mut file)
            }
            None => self.download_whole(&mut file),
        };
        task.clone_from(&file.task);
        match file.check(result) {
            Ok(bytes) => {
                self.discard_kept(task);
                log::debug!("fetched '{}' from {}: {}", task.file_name, self.run.peers[task.peer], format::size(bytes));
                let came = bytes.saturating_sub(file.here);
                Ok((file, came))
            }
            Err(failure @ CallError::TooLarge(_)) => Err(failure),
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

    /// Downloads a whole file in one stream, with help if it is large; its size.
    pub(super) fn download_whole(&self, file: &mut SpooledDownload) -> Result<u64, CallError> {
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

    /// Fetches what is missing of a file that others helped with or that was resumed; its size.
    pub(super) fn finish(&self, file: &mut SpooledDownload) -> Result<u64, CallError> {
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
                (None, Err(_)) if is_over.load(Ordering::Relaxed) => {}
                (None, Ok(_) | Err(CallError::Fault(_)))
                    if self.digest(&large.task, NOTHING)?.version != large.version =>
                {
                    return Ok(false);
                }
                (None, Ok(_)) => return Err(CallError::Malformed("a part is too short".to_owned())),
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
        let peers = queue.holders_by_calls(&file.task, |peer| file.is_excluded(peer));
        let help = peers.into_iter().find_map(|peer| self.files.claim(file, peer))?;
        queue.begin_call(help.claim.peer);
        Some(help)
    }

    /// Fetches a block.
    pub(super) fn fetch_block(&self, mut help: Help) -> Option<Help> {
        let (file, is_over, number) = (Arc::clone(&help.file), Arc::clone(&help.claim.is_over), help.claim.peer);
        let (name, peer) = (&file.task.file_name, &self.run.peers[number]);
        let part = help.part;
        let mut block = BlockSink { content: &mut help.content, most: part.length, is_too_long: false };
        let result = cancellable(&is_over, || self.run.client.download(peer, name, Some(part), &mut block));
        let is_too_long = block.is_too_long;
        if is_over.load(Ordering::Relaxed) || self.run.interruption.has_come() {
            self.change(|queue| queue.cancel_call(number));
            if help.content.is_empty() {
                file.exclude(number);
            }
            return None;
        }
        self.change(|queue| queue.end_call(number, result.as_ref().err()));
        if let Err(failure) = result
            && !is_too_long
        {
            log::debug!("could not fetch a part of '{name}' from {peer}: {failure}");
            file.exclude(number);
            return None;
        }
        Some(help)
    }

    /// Writes a block if the reference has the same, else asks its peer for no more.
    pub(super) fn check_block(&self, help: Help) {
        let (file, is_over, number) = (Arc::clone(&help.file), Arc::clone(&help.claim.is_over), help.claim.peer);
        let (name, peer) = (&file.task.file_name, &self.run.peers[number]);
        match cancellable(&is_over, || self.digest(&file.task, help.part)) {
            Ok(theirs) if theirs.version != file.version => file.interrupt(),
            Ok(theirs) if help.content.len() as u64 == help.part.length && sha256(&help.content) == theirs.sha256 => {
                help.finish();
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
    pub(super) fn digest(&self, holder: &Task, part: Part) -> Result<Digest, CallError> {
        let _permit = self.digests[holder.peer].acquire();
        let begun = Instant::now();
        loop {
            match self.run.client.digest(&self.run.peers[holder.peer], &holder.file_name, part) {
                Err(CallError::Status(503)) if begun.elapsed() < BUSY_TIME => thread::sleep(BUSY_PAUSE),
                answer => return answer,
            }
        }
    }

    /// Fails when the run is to end.
    pub(super) fn check_going(&self) -> Result<(), CallError> {
        if self.run.interruption.has_come() || lock(&self.queue).is_stopped() {
            return Err(CallError::ConnectionLost("it was ended here".to_owned()));
        }
        Ok(())
    }
}

fn sha256(content: &[u8]) -> String {
    digest::sha256(content, u64::MAX).expect("bytes in memory can be read")
}

/// Takes a block into memory.
struct BlockSink<'a> {
    content: &'a mut Vec<u8>,
    /// The most bytes that it may have.
    most: u64,
    is_too_long: bool,
}

impl Write for BlockSink<'_> {
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

impl DownloadSink for BlockSink<'_> {
    fn expect(&mut self, _: u64) {}

    fn set_modified(&mut self, _: SystemTime) {}

    fn set_version(&mut self, _: &str) {}
}
