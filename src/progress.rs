//! Progress bars on standard error: one for the whole run, one for each slow file, and a spinner while waiting.
//!
//! Invariant: whoever draws or prints holds the lock of [`SCREEN`], so that neither garbles the other. The workers only
//! count; a thread draws, so that many small files cost little and a file that stalls shows. There are no bars where
//! standard error is not a terminal, and none are left at the end.

use std::{
    env, io,
    sync::{
        Arc, LazyLock, Mutex, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use indicatif::{HumanDuration, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use log::LevelFilter;
use rustix::termios::tcgetwinsize;

use crate::{file_name::FileName, format::size, lock::lock};

/// How often the bars are drawn.
const TICK: Duration = Duration::from_millis(100);

/// How long a file takes before it gets a bar of its own: those of small files would only flicker.
const SLOW_FILE: Duration = Duration::from_millis(300);

/// How long one waits before the spinner appears.
const SLOW_ANSWER: Duration = Duration::from_millis(700);

/// Rows of the terminal that stay free of the files' bars: the total's, and one for a printed name.
const RESERVED_ROWS: u16 = 2;

/// The row of the whole run: its figures, and a bar that takes the rest.
const TOTAL: &str = "{msg} {wide_bar}";

/// The columns of the figures where the terminal has more: the bar begins at the same place all the time.
const FIGURES_COLUMNS: u16 = 58;

/// The row of a file: how much of it is here, and as much of its name as fits.
const FILE: &str = "{bar:8} {prefix:>8}  {wide_msg}";

/// indicatif leaves the cursor behind the last row. This takes it back to the row's first column, so that a `^C` that
/// the terminal writes there is erased with the row.
const CURSOR_TO_FIRST_COLUMN: &str = "\x1b[G";

/// The bars of this process.
static SCREEN: LazyLock<Mutex<Screen>> = LazyLock::new(Mutex::default);

struct Screen {
    bars: MultiProgress,
    /// A bar without text: drawing it draws all others.
    blank: ProgressBar,
}

/// Runs something that prints while the bars are out of the way.
pub(crate) fn suspend<T>(print: impl FnOnce() -> T) -> T {
    let screen = lock(&SCREEN);
    // Not `MultiProgress::suspend`, which panics when the terminal is gone.
    let _ = screen.bars.clear();
    let result = print();
    screen.blank.force_draw();
    result
}

/// Takes all bars away for good. This waits for the terminal.
pub(crate) fn clear() {
    let screen = lock(&SCREEN);
    let _ = screen.bars.clear();
    screen.bars.set_draw_target(ProgressDrawTarget::hidden());
}

impl Default for Screen {
    fn default() -> Self {
        let bars = MultiProgress::new();
        let blank = bars.add(bar(""));
        Self { bars, blank }
    }
}

fn bar(template: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template).expect("the templates are fixed and well-formed");
    ProgressBar::no_length().with_style(style.progress_chars("=>-").tick_chars("|/-\\ "))
}

/// Starts the lowest bar of the screen, and a thread that calls `update` after `delay` and at each tick until the bar
/// is removed. Returns none where bars cannot be drawn or are not wanted.
fn start(
    template: &str,
    delay: Duration,
    update: impl Fn(&Screen, &ProgressBar) + Send + 'static,
) -> Option<ProgressBar> {
    let screen = lock(&SCREEN);
    let is_unknown_terminal = env::var_os("TERM").is_none_or(|term| term.is_empty());
    if screen.bars.is_hidden() || is_unknown_terminal || log::max_level() < LevelFilter::Info {
        return None;
    }
    let bar = screen.bars.add(bar(&format!("{template}{CURSOR_TO_FIRST_COLUMN}")));
    let drawn = bar.clone();
    let run = move || {
        thread::sleep(delay);
        loop {
            let screen = lock(&SCREEN);
            if drawn.is_finished() {
                return;
            }
            update(&screen, &drawn);
            drop(screen);
            thread::sleep(TICK);
        }
    };
    // Where no thread is to be had, nothing is drawn.
    let _ = thread::Builder::new().name("progress".to_owned()).spawn(run);
    Some(bar)
}

fn remove(bar: &ProgressBar) {
    let screen = lock(&SCREEN);
    bar.finish_and_clear();
    screen.bars.remove(bar);
}

/// A row that says what is waited for, if that takes long; it is gone when this is dropped.
pub(crate) struct Spinner(Option<ProgressBar>);

impl Spinner {
    /// Shows what `text` returns, asked again at each tick.
    pub(crate) fn start(text: impl Fn() -> String + Send + 'static) -> Self {
        Self(start("{spinner} {wide_msg}", SLOW_ANSWER, move |_, bar| {
            bar.set_message(text());
            bar.tick();
        }))
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        self.0.iter().for_each(remove);
    }
}

/// The progress of one run over many files.
pub(crate) struct Progress {
    counts: Arc<Mutex<Counts>>,
    bar: Option<ProgressBar>,
}

/// What is counted in one run.
#[derive(Default)]
struct Counts {
    /// Files of the whole run.
    files: u64,
    /// Bytes of the whole run, as far as they are known.
    expected: u64,
    /// Whether more files may come.
    is_incomplete: bool,
    /// Whether there are files of unknown size.
    has_unsized: bool,
    /// Files that are done with, saved or not.
    done: u64,
    /// Bytes of the transfers that have ended.
    bytes: u64,
    /// Bytes that were here before this run, and those that came in it and will be counted again.
    here: u64,
    taken_back: u64,
    /// The transfers under way, in the order of their start.
    active: Vec<Arc<ActiveFile>>,
}

/// A file under way.
struct ActiveFile {
    name: FileName,
    started: Instant,
    /// Its size in bytes, once that is known.
    length: OnceLock<u64>,
    received: AtomicU64,
    /// Its bar, once it proves to be slow.
    bar: OnceLock<ProgressBar>,
}

impl Progress {
    /// Shows the progress of files that are to be added.
    pub(crate) fn start() -> Self {
        let counts = Arc::new(Mutex::new(Counts { is_incomplete: true, ..Counts::default() }));
        let drawn = Arc::clone(&counts);
        let bar = start(TOTAL, TICK, move |screen, bar| lock(&drawn).draw(screen, bar));
        Self { counts, bar }
    }

    /// Returns the progress of one file whose transfer starts now.
    pub(crate) fn file(&self, name: &FileName) -> FileProgress {
        let file = Arc::new(ActiveFile::new(name.clone()));
        lock(&self.counts).active.push(Arc::clone(&file));
        FileProgress { counts: Arc::clone(&self.counts), file }
    }

    /// Adds files to the run.
    pub(crate) fn add(&self, files: usize) {
        lock(&self.counts).files += files as u64;
    }

    /// Tells how many bytes the files of the run have that are known, and whether there are others.
    pub(crate) fn expect(&self, bytes: u64, has_unsized: bool) {
        let mut counts = lock(&self.counts);
        counts.expected = bytes;
        counts.has_unsized = has_unsized;
    }

    /// Tells that no more files are to be added.
    pub(crate) fn complete(&self) {
        lock(&self.counts).is_incomplete = false;
    }

    /// Counts files that are done with, saved or not.
    pub(crate) fn advance(&self, files: usize) {
        lock(&self.counts).done += files as u64;
    }

    /// Takes the bars away.
    pub(crate) fn finish(&self) {
        self.bar.iter().for_each(remove);
    }
}

/// The progress of one file; its bar is gone when this is dropped.
pub(crate) struct FileProgress {
    counts: Arc<Mutex<Counts>>,
    file: Arc<ActiveFile>,
}

impl FileProgress {
    /// Tells how many bytes the file has.
    pub(crate) fn expect(&self, bytes: u64) {
        // Only the first answer of a peer tells.
        let _ = self.file.length.set(bytes);
    }

    /// Counts bytes that were here already.
    pub(crate) fn raise(&self, bytes: u64) {
        let before = self.file.received.fetch_max(bytes, Ordering::Relaxed);
        let mut counts = lock(&self.counts);
        let raised = bytes.saturating_sub(before);
        let again = raised.min(counts.taken_back);
        counts.taken_back -= again;
        counts.here += raised - again;
    }

    /// Counts bytes no more that will be counted again.
    pub(crate) fn take_back(&self, bytes: u64) {
        let received = self.file.received();
        let bytes = bytes.min(received);
        self.file.received.store(received - bytes, Ordering::Relaxed);
        lock(&self.counts).taken_back += bytes;
    }

    /// Counts bytes that were received.
    pub(crate) fn advance(&self, bytes: usize) {
        self.file.received.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

impl Drop for FileProgress {
    fn drop(&mut self) {
        let mut counts = lock(&self.counts);
        counts.active.retain(|file| !Arc::ptr_eq(file, &self.file));
        counts.bytes += self.file.received();
        // Whoever draws locks the screen before the counts.
        drop(counts);
        self.file.bar.get().into_iter().for_each(remove);
    }
}

impl Counts {
    fn draw(&self, screen: &Screen, total: &ProgressBar) {
        // A terminal that has no size any more is gone.
        let Ok(window) = tcgetwinsize(io::stderr()) else { return };
        let rows = window.ws_row.saturating_sub(RESERVED_ROWS).max(1);
        let slow = self.active.iter().filter(|file| file.started.elapsed() > SLOW_FILE);
        slow.take(rows.into()).for_each(|file| file.draw(screen, total));
        let received = self.bytes + self.active.iter().map(|file| file.received()).sum::<u64>();
        // What was here tells nothing of the rate.
        total.set_position((received + self.taken_back).saturating_sub(self.here));
        if let Some(bytes) = Some(self.expected).filter(|bytes| *bytes > 0).or_else(|| self.estimated_bytes()) {
            total.set_length(bytes.saturating_sub(self.here));
        }
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // A rate is never negative.
        let rate = size(total.per_sec() as u64);
        let left = Some(total.eta()).filter(|left| !left.is_zero());
        let left = left.map(|left| format!(", {:#}", HumanDuration(left))).unwrap_or_default();
        let columns = usize::from(window.ws_col.saturating_sub(1).min(FIGURES_COLUMNS));
        total.set_message(self.figures(columns, received, &left, &format!(", {rate}/s")));
    }

    /// Estimates the bytes of a run of which no peer told a size: files whose size is not known yet are taken to be like
    /// the others. None where there is nothing to go by.
    fn estimated_bytes(&self) -> Option<u64> {
        let lengths = || self.active.iter().filter_map(|file| file.length.get());
        let known_bytes = lengths().fold(self.bytes, |sum, length| sum.saturating_add(*length));
        let known_files = self.done + lengths().count() as u64;
        let mean = known_bytes.checked_div(known_files).filter(|mean| *mean > 0)?;
        Some(known_bytes.saturating_add(mean.saturating_mul(self.files.saturating_sub(known_files))))
    }

    /// Says how much of what is here, in this many columns: what does not fit is left out, the rate first. A plus sign
    /// follows what may become more.
    fn figures(&self, columns: usize, received: u64, left: &str, rate: &str) -> String {
        let more = |may_grow| if may_grow { "+" } else { "" };
        let files = format!("{}/{}{}", self.done, self.files, more(self.is_incomplete));
        let mut bytes = size(received);
        if self.expected > 0 {
            bytes.extend(["/", &size(self.expected), more(self.is_incomplete || self.has_unsized)]);
        }
        let full = format!("{files} files, {bytes}{left}");
        let figures = [full.clone() + rate, full, format!("{files}, {bytes}{left}")];
        let fitting = figures.iter().find(|figures| figures.len() <= columns).unwrap_or(&figures[2]);
        format!("{fitting:<columns$.columns$}")
    }
}

impl ActiveFile {
    fn new(name: FileName) -> Self {
        let (length, bar) = (OnceLock::new(), OnceLock::new());
        Self { name, started: Instant::now(), length, received: AtomicU64::new(0), bar }
    }

    fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    fn draw(&self, screen: &Screen, total: &ProgressBar) {
        let bar =
            self.bar.get_or_init(|| screen.bars.insert_before(total, bar(FILE).with_message(self.name.to_string())));
        if let Some(length) = self.length.get() {
            bar.set_length(*length);
        }
        bar.set_position(self.received());
        bar.set_prefix(size(self.received()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(files: u64, done: u64, bytes: u64, lengths: &[Option<u64>]) -> Counts {
        let name = FileName::from_bytes(b"name").expect("a name");
        let file = |length: &Option<u64>| {
            let length = length.map_or_else(OnceLock::new, OnceLock::from);
            Arc::new(ActiveFile { length, ..ActiveFile::new(name.clone()) })
        };
        Counts { files, done, bytes, active: lengths.iter().map(file).collect(), ..Counts::default() }
    }

    #[test]
    fn files_of_unknown_size_are_taken_to_be_like_the_others() {
        assert_eq!(counts(20, 0, 0, &[]).estimated_bytes(), None);
        assert_eq!(counts(20, 0, 0, &[None]).estimated_bytes(), None);
        assert_eq!(counts(20, 0, 0, &[Some(1000)]).estimated_bytes(), Some(20_000));
        assert_eq!(counts(3, 2, 300, &[Some(5000)]).estimated_bytes(), Some(5300));
        assert_eq!(counts(4, 2, 2000, &[None]).estimated_bytes(), Some(4000));
        assert_eq!(counts(4, 2, 0, &[]).estimated_bytes(), None);
        assert_eq!(counts(4, 5, 100, &[Some(u64::MAX), Some(1)]).estimated_bytes(), Some(u64::MAX));
    }

    #[test]
    fn what_may_become_more_has_a_plus_sign_and_what_does_not_fit_is_left_out() {
        let figures = |counts: &Counts, columns| counts.figures(columns, 1024, ", 5s", ", 9 B/s").trim_end().to_owned();
        let counts = Counts { files: 20, done: 3, expected: 2048, ..Counts::default() };
        assert_eq!(figures(&counts, 58), "3/20 files, 1.00 KiB/2.00 KiB, 5s, 9 B/s");
        assert_eq!(figures(&counts, 39), "3/20 files, 1.00 KiB/2.00 KiB, 5s");
        assert_eq!(figures(&counts, 30), "3/20, 1.00 KiB/2.00 KiB, 5s");
        assert_eq!(figures(&counts, 10), "3/20, 1.00");
        let counts = Counts { has_unsized: true, ..counts };
        assert_eq!(figures(&counts, 58), "3/20 files, 1.00 KiB/2.00 KiB+, 5s, 9 B/s");
        let counts = Counts { is_incomplete: true, ..counts };
        assert_eq!(figures(&counts, 58), "3/20+ files, 1.00 KiB/2.00 KiB+, 5s, 9 B/s");
        let counts = Counts { expected: 0, ..counts };
        assert_eq!(figures(&counts, 58), "3/20+ files, 1.00 KiB, 5s, 9 B/s");
    }
}
