//! Commands that end by themselves: clients, and servers that refuse to start.

use std::{
    ffi::OsStr,
    fmt,
    fs::{self, DirEntry},
    io::{self, Read},
    mem,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use super::{Dir, PASSWORD, PATIENCE};

/// How many lines of an output a failure shows from its beginning, and as many from its end.
const SHOWN_LINES: usize = 40;

/// A command that has ended.
pub(crate) struct Run {
    command: String,
    dir: PathBuf,
    /// What lay in the directory at the end.
    files: Vec<String>,
    status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs the program in a directory with exactly these words.
#[track_caller]
pub(crate) fn tinyp2p<T: AsRef<OsStr>>(dir: &Dir, words: impl IntoIterator<Item = T>) -> Run {
    tinyp2p_start(dir, words).finish()
}

/// Starts the program in a directory with exactly these words.
fn tinyp2p_start<T: AsRef<OsStr>>(dir: &Dir, words: impl IntoIterator<Item = T>) -> Running {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tinyp2p"));
    command.args(words);
    Running::start(dir, command)
}

/// A client about to be run.
pub(crate) struct Download<'a> {
    dir: &'a Dir,
    url: String,
    pattern: String,
    options: Vec<String>,
}

/// A client that takes everything from the network of `url` into `dir`.
pub(crate) fn download<'a>(dir: &'a Dir, url: &str) -> Download<'a> {
    Download { dir, url: url.to_owned(), pattern: String::new(), options: Vec::new() }
}

impl Download<'_> {
    pub(crate) fn pattern(mut self, pattern: &str) -> Self {
        pattern.clone_into(&mut self.pattern);
        self
    }

    pub(crate) fn options<'b>(mut self, options: impl IntoIterator<Item = &'b str>) -> Self {
        self.options.extend(options.into_iter().map(str::to_owned));
        self
    }

    pub(crate) fn start(self) -> Running {
        let options = self.options.iter().map(String::as_str);
        let words = [PASSWORD, "client"].into_iter().chain(options);
        tinyp2p_start(self.dir, words.chain([&*self.url, "--", &self.pattern]))
    }

    #[track_caller]
    pub(crate) fn run(self) -> Run {
        self.start().finish()
    }
}

/// A command under way. Killed when dropped.
pub(crate) struct Running {
    child: Child,
    command: String,
    dir: PathBuf,
    stdout: Option<JoinHandle<String>>,
    stderr: Option<JoinHandle<String>>,
    /// What the command leaves behind when it is killed goes with this.
    _temporary: Dir,
}

impl Running {
    /// Starts a command in a directory, both its outputs collected.
    pub(crate) fn start(dir: &Dir, command: Command) -> Self {
        Self::start_with(dir, command, Stdio::piped())
    }

    /// Starts a command whose standard output nobody reads any more.
    pub(crate) fn start_unheard(dir: &Dir, command: Command) -> Self {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        Self::start_with(dir, command, writer.into())
    }

    /// Starts a command whose standard output goes elsewhere.
    pub(crate) fn start_with(dir: &Dir, mut command: Command, stdout: Stdio) -> Self {
        let temporary = Dir::new();
        if command.get_envs().all(|(variable, _)| variable != "TMPDIR") {
            command.env("TMPDIR", temporary.path());
        }
        command.current_dir(dir.path()).stdin(Stdio::null()).stdout(stdout).stderr(Stdio::piped());
        let mut child = spawn(&mut command);
        let stdout = child.stdout.take().map(collect);
        let stderr = child.stderr.take().map(collect);
        Self {
            child,
            command: format!("{command:?}"),
            dir: dir.path().to_owned(),
            stdout,
            stderr,
            _temporary: temporary,
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    #[cfg(target_os = "linux")]
    /// The sizes of all files that it has open, those without a name among them.
    #[cfg(target_os = "linux")]
    pub(crate) fn open_file_sizes(&self) -> Vec<u64> {
        let descriptors = std::fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap().filter_map(Result::ok);
        let files = descriptors.filter_map(|descriptor| std::fs::metadata(descriptor.path()).ok());
        files.filter(std::fs::Metadata::is_file).map(|file| file.len()).collect()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the end, which must come within `PATIENCE`.
    #[track_caller]
    pub(crate) fn finish(mut self) -> Run {
        let deadline = Instant::now() + PATIENCE;
        let mut status = self.child.try_wait().unwrap();
        while status.is_none() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(5));
            status = self.child.try_wait().unwrap();
        }
        if let Some(status) = status {
            return self.end(status);
        }
        // What a command that never ends has said is worth seeing.
        self.child.kill().unwrap();
        let status = self.child.wait().unwrap();
        panic!("killed, for it was still running after {PATIENCE:?}\n{}", self.end(status));
    }

    fn end(&mut self, status: ExitStatus) -> Run {
        let (stdout, stderr) = (text(self.stdout.take()), text(self.stderr.take()));
        let files = listing(&self.dir);
        Run { command: mem::take(&mut self.command), dir: mem::take(&mut self.dir), files, status, stdout, stderr }
    }
}

/// What a stream was collected to. A process that a killed command left may hold it open.
fn text(collector: Option<JoinHandle<String>>) -> String {
    let Some(collector) = collector else { return String::new() };
    let deadline = Instant::now() + PATIENCE;
    while !collector.is_finished() && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(1));
    }
    if collector.is_finished() { collector.join().unwrap() } else { "[some process holds this open]".to_owned() }
}

/// Starts a command. That there is no `python3` is worth a word of its own.
pub(super) fn spawn(command: &mut Command) -> Child {
    match command.spawn() {
        Ok(child) => child,
        Err(error) if command.get_program() == "python3" => {
            panic!("these tests need python3 with its standard library on the PATH: {error}")
        }
        Err(error) => panic!("could not run {command:?}: {error}"),
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail harmlessly when the command has ended.
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

fn collect(mut stream: impl Read + Send + 'static) -> JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        _ = stream.read_to_end(&mut bytes);
        String::from_utf8(bytes).expect("output is UTF-8")
    })
}

impl Run {
    /// Fails unless the command ended with this status, standard output is exactly these lines in any order, and
    /// standard error tells of each of these things. Standard error must be safe to show on a terminal, and must not
    /// hold the password.
    #[track_caller]
    pub(crate) fn ends(self, status: i32, saved: &[&str], told: &[&str]) -> Self {
        let mut wrong = Vec::new();
        if self.status.code() != Some(status) {
            wrong.push(format!("status {status} was expected"));
        }
        let (mut lines, mut expected) = (self.stdout.lines().collect::<Vec<_>>(), saved.to_vec());
        lines.sort_unstable();
        expected.sort_unstable();
        if lines != expected {
            wrong.push(format!("standard output should be {expected:?}"));
        }
        wrong.extend(
            told.iter()
                .filter(|text| !self.stderr.contains(**text))
                .map(|text| format!("standard error lacks {text:?}")),
        );
        if let Some(found) = unsafe_to_show(&self.stderr) {
            wrong.push(format!("standard error holds {found:?}"));
        }
        if self.stderr.contains(PASSWORD) || self.stderr.contains("panicked") {
            wrong.push("standard error holds the password or a panic".to_owned());
        }
        assert!(wrong.is_empty(), "{}\n{self}", wrong.join("\n"));
        self
    }

    /// Fails unless exactly one line of standard error is a complaint of the program that ended it.
    #[track_caller]
    pub(crate) fn with_one_complaint(self) -> Self {
        let complaints = self.stderr.lines().filter(|line| line.starts_with("tinyp2p: ")).count();
        assert_eq!(complaints, 1, "one line should begin with the program's name\n{self}");
        self
    }

    /// The exit status, and none after a signal.
    pub(crate) fn code(&self) -> Option<i32> {
        self.status.code()
    }
}

/// All that a failure needs to show: the command line, what lies in its directory, how it ended and what it said.
impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "==== command\n{}\n==== files in {}", self.command, self.dir.display())?;
        for name in &self.files {
            writeln!(f, "{name}")?;
        }
        writeln!(f, "==== status\n{}", self.status)?;
        writeln!(f, "==== stdout\n{}", shortened(&self.stdout))?;
        writeln!(f, "==== stderr\n{}\n====", shortened(&self.stderr))
    }
}

/// What lies in a directory, with sizes, in order of the names.
fn listing(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let kind = |entry: &DirEntry| match entry.metadata() {
        Ok(found) if found.is_file() => format!("{} bytes", found.len()),
        Ok(found) if found.is_dir() => "directory".to_owned(),
        Ok(found) if found.is_symlink() => "symbolic link".to_owned(),
        Ok(_) => "special file".to_owned(),
        Err(error) => error.to_string(),
    };
    let mut lines: Vec<String> =
        entries.map(|entry| format!("{} ({})", entry.file_name().display(), kind(&entry))).collect();
    lines.sort();
    lines
}

/// A text without the middle of its lines if there are too many.
fn shortened(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let Some(left_out @ 1..) = lines.len().checked_sub(2 * SHOWN_LINES) else { return text.trim_end().to_owned() };
    let (first, last) = (&lines[..SHOWN_LINES], &lines[lines.len() - SHOWN_LINES..]);
    format!("{}\n[{left_out} lines]\n{}", first.join("\n"), last.join("\n"))
}

/// The first character of some output that could steer a terminal or forge what stands around it.
pub(crate) fn unsafe_to_show(text: &str) -> Option<char> {
    text.chars().find(|&character| {
        (character.is_control() && character != '\n')
            || matches!(character, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    })
}
