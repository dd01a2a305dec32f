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

/// How many blocks one digest is of at most.
const BLOCKS_PER_DIGEST: usize = (MAX_DIGEST_BYTES / BLOCK_BYTES) as usize;

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

    /// Goes on with a partial file, at the first peer whose file agrees with it, or begins anew; its size.
    pub(super) fn resume(&self, file: &mut SpooledDownload) -> Result<u64, CallError> {
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
    pub(super) fn adopt(
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
}

/// The blocks that lie wholly in a range of a file of this size.
fn whole_blocks(range: &Range<u64>, size: u64) -> Option<Range<usize>> {
    let first = range.start.div_ceil(BLOCK_BYTES);
    let end = if range.end >= size { size.div_ceil(BLOCK_BYTES) } else { range.end / BLOCK_BYTES };
    let number = |block| usize::try_from(block).expect("there are at most 2^20 blocks");
    (first < end).then(|| number(first)..number(end))
}
