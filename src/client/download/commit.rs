//! Commits whole files, and says what became of all names.

use std::{
    iter,
    sync::{atomic::Ordering, mpsc::Receiver},
    time::{Duration, Instant},
};

use super::super::queue::{Outcome, Tally, Task};
use super::{Downloaded, Downloads, FILES_NAMED, outcome_of_entry};
use crate::{download_dir::Committed, error::reason, file_name::FileName, format};

impl Downloads<'_> {
    /// Commits whole files, at most this many that are there at once, until no job is left; whether all names could be
    /// printed.
    pub(super) fn commit_all(&self, receiver: &Receiver<Downloaded>, most: usize) -> bool {
        let mut is_printed = true;
        while let Ok(first) = receiver.recv() {
            let batch = iter::once(first).chain(receiver.try_iter().take(most - 1)).collect();
            let saved = self.commit(batch);
            if is_printed && let Err(error) = (self.run.on_saved)(&saved) {
                log::error!("could not print to standard output: {}", reason(&error));
                is_printed = false;
            }
        }
        is_printed
    }

    /// Commits one batch; the names that are saved now.
    fn commit(&self, batch: Vec<Downloaded>) -> Vec<FileName> {
        let mut tasks = Vec::with_capacity(batch.len());
        let mut files = Vec::with_capacity(batch.len());
        for Downloaded { task, file, bytes } in batch {
            match file.into_partial() {
                Ok(partial) => {
                    files.push((task.file_name.clone(), partial, self.to_replace(&task)));
                    tasks.push((task, bytes));
                }
                Err(error) => self.fail_here(&task, &error),
            }
        }
        let mut saved = Vec::with_capacity(files.len());
        for ((task, bytes), committed) in tasks.into_iter().zip(self.run.dir.commit_batch(files)) {
            match committed {
                Ok(Committed::Saved) => saved.push((task, bytes)),
                Ok(Committed::AlreadyExists) => self.leave_alone(&task, "appeared"),
                Ok(Committed::Changed) => self.leave_alone(&task, "changed"),
                Err(error) => self.fail_here(&task, &error),
            }
        }
        // All at once: each change wakes the jobs.
        self.change(|queue| saved.iter().for_each(|(task, bytes)| queue.finish(task.name_id, Outcome::Saved(*bytes))));
        saved.into_iter().map(|(task, _)| task.file_name).collect()
    }

    /// Leaves what appeared or changed under a name since the run began.
    pub(super) fn leave_alone(&self, task: &Task, what: &str) {
        self.discard_kept(task);
        let name = &task.file_name;
        let outcome = outcome_of_entry(self.run.dir, name);
        if outcome == Some(Outcome::AlreadyHere) && self.appeared.fetch_add(1, Ordering::Relaxed) >= FILES_NAMED {
            log::debug!("'{name}' {what} here meanwhile");
        } else if outcome == Some(Outcome::AlreadyHere) {
            log::warn!("'{name}' {what} here meanwhile; it is left as it is");
        } else if outcome.is_none() {
            log::error!("could not save '{name}': something had the name for a moment");
        }
        self.change(|queue| queue.finish(task.name_id, outcome.unwrap_or(Outcome::Failed)));
    }

    /// Says what became of the names.
    pub(super) fn report(&self, tally: Tally) {
        let unnamed = tally.without_room.saturating_sub(FILES_NAMED);
        if unnamed > 0 {
            log::error!("could not save {} for want of room", format::count(unnamed, "more file"));
        }
        let unnamed = self.appeared.load(Ordering::Relaxed).saturating_sub(FILES_NAMED);
        if unnamed > 0 {
            log::warn!("{} appeared or changed here meanwhile", format::count(unnamed, "more file"));
        }
        let unnamed = self.links.load(Ordering::Relaxed).saturating_sub(FILES_NAMED);
        if unnamed > 0 {
            log::warn!("{} not updated", format::count(unnamed, "more link"));
        }
        let Tally { saved, updated, bytes, already_here, differing, failed, directories, open, .. } = tally;
        let is_interrupted = self.run.interruption.has_come();
        let how = if is_interrupted { "interrupted: " } else { "" };
        let elapsed = self.begun.get().map_or(Duration::ZERO, Instant::elapsed);
        let done = format::tally(saved, bytes, elapsed);
        let updated = if updated > 0 { format!(", {updated} of them updated") } else { String::new() };
        let differing = match differing {
            0 => String::new(),
            1 => ", 1 of them differs".to_owned(),
            _ => format!(", {differing} of them differ"),
        };
        let mut text = format!("{how}{done}{updated}, {already_here} already here{differing}, {failed} failed");
        let directory = if directories == 1 { "directory" } else { "directories" };
        for (count, what) in [(directories, directory), (open, "not fetched")] {
            if count > 0 {
                text.extend([", ", &count.to_string(), " ", what]);
            }
        }
        if saved + already_here + failed + directories + open == 0 && !is_interrupted {
            text += "; nobody who answered has a matching file";
        }
        log::info!("{text}");
    }
}
