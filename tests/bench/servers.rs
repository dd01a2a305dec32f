//! The programs that are compared: ours, nginx, rsync and the Python peer.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::{
    scratch::Scratch,
    support::{PASSWORD, Relay, Wire},
};

/// How long a program that was started may take to listen.
const START: Duration = Duration::from_secs(10);

/// The second implementation of the protocol.
const PYTHON_PEER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers/peer.py");

/// A process that ends with this value.
pub(crate) struct Running(Child);

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        Self(command.spawn().unwrap_or_else(|error| panic!("could not run {command:?}: {error}")))
    }

    /// Starts a server and waits until it can be called.
    fn listening(command: &mut Command, port: u16) -> Self {
        let server = Self::start(command);
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(begun.elapsed() < START, "{command:?} does not listen");
            thread::sleep(Duration::from_millis(10));
        }
        server
    }

    /// Starts a server that prints its URL; returns that as well.
    fn with_url(command: &mut Command) -> (Self, String) {
        let mut server = Self::start(command.stdout(Stdio::piped()));
        let mut url = String::new();
        let stdout = server.0.stdout.take().expect("it is piped");
        BufReader::new(stdout).read_line(&mut url).expect("it prints its URL");
        (server, url.trim_end().to_owned())
    }

    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    pub(crate) fn runs(&mut self) -> bool {
        matches!(self.0.try_wait(), Ok(None))
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.0.wait().expect("it is ours")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail harmlessly when the process has ended.
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

/// A command whose standard streams go nowhere.
pub(crate) fn command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// One build of our program.
pub(crate) struct Program {
    pub(crate) name: &'static str,
    path: PathBuf,
    /// The options of its servers.
    options: &'static [&'static str],
}

impl Program {
    pub(crate) fn new(name: &'static str, path: PathBuf) -> Self {
        Self { name, path, options: &[] }
    }

    /// The same build in a private network.
    pub(crate) fn private(&self) -> Self {
        Self { name: "private", path: self.path.clone(), options: &["--private"] }
    }

    /// A server of this build over one directory.
    pub(crate) fn serve(&self, dir: &Path, options: &[&str]) -> Ours<'_> {
        let mut command = self.command("server");
        command.args(self.options);
        let (server, url) = Running::with_url(command.arg("--dir").arg(dir).args(options).args(["127.0.0.1", "0"]));
        Ours { program: self, server, url, _relay: None }
    }

    /// A server that is called through a relay, and believes to be there.
    pub(crate) fn serve_through(&self, wire: Wire, dir: &Path) -> Ours<'_> {
        let mut relay = Relay::bind();
        let port = free_port();
        let mut command = self.command("server");
        command.args(self.options).arg("--dir").arg(dir).args(["--bind", &format!("127.0.0.1:{port}")]);
        command.args(["127.0.0.1", &relay.port().to_string()]);
        let (server, url) = Running::with_url(&mut command);
        relay.start(port, wire);
        Ours { program: self, server, url, _relay: Some(relay) }
    }

    /// A client of this build that takes everything from a network.
    pub(crate) fn client(&self, url: &str, dest: &Path) -> Command {
        let mut client = self.command("client");
        client.arg("--dir").arg(dest).args([url, ""]);
        client
    }

    fn command(&self, mode: &str) -> Command {
        let mut command = command(&self.path);
        command.args([PASSWORD, mode]);
        command
    }
}

/// Our server.
pub(crate) struct Ours<'a> {
    pub(crate) program: &'a Program,
    pub(crate) server: Running,
    /// What it says its URL is.
    pub(crate) url: String,
    _relay: Option<Relay>,
}

/// nginx over one directory.
pub(crate) struct Nginx {
    pub(crate) server: Running,
    port: u16,
}

impl Nginx {
    pub(crate) fn start(scratch: &Scratch, dir: &Path) -> Self {
        let (port, prefix) = (free_port(), scratch.dir("nginx"));
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|what| format!("{what}_temp_path {}/{what};", prefix.display()))
            .concat();
        // One process, which ends when it is killed; it gets all that makes it fast.
        let text = format!(
            "daemon off; master_process off; pid {}/pid; error_log stderr;
            events {{ worker_connections 256; }}
            http {{ access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000; {temporary}
            server {{ listen 127.0.0.1:{port}; root {}; }} }}\n",
            prefix.display(),
            dir.display()
        );
        let file = prefix.join("nginx.conf");
        fs::write(&file, text).expect("the scratch directory can be written");
        let mut server = command("nginx");
        server.arg("-p").arg(&prefix).args(["-e", "stderr", "-c"]).arg(&file);
        Self { server: Running::listening(&mut server, port), port }
    }

    pub(crate) fn url(&self, name: &str) -> String {
        format!("http://127.0.0.1:{}/{name}", self.port)
    }

    /// The URL without a path.
    pub(crate) fn root(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

/// The daemon of rsync over one directory.
pub(crate) struct Rsyncd {
    _server: Running,
    port: u16,
}

impl Rsyncd {
    pub(crate) fn start(scratch: &Scratch, dir: &Path) -> Self {
        let port = free_port();
        let file = scratch.path().join("rsyncd.conf");
        let text = format!("use chroot = false\n[data]\npath = {}\nread only = true\n", dir.display());
        fs::write(&file, text).expect("the scratch directory can be written");
        let mut server = command("rsync");
        server.args(["--daemon", "--no-detach", "--address", "127.0.0.1", "--port", &port.to_string(), "--config"]);
        Self { _server: Running::listening(server.arg(&file), port), port }
    }

    /// The same daemon at the other end of a wire.
    pub(crate) fn through(self, wire: Wire) -> (Self, Relay) {
        let mut relay = Relay::bind();
        relay.start(self.port, wire);
        (Self { port: relay.port(), ..self }, relay)
    }

    pub(crate) fn client(&self, dest: &Path) -> Command {
        let mut client = command("rsync");
        client.args(["-a", &format!("rsync://127.0.0.1:{}/data/", self.port)]).arg(dest);
        client
    }
}

/// The Python server over one directory; returns its URL as well.
pub(crate) fn serve_python(dir: &Path) -> (Running, String) {
    let mut peer = command("python3");
    Running::with_url(peer.args(["-u", PYTHON_PEER, "--dir"]).arg(dir).args([PASSWORD, "server", "127.0.0.1", "0"]))
}

/// The Python client, which takes everything from a network.
pub(crate) fn python_client(url: &str, dest: &Path) -> Command {
    let mut client = command("python3");
    client.args([PYTHON_PEER, "--dir"]).arg(dest).args([PASSWORD, "client", url, ""]);
    client
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    listener.local_addr().expect("it listens").port()
}
