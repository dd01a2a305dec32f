//! What a person sees meanwhile: messages, one line each, and on a terminal bars below them, all on standard error.
//!
//! A client's messages are a tool's, with the program's name before them; a server's are a log, with the time. Whatever
//! is printed while bars are shown goes through [`aside`], so that neither garbles the other. Standard error may be
//! closed or full: what cannot be written is dropped.

use std::{
    env,
    fmt::Display,
    io::{self, IsTerminal, Write},
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use indicatif::{BinaryBytes, HumanDuration, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::names::FileName;

/// How often a second the bars are drawn at most.
const DRAWS_PER_SECOND: u8 = 10;

/// How often the figures of the total change: faster, and nobody could read them.
const FIGURES_EVERY: Duration = Duration::from_millis(100);

/// A file has a line of its own only when it takes longer: thousands of small ones would only flicker.
const SHOWN_AFTER: Duration = Duration::from_millis(300);

/// The narrowest terminal in columns that has room for a bar beside the figures.
const WIDTH_FOR_BAR: u16 = 64;

/// How messages look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// `tinyp2p: warning: TEXT`
    Tool,
    /// `2026-01-31T23:59:59Z warning: TEXT`
    Log,
}

/// The bars of this process, if there are any.
static BARS: OnceLock<MultiProgress> = OnceLock::new();

/// Sends messages of this level and above to standard error. To be called once.
pub(crate) fn start(style: Style, level: LevelFilter) {
    log::set_max_level(level);
    // A second call finds the first logger in place, which is just as good.
    let _ = log::set_boxed_logger(Box::new(Logger(style)));
}

/// Runs something that prints while the bars are out of the way.
pub(crate) fn aside<T>(print: impl FnOnce() -> T) -> T {
    match BARS.get() {
        Some(bars) => bars.suspend(print),
        None => print(),
    }
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

/// The bars of one run over many files: a total, and a line for each file that is under way for longer.
pub(crate) struct Progress {
    total: Option<Total>,
}

struct Total {
    bars: MultiProgress,
    bar: ProgressBar,
    files: u64,
    bytes: AtomicU64,
    begun: Instant,
    figures_changed: Mutex<Instant>,
}

impl Progress {
    /// Shows bars for so many files, if standard error is a terminal that can show them and messages are wanted.
    pub(crate) fn start(files: usize) -> Self {
        let is_dumb = env::var_os("TERM").is_none_or(|term| term == "dumb" || term.is_empty());
        if files == 0 || is_dumb || !io::stderr().is_terminal() || log::max_level() < LevelFilter::Info {
            return Self { total: None };
        }
        let target = ProgressDrawTarget::stderr_with_hz(DRAWS_PER_SECOND);
        let bars = BARS.get_or_init(|| MultiProgress::with_draw_target(target)).clone();
        let files = files as u64;
        // The text is cut where the terminal ends, for a line that wraps could not be taken away.
        let template = if width() < WIDTH_FOR_BAR { "{wide_msg}" } else { "[{bar:20}] {wide_msg}" };
        let bar = bars.add(ProgressBar::new(files).with_style(style(template)));
        let now = Instant::now();
        let bytes = AtomicU64::new(0);
        Self { total: Some(Total { bars, bar, files, bytes, begun: now, figures_changed: Mutex::new(now) }) }
    }

    /// The progress of one file that is being fetched.
    pub(crate) fn file<'a>(&'a self, name: &'a FileName) -> FileProgress<'a> {
        FileProgress { total: self.total.as_ref(), name, begun: Instant::now(), length: None, bytes: 0, bar: None }
    }

    /// Says that so many files are done with, for good or ill.
    pub(crate) fn advance(&self, files: usize) {
        if let Some(total) = &self.total {
            total.bar.inc(files as u64);
            total.show_figures();
        }
    }

    /// Takes all bars away.
    pub(crate) fn finish(&self) {
        if let Some(total) = &self.total {
            total.bar.finish_and_clear();
            let _ = total.bars.clear();
        }
    }
}

impl Total {
    fn show_figures(&self) {
        let mut changed = self.figures_changed.lock().unwrap_or_else(PoisonError::into_inner);
        if changed.elapsed() < FIGURES_EVERY {
            return;
        }
        *changed = Instant::now();
        drop(changed);
        let elapsed = self.begun.elapsed();
        let bytes = self.bytes.load(Ordering::Relaxed);
        let done = self.bar.position();
        let (rate, of) = (size(rate(bytes, elapsed)), self.files);
        let mut figures = format!("{done}/{of} files {} {rate}/s", size(bytes));
        // Nobody knows how large the files are that wait: one of them is taken to last as long as one that is done.
        let waiting = u128::from(self.files.saturating_sub(done));
        if let Some(left) = (elapsed.as_millis() * waiting).checked_div(done.into()) {
            let left = Duration::from_millis(u64::try_from(left).unwrap_or(u64::MAX));
            figures = format!("{figures} {:#}", HumanDuration(left));
        }
        self.bar.set_message(figures);
    }
}

/// One file under way; its line is gone when this is dropped.
pub(crate) struct FileProgress<'a> {
    total: Option<&'a Total>,
    name: &'a FileName,
    begun: Instant,
    length: Option<u64>,
    bytes: u64,
    bar: Option<ProgressBar>,
}

impl FileProgress<'_> {
    /// Says how many bytes the file has, if that is known.
    pub(crate) fn expect(&mut self, bytes: u64) {
        self.length = Some(bytes);
    }

    /// Says that so many more bytes have come.
    pub(crate) fn advance(&mut self, bytes: usize) {
        let Some(total) = self.total else { return };
        self.bytes += bytes as u64;
        total.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        total.show_figures();
        if self.bar.is_none() && self.begun.elapsed() > SHOWN_AFTER {
            let bar = match self.length {
                Some(length) => {
                    ProgressBar::new(length).with_style(style("{wide_msg} {percent:>3}% {binary_bytes_per_sec}"))
                }
                None => ProgressBar::no_length().with_style(style("{wide_msg} {binary_bytes} {binary_bytes_per_sec}")),
            };
            let bar = bar.with_message(self.name.to_string()).with_position(self.bytes);
            self.bar = Some(total.bars.insert_before(&total.bar, bar));
        }
        if let Some(bar) = &self.bar {
            bar.set_position(self.bytes);
        }
    }
}

impl Drop for FileProgress<'_> {
    fn drop(&mut self) {
        if let (Some(total), Some(bar)) = (self.total, &self.bar) {
            bar.finish_and_clear();
            total.bars.remove(bar);
        }
    }
}

/// What has been done, for the summary: `3 files, 1.20 MiB in 0.3 s (4.00 MiB/s)`.
pub(crate) fn tally(files: usize, bytes: u64, time: Duration) -> String {
    let plural = if files == 1 { "" } else { "s" };
    let (bytes, rate, seconds) = (size(bytes), size(rate(bytes, time)), time.as_secs_f64());
    format!("{files} file{plural}, {bytes} in {seconds:.1} s ({rate}/s)")
}

/// A number of bytes for people, in binary units.
pub(crate) fn size(bytes: u64) -> impl Display {
    BinaryBytes(bytes)
}

/// The columns of the terminal that standard error is.
fn width() -> u16 {
    rustix::termios::tcgetwinsize(io::stderr()).map_or(WIDTH_FOR_BAR, |size| size.ws_col)
}

/// Bytes a second.
fn rate(bytes: u64, time: Duration) -> u64 {
    let rate = u128::from(bytes) * 1000 / time.as_millis().max(1);
    u64::try_from(rate).unwrap_or(u64::MAX)
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the templates are fixed and well-formed").progress_chars("=> ")
}
