//! Writes messages to standard error, one line each: a client's with the program's name, a server's with the time in UTC.
//!
//! Invariant: standard error may be closed or full; what cannot be written is dropped.

use std::{
    io::{self, Write},
    time::SystemTime,
};

use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::progress;

/// The form of the messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// `tinyp2p: warning: TEXT`
    Tool,
    /// `2026-01-31T23:59:59Z warning: TEXT`
    Log,
}

/// Writes messages of this level and above from now on. To be called once.
pub(crate) fn start(style: Style, level: LevelFilter) {
    log::set_max_level(level);
    // A second call finds the first logger in place, which is just as good.
    let _ = log::set_boxed_logger(Box::new(Logger(style)));
}

/// The module whose messages are those of a user's client, or of a server's mirror.
const CLIENT: &str = concat!(env!("CARGO_CRATE_NAME"), "::client");

struct Logger(Style);

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // The libraries' messages are about sockets and buffers, which is of no use to users.
        metadata.target().starts_with(env!("CARGO_CRATE_NAME"))
    }

    fn log(&self, record: &Record<'_>) {
        // What a mirror fetches is told by the server, in a line for each run.
        let is_mirrors = self.0 == Style::Log && record.target().starts_with(CLIENT);
        let level = if is_mirrors { Level::Debug } else { record.level() };
        if !self.enabled(record.metadata()) || level > log::max_level() {
            return;
        }
        let prefix = match self.0 {
            Style::Tool => "tinyp2p:".to_owned(),
            Style::Log => humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
        };
        let level = match level {
            Level::Error if self.0 == Style::Log => " error:",
            Level::Warn => " warning:",
            _ => "",
        };
        // In one write, so that the output of another process cannot come between.
        let line = format!("{prefix}{level} {}\n", record.args());
        let _ = progress::suspend(|| io::stderr().write_all(line.as_bytes()));
    }

    fn flush(&self) {}
}
