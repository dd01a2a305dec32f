//! The works that are timed: what is transferred, by whom and over what.

use std::{
    fs,
    io::{BufReader, Read},
    path::Path,
    time::Duration,
};

use crate::{
    Bench, calls,
    calls::{fetch, post},
    rounds::{ROUNDS, Way},
    scratch::{write_many, write_noise},
    servers::{Nginx, Ours, Rsyncd, command, python_client, serve_python},
    support::{Connection, Wire},
    table::Table,
};

/// A work is given its name and adds rows to the table.
type Work = fn(&Bench, &str, &mut Table);

/// All works by name.
pub(crate) const ALL: [(&str, Work); 11] = [
    ("large: 1 GiB to a file", large),
    ("xml: 1 GiB, discarded", xml_discarded),
    ("xml: 1 GiB to a file, through a relay", xml_to_a_file),
    ("small: 10,000 files of 1 KiB", small),
    ("wire: 2,000 files of 1 KiB, 50 ms there and back", over_a_wire),
    ("python: one file of 16 MiB", python_large),
    ("python: 1,000 files of 1 KiB", python_small),
    ("names: 20,000 listed and fetched", names_fetched),
    ("names: 100,000 listed", names_listed),
    ("call: on a kept connection", calls::calls),
    ("idle: for 3 s", calls::idle),
];

const GIB: u64 = 1 << 30;

/// The only file of the works on large files.
const LARGE: &str = "large.bin";

/// How long a byte takes on the long wire, each way.
const WIRE_DELAY: Duration = Duration::from_millis(25);

fn large(bench: &Bench, work: &str, table: &mut Table) {
    let dir = bench.scratch.dir("data");
    write_noise(&dir.join(LARGE), GIB);
    let (ours, nginx, rsync) = (bench.serve_each_kind(&dir), bench.nginx(&dir), bench.rsync(&dir));
    let mut ways = downloads(&ours);
    ways.extend(nginx.as_ref().map(|nginx| {
        let curl = |dest: &Path| {
            let mut curl = command("curl");
            curl.arg("-sfo").arg(dest.join(LARGE)).arg(nginx.url(LARGE));
            curl
        };
        Way::process("nginx, curl", curl).with_server(&nginx.server)
    }));
    ways.extend(rsync.as_ref().map(|rsync| Way::process("rsync -a", |dest| rsync.client(dest))));
    bench.compare(table, work, &ways, ROUNDS);
}

/// Our server writes XML, and nobody reads it as such.
fn xml_discarded(bench: &Bench, work: &str, table: &mut Table) {
    let dir = bench.scratch.dir("data");
    write_noise(&dir.join(LARGE), GIB);
    let (ours, nginx) = (bench.serve(&dir), bench.nginx(&dir));
    let call = |ours: &Ours<'_>| discard(&ours.url, &post(&fetch(ours, LARGE), "text/xml"));
    let way = |ours| Way::call(program(ours), move || call(ours)).with_server(&ours.server);
    let mut ways: Vec<_> = ours.iter().map(way).collect();
    ways.extend(nginx.as_ref().map(|nginx| {
        let request = format!("GET /{LARGE} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
        Way::call("nginx", move || discard(&nginx.root(), request.as_bytes())).with_server(&nginx.server)
    }));
    bench.compare(table, work, &ways, ROUNDS);
}

/// Our server writes XML, and our client reads it.
fn xml_to_a_file(bench: &Bench, work: &str, table: &mut Table) {
    let dir = bench.scratch.dir("data");
    write_noise(&dir.join(LARGE), GIB);
    let wire = Wire { change: Some(ask_for_xml), ..Wire::default() };
    let ours: Vec<_> = bench.programs.iter().map(|program| program.serve_through(wire, &dir)).collect();
    bench.compare(table, work, &downloads(&ours), ROUNDS);
}

/// Makes of a call for raw content one for XML.
fn ask_for_xml(call: &mut [u8]) {
    let raw = b"octet-stream";
    if let Some(at) = memchr::memmem::find(call, raw) {
        call[at..at + raw.len()].copy_from_slice(b"octet-nobody");
    }
}

fn small(bench: &Bench, work: &str, table: &mut Table) {
    let dir = bench.scratch.dir("data");
    let names = write_many(&dir, 10_000, 1024);
    let (ours, nginx, rsync) = (bench.serve_each_kind(&dir), bench.nginx(&dir), bench.rsync(&dir));
    let urls = bench.scratch.path().join("urls");
    let mut ways = downloads(&ours);
    ways.extend(nginx.as_ref().map(|nginx| {
        let lines = names.iter().map(|name| format!("url={}\noutput={name}\n", nginx.url(name)));
        fs::write(&urls, lines.collect::<String>()).expect("the scratch directory can be written");
        let curl = |dest: &Path| {
            let mut curl = command("curl");
            curl.args(["-sf", "--parallel", "--parallel-max", "8", "-K"]).arg(&urls).current_dir(dest);
            curl
        };
        Way::process("nginx, curl x 8", curl).with_server(&nginx.server)
    }));
    ways.extend(rsync.as_ref().map(|rsync| Way::process("rsync -a", |dest| rsync.client(dest))));
    let copy = |dest: &Path| {
        let mut copy = command("cp");
        copy.arg("-r").arg(dir.join(".")).arg(dest);
        copy
    };
    ways.extend((bench.programs.len() == 1).then(|| Way::process("cp -r", copy)));
    bench.compare(table, work, &ways, ROUNDS);
}

fn over_a_wire(bench: &Bench, work: &str, table: &mut Table) {
    let dir = bench.scratch.dir("data");
    write_many(&dir, 2000, 1024);
    let wire = Wire { delay: WIRE_DELAY, ..Wire::default() };
    // What was there before would take minutes and say nothing about the rest.
    let programs = bench.programs.iter().take(1).chain(&bench.private);
    let ours: Vec<_> = programs.map(|program| program.serve_through(wire, &dir)).collect();
    let rsync = bench.rsync(&dir).map(|rsync| rsync.through(wire));
    let mut ways = downloads(&ours);
    ways.extend(rsync.as_ref().map(|(rsync, _)| Way::process("rsync -a", |dest| rsync.client(dest))));
    bench.compare(table, work, &ways, ROUNDS);
}

fn python_large(bench: &Bench, work: &str, table: &mut Table) {
    python(bench, work, table, 1, 16 << 20);
}

fn python_small(bench: &Bench, work: &str, table: &mut Table) {
    python(bench, work, table, 1000, 1024);
}

fn python(bench: &Bench, work: &str, table: &mut Table, count: usize, bytes: u64) {
    if !bench.has_python {
        return;
    }
    let dir = bench.scratch.dir("data");
    write_many(&dir, count, bytes);
    let ours = bench.serve(&dir);
    let (theirs, url) = serve_python(&dir);
    let mut ways = downloads(&ours);
    let mixed = |dest: &Path| ours[0].program.client(&url, dest);
    ways.push(Way::process("Python, tinyp2p", mixed).with_server(&theirs));
    ways.push(Way::process("Python, Python", |dest| python_client(&url, dest)).with_server(&theirs));
    bench.compare(table, work, &ways, 5);
}

fn names_fetched(bench: &Bench, work: &str, table: &mut Table) {
    let dir = bench.scratch.dir("data");
    write_many(&dir, 20_000, 1024);
    bench.compare(table, work, &downloads(&bench.serve(&dir)), 3);
}

fn names_listed(bench: &Bench, work: &str, table: &mut Table) {
    let dir = bench.scratch.dir("data");
    write_many(&dir, 100_000, 0);
    let ours = bench.serve(&dir);
    let list = |ours: &Ours<'_>, dest: &Path| {
        let mut client = ours.program.client(&ours.url, dest);
        client.arg("--list");
        client
    };
    let way = |ours| Way::process(program(ours), move |dest| list(ours, dest)).with_server(&ours.server);
    let ways: Vec<_> = ours.iter().map(way).collect();
    bench.compare(table, work, &ways, 3);
}

impl Bench {
    /// A server of each of our builds over one directory.
    pub(crate) fn serve(&self, dir: &Path) -> Vec<Ours<'_>> {
        self.programs.iter().map(|program| program.serve(dir, &[])).collect()
    }

    /// The same, and one in a private network.
    fn serve_each_kind(&self, dir: &Path) -> Vec<Ours<'_>> {
        self.programs.iter().chain(&self.private).map(|program| program.serve(dir, &[])).collect()
    }

    fn nginx(&self, dir: &Path) -> Option<Nginx> {
        self.has_nginx.then(|| Nginx::start(&self.scratch, dir))
    }

    fn rsync(&self, dir: &Path) -> Option<Rsyncd> {
        self.has_rsync.then(|| Rsyncd::start(&self.scratch, dir))
    }
}

pub(crate) fn program(ours: &Ours<'_>) -> &'static str {
    ours.program.name
}

/// The ways that take everything from one of our servers with the client of the same build.
fn downloads<'a>(ours: &'a [Ours<'a>]) -> Vec<Way<'a>> {
    let way = |ours: &'a Ours<'a>| Way::process(program(ours), |dest| ours.program.client(&ours.url, dest));
    ours.iter().map(|ours| way(ours).with_server(&ours.server)).collect()
}

/// Sends a request on a connection of its own and reads the answer away.
fn discard(url: &str, request: &[u8]) {
    let mut connection = Connection::open(url);
    assert!(connection.send(request), "the server reads");
    let mut left = connection.head().length().expect("each answer has a length");
    let mut body = BufReader::with_capacity(256 << 10, connection.stream().take(left));
    let mut buffer = vec![0; 256 << 10];
    while left > 0 {
        let count = body.read(&mut buffer).expect("the server answers");
        assert!(count > 0, "the answer was cut");
        left -= count as u64;
    }
}
