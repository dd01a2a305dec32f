//! Small calls on kept connections, and servers that nobody calls.

use std::{
    fs,
    io::Read,
    thread,
    time::{Duration, Instant},
};

use crate::{
    Bench,
    scratch::write_noise,
    servers::{Ours, Program},
    support::{Answer, Connection, PASSWORD, Value, array, call_for, peak_kib, status_field, string},
    table::{Peak, Table, median, mib, quantile, ratio},
    works::program,
};

/// The sizes that are called for, on both sides of what is sent and buffered at once.
const CALL_BYTES: [u64; 5] = [100, 1000, 30_000, 300_000, 1 << 20];

/// Connections in each round. A scheduler serves one well and another badly for as long as it lives, by the processor
/// that its threads came to: calls of the same program on two connections differ by a factor of two.
const CONNECTIONS: u32 = 8;

/// Rounds of calls, which take little time each.
const CALL_ROUNDS: usize = 15;

/// Calls on each of them, at most and at least.
const CALLS: (u64, u64) = (100, 10);

/// The bytes for which there are fewer calls than the most.
const BYTES_A_CONNECTION: u64 = 8 << 20;

/// Calls one after the other: a stall shows in the last percent.
pub(crate) fn calls(bench: &Bench, work: &str, table: &mut Table) {
    let dir = bench.scratch.dir("data");
    for size in CALL_BYTES {
        write_noise(&dir.join(size.to_string()), size);
    }
    let ours = bench.serve(&dir);
    let time = |table: &mut Table, what: &str, count: u64, request: &dyn Fn(&Ours<'_>) -> Vec<u8>| {
        let requests: Vec<_> = ours.iter().map(request).collect();
        time_calls(&format!("{work}, {what}"), table, &ours, &requests, count);
    };
    let merge = |ours: &Ours<'_>| post(&call_for(PASSWORD, &ours.url, 0, &array::<&str>([])), "text/xml");
    time(table, "peer list", CALLS.0, &merge);
    for size in CALL_BYTES {
        let name = size.to_string();
        let count = (BYTES_A_CONNECTION / size).clamp(CALLS.1, CALLS.0);
        for (form, accept) in [("raw", "application/octet-stream"), ("XML", "text/xml")] {
            time(table, &format!("{size} bytes, {form}"), count, &|ours| post(&fetch(ours, &name), accept));
        }
    }
}

/// Microseconds of calls of one server.
#[derive(Default)]
struct Micros {
    all: Vec<f64>,
    /// The mean of the medians of a round's connections.
    rounds: Vec<f64>,
}

/// Calls each server with its request, in rounds of so many calls on each of some fresh connections.
fn time_calls(work: &str, table: &mut Table, ours: &[Ours<'_>], requests: &[Vec<u8>], count: u64) {
    let mut micros: Vec<Micros> = ours.iter().map(|_| Micros::default()).collect();
    for round in 0..CALL_ROUNDS {
        for turn in 0..ours.len() {
            let index = (round + turn) % ours.len();
            let micros = &mut micros[index];
            let mut sum = 0.0;
            for _ in 0..CONNECTIONS {
                let mut caller = Caller::open(&ours[index].url);
                caller.check(&requests[index]);
                let times: Vec<f64> = (0..count).map(|_| caller.time(&requests[index])).collect();
                sum += median(&times);
                micros.all.extend(times);
            }
            micros.rounds.push(sum / f64::from(CONNECTIONS));
        }
    }
    for (index, (ours, its)) in ours.iter().zip(&micros).enumerate() {
        let time = format!("{:.0} us, 99 %: {:.0} us", median(&its.rounds), quantile(&its.all, 99));
        let ratio = if index == 0 { String::new() } else { ratio(&micros[0].rounds, &its.rounds) };
        let peak = Peak { server: peak_kib(ours.server.id()), client: None };
        table.add(work, program(ours), time, ratio, peak);
    }
}

/// Servers that nobody calls: all that wakes them is their own.
pub(crate) fn idle(bench: &Bench, work: &str, table: &mut Table) {
    if peak_kib(std::process::id()).is_none() {
        return;
    }
    let dir = bench.scratch.dir("data");
    let mut servers = Vec::new();
    for every in ["0", "60"] {
        let serve = |program| Program::serve(program, &dir, &["--announce", every]);
        servers.extend(bench.programs.iter().map(|program| (every, serve(program))));
    }
    thread::sleep(Duration::from_secs(1));
    let before: Vec<_> = servers.iter().map(|(_, ours)| wake_ups(ours.server.id())).collect();
    thread::sleep(Duration::from_secs(3));
    for ((every, ours), before) in servers.iter().zip(before) {
        let id = ours.server.id();
        let woken = wake_ups(id) - before;
        let figures = format!("{woken} wake-ups, {} MiB now", mib(status_field(id, "VmRSS:")));
        let what = format!("{}, --announce {every}", program(ours));
        table.add(work, &what, figures, String::new(), Peak { server: peak_kib(id), client: None });
    }
}

/// The document of a call for a file.
pub(crate) fn fetch(ours: &Ours<'_>, name: &str) -> String {
    call_for(PASSWORD, &ours.url, 2, &string(name))
}

pub(crate) fn post(document: &str, accept: &str) -> Vec<u8> {
    let length = document.len();
    let head = format!(
        "POST /RPC2 HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: text/xml\r\nAccept: {accept}\r\nContent-Length: {length}\r\n\r\n"
    );
    (head + document).into_bytes()
}

/// One connection to our server, kept for all calls.
struct Caller {
    connection: Connection,
    body: Vec<u8>,
}

impl Caller {
    fn open(url: &str) -> Self {
        Self { connection: Connection::open(url), body: Vec::new() }
    }

    /// Makes a call whose answer must be a good one.
    fn check(&mut self, request: &[u8]) {
        self.call(request);
        if self.body.starts_with(b"<?xml") {
            assert!(Answer::parse(&self.body).0.is_ok_and(|value| value != Value::Bool(false)));
        }
    }

    fn call(&mut self, request: &[u8]) {
        assert!(self.connection.send(request), "the server reads");
        let length = self.connection.head().length().expect("each answer has a length");
        self.body.resize(usize::try_from(length).expect("it fits into memory"), 0);
        self.connection.stream().read_exact(&mut self.body).expect("the server answers");
    }

    /// The microseconds that a call takes.
    fn time(&mut self, request: &[u8]) -> f64 {
        let begun = Instant::now();
        self.call(request);
        begun.elapsed().as_secs_f64() * 1e6
    }
}

/// How often the threads of a process have waited for something.
fn wake_ups(id: u32) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{id}/task")).into_iter().flatten().flatten();
    let ids = tasks.filter_map(|task| task.file_name().to_str()?.parse().ok());
    ids.filter_map(|id| status_field(id, "voluntary_ctxt_switches:")).sum()
}
