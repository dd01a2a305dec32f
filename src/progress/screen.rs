//! The terminal as indicatif draws on it.
//!
//! Invariant: the cursor rests at the beginning of the row below the bars, and the rows above it that hold bars are
//! known, also after the terminal has become narrower. So what the terminal itself writes meanwhile, such as `^C`, and
//! any change of the width leave nothing behind. indicatif's own terminal pads each row to the full width and rests
//! behind the last one, which both upset, and it panics when the terminal is gone.

use std::{
    env,
    io::{self, IsTerminal, Write},
    mem,
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use indicatif::TermLike;
use rustix::{
    process::getpgrp,
    termios::{tcgetpgrp, tcgetwinsize},
};
use unicode_width::UnicodeWidthStr;

use crate::lock::lock;

/// Columns and rows of a terminal that does not say how many it has.
const USUAL_SIZE: (u16, u16) = (80, 24);

/// Bars are drawn ten times a second; after so long a pause the program was stopped (ctrl-z), and what stands above the
/// cursor is no longer ours.
const STOPPED_AFTER: Duration = Duration::from_secs(2);

/// Whether nothing is to be drawn any more.
static IS_OVER: AtomicBool = AtomicBool::new(false);

/// From now on nothing is drawn; what is there goes when it would be drawn next.
pub(super) fn leave() {
    IS_OVER.store(true, Ordering::Relaxed);
}

/// Standard error as a terminal.
#[derive(Debug, Default)]
pub(super) struct Screen(Mutex<Rows>);

#[derive(Debug, Default)]
struct Rows {
    /// The columns that each drawn row takes.
    drawn: Vec<usize>,
    drawn_at: Option<Instant>,
    /// What the next flush draws.
    text: String,
    /// The columns that each row of it takes.
    widths: Vec<usize>,
    is_row_open: bool,
}

/// Whether standard error is a terminal that bars can be drawn on.
pub(super) fn can_draw() -> bool {
    let is_dumb = env::var_os("TERM").is_none_or(|term| term == "dumb" || term.is_empty());
    !is_dumb && io::stderr().is_terminal()
}

/// Columns and rows of the terminal.
pub(super) fn size() -> (u16, u16) {
    let size = tcgetwinsize(io::stderr()).map_or((0, 0), |size| (size.ws_col, size.ws_row));
    if size.0 == 0 || size.1 == 0 { USUAL_SIZE } else { size }
}

/// Whether the terminal is ours to draw on, and not that of a shell that has put us in the background.
fn is_in_foreground() -> bool {
    tcgetpgrp(io::stderr()).map_or(true, |group| group == getpgrp())
}

impl Screen {
    fn rows(&self) -> MutexGuard<'_, Rows> {
        lock(&self.0)
    }
}

impl Rows {
    /// What replaces the drawn rows by the next ones on a terminal of so many columns.
    fn replace(&mut self, columns: usize) -> String {
        let text = mem::take(&mut self.text);
        let widths = mem::take(&mut self.widths);
        if self.drawn_at.is_some_and(|at| at.elapsed() > STOPPED_AFTER) {
            self.drawn.clear();
        }
        // Terminals wrap rows that have become too long; the few that cut them lose as many rows above the bars.
        let above: usize = self.drawn.iter().map(|width| width.div_ceil(columns).max(1)).sum();
        self.drawn = widths;
        match above {
            0 => text,
            _ => format!("\r\x1b[{above}A{text}\x1b[J"),
        }
    }
}

impl TermLike for Screen {
    /// One column stays free: not all terminals agree on where the cursor is when a row is full.
    fn width(&self) -> u16 {
        (size().0 - 1).max(1)
    }

    fn height(&self) -> u16 {
        (size().1 - 1).max(1)
    }

    // Each drawing replaces all rows, so that the cursor need not be moved, nor any row be cleared before.

    fn move_cursor_up(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn move_cursor_down(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn move_cursor_right(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn move_cursor_left(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn clear_line(&self) -> io::Result<()> {
        Ok(())
    }

    fn write_line(&self, text: &str) -> io::Result<()> {
        self.write_str(text)?;
        self.write_str("")
    }

    /// Takes a row, and after each row the blanks that are to fill it up to the width: they end it here.
    fn write_str(&self, text: &str) -> io::Result<()> {
        let mut rows = self.rows();
        rows.is_row_open ^= true;
        if rows.is_row_open {
            rows.text.push_str(text);
            rows.widths.push(text.width());
        } else {
            rows.text.push_str("\x1b[K\r\n");
        }
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        let mut rows = self.rows();
        if IS_OVER.load(Ordering::Relaxed) {
            rows.text.clear();
            rows.widths.clear();
        }
        if is_in_foreground() {
            let text = rows.replace(size().0.into());
            // A terminal that is gone shows no bars, which is no reason to end.
            let _ = io::stderr().write_all(text.as_bytes());
            rows.drawn_at = Some(Instant::now());
        } else {
            *rows = Rows::default();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(drawn: &[usize], text: &[&str]) -> Rows {
        let widths = text.iter().map(|row| row.len()).collect();
        Rows {
            drawn: drawn.to_vec(),
            drawn_at: Some(Instant::now()),
            text: text.join("\r\n"),
            widths,
            is_row_open: false,
        }
    }

    #[test]
    fn nothing_is_moved_before_something_is_drawn() {
        assert_eq!(rows(&[], &["bar"]).replace(80), "bar");
        assert_eq!(rows(&[], &[]).replace(80), "");
    }

    #[test]
    fn all_rows_are_replaced_also_those_that_wrap_now() {
        assert_eq!(rows(&[10, 0], &["bar"]).replace(80), "\r\x1b[2Abar\x1b[J");
        assert_eq!(rows(&[80, 41, 40], &[]).replace(40), "\r\x1b[5A\x1b[J");
    }

    #[test]
    fn what_was_drawn_before_a_stop_stays() {
        let mut rows = rows(&[10], &["bar"]);
        rows.drawn_at = Instant::now().checked_sub(STOPPED_AFTER * 2);
        assert_eq!(rows.replace(80), "bar");
    }
}
