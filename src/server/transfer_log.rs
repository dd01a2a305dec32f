//! Logs the files and the parts of files that were sent: each with `-v`, else a line every few seconds for each caller.
//!
//! Invariant: all that was sent whole is in one line of the log, at the latest when the server ends properly.

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
    /// The file of which something was sent first.
    name: FileName,
    files: u64,
    /// Parts of files.
    parts: u64,
    bytes: u64,
    began: Instant,
    ended: Instant,
}

impl TransferLog {
    /// Counts a file or a part that has just been sent whole.
    pub(super) fn add(self: &Arc<Self>, name: FileName, is_part: bool, bytes: u64, caller: String, began: Instant) {
        let (files, parts) = if is_part { (0, 1) } else { (1, 0) };
        let file = Batch { name, files, parts, bytes, began, ended: Instant::now() };
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
        self.files += file.files;
        self.parts += file.parts;
        self.bytes += file.bytes;
        self.began = self.began.min(file.began);
        self.ended = self.ended.max(file.ended);
    }

    fn log(&self, caller: &str) {
        let Self { name, files, parts, bytes, .. } = self;
        let seconds = (self.ended - self.began).as_secs_f64();
        let size = format::size(*bytes);
        match (*files, *parts) {
            (1, 0) => log::info!("sent '{name}' to {caller}: {bytes} bytes in {seconds:.3} s"),
            (0, 1) => log::info!("sent a part of '{name}' to {caller}: {bytes} bytes in {seconds:.3} s"),
            (files, 0) => log::info!("sent {files} files to {caller}: {size} in {seconds:.3} s"),
            (0, parts) => log::info!("sent {parts} parts of files to {caller}: {size} in {seconds:.3} s"),
            (files, parts) => {
                log::info!("sent files to {caller}: {files} whole and {parts} in part, {size} in {seconds:.3} s");
            }
        }
    }
}
