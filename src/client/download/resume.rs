//! Keeps what came of a file that failed, and goes on with it: with the first peer that has the same by its digests.

use std::{
    ops::Range,
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::{
    super::{
        blocks::{self, BLOCK_BYTES, Blocks},
        queue::Task,
        spool::{MIN_RESUMABLE, SpooledDownload},
    },
    Downloads,
    large::NOTHING,
};
use crate::{
    digest,
    download_dir::{DAYS_KEPT, Fingerprint, PartialFile},
    error::CallError,
    file_name::FileName,
    format,
    lock::lock,
    peer_client::DownloadSink,
    protocol::{MAX_DIGEST_BYTES, Part},
};

/// How many holders are asked at most whether they have what is here of a file.
const MAX_COMPARED: usize = 8;

/// How many blocks one digest is of at most.
const BLOCKS_PER_DIGEST: usize = (MAX_DIGEST_BYTES / BLOCK_BYTES) as usize;

/// A partial file that was kept in this run.
pub(super) struct Kept {
    name: FileName,
    /// How many bytes of it are good, none if it is there no more; and the most that there have been.
    bytes: u64,
    most: u64,
    /// What of it one peer sent, or another in its place.
    verified: Option<Arc<Verified>>,
}

/// What of a partial file is one state of the file at one peer.
pub(super) struct Verified {
    peer: usize,
    version: String,
    blocks: Blocks,
    /// Where the main stream was.
    position: u64,
    /// What the file was when it was kept: another client may have written to it since.
    fingerprint: Fingerprint,
}

impl Downloads<'_> {
    /// Keeps what came of a file. If that is more than ever before, the name may fail as often as a new one.
    pub(super) fn keep(&self, file: SpooledDownload) {
        let task = file.task.clone();
        let position = file.position();
        let Some(large) = file.large().cloned() else {
            return self.keep_untouched(file);
        };
        self.files.remove(&large);
        let blocks = large.blocks(Blocks::only_done);
        let is_within = blocks.len() as u64 > position / BLOCK_BYTES
            && !blocks.is_done(usize::try_from(position / BLOCK_BYTES).expect("there are at most 2^20 blocks"));
        let mut bytes = blocks.done_bytes() + if is_within { position % BLOCK_BYTES } else { 0 };
        let mut verified = None;
        let partial = file.into_resumable(bytes).filter(|_| bytes >= MIN_RESUMABLE);
        if let Some(partial) = partial {
            let (peer, version) = (task.peer, large.version.clone());
            let fingerprint = partial.fingerprint().ok();
            verified =
                fingerprint.map(|fingerprint| Arc::new(Verified { peer, version, blocks, position, fingerprint }));
            bytes *= u64::from(self.run.dir.keep(&task.file_name, partial));
        } else {
            bytes = 0;
        }
        let mut kept = lock(&self.kept);
        let before = kept.get(&task.name_id).map_or(0, |kept| kept.most);
        kept.insert(task.name_id, Kept { name: task.file_name, bytes, most: before.max(bytes), verified });
        drop(kept);
        if bytes >= before + MIN_RESUMABLE {
            lock(&self.queue).reset_retries(task.name_id);
        }
    }

    /// Keeps a partial file as it was found; what began without blocks nobody could compare, and it is removed.
    fn keep_untouched(&self, file: SpooledDownload) {
        let (task, bytes, is_untouched) = (file.task.clone(), file.position(), file.is_untouched());
        let partial = file.into_resumable(0).filter(|_| is_untouched);
        let is_kept = partial.is_some_and(|partial| self.run.dir.keep(&task.file_name, partial));
        let mut kept = lock(&self.kept);
        let new = || Kept { name: task.file_name, bytes, most: bytes, verified: None };
        if is_kept {
            kept.entry(task.name_id).or_insert_with(new);
        } else if let Some(kept) = kept.get_mut(&task.name_id) {
            kept.bytes = 0;
        }
    }

    /// Removes what was kept of a file that is not needed any more.
    pub(super) fn discard_kept(&self, task: &Task) {
        lock(&self.kept).remove(&task.name_id);
        drop(self.run.dir.reopen(&task.file_name));
    }

    /// Says what was kept, when no job works any more.
    pub(super) fn report_kept(&self) {
        for Kept { name, bytes, .. } in lock(&self.kept).values().filter(|kept| kept.bytes > 0) {
            log::info!("kept {} of '{name}' to resume within {DAYS_KEPT} days", format::size(*bytes));
        }
    }

    /// Goes on with a partial file, at the first peer whose file agrees with it, or begins anew; its size.
    pub(super) fn resume(&self, file: &mut SpooledDownload) -> Result<u64, CallError> {
        let others = lock(&self.queue).holders(&file.task);
        let verified = lock(&self.kept).get(&file.task.name_id).and_then(|kept| kept.verified.clone());
        let fingerprint = file.partial().and_then(|partial| partial.fingerprint().ok());
        let verified = verified.filter(|verified| Some(verified.fingerprint) == fingerprint);
        let asked = file.task.clone();
        let (mut own_failure, mut may_agree_later) = (None, false);
        for holder in [vec![asked.clone()], others].concat().into_iter().take(MAX_COMPARED) {
            self.check_going()?;
            let trusted = verified.as_deref().filter(|verified| verified.peer == holder.peer);
            match self.adopt(file, &holder, trusted, true) {
                Ok(true) => return self.finish(file),
                Ok(false) => {}
                Err(CallError::Local(error)) => return Err(CallError::Local(error)),
                Err(failure) => {
                    let peer = &self.run.peers[holder.peer];
                    log::debug!("could not compare what is here of '{}' with {peer}: {failure}", holder.file_name);
                    let is_answer = matches!(failure, CallError::Fault(_) | CallError::Malformed(_));
                    may_agree_later |= !is_answer;
                    own_failure = own_failure.or(Some(failure).filter(|_| holder == asked && !is_answer));
                }
            }
        }
        self.check_going()?;
        if let Some(failure) = own_failure {
            // It stays as it is, for this peer could not send the file now either.
            return Err(failure);
        }
        log::debug!("beginning '{}' anew: nobody who can tell has what is here of it", asked.file_name);
        if may_agree_later && let Some(partial) = file.take_partial() {
            self.run.dir.keep(&asked.file_name, partial);
        }
        file.restart().map_err(CallError::Local)?;
        self.download_whole(file)
    }

    /// Takes the blocks of a partial file that a holder has too, by its digests; the others are to be fetched from it.
    /// What it sent itself is `trusted`. False, where it `must_agree`, if the first block here is another there.
    pub(super) fn adopt(
        &self,
        file: &mut SpooledDownload,
        holder: &Task,
        trusted: Option<&Verified>,
        must_agree: bool,
    ) -> Result<bool, CallError> {
        // What others helped with was another state.
        file.close();
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
            if let Some(first) = runs.first()
                && !self.agrees(file, holder, &now.version, blocks.part(first.start, 1))?
                && must_agree
            {
                return Ok(false);
            }
            for run in runs {
                for first in run.clone().step_by(BLOCKS_PER_DIGEST) {
                    let end = run.end.min(first + BLOCKS_PER_DIGEST);
                    self.find_agreeing(file, holder, &now.version, first..end, &mut blocks)?;
                }
            }
            // The beginning of a block, where a stream was cut.
            if let Some(Part { offset, length }) = blocks.first_free() {
                let end = data.iter().find(|range| range.contains(&offset)).map_or(offset, |range| range.end);
                let begun = Part { offset, length: length.min(end - offset).min(BLOCK_BYTES) };
                if begun.length >= MIN_RESUMABLE && self.agrees(file, holder, &now.version, begun)? {
                    position = offset + begun.length;
                }
            }
            if must_agree && position == 0 && blocks.done_bytes() == 0 {
                return Ok(false);
            }
        }
        if let Some(partial) = file.partial() {
            partial.file().set_len(now.size).map_err(CallError::Local)?;
        }
        lock(&self.queue).move_call(&file.task, holder);
        file.task = holder.clone();
        file.expect(now.size);
        if let Some(time) = SystemTime::now().checked_sub(Duration::from_secs(now.age)) {
            file.set_modified(time);
        }
        file.seek(position, &Arc::default());
        let begun = position.saturating_sub(blocks.first_free().map_or(0, |part| part.offset));
        let there = format::size(blocks.done_bytes() + if begun < BLOCK_BYTES { begun } else { 0 });
        if trusted.is_none() {
            file.here = blocks.done_bytes();
        }
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
            file.show(blocks.done_bytes());
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
}

/// The blocks that lie wholly in a range of a file of this size.
fn whole_blocks(range: &Range<u64>, size: u64) -> Option<Range<usize>> {
    let first = range.start.div_ceil(BLOCK_BYTES);
    let end = if range.end >= size { size.div_ceil(BLOCK_BYTES) } else { range.end / BLOCK_BYTES };
    let number = |block| usize::try_from(block).expect("there are at most 2^20 blocks");
    (first < end).then(|| number(first)..number(end))
}
