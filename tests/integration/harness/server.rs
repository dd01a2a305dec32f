//! Servers, ours and the one in Python: both say their URL in their first line and serve until they are stopped.

use std::{
    fmt::{self, Write as _},
    io::{BufRead, BufReader},
    os::unix::{
        fs::chown,
        process::{CommandExt, ExitStatusExt},
    },
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex, mpsc},
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

use super::{
    Dir, PASSWORD, PATIENCE, eventually,
    process::{spawn, unsafe_to_show},
};

/// The Python peer, which is the second implementation of the protocol that the tests compare with.
const PYTHON_PEER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers/peer.py");

/// A user and group without rights, the same on every system.
const NOBODY: u32 = 65_534;

/// How many lines of a log a failure shows.
const SHOWN_LINES: usize = 30;

/// A server about to be started.
pub(crate) struct Serve<'a> {
    dir: &'a Dir,
    in_python: bool,
    password: String,
    host: String,
    port: u16,
    options: Vec<String>,
    peers: Vec<String>,
    descriptors: Option<u32>,
}

/// A server of ours that shares `dir`, on a free port of 127.0.0.1.
pub(crate) fn serve(dir: &Dir) -> Serve<'_> {
    Serve {
        dir,
        in_python: false,
        password: PASSWORD.to_owned(),
        host: "127.0.0.1".to_owned(),
        port: 0,
        options: Vec::new(),
        peers: Vec::new(),
        descriptors: None,
    }
}

/// The Python server.
pub(crate) fn serve_python(dir: &Dir) -> Serve<'_> {
    Serve { in_python: true, ..serve(dir) }
}

impl Serve<'_> {
    pub(crate) fn password(mut self, password: &str) -> Self {
        password.clone_into(&mut self.password);
        self
    }

    pub(crate) fn host(mut self, host: &str) -> Self {
        host.clone_into(&mut self.host);
        self
    }

    pub(crate) fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    pub(crate) fn options<'a>(mut self, options: impl IntoIterator<Item = &'a str>) -> Self {
        self.options.extend(options.into_iter().map(str::to_owned));
        self
    }

    pub(crate) fn peers<'a>(mut self, peers: impl IntoIterator<Item = &'a str>) -> Self {
        self.peers.extend(peers.into_iter().map(str::to_owned));
        self
    }

    /// May have only so many descriptors.
    pub(crate) fn descriptors(mut self, limit: u32) -> Self {
        self.descriptors = Some(limit);
        self
    }

    #[track_caller]
    pub(crate) fn start(self) -> Server {
        let mut words = vec![self.password, "server".to_owned()];
        // The Python peer takes options before PASSWORD only.
        words.splice(if self.in_python { 0..0 } else { 2..2 }, self.options);
        words.extend([self.host, self.port.to_string()]);
        words.extend(self.peers);
        if self.in_python {
            Server::start(self.dir, python_peer(), &words)
        } else if let Some(limit) = self.descriptors {
            let mut command = Command::new("sh");
            command.args(["-c", &format!("ulimit -n {limit}; exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_tinyp2p")]);
            Server::start(self.dir, command, &words)
        } else {
            Server::start(self.dir, Command::new(env!("CARGO_BIN_EXE_tinyp2p")), &words)
        }
    }
}

/// The beginning of a command that runs the Python peer.
fn python_peer() -> Command {
    let mut command = Command::new("python3");
    command.arg("-u").arg(Path::new(PYTHON_PEER));
    command
}

/// The Python client, which takes everything from the network of `url`.
pub(crate) fn python_client(url: &str) -> Command {
    let mut command = python_peer();
    command.args([PASSWORD, "client", url, ""]);
    command
}

/// A server that runs. Killed when dropped.
pub(crate) struct Server {
    child: Child,
    command: String,
    url: String,
    log: Arc<Log>,
    /// Where the server puts its private socket; removed with this, also after a kill.
    temporary: Dir,
}

/// What a server has written to standard error so far, and whatever follows the first line of standard output.
#[derive(Default)]
struct Log {
    text: Mutex<String>,
    grew: Condvar,
}

impl Server {
    /// Starts our server with exactly these words.
    #[track_caller]
    pub(crate) fn with_words(dir: &Dir, words: &[&str]) -> Self {
        let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
        Self::start(dir, Command::new(env!("CARGO_BIN_EXE_tinyp2p")), &words)
    }

    /// Starts a program that is ours as a user who may do nothing; only root can.
    #[track_caller]
    pub(crate) fn as_nobody(dir: &Dir, program: &Path, words: &[&str]) -> Self {
        let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
        let mut command = Command::new(program);
        command.uid(NOBODY).gid(NOBODY);
        let temporary = Dir::new();
        chown(temporary.path(), Some(NOBODY), Some(NOBODY)).unwrap();
        Self::start_with(dir, temporary, command, &words)
    }

    /// Starts a command that is our server, its words included.
    #[track_caller]
    pub(crate) fn with_command(dir: &Dir, command: Command) -> Self {
        Self::start(dir, command, &[])
    }

    #[track_caller]
    fn start(dir: &Dir, command: Command, words: &[String]) -> Self {
        Self::start_with(dir, Dir::new(), command, words)
    }

    #[track_caller]
    fn start_with(dir: &Dir, temporary: Dir, mut command: Command, words: &[String]) -> Self {
        command.args(words).current_dir(dir.path()).env("TMPDIR", temporary.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = spawn(&mut command);
        let log = Arc::new(Log::default());
        let (first_line, url) = mpsc::channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let stderr = BufReader::new(child.stderr.take().unwrap());
        log.clone().collect("stdout: ", stdout, Some(first_line));
        log.clone().collect("", stderr, None);
        let mut server = Self { child, command: format!("{command:?}"), url: String::new(), log, temporary };
        match url.recv_timeout(PATIENCE) {
            Ok(url) => server.url = url,
            Err(error) => panic!("no URL on standard output: {error}\n{server}"),
        }
        server
    }

    /// The URL as the server said it.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn port(&self) -> u16 {
        self.url.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).expect("a server's URL ends with its port")
    }

    #[cfg(target_os = "linux")]
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has said so far.
    pub(crate) fn log(&self) -> String {
        self.log.text.lock().unwrap().clone()
    }

    /// Waits until a line of the log holds all of these, and returns it.
    #[track_caller]
    pub(crate) fn wait_for_log(&self, texts: &[&str]) -> String {
        let find =
            |text: &str| text.lines().find(|line| texts.iter().all(|text| line.contains(text))).map(str::to_owned);
        let text = self.log.text.lock().unwrap();
        let (text, _) = self.log.grew.wait_timeout_while(text, PATIENCE, |text| find(text).is_none()).unwrap();
        let line = find(&text);
        drop(text);
        line.unwrap_or_else(|| panic!("no line of the log holds {texts:?}\n{self}"))
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Sends a signal and waits for the end.
    #[track_caller]
    pub(crate) fn stop(&mut self, signal: Signal, deadline: Duration) -> ExitStatus {
        self.signal(signal);
        eventually("the server's end", deadline, || self.child.try_wait().unwrap())
    }

    /// What lies in the server's temporary directory.
    pub(crate) fn temporary_files(&self) -> Vec<String> {
        self.temporary.names()
    }

    /// Where the server's temporary directory is.
    pub(crate) fn temporary_path(&self) -> &Path {
        self.temporary.path()
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        let last = &lines[lines.len().saturating_sub(SHOWN_LINES)..];
        writeln!(f, "{}, called {:?}, has said at last:\n{}", self.command, self.url, last.join("\n"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let ended = self.child.try_wait().unwrap();
        _ = self.child.kill();
        _ = self.child.wait();
        if thread::panicking() {
            eprintln!("{self}");
            return;
        }
        let signal = ended.and_then(|status| status.signal());
        let log = self.log();
        assert!(signal.is_none_or(|signal| signal == Signal::KILL.as_raw()), "died of signal {signal:?}\n{self}");
        assert!(!log.contains("panicked") && !log.contains(PASSWORD), "a panic or the password in the log\n{self}");
        let lines = log.lines().find_map(unsafe_to_show);
        assert!(lines.is_none(), "the log holds {lines:?}\n{self}");
    }
}

impl Log {
    fn collect(
        self: Arc<Self>,
        mark: &'static str,
        stream: impl BufRead + Send + 'static,
        mut first: Option<mpsc::Sender<String>>,
    ) {
        thread::spawn(move || {
            for line in stream.split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).into_owned();
                if let Some(first) = first.take() {
                    _ = first.send(line);
                    continue;
                }
                writeln!(self.text.lock().unwrap(), "{mark}{line}").unwrap();
                self.grew.notify_all();
            }
        });
    }
}
