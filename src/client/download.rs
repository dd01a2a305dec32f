//! Downloads what the queue has: jobs that call peers, and one thread that commits what they bring.
//!
//! A job streams a file into memory or a partial file and goes on to the next; the thread that started them makes whole
//! files durable and visible, as many at once as are there, and prints their names. So the network never waits for the
//! disk to sync, and what is printed is saved.

mod commit;
mod large;
mod packs;
mod resume;
mod update;

use std::{
    collections::HashMap,
    io::{self, ErrorKind},
    sync::{
        Arc, Condvar, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc::{SyncSender, sync_channel},
    },
    thread::{self, Scope},
    time::{Duration, Instant},
};

use crate::{
    download_dir::{DownloadDir, Entry, Existing, MAX_BATCH},
    error::{CallError, reason},
    fd_limit,
    file_name::FileName,
    format,
    lock::{Semaphore, lock},
    peer::PeerUrl,
    progress::Progress,
};

use large::DIGESTS_PER_PEER;
use resume::Kept;

use super::{
    Run,
    collector::PeerListing,
    large_file::{self, Help, LargeFiles},
    queue::{DownloadQueue, Next, Outcome, SourceFailure, Tally, Task},
    spool::SpooledDownload,
};

/// What the jobs of a run share.
pub(super) struct Downloads<'a> {
    run: &'a Run<'a>,
    /// Shown from the first names on.
    progress: OnceLock<Progress>,
    /// When the first names came.
    begun: OnceLock<Instant>,
    queue: Mutex<DownloadQueue>,
    /// Notified whenever the queue has changed.
    changed: Condvar,
    /// Whether it was said that there is too little room.
    is_short_of_room: AtomicBool,
    /// How many files appeared or changed meanwhile, and how many links are not updated.
    appeared: AtomicUsize,
    links: AtomicUsize,
    /// The large files under way.
    files: Arc<LargeFiles>,
    /// By name: what was kept of those that failed.
    kept: Mutex<HashMap<usize, Kept>>,
    /// By name: the files that are to be replaced.
    updates: Mutex<HashMap<usize, Existing>>,
    /// By peer: who may ask it for a digest.
    digests: Vec<Semaphore>,
}

/// How many files are named of which the same is to be said, and the others counted: a full disk, or another client in
/// the same directory, must not say the same of each of thousands.
const FILES_NAMED: usize = 3;

/// How long a job without work waits at most before it looks whether there is a large file to help with.
const IDLE_TICK: Duration = Duration::from_millis(100);

/// What a job does.
enum Work {
    /// It fetches one file, or a pack.
    Download(Vec<Task>),
    /// It fetches a block of a file that another job has.
    Help(Help),
}

/// A whole file that waits to be committed.
struct Downloaded<'a> {
    task: Task,
    file: SpooledDownload<'a>,
    bytes: u64,
}

impl<'a> Downloads<'a> {
    pub(super) fn new(run: &'a Run) -> Self {
        let queue = Mutex::new(DownloadQueue::new(run.peers.len(), run.jobs));
        Self {
            run,
            progress: OnceLock::new(),
            begun: OnceLock::new(),
            queue,
            changed: Condvar::new(),
            is_short_of_room: AtomicBool::new(false),
            appeared: AtomicUsize::new(0),
            links: AtomicUsize::new(0),
            files: Arc::new(LargeFiles::new(run.jobs)),
            kept: Mutex::default(),
            updates: Mutex::default(),
            digests: run.peers.iter().map(|_| Semaphore::new(DIGESTS_PER_PEER)).collect(),
        }
    }

    /// Adds listings to what is to be downloaded.
    pub(super) fn join(&self, listings: Vec<PeerListing>) {
        self.begun.get_or_init(Instant::now);
        let mut queue = lock(&self.queue);
        let before = queue.tally().open;
        queue.join(listings, |name| outcome_of_entry(self.run.dir, name));
        let tally = queue.tally();
        self.show_added(before, tally);
        drop(queue);
        self.check_expected(tally);
    }

    /// Shows how much is to come, of which this number of names was open before.
    fn show_added(&self, open_before: usize, tally: Tally) {
        self.progress().add(tally.open - open_before);
        self.progress().expect(tally.expected_bytes, tally.unsized_names > 0);
        self.changed.notify_all();
    }

    /// Warns, once, when the files to come take more room than there is.
    fn check_expected(&self, tally: Tally) {
        let here = tally.bytes.saturating_add(self.run.dir.resumable_bytes());
        let to_come = tally.expected_bytes.saturating_sub(here);
        if let Some(room) = self.run.dir.room()
            && to_come > room
            && !self.is_short_of_room.swap(true, Ordering::Relaxed)
        {
            let (to_come, room) = (format::size(to_come), format::size(room));
            log::warn!("the files to come take {to_come}, but there is room for {room} only");
        }
    }

    /// Ends the joining: what nobody has who listed is lost now.
    pub(super) fn complete(&self) {
        self.compare_with_others();
        if let Some(progress) = self.progress.get() {
            progress.complete();
        }
        // All at once, lest the run end before all is said.
        self.change(|queue| {
            for name in queue.complete() {
                self.report_loss(&name);
            }
            for (number, peer) in self.run.peers.iter().enumerate() {
                report_gone_peer(peer, queue.give_up_unanswering(number));
            }
        });
    }

    fn progress(&self) -> &Progress {
        self.progress.get_or_init(Progress::start)
    }

    /// Downloads everything, until all listings have joined and no name is left, this many files at once where descriptors allow it; whether all of it is here, and said.
    pub(super) fn run(&self, jobs: usize) -> bool {
        // A job takes a connection and a file, and two batches of whole files wait; others are asked meanwhile.
        let descriptors = fd_limit::available();
        let jobs = jobs.min(descriptors / 8).max(1);
        let batch = MAX_BATCH.min(descriptors / 16).max(1);
        let (sender, receiver) = sync_channel(batch);
        let is_printed = thread::scope(|scope| {
            for _ in 0..jobs {
                let sender = sender.clone();
                let thread = thread::Builder::new().name("job".to_owned());
                if let Err(error) = thread.spawn_scoped(scope, move || self.work(scope, &sender)) {
                    log::error!("could not start a thread: {}", reason(&error));
                    break;
                }
            }
            drop(sender);
            self.commit_all(&receiver, batch)
        });
        if let Some(progress) = self.progress.get() {
            progress.finish();
        }
        let tally = self.tally();
        self.report_kept();
        self.report(tally);
        is_printed && tally.failed == 0 && tally.open == 0
    }

    pub(super) fn tally(&self) -> Tally {
        lock(&self.queue).tally()
    }

    /// Tells which names nobody who lists them will give another time either.
    pub(super) fn tell_refused(&self) {
        lock(&self.queue).refused().for_each(|name| (self.run.on_refused)(&name));
    }

    /// Works through tasks until none is left.
    fn work<'s>(&'s self, scope: &'s Scope<'s, '_>, sender: &SyncSender<Downloaded<'a>>) {
        while let Some(work) = self.next_work() {
            let tasks = match work {
                Work::Download(tasks) => tasks,
                Work::Help(help) => {
                    if let Some(help) = self.fetch_block(help) {
                        // Meanwhile the next is fetched. Where no thread is to be had, the block is fetched again.
                        let thread = thread::Builder::new().name("check".to_owned());
                        let _ = thread.spawn_scoped(scope, move || self.check_block(help));
                    }
                    continue;
                }
            };
            let mut task = match <[Task; 1]>::try_from(tasks) {
                Ok([task]) => task,
                Err(pack) => {
                    self.work_through_pack(pack, sender);
                    continue;
                }
            };
            let existing = self.to_replace(&task);
            if existing.is_none() && self.run.dir.entry(&task.file_name).is_some() {
                self.change(|queue| queue.end_call(task.peer, None));
                self.leave_alone(&task, "appeared");
                continue;
            }
            let is_same = existing.map_or(Ok(false), |existing| self.has_same(&task, &existing));
            if matches!(is_same, Ok(true)) {
                self.change(|queue| queue.end_call(task.peer, None));
                self.keep_existing(&task);
                continue;
            }
            let downloaded = is_same.and_then(|_| self.download(&mut task));
            self.change(|queue| queue.end_call(task.peer, downloaded.as_ref().err()));
            match downloaded {
                Ok((file, bytes)) => hand_over(Downloaded { task, file, bytes }, sender),
                Err(_) if self.run.interruption.has_come() || lock(&self.queue).is_stopped() => {}
                Err(CallError::Local(error)) => self.fail_here(&task, &error),
                Err(failure) => self.fail_there(&task, &failure),
            }
        }
    }

    /// What a job does next: names that wait come before help with those that are under way.
    fn next_work(&self) -> Option<Work> {
        let mut queue = lock(&self.queue);
        while !self.run.interruption.has_come() {
            let due = match queue.next(Instant::now()) {
                Next::Download(tasks) => return Some(Work::Download(tasks)),
                Next::Wait(due) => due,
                Next::Done => return None,
            };
            if let Some(help) = self.find_any_help(&mut queue) {
                return Some(Work::Help(help));
            }
            let patience = due.map_or(Duration::MAX, |due| due.saturating_duration_since(Instant::now()));
            // A file that becomes large tells nobody.
            let patience = patience.min(if self.files.is_empty() { IDLE_TICK } else { large_file::TICK });
            queue = self.changed.wait_timeout(queue, patience).unwrap_or_else(PoisonError::into_inner).0;
        }
        None
    }

    /// Changes the queue, and shows how many names that ends.
    fn change<T>(&self, change: impl FnOnce(&mut DownloadQueue) -> T) -> T {
        let mut queue = lock(&self.queue);
        let before = queue.tally().open;
        let result = change(&mut queue);
        let ended = before - queue.tally().open;
        if ended > 0 {
            self.progress().advance(ended);
        }
        self.changed.notify_all();
        result
    }

    /// Handles a failure of the peer: the file is asked of the next one that has it.
    fn fail_there(&self, task: &Task, failure: &CallError) {
        let (name, peer) = (&task.file_name, &self.run.peers[task.peer]);
        let kind = match failure {
            failure if failure.is_break() => SourceFailure::ConnectionLost,
            failure if failure.is_silence() || matches!(failure, CallError::Changed) => SourceFailure::Passing,
            failure if failure.is_directory() => SourceFailure::Directory,
            _ => SourceFailure::Other,
        };
        if kind == SourceFailure::Directory {
            log::warn!("skipped '{name}' of {peer}: it is a directory there");
        } else if kind == SourceFailure::ConnectionLost && lock(&self.queue).will_retry(task) {
            log::debug!("could not fetch '{name}' from {peer}: {failure}; it is tried again in a second");
        } else {
            log::warn!("could not fetch '{name}' from {peer}: {failure}");
        }
        if self.change(|queue| queue.fail(task, kind)) == Some(Outcome::Failed) {
            self.report_loss(name);
        }
        report_gone_peer(peer, self.change(|queue| queue.give_up_unanswering(task.peer)));
    }

    fn report_loss(&self, name: &FileName) {
        if self.run.dir.existing(name).is_some() {
            log::error!("could not update '{name}': no peer could send it");
        } else {
            log::error!("'{name}' is not here: no peer could send it");
        }
    }

    /// Handles an error of this side. Want of space concerns one file, and perhaps only for now; a directory that
    /// cannot be written, or a full table of descriptors, concerns all.
    fn fail_here(&self, task: &Task, error: &io::Error) {
        use ErrorKind::{InvalidFilename, InvalidInput, Other};
        let name = &task.file_name;
        let is_want_of_space = is_want_of_room(error);
        if is_want_of_space && self.change(|queue| queue.postpone(task.name_id)) {
            log::debug!("no room for '{name}': {}; it is tried once more at the end", reason(error));
            return;
        }
        let concerns_all = !is_want_of_space && !matches!(error.kind(), InvalidFilename | InvalidInput | Other);
        let was_stopped = self.change(|queue| {
            if is_want_of_space {
                queue.fail_without_room(task.name_id);
            } else {
                queue.finish(task.name_id, Outcome::Failed);
            }
            if concerns_all { queue.stop() } else { queue.is_stopped() }
        });
        if !was_stopped && (!is_want_of_space || lock(&self.queue).tally().without_room <= FILES_NAMED) {
            log::error!("could not save '{name}': {}", reason(error));
        }
        if concerns_all {
            // What still comes could not be saved either.
            self.run.client.shut_down();
        }
    }
}

/// Whether an error concerns one file, and perhaps only for now.
fn is_want_of_room(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge)
}

/// Hands a whole file to the thread that commits.
fn hand_over<'a>(downloaded: Downloaded<'a>, sender: &SyncSender<Downloaded<'a>>) {
    sender.send(downloaded).expect("files are committed until the last job has ended");
}

/// Reports that a peer is given up, if that costs files.
fn report_gone_peer(peer: &PeerUrl, lost: usize) {
    if lost > 0 {
        log::error!("gave up {peer}; lost with it: {}", format::count(lost, "file"));
    }
}

/// What becomes of a name without a download, for what has it here; an obstacle is reported.
pub(super) fn outcome_of_entry(dir: &DownloadDir, name: &FileName) -> Option<Outcome> {
    match dir.entry(name)? {
        Entry::File => Some(Outcome::AlreadyHere),
        Entry::Obstacle(kind) => {
            log::error!("could not save '{name}': {kind} has this name");
            Some(Outcome::Failed)
        }
    }
}
