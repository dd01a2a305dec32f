//! Files that are here already: which of them differ at others, and what `--update` fetches again.
//!
//! A file is fetched again when a peer has a newer one with another content, and replaced only if it is still what it
//! was when it was looked at.

use std::sync::atomic::Ordering;

use super::{
    super::queue::{Outcome, Task},
    Downloads, FILES_NAMED,
};
use crate::{
    digest,
    download_dir::Existing,
    error::CallError,
    lock::lock,
    protocol::{MAX_DIGEST_BYTES, Part},
};

impl Downloads<'_> {
    /// Compares the files that are here with what all others list, and asks again for those that are to be updated.
    pub(super) fn compare_with_others(&self) {
        let mut next = 0;
        while !self.run.interruption.has_come() {
            let found = lock(&self.queue).next_here(next);
            let Some(name) = found else { break };
            self.compare_one(name);
            next = name + 1;
        }
        let tally = lock(&self.queue).tally();
        self.check_expected(tally);
    }

    fn compare_one(&self, name: usize) {
        let mut queue = lock(&self.queue);
        let file_name = queue.name(name);
        let Some(existing) = self.run.dir.existing(&file_name) else { return };
        let (size, modified) = (existing.size, existing.modified);
        let differing = queue.differing(name, size);
        if log::log_enabled!(log::Level::Debug) {
            for (peer, theirs) in differing {
                let peer = &self.run.peers[peer];
                log::debug!("'{file_name}' differs: {size} bytes here, {theirs} at {peer}");
            }
        }
        if !self.run.updates || !queue.has_newer(name, modified) {
            return;
        }
        if existing.is_link {
            if self.links.fetch_add(1, Ordering::Relaxed) < FILES_NAMED {
                log::warn!("'{file_name}' is a link here and is not updated");
            }
            return;
        }
        let before = queue.tally().open;
        queue.reopen(name, size);
        lock(&self.updates).insert(name, existing);
        self.show_added(before, queue.tally());
    }

    /// What the file of a task is to replace.
    pub(super) fn to_replace(&self, task: &Task) -> Option<Existing> {
        lock(&self.updates).get(&task.name_id).cloned()
    }

    /// Leaves a file that is here as it is.
    pub(super) fn keep_existing(&self, task: &Task) {
        self.discard_kept(task);
        self.change(|queue| queue.finish(task.name_id, Outcome::AlreadyHere));
    }

    /// Whether a peer has the same content as the file that is here.
    pub(super) fn has_same(&self, task: &Task, existing: &Existing) -> Result<bool, CallError> {
        let size = existing.size;
        if task.size != Some(size) {
            return Ok(false);
        }
        // What cannot be read is another content, and what vanished needs none.
        let Ok(ours) = self.run.dir.open_existing(&task.file_name) else { return Ok(false) };
        let mut version = None;
        let mut offset = 0;
        loop {
            self.check_going()?;
            let part = Part { offset, length: MAX_DIGEST_BYTES.min(size - offset) };
            let theirs = self.digest(task, part)?;
            if *version.get_or_insert(theirs.version.clone()) != theirs.version {
                return Err(CallError::Changed);
            }
            let is_same =
                theirs.size == size && digest::sha256(&ours, part.length).is_ok_and(|own| own == theirs.sha256);
            offset += part.length;
            if !is_same || offset == size {
                return Ok(is_same);
            }
        }
    }
}
