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

/// A number of bytes for people, in binary units with three significant digits: `1.20 MiB`, `317 KiB`, `1000 B`.
pub(crate) fn size(bytes: u64) -> String {
    let steps = bytes.checked_ilog2().unwrap_or(0) / 10;
    let Some(unit) = steps.checked_sub(1).map(|at| ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"][at as usize]) else {
        return format!("{bytes} B");
    };
    let half = 1_u128 << (10 * steps - 1);
    let rounded = |parts: u128| (u128::from(bytes) * parts + half) >> (10 * steps);
    match (rounded(100), rounded(10), rounded(1)) {
        (hundredths @ ..1000, ..) => format!("{}.{:02} {unit}", hundredths / 100, hundredths % 100),
        (_, tenths @ ..1000, _) => format!("{}.{} {unit}", tenths / 10, tenths % 10),
        (.., whole) => format!("{whole} {unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_digits_and_a_unit() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.00 KiB"),
            (1500, "1.46 KiB"),
            (10_234, "9.99 KiB"),
            (10_239, "10.0 KiB"),
            (102_399, "100 KiB"),
            (1_048_575, "1024 KiB"),
            (1 << 20, "1.00 MiB"),
            (2 << 30, "2.00 GiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(size(bytes), text, "{bytes}");
        }
    }

    #[test]
    fn a_tally_has_files_bytes_seconds_and_rate() {
        assert_eq!(tally(1, 1 << 20, Duration::from_millis(500)), "1 file, 1.00 MiB in 0.5 s (2.00 MiB/s)");
        assert_eq!(tally(0, 0, Duration::ZERO), "0 files, 0 B in 0.0 s (0 B/s)");
    }
}
