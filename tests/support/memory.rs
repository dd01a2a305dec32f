//! How much memory a process took at most, where the system tells.

use std::{
    fs,
    thread::{self, JoinHandle},
    time::Duration,
};

/// How often one looks. The system keeps the peak, so only what grows in the last moment is missed.
const PAUSE: Duration = Duration::from_millis(5);

/// Watches a process to its end.
pub(crate) struct Peak(JoinHandle<u64>);

impl Peak {
    pub(crate) fn of(pid: u32) -> Self {
        Self(thread::spawn(move || {
            let mut peak = 0;
            // A process that has ended and waits for its parent has no memory any more.
            while let Some(now) = peak_kib(pid) {
                peak = now;
                thread::sleep(PAUSE);
            }
            peak
        }))
    }

    /// Waits for the end: the most MiB that were in memory at once. 0 where the system does not tell.
    pub(crate) fn mib(self) -> u64 {
        self.0.join().unwrap() / 1024
    }
}

/// The most memory in KiB that a process has taken so far; nothing where the system does not tell.
pub(crate) fn peak_kib(pid: u32) -> Option<u64> {
    status_field(pid, "VmHWM:")
}

/// The number after the name of a field, its colon included, in the status that Linux shows of a process.
pub(crate) fn status_field(pid: u32, field: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    line.split_whitespace().next()?.parse().ok()
}
