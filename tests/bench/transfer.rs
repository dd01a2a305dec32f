//! The benchmark: `cargo bench`, or `cargo bench -- WORD` for the works whose names hold the word.
//!
//! Drives the real binary against itself and against what else is installed (nginx with curl, rsync, Python 3), in
//! rounds in which each has its turn, and prints one table. It measures and judges nothing: there is no assertion about
//! time. Whatever it starts and makes is gone at the end, also after a panic.

use std::{
    env,
    fmt::Write as _,
    fs::{self, File},
    io::{self, BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// Timed rounds of each work, fewer where they take longer than [`WORK_BUDGET`].
const ROUNDS: usize = 7;

/// The time that the rounds of one work may take before no further one begins.
const WORK_BUDGET: Duration = Duration::from_secs(20);

/// The bytes that all files together need at the worst moment.
const SPACE_BYTES: u64 = 7 << 30;

const GIB: u64 = 1 << 30;

/// The password and the name of all servers that are called without our client, and the proof for the two.
const PASSWORD: &str = "123456";
const OWN_PORT: u16 = 34567;
const PROOF: &str = "b38af226b17a999065bedd075a447e90";

/// The scratch directory's name without the id of its process.
const SCRATCH_PREFIX: &str = "tinyp2p-bench-";

/// How long a program that was started may take to listen.
const START: Duration = Duration::from_secs(10);

const PYTHON_PEER: &str = r#"
import hmac, os, re, sys, xmlrpc.client as x, xmlrpc.server as s
mode, url, dir = sys.argv[1:]
proof = hmac.new(b"123456", url.encode(), "md5").hexdigest()
if mode == "server":
    def f(p, op, arg):
        if p != proof: return False
        if op == 0: return [url]
        if op == 1: return [[n for n in os.listdir(dir) if re.search(arg, n)]]
        return x.Binary(open(os.path.join(dir, arg), "rb").read())
    server = s.SimpleXMLRPCServer(("127.0.0.1", int(url.split(":")[2])), logRequests=False)
    server.register_function(f)
    server.serve_forever()
peer = x.ServerProxy(url)
for name in peer.f(proof, 1, "")[0]:
    open(os.path.join(dir, name), "wb").write(peer.f(proof, 2, name).data)
"#;

fn main() {
    let words: Vec<String> = env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let begun = Instant::now();
    let bench = Bench::set_up(words);
    let mut table = Table::default();
    bench.large(&mut table);
    bench.small(&mut table);
    bench.python(&mut table);
    bench.huge(&mut table);
    bench.many(&mut table);
    bench.calls(&mut table);
    bench.idle(&mut table);
    table.print();
    println!("took {:.0} s, {}", begun.elapsed().as_secs_f64(), load());
}

/// The rows that are printed at the end.
#[derive(Default)]
struct Table(Vec<[String; 6]>);

impl Table {
    fn add(&mut self, work: &str, program: &str, median: String, ratio: String, peak: Peak) {
        let row = [work.to_owned(), program.to_owned(), median, ratio, mib(peak.server), mib(peak.client)];
        println!("  {}", row.join(" | "));
        self.0.push(row);
    }

    fn print(&self) {
        let head = ["work", "program", "median", "ours / it", "server MiB", "client MiB"].map(str::to_owned);
        let rows: Vec<_> = std::iter::once(&head).chain(&self.0).collect();
        let widths: [usize; 6] =
            std::array::from_fn(|column| rows.iter().map(|row| row[column].len()).max().unwrap_or(0));
        println!();
        for (index, row) in rows.into_iter().enumerate() {
            let cells: Vec<_> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            println!("| {} |", cells.join(" | "));
            if index == 0 {
                println!("|{}|", widths.map(|width| "-".repeat(width + 2)).join("|"));
            }
        }
        println!("\nmedians of times, medians of the ratios of each round; memory is the peak of a process (VmHWM)");
    }
}

/// The peak memory of both sides in KiB, as far as it is known.
#[derive(Clone, Copy, Default)]
struct Peak {
    server: Option<u64>,
    client: Option<u64>,
}

/// One way to do a work.
struct Way<'a> {
    program: &'a str,
    server: Option<&'a Running>,
    /// The client that is timed from its start to its end; it may fill the directory that it is given.
    client: &'a dyn Fn(&Path) -> Command,
}

/// What all works need.
struct Bench {
    words: Vec<String>,
    scratch: Scratch,
    has_nginx: bool,
    has_rsync: bool,
    has_python: bool,
}

impl Bench {
    fn set_up(words: Vec<String>) -> Self {
        let scratch = Scratch::new();
        println!("data in {}, {}", scratch.0.display(), load());
        let has = |program: &str, skipped: &str| {
            let found = command(program).arg("--help").status().is_ok();
            if !found {
                println!("skipped, for there is no {program}: {skipped}");
            }
            found
        };
        let has_nginx = has("nginx", "everything against nginx and curl") && has("curl", "everything against nginx");
        let has_rsync = has("rsync", "everything against rsync");
        let has_python = has("python3", "everything against Python");
        if peak(std::process::id()).is_none() {
            println!("skipped, for there is no /proc: memory and wake-ups");
        }
        Self { words, scratch, has_nginx, has_rsync, has_python }
    }

    fn wants(&self, work: &str) -> bool {
        self.words.is_empty() || self.words.iter().any(|word| work.contains(word.as_str()))
    }

    fn dir(&self, name: &str) -> PathBuf {
        let dir = self.scratch.0.join(name);
        fs::create_dir_all(&dir).expect("the scratch directory can be written");
        dir
    }

    /// Times all ways in turn, ours first in the table, and adds a row for each.
    fn compare(&self, table: &mut Table, work: &str, ways: &[Way<'_>], rounds: usize) {
        println!("{work}");
        let dest = self.scratch.0.join("dest");
        let run = |way: &Way<'_>, watch: bool| {
            let _ = fs::remove_dir_all(&dest);
            fs::create_dir(&dest).expect("the scratch directory can be written");
            let mut command = (way.client)(&dest);
            let begun = Instant::now();
            let mut client = Running(command.spawn().expect("it has been started before"));
            let peak = watch.then(|| watch_peak(&mut client)).flatten();
            let status = client.0.wait().expect("it is ours");
            assert!(status.success(), "{} failed at {work}: {status}", way.program);
            (begun.elapsed().as_secs_f64(), peak)
        };
        // The round in which memory is watched also warms up.
        let peaks: Vec<_> = ways.iter().map(|way| run(way, true).1).collect();
        let mut times = vec![Vec::new(); ways.len()];
        let begun = Instant::now();
        for round in 0..rounds {
            for turn in 0..ways.len() {
                let index = (round + turn) % ways.len();
                times[index].push(run(&ways[index], false).0);
            }
            if begun.elapsed() > WORK_BUDGET {
                break;
            }
        }
        let _ = fs::remove_dir_all(&dest);
        for (index, way) in ways.iter().enumerate() {
            let ratios = times[0].iter().zip(&times[index]).map(|(ours, its)| ours / its).collect();
            let ratio = if index == 0 { String::new() } else { format!("{:.2}", median(ratios)) };
            let time =
                if times[index].is_empty() { "-".to_owned() } else { format!("{:.3} s", median(times[index].clone())) };
            let server = way.server.and_then(|server| peak(server.0.id()));
            table.add(work, way.program, time, ratio, Peak { server, client: peaks[index] });
        }
    }

    fn large(&self, table: &mut Table) {
        let (raw, xml) = ("1 GiB to a file", "1 GiB as XML, discarded");
        if !self.wants(raw) && !self.wants(xml) {
            return;
        }
        let dir = self.dir("large");
        write_noise(&dir.join("large.bin"), GIB);
        let nginx = self.has_nginx.then(|| Nginx::start(&self.scratch, &dir));
        let url = nginx.as_ref().map(|nginx| nginx.url("large.bin")).unwrap_or_default();
        let curl_to = |file: &Path| {
            let mut curl = command("curl");
            curl.args(["-sf", "-o"]).arg(file);
            curl
        };
        if self.wants(raw) {
            let ours = Ours::start(&dir);
            let rsync = self.has_rsync.then(|| Rsyncd::start(&self.scratch, &dir));
            let fetch = |dest: &Path| tinyp2p_client(&ours.url, dest);
            let download = |dest: &Path| {
                let mut curl = curl_to(&dest.join("large.bin"));
                curl.arg(&url);
                curl
            };
            let copy = |dest: &Path| rsync.as_ref().expect("it has been started").client(dest);
            let mut ways = vec![Way { program: "tinyp2p", server: Some(&ours.server), client: &fetch }];
            ways.extend(nginx.as_ref().map(|it| Way {
                program: "nginx, curl",
                server: Some(&it.server),
                client: &download,
            }));
            ways.extend(rsync.as_ref().map(|_| Way { program: "rsync", server: None, client: &copy }));
            self.compare(table, raw, &ways, ROUNDS);
        }
        if self.wants(xml)
            && let Some(nginx) = &nginx
        {
            let ours = Ours::named(&dir, OWN_PORT, &[]);
            let body = self.scratch.0.join("call.xml");
            fs::write(&body, call(2, "<string>large.bin</string>")).expect("the scratch directory can be written");
            let post = |_: &Path| {
                let mut curl = curl_to(Path::new("/dev/null"));
                curl.args(["-H", "Content-Type: text/xml", "--data-binary"]).arg(format!("@{}", body.display()));
                curl.arg(format!("http://127.0.0.1:{}/RPC2", ours.port));
                curl
            };
            let discard = |_: &Path| {
                let mut curl = curl_to(Path::new("/dev/null"));
                curl.arg(&url);
                curl
            };
            let ways = [
                Way { program: "tinyp2p, curl", server: Some(&ours.server), client: &post },
                Way { program: "nginx, curl", server: Some(&nginx.server), client: &discard },
            ];
            self.compare(table, xml, &ways, ROUNDS);
        }
        let _ = fs::remove_dir_all(dir);
    }

    fn small(&self, table: &mut Table) {
        let work = "10,000 files of 1 KiB";
        if !self.wants(work) {
            return;
        }
        let dir = self.dir("small");
        let names = write_many(&dir, 10_000, 1024);
        let ours = Ours::start(&dir);
        let nginx = self.has_nginx.then(|| Nginx::start(&self.scratch, &dir));
        let rsync = self.has_rsync.then(|| Rsyncd::start(&self.scratch, &dir));
        let urls = self.scratch.0.join("urls");
        if let Some(nginx) = &nginx {
            let lines = names.iter().map(|name| format!("url={}\noutput={name}\n", nginx.url(name)));
            fs::write(&urls, lines.collect::<String>()).expect("the scratch directory can be written");
        }
        let fetch = |dest: &Path| tinyp2p_client(&ours.url, dest);
        let copy = |dest: &Path| rsync.as_ref().expect("it has been started").client(dest);
        let download = |dest: &Path| {
            let mut curl = command("curl");
            curl.args(["-sf", "--parallel", "--parallel-max", "8", "-K"]).arg(&urls).current_dir(dest);
            curl
        };
        let mut ways = vec![Way { program: "tinyp2p", server: Some(&ours.server), client: &fetch }];
        ways.extend(nginx.as_ref().map(|it| Way {
            program: "nginx, curl x 8",
            server: Some(&it.server),
            client: &download,
        }));
        ways.extend(rsync.as_ref().map(|_| Way { program: "rsync -a", server: None, client: &copy }));
        self.compare(table, work, &ways, ROUNDS);
        let _ = fs::remove_dir_all(dir);
    }

    fn python(&self, table: &mut Table) {
        for (work, count, bytes) in [("one file of 16 MiB", 1, 16 << 20), ("1,000 files of 1 KiB", 1000, 1024)] {
            if !self.has_python || !self.wants(work) {
                continue;
            }
            let dir = self.dir("python");
            write_many(&dir, count, bytes);
            let ours = Ours::start(&dir);
            let port = free_port();
            let script = self.scratch.0.join("peer.py");
            fs::write(&script, PYTHON_PEER).expect("the scratch directory can be written");
            let url = format!("http://127.0.0.1:{port}");
            let python = |mode: &str, dir: &Path| {
                let mut python = command("python3");
                python.arg(&script).args([mode, &url]).arg(dir);
                python
            };
            let theirs = Running::listening(python("server", &dir), port);
            let fetch = |dest: &Path| tinyp2p_client(&ours.url, dest);
            let mixed = |dest: &Path| tinyp2p_client(&url, dest);
            let ways = [
                Way { program: "tinyp2p", server: Some(&ours.server), client: &fetch },
                Way { program: "Python, tinyp2p", server: Some(&theirs), client: &mixed },
                Way { program: "Python, Python", server: Some(&theirs), client: &|dest| python("client", dest) },
            ];
            self.compare(table, work, &ways, 5);
            let _ = fs::remove_dir_all(dir);
        }
    }

    /// A file so large that whoever holds it in memory is found out.
    fn huge(&self, table: &mut Table) {
        let (raw, xml) = ("3 GiB to a file", "3 GiB to a file, as XML");
        let dir = self.dir("huge");
        // A hole: it costs no memory here, and is as long as any other content to those who send it.
        File::create(dir.join("huge.bin")).and_then(|file| file.set_len(3 * GIB)).expect("holes can be made");
        if self.wants(raw) {
            let ours = Ours::start(&dir);
            let fetch = |dest: &Path| tinyp2p_client(&ours.url, dest);
            self.compare(table, raw, &[Way { program: "tinyp2p", server: Some(&ours.server), client: &fetch }], 1);
        }
        if self.wants(xml) {
            let relay = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
            let ours = Ours::named(&dir, local_port(&relay), &[]);
            let port = ours.port;
            thread::spawn(move || relay_without_raw(&relay, port));
            let fetch = |dest: &Path| tinyp2p_client(&ours.url, dest);
            let way = Way { program: "tinyp2p, through a relay", server: Some(&ours.server), client: &fetch };
            self.compare(table, xml, &[way], 1);
        }
        let _ = fs::remove_dir_all(dir);
    }

    fn many(&self, table: &mut Table) {
        let (fetched, listed) = ("20,000 names listed and fetched", "100,000 names listed");
        for (work, names, only_list) in [(fetched, 20_000, false), (listed, 100_000, true)] {
            if !self.wants(work) {
                continue;
            }
            let dir = self.dir("many");
            write_many(&dir, names, if only_list { 0 } else { 1024 });
            let ours = Ours::start(&dir);
            let fetch = |dest: &Path| {
                let mut client = tinyp2p_client(&ours.url, dest);
                client.args(only_list.then_some("--list"));
                client
            };
            self.compare(table, work, &[Way { program: "tinyp2p", server: Some(&ours.server), client: &fetch }], 3);
            let _ = fs::remove_dir_all(dir);
        }
    }

    /// Calls on one kept connection, one after the other: a stall shows in the last percent.
    fn calls(&self, table: &mut Table) {
        let work = "a call on a kept connection";
        if !self.wants(work) {
            return;
        }
        let sizes = [100, 1000, 10_000, 30_000, 100_000, 300_000, 1 << 20];
        let dir = self.dir("calls");
        for size in sizes {
            write_noise(&dir.join(size.to_string()), size);
        }
        let ours = Ours::named(&dir, OWN_PORT, &[]);
        let mut connection = Connection::open(ours.port);
        let merge = post(&call(0, "<array><data></data></array>"), "text/xml");
        (0..500).for_each(|_| connection.call(&merge));
        let mut time = |what: &str, request: &[u8], calls: usize| {
            let mut micros: Vec<f64> = (0..calls)
                .map(|_| {
                    let begun = Instant::now();
                    connection.call(request);
                    begun.elapsed().as_secs_f64() * 1e6
                })
                .collect();
            micros.sort_by(f64::total_cmp);
            let last = micros[calls * 99 / 100];
            let times = format!("{:.0} us, 99 %: {last:.0} us", micros[calls / 2]);
            table.add(work, what, times, String::new(), Peak { server: peak(ours.server.0.id()), client: None });
        };
        time("peer list", &merge, 5000);
        for size in sizes {
            let body = call(2, &format!("<string>{size}</string>"));
            time(&format!("{size} bytes, raw"), &post(&body, "application/octet-stream"), 400);
            time(&format!("{size} bytes, XML"), &post(&body, "text/xml"), 400);
        }
        let _ = fs::remove_dir_all(dir);
    }

    /// Servers that nobody calls: all that wakes them is their own.
    fn idle(&self, table: &mut Table) {
        let work = "idle for 3 s";
        if !self.wants(work) || peak(std::process::id()).is_none() {
            return;
        }
        let dir = self.dir("idle");
        let servers = ["0", "60"].map(|every| (every, Ours::named(&dir, OWN_PORT, &["--announce", every])));
        thread::sleep(Duration::from_secs(1));
        let before = servers.each_ref().map(|(_, ours)| wake_ups(ours.server.0.id()));
        thread::sleep(Duration::from_secs(3));
        for ((every, ours), before) in servers.iter().zip(before) {
            let id = ours.server.0.id();
            let woken = wake_ups(id) - before;
            let median = format!("{woken} wake-ups, {} MiB now", mib(status(id, "VmRSS:")));
            table.add(
                work,
                &format!("--announce {every}"),
                median,
                String::new(),
                Peak { server: peak(id), client: None },
            );
        }
    }
}

/// A process that ends with this value.
struct Running(Child);

impl Running {
    /// Starts a server and waits until it can be called.
    fn listening(mut command: Command, port: u16) -> Self {
        let server = Self(command.spawn().expect("it has been started before"));
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(begun.elapsed() < START, "{command:?} does not listen");
            thread::sleep(Duration::from_millis(10));
        }
        server
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Our server over one directory.
struct Ours {
    server: Running,
    /// What it says its URL is.
    url: String,
    port: u16,
}

impl Ours {
    fn start(dir: &Path) -> Self {
        Self::spawn(tinyp2p("server").arg("--dir").arg(dir).args(["127.0.0.1", "0"]), None)
    }

    /// A server that believes to be at `own_port`, so that the proof is known or a relay can stand before it.
    fn named(dir: &Path, own_port: u16, options: &[&str]) -> Self {
        let port = free_port();
        let mut server = tinyp2p("server");
        server.arg("--dir").arg(dir).args(["--bind", &format!("127.0.0.1:{port}")]).args(options);
        Self::spawn(server.args(["127.0.0.1", &own_port.to_string()]), Some(port))
    }

    fn spawn(command: &mut Command, port: Option<u16>) -> Self {
        let mut server = Running(command.stdout(Stdio::piped()).spawn().expect("cargo has built it"));
        let mut url = String::new();
        let stdout = server.0.stdout.take().expect("it is piped");
        BufReader::new(stdout).read_line(&mut url).expect("it says its URL");
        let url = url.trim_end().to_owned();
        let port = port.or_else(|| url.rsplit(':').next()?.parse().ok()).expect("it says its URL");
        Self { server, url, port }
    }
}

struct Nginx {
    server: Running,
    port: u16,
}

impl Nginx {
    fn start(scratch: &Scratch, dir: &Path) -> Self {
        let (port, prefix) = (free_port(), scratch.0.join("nginx"));
        fs::create_dir_all(&prefix).expect("the scratch directory can be written");
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
        Self { server: Running::listening(server, port), port }
    }

    fn url(&self, name: &str) -> String {
        format!("http://127.0.0.1:{}/{name}", self.port)
    }
}

struct Rsyncd {
    _server: Running,
    port: u16,
}

impl Rsyncd {
    fn start(scratch: &Scratch, dir: &Path) -> Self {
        let port = free_port();
        let file = scratch.0.join("rsyncd.conf");
        let text = format!("use chroot = false\n[data]\npath = {}\nread only = true\n", dir.display());
        fs::write(&file, text).expect("the scratch directory can be written");
        let mut server = command("rsync");
        server.args(["--daemon", "--no-detach", "--address", "127.0.0.1", "--port", &port.to_string(), "--config"]);
        server.arg(&file);
        Self { _server: Running::listening(server, port), port }
    }

    fn client(&self, dest: &Path) -> Command {
        let mut client = command("rsync");
        client.args(["-a", &format!("rsync://127.0.0.1:{}/data/", self.port)]).arg(dest);
        client
    }
}

/// One connection to our server, kept for all calls.
struct Connection {
    stream: BufReader<TcpStream>,
    body: Vec<u8>,
}

impl Connection {
    fn open(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("the server listens");
        stream.set_nodelay(true).expect("it is a TCP socket");
        Self { stream: BufReader::with_capacity(256 << 10, stream), body: Vec::new() }
    }

    fn call(&mut self, request: &[u8]) {
        self.stream.get_mut().write_all(request).expect("the server reads");
        let mut length = None;
        let mut line = String::new();
        loop {
            line.clear();
            self.stream.read_line(&mut line).expect("the server answers");
            let lower = line.to_ascii_lowercase();
            if let Some(digits) = lower.strip_prefix("content-length:") {
                length = digits.trim().parse().ok();
            } else if line == "\r\n" || line.is_empty() {
                break;
            }
        }
        self.body.resize(length.expect("each answer has a length"), 0);
        self.stream.read_exact(&mut self.body).expect("the server answers");
        assert!(
            !self.body.starts_with(b"<") || !self.body.windows(7).any(|tag| tag == b"<fault>" || tag == b"boolean")
        );
    }
}

/// Passes everything on, except that callers want raw content: so our client gets XML from our server.
fn relay_without_raw(relay: &TcpListener, port: u16) {
    for caller in relay.incoming().map_while(Result::ok) {
        let Ok(server) = TcpStream::connect(("127.0.0.1", port)) else { return };
        let (Ok(mut to_caller), Ok(mut from_server)) = (caller.try_clone(), server.try_clone()) else { return };
        thread::spawn(move || io::copy(&mut from_server, &mut to_caller));
        thread::spawn(move || {
            let (mut from, mut to) = (caller, server);
            let mut buffer = vec![0; 64 << 10];
            while let Ok(count @ 1..) = from.read(&mut buffer) {
                let raw = b"octet-stream";
                if let Some(at) = buffer[..count].windows(raw.len()).position(|window| window == raw) {
                    buffer[at..at + raw.len()].copy_from_slice(b"octet-nobody");
                }
                if to.write_all(&buffer[..count]).is_err() {
                    break;
                }
            }
            let _ = to.shutdown(std::net::Shutdown::Both);
        });
    }
}

/// The directory in which everything lies; it is removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        let shm = Path::new("/dev/shm");
        let place =
            if free_bytes(shm).is_some_and(|free| free > SPACE_BYTES) { shm.to_owned() } else { env::temp_dir() };
        remove_leftovers(&place);
        let dir = place.join(format!("{SCRATCH_PREFIX}{}", std::process::id()));
        fs::create_dir(&dir).expect("the temporary directory can be written");
        Self(dir)
    }
}

/// Removes what a run left behind that a signal ended: it may be gigabytes of memory.
fn remove_leftovers(place: &Path) {
    for entry in fs::read_dir(place).into_iter().flatten().flatten() {
        if let Some(id) = entry.file_name().to_str().and_then(|name| name.strip_prefix(SCRATCH_PREFIX)?.parse().ok())
            && status(std::process::id(), "Pid:").is_some()
            && status(id, "Pid:").is_none()
        {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn free_bytes(dir: &Path) -> Option<u64> {
    let output = Command::new("df").args(["-Pk".as_ref(), dir.as_os_str()]).stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(text.lines().nth(1)?.split_whitespace().nth(3)?.parse::<u64>().ok()? << 10)
}

fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn tinyp2p(mode: &str) -> Command {
    let mut ours = command(env!("CARGO_BIN_EXE_tinyp2p"));
    ours.args([PASSWORD, mode]);
    ours
}

fn tinyp2p_client(url: &str, dest: &Path) -> Command {
    let mut client = tinyp2p("client");
    client.arg("--dir").arg(dest).args([url, ""]);
    client
}

fn free_port() -> u16 {
    local_port(&TcpListener::bind("127.0.0.1:0").expect("loopback has a free port"))
}

fn local_port(listener: &TcpListener) -> u16 {
    listener.local_addr().expect("it listens").port()
}

/// The document of a call of the server that believes to be at [`OWN_PORT`].
fn call(op: u8, arg: &str) -> String {
    let mut params = String::new();
    for value in [&format!("<string>{PROOF}</string>"), &format!("<int>{op}</int>"), arg] {
        write!(params, "<param><value>{value}</value></param>").expect("a string takes all");
    }
    format!("<?xml version='1.0'?><methodCall><methodName>f</methodName><params>{params}</params></methodCall>")
}

fn post(body: &str, accept: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "POST /RPC2 HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: text/xml\r\nAccept: {accept}\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

/// Makes a file that no compression makes smaller and no parser takes for text.
fn write_noise(file: &Path, bytes: u64) {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64 ^ bytes;
    let mut piece = vec![0; 1 << 20];
    let mut file = File::create(file).expect("the scratch directory can be written");
    let mut left = bytes;
    while left > 0 {
        for word in piece.chunks_exact_mut(8) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            word.copy_from_slice(&state.to_ne_bytes());
        }
        let count = usize::try_from(left).unwrap_or(piece.len()).min(piece.len());
        file.write_all(&piece[..count]).expect("there is space for the data");
        left -= count as u64;
    }
}

fn write_many(dir: &Path, count: usize, bytes: u64) -> Vec<String> {
    let names: Vec<_> = (0..count).map(|index| format!("file-{index:06}.dat")).collect();
    let content = dir.join(&names[0]);
    write_noise(&content, bytes);
    for name in &names[1..] {
        fs::copy(&content, dir.join(name)).expect("there is space for the data");
    }
    names
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Kibibytes as mebibytes with one digit behind the point.
fn mib(kib: Option<u64>) -> String {
    kib.map_or("-".to_owned(), |kib| format!("{}.{}", kib / 1024, kib % 1024 * 10 / 1024))
}

/// The peak memory of a process so far, in KiB.
fn peak(id: u32) -> Option<u64> {
    status(id, "VmHWM:")
}

fn status(id: u32, field: &str) -> Option<u64> {
    status_field(&fs::read_to_string(format!("/proc/{id}/status")).ok()?, field)
}

fn status_field(status: &str, field: &str) -> Option<u64> {
    status.lines().find_map(|line| line.strip_prefix(field))?.split_whitespace().next()?.parse().ok()
}

/// The peak memory of a process until it ends, in KiB, but for its last milliseconds.
fn watch_peak(process: &mut Running) -> Option<u64> {
    let mut last = None;
    while let Ok(None) = process.0.try_wait() {
        last = peak(process.0.id()).or(last);
        thread::sleep(Duration::from_millis(2));
    }
    last
}

/// How often the threads of a process have waited for something.
fn wake_ups(id: u32) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{id}/task")).into_iter().flatten().flatten();
    let texts = tasks.filter_map(|task| fs::read_to_string(task.path().join("status")).ok());
    texts.filter_map(|text| status_field(&text, "voluntary_ctxt_switches:")).sum()
}

fn load() -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    format!("load {}", load.split_whitespace().next().unwrap_or("unknown"))
}
