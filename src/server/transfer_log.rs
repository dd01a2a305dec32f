//! Logs the files that were sent: each with `-v`, else a line every few seconds for each caller.
//!
//! Invariant: every file that was sent is in one line of the log, at the latest when the server ends properly.

use std::{
    collections::BTreeMap,
    mem,
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use crate::{file_name::FileName, format, lock::lock};

/// How long files are collected before they are logged.
const INTERVAL: Duration = Duration::from_secs(3);

/// The files that were sent and are not logged yet.
#[derive(Default)]
pub(super) struct TransferLog(Mutex<BTreeMap<String, Batch>>);

/// What one caller has got since the last line.
struct Batch {
    /// The file that was sent first.
    name: FileName,
    files: u64,
    bytes: u64,
    began: Instant,
    ended: Instant,
}

impl TransferLog {
    /// Counts a file that has just been sent whole.
    pub(super) fn add(self: &Arc<Self>, name: FileName, bytes: u64, caller: String, began: Instant) {
        let file = Batch { name, files: 1, bytes, began, ended: Instant::now() };
        if log::log_enabled!(log::Level::Debug) {
            return file.log(&caller);
        }
        let mut batches = lock(&self.0);
        let is_first = batches.is_empty();
        batches.entry(caller).and_modify(|batch| batch.extend(&file)).or_insert(file);
        drop(batches);
        if is_first {
            self.log_later();
        }
    }

    fn log_later(self: &Arc<Self>) {
        let transfers = Arc::clone(self);
        let thread = thread::Builder::new().name("transfers".to_owned()).spawn(move || {
            thread::sleep(INTERVAL);
            transfers.log_now();
        });
        if thread.is_err() {
            self.log_now();
        }
    }

    /// Logs what was sent since the last time.
    pub(super) fn log_now(&self) {
        let batches = mem::take(&mut *lock(&self.0));
        for (caller, batch) in batches {
            batch.log(&caller);
        }
    }
}

impl Batch {
    fn extend(&mut self, file: &Self) {
        self.files += 1;
        self.bytes += file.bytes;
        self.began = self.began.min(file.began);
        self.ended = self.ended.max(file.ended);
    }

    fn log(&self, caller: &str) {
        let Self { name, files, bytes, .. } = self;
        let seconds = (self.ended - self.began).as_secs_f64();
        if *files == 1 {
            log::info!("sent '{name}' to {caller}: {bytes} bytes in {seconds:.3} s");
        } else {
            let size = format::size(*bytes);
            log::info!("sent {files} files to {caller}: {size} in {seconds:.3} s");
        }
    }
}
