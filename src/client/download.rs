//! Fetching: workers that take tasks from the schedule, and one thread that settles what they bring.
//!
//! A worker streams a file into memory or a partial one and goes on to the next; the thread that started them makes
//! whole files durable and visible, as many at once as are there, and prints their names. So the network never waits
//! for the disk to sync, and what is printed is saved.

use std::{
    io::{self, ErrorKind},
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::Instant,
};

use crate::{
    download_dir::{Committed, DownloadDir, MAX_BATCH},
    error::{CallError, reason},
    fd_limit,
    file_name::FileName,
    format,
    lock::lock,
    peer::PeerUrl,
    peer_client::PeerClient,
    progress::Progress,
};

use super::{
    Interruption,
    index::FileIndex,
    listing::Missing,
    output::Output,
    queue::{Attempt, DownloadQueue, Left, Next, Task},
    spool::{ActiveDownload, SpooledDownload},
};

/// All that the downloads of one run share.
pub(super) struct Downloads<'a> {
    client: &'a PeerClient,
    peers: &'a [PeerUrl],
    arrivals: &'a DownloadDir,
    interruption: &'a Interruption,
    names: FileIndex,
    /// How many names are not here at the beginning.
    missing: usize,
    progress: Progress,
    begun: Instant,
    state: Mutex<State>,
    /// Told whenever an attempt has ended and someone waits, so that another task may be there.
    ended: Condvar,
}

struct State {
    schedule: DownloadQueue,
    /// Workers that wait for a task.
    waiting: usize,
    saved: usize,
    bytes: u64,
    here: usize,
    /// Those of them that appeared since the beginning.
    appeared: usize,
    /// Names that are not here and will not come.
    failed: usize,
    /// Names that are directories where they are.
    directories: usize,
    /// Names that found no space; they are tried once more when all others are done.
    postponed: Vec<usize>,
    is_second_pass: bool,
    /// Whether nothing more can be saved or called from this side.
    is_stopped: bool,
    /// Whether a name could not be printed.
    is_output_lost: bool,
    /// Whether a holder of this name, by index, has failed in another way than by calling it a directory.
    has_failed: Vec<bool>,
}

/// A whole file that waits to be settled.
struct Arrived {
    index: usize,
    name: FileName,
    content: SpooledDownload,
    bytes: u64,
}

impl<'a> Downloads<'a> {
    pub(super) fn new(
        client: &'a PeerClient,
        peers: &'a [PeerUrl],
        arrivals: &'a DownloadDir,
        interruption: &'a Interruption,
        missing: Missing,
    ) -> Self {
        let has_failed = vec![false; missing.schedule.len()];
        let (names, here, schedule) = (missing.index, missing.here, missing.schedule);
        let (missing, begun) = (schedule.open(), Instant::now());
        let state = State {
            schedule,
            waiting: 0,
            saved: 0,
            bytes: 0,
            here,
            appeared: 0,
            failed: 0,
            directories: 0,
            postponed: Vec::new(),
            is_second_pass: false,
            is_stopped: false,
            is_output_lost: false,
            has_failed,
        };
        let (state, ended) = (Mutex::new(state), Condvar::new());
        let progress = Progress::start(missing);
        Self { client, peers, arrivals, interruption, names, missing, progress, begun, state, ended }
    }

    /// Fetches everything, so many files at once; whether all of it is here now.
    pub(super) fn run(&self, jobs: usize) -> bool {
        self.pass(jobs);
        let mut state = self.state();
        let postponed = std::mem::take(&mut state.postponed);
        if !postponed.is_empty() && !state.is_stopped {
            // What has been fetched since may have left the room that one of them needs: one at a time now.
            for name in postponed {
                state.schedule.reopen(name);
            }
            state.is_second_pass = true;
            drop(state);
            self.pass(1);
            state = self.state();
        }
        self.progress.finish();
        self.report(&state);
        state.failed == 0 && !state.is_stopped && !state.is_output_lost
    }

    /// Fetches what the schedule has, so many files at once where descriptors allow it; settles them on this thread.
    fn pass(&self, jobs: usize) {
        // A job takes a connection and a file, and two batches of whole files wait.
        let descriptors = fd_limit::available();
        let jobs = jobs.min(descriptors / 4).max(1);
        let batch = MAX_BATCH.min(descriptors / 8).max(1);
        let (arrived, arrivals) = sync_channel(batch);
        thread::scope(|scope| {
            for job in 0..jobs {
                let arrived = arrived.clone();
                let thread = thread::Builder::new().name("job".to_owned());
                if let Err(error) = thread.spawn_scoped(scope, move || self.work(&arrived)) {
                    if job == 0 {
                        log::error!("could not start a thread: {}", reason(&error));
                        self.state().is_stopped = true;
                    }
                    break;
                }
            }
            drop(arrived);
            self.settle(&arrivals, batch);
        });
    }

    fn work(&self, arrived: &SyncSender<Arrived>) {
        while let Some((task, name)) = self.next_task() {
            let (attempt, file) = self.fetch(task, &name);
            let mut state = self.state();
            let left = state.schedule.end(task, attempt);
            if attempt == Attempt::Unanswered {
                self.give_up_silent(&mut state, task.peer);
            }
            if attempt != Attempt::Settled && left == Left::None {
                self.lose(&mut state, task, &name);
            }
            let is_awaited = state.waiting > 0;
            drop(state);
            // To tell nobody takes a system call, too.
            if is_awaited {
                self.ended.notify_all();
            }
            if let Some((content, bytes)) = file {
                let file = Arrived { index: task.name, name, content, bytes };
                arrived.send(file).expect("files are settled until the last worker has ended");
            }
        }
    }

    fn next_task(&self) -> Option<(Task, FileName)> {
        let mut state = self.state();
        loop {
            if self.interruption.has_come() {
                return None;
            }
            match state.schedule.next() {
                Next::Fetch(task) => return Some((task, self.names.name(task.name))),
                Next::Wait => {
                    state.waiting += 1;
                    state = self.ended.wait(state).unwrap_or_else(PoisonError::into_inner);
                    state.waiting -= 1;
                }
                Next::Over => return None,
            }
        }
    }

    /// Fetches one file from one peer: how that ended, and the whole file if it did well.
    fn fetch(&self, task: Task, name: &FileName) -> (Attempt, Option<(SpooledDownload, u64)>) {
        if self.arrivals.contains(name) {
            self.leave_alone(name);
            return (Attempt::Settled, None);
        }
        let peer = &self.peers[task.peer];
        let mut landing = ActiveDownload::new(self.arrivals, self.progress.file(name));
        match self.client.download(peer, name, &mut landing) {
            Ok(bytes) => {
                log::debug!("fetched '{name}' from {peer}: {}", format::size(bytes));
                (Attempt::Settled, Some((landing.into_spooled(), bytes)))
            }
            Err(_) if self.interruption.has_come() || self.state().is_stopped => (Attempt::Settled, None),
            Err(CallError::Local(error)) => {
                self.fail_here(task.name, name, &error);
                (Attempt::Settled, None)
            }
            Err(failure) if failure.is_directory() => {
                log::warn!("skipped '{name}' of {peer}: it is a directory there");
                (Attempt::Denied, None)
            }
            Err(failure) => {
                self.state().has_failed[task.name] = true;
                log::warn!("could not fetch '{name}' from {peer}: {failure}");
                let is_no_answer = failure.is_no_answer();
                (if is_no_answer { Attempt::Unanswered } else { Attempt::Denied }, None)
            }
        }
    }

    /// Counts a name that its last holder did not give.
    fn lose(&self, state: &mut State, task: Task, name: &FileName) {
        self.progress.advance(1);
        if state.has_failed[task.name] {
            state.failed += 1;
            log::error!("'{name}' is not here: nobody else has it");
        } else {
            state.directories += 1;
        }
    }

    fn give_up_silent(&self, state: &mut State, peer: usize) {
        let lost = state.schedule.give_up_silent(peer);
        if !lost.is_empty() {
            state.failed += lost.len();
            self.progress.advance(lost.len());
            let files = format::count(lost.len(), "file");
            log::error!("gave up {}, which does not answer; only there: {files}", self.peers[peer]);
        }
    }

    /// Handles an error of this side. Want of space concerns one file, and perhaps only for now; a directory that
    /// cannot be written, or a full table of descriptors, concerns all.
    fn fail_here(&self, index: usize, name: &FileName, error: &io::Error) {
        let mut state = self.state();
        let is_want_of_space =
            matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge);
        if is_want_of_space && !state.is_second_pass {
            log::debug!("no room for '{name}': {}; it is tried once more at the end", reason(error));
            state.postponed.push(index);
            return;
        }
        state.failed += 1;
        self.progress.advance(1);
        if state.is_stopped {
            return;
        }
        log::error!("could not save '{name}': {}", reason(error));
        let is_file_at_fault = is_want_of_space
            || matches!(error.kind(), ErrorKind::InvalidFilename | ErrorKind::InvalidInput | ErrorKind::Other);
        if !is_file_at_fault {
            state.is_stopped = true;
            state.schedule.stop();
            drop(state);
            // What still comes could not be saved either.
            self.client.shut_down();
            self.ended.notify_all();
        }
    }

    /// Settles whole files, so many at most that have arrived at once, until no worker is left.
    fn settle(&self, arrived: &Receiver<Arrived>, most: usize) {
        let mut results = Output::new();
        while let Ok(first) = arrived.recv() {
            let mut batch = vec![first];
            batch.extend(arrived.try_iter().take(most - 1));
            let mut facts = Vec::with_capacity(batch.len());
            let mut files = Vec::with_capacity(batch.len());
            for Arrived { index, name, content, bytes } in batch {
                match content.into_partial(self.arrivals) {
                    Ok(partial) => {
                        facts.push((index, bytes));
                        files.push((name, partial));
                    }
                    Err(error) => self.fail_here(index, &name, &error),
                }
            }
            let mut saved = Vec::with_capacity(files.len());
            for ((index, bytes), (name, settled)) in facts.into_iter().zip(self.arrivals.commit_batch(files)) {
                match settled {
                    Ok(Committed::Saved) => {
                        self.count(|state| (state.saved, state.bytes) = (state.saved + 1, state.bytes + bytes));
                        saved.push(name);
                    }
                    Ok(Committed::AlreadyExists) => self.leave_alone(&name),
                    Err(error) => self.fail_here(index, &name, &error),
                }
            }
            if let Err(error) = results.print(&saved.iter().map(|name| results.name(name) + "\n").collect::<String>()) {
                log::error!("could not print to standard output: {}", reason(&error));
                self.state().is_output_lost = true;
            }
        }
    }

    /// Leaves what appeared under a name since the run began.
    fn leave_alone(&self, name: &FileName) {
        log::warn!("'{name}' appeared here meanwhile; it is left as it is");
        self.count(|state| (state.here, state.appeared) = (state.here + 1, state.appeared + 1));
    }

    /// Counts a file that is done with, for good or ill.
    fn count(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.progress.advance(1);
    }

    fn report(&self, state: &State) {
        let State { here, failed, directories, .. } = state;
        let how = if self.interruption.has_come() { "interrupted: " } else { "" };
        let done = format::tally(state.saved, state.bytes, self.begun.elapsed());
        let mut done = format!("{how}{done}, {here} already here, {failed} failed");
        let others = self.missing - state.saved - state.appeared - failed - directories;
        let directory = if *directories == 1 { "directory" } else { "directories" };
        for (count, what) in [(*directories, directory), (others, "not fetched")] {
            if count > 0 {
                done.extend([", ", &count.to_string(), " ", what]);
            }
        }
        let is_nothing = self.missing + here == 0 && !self.interruption.has_come();
        log::info!("{done}{}", if is_nothing { "; nobody has a matching file" } else { "" });
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}
