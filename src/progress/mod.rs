//! What a person sees meanwhile: messages, one line each, and on a terminal bars below them, all on standard error.
//!
//! A client's messages are a tool's, with the program's name before them; a server's are a log, with the time. Whatever
//! is printed while bars are shown goes through [`aside`], so that neither garbles the other. Standard error may be
//! closed or full: what cannot be written is dropped.

mod bars;
mod screen;

use std::{
    fmt::Display,
    io::{self, Write},
    time::{Duration, SystemTime},
};

use indicatif::BinaryBytes;
use log::{Level, LevelFilter, Log, Metadata, Record};

pub(crate) use bars::{FileProgress, Progress, Waiting, aside, leave};

/// How messages look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// `tinyp2p: warning: TEXT`
    Tool,
    /// `2026-01-31T23:59:59Z warning: TEXT`
    Log,
}

/// Sends messages of this level and above to standard error. To be called once.
pub(crate) fn start(style: Style, level: LevelFilter) {
    log::set_max_level(level);
    // A second call finds the first logger in place, which is just as good.
    let _ = log::set_boxed_logger(Box::new(Logger(style)));
}

struct Logger(Style);

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // The libraries' own messages are about sockets and buffers; nobody asked for them.
        metadata.target().starts_with(env!("CARGO_CRATE_NAME"))
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let prefix = match self.0 {
            Style::Tool => "tinyp2p:".to_owned(),
            Style::Log => humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
        };
        let level = match record.level() {
            Level::Error if self.0 == Style::Log => " error:",
            Level::Warn => " warning:",
            _ => "",
        };
        // In one write, so that no other process's output comes between.
        let line = format!("{prefix}{level} {}\n", record.args());
        let _ = aside(|| io::stderr().write_all(line.as_bytes()));
    }

    fn flush(&self) {}
}

/// What has been done, for the summary: `3 files, 1.20 MiB in 0.3 s (4.00 MiB/s)`.
pub(crate) fn tally(files: usize, bytes: u64, time: Duration) -> String {
    let rate = u128::from(bytes) * 1000 / time.as_millis().max(1);
    let rate = size(u64::try_from(rate).unwrap_or(u64::MAX));
    let (files, bytes, seconds) = (count(files, "file"), size(bytes), time.as_secs_f64());
    format!("{files}, {bytes} in {seconds:.1} s ({rate}/s)")
}

/// So many of something: `1 file`, `2 files`.
pub(crate) fn count(number: impl Copy + Display + PartialEq + From<u8>, what: &str) -> String {
    let plural = if number == 1.into() { "" } else { "s" };
    format!("{number} {what}{plural}")
}

/// A number of bytes for people, in binary units.
pub(crate) fn size(bytes: u64) -> impl Display {
    BinaryBytes(bytes)
}
