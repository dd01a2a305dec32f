//! Commands at a terminal: a script in Python holds the pseudo-terminal and models its screen.

use std::{
    fmt,
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use super::{Dir, PATIENCE, process::spawn};

/// The script that models a terminal.
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/integration/harness/terminal.py");

/// A command at a terminal. Killed when dropped.
pub(crate) struct Terminal {
    script: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    command: String,
    _temporary: Dir,
}

/// What a terminal shows at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Look {
    /// All rows that have been on the screen and are not erased, also those that have left it at the top; with each,
    /// whether it goes on with the row before.
    rows: Vec<(bool, String)>,
    /// Whether what is typed is shown.
    pub(crate) echoes: bool,
    /// How many escape sequences the command has sent.
    pub(crate) escapes: u32,
    /// The exit status of the command once it has ended, negative after a signal.
    pub(crate) status: Option<i32>,
}

impl Look {
    /// What stands there, rows that were wrapped put together again, without the empty ones at the end.
    pub(crate) fn lines(&self) -> Vec<String> {
        let mut lines: Vec<String> = Vec::new();
        for (is_wrapped, row) in &self.rows {
            match lines.last_mut().filter(|_| *is_wrapped) {
                Some(line) => line.push_str(row),
                None => lines.push(row.clone()),
            }
        }
        for line in &mut lines {
            line.truncate(line.trim_end().len());
        }
        while lines.last().is_some_and(String::is_empty) {
            lines.pop();
        }
        lines
    }

    /// The rows, without the blanks and the empty rows at their ends.
    pub(crate) fn rows(&self) -> Vec<String> {
        let mut rows: Vec<String> = self.rows.iter().map(|(_, row)| row.trim_end().to_owned()).collect();
        while rows.last().is_some_and(String::is_empty) {
            rows.pop();
        }
        rows
    }

    /// The only row that holds this.
    pub(crate) fn row(&self, text: &str) -> Option<String> {
        let mut found = self.rows().into_iter().filter(|row| row.contains(text));
        found.next().filter(|_| found.next().is_none())
    }
}

impl fmt::Display for Look {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (is_wrapped, row) in &self.rows {
            writeln!(f, " {}|{row}", if *is_wrapped { '+' } else { ' ' })?;
        }
        writeln!(f, "  status {:?}, echo {}, {} escape sequences", self.status, self.echoes, self.escapes)
    }
}

impl Terminal {
    /// Starts our program in `dir` with these words, on a terminal of so many columns and rows.
    #[track_caller]
    pub(crate) fn start(dir: &Dir, size: (u16, u16), words: &[&str]) -> Self {
        Self::start_command(dir, size, &[&[env!("CARGO_BIN_EXE_tinyp2p")], words].concat())
    }

    /// Starts any command.
    #[track_caller]
    pub(crate) fn start_command(dir: &Dir, (columns, rows): (u16, u16), words: &[&str]) -> Self {
        let temporary = Dir::new();
        let mut command = Command::new("python3");
        command.arg(SCRIPT).args([columns.to_string(), rows.to_string()]).args(words);
        command.current_dir(dir.path()).env("TERM", "xterm").env("TMPDIR", temporary.path());
        command.env_remove("TINYP2P_PASSWORD").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut script = spawn(&mut command);
        let orders = script.stdin.take();
        let answers = BufReader::new(script.stdout.take().unwrap());
        Self { script, orders, answers, command: format!("{words:?}"), _temporary: temporary }
    }

    fn order(&mut self, order: &str) {
        writeln!(self.orders.as_mut().unwrap(), "{order}").unwrap();
    }

    pub(crate) fn type_text(&mut self, text: &str) {
        self.order(&format!("type {}", hex::encode(text)));
    }

    /// Closes the window.
    pub(crate) fn hang_up(&mut self) {
        self.order("hang-up");
    }

    pub(crate) fn look(&mut self) -> Look {
        self.order("look");
        let mut line = || {
            let mut line = String::new();
            self.answers.read_line(&mut line).unwrap();
            assert!(line.ends_with('\n'), "the terminal of {} has failed, see above", self.command);
            line.pop();
            line
        };
        let facts = line();
        let facts: Vec<&str> = facts.split(' ').collect();
        let [rows, echo, escapes, status] = facts[..] else { panic!("{facts:?} are no facts") };
        let rows = (0..rows.parse().unwrap()).map(|_| line());
        let rows = rows.map(|row| (row.starts_with('+'), row[1..].to_owned())).collect();
        Look { rows, echoes: echo == "1", escapes: escapes.parse().unwrap(), status: status.parse().ok() }
    }

    /// Looks until the screen is as it should be; what was there then.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, what: &str, is_there: impl Fn(&Look) -> bool) -> Look {
        let begun = Instant::now();
        loop {
            let look = self.look();
            if is_there(&look) {
                return look;
            }
            let is_over = look.status.is_some() || begun.elapsed() > PATIENCE;
            assert!(!is_over, "no {what} on the terminal of {}, but\n{look}", self.command);
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits for the end.
    #[track_caller]
    pub(crate) fn finish(mut self) -> Look {
        self.wait_for("end", |look| look.status.is_some())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // The end of its orders ends the script, which kills the command.
        drop(self.orders.take());
        _ = self.script.wait();
    }
}
