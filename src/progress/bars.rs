//! The bars: a total, and above it a line for each file that is under way for longer.
//!
//! Whoever fetches only counts; a thread of its own draws, ten times a second, so that many small files cost nothing
//! and a silent peer shows. At the end nothing of it is left on the screen.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock,
        atomic::{AtomicU64, Ordering},
        mpsc::{RecvTimeoutError, Sender, channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use indicatif::{HumanDuration, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use log::LevelFilter;

use crate::{file_name::FileName, format::size, lock::lock};

use super::screen::{self, Screen};

/// How often the bars are drawn: faster, and nobody could read the figures.
const TICK: Duration = Duration::from_millis(100);

/// How often the terminal is written to at most, but for what is printed in between.
const DRAWS_PER_SECOND: u8 = 10;

/// A file has a line of its own only when it takes longer: thousands of small ones would only flicker.
const SHOWN_AFTER: Duration = Duration::from_millis(300);

/// How long one waits for answers before a line says so.
const WAITING_SHOWN_AFTER: Duration = Duration::from_millis(700);

/// The narrowest terminal in columns that has room for a bar and words beside the figures.
const WIDTH_FOR_BAR: u16 = 74;

/// Rows of the terminal that stay free of files' lines: the total's, the cursor's and one for a name.
const ROWS_FOR_OTHERS: u16 = 3;

/// Of how long ago the bytes count for the rate.
const METERED: Duration = Duration::from_secs(5);

/// The bars of this process, if there are any.
static BARS: OnceLock<MultiProgress> = OnceLock::new();

/// Runs something that prints while the bars are out of the way.
pub(crate) fn suspend<T>(print: impl FnOnce() -> T) -> T {
    match BARS.get() {
        Some(bars) => bars.suspend(print),
        None => print(),
    }
}

/// Takes all bars away for good. This waits for the terminal.
pub(crate) fn clear() {
    screen::leave();
    suspend(|| ());
}

/// The place for bars, if standard error is a terminal that can show them and messages are wanted.
fn place() -> Option<MultiProgress> {
    let is_wanted = screen::can_draw() && log::max_level() >= LevelFilter::Info;
    is_wanted.then(|| {
        // Each line of a tick asks to be drawn; once is enough.
        let target = || ProgressDrawTarget::term_like_with_hz(Box::new(Screen::default()), DRAWS_PER_SECOND);
        BARS.get_or_init(|| MultiProgress::with_draw_target(target())).clone()
    })
}

/// A thread that draws until this is dropped.
struct Ticker {
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Ticker {
    /// Draws for the first time after `first`. Where no thread is to be had nothing is drawn.
    fn start(first: Duration, mut draw: impl FnMut() + Send + 'static) -> Self {
        let (end, ended) = channel::<()>();
        let run = move || {
            let mut wait = first;
            while ended.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
                draw();
                wait = TICK;
            }
        };
        let thread = thread::Builder::new().name("progress".to_owned()).spawn(run).ok();
        Self { end: Some(end), thread }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        drop(self.end.take());
        // A panic in there has been reported by its hook, and the rest of the program can do without it.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// A line that says what one waits for, if that takes long; it is gone when this is dropped.
pub(crate) struct Waiting {
    line: Option<(Ticker, MultiProgress, ProgressBar)>,
}

impl Waiting {
    /// Shows what `text` gives, asked again and again.
    pub(crate) fn start(text: impl Fn() -> String + Send + 'static) -> Self {
        let line = place().map(|bars| {
            let bar = bars.add(ProgressBar::new_spinner().with_style(style("{wide_msg}")));
            let drawn = bar.clone();
            (Ticker::start(WAITING_SHOWN_AFTER, move || drawn.set_message(text())), bars, bar)
        });
        Self { line }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some((ticker, bars, bar)) = self.line.take() {
            drop(ticker);
            take_away(&bars, &bar);
        }
    }
}

/// The bars of one run over many files.
pub(crate) struct Progress {
    total: Option<Arc<Total>>,
    ticker: Mutex<Option<Ticker>>,
}

/// What is counted, and the bars that show it.
struct Total {
    bars: MultiProgress,
    bar: ProgressBar,
    files: u64,
    done: AtomicU64,
    bytes: AtomicU64,
    begun: Instant,
    meter: Mutex<Meter>,
    /// The files under way, by their numbers.
    flights: Mutex<BTreeMap<u64, Flight>>,
    flights_begun: AtomicU64,
}

/// A file under way.
struct Flight {
    name: FileName,
    begun: Instant,
    length: Option<u64>,
    got: Arc<AtomicU64>,
    meter: Meter,
    /// None until it has taken longer.
    line: Option<ProgressBar>,
}

impl Flight {
    fn new(name: &FileName, got: &Arc<AtomicU64>) -> Self {
        let (name, got) = (name.clone(), Arc::clone(got));
        Self { name, begun: Instant::now(), length: None, got, meter: Meter::default(), line: None }
    }

    fn got(&self) -> u64 {
        self.got.load(Ordering::Relaxed)
    }

    fn figures(&mut self) -> String {
        let got = self.got();
        let rate = size(self.meter.measure(self.begun.elapsed(), got)) + "/s";
        match self.length {
            Some(length) => format!("{:>3}% {rate:>10}", u128::from(got) * 100 / u128::from(length.max(1))),
            None => format!("{:>8} {rate:>10}", size(got)),
        }
    }
}

impl Progress {
    /// Shows bars for so many files, if standard error is a terminal that can show them and messages are wanted.
    pub(crate) fn start(files: usize) -> Self {
        let Some(bars) = place().filter(|_| files > 0) else { return Self { total: None, ticker: Mutex::default() } };
        let files = files as u64;
        let bar = bars.add(ProgressBar::new(files));
        let total = Arc::new(Total {
            bars,
            bar,
            files,
            done: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            begun: Instant::now(),
            meter: Mutex::default(),
            flights: Mutex::default(),
            flights_begun: AtomicU64::new(0),
        });
        let drawn = Arc::clone(&total);
        let ticker = Ticker::start(TICK, move || drawn.draw());
        Self { total: Some(total), ticker: Mutex::new(Some(ticker)) }
    }

    /// The progress of one file that is being fetched.
    pub(crate) fn file(&self, name: &FileName) -> FileProgress {
        let flight = self.total.as_ref().map(|total| {
            let (number, got) = (total.flights_begun.fetch_add(1, Ordering::Relaxed), Arc::default());
            total.flights().insert(number, Flight::new(name, &got));
            (Arc::clone(total), number, got)
        });
        FileProgress { flight }
    }

    /// Says that so many files are done with, for good or ill.
    pub(crate) fn advance(&self, files: usize) {
        if let Some(total) = &self.total {
            total.done.fetch_add(files as u64, Ordering::Relaxed);
        }
    }

    /// Takes all bars away.
    pub(crate) fn finish(&self) {
        drop(lock(&self.ticker).take());
        if let Some(total) = &self.total {
            take_away(&total.bars, &total.bar);
        }
    }
}

fn take_away(bars: &MultiProgress, bar: &ProgressBar) {
    bar.finish_and_clear();
    bars.remove(bar);
}

impl Total {
    fn draw(&self) {
        let (columns, rows) = screen::size();
        let is_wide = columns >= WIDTH_FOR_BAR;
        let mut flights = self.flights();
        let slow = flights.values_mut().filter(|flight| flight.begun.elapsed() > SHOWN_AFTER);
        for flight in slow.take(rows.saturating_sub(ROWS_FOR_OTHERS).into()) {
            let figures = flight.figures();
            let line = flight.line.get_or_insert_with(|| {
                let line = ProgressBar::new_spinner().with_style(style("{prefix}  {wide_msg}"));
                self.bars.insert_before(&self.bar, line.with_message(flight.name.to_string()))
            });
            line.set_prefix(figures);
        }
        let in_flight: Vec<_> = flights.values().map(|flight| (flight.got(), flight.length)).collect();
        drop(flights);
        let (done, bytes) = (self.done.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed));
        let rate = lock(&self.meter).measure(self.begun.elapsed(), bytes);
        let counts = Counts { files: self.files, done, bytes, rate };
        self.bar.set_style(style(if is_wide { "[{bar:20}] {wide_msg}" } else { "{wide_msg}" }));
        self.bar.set_message(counts.figures(counts.time_left(&in_flight, self.begun.elapsed()), is_wide));
        self.bar.set_position(done);
    }

    fn flights(&self) -> MutexGuard<'_, BTreeMap<u64, Flight>> {
        lock(&self.flights)
    }
}

/// One file under way; its line is gone when this is dropped.
pub(crate) struct FileProgress {
    flight: Option<(Arc<Total>, u64, Arc<AtomicU64>)>,
}

impl FileProgress {
    /// Says how many bytes the file has, if that is known.
    pub(crate) fn expect(&mut self, bytes: u64) {
        if let Some((total, number, _)) = &self.flight
            && let Some(flight) = total.flights().get_mut(number)
        {
            flight.length = Some(bytes);
        }
    }

    /// Says that so many more bytes have come.
    pub(crate) fn advance(&mut self, bytes: usize) {
        if let Some((total, _, got)) = &self.flight {
            got.fetch_add(bytes as u64, Ordering::Relaxed);
            total.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        }
    }
}

impl Drop for FileProgress {
    fn drop(&mut self) {
        if let Some((total, number, _)) = &self.flight {
            let flight = total.flights().remove(number);
            if let Some(line) = flight.and_then(|flight| flight.line) {
                take_away(&total.bars, &line);
            }
        }
    }
}

/// Bytes a second, of late.
#[derive(Default)]
struct Meter {
    /// When how many bytes had come, the oldest first.
    samples: VecDeque<(Duration, u64)>,
}

impl Meter {
    /// Takes another sample; the rate since the oldest that still counts.
    fn measure(&mut self, now: Duration, bytes: u64) -> u64 {
        while self.samples.get(1).is_some_and(|&(time, _)| now.saturating_sub(time) >= METERED) {
            self.samples.pop_front();
        }
        self.samples.push_back((now, bytes));
        let (since, before) = self.samples.front().filter(|_| self.samples.len() > 1).copied().unwrap_or_default();
        let rate = u128::from(bytes - before) * 1000 / now.saturating_sub(since).as_millis().max(1);
        u64::try_from(rate).unwrap_or(u64::MAX)
    }
}

/// How far the whole run is.
struct Counts {
    files: u64,
    done: u64,
    bytes: u64,
    /// Bytes a second.
    rate: u64,
}

impl Counts {
    /// How long the rest will take, going by the bytes and, of the files under way, their lengths; nobody knows how
    /// large those are that wait, so they are taken to be like the others.
    fn time_left(&self, in_flight: &[(u64, Option<u64>)], elapsed: Duration) -> Option<Duration> {
        let got: u64 = in_flight.iter().map(|(got, _)| got).sum();
        let known = || in_flight.iter().filter_map(|&(got, length)| Some((got, length?)));
        let begun = self.done + known().count() as u64;
        let waiting = u128::from(self.files.saturating_sub(begun));
        let settled = self.bytes.saturating_sub(got) + known().map(|(_, length)| length).sum::<u64>();
        let mean = u128::from(settled).checked_div(begun.into())?;
        let rest = known().map(|(got, length)| u128::from(length.saturating_sub(got))).sum::<u128>() + mean * waiting;
        let millis = if rest > 0 {
            (rest * 1000).checked_div(self.rate.into())?
        } else {
            // Files without content.
            (elapsed.as_millis() * waiting).checked_div(begun.into())?
        };
        u64::try_from(millis).ok().map(Duration::from_millis)
    }

    fn figures(&self, left: Option<Duration>, is_wide: bool) -> String {
        let Self { files, done, bytes, rate } = self;
        let (bytes, rate) = (size(*bytes), size(*rate));
        let left = left.map(HumanDuration);
        match (is_wide, left) {
            (true, Some(left)) => format!("{done}/{files} files, {bytes}, {rate}/s, {left:#} left"),
            (true, None) => format!("{done}/{files} files, {bytes}, {rate}/s"),
            (false, Some(left)) => format!("{done}/{files} {bytes} {rate}/s {left:#}"),
            (false, None) => format!("{done}/{files} {bytes} {rate}/s"),
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the templates are fixed and well-formed").progress_chars("=> ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn counts(files: u64, done: u64, bytes: u64, rate: u64) -> Counts {
        Counts { files, done, bytes, rate }
    }

    #[test]
    fn the_meter_forgets_what_is_long_ago() {
        let mut meter = Meter::default();
        assert_eq!(meter.measure(SECOND, 100), 100);
        assert_eq!(meter.measure(SECOND * 2, 1100), 1000);
        for second in 3..100 {
            meter.measure(SECOND * second, 1100 + u64::from(second) * 10);
        }
        assert_eq!(meter.measure(SECOND * 100, 1100 + 1000), 10);
        assert_eq!(meter.measure(SECOND * 200, 1100 + 1000), 0);
    }

    #[test]
    fn the_time_left_goes_by_lengths_where_they_are_known() {
        let left = |counts: Counts, in_flight: &[_]| counts.time_left(in_flight, SECOND * 10);
        assert_eq!(left(counts(20, 0, 0, 0), &[]), None);
        assert_eq!(left(counts(20, 0, 0, 100), &[(0, None)]), None);
        assert_eq!(left(counts(20, 0, 400, 100), &[(400, Some(1000))]), Some(SECOND * 196));
        assert_eq!(left(counts(3, 2, 300, 100), &[(100, Some(5000))]), Some(SECOND * 49));
        assert_eq!(left(counts(4, 2, 2000, 100), &[(0, None)]), Some(SECOND * 20));
        assert_eq!(left(counts(4, 3, 300, 0), &[]), None);
        assert_eq!(left(counts(40, 20, 0, 0), &[]), Some(SECOND * 10));
    }

    #[test]
    fn the_figures_fit_the_narrowest_common_terminals() {
        let counts = counts(10_000, 10_000, 1023 << 20, 1012 << 20);
        let (wide, narrow) = (counts.figures(Some(SECOND * 59), true), counts.figures(Some(SECOND * 59), false));
        assert_eq!(narrow, "10000/10000 1023 MiB 1012 MiB/s 59s");
        assert!(wide.len() < usize::from(WIDTH_FOR_BAR) - "[====================] ".len(), "{wide}");
    }
}
